import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from partalign.crops import Crop, Embeddings, Split
from partalign.errors import EvaluationError, MissingExtraError, SaveError, ShapeError

names = st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1, max_size=12)
maybe = st.none() | names
crops = st.builds(
    Crop,
    path=st.builds(lambda a, b: Path("data") / a / b, names, names),
    person=maybe,
    camera=maybe,
    tracklet=maybe,
    time=st.none() | st.floats(0, 1e9),
)


@pytest.mark.parametrize("name", ["e.npz", "e.parquet"])
@given(records=st.lists(crops, min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_saved_embeddings_come_back_as_they_were(tmp_path, name, records):
    vectors = np.random.default_rng(0).normal(size=(len(records), 5)).astype(np.float32)
    before = Embeddings(vectors, tuple(records))
    before.save(tmp_path / name)
    after = Embeddings.load(tmp_path / name)
    np.testing.assert_array_equal(after.vectors, before.vectors)
    assert after.crops == before.crops


def test_training_crops_of_further_data_sets_are_persons_and_cameras_of_their_own():
    def split(name, *rest):
        return Split("market1501", train=(Crop(Path(name), "0001", "c1"), *rest), query=(Crop(Path("q"), "0002"),))

    one = split("a/1.jpg")
    both = one.with_training(split("b/1.jpg", Crop(Path("b/2.jpg"), "0001")), split("c/1.jpg"))
    assert [(str(c.path), c.person, c.camera) for c in both.train] == [
        ("a/1.jpg", "0001", "c1"),
        ("b/1.jpg", "1:0001", "1:c1"),
        ("b/2.jpg", "1:0001", None),
        ("c/1.jpg", "2:0001", "2:c1"),
    ]
    assert (both.query, both.gallery) == (one.query, one.gallery)
    assert one.with_training() == one


def test_a_name_that_says_something_else_is_refused(tmp_path):
    for name in ("e.txt", "e", "e.csv"):
        with pytest.raises(SaveError, match=r"ends in \.npz or \.parquet"):
            Embeddings(np.eye(2, dtype=np.float32), (Crop(Path("a")), Crop(Path("b")))).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_rows_that_do_not_fit_or_say_nothing_are_refused():
    crop = Crop(Path("a/b.jpg"))
    with pytest.raises(ShapeError, match=r"each of 1 crops, found shape \(2, 3\)"):
        Embeddings(np.ones((2, 3), np.float32), (crop,))
    for value in (0.0, np.nan, np.inf):
        with pytest.raises(EvaluationError, match=r"1 of 2 descriptors.*a/b.jpg"):
            Embeddings(np.array([[1, 0], [value, 0]], np.float32), (Crop(Path("x")), crop))


def test_selected_rows_keep_their_crops():
    records = tuple(Crop(Path(f"{i}.jpg"), person=str(i)) for i in range(4))
    chosen = Embeddings(np.eye(4, dtype=np.float32), records).select([3, 1])
    assert [c.person for c in chosen.crops] == ["3", "1"]
    assert chosen.vectors.argmax(1).tolist() == [3, 1]


def test_parquet_holds_a_vector_and_typed_records_in_each_row(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    crops = (Crop(Path("a/1.jpg"), "0001", "c1", None, 2.5), Crop(Path("a/2.jpg")))
    Embeddings(np.eye(2, dtype=np.float32), crops).save(tmp_path / "e.parquet")
    assert parquet.read_table(tmp_path / "e.parquet").to_pylist() == [
        {"vector": [1, 0], "path": "a/1.jpg", "person": "0001", "camera": "c1", "tracklet": None, "time": 2.5},
        {"vector": [0, 1], "path": "a/2.jpg", "person": None, "camera": None, "tracklet": None, "time": None},
    ]


def test_many_rows_come_back_from_parquet_in_their_order(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((20_000, 3)).astype(np.float32)
    before = Embeddings(vectors, tuple(Crop(Path(f"{i}.jpg"), str(i % 7)) for i in range(20_000)))
    before.save(tmp_path / "e.parquet")
    after = Embeddings.load(tmp_path / "e.parquet")
    np.testing.assert_array_equal(after.vectors, vectors)
    assert after.crops == before.crops


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    embeddings = Embeddings(np.eye(1, dtype=np.float32), (Crop(Path("a.jpg")),))
    embeddings.save(tmp_path / "e.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for use in (embeddings.save, Embeddings.load):
        with pytest.raises(MissingExtraError, match=r"e\.parquet.*partalign\[data\]"):
            use(tmp_path / "e.parquet")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x80\x04pickle", b"PAR1 broken"])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=r"x\.npz: expected embeddings written by `partalign embed`"):
        Embeddings.load(path)


def test_objects_in_a_file_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", vectors=np.array([{"a": 1}], dtype=object))
    with pytest.raises(EvaluationError, match=r"x\.npz"):
        Embeddings.load(tmp_path / "x.npz")
