"""The scheduler: what waits, for how long, who wakes the engine, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scrapy import Request, Spider
from scrapy.core.engine import ExecutionEngine
from scrapy.utils.test import get_crawler

from kagglecrawl import settings as project
from kagglecrawl.state import scheduler as module
from kagglecrawl.state.scheduler import KaggleScheduler

START = 1_800_000_000.0


@dataclass
class Clock:
    """A clock that stands still, and the timers that were set on it."""

    now: float = START
    timers: list[tuple[float, Callable[[], object]]] = field(default_factory=list)

    def call_later(self, delay: float, function: Callable[..., object], *args: Any) -> None:
        assert delay >= 0
        self.timers.append((self.now + delay, lambda: function(*args)))

    def advance(self, seconds: float) -> None:
        """Let time pass, and fire the timers that fall due."""
        self.now += seconds
        due = [each for each in self.timers if each[0] <= self.now]
        self.timers = [each for each in self.timers if each[0] > self.now]
        for _, call in due:
            call()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The scheduler's time."""
    made = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: made.now))
    monkeypatch.setattr(module, "call_later", made.call_later)
    return made


class Engine:
    """What the scheduler and its queue need of one; counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0
        self.downloader = SimpleNamespace(slots={}, get_slot_key=lambda _: "one")
        self._slot = SimpleNamespace(nextcall=SimpleNamespace(schedule=self._schedule))

    def _schedule(self) -> None:
        self.woken += 1


def opened(jobdir: Path | None = None) -> tuple[KaggleScheduler, Engine]:
    """A scheduler as Scrapy builds it for this project."""
    names = [name for name in dir(project) if name.startswith("SCHEDULER_")]
    chosen = {name: getattr(project, name) for name in names}
    crawler = get_crawler(settings_dict={**chosen, "JOBDIR": jobdir and str(jobdir)})
    engine = Engine()
    crawler.engine = cast(ExecutionEngine, engine)
    made = KaggleScheduler.from_crawler(crawler)
    made.open(Spider.from_crawler(crawler, name="x"))
    return made, engine


def request(name: str, *, family: str = "", priority: int = 0, **meta: Any) -> Request:
    """A request that can be told apart."""
    shown = {"family": family} if family else {}
    return Request(f"https://h/{name}", priority=priority, meta={**shown, **meta})


def taken(scheduler: KaggleScheduler) -> list[str]:
    """Everything that may be sent now."""
    found = []
    while (each := scheduler.next_request()) is not None:
        found.append(each.url.removeprefix("https://h/"))
    return found


def test_it_is_scrapys_scheduler_where_nothing_waits(clock: Clock) -> None:
    scheduler, engine = opened()
    assert not scheduler.has_pending_requests()
    for name, priority in [("a", 0), ("b", 10), ("c", 0), ("d", 10)]:
        assert scheduler.enqueue_request(request(name, priority=priority))
    assert not scheduler.enqueue_request(request("a")), "seen before"
    assert len(scheduler) == 4
    assert taken(scheduler) == ["b", "d", "a", "c"], "by priority, then first in, first out"
    assert not scheduler.has_pending_requests()
    assert (clock.timers, engine.woken) == ([], 0)


def test_a_request_waits_for_its_own_time(clock: Clock) -> None:
    scheduler, engine = opened()
    scheduler.enqueue_request(request("late", not_before=START + 30))
    scheduler.enqueue_request(request("now", not_before=START - 5))
    assert taken(scheduler) == ["now"]
    assert scheduler.has_pending_requests()
    assert len(scheduler) == 1
    clock.advance(29)
    assert engine.woken == 0
    assert taken(scheduler) == []
    clock.advance(1)
    assert engine.woken == 1
    assert taken(scheduler) == ["late"]
    assert not scheduler.has_pending_requests()


def test_what_waited_keeps_its_priority(clock: Clock) -> None:
    scheduler, _ = opened()
    for name, priority, delay in [("a", 0, 1), ("b", 10, 2), ("c", 0, 2), ("d", 10, 1)]:
        scheduler.enqueue_request(request(name, priority=priority, not_before=START + delay))
    scheduler.enqueue_request(request("e", priority=5))
    clock.advance(3)
    assert taken(scheduler) == ["d", "b", "e", "a", "c"]


def test_a_hold_keeps_back_one_family_alone(clock: Clock) -> None:
    scheduler, engine = opened()
    for name, family in [("a1", "api"), ("w1", "web"), ("a2", "api"), ("free", "")]:
        scheduler.enqueue_request(request(name, family=family))
    scheduler.hold("api", START + 60)
    assert taken(scheduler) == ["w1", "free"]
    assert scheduler.has_pending_requests()
    assert len(scheduler) == 2
    scheduler.enqueue_request(request("a3", family="api"))
    scheduler.enqueue_request(request("w2", family="web"))
    assert taken(scheduler) == ["w2"]
    clock.advance(60)
    assert engine.woken >= 1
    assert taken(scheduler) == ["a1", "a2", "a3"], "past the duplicate filter, in their order"
    assert not scheduler.has_pending_requests()


def test_a_hold_is_never_shortened(clock: Clock) -> None:
    scheduler, _ = opened()
    scheduler.enqueue_request(request("a", family="api"))
    scheduler.hold("api", START + 60)
    scheduler.hold("api", START + 5)
    clock.advance(59)
    assert taken(scheduler) == []
    scheduler.hold("api", START + 90)
    clock.advance(1)
    assert taken(scheduler) == [], "made longer while it waits"
    clock.advance(30)
    assert taken(scheduler) == ["a"]


def test_how_long_it_holds(clock: Clock) -> None:
    scheduler, _ = opened()
    assert scheduler.held_for() == 0
    scheduler.hold("api", START + 60)
    scheduler.hold("download", START + 90)
    assert scheduler.held_for() == 90
    clock.advance(100)
    assert scheduler.held_for() == 0


def test_one_timer_for_the_next_moment(clock: Clock) -> None:
    """However often the engine asks."""
    scheduler, engine = opened()
    for second in (50, 20, 30):
        scheduler.enqueue_request(request(f"{second}", not_before=START + second))
        assert taken(scheduler) == []
        assert taken(scheduler) == []
    assert sorted(when - START for when, _ in clock.timers) == [20, 50]
    came = []
    for _ in range(50):
        clock.advance(1)
        came += taken(scheduler)
    assert came == ["20", "30", "50"]
    assert engine.woken >= 3


def test_a_clock_set_back_does_not_leave_it_without_a_timer(clock: Clock) -> None:
    scheduler, engine = opened()
    scheduler.enqueue_request(request("a", not_before=START + 10))
    assert taken(scheduler) == []
    timer = clock.timers.pop()[1]
    clock.now += 9.999  # the timer keeps another time, and fires a little before
    timer()
    assert engine.woken == 1
    assert taken(scheduler) == []
    clock.advance(1)
    assert engine.woken == 2
    assert taken(scheduler) == ["a"]


def test_the_engine_may_be_gone_when_a_timer_fires(clock: Clock) -> None:
    scheduler, engine = opened()
    scheduler.enqueue_request(request("a", not_before=START + 10))
    assert taken(scheduler) == []
    scheduler.close("shutdown")
    engine._slot = cast(Any, None)
    clock.advance(10)
    assert engine.woken == 0


def test_nothing_is_lost_at_the_close(clock: Clock, tmp_path: Path) -> None:
    scheduler, _ = opened(tmp_path)
    scheduler.enqueue_request(request("plain"))
    scheduler.enqueue_request(request("held", family="api"))
    scheduler.enqueue_request(request("late", not_before=START + 100))
    scheduler.enqueue_request(request("retry", not_before=START + 5))
    scheduler.hold("api", START + 50)
    assert scheduler.next_request() is not None
    assert taken(scheduler) == []
    scheduler.close("shutdown")

    again, engine = opened(tmp_path)
    assert len(again) == 3
    assert taken(again) == ["held"], "each keeps its own time over a restart"
    clock.advance(5)
    assert taken(again) == ["retry"]
    clock.advance(95)
    assert taken(again) == ["late"]
    assert engine.woken >= 2
    assert not again.has_pending_requests()
    again.close("finished")


STEPS = st.lists(
    st.tuples(st.just("put"), st.integers(0, 40), st.sampled_from(["", "api", "web"]))
    | st.tuples(st.just("hold"), st.integers(1, 40), st.sampled_from(["api", "web"]))
    | st.tuples(st.just("wait"), st.integers(1, 20), st.just("")),
    max_size=30,
)


@given(STEPS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_whatever_is_held_everything_comes_once_and_in_time(
    clock: Clock, steps: list[tuple[str, int, str]]
) -> None:
    clock.now, clock.timers = START, []
    scheduler, engine = opened()
    due: dict[str, tuple[float, str]] = {}
    held = {"": 0.0, "api": 0.0, "web": 0.0}

    def take() -> None:
        for name in taken(scheduler):
            moment, family = due.pop(name)
            assert moment <= clock.now
            assert held[family] <= clock.now

    for number, (step, seconds, family) in enumerate(steps):
        if step == "put":
            due[f"{number}"] = (clock.now + seconds, family)
            meta: dict[str, Any] = {"not_before": clock.now + seconds} if seconds else {}
            scheduler.enqueue_request(request(f"{number}", family=family, **meta))
        elif step == "hold":
            held[family] = max(held[family], clock.now + seconds)
            scheduler.hold(family, clock.now + seconds)
        else:
            clock.advance(seconds)
        take()
        assert len(scheduler) == len(due)
        assert scheduler.has_pending_requests() == bool(due)
        assert bool(clock.timers) or not due, "something waits, and nobody will wake the engine"
    for _ in range(100):
        woken = engine.woken
        clock.advance(1)
        if engine.woken > woken:  # the engine asks only when it is woken
            take()
    assert not due
