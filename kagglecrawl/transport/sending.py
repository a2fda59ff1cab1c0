"""What the download handlers have in common: a request is given up when the crawl ends, and what
goes to Kaggle is asked for and counted at the last moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from scrapy import Request
from scrapy.crawler import Crawler

from kagglecrawl.state.closing import interrupted
from kagglecrawl.state.leases import Interrupted
from kagglecrawl.state.scheduler import KaggleScheduler

T = TypeVar("T")


def scheduler_of(crawler: Crawler) -> KaggleScheduler | None:
    """The crawl's scheduler, if it is ours."""
    scheduler = crawler.engine.scheduler if crawler.engine is not None else None
    return scheduler if isinstance(scheduler, KaggleScheduler) else None


def about_to_send(crawler: Crawler, request: Request) -> None:
    """The last moment at which a hold can stop a request: raises ``Held`` then. Past it, the
    request counts in its quota family."""
    if (scheduler := scheduler_of(crawler)) is not None:
        scheduler.about_to_send(request)


def count_sent(crawler: Crawler, method: str) -> None:
    """One call of Kaggle's API goes out.

    Stats: ``kaggle/requests``, ``kaggle/requests/<Method>``.
    """
    assert crawler.stats is not None
    crawler.stats.inc_value("kaggle/requests")
    crawler.stats.inc_value(f"kaggle/requests/{method}")


class UntilTheEnd:
    """Work for requests, given up when the crawl ends."""

    def __init__(self, crawler: Crawler) -> None:
        self._under_way: set[asyncio.Task[None]] = set()
        self._ending = False
        crawler.signals.connect(self._interrupt, interrupted)

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives. Raises ``Interrupted`` where the crawl ends before that."""
        task = asyncio.current_task()
        if task is None:  # not in an event loop of asyncio's
            return await work()
        if self._is_ending():
            raise Interrupted
        self._under_way.add(task)
        try:
            return await work()
        except asyncio.CancelledError:
            if self._is_ending():
                task.uncancel()
                raise Interrupted from None
            raise
        finally:
            self._under_way.discard(task)

    def _is_ending(self) -> bool:
        return self._ending

    def _interrupt(self) -> None:
        self._ending = True
        for task in self._under_way:
            task.cancel()
