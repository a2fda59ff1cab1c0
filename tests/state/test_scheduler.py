"""The scheduler: the order, what waits and for how long, and who wakes the engine."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request

from kagglecrawl.state.holds import Held
from tests.state.stand import START, Clock, Stand, ask, name_of

jobs = pytest.mark.parametrize("job", [True, False], ids=["job", "memory"])


def later(request: Request, due: float, **changes: Any) -> Request:
    """As the middleware sends it back."""
    meta = {**request.meta, "not_before": due, **changes}
    return request.replace(meta=meta, dont_filter=True)


# -- the order -------------------------------------------------------------------------------------


@jobs
def test_it_is_scrapys_order_where_nothing_waits(clock: Clock, tmp_path: Path, job: bool) -> None:
    stand = Stand(tmp_path, job=job)
    assert not stand.scheduler.has_pending_requests()
    requests = [ask(name, priority=n) for name, n in [("a", 0), ("b", 10), ("c", 0), ("d", 10)]]
    assert stand.push(*requests, ask("a")) == [True, True, True, True, False]
    assert stand.scheduler.has_pending_requests()
    found = stand.pull()
    assert [name_of(each) for each in found] == ["b", "d", "a", "c"], "by priority, then by age"
    assert stand.scheduler.has_pending_requests(), "they are under way"
    for each in found:
        stand.answer(each)
    assert not stand.scheduler.has_pending_requests()
    assert stand.engine.woken == 0
    assert (stand.stat("scheduler/enqueued"), stand.stat("scheduler/dequeued")) == (4, 4)
    assert stand.stat("dupefilter/filtered") == 1
    stand.close()


def test_children_go_before_the_next_page(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.push(ask("page 1"), ask("page 2"))
    stand.spider.outputs["page%201"] = lambda _: [
        *(ask(f"row{n}", priority=10) for n in range(3)),
        ask("page 3"),
    ]
    (page,) = stand.pull(1)
    stand.answer(page)
    assert stand.names() == ["row0", "row1", "row2", "page%202", "page%203"]
    stand.kill()


def test_a_request_that_the_filter_lets_pass_comes_again(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    assert stand.push(*(ask("a", dont_filter=True) for _ in range(3))) == [True] * 3
    assert stand.names() == ["a"] * 3
    stand.kill()


# -- what waits ------------------------------------------------------------------------------------


@jobs
def test_a_new_request_waits_for_its_own_time(clock: Clock, tmp_path: Path, job: bool) -> None:
    stand = Stand(tmp_path, job=job)
    stand.push(ask("late", meta={"not_before": START + 30}))
    stand.push(ask("now", meta={"not_before": START - 5}))
    (now,) = stand.pull()
    assert name_of(now) == "now"
    stand.answer(now)
    assert stand.scheduler.has_pending_requests()
    clock.advance(29)
    assert (stand.names(), stand.engine.woken) == ([], 0)
    clock.advance(1)
    assert stand.engine.woken == 1
    assert stand.names() == ["late"]
    stand.close("shutdown")


@jobs
def test_a_child_waits_for_its_own_time(clock: Clock, tmp_path: Path, job: bool) -> None:
    stand = Stand(tmp_path, job=job)
    stand.push(ask("a"))
    stand.spider.outputs["a"] = lambda _: [ask("late", meta={"not_before": clock.now + 30})]
    (parent,) = stand.pull()
    stand.answer(parent)
    assert stand.names() == []
    clock.advance(30)
    assert stand.engine.woken == 1
    assert stand.names() == ["late"]
    stand.close("shutdown")


@jobs
def test_a_retry_waits_and_is_the_same_request(clock: Clock, tmp_path: Path, job: bool) -> None:
    stand = Stand(tmp_path, job=job)
    stand.push(ask("a", priority=3), ask("b", priority=3), ask("c", priority=3))
    a, b = stand.pull(2)
    assert stand.instead(a, later(a, START + 5, attempt=2))
    stand.answer(b)
    assert stand.names(1) == ["c"]
    assert stand.names() == []
    assert clock.pending()[-1] == 5
    clock.advance(5)
    assert stand.engine.woken >= 1
    (again,) = stand.pull()
    assert again.meta["attempt"] == 2
    assert "not_before" not in again.meta
    stand.answer(again)
    stand.close("shutdown")
    assert stand.stat("scheduler/enqueued") == 3, "it is no new one"


def test_what_waited_keeps_its_priority(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    delays = {"a": (0, 1), "b": (10, 2), "c": (0, 2), "d": (10, 1)}
    stand.push(*(ask(name, priority=priority) for name, (priority, _) in delays.items()))
    for each in stand.pull():
        stand.instead(each, later(each, START + delays[name_of(each)][1]))
    stand.push(ask("e", priority=5))
    clock.advance(3)
    assert stand.names() == ["b", "d", "e", "a", "c"]
    stand.kill()


@jobs
def test_a_hold_keeps_back_one_family_alone(clock: Clock, tmp_path: Path, job: bool) -> None:
    stand = Stand(tmp_path, job=job)
    families = {"a1": "api", "w1": "web", "a2": "api", "free": ""}
    stand.push(*(ask(name, family=family) for name, family in families.items()))
    stand.scheduler.hold("api", START + 60)
    assert stand.names() == ["w1", "free"]
    stand.push(ask("a3"), ask("w2", family="web"))
    assert stand.names() == ["w2"]
    assert stand.scheduler.has_pending_requests()
    clock.advance(60)
    assert stand.engine.woken >= 1
    assert stand.names() == ["a1", "a2", "a3"]
    stand.close("shutdown")


def test_a_hold_is_never_shortened(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.push(ask("a"))
    stand.scheduler.hold("api", START + 60)
    stand.scheduler.hold("api", START + 5)
    clock.advance(59)
    assert stand.names() == []
    stand.scheduler.hold("api", START + 90)
    clock.advance(1)
    assert stand.names() == [], "made longer while it waits"
    clock.advance(30)
    assert stand.names() == ["a"]
    stand.kill()


def test_a_restart_shortens_no_hold(clock: Clock, tmp_path: Path) -> None:
    """Nor does a kill."""
    stand = Stand(tmp_path)
    stand.push(ask("a"), ask("w", family="web"))
    (w,) = [each for each in stand.pull() if name_of(each) == "w"]
    stand.scheduler.hold("api", START + 60)
    stand.instead(w, later(w, START + 40))
    clock.advance(1)  # the commit
    stand.kill()
    again = Stand(tmp_path)
    assert again.scheduler.holds.seconds() == 59
    assert again.names() == []
    clock.advance(39)
    assert again.engine.woken == 1
    assert again.names() == ["w"]
    again.close("shutdown")
    third = Stand(tmp_path)
    assert third.names() == ["w"], "was under way"
    clock.advance(19.9)
    assert third.names() == []
    clock.advance(0.1)
    assert third.engine.woken >= 1
    assert third.names() == ["a"]
    third.kill()


def test_a_hold_is_for_good_as_soon_as_it_is_told(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.scheduler.hold("api", START + 60)
    stand.kill()
    again = Stand(tmp_path)
    assert again.scheduler.holds.seconds() == 60
    again.kill()


def test_what_is_held_must_not_be_sent(clock: Clock, tmp_path: Path) -> None:
    """A request that was handed out before waits in the downloader."""
    stand = Stand(tmp_path)
    stand.push(ask("a"), ask("w", family="web"))
    a, w = stand.pull()
    stand.scheduler.holds.check(a)
    stand.scheduler.hold("api", START + 60)
    with pytest.raises(Held) as held:
        stand.scheduler.holds.check(a)
    assert held.value.until == START + 60
    stand.scheduler.holds.check(w)
    clock.advance(60)
    stand.scheduler.holds.check(a)
    stand.kill()


def test_how_long_it_holds(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    assert stand.scheduler.holds.seconds() == 0
    stand.scheduler.hold("api", START + 60)
    stand.scheduler.hold("download", START + 90)
    assert stand.scheduler.holds.seconds() == 90
    clock.advance(100)
    assert stand.scheduler.holds.seconds() == 0
    stand.kill()


def test_one_timer_for_the_next_moment(clock: Clock, tmp_path: Path) -> None:
    """However often the engine asks."""
    stand = Stand(tmp_path)
    for second in (50, 20, 30):
        stand.push(ask(f"{second}"))
        (request,) = stand.pull()
        stand.instead(request, later(request, START + second))
        for _ in range(3):
            assert stand.names() == []
    stand.commit()
    assert clock.pending() == [20]
    came: list[str] = []
    for _ in range(50):
        clock.advance(1)
        came += stand.names()
    assert came == ["20", "30", "50"]
    assert stand.engine.woken >= 3
    stand.kill()


def test_a_clock_set_back_does_not_leave_it_without_a_timer(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.push(ask("a"))
    (request,) = stand.pull()
    stand.instead(request, later(request, START + 10))
    assert stand.names() == []
    (timer,) = [each for each in clock.timers if each.when == START + 10]
    clock.timers.remove(timer)
    clock.now += 9.999  # the timer keeps another time, and fires a little before
    timer.call()
    assert stand.engine.woken == 1
    assert stand.names() == []
    clock.advance(1)
    assert stand.engine.woken == 2
    assert stand.names() == ["a"]
    stand.kill()


def test_the_engine_may_be_gone_when_a_timer_fires(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.push(ask("a", meta={"not_before": START + 10}))
    assert stand.names() == []
    slot, stand.engine._slot = stand.slot, None
    clock.advance(10)
    assert slot.woken == 0
    stand.kill()


def test_no_timer_is_left_behind(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.push(ask("a"), ask("b", meta={"not_before": START + 10}))
    stand.scheduler.hold("api", START + 60)
    assert stand.names() == []
    assert clock.pending()
    stand.begin_closing()
    stand.close("shutdown")
    assert clock.pending() == []


@jobs
@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_held_everything_comes_once_and_in_time(
    clock: Clock, tmp_path: Path, job: bool, seed: int
) -> None:
    """The engine asks only when it is woken, or something ends."""
    dice, stand = random.Random(seed), Stand(tmp_path, job=job)
    due: dict[str, tuple[float, str]] = {}
    held = {"": 0.0, "api": 0.0, "web": 0.0}
    done: list[str] = []

    def turn() -> None:
        """The engine asks, and asks again when something has ended."""
        while found := stand.pull(dice.randint(1, 8)):
            for each in found:
                moment, family = due.pop(name_of(each))
                assert moment <= clock.now
                assert held[family] <= clock.now
                if dice.random() < 0.3:
                    again = clock.now + dice.choice([0, 3, 7.5])
                    due[name_of(each)] = (again, family)
                    stand.instead(each, later(each, again))
                else:
                    stand.answer(each)
                    done.append(name_of(each))

    for number in range(80):
        step, family = dice.choice(["put", "put", "hold", "wait"]), dice.choice(list(held))
        if step == "put":
            due[f"{number}"] = (0.0, family)
            stand.push(ask(f"{number}", family=family))
        elif step == "hold":
            held[family] = max(held[family], clock.now + dice.randint(1, 40))
            stand.scheduler.hold(family, held[family])
        else:
            clock.advance(dice.randint(1, 20))
        turn()
        assert stand.scheduler.has_pending_requests() == bool(due)
        stand.commit()  # and its timer is gone
        assert clock.pending() or not due, "something waits, and nobody will wake the engine"
    for _ in range(400):
        woken = stand.engine.woken
        clock.advance(0.5)
        if stand.engine.woken > woken:
            turn()
    assert not due
    assert len(set(done)) == len(done) == stand.stat("scheduler/enqueued")
    stand.close()
