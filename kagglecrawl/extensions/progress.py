"""One line on the terminal that says how far the crawl is; where stderr is none, in the log."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import deque
from typing import Self, TextIO

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.utils.asyncio import AsyncioLoopingCall, create_looping_call

from kagglecrawl.kaggle.paging import CAP_ROWS
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.transfers import UnderWay
from kagglecrawl.units import amount, duration

logger = logging.getLogger(__name__)

_CLEAR = "\r\x1b[K"
#: Seconds between two lines: on a terminal, and in a log.
_INTERVAL, _LOG_INTERVAL = 0.5, 60.0
#: A transfer of so many bytes is shown by itself, and at most so many of them.
_LARGE = 20_000_000
_SHOWN = 2
#: Seconds of bytes to come that are worth being told, and those over which the rate is measured.
_WORTH_AN_ETA = 2.0
_WINDOW = 10.0


class _ClearLine(logging.Filter):
    """Wipes the line before a log record is written over it."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def filter(self, record: logging.LogRecord) -> bool:
        self._progress.clear()
        return True


class _Rate:
    """Bytes a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def now(self, total: int) -> float:
        """The rate, when so many have come altogether."""
        moment = time.monotonic()
        self._seen.append((moment, total))
        while len(self._seen) > 2 and moment - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        began, before = self._seen[0]
        return (total - before) / (moment - began) if moment - began >= 1 else 0.0


class Progress:
    """Items, rate, requests, pending, ETA: twice a second on ``stream``, or each minute in the log
    where that is None."""

    def __init__(self, crawler: Crawler, stream: TextIO | None) -> None:
        assert crawler.stats is not None
        self._crawler = crawler
        self._stats = crawler.stats
        self._stream = stream
        self._filter = _ClearLine(self)
        self._drawn = False
        self._began = time.monotonic()
        #: Records that earlier runs of the job have stored, and resources that they were done with.
        self._before = self._done_before = 0
        self._task: object = None
        self._rate = _Rate()
        self._under_way: list[UnderWay] = []
        crawler.signals.connect(self._opened, signals.spider_opened)
        # before the report is logged
        crawler.signals.connect(self._closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """On stderr, if that is a terminal."""
        return cls(crawler, sys.stderr if sys.stderr.isatty() else None)

    def clear(self) -> None:
        """Wipe the line, if there is one."""
        if self._drawn and self._stream is not None:
            self._stream.write(_CLEAR)
            self._stream.flush()
            self._drawn = False

    def line(self, spider: KaggleSpider, elapsed: float) -> str:
        """The text of the line, ``elapsed`` seconds after the crawl began."""
        accounts = spider.accounts
        stored = accounts.count("stored")
        what = spider.resource
        parts = [f"{stored} {what.removesuffix('s') if stored == 1 else what}"]
        scheduler = self._crawler.engine.scheduler if self._crawler.engine else None
        waits = _waits(scheduler)
        if waits:  # first, since a narrow terminal shows the beginning
            parts.append(waits)
        parts += self._bytes(scheduler)
        parts += self._largest()
        if elapsed >= 1:
            parts.append(f"{60 * (stored - self._before) / elapsed:.0f}/min")
        if own := spider.progress():
            return "  ".join([*parts, *own])
        parts.append(f"{self._stats.get_value('kaggle/requests', 0)} requests")
        parts.append(f"{accounts.pending} pending")
        for verdict in ("skipped", "failed"):
            if count := accounts.count(verdict):
                parts.append(f"{count} {verdict}")
        if not waits and (eta := _eta(spider, elapsed, self._before, self._done_before)):
            parts.append(eta)
        return "  ".join(parts)

    def _bytes(self, scheduler: object) -> list[str]:
        """How many bytes have come in this run, how fast, and how long the files of the datasets
        that are known will take at that rate."""
        if not isinstance(scheduler, KaggleScheduler):
            return []
        self._under_way = sorted(
            scheduler.transfers.under_way.values(), key=lambda each: each.left, reverse=True
        )
        received = self._stats.get_value("kaggle/transfers/received", 0)
        received += sum(each.meter.received for each in self._under_way)
        if not received:
            return []
        rate = self._rate.now(received)
        text = amount(received)
        if rate:
            text += f" at {amount(rate)}/s"
            accounts = scheduler.accounts
            left = accounts.count("bytes_expected") - accounts.count("bytes_settled")
            left -= sum(each.meter.position for each in self._under_way)
            if left > _WORTH_AN_ETA * rate:
                text += f", {duration(left / rate)} for {amount(left)} more"
        return [text]

    def _largest(self) -> list[str]:
        """The transfers that will take longest."""
        found = []
        for each in self._under_way[:_SHOWN]:
            if not each.meter.size and each.seconds >= _WORTH_AN_ETA:
                found.append(f"{each.key} waits for storage")
            elif each.meter.size >= _LARGE and (rate := each.rate):
                share = 100 * each.meter.position // each.meter.size
                found.append(
                    f"{each.key} {share}% of {amount(each.meter.size)}, "
                    f"{duration(each.left / rate)} more"
                )
        return found

    def _opened(self, spider: object) -> None:
        if not isinstance(spider, KaggleSpider):
            return
        if self._stream is not None:
            for handler in logging.getLogger().handlers:
                handler.addFilter(self._filter)
        accounts = spider.accounts
        self._before = accounts.count("stored")
        self._done_before = accounts.count("discovered") - accounts.pending
        in_log = self._stream is None
        task = create_looping_call(self._log if in_log else self._draw, spider)
        task.start(_LOG_INTERVAL if in_log else _INTERVAL, now=False)
        self._task = task

    def _log(self, spider: KaggleSpider) -> None:
        logger.info("So far: %s", self.line(spider, time.monotonic() - self._began))

    def _draw(self, spider: KaggleSpider) -> None:
        if self._stream is None:
            return
        width = shutil.get_terminal_size().columns - 1
        text = self.line(spider, time.monotonic() - self._began)
        if len(text) > width:  # whole parts alone
            text = text[: width + 1].rpartition("  ")[0] or text[:width]
        self._stream.write(_CLEAR + text)
        self._stream.flush()
        self._drawn = True

    def _closed(self) -> None:
        if isinstance(self._task, AsyncioLoopingCall) and self._task.running:
            self._task.stop()
        self.clear()
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self._filter)


def _waits(scheduler: object) -> str:
    """What is waited for, if it is worth being told: the longer of the two waits."""
    if not isinstance(scheduler, KaggleScheduler):
        return ""
    asked, spent = scheduler.holds.seconds(), scheduler.holds.seconds_spent()
    if max(asked, spent) < 1:
        return ""
    why = "for the quota" if asked < spent else "as Kaggle asks"
    whose = " and ".join(scheduler.holds.families_waiting())
    return f"waiting {duration(max(asked, spent))} {why}{f' ({whose})' if whose else ''}"


def _eta(spider: KaggleSpider, elapsed: float, stored_before: int, done_before: int) -> str:
    """When it will be done, if the rest goes as what is done; how long a list is, nobody tells, so
    a whole one is taken for the 10,000 rows that Kaggle gives at most."""
    accounts = spider.accounts
    wanted, done, of_what = spider.expected, accounts.count("discovered") - accounts.pending, ""
    before = done_before
    if spider.sample:
        wanted, done, before = spider.sample, accounts.count("stored"), stored_before
    elif accounts.counts("ended/"):
        wanted = accounts.count("discovered")
    elif wanted is None:
        wanted, of_what = CAP_ROWS, f" for {CAP_ROWS:,} rows"
    if elapsed < 1 or not before < done < wanted:
        return ""
    return f"ETA {duration((wanted - done) * elapsed / (done - before))}{of_what}"
