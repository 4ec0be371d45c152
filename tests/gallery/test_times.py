import pytest
from hypothesis import given
from hypothesis import strategies as st

from partalign.errors import GalleryError
from partalign.gallery import Record
from partalign.gallery.records import FIRST_DATE
from partalign.gallery.times import parse_age, parse_time, show_time


def shown(time):
    return show_time(Record("x", time=time))


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (None, ""),
        (0.0, "0"),
        (8.5, "8.5"),
        (100.0, "100"),
        (1 / 3, "0.33"),
        (135894.0, "135894"),  # a frame, of a file's name; seconds and frames cannot be told from each other
        (1234567.0, "1234567"),
        (-2.5, "-2.5"),
        (1777638600.0, "2026-05-01 12:30:00"),
    ],
)
def test_times_are_shown_as_dates_or_without_a_unit(time, expected):
    assert shown(time) == expected


@given(st.floats(0, FIRST_DATE - 1).filter(lambda time: not 19e6 < time < 21e6))  # as digits, these may be dates
def test_what_is_shown_of_a_place_is_read_again_to_a_hundredth(time):
    assert parse_time(shown(time)) == pytest.approx(time, abs=0.00501)


@given(st.integers(int(FIRST_DATE), 10**10))
def test_what_is_shown_of_a_date_is_read_again(time):
    assert parse_time(shown(float(time))) == time


def test_a_date_without_dashes_is_not_taken_for_seconds():
    with pytest.raises(GalleryError, match=r"2026-05-01, found '20260501'.*20260501\.0"):
        parse_time("20260501")
    assert parse_time("20260501.0") == 20260501
    assert parse_time("20261301") == 20261301  # no month
    assert parse_time("2026") == 2026


def test_ages_and_mistakes():
    assert (parse_age("30d"), parse_age("1.5h")) == (30 * 86400, 5400)
    for read, text in ((parse_age, "30"), (parse_age, "d"), (parse_time, "noon")):
        with pytest.raises(GalleryError, match="expected a"):
            read(text)
