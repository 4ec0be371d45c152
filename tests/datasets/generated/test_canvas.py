import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from partalign.datasets.generated.canvas import Canvas, Stroke, stroke, surface, windows

H, W = 40, 24
CLOTH = np.random.default_rng(0).normal(size=(2 * H, 2 * W)).astype(np.float32)


def canvas(pictures: int = 3, grey: float = 0.0) -> Canvas:
    light = np.tile([0.4, 0.2, -0.1, 0.4], (pictures, 1))
    return Canvas(np.full((pictures, 3, H, W), grey, np.float32), light, CLOTH)


def cover_of_one(s: Stroke, k: int, x: float, y: float) -> float:
    """How much of a pixel stroke k covers, step by step for one pixel."""
    x0, y0, x1, y1, w0, w1, bulge, corner = (float(column[k]) for column in vars(s).values())
    length, corner = math.hypot(x1 - x0, y1 - y0), max(corner, 0.5)
    dx, dy = ((x1 - x0) / length, (y1 - y0) / length) if length > 1e-3 else (0, 1)
    along, across = (x - x0) * dx + (y - y0) * dy, (x - x0) * dy - (y - y0) * dx
    t = min(max(along / max(length, 1e-3), 0), 1)
    half = w0 + (w1 - w0) * t + 4 * bulge * t * (1 - t)
    beyond_side = max(abs(across) - half + corner, 0)
    beyond_end = max(abs(along - length / 2) - length / 2 + corner, 0)
    return min(max(corner + 0.5 - math.hypot(beyond_side, beyond_end), 0), 1)


places = st.tuples(st.floats(-10, 40), st.floats(-10, 50))


@given(places, places, st.floats(0.5, 8), st.floats(0.5, 8), st.floats(0, 2), st.sampled_from([None, 0.0, 0.4]))
def test_coverage_is_that_of_one_pixel_at_a_time(start, end, w0, w1, bulge, corner):
    s = stroke(np.array([start]), np.array([end]), w0, w1, bulge=bulge, corner=corner)
    x, y = np.arange(W, dtype=np.float32)[None, None, :], np.arange(H, dtype=np.float32)[None, :, None]
    on = surface(s, x, y)
    expected = [[cover_of_one(s, 0, i, j) for i in range(W)] for j in range(H)]
    assert np.allclose(on.cover[0], expected, atol=2e-3)
    assert np.abs(on.u).max() <= 1
    assert on.t.min() >= 0
    assert on.t.max() <= 1


def test_a_capsule_covers_its_area():
    s = stroke(np.array([[8.0, 10.0]]), np.array([[14.0, 28.0]]), 4.0)
    x, y = np.arange(W, dtype=np.float32)[None, None, :], np.arange(H, dtype=np.float32)[None, :, None]
    area = 2 * 4 * math.hypot(6, 18) + math.pi * 4**2
    assert abs(surface(s, x, y).cover.sum() - area) < 0.02 * area


def test_square_ends_are_full_inside_and_end_where_they_should():
    s = stroke(np.array([[12.0, 9.5]]), np.array([[12.0, 29.5]]), 5.5, corner=0.0)
    x, y = np.arange(W, dtype=np.float32)[None, None, :], np.arange(H, dtype=np.float32)[None, :, None]
    cover = surface(s, x, y).cover[0]
    assert (cover[11:29, 8:17] == 1).all()
    assert abs(cover.sum() - 11 * 20) < 1
    assert (cover[[5, 33]] == 0).all()


def test_u_grows_to_the_right_on_a_stroke_that_runs_down():
    s = stroke(np.array([[12.0, 5.0]]), np.array([[12.0, 35.0]]), 6.0)
    on = surface(s, np.array([[8.0, 12.0, 16.0]], np.float32), np.array([[10.0, 20.0, 30.0]], np.float32))
    assert on.u[0, 0] < -0.5
    assert abs(on.u[0, 1]) < 1e-6
    assert on.u[0, 2] > 0.5
    assert np.all(np.diff(on.t[0]) > 0.2)


@given(st.lists(st.tuples(places, places, st.floats(0.5, 8)), min_size=2, max_size=6), st.randoms())
def test_a_picture_does_not_depend_on_the_others(specs, random):
    starts, ends, widths = (np.array(column) for column in zip(*specs, strict=True))
    n = len(specs)
    color, second = np.random.default_rng(1).uniform(size=(2, n, 3))
    folds = np.arange(2 * n).reshape(n, 2)

    def paint(rows: np.ndarray) -> np.ndarray:
        c = canvas(len(rows), 0.5)
        s = stroke(starts[rows], ends[rows], widths[rows], 2.0)
        c.draw(s, color[rows], second=second[rows], pattern=lambda on, _: on.t, folds=folds[rows])
        return c.pixels

    together = paint(np.arange(n))
    order = list(range(n))
    random.shuffle(order)
    assert np.array_equal(paint(np.array(order)), together[order])
    assert np.array_equal(paint(np.array([order[0]]))[0], together[order[0]])


def test_only_the_given_rows_and_the_stroke_are_painted():
    c = canvas(3, 0.25)
    s = stroke(np.full((3, 2), 12.0), np.full((3, 2), 20.0), 3.0)
    c.draw(s, np.ones((3, 3)), np.array([False, True, False]), shaded=False)
    assert (c.pixels[[0, 2]] == 0.25).all()
    assert (c.pixels[1, :, 14, 14] == 1).all()  # inside: the colour alone
    assert (c.pixels[1, :, 35, 3] == 0.25).all()  # far away: as before


def test_opacity_mixes_with_what_is_below():
    c = canvas(2, 0.2)
    s = stroke(np.full((2, 2), 12.0), np.full((2, 2), 20.0), 3.0)
    c.draw(s, np.ones((2, 3)), opacity=np.array([0.5, 1.0]), shaded=False)
    assert np.allclose(c.pixels[:, :, 14, 14], [[0.6] * 3, [1.0] * 3])


def test_strokes_outside_the_picture_change_nothing():
    c = canvas(2, 0.3)
    s = stroke(np.array([[-50.0, 10.0], [90.0, 90.0]]), np.array([[-40.0, 10.0], [99.0, 90.0]]), 4.0)
    c.draw(s, np.ones((2, 3)))
    assert (c.pixels == np.float32(0.3)).all()


def test_light_from_the_right_brightens_the_right_side():
    c = canvas(1)
    c.draw(stroke(np.array([[12.0, 5.0]]), np.array([[12.0, 35.0]]), 6.0), np.full((1, 3), 0.5))
    row = c.pixels[0, 0, 20]
    assert row[16] > row[8] > 0


def test_windows_are_slices():
    pixels = np.random.default_rng(2).normal(size=(2, 3, H, W))
    view = windows(pixels, 7, 5)
    assert view.shape == (2, 3, H - 6, W - 4, 7, 5)
    assert np.array_equal(view[1, 2, 11, 3], pixels[1, 2, 11:18, 3:8])
    view[0, 0, 0, 0] = 9
    assert (pixels[0, 0, :7, :5] == 9).all()
