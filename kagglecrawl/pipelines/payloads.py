"""Small files go below the spider's folder: into the store with a receipt, or the workspace."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scrapy.crawler import Crawler

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.errors import RetryLater, StopCrawl, Unusable
from kagglecrawl.kaggle.names import UnsafeName, check_path
from kagglecrawl.s3.errors import StoreAway, StoreUnreachable
from kagglecrawl.transfer.disk import DiskGuard, aside, unwritable

#: Seconds between two looks at whether the crawl ends.
_LOOK = 0.25
_LONGEST_PAUSE = 60.0
#: How a file's name ends until all of it is there.
_INCOMPLETE = ".incomplete"


@dataclass(frozen=True)
class Payload:
    """A small file: ``path`` below the spider's folder (``code/owner_slug/kernel.log``), and its
    bytes. Far less than what memory holds: larger files are downloads."""

    path: str
    content: bytes
    content_type: str = ""


class Ended(StopCrawl):
    """The crawl ends before the item's files are stored: the next run makes its request again."""

    reason = "shutdown"


class PayloadStore:
    """Stores payloads; a store that fails is tried again before a ``KaggleError`` is raised.

    Stats: ``kaggle/s3/payloads``, ``kaggle/s3/payload_bytes``.
    """

    def __init__(self, crawler: Crawler, config: KaggleConfig) -> None:
        assert crawler.stats is not None
        self._stats = crawler.stats
        self._crawler = crawler
        self._config = config
        self._guard = DiskGuard(config.workspace, config.min_free)
        #: Of the store, which bears so many requests at once.
        self._room = asyncio.Semaphore(config.uploads)
        self._ended = threading.Event()

    async def store(self, payloads: Sequence[Payload]) -> None:
        """Have all of them at their places."""
        for payload in payloads:
            _checked(payload.path)
        place = self._config.output(self._spider.resource)
        destination = self._config.destination
        if destination is None:
            self._guard.check(sum(len(each.content) for each in payloads))
            await self._aside(partial(_write, self._config.workspace.absolute() / place, payloads))
            return
        keys = [destination.key_of(f"{place}/{each.path}") for each in payloads]
        for key in keys:
            _checked(key)

        def put() -> None:
            bucket = self._spider.bucket.pausing(self._pause)
            for key, each in zip(keys, payloads, strict=True):
                self._tried(partial(_put, bucket, key, each))

        await self._aside(put)
        self._stats.inc_value("kaggle/s3/payloads", len(payloads))
        size = sum(len(each.content) for each in payloads)
        self._stats.inc_value("kaggle/s3/payload_bytes", size)

    async def _aside(self, work: Callable[[], object]) -> None:
        """In a thread, and no longer than the crawl lasts."""
        async with self._room:
            self._check()
            task = asyncio.ensure_future(aside(work))
            while not (await asyncio.wait({task}, timeout=_LOOK))[0]:
                try:
                    self._check()
                except Ended:
                    task.cancel()
                    raise
            await task

    def _check(self) -> None:
        """Raise ``Ended`` if what is under way is to be given up."""
        if getattr(getattr(self._spider, "accounts", None), "ending", False):
            self._ended.set()
            raise Ended("the crawl ends before all of the item is stored")

    def _tried(self, work: Callable[[], object]) -> None:
        """In a thread: try it as often as a request is; a store that is away is waited for."""
        attempt, waited = 1, 0.0
        while True:
            try:
                work()
            except RetryLater as error:
                away = isinstance(error, StoreAway)
                if away and waited >= self._config.max_wait:
                    raise StoreUnreachable(str(error)) from None
                if not away and attempt >= min(self._config.max_attempts, error.most_attempts):
                    raise
                wait = min(self._config.retry_base * 2.0 ** min(attempt - 1, 20), _LONGEST_PAUSE)
                wait = min(wait, self._config.max_wait - waited) if away else wait
                self._pause(wait)
                waited += wait
            else:
                return
            attempt += 1

    def _pause(self, seconds: float) -> None:
        """In a thread."""
        if self._ended.wait(seconds):
            raise Ended("the crawl ends")

    @property
    def _spider(self) -> Any:
        return self._crawler.spider


def _put(bucket: Any, key: str, payload: Payload) -> None:
    """Put one, and see that the store has it: that it has answered is not enough."""
    receipt = bucket.put(key, payload.content, payload.content_type)
    bucket.prove(key, receipt, hashlib.sha256(payload.content).digest())


def _checked(path: str) -> None:
    """Raise ``Unusable`` if it can be no path, or no key."""
    try:
        check_path(path)
    except UnsafeName as error:
        raise Unusable(str(error), "unsafe_name") from None


def _write(folder: Path, payloads: Sequence[Payload]) -> None:
    """Write each beside, make it safe, and give it its name."""
    beside = f".{os.getpid()}-{threading.get_ident()}{_INCOMPLETE}"
    try:
        for payload in payloads:
            path = folder / payload.path
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path.parent)
            _write_one(path, path.with_name(beside), payload.content)
    except OSError as error:
        raise unwritable(error) from None


@functools.lru_cache(maxsize=1024)
def _sweep(folder: Path) -> None:
    """Remove what killed processes have left half written; looked at once, by each process."""
    for path in folder.glob(f".*-*{_INCOMPLETE}"):
        number = path.name[1:].partition("-")[0]
        if number.isdecimal() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":
        return True  # nobody can be asked there without harm
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _write_one(path: Path, beside: Path, content: bytes) -> None:
    if path.is_dir():
        raise Unusable(f"{path} is a folder, where a file is to be", "place_taken")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
