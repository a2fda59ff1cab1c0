"""What is counted while a run goes on.

It looks at the stats once a second, which costs nothing worth naming, and at each answer that came
through, which costs a comparison or two.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Generic, TypeVar

from scrapy import Request
from scrapy.http import Response, TextResponse
from scrapy.statscollectors import StatsCollector

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.kaggle.rpc import TABLE
from kagglecrawl.report.gains import FAMILIES, Gains, score_of
from kagglecrawl.report.series import Series
from kagglecrawl.report.shape import Answer, Download
from kagglecrawl.state.accounts import Accounts
from kagglecrawl.state.leases import lease_of
from kagglecrawl.state.transfers import UnderWay

T = TypeVar("T")
#: How many of the slowest and of the largest are kept.
SHOWN = 10
#: Characters of a key that are shown; what a row that is no dataset calls itself may be long.
_LONGEST_KEY = 120
_FAMILIES = {call.method: call.family for call in TABLE.values()}


class Top(Generic[T]):
    """The rows with the highest numbers; of equal ones the first."""

    def __init__(self, most: int = SHOWN) -> None:
        self._most = most
        self._rows: list[tuple[float, int, T]] = []
        self._order = count(0, -1)

    def wants(self, number: float) -> bool:
        """Would it be among them?"""
        return len(self._rows) < self._most or number > self._rows[0][0]

    def add(self, number: float, row: T) -> None:
        """Keep it, if it is one of them."""
        entry = (number, next(self._order), row)
        if len(self._rows) < self._most:
            heapq.heappush(self._rows, entry)
        else:
            heapq.heappushpop(self._rows, entry)

    def rows(self) -> list[T]:
        """The highest first."""
        return [row for _, _, row in sorted(self._rows, reverse=True)]


class Collector:
    """One run. ``clock`` gives seconds that never go back, ``now`` those since the epoch."""

    def __init__(
        self,
        stats: StatsCollector,
        accounts: Accounts,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._stats = stats
        self._accounts = accounts
        self._clock = clock
        self._now = now
        self._began = clock()
        self.started = now()
        self._looked = 0.0
        #: Resources that earlier runs of the job were done with.
        self.done_before = accounts.count("discovered") - accounts.pending
        self._counted: dict[str, float] = {"records": accounts.count("stored")}
        #: Until when holds were known of, in seconds of the run.
        self._held: dict[str, float] = {}
        self.series = Series()
        self.gains = Gains()
        #: Downloads that have ended, and calls that were answered.
        self.largest: Top[Download] = Top()
        self.slowest: Top[Download] = Top()
        self.answers: Top[Answer] = Top()

    @property
    def seconds(self) -> float:
        """How long the run has taken."""
        return self._clock() - self._began

    # -- once a second ----------------------------------------------------------------------------

    def look(
        self, held: Mapping[str, float], under_way: Mapping[str, UnderWay], *, last: bool = False
    ) -> None:
        """Note what has come since the last look. ``held`` says until when (seconds since the
        epoch) families are held back. The last look counts also where no time has passed since the
        one before."""
        start, end = self._looked, self.seconds
        if last:
            end = max(end, start + 0.001)
        if end <= start:
            return
        self._looked = end
        self.series.reach(end)
        self._hold(held, start, end)
        for name, total in self._totals(under_way).items():
            self.series.add(name, start, end, total - self._counted.get(name, 0))
            self._counted[name] = total
        for family in set(_FAMILIES.values()):
            learnt = self._stats.get_value(f"kaggle/quotas/interval/{family}", 0.0)
            self.series.level(f"interval/{family}", start, end, learnt)

    def _totals(self, under_way: Mapping[str, UnderWay]) -> dict[str, float]:
        """All that has come of each in this run so far."""
        totals: dict[str, float] = {"records": self._accounts.count("stored")}
        totals["bytes"] = self.received(under_way)
        for name, value in self._stats.get_stats().items():
            if name.startswith("kaggle/requests/"):
                family = f"requests/{family_of(name.rpartition('/')[2])}"
                totals[family] = totals.get(family, 0) + value
            elif name.startswith("kaggle/retries/"):
                totals["retries"] = totals.get("retries", 0) + value
        return totals

    def received(self, under_way: Mapping[str, UnderWay]) -> int:
        """Bytes that have come from storage, and those of replays from wherever they are."""
        ended: int = self._stats.get_value("kaggle/transfers/received", 0)
        ended += self._stats.get_value("kaggle/replays/received", 0)
        return ended + sum(each.meter.received for each in under_way.values())

    def _hold(self, held: Mapping[str, float], start: float, end: float) -> None:
        """Note the seconds in which families were held. A new hold has begun somewhere between two
        looks: it is taken to be in the middle."""
        ahead = end - self._now()
        for family, until in held.items():
            known, until = self._held.get(family, 0.0), until + ahead
            if until > known + 0.01:  # two clocks are never quite alike
                begin = start if known > start else (start + end) / 2
                self._held[family] = until
            else:
                begin, until = start, known
            stop = min(until, end)
            if stop > begin:
                self.series.add(f"held/{family}", begin, stop, stop - begin)

    def spent_on_episodes(self) -> int:
        """Requests that this run has sent for episodes and their replays."""
        return sum(
            int(value)
            for name, value in self._stats.get_stats().items()
            if name.startswith("kaggle/requests/")
            and family_of(name.rpartition("/")[2]) in FAMILIES
        )

    # -- at an answer -----------------------------------------------------------------------------

    def answered(self, response: Response, request: Request) -> None:
        """A good answer came, or a download has ended."""
        name = request.meta.get("rpc")
        if name is None:
            return
        if "sink" in request.meta:
            self._downloaded(response, request)
            return
        seconds = request.meta.get("download_latency")
        if seconds is not None and self.answers.wants(seconds):
            key = request.meta.get("key")
            self.answers.add(
                seconds,
                Answer(
                    method=TABLE[name].method,
                    key=None if key is None else shown_key(key),
                    bytes=len(getattr(response, "content", response.body)),
                    seconds=round(seconds, 3),
                ),
            )

    def scraped(self, item: object, request: Request | None) -> None:
        """An item has passed; one of an answer of Kaggle's is no older than this run."""
        if request is None or request.meta.get("rpc") not in TABLE:
            return
        score = score_of(item)
        if score is not None:
            self.gains.add(score, self.spent_on_episodes())

    def _downloaded(self, response: Response, request: Request) -> None:
        lease = lease_of(request)
        if lease is None or not isinstance(response, TextResponse):
            return
        answer = response.json()  # Scrapy keeps the value, and the callback asks for it
        manifest = answer.get("transfer") if isinstance(answer, dict) else None
        if not isinstance(manifest, dict):
            return
        row = Download(
            key=shown_key(request.meta["key"]),
            files=manifest["files"],
            bytes=manifest["bytes"],
            seconds=round(max(0.0, self._now() - lease.since), 3),
        )
        self.largest.add(row["bytes"], row)
        self.slowest.add(row["seconds"], row)


def family_of(method: str) -> str:
    """The quota family that a method counts in."""
    return _FAMILIES.get(method, "api")


def shown_key(key: str) -> str:
    """A resource's key, as it may be shown."""
    text = clean(key)
    return text if len(text) <= _LONGEST_KEY else f"{text[: _LONGEST_KEY - 1]}…"
