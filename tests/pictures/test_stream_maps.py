import numpy as np
import pytest
from PIL import Image

from partalign.errors import ShapeError
from partalign.pictures.stream_maps import draw_stream_maps
from partalign.pictures.theme import DARK, LIGHT

CROPS = [Image.new("RGB", (32, 64), colour) for colour in ("red", "lime", "blue", "white")]


def made_maps(seed: int, count: int = 4, channels: int = 6, size=(8, 4)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, channels, *size)) * np.arange(1, channels + 1)[:, None, None]


def paper(theme) -> tuple[int, ...]:
    return tuple(bytes.fromhex(theme.paper[1:]))


def cells(drawn: Image.Image, theme=LIGHT) -> list[tuple[int, int]]:
    """Left edge and width of each picture along a line through the lowest row of pictures."""
    row = np.asarray(drawn)[-3]
    on = np.concatenate(([False], (row != paper(theme)).any(axis=1), [False]))
    edges = np.flatnonzero(on[1:] != on[:-1]).reshape(-1, 2)
    return [(int(a), int(b - a)) for a, b in edges]


def test_a_line_holds_each_picture_beside_its_maps():
    crops = [Image.new("RGB", (32, 64), "red"), Image.new("RGB", (32, 64), "lime")]
    drawn = draw_stream_maps(crops, {"a": made_maps(0), "b": made_maps(1, size=(4, 2))}, height=64)
    found = cells(drawn)
    assert [width for _, width in found] == [32] * 6
    assert drawn.getpixel((found[0][0] + 5, drawn.height - 5)) == (255, 0, 0)
    assert drawn.getpixel((found[3][0] + 5, drawn.height - 5)) == (0, 255, 0)


def test_the_same_descriptor_has_the_same_colour_in_two_pictures():
    maps = made_maps(2)
    # The lower half of picture 3 holds what the lower half of picture 0 holds; its upper half differs.
    maps[3, :, 4:] = maps[0, :, 4:]
    drawn = np.asarray(draw_stream_maps(CROPS, {"maps": maps}, across=4, height=64))
    found = cells(Image.fromarray(drawn))
    first, last = (drawn[:, left : left + width] for left, width in (found[1], found[-1]))
    np.testing.assert_array_equal(first[-20:], last[-20:])
    assert (first[-60:-40] != last[-60:-40]).any()


def test_pictures_are_coloured_by_a_projection_of_all_maps_also_of_those_not_shown():
    maps = made_maps(3)
    more = np.concatenate((maps, 5 * made_maps(4)[:, ::-1]))
    alone = draw_stream_maps(CROPS, {"maps": maps}, height=64)
    among = draw_stream_maps(CROPS, {"maps": more}, height=64)
    assert alone.size == among.size
    assert alone.tobytes() != among.tobytes()
    # Whom the lot puts first does not matter to the colours of a picture.
    two = draw_stream_maps(CROPS[:1], {"maps": more}, height=64)
    (left, width), *_ = cells(two)[1:]
    np.testing.assert_array_equal(
        np.asarray(two)[-64:, left : left + width], np.asarray(among)[22 * 2 :, left : left + width][:64]
    )


def test_persons_stand_in_lines_of_their_own():
    by_label = draw_stream_maps(CROPS, {"m": made_maps(0)}, labels=["x", "x", "y", "y"], height=64)
    wide = draw_stream_maps(CROPS, {"m": made_maps(0)}, across=4, height=64)
    assert by_label.height > wide.height + 60
    assert by_label.width < wide.width
    narrow = draw_stream_maps(CROPS, {"m": made_maps(0)}, across=1, height=64)
    assert narrow.height > by_label.height


def test_dark_pages_have_their_paper():
    for theme in (LIGHT, DARK):
        assert draw_stream_maps(CROPS, {"m": made_maps(0)}, height=64, theme=theme).getpixel((0, 0)) == paper(theme)


@pytest.mark.parametrize(
    ("pictures", "columns", "labels", "message"),
    [
        ([], {"m": made_maps(0)}, (), "found 0 pictures"),
        (CROPS, {}, (), "0 kinds of maps"),
        (CROPS, {"m": made_maps(0, count=3)}, (), r"expected m maps \(N, C, H, W\) of 4 pictures"),
        (CROPS, {"m": made_maps(0)[0]}, (), "expected m maps"),
        (CROPS, {"m": made_maps(0)}, ("x",), "one label for each of 4"),
    ],
)
def test_what_does_not_fit_is_refused(pictures, columns, labels, message):
    with pytest.raises(ShapeError, match=message):
        draw_stream_maps(pictures, columns, labels=labels)
