import json

import numpy as np
import pytest

from partalign.crops import Embeddings
from partalign.errors import ShardsError
from partalign.evaluation.features import load_features
from partalign.shards.manifest import read_manifest
from partalign.shards.store import Shards, is_shards, read_shards


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "crops"
    root.mkdir()
    for number in range(12):
        (root / f"{number % 4:04}_c1_{number:06}.jpg").touch()
    return root


def test_what_is_written_is_read_in_the_order_of_the_list(described, folder, tmp_path):
    vectors = np.eye(12, dtype=np.float32)
    shards = described(folder, tmp_path / "out", vectors=vectors, corrupt=(0, 7, 8))
    found = read_shards(tmp_path / "out")
    assert np.array_equal(found.vectors, np.delete(vectors, (0, 7, 8), axis=0))
    assert [crop.person for crop in found.crops][:3] == ["0000", "0000", "0001"]
    assert [crop.path.name for crop in found.crops] == [
        p.name for i, p in enumerate(sorted(folder.iterdir())) if i not in (0, 7, 8)
    ]
    assert shards.places(1).tolist() == [5, 6, 9]
    assert [len(part) for part in shards] == [4, 3, 2]
    names = [path.name for path in sorted(folder.iterdir())]
    lines = (tmp_path / "out/corrupt.csv").read_text().splitlines()
    assert lines[0] == "path,shard,reason"
    assert [line.split(",")[0].rpartition("/")[2] for line in lines[1:]] == [names[0], names[7], names[8]]
    assert is_shards(tmp_path / "out")
    assert not is_shards(folder)


def test_a_shard_is_an_ordinary_file_of_descriptors(described, folder, tmp_path):
    shards = described(folder, tmp_path / "out")
    assert Embeddings.load(shards.path(0)).crops == shards.read(0).crops
    saved = load_features(shards.path(0))
    assert isinstance(saved, Embeddings)
    assert np.array_equal(saved.vectors, shards.read(0).vectors)


def test_half_precision_takes_half_and_is_read_at_unit_length(described, folder, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(12, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    full = described(folder, tmp_path / "full", 12, vectors=vectors)
    half = described(folder, tmp_path / "half", 12, vectors=vectors, precision="float16")
    assert half.path(0).stat().st_size < 0.65 * full.path(0).stat().st_size
    found = half.read(0).vectors
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found @ found.T, vectors @ vectors.T, atol=3e-4)


def test_a_missing_damaged_or_foreign_shard_is_told(described, folder, tmp_path):
    shards = described(folder, tmp_path / "out")
    other = described(folder, tmp_path / "other", version="def")
    whole = shards.path(1).read_bytes()
    shards.path(1).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ShardsError, match=r"00001\.parquet: cannot be read .* delete it"):
        read_shards(shards.folder)
    shards.path(1).write_bytes(other.path(1).read_bytes())
    with pytest.raises(ShardsError, match=r"00001\.parquet: a shard of another job"):
        shards.read(1)
    shards.path(1).write_bytes(shards.path(0).read_bytes())
    with pytest.raises(ShardsError, match="a shard of another job"):
        shards.read(1)
    shards.path(1).unlink()
    with pytest.raises(ShardsError, match=r"1 of 3 shards are missing, the first is 00001\.parquet"):
        list(shards)
    assert shards.missing() == [1]


def test_descriptors_that_are_no_numbers_are_told(described, folder, tmp_path):
    shards = described(folder, tmp_path / "out")
    sound = shards.read(0)
    broken = sound.vectors.copy()
    object.__setattr__(sound, "vectors", broken)
    broken[2] = np.nan
    shards.write(0, sound, {})
    with pytest.raises(ShardsError, match=r"00000\.parquet: cannot be read \(1 of 5 descriptors are not finite"):
        shards.read(0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 99}, "newer partalign"),
        ({"crops": "many"}, "cannot be read as a manifest"),
        ({"crops": 0}, "out of range"),
        ({"precision": "int3"}, "out of range"),
        ({"colour": 1}, "cannot be read as a manifest"),
        ({"format": None}, "not a manifest"),
    ],
)
def test_a_damaged_manifest_is_told(described, folder, tmp_path, change, told):
    file = described(folder, tmp_path / "out").folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ShardsError, match=told):
        read_manifest(file)
    file.write_text("{")
    with pytest.raises(ShardsError, match="cannot be read"):
        Shards.open(tmp_path / "out")
    with pytest.raises(ShardsError, match="expected shards made by `partalign embed-many`"):
        Shards.open(tmp_path)


def test_shards_without_a_manifest_are_not_overwritten(described, folder, tmp_path):
    shards = described(folder, tmp_path / "out")
    (shards.folder / "manifest.json").unlink()
    with pytest.raises(ShardsError, match="holds shards without a manifest"):
        Shards.begin(shards.folder, shards.manifest)
