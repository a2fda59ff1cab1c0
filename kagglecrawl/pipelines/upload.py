"""Small files of an item's own are stored before it passes, and files that it names are proved.

A spider gives an item such files as its attribute ``payloads``, a list of ``Payload``; it is no
field, so no feed, page or ledger has it. They go below the spider's folder: into the store with a
receipt, or into the workspace.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.errors import KaggleError, RetryLater, StopCrawl, Unusable
from kagglecrawl.kaggle.names import UnsafeName, check_path
from kagglecrawl.transfer.disk import DiskGuard, aside, unwritable

#: Seconds between two looks at whether the crawl ends.
_LOOK = 0.25
_LONGEST_PAUSE = 60.0
#: More files than this are not counted in the reactor's thread.
_MANY_FILES = 2_000


@dataclass(frozen=True)
class Payload:
    """A small file: ``path`` below the spider's folder (``code/owner_slug/kernel.log``), and its
    bytes. Far less than what memory holds: larger files are downloads."""

    path: str
    content: bytes
    content_type: str = ""


class Unproven(KaggleError):
    """The item names files for which there are no receipts. It counts as failed for now."""

    slug = "no_receipt"


class Ended(StopCrawl):
    """The crawl ends before the item's files are stored: the next run makes its request again."""

    reason = "shutdown"


class UploadPipeline:
    """Stores an item's ``payloads``, and lets it pass with receipts for all files of its
    ``download`` in a store.

    A ``KaggleError`` is raised for one that cannot pass; a store that fails is tried again before.
    Stats: ``kaggle/s3/payloads``, ``kaggle/s3/payload_bytes``.
    """

    def __init__(self, crawler: Crawler) -> None:
        assert crawler.stats is not None
        self._stats = crawler.stats
        self._crawler = crawler
        self._config = KaggleConfig.from_settings(crawler.settings)
        self._guard = DiskGuard(self._config.workspace, self._config.min_free)
        #: Of the store, which bears so many requests at once.
        self._room = asyncio.Semaphore(self._config.uploads)
        self._ended = threading.Event()

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy builds it; for spiders of ours alone."""
        if not isinstance(getattr(crawler.spider, "config", None), KaggleConfig):
            raise NotConfigured
        return cls(crawler)

    async def process_item(self, item: Any) -> Any:
        """Pass the item when all that it names is stored."""
        payloads: Sequence[Payload] = getattr(item, "payloads", ())
        download = getattr(item, "download", None)
        try:
            if payloads:
                await self._store(payloads)
            if download and str(download["folder"]).startswith("s3://"):
                await self._prove(item, download)
        except StopCrawl as error:
            if not isinstance(error, Ended):
                self._spider.stop(error)
            raise
        return item

    @property
    def _spider(self) -> Any:
        return self._crawler.spider

    # -- payloads ---------------------------------------------------------------------------------

    async def _store(self, payloads: Sequence[Payload]) -> None:
        for payload in payloads:
            _checked(payload.path)
        place = self._config.output(self._spider.name)
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
        """In a thread: try it as often as a request is tried."""
        attempt = 1
        while True:
            try:
                work()
            except RetryLater as error:
                if attempt >= min(self._config.max_attempts, error.most_attempts):
                    raise
                wait = self._config.retry_base * 2.0 ** min(attempt - 1, 20)
                self._pause(min(wait, _LONGEST_PAUSE))
            else:
                return
            attempt += 1

    def _pause(self, seconds: float) -> None:
        """In a thread."""
        if self._ended.wait(seconds):
            raise Ended("the crawl ends")

    # -- receipts ---------------------------------------------------------------------------------

    async def _prove(self, item: Any, download: dict[str, Any]) -> None:
        """Are there receipts, of this job or in the ledger, for all files that it names?"""
        named = download["files"], download["bytes"]
        had = self._spider.accounts.receipts(item.key, download["folder"])
        if had is None:
            had = await self._in_ledger(item, many=download["files"] > _MANY_FILES)
        if had != named:
            raise Unproven(
                f"{item.key} names {named[0]} files in the store, of {named[1]} bytes, and there "
                f"are receipts for {had[0]}, of {had[1]}: the next run fetches it again"
            )

    async def _in_ledger(self, item: Any, *, many: bool) -> tuple[int, int]:
        ledger, version = self._spider.ledger, str(item.version or "")

        def counted(ledger: Any) -> tuple[int, int]:
            files = size = 0
            for file in ledger.files(item.key, version):
                files, size = files + 1, size + file[1]
            return files, size

        def counted_aside() -> tuple[int, int]:
            with closing(ledger.another()) as another:
                return counted(another)

        return await aside(counted_aside) if many else counted(ledger)


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
    beside = f".{os.getpid()}-{threading.get_ident()}.incomplete"
    try:
        for payload in payloads:
            path = folder / payload.path
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_one(path, path.with_name(beside), payload.content)
    except OSError as error:
        raise unwritable(error) from None


def _write_one(path: Path, beside: Path, content: bytes) -> None:
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
