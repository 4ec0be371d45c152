"""Random sequences of changes against a plain dictionary, on both stores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gallery_records import MODEL, vectors
from partalign.gallery import Filter, Record, open_gallery

ids = st.integers(0, 9).map("r{}".format)
cameras = st.sampled_from([None, "a", "b"])
some_tags = st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple)
record = st.builds(Record, ids, camera=cameras, tags=some_tags, time=st.none() | st.integers(0, 20).map(float))
where = st.builds(
    Filter,
    cameras=st.none() | st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
    not_cameras=st.lists(st.sampled_from(["a"]), max_size=1).map(tuple),
    tags=some_tags,
    since=st.none() | st.integers(0, 20),
    until=st.none() | st.integers(0, 20),
    not_ids=st.lists(ids, max_size=2).map(tuple),
)
change = st.one_of(
    st.tuples(st.just("add"), st.lists(st.tuples(record, st.integers(0, 30)), max_size=6)),
    st.tuples(st.just("remove"), where),
    st.tuples(st.just("update"), where, st.fixed_dictionaries({"camera": cameras, "tags": some_tags})),
    st.tuples(st.just("compact")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("search"), where, st.integers(100, 110), st.integers(1, 12), st.integers(0, 3)),
)


def passes(r, f):
    return (
        (f.cameras is None or r.camera in f.cameras)
        and r.camera not in f.not_cameras
        and set(f.tags) <= set(r.tags)
        and (f.since is None or (r.time is not None and r.time >= f.since))
        and (f.until is None or (r.time is not None and r.time <= f.until))
        and r.id not in f.not_ids
    )


def check_search(gallery, held, f, seed, limit, offset):
    query = vectors(seed)[0]
    scores = {name: vector @ query for name, (r, vector) in held.items() if passes(r, f)}
    found = gallery.search(query, f, limit=limit, offset=offset)
    best = sorted(scores.values(), reverse=True)[offset : offset + limit]
    assert [m.similarity for m in found] == pytest.approx(best, abs=1e-6)
    assert all(m.similarity == pytest.approx(scores[m.record.id], abs=1e-6) for m in found)


def run(address, changes):
    held: dict[str, tuple[Record, np.ndarray]] = {}
    gallery = open_gallery(address, model=MODEL, create=True)
    try:
        for kind, *what in changes:
            if kind == "add":
                pairs = what[0]
                rows = vectors(*(seed for _, seed in pairs))
                names = {r.id for r, _ in pairs}
                done = gallery.add([r for r, _ in pairs], rows)
                assert (done.new, done.replaced) == (len(names - held.keys()), len(names & held.keys()))
                held |= {r.id: (r, row) for (r, _), row in zip(pairs, rows, strict=True)}
            elif kind == "remove":
                gone = [name for name, (r, _) in held.items() if passes(r, what[0])]
                assert gallery.remove(what[0]) == len(gone)
                held = {name: value for name, value in held.items() if name not in gone}
            elif kind == "update":
                changed = [name for name, (r, _) in held.items() if passes(r, what[0])]
                assert gallery.update(what[0], **what[1]) == len(changed)
                held |= {name: (replace(held[name][0], **what[1]), held[name][1]) for name in changed}
            elif kind == "compact":
                gallery.compact()
            elif kind == "reopen":
                gallery.close()
                gallery = open_gallery(address, model=MODEL)
            else:
                check_search(gallery, held, *what)
        stored = gallery.records()
        assert [replace(r, added=None) for r in stored] == [held[name][0] for name in sorted(held)]
        assert np.array_equal(
            gallery.vectors(sorted(held)), np.array([held[n][1] for n in sorted(held)]).reshape(-1, MODEL.dimension)
        )
        assert gallery.verify() == []
    finally:
        gallery.close()


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(change, max_size=12))
def test_embedded(tmp_path_factory, changes):
    run(tmp_path_factory.mktemp("random") / "gallery", changes)


def test_server(postgres):
    numbers = iter(range(10**6))

    @settings(max_examples=30, suppress_health_check=list(HealthCheck))
    @given(changes=st.lists(change, max_size=12))
    def check(changes):
        run(f"{postgres}&gallery=random{next(numbers)}", changes)

    check()
