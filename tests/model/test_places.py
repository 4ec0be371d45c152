"""Places against loops that follow the equations."""

import numpy as np
import pytest
import torch
from torch import nn

from partalign.errors import ExplanationError
from partalign.model.bilinear import AverageLinear, CompactBilinear, ConcatLinear, FullBilinear, StripeLinear
from partalign.model.places import inner_products, place_factors, to_unit_length

C_A, C_P = 6, 4
POOLINGS = {
    "compact": lambda: CompactBilinear(C_A, C_P, 9),
    "compact, other hashes": lambda: CompactBilinear(C_A, C_P, 16, hashes=3),
    "full": lambda: FullBilinear(C_A, C_P),
    "concat": lambda: ConcatLinear(C_A, C_P, 7),
    "average": lambda: AverageLinear(C_A, 7),
    "stripes": lambda: StripeLinear(C_A, 3, 7),
    "stripes that share rows": lambda: StripeLinear(C_A, 4, 7),
}


def maps(seed, height, width):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(C_A, height, width, generator=draw), torch.randn(C_P, height, width, generator=draw)


def vectors(pooling, a, p):
    """One vector for each place, by the definitions, in loops."""
    (_, height, width), found = a.shape, []
    a, p = a.double().numpy(), p.double().numpy()
    for y in range(height):
        for x in range(width):
            outer = np.outer(a[:, y, x], p[:, y, x]) / (height * width)
            vector = outer.ravel()
            if isinstance(pooling, CompactBilinear):
                vector = np.zeros(pooling.channels)
                for i in range(C_A):
                    for j in range(C_P):
                        k = int(pooling.h1[i] + pooling.h2[j]) % pooling.channels
                        vector[k] += int(pooling.s1[i] * pooling.s2[j]) * outer[i, j]
            found.append(vector)
    return np.array(found)


@pytest.mark.parametrize("name", ["compact", "compact, other hashes", "full"])
def test_inner_products_are_those_of_equation_9_and_its_sketch(name):
    pooling = POOLINGS[name]()
    first, second = maps(1, 3, 2), maps(2, 4, 3)
    expected = vectors(pooling, *first) @ vectors(pooling, *second).T
    found = inner_products(place_factors(pooling, *first), place_factors(pooling, *second))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", POOLINGS)
def test_places_add_up_to_what_the_pooling_returns(name):
    torch.manual_seed(0)
    pooling = POOLINGS[name]()
    if hasattr(pooling, "linear"):
        nn.init.normal_(pooling.linear.bias)
    pooled, factors = [], []
    for seed, size in ((1, (6, 2)), (2, (7, 3))):
        a, p = maps(seed, *size)
        with torch.inference_mode():
            pooled.append(pooling(a[None], p[None])[0].double())
            factors.append(place_factors(pooling, a, p))
    for i in range(2):
        for j in range(2):
            found = float(inner_products(factors[i], factors[j]).sum())
            assert found == pytest.approx(float(pooled[i] @ pooled[j]), abs=1e-5)
    if name != "full":
        for descriptor, (places,) in zip(pooled, factors, strict=True):
            torch.testing.assert_close(places.sum(0), descriptor, atol=1e-5, rtol=0)


def test_a_place_of_a_baseline_is_what_its_picture_alone_gives():
    # With one place that is not zero, the pooling itself says what that place is worth.
    torch.manual_seed(0)
    for name in ("average", "stripes", "stripes that share rows"):
        pooling = POOLINGS[name]()
        a, _ = maps(3, 6, 2)
        (places,) = place_factors(pooling, a, None)
        for index in range(12):
            alone = torch.zeros_like(a)
            alone[:, index // 2, index % 2] = a[:, index // 2, index % 2]
            with torch.inference_mode():
                expected = pooling(alone[None])[0].double()
            torch.testing.assert_close(places[index].detach(), expected, atol=1e-6, rtol=0)


def test_scaled_places_add_up_to_unit_length():
    for name in ("compact", "full"):
        factors = to_unit_length(place_factors(POOLINGS[name](), *maps(4, 3, 3)))
        assert float(inner_products(factors, factors).sum()) == pytest.approx(1, abs=1e-12)
    nothing = to_unit_length((torch.zeros(3, 2),))
    assert torch.equal(nothing[0], torch.zeros(3, 2))


def test_a_pooling_that_is_no_sum_is_refused():
    with pytest.raises(ExplanationError, match="found AdaptiveMaxPool2d"):
        place_factors(nn.AdaptiveMaxPool2d(1), *maps(0, 2, 2))
    with pytest.raises(ExplanationError, match="found FullBilinear"):
        place_factors(FullBilinear(C_A, C_P), maps(0, 2, 2)[0], None)
