"""Every way a value was seen to be spelt in a reply, and some that were not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle import lenient

#: What a JSON reader can hand over, Python's NaN and infinities included.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["seconds", "nanos", "name"]), inner, max_size=3)
    ),
    max_leaves=6,
)
READERS: list[Callable[[dict[str, Any], str], Any]] = [
    lenient.pick,
    lenient.text,
    lenient.integer,
    lenient.number,
    lenient.rating,
    lenient.rows,
    lenient.texts,
    lenient.timestamp,
]


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@given(row=st.dictionaries(st.sampled_from(["f", "fNullable"]), json_values))
def test_nothing_raises_and_all_of_it_is_json(
    read: Callable[[dict[str, Any], str], Any], row: dict[str, Any]
) -> None:
    result = read(row, "f")
    if read is not lenient.pick:
        json.dumps(result)
    if read in (lenient.number, lenient.rating):
        assert result is None or abs(result) < float("inf")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"f": "a"}, "a"),
        ({"f": "", "fNullable": "b"}, ""),
        ({"f": None, "fNullable": "b"}, "b"),
        ({"fNullable": "b", "hasF": True}, "b"),
        ({"f": "a", "fNullable": "b"}, "a"),
        ({"f": 0, "fNullable": 5}, 0),
        ({"f": False}, False),
        ({}, None),
    ],
)
def test_a_field_or_its_nullable_twin(row: dict[str, Any], expected: Any) -> None:
    assert lenient.pick(row, "f") == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (" a ", " a "),
        (5, "5"),
        (0, "0"),
        (2**70, str(2**70)),
        (None, ""),
        ([], ""),
        ({"a": 1}, ""),
    ],
)
def test_text(value: Any, text: str) -> None:
    assert lenient.text({"f": value}, "f") == text
    assert lenient.text({}, "f") == ""


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5),
        (0, 0),
        (-3, -3),
        (5.0, 5),
        (5.9, 5),
        ("5", 5),
        (" 5 ", 5),
        ("5.0", 5),
        ("1e3", 1000),
        (2**60 + 1, 2**60 + 1),
        # proto3 JSON writes 64-bit numbers as text
        (str(2**60 + 1), 2**60 + 1),
        (str(-(2**60) - 1), -(2**60) - 1),
        (None, 0),
        ("", 0),
        ("many", 0),
        ("0x10", 0),
        (True, 0),
        ([5], 0),
        ({"value": 5}, 0),
        (float("nan"), 0),
        (float("inf"), 0),
        ("NaN", 0),
        ("-inf", 0),
        ("1e999", 0),
    ],
)
def test_whole_numbers(value: Any, number: int) -> None:
    result = lenient.integer({"f": value}, "f")
    assert (result, type(result)) == (number, int)
    assert lenient.integer({}, "f") == 0


@pytest.mark.parametrize(
    ("row", "rating"),
    [
        ({"f": 0.9375}, 0.9375),
        ({"f": "0.9375"}, 0.9375),
        ({"f": 1}, 1),
        ({"f": 0}, 0),
        ({}, 0.0),  # proto3 drops zero fields
        ({"f": None}, None),
        ({"fNullable": 0.5}, 0.5),
        ({"f": None, "fNullable": 0.5}, 0.5),
        ({"f": None, "fNullable": None}, None),
        ({"f": "high"}, None),
        ({"f": float("nan")}, None),
        ({"f": {"score": 0.5}}, None),
    ],
)
def test_a_rating_absent_is_zero_and_null_is_unknown(
    row: dict[str, Any], rating: float | None
) -> None:
    assert lenient.rating(row, "f") == rating


def test_lists_keep_what_is_of_their_kind() -> None:
    mixed: dict[str, Any] = {"f": [{"a": 1}, "b", None, 3, [], {"c": 2}]}
    assert lenient.rows(mixed, "f") == [{"a": 1}, {"c": 2}]
    assert lenient.texts(mixed, "f") == ["b"]
    absent: list[dict[str, Any]] = [{}, {"f": None}, {"f": {}}, {"f": "text"}, {"f": 0}]
    for nothing in absent:
        assert not lenient.rows(nothing, "f")
        assert not lenient.texts(nothing, "f")
    assert lenient.texts({"fNullable": ["a"]}, "f") == ["a"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        ("2026-01-02 03:04:05", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.1Z"),
        ("2026-01-02T03:04:05.123Z", "2026-01-02T03:04:05.123Z"),
        ("2026-01-02T03:04:05.12Z", "2026-01-02T03:04:05.12Z"),
        ("2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05.123456Z"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456Z"),
        ("2026-01-02T03:04:05.5", "2026-01-02T03:04:05.5Z"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
        ("2026-01-02T03:04:05.25-05:30", "2026-01-02T08:34:05.25Z"),
        (" 2026-01-02T03:04:05Z\n", "2026-01-02T03:04:05Z"),
        ("2026-01-02", "2026-01-02T00:00:00Z"),
        # .NET's empty date
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ({"seconds": -62135596800}, "0001-01-01T00:00:00Z"),
        ({"seconds": 1577934245, "nanos": 123456789}, "2020-01-02T03:04:05.123456Z"),
        ({"seconds": "1577934245", "nanos": 0}, "2020-01-02T03:04:05Z"),
        ({"seconds": 0}, "1970-01-01T00:00:00Z"),
        ({"seconds": 1577934245, "nanos": 500_000_000}, "2020-01-02T03:04:05.5Z"),
        # what cannot be read is not changed
        ("01/02/2026 03:04:05", "01/02/2026 03:04:05"),
        ("4:41 pm, Wednesday 23 September 2026 UTC", "4:41 pm, Wednesday 23 September 2026 UTC"),
        ("yesterday", "yesterday"),
        ("2026-13-45T00:00:00Z", "2026-13-45T00:00:00Z"),
        ("0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00+05:00"),
        ("9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59-05:00"),
        ("", ""),
        (None, ""),
        (1577934245, ""),
        ([], ""),
        ({}, ""),
        ({"seconds": "soon"}, ""),
        ({"seconds": 10**30}, ""),
    ],
)
def test_times_in_every_spelling(value: Any, expected: str) -> None:
    assert lenient.timestamp({"f": value}, "f") == expected
    assert lenient.timestamp({"fNullable": value}, "f") == expected


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),
    st.integers(-23, 23),
    st.integers(0, 9),
)
def test_a_time_is_the_same_moment_however_it_is_written(
    moment: datetime, zone: int, digits: int
) -> None:
    local = moment.replace(microsecond=moment.microsecond * (digits > 5), tzinfo=UTC)
    local = local.astimezone(timezone(timedelta(hours=zone)))
    fraction = f".{local.microsecond:06d}000"[: digits + 1] if digits else ""
    offset = f"{'-' if zone < 0 else '+'}{abs(zone):02d}:00"
    written = f"{local.replace(tzinfo=None, microsecond=0).isoformat()}{fraction}{offset}"
    read = lenient.timestamp({"f": written}, "f")
    assert read.endswith("Z")
    assert datetime.fromisoformat(read) == local
    assert lenient.timestamp({"f": read}, "f") == read, "reading it again changes nothing"
