"""Holds of quota families: kept over restarts, and one timer for the next moment."""

from __future__ import annotations

import json
from typing import cast

import pytest
from scrapy.core.engine import ExecutionEngine
from scrapy.crawler import Crawler
from scrapy.utils.test import get_crawler

from kagglecrawl.state.holds import Held, Holds
from kagglecrawl.state.store import Store
from tests.state.stand import START, Clock, Engine, ask


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def crawler(engine: Engine) -> Crawler:
    made = get_crawler()
    made.engine = cast(ExecutionEngine, engine)
    return made


def test_holds_are_kept_and_those_that_are_over_forgotten(
    clock: Clock, store: Store, crawler: Crawler
) -> None:
    holds = Holds(crawler, store)
    assert holds.until == {}
    holds.hold("api", START + 60)
    holds.hold("web", START + 10)
    holds.hold("api", START + 30)
    store.commit()
    store.rollback()
    clock.advance(20)
    again = Holds(crawler, store)
    assert again.until == {"api": START + 60}
    assert again.seconds() == 40
    assert json.loads(store.get("holds") or "")["api"] == START + 60


def test_a_request_is_checked_by_its_family(clock: Clock, store: Store, crawler: Crawler) -> None:
    holds = Holds(crawler, store)
    holds.hold("api", START + 60)
    holds.check(ask("a", family=""))
    holds.check(ask("a", family="web"))
    with pytest.raises(Held, match="held until 1800000060"):
        holds.check(ask("a", family="api"))


def test_one_timer_for_the_first_moment_that_concerns_anybody(
    clock: Clock, store: Store, crawler: Crawler, engine: Engine
) -> None:
    holds = Holds(crawler, store)
    holds.hold("api", START + 60)
    holds.hold("nobody's", START + 5)

    def wake_when_due(families: list[str], due: float | None) -> list[float]:
        holds.with_full(())  # the scheduler has looked, and found nothing that may be sent
        holds.wake_when_due(families, due)
        return clock.pending()

    assert wake_when_due([], None) == []
    assert wake_when_due(["web", ""], None) == [], "there is nothing to wake for"
    assert wake_when_due(["api", "web"], START + 90) == [60]
    assert wake_when_due(["api"], START + 20) == [20]
    assert wake_when_due(["api"], START + 40) == [20], "it asks again then"
    clock.advance(20)
    assert engine.woken == 1
    assert wake_when_due(["api"], START + 20) == [60], "what is due already needs no timer"
    holds.stop()
    holds.stop()
    assert clock.pending() == []
    clock.advance(100)
    assert engine.woken == 1


def test_a_moment_that_comes_while_the_scheduler_looks_is_not_missed(
    clock: Clock, store: Store, crawler: Crawler, engine: Engine
) -> None:
    """Else nobody would wake the engine, but for its own slow heartbeat."""
    holds = Holds(crawler, store)
    holds.hold("api", START + 60)
    clock.advance(59.999)
    holds.with_full(())
    clock.advance(0.002)
    holds.wake_when_due(["api"], None)
    clock.advance(0)
    assert engine.woken == 1
