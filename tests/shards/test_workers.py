"""Tasks over processes; what Ray does with them is tested where crops are described and galleries counted."""

import os
from functools import partial

import pytest

from partalign.errors import MissingExtraError, ShardsError, WeightsError
from partalign.shards.workers import Workers
from squares import Square


@pytest.mark.parametrize("count", [None, 1, 2])
def test_each_task_is_done_once(count):
    found = sorted(Workers(count).run(partial(Square, 5), range(11)))
    assert [found[:2] for found in found] == [(number, number**2 + 5) for number in range(11)]
    here = {pid == os.getpid() for _, _, pid in found}
    assert here == {count != 2}
    assert list(Workers(count).run(Square, [])) == []


@pytest.mark.parametrize("count", [0, -1])
def test_fewer_than_one_worker_are_refused(count):
    with pytest.raises(ShardsError, match=f"expected one worker at least, found {count}"):
        Workers(count)


def test_an_error_of_ours_arrives_as_it_was_raised():
    for count in (1, 2):
        with pytest.raises(WeightsError, match="seventeen"):
            list(Workers(count).run(Square, [1, 17, 3]))


def test_a_process_that_dies_is_told():
    with pytest.raises(ShardsError, match="a worker ended by itself"):
        list(Workers(2).run(Square, [1, 2, 13, 4]))


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r'pip install "partalign\[ray\]"'):
        list(Workers(2, ray="local").run(Square, [1, 2]))
