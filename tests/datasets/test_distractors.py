from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.crops import Crop
from partalign.datasets import distractors
from partalign.errors import DatasetError


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def refused(root: Path, *words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        distractors.load(root)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_are_distractors_whatever_they_are_called(tmp_path):
    names = ("0002_c1s1_000451_03.jpg", "b/-1_c6s4_000001_00.jpg", "b/c/7.JPG", "img-c3.jpeg", "c2/x.jpg", "arc4.jpg")
    make(tmp_path, *names)
    cameras = {"0002_c1s1_000451_03.jpg": "c1", "b/-1_c6s4_000001_00.jpg": "c6", "img-c3.jpeg": "c3"}
    expected = tuple(Crop(tmp_path / name, "0000", cameras.get(name)) for name in sorted(names))
    assert distractors.load(tmp_path) == expected


def test_other_files_are_left_out_and_counted(tmp_path):
    make(tmp_path, "images/1.jpg", "images/Thumbs.db", ".git/3.jpg", "__MACOSX/._4.jpg", "readme.txt", "images/5.png")
    crops, notes = distractors.load_with_notes(tmp_path)
    assert [crop.path.name for crop in crops] == ["1.jpg"]
    assert notes == ("2 files left out, not named as pictures: images/5.png, readme.txt",)


def test_nothing_to_read(tmp_path):
    refused(tmp_path / "nowhere", "no such folder")
    refused(tmp_path, "expected .jpg files, found none; unpack")
    refused(make(tmp_path, "distractors_500k.zip"), "found none", "1 files left out", "distractors_500k.zip", "unpack")


SIZES = st.lists(st.integers(0, 50), max_size=6)


@given(SIZES, st.integers(0, 2**40), st.integers(50, 70))
def test_samples_are_nested_and_keep_the_order(sizes, seed, number):
    crops = range(number)
    subsets = distractors.sample(crops, sizes, seed)
    assert [len(subset) for subset in subsets] == sizes
    assert all(list(subset) == sorted(set(subset)) for subset in subsets)
    by_size = sorted(subsets, key=len)
    assert all(set(small) <= set(large) for small, large in pairwise(by_size))


@given(SIZES.filter(bool), st.integers(0, 2**40))
def test_a_sample_depends_on_its_seed_and_size_alone(sizes, seed):
    crops = [f"{number}.jpg" for number in range(60)]
    together = distractors.sample(crops, sizes, seed)
    assert together == tuple(distractors.sample(crops, [size], seed)[0] for size in sizes)


def test_samples_stay_the_same_over_the_years():
    assert distractors.sample(range(1000), [5], seed=1) == ((13, 464, 503, 514, 531),)
    assert distractors.sample(range(1000), [5]) != distractors.sample(range(1000), [5], seed=1)


def test_every_distractor_is_as_likely():
    counts = [0] * 10
    for seed in range(2000):
        for row in distractors.sample(range(10), [3], seed)[0]:
            counts[row] += 1
    assert all(abs(count - 600) < 5 * (2000 * 0.3 * 0.7) ** 0.5 for count in counts)


def test_too_few_distractors():
    told = r"sizes from 0 to the 3 distractors there are, found 0, 100,000, 200,000, 500,000; ask for fewer"
    with pytest.raises(DatasetError, match=told):
        distractors.sample([1, 2, 3])
    with pytest.raises(DatasetError, match="found -1"):
        distractors.sample([1, 2, 3], [-1])
    assert distractors.sample([1, 2, 3], [3, 0]) == ((1, 2, 3), ())
    assert distractors.sample([], []) == ()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(0, 5))
def test_a_growing_gallery_begins_with_each_smaller_sample(sizes, seed):
    crops = range(30)
    grown = distractors.growing(crops, sizes, seed)
    assert len(grown) == max(sizes)
    for size, subset in zip(sizes, distractors.sample(crops, sizes, seed), strict=True):
        assert set(grown[:size]) == set(subset)
