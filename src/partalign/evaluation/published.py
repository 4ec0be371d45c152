"""The paper's results, and a run's figures beside them."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from partalign.evaluation.scores import REPORTED_RANKS, Scores

COLUMNS = ("source", "dataset", "protocol", "boxes", "query", "reranked", "distractors", "gallery", "ap")
FIGURES = (*(f"rank-{k}" for k in REPORTED_RANKS), "mAP", "mINP")


@dataclass(frozen=True)
class Setting:
    """What must agree for two results to be comparable: data, rules and what is done after embedding.

    protocol, boxes: of data sets that have several. distractors: crops added to the gallery.
    """

    dataset: str = "market1501"
    protocol: str | None = None
    boxes: str | None = None
    multi_query: bool = False
    rerank: bool = False
    distractors: int = 0


@dataclass(frozen=True)
class Result:
    """A row of one of the paper's tables, in per cent. rank: 1, 5, 10, 20, or 1 alone. recipe: what trains it."""

    table: int
    title: str
    recipe: str
    setting: Setting
    rank: tuple[float, ...]
    mean_ap: float | None

    @property
    def figures(self) -> dict[str, float]:
        """The printed figures by their names, in per cent."""
        ranks = {f"rank-{k}": value for k, value in zip(REPORTED_RANKS, self.rank, strict=False)}
        return ranks if self.mean_ap is None else ranks | {"mAP": self.mean_ap}

    @property
    def train_command(self) -> str:
        """The command that trains the row's model."""
        return f"partalign train {self.recipe} --data DATA --out runs/{self.recipe}"

    @property
    def evaluate_command(self) -> str:
        """The command that scores it."""
        s = self.setting
        words = [f"partalign evaluate runs/{self.recipe}/model.safetensors --dataset {s.dataset} --data DATA"]
        words += [f"--protocol {s.protocol}"] if s.protocol else []
        words += [f"--boxes {s.boxes}"] if s.boxes else []
        words += ["--multi-query"] if s.multi_query else []
        words += ["--distractors DISTRACTORS"] if s.distractors else []
        words += ["--rerank"] if s.rerank else []
        return " ".join(words)


@cache
def published_results() -> tuple[Result, ...]:
    """Return the rows of Tables 1 to 7 that are of the paper's own networks."""
    text = (resources.files("partalign") / "evaluation" / "published.toml").read_text(encoding="utf-8")
    return tuple(_result(dict(row)) for row in tomllib.loads(text)["result"])


def _result(row: dict) -> Result:
    table, title, recipe, rank, mean_ap = (row.pop(key, None) for key in ("table", "title", "recipe", "rank", "mAP"))
    return Result(table, title, recipe, Setting(**row), tuple(rank), mean_ap)


def csv_beside_paper(runs: Iterable[tuple[Setting, Scores]]) -> str:
    """Return a CSV of each run's figures and, below each, the paper's rows of the same setting; all in per cent."""
    text = io.StringIO()
    table = csv.DictWriter(text, (*COLUMNS, *FIGURES), lineterminator="\n")
    table.writeheader()
    for setting, scores in runs:
        common = {
            "dataset": setting.dataset,
            "protocol": setting.protocol or scores.protocol.name,
            "boxes": setting.boxes,
            "query": "multi" if setting.multi_query else "single",
            "reranked": "yes" if setting.rerank else "no",
            "distractors": setting.distractors,
        }
        own = {name: f"{100 * value:.2f}" for name, value in scores.figures.items()}
        table.writerow({"source": "this run", **common, "gallery": scores.counts.gallery, "ap": scores.ap, **own})
        for result in published_results():
            if result.setting == setting:
                source = f"paper, Table {result.table}: {result.title}"
                table.writerow({"source": source, **common, **result.figures})
    return text.getvalue()
