"""Members of an archive on their way to disk: written, made safe, and then noted with the job."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kagglecrawl.kaggle.errors import Unusable
from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import COLLISION, Listed, Meter
from kagglecrawl.transfer.disk import DiskGuard, unwritable
from kagglecrawl.transfer.members import BadMember, Choice, Member, shown
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.staging import Staging

logger = logging.getLogger(__name__)

#: Members that are looked at at once.
BATCH = 2048
#: Bytes after which what was done is made safe and noted, and the size of a member before which
#: it is: a kill costs twice as much at most, or the one large member that was under way.
_MOST_UNNOTED = 16 << 20
_LARGE = 8 << 20
#: Seconds after which it is, too.
_LONGEST_UNNOTED = 5.0
#: Bytes after which the disk is looked at again.
_LOOK_EVERY = 16 << 20
#: Files up to this size are small: they are proved in memory, and then written at once.
SMALL = 1 << 18
#: So many that are left out are named in the log.
_NAMED = 20
#: What a disk says of a name that is in the way, or that it cannot have.
_TAKEN = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
_UNNAMEABLE = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


class _Flush(NamedTuple):
    """What is being made safe, and will then be noted."""

    safe: Future[None]
    digests: list[tuple[int, int, bytes]]
    left_out: list[tuple[int, str]]
    position: int
    crc32c: int


class Files:
    """Writes members into a staging folder, and notes them with the job when they are safe."""

    def __init__(self, staging: Staging, notes: Notes, guard: DiskGuard, meter: Meter) -> None:
        self._staging = staging
        self._notes = notes
        self._guard = guard
        self._meter = meter
        #: What has come of members since the last flush, and how far the object was read at that.
        self._digests: list[tuple[int, int, bytes]] = []
        self._left_out: list[tuple[int, str]] = []
        self._bytes = self._since_look = self._refused = 0
        self._since = time.monotonic()
        self._position = 0
        #: Sums up large pieces while the next ones are unpacked.
        self.pool = ThreadPoolExecutor(1, thread_name_prefix=f"sums of {notes.key}")
        #: Members that are made safe while the next ones are written.
        self._flushing: _Flush | None = None
        #: Why some of them could not be.
        self._failed: Exception | None = None

    def put(self, number: int, name: str, content: bytes | memoryview, sha256: bytes) -> None:
        """A whole small file, that is proved; raises ``BadMember`` where its place is taken."""
        try:
            descriptor = self._staging.create(name)
        except OSError as error:
            raise _of_member(self._staging.path(name), error) from None
        try:
            try:
                _write_all(partial(os.write, descriptor), content)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unwritable(error) from None
        self._wrote(len(content))
        self.done(number, len(content), sha256)

    def refuse(self, number: int, path: Path, size: int, bad: BadMember) -> None:
        """A member is left out; the first ones are named in the log."""
        self._guard.spend(self._notes.key, size)
        self.tell(path.name, f"{bad} ({bad.reason})")
        if bad.reason != COLLISION:
            with contextlib.suppress(OSError):  # it may never have been made
                path.unlink()
        self._left_out.append((number, bad.reason))

    def tell(self, name: str, why: str) -> None:
        """Of a member that is left out."""
        self._refused += 1
        if self._refused <= _NAMED:
            logger.warning("Left out %s of %s: %s", shown(name), self._notes.key, why)
        elif self._refused == _NAMED + 1:
            logger.warning("More files of %s are left out, and counted", self._notes.key)

    def end(self) -> None:
        """No more is unpacked."""
        self.pool.shutdown(cancel_futures=True)

    def open(self, path: Path, *, keep: int = 0) -> BinaryIO:
        """A file for a member; raises ``BadMember`` where its place is taken."""
        try:
            return self._staging.open(path, keep=keep)
        except OSError as error:
            raise _of_member(path, error) from None

    def make_folder(self, path: Path) -> None:
        """One of the archive's folders."""
        try:
            self._staging.make_folder(path)
        except OSError as error:
            raise _of_member(path, error) from None

    def write(self, file: BinaryIO, data: bytes) -> None:
        """All of these bytes."""
        try:
            _write_all(file.write, data)
        except OSError as error:
            raise unwritable(error) from None
        self._wrote(len(data))

    def _wrote(self, count: int) -> None:
        self._meter.written += count
        self._bytes += count
        self._guard.spend(self._notes.key, count)
        self._since_look += count
        if self._since_look >= _LOOK_EVERY:
            self._guard.check()
            self._since_look = 0

    def close(self, file: BinaryIO) -> None:
        """The member is whole, or will be written again."""
        try:
            file.close()
        except OSError as error:
            raise unwritable(error) from None

    def done(self, number: int, size: int, sha256: bytes) -> None:
        """A member's file, or folder, is there."""
        self._digests.append((number, size, sha256))
        self._meter.files += 1

    def pause(self, position: int, crc32c: int, following: int) -> None:
        """Between two members, of which the next has so many bytes: is it time to make safe what
        was written? Where that can be done while others are written, it is."""
        count = len(self._digests) + len(self._left_out)
        if following >= _LARGE:
            if count or self._flushing:
                self.flush(position, crc32c)
            return
        if self._flushing is not None and self._flushing.safe.done():
            self._note()
        # What was read counts as well: members of few bytes may be far from each other.
        much = max(self._bytes, position - self._position) >= _MOST_UNNOTED
        late = time.monotonic() - self._since >= _LONGEST_UNNOTED
        if much or count >= BATCH or (count and late):
            self._begin_flush(position, crc32c)

    def flush(self, position: int, crc32c: int) -> None:
        """Make it safe, and note it: all bytes of the object before ``position`` were read, and
        that is their checksum."""
        self._begin_flush(position, crc32c)
        self._note()

    def _begin_flush(self, position: int, crc32c: int) -> None:
        self._note()
        if self._failed is not None:
            raise self._failed
        make_safe = partial(self._staging.make_safe, self._staging.take_unsafe())
        safe = _in_thread(make_safe, f"sync of {self._notes.key}")
        self._flushing = _Flush(safe, self._digests, self._left_out, position, crc32c)
        self._digests, self._left_out, self._bytes = [], [], 0
        self._since, self._position = time.monotonic(), position

    def _note(self) -> None:
        """Wait until what is being made safe is, and note it."""
        if self._flushing is None:
            return
        flush, self._flushing = self._flushing, None
        try:
            flush.safe.result()
        except Exception as error:
            # Nothing that comes after these may be noted: they would be taken to be there.
            self._failed = unwritable(error) if isinstance(error, OSError) else error
            raise self._failed from None
        self._notes.done(flush.digests, flush.left_out, flush.position, flush.crc32c)
        self._guard.check()


def _in_thread(work: Callable[[], None], name: str) -> Future[None]:
    """Not in a pool's: for those Python waits at its end, however long the disk takes."""
    ended: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError:  # the system gives no more of them
        run()
    return ended


def _write_all(write: Callable[[memoryview], int], data: bytes | memoryview) -> None:
    """A disk that becomes full takes a part, and tells it by the count alone."""
    view = memoryview(data)
    while view:
        view = view[write(view) :]


def listed(member: Member, reason: str) -> Listed:
    """A member as the job notes it."""
    return Listed(
        number=member.number,
        name=member.name,
        size=member.size,
        packed=member.packed,
        crc32=member.crc32,
        method=member.method,
        offset=member.offset,
        reason=reason,
    )


def member_of(row: MemberRow) -> Member:
    """The reverse."""
    return Member(
        row.number, row.name, row.size, row.packed, row.crc32, row.method, row.offset, row.reason
    )


def all_there(staging: Staging, notes: Notes) -> bool:
    """Is all that an earlier run has noted there, and as large as it was? What is not is to be had
    again."""
    after, whole = 0, True
    while rows := notes.stored(after, BATCH):
        missing = [r.number for r in rows if not staging.has(r.name, r.size, r.sha256 or b"")]
        if missing:
            notes.missing(missing)
            whole = False
        after = rows[-1].number + 1
    return whole


def too_dense(choice: Choice) -> Unusable:
    """An archive that would fill any disk."""
    return Unusable(
        f"the archive unpacks to more than {choice.max_ratio:g} times its size: raise "
        "KAGGLE_MAX_RATIO if you trust it",
        "ratio",
    )


def _of_member(path: Path, error: OSError) -> Exception:
    """Is it this file's name that the disk will not have, or will it have none?"""
    if error.errno in _TAKEN:
        return BadMember(COLLISION, "another file or folder has its place")
    if error.errno in _UNNAMEABLE:
        return BadMember(
            "unsafe_path", f"the disk has no such name as {shown(path.name)} ({error.strerror})"
        )
    return unwritable(error)
