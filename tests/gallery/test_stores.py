"""What every gallery does, on both stores."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest

from gallery_records import MODEL, records, start_server, vectors
from partalign.errors import GalleryError
from partalign.gallery import Filter, ModelName, Record, forgetting, open_gallery

JPEG = b"\xff\xd8 a small picture \xff\xd9"


def ids(matches):
    return [match.record.id for match in matches]


def fill(gallery, count=60):
    """Persons of three crops, one in each of three cameras, a tracklet of two crops; times are seconds or dates."""
    made = [
        Record(
            f"r{i:04}",
            person=f"p{i // 3}" if i < 30 else None,
            camera=f"c{i % 3}",
            time=float(i) if i < 40 else 1.7e9 + i,
            source=f"video{i % 2}.mp4",
            tracklet=f"t{i // 2}",
            tags=("night",) if i % 4 == 0 else (),
        )
        for i in range(count)
    ]
    rows = vectors(*range(count))
    gallery.add(made, rows, [JPEG + bytes([i]) for i in range(count)])
    return made, rows


def expected(rows, query, passing, count):
    """The ids that a plain product and a full sort give."""
    scores = rows @ query
    order = sorted(passing, key=lambda i: (-scores[i], i))
    return [f"r{i:04}" for i in order[:count]]


def test_what_was_added_is_there_after_reopening_too(gallery, address):
    made, rows = fill(gallery)
    with open_gallery(address) as again:
        found = again.records()
        assert [replace(record, added=None) for record in found] == made
        assert all(abs(record.added - time.time()) < 600 for record in found)
        assert np.array_equal(again.vectors(["r0003", "r0001"]), rows[[3, 1]])
        assert again.thumbnails(["r0003", "nobody"]) == {"r0003": JPEG + bytes([3])}
        assert again.model == MODEL
        assert again.verify() == []


def test_searches_are_exact_with_each_filter(gallery):
    made, rows = fill(gallery)
    query = vectors(1000)[0]
    filters = {
        Filter(): lambda r: True,
        Filter(cameras=("c1",)): lambda r: r.camera == "c1",
        Filter(cameras=("c0", "c2")): lambda r: r.camera in ("c0", "c2"),
        Filter(not_cameras=("c0", "c2")): lambda r: r.camera == "c1",
        Filter(since=10, until=20): lambda r: 10 <= r.time <= 20,
        Filter(until=1.7e9 + 45): lambda r: 1e8 <= r.time <= 1.7e9 + 45,  # places in videos are before no date
        Filter(until=float("inf")): lambda r: r.time is not None,
        Filter(tags=("night",)): lambda r: "night" in r.tags,
        Filter(not_tags=("night", "day")): lambda r: "night" not in r.tags,
        Filter(persons=("p1", "p2")): lambda r: r.person in ("p1", "p2"),
        Filter(tracklets=("t7",)): lambda r: r.tracklet == "t7",
        Filter(sources=("video1.mp4",)): lambda r: r.source == "video1.mp4",
        Filter(ids=("r0001", "r0050")): lambda r: r.id in ("r0001", "r0050"),
        Filter(not_ids=("r0001",)): lambda r: r.id != "r0001",
        Filter(labelled=True): lambda r: r.person is not None,
        Filter(labelled=False): lambda r: r.person is None,
        Filter(after="r0030"): lambda r: r.id > "r0030",
        Filter(older_than=1.7e9 + 45): lambda r: 1e8 <= r.time < 1.7e9 + 45,
        Filter(added_since=1e9): lambda r: True,
        Filter(added_until=1e9): lambda r: False,
        Filter(cameras=("c1",), since=5, tags=("night",)): lambda r: r.camera == "c1" and r.time >= 5 and r.tags,
        Filter(cameras=()): lambda r: False,
    }
    for where, passes in filters.items():
        passing = [i for i, record in enumerate(made) if passes(record)]
        found = gallery.search(query, where, limit=7)
        assert ids(found) == expected(rows, query, passing, 7), where
        assert [match.rank for match in found] == list(range(1, len(found) + 1))
        assert [m.similarity for m in found] == pytest.approx(
            [rows[int(m.record.id[1:])] @ query for m in found], abs=1e-6
        )
        assert gallery.count(where) == len(passing)
        assert [record.id for record in gallery.records(where)] == [made[i].id for i in passing]


def test_pages_follow_each_other(gallery):
    fill(gallery)
    query = vectors(1000)[0]
    whole = ids(gallery.search(query, limit=60))
    paged = [match for offset in range(0, 60, 7) for match in gallery.search(query, limit=7, offset=offset)]
    assert ids(paged) == whole
    assert [match.rank for match in paged] == list(range(1, 61))
    assert gallery.search(query, limit=7, offset=60) == []
    assert [[r.id for r in page] for page in gallery.pages(size=25)] == [
        [f"r{i:04}" for i in range(first, min(first + 25, 60))] for first in (0, 25, 50)
    ]


def test_several_pictures_count_by_their_mean_or_their_best(gallery):
    _, rows = fill(gallery)
    queries = vectors(1000, 1001, 1002) * [[1], [2], [3]]  # lengths do not matter
    unit = vectors(1000, 1001, 1002)
    mean = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
    assert ids(gallery.search(queries, limit=60)) == expected(rows, mean, range(60), 60)
    best = (rows @ unit.T).max(axis=1)
    found = gallery.search(queries, limit=10, combine="max")
    assert ids(found) == [f"r{i:04}" for i in np.argsort(-best)[:10]]
    assert [match.similarity for match in found] == pytest.approx(np.sort(best)[::-1][:10], abs=1e-6)
    each = gallery.search_many(queries, limit=5)
    assert [ids(matches) for matches in each] == [expected(rows, query, range(60), 5) for query in unit]


def test_search_by_records_leaves_them_and_if_asked_their_cameras_out(gallery):
    made, rows = fill(gallery)
    others = [i for i in range(60) if i != 4]
    assert ids(gallery.search_like(["r0004"], limit=60)) == expected(rows, rows[4], others, 60)
    others = [i for i in range(60) if made[i].camera != "c1"]
    assert ids(gallery.search_like(["r0004"], other_cameras=True, limit=60)) == expected(rows, rows[4], others, 60)
    mean = rows[[4, 5]].sum(axis=0)
    others = [i for i in range(60) if i not in (4, 5) and made[i].camera == "c0"]
    found = gallery.search_tracklet("t2", Filter(cameras=("c0",)), limit=60)
    assert ids(found) == expected(rows, mean, others, 60)
    assert ids(gallery.search_tracklet("t2", camera="c1", limit=1)) == expected(rows, rows[4], set(range(60)) - {4}, 1)
    with pytest.raises(GalleryError, match="nobody"):
        gallery.search_like(["r0004", "nobody"])
    with pytest.raises(GalleryError, match="t99"):
        gallery.search_tracklet("t99")


def test_results_grouped_by_tracklet(gallery):
    rows = vectors(*range(400))
    # 390 crops of one tracklet stand before all others.
    near = rows[0] + 0.01 * rows[1:391]
    made = [Record(f"r{i:04}", camera="a", tracklet="long") for i in range(1, 391)]
    made += [Record("x1", camera="b", tracklet="long"), Record("x2", camera="b", tracklet="long")]
    made += [Record("y1"), Record("y2")]
    gallery.add(made, np.concatenate([near, rows[[391, 392, 393, 394]]]))
    found = gallery.search(rows[0], limit=4, group=True)
    assert sorted(
        (match.record.camera, match.record.tracklet, match.more) for match in found if match.record.camera
    ) == [
        ("a", "long", 389),
        ("b", "long", 1),
    ]
    assert {match.record.id for match in found if not match.record.camera} == {"y1", "y2"}
    scores = near @ rows[0] / np.linalg.norm(near, axis=1)
    assert found[0].record.id == f"r{np.argmax(scores) + 1:04}"
    assert gallery.search(rows[0], limit=2, offset=2, group=True) == found[2:]
    # Before the others of the tracklet were looked through, too; a crop without a tracklet has no others.
    assert [match.more for match in gallery.search(rows[0], limit=1, group=True)] == [389]
    assert gallery.search(rows[392], Filter(ids=("x1", "x2", "y1")), limit=1, group=True)[0].more == 1
    assert gallery.search(rows[394], limit=1, group=True)[0].more == 0


def test_reranking_and_probability_are_handed_in(gallery):
    _, rows = fill(gallery)
    query = vectors(1000)[0]
    plain = gallery.search(query, limit=60)
    seen = []

    def backwards(queries, top):
        seen.append((queries.shape, top))
        return np.arange(len(top))

    found = gallery.search(query, limit=60, rerank=backwards, rerank_top=10, probability=lambda s: (s + 1) / 2)
    assert ids(found) == ids(plain)[:10][::-1] + ids(plain)[10:]
    assert seen[0][0] == (1, MODEL.dimension)
    assert np.array_equal(seen[0][1], rows[[int(name[1:]) for name in ids(plain)[:10]]])
    assert [m.probability for m in found] == pytest.approx([(m.similarity + 1) / 2 for m in found])
    assert [match.rank for match in found] == list(range(1, 61))
    assert ids(gallery.search(query, limit=3, offset=2, rerank=backwards, rerank_top=10)) == ids(found)[2:5]


def test_the_same_id_again_replaces_the_record(gallery):
    assert gallery.add(records(1, 2, camera="old"), vectors(1, 2), [JPEG, None]) == type(gallery.add([], vectors()))(
        2, 0
    )
    done = gallery.add(records(2, 3, camera="new"), vectors(22, 3))
    assert (done.new, done.replaced) == (1, 1)
    done = gallery.add([*records(1, camera="first"), *records(1, camera="last")], vectors(1, 11))
    assert (done.new, done.replaced) == (0, 1)
    assert [record.camera for record in gallery.records()] == ["last", "new", "new"]
    assert np.array_equal(gallery.vectors(["r0001", "r0002", "r0003"]), vectors(11, 22, 3))
    assert gallery.thumbnails(["r0001"]) == {"r0001": JPEG}, "stays where no new one is given"
    assert gallery.verify() == []


def test_records_are_changed_counted_and_removed(gallery):
    fill(gallery)
    assert gallery.update(Filter(persons=("p0",)), person="anna", tags=("z", "a", "a")) == 3
    assert gallery.get("r0001").person == "anna"
    assert gallery.get("r0001").tags == ("a", "z")
    assert gallery.update(Filter(ids=("r0001",)), person=None, time=7) == 1
    assert (gallery.get("r0001").person, gallery.get("r0001").time) == (None, 7.0)
    assert gallery.values("person")["anna"] == 2
    assert gallery.values("tags") == {"a": 3, "night": 14, "z": 3}
    assert gallery.values("camera") == {"c0": 20, "c1": 20, "c2": 20}
    assert gallery.remove(Filter(cameras=("c1",)), who="test") == 20
    assert gallery.remove(Filter(cameras=("c1",))) == 0
    assert gallery.count() == 40
    assert gallery.get("r0001") is None
    assert gallery.thumbnails(["r0001", "r0002"]).keys() == {"r0002"}
    info = gallery.info()
    assert (info.records, info.cameras, info.unlabelled, info.first, info.last) == (40, 2, 20, 0.0, 1.7e9 + 59)
    assert info.model == MODEL
    assert info.bytes > 0
    assert gallery.verify() == []
    assert (gallery.entries()[1].action, gallery.entries()[1].who) == ("remove", "test")
    assert gallery.entries()[1].details == {"removed": 20, "where": {"cameras": ["c1"]}}


def test_tags_are_added_and_dropped_beside_those_that_records_have(gallery):
    made = [Record("a", camera="x", tags=("Z", "b")), Record("b", tags=()), Record("c", tags=("ä", "b"))]
    gallery.add(made, vectors(1, 2, 3))
    assert gallery.update(Filter(), add_tags=("é", "b", "a"), drop_tags=("Z", "none")) == 3
    assert [record.tags for record in gallery.records()] == [("a", "b", "é"), ("a", "b", "é"), ("a", "b", "ä", "é")]
    gallery.update(Filter(cameras=("x",)), drop_tags=("a", "b", "é"), camera="y")
    assert (gallery.get("a").tags, gallery.get("a").camera) == ((), "y")
    assert gallery.values("tags") == {"a": 2, "b": 2, "ä": 1, "é": 2}
    for wrong in ({"tags": ("x",), "add_tags": ("y",)}, {"add_tags": ("a\nb",)}, {"drop_tags": ("",)}):
        with pytest.raises(GalleryError):
            gallery.update(Filter(), **wrong)


def test_forget_by_person_and_by_age(gallery):
    fill(gallery)
    assert gallery.forget(person="p3") == 3
    assert gallery.forget(before=1.7e9 + 50) == 10, "those with a date are as old as it; the others were added now"
    assert gallery.count() == 47
    gallery.add([Record("old", time=5.0, added=1.5e9), Record("older", added=1.4e9)], vectors(70, 71))
    assert gallery.forget(before=1.6e9) == 2
    assert gallery.forget(person="p3") == 0
    told = str(gallery.entries())
    assert "forget a person" in told
    assert "p3" not in told
    with pytest.raises(GalleryError, match="either"):
        gallery.forget()


def details(gallery, action):
    return [entry.details for entry in gallery.entries() if entry.action == action]


def test_who_is_forgotten_is_in_no_tag_and_no_line_of_the_log(gallery):
    fill(gallery)
    gallery.update(Filter(ids=("r0040", "r0041")), tags=("not:p3", "not:p4", "night"))
    gallery.update(Filter(ids=("r0042",)), tags=("not:p3",))
    gallery.log("search", like=["r0009", "r0040"], where={"persons": ["p3", "p4"], "tags": ["not:p3"]}, results=20)
    gallery.log("search", tracklet="t5", camera="c0", results=3)  # of r0010 and r0011, who are p3
    gallery.log("search", tracklet="t4", camera="c0", results=3)  # of r0008 and r0009: p2's crop is left
    gallery.log("confirm", person="p3", record="r0041")
    lines = len(gallery.entries())
    assert gallery.forget(person="p3", who="test") == 3
    assert gallery.get("r0040").tags == ("night", "not:p4")
    assert gallery.get("r0042").tags == ()
    assert gallery.values("tags").keys() == {"night", "not:p4"}
    mark = "(forgotten)"
    assert details(gallery, "search") == [
        {"tracklet": "t4", "camera": "c0", "results": 3},
        {"tracklet": mark, "camera": "c0", "results": 3},
        {"like": [mark, "r0040"], "where": {"persons": [mark, "p4"], "tags": [mark]}, "results": 20},
    ]
    assert details(gallery, "confirm") == [{"person": mark, "record": "r0041"}]
    assert len(gallery.entries()) == lines + 1, "no line is lost, and this is one"
    assert (gallery.entries(1)[0].action, gallery.entries(1)[0].details) == ("forget a person", {"removed": 3})
    assert gallery.verify() == []


def test_a_name_without_records_is_forgotten_in_tags_and_log_too(gallery):
    fill(gallery, 3)
    gallery.update(Filter(ids=("r0001",)), tags=("not:late",))
    gallery.log("merge", names=["late", "later"])
    assert gallery.forget(person="late") == 0
    assert gallery.get("r0001").tags == ()
    assert details(gallery, "merge") == [{"names": ["(forgotten)", "later"]}]


def test_by_age_who_has_no_record_left_is_forgotten(gallery):
    old, new = 1.5e9, 1.7e9
    made = [Record("a", "anna", time=old, tracklet="t", source="s"), Record("b", "berta", time=old, source="s")]
    made += [Record("c", "berta", time=new, tags=("not:anna", "not:carla"), source="s")]
    gallery.add(made, vectors(1, 2, 3))
    gallery.log("search", like=["a", "b", "c"], where={"persons": ["anna", "berta", "carla"], "sources": ["s"]})
    gallery.log("search", tracklet="t", where={"until": old})
    assert gallery.forget(before=1.6e9) == 2
    assert gallery.get("c").tags == ("not:carla",)
    mark = "(forgotten)"
    assert details(gallery, "search") == [
        {"tracklet": mark, "where": {"until": old}},
        {"like": [mark, mark, "c"], "where": {"persons": [mark, "berta", "carla"], "sources": ["s"]}},
    ]


def test_forgetting_reaches_every_line_of_a_long_log(gallery, monkeypatch):
    monkeypatch.setattr(forgetting, "_AT_ONCE", 2)
    for number in range(7):
        gallery.log("search", where={"persons": ["anna"]}, number=number)
    gallery.forget(person="anna")
    assert details(gallery, "search") == [
        {"where": {"persons": ["(forgotten)"]}, "number": number} for number in reversed(range(7))
    ]


def test_the_log_keeps_who_searched(gallery):
    gallery.log("search", who="10.0.0.7", matches=20, words=["a"])
    gallery.log("search")
    entries = gallery.entries()
    assert [(entry.action, entry.who, entry.details) for entry in entries] == [
        ("search", None, {}),
        ("search", "10.0.0.7", {"matches": 20, "words": ["a"]}),
    ]
    assert len(gallery.entries(1)) == 1


def test_every_change_is_in_the_log_and_every_search_of_who_says_it(gallery, address):
    fill(gallery)
    gallery.add(records(1, 70), vectors(1, 70), who="anna", action="import")
    gallery.update(Filter(cameras=("c1",), since=-math.inf), camera="hall", tags=("a",), who="anna")
    gallery.name({"r0001": "berta", "r0002": None}, who="anna")
    gallery.search(vectors(1, 2), Filter(not_tags=("a",)), limit=5, peek=True, who="anna")
    gallery.search_like(["r0003"], other_cameras=True, limit=7, who="anna")
    gallery.search_tracklet("t2", camera="c2", group=True, who="anna")
    gallery.search_many(vectors(1, 2), Filter(labelled=True), who="anna")
    gallery.search(vectors(1))  # by a program that does not say for whom
    gallery.remove(Filter(ids=("r0003",)), who="anna")
    gallery.forget(before=1.0, who="anna")
    entries = gallery.entries()[::-1]
    assert [entry.who for entry in entries] == [None, *["anna"] * 9]
    assert [(entry.action, entry.details) for entry in entries] == [
        ("add", {"new": 60, "replaced": 0}),
        ("import", {"new": 1, "replaced": 1}),
        (
            "change",
            {"records": 19, "where": {"cameras": ["c1"], "since": "-inf"}, "to": {"camera": "hall", "tags": ["a"]}},
        ),
        ("cluster", {"records": 2}),
        ("search", {"pictures": 2, "results": 5, "where": {"not_tags": ["a"]}}),
        ("search", {"like": ["r0003"], "results": 7, "where": {"not_cameras": ["c0"]}}),
        ("search", {"tracklet": "t2", "camera": "c2", "results": 20}),
        ("search", {"pictures": 2, "each": True, "where": {"labelled": True}}),
        ("remove", {"removed": 1, "where": {"ids": ["r0003"]}}),
        ("forget by age", {"removed": 0}),
    ]
    with open_gallery(address, model=MODEL, read_only=True) as plain:
        assert plain.search(vectors(1), limit=1, who="anna")
    assert len(gallery.entries()) == len(entries), "opened for reading only, nothing is written"


def test_one_match_more_tells_whether_there_are_further_ones(gallery):
    fill(gallery)
    query = vectors(1000)[0]
    assert len(gallery.search(query, limit=7, peek=True)) == 8
    assert len(gallery.search(query, limit=7, offset=53, peek=True)) == 7


def test_the_log_stays_whole_unless_old_lines_are_to_go(gallery, monkeypatch):
    for day in range(5):
        monkeypatch.setattr(time, "time", lambda day=day: 1.7e9 + 86400 * day)
        gallery.log("search", day=day)
    gallery.compact()
    assert len(gallery.entries()) == 5
    gallery.compact(log_before=1.7e9 + 86400 * 2, who="anna")
    shortened, *left = gallery.entries()
    assert [entry.details["day"] for entry in left] == [4, 3, 2]
    assert (shortened.action, shortened.who, shortened.details["lines"]) == ("shorten the log", "anna", 2)


def test_compact_changes_no_answer(gallery):
    _, rows = fill(gallery)
    gallery.remove(Filter(cameras=("c0",)))
    gallery.add(records(1), vectors(99))
    before = gallery.search(rows[1], limit=60)
    gallery.compact()
    assert gallery.search(rows[1], limit=60) == before
    assert gallery.verify() == []
    gallery.add(records(100), vectors(100))
    assert ids(gallery.search(vectors(100)[0], limit=1)) == ["r0100"]


@pytest.mark.parametrize(
    "model", [ModelName("light", "0f3b", 16), ModelName("other", "0f3a", 16), ModelName("light", "0f3a", 8)]
)
def test_descriptors_of_another_model_are_refused(gallery, address, model):
    fill(gallery)
    with pytest.raises(GalleryError, match="cannot be compared"):
        open_gallery(address, model=model)
    with pytest.raises(GalleryError, match="cannot be compared"):
        open_gallery(address, model=model, create=True)


def test_without_a_model_a_gallery_is_read_but_takes_no_descriptors(gallery, address):
    fill(gallery)
    with open_gallery(address) as plain:
        assert len(plain.search_like(["r0001"])) == 20
        assert plain.count() == 60
        with pytest.raises(GalleryError, match="which model"):
            plain.add(records(1), vectors(1))
        with pytest.raises(GalleryError, match="which model"):
            plain.search(vectors(1))


def test_opened_for_reading_only_nothing_changes(gallery, address):
    _, rows = fill(gallery)
    with open_gallery(address, model=MODEL, read_only=True) as plain:
        assert len(plain.search(rows[0])) == 20
        for change in (
            lambda: plain.add(records(1), vectors(1)),
            lambda: plain.remove(Filter()),
            lambda: plain.update(Filter(), person="x"),
            lambda: plain.log("search"),
            lambda: plain.compact(),
        ):
            with pytest.raises(GalleryError, match="reading only"):
                change()
    assert gallery.count() == 60


def test_a_standby_is_searched_and_changes_nothing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standby", numbered=True)
    server = start_server(folder)
    try:
        with open_gallery(server.get_uri(), model=MODEL, create=True) as gallery:
            _, rows = fill(gallery)
            found = gallery.search(rows[0], limit=5)
        server.stop()
        (folder / "standby.signal").touch()
        server.ensure_postgres_running()
        with open_gallery(server.get_uri(), model=MODEL) as gallery:
            assert gallery.search(rows[0], limit=5, who="looker") == found
            with pytest.raises(GalleryError, match="may not do that there"):
                gallery.remove(Filter(ids=("r0000",)))
    finally:
        server.cleanup()


def test_a_user_who_may_only_look_on_searches_and_leaves_no_line(postgres):
    url = f"{postgres}{'&' if '?' in postgres else '?'}gallery=looked_on"
    with open_gallery(url, model=MODEL, create=True) as gallery:
        _, rows = fill(gallery)
        found = gallery.search(rows[0], limit=5)
        gallery._server.script(
            "CREATE ROLE looker LOGIN; GRANT USAGE ON SCHEMA partalign_looked_on TO looker;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA partalign_looked_on TO looker"
        )
        lines = len(gallery.entries())
        with open_gallery(url.replace("postgres:", "looker:", 1), model=MODEL) as theirs:
            assert theirs.search(rows[0], limit=5, who="looker") == found
            with pytest.raises(GalleryError, match="may not do that there"):
                theirs.remove(Filter(ids=("r0000",)))
        assert len(gallery.entries()) == lines


def test_a_missing_gallery_is_not_made_by_opening_it(address):
    with pytest.raises(GalleryError, match="partalign gallery add"):
        open_gallery(address, model=MODEL)
    with pytest.raises(GalleryError, match="expected a gallery"):
        open_gallery(address, create=True)


@pytest.mark.parametrize(
    "rows",
    [
        np.full((1, 16), np.nan),
        np.zeros((1, 16)),
        np.full((1, 16), np.inf),
        np.ones((1, 8)),
        np.ones((2, 16)),
        np.ones(16),
    ],
)
def test_bad_descriptors_change_nothing(gallery, rows):
    fill(gallery)
    with pytest.raises(GalleryError):
        gallery.add(records(1, camera="new"), rows)
    assert gallery.count(Filter(cameras=("new",))) == 0
    assert gallery.verify() == []


def test_extreme_descriptors_are_scaled_not_refused(gallery):
    gallery.add(records(1, 2), np.array([np.full(16, 3e38), np.full(16, 1e-38)], np.float32))
    assert np.allclose(gallery.vectors(["r0001", "r0002"]), 0.25)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Record(""),
        lambda: Record("a\nb"),
        lambda: Record("a", person=" "),
        lambda: Record("a", camera="\0"),
        lambda: Record("a", source="\ud800"),
        lambda: Record("a", time=math.nan),
        lambda: Record("a", time=True),
        lambda: Record("a", tags=("x", "")),
        lambda: Record("a", box=(1, 2, 3)),
        lambda: Record(7),
        lambda: Record.from_dict({"id": "a", "colour": "red"}),
        lambda: Record.from_dict({"person": "a"}),
        lambda: Filter(cameras="c1"),
        lambda: Filter(since="monday"),
        lambda: Filter(labelled=1),
    ],
)
def test_bad_records_and_filters_are_refused(make):
    with pytest.raises(GalleryError, match="expected"):
        make()


def test_what_would_be_ignored_is_refused(gallery):
    gallery.add(records(1, 2), vectors(1, 2))
    with pytest.raises(GalleryError, match="known camera to leave out"):
        gallery.search_like(["r0001"], other_cameras=True)
    for search in (gallery.search, gallery.search_many):
        with pytest.raises(GalleryError, match="approximate index"):
            search(vectors(1), exact=False)


def test_wrong_arguments_are_told(gallery):
    fill(gallery)
    for wrong in (
        lambda: gallery.search(vectors(1), limit=0),
        lambda: gallery.search(vectors(1), offset=-1),
        lambda: gallery.search(vectors()),
        lambda: gallery.update(Filter(), id="x"),
        lambda: gallery.update(Filter()),
        lambda: gallery.update(Filter(), person="\n"),
        lambda: gallery.values("box"),
        lambda: gallery.vectors(["nobody"]),
        lambda: gallery.add(records(1), vectors(1), [b"GIF89a"]),
        lambda: gallery.add(records(1), vectors(1), [JPEG, JPEG]),
    ):
        with pytest.raises(GalleryError):
            wrong()


def test_odd_texts_come_back_as_they_were(gallery):
    odd = ["'; DROP TABLE crops; --", "Ünï ☃", 'a"b', "%s ? {}", "a,b", "{x}", "NULL", "\\n"]
    made = [Record(f"id {t}", person=t, camera=t, source=t, tracklet=t, tags=(t, "t"), box=(1, 2.5, 3, 4)) for t in odd]
    gallery.add(made, vectors(*range(len(odd))))
    assert {replace(r, added=None) for r in gallery.records()} == set(made)
    for text, record in zip(odd, made, strict=True):
        for where in (
            Filter(persons=(text,)),
            Filter(tags=(text,)),
            Filter(ids=(record.id,)),
            Filter(tracklets=(text,)),
        ):
            assert [r.id for r in gallery.records(where)] == [record.id]
    assert Record.from_dict(made[0].as_dict()) == made[0]


def test_an_empty_gallery_answers(gallery):
    assert gallery.search(vectors(1)) == []
    assert gallery.search_many(vectors(1, 2)) == [[], []]
    assert gallery.records() == []
    assert gallery.verify() == []
    assert (gallery.info().records, gallery.info().first) == (0, None)
    gallery.compact()
    assert gallery.remove(Filter()) == 0
    assert gallery.recall() == 1


def test_many_equal_descriptors_are_ordered_by_id(gallery):
    made = records(*range(50))
    gallery.add(made[::-1], np.repeat(vectors(1), 50, axis=0))
    assert ids(gallery.search(vectors(1), limit=5)) == [f"r{i:04}" for i in range(5)]
    assert ids(gallery.search(vectors(1), limit=5, offset=5)) == [f"r{i:04}" for i in range(5, 10)]


def test_the_latest_come_first_and_what_has_no_time_last(gallery):
    made, _ = fill(gallery)
    timeless = records(70, 71)
    same = [replace(made[50], id=name) for name in ("a", "z")]
    gallery.add([*timeless, *same], vectors(70, 71, 72, 73))
    everyone = [*made, *timeless, *same]
    slowly = sorted(everyone, key=lambda r: (r.time is None, -(r.time or 0), r.id))
    wanted = [record.id for record in slowly]
    assert wanted[:2] == ["r0059", "r0058"]
    assert [record.id for record in gallery.records(latest=True)] == wanted
    assert [record.id for record in gallery.records(latest=True, limit=5, offset=8)] == wanted[8:13]
    lobby = Filter(cameras=("c1",))
    assert [r.id for r in gallery.records(lobby, latest=True)] == [r.id for r in slowly if r.camera == "c1"]
