"""The models in the package: names, sizes, cards, and what the default one does with real people."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from partalign.cli import main
from partalign.datasets import load_dataset
from partalign.datasets.generated import World
from partalign.embedding import Embedder, evaluate
from partalign.errors import WeightsError
from partalign.images import read_picture, resize
from partalign.weights.checkpoint import load_model
from partalign.weights.info import read_info
from partalign.weights.shipped import DEFAULT, find_model, leading_model, shipped_models


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(load_model())


def describe(embedder: Embedder, pictures: list[Image.Image]) -> np.ndarray:
    size = embedder.network.input_size
    return embedder(np.stack([resize(picture, size) for picture in pictures]))


def generated(persons: int) -> list[Image.Image]:
    """One picture of each of so many generated people."""
    world = World(seed=3, persons=max(persons, 6), crops_per_person=1, height=128, width=64)
    return [Image.fromarray(picture) for picture in world.render(range(persons))[0]]


def test_it_gives_the_figures_of_its_card(embedder, shared):
    figures = evaluate(embedder, load_dataset("market1501", shared / "data")).as_dict()
    results = read_info().results
    # Convolutions of another processor may turn the ranks of a query or two of 441.
    assert figures["rank-1"] == pytest.approx(results["rank-1"], abs=0.005)
    assert figures["mAP"] == pytest.approx(results["mAP"], abs=0.002)


def test_one_thread_and_two_give_the_same(embedder):
    pictures = generated(6)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(describe(embedder, pictures))
    torch.set_num_threads(before)
    np.testing.assert_allclose(*found, atol=1e-5)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cut by a twentieth on every side": lambda p: p.crop(
        (p.width // 20, p.height // 20, p.width - p.width // 20, p.height - p.height // 20)
    ),
    "darker": lambda p: p.point(lambda value: int(value * 0.75)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_picture_is_nearest_to_itself(embedder, shared, change):
    split = load_dataset("market1501", shared / "data")
    first = {crop.person: crop.path for crop in reversed(split.query)}
    pictures = [read_picture(path) for path in first.values()]
    plain, changed = describe(embedder, pictures), describe(embedder, [CHANGES[change](p) for p in pictures])
    similarity = changed @ plain.T
    assert len(pictures) == 100
    assert (similarity.argmax(1) == np.arange(100)).mean() >= 0.97
    assert similarity.diagonal().mean() > 0.7


def test_evaluate_and_embed_need_no_model_and_two_pictures_are_enough(tmp_path, capsys):
    for number, picture in enumerate(generated(2), start=1):
        (tmp_path / "named").mkdir(exist_ok=True)
        (tmp_path / "unnamed").mkdir(exist_ok=True)
        picture.save(tmp_path / "unnamed" / f"{'ab'[number - 1]}.png")
        picture.save(tmp_path / "named" / f"0001_c{number}.png")
    for folder, words in (("named", "2 of 2 queries scored"), ("unnamed", "a.png  b.png")):
        with pytest.raises(SystemExit) as exit:
            main(["evaluate", "--dataset", "folder", "--data", str(tmp_path / folder)])
        assert exit.value.code == 0
        assert words in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit:
        main(["embed", str(tmp_path / "unnamed"), "--out", str(tmp_path / "two.npz")])
    assert exit.value.code == 0
    assert "2 descriptors of 512 numbers" in capsys.readouterr().out


def test_a_match_is_explained_without_any_file_but_the_pictures(tmp_path, capsys):
    a, b = generated(2)
    a.save(tmp_path / "a.png")
    b.save(tmp_path / "b.png")
    with pytest.raises(SystemExit) as exit:
        main(["explain", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--out", str(tmp_path / "why.png")])
    assert exit.value.code == 0
    assert "same person" in capsys.readouterr().out
    assert read_picture(tmp_path / "why.png").width > 400


def test_models_are_found_by_name_or_file(tmp_path, monkeypatch):
    shipped = shipped_models()
    assert find_model() == find_model(DEFAULT) == shipped[DEFAULT]
    assert find_model("some/where.safetensors") == Path("some/where.safetensors")
    with pytest.raises(WeightsError, match=f'did you mean "{DEFAULT}"'):
        find_model(DEFAULT[:-1])
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).touch()  # a file of that name comes first
    assert find_model(DEFAULT) == Path(DEFAULT)


def test_a_leading_model_is_told_from_pictures():
    a, b = Path("a.jpg"), Path("b.jpg")
    assert leading_model([a, b]) == (None, (a, b))
    assert leading_model([Path("m.safetensors"), a]) == (Path("m.safetensors"), (a,))
    assert leading_model([Path(DEFAULT), a, b]) == (Path(DEFAULT), (a, b))
    assert leading_model([]) == (None, ())


def test_every_shipped_model_is_small_and_has_a_card():
    for name, path in shipped_models().items():
        assert path.stat().st_size <= 20e6, name
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        info = read_info(path)
        assert info.calibration is not None
        for key in ("rank-1", "mAP"):
            assert f"{100 * info.results[key]:.1f}" in card, f"{name}: the card lacks its {key}"
        for word in ("Data", "Training", "Figures", "Known failures", "Uses that are refused"):
            assert word in card
