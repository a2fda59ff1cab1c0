"""Scrapy's scheduler, taught to wait: for a request's own time, and for a whole quota family.

``meta["not_before"]`` (seconds since the epoch) keeps one request back; ``hold(family, until)``
keeps back every request of that family, as a Retry-After asks. Waiting here costs no download
slot, and the engine is woken when the next one falls due.
"""

from __future__ import annotations

import heapq
import itertools
import time

from scrapy import Request
from scrapy.core.engine import ExecutionEngine
from scrapy.core.scheduler import Scheduler
from scrapy.utils.asyncio import call_later
from twisted.internet.defer import Deferred

from kagglecrawl.state import internals


class Held(Exception):
    """A request's family is held until ``until``; it was handed out, and must not be sent."""

    def __init__(self, until: float) -> None:
        super().__init__(f"held until {until:.0f}")
        self.until = until


class KaggleScheduler(Scheduler):
    """The project's scheduler; requests without ``not_before`` and family are Scrapy's own."""

    _waiting: list[tuple[float, int, Request]]
    _held_until: dict[str, float]
    _order: itertools.count[int]
    _wake_at: float

    def _init_waiting(self) -> None:
        self._waiting = []
        self._held_until = {}
        self._order = itertools.count()
        self._wake_at = 0.0

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._init_waiting()

    def hold(self, family: str, until: float) -> None:
        """Hand out nothing of this quota family before ``until`` (seconds since the epoch)."""
        self._held_until[family] = max(until, self._held_until.get(family, 0.0))

    def check(self, request: Request) -> None:
        """Raise ``Held`` if nothing of the request's family may be sent now.

        A request that was handed out waits its turn in the downloader, where a 429 may overtake it.
        """
        until = self._held_until.get(request.meta.get("family", ""), 0.0)
        if until > time.time():
            raise Held(until)

    def held_for(self) -> float:
        """Seconds until the last hold ends; 0 when nothing is held."""
        return max(0.0, max(self._held_until.values(), default=0.0) - time.time())

    def enqueue_request(self, request: Request) -> bool:
        """Keep the request, until its time if it has one."""
        if request.meta.get("not_before", 0.0) > time.time():
            self._wait(request, request.meta["not_before"])
            return True
        return super().enqueue_request(request)

    def next_request(self) -> Request | None:
        """The next request that may be sent now."""
        now = time.time()
        while self._waiting and self._waiting[0][0] <= now:
            super().enqueue_request(heapq.heappop(self._waiting)[2])
        while (request := super().next_request()) is not None:
            held_until = self._held_until.get(request.meta.get("family", ""), 0.0)
            # a request from a job directory may still have to wait for its own time
            until = max(held_until, request.meta.get("not_before", 0.0))
            if until <= now:
                return request
            # back through the queue when the hold ends, past the duplicate filter
            self._wait(request.replace(dont_filter=True), until)
        if self._waiting:
            self._wake_for(self._waiting[0][0], now)
        return None

    def __len__(self) -> int:
        """How many are queued or wait for their time; the engine goes on while there are any."""
        return super().__len__() + len(self._waiting)

    def close(self, reason: str) -> Deferred[None] | None:
        """Give what waits back to the queue, so that a job directory keeps it."""
        for _, _, request in sorted(self._waiting):
            super().enqueue_request(request)
        self._waiting.clear()
        return super().close(reason)

    def _wait(self, request: Request, until: float) -> None:
        heapq.heappush(self._waiting, (until, next(self._order), request))

    def _wake_for(self, when: float, now: float) -> None:
        if now < self._wake_at <= when:
            return  # a timer for an earlier moment is running
        self._wake_at = when
        assert self.crawler is not None
        assert self.crawler.engine is not None
        call_later(max(0.0, when - now), self._wake, self.crawler.engine)

    def _wake(self, engine: ExecutionEngine) -> None:
        self._wake_at = 0.0
        internals.wake(engine)
