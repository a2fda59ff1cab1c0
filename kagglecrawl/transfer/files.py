"""Members of an archive on their way to disk: written, made safe, and then noted with the job."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from kagglecrawl.kaggle.errors import Unusable
from kagglecrawl.state.transfers import COLLISION, Listed, Meter
from kagglecrawl.transfer.disk import DiskGuard, unwritable
from kagglecrawl.transfer.members import BadMember, Choice, Member, shown
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.staging import Staging

logger = logging.getLogger(__name__)

#: Members that are looked at at once.
BATCH = 2048
#: Bytes after which what was done is made safe and noted, and the size of a member before which
#: it is: a kill costs what has come since, or the one large member that was under way.
_MOST_UNNOTED = 32 << 20
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


class Files:
    """Writes members into a staging folder, and notes them with the job when they are safe."""

    def __init__(self, staging: Staging, notes: Notes, guard: DiskGuard, meter: Meter) -> None:
        self._staging = staging
        self._notes = notes
        self._guard = guard
        self._meter = meter
        self._digests: list[tuple[int, int, bytes]] = []
        self._bytes = self._since_look = self._refused = 0
        self._since = time.monotonic()
        #: Sums up large pieces while the next ones are unpacked.
        self.pool = ThreadPoolExecutor(1, thread_name_prefix=f"sums of {notes.key}")

    def put(self, number: int, path: Path, content: list[bytes], size: int, sha256: bytes) -> None:
        """A whole small file, that is proved; raises ``BadMember`` where its place is taken."""
        file = self.open(path)
        try:
            _write_all(file, b"".join(content))
        except OSError as error:
            raise unwritable(error) from None
        finally:
            self.close(file)
        self._wrote(size)
        self.done(number, size, sha256)

    def refuse(self, number: int, path: Path, size: int, bad: BadMember) -> None:
        """A member is left out; the first ones are named in the log."""
        self._guard.spend(self._notes.key, size)
        self.tell(path.name, f"{bad} ({bad.reason})")
        if bad.reason != COLLISION:
            with contextlib.suppress(OSError):  # it may never have been made
                path.unlink()
        self._notes.leave_out(number, bad.reason)

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
            _write_all(file, data)
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

    def due(self, following: int = 0) -> bool:
        """Is it time to make safe what was written, before a member of so many bytes?"""
        if not self._digests:
            return False
        if following >= _LARGE or time.monotonic() - self._since >= _LONGEST_UNNOTED:
            return True
        return self._bytes >= _MOST_UNNOTED

    def flush(self, position: int, crc32c: int) -> None:
        """Make it safe, and note it."""
        try:
            self._staging.sync()
        except OSError as error:
            raise unwritable(error) from None
        self._notes.done(self._digests, position, crc32c)
        self._digests, self._bytes, self._since = [], 0, time.monotonic()
        self._guard.check()


def _write_all(file: BinaryIO, data: bytes) -> None:
    """A disk that becomes full takes a part, and tells it by the count alone."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


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
