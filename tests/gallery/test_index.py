"""The approximate index of a gallery on a server: what it finds, with filters and after removals, and what it says."""

import itertools

import numpy as np
import pytest

from gallery_records import vectors
from partalign.cli import main
from partalign.errors import GalleryError
from partalign.gallery import Filter, ModelName, Record, open_gallery

WIDE = ModelName("wide", "1", 128)
COUNT = 2000


@pytest.fixture(scope="module")
def rows():
    return vectors(*range(COUNT), dimension=WIDE.dimension)


_numbers = itertools.count()


@pytest.fixture
def url(postgres):
    return f"{postgres}{'&' if '?' in postgres else '?'}gallery=index{next(_numbers)}"


@pytest.fixture
def crowd(url, rows):
    """2,000 random descriptors, the hardest for an index; camera c9 has one crop in fifty."""
    with open_gallery(url, model=WIDE, create=True) as made:
        made.add([Record(f"r{i:04}", camera="c9" if i % 50 == 0 else f"c{i % 3}") for i in range(COUNT)], rows)
        yield made


def exact(rows, query, passing, count):
    scores = rows @ query
    return [f"r{i:04}" for i in sorted(passing, key=lambda i: -scores[i])[:count]]


def ids(matches):
    return [match.record.id for match in matches]


def test_the_recall_that_is_printed_is_that_of_the_searches(crowd, url, rows, capsys):
    with pytest.raises(SystemExit) as end:
        main(["gallery", "index", url, "--queries", "60"])
    assert end.value.code == 0
    told = float(capsys.readouterr().out.rpartition(" ")[2].strip().rstrip("%")) / 100
    drawn = np.random.default_rng(0).permutation(COUNT)[:60]
    shares = []
    for i in drawn:
        best = set(exact(rows, rows[i], set(range(COUNT)) - {i}, 10))
        shares.append(len(best & set(ids(crowd.search_like([f"r{i:04}"], limit=10, exact=False)))) / 10)
    assert told == pytest.approx(np.mean(shares), abs=0.02)
    assert told == pytest.approx(crowd.recall(60), abs=6e-5)
    assert 0.5 < told < 1  # random descriptors are found in part: the index was used
    assert crowd.info().index == "HNSW"


def test_a_search_stays_exact_unless_it_is_asked_for_otherwise(crowd, rows):
    crowd.build_index(10)
    for query in vectors(*range(9000, 9010), dimension=WIDE.dimension):
        assert ids(crowd.search(query, limit=20)) == exact(rows, query, range(COUNT), 20)


@pytest.mark.parametrize("count", [5, 30, 60])
def test_an_approximate_search_with_a_rare_filter_finds_as_many_as_there_are(crowd, rows, count):
    crowd.build_index(10)
    rare = [i for i in range(COUNT) if i % 50 == 0]
    for query in vectors(*range(9000, 9010), dimension=WIDE.dimension):
        found = crowd.search(query, Filter(cameras=("c9",)), limit=count, exact=False)
        assert {match.record.camera for match in found} == {"c9"}
        assert len(found) == min(count, len(rare))
        assert [match.similarity for match in found] == sorted((m.similarity for m in found), reverse=True)
        for match in found:
            assert match.similarity == pytest.approx(float(rows[int(match.record.id[1:])] @ query), abs=1e-5)


def test_removed_replaced_and_added_crops_are_right_in_the_index(crowd, rows):
    crowd.build_index(10)
    gone = tuple(f"r{i:04}" for i in range(0, 1000))
    crowd.remove(Filter(ids=gone))
    far = vectors(7777, dimension=WIDE.dimension)
    crowd.add([Record("r1500")], far)  # replaced: another descriptor
    crowd.add([Record("new")], rows[:1])
    for query in (rows[5], rows[1500], far[0], rows[0]):
        found = ids(crowd.search(query, limit=30, exact=False))
        assert len(found) == len(set(found)) == 30
        assert not set(found) & set(gone)
    assert ids(crowd.search(far[0], limit=1, exact=False)) == ["r1500"]
    assert ids(crowd.search(rows[0], limit=1, exact=False)) == ["new"]
    crowd.forget(person="nobody")
    crowd.compact()
    assert ids(crowd.search(rows[0], limit=1, exact=False)) == ["new"]
    assert crowd.verify() == []


def test_more_results_than_the_index_looks_through_at_once(crowd):
    crowd.build_index(10)
    query = vectors(9000, dimension=WIDE.dimension)[0]
    found = ids(crowd.search(query, limit=1500, exact=False))
    assert len(found) == len(set(found)) == 1500
    second = ids(crowd.search(query, limit=100, offset=100, exact=False))
    assert len(set(second) & set(found[:400])) > 80


def test_building_again_and_dropping(crowd):
    first = crowd.build_index(20)
    assert crowd.build_index(20) == first
    crowd.drop_index()
    assert crowd.info().index is None
    assert crowd.recall(20) == 1  # without an index every search is exact


@pytest.mark.parametrize("number", [0, 1, 3])
def test_the_recall_of_a_tiny_gallery_is_whole(url, number):
    with open_gallery(url, model=WIDE, create=True) as made:
        if number:
            made.add([Record(f"r{i}") for i in range(number)], vectors(*range(number), dimension=WIDE.dimension))
        assert made.build_index() == 1


def test_too_long_descriptors_and_folders_are_refused_in_a_line(url, tmp_path):
    long = ModelName("long", "1", 2001)
    with open_gallery(url, model=long, create=True) as made, pytest.raises(GalleryError, match="at most 2000 numbers"):
        made.build_index()
    with open_gallery(tmp_path / "g", model=WIDE, create=True) as made, pytest.raises(GalleryError, match="exactly"):
        made.build_index()
