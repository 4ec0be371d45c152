import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from partalign.benchmarks.roofline import SIDE, copies, count_convolutions, products
from partalign.model.network import NetworkSettings, build_network


@pytest.mark.parametrize("parts", ["openpose", "rcpm"])
def test_operations_are_those_that_torch_counts(parts):
    settings = NetworkSettings.model_validate({"parts": parts, "height": 48, "width": 32})
    network, x = build_network(settings).eval(), torch.zeros(2, 3, 48, 32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x)
    counted = sum(
        operations for kind, operations in counter.get_flop_counts()["Global"].items() if "convolution" in str(kind)
    )
    # Local response normalisation is a 1x1 convolution too, but no layer; 12 x 8 places after the first pooling.
    normalisation = 2 * 2 * 12 * 8 * (64**2 + 192**2)
    assert count_convolutions(network, x).operations == counted - normalisation


def test_numbers_are_inputs_weights_and_outputs():
    layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1, bias=False))
    work = count_convolutions(layers, torch.zeros(2, 3, 6, 4))
    assert work.numbers == (2 * 3 * 24 + 5 * 27 + 2 * 5 * 8) + (2 * 5 * 8 + 10 + 2 * 2 * 8)
    assert work.operations == 2 * (2 * 5 * 8 * 27 + 2 * 2 * 8 * 5)
    assert not layers[0]._forward_hooks


def test_the_ceiling_takes_as_many_operations(monkeypatch):
    monkeypatch.setitem(SIDE, "cpu", 64)
    for wanted in (2 * 64**3 * 5, 2 * 64**3 * 5 + 2 * 64**2 * 10, 2 * 64**2 * 3):
        with FlopCounterMode(display=False) as counter:
            products(wanted, "cpu", torch.float32)()
        assert counter.get_total_flops() == wanted


def test_copies_move_the_bytes():
    for count in (0, 2, 4096):
        assert copies(count, "cpu")() == ()
