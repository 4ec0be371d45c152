"""Studies at the smallest size: variants shared, work taken up, figures kept and told."""

import json
import re
import subprocess
import sys

import pytest

from partalign.datasets import load_dataset
from partalign.embedding import Embedder, evaluate
from partalign.errors import PartAlignError, RecipeError
from partalign.studies import STUDIES, GeneratedPeople, RealPeople, Size, SmallRealPeople, report, run_study
from partalign.studies.claims import VARIANTS
from partalign.studies.run import read_finding
from partalign.training.run import Run
from partalign.training.settings import TrainSettings, read_recipe
from partalign.weights.checkpoint import load_model

SMALL = ("network.height=64", "network.width=32", "save_every=1")
BATCH = ("batch.persons=4", "batch.crops=4", "schedule.iterations=2", "schedule.warmup=1")
SIZE = Size(persons=16, crops_per_person=8, pose=(*SMALL, "epochs=1", "batch=8"), training=(*SMALL, *BATCH))
REAL = (
    *(*SMALL, *BATCH, "weights.appearance=", "weights.parts=", "freeze=[]"),
    *("network.appearance=light", "network.parts=light", "network.dimension=64"),
)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.safetensors"))}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Two studies in one folder, the first stopped in the second world and called again."""
    out = tmp_path_factory.mktemp("studies")
    save = Run.save

    def save_and_stop(run, trainer, iteration):
        save(run, trainer, iteration)
        if run.folder.name == "frozen-1":
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            run_study("parts", GeneratedPeople(out, size=SIZE), range(2))
    stopped = times(out)
    ground = GeneratedPeople(out, size=SIZE)
    parts = run_study("parts", ground, range(2))
    return out, stopped, parts, run_study("shuffled", ground, range(2))


def test_a_second_call_goes_on_and_variants_are_shared(studied):
    out, stopped, parts, shuffled = studied
    changed = {path.relative_to(out).as_posix() for path, time in stopped.items() if times(out)[path] != time}
    assert changed == {"frozen-1/last.safetensors"}
    runs = {path.parent.name for path in out.glob("*/model.safetensors")}
    assert runs == {f"{name}-{seed}" for seed in range(2) for name in STUDIES["shuffled"].variants}
    assert parts.figures["frozen"] == shuffled.figures["frozen"]
    assert set(parts.pck) == {"pose-0", "pose-1"}


def test_figures_are_those_of_the_models(studied):
    out, _, parts, _ = studied
    split = load_dataset("market1501", out / "people-1")
    scores = evaluate(Embedder(load_model(out / "trained-1/model.safetensors")), split)
    assert parts.figures["trained"][1]["mAP"] == pytest.approx(scores.as_dict()["mAP"], abs=1e-6)


def test_frozen_pose_networks_stay_as_they_are_and_the_control_is_none(studied):
    out = studied[0]
    names = ("frozen", "trained", "another")
    frozen, trained, another = (load_model(out / f"{name}-0/model.safetensors").state_dict() for name in names)
    name = "parts.stage2.2.weight"
    assert frozen[name].equal(another[name])
    assert not frozen[name].equal(trained[name])
    assert not frozen["parts.feature.weight"].equal(another["parts.feature.weight"]), "it learned from other maps"


def test_only_finished_runs_are_taken_up(studied, tmp_path):
    out, _, parts, _ = studied
    before = times(out)
    again = run_study("parts", GeneratedPeople(out, size=SIZE), range(3), only_finished=True)
    assert (again.figures, again.pck) == (parts.figures, parts.pck)
    assert times(out) == before
    with pytest.raises(RecipeError, match=r"expected finished runs such as baseline-0, found none"):
        run_study("parts", GeneratedPeople(tmp_path, size=SIZE), range(1), only_finished=True)


def test_results_are_written_and_read_again(studied, tmp_path):
    _, _, parts, _ = studied
    report.write(parts, tmp_path)
    again = read_finding(tmp_path / "results.json")
    assert again.figures == parts.figures
    assert again.verdict == parts.verdict == json.loads((tmp_path / "results.json").read_text())["verdict"]
    page = (tmp_path / "table.md").read_text()
    assert parts.verdict in page
    rows = re.findall(r"^\| (.*?) \| ([\d.]+) \+- [\d.]+ \| ([\d.]+) \+-.* \| (.*) \|$", page, re.MULTILINE)
    assert [row[0] for row in rows] == [VARIANTS[name].label for name in parts.measured]
    for name, row in zip(parts.measured, rows, strict=True):
        mean = sum(parts.column(name, "rank-1").values()) / 2
        assert float(row[1]) == pytest.approx(100 * mean, abs=0.051)
    assert rows[0][3] == "81.6, 63.6", "the paper's baseline"
    assert (tmp_path / "plot-dark.png").stat().st_size > 1000


def test_reranking_scores_the_same_model_otherwise(studied):
    out = studied[0]
    before = times(out)
    found = run_study("reranking", GeneratedPeople(out, size=SIZE), range(1))
    assert times(out) == before
    assert found.figures["reranked"][0] != found.figures["trained"][0]
    assert json.loads((out / "trained-0/reranked.json").read_text()) == found.figures["reranked"][0]


@pytest.mark.parametrize(("variant", "recipe"), [("baseline", "baseline"), ("frozen", "frozen"), ("concat", "concat")])
def test_real_variants_are_the_shipped_recipes(variant, recipe, tmp_path):
    settings = RealPeople(tmp_path, tmp_path).settings(VARIANTS[variant], 2)
    expected = read_recipe(f"short-{recipe}", TrainSettings, ["seed=2"])
    assert settings.model_copy(update={"title": expected.title}) == expected


def test_a_study_of_real_people_leaves_out_what_it_cannot_make(tiny_market, tmp_path):
    found = run_study(
        "maps", RealPeople(tmp_path, tiny_market, changes=("network.parts=rcpm",)), [], only_finished=True
    )
    assert "R-CPM has no limb maps" in found.left_out["limbs"]
    found = run_study("architecture", RealPeople(tmp_path, tiny_market), [], only_finished=True)
    assert found.left_out.keys() == {"residual-baseline", "residual-frozen", "residual-trained"}
    assert all("--keypoints" in why for why in found.left_out.values())
    found = run_study("misalignment", RealPeople(tmp_path, tiny_market), [], only_finished=True)
    assert len(found.left_out) == 6
    assert set(found.left_out.values()) == {"it needs generated people"}


def test_small_streams_learn_from_real_people_and_the_joints_of_those_to_train_on(studied, tmp_path):
    people = studied[0] / "people-0"  # a data set with joints, as good as real
    ground = SmallRealPeople(tmp_path, people, people / "keypoints.csv", size=SIZE)
    found = run_study("architecture", ground, range(1))
    assert found.measured == list(STUDIES["architecture"].variants)
    assert (found.where, found.each, found.changes) == ("market1501, small streams", "seed", ())
    assert set(found.pck) == {"pose-0"}
    assert not (tmp_path / "people-0").exists()
    training = {crop.path.name for crop in load_dataset("market1501", people).train}
    assert {path.name for path in ground._joints("", 0).paths} == training
    settings = ground.settings(VARIANTS["residual-trained"], 1, make=False)
    assert (settings.network.appearance, settings.weights.appearance) == ("light-residual", None)
    assert ground.lacks(VARIANTS["frozen-foreign"]) == "it needs generated people"


def test_what_cannot_be_read_is_told_before_anything_is_trained(tiny_market, tmp_path):
    out = tmp_path / "out"
    for ground in (
        SmallRealPeople(out, tiny_market, tmp_path / "no.csv", size=SIZE),
        SmallRealPeople(out, tmp_path, tmp_path / "no.csv", size=SIZE),
        RealPeople(out, tmp_path / "nowhere", changes=REAL),
    ):
        with pytest.raises(PartAlignError):
            run_study("parts", ground, range(1))
        assert not out.exists()


def test_joints_without_their_data_set_are_refused(tmp_path):
    words = ["study", "parts", "--keypoints", "joints.csv", "--out", str(tmp_path)]
    run = subprocess.run([sys.executable, "-m", "partalign", *words], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "--keypoints: expected --data too" in run.stderr


def test_the_command_on_real_people(tiny_market, tmp_path):
    changes = [word for change in REAL for word in ("--set", change)]
    words = ["study", "parts", "--data", tiny_market, "--seeds", "1", "--out", tmp_path, *changes]
    run = subprocess.run(
        [sys.executable, "-m", "partalign", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "With 1 seed. Not decided: part maps of a frozen pose network help" in run.stdout.replace("\n", " ")
    assert (tmp_path / "parts/plot.png").is_file()


def test_an_unknown_study_is_refused():
    with pytest.raises(RecipeError, match=r"expected a study of parts, .* found 'part'"):
        run_study("part", GeneratedPeople("nowhere"), [0])
