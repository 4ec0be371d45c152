"""Rates, turns and forgetting."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from partalign.web.limits import BusyError, Limits, RateLimit, Turns
from partalign.web.queries import Queries, UnknownQueryError


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 10), st.floats(0.5, 20))
def test_no_client_gets_more_than_burst_and_rate(pauses, burst, rate):
    clock, passed = Clock(), 0
    limit = RateLimit(rate, burst, clock=clock)
    for pause in pauses:
        clock.now += pause
        wait = limit.wait("a")
        passed += wait == 0
        assert passed <= burst + rate * clock.now + 1e-6
        if wait:
            clock.now += wait + 1e-9
            assert limit.wait("a") == pytest.approx(0, abs=1e-6)
            passed += 1


def test_clients_do_not_share_and_the_oldest_are_forgotten():
    limit = RateLimit(1, 1, clock=Clock(), clients=2)
    assert [limit.wait(name) for name in "aab"] == [0, 1, 0]
    assert limit.wait("c") == 0
    assert limit.wait("a") == 0  # forgotten


def refused(turns):
    try:
        with turns.turn():
            return False
    except BusyError:
        return True


def test_one_at_a_time_and_a_full_line_is_said():
    turns, inside, go = Turns(waiting=1), [], threading.Event()

    def work():
        with turns.turn():
            inside.append(threading.get_ident())
            assert go.wait(10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not inside:
        pass
    while not refused(turns):  # until the second thread stands in line
        pass
    assert len(inside) == 1
    go.set()
    for thread in threads:
        thread.join()
    with turns.turn():
        assert len(inside) == 2


def test_queries_are_forgotten_by_age_and_by_number():
    clock = Clock()
    queries = Queries(Limits(queries=3, lifetime=10), clock=clock)
    picture, vector = Image.new("RGB", (2, 2)), np.ones((1, 4), np.float32)
    first = queries.keep([picture], vector)
    clock.now = 5
    second = queries.keep([picture, picture], vector)
    assert queries.find(first).pictures == (picture,)
    third = queries.keep([picture], vector)
    with pytest.raises(UnknownQueryError):
        queries.find(first)
    clock.now = 15
    for name in (second, third, "never"):
        with pytest.raises(UnknownQueryError):
            queries.find(name)
