"""The tables of variants and studies: names that exist, comparisons that compare."""

import pytest

from partalign.studies.claims import PEOPLE, STUDIES, VARIANTS
from partalign.training.settings import shipped_recipes


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_speaks_of_its_own_variants(name):
    study = STUDIES[name]
    assert study.reference in study.variants
    assert len(set(study.variants)) == len(study.variants) >= 2
    assert set(study.variants) <= VARIANTS.keys()
    shown = [variant for rows in study.panels.values() for variant in rows.values()]
    assert set(shown) <= set(study.variants)
    for expectation in study.expectations:
        assert set(expectation.weights) <= set(study.variants)
        assert sum(expectation.weights.values()) == 0, "a comparison, not a level"
        assert any(weight > 0 for weight in expectation.weights.values())


def test_variants_are_used_told_apart_and_made_of_what_there_is():
    assert {variant for study in STUDIES.values() for variant in study.variants} == VARIANTS.keys()
    assert len({variant.label for variant in VARIANTS.values()}) == len(VARIANTS)
    for variant in VARIANTS.values():
        assert variant.people in PEOPLE
        assert variant.pose is None or variant.pose in PEOPLE
        assert variant.of is None or variant.of in VARIANTS
        assert variant.published is None or variant.published in shipped_recipes()
        assert variant.sees == "crop" or variant.network == "proposed"
