from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.app.http.dates import format_date, parse_date

SECONDS = 784_111_777  # RFC 9110 5.6.7


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_three_forms_are_read_and_the_first_is_written(text):
    assert parse_date(text) == SECONDS
    assert format_date(SECONDS + 0.9) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "0",
        "Sun, 06 Nov 1994 08:49:37 UTC",
    ],
)
def test_what_is_no_date_is_none(text):
    assert parse_date(text) is None


def test_two_digit_years_and_leap_seconds():
    assert format_date(parse_date("Friday, 31-Dec-69 23:59:60 GMT")).endswith("2069 23:59:59 GMT")


@given(st.integers(0, 2**33))
def test_dates_come_back(seconds):
    assert parse_date(format_date(seconds)) == seconds
