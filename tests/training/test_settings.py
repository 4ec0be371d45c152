import tomllib

import pytest

from partalign.errors import RecipeError
from partalign.model.network import build_network
from partalign.training.settings import PoseSettings, TrainSettings, read_recipe, shipped_recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_builds_a_network_and_has_a_title(name):
    settings = read_recipe(name, PoseSettings if "pose" in name.split("-") else TrainSettings)
    assert settings.title
    assert build_network(settings.network).input_size == (settings.network.height, settings.network.width)


def recipe(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[optimizer]\nrat = 1", 'unknown key "optimizer.rat".*did you mean "rate"'),
        ("sede = 1", 'unknown key "sede".*did you mean "seed"'),
        ("[network]\npooling = 'compakt'", "\"network.pooling\" is 'compakt'"),
        ("[loss]\nmargin = -1", '"loss.margin" is -1: input should be greater than 0'),
        ("[loss\nmargin = 1", "cannot be read as a TOML recipe"),
        ("[optimizer]\nrate = 'fast'", "\"optimizer.rate\" is 'fast'"),
    ],
)
def test_a_typo_gets_one_line_that_names_it(tmp_path, text, words):
    with pytest.raises(RecipeError, match=words) as error:
        read_recipe(recipe(tmp_path, text), TrainSettings)
    assert "\n" not in str(error.value)


def test_changes_are_toml_values_or_plain_text(tmp_path):
    path = recipe(tmp_path, "[loss]\nmargin = 0.1")
    settings = read_recipe(
        path, TrainSettings, ["loss.margin=0.4", "network.parts=rcpm", 'freeze=["parts"]', "schedule.iterations=7"]
    )
    assert settings.loss.margin == 0.4
    assert settings.network.parts == "rcpm"
    assert settings.freeze == ("parts",)
    assert settings.schedule.iterations == 7
    assert read_recipe("short-trained", TrainSettings, ["weights.parts="]).weights.parts is None


@pytest.mark.parametrize(("change", "words"), [("seed", "KEY=VALUE"), ("seed.x=1", "seed"), ("lost.margin=1", "lost")])
def test_bad_changes_are_refused(tmp_path, change, words):
    with pytest.raises(RecipeError, match=words):
        read_recipe(recipe(tmp_path, "seed = 3"), TrainSettings, [change])


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match='did you mean "short-baseline"'):
        read_recipe("short-basline", TrainSettings)
    with pytest.raises(RecipeError, match="no such recipe"):
        read_recipe("nowhere/x.toml", TrainSettings)


def test_settings_survive_json(tmp_path):
    settings = read_recipe("short-trained", TrainSettings)
    assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings
    assert tomllib.loads(shipped_recipes()["short-trained"].read_text())["title"] == settings.title


def test_a_recipe_says_only_what_differs_from_its_base(tmp_path):
    (tmp_path / "first.toml").write_text("seed = 3\n[loss]\nmargin = 0.1\nsmoothing = 0.2")
    second = tmp_path / "second.toml"
    second.write_text(f'base = "{tmp_path}/first.toml"\nloss.margin = 0.4\nfreeze = ["parts"]')
    settings = read_recipe(second, TrainSettings, ["seed=4"])
    assert (settings.loss.margin, settings.loss.smoothing) == (0.4, 0.2)
    assert (settings.seed, settings.freeze) == (4, ("parts",))
    assert read_recipe("short-concat", TrainSettings).schedule == read_recipe("short-baseline", TrainSettings).schedule


def test_a_recipe_cannot_be_its_own_base(tmp_path):
    for name, base in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.toml").write_text(f'base = "{tmp_path}/{base}.toml"')
    with pytest.raises(RecipeError, match="its own base"):
        read_recipe(tmp_path / "a.toml", TrainSettings)
    with pytest.raises(RecipeError, match="no such recipe"):
        read_recipe(recipe(tmp_path, f'base = "{tmp_path}/nowhere.toml"'), TrainSettings)
    with pytest.raises(RecipeError, match='"loss" is 3'):
        read_recipe(recipe(tmp_path, 'base = "short-baseline"\nloss = 3'), TrainSettings)
