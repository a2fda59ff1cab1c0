"""When what is pending will be done, if it goes on as it went. Numbers alone: nothing is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kagglecrawl.rates import Rate
from kagglecrawl.report.shape import Eta
from kagglecrawl.units import amount, duration

#: Seconds of a run, and resources that it is done with, before which nothing can be told.
_SECONDS = 5.0
_DONE = 5
_DAY = 86_400


@dataclass(frozen=True)
class Way:
    """How far a run has come. ``done`` and ``wanted`` are resources of the job, ``before`` those
    that earlier runs were done with; ``guessed`` if nobody knows how many there are."""

    seconds: float
    before: int
    done: int
    wanted: int
    guessed: bool = False
    #: Bytes that are to come from storage as far as known, and how many come a second.
    bytes_left: float = 0.0
    bytes_per_second: float = 0.0


@dataclass(frozen=True)
class Spent:
    """A budget of one family, and the requests of that family that this run has sent."""

    rate: Rate
    used: int
    #: Seconds until the first of those used is free again.
    free_in: float
    sent: int


def eta(way: Way, budgets: Iterable[Spent]) -> Eta:
    """Seconds and words; ``at`` is left for the caller."""
    if way.wanted <= way.done:
        return _told(0.0, None, "nothing is pending")
    done = way.done - way.before
    if way.seconds < _SECONDS or done < _DONE:
        return _told(None, None, "unknown: too little has been done yet")
    left = way.wanted - way.done
    found = [(left * way.seconds / done, "records", f"{left:,} more at the pace of this run")]
    if way.bytes_left > 0:
        if way.bytes_per_second <= 0:
            return _told(None, None, f"unknown: nothing of the {amount(way.bytes_left)} comes")
        rate = way.bytes_per_second
        words = f"{amount(way.bytes_left)} more at {amount(rate)}/s"
        found.append((way.bytes_left / rate, "bytes", words))
    for budget in budgets:
        wait = _wait(budget, math.ceil(left * budget.sent / done))
        if wait:
            found.append((wait, "budget", f"as {budget.rate} may be sent"))
    seconds, what, words = max(found)
    if not math.isfinite(seconds) or seconds > 3650 * _DAY:
        return _told(None, None, "unknown: at this pace it would take years")
    rows = way.wanted if way.guessed else None
    if rows:
        words += f", if there are {rows:,} rows"
    return _told(round(seconds, 1), what, f"{about(seconds)}: {words}", rows)


def about(seconds: float) -> str:
    """A duration for people, in days where it has some."""
    if seconds < _DAY:
        return duration(seconds)
    days, rest = divmod(int(seconds), _DAY)
    return f"{days} d {rest // 3600} h"


def _wait(budget: Spent, needed: int) -> float:
    """Seconds that a budget needs to let so many more through; 0 if it does at once."""
    over = needed - max(0, budget.rate.count - budget.used)
    if over <= 0:
        return 0.0
    rate, used = budget.rate, budget.used
    again, rest = divmod(over - 1, rate.count)
    if not used:  # what is left is spent from now on, and comes back a whole time later
        return float((again + 1) * rate.seconds)
    # when each of them was sent is not told: evenly since the first of those that count
    share = min(1.0, rest / used)
    return again * rate.seconds + budget.free_in + share * (rate.seconds - budget.free_in)


def _told(seconds: float | None, what: str | None, text: str, rows: int | None = None) -> Eta:
    return Eta(seconds=seconds, at=None, limited_by=what, if_rows=rows, text=text)
