import sys

import numpy as np
import pytest
from PIL import Image

from partalign.errors import MissingExtraError, ShapeError
from partalign.pictures.explanation import AGAINST, FOR, HEIGHT, draw_explanation, draw_signed_heat
from partalign.pictures.theme import DARK, LIGHT, font

GREY = Image.new("RGB", (40, 80), (90, 90, 90))
CROPS = (GREY, Image.new("RGB", (64, 128), (30, 30, 30)))
A = np.full((4, 2), 0.1)
B = np.array([[0.9, -0.1]])
PARTS = {"head": 0.3, "torso": 0.7, "legs": -0.2}


def count(sheet: Image.Image, colour) -> int:
    if isinstance(colour, str):
        colour = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.asarray(sheet) == colour).all(axis=2).sum())


def test_heat_is_orange_where_places_speak_for_a_match_and_blue_where_against():
    heat = np.asarray(draw_signed_heat(GREY.resize((200, 100)), np.array([[1.0, 0.0, -1.0]]), 1.0)).astype(int)
    left, middle, right = heat[50, 5], heat[50, 100], heat[50, 195]
    assert np.abs(left - FOR).max() < 40
    assert np.abs(right - AGAINST).max() < 40
    assert np.ptp(middle) < 12
    half = np.asarray(draw_signed_heat(GREY, np.full((2, 2), 0.25), 1.0)).astype(int)[40, 20]
    full = np.asarray(draw_signed_heat(GREY, np.full((2, 2), 1.0), 1.0)).astype(int)[40, 20]
    assert np.ptp(half) < np.ptp(full)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_sheet_follows_the_theme_and_holds_both_crops(theme):
    sheet = draw_explanation(CROPS, (A, B), [((0, 0), (0, 0), 0.5)], parts=PARTS, sentence="Why.", theme=theme)
    assert "#{:02x}{:02x}{:02x}".format(*sheet.getpixel((0, 0))) == theme.paper
    for crop in CROPS:
        assert count(sheet, crop.getpixel((0, 0))) >= 0.95 * HEIGHT * HEIGHT / 2
    assert count(sheet, theme.ink) > 300


def test_bars_are_as_long_as_what_the_parts_add():
    sheet = np.asarray(draw_explanation(CROPS, (A, B), [], parts=PARTS))
    lengths = {}
    for name, colour in (("for", FOR), ("against", AGAINST)):
        rows = (sheet == colour).all(axis=2).sum(axis=1)
        lengths[name] = sorted({int(n) for n in rows if n > 20})
    short, long = lengths["for"]
    assert short / long == pytest.approx(3 / 7, abs=0.03)
    assert lengths["against"][0] / long == pytest.approx(2 / 7, abs=0.03)


def test_lines_join_places_and_the_strongest_is_the_thickest():
    crops = (GREY, GREY)
    maps = (np.full((4, 2), 0.1), np.full((4, 2), 0.1))
    none = draw_explanation(crops, maps, [])
    drawn = draw_explanation(crops, maps, [((0, 0), (0, 0), 0.4), ((3, 1), (3, 0), 0.1)])
    difference = (np.asarray(none) != np.asarray(drawn)).any(axis=2)[: none.height - 60]
    # The gap between the heats is paper: only lines cross it.
    column = difference[:, none.width // 2]
    rows = np.flatnonzero(column)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    assert len(runs) == 2
    assert len(runs[0]) > 2 * len(runs[1])
    top = (none.height - HEIGHT) / 2
    assert runs[0].mean() < top + HEIGHT / 2 < runs[1].mean() + 100


def test_probability_sentence_and_parts_take_room_only_where_given():
    bare = draw_explanation(CROPS, (A, B), [])
    told = draw_explanation(CROPS, (A, B), [], sentence="Because of this, of that and of much else. " * 4)
    assert told.height > bare.height
    assert told.width == bare.width
    assert draw_explanation(CROPS, (A, B), [], parts=PARTS).width > bare.width
    ink = [count(draw_explanation(CROPS, (A, B), [], probability=p), LIGHT.ink) for p in (None, 0.5)]
    assert ink[0] < ink[1]


def test_a_probability_is_never_said_to_be_certain():
    drawn = [draw_explanation(CROPS, (A, B), [], probability=p).tobytes() for p in (0.9912, 0.99999, 1.0, 0.5)]
    assert drawn[0] == drawn[1] == drawn[2]
    assert drawn[2] != drawn[3]


def test_odd_crops_parts_and_maps_are_drawn():
    wide = Image.new("RGB", (500, 20), (1, 2, 3))
    for parts in ({}, {"all": 0.0}, {"$\\x_y<b>": -1e-9, "a\nb" * 20: 3.0}):
        sheet = draw_explanation((wide, GREY.convert("L")), (np.zeros((1, 1)), np.zeros((9, 3))), [], parts=parts)
        assert sheet.mode == "RGB"
        assert sheet.width < 6 * HEIGHT


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        ((A, B * 2), "same sum, the similarity, found 0.8000 and 1.6000"),
        ((A[0], B), "maps"),
        ((A, np.full((1, 1), np.nan)), "finite"),
        ((np.zeros((0, 2)), B), "finite maps"),
    ],
)
def test_maps_that_are_none_are_refused(maps, expected):
    with pytest.raises(ShapeError, match=expected):
        draw_explanation(CROPS, maps, [])


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    font.cache_clear()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"partalign\[plot\]"):
        draw_explanation(CROPS, (A, B), [])
    font.cache_clear()
