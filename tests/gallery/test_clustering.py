from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from gallery_records import MODEL, records, vectors
from partalign.errors import GalleryError
from partalign.gallery import Filter, Record
from partalign.gallery.clustering import cluster, connected
from partalign.gallery.people import merge, name_people, split


def by_hand(rows, similarity):
    """Average linkage, written out: join the two groups of the highest mean similarity while it reaches the limit."""
    groups = [[i] for i in range(len(rows))]
    pairs = rows.astype(np.float64) @ rows.T.astype(np.float64)
    while len(groups) > 1:
        best, a, b = max(
            (pairs[np.ix_(x, y)].mean(), i, j) for i, x in enumerate(groups) for j, y in enumerate(groups) if i < j
        )
        if best < similarity:
            break
        groups[a] += groups.pop(b)
    labels = np.empty(len(rows), int)
    for number, group in enumerate(sorted(groups, key=min)):
        labels[group] = number
    return labels


@settings(max_examples=40)
@given(st.integers(0, 25), st.integers(0, 10**6), st.floats(-0.9, 0.95), st.integers(2, 6))
def test_groups_are_those_of_the_definition(count, seed, similarity, dimension):
    rows = vectors(*range(seed, seed + count), dimension=dimension)
    assert cluster(rows, similarity).tolist() == by_hand(rows, similarity).tolist()


def test_persons_that_are_far_apart_are_found_at_scale():
    draw = np.random.default_rng(0)
    centres, person = draw.standard_normal((300, 64)), np.repeat(np.arange(300), 10)
    rows = centres[person] + 0.4 * draw.standard_normal((3000, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    assert adjusted_rand_score(person, cluster(rows, 0.6)) > 0.99
    assert len(set(connected(rows, 0.6).tolist())) > 100, "parts are small, so that memory stays small"


def test_what_cannot_be_clustered_is_told(monkeypatch):
    rows = np.repeat(vectors(1), 30, axis=0)
    monkeypatch.setattr("partalign.gallery.clustering.LARGEST", 20)
    with pytest.raises(GalleryError, match="hang together"):
        cluster(rows, 0.5)
    with pytest.raises(GalleryError, match="above -1"):
        cluster(rows, 1.5)


@pytest.fixture
def crowd(gallery):
    """Five persons of six crops, three of each in a tracklet, one crop of nobody; two crops have names already."""
    near = np.repeat(vectors(1, 2, 3, 4, 5), 6, axis=0) + 0.05 * np.random.default_rng(0).standard_normal((30, 16))
    made = [
        Record(f"r{i:04}", camera="c", tracklet=f"t{i // 6}" if i % 6 < 3 else None, person="anna" if i < 2 else None)
        for i in range(30)
    ]
    gallery.add([*made, *records(99)], np.concatenate([near, vectors(99)]))
    return gallery


def people(gallery):
    found = defaultdict(set)
    for record in gallery.records(Filter(labelled=True)):
        found[record.person].add(int(record.id[1:]))
    return dict(found)


def test_people_get_names_and_keep_those_they_have(crowd):
    tried = name_people(crowd, similarity=0.8, dry=True)
    assert set(people(crowd)) == {"anna"}
    done = name_people(crowd, similarity=0.8)
    assert done == tried
    assert (done.persons, done.named, done.records) == (5, 28, 29)
    found = people(crowd)
    assert found.pop("anna") == {0, 1}
    assert found == {f"person-{i + 1}": set(range(max(6 * i, 2), 6 * i + 6)) for i in range(5)}
    assert name_people(crowd, similarity=0.8).named == 0, "nothing is left but the crop of nobody"


def test_a_tracklet_is_one_person_however_its_crops_differ(gallery):
    gallery.add([*records(1, 2, 3, tracklet="t", camera="a"), *records(4, 5)], vectors(1, 2, 3, 4, 5))
    done = name_people(gallery, similarity=0.99)
    assert (done.persons, done.named) == (1, 3)
    assert people(gallery) == {"person-1": {1, 2, 3}}


def test_merge_and_split_by_hand_outlive_another_run(crowd):
    name_people(crowd, similarity=0.8)
    assert merge(crowd, "anna", ["person-1"]) == 4
    assert people(crowd)["anna"] == {0, 1, 2, 3, 4, 5}
    assert split(crowd, ["r0006", "r0007"]) == "person-6"
    assert split(crowd, ["r0008"], "berta") == "berta"
    assert [entry.action for entry in crowd.entries()] == ["split", "split", "merge", "cluster", "add"]
    name_people(crowd, similarity=0.8, again=True)
    found = people(crowd)
    assert found["anna"] == {0, 1, 2, 3, 4, 5}
    assert found["berta"] == {8}
    assert set().union(*found.values()) == set(range(30))
    assert len(found) == 6


@pytest.mark.parametrize(
    "wrong",
    [
        lambda g: merge(g, "anna", ["nobody"]),
        lambda g: merge(g, "anna", []),
        lambda g: split(g, ["r9999"]),
        lambda g: split(g, []),
        lambda g: split(g, ["r0001"], "a\nb"),
    ],
)
def test_unknown_names_change_nothing(crowd, wrong):
    before = crowd.records()
    with pytest.raises(GalleryError):
        wrong(crowd)
    assert crowd.records() == before


def test_only_chosen_records_are_named(crowd):
    done = name_people(crowd, Filter(ids=tuple(f"r{i:04}" for i in range(6, 12))), 0.8, least=7)
    assert (done.persons, done.records) == (0, 6)
    assert name_people(crowd, Filter(ids=tuple(f"r{i:04}" for i in range(6, 12))), 0.8).named == 6
    assert name_people(crowd, Filter(ids=("nobody",)), 0.8).records == 0
    assert crowd.model == MODEL
