"""One evaluation from a data set's name to its report: which crops, which rules, which figures.

Joins data sets and evaluation; knows descriptors, but not how they are made.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from partalign.crops import DISTRACTOR, Crop, Embeddings, Split
from partalign.datasets import distractors as distractor_crops
from partalign.datasets import load_dataset
from partalign.errors import EvaluationError
from partalign.evaluation.calibration import Calibration, calibrate, percent
from partalign.evaluation.evaluate import (
    Descriptors,
    match_saved,
    pooled,
    score_descriptors,
    score_series,
    similar_pairs,
)
from partalign.evaluation.features import load_features
from partalign.evaluation.metrics import APKind
from partalign.evaluation.protocols import MARKET1501, PROTOCOLS, Protocol, SameCamera, TrackletPooling, named
from partalign.evaluation.published import Setting, csv_beside_paper
from partalign.evaluation.scores import Scores
from partalign.evaluation.strangers import Crowd, Known
from partalign.evaluation.verification import PairScores, pair_scores
from partalign.files import atomic_file
from partalign.shards.gallery import Strangers, pick
from partalign.shards.gallery import distractors as distractors_in
from partalign.shards.store import Shards, is_shards
from partalign.shards.workers import HERE, Workers


@dataclass(frozen=True)
class Task:
    """What is scored, and how: crops, rules, and the sizes of gallery, ascending, that are scored in turn.

    strangers: gallery rows that lie in shards, are counted there, and are not among the descriptors.
    """

    split: Split
    rules: Protocol
    setting: Setting
    sizes: tuple[int, ...]
    strangers: tuple[Strangers, ...] = ()

    def with_rules(self, same_camera: SameCamera | None = None, tracklets: TrackletPooling | None = None) -> Task:
        """Return the task with other rules, where they are given. Raises EvaluationError for unknown ones."""
        chosen = {"same_camera": same_camera, "tracklets": tracklets}
        return replace(self, rules=replace(self.rules, **{k: v for k, v in chosen.items() if v is not None}))

    def score(
        self,
        descriptors: Descriptors,
        ap: APKind = "rectangular",
        *,
        rerank: bool = False,
        expand: int = 0,
        center: bool = False,
        verification: bool = False,
        workers: Workers = HERE,
    ) -> Report:
        """Score descriptors of the split's query and gallery. workers: who count strangers. Raises EvaluationError."""
        sets = self.split.test_sets
        how: dict[str, Any] = {"test_sets": sets, "rerank": rerank, "expand": expand, "center": center}
        if self.strangers:
            if rerank or expand or center or verification or not self.by_counting:
                raise EvaluationError(
                    "distractors in shards are counted and not held, which does to rank crops of one gallery, not for "
                    "re-ranking, expansion, centring, verification, tracklets or draws: give the folder of their crops"
                )
            runs = self._score_among_strangers(descriptors, ap, workers)
        elif len(self.sizes) == 1:
            runs = [score_descriptors(descriptors, self.rules, ap, **how)]
        else:
            runs = score_series(descriptors, self._rows(descriptors.gallery.crops), self.rules, ap, **how)
        setting = replace(self.setting, multi_query=descriptors.pool is not None, rerank=rerank)
        settings = [replace(setting, distractors=size - self.sizes[0]) for size in self.sizes]
        report = Report(self.split.notes, tuple(zip(settings, runs, strict=True)))
        if not verification:
            return report
        query, gallery = pooled(descriptors.centered() if center else descriptors, self.rules)
        pairs = pair_scores(query, gallery, self.rules.relevance(query.crops, gallery.crops))
        try:
            return replace(report, pairs=pairs, calibration=calibrate(pairs))
        except EvaluationError as error:
            return replace(report, pairs=pairs, notes=(*report.notes, str(error)))

    @property
    def by_counting(self) -> bool:
        """Whether the rules let a gallery be scored without holding it: each crop ranks for itself, in one trial."""
        return not (self.rules.tracklets or self.rules.draws or self.split.test_sets)

    def require_model(self, version: str, flip: bool) -> None:
        """Raise ShardsError where the strangers' descriptors cannot be compared with those of this model."""
        for strangers in self.strangers:
            for part in strangers.parts[:1]:
                part.shards.require_model(version, flip)

    def _score_among_strangers(self, descriptors: Descriptors, ap: APKind, workers: Workers) -> list[Scores]:
        query, gallery = pooled(descriptors, self.rules)
        if any(crop.person == DISTRACTOR for crop in query.crops):
            raise EvaluationError(f"a query is of person {DISTRACTOR}, who is nobody: leave it out")
        methods = [] if descriptors.pool is None else ["multi-query"]
        rivals: Any = sum(s.count(query, gallery, self.rules, workers) for s in self.strangers)
        rivals = np.broadcast_to(rivals, (len(self.sizes), rivals.shape[1]))
        known = Known(query, gallery, self.rules)
        crowds = [sum((s.crowd(step) for s in self.strangers), Crowd()) for step in range(len(self.sizes))]
        return [known.score(more, crowd, ap, methods) for more, crowd in zip(rivals, crowds, strict=True)]

    def pairs_text(self, embeddings: Embeddings, calibration: Calibration | None = None, count: int = 10) -> str:
        """Tell of crops without persons, which cannot be scored, what can be told: the most similar pairs."""
        lines = [f"note: {note}" for note in self.split.notes]
        lines.append("no crop says whose it is, so nothing can be scored; the most similar pairs are")
        for i, j, similarity in similar_pairs(embeddings, count):
            pair = f"{embeddings.crops[i].path.name}  {embeddings.crops[j].path.name}"
            chance = "" if calibration is None else f", same person {percent(calibration.probability(similarity))}"
            lines.append(f"{similarity:6.3f}{chance}  {pair}")
        return "\n".join(lines)

    def _rows(self, gallery: Sequence[Crop]) -> list[int]:
        """Return how many of the embedded crops belong to each size: some may have been skipped."""
        places = {crop: place for place, crop in enumerate(self.split.gallery)}
        return np.searchsorted([places[crop] for crop in gallery], self.sizes).tolist()


@dataclass(frozen=True)
class Report:
    """Scores of each size of gallery with what they are comparable to.

    pairs: for verification, where asked for; all pairs of query and gallery, also where scores are of draws from them.
    calibration: None too where matches are not more similar than others.
    """

    notes: tuple[str, ...]
    runs: tuple[tuple[Setting, Scores], ...]
    pairs: PairScores | None = None
    calibration: Calibration | None = None

    def text(self) -> str:
        """Return everything as lines for a person."""
        lines = [f"note: {note}" for note in self.notes]
        for setting, scores in self.runs:
            if len(self.runs) > 1:
                lines.append(f"with {setting.distractors:,} distractors")
            lines.append(scores.table())
        if self.pairs is not None:
            lines += _verification(self.pairs, self.calibration)
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the first run's figures, and with several sizes of gallery, all runs' under `series`."""
        runs = [
            {"dataset": setting.dataset, "boxes": setting.boxes, "added_distractors": setting.distractors}
            | scores.as_dict()
            for setting, scores in self.runs
        ]
        content = runs[0] | ({"series": runs} if len(runs) > 1 else {})
        if self.pairs is not None:
            content |= {"verification": self.pairs.as_dict()}
        if self.calibration is not None:
            content |= {"calibration": self.calibration.as_dict()}
        return content

    def write(self, json_file: Path | None = None, csv_file: Path | None = None) -> None:
        """Write the figures as fractions (JSON) and in per cent beside the paper's (CSV), atomically."""
        if json_file is not None:
            with atomic_file(json_file) as file:
                file.write(json.dumps(self.as_dict(), indent=2).encode())
        if csv_file is not None:
            with atomic_file(csv_file) as file:
                file.write(csv_beside_paper(self.runs).encode())


def _verification(pairs: PairScores, calibration: Calibration | None) -> list[str]:
    """Say how well a threshold tells pairs of the same person from others."""
    figures = pairs.as_dict()
    accepted = figures["true_accept_at_false_accept"]
    rates = [f"{rate} {'too few pairs' if share is None else f'{share:.1%}'}" for rate, share in accepted.items()]
    lines = [
        f"verification of {pairs.match_count:,} pairs of the same person and {pairs.non_match_count:,} others: "
        f"AUC {pairs.auc:.4f}, equal error rate {pairs.equal_error_rate:.2%}",
        f"true accepts at false accept rate: {', '.join(rates)}",
    ]
    if calibration is None:
        return lines
    certain = ", ".join(f"{share:.0%} {calibration.threshold(share):.3f}" for share in (0.5, 0.9, 0.99))
    return [
        *lines,
        f"same person, if as likely as not: probability from similarity {certain}; "
        f"log loss {calibration.log_loss:.3f} (a coin: 0.693), calibration error {calibration.calibration_error:.3f}",
    ]


def read_task(
    dataset: str,
    data: Path,
    *,
    protocol: str | None = None,
    boxes: str | None = None,
    test_set: int | str | None = None,
    distractors: Path | None = None,
) -> Task:
    """Read a data set to be scored.

    protocol: a variant of the data set, or of any data set, a name in `evaluation.protocols`. distractors: a folder of
    crops of nobody, or of their shards; sizes are then the gallery itself, with each of the paper's numbers of them
    that there are, and with all. Raises DatasetError, ShardsError.
    """
    if isinstance(test_set, str) and test_set.isdecimal():
        test_set = int(test_set)
    by_name = protocol if protocol in PROTOCOLS else None
    variant = None if by_name else protocol
    split = load_dataset(dataset, data, protocol=variant, boxes=boxes, test_set=test_set)
    sizes, strangers = [len(split.gallery)], ()
    if distractors is not None and is_shards(distractors):
        shards = Shards.open(distractors)
        added = _series(shards.manifest.crops)
        sizes += [sizes[0] + size for size in added]
        strangers = (distractors_in(shards, added),)
    elif distractors is not None:
        crops, notes = distractor_crops.load_with_notes(distractors)
        added = _series(len(crops))
        sizes += [sizes[0] + size for size in added]
        more = distractor_crops.growing(crops, added)
        split = replace(split, gallery=(*split.gallery, *more), notes=(*split.notes, *notes))
    setting = Setting(dataset, variant, boxes)
    return Task(split, named(by_name or split.protocol), setting, tuple(sizes), strangers)


def _series(count: int) -> list[int]:
    """Return how many of so many distractors the gallery is scored with in turn."""
    return sorted({size for size in distractor_crops.SERIES if 0 < size < count} | {count})


def read_saved(
    file: Path, task: Task | None = None, multi_query: bool = False, *, whole: bool = False
) -> tuple[Task, Descriptors]:
    """Read descriptors from a file or a folder of shards, and pick those of the task's crops; returns both.

    Without a task the file itself must say which rows are query and gallery. Of shards, gallery rows that show nobody
    who is searched for are left there, as strangers of the task, where its rules allow that and not `whole`. Raises
    EvaluationError, ShardsError, MissingExtraError.
    """
    if is_shards(file) and task is not None:
        shards = Shards.open(file)
        task.require_model(shards.manifest.version, shards.manifest.flip)
        whole = whole or not task.by_counting
        sizes = task.sizes[: 1 if task.strangers else None]
        descriptors, strangers = pick(shards, task.split, multi_query, sizes=sizes, whole=whole)
        return replace(task, strangers=(*task.strangers, *([strangers] if strangers else []))), descriptors
    if is_shards(file):
        raise EvaluationError(
            f"{file}: shards do not say which rows are query and gallery: name the data set with --dataset and --data"
        )
    features = load_features(file, multi_query=multi_query)
    if task is None:
        if isinstance(features, Embeddings):
            raise EvaluationError(
                f"{file}: does not say which rows are query and gallery: name the data set with --dataset and --data"
            )
        query, gallery, pool = features
        split = Split("features", query=query.crops, gallery=gallery.crops, pool=pool.crops if pool else ())
        return Task(split, MARKET1501, Setting(str(file)), (len(gallery),)), features
    if not isinstance(features, Embeddings):
        raise EvaluationError(f"{file}: says itself which rows are query and gallery: leave out --data")
    return task, match_saved(features, task.split, multi_query)
