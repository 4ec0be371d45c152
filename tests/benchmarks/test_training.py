from functools import partial

import pytest

from partalign.benchmarks import training
from partalign.errors import BenchmarkError
from partalign.model.layers import max_pool
from partalign.model.network import NetworkSettings

SMALL = {"height": 32, "width": 16, "dimension": 32, "appearance_channels": 16, "part_channels": 8}
run = partial(training.run, batches=(4,), chunk=2, rounds=1)


@pytest.mark.parametrize("dilation", [False, True])
def test_both_forms_of_the_step_agree(dilation):
    lines = run(NetworkSettings.model_validate({"dilation": dilation, **SMALL}))
    assert [line.what for line in lines] == ["training step, B = 4", "training step, B = 4, in chunks of 2"]
    assert all(line.difference < 1e-2 for line in lines)
    assert [str(line.bar) for line in lines] == ["", ""]


def test_the_bars_are_those_of_the_papers_batch(monkeypatch):
    monkeypatch.setattr(training, "PAPER", 4)
    lines = training.long(settings=NetworkSettings.model_validate(SMALL))
    assert [(line.bar.speed, line.bar.saving) for line in lines] == [(1.15, 2), (None, 2)]


def test_a_wrong_gradient_is_not_timed(monkeypatch):
    def doubled(*arguments, **options):
        y = max_pool(*arguments, **options)
        return 2 * y - y.detach()

    monkeypatch.setattr("partalign.model.appearance.max_pool", doubled)
    with pytest.raises(BenchmarkError, match="training step"):
        run(NetworkSettings.model_validate(SMALL))
