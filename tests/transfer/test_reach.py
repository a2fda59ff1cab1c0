"""A store that is away, or as good as that: who waits, and for how long."""

from __future__ import annotations

import pytest

from kagglecrawl.s3.errors import StoreAway, StoreFailed, StoreUnreachable
from kagglecrawl.state.holds import Held
from kagglecrawl.transfer import reach as module
from kagglecrawl.transfer.reach import Reach

AWAY = StoreAway("nobody answers")


class Clock:
    now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def held(reach: Reach) -> float | None:
    try:
        reach.check()
    except Held as error:
        return error.until
    return None


def test_it_is_looked_for_again_after_ever_longer_pauses(clock: Clock) -> None:
    reach, pauses = Reach(900), []
    assert held(reach) is None
    while True:
        error = reach.away(AWAY)
        if isinstance(error, StoreUnreachable):
            break
        assert isinstance(error, Held)
        assert held(reach) == error.until
        pauses.append(error.until - clock.now)
        clock.now = error.until
        assert held(reach) is None, "it is time"
    assert pauses[:7] == [1, 2, 4, 8, 16, 30, 30]
    assert 900 <= sum(pauses) <= 930
    assert "longer than KAGGLE_MAX_WAIT (900 s)" in str(error)


def test_several_transfers_wait_for_the_same_moment(clock: Clock) -> None:
    reach = Reach(900)
    first, second = reach.away(AWAY), reach.away(AWAY)
    assert isinstance(first, Held)
    assert isinstance(second, Held)
    assert first.until == second.until == clock.now + 1


def test_one_that_is_there_again_is_not_waited_for(clock: Clock) -> None:
    reach = Reach(10)
    reach.away(AWAY)
    reach.there()
    assert held(reach) is None
    clock.now += 100
    assert isinstance(reach.away(AWAY), Held), "it has been away for a moment"


def test_one_that_fails_for_many_and_for_none_it_has_not_is_as_good_as_away(clock: Clock) -> None:
    reach, error = Reach(900), StoreFailed("503")
    for key in ("a", "b", "c", "d", "e", "e", "a"):
        assert reach.failed(key, error) is error
    assert isinstance(reach.failed("f", error), Held)
    reach.there()  # a LIST is answered, and nothing can be put
    assert held(reach) == clock.now + 1
    clock.now += 1
    assert isinstance(reach.failed("f", error), Held)
    reach.well()
    reach.there()
    assert held(reach) is None
    assert reach.failed("g", error) is error
