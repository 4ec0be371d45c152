"""Data sets of two views that are tested on several sets of persons in turn: CUHK01, and CUHK03's first protocol.

Knows nothing of files; what is drawn from the crops of a test set is the matter of scoring.
"""

from __future__ import annotations

from collections.abc import Sequence

from partalign.crops import Crop, Split
from partalign.datasets.listing import some
from partalign.errors import DatasetError


def single_shot(
    name: str,
    probes: Sequence[Crop],
    others: Sequence[Crop],
    sets: Sequence[frozenset[str]],
    test_set: int | str | None,
    notes: Sequence[str] = (),
) -> Split:
    """Divide the crops of two views: persons of the test set into query and gallery, all others into training.

    probes, others: crops of the first and of the second view. sets: the persons of each test set. test_set: the number
    of the one to test on, from 0; "all" or None for all of them in turn, which leaves nobody to train on. Raises
    DatasetError where there is no test set of that number, or no crop of its persons.
    """
    chosen = _choose(name, sets, test_set)
    tested = frozenset[str]().union(*chosen)
    query = tuple(crop for crop in probes if crop.person in tested)
    gallery = tuple(crop for crop in others if crop.person in tested)
    if not query or not gallery:
        raise DatasetError(
            f"{name}: expected two views of the test persons, found {len(query)} and {len(gallery)} crops"
        )
    train = () if len(chosen) > 1 else [crop for crop in (*probes, *others) if crop.person not in tested]
    in_both = {crop.person for crop in query} & {crop.person for crop in gallery}
    told = list(notes)
    if lone := sorted(tested - in_both):
        missing = f"{len(lone):,} of {len(tested):,} test persons lack crops of a view and cannot be scored"
        told.append(f"{missing}: {some(lone)}")
    if not train and len(chosen) == 1:
        told.append("no crops to train on: all persons are in the test set")
    return Split(
        name,
        tuple(sorted(train, key=lambda crop: crop.path.name)),
        query,
        gallery,
        tuple(told),
        protocol="single-shot",
        test_sets=chosen,
    )


def _choose(name: str, sets: Sequence[frozenset[str]], test_set: int | str | None) -> tuple[frozenset[str], ...]:
    if test_set is None or test_set == "all":
        return tuple(sets)
    if isinstance(test_set, str) or not 0 <= test_set < len(sets):
        raise DatasetError(f"{name}: expected a test set from 0 to {len(sets) - 1}, or all, found {test_set!r}")
    return (sets[test_set],)
