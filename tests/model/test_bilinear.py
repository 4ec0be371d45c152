"""Poolings against the tensor sketch by FFT, the plain outer product, and what theory says of sketches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partalign.errors import ShapeError
from partalign.model import bilinear
from partalign.model.bilinear import (
    AverageLinear,
    CompactBilinear,
    ConcatLinear,
    FullBilinear,
    StripeLinear,
    draw_hashes,
)


def fft_sketch(appearance, parts, pooling, dimension):
    """The tensor sketch of every place by circular convolution, then the average (Pham and Pagh 2013)."""
    a = appearance.flatten(2).double()
    p = parts.flatten(2).double()
    sketch_a = torch.zeros(len(a), dimension, a.shape[2], dtype=torch.float64)
    sketch_p = torch.zeros(len(p), dimension, p.shape[2], dtype=torch.float64)
    sketch_a.index_add_(1, pooling.h1, a * pooling.s1[:, None])
    sketch_p.index_add_(1, pooling.h2, p * pooling.s2[:, None])
    product = torch.fft.rfft(sketch_a, dim=1) * torch.fft.rfft(sketch_p, dim=1)
    return torch.fft.irfft(product, n=dimension, dim=1).mean(2)


def maps(batch=3, appearance=24, parts=10, height=5, width=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, appearance, height, width, generator=draw),
        torch.randn(batch, parts, height, width, generator=draw),
    )


@pytest.mark.parametrize("dimension", [16, 64, 512])
@pytest.mark.parametrize("hashes", ["released", 0, 7])
def test_equals_the_fft_sketch(dimension, hashes):
    A, P = maps()
    pooling = CompactBilinear(24, 10, dimension, hashes)
    expected = fft_sketch(A, P, pooling, dimension)
    found = pooling(A, P).double()
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_gradients_are_those_of_the_fft_sketch():
    A, P = maps()
    pooling = CompactBilinear(24, 10, 64)
    weights = torch.randn(3, 64, generator=torch.Generator().manual_seed(5))
    gradients = []
    for pool in (pooling, lambda a, p: fft_sketch(a, p, pooling, 64)):
        a, p = A.clone().requires_grad_(), P.clone().requires_grad_()
        (pool(a, p) * weights).sum().backward()
        gradients.append((a.grad, p.grad))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_pieces_of_a_batch_give_what_the_whole_gives(monkeypatch, wanted):
    A, P = (x.contiguous(memory_format=torch.channels_last) for x in maps(batch=7))
    pooling = CompactBilinear(24, 10, 64)
    results = []
    for chunk in (100, 3, 1):
        monkeypatch.setattr(bilinear, "CHUNK", chunk)
        inputs = [x.clone().requires_grad_(grad) for x, grad in zip((A, P), wanted, strict=True)]
        pooled = pooling(*inputs)
        pooled.square().sum().backward()
        results.append([pooled, *(x.grad for x in inputs if x.requires_grad)])
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-6, rtol=1e-6)
    # Gradients in another memory layout than the maps would be rearranged by the layers before.
    assert all(gradient.is_contiguous(memory_format=torch.channels_last) for gradient in results[0][1:])


def test_an_exported_sketch_takes_any_batch_size():
    pooling = CompactBilinear(24, 10, 64)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(pooling, maps(5), dynamic_shapes=({0: batch}, {0: batch})).module()
    A, P = maps(batch=40)
    torch.testing.assert_close(exported(A, P), pooling(A, P), atol=1e-6, rtol=1e-6)


def test_released_hashes_are_those_of_the_authors_code():
    h1, s1, h2, s2 = draw_hashes(512, 128, 512, "released")
    # The first draws of the legacy generator with seeds 1, 3, 5, 7: numpy keeps that stream fixed for ever.
    assert h1[:4].tolist() == np.random.RandomState(1).randint(512, size=512)[:4].tolist() == [37, 235, 396, 72]
    assert h2.shape == (128,)
    assert set(s1) == set(s2) == {-1, 1}


@given(st.integers(0, 10_000))
@settings(max_examples=5, deadline=None)
def test_the_sketch_is_unbiased(first_seed):
    # The mean over many hashes of sketched inner products is the inner product of the full descriptors.
    A, P = maps(2, 6, 4, 2, 2, seed=1)
    full = FullBilinear(6, 4)(A, P).double()
    true = full[0] @ full[1]
    estimates = []
    for seed in range(first_seed, first_seed + 400):
        f = CompactBilinear(6, 4, 32, hashes=seed)(A, P).double()
        estimates.append(float(f[0] @ f[1]))
    error = np.std(estimates) / np.sqrt(len(estimates))
    # 400 draws; five standard errors keep false alarms under one in a million.
    assert abs(np.mean(estimates) - float(true)) < 5 * error


def test_full_bilinear_is_the_average_of_outer_products():
    A, P = maps()
    expected = torch.einsum("bihw,bjhw->bij", A, P).flatten(1) / 15
    torch.testing.assert_close(FullBilinear(24, 10)(A, P), expected)


def test_hashes_travel_with_the_weights():
    A, P = maps()
    one, other = CompactBilinear(24, 10, 64, hashes=3), CompactBilinear(24, 10, 64, hashes=4)
    assert not torch.allclose(one(A, P), other(A, P))
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(A, P), other(A, P), rtol=0, atol=0)


def test_concat_average_and_stripes_pool_as_they_say():
    A, P = maps(height=6)
    concat = ConcatLinear(24, 10, 8)
    torch.testing.assert_close(concat(A, P), concat.linear(torch.cat((A, P), 1).mean((2, 3))))
    average = AverageLinear(24, 8)
    torch.testing.assert_close(average(A, None), average.linear(A.mean((2, 3))))
    stripes = StripeLinear(24, 3, 8)
    by_hand = torch.stack([A[:, :, 2 * i : 2 * i + 2].mean((2, 3)) for i in range(3)], dim=2).flatten(1)
    torch.testing.assert_close(stripes(A, None), stripes.linear(by_hand))


@pytest.mark.parametrize("pooling", [CompactBilinear(24, 10, 16), FullBilinear(24, 10)])
@pytest.mark.parametrize("gradient", [False, True])
def test_maps_of_different_sizes_are_refused(pooling, gradient):
    A, P = maps()
    with pytest.raises(ShapeError, match="must agree"):
        pooling(A.requires_grad_(gradient), P[:, :, :4])
