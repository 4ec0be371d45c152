from functools import partial

import pytest
import torch
from torch import nn

from partalign.benchmarks import network
from partalign.errors import BenchmarkError
from partalign.model.appearance import LocalResponseNorm
from partalign.model.network import NetworkSettings

SMALL = {"height": 32, "width": 16, "dimension": 32, "appearance_channels": 16, "part_channels": 8}
SETTINGS = NetworkSettings.model_validate({"parts": "rcpm", **SMALL})
run = partial(network.run, {"small": SETTINGS}, batches=(1, 2), rounds=1, threads=1, device="cpu")


def test_runs_and_agrees():
    lines = run()
    assert [(line.what, line.against) for line in lines] == [
        ("small, batch 1", network.AGAINST),
        ("small, batch 2", network.AGAINST),
        ("small, batch 2", network.OPERATIONS),
        ("small, batch 2", network.BYTES),
    ]
    assert all(line.difference < 1e-5 for line in lines[:2])
    assert {line.threads for line in lines} == {1}


def test_the_reference_has_the_same_weights_and_torchs_normalisation():
    ours, plain = network.both_networks(SETTINGS)
    assert not any(isinstance(module, LocalResponseNorm) for module in plain.modules())
    assert sum(isinstance(module, nn.LocalResponseNorm) for module in plain.modules()) == 2
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], value, rtol=0, atol=0)


def test_a_wrong_network_is_not_timed(monkeypatch):
    both = network.both_networks

    def one_weight_off(settings):
        ours, plain = both(settings)
        with torch.no_grad():
            ours.appearance.feature.weight[0] *= 1.1
        return ours, plain

    monkeypatch.setattr(network, "both_networks", one_weight_off)
    with pytest.raises(BenchmarkError, match="small, batch 1"):
        run()
