import numpy as np
import pytest
import torch

from partalign.images import MEAN_BGR
from partalign.training.augmentation import augment
from partalign.training.settings import AugmentSettings

MEAN = torch.tensor(MEAN_BGR)[:, None, None]


def pictures(count=6, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, 16, 8))
    return (torch.from_numpy(pixels).float() - MEAN).contiguous(memory_format=torch.channels_last)


def changed(batch, seed=1, **settings):
    return augment(batch, AugmentSettings(**{"flip": 0.0, **settings}), np.random.default_rng(seed))


def test_nothing_asked_for_changes_nothing():
    assert torch.equal(changed(pictures()), pictures())


def test_colours_change_by_as_much_as_asked_and_stay_colours():
    batch = pictures()
    recolored = changed(batch, color=0.3)
    pixels = recolored + MEAN
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    shifts = [(a - b).abs().mean() for a, b in zip(recolored, batch, strict=True)]
    assert min(shifts) > 1, "every picture changes"
    assert len({round(float(s), 3) for s in shifts}) == len(shifts), "each in its own way"
    assert (changed(batch, color=0.01) - batch).abs().max() < 0.04 * 255 * 4
    assert recolored.is_contiguous(memory_format=torch.channels_last)


def test_a_colour_change_keeps_what_is_where():
    # Light, contrast, saturation and balance are monotone in each channel of a grey picture.
    ramp = torch.linspace(60, 160, 16)[None, None, :, None].expand(4, 3, 16, 8) - MEAN
    recolored = changed(ramp.clone(), color=0.2)
    assert bool((recolored.diff(dim=2) > 0).all())


def test_detail_is_lost_and_nothing_moves():
    checks = (torch.arange(16)[:, None] + torch.arange(8)) % 2 * 100.0  # a chessboard has nothing but detail
    batch = checks.expand(40, 3, 16, 8).contiguous(memory_format=torch.channels_last)
    shrunk = changed(batch.clone(), shrink=0.5)
    kept = [torch.equal(a, b) for a, b in zip(shrunk, batch, strict=True)]
    assert 8 < sum(kept) < 32, "about half of the pictures"
    assert min(float(picture.std()) for picture in shrunk) < 10 < float(batch[0].std())
    assert shrunk.is_contiguous(memory_format=torch.channels_last)
    steps = torch.linspace(0, 80, 16)[None, None, :, None].expand(20, 3, 16, 8).clone()  # a slope has none
    assert (changed(steps.clone(), shrink=1.0) - steps)[:, :, 4:-4].abs().max() < 2


def test_the_same_draw_gives_the_same_batch():
    asked = {"flip": 0.5, "color": 0.2, "shrink": 0.5, "crop": 3, "erase": 0.5}
    assert torch.equal(changed(pictures(), **asked), changed(pictures(), **asked))
    assert not torch.equal(changed(pictures(), **asked), changed(pictures(), seed=2, **asked))


@pytest.mark.parametrize(("asked", "uncovered"), [({"crop": 4}, True), ({"erase": 1.0}, True), ({"color": 0.3}, False)])
def test_what_is_uncovered_or_erased_is_the_mean_colour(asked, uncovered):
    batch = torch.full((8, 3, 16, 8), 50.0)
    assert bool((changed(batch, **asked) == 0).any()) == uncovered
