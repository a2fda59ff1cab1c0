"""Where files are collected until all of them are there, and how they get to their place.

Files of one resource are written into a folder of their own beside the one that they are for,
which gets its name when it is whole: that folder is never half of what it should be.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from kagglecrawl.kaggle.errors import Unusable
from kagglecrawl.kaggle.names import check_path
from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.disk import DiskGuard, unwritable
from kagglecrawl.transfer.files import Files
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.receiver import BATCH
from kagglecrawl.transfer.source import PIECE
from kagglecrawl.transfer.zips import STORED

#: Bytes of a folder's name that are repeated in that of the folder beside it.
_REPEATED = 180
#: From so many files on, one call that makes the whole disk safe is quicker than one for each.
_MANY = 16
#: From so many bytes on disk on, a stored member is gone on with in its middle.
_WORTH_KEEPING = 1 << 20


class Staging:
    """The folder in which the files for ``target`` are collected; ``token`` makes it this job's."""

    #: What is unpacked to disk may as well be fetched to disk, and then it is proved first.
    takes_streams = False
    most_spooled: int | None = None

    def __init__(self, target: Path, token: str) -> None:
        self.target = target
        name = f".{_head(target.name)}.{token}"
        self.folder = target.with_name(f"{name}.incomplete")
        #: Beside it, an archive that has to be whole before it can be unpacked.
        self.archive = target.with_name(f"{name}.archive.incomplete")
        #: What somebody else needs beside it while it fetches and unpacks.
        self.scratch = target.with_name(f"{name}.scratch.incomplete")
        self._unsafe: set[str] = set()
        self._parents: set[str] = set()

    def prepare(self) -> None:
        """Make the folder; it is empty, or holds what an earlier run has left."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def exact(self) -> bool:
        """Does the disk tell names apart that differ in case or composition alone?"""
        probe = self.folder / ".probe-\u00e9"
        probe.touch()
        other = unicodedata.normalize("NFD", probe.name).upper()
        try:
            return not (self.folder / other).exists()
        finally:
            probe.unlink()

    def path(self, name: str) -> Path:
        """Where a member goes; raises ``UnsafeName``."""
        relative = name.removesuffix("/")
        check_path(relative)
        return Path(f"{self.folder}/{relative}")

    def make_folder(self, path: Path) -> None:
        """One of the archive's folders, and those above it. No link is taken for a folder."""
        if str(path) in self._parents or path == self.folder:
            return
        self.make_folder(path.parent)
        try:
            path.mkdir()
        except FileExistsError:
            if path.is_symlink() or not path.is_dir():
                raise
        if len(self._parents) > _PARENTS_KEPT:
            self._parents.clear()
        self._parents.add(str(path))
        self._unsafe |= {str(path), str(path.parent)}

    def open(self, path: Path, *, keep: int = 0) -> BinaryIO:
        """Open a member's file for writing, behind its first ``keep`` bytes."""
        descriptor = self._open(str(path), 0 if keep else os.O_TRUNC)
        file = os.fdopen(descriptor, "wb", buffering=0)
        if keep:
            file.truncate(keep)
            file.seek(keep)
        return file

    def create(self, name: str) -> int:
        """Open a new file for the member of this name; returns its descriptor. Raises
        ``UnsafeName``."""
        check_path(name)
        return self._open(f"{self.folder}/{name}", os.O_TRUNC)

    def _open(self, path: str, flags: int) -> int:
        folder, _, _ = path.rpartition(os.sep)
        if folder not in self._parents:
            self.make_folder(Path(folder))
        descriptor = os.open(path, flags | _NEW, 0o666)
        self._unsafe.add(path)
        self._unsafe.add(folder)
        return descriptor

    def written(self, path: Path) -> None:
        """Somebody else has written this file, or made this folder."""
        self._unsafe |= {str(path), str(path.parent)}

    def sync(self) -> None:
        """Make what was written safe on disk, names as well."""
        self.make_safe(self.take_unsafe())

    def take_unsafe(self) -> set[str]:
        """What was written and is to be made safe: the caller's business from now on."""
        paths, self._unsafe = self._unsafe, set()
        return paths

    def make_safe(self, paths: set[str]) -> None:
        """The same, of these; it may be called in another thread."""
        if len(paths) >= _MANY and _sync_disk(self.folder):
            return
        for path in sorted(paths):
            with contextlib.suppress(FileNotFoundError):
                _sync(Path(path))

    def publish(self) -> None:
        """Give the folder its name. Into one that is there, it is merged file by file: what else is
        in that stays. May be called again after a kill; raises ``OSError``."""
        try:
            self._publish()
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            where = error.filename2 or error.filename or self.target
            raise Unusable(
                f"{where} is in the way of a file or folder ({error.strerror}): move it away",
                "place_taken",
            ) from None

    def _publish(self) -> None:
        self.forget_if_empty()
        if self.folder.is_dir():
            if os.path.lexists(self.target) and not self.target.is_dir():
                raise FileExistsError(errno.EEXIST, "not a folder", str(self.target))
            if not self._rename():
                self._merge()
                remove_tree(self.folder)
        self.archive.unlink(missing_ok=True)
        _sync(self.target.parent)

    def _rename(self) -> bool:
        """Give the folder its name; False where one of that name has files in it."""
        if os.path.lexists(self.target):
            return False
        try:
            self.folder.rename(self.target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # another crawl was quicker
                raise
            return False
        return True

    def _merge(self) -> None:
        for root, folders, files in os.walk(self.folder):
            place = self.target / Path(root).relative_to(self.folder)
            for name in folders:
                if (place / name).is_symlink():  # nothing is written through a link
                    raise FileExistsError(errno.EEXIST, "a link", str(place / name))
                (place / name).mkdir(exist_ok=True)
            for name in files:
                Path(root, name).replace(place / name)
            _sync(place)

    def leftovers(self) -> list[Path]:
        """What other jobs, or runs without a job, have left beside the target."""
        if not self.target.parent.is_dir():
            return []
        pattern = re.compile(
            rf"\.{re.escape(_head(self.target.name))}\.[0-9a-f]{{8}}"
            r"(\.archive|\.scratch)?\.incomplete"
        )
        own = {self.folder.name, self.archive.name, self.scratch.name}
        return [
            each
            for each in self.target.parent.iterdir()
            if pattern.fullmatch(each.name) and each.name not in own
        ]

    def forget_if_empty(self) -> None:
        """Leave no folder behind in which there is nothing."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def has(self, name: str, size: int, sha256: bytes) -> bool:
        """Is a member that was written before still there? A kill while the folder got its name
        may have left it at its place already: then its checksum tells."""
        path = self.path(name)
        place = self.target / path.relative_to(self.folder)
        if name.endswith("/"):
            return any(each.is_dir() and not each.is_symlink() for each in (path, place))
        if path.is_file() and not path.is_symlink():
            return path.stat().st_size == size
        if not place.is_file() or place.stat().st_size != size:
            return False
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest() == sha256

    def all_there(self, notes: Notes) -> bool:
        """Is all that an earlier run has noted there, and as large as it was? What is not is to be
        had again."""
        after, whole = 0, True
        while rows := notes.stored(after, BATCH):
            missing = [r.number for r in rows if not self.has(r.name, r.size, r.sha256 or b"")]
            if missing:
                notes.missing(missing)
                whole = False
            after = rows[-1].number + 1
        return whole

    def kept(self, row: MemberRow) -> int:
        """How many bytes of a member that is not compressed an earlier run has left, if it is worth
        another request to go on behind them."""
        path = self.path(row.name)
        if row.method != STORED or row.size < _WORTH_KEEPING:
            return 0
        if path.is_symlink() or not path.is_file():
            return 0
        size = min(path.stat().st_size, row.size, row.packed)
        return size if size >= _WORTH_KEEPING else 0

    def read_kept(self, row: MemberRow, kept: int) -> Iterator[bytes]:
        """These bytes; fewer if the file has become shorter."""
        try:
            with self.path(row.name).open("rb") as file:
                while kept > 0 and (data := file.read(min(PIECE, kept))):
                    kept -= len(data)
                    yield data
        except OSError as error:
            raise unwritable(error) from None

    def receiver(self, notes: Notes, guard: DiskGuard, meter: Meter) -> Files:
        """What writes members into it."""
        return Files(self, notes, guard, meter)

    def remove(self, deadline: float | None = None) -> bool:
        """Forget everything that was collected; False if that is not done by ``deadline``
        (``time.monotonic``)."""
        self._unsafe.clear()
        self._parents.clear()
        for folder in (self.folder, self.scratch):
            with contextlib.suppress(OSError):
                remove_tree(folder, deadline)
        self.archive.unlink(missing_ok=True)
        return not (self.folder.exists() or self.scratch.exists())


_PARENTS_KEPT = 10_000
#: To make a file, or to write to one that is there; nothing is written through a link.
_NEW = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
#: What is said where something else is in the way, or the folder is on another disk.
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EXDEV, errno.ELOOP}


def _head(name: str) -> str:
    """What the names of the folders beside it begin with; no other target has the same."""
    if len(name.encode()) <= _REPEATED:
        return name
    return f"{name[: _REPEATED // 4]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _syncfs() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None


_SYNCFS = _syncfs()


def _sync_disk(folder: Path) -> bool:
    """Make the whole disk safe by one call, where the system has it (syncfs(2), Linux)."""
    if _SYNCFS is None:
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return _SYNCFS(descriptor) == 0
    finally:
        os.close(descriptor)


def remove_tree(root: Path, deadline: float | None = None) -> None:
    """Remove a folder and all that is in it, however deep: ``shutil.rmtree`` of Python 3.11 fails
    at about a thousand folders in each other. Raises ``OSError``; after ``deadline``
    (``time.monotonic``) ``TimeoutError``, which is one."""
    if root.is_symlink():
        root.unlink()
        return
    folders, left = [], [str(root)]
    while left:
        folders.append(folder := left.pop())
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                else:
                    Path(entry.path).unlink()
                    if deadline is not None and time.monotonic() > deadline:
                        raise TimeoutError
    for folder in reversed(folders):
        Path(folder).rmdir()
