"""The report of the demonstration: what was shown, on what, and what it does not show, in words and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from partalign import __version__
from partalign.crops import Split
from partalign.datasets.generated import World
from partalign.datasets.keypoints import PoseExamples
from partalign.demo.stages import Pose, Searched
from partalign.images import Pictures, read_picture
from partalign.model.input import network_input
from partalign.model.joints import find_joints
from partalign.model.network import build_network
from partalign.model.parts import PartStream
from partalign.pictures import part_maps
from partalign.pictures.curves import draw_cmc, draw_training, read_log
from partalign.pictures.ranked_list import describe, draw_ranked_list, rank_row
from partalign.pictures.report import ModelScores, Picture, Report
from partalign.pictures.theme import DARK, LIGHT, SCALE
from partalign.weights.checkpoint import load_model, load_stream

NAMES = {"baseline": "Baseline", "proposed": "Part-aligned"}

PEOPLE = 6
"""Persons whose joints and maps are shown."""

SURE = 0.2
"""A joint counts as found where its map is at least so high; a perfect map reaches 1."""

FITTED = 300
"""Queries whose maps the colours are fitted to."""

PANEL = 138 * SCALE
"""Height of each of their pictures, in pixels."""

PANELS = f"""{PEOPLE} queries, drawn by lot. From the left: the picture; the joints in sight, as the program drew them
(the person's right side orange, the left side blue); the joints that the pose network found, as far as it was sure;
how strongly it answers to any joint; appearance map and part map of the part-aligned network."""


def tell(
    world: World, split: Split, joints: PoseExamples, pose: Pose, baseline: Searched, proposed: Searched
) -> Report:
    """Put the report together. joints: those of `split.query`, in its order."""
    both = (baseline, proposed)
    ours, theirs = (f"{model.scores.rank(1):.0%}" for model in (proposed, baseline))
    persons = len({crop.person for crop in split.query})
    return Report(
        title="Finding the same person again, by body parts",
        summary=f"{persons} generated people whom neither network ever saw: asked for one of them, the part-aligned "
        f"network puts the right person first for {ours} of the queries, the same appearance stream without parts for "
        f"{theirs}.",
        shown=tuple(_shown(world, split, pose, proposed)),
        limits=tuple(_limits(baseline, proposed)),
        models=tuple(_line(model) for model in both),
        seconds=f"Training on this machine. {NAMES['proposed']} needs {_seconds_of(pose):,.0f} more, in which its part "
        "stream learns joints.",
        cmc=(_chart(draw_cmc, {NAMES[m.name]: m.scores.cmc for m in both}, alt=_cmc_in_words(both)),),
        training=tuple(_training(pose, both)),
        ranked=tuple(_ranked(both, world.seed)),
        parts=tuple(_parts(joints, pose, proposed, world.seed)),
        panels=PANELS,
        settings=_settings(world, pose, both),
    )


def _shown(world: World, split: Split, pose: Pose, proposed: Searched) -> Iterator[str]:
    height, width = proposed.settings.network.height, proposed.settings.network.width
    train, test = (len({crop.person for crop in crops}) for crops in (split.train, split.query))
    yield (
        f"A program drew {world.persons} people, {world.crops_per_person} pictures of each, seen by {world.cameras} "
        f"cameras. Groups of {world.group_size} wear the same colours in different places: what matters is where a "
        "colour sits, not only that it is there. The boxes fit as badly as a poor detector's, and in "
        f"{world.occlusion:.0%} of the pictures something or somebody stands in front."
    )
    yield (
        f"{train} of the people were for training, the other {test} for the test: {len(split.query)} queries, each "
        f"against a gallery of {len(split.gallery)} pictures. Pictures of the query's person by the query's camera do "
        "not count, as in Market-1501."
    )
    yield (
        f"Both networks see crops of {height} x {width} pixels through the same kind of appearance stream, and train "
        f"on the same pictures, with the same loss, for {proposed.settings.schedule.iterations} iterations. The "
        "baseline averages its maps over the whole crop. The part-aligned network has a second stream that says which "
        "body part a place belongs to; at every place it multiplies the two, and then averages, so that a knee is "
        "compared with a knee wherever it is."
    )
    yield (
        "The second stream first learned to find joints, on training people only; of training people held out from "
        f"that it finds {pose.pck:.0%}, to within a tenth of the body's height. From then on nobody told it about "
        "parts: matching people was all that it learned from."
    )


def _limits(baseline: Searched, proposed: Searched) -> Iterator[str]:
    yield (
        "This is one world with one seed. From world to world rank-1 moves by 6 to 14 points: compare the models "
        "within this report, not this report with another."
    )
    yield (
        "The people are drawn. How well either network does on real pictures cannot be read from this, nor how large "
        "the difference is there. Nor was either trained until it stopped improving."
    )
    yield (
        "Most of the gain shows even with a part stream that never learned joints. So this does not prove that knowing "
        "joints is what helps: a good share may come from keeping apart what is seen where, which the baseline's "
        "average cannot do."
    )
    small, large = (sum(p.numel() for p in load_model(m.path).parameters()) for m in (baseline, proposed))
    ratio = _seconds_of(proposed) / _seconds_of(baseline)
    yield (
        f"The two did not have equal means: the part-aligned network has {large:,} parameters to the baseline's "
        f"{small:,}, took {ratio:.1f} times as long to train here, and was shown joints."
    )


def _line(model: Searched) -> ModelScores:
    s = model.scores
    return ModelScores(NAMES[model.name], s.rank(1), s.rank(5), s.rank(10), s.mAP, s.mINP, _seconds_of(model))


def _seconds_of(run: Pose | Searched) -> float:
    """Time spent in iterations: it counts right when the work was interrupted, too."""
    speed = read_log(run.folder / "log.jsonl")["speed"]
    size = run.settings.batch if isinstance(run, Pose) else run.settings.batch.size
    return float(np.nansum(size / speed))


def _chart(draw: Callable[..., Image.Image], what: Any, *, alt: str, caption: str = "", **options: Any) -> Picture:
    """Draw in light and in dark."""
    return Picture(draw(what, theme=LIGHT, **options), alt, caption, dark=draw(what, theme=DARK, **options))


def _cmc_in_words(both: tuple[Searched, Searched]) -> str:
    ends = "; ".join(
        f"{NAMES[m.name]} from {m.scores.rank(1):.1%} at rank 1 to {m.scores.rank(20):.1%} at rank 20" for m in both
    )
    return f"How often a right match is among the first k. {ends}."


def _training(pose: Pose, both: tuple[Searched, Searched]) -> Iterator[Picture]:
    logs = {NAMES[model.name]: _with_end(read_log(model.folder / "log.jsonl"), model) for model in both}
    yield _chart(
        draw_training,
        logs,
        alt="Triplet loss, share of violating triplets and mAP over the iterations, for both networks.",
        caption="The loss is a mean over the triplets that still violate the margin: the harder ones stay.",
    )
    yield _chart(
        draw_training,
        {"part stream": read_log(pose.folder / "log.jsonl")},
        quantities=("loss",),
        alt="Loss of the part stream over the iterations, as it learns joints and limbs.",
        caption="The part stream before that, learning joints and limbs.",
    )


def _with_end(log: Mapping[str, np.ndarray], model: Searched) -> dict[str, np.ndarray]:
    """Add the final scores, which are not in a log."""
    last = {"iteration": model.settings.schedule.iterations, "mAP": model.scores.mAP}
    empty = np.full(len(log["iteration"]), np.nan)
    return {name: np.append(log.get(name, empty), last.get(name, np.nan)) for name in {**log, **last}}


def _ranked(both: tuple[Searched, Searched], seed: int) -> Iterator[Picture]:
    """One query drawn by lot from each way that the two models can agree or differ."""
    first = [model.scores.first_ranks == 1 for model in both]
    ways = {
        "Both put the right person first": first[0] & first[1],
        "Only the part-aligned network puts the right person first": ~first[0] & first[1],
        "Only the baseline puts the right person first": first[0] & ~first[1],
        "Neither puts the right person first": ~first[0] & ~first[1],
    }
    lot = np.random.default_rng([seed, 1])
    for words, chosen in ways.items():
        if not chosen.any():
            continue
        row = int(lot.choice(np.flatnonzero(chosen)))
        pictures = [_rank_row(model, row) for model in both]
        yield _chart(
            draw_ranked_list,
            pictures,
            alt=f"{words}. " + ". ".join(describe(each) for each in pictures) + ".",
            caption=f"{words}: {chosen.mean():.0%} of the queries. This one was drawn from them by lot.",
        )


def _rank_row(model: Searched, row: int):
    rows, similarities = model.best
    return rank_row(model.query.crops[row], model.gallery.crops, rows[row], similarities[row], label=NAMES[model.name])


def _parts(joints: PoseExamples, pose: Pose, proposed: Searched, seed: int) -> Iterator[Picture]:
    """Show the joints as drawn and as found, and both streams' maps, for some queries drawn by lot."""
    network = load_model(proposed.path)
    rows = np.random.default_rng([seed, 2]).permutation(len(joints))[:FITTED]
    pictures = network_input(Pictures([joints.paths[row] for row in rows], network.input_size).batch(range(len(rows))))
    heat, found = _find_joints(pose, pictures[:PEOPLE])
    with torch.inference_mode():
        appearance, parts = network.maps(pictures)
    painted = [_paint(maps.numpy()) for maps in (appearance, cast(torch.Tensor, parts))]
    for i, row in enumerate(rows[:PEOPLE]):
        crop = read_picture(joints.paths[row])
        panels = {
            "picture": crop,
            "true": part_maps.draw_skeleton(crop, joints.joints[row]),
            "found": part_maps.draw_skeleton(crop, found[i]),
            "heat": part_maps.draw_heat(crop, part_maps.joint_heat(heat[i])),
            "appearance": painted[0][i],
            "parts": painted[1][i],
        }
        yield _chart(
            part_maps.draw_panels,
            panels,
            height=PANEL,
            alt=f"A generated person, {int(joints.joints[row, :, 2].sum())} joints of which can be seen and "
            f"{int(found[i, :, 2].sum())} were found; heat map of the joints; appearance map; part map.",
        )


@torch.inference_mode()
def _find_joints(pose: Pose, pictures: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Joint maps (B, 19, h, w) of the pose network, and joints (B, 18, 3) as fractions, 1 where it is sure."""
    stream = cast(PartStream, build_network(pose.settings.network).parts)
    load_stream(stream, pose.path)
    heat = stream.eval().stages(pictures)[0][-1].joints
    found = find_joints(heat.numpy())
    found[..., 2] = found[..., 2] >= SURE
    return heat.numpy(), found


def _paint(maps: np.ndarray) -> list[Image.Image]:
    """Colour the first maps by a projection fitted to all."""
    return part_maps.fit_map_colours([maps]).paint(maps[:PEOPLE], (PANEL // 2, PANEL))


def _settings(world: World, pose: Pose, both: tuple[Searched, Searched]) -> dict[str, object]:
    """What was set, for whoever wants to repeat it: the world, and what each recipe says."""
    settings: dict[str, object] = {
        "command": f"partalign demo --seed {world.seed}",
        "partalign": __version__,
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
    }
    settings |= {f"people: {field.name}": getattr(world, field.name) for field in fields(world)}
    for name, run in (("pose", pose), *((NAMES[model.name].lower(), model) for model in both)):
        recipe = run.settings.model_dump(mode="json", exclude_unset=True, exclude={"weights"})
        settings |= {f"{name}: {key}": value for key, value in _flat(recipe)}
    return settings


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
