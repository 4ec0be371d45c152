"""The API as a program uses it: search, explain, decide, remove."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from partalign.explanation import explain
from partalign.gallery import Filter
from partalign.images import read_picture
from partalign.pictures.explanation import draw_explanation
from partalign.pictures.theme import DARK
from partalign.search import PictureSearch
from web_gallery import CALIBRATION


def ask(client, **wanted):
    answer = client.post("/api/search", json=wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()


def send(client, *crops):
    answer = client.post("/api/queries", files=[("pictures", crop.path.read_bytes()) for crop in crops])
    assert answer.status_code == 201, answer.text
    return answer.json()["query"]


def ids(found):
    return [match["record"]["id"] for match in found["matches"]]


def first(search, **where):
    return search.gallery.records(Filter(**where), limit=1)[0]


def test_a_sent_picture_finds_itself_first_and_all_others_in_the_order_of_a_direct_search(client, search, people):
    found = ask(client, query=send(client, people[5]), limit=10)
    direct = search.by_pictures([people[5].path], limit=10)
    assert ids(found) == [match.record.id for match in direct]
    assert found["matches"][0]["record"]["source"] == people[5].path.name
    assert found["matches"][0]["similarity"] == pytest.approx(1, abs=1e-4)
    assert found["further"] is True
    for match in found["matches"]:
        assert match["probability"] == pytest.approx(CALIBRATION.probability(match["similarity"]))


def test_pages_of_results_join_without_gap(client, people):
    query = send(client, people[0])
    whole = ids(ask(client, query=query, limit=40))
    assert ids(ask(client, query=query, limit=25)) + ids(ask(client, query=query, limit=15, offset=25)) == whole


def test_a_record_is_searched_by_without_finding_itself_or_its_camera(client, search):
    record = first(search)
    found = ask(client, like=[record.id], limit=200, other_cameras=True)
    assert record.id not in ids(found)
    assert record.camera not in {match["record"]["camera"] for match in found["matches"]}
    assert record.camera in {match["record"]["camera"] for match in ask(client, like=[record.id], limit=200)["matches"]}


def test_filters_keep_what_passes(client, search, people):
    query = send(client, people[0])
    when = sorted(crop.time for crop in people)[10]
    where = {"cameras": ["c1", "c2"], "until": when, "tags": ["morning"], "labelled": True}
    found = ask(client, query=query, where=where, limit=200)["matches"]
    expected = {
        record.id for record in search.gallery.records()
        if record.camera in ("c1", "c2") and record.time <= when and record.person is not None
    }  # fmt: skip
    assert {match["record"]["id"] for match in found} == expected != set()
    old = client.get("/api/records", params={"older_than": when}).json()["records"]
    assert {record["id"] for record in old} == {r.id for r in search.gallery.records() if r.time < when} != set()
    listed = client.get("/api/records", params=where).json()
    assert {record["id"] for record in listed["records"]} == expected
    assert listed["total"] == len(expected)


def test_tracklets_are_searched_by_and_grouped(client, people):
    tracklet = people[0].tracklet
    found = ask(client, tracklet=tracklet, camera=people[0].camera, limit=200, group=True)
    seen = [(match["record"]["camera"], match["record"]["tracklet"]) for match in found["matches"]]
    assert len(seen) == len(set(seen))
    assert (people[0].camera, tracklet) not in seen


def test_several_pictures_and_re_ranking(client, search, people):
    query = send(client, *people[:3])
    found = ask(client, query=query, combine="max", limit=5)
    assert {match["record"]["source"] for match in found["matches"][:3]} == {crop.path.name for crop in people[:3]}
    plain, reranked = (ask(client, query=query, limit=100, rerank=rerank) for rerank in (False, True))
    assert set(ids(plain)) == set(ids(reranked))
    assert ids(plain) != ids(reranked)


def test_among_many_persons_the_same_similarity_is_less_probable(client, search, people):
    query, record = send(client, people[0]), first(search, sources=(str(people[0].path.resolve()),))
    odds = {}
    for persons in (2, 1000):
        asked = {"query": query, "persons": persons}
        match = next(m for m in ask(client, **asked, limit=200)["matches"] if m["record"]["id"] == record.id)
        told = client.post("/api/explanations", json=asked | {"record": record.id}).json()
        assert told["probability"] == pytest.approx(match["probability"], rel=1e-3)
        odds[persons] = match["probability"] / (1 - match["probability"])
        drawn = client.get("/api/explanation.png", params=asked | {"record": record.id})
        odds[persons, "drawn"], odds[persons, "said"] = drawn.content, told["sentence"]
    assert odds[2] / odds[1000] == pytest.approx(999)
    assert odds[2, "drawn"] != odds[1000, "drawn"]
    assert odds[2, "said"] == odds[1000, "said"]
    for path in ("/api/search", "/api/explanations"):
        assert client.post(path, json={"query": query, "record": record.id, "persons": 1}).status_code == 422
    assert (
        client.get("/api/explanation.png", params={"query": query, "record": record.id, "persons": 1}).status_code
        == 422
    )


def test_an_explanation_adds_up_and_is_the_one_of_the_command(client, search, people):
    query, record = send(client, people[0]), first(search, sources=(str(people[7].path.resolve()),))
    told = client.post("/api/explanations", json={"query": query, "record": record.id}).json()
    match = next(m for m in ask(client, query=query, limit=200)["matches"] if m["record"]["id"] == record.id)
    assert told["similarity"] == pytest.approx(match["similarity"], abs=1e-5)
    assert sum(told["parts"].values()) == pytest.approx(told["similarity"], abs=1e-9)
    assert [np.sum(places) for places in told["maps"]] == pytest.approx([told["similarity"]] * 2, abs=1e-9)
    assert told["thumbnail"] is False

    pictures = read_picture(people[0].path), read_picture(people[7].path)
    found = explain(search.embedder, *pictures)
    expected = draw_explanation(
        pictures, found.maps, found.strongest(10), parts=found.parts, probability=told["probability"], theme=DARK
    )
    drawn = client.get("/api/explanation.png", params={"query": query, "record": record.id, "theme": "dark"})
    assert drawn.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(drawn.content)).tobytes() == expected.tobytes()


def test_a_changed_or_missing_picture_is_explained_by_its_thumbnail(client, search, people, tmp_path):
    record, other = search.gallery.records(limit=2)
    changed = tmp_path / "changed.png"
    Image.effect_noise((48, 96), 90).convert("RGB").save(changed)
    for source in (changed, tmp_path / "missing.png", "/etc/passwd", "/dev/zero"):
        search.gallery.update(Filter(ids=(record.id,)), source=str(source))
        asked = {"like": [other.id], "record": record.id}
        client.app.state.service._explained.clear()
        told = client.post("/api/explanations", json=asked).json()
        assert told["thumbnail"] is True


def test_a_picture_that_another_process_adds_again_is_explained_anew(client, search, people, model):
    record, other = search.gallery.records(limit=2)
    now = read_picture(people[-1].path)
    with PictureSearch.open(search.gallery.url, model) as another:
        for name in (record.id, other.id):  # the result, then what is searched by
            asked = {"like": [other.id], "record": record.id}
            before = client.post("/api/explanations", json=asked).json()
            drawn = client.get("/api/explanation.png", params=asked).content
            assert client.post("/api/explanations", json=asked).json() == before
            changed = replace(search.gallery.get(name), source=str(people[-1].path.resolve()))
            another.gallery.add([changed], another.describe([now]))
            found = search.gallery.vectors([record.id, other.id])
            after = client.post("/api/explanations", json=asked).json()
            assert after["similarity"] == pytest.approx(float(found[0] @ found[1]), abs=1e-3)
            assert after["similarity"] != before["similarity"]
            assert client.get("/api/explanation.png", params=asked).content != drawn


def test_a_record_cut_from_a_frame_is_explained_by_its_box(client, search, people, tmp_path):
    frame = Image.new("RGB", (400, 300), (40, 60, 80))
    frame.paste(read_picture(people[3].path), (120, 90))
    frame.save(tmp_path / "frame.png")
    record, other = first(search, sources=(str(people[3].path.resolve()),)), first(search)
    width, height = read_picture(people[3].path).size
    boxed = type(record)(**{**record.as_dict(), "source": str(tmp_path / "frame.png"), "tags": (),
                            "box": (120.0, 90.0, float(width), float(height))})  # fmt: skip
    search.gallery.add([boxed], search.gallery.vectors([record.id]))
    told = client.post("/api/explanations", json={"like": [other.id], "record": record.id}).json()
    assert told["thumbnail"] is False


def test_confirming_names_the_record_and_those_searched_by(client, search):
    asked, result, third = search.gallery.records(Filter(labelled=False), limit=3)
    done = client.post("/api/decisions", json={"like": [asked.id], "record": result.id, "same": True}).json()
    persons = {record.id: record.person for record in search.gallery.records(Filter(ids=(asked.id, result.id)))}
    assert set(persons.values()) == {done["person"]}
    assert {record["id"] for record in done["before"]} == {asked.id, result.id}
    again = client.post("/api/decisions", json={"like": [asked.id], "record": third.id, "same": True}).json()
    assert again["person"] == done["person"]
    assert [record["id"] for record in again["before"]] == [third.id]


def test_a_sent_picture_takes_the_person_of_what_is_confirmed(client, search, people):
    query, result = send(client, people[0]), first(search, labelled=True)
    done = client.post("/api/decisions", json={"query": query, "record": result.id, "same": True}).json()
    assert done["person"] == result.person


def test_what_is_rejected_is_not_found_for_that_person_again_until_it_is_taken_back(client, search):
    asked, result = search.gallery.records(Filter(labelled=False), limit=2)
    assert result.id in ids(ask(client, like=[asked.id], limit=200))
    wanted = {"like": [asked.id], "record": result.id, "same": False}
    done = client.post("/api/decisions", json=wanted).json()
    found = ask(client, like=[asked.id], limit=200)
    assert found["person"] == done["person"]
    assert result.id not in ids(found)
    assert result.id in ids(ask(client, like=[first(search, labelled=True, persons=("0007",)).id], limit=200))
    for record in done["before"]:
        change = {"person": record["person"], "tags": record["tags"]}
        assert client.patch(f"/api/records/{record['id']}", json=change).json() == record
    assert result.id in ids(ask(client, like=[asked.id], limit=200))
    assert {record.id: record for record in search.gallery.records()}[asked.id].person is None


def test_confirming_after_all_clears_the_rejection(client, search):
    asked, result = search.gallery.records(Filter(labelled=False), limit=2)
    for same in (False, True):
        client.post("/api/decisions", json={"like": [asked.id], "record": result.id, "same": same})
    assert search.gallery.get(result.id).tags == ("morning",)
    assert result.id in ids(ask(client, like=[asked.id], limit=200))


def test_who_is_forgotten_is_neither_explained_nor_named_again(client, search):
    asked = first(search, persons=("0002",))
    other, third = search.gallery.records(Filter(labelled=False), limit=2)
    decided = {"like": [asked.id], "record": other.id, "same": False}
    assert client.post("/api/decisions", json=decided).json()["person"] == "0002"
    explained = {"like": [asked.id], "record": third.id}
    assert client.post("/api/explanations", json=explained).status_code == 200
    assert client.post("/api/forget", json={"person": "0002"}).json()["removed"] > 0
    assert client.post("/api/explanations", json=explained).status_code == 404
    assert not client.app.state.service._explained
    assert search.gallery.get(other.id).tags == ("morning",)
    told = str([entry["details"] for entry in client.get("/api/log").json()])
    assert "0002" not in told
    assert asked.id not in told


def test_thumbnails_records_values_and_figures(client, search, people):
    record = first(search)
    picture = client.get(f"/api/thumbnails/{record.id}")
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (48, 96)
    assert client.get(f"/api/records/{record.id}").json()["source"] == record.source.rpartition("/")[2]
    assert client.get("/api/values/camera").json() == search.gallery.values("camera")
    found = client.get("/api/info").json()
    assert (found["records"], found["role"], found["calibrated"]) == (len(people), "admin", True)


def test_ids_may_hold_slashes_and_other_letters(client, search):
    record = first(search)
    strange = type(record)(**{**record.as_dict(), "id": "hall/1 ü?&#%.jpg", "tags": ()})
    search.gallery.add([strange], search.gallery.vectors([record.id]))
    assert client.get("/api/records/hall%2F1%20%C3%BC%3F%26%23%25.jpg").json()["id"] == strange.id
    assert client.post("/api/search", json={"like": [strange.id]}).status_code == 200


def test_searches_decisions_and_removals_are_in_the_log(client, search, people):
    asked, result = search.gallery.records(Filter(labelled=False), limit=2)
    ask(client, query=send(client, people[0]), limit=3)
    client.post("/api/decisions", json={"like": [asked.id], "record": result.id, "same": True})
    assert client.delete(f"/api/records/{result.id}").json() == {"removed": 1}
    assert client.post("/api/forget", json={"person": "0002"}).json()["removed"] > 0
    entries = client.get("/api/log").json()
    assert [entry["action"] for entry in entries[:4]] == ["forget a person", "remove", "confirm", "change"]
    assert all(entry["who"].startswith("local from ") for entry in entries[:5])
    assert entries[4]["action"] == "search"
    assert entries[4]["details"] == {"pictures": 1, "results": 3}
    assert "0002" not in str([entry["details"] for entry in entries])
    assert client.get(f"/api/records/{result.id}").status_code == 404


def test_the_log_says_what_was_searched_by_explained_and_decided(client, search, people):
    asked, result = search.gallery.records(Filter(labelled=False), limit=2)
    where = {"cameras": ["c1", "c2"], "labelled": True, "since": 5.0}
    ask(client, like=[asked.id], where=where, person="0007", other_cameras=True, limit=2)
    ask(client, tracklet=people[0].tracklet, camera=people[0].camera, limit=2)
    client.post("/api/explanations", json={"like": [asked.id], "record": result.id})
    query = send(client, *people[:2])
    client.get("/api/explanation.png", params={"query": query, "record": result.id})
    client.post("/api/decisions", json={"query": query, "record": result.id, "same": False, "person": "0007"})
    client.patch(f"/api/records/{result.id}", json={"camera": "hall"})
    entries = [(entry["action"], entry["details"]) for entry in client.get("/api/log").json()[:6]][::-1]
    assert entries[0][1].pop("where") == where | {"not_cameras": [asked.camera], "not_tags": ["not:0007"]}
    of_result = {"ids": [result.id]}
    assert entries == [
        ("search", {"like": [asked.id], "results": 2}),
        ("search", {"tracklet": people[0].tracklet, "camera": people[0].camera, "results": 2,
                    "where": {"not_tags": ["not:" + people[0].tracklet[:4]]}}),
        ("explain", {"record": result.id, "like": [asked.id]}),
        ("explain", {"record": result.id, "pictures": 2}),
        ("reject", {"records": 1, "where": of_result, "to": {"add_tags": ["not:0007"]}}),
        ("change", {"records": 1, "where": of_result, "to": {"camera": "hall"}}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/search", {"like": ["nobody"]}),
        ("/api/search", {"tracklet": "none"}),
        ("/api/search", {"query": "forgotten"}),
        ("/api/explanations", {"query": "forgotten", "record": "nobody"}),
        ("/api/decisions", {"like": ["nobody"], "record": "nobody", "same": True}),
    ],
)
def test_what_is_not_there_is_said(client, path, body):
    answer = client.post(path, json=body)
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("no such")


@pytest.mark.parametrize(
    "body", [{}, {"like": ["a"], "query": "b"}, {"like": ["a"], "limit": 0}, {"like": ["a"], "camera": ""},
             {"like": ["a"], "wher": {}}, {"like": ["a"], "camera": "c1"},
             {"query": "b", "other_cameras": True}, {"like": ["a"], "where": {"camera": ["c1"]}}, {"like": ["a\n"]}]
)  # fmt: skip
def test_a_malformed_search_is_refused(client, body):
    answer = client.post("/api/search", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"]
