"""An embedded gallery that is full, read-only, half copied, damaged, newer, in use: a clear line, and nothing lost."""

import multiprocessing
import os
import resource
import shutil
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from gallery_records import MODEL, records, vectors
from partalign.errors import GalleryError
from partalign.gallery import Filter, Record, database, open_gallery


@pytest.fixture
def folder(tmp_path):
    with open_gallery(tmp_path / "gallery", model=MODEL, create=True) as gallery:
        gallery.add(records(*range(50), person="anna"), vectors(*range(50)), [b"\xff\xd8" + b"jpeg" * 100] * 50)
        gallery.remove(Filter(ids=("r0007",)))
    return tmp_path / "gallery"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_a_process(work, *arguments):
    """Run a function elsewhere and return what it returns."""
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        return pool.apply(work, arguments)


def add_to_a_full_disk(folder):
    with open_gallery(folder, model=MODEL) as gallery:
        full = max(path.stat().st_size for path in folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (full + 4096, resource.RLIM_INFINITY))
        told = []
        for fill in (lambda: gallery.add(records(*range(100, 1100)), vectors(*range(1000))), lambda: gallery.compact()):
            try:
                fill()
            except GalleryError as error:
                told.append(str(error))
        return told, gallery.count(), gallery.search(vectors(3), limit=1)[0].record.id


def test_a_full_disk_changes_nothing(folder):
    told, count, best = in_a_process(add_to_a_full_disk, folder)
    assert told
    assert "free space" in told[0]
    assert (count, best) == (49, "r0003")
    with open_gallery(folder, model=MODEL) as gallery:
        assert gallery.verify() == []
        assert gallery.count() == 49
        gallery.add(records(100), vectors(100))
        gallery.compact()
        assert gallery.verify() == []


def as_nobody(folder):
    os.setuid(65534)
    with open_gallery(folder, model=MODEL) as gallery:
        found = gallery.search(vectors(3), limit=1)[0].record.id, gallery.count(), gallery.verify()
        try:
            gallery.add(records(100), vectors(100))
        except GalleryError as error:
            return *found, str(error)
    return found


def test_a_folder_that_cannot_be_written_is_read(folder):
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.getuid() and path.name:
            path.chmod(path.stat().st_mode | 0o555)
    before = contents(folder)
    if os.getuid():
        pytest.skip("only root can become somebody without rights")
    best, count, problems, told = in_a_process(as_nobody, folder)
    assert (best, count, problems) == ("r0003", 49, [])
    assert "cannot be written" in told
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["vectors-1.f32", "gallery.sqlite"])
def test_a_half_copied_folder_is_refused_and_stays_as_it_is(folder, name):
    path = folder / name
    for left in (path.stat().st_size // 2, 0, None):
        if left is None:
            path.unlink()
        else:
            os.truncate(path, left)
        before = contents(folder)
        with pytest.raises(GalleryError, match=r"copy|expected a gallery"):
            open_gallery(folder, model=MODEL).verify()
        with pytest.raises(GalleryError, match=r"in it|copy|another kind"):
            open_gallery(folder, model=MODEL, create=True).verify()
        assert before.items() <= contents(folder).items()


def test_a_copy_without_the_journal_is_an_older_gallery_not_a_broken_one(folder, tmp_path):
    with open_gallery(folder, model=MODEL) as gallery:
        gallery.add(records(60), vectors(60))
        shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    with open_gallery(tmp_path / "copy", model=MODEL) as gallery:
        assert gallery.verify() == []
        assert gallery.count() == 49


def test_a_newer_format_is_refused(folder):
    with closing(sqlite3.connect(folder / "gallery.sqlite")) as connection:
        connection.execute(f"PRAGMA user_version = {database.FORMAT + 1}")
    before = contents(folder)
    with pytest.raises(GalleryError, match="newer"):
        open_gallery(folder, model=MODEL)
    assert contents(folder) == before


def test_other_folders_and_files_are_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(GalleryError, match="another kind of folder"):
        open_gallery(tmp_path / "photos", model=MODEL)
    with pytest.raises(GalleryError, match=r"found a\.jpg in it"):
        open_gallery(tmp_path / "photos", model=MODEL, create=True)
    with pytest.raises(GalleryError, match="cannot be made"):
        open_gallery(tmp_path / "photos" / "a.jpg", model=MODEL, create=True)
    with closing(sqlite3.connect(tmp_path / "photos" / "gallery.sqlite")) as other:
        other.execute("CREATE TABLE t (a)")
    with pytest.raises(GalleryError, match="another program"):
        open_gallery(tmp_path / "photos", model=MODEL, create=True)


def test_an_interrupted_making_is_made_good(tmp_path):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "gallery.sqlite").touch()
    with pytest.raises(GalleryError, match="empty one"):
        open_gallery(tmp_path / "gallery", model=MODEL)
    with open_gallery(tmp_path / "gallery", model=MODEL, create=True) as gallery:
        gallery.add(records(1), vectors(1))
        assert gallery.count() == 1


def test_verify_names_what_was_damaged(folder):
    with (folder / "vectors-1.f32").open("r+b") as file:
        file.seek(12 * MODEL.dimension * 4 + 5)
        file.write(b"\x55")
        file.seek(7 * MODEL.dimension * 4)
        file.write(b"\x01")
    with open_gallery(folder, model=MODEL) as gallery:
        problems = gallery.verify()
    assert len(problems) == 2
    assert "r0012" in problems[0]
    assert "row 7" in problems[1]


def test_nothing_of_the_forgotten_stays_in_the_files(folder):
    secret = vectors(1234)
    told = {"person": "secretname", "secretfield": 1}  # names of fields are nobody's
    with open_gallery(folder, model=MODEL) as gallery:
        made = [Record("secretid", "secretname", source="secretfile", tracklet="secrettracklet", tags=("x",))]
        gallery.add(made, secret, [b"\xff\xd8secretpicture"])
        gallery.update(Filter(ids=("r0003",)), tags=("not:secretname", "y"))
        gallery.update(Filter(ids=("r0004",)), tags=("not:secretname",))
        for details in (told, {"like": ["secretid", "r0001"]}, {"where": {"tags": ["not:secretname"]}}):
            gallery.log("search", **details)
        gallery.log("search", tracklet="secrettracklet", where={"sources": ["secretfile"]})
        found = b"".join(contents(folder).values())
        words = [b"secret" + word for word in (b"name", b"id", b"file", b"tracklet", b"picture")]
        assert all(word in found for word in (*words, b"not:secretname", secret.tobytes()))
        assert gallery.forget(person="secretname") == 1
        found = b"".join(contents(folder).values()).replace(b"secretfield", b"")
        assert not any(word in found for word in (b"secret", secret.tobytes()))
        assert gallery.verify() == []
        assert [gallery.get(name).tags for name in ("r0003", "r0004")] == [("y",), ()]


def test_a_replaced_descriptor_is_overwritten(folder):
    with open_gallery(folder, model=MODEL) as gallery:
        gallery.add(records(3), vectors(77))
        assert vectors(3).tobytes() not in b"".join(contents(folder).values())
        assert gallery.verify() == []


def test_a_second_writer_waits_and_then_is_told(folder, monkeypatch):
    monkeypatch.setattr(database, "WAIT", 0.2)
    with (
        open_gallery(folder, model=MODEL) as gallery,
        open_gallery(folder, model=MODEL) as other,
        gallery._database.writing(),
    ):
        assert other.count() == 49, "reading goes on"
        assert len(other.search(vectors(1))) == 20
        with pytest.raises(GalleryError, match="another process has been writing"):
            other.add(records(1), vectors(1))
    with open_gallery(folder) as gallery:
        assert gallery.verify() == []


def test_a_reader_sees_what_others_write_compact_and_remove(folder):
    with open_gallery(folder, model=MODEL) as reader, open_gallery(folder, model=MODEL) as writer:
        assert reader.search(vectors(200), limit=1)[0].similarity < 0.999
        writer.add(records(200), vectors(200))
        assert reader.search(vectors(200), limit=1)[0].record.id == "r0200"
        writer.compact()
        assert not (folder / "vectors-1.f32").exists()
        assert reader.search(vectors(200), limit=1)[0].record.id == "r0200"
        assert np.array_equal(reader.vectors(["r0003"]), vectors(3))
        writer.remove(Filter())
        assert reader.search(vectors(200)) == []


def ask_of_a_truncated_file(folder):
    with open_gallery(folder, model=MODEL) as gallery:
        assert gallery.search(vectors(3), limit=1)[0].record.id == "r0003"
        whole = (folder / "vectors-1.f32").read_bytes()
        told = []
        for size in (len(whole) // 2, 0):
            os.truncate(folder / "vectors-1.f32", size)
            for ask in (
                lambda: gallery.search(vectors(3)),
                lambda: gallery.vectors(["r0049"]),
                lambda: gallery.add(records(49), vectors(50)),
            ):
                try:
                    ask()
                except GalleryError as error:
                    told.append(str(error))
        (folder / "vectors-1.f32").write_bytes(whole)
        return told, gallery.search(vectors(3), limit=1)[0].record.id, gallery.verify()


def test_a_file_that_is_truncated_while_it_is_open_is_told_and_the_process_lives(tmp_path):
    # Longer than a page of memory: what is behind the end on the last page reads as zeros.
    with open_gallery(tmp_path / "gallery", model=MODEL, create=True) as gallery:
        gallery.add(records(*range(500)), vectors(*range(500)))
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:  # which notices where its process dies
        told, best, problems = pool.submit(ask_of_a_truncated_file, tmp_path / "gallery").result(timeout=60)
    assert len(told) == 6
    assert all("bytes of descriptors, found" in line for line in told)
    assert (best, problems) == ("r0003", [])


@pytest.mark.parametrize("name", ["generation", "rows", "dimension"])
@pytest.mark.parametrize("value", ["1/../../secret", -1, None, 1.5])
def test_a_crafted_gallery_leads_to_no_other_file(folder, name, value):
    with closing(sqlite3.connect(folder / "gallery.sqlite")) as connection, connection:
        connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))
    with pytest.raises(GalleryError, match=f"its {name} is no number"):
        open_gallery(folder)


@pytest.mark.parametrize("slot", [50, 10**12, -1])
def test_records_of_rows_that_are_not_there_are_told(folder, slot):
    with closing(sqlite3.connect(folder / "gallery.sqlite")) as connection, connection:
        connection.execute("UPDATE crops SET slot = ? WHERE id = 'r0003'", (slot,))
        connection.execute("INSERT INTO free (slot) VALUES (?)", (slot,))
    before = contents(folder)
    with open_gallery(folder, model=MODEL) as gallery:
        for ask in (
            lambda: gallery.search(vectors(3), Filter(persons=("anna",))),
            lambda: gallery.vectors(["r0003"]),
            lambda: gallery.add(records(3), vectors(3)),
            lambda: gallery.remove(Filter(ids=("r0005",))),
        ):
            with pytest.raises(GalleryError, match="behind the end of the descriptors"):
                ask()
        assert gallery.verify()
    assert contents(folder)["vectors-1.f32"] == before["vectors-1.f32"]


def test_what_a_link_leads_to_is_not_written(folder, tmp_path):
    own = tmp_path / "own"
    (folder / "vectors-1.f32").rename(own)
    (folder / "vectors-1.f32").symlink_to(own)
    before = own.read_bytes()
    with open_gallery(folder, model=MODEL) as gallery:
        with pytest.raises(GalleryError, match="nothing was changed"):
            gallery.add(records(200), vectors(200))
        with pytest.raises(GalleryError, match="cannot be written"):
            gallery.forget(person="anna")
    assert own.read_bytes() == before


@pytest.mark.parametrize("address", ["postgresq://me:secret@server/people", "http://server/people"])
def test_a_misspelt_address_is_no_folder(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GalleryError, match="expected a folder or postgresql://") as told:
        open_gallery(address, model=MODEL, create=True)
    assert "secret" not in str(told.value)
    assert not list(tmp_path.iterdir())
