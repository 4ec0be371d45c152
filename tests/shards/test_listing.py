import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.crops import Crop
from partalign.datasets.folder import find_crops, walk_crops
from partalign.datasets.listing import find_pictures, walk_pictures
from partalign.errors import DatasetError, ShardsError
from partalign.shards.listing import make_list, read_piece

NAME = st.text("ab-_.c/0", min_size=1, max_size=6).filter(lambda name: all(part.strip(".") for part in name.split("/")))


@given(st.sets(NAME, min_size=1, max_size=12))
def test_walking_gives_the_names_of_a_sorted_list(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("walk")
    for name in names:
        path = root / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = list(walk_pictures(root))
    assert found == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg") if _shown(root, path))
    assert found == find_pictures(root)[0]


def _shown(root, path):
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "crops"
    for name in ("0007_c1s1_000012_00.jpg", "anna/cam2_1.png", "anna/cam1_1.png", "bo/c3/x.jpg", "readme.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_list_holds_the_crops_in_order_a_piece_for_each_shard(folder, tmp_path):
    listed = make_list(folder, 3, tmp_path / "list.parquet")
    pieces = [read_piece(tmp_path / "list.parquet", number) for number in range(2)]
    assert [len(piece) for piece in pieces] == [3, 1]
    assert tuple(crop for piece in pieces for crop in piece) == find_crops([folder]) == tuple(walk_crops(folder))
    assert listed.crops == 4
    assert listed == make_list(folder, 2)  # neither the shards' size nor writing changes what is listed
    (folder / "zoe.jpg").touch()
    assert make_list(folder, 3).sha256 != listed.sha256


def test_paths_are_absolute_wherever_the_list_is_made(folder, tmp_path, monkeypatch):
    expected = make_list(folder, 3)
    monkeypatch.chdir(tmp_path)
    assert make_list(folder.relative_to(tmp_path), 3) == expected


def test_a_table_is_listed_as_it_is_written(folder, tmp_path):
    table = folder / "mine.csv"
    table.write_text("path,person,camera,time\nanna/cam2_1.png,7,lobby,1.5\nnot/there.jpg,,,\n")
    make_list(table, 10, tmp_path / "list.parquet")
    first, second = read_piece(tmp_path / "list.parquet", 0)
    assert first == Crop(folder / "anna/cam2_1.png", "7", "lobby", time=1.5)
    assert second == Crop(folder / "not/there.jpg")
    table.rename(folder / "crops.csv")
    assert make_list(folder, 10).crops == 2


def test_two_lines_for_a_file_are_refused(folder):
    table = folder / "mine.csv"
    table.write_text("path\n" + "".join(f"{number}.jpg\n" for number in [*range(50), 31]))
    with pytest.raises(DatasetError, match=r"mine\.csv: a second line for .*31\.jpg; remove one"):
        make_list(table, 7)


def test_nothing_to_list_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="expected pictures, found none"):
        make_list(tmp_path, 7)
    with pytest.raises(DatasetError, match="no such file"):
        make_list(tmp_path / "none", 7)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_told(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.jpg", "wb"):  # noqa: PTH123
        pass
    with pytest.raises(DatasetError, match="expected a file name in UTF-8"):
        make_list(tmp_path, 7)


def test_a_failed_listing_leaves_no_file(folder, tmp_path):
    (folder / "mine.csv").write_text("path\na.jpg\na.jpg\n")
    with pytest.raises(DatasetError):
        make_list(folder / "mine.csv", 7, tmp_path / "list.parquet")
    assert not [path for path in tmp_path.iterdir() if path.suffix != "" or path.name.startswith(".")]


def test_a_damaged_list_is_told(folder, tmp_path):
    file = tmp_path / "list.parquet"
    make_list(folder, 3, file)
    with pytest.raises(ShardsError, match="cannot read the crops of shard 9"):
        read_piece(file, 9)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ShardsError, match="cannot read the crops of shard 0"):
        read_piece(file, 0)


PROGRAM = """
import resource, sys
from pathlib import Path
from partalign.shards.listing import make_list
make_list(Path(sys.argv[1]), 1000, Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss")
def test_a_long_table_is_listed_in_a_few_bytes_for_each_line(tmp_path):
    def kilobytes(lines):
        table = tmp_path / f"{lines}.csv"
        table.write_text("path\n" + "".join(f"a/folder/of/a/camera/{number:012}.jpg\n" for number in range(lines)))
        words = [sys.executable, "-c", PROGRAM, str(table), str(tmp_path / "list.parquet")]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    more = 40_000
    grown = kilobytes(5_000 + more) - kilobytes(5_000)
    assert 1024 * grown / more < 150  # a record of a crop takes about 500
