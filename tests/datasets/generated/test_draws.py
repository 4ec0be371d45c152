import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from partalign.datasets.generated.draws import Draws, _mix


def reference(state: int, count: int) -> list[int]:
    """SplitMix64 as published (Vigna's public-domain C code), in whole numbers."""
    numbers, mask = [], 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        numbers.append(z ^ (z >> 31))
    return numbers


def test_the_hash_is_splitmix64():
    assert reference(0, 1) == [0xE220A8397B1DCDAF]  # the published first number of seed 0
    states = np.array([0, 1, 12345, 2**63 + 7], np.uint64)
    assert _mix(states + np.uint64(0x9E3779B97F4A7C15)).tolist() == [reference(int(s), 1)[0] for s in states]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.data())
def test_a_draw_depends_on_its_address_only(seed, rows, data):
    together = Draws(seed, "picture", np.array(rows))
    k = data.draw(st.integers(0, len(rows) - 1))
    alone = Draws(seed, "picture", np.array(rows[k : k + 1]))
    for draw in (
        lambda d: d.uniform("a", -1, 3, size=5),
        lambda d: d.normal("b"),
        lambda d: d.choice("c", (1, 2, 0, 3)),
        lambda d: d.order("d", 7),
        lambda d: d.take(np.array([0])).uniform("e") if len(d) == 1 else d.uniform("e"),
        lambda d: d.branch("other").chance("f", 0.5),
    ):
        assert np.array_equal(draw(together)[k], draw(alone)[0])


def test_other_names_kinds_seeds_rows_and_branches_give_other_numbers():
    rows = np.arange(50)
    base = Draws(0, "picture", rows)
    columns = [
        base.uniform("a"),
        base.uniform("b"),
        Draws(1, "picture", rows).uniform("a"),
        Draws(0, "person", rows).uniform("a"),
        Draws(0, "picture", rows + 50).uniform("a"),
        base.branch("other").uniform("a"),
        *base.uniform("more", size=4).T,
    ]
    assert len(np.unique(np.concatenate(columns))) == len(columns) * 50
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 0.6


def test_draws_have_their_distributions():
    draws = Draws(3, "picture", np.arange(40_000))
    u = draws.uniform("u", 2.0, 5.0)
    assert u.min() >= 2
    assert u.max() < 5
    assert np.allclose(np.histogram(u, 10, (2, 5))[0] / 4000, 1, atol=0.08)
    n = draws.normal("n", 1.0, 2.0)
    assert abs(n.mean() - 1) < 0.04
    assert abs(n.std() - 2) < 0.04
    assert np.abs(n - 1).max() <= 7
    shares = np.bincount(draws.choice("c", (1, 0, 3)), minlength=3) / 40_000
    assert np.allclose(shares, (0.25, 0, 0.75), atol=0.01)
    assert abs(draws.chance("p", 0.3).mean() - 0.3) < 0.01
    orders = draws.order("o", 3)
    assert np.array_equal(np.sort(orders, axis=1), np.tile([0, 1, 2], (40_000, 1)))
    assert np.allclose(np.unique(orders, axis=0, return_counts=True)[1] / 40_000, 1 / 6, atol=0.01)
