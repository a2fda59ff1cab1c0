"""A feed's file on this machine: it grows by whole flushes, and can be cut back to any of them.

What a flush has written is safe on disk before its size is noted in the store; what a killed
process has written after the last commit is cut off when the job goes on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG

from kagglecrawl.checks import writable
from kagglecrawl.config import SettingError
from kagglecrawl.state.pages import sync_folder
from kagglecrawl.state.store import FeedFile

#: How many bytes before the committed end must be as they were written.
_TAIL = 4096
_CHUNK = 1 << 24
_ANEW = "name another JOBDIR to begin anew"


class FeedRefused(ValueError):
    """A feed cannot be written, or not be gone on with; the text says which, why and what to do."""


class JobFile:
    """A file to which this job alone writes, beyond ``base`` bytes that were there before.

    ``mode`` is that of a new file, before the umask. Nothing is opened before the first write.
    ``intent`` is where it is noted how long the file is to be, before it is written: what is longer
    after a kill is somebody else's, and is not cut off.
    """

    def __init__(
        self, path: Path, base: int = 0, *, mode: int = 0o666, intent: Path | None = None
    ) -> None:
        self.path = path
        self._intent = intent
        self._base = base
        self._mode = mode
        self._descriptor: int | None = None
        #: The last bytes beyond base; None when they have to be read.
        self._last: bytes | None = None
        self._uncommitted = False

    def resume(self, record: FeedFile, name: str, *, clean: bool) -> None:
        """Check that what was committed is there, and cut off what comes after it.

        ``clean``: the last run came to its end, so that nobody of ours has written more. Raises
        ``FeedRefused``, in which the file is called ``name``, and ``OSError``.
        """
        offset, size = record.offset, size_of(self.path)
        if size is None:
            if offset:
                raise FeedRefused(
                    f"{name} is gone, with {offset} bytes that the job goes on from: "
                    f"put it back as it was, or {_ANEW}"
                )
            return
        if not offset and record.tail:  # what was to be overwritten, once there is a row
            if not clean and checksum_of(self.path) != record.tail:
                self._cut_off(0)
                record.tail = ""
            return
        if size < offset:
            raise FeedRefused(
                f"{name} is shorter ({size} bytes) than what the job has written to it ({offset}): "
                f"put it back as it was, or {_ANEW}"
            )
        if checksum(_last_bytes(self.path, self._base, offset)) != record.tail:
            raise FeedRefused(
                f"{name} was changed since the job has written to it: "
                f"put it back as it was, or {_ANEW}"
            )
        if size > offset:
            if clean or (self._intent is not None and size > self._intended()):
                raise FeedRefused(
                    f"{name} has {size - offset} bytes at its end that are not of this job: "
                    f"take them out, or {_ANEW}"
                )
            self._cut_off(offset)

    def write(self, data: bytes, at: int, *, anew: bool = False) -> None:
        """Append at ``at`` bytes, which is the end, and make it safe; raises ``OSError``.

        ``anew``: what is beyond that goes.
        """
        with _named(self.path):
            last = b"" if anew else self._tail(at)
            descriptor = self._open()
            if anew:
                self._uncommitted = True
                os.ftruncate(descriptor, at)
            self._refuse_change(descriptor, at)
            self._uncommitted = True
            self._intend(at + len(data))
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        self._last = (last + data)[-_TAIL:]

    @property
    def tail(self) -> str:
        """The checksum of what comes before the end; only after a write."""
        assert self._last is not None
        return checksum(self._last)

    def commit(self) -> None:
        """What was written stays."""
        self._uncommitted = False

    def rollback(self, size: int) -> None:
        """Cut off what was written since the last commit, when the size was this; raises
        ``OSError``."""
        self._last = None
        if self._uncommitted and self._descriptor is not None:
            with _named(self.path):
                os.ftruncate(self._descriptor, size)
                os.fsync(self._descriptor)
        self._uncommitted = False

    def close(self) -> None:
        """Let go of the file; it can be written again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_APPEND
            try:
                self._descriptor = os.open(self.path, flags)
            except FileNotFoundError:
                _make_folder(self.path.parent)
                self._descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, self._mode)
                sync_folder(self.path.parent)
        return self._descriptor

    def _intend(self, size: int) -> None:
        if self._intent is None:
            return
        self._intent.parent.mkdir(mode=0o700, exist_ok=True)
        new = not self._intent.exists()
        with open(self._intent, "w", encoding="ascii", opener=_owners) as file:
            file.write(f"{size}\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self._intent.parent)

    def _intended(self) -> int:
        """How long the last write was to make it; 0 if none was begun."""
        assert self._intent is not None
        try:
            return int(self._intent.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return 0

    def _refuse_change(self, descriptor: int, size: int) -> None:
        """Rows after somebody else's, or in a file that has no name any more, would be lost."""
        found = os.fstat(descriptor)
        if found.st_size != size:
            raise OSError(errno.EBUSY, "another program has changed it")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(found, self.path.stat()):
                return
        raise OSError(errno.ENOENT, "it was moved or deleted while the crawl wrote to it")

    def _tail(self, end: int) -> bytes:
        if self._last is None:
            return _last_bytes(self.path, self._base, end) if end > self._base else b""
        return self._last

    def _cut_off(self, size: int) -> None:
        with _named(self.path), self.path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())


def checksum(data: bytes) -> str:
    """Of the last 4096 bytes; empty for none."""
    return hashlib.sha256(data[-_TAIL:]).hexdigest() if data else ""


def checksum_of(path: Path) -> str:
    """The same of a file's last bytes; empty if there is none. Raises ``OSError``."""
    size = size_of(path)
    return checksum(_last_bytes(path, 0, size)) if size else ""


def size_of(path: Path) -> int | None:
    """In bytes, or None if there is no such file; raises ``OSError``."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def is_device(path: Path) -> bool:
    """Is it there, and has no size, as a pipe or ``/dev/null``?"""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (S_ISREG(mode) or path.is_dir())


def check_place(path: Path, name: str) -> None:
    """Raise ``FeedRefused`` if a feed cannot be written there; changes nothing."""
    if path.is_symlink() and not path.exists():
        raise FeedRefused(f"{name} is a link to nowhere: remove it, or make what it links to")
    if path.is_dir():
        raise FeedRefused(f"{name} is a folder: name a file")
    if path.exists():
        if not os.access(path, os.R_OK | os.W_OK):
            raise FeedRefused(f"{name} cannot be read and written: check who owns it")
        return
    try:
        writable(path.parent, name)
    except SettingError as error:
        raise FeedRefused(str(error)) from None


def fits(path: Path, base: int, end: int) -> bool:
    """Is there nothing at the place of a copy (the bytes from ``base`` to ``end``) but what was
    there before, and the copy or a part of it? Raises ``OSError``."""
    return base <= (size_of(path) or 0) <= end


def copy_to_place(source: Path, size: int, path: Path, base: int) -> None:
    """Copy the first ``size`` bytes of a file to another, from ``base`` on, where they are the last
    ones then; however often it is done, the result is the same. Raises ``OSError``."""
    file = JobFile(path, base)
    try:
        file.write(b"", base, anew=True)
        with source.open("rb") as rows:
            done = 0
            while done < size and (data := rows.read(min(_CHUNK, size - done))):
                file.write(data, base + done)
                done += len(data)
        if done < size:
            raise OSError(errno.EIO, "it is shorter than it was", str(source))
    finally:
        file.close()


def sync_file(path: Path) -> None:
    """Make a file's content safe on disk, if it is there; raises ``OSError``."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        os.fsync(file.fileno())


def _last_bytes(path: Path, start: int, end: int) -> bytes:
    """The last bytes before ``end``, none of them before ``start``."""
    start = max(start, end - _TAIL)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _owners(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors say which file they are about."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise
