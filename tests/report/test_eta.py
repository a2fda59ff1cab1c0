"""How long it will take: by records, bytes or budgets, and "unknown" where nobody can tell."""

from __future__ import annotations

import math

import pytest

from kagglecrawl.rates import Rate
from kagglecrawl.report.eta import Spent, Way, about, eta

DAY = 86_400
WAY = Way(seconds=100, before=0, done=50, wanted=200)


def test_as_it_went() -> None:
    found = eta(WAY, [])
    assert (found["seconds"], found["limited_by"]) == (300, "records")
    assert found["text"] == "5 min 00 s: 150 more at the pace of this run"


def test_what_earlier_runs_have_done_is_no_pace_of_this_one() -> None:
    found = eta(Way(seconds=100, before=40, done=50, wanted=60), [])
    assert found["seconds"] == 100


def test_bytes_may_take_longer() -> None:
    way = Way(100, 0, 50, 200, bytes_left=6e9, bytes_per_second=1e6)
    found = eta(way, [])
    assert (found["seconds"], found["limited_by"]) == (6000, "bytes")
    assert "6.0 GB more at 1.0 MB/s" in found["text"]
    assert eta(Way(100, 0, 50, 200, bytes_left=1e6, bytes_per_second=1e6), [])["seconds"] == 300


@pytest.mark.parametrize(
    ("used", "free_in", "sent", "seconds"),
    [
        (0, 0.0, 100, 300),  # 300 of 1000 are needed: the budget is no limit
        (1000, 6_400.0, 0, 300),  # none is needed of this family
        (800, 5_000.0, 67, 5_000),  # 201: one more than is left, so the first that comes back
        (1000, 6_400.0, 167, 6_400 + 0.5 * 80_000),  # 501: they come back over a whole day
        (1000, 86_000.0, 1000, 3 * DAY),  # spent just now: thrice a day
        (0, 0.0, 700, 2 * DAY),  # 2100: the first at once, the last two days later
        (3000, 86_300.0, 100, DAY),  # more was sent than may be now
    ],
)
def test_a_budget_may_take_longest(used: int, free_in: float, sent: int, seconds: float) -> None:
    found = eta(WAY, [Spent(Rate(1000, DAY), used, free_in, sent)])
    assert found["seconds"] == pytest.approx(seconds, rel=0.005)
    assert found["limited_by"] == ("records" if seconds == 300 else "budget")


def test_the_tightest_budget_counts() -> None:
    budgets = [Spent(Rate(1000, DAY), 1000, 50_000, 10), Spent(Rate(10, 3600), 10, 60, 10)]
    assert eta(WAY, budgets)["text"].endswith("as 1000/day may be sent")


@pytest.mark.parametrize(
    "way",
    [
        Way(seconds=1, before=0, done=50, wanted=200),
        Way(seconds=100, before=50, done=50, wanted=200),
        Way(seconds=100, before=48, done=50, wanted=200),
        Way(seconds=100, before=0, done=50, wanted=200, bytes_left=1e6),
        Way(seconds=1e6, before=0, done=5, wanted=10_000_000),
        Way(100, 0, 50, 200, bytes_left=math.inf, bytes_per_second=1),
    ],
)
def test_unknown_rather_than_nonsense(way: Way) -> None:
    found = eta(way, [])
    assert found["seconds"] is None
    assert found["limited_by"] is None
    assert found["text"].startswith("unknown: ")


def test_nothing_is_pending() -> None:
    found = eta(Way(seconds=1, before=0, done=3, wanted=3), [])
    assert (found["seconds"], found["text"]) == (0, "nothing is pending")


def test_a_guess_is_called_one() -> None:
    found = eta(Way(seconds=100, before=0, done=50, wanted=10_000, guessed=True), [])
    assert found["text"].endswith(", if there are 10,000 rows")


def test_days() -> None:
    assert about(DAY - 1) == "23 h 59 min"
    assert about(3 * DAY + 2 * 3600) == "3 d 2 h"
