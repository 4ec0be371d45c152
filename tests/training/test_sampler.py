import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.errors import TrainingError
from partalign.training.sampler import BalancedSampler, IdentitySampler

labels_of = st.lists(st.integers(0, 12), min_size=12, max_size=80)


@given(labels_of, st.integers(0, 50), st.integers(0, 3))
def test_balanced_batches_hold_p_persons_with_k_crops(labels, iteration, seed):
    labels = np.array([*labels, 20, 20, 21, 21, 21, 22, 22])
    batch = BalancedSampler(labels, persons=3, crops=4, seed=seed).batch(iteration)
    persons, counts = np.unique(labels[batch], return_counts=True)
    assert len(persons) == 3
    assert set(counts) == {4}
    for person in persons:
        own = np.flatnonzero(labels == person)
        assert len(own) > 1, "a person with one crop has no positive"
        assert len(np.unique(batch[labels[batch] == person])) == min(4, len(own)), "no crop twice before all came once"


def test_every_person_comes_once_in_an_epoch():
    labels = np.arange(40) // 4
    sampler = BalancedSampler(labels, persons=2, crops=2)
    for epoch in range(3):
        seen = np.concatenate([np.unique(labels[sampler.batch(5 * epoch + i)]) for i in range(5)])
        assert sorted(seen) == list(range(10))


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: BalancedSampler(np.arange(60) // 5, 3, 4, seed),
        lambda seed: IdentitySampler(np.arange(60) // 5, 12, seed),
    ],
)
def test_a_batch_depends_on_seed_and_iteration_alone(make):
    one, other = make(1), make(1)
    for iteration in (7, 0, 3):
        np.testing.assert_array_equal(one.batch(iteration), other.batch(iteration))
    assert any((make(2).batch(i) != one.batch(i)).any() for i in range(3))
    assert any((one.batch(i) != one.batch(i + 1)).any() for i in range(3))


@given(labels_of, st.integers(0, 3))
def test_identity_batches_cut_the_row_of_all_persons(labels, epoch):
    labels = np.array([*labels, 98, 99])
    sampler = IdentitySampler(labels, size=5)
    batches = len(labels) // 5
    rows = np.concatenate([sampler.batch(epoch * batches + i) for i in range(batches)])
    assert len(np.unique(rows)) == batches * 5, "no crop comes twice in an epoch"
    changes = (np.diff(labels[rows]) != 0).sum() + 1
    assert changes == len(np.unique(labels[rows])), "all crops of a person lie in a row"


def test_too_few_persons_are_named():
    with pytest.raises(TrainingError, match=r"batches of 4 persons.*found 3"):
        BalancedSampler([0, 0, 1, 1, 2, 2, 3], persons=4, crops=2)
    with pytest.raises(TrainingError, match="found 3 crops of 1"):
        IdentitySampler([0, 0, 0], size=4)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=10, max_size=40), st.integers(0, 20))
def test_crops_are_spread_over_cameras(pairs, iteration):
    labels, cameras = np.array([0, 0, 1, 1] + [p for p, _ in pairs]), np.array([0, 1, 0, 1] + [c for _, c in pairs])
    batch = BalancedSampler(labels, 2, 4, seed=1, cameras=cameras).batch(iteration)
    for rows in batch.reshape(2, 4):
        own = np.flatnonzero(labels == labels[rows[0]])
        drawn = np.array([np.count_nonzero(cameras[rows] == camera) for camera in np.unique(cameras[own])])
        there = np.array([np.count_nonzero(cameras[own] == camera) for camera in np.unique(cameras[own])])
        # No camera gives two crops more than another that still had one to give.
        if len(own) >= 4:
            assert all(
                most - least <= 1 or least == had for most in drawn for least, had in zip(drawn, there, strict=True)
            )
