"""One file of a feed: its rows in memory, what was flushed of them, and what was committed.

Where it is written, and how it gets to its place: places.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from io import IOBase
from typing import Any

from scrapy.exporters import BaseItemExporter

from kagglecrawl.state.feeds.setup import FeedSetup
from kagglecrawl.state.store import FeedFile

#: What ``Batch.undo`` goes back to.
Mark = tuple[int, int, BaseItemExporter | None]


class Sink(IOBase):
    """What an exporter writes to: memory, which knows where in the file it will be.

    By that, an encoding tells whether its byte order mark is due.
    """

    def __init__(self, place: int) -> None:
        self._place = place
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        """Keep the bytes."""
        self._data += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        data = bytes(self._data)
        self._place += len(data)
        self._data.clear()
        return data

    def cut(self, size: int) -> None:
        """Forget what was written after so many bytes."""
        del self._data[size:]

    def __len__(self) -> int:
        return len(self._data)

    def tell(self) -> int:
        """Bytes before what is written next."""
        return self._place + len(self._data)

    def seekable(self) -> bool:
        """Only so that it is asked for its place."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True


class Batch(ABC):
    """A file of a feed; a feed without batches has one.

    ``record`` is how it is after the last flush, ``committed`` how it is for good: None of a file
    that no commit knows.
    """

    def __init__(self, setup: FeedSetup, uri: str, record: FeedFile) -> None:
        self.setup = setup
        self.uri = uri
        self.record = record
        self.committed: FeedFile | None = None
        #: Its storing has begun while the crawl went on.
        self.tried = False
        self._items = record.items
        self._exporter: BaseItemExporter | None = None
        self._sink = Sink(0)

    @property
    def full(self) -> bool:
        """Does it get no more rows?"""
        return self.record.closed or 0 < self.setup.batch_items <= self._items

    @property
    def done(self) -> bool:
        """Is it for good that it gets no more rows, and that they are at their place?"""
        known = self.committed
        return known is not None and known.closed and known.stored >= known.offset

    # -- rows, in memory --------------------------------------------------------------------------

    def add(self, item: Any) -> None:
        """Export a row. Raises whatever the exporter raises; then call ``undo``."""
        if self._exporter is None:
            self._start(item)
        assert self._exporter is not None
        self._exporter.export_item(item)
        self._items += 1

    def mark(self) -> Mark:
        """What is there now."""
        return self._items, len(self._sink), self._exporter

    def undo(self, mark: Mark) -> None:
        """Take back what was added since.

        An exporter that had no row before is forgotten, and with it that it has begun the file.
        """
        self._items, size, self._exporter = mark
        self._sink.cut(size)

    # -- flush and commit -------------------------------------------------------------------------

    def flush(self, *, end: bool = False) -> None:
        """Write what was added; with ``end``, what the exporter writes last as well. A batch that
        is full has ended. Raises ``OSError``."""
        end = end or self.full
        if self._exporter is not None:
            if end:
                self._exporter.finish_exporting()
            self.setup.learn_columns(self._exporter)
            if data := self._sink.take():
                self._write(self.setup.processed(data))
            if end:
                self._exporter = None
        self.record.items = self._items
        if end:
            self._close()

    def commit(self) -> None:
        """What was flushed is for good."""
        self.committed = replace(self.record)

    def rollback(self) -> None:
        """Go back to the last commit; no rows are added after that. Raises ``OSError``."""
        record = self.record
        known = self.committed or FeedFile(record.template, record.batch, record.uri)
        # what is at its place is there, whatever is known of it
        self.record = replace(known, stored=max(known.stored, record.stored))
        self._items = known.items
        self._sink.cut(0)

    # -- the end ----------------------------------------------------------------------------------

    @abstractmethod
    def end(self, *, finished: bool) -> bool:
        """The crawl ends; ``finished``: so does its job. Write the last of the file. True if it is
        to be stored now; raises ``OSError``."""

    @abstractmethod
    async def store(self) -> None:
        """Put the file where it belongs. Raises whatever its storage raises."""

    @abstractmethod
    def release(self) -> None:
        """Let go of what is open."""

    @abstractmethod
    def _place(self) -> int:
        """How many bytes of the feed's file are before what a new exporter writes."""

    @abstractmethod
    def _write(self, data: bytes) -> None:
        """Append to the file, and note it in the record."""

    @abstractmethod
    def _on_closed(self) -> None:
        """It gets no more rows."""

    def _write_last(self) -> bool:
        """Write the last of the file; False if there is none, nor is one wanted."""
        if not self._items:
            if not (self.setup.store_empty and self.record.batch == 1):
                return False
            self._start(None)
            self._write(self.setup.processed(b""))  # the exporter may have nothing to add to it
        self.flush(end=True)
        return True

    def _start(self, first: Any) -> None:
        place = self._place()
        self._sink = Sink(place)
        exporter = self.setup.exporter(self._sink, place, first)
        exporter.start_exporting()
        self._exporter = exporter

    def _close(self) -> None:
        if self.setup.batch_items and not self.record.closed:
            self.record.closed = True
            self._on_closed()
