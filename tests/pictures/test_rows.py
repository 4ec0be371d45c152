"""Rows of one measure: how long bars are, that every run is to be seen, and that odd names do no harm."""

import numpy as np
import pytest

from partalign.errors import ShapeError
from partalign.pictures.rows import draw_rows
from partalign.pictures.theme import DARK, LIGHT


def bar_length(picture, row, rows):
    """Longest run of coloured pixels in the part of the picture where a row lies."""
    pixels = np.asarray(picture, int)
    height = len(pixels) - 110  # without the axis and its label
    band = pixels[row * height // rows : (row + 1) * height // rows]
    colourful = (band.max(2) - band.min(2)) > 30
    return colourful.sum(1).max()


def test_a_bar_is_as_long_as_its_mean():
    picture = draw_rows({"": {"half": [20.0], "whole": [40.0]}}, label="mAP (%)")
    half, whole = (bar_length(picture, row, 2) for row in (0, 1))
    assert whole == pytest.approx(2 * half, rel=0.15)  # hatches take some pixels


def test_every_run_is_seen():
    one, two = (draw_rows({"": {"a": values}}) for values in ([20.0, 20.0, 20.0], [20.0, 14.0, 26.0]))
    assert np.abs(np.asarray(one, int) - np.asarray(two, int)).max() > 50


def test_groups_make_it_higher_and_names_are_taken_as_they_are():
    rows = {"_a": [10.0, 12.0], "$b$": [11.0, 9.0]}
    plain, grouped = draw_rows({"": rows}), draw_rows({"first $x$": rows, "second": rows}, theme=DARK)
    assert grouped.height > plain.height
    assert plain.getpixel((2, 2)) == (255, 255, 255)
    assert grouped.getpixel((2, 2)) == tuple(bytes.fromhex(DARK.paper[1:]))
    assert LIGHT.paper != DARK.paper


@pytest.mark.parametrize("groups", [{}, {"": {}}, {"": {"a": []}}])
def test_nothing_to_draw_is_refused(groups):
    with pytest.raises(ShapeError, match="at least one row"):
        draw_rows(groups)
