"""`partalign gallery` as a user types it, with the shipped model, on generated people."""

import json
import re
import socket
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from partalign.cli import main
from partalign.crops import Crop
from partalign.datasets.table import write_table
from partalign.gallery import Filter, ModelName, Record, open_gallery
from partalign.search import PictureSearch
from partalign.weights.info import read_info
from web_gallery import CALIBRATION, write_model


@pytest.fixture
def run(capsys):
    """Run a command; returns what it printed, standard output or, where it is to fail, the one line of the error."""

    def run_command(*words, expect=0):
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in ("gallery", *words)])
        printed = capsys.readouterr()
        assert left.value.code == expect, printed.out + printed.err
        assert "Traceback" not in printed.err
        if expect:
            assert len(printed.err.splitlines()) == 1, printed.err
        return printed.err if expect else printed.out

    return run_command


@pytest.fixture(scope="module")
def crops(tiny_market, tmp_path_factory):
    """Four persons, one crop in camera c1 and one in c2 each."""
    folder = tmp_path_factory.mktemp("crops")
    for path in sorted((tiny_market / "Market-1501-v15.09.15" / "bounding_box_test").glob("*_000001_01.jpg")):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def people(run, crops, tmp_path):
    run("add", tmp_path / "people", crops, "--tag", "monday")
    return tmp_path / "people"


def ids(run, gallery, *options):
    return [record["id"] for record in json.loads(run("list", gallery, "--json", *options))]


def test_adding_twice_leaves_what_is_the_same_and_replaces_what_is_not(run, crops, tmp_path):
    assert "8 added, 0 replaced, 0 unchanged, 8 in all" in run("add", tmp_path / "g", crops)
    first = sorted(crops.iterdir())[0]
    before = run("list", tmp_path / "g", "--json")
    assert "0 added, 0 replaced, 8 unchanged, 8 in all" in run("add", tmp_path / "g", crops)
    assert run("list", tmp_path / "g", "--json") == before
    assert "0 added, 1 replaced, 0 unchanged, 8 in all" in run("add", tmp_path / "g", first, "--tag", "new")
    assert json.loads(run("list", tmp_path / "g", "--tag", "new", "--json"))[0]["source"] == str(first.resolve())


def test_adding_again_keeps_what_was_said_of_a_picture_that_shows_the_same(run, crops, tmp_path):
    folder, gallery = tmp_path / "unnamed", tmp_path / "g"
    folder.mkdir()
    for number, crop in enumerate(sorted(crops.iterdir())[:3]):
        (folder / f"{number}.jpg").write_bytes(crop.read_bytes())
    run("add", gallery, folder, "--tag", "monday", "--camera", "hall")
    run("update", gallery, "--yes", "--set-person", "anna", "--add-tag", "not:berta", "--set-time", "2026-05-01")
    (folder / "1.jpg").write_bytes(sorted(crops.iterdir())[5].read_bytes())  # somebody else now
    assert "0 added, 1 replaced, 2 unchanged" in run("add", gallery, folder)
    assert "0 added, 3 replaced" in run("add", gallery, folder, "--tag", "again")

    for record in json.loads(run("list", gallery, "--json")):
        same = not record["source"].endswith("1.jpg")
        assert record["person"] == ("anna" if same else None)
        assert record["camera"] == ("hall" if same else None)
        assert record["time"] == (1777593600 if same else None)
        assert record["tags"] == (["again", "monday", "not:berta"] if same else ["again"])


def test_remove_before_a_date_leaves_places_in_videos(run, people):
    run("update", people, "--camera", "c1", "--set-time", "2026-04-01")
    run("update", people, "--camera", "c2", "--set-time", "12.5")
    assert "4 records removed" in run("remove", people, "--until", "2026-05-01")
    assert json.loads(run("info", people, "--json"))["records_of_camera"] == {"c2": 4}


def test_search_by_pictures_filters_pages_and_draws(run, people, crops, tmp_path):
    picture = crops / "0009_c1s1_000001_01.jpg"
    found = json.loads(run("search", people, picture, "--json"))
    assert [match["rank"] for match in found] == list(range(1, 9))
    assert found[0]["record"]["source"].endswith(picture.name)
    assert found[0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert 0 < found[-1]["probability"] < found[0]["probability"] <= 1
    other = json.loads(run("search", people, picture, "--not-camera", "c1", "--json", "--top", 2))
    assert [match["record"]["camera"] for match in other] == ["c2", "c2"]
    paged = json.loads(run("search", people, picture, "--top", 3, "--page", 2, "--json"))
    assert [match["record"]["id"] for match in paged] == [match["record"]["id"] for match in found[3:6]]
    assert len(json.loads(run("search", people, picture, "--rerank", "--group", "--combine", "max", "--json"))) == 8
    among = json.loads(run("search", people, picture, "--json", "--persons", 1000))
    odds = [match["probability"] / (1 - match["probability"]) for match in (found[-1], among[-1])]
    assert odds[0] / odds[1] == pytest.approx(999)
    shown = run("search", people, picture, "--top", 3, "--out", tmp_path / "found.png")
    assert "similarity" in shown.splitlines()[0]
    assert shown.splitlines()[1].split()[2] == ">99%", "no calibration promises 100%"
    assert shown.splitlines()[-1] == str(tmp_path / "found.png")
    with Image.open(tmp_path / "found.png") as drawn:
        assert drawn.width > 400


def test_search_by_records_of_the_gallery(run, people, tmp_path):
    name = ids(run, people, "--camera", "c1", "--person", "0009")[0]
    found = json.loads(
        run("search", people, "--like", name, "--other-cameras", "--json", "--out", tmp_path / "f.png").splitlines()[0]
    )
    assert {match["record"]["camera"] for match in found} == {"c2"}
    assert name not in [match["record"]["id"] for match in found]


def test_a_folder_with_a_table_keeps_its_records(run, crops, tmp_path):
    name = sorted(crops.iterdir())[0].name
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / name).write_bytes((crops / name).read_bytes())
    crop = Crop(tmp_path / "found" / name, camera="lobby", tracklet="t7", time=1777638600, box=(1, 2, 30, 60))
    write_table(tmp_path / "found", [crop])
    run("add", tmp_path / "g", tmp_path / "found")
    record = json.loads(
        run("list", tmp_path / "g", "--since", "2026-05-01T12:30", "--until", "2026-05-01T12:30", "--json")
    )
    assert [(r["camera"], r["tracklet"], r["person"], r["box"]) for r in record] == [
        ("lobby", "t7", None, [1, 2, 30, 60])
    ]
    assert "2026-05-01 12:30:00" in run("list", tmp_path / "g")
    found = json.loads(run("search", tmp_path / "g", "--by-tracklet", "t7", "--json"))
    assert found == []


def test_list_info_and_log(run, people):
    assert "3 of 8 records" in run("list", people, "--top", 3)
    assert len(ids(run, people, "--top", 3, "--page", 3)) == 2
    told = run("info", people)
    assert "8 records of 4 persons" in told
    assert "c1 (4), c2 (4)" in told
    assert "monday (8)" in told
    assert json.loads(run("info", people, "--json"))["records_of_camera"] == {"c1": 4, "c2": 4}
    run("remove", people, "--camera", "c1")
    assert "remove  removed=4 where: cameras=c1" in run("log", people)


def test_the_log_names_every_command_that_looks_for_somebody_or_changes_something(run, people, crops, tmp_path):
    picture, name = crops / "0009_c1s1_000001_01.jpg", ids(run, people, "--camera", "c1", "--person", "0009")[0]
    run("search", people, picture, "--camera", "c2", "--since", 0)
    run("search", people, "--like", name, "--other-cameras", "--top", 2)
    run("export", people, tmp_path / "all.parquet", "--camera", "c1")
    run("import", people, tmp_path / "all.parquet")
    run("split", people, name)
    run("cluster", people, "--again", "--least", 1)
    run("cluster", people, "--again", "--dry")
    run("merge", people, "anna", "person-1")
    run("remove", people, "--camera", "c1")
    run("forget", people, "--older-than", "1h")
    run("compact", people, "--log-older-than", "1d")
    lines = json.loads(run("log", people, "--json"))[::-1]
    actions = ["add", "search", "search", "export", "import", "split", "cluster", "merge", "remove", "forget by age"]
    assert [line["action"] for line in lines] == [*actions, "shorten the log"]
    assert all(line["who"].endswith(f" on {socket.gethostname()}, command line") for line in lines)
    assert lines[1]["details"] == {"pictures": 1, "results": 4, "where": {"cameras": ["c2"], "since": 0}}
    assert lines[2]["details"] == {"like": [name], "results": 2, "where": {"not_cameras": ["c1"]}}
    assert lines[3]["details"] == {"records": 4, "where": {"cameras": ["c1"]}}
    assert lines[-1]["details"]["lines"] == 0
    told = run("log", people)
    assert str(picture) not in told
    assert re.search(r"shorten the log  lines=0 before=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\n", told)
    assert " since=0" in told
    assert "expected an age" in run("compact", people, "--log-older-than", "long", expect=1)


def test_records_are_changed_by_condition(run, people):
    name = ids(run, people, "--camera", "c1", "--person", "0009")[0]
    assert "4 records changed" in run("update", people, "--camera", "c1", "--set-camera", "hall", "--add-tag", "seen")
    words = ("--set-person", "anna", "--set-time", "2026-05-01T12:30", "--drop-tag", "monday")
    assert "1 record changed" in run("update", people, "--id", name, *words)
    record = json.loads(run("list", people, "--person", "anna", "--json"))[0]
    found = (record["id"], record["camera"], record["time"], record["tags"])
    assert found == (name, "hall", 1777638600, ["seen"])
    cleared = ("--clear", "person", "--clear", "time", "--clear", "tags")
    assert "1 record changed" in run("update", people, "--id", name, *cleared)
    record = json.loads(run("list", people, "--no-labelled", "--json"))[0]
    assert (record["id"], record["person"], record["time"], record["tags"]) == (name, None, None, [])
    assert "change  records=4 where: cameras=c1 to: camera=hall add_tags=seen" in run("log", people)
    assert "expected a condition" in run("update", people, "--set-camera", "x", expect=1)
    assert "8 records changed" in run("update", people, "--set-camera", "x", "--yes")
    assert "something to change" in run("update", people, "--id", name, expect=1)
    assert "found both" in run("update", people, "--id", name, "--set-person", "a", "--clear", "person", expect=1)


def test_a_tracklet_of_one_of_several_cameras_is_searched_by_and_drawn(run, crops, tmp_path):
    found = []
    for number, camera in enumerate(("door", "door", "yard", "yard")):
        source = sorted(crops.iterdir())[number]
        picture = tmp_path / "found" / f"{number}.jpg"
        picture.parent.mkdir(exist_ok=True)
        picture.write_bytes(source.read_bytes())
        found.append(Crop(picture, camera=camera, tracklet="0002", time=float(number), box=(0, 0, 9, 9)))
    write_table(tmp_path / "found", found)
    run("add", tmp_path / "g", tmp_path / "found")
    by = ("search", tmp_path / "g", "--by-tracklet", "0002")
    assert run(*by).strip() == "no match"
    of_door = json.loads(run(*by, "--by-camera", "door", "--json"))
    assert {match["record"]["camera"] for match in of_door} == {"yard"}
    assert run(*by, "--by-camera", "door", "--out", tmp_path / "f.png").splitlines()[-1] == str(tmp_path / "f.png")
    with Image.open(tmp_path / "f.png") as drawn:
        assert drawn.width > 200
    assert "no record has" in run(*by, "--by-camera", "roof", expect=1)
    assert "--by-tracklet NAME" in run("search", tmp_path / "g", "--like", "x", "--by-camera", "door", expect=1)


def test_remove_and_forget(run, people):
    assert "expected a condition" in run("remove", people, expect=1)
    backwards = ("--since", "2026-05-02", "--until", "2026-05-01")
    assert "--since before --until, found 2026-05-02 after" in run("remove", people, *backwards, expect=1)
    assert "1 record removed" in run("remove", people, "--camera", "c1", "--person", "0009")
    assert "2 records forgotten" in run("forget", people, "--person", "0010")
    assert "0 records forgotten" in run("forget", people, "--older-than", "1h")
    assert "expected an age" in run("forget", people, "--older-than", "soon", expect=1)
    assert "either a person or an age" in run("forget", people, expect=1)
    assert "--yes forgets everything" in run("forget", people, "--older-than", "0d", expect=1)
    assert len(ids(run, people)) == 5
    assert "5 records forgotten" in run("forget", people, "--older-than", "0d", "--yes")
    assert "0 of 0" in run("list", people)
    assert "0 records forgotten" in run("forget", people, "--older-than", "0d")
    assert "0 records removed" in run("remove", people, "--yes")


def test_export_import_verify_compact(run, people, tmp_path):
    assert "4 records" in run("export", people, tmp_path / "all.parquet", "--camera", "c1")
    assert "4 added, 0 replaced, 4 in all" in run("import", tmp_path / "copy", tmp_path / "all.parquet")
    assert "4 records, nothing damaged" in run("verify", tmp_path / "copy")
    run("remove", tmp_path / "copy", "--person", "0009")
    assert "given back" in run("compact", tmp_path / "copy")
    with (tmp_path / "copy" / "vectors-2.f32").open("r+b") as file:
        file.write(b"\x55\x55")
    problem = run("verify", tmp_path / "copy", expect=1)
    assert "is not the one that was added" in problem


def test_cluster_merge_and_split(run, crops, tmp_path):
    gallery = tmp_path / "g"
    (tmp_path / "plain").mkdir()
    for number, path in enumerate(sorted(crops.iterdir())):
        (tmp_path / "plain" / f"x{number}.jpg").write_bytes(path.read_bytes())
    run("add", gallery, tmp_path / "plain", "--camera", "door")
    assert re.search(r": \d+ persons? in \d of 8 records, nothing changed", run("cluster", gallery, "--dry"))
    assert "1 person in 8 of 8 records, nothing changed" in run("cluster", gallery, "--similarity", -0.99, "--dry")
    run("cluster", gallery, "--similarity", -0.99)
    assert "8 records are now of anna" in run("merge", gallery, "anna", "person-1")
    first, second, *_ = ids(run, gallery)
    assert "2 records are now of person-1" in run("split", gallery, first, second)
    assert ids(run, gallery, "--person", "person-1") == [first, second]
    assert "1 record is now of berta" in run("split", gallery, first, "--person", "berta")
    assert "1 record is now of person-1" in run("merge", gallery, "person-1", "berta")
    assert "6 records" in run("info", gallery) or len(ids(run, gallery, "--person", "anna")) == 6
    assert "no record has" in run("merge", gallery, "anna", "nobody", expect=1)
    assert "no record to name; --again names" in run("cluster", gallery)
    assert "no record to name\n" in run("cluster", gallery, "--camera", "none", "--again")


def test_people_are_told_apart_by_the_calibration_of_the_gallerys_own_model_only(run, people, tmp_path):
    calibration = read_info().calibration
    assert f"at a similarity of {calibration.threshold(0.95):.3f}:" in run("cluster", people, "--dry")
    own = write_model(tmp_path / "own.safetensors")  # of another network, with a calibration of its own
    assert "expected the calibration of" in run("cluster", people, "--model", own, expect=1)
    with PictureSearch.open(tmp_path / "others", own, create=True) as search:
        search.gallery.add([Record("a"), Record("b")], np.eye(2, search.gallery.model.dimension, dtype=np.float32))
    assert "give its file as --model" in run("cluster", tmp_path / "others", expect=1)
    told = run("cluster", tmp_path / "others", "--model", own, "--dry")
    assert f"at a similarity of {CALIBRATION.threshold(0.95):.3f}: 0 persons in 0 of 2 records" in told
    with closing(sqlite3.connect(people / "gallery.sqlite")) as database, database:
        database.execute("UPDATE meta SET value = 'older' WHERE name = 'version'")
    assert "expected the calibration of" in run("cluster", people, expect=1)
    assert "at a similarity of 0.900:" in run("cluster", people, "--similarity", 0.9, "--dry")


def test_what_goes_wrong_is_told_in_one_line(run, people, crops, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no such file" in run("add", people, tmp_path / "nowhere", expect=1)
    assert "found none" in run("add", people, tmp_path / "empty", expect=1)
    assert "expected pictures" in run("add", people, expect=1)
    assert not (tmp_path / "new").exists()
    run("add", tmp_path / "new", tmp_path / "empty", expect=1)
    assert not (tmp_path / "new").exists(), "nothing is made where there is nothing to add"
    assert "expected a gallery or an empty folder" in run("add", crops, crops, expect=1)
    assert "partalign gallery add" in run("list", tmp_path / "nowhere", expect=1)
    assert "another kind of folder" in run("search", crops, sorted(crops.iterdir())[0], expect=1)
    assert "give one of them" in run("search", people, expect=1)
    assert "expected a time" in run("list", people, "--since", "yesterday", expect=1)
    assert "2026-05-01, found '20260501'" in run("list", people, "--since", "20260501", expect=1)
    assert "nobody" in run("search", people, "--like", "nobody", expect=1)
    assert "expected ids of the gallery, found none" in run("split", people, expect=1)
    assert "needs no index" in run("index", people, expect=1)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    assert "bad.jpg" in run("add", people, tmp_path / "bad.jpg", expect=1)
    assert "expected a file of `partalign gallery export`" in run("import", people, tmp_path / "bad.jpg", expect=1)
    open_gallery(tmp_path / "other", model=ModelName("other", "1", 8), create=True).close()
    assert "cannot be compared" in run("add", tmp_path / "other", crops, expect=1)
    assert "8 records, nothing damaged" in run("verify", people)


def test_options_that_would_do_nothing_are_refused(run, people, crops):
    picture = crops / "0009_c1s1_000001_01.jpg"
    assert "--not-camera NAME" in run("search", people, picture, "--other-cameras", expect=1)
    assert "leave out --approximate" in run("search", people, picture, "--approximate", expect=1)


def test_pages_beyond_any_gallery_are_refused(run, people, crops):
    far, told = ("--top", 10**8, "--page", 10**13), "--page up to 10 with --top 100,000,000"
    assert told in run("list", people, *far, expect=1)
    assert told in run("search", people, crops / "0009_c1s1_000001_01.jpg", *far, expect=1)
    assert "limit from 1 to 1,000,000,000" in run("list", people, "--top", 10**10, expect=1)


def test_a_similarity_that_is_none_is_refused_before_anything_is_read(run, people):
    assert "found 7" in run("cluster", people, "--similarity", 7, expect=1)


def test_a_file_name_that_is_no_text_is_told_what_to_do(run, crops, tmp_path):
    (tmp_path / "line\nbreak.jpg").write_bytes(sorted(crops.iterdir())[0].read_bytes())
    assert "rename the file" in run("add", tmp_path / "g", tmp_path / "line\nbreak.jpg", expect=1)


def test_names_give_the_terminal_no_orders(run, people):
    with open_gallery(people) as opened:
        opened.update(Filter(cameras=("c1",)), person="\x1b[2Janna", camera="c\x9b1", tags=("\x1b]0;tag\x07",))
        opened.log("\x1b[1mlook", who="\x1b[2Jme")
    for words in (("list", people), ("info", people), ("log", people)):
        printed = run(*words)
        assert printed.replace("\n", "").isprintable()
    assert "\\x1b[2Janna" in run("list", people)
