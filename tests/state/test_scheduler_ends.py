"""How a run ends: what is given back, what is given up, and what is a failure then."""

from __future__ import annotations

from collections import deque
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scrapy import Request
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kagglecrawl.state.closing import GRACE, PATIENCE, interrupted, left_behind
from kagglecrawl.state.leases import Interrupted
from tests.state.helpers import Item
from tests.state.stand import START, Clock, Stand, ask

# -- how it ends -----------------------------------------------------------------------------------


def queued(stand: Stand, *requests: Request) -> list[Deferred[Any]]:
    """Requests that wait in the downloader for their turn; they fail as Scrapy lets them."""
    waiting = []
    for request in requests:
        deferred: Deferred[Any] = Deferred()
        deferred.addErrback(partial(_failed, stand, request))
        waiting.append((request, deferred))
    stand.engine.downloader.slots["one"] = SimpleNamespace(queue=deque(waiting))
    return [deferred for _, deferred in waiting]


def _failed(stand: Stand, request: Request, failure: Failure) -> None:
    assert isinstance(failure.value, Exception)
    stand.fail(request, failure.value)


def test_closing_hands_out_nothing_and_gives_back_what_was_not_sent(
    clock: Clock, tmp_path: Path
) -> None:
    stand = Stand(tmp_path)
    stand.push(*(ask(name, errback=stand.spider.failed) for name in "abcd"))
    a, b, c = stand.pull(3)
    queued(stand, b, c)
    stand.begin_closing()
    assert stand.slot.closed
    assert stand.slot.inprogress == {a}
    assert stand.names() == []
    stand.spider.outputs["a"] = lambda _: [Item("x")]
    stand.answer(a)
    stand.close("shutdown")
    assert stand.rows() == ["x"]
    again = Stand(tmp_path)
    assert again.names() == ["b", "c", "d"]
    again.kill()


def test_what_takes_too_long_is_given_up_and_then_left(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stopped: list[float] = []
    given_up: list[str] = []
    stand.crawler.signals.connect(
        lambda: stopped.append(clock.now - START), left_behind, weak=False
    )
    stand.crawler.signals.connect(lambda: given_up.append("now"), interrupted, weak=False)
    stand.push(ask("gives up", errback=stand.spider.failed), ask("hangs"), ask("done"))
    gives_up, hangs, done = stand.pull()
    stand.spider.outputs["done"] = lambda _: [Item("x")]
    stand.begin_closing()
    assert set(clock.pending()) >= {GRACE, PATIENCE}
    clock.advance(GRACE)
    assert (given_up, stopped) == (["now"], [])
    stand.fail(gives_up, Interrupted())
    stand.answer(done)
    clock.advance(PATIENCE - GRACE)
    assert stopped == [PATIENCE]
    assert stand.rows() == ["x"], "what was acknowledged is safe"
    assert stand.slot.inprogress == {hangs}
    stand.kill()
    again = Stand(tmp_path)
    assert again.names() == ["gives%20up", "hangs"]
    again.kill()


def test_what_ends_in_time_is_not_given_up(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.push(ask("a"))
    (request,) = stand.pull()
    stand.begin_closing()
    stand.answer(request)
    stand.close("shutdown")
    assert clock.pending() == []


@pytest.mark.parametrize("interrupted", [True, False])
def test_only_who_was_interrupted_is_left(clock: Clock, tmp_path: Path, interrupted: bool) -> None:
    """A limit that was reached, say, ends the crawl, and not the process."""
    stand = Stand(tmp_path)
    stand.push(ask("a"))
    (request,) = stand.pull()
    stand.commit()
    stand.begin_closing(interrupted=interrupted)
    assert clock.pending() == ([GRACE, PATIENCE] if interrupted else [GRACE])
    stand.answer(request)
    stand.close("shutdown")
    assert clock.pending() == []


def test_nothing_is_waited_for_when_nothing_is_under_way(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.commit()
    stand.begin_closing()
    assert clock.pending() == []
    stand.close("shutdown")


def test_what_came_to_nothing_is_a_failure_at_the_end(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.accounts.discover("k")
    stand.close("finished")
    assert stand.four() == (0, 0, 1, 0)
    assert stand.accounts.reasons("failed") == {"nothing_came_of_it": 1}
    assert stand.scheduler.balanced


def test_what_is_left_when_it_is_stopped_stays_open(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.accounts.discover("k")
    stand.push(ask("a", key="k"))
    stand.close("shutdown")
    assert stand.four() == (0, 0, 0, 1)
    assert stand.scheduler.balanced
    assert stand.stat("kaggle/things/pending") == 1


def test_a_failure_on_the_way_out_of_the_engine_is_no_dead_lock(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with what we do there: the request is over for Scrapy, nothing of it
    counts, and the crawl stops."""
    stand = Stand(tmp_path)
    stand.spider.outputs = {name: lambda _: [Item("k", 1), ask("child")] for name in "ab"}
    stand.push(ask("a"), ask("b"))
    stand.commit()
    a, b = stand.pull()

    def broken(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(stand.accounts, "store", broken)
    stand.answer(a)
    assert stand.slot.inprogress == {b}
    assert stand.engine.closed_because == ["kaggle_failed"]
    assert "KeyError('a fault of ours')" in stand.spider.stopped_because
    stand.answer(b)
    stand.close("kaggle_failed")
    assert (stand.rows(), stand.four()) == ([], (0, 0, 0, 0))
    again = Stand(tmp_path)
    assert again.names() == ["a", "b"]
    again.kill()


def test_a_fault_of_ours_is_no_dead_lock_where_it_is_not_caught(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(tmp_path)
    stand.push(ask("a"))
    (request,) = stand.pull()

    def broken(*_: object) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(stand.scheduler, "_is_open", broken)
    with pytest.raises(KeyError):
        stand.over(request)
    assert not stand.slot.inprogress
    stand.kill()


def test_a_refused_request_is_no_deferred_error(clock: Clock, tmp_path: Path) -> None:
    """Twisted would log it when it is collected."""
    stand = Stand(tmp_path)
    stand.push(ask("a", errback=stand.spider.failed))
    (deferred,) = queued(stand, *stand.pull())
    stand.begin_closing()
    assert not isinstance(cast(Any, deferred).result, Failure)
    stand.close("shutdown")
