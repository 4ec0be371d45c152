import json
import os

import numpy as np
import pyarrow.parquet
import pytest

from gallery_records import MODEL, records, vectors
from partalign.errors import GalleryError
from partalign.gallery import Filter, ModelName, Record, open_gallery
from partalign.gallery.transfer import export_gallery, import_gallery, read_model

JPEG = b"\xff\xd8 picture"


@pytest.fixture
def filled(gallery):
    gallery.add(records(*range(30), camera="c1", tags=("x", "y"), time=3.5), vectors(*range(30)))
    gallery.add([Record("odd", "Ünï", source="a b", box=(1, 2, 3, 4.5))], vectors(99), [JPEG])
    return gallery


def test_what_was_exported_comes_back_whole(filled, tmp_path):
    assert export_gallery(filled, tmp_path / "all.parquet") == 31
    assert read_model(tmp_path / "all.parquet") == MODEL
    with open_gallery(tmp_path / "copy", model=MODEL, create=True) as copy:
        done = import_gallery(copy, tmp_path / "all.parquet")
        assert (done.new, done.replaced) == (31, 0)
        assert copy.records() == filled.records()
        names = [record.id for record in copy.records()]
        assert np.array_equal(copy.vectors(names), filled.vectors(names))
        assert copy.thumbnails(names) == {"odd": JPEG}
        done = import_gallery(copy, tmp_path / "all.parquet")
        assert (done.new, done.replaced) == (0, 31)
        assert copy.verify() == []


def test_a_part_is_exported(filled, tmp_path):
    assert export_gallery(filled, tmp_path / "some.parquet", Filter(cameras=("c1",))) == 30
    table = pyarrow.parquet.read_table(tmp_path / "some.parquet")
    assert table.num_rows == 30
    assert table["vector"].type.list_size == MODEL.dimension


def test_another_models_export_is_refused(filled, tmp_path):
    export_gallery(filled, tmp_path / "all.parquet")
    other = ModelName("light", "other", 16)
    with open_gallery(tmp_path / "other", model=other, create=True) as gallery:
        with pytest.raises(GalleryError, match="cannot be compared"):
            import_gallery(gallery, tmp_path / "all.parquet")
        assert gallery.count() == 0


def test_files_that_are_no_export_are_refused(filled, tmp_path):
    path = tmp_path / "all.parquet"
    export_gallery(filled, path)
    whole = path.read_bytes()
    plain = pyarrow.table({"id": ["a"], "vector": [[1.0] * 16]})
    about = json.dumps({"format": 1, "model": MODEL.name, "version": MODEL.version, "dimension": 16})
    newer = plain.replace_schema_metadata({"partalign": about.replace('"format": 1', '"format": 2')})
    with open_gallery(tmp_path / "copy", model=MODEL, create=True) as copy:
        for make in (
            lambda: path.unlink(),
            lambda: path.write_bytes(b""),
            lambda: path.write_bytes(whole[: len(whole) // 2]),
            lambda: path.write_bytes(whole[:2000] + os.urandom(500) + whole[2500:]),
            lambda: pyarrow.parquet.write_table(plain, path),
            lambda: pyarrow.parquet.write_table(plain.replace_schema_metadata({"partalign": about}), path),
            lambda: pyarrow.parquet.write_table(newer, path),
        ):
            make()
            with pytest.raises(GalleryError, match=r"all\.parquet"):
                import_gallery(copy, path)
        assert copy.count() == 0
