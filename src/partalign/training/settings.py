"""Training settings: one frozen tree, read from a TOML recipe; unknown keys and bad values are refused by name."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from partalign.errors import RecipeError
from partalign.model.network import NetworkSettings


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightSettings(_Settings):
    """Files that training starts from (written by `partalign convert`, `pretrain-parts` or `train`)."""

    appearance: Path | None = None
    parts: Path | None = None
    network: Path | None = Field(None, description="a whole trained network, in place of the two streams")


class BatchSettings(_Settings):
    """How a batch is drawn.

    sampler: `persons` x `crops`, at random ("balanced") or as evenly over a person's cameras as they go ("cameras"); or
    as the released code draws ("identities"). chunk: crops that pass through the network at once (None: the whole
    batch).

    Chunks change nothing but time and memory (every chunk is computed twice), except where a stream has batch
    normalisation before its added layer, as the light ones: that uses the statistics of each chunk.
    """

    sampler: Literal["balanced", "cameras", "identities"] = "balanced"
    persons: int = Field(18, ge=2)
    crops: int = Field(10, ge=2)
    chunk: int | None = Field(None, ge=2)

    @property
    def size(self) -> int:
        """Crops in a batch."""
        return self.persons * self.crops


class LossSettings(_Settings):
    """Eq. 6-7, and the identity loss of the recipes that go beyond the paper (weight 0: off)."""

    margin: float = Field(0.2, gt=0)
    reduction: Literal["mean", "violating"] = "mean"
    comparison: Literal["similarity", "distance"] = "similarity"
    identity_weight: float = Field(0.0, ge=0)
    identity_from: float = Field(0.25, ge=0, le=1, description="share of training before which only triplets count")
    smoothing: float = Field(0.1, ge=0, lt=1)


class OptimizerSettings(_Settings):
    """Rates are those after warm-up; `new_rate` is for added layers (None: the same)."""

    name: Literal["sgd", "caffe-sgd", "adam", "adamw"] = "sgd"
    rate: float = Field(0.01, gt=0)
    new_rate: float | None = Field(None, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(2e-3, ge=0)
    bias_rate: float = Field(1.0, gt=0, description="biases learn at this multiple of the rate")
    bias_decay: bool = True
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient (None: any)")


class ScheduleSettings(_Settings):
    """How long, and how the rate falls: divided by `factor` every `every` iterations, or along a cosine to 0."""

    kind: Literal["step", "cosine", "constant"] = "step"
    iterations: int = Field(75_000, ge=1)
    warmup: int = Field(0, ge=0)
    every: int = Field(20_000, ge=1)
    factor: float = Field(5.0, gt=1)


class AugmentSettings(_Settings):
    """flip, shrink and erase are probabilities; crop is the largest shift in pixels after padding.

    shrink: of losing detail, by being shrunk, down to a quarter of its sides, and enlarged again.
    color: how far light, contrast, saturation and white balance are changed, as a share (0: not at all).
    """

    flip: float = Field(0.5, ge=0, le=1)
    color: float = Field(0.0, ge=0, lt=1)
    shrink: float = Field(0.0, ge=0, le=1)
    crop: int = Field(0, ge=0)
    erase: float = Field(0.0, ge=0, le=1)


class TrainSettings(_Settings):
    """Everything that decides the weights that `partalign train` ends with."""

    title: str = ""
    dataset: str = "market1501"
    protocol: str | None = Field(None, description="of a data set that has several (CUHK03, CUHK01)")
    boxes: str | None = Field(None, description="of a data set that has several (CUHK03)")
    test_set: int | None = Field(None, ge=0, description="which persons to test on, of a data set that says (the same)")
    seed: int = Field(0, ge=0)
    network: NetworkSettings = NetworkSettings()  # type: ignore[call-arg]
    weights: WeightSettings = WeightSettings()  # type: ignore[call-arg]
    freeze: tuple[str, ...] = Field((), description="prefixes of pre-trained parameters that stay as they are")
    batch: BatchSettings = BatchSettings()  # type: ignore[call-arg]
    loss: LossSettings = LossSettings()  # type: ignore[call-arg]
    optimizer: OptimizerSettings = OptimizerSettings()  # type: ignore[call-arg]
    schedule: ScheduleSettings = ScheduleSettings()  # type: ignore[call-arg]
    augment: AugmentSettings = AugmentSettings()  # type: ignore[call-arg]
    average: float = Field(
        0.0, ge=0, lt=1, description="share of the old in a moving average of the weights, which is the result (0: off)"
    )
    mixed_precision: bool = False
    evaluate_every: int = Field(0, ge=0, description="iterations between evaluations (0: only at the end)")
    save_every: int = Field(50, ge=1, description="iterations between checkpoints")
    tensorboard: bool = False


class PoseSettings(_Settings):
    """Settings of `partalign pretrain-parts`: the part stream as a pose network."""

    title: str = ""
    seed: int = Field(0, ge=0)
    network: NetworkSettings = NetworkSettings()  # type: ignore[call-arg]
    weights: WeightSettings = WeightSettings()  # type: ignore[call-arg]
    batch: int = Field(32, ge=1)
    epochs: int = Field(10, ge=1)
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the persons that PCK is measured on")
    rate: float = Field(1e-3, gt=0)
    trunk_rate: float = Field(1.0, gt=0, description="layers with loaded weights learn at this multiple of the rate")
    clip: float = Field(5.0, gt=0)
    warmup: int = Field(50, ge=0)
    joint_sigma: float = Field(1.0, gt=0, description="of a joint's Gaussian, in cells of the map")
    limb_width: float = Field(0.5, gt=0, description="half width of a limb, in cells of the map")
    save_every: int = Field(50, ge=1)
    tensorboard: bool = False


S = TypeVar("S", bound=_Settings)


def read_recipe(recipe: str | Path, kind: type[S], changes: Sequence[str] = ()) -> S:
    """Read a recipe: a path, or the name of one that ships with the package; then apply `KEY=VALUE` changes.

    A change without a value, `KEY=`, takes the setting's default instead of the recipe's value. A recipe with a line
    `base = "NAME"` starts from that recipe and says only what differs. Raises RecipeError with one line: the key, what
    was found, the nearest known name.
    """
    values = _read_values(recipe)
    for change in changes:
        _apply_change(values, change)
    return make_settings(kind, values, source=str(recipe))


def make_settings(kind: type[S], values: dict[str, Any], source: str) -> S:
    """Build settings from nested values. Raises RecipeError with one line."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{source}: " + "; ".join(_explain(kind, e) for e in error.errors()[:3])) from None


def shipped_recipes() -> dict[str, Path]:
    """Names and files of the recipes in the package."""
    folder = Path(str(resources.files("partalign") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _read_values(recipe: str | Path, derived: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a recipe over its base, if it names one. derived: the recipes that are based on it."""
    path = _find_recipe(recipe)
    if path in derived:
        raise RecipeError(f"{path}: the recipe is its own base")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a TOML recipe: {error}") from None
    base = values.pop("base", None)
    return values if base is None else _merged(_read_values(str(base), (*derived, path)), values)


def _merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `values` laid over it, section by section."""
    shared = [key for key in values if isinstance(base.get(key), dict) and isinstance(values[key], dict)]
    return base | values | {key: _merged(base[key], values[key]) for key in shared}


def _find_recipe(recipe: str | Path) -> Path:
    path, shipped = Path(recipe), shipped_recipes()
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise RecipeError(f"{path}: no such recipe; shipped ones are {', '.join(shipped)}")
        return path
    if str(recipe) not in shipped:
        raise RecipeError(
            f'no recipe "{recipe}"{_nearest(str(recipe), shipped)}; shipped ones are {", ".join(shipped)}'
        )
    return shipped[str(recipe)]


def _apply_change(values: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {change}: expected KEY=VALUE, as in --set schedule.iterations=200")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f'--set {change}: "{section}" is a value, not a section')
    values[name] = value
    if not text:
        del values[name]


def _explain(kind: type[BaseModel], error: Any) -> str:
    *parents, name = [str(part) for part in error["loc"]] or [""]
    key = ".".join((*parents, name))
    if error["type"] == "extra_forbidden":
        for parent in parents:
            kind = kind.model_fields[parent].annotation  # type: ignore[assignment]
        return f'unknown key "{key}"{_nearest(name, kind.model_fields)}'
    return f'"{key}" is {error["input"]!r}: {error["msg"][0].lower()}{error["msg"][1:]}'


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""
