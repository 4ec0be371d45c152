"""A gallery counted in parts is scored as the whole gallery at once, to the last digit and with every tie."""

from pathlib import Path

import numpy as np
import pytest

from partalign.crops import Crop, Embeddings
from partalign.errors import EvaluationError
from partalign.evaluation.evaluate import score
from partalign.evaluation.protocols import ALL_SHOTS, MARKET1501, SINGLE_CAMERA
from partalign.evaluation.strangers import Crowd, Known


def people(generator, count, persons, dimension, name):
    """Descriptors that cluster by person, a third of them exact copies of others; some junk, some distractors."""
    centres = np.random.default_rng(1).normal(size=(persons, dimension))
    who = generator.integers(0, persons, count)
    vectors = centres[who] + 1.5 * generator.normal(size=(count, dimension))
    copied = generator.random(count) < 0.3
    vectors[copied] = vectors[generator.integers(0, count, copied.sum())]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    labels = [f"{person:04}" for person in who + 1]
    for row in generator.integers(0, count, count // 10):
        labels[row] = generator.choice(["-1", "0000"])
    cameras = generator.integers(1, 4, count)
    crops = [Crop(Path(f"{name}/{i}.jpg"), labels[i], f"c{cameras[i]}") for i in range(count)]
    return Embeddings(vectors, tuple(crops))


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
@pytest.mark.parametrize("protocol", [MARKET1501, SINGLE_CAMERA, ALL_SHOTS])
@pytest.mark.parametrize(("dimension", "cuts"), [(512, 7), (32, 15), (5, 3)])
def test_counting_in_parts_gives_the_scores_of_the_whole(dimension, cuts, protocol, ties):
    generator = np.random.default_rng(dimension)
    query = people(generator, 70, 30, dimension, "query")
    query = query.select([row for row, crop in enumerate(query.crops) if crop.person not in ("-1", "0000")])
    gallery = people(generator, 1300, 160, dimension, "gallery")
    searched = {crop.person for crop in query.crops}
    held = [row for row, crop in enumerate(gallery.crops) if crop.person in searched]
    others = generator.permutation([row for row in range(len(gallery)) if row not in set(held)])
    # A stranger exactly as similar as a match, which only the same sum in the same order can tell.
    gallery.vectors[others[::9]] = gallery.vectors[generator.choice(held, len(others[::9]))]
    known = Known(query, gallery.select(held), protocol, ties)
    rivals, crowd = 0, Crowd()
    for part in np.array_split(others, cuts):
        strangers = gallery.select(part)
        crowd += Crowd.of(strangers.crops)
        rivals += known.rivals(strangers.vectors[[crop.person != "-1" for crop in strangers.crops]])
    found = known.score(rivals, crowd)
    expected = score(query, gallery, protocol, ties=ties)
    assert found.as_dict() == expected.as_dict()
    assert all(map(np.array_equal, found.ranks, expected.ranks))
    assert np.array_equal(found.cmc, expected.cmc)


def test_what_cannot_be_counted_is_refused():
    generator = np.random.default_rng(0)
    query = people(generator, 5, 3, 8, "query")
    with pytest.raises(EvaluationError, match="gallery crops have no person"):
        Crowd.of((Crop(Path("a.jpg")),))
    known = Known(query, query, SINGLE_CAMERA)
    with pytest.raises(EvaluationError, match="unit length"):
        known.rivals(np.ones((4, 8), np.float32))
    alone = Known(query.select([0]), query.select([0]), SINGLE_CAMERA)
    with pytest.raises(EvaluationError, match="none of 1 queries has a match"):
        alone.score(np.zeros(0, np.int64), Crowd())
