"""Scores of a gallery that is not held as a whole: only the rows must be that show a person who is searched for.

All others are strangers to every query: they match nobody and are ignored for nobody, so only how many of them rank
before each match matters. They are counted part by part, in any order and by anybody, and the counts added up. Figures
are those of `evaluate.score` with the whole gallery at once, to the last digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from partalign.crops import DISTRACTOR, JUNK, Crop, Embeddings
from partalign.errors import EvaluationError
from partalign.evaluation.evaluate import require_unit_length
from partalign.evaluation.metrics import APKind, Ties, cmc, count_rivals, ranks_of_matches, similarities_of_matches
from partalign.evaluation.protocols import Protocol, Relevance
from partalign.evaluation.scores import Counts, Scores


@dataclass(frozen=True)
class Crowd:
    """How many strangers there are: all of them, and among them junk, which is in no ranking, and distractors."""

    rows: int = 0
    junk: int = 0
    distractors: int = 0

    @classmethod
    def of(cls, crops: Sequence[Crop]) -> Crowd:
        """Count crops. Raises EvaluationError where one has no person, and so may be anybody."""
        nameless = [crop for crop in crops if crop.person is None]
        if nameless:
            raise EvaluationError(
                f"{len(nameless)} of {len(crops)} gallery crops have no person, the first is {nameless[0].path}: "
                'give each, or "0000" for nobody\'s'
            )
        persons = [crop.person for crop in crops]
        return cls(len(persons), persons.count(JUNK), persons.count(DISTRACTOR))

    def __add__(self, other: Crowd) -> Crowd:
        return Crowd(self.rows + other.rows, self.junk + other.junk, self.distractors + other.distractors)


@dataclass(frozen=True)
class Known:
    """Queries, and gallery rows: at least all those of the persons that the queries show."""

    query: Embeddings
    gallery: Embeddings
    protocol: Protocol
    ties: Ties = "pessimistic"

    @cached_property
    def relevance(self) -> Relevance:
        """Which of the rows match. Raises EvaluationError where that cannot be said."""
        return self.protocol.relevance(self.query.crops, self.gallery.crops)

    @cached_property
    def own(self) -> list[np.ndarray]:
        """The similarities of each query's matches, best first."""
        return similarities_of_matches(self.query.vectors, self.gallery.vectors, self.relevance.matches)

    def rivals(self, strangers: np.ndarray) -> np.ndarray:
        """Count, for each match, the strangers (N, D) that rank before it; (matches of all queries,) int64."""
        if not len(strangers):
            return np.zeros(sum(map(len, self.relevance.matches)), np.int64)
        require_unit_length(strangers)
        return count_rivals(self.query.vectors, strangers, self.own, self.ties)

    def score(
        self, rivals: np.ndarray, crowd: Crowd, ap: APKind = "rectangular", methods: Sequence[str] = ()
    ) -> Scores:
        """Score the known rows among a crowd of strangers, of whom `rivals` rank before each match.

        Raises EvaluationError where no query has a match.
        """
        relevance = self.relevance
        if not any(map(len, relevance.matches)):
            raise EvaluationError(
                f"none of {len(self.query)} queries has a match in the gallery that protocol {self.protocol.name} does "
                "not ignore: check the names of persons and cameras"
            )
        require_unit_length(self.gallery.vectors)
        within = ranks_of_matches(
            self.query.vectors,
            self.gallery.vectors,
            relevance.matches,
            relevance.ignored,
            relevance.junk,
            ties=self.ties,
        )
        ends = np.cumsum([len(ranks) for ranks in within])[:-1]
        ranks = [ranks + more for ranks, more in zip(within, np.split(rivals, ends), strict=True)]
        known = Crowd.of(self.gallery.crops)
        size, scored = known.rows + crowd.rows, sum(len(found) > 0 for found in ranks)
        counts = Counts(
            len(ranks),
            scored,
            len(ranks) - scored,
            size,
            known.junk + crowd.junk,
            known.distractors + crowd.distractors,
        )
        curve = cmc(ranks, size, self.protocol.cmc)
        return Scores(tuple(ranks), curve, counts, self.protocol, ap, self.ties, (len(self.query),), tuple(methods))
