"""The store of a crawl, for its transfers: folders in it, and files of the workspace sent there."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import stat
import sys
import threading
from functools import cached_property
from pathlib import Path

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.errors import Damaged, RetryLater
from kagglecrawl.s3.bucket import Bucket
from kagglecrawl.s3.crew import Crew
from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.objects import StoreFolder
from kagglecrawl.transfer.proof import Proof
from kagglecrawl.transfer.reach import Reach
from kagglecrawl.transfer.receiver import BATCH, Receiver
from kagglecrawl.transfer.source import PIECE, Stopped

logger = logging.getLogger(__name__)

_MMAP_THRESHOLD = -3
#: Bytes of parts that are on their way to the store, or wait for it, of all transfers together.
_UNDER_WAY = 32 << 20


class Stores:
    """What the transfers of a crawl need of its store, if it has one."""

    def __init__(self, config: KaggleConfig) -> None:
        self._config = config
        self._deleted = 0
        self._folders: dict[str, StoreFolder] = {}
        #: Which folders were empty when they were first looked at.
        self._empty: dict[str, bool] = {}
        self.reach = Reach(config.max_wait)

    @cached_property
    def _bucket(self) -> Bucket:
        bucket = self._config.bucket()
        assert bucket is not None  # else nobody asks for a folder in it
        return bucket

    @cached_property
    def _crew(self) -> Crew:
        _keep_no_freed_parts()
        return Crew(self._config.uploads, _UNDER_WAY)

    def folder(
        self, uri: str, notes: Notes, archive: Path, stop: threading.Event
    ) -> StoreFolder | None:
        """The folder of one resource; None if there is no store. What it waits for ends when
        ``stop`` is set, with ``Stopped``."""
        destination = self._config.destination
        if destination is None:
            return None

        def pause(seconds: float) -> None:
            if stop.wait(seconds):
                raise Stopped

        bucket = self._bucket.pausing(pause)
        most = self._config.most_spooled
        key = destination.key_of(uri)
        found = StoreFolder(bucket, self._crew, key, notes, archive, most)
        self._folders[uri] = found
        return found

    def look(self, uri: str, folder: StoreFolder) -> None:
        """Before Kaggle is asked for what the store could not take. Raises what ``Reach`` raises.

        Called in a thread, for one folder at a time."""
        self.reach.check()
        try:
            empty = folder.look()
        except RetryLater as error:
            raise self.reach.away(error) from None
        self.reach.there()
        folder.may_remove = self._empty.setdefault(uri, empty)

    def over(self, uri: str, *, well: bool) -> None:
        """A folder needs nothing more; ``well``: all of its files are there."""
        self._folders.pop(uri, None)
        self._empty.pop(uri, None)
        if well:
            self.reach.well()

    def abandon(self, seconds: float) -> None:
        """End what uploads there are, as far as that can be done in so many seconds."""
        left = [folder for folder in self._folders.values() if any(folder.open.values())]

        def end() -> None:
            for folder in left:
                with contextlib.suppress(Exception):
                    folder.abandon()

        thread = threading.Thread(target=end, name="ending uploads", daemon=True)
        if left:
            thread.start()
            thread.join(seconds)

    def carry(
        self, folder: Path, place: StoreFolder, notes: Notes, guard: DiskGuard, meter: Meter
    ) -> None:
        """Send every file of a folder that is noted and has no receipt.

        Raises ``Damaged`` where a file is not what was noted of it, and what the store raises.
        """
        receiver = place.receiver(notes, guard, meter)
        try:
            after = 0
            while rows := notes.stored(after, BATCH):
                after = rows[-1].number + 1
                for row in rows:
                    if not row.etag and not row.name.endswith("/"):
                        _send(receiver, row, folder / row.name)
                        receiver.pause(0, -1, following=0)
            receiver.flush(0, -1)
        finally:
            receiver.end()

    def clear(self, folder: Path, notes: Notes, began: float) -> None:
        """The store has proved that it has the files that are noted: S3_DELETE_LOCAL. What else is
        in the folder stays, and what was written to since they were sent, which ``began`` at that
        time (seconds since the epoch)."""
        if not self._config.delete_local:
            return
        after, folders = 0, {folder}
        while rows := notes.stored(after, BATCH):
            after = rows[-1].number + 1
            for row in rows:
                path = folder / row.name
                folders.update(parent for parent in path.parents if folder in parent.parents)
                if row.name.endswith("/"):
                    folders.add(path)
                elif row.etag and _is_as_sent(path, row.size, began):
                    path.unlink()
                    self._deleted += 1
        for each in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # something is in it
                each.rmdir()

    def counts(self) -> dict[str, int]:
        """What was asked of the store so far, by name."""
        if "_bucket" not in self.__dict__:
            return {}
        deleted = {"deleted_local": self._deleted} if self._deleted else {}
        return {**self._bucket.tally.counts(), **deleted}

    def close(self) -> None:
        """No more is sent."""
        if "_crew" in self.__dict__:
            self._crew.close()


def _is_as_sent(path: Path, size: int, began: float) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_mtime <= began


def _keep_no_freed_parts() -> None:
    """glibc takes ever larger blocks from a heap that does not shrink, once some were freed: a
    crawl of large files then needs 190 MiB where it needs 155 (measured). Fixed, it does not
    (mallopt(3), M_MMAP_THRESHOLD)."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # another library of C
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)


def _send(receiver: Receiver, row: MemberRow, path: Path) -> None:
    proof = Proof(receiver.pool)
    with receiver.writing(row, proof) as write, path.open("rb") as file:
        while data := file.read(PIECE):
            proof.add(data)
            write(data)
        if proof.size != row.size or proof.sha256 != row.sha256:
            raise Damaged("a file in WORKSPACE is not what was fetched")
