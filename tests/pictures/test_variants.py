import json

import pytest

from partalign.errors import EvaluationError, ShapeError
from partalign.pictures import variants
from partalign.pictures.theme import DARK, LIGHT
from partalign.pictures.variants import Variant, draw_variants, read_variants


def write(path, rank1, mAP):
    path.write_text(json.dumps({"rank-1": rank1, "mAP": mAP, "protocol": "market1501"}))
    return path


def test_files_of_one_name_are_its_seeds(tmp_path):
    files = [write(tmp_path / f"{i}.json", 0.7 + i / 10, 0.5 + i / 10) for i in range(3)]
    found = read_variants([f"base={files[0]}", f"proposed={files[1]}", f"base={files[2]}"])
    assert [v.name for v in found] == ["base", "proposed"]
    assert found[0].rank1 == pytest.approx((0.7, 0.9))
    assert found[1].mAP == pytest.approx((0.6,))


@pytest.mark.parametrize(
    ("word", "message"),
    [("file.json", "expected NAME=FILE"), ("=file.json", "expected NAME=FILE"), ("a=none.json", "none.json: expected")],
)
def test_words_that_name_no_file_are_refused(word, message):
    with pytest.raises(EvaluationError, match=message):
        read_variants([word])


@pytest.mark.parametrize(
    "content", ["", "[]", '{"rank-1": 0.5}', '{"rank-1": "x", "mAP": 1}', '{"rank-1": 88.8, "mAP": 74}']
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(EvaluationError, match=r"s\.json: expected figures"):
        read_variants([f"a={tmp_path / 's.json'}"])


def test_bars_are_means_in_per_cent_with_the_standard_deviation_of_the_seeds(monkeypatch):
    seen = {}
    real = variants.draw_bars

    def spy(means, *, spread, **options):
        seen.update(means=means, spread=spread)
        return real(means, spread=spread, **options)

    monkeypatch.setattr(variants, "draw_bars", spy)
    # The three seeds of LOG.md: 74.8 +- 1.8 and 63.5 +- 0.3.
    rows = [Variant("base", (0.728, 0.753, 0.762), (0.632, 0.638, 0.635)), Variant("other", (0.8,), (0.6,))]
    drawn = draw_variants(rows)
    assert drawn.width > drawn.height > 100
    assert seen["means"]["Rank-1"]["base (3 seeds)"] == pytest.approx(74.8, abs=0.05)
    assert seen["spread"]["Rank-1"]["base (3 seeds)"] == pytest.approx(1.8, abs=0.05)
    assert seen["spread"]["mAP"]["base (3 seeds)"] == pytest.approx(0.3, abs=0.05)
    assert seen["means"]["mAP"]["other"] == pytest.approx(60)
    assert seen["spread"]["mAP"]["other"] == 0


def test_themes_differ_and_names_must_too():
    rows = [Variant("a", (0.5,), (0.4,))]
    assert draw_variants(rows, theme=LIGHT).tobytes() != draw_variants(rows, theme=DARK).tobytes()
    with pytest.raises(ShapeError, match="one twice"):
        draw_variants(rows * 2)


@pytest.mark.parametrize(("rank1", "mAP"), [((), ()), ((0.5,), (0.5, 0.6)), ((50.0,), (0.4,))])
def test_scores_that_are_no_fractions_of_each_seed_are_refused(rank1, mAP):
    with pytest.raises(ShapeError, match="of each seed"):
        Variant("a", rank1, mAP)
