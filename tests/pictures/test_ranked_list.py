import sys

import numpy as np
import pytest
from PIL import Image

from partalign.crops import DISTRACTOR, JUNK, Crop, Embeddings
from partalign.errors import MissingExtraError, PictureError, ShapeError
from partalign.evaluation.evaluate import top_matches
from partalign.pictures.ranked_list import (
    CELL,
    FRAME,
    RankedRow,
    Shown,
    cell_left,
    describe,
    draw_ranked_list,
    rank_row,
)
from partalign.pictures.theme import DARK, LIGHT, RIGHT, SCALE, WRONG, font

GREY = Image.new("RGB", (64, 128), (90, 90, 90))
QUERY = Shown(GREY, "1")


def colour(sheet: Image.Image, x: int, y: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*sheet.getpixel((x, y)))


def cell(sheet: Image.Image, column: int) -> Image.Image:
    return sheet.crop((cell_left(column), 0, cell_left(column) + CELL[0], CELL[1]))


@pytest.fixture
def gallery(tmp_path) -> list[Crop]:
    """Crops of three persons in three cameras, junk and a distractor; each picture has its own shade."""
    people = [("7", "1"), ("7", "2"), (JUNK, "2"), ("8", "1"), ("7", "3"), (DISTRACTOR, "3"), ("9", "2"), (None, "1")]
    crops = []
    for number, (person, camera) in enumerate(people):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (64, 128), (20 * number, 0, 0)).save(path)
        crops.append(Crop(path, person, camera))
    return crops


def test_frames_have_their_colours():
    row = RankedRow(QUERY, tuple(Shown(GREY, "2", 0.5, right) for right in (True, False, None)))
    sheet = draw_ranked_list([row])
    for column, expected in enumerate((RIGHT, WRONG, LIGHT.muted)):
        left = cell_left(column)
        for x, y in ((0, 0), (CELL[0] - 1, 0), (FRAME - 1, CELL[1] // 2), (CELL[0] // 2, CELL[1] - 1)):
            assert colour(sheet, left + x, y) == expected
        assert colour(sheet, left + FRAME, CELL[1] // 2) == "#5a5a5a"
        assert colour(sheet, left - 1, CELL[1] // 2) == LIGHT.paper
    assert colour(sheet, 0, CELL[1] // 2) == LIGHT.muted


def test_right_and_wrong_differ_by_sign_not_by_colour_alone():
    row = RankedRow(QUERY, (Shown(GREY, None, 0.5, True), Shown(GREY, None, 0.5, False)))
    sheet = draw_ranked_list([row])
    white = [np.asarray(cell(sheet, column).convert("L")) > 240 for column in (0, 1)]
    assert min(w.sum() for w in white) > 50
    assert (white[0] != white[1]).sum() > 50
    # The cross is symmetric, the tick is not.
    badges = [w[-16 * SCALE :, -16 * SCALE :] for w in white]
    asymmetry = [(b != b[:, ::-1]).mean() for b in badges]
    assert asymmetry[0] > 2 * asymmetry[1]


def test_rows_stand_below_each_other_and_follow_the_theme():
    row = RankedRow(QUERY, (Shown(GREY, "2", 0.5, True),), label="part-aligned")
    one, two = draw_ranked_list([row], theme=DARK), draw_ranked_list([row, row], theme=DARK)
    assert two.height == 2 * one.height
    assert two.crop((0, one.height, one.width, two.height)).tobytes() == one.tobytes()
    assert colour(one, one.width - 1, one.height - 1) == DARK.paper


def test_a_crop_of_another_shape_is_not_stretched():
    square = Shown(Image.new("RGB", (50, 50), (255, 255, 0)), None, 0.5, True)
    sheet = draw_ranked_list([RankedRow(QUERY, (square,))])
    yellow = np.asarray(cell(sheet, 0)) == (255, 255, 0)
    rows, columns = np.nonzero(yellow.all(axis=2))
    assert np.ptp(rows) == np.ptp(columns) == 64 * SCALE - 1


def test_a_long_camera_name_does_not_run_into_its_neighbour():
    named = Shown(GREY, "entrance of the north wing, upper floor", 0.5, None)
    sheet = draw_ranked_list([RankedRow(QUERY, (named, Shown(GREY)))])
    below = np.asarray(sheet.crop((cell_left(1), CELL[1], sheet.width, sheet.height)))
    assert (below == 255).all()


@pytest.mark.parametrize("seed", range(5))
def test_matches_are_the_ranking_with_junk_and_empty_places_left_out(gallery, seed):
    order = np.random.default_rng(seed).permutation(len(gallery))
    rows, scores = np.append(order, -1), np.append(np.linspace(0.9, 0.1, len(order)), -np.inf)
    row = rank_row(gallery[0], gallery, rows, scores, label="proposed")
    shown = [(place, i) for place, i in enumerate(order) if gallery[i].person != JUNK]
    assert len(shown) == len(gallery) - 1
    assert [m.picture.getpixel((0, 0))[0] // 20 for m in row.matches] == [i for _, i in shown]
    assert [m.score for m in row.matches] == [scores[place] for place, _ in shown]
    assert [m.camera for m in row.matches] == [gallery[i].camera for _, i in shown]
    people = [gallery[i].person for _, i in shown]
    assert [m.right for m in row.matches] == [None if person is None else person == "7" for person in people]
    assert row.label == "proposed"


def test_a_ranking_of_the_evaluation_can_be_drawn_as_it_is(gallery):
    gallery = gallery[:-1]
    vectors = np.random.default_rng(0).normal(size=(len(gallery), 8)).astype(np.float32)
    everyone = Embeddings(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), tuple(gallery))
    rows, scores = top_matches(everyone.select([0]), everyone)
    row = rank_row(gallery[0], gallery, rows[0], scores[0])
    # Junk, and the one crop of the same person in the same camera, are left out.
    assert len(row.matches) == len(gallery) - 2
    assert sum(bool(m.right) for m in row.matches) == 2
    assert draw_ranked_list([row]).width == cell_left(len(row.matches) - 1) + CELL[0]


def test_a_query_without_a_name_has_neither_right_nor_wrong_matches(gallery):
    row = rank_row(Crop(gallery[0].path), gallery, np.array([1, 3]), np.ones(2))
    assert [m.right for m in row.matches] == [None, None]


def test_a_query_without_a_match_stands_alone(gallery):
    empty = rank_row(gallery[0], [], np.zeros(0, int), np.zeros(0))
    assert draw_ranked_list([empty]).width == CELL[0]
    with pytest.raises(ShapeError, match="at least one row"):
        draw_ranked_list([])


def test_pictures_that_cannot_be_read_are_named(tmp_path, gallery):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    with pytest.raises(PictureError, match=r"broken\.jpg"):
        rank_row(gallery[0], [Crop(broken, "8", "2")], np.zeros(1, int), np.ones(1))
    with pytest.raises(PictureError, match=r"gone\.jpg"):
        rank_row(Crop(tmp_path / "gone.jpg"), [], np.zeros(0, int), np.ones(0))


def test_scores_must_match_the_rows(gallery):
    with pytest.raises(ShapeError, match=r"one score for each row, found shapes \(2,\) and \(3,\)"):
        rank_row(gallery[0], gallery, np.zeros(2, int), np.ones(3))


def test_rows_are_described_in_words():
    def row(*rights):
        return RankedRow(QUERY, tuple(Shown(GREY, right=r) for r in rights), "baseline")

    assert describe(row(True, False, True)) == "baseline: 3 best matches, right at rank 1, 3"
    assert describe(row(False, False)) == "baseline: 2 best matches, none of them right"
    assert describe(row(None)) == "baseline: 1 best match"


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    font.cache_clear()
    with pytest.raises(MissingExtraError, match=r'pip install "partalign\[plot\]"'):
        draw_ranked_list([RankedRow(QUERY, (), "label")])
