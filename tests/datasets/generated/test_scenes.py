import numpy as np
import pytest

from partalign.datasets.generated.camera import draw_scenes, horizon
from partalign.datasets.generated.scenes import smooth_noise


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    return draw_scenes(0, 4, 64, 32)


def test_scenes_are_pictures_and_differ(scenes):
    assert scenes.shape == (4, 3, 154, 256)
    assert scenes.dtype == np.float32
    assert scenes.min() >= 0
    assert scenes.max() <= 1
    flat = scenes.reshape(4, -1)
    assert np.abs(np.corrcoef(flat)[np.triu_indices(4, 1)]).max() < 0.95
    assert (flat.std(axis=1) > 0.04).all()


def test_a_camera_keeps_its_scene_when_there_are_more(scenes):
    assert np.array_equal(draw_scenes(0, 2, 64, 32), scenes[:2])
    assert not np.array_equal(draw_scenes(1, 1, 64, 32), scenes[:1])


def test_nothing_is_blocky(scenes):
    """In pictures enlarged from blocks, all change sits on the blocks' borders: every n-th column."""
    ground = scenes[:, :, horizon(64) + 10 :]
    step = np.abs(np.diff(ground, axis=3)).mean(axis=(0, 1, 2))[: 31 * 8]
    for block in (2, 4, 8):
        by_phase = step.reshape(-1, block).mean(axis=0)
        assert by_phase.max() / by_phase.min() < 1.25
    blocks = np.repeat(np.random.default_rng(0).normal(size=(154, 64)), 4, axis=1)
    step = np.abs(np.diff(blocks, axis=1)).mean(axis=0)[:252].reshape(-1, 4).mean(axis=0)
    assert step.max() > 100 * max(step.min(), 1e-9)  # the measure finds blocks where there are some


def test_rougher_noise_is_smoother_to_the_eye_and_stretching_makes_it_tall():
    def neighbours(noise: np.ndarray, axis: int) -> float:
        return float(np.mean(np.diff(noise, axis=axis) ** 2))

    fine, coarse = (smooth_noise(np.random.default_rng(0), 64, 64, r) for r in (0.3, 1.8))
    assert fine.std() == pytest.approx(1, abs=1e-3)
    assert abs(fine.mean()) < 1e-3
    assert neighbours(coarse, 1) < neighbours(fine, 1) / 3
    tall = smooth_noise(np.random.default_rng(0), 64, 64, 1.0, stretch=3.0)
    assert neighbours(tall, 0) < neighbours(tall, 1) / 2
