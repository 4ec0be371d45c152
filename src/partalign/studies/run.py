"""A study from start to end: every variant with every seed, each kept when it is finished; then what they show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partalign import __version__
from partalign.embedding import Embedder, embed_split
from partalign.errors import RecipeError
from partalign.evaluation.evaluate import score_descriptors
from partalign.evaluation.protocols import named
from partalign.files import atomic_file
from partalign.model.device import checked_device
from partalign.progress import say
from partalign.studies.claims import STUDIES, VARIANTS, Study, Variant
from partalign.studies.controls import showing
from partalign.studies.grounds import Ground
from partalign.studies.verdict import Answered, Difference, answer, difference, sentence
from partalign.training.once import finished, train_once
from partalign.training.run import headline
from partalign.weights.checkpoint import load_model

Figures = dict[str, float]


@dataclass(frozen=True)
class Finding:
    """What a study found.

    figures: variant -> seed -> rank-1, mAP ... as fractions. left_out: variant -> why. pck: pose network -> share of
    the joints that it finds. where: the people it was made on; each: "world" or "seed". changes: to all variants.
    """

    name: str
    figures: Mapping[str, Mapping[int, Figures]]
    where: str
    each: str
    left_out: Mapping[str, str] = field(default_factory=dict)
    pck: Mapping[str, float] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The study's title, and what was changed."""
        return f"{self.study.title}, {', '.join(self.changes)}" if self.changes else self.study.title

    @property
    def study(self) -> Study:
        """What was asked."""
        return STUDIES[self.name]

    @property
    def measured(self) -> list[str]:
        """The variants that there are figures of, in the study's order."""
        return [name for name in self.study.variants if self.figures.get(name)]

    def column(self, variant: str, measure: str = "mAP") -> dict[int, float]:
        """Return one measure of a variant by seed."""
        return {seed: figures[measure] for seed, figures in self.figures.get(variant, {}).items()}

    def against_reference(self, variant: str, measure: str = "mAP") -> Difference:
        """Return the paired differences of a variant to the study's reference."""
        theirs, ours = self.column(self.study.reference, measure), self.column(variant, measure)
        return difference([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])

    @property
    def answers(self) -> tuple[Answered, ...]:
        """What the figures say of each expectation whose variants were measured."""
        mean_ap = {name: self.column(name) for name in self.measured}
        return tuple(answer(e, mean_ap) for e in self.study.expectations if e.weights.keys() <= mean_ap.keys())

    @property
    def verdict(self) -> str:
        """Whether the claim held."""
        return sentence(self.answers, self.each)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for a JSON file; figures and differences as fractions."""
        return {
            "study": self.name,
            "claim": self.study.claim,
            "source": self.study.source,
            "where": self.where,
            "each": self.each,
            "changes": list(self.changes),
            "partalign": __version__,
            "figures": {name: self.figures[name] for name in self.measured},
            "left_out": dict(self.left_out),
            "pck": dict(self.pck),
            "answers": [{"text": a.text, "answer": a.answer, "differences": a.difference.values} for a in self.answers],
            "verdict": self.verdict,
        }


def read_finding(path: Path) -> Finding:
    """Read what `as_dict` gave, from a JSON file; answers are drawn anew."""
    c = json.loads(Path(path).read_bytes())
    figures = {name: {int(s): row for s, row in rows.items()} for name, rows in c["figures"].items()}
    return Finding(c["study"], figures, c["where"], c["each"], c["left_out"], c["pck"], tuple(c["changes"]))


def run_study(
    name: str, ground: Ground, seeds: Sequence[int], *, only_finished: bool = False, device: str = "cpu"
) -> Finding:
    """Make every variant of a study with every seed, or those that are missing in the ground's folder.

    only_finished: train nothing, take up the runs that are there. Raises RecipeError for an unknown study or where none
    of its variants can be made, DeviceError, and what training raises.
    """
    checked_device(device)  # before people are drawn and pose networks trained
    if name not in STUDIES:
        raise RecipeError(f"expected a study of {', '.join(STUDIES)}, found {name!r}; choose one of them")
    study = STUDIES[name]
    left_out = {v: why for v in study.variants if (why := ground.lacks(VARIANTS[v])) is not None}
    chosen = [v for v in study.variants if v not in left_out]
    if len(chosen) < 2:
        raise RecipeError(
            f"{name}: expected two variants to compare, found {len(chosen)}: {next(iter(left_out.values()))}"
        )
    if not only_finished:
        ground.check()
    figures: dict[str, dict[int, Figures]] = {variant: {} for variant in chosen}
    for seed in seeds:
        for variant in chosen:
            found = _measure(variant, ground, seed, only_finished, device)
            if found is not None:
                figures[variant][seed] = found
    if seeds and not any(figures.values()):
        raise RecipeError(f"{ground.out}: expected finished runs such as {chosen[0]}-{seeds[0]}, found none; make them")
    # The folder may hold pose networks of other studies.
    kinds = {VARIANTS[v].pose for v in chosen}
    pck = {name: share for name, share in sorted(ground.pck.items()) if _kind(name) in kinds}
    return Finding(name, figures, ground.name, ground.each, left_out, pck, ground.changes)


def _kind(pose: str) -> str:
    """`pose-tight-0` -> `tight`, `pose-0` -> ``: the people that a pose network learned from."""
    return pose.removeprefix("pose-").rpartition("-")[0]


def _measure(name: str, ground: Ground, seed: int, only_finished: bool, device: str) -> Figures | None:
    """Return a variant's figures; None where it is not finished and only finished ones are wanted."""
    variant = VARIANTS[name]
    folder = ground.out / f"{variant.of or name}-{seed}"
    settings = ground.settings(variant, seed, make=not only_finished)
    if only_finished:
        model, figures = folder / "model.safetensors", finished(folder / "model.safetensors", settings)
        if figures is None:
            return None
    else:
        say(f"{name}-{seed}: {settings.schedule.iterations} iterations of {settings.batch.size} pictures")
        split = ground.split(variant.people, seed)
        prepare = {} if variant.sees == "crop" else {"prepare": showing(variant.sees, split.train, seed)}
        model, figures = train_once(settings, split, folder, device=device, **prepare)
    return _reranked(model, ground, variant, seed, device) if variant.rerank else figures


def _reranked(model: Path, ground: Ground, variant: Variant, seed: int, device: str) -> Figures:
    """Score a model after re-ranking, unless that was done; the figures are kept beside it."""
    kept = model.with_name("reranked.json")
    if not kept.is_file():
        split = ground.split(variant.people, seed)
        descriptors = embed_split(Embedder(load_model(model, device), device=device), split)
        rules = named(split.protocol)
        scores = score_descriptors(descriptors, rules, test_sets=split.test_sets, rerank=True)
        with atomic_file(kept) as file:
            file.write(json.dumps(headline(scores), indent=2).encode())
    return json.loads(kept.read_bytes())
