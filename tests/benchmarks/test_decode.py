import numpy as np
import pytest
from PIL import Image

from partalign.benchmarks import decode
from partalign.errors import BenchmarkError, PartAlignError


def test_both_ways_give_the_same_numbers():
    lines = decode.run(count=5, rounds=1)
    assert [line.what for line in lines] == ["jpg to network input, 5 crops", "again, from the cache, 5 crops"]
    assert [line.difference for line in lines] == [0, 0]


def test_a_folder_of_crops_takes_the_place_of_generated_people(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.fromarray(np.full((30, 20, 3), 90, np.uint8)).save(tmp_path / name)
    (line, _) = decode.run(tmp_path, count=2, rounds=1)
    assert line.what == "jpg to network input, 2 crops"
    with pytest.raises(PartAlignError):
        decode.run(tmp_path / "nowhere", rounds=1)


def test_another_resize_is_not_timed(monkeypatch):
    monkeypatch.setattr(decode, "read_batch", lambda paths: np.zeros((len(paths), 160, 80, 3), np.uint8))
    with pytest.raises(BenchmarkError, match="jpg to network input"):
        decode.run(count=2, rounds=1)
