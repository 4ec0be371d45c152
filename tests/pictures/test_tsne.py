import sys

import numpy as np
import pytest
from PIL import Image

from partalign.errors import MissingExtraError, ShapeError
from partalign.pictures.tsne import agreement, cut_patches, descriptors_at, embed_in_plane, sample_places


def groups(seed: int, sizes=(30, 30, 30), channels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around as many far directions as there are sizes, and which direction each is of."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.eye(channels)[labels] + rng.normal(0, 0.05, (len(labels), channels))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def test_places_are_drawn_once_each_and_by_their_seed():
    places = sample_places((3, 4, 2), 10, seed=5)
    assert places.shape == (10, 3)
    assert len({tuple(place) for place in places.tolist()}) == 10
    assert (places >= 0).all()
    assert (places < (3, 4, 2)).all()
    np.testing.assert_array_equal(places, sample_places((3, 4, 2), 10, seed=5))
    assert (places != sample_places((3, 4, 2), 10, seed=6)).any()
    assert len(sample_places((3, 4, 2), 1000)) == 24


def test_descriptors_are_those_of_their_places_at_unit_length():
    maps = np.random.default_rng(0).normal(size=(3, 5, 4, 2))
    maps[1, :, 2, 0] = 0
    places = np.array([[0, 3, 1], [1, 2, 0], [2, 0, 0]])
    found = descriptors_at(maps, places)
    expected = maps[0, :, 3, 1] / np.sqrt((maps[0, :, 3, 1] ** 2).sum())
    np.testing.assert_allclose(found[0], expected)
    np.testing.assert_array_equal(found[1], 0)
    with pytest.raises(ShapeError, match=r"places \(M, 3\)"):
        descriptors_at(maps, places[:, :2])


def test_t_sne_keeps_groups_together_and_repeats_with_its_seed():
    vectors, labels = groups(0, (8, 8, 8))
    plane = embed_in_plane(vectors, seed=1)
    np.testing.assert_array_equal(plane, embed_in_plane(vectors, seed=1))
    np.testing.assert_array_equal((plane.min(axis=0), plane.max(axis=0)), [(0, 0), (1, 1)])
    distance = np.linalg.norm(plane[:, None] - plane, axis=2) + 9 * np.eye(len(plane))
    assert (labels[distance.argmin(axis=1)] == labels).all()


@pytest.mark.parametrize("descriptors", [np.ones((50, 4)), np.eye(3), np.ones((4, 4, 4))])
def test_too_few_different_descriptors_are_refused(descriptors):
    with pytest.raises(ShapeError, match="at least 4 different descriptors"):
        embed_in_plane(descriptors)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(MissingExtraError, match=r'scikit-learn.*pip install "partalign\[plot\]"'):
        embed_in_plane(groups(0)[0])


def test_a_patch_lies_around_its_place_and_the_edge_goes_on():
    pixels = np.zeros((100, 50, 3), np.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = np.arange(100)[:, None], np.arange(50)
    places = np.array([[0, 4, 2], [0, 0, 0]])
    middle, corner = cut_patches([Image.fromarray(pixels)], places, (10, 5), side=20)
    # Place (4, 2) of 10 x 5 is centred on pixel (45, 25); a fifth of the height is 20 pixels.
    np.testing.assert_array_equal(middle, pixels[35:55, 15:35])
    np.testing.assert_array_equal(corner[5:, 5:], pixels[:15, :15])
    assert (corner[:5] == corner[5]).all()


@pytest.mark.parametrize("seed", range(3))
def test_agreement_equals_counting_neighbour_by_neighbour(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, 3))
    labels, pictures = rng.integers(-1, 3, 40), rng.integers(0, 4, 40)
    hits = []
    for i in np.flatnonzero(labels >= 0):
        others = [j for j in np.flatnonzero(labels >= 0) if pictures[j] != pictures[i]]
        nearest = sorted(others, key=lambda j: -(vectors[i] @ vectors[j]))[:5]
        hits += [labels[j] == labels[i] for j in nearest]
    assert agreement(vectors, labels, pictures, k=5) == pytest.approx(np.mean(hits))


def test_agreement_of_groups_is_whole_and_of_one_picture_unknown():
    vectors, labels = groups(3)
    assert agreement(vectors, labels, np.arange(90)) == 1
    assert np.isnan(agreement(vectors, labels, np.zeros(90)))
    assert np.isnan(agreement(vectors, np.full(90, -1), np.arange(90)))
