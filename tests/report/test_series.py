"""Time in slots: nothing is lost when they double, and there are never more than so many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.report.series import MOST, Series

spans = st.lists(st.tuples(st.floats(0, 500), st.integers(0, 1000)), min_size=1, max_size=60)


def test_slots_double_when_there_would_be_too_many() -> None:
    series = Series(most=4)
    for second in range(4):
        series.add("n", second, second + 1, second + 1)
        series.level("high", second, second + 1, second)
    assert (series.width, series.values("n")) == (1, [1, 2, 3, 4])
    series.add("n", 4, 5, 10)
    assert (series.width, series.length) == (2, 3)
    assert series.values("n") == [3, 7, 10]
    assert series.values("high") == [1, 3, 0]


def test_what_came_in_a_while_is_spread_over_it() -> None:
    series = Series()
    series.add("n", 0.5, 3, 10)
    assert series.values("n") == pytest.approx([2, 4, 4])
    series.add("n", 3, 3.5, 1)
    assert series.values("n") == pytest.approx([2, 4, 4, 1])


def test_a_moment_between_two_slots_belongs_to_what_it_ends() -> None:
    series = Series()
    series.add("n", 0, 1, 5)
    assert series.values("n") == [5]
    assert series.length == 1


def test_what_was_never_told_is_nothing() -> None:
    series = Series()
    assert series.values("n") == []
    series.reach(2.5)
    assert series.values("n") == [0, 0, 0]
    assert series.total("n") == 0


def test_names_below_another() -> None:
    series = Series()
    series.add("sent/b", 0, 1, 1)
    series.level("sent/a", 0, 1, 1)
    series.add("sent", 0, 1, 1)
    series.add("sentence/c", 0, 1, 1)
    assert series.below("sent") == ["a", "b"]


@given(spans)
def test_nothing_is_lost_and_memory_is_bounded(found: list[tuple[float, int]]) -> None:
    series, at = Series(most=8), 0.0
    for seconds, amount in found:
        series.add("n", at, at + seconds + 0.01, amount)
        series.level("high", at, at + seconds + 0.01, amount)
        at += seconds + 0.01
    values = series.values("n")
    assert len(values) == len(series.values("high")) == series.length <= 8
    assert sum(values) == pytest.approx(sum(amount for _, amount in found))
    assert series.total("n") == pytest.approx(sum(values))
    assert max(series.values("high")) == max(amount for _, amount in found)
    assert series.width * series.length >= at > series.width * (series.length - 1)


def test_a_month_fits() -> None:
    series, month = Series(), 30 * 86_400
    for hour in range(0, month, 3600):
        series.add("n", hour, hour + 3600, 3600)
    assert MOST / 2 < series.length <= MOST
    full = series.values("n")[:-1]
    assert full == pytest.approx([series.width] * len(full))
