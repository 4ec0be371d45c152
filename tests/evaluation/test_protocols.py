from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from partalign.crops import Crop
from partalign.errors import EvaluationError
from partalign.evaluation.protocols import MARKET1501, PROTOCOLS, SINGLE_CAMERA, Protocol, named

examples = settings(max_examples=200, deadline=None)  # the machine may be busy
persons = st.sampled_from(["0001", "0002", "0003", "0000", "-1"])
cameras = st.sampled_from(["1", "2"])


def crops(pairs, folder="gallery"):
    return [Crop(Path(f"{folder}/{i}.jpg"), person, camera) for i, (person, camera) in enumerate(pairs)]


def rows(arrays):
    return [a.tolist() for a in arrays]


@examples
@given(st.lists(st.tuples(persons, cameras)), st.lists(st.tuples(persons, cameras)))
def test_market_rules(query, gallery):
    relevance = MARKET1501.relevance(crops(query, "query"), crops(gallery))
    assert relevance.junk.tolist() == [j for j, (p, _) in enumerate(gallery) if p == "-1"]
    for (person, camera), matches, ignored in zip(query, relevance.matches, relevance.ignored, strict=True):
        same = [j for j, (p, _) in enumerate(gallery) if p == person != "-1"]
        assert matches.tolist() == [j for j in same if gallery[j][1] != camera]
        assert ignored.tolist() == [j for j in same if gallery[j][1] == camera]


@examples
@given(st.lists(st.tuples(persons, cameras)))
def test_single_camera_ignores_the_own_picture_only(gallery):
    everyone = crops(gallery)
    relevance = SINGLE_CAMERA.relevance(everyone, everyone)
    for i, (person, _) in enumerate(gallery):
        same = [j for j, (p, _) in enumerate(gallery) if p == person != "-1"]
        assert relevance.matches[i].tolist() == [j for j in same if j != i]
        assert relevance.ignored[i].tolist() == [j for j in same if j == i]


def test_single_camera_knows_the_own_picture_through_links_and_other_spellings(tmp_path):
    gallery, query = tmp_path / "gallery", tmp_path / "query"
    gallery.mkdir()
    query.mkdir()
    (gallery / "a.jpg").touch()
    (gallery / "b.jpg").touch()
    (query / "link.jpg").symlink_to(gallery / "a.jpg")
    (query / "b.jpg").touch()  # another file of the same name
    of_gallery = [Crop(gallery / "a.jpg", "7"), Crop(gallery / "b.jpg", "7")]
    of_query = [
        Crop(query / "link.jpg", "7"),
        Crop(gallery / ".." / "gallery" / "b.jpg", "7"),
        Crop(query / "b.jpg", "7"),
    ]
    relevance = SINGLE_CAMERA.relevance(of_query, of_gallery)
    assert rows(relevance.ignored) == [[0], [1], []]
    assert rows(relevance.matches) == [[1], [0], [0, 1]]


def test_missing_person_or_camera_is_told_with_counts():
    query, gallery = crops([("1", "1"), ("2", None)], "query"), crops([("1", "2"), (None, "1"), ("1", None)])
    with pytest.raises(EvaluationError, match=r"1 of 3 gallery crops have no person.* gallery/1\.jpg"):
        MARKET1501.relevance(query[:1], gallery)
    with pytest.raises(EvaluationError, match=r"1 of 2 query crops have no camera.* query/1\.jpg.*same_camera=keep"):
        MARKET1501.relevance(query, gallery[:1])
    with pytest.raises(EvaluationError, match=r"1 of 2 gallery .*crops have no camera.* gallery/2\.jpg"):
        MARKET1501.relevance(query[:1], [gallery[0], gallery[2]])
    with pytest.raises(EvaluationError, match="1 of 1 query crops have no person"):
        SINGLE_CAMERA.relevance(crops([(None, "1")]), gallery[:1])


def test_cameras_of_crops_that_cannot_match_are_not_asked_for():
    gallery = crops([("1", "2"), ("0000", None), ("-1", None), ("9", None)])
    relevance = MARKET1501.relevance(crops([("1", "1")], "query"), gallery)
    assert rows(relevance.matches) == [[0]]
    assert relevance.junk.tolist() == [2]
    without_cameras = [Crop(c.path, c.person) for c in gallery]
    assert rows(SINGLE_CAMERA.relevance([Crop(Path("q.jpg"), "1")], without_cameras).matches) == [[0]]


def test_results_of_the_two_cannot_be_taken_for_each_other():
    assert (MARKET1501.name, SINGLE_CAMERA.name) == ("market1501", "single-camera")
    assert replace(MARKET1501, same_camera="keep", name="single-camera") == SINGLE_CAMERA


def test_unknown_choice_is_refused():
    with pytest.raises(EvaluationError, match="ignore, keep, tracklet, found 'drop'"):
        Protocol(same_camera="drop")  # type: ignore[arg-type]


def test_protocols_by_name():
    assert all(named(name).name == name for name in PROTOCOLS)
    with pytest.raises(EvaluationError, match="found 'Mars1'; did you mean mars"):
        named("Mars1")


def test_only_the_own_tracklet_is_left_out():
    gallery = [Crop(Path(f"{i}.jpg"), "1", "c1", tracklet) for i, tracklet in enumerate("aabb")]
    relevance = Protocol(same_camera="tracklet").relevance(gallery[:1], gallery)
    assert (rows(relevance.matches), rows(relevance.ignored)) == ([[2, 3]], [[0, 1]])
    with pytest.raises(EvaluationError, match="1 of 1 query crops have no tracklet"):
        Protocol(same_camera="tracklet").relevance([Crop(Path("q.jpg"), "1", "c1")], gallery)


@pytest.mark.shared
def test_official_market_lists(shared):
    def listed(name):
        lines = (shared / "data/protocols/market1501" / name).read_text().split()
        pairs = [line.split(",") for line in lines]
        return [Crop(Path(path), person, path.split("_c")[1][0]) for person, path in pairs]

    query, gallery = listed("market1501_query.csv"), listed("market1501_test.csv")
    relevance = MARKET1501.relevance(query, gallery)
    assert (len(query), len(gallery), len(relevance.junk)) == (3368, 19_732, 3819)
    assert all(len(m) for m in relevance.matches)
    found = {c.person for c in query}
    assert (len(found), sum(c.person == "0000" for c in gallery)) == (750, 2798)
    of_gallery = np.array([c.person for c in gallery])
    for crop, matches, ignored in zip(query, relevance.matches, relevance.ignored, strict=True):
        assert len(matches) + len(ignored) == np.count_nonzero(of_gallery == crop.person)
        assert {gallery[j].camera for j in ignored} <= {crop.camera}
