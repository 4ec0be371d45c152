from functools import partial

import pytest
import torch

from partalign.benchmarks import sketch
from partalign.errors import BenchmarkError
from partalign.model.bilinear import CompactBilinear

run = partial(
    sketch.run, ((2, False), (3, True)), appearance=12, parts=6, places=(4, 2), dimension=16, rounds=1
)  # fmt: skip


def test_runs_and_agrees_forward_and_backward():
    lines = run()
    assert [line.what for line in lines] == ["forward, B = 2"] * 3 + ["both passes, B = 3"] * 3
    assert [line.against for line in lines[:3]] == [
        "complex FFT per place",
        "real FFT per place",
        "plain product, no sketch",
    ]
    differences = [line.difference for line in lines]
    assert differences[2] is differences[5] is None
    assert all(value < 1e-5 for value in differences if value is not None)


def test_every_bar_is_of_a_comparison_that_is_made():
    labels = {line.against for line in run()}
    assert {against for _, _, against in sketch.BARS} <= labels


@pytest.mark.parametrize("form", [sketch.complex_fft, sketch.real_fft])
def test_references_are_the_definition_of_the_tensor_sketch(form):
    pooling = CompactBilinear(5, 3, 8)
    A, P = sketch.maps(1, (5, 3), (2, 2), False)
    expected = torch.zeros(8)
    for i in range(5):
        for j in range(3):
            bin_ = (pooling.h1[i] + pooling.h2[j]) % 8
            expected[bin_] += pooling.s1[i] * pooling.s2[j] * (A[0, i] * P[0, j]).mean()
    torch.testing.assert_close(form(pooling)(A, P)[0], expected)


class WrongValue(CompactBilinear):
    def forward(self, appearance, parts):
        return 1.001 * super().forward(appearance, parts)


class WrongGradient(CompactBilinear):
    def forward(self, appearance, parts):
        pooled = super().forward(appearance, parts)
        return 1.001 * pooled - 0.001 * pooled.detach()


@pytest.mark.parametrize(("wrong", "message"), [(WrongValue, "forward, B = 2"), (WrongGradient, "both passes, B = 3")])
def test_a_wrong_sketch_is_not_timed(monkeypatch, wrong, message):
    monkeypatch.setattr(sketch, "CompactBilinear", wrong)
    with pytest.raises(BenchmarkError, match=message):
        run()
