import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from partalign.errors import MissingExtraError, ShapeError, TrainingError
from partalign.pictures.curves import draw_bars, draw_cmc, draw_training, find_runs, read_log
from partalign.pictures.theme import DARK, LIGHT

RANKS = np.arange(20)
GOOD = 0.9 + 0.08 * (1 - np.exp(-RANKS / 3))
POOR = 0.6 + 0.2 * (1 - np.exp(-RANKS / 3))


def places(picture: Image.Image, colour: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of exactly this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return np.nonzero((np.asarray(picture) == wanted).all(axis=2))


def write_lines(path, *entries) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_the_better_curve_lies_higher(theme):
    picture = draw_cmc({"poor": POOR, "good": GOOD}, theme=theme)
    assert picture.mode == "RGB"
    assert "#{:02x}{:02x}{:02x}".format(*picture.getpixel((0, 0))) == theme.paper
    poor, good = (places(picture, theme.series[i])[0] for i in (0, 1))
    assert min(len(poor), len(good)) > 300
    assert np.median(good) < np.median(poor)


def test_names_are_text_whatever_they_look_like():
    plain = draw_cmc({"a": GOOD})
    for name in ("_a", "$\\undefined$", "a\nb", "<b>&", "x" * 500):
        picture = draw_cmc({name: GOOD})
        assert picture.size == plain.size
        # The ink of the legend is used for nothing else: the name is there.
        assert len(places(picture, LIGHT.ink)[0]) >= 50
    assert draw_bars({"$\\undefined$": {"_a": 1.0, "$x": 2.0}}, label="$\\undefined$").mode == "RGB"


@pytest.mark.parametrize(
    "curve", [[], [0.5, np.nan], [50.0, 90.0], [[0.5]]], ids=["empty", "nan", "percent", "two-dimensional"]
)
def test_curves_that_are_not_fractions_are_refused(curve):
    with pytest.raises(ShapeError, match="CMC curve of mine"):
        draw_cmc({"mine": np.array(curve)})


def test_short_perfect_and_hopeless_curves_can_be_drawn():
    for curve in (np.ones(1), np.zeros(3), np.ones(50)):
        assert len(places(draw_cmc({"m": curve}), LIGHT.series[0])[0]) > 20


def test_a_log_is_read_column_by_column(tmp_path):
    path = tmp_path / "log.jsonl"
    write_lines(
        path,
        {"iteration": 1, "loss": 0.2, "violating": 0.5},
        {"iteration": 2, "loss": 0.1, "violating": 0.4, "note": "warm"},
        {"iteration": 2, "mAP": 0.3},
    )
    log = read_log(path)
    assert set(log) == {"iteration", "loss", "violating", "mAP"}
    np.testing.assert_array_equal(log["iteration"], [1, 2, 2])
    np.testing.assert_array_equal(log["loss"], [0.2, 0.1, np.nan])
    np.testing.assert_array_equal(log["mAP"], [np.nan, np.nan, 0.3])


def test_a_last_line_cut_short_is_left_out_but_a_broken_one_before_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    good = '{"iteration": 1, "loss": 0.2}\n'
    path.write_text(good + '{"iteration": 2, "lo')
    assert read_log(path)["iteration"].tolist() == [1]
    path.write_text(good + "[1, 2]\n" + good)
    with pytest.raises(TrainingError, match=r"log\.jsonl: line 2: expected a JSON object with `iteration`"):
        read_log(path)


def test_a_log_that_is_none_is_refused(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(TrainingError, match=r"empty\.jsonl.*at least one line"):
        read_log(empty)
    with pytest.raises(TrainingError, match=r"gone\.jsonl.*cannot read"):
        read_log(tmp_path / "gone.jsonl")
    empty.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="cannot read"):
        read_log(empty)


def made_log(steps: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    score = np.full(steps, np.nan)
    score[::10] = 0.4
    falling = np.linspace(1, 0.2, steps)
    noise = 0.05 * rng.random(steps)
    return {"iteration": np.arange(steps), "loss": 0.2 * falling + noise, "violating": falling, "mAP": score}


def test_each_quantity_has_its_panel_and_a_missing_one_none():
    log = made_log(30)
    three = draw_training({"run": log})
    two = draw_training({"run": {k: v for k, v in log.items() if k != "violating"}})
    one = draw_training({"run": log}, quantities=("loss",))
    assert three.width == pytest.approx(3 * one.width, abs=3)
    assert two.width == pytest.approx(2 * one.width, abs=2)
    with pytest.raises(TrainingError, match="loss, violating, mAP"):
        draw_training({"run": {"iteration": log["iteration"], "mAP": np.full(30, np.nan)}})


def test_a_falling_loss_falls_in_the_picture_also_when_smoothed():
    for steps in (30, 1000):
        picture = draw_training({"run": made_log(steps)}, quantities=("loss",))
        rows, columns = places(picture, LIGHT.series[0])
        # Rows count downwards: a falling line has rows that grow with the columns.
        assert np.corrcoef(rows, columns)[0, 1] > 0.9


def test_runs_are_told_apart():
    picture = draw_training({"a": made_log(30), "b": {**made_log(30), "loss": np.full(30, 0.5)}}, quantities=("loss",))
    first, second = (places(picture, LIGHT.series[i])[0] for i in (0, 1))
    assert min(len(first), len(second)) > 100
    assert np.median(second) < np.median(first)


def test_bars_are_as_long_as_their_values():
    picture = draw_bars(
        {"Market-1501": {"baseline": 40.0, "proposed": 80.0}}, spread={"Market-1501": {"baseline": 3.0}}
    )
    spans = []
    for i in (0, 1):
        rows, columns = places(picture, LIGHT.series[i])
        # The bar itself, not its key in the legend, which stands higher and is narrower.
        bar = rows[columns == np.bincount(columns).argmax()]
        spans.append(np.ptp(bar[bar > 120]))
    assert spans[1] / spans[0] == pytest.approx(2, rel=0.05)
    with pytest.raises(ShapeError, match="at least one bar"):
        draw_bars({"Market-1501": {}})


def test_charts_leave_matplotlib_s_global_state_alone():
    code = (
        "import sys, numpy as np\n"
        "from partalign.pictures.curves import draw_cmc\n"
        "assert 'matplotlib' not in sys.modules\n"
        "draw_cmc({'m': np.ones(5)})\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError) as caught:
        draw_cmc({"m": GOOD})
    assert str(caught.value) == 'a chart needs matplotlib, which is not installed: pip install "partalign[plot]"'


def test_runs_are_found_by_folder_or_model_and_named_by_folder(tmp_path):
    for name in ("a/x", "b/x", "b/y"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.safetensors").touch()
    found = find_runs([tmp_path / "a/x", tmp_path / "b/y/model.safetensors"])
    assert list(found) == ["x", "y"]
    assert found["x"] == (tmp_path / "a/x/model.safetensors", tmp_path / "a/x/log.jsonl")
    assert found["y"] == (tmp_path / "b/y/model.safetensors", tmp_path / "b/y/log.jsonl")
    assert len(find_runs([tmp_path / "a/x", tmp_path / "b/x"])) == 2
    with pytest.raises(TrainingError, match="no such file"):
        find_runs([tmp_path / "c"])
