import csv
import datetime
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from partalign.crops import Crop
from partalign.datasets.table import COLUMNS, find_table, read_table, write_table
from partalign.errors import DatasetError, MissingExtraError


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_csv(root: Path, text: str) -> Path:
    (root / "crops.csv").write_text(text, encoding="utf-8-sig")
    return root / "crops.csv"


def write_parquet(root: Path, columns: object) -> Path:
    table = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns)
    parquet.write_table(table, root / "crops.parquet")
    return root / "crops.parquet"


def refused(table: Path, *words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_table(table)
    for word in (str(table), *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_find(tmp_path):
    assert find_table(tmp_path) is None
    make(tmp_path, "crops.parquet")
    assert find_table(tmp_path) == tmp_path / "crops.parquet"
    make(tmp_path, "crops.csv")
    with pytest.raises(DatasetError, match=r"found crops.csv and crops.parquet; remove one of them"):
        find_table(tmp_path)


def test_csv(tmp_path):
    make(tmp_path, "query/1.jpg", "gallery/2.jpg")
    text = 'time,path,person,camera,tracklet\n1.5,query/1.jpg,"Bob, the tall",lobby,t1\n,gallery\\2.jpg,,,\n'
    assert read_table(write_csv(tmp_path, text)) == {
        "query/1.jpg": Crop(tmp_path / "query/1.jpg", "Bob, the tall", "lobby", "t1", 1.5),
        "gallery/2.jpg": Crop(tmp_path / "gallery/2.jpg"),
    }


def test_parquet_with_typed_columns(tmp_path):
    make(tmp_path, "query/1.jpg", "gallery/2.jpg")
    columns = {
        "time": pyarrow.array([3, None], pyarrow.int32()),
        "path": pyarrow.array(["query/1.jpg", "gallery\\2.jpg"]).dictionary_encode(),
        "person": pyarrow.array([7, -1], pyarrow.int64()),
        "camera": pyarrow.array([2.0, float("nan")]),  # as pandas writes integers, one of them missing
        "tracklet": pyarrow.array([" t1 ", ""], pyarrow.large_string()),
    }
    assert list(read_table(write_parquet(tmp_path, columns)).values()) == [
        Crop(tmp_path / "query/1.jpg", "7", "2", "t1", 3.0),
        Crop(tmp_path / "gallery/2.jpg", "-1"),
    ]


HEADERS = [
    (["file", "person"], "found file, person"),
    (["path", "person", "path"], "found path, person, path"),
    (["path", "person", "__index_level_0__"], "found path, person, __index_level_0__"),
]


@pytest.mark.parametrize(("header", "found"), HEADERS)
def test_other_columns(tmp_path, header, found):
    refused(write_csv(tmp_path, f"{','.join(header)}\n{'1.jpg,' * len(header)}\n"), found)
    arrays = [pyarrow.array(["1.jpg"])] * len(header)
    refused(write_parquet(tmp_path, pyarrow.Table.from_arrays(arrays, names=header)), found)


ROWS = [
    ({"path": ["1.jpg", "1.jpg"]}, ("line 3", "row 2"), "a second line for 1.jpg"),
    ({"path": ["1.jpg"], "time": ["noon"]}, ("line 2", "row 1"), "expected `time` in seconds, found 'noon'"),
    ({"path": ["1.jpg"], "time": ["inf"]}, ("line 2", "row 1"), "found 'inf'"),
    ({"path": ["../1.jpg"]}, ("line 2", "row 1"), "found '../1.jpg'"),
    ({"path": ["/etc/passwd"]}, ("line 2", "row 1"), "found '/etc/passwd'"),
    ({"path": [""], "person": ["bob"]}, ("line 2", "row 1"), "expected a path inside"),
    ({"path": ["1.jpg", "2.jpg", "3.jpg"]}, ("", ""), "2 listed files missing: 2.jpg, 3.jpg"),
    ({"path": ["x" * 5000]}, ("", ""), "1 listed file missing"),
    ({"path": []}, ("", ""), "only the header"),
]


@pytest.mark.parametrize(("columns", "places", "found"), ROWS)
def test_rows_that_are_refused(tmp_path, columns, places, found):
    make(tmp_path, "1.jpg")
    lines = [",".join(columns), *(",".join(row) for row in zip(*columns.values(), strict=True))]
    refused(write_csv(tmp_path, "".join(f"{line}\n" for line in lines)), places[0], found)
    typed = {name: pyarrow.array(values, pyarrow.string()) for name, values in columns.items()}
    refused(write_parquet(tmp_path, typed), places[1], found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found none"),
        ("path,person\n1.jpg\n", "line 2: expected as many cells as columns"),
        ("path,person\n1.jpg,bob,x\n", "line 2: expected as many cells as columns"),
        ("path,time\n1.jpg,nan\n", "found 'nan'"),
        ('path\n"1.jpg\n', "cannot read it"),
    ],
)
def test_csv_files_that_are_refused(tmp_path, text, found):
    make(tmp_path, "1.jpg")
    refused(write_csv(tmp_path, text), found)


def test_a_csv_file_in_another_encoding(tmp_path):
    (tmp_path / "crops.csv").write_bytes("path,person\n1.jpg,Jürgen\n".encode("latin-1"))
    refused(tmp_path / "crops.csv", "UTF-8")


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([True], "row 1: expected text or a number as `person`, found bool"),
        ([b"bob"], "found bytes"),
        ([["bob"]], "found list"),
        ([datetime.datetime(2026, 1, 1)], "found datetime"),
    ],
)
def test_cells_of_another_type(tmp_path, values, found):
    refused(write_parquet(tmp_path, {"path": ["1.jpg"], "person": values}), found)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    make(tmp_path, "crops.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtraError, match=r'crops.parquet: Parquet needs pyarrow: pip install "partalign\[data\]"'
    ):
        read_table(tmp_path / "crops.parquet")


@given(st.binary(max_size=200))
def test_no_csv_raises_anything_but_dataset_error(tmp_path_factory, data):
    table = tmp_path_factory.mktemp("table") / "crops.csv"
    table.write_bytes(b"path,person,time\n" + data)
    refused(table)


@given(st.data())
def test_no_parquet_raises_anything_but_dataset_error(tmp_path_factory, data):
    table = write_parquet(tmp_path_factory.mktemp("table"), {"path": ["gone.jpg"], "person": [7]})
    whole = bytearray(table.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    table.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    refused(table)


ID = st.none() | st.integers(-1, 2**62).map(str) | st.text(min_size=1, max_size=8).map(str.strip).filter(bool)
RECORDS = st.lists(st.tuples(ID, ID, ID, st.none() | st.floats(allow_nan=False, allow_infinity=False)), max_size=5)


@given(RECORDS.filter(bool))
def test_both_forms_hold_the_same(tmp_path_factory, records):
    root = tmp_path_factory.mktemp("table")
    rows = [(f"{number}.jpg", *record) for number, record in enumerate(records)]
    make(root, *(row[0] for row in rows))
    with (root / "crops.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS[:5], *(["" if cell is None else cell for cell in row] for row in rows)])
    types = [pyarrow.string()] * 4 + [pyarrow.float64()]
    columns = zip(COLUMNS[:5], zip(*rows, strict=True), types, strict=True)
    write_parquet(root, {name: pyarrow.array(cells, kind) for name, cells, kind in columns})
    expected = {row[0]: Crop(root / row[0], *row[1:]) for row in rows}
    assert read_table(root / "crops.csv") == expected
    assert read_table(root / "crops.parquet") == expected


@given(
    st.lists(
        st.builds(
            Crop,
            path=st.just(Path()),
            camera=st.none() | st.text("aé,;\"' \n漢", min_size=1).filter(lambda text: text == text.strip()),
            tracklet=st.none() | st.just("lobby-0001"),
            time=st.none() | st.floats(0, 2e9),
            box=st.none() | st.tuples(*[st.floats(-1e4, 1e4)] * 4),
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read_again(tmp_path_factory, crops):
    root = tmp_path_factory.mktemp("written")
    crops = [replace(crop, path=root / f"a b/é{number}.jpg") for number, crop in enumerate(crops)]
    make(root, *(f"a b/{crop.path.name}" for crop in crops))
    assert list(read_table(write_table(root, crops)).values()) == crops


@pytest.mark.parametrize("row", ["a.jpg,1,2,x,4", "a.jpg,1,2,3,inf"])
def test_a_box_that_is_no_numbers_is_refused_with_its_line(tmp_path, row):
    make(tmp_path, "a.jpg")
    (tmp_path / "crops.csv").write_text(f"path,left,top,width,height\n{row}\n")
    with pytest.raises(DatasetError, match=r"line 2: expected `(width|height)` in pixels"):
        read_table(tmp_path / "crops.csv")
