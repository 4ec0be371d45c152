"""Results of one evaluation: figures, how they came about, and the same as a table and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from partalign.evaluation.metrics import APKind, Ties, average_precision, inverse_negative_penalty
from partalign.evaluation.protocols import Protocol

REPORTED_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Counts:
    """What was scored: `without_match` queries are left out of every mean, `junk` gallery rows of every ranking.

    Of a protocol with several trials, queries are those of all trials, and gallery, junk and distractors those of the
    largest.
    """

    queries: int
    scored: int
    without_match: int
    gallery: int
    junk: int
    distractors: int


@dataclass(frozen=True, eq=False)
class Scores:
    """Results of one evaluation; every figure is a fraction, and means are over the scored queries.

    ranks: for each query the ascending ranks, from 1, of its matches, empty where it has none; trial after trial.
    cmc: (N,) float64, at [k-1] the share of queries with a match among the first k; N is the size of the gallery.
    ap: which definition `mAP` has; `mean_ap` gives either. trials: the number of queries in each trial; one trial,
    unless the protocol draws or has several test sets. methods: what was done to rankings or queries before scoring.
    """

    ranks: tuple[np.ndarray, ...]
    cmc: np.ndarray
    counts: Counts
    protocol: Protocol
    ap: APKind = "rectangular"
    ties: Ties = "pessimistic"
    trials: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()

    def rank(self, k: int) -> float:
        """Return rank-k: the share of queries with a match among the first k (k >= 1)."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])

    @cached_property
    def first_ranks(self) -> np.ndarray:
        """(Q,) rank of each query's first match, 0 where it has none."""
        return np.array([r[0] if len(r) else 0 for r in self.ranks], dtype=np.intp)

    def query_ap(self, kind: APKind | None = None) -> np.ndarray:
        """Return (Q,) each query's average precision, of `ap`'s kind unless told otherwise; NaN without a match."""
        return np.array([average_precision(r, kind or self.ap) for r in self.ranks])

    def mean_ap(self, kind: APKind) -> float:
        """Return the mean average precision of the given kind."""
        return float(np.nanmean(self.query_ap(kind)))

    @cached_property
    def mAP(self) -> float:
        """Mean average precision of the kind that `ap` names."""
        return self.mean_ap(self.ap)

    @cached_property
    def mINP(self) -> float:
        """Mean inverse negative penalty."""
        return float(np.nanmean([inverse_negative_penalty(r) for r in self.ranks]))

    @property
    def figures(self) -> dict[str, float]:
        """The reported figures by their names: rank-1, rank-5, rank-10, rank-20, mAP, mINP."""
        return {f"rank-{k}": self.rank(k) for k in REPORTED_RANKS} | {"mAP": self.mAP, "mINP": self.mINP}

    @cached_property
    def spread(self) -> dict[str, float]:
        """Standard deviation over the trials of rank-1, mAP and mINP; empty where there is one trial."""
        if len(self.trials) < 2:
            return {}
        values = {"rank-1": self.first_ranks == 1, "mAP": self.query_ap()}
        values["mINP"] = np.array([inverse_negative_penalty(r) for r in self.ranks])
        parts = np.cumsum(self.trials)[:-1]
        return {name: float(np.std([np.nanmean(t) for t in np.split(v, parts)], ddof=1)) for name, v in values.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes."""
        source = {"ap": self.ap, "ties": self.ties, "protocol": self.protocol.name}
        source |= {"same_camera": self.protocol.same_camera, "tracklets": self.protocol.tracklets}
        source |= {"cmc": self.protocol.cmc, "methods": list(self.methods)}
        seeds = [self.protocol.seed] if self.protocol.draws else []
        trials = {"trials": len(self.trials), "spread": self.spread, "seeds": seeds}
        return self.figures | source | trials | {"counts": asdict(self.counts)}

    def to_json(self) -> str:
        """Return rank-1, rank-5, rank-10, rank-20, mAP and mINP as fractions, and how they came about."""
        return json.dumps(self.as_dict(), indent=2)

    def table(self) -> str:
        """Return the figures in per cent, as text of a few lines."""
        figures = {f"mAP ({self.ap})" if name == "mAP" else name: value for name, value in self.figures.items()}
        c, rules = self.counts, self.protocol
        without = f", {c.without_match:,} without a match and left out" if c.without_match else ""
        what = f"{rules.tracklets} of tracklets" if rules.tracklets else ""
        camera = "" if rules.same_camera == "ignore" else f"same camera: {rules.same_camera}"
        shots = "CMC of all matches" if rules.cmc == "all-matches" else ""
        details = ", ".join(filter(None, (what, camera, shots, *self.methods)))
        lines = [
            "  ".join(figures),
            "  ".join(f"{100 * value:.1f}".rjust(len(name)) for name, value in figures.items()),
            f"protocol {rules.name}{f' ({details})' if details else ''}: {c.scored:,} of {c.queries:,} queries "
            f"scored{without}; gallery of {c.gallery:,}, of which {c.junk:,} junk and {c.distractors:,} distractors",
        ]
        if self.spread:
            spread = ", ".join(f"{name} {100 * value:.1f}" for name, value in self.spread.items())
            lines.append(f"mean over {len(self.trials):,} trials; standard deviation: {spread}")
        return "\n".join(lines)
