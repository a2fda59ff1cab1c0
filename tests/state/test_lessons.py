"""What 429s teach of the pace, and what good answers do."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagglecrawl.rates import rates_of
from kagglecrawl.state import lessons as module
from kagglecrawl.state.lessons import Lessons
from kagglecrawl.state.quotas import Quotas


def quotas_of(path: Path, rates: str) -> Quotas:
    return Quotas(path / "quotas.sqlite", "me", {"api": rates_of(rates)})


@pytest.fixture
def quotas(tmp_path: Path) -> Quotas:
    return quotas_of(tmp_path, "10/second")


def good(lessons: Lessons, count: int) -> list[float]:
    """Good answers; what they changed."""
    found = [lessons.went_well("api") for _ in range(count)]
    return [each for each in found if each is not None]


def again(lessons: Lessons) -> float | None:
    """Another 429, soon after the last one; what it changed."""
    lessons.went_well("api")
    return lessons.pushed_back("api")


def test_a_burst_of_them_says_nothing_of_the_pace(quotas: Quotas) -> None:
    """Each comes after a pause, so that it was not for the pace."""
    lessons = Lessons(quotas)
    assert [lessons.pushed_back("api") for _ in range(20)] == [None] * 20
    assert quotas.interval("api") == quotas.own_interval("api")


def test_one_429_is_an_accident(quotas: Quotas) -> None:
    lessons = Lessons(quotas)
    assert lessons.pushed_back("api") is None
    assert good(lessons, 500) == []
    assert lessons.pushed_back("api") is None
    assert good(lessons, module._APART) == []
    assert lessons.pushed_back("api") is None
    assert quotas.interval("api") == quotas.own_interval("api")


def test_two_with_little_between_them_are_a_lesson(quotas: Quotas, tmp_path: Path) -> None:
    lessons = Lessons(quotas)
    lessons.pushed_back("api")
    good(lessons, 3)
    first = lessons.pushed_back("api") or 0.0
    assert first == pytest.approx(1.25 * quotas.own_interval("api"))
    second = again(lessons)
    assert second == pytest.approx(1.25 * first)
    assert quotas_of(tmp_path, "10/second").interval("api") == second


def test_it_gets_no_slower_without_an_end(quotas: Quotas) -> None:
    lessons = Lessons(quotas)
    found = [again(lessons) for _ in range(200)]
    assert max(each for each in found if each) == 10.0
    assert found[-1] is None


def test_good_answers_bring_the_rates_own_pace_back(quotas: Quotas) -> None:
    lessons = Lessons(quotas)
    for _ in range(4):
        again(lessons)
    slow = quotas.interval("api")
    assert good(lessons, module._PATIENCE - 1) == []
    (faster,) = good(lessons, 1)
    assert faster == pytest.approx(0.9 * slow)
    steps = good(lessons, 20 * module._PATIENCE)
    assert steps == sorted(steps, reverse=True)
    assert quotas.interval("api") == quotas.own_interval("api")
    assert good(lessons, 10 * module._PATIENCE) == []


def test_another_process_goes_on_with_what_was_learnt(quotas: Quotas, tmp_path: Path) -> None:
    first = Lessons(quotas)
    for _ in range(3):
        again(first)
    slow = quotas.interval("api")
    (faster,) = good(Lessons(quotas_of(tmp_path, "10/second")), module._PATIENCE)
    assert faster == pytest.approx(0.9 * slow)


def test_without_rates_it_is_learnt_from_how_fast_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.time", lambda: now)
    quotas = quotas_of(tmp_path, "")
    lessons = Lessons(quotas)
    for _ in range(20):
        now += 0.2
        lessons.sent("api")
    assert again(lessons) is None
    assert again(lessons) == pytest.approx(0.25)
    assert quotas.interval("api") == pytest.approx(0.25)


def test_families_learn_on_their_own(quotas: Quotas) -> None:
    lessons = Lessons(quotas)
    lessons.pushed_back("api")
    assert lessons.pushed_back("download") is None
    assert quotas.interval("api") == quotas.own_interval("api")
