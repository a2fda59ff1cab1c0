"""What cells of Meta Kaggle say."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.metakaggle.cells import flag, integer, moment


@pytest.mark.parametrize(
    ("text", "number"),
    [("123", 123), ("123.0", 123), (" 7 ", 7), ("0", 0), ("-3", -3), ("5.", 5)]
    + [(text, None) for text in ("", " ", "nan", "1.5", "1e5", "1,000", "0x10", "１", "1\n2")]
    + [("9" * 5000, None)],
)
def test_integers(text: str, number: int | None) -> None:
    assert integer(text) == number


@pytest.mark.parametrize(
    ("text", "said"),
    [("True", True), ("true", True), ("TRUE ", True), ("1", True)]
    + [("False", False), ("false", False), ("0", False)]
    + [(text, None) for text in ("", "yes", "2", "None")],
)
def test_flags(text: str, said: bool | None) -> None:
    assert flag(text) is said


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("04/07/2010 07:57:43", "2010-04-07T07:57:43Z"),
        ("04/07/2010", "2010-04-07T00:00:00Z"),
        ("4/7/2010 7:57:43", "2010-04-07T07:57:43Z"),
        ("12/31/2024 23:59", "2024-12-31T23:59:00Z"),
        ("2010-04-07T07:57:43Z", "2010-04-07T07:57:43Z"),
        ("2010-04-07 07:57:43.9871230", "2010-04-07T07:57:43Z"),
        ("2010-04-07T07:57:43+02:00", "2010-04-07T05:57:43Z"),
        ("2010-04-07T07:57:43-0030", "2010-04-07T08:27:43Z"),
        ("2010-04-07", "2010-04-07T00:00:00Z"),
    ]
    + [(text, "") for text in ("", "soon", "13/01/2010", "02/30/2010", "2010-04-07T25:00:00Z")]
    + [(text, "") for text in ("01/01/0000", "12/31/9999 23:59:59 PM", "2010-04-07 1:00+99:99")]
    + [("9999-12-31T23:59:59-01:00", "")],
)
def test_moments(text: str, time: str) -> None:
    assert moment(text) == time


@given(st.datetimes(datetime(1900, 1, 1), datetime(2199, 1, 1)))
def test_every_time_as_kaggle_writes_it(at: datetime) -> None:
    expected = at.replace(tzinfo=UTC, microsecond=0)
    assert datetime.fromisoformat(moment(f"{at:%m/%d/%Y %H:%M:%S}")) == expected


@given(st.text(st.sampled_from("0123456789/-: TZ+.e\0é１"), max_size=25))
def test_no_cell_is_too_odd_to_be_read(text: str) -> None:
    assert integer(text) is None or str(integer(text))
    assert flag(text) in {None, True, False}
    assert moment(text) == "" or datetime.fromisoformat(moment(text)).tzinfo
