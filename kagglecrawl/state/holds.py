"""Quota families that are held back, and the moment at which the engine is to be woken.

The holds outlive the run: a Retry-After is never shortened by a restart.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.utils.asyncio import CallLaterResult, call_later

from kagglecrawl.state import internals
from kagglecrawl.state.store import Store

#: Downloads may take hours: the requests of other families must not wait for them.
DOWNLOADS = "download"


class Held(Exception):
    """A request's family is held until ``until``; it was handed out, and must not be sent."""

    def __init__(self, until: float) -> None:
        super().__init__(f"held until {until:.0f}")
        self.until = until


class Holds:
    """Until when nothing of a family may be sent, in seconds since the epoch."""

    def __init__(self, crawler: Crawler, store: Store) -> None:
        self._crawler = crawler
        self._store = store
        self._timer: CallLaterResult | None = None
        self._wake_at = 0.0
        #: How many requests of a family may be under way at once.
        transfers = crawler.settings.getint("KAGGLE_CONCURRENT_TRANSFERS", 1)
        others = crawler.settings.getint("CONCURRENT_REQUESTS") - 1
        self._most = {DOWNLOADS: max(1, min(transfers, others))}
        known: dict[str, float] = json.loads(store.get("holds") or "{}")
        self.until = {family: until for family, until in known.items() if until > time.time()}

    def hold(self, family: str, until: float) -> None:
        """Hand out nothing of this family before ``until``; never shortens a hold."""
        self.until[family] = max(until, self.until.get(family, 0.0))
        self._store.put("holds", json.dumps(self.until))

    def check(self, request: Request) -> None:
        """Raise ``Held`` if nothing of the request's family may be sent now.

        A request that was handed out waits its turn in the downloader, where a 429 may overtake it.
        """
        until = self.until.get(request.meta.get("family", ""), 0.0)
        if until > time.time():
            raise Held(until)

    def with_full(self, under_way: Iterable[str]) -> dict[str, float]:
        """Until when each family is held, and those of which as many requests are under way as may
        be: for now without an end."""
        held, counts = dict(self.until), Counter(under_way)
        for family, most in self._most.items():
            if counts[family] >= most:
                held[family] = math.inf
        return held

    def seconds(self) -> float:
        """Until the last hold ends; 0 when nothing is held."""
        return max(0.0, max(self.until.values(), default=0.0) - time.time())

    def wake_when_due(self, families: Iterable[str], due: float | None) -> None:
        """Let the engine ask again when one of these families is free, or at ``due``."""
        now = time.time()
        moments = [self.until.get(family, 0.0) for family in families]
        moments += [due] if due is not None else []
        when = min((moment for moment in moments if moment > now), default=0.0)
        if not when or now < self._wake_at <= when:
            return  # a timer for an earlier moment is running
        self.stop()
        self._wake_at = when
        self._timer = call_later(when - now, self._wake)

    def stop(self) -> None:
        """No more waking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        self._wake_at = 0.0
        if self._crawler.engine is not None:
            internals.wake(self._crawler.engine)
