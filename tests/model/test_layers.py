"""Layers that keep little: values and gradients are torch's own, and what they keep is counted."""

import pytest
import torch
from torch.nn import functional as F

from partalign.model.appearance import GoogLeNet, LocalResponseNorm
from partalign.model.layers import local_response_norm, max_pool, recomputed
from partalign.model.parts import OpenPose

POOLINGS = [(2, 2, 0, True), (3, 2, 0, True), (3, 1, 1, False), (5, 1, 2, False)]


def maps(*shape, memory_format=torch.contiguous_format, dtype=torch.float32):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return x.contiguous(memory_format=memory_format).requires_grad_()


def kept(layer, x):
    """Bytes that the backward pass of `layer(x)` keeps."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x)
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("window", "stride", "padding", "ceil_mode"), POOLINGS)
def test_pooling_has_torchs_values_and_gradients(window, stride, padding, ceil_mode, relu, layout):
    x = maps(3, 4, 11, 7, memory_format=layout)
    plain = F.max_pool2d(F.relu(x) if relu else x, window, stride, padding, ceil_mode=ceil_mode)
    ours = max_pool(x, window, stride, padding, ceil_mode=ceil_mode, relu=relu)
    torch.testing.assert_close(ours, plain, rtol=0, atol=0)
    assert ours.is_contiguous(memory_format=layout)
    weights = torch.randn_like(plain)
    (found,), (expected,) = (torch.autograd.grad((y * weights).sum(), x) for y in (ours, plain))
    # Windows overlap: their gradients are added up in another order.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(
            max_pool(x, window, stride, padding, ceil_mode=ceil_mode, relu=relu), plain, rtol=0, atol=0
        )


def test_pooling_knows_places_beyond_two_bytes():
    x = maps(1, 1, 256, 256)
    plain, ours = F.max_pool2d(x, 2, 2), max_pool(x, 2, 2)
    weights = torch.randn_like(plain)
    (found,), (expected,) = (torch.autograd.grad((y * weights).sum(), x) for y in (ours, plain))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_pooling_keeps_two_bytes_and_with_a_relu_four_more():
    x = maps(2, 3, 8, 8)
    assert kept(lambda x: max_pool(x, 2, 2), x) == 2 * 96
    assert kept(lambda x: max_pool(x, 2, 2, relu=True), x) == (2 + 4) * 96


@pytest.mark.parametrize("kind", ["caffe", "released"])
def test_normalisation_has_the_gradient_of_its_formula(kind):
    band = LocalResponseNorm(9, kind, alpha=0.5).band.double()
    x, one = 3 * maps(2, 9, 3, 4, dtype=torch.float64).detach(), torch.ones(9, dtype=torch.float64)
    x.requires_grad_()
    plain = x / (1 + F.conv2d(x * x, band)) ** 0.75
    torch.testing.assert_close(local_response_norm(x, band, one), plain)
    assert torch.autograd.gradcheck(lambda x: local_response_norm(x, band, one), (x,))
    assert kept(lambda x: local_response_norm(x, band, one), x) == x.nbytes + band.nbytes + one.nbytes


def test_what_is_computed_again_is_not_kept():
    layer = torch.nn.Conv2d(1, 50, 3)
    x = maps(2, 1, 6, 6)

    def both(x):
        return F.relu(layer(x))

    gradients = [
        torch.autograd.grad(form(x).square().sum(), layer.weight)[0] for form in (both, lambda x: recomputed(both, x))
    ]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert kept(lambda x: recomputed(both, x), x) == x.nbytes


def test_the_large_networks_keep_half_of_what_they_would():
    """In bytes for each crop of 160 x 80, weights left out; what torch's own layers keep was measured."""
    x = maps(1, 3, 160, 80, memory_format=torch.channels_last).detach()
    for stream, plain in ((GoogLeNet(dilation=True), 17.4e6), (OpenPose(dilation=True), 21.7e6)):
        stream.to(memory_format=torch.channels_last)
        weights = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in stream.parameters()}
        assert kept(stream, x) - sum(weights.values()) < 0.5 * plain
