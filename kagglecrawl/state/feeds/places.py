"""A feed's files: where each of them is written, and how it gets to its place.

======== ==========================================================================================
Direct   a local file of a job: rows are appended to the file itself
Spooled  any other file of a job: rows are collected in the job directory, and stored when the file
         gets no more of them
Streamed a file without a job, or the standard output: written to what the feed's storage opens
======== ==========================================================================================
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Sequence
from io import RawIOBase
from pathlib import Path
from typing import IO, Any

from scrapy.extensions.feedexport import FeedStorageProtocol, FileFeedStorage, FTPFeedStorage
from scrapy.utils.asyncio import run_in_thread
from scrapy.utils.defer import ensure_awaitable

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.feeds.batch import Batch, Mark
from kagglecrawl.state.feeds.file import (
    FeedRefused,
    JobFile,
    check_place,
    checksum_of,
    copy_to_place,
    fits,
    size_of,
)
from kagglecrawl.state.feeds.setup import FeedSetup
from kagglecrawl.state.store import FeedFile

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20


class _OfJob(Batch):
    """A file that can be gone on with."""

    _file: JobFile

    def commit(self) -> None:
        """What was flushed is for good."""
        super().commit()
        self._file.commit()

    def rollback(self) -> None:
        """Go back to the last commit."""
        super().rollback()
        self._file.rollback(self.record.offset)

    def release(self) -> None:
        """Close it."""
        self._file.close()

    def _append(self, data: bytes, *, anew: bool = False) -> None:
        self._file.write(data, self.record.offset, anew=anew)
        self.record.offset += len(data)
        self.record.tail = self._file.tail


class Direct(_OfJob):
    """A local file of a job. Raises ``FeedRefused`` when it cannot be written."""

    def __init__(self, setup: FeedSetup, uri: str, record: FeedFile, intent: Path) -> None:
        super().__init__(setup, uri, record)
        self.path = setup.path(uri)
        self._intent = intent
        check_place(self.path, setup.name)
        self._file = JobFile(self.path, record.base, intent=intent)

    def begin(self) -> None:
        """Take the file as it is now. Raises ``OSError``."""
        if self.setup.overwrite:
            self.record.tail = checksum_of(self.path)
        else:
            self.record.base = self.record.offset = size_of(self.path) or 0
            self._file = JobFile(self.path, self.record.base, intent=self._intent)

    def resume(self, *, clean: bool) -> None:
        """Go on. Raises ``FeedRefused``, ``OSError``."""
        self._file.resume(self.record, self.setup.name, clean=clean)

    def end(self, *, finished: bool) -> bool:
        """Its rows are at their place; it is said where that is."""
        return self._write_last() if finished else self._items > 0

    async def store(self) -> None:
        """It is where it belongs."""

    def _place(self) -> int:
        return self.record.offset

    def _write(self, data: bytes) -> None:
        # with nothing written yet, a checksum is that of the old content, which goes now
        self._append(data, anew=self.record.offset == 0 and self.record.tail != "")

    def _on_closed(self) -> None:
        """It has no batches."""


class Spooled(_OfJob):
    """A file of a job that is collected at ``spool`` in the job directory.

    ``siblings`` are the files of its feed that are not done.
    """

    def __init__(
        self, setup: FeedSetup, uri: str, record: FeedFile, spool: Path, siblings: Sequence[Batch]
    ) -> None:
        super().__init__(setup, uri, record)
        self.spool = spool
        #: Where it goes, if that is on this machine.
        self.path = setup.path(uri) if setup.local else None
        self._file = JobFile(spool, mode=0o600)
        self._siblings = siblings

    @property
    def unstored(self) -> bool:
        """Are there rows in the job directory alone?"""
        return self.record.stored < self.record.offset

    def resume(self) -> None:
        """Go on. Raises ``FeedRefused``, ``OSError``."""
        # nobody else writes there: what is too long was written by a run that did not commit it
        self._file.resume(self.record, f"{self.spool}, of {self.setup.name},", clean=False)
        if self.path is not None:
            check_place(self.path, f"the feed {clean(self.uri)}")

    def place_again(self) -> None:
        """Copy a local file to its place after a kill. Raises ``FeedRefused``, ``OSError``."""
        if not self._fits():
            raise FeedRefused(
                f"the feed {clean(self.uri)} was changed while a part of it was in the job "
                f"directory: put it back as it was, with {self.record.base} bytes"
            )
        self.place()

    def place(self) -> None:
        """Copy a local file to its place. Raises ``OSError``."""
        assert self.path is not None
        if not self._fits():
            raise OSError(errno.EBUSY, "another program has changed it", str(self.path))
        copy_to_place(self.spool, self.record.offset, self.path, self.record.base)
        self.record.stored = self.record.offset

    async def store(self) -> None:
        """Copy it to its place, or give a copy to its storage."""
        if self.path is not None:
            self.place()
            return
        storage = self.setup.storage(self.uri)
        # a file at an FTP server may be appended to: what is there is not sent again
        appends = isinstance(storage, FTPFeedStorage) and not storage.overwrite
        start, end = self.record.stored if appends else 0, self.record.offset
        file = storage.open(self.setup.spider)
        try:
            await run_in_thread(_copy, self.spool, start, end, file)
        except BaseException:
            file.close()
            raise
        await _give(storage, file)
        self.record.stored = end

    def end(self, *, finished: bool) -> bool:
        """While the job goes on, a file that is not full stays in the job directory."""
        if self.record.closed:
            return self.unstored
        if finished:
            return self._write_last() and (self.unstored or not self._items)
        if self.unstored:
            logger.info(
                "The feed %s is stored when the job ends: until then its %d rows are in %s",
                clean(self.uri),
                self._items,
                self.spool,
            )
        return False

    def remove(self) -> None:
        """Delete what was collected. Raises ``OSError``."""
        self.release()
        self.spool.unlink(missing_ok=True)

    def _place(self) -> int:
        return self._there() + self.record.offset

    def _write(self, data: bytes) -> None:
        self._append(data)

    def _on_closed(self) -> None:
        """Note where its copy begins, before there is one."""
        if self._appends():
            before = [each for each in self._same_file() if each is not self.record]
            self.record.base = _end(before) if before else self._there()

    def _appends(self) -> bool:
        return self.path is not None and not self.setup.overwrite

    def _there(self) -> int:
        """Bytes that are at its place now, and stay."""
        return (size_of(self.path) or 0) if self.path is not None and self._appends() else 0

    def _fits(self) -> bool:
        if self.path is None or not self._appends():
            return True
        # behind it there may be those that were placed after it
        return fits(self.path, self.record.base, _end([self.record, *self._same_file()]))

    def _same_file(self) -> list[FeedFile]:
        """Batches that go to the same file: somebody's ``uri_params`` may have it so."""
        closed = [each.record for each in self._siblings if each.record.closed]
        return [record for record in closed if record.uri == self.record.uri]


class Streamed(Batch):
    """A file that its storage opens, and that is stored whatever becomes of the crawl."""

    def __init__(self, setup: FeedSetup, uri: str, record: FeedFile) -> None:
        super().__init__(setup, uri, record)
        self._storage = setup.storage(uri)
        self._file: IO[bytes] | None = None
        #: Where in the file it began; None if that cannot be told, or it must not be cut.
        self._begin: int | None = None

    def rollback(self) -> None:
        """Go back to the last commit; what went into a pipe stays."""
        super().rollback()
        if self._file is not None and self._begin is not None:
            self._file.truncate(self._begin + self.record.offset)
            self._file.seek(0, 2)

    def end(self, *, finished: bool) -> bool:
        """Whatever becomes of the crawl."""
        return not self.tried and self._write_last()

    async def store(self) -> None:
        """Give it to its storage, which closes it."""
        assert self._file is not None
        file, self._file = self._file, None
        await _give(self._storage, file)
        self.record.stored = self.record.offset

    def release(self) -> None:
        """Close it, if it was not stored."""
        if self._file is not None and not self.setup.stdout:
            with contextlib.suppress(OSError):
                self._file.close()
        self._file = None

    def _place(self) -> int:
        if not isinstance(self._storage, FileFeedStorage) or self.setup.overwrite:
            return 0
        return size_of(Path(self._storage.path)) or 0

    def _write(self, data: bytes) -> None:
        if self._file is None:
            try:
                self._file = self._storage.open(self.setup.spider)
            except OSError:
                raise
            except Exception as error:
                raise OSError(errno.EIO, clean(str(error)), clean(self.uri)) from error
            if not self.setup.stdout:
                with contextlib.suppress(OSError, AttributeError):
                    self._begin = self._file.tell()
        raw = getattr(self._file, "raw", None)
        if isinstance(raw, RawIOBase):
            # past the buffer, which would write at the close what could not be written now
            _write_all(raw, data)
        else:
            self._file.write(data)
            self._file.flush()
        self.record.offset += len(data)

    def _on_closed(self) -> None:
        """It is stored once that is committed."""


class Feed:
    """One feed: the files of it that are not done with; the last may be open."""

    def __init__(self, setup: FeedSetup) -> None:
        self.setup = setup
        self.batches: list[Batch] = []
        #: Beginning of its names in the job directory; None for a feed that is only streamed.
        self.spool: Path | None = None
        self._next = 1
        self._mark: tuple[int, int, Mark | None] = (0, 1, None)

    def begin(self) -> None:
        """Its first file."""
        self.batches.append(self._new())

    def resume(self, records: list[FeedFile], *, clean: bool) -> None:
        """The files of earlier runs. Raises ``FeedRefused``, ``OSError``."""
        for record in records:
            self._next = record.batch + 1
            if record.closed and record.stored >= record.offset:
                continue
            batch = self._make(self.setup.restored(record.uri), record)
            if isinstance(batch, Direct):
                batch.resume(clean=clean)
            elif isinstance(batch, Spooled):
                batch.resume()
            self.batches.append(batch)

    def add(self, item: Any) -> None:
        """Export a row, if the feed's filter wants it."""
        if not self.setup.item_filter.accepts(item):
            return
        if not self.batches or self.batches[-1].full:
            self.batches.append(self._new())
        self.batches[-1].add(item)

    def mark(self) -> None:
        """Remember what is there."""
        last = self.batches[-1].mark() if self.batches else None
        self._mark = (len(self.batches), self._next, last)

    def undo(self) -> None:
        """Take back what was added since ``mark``."""
        count, self._next, last = self._mark
        del self.batches[count:]
        if last is not None:
            self.batches[-1].undo(last)

    def rollback(self) -> None:
        """Go back to the last commit, as well as it can be done."""
        for batch in self.batches:
            try:
                batch.rollback()
            except OSError as error:
                logger.warning(
                    "The feed %s may end in the middle of a row: it cannot be cut (%s)",
                    clean(batch.uri),
                    error,
                )
        for batch in [each for each in self.batches if each.committed is None]:
            batch.release()
            if isinstance(batch, Spooled):
                with contextlib.suppress(OSError):
                    batch.remove()
            self.batches.remove(batch)

    def _new(self) -> Batch:
        number, self._next = self._next, self._next + 1
        uri = self.setup.uri(number)
        kept = self.setup.lasting(uri)
        if self.setup.local and self.spool is not None:
            uri = kept
        batch = self._make(uri, FeedFile(self.setup.template, number, kept))
        if isinstance(batch, Direct):
            batch.begin()
        return batch

    def _make(self, uri: str, record: FeedFile) -> Batch:
        setup = self.setup
        if self.spool is None:
            return Streamed(setup, uri, record)
        if setup.local and not setup.batch_items:
            return Direct(setup, uri, record, self.spool.with_name(f"{self.spool.name}.intent"))
        spool = self.spool.with_name(f"{self.spool.name}-{record.batch}.rows")
        return Spooled(setup, uri, record, spool, self.batches)


async def _give(storage: FeedStorageProtocol, file: IO[bytes]) -> None:
    """Have it stored; it is closed then, as Scrapy's storages do unless something else raises."""
    try:
        await ensure_awaitable(storage.store(file))
    except BaseException:
        file.close()
        raise


def _end(records: Sequence[FeedFile]) -> int:
    """Where the last of these batches ends in its file."""
    return max(record.base + record.offset for record in records)


def _write_all(file: RawIOBase, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        if not (written := file.write(rest)):
            raise BlockingIOError(errno.EAGAIN, "it takes no more for now")
        rest = rest[written:]


def _copy(source: Path, start: int, end: int, target: IO[bytes]) -> None:
    with source.open("rb") as file:
        file.seek(start)
        left = end - start
        while left and (data := file.read(min(_CHUNK, left))):
            target.write(data)
            left -= len(data)
