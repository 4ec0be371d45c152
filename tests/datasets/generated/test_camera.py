import numpy as np
import pytest

from partalign.datasets.generated import skeleton as sk
from partalign.datasets.generated.camera import Cameras, draw_textures, frame, place_scene, record
from partalign.datasets.generated.draws import Draws

N, H, W = 3000, 64, 32


@pytest.fixture(scope="module")
def draws() -> Draws:
    return Draws(0, "picture", np.arange(N))


@pytest.fixture(scope="module")
def seen(draws) -> np.ndarray:
    bodies = sk.Bodies.draw(Draws(0, "body", np.arange(N)), np.arange(N) % 2 == 0)
    return sk.view(sk.pose(bodies, sk.draw_angles(draws)), draws.uniform("yaw", 0, 2 * np.pi), np.full(N, 0.2))


def test_cameras_differ_and_stay_when_there_are_more():
    nine, six = Cameras.draw(0, 9), Cameras.draw(0, 6)
    for name, column in vars(six).items():
        assert np.array_equal(column, getattr(nine, name)[:6]), name
    assert six.halved.sum() == 1
    assert len(np.unique(nine.gain, axis=0)) == 9
    many = Cameras.draw(0, 2000).gain
    assert np.log(many[:, 0]).std() == pytest.approx(0.106, abs=0.01)  # red and blue vary most
    assert np.log(many[:, 1]).std() == pytest.approx(0.035, abs=0.005)


def test_boxes_are_tight_and_centred_without_misalignment(draws, seen):
    points = frame(draws, seen, H, W, 0.0).pixels(seen)
    assert points[..., 1].min() > 0
    assert points[..., 1].max() < H - 1
    assert np.allclose(points[..., 1].max(axis=1) - points[..., 1].min(axis=1), 0.9 * H)
    assert np.abs(points[:, sk.PELVIS, 0] - (W - 1) / 2).mean() < 0.12 * W
    assert ((points[..., 0] > -0.5) & (points[..., 0] < W - 0.5)).mean() > 0.99


def test_misaligned_boxes_shift_scale_and_cut(draws, seen):
    points = frame(draws, seen, H, W, 1.0).pixels(seen)
    tall = (points[..., 1].max(axis=1) - points[..., 1].min(axis=1)) / (0.9 * H)
    assert tall.min() >= np.exp(-0.28) - 1e-9
    assert tall.max() <= np.exp(0.22 + 0.5) + 1e-9
    cut = (points[:, sk.ANKLE, 1].max(axis=1) > H - 0.5) | (points[:, sk.TOP, 1] < -0.5)
    assert 0.25 < cut.mean() < 0.6
    half = frame(draws, seen, H, W, 0.5).pixels(seen)
    spread = [(p[:, sk.NECK, 0] - (W - 1) / 2).std() for p in (half, points)]
    assert spread[0] < spread[1]


def test_feet_stand_on_the_ground_of_the_scene(draws):
    feet = draws.uniform("feet", 0.6 * H, 1.4 * H)
    top, left = place_scene(draws, feet, np.full(N, 0.2), H, W, (154, 256))
    assert top.min() >= 0
    assert top.max() <= 154 - H
    assert left.min() >= 0
    assert left.max() <= 256 - W
    assert np.all(top + feet > 70)  # row 70 is the horizon of 64-pixel crops
    assert left.std() > 50


def shoot(pixels: np.ndarray, **changes: object) -> np.ndarray:
    """Record with an ideal camera, but for the changes."""
    n = len(pixels)
    zero, one = np.zeros(n), np.ones((n, 3))
    cameras = Cameras(
        **{
            "axis": zero, "pitch": zero, "gain": one, "contrast": zero, "light": np.zeros((n, 4)), "blur": zero,
            "noise": zero, "halved": zero.astype(bool), **changes,
        }  # type: ignore[arg-type]
    )  # fmt: skip
    noise = draw_textures(0, *pixels.shape[2:])[1]
    return record(Draws(0, "picture", np.arange(n)), pixels.copy(), cameras, noise)


def texture(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.2, 0.8, (n, 3, H, W)).astype(np.float32)


def detail(pictures: np.ndarray) -> float:
    return float(np.abs(np.diff(pictures.astype(float), axis=2)).mean())


def test_a_camera_at_half_the_resolution_loses_detail_but_not_the_colours():
    pixels = texture(24)
    sharp, halved = shoot(pixels), shoot(pixels, halved=np.ones(24, bool))
    assert detail(halved) < 0.45 * detail(sharp)
    assert np.abs(halved.mean(axis=(1, 2)) - sharp.mean(axis=(1, 2))).max() < 1.5


def test_blur_noise_gain_and_contrast_do_what_they_say():
    pixels = texture(24)
    plain = shoot(pixels)
    assert detail(shoot(pixels, blur=np.full(24, 0.4))) < 0.9 * detail(plain)
    assert detail(shoot(pixels, noise=np.full(24, 0.1))) > 1.05 * detail(plain)
    red = shoot(pixels, gain=np.tile([1.2, 1.0, 1.0], (24, 1))).mean(axis=(0, 1, 2)) / plain.mean(axis=(0, 1, 2))
    assert red[0] > 1.1
    assert np.allclose(red[1:], 1)
    assert shoot(pixels, contrast=np.full(24, 0.3)).mean() > plain.mean() + 5
