"""The feeds of ``FEEDS``: rows get there when what they came from is acknowledged, and not twice.

The caller drives it::

    open → [ add … → flush → store.commit → committed ] … → close → store.commit

With a job directory, the ``feed`` table holds for every file how far it was written when the store
was last committed, and ``JOBDIR/feeds/<feed>-<batch>.rows`` (0600) the rows of every file that is
not simply appended to: batches, S3, FTP and whatever else FEED_STORAGES knows. Such a file is

1. marked as closed, with the size of what is at its place, at a flush;
2. after the commit copied to its place, or given to its storage;
3. marked as stored at the next flush, and after the commit deleted here,

so that each step can be done again after a kill. Two things cannot be had: what was written to the
standard output is never taken back, and a killed run may have appended rows at an FTP server that
the next run appends again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sqlite3
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.utils.defer import deferred_from_coro, ensure_awaitable
from twisted.internet.defer import Deferred

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.feeds.batch import Batch
from kagglecrawl.state.feeds.file import FeedRefused, is_device, sync_file
from kagglecrawl.state.feeds.places import Direct, Feed, Spooled
from kagglecrawl.state.feeds.setup import FeedSetup, read_feeds
from kagglecrawl.state.pages import sync_folder
from kagglecrawl.state.store import FILE, FeedFile, Store

__all__ = ["ExportError", "FeedRefused", "Feeds", "StoredFile"]

logger = logging.getLogger(__name__)

_FOLDER = "feeds"
_SPOOLED = re.compile(r"\d+-\d+\.rows")


class ExportError(Exception):
    """A row cannot be exported: ``__cause__`` is what its exporter raised."""


@dataclass(frozen=True)
class StoredFile:
    """The ``slot`` of Scrapy's signal ``feed_slot_closed``."""

    uri: str
    uri_template: str
    format: str
    batch_id: int
    itemcount: int
    store_empty: bool
    feed_options: dict[str, Any]


class Feeds:
    """All feeds of a crawl. Every method but ``add`` may raise ``sqlite3.Error`` with a job."""

    def __init__(self, crawler: Crawler, store: Store, folder: Path | None) -> None:
        assert crawler.stats is not None
        self._crawler = crawler
        self._stats = crawler.stats
        self._store = store
        self._folder = folder
        setups = read_feeds(crawler, durable=folder is not None)
        self._feeds = [Feed(setup) for setup in setups]
        self._tasks: set[Deferred[Any]] = set()
        #: Placed when the job was opened; to be told of when the crawl goes on.
        self._placed: list[Batch] = []
        self._lost = False
        self._begun = False

    @classmethod
    def from_crawler(cls, crawler: Crawler, store: Store, folder: Path | None) -> Self:
        """``folder`` is the job directory, None without one. Raises ``FeedRefused`` for feeds that
        cannot be written, or not be gone on with."""
        return cls(crawler, store, folder)

    def open(self) -> None:
        """Take up the feeds; before anything else is changed in the store, and the caller commits
        it then. Raises ``FeedRefused``, ``OSError``."""
        for feed in self._feeds:
            feed.setup.check()
        if self._folder is None:
            for feed in self._feeds:
                feed.begin()
        else:
            self._open_job(self._folder)
        for batch in self._batches():
            batch.commit()

    def add(self, items: Sequence[Any]) -> None:
        """Take the rows of one request, all of them into every feed that wants them, or none and
        raise ``ExportError``. Only in memory: they are in the feeds after the next flush."""
        for feed in self._feeds:
            feed.mark()
        try:
            for feed in self._feeds:
                for item in items:
                    feed.add(item)
        except Exception as error:
            for feed in self._feeds:
                feed.undo()
            raise ExportError(clean(f"{type(error).__name__}: {error}")) from error

    def flush(self) -> None:
        """Write what was added, and note in the store how far that is. Raises ``OSError``, then
        call ``rollback``, and the store's."""
        if not self._begun:
            self._sync()  # or a power cut could leave rows in files of which no job knows
            self._begun = True
        for batch in self._batches():
            batch.flush()
        self._put()

    def rollback(self) -> None:
        """After a flush or a commit that failed: cut every file back to the last commit, and
        forget what was added. Only ``close`` may follow, which then returns False."""
        self._lost = True
        for feed in self._feeds:
            feed.rollback()

    def committed(self) -> None:
        """What was flushed is for good. Files that are full go to their places. Raises ``OSError``
        if one cannot: it is kept, and the next run tries it again."""
        for batch in self._batches():
            batch.commit()
        for batch in self._placed:
            self._start(self._say_stored(batch))
        self._placed.clear()
        self._tidy()
        waiting = [each for each in self._batches() if each.record.closed and not each.tried]
        if waiting:
            self._sync()
        for batch in waiting:
            batch.tried = True
            if isinstance(batch, Spooled) and batch.path is not None:
                batch.place()
                self._start(self._say_stored(batch))
            else:
                self._start(self._store_batch(batch, last=False))

    async def close(self, *, finished: bool) -> bool:
        """Store everything that is to be stored, and say so. True if all that was added is there.

        ``finished``: the job has ended; else rows stay in the job directory that are to be stored
        when it has. Commits the store, since some steps must be safe before the next.
        """
        for task in list(self._tasks):
            await ensure_awaitable(task)
        last = []
        for batch in list(self._batches()):
            try:
                if batch.end(finished=finished):
                    last.append(batch)
            except OSError as error:
                with contextlib.suppress(OSError):
                    batch.rollback()
                self._say_not_stored(batch, error)
        if not self._make_safe():
            last = [each for each in last if not isinstance(each, Spooled)]
        for batch in last:
            await self._store_batch(batch, last=True)
        if self._make_safe():
            self._tidy()
        for batch in self._batches():
            batch.release()
        if self._feeds:
            await self._crawler.signals.send_catch_log_async(signals.feed_exporter_closed)
        return not self._lost

    @property
    def delayed(self) -> bool:
        """Does a feed get its rows only when a file of it is full, or the crawl ends?"""
        setups = [feed.setup for feed in self._feeds]
        return any(not (each.local or each.stdout) or each.batch_items for each in setups)

    @property
    def unstored(self) -> list[str]:
        """The addresses, without secrets, of files whose rows are in the job directory alone."""
        files = [each for each in self._batches() if isinstance(each, Spooled)]
        return [clean(file.uri) for file in files if file.unstored]

    # -- the job ----------------------------------------------------------------------------------

    def _open_job(self, folder: Path) -> None:
        records: dict[str, list[FeedFile]] = {}
        for record in self._store.feeds():
            records.setdefault(record.template, []).append(record)
        kept = {feed.setup.template: feed for feed in self._feeds if not _is_streamed(feed.setup)}
        if len(kept) < sum(not _is_streamed(feed.setup) for feed in self._feeds):
            raise FeedRefused("FEEDS names the same feed twice: name it once")
        if records and records.keys() != kept.keys():
            raise FeedRefused(
                f"the job has other feeds ({_listed(records)}, now {_listed(kept)}): "
                "name the same, or another JOBDIR to begin anew"
            )
        was_clean = self._store.get("clean") == "1"
        for number, template in enumerate(sorted(kept), start=1):
            feed = kept[template]
            feed.spool = folder / _FOLDER / str(number)
            feed.setup.columns = json.loads(self._store.get(_columns_of(feed)) or "null")
            if not feed.setup.local:
                feed.setup.storage(feed.setup.uri(1))  # else it would be refused at the end
            if template in records:
                feed.resume(records[template], clean=was_clean)
        for feed in self._feeds:
            if feed.setup.template not in records:
                feed.begin()
        self._refuse_shared_files()
        self._open_folder(folder / _FOLDER)
        self._place_closed()
        self._put()

    def _refuse_shared_files(self) -> None:
        """Two feeds in one file would each take the other's rows for somebody else's."""
        found: set[Path] = set()
        for batch in self._batches():
            if isinstance(batch, Direct):
                path = batch.path.resolve()
                if path in found:
                    raise FeedRefused(f"two feeds are the same file, {path}: name it once")
                found.add(path)

    def _open_folder(self, folder: Path) -> None:
        """Remove what a killed run has left there without a commit."""
        spooled = [each.spool for each in self._batches() if isinstance(each, Spooled)]
        if folder.is_dir():
            for path in folder.iterdir():
                if _SPOOLED.fullmatch(path.name) and path not in spooled:
                    path.unlink()
        elif spooled:
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)

    def _place_closed(self) -> None:
        """Do again what a killed run may have been doing."""
        for batch in self._batches():
            if isinstance(batch, Spooled) and batch.path is not None and batch.record.closed:
                self._sync()
                batch.place_again()
                self._placed.append(batch)

    def _put(self) -> None:
        """Note in the store whatever has changed."""
        if self._folder is None:
            return
        for feed in self._feeds:
            if feed.spool is None:
                continue
            for batch in feed.batches:
                if batch.record != batch.committed:
                    self._store.put_feed(batch.record)
            if feed.setup.columns:
                self._store.put(_columns_of(feed), json.dumps(feed.setup.columns))

    def _make_safe(self) -> bool:
        """Commit, at the close; False if that fails."""
        if self._folder is None:
            return True
        try:
            self._put()
            self._store.commit()
            for batch in self._batches():
                batch.commit()
            self._sync()
        except (sqlite3.Error, OSError) as error:
            logger.error("The job in %s cannot be written: %s", self._folder, error)
            self._lost = True
            return False
        return True

    def _sync(self) -> None:
        """Before what cannot be taken back: SQLite does not wait for the disk when it commits, so
        that a power cut could leave the job without what was done next."""
        if self._folder is not None:
            sync_file(self._folder / f"{FILE}-wal")

    def _tidy(self) -> None:
        """Drop the files that are at their places, for good."""
        for feed in self._feeds:
            for batch in [each for each in feed.batches if each.done]:
                batch.release()
                if isinstance(batch, Spooled):
                    self._sync()
                    batch.remove()
                feed.batches.remove(batch)

    # -- storing ----------------------------------------------------------------------------------

    async def _store_batch(self, batch: Batch, *, last: bool) -> None:
        """Store a file. What is in the job directory is tried again, unless this is the last
        time."""
        try:
            await batch.store()
        except Exception as error:
            if isinstance(batch, Spooled) and not last:
                logger.warning(
                    "%s could not be stored, which is tried again at the end: %s",
                    _described(batch),
                    _reason(error),
                )
                return
            self._say_not_stored(batch, error)
            await self._send_closed(batch)
        else:
            await self._say_stored(batch)

    async def _say_stored(self, batch: Batch) -> None:
        logger.info("Stored %s", _described(batch))
        kind = batch.setup.storage_class.__name__
        self._stats.inc_value(f"feedexport/success_count/{kind}")
        await self._send_closed(batch)

    def _say_not_stored(self, batch: Batch, error: Exception) -> None:
        logger.error("Error storing %s: %s", _described(batch), _reason(error))
        kind = batch.setup.storage_class.__name__
        self._stats.inc_value(f"feedexport/failed_count/{kind}")
        self._lost = True

    async def _send_closed(self, batch: Batch) -> None:
        setup, record = batch.setup, batch.record
        slot = StoredFile(
            uri=batch.uri,
            uri_template=setup.key,
            format=setup.format,
            batch_id=record.batch,
            itemcount=record.items,
            store_empty=setup.store_empty,
            feed_options=setup.options,
        )
        await self._crawler.signals.send_catch_log_async(signals.feed_slot_closed, slot=slot)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside the crawl; ``close`` waits for it."""
        task = deferred_from_coro(work)
        self._tasks.add(task)
        task.addBoth(lambda _: self._tasks.discard(task))

    def _batches(self) -> Iterator[Batch]:
        for feed in self._feeds:
            yield from feed.batches


def _is_streamed(setup: FeedSetup) -> bool:
    """With a job: is it something that takes rows and gives none back?"""
    return setup.stdout or (setup.local and is_device(setup.path(setup.key)))


def _columns_of(feed: Feed) -> str:
    return f"columns of {feed.setup.template}"


def _described(batch: Batch) -> str:
    return f"{batch.setup.format} feed ({batch.record.items} items) in: {clean(batch.uri)}"


def _reason(error: Exception) -> str:
    return clean(f"{type(error).__name__}: {error}")


def _listed(templates: Any) -> str:
    return ", ".join(clean(each) for each in sorted(templates)) or "none"
