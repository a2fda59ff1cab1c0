"""Rates that families share: every request of either counts in them, and in its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kagglecrawl.rates import Rate, quotas_of
from kagglecrawl.state.lessons import Lessons
from kagglecrawl.state.quotas import Quotas
from tests.state.test_quotas import DAY, START, Now, most_in

HOUR = 3_600

Make = Callable[..., Quotas]


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def make(tmp_path: Path, now: Now) -> Make:
    def quotas(rates: str) -> Quotas:
        return Quotas(tmp_path / "quotas.sqlite", "me", quotas_of(rates), now)

    return quotas


def test_all_of_them_hold_for_both_together_and_for_each(make: Make, now: Now) -> None:
    """Whoever asks, and whenever: what is sent never exceeds any of the rates, and uses them."""
    shared = "api+download=4/second, 20/minute, 50/hour"
    quotas = make(f"api=3/second, 40/hour; download=2/second, 30/hour; {shared}")
    dice = random.Random(3)
    sent: dict[str, list[float]] = {"api": [], "download": []}
    while now.at < START + 5 * HOUR:
        family = dice.choice(["api", "download"])
        if not quotas.take(family):
            sent[family].append(now.at)
        now.at += dice.expovariate(1)
    both = sorted(sent["api"] + sent["download"])
    assert most_in(sent["api"], 1) <= 3
    assert most_in(sent["download"], 1) <= 2
    assert most_in(both, 1) <= 4
    assert most_in(both, 60) <= 20
    assert most_in(sent["api"], HOUR) <= 40
    assert most_in(sent["download"], HOUR) <= 30
    assert most_in(both, HOUR) == 50
    assert len(both) == 5 * 50


def test_a_pace_is_kept_by_both_together(make: Make, now: Now) -> None:
    quotas = make("api+download=10/second")
    moments: list[float] = []
    for _ in range(200):
        family = ("api", "download")[len(moments) % 2]
        if due := quotas.take(family):
            now.at = due
        else:
            moments.append(now.at)
    assert most_in(moments, 1) <= 10
    assert len(moments) / (moments[-1] - moments[0]) > 0.9 * 10


def test_what_one_has_not_sent_the_other_may(make: Make, now: Now) -> None:
    quotas = make("api+download=1/second, 2/day")
    assert quotas.take("api") == 0.0
    assert quotas.take("download") > START
    quotas.give_back("api")
    assert quotas.take("download") == 0.0
    now.at += 2
    assert quotas.take("api") == 0.0
    now.at += 2
    assert quotas.take("api") > START + DAY
    quotas.give_back("download")
    assert quotas.take("api") == 0.0


def test_one_that_goes_out_late_is_late_for_both(make: Make, now: Now) -> None:
    quotas = make("api+download=1/second, 2/day")
    assert quotas.take("download") == 0.0
    now.at += 30
    quotas.late("download")
    assert now.at + 1 < quotas.take("api") < now.at + 1.1
    now.at += 2
    assert quotas.take("api") == 0.0
    assert quotas.take("download") == pytest.approx(START + 30 + DAY + 1)


def test_a_hold_is_of_one_family_alone(make: Make, now: Now) -> None:
    """Kaggle said nothing of the other."""
    quotas = make("api+download=1/second")
    quotas.hold("download", START + 60)
    assert quotas.take("download") == START + 60
    assert quotas.take("api") == 0.0
    assert quotas.holds() == {"download": START + 60}


def test_names_in_another_order_are_the_same_rates(make: Make, now: Now) -> None:
    assert make("api+download=3/day").take("api") == 0.0
    assert make("download+api=3/day").take("download") == 0.0
    assert make("download + api = 3/day").take("api") == 0.0
    assert make("api+download=3/day").take("api") > START


def test_what_was_sent_before_they_were_shared_counts(make: Make, now: Now) -> None:
    before = make("api=100/day; download=100/day")
    assert [before.take(family) for family in ("api", "api", "download")] == [0.0] * 3
    after = make("api=100/day; api+download=4/day")
    assert after.take("api") == 0.0
    assert after.take("download") > START


def test_a_part_may_be_kept_for_one(make: Make, now: Now) -> None:
    """Rates of its own are a share."""
    quotas = make("api+download=10/day; download=3/day")
    assert sum(not quotas.take("download") for _ in range(20)) == 3
    assert sum(not quotas.take("api") for _ in range(20)) == 7


def test_a_family_without_rates_of_its_own_is_limited_by_shared_ones(make: Make) -> None:
    quotas = make("api+download=5/second; web=")
    assert [quotas.limits(each) for each in ("api", "download", "web", "x")] == [True, True] + [
        False
    ] * 2
    assert quotas.own_interval("api") == quotas.interval("api") == pytest.approx(0.21)
    assert make("api=2/second; api+download=5/second").own_interval("api") == pytest.approx(0.525)


def test_slower_is_learnt_from_the_pace_that_holds(make: Make, now: Now) -> None:
    quotas = make("api+download=10/second")
    lessons = Lessons(quotas)
    assert lessons.pushed_back("api") is None
    assert lessons.went_well("api") is None
    assert lessons.pushed_back("api") == pytest.approx(1.25 * 0.105)
    assert quotas.interval("download") == pytest.approx(0.105), "the other has met no 429"
    assert quotas.take("api") == 0.0
    assert quotas.take("api") == pytest.approx(now.at + 1.25 * 0.105)
    assert quotas.take("download") == pytest.approx(now.at + 0.105)


def test_what_is_left(make: Make, now: Now) -> None:
    quotas = make("api=2/second; api+download=4/hour, 10/day")
    names = [each.name for each in quotas.left()]
    assert names == ["api", "api+download"]
    for family in ("api", "download", "download"):
        assert quotas.take(family) == 0.0
        now.at += 1
    quotas.hold("download", now.at + 5)
    left = {each.name: each for each in quotas.left()}
    assert left.keys() == {"api", "api+download", "download"}
    assert left["api+download"].used == (
        (Rate(4, HOUR), 3, START + HOUR + 1),
        (Rate(10, DAY), 3, START + DAY + 1),
    )
    assert (left["api+download"].held, left["api+download"].next) == (0.0, 0.0)
    assert left["download"].held == left["download"].next == now.at + 5
    assert left["api"].used == ()
    assert quotas.take("api") == 0.0
    left = {each.name: each for each in quotas.left()}
    spent = START + HOUR + 1
    assert [left[name].next for name in ("api", "api+download", "download")] == [spent] * 3
