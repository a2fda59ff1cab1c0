"""Writes ``WORKSPACE/report.json`` and ``report.html``: once a minute, and when the run ends.

Both are of the run of this workspace that wrote last. Each is written beside its place and then
renamed, so that nobody reads half of one. (Neither is made safe against a power cut, for which the
reactor would have to wait for the disk: a minute later there is another.) A run that was refused
its job writes none, since that job may be running in another process. kagglecrawl/report/shape.py
says what is in them.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.http import Response
from scrapy.statscollectors import StatsCollector
from scrapy.utils.asyncio import AsyncioLoopingCall, create_looping_call
from twisted.python.failure import Failure

from kagglecrawl.report.collect import Collector
from kagglecrawl.report.document import document
from kagglecrawl.report.page import page
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.state.closing import left_behind
from kagglecrawl.state.scheduler import KaggleScheduler

logger = logging.getLogger(__name__)

#: Seconds between two looks, and between two reports; the first comes after a few.
_LOOK = 1.0
_EVERY = 60.0
_FIRST = 5.0
#: Seconds after which nobody is writing a file any more.
_OLD = 3600.0


class RunReport:
    """Collects while a spider of ours runs, and writes."""

    def __init__(self, crawler: Crawler) -> None:
        assert crawler.stats is not None
        self._crawler = crawler
        self._stats: StatsCollector = crawler.stats
        self._collector: Collector | None = None
        self._task: object = None
        self._next = _FIRST
        self._warned = self._wrote = False
        crawler.signals.connect(self._opened, signals.spider_opened)
        crawler.signals.connect(self._closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy builds it."""
        return cls(crawler)

    def _opened(self, spider: object) -> None:
        # a scheduler that was refused its job has not come as far as to have transfers
        if not isinstance(spider, KaggleSpider) or not hasattr(self._scheduler, "transfers"):
            return
        self._collector = Collector(self._stats, spider.accounts)
        _sweep(spider.config.workspace)
        self._crawler.signals.connect(self._answered, signals.response_received)
        self._crawler.signals.connect(self._scraped, signals.item_scraped)
        self._crawler.signals.connect(self._left_behind, left_behind)
        self._task = create_looping_call(self._look, spider)
        self._task.start(_LOOK, now=False)

    def _answered(self, response: Response, request: Request) -> None:
        assert self._collector is not None
        with self._harmless():
            self._collector.answered(response, request)

    def _scraped(self, item: object, response: Response | Failure | None) -> None:
        """``response`` is a failure for what an errback has yielded."""
        assert self._collector is not None
        with self._harmless():
            self._collector.scraped(item, getattr(response, "request", None))

    def _look(self, spider: KaggleSpider) -> None:
        scheduler, collector = self._scheduler, self._collector
        assert scheduler is not None
        assert collector is not None
        with self._harmless():
            collector.look(scheduler.holds.until, scheduler.transfers.under_way)
        if collector.seconds >= self._next:
            self._next = collector.seconds + _EVERY
            self._write(spider, None)

    def _closed(self, spider: object, reason: str) -> None:
        if isinstance(self._task, AsyncioLoopingCall) and self._task.running:
            self._task.stop()
        if isinstance(spider, KaggleSpider) and self._collector and reason != "kaggle_job":
            self._end(spider, reason)

    def _left_behind(self) -> None:
        """Something hangs, and the process ends without a close."""
        spider = self._crawler.spider
        if isinstance(spider, KaggleSpider):
            self._end(spider, "shutdown")

    def _end(self, spider: KaggleSpider, reason: str) -> None:
        scheduler, collector = self._scheduler, self._collector
        assert scheduler is not None
        assert collector is not None
        with self._harmless():
            collector.look(scheduler.holds.until, scheduler.transfers.under_way, last=True)
        did_nothing = not self._stats.get_value("kaggle/requests", 0) and (
            spider.accounts.count("stored") == spider.accounts.stored_before
        )
        there = (spider.config.workspace / "report.json").exists()
        if did_nothing and there and not self._wrote:
            return  # that of a run which did something is worth more
        self._write(spider, reason)

    def _write(self, spider: KaggleSpider, reason: str | None) -> None:
        """Write both; what cannot be written changes nothing but the log."""
        scheduler, collector = self._scheduler, self._collector
        assert scheduler is not None
        assert collector is not None
        folder, self._wrote = spider.config.workspace, True
        with self._harmless():
            report = document(spider, scheduler, self._stats, collector, reason)
            texts = json.dumps(report, indent=1, ensure_ascii=False), page(report)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                for name, text in zip(("report.json", "report.html"), texts, strict=True):
                    _put(folder / name, text)
            except OSError as error:
                if not self._warned:
                    self._warned = True
                    logger.warning(
                        "The report of this run cannot be written to %s (%s): make room there, or "
                        "check who may write it; the crawl is none the worse",
                        folder,
                        error.strerror,
                    )

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """A fault of the report's is told once, counted, and ends nothing."""
        try:
            yield
        except Exception:
            if not self._stats.get_value("kaggle/report/faults", 0):
                logger.exception("The report of this run is not right, the crawl is")
            self._stats.inc_value("kaggle/report/faults")

    @property
    def _scheduler(self) -> KaggleScheduler | None:
        scheduler: Any = self._crawler.engine.scheduler if self._crawler.engine else None
        return scheduler if isinstance(scheduler, KaggleScheduler) else None


def _put(path: Path, text: str) -> None:
    """Write a file, whole or not at all; raises ``OSError``."""
    # another crawl of this workspace may be writing its own
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # half a surrogate pair is written as JSON does; UTF-8 has none
        beside.write_bytes(text.encode(errors="backslashreplace"))
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def _sweep(folder: Path) -> None:
    """Remove what a process that was killed as it wrote has left."""
    for path in folder.glob(".report.*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                path.unlink()
