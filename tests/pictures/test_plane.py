import numpy as np
import pytest
from PIL import ImageColor

from partalign.errors import ShapeError
from partalign.pictures.plane import Labels, Panel, draw_patches, draw_points, draw_tsne, grid_places, label_colours
from partalign.pictures.theme import DARK, LIGHT

PLACES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
PLANE = np.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]])
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)
PATCHES = np.tile(COLOURS[:, None, None], (1, 10, 10, 1))
LABELS = Labels("kind", np.array([0, 1, -1]), ("one", "two"))


def test_a_cell_shows_the_point_nearest_to_its_middle():
    plane = np.array([[0.30, 0.2], [0.26, 0.24], [0.99, 1.0], [0.0, 0.0]])
    assert grid_places(plane, 2) == {(0, 0): 1, (1, 1): 2}


def test_patches_lie_at_their_points_on_the_page_s_paper():
    for theme in (LIGHT, DARK):
        drawn = draw_patches(PLANE, PATCHES, side=100, theme=theme)
        assert drawn.size == (100, 100)
        for (x, y), colour in zip(PLANE * 100, COLOURS, strict=True):
            assert drawn.getpixel((int(x), int(y))) == tuple(colour)
        assert drawn.getpixel((50, 50)) == ImageColor.getrgb(theme.paper)
    with pytest.raises(ShapeError, match="each of 3 points"):
        draw_patches(PLANE, PATCHES[:2])


def test_points_have_the_colours_of_their_labels():
    for theme in (LIGHT, DARK):
        drawn = draw_points(PLANE, LABELS, side=400, theme=theme)
        expected = [*map(ImageColor.getrgb, label_colours(2, theme)), ImageColor.getrgb(theme.rule)]
        for (x, y), colour in zip(400 * (0.03 + 0.94 * PLANE), expected, strict=True):
            assert np.abs(np.subtract(drawn.getpixel((round(x), round(y))), colour)).max() <= 30
    with pytest.raises(ShapeError, match="one label for each of 3"):
        draw_points(PLANE, Labels("kind", np.array([0]), ("one",)))


def test_the_first_colours_of_labels_differ():
    for theme in (LIGHT, DARK):
        assert len(set(label_colours(14, theme))) == 14
        assert len(label_colours(30, theme)) == 30


def test_the_figure_has_a_column_for_each_panel_and_a_row_for_each_way_to_draw():
    panels = [Panel(title, PLANE, np.eye(3)) for title in ("(a)", "(b)")]
    sizes = {}
    for name, patches, labels in (("p", PATCHES, []), ("l", None, [LABELS]), ("pl", PATCHES, [LABELS])):
        drawn = draw_tsne(panels, PLACES, patches, labels, side=200)
        assert drawn.tobytes() == draw_tsne(panels, PLACES, patches, labels, side=200).tobytes()
        sizes[name] = drawn.size
    assert sizes["p"][0] == sizes["l"][0] > 400
    assert sizes["pl"][1] > sizes["p"][1] + 200
    assert draw_tsne(panels[:1], PLACES, PATCHES, side=200).width == 200
    with pytest.raises(ShapeError, match="at least one panel"):
        draw_tsne([], PLACES, PATCHES)
    with pytest.raises(ShapeError, match="patches or labels"):
        draw_tsne(panels, PLACES, None)
