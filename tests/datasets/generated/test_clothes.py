import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.datasets.generated import clothes as wear
from partalign.datasets.generated.clothes import Wardrobe


def sets_of_colors(colors: np.ndarray) -> list[list[tuple[float, ...]]]:
    return [sorted(map(tuple, person)) for person in colors.tolist()]


@given(st.integers(0, 10_000), st.integers(2, 24))
def test_a_group_shares_its_colours_and_no_two_wear_them_alike(seed, group_size):
    colors = Wardrobe.draw(seed, np.arange(3 * group_size), group_size).colors
    for group in np.split(colors, 3):
        sets = sets_of_colors(group)
        assert all(other == sets[0] for other in sets)
        assert len(np.unique(group.reshape(group_size, -1), axis=0)) == group_size
    assert sets_of_colors(colors)[0] != sets_of_colors(colors)[-1]


@given(st.integers(0, 1000), st.integers(1, 24), st.permutations(range(30)))
def test_what_a_person_wears_does_not_depend_on_the_others(seed, group_size, order):
    rows = np.array(order[:7])
    whole = Wardrobe.draw(seed, np.arange(30), group_size).take(rows)
    part = Wardrobe.draw(seed, rows, group_size)
    for name, column in vars(part).items():
        assert np.array_equal(column, getattr(whole, name)), name


@pytest.fixture(scope="module")
def crowd() -> Wardrobe:
    return Wardrobe.draw(0, np.arange(4000), 4)


def test_the_second_colour_can_be_seen_on_everyone(crowd):
    assert ((crowd.bag != wear.NO_BAG) | (crowd.pattern != wear.PLAIN)).all()


def test_everything_is_worn_by_somebody(crowd):
    for column, kinds in (
        (crowd.bag, 4),
        (crowd.pattern, 7),
        (crowd.bottom, 4),
        (crowd.hair_style, 5),
        (crowd.bag_side, 2),
    ):
        assert set(np.unique(column)) == set(range(kinds))
    assert 0.3 < (crowd.sleeve < 1).mean() < 0.6
    assert not (~crowd.feminine & (crowd.bottom >= wear.SKIRT)).any()


def test_colours_are_colours_and_differ_within_a_set(crowd):
    for column in (crowd.colors, crowd.skin, crowd.hair, crowd.shoes, crowd.cap):
        assert column.min() >= 0.03
        assert column.max() <= 0.97
    apart = np.abs(crowd.colors[:, :, None] - crowd.colors[:, None]).max(axis=-1)[:, *np.triu_indices(4, 1)]
    assert np.quantile(apart.min(axis=1), 0.1) > 0.06


def test_without_groups_sleeves_mostly_match():
    colors = Wardrobe.draw(0, np.arange(1000), 1).colors
    match = (colors[:, wear.SLEEVES] == colors[:, wear.UPPER]).all(axis=1).mean()
    assert match == pytest.approx(0.8, abs=0.05)
