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
run = partial(network.run, {"small": SETTINGS}, batches=(1, 2), train_batch=4, rounds=1, threads=1)


def test_runs_and_agrees():
    lines = run()
    assert [line.what for line in lines] == [
        *("small, batch 1", "small, batch 2"),
        "small, training step of 4",
    ]
    assert all(line.difference < 1e-5 for line in lines[:2])
    assert lines[2].difference < 1e-2
    assert {line.threads for line in lines} == {1}


def test_the_reference_has_the_same_weights_and_torchs_normalisation():
    ours, plain = network.both_networks(SETTINGS)
    assert not any(isinstance(module, LocalResponseNorm) for module in plain.modules())
    assert sum(isinstance(module, nn.LocalResponseNorm) for module in plain.modules()) == 2
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(plain.state_dict()[name], value, rtol=0, atol=0)


def test_pictures_lie_as_the_product_makes_them():
    x = network.pictures(2, SETTINGS)
    assert x.shape == (2, 3, 32, 16)
    assert x.is_contiguous(memory_format=torch.channels_last)


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


def test_a_wrong_gradient_is_not_timed(monkeypatch):
    class Doubled(LocalResponseNorm):
        def forward(self, x):
            y = super().forward(x)
            return 2 * y - y.detach()

    both = network.both_networks

    def wrong_backward(settings):
        ours, plain = both(settings)
        ours.appearance.lrn1 = Doubled(64)
        return ours, plain

    monkeypatch.setattr(network, "both_networks", wrong_backward)
    with pytest.raises(BenchmarkError, match="training step"):
        run()
