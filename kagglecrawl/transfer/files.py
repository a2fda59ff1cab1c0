"""Members of an archive on their way to disk."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import COLLISION, Meter
from kagglecrawl.transfer.disk import DiskGuard, unwritable
from kagglecrawl.transfer.members import BadMember, shown
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.proof import Proof
from kagglecrawl.transfer.receiver import Receipts, Receiver

if TYPE_CHECKING:
    from kagglecrawl.transfer.staging import Staging

#: Bytes after which the disk is looked at again.
_LOOK_EVERY = 16 << 20
#: What a disk says of a name that is in the way, or that it cannot have.
_TAKEN = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
_UNNAMEABLE = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


class Files(Receiver):
    """Writes members into a staging folder, and notes them with the job when they are safe."""

    def __init__(self, staging: Staging, notes: Notes, guard: DiskGuard, meter: Meter) -> None:
        super().__init__(notes, guard, meter)
        self._staging = staging
        self._since_look = 0

    def reserve(self, size: int) -> None:
        """Room on the disk."""
        self._guard.reserve(self._notes.key, size)

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

    @contextmanager
    def writing(
        self, row: MemberRow, proof: Proof, kept: int = 0
    ) -> Iterator[Callable[[bytes], None]]:
        """Into its file, which another run goes on with if this one does not come to its end."""
        file = self.open(self._staging.path(row.name), keep=kept)
        try:
            yield partial(self.write, file)
        finally:
            self.close(file)
        self.done(row.number, proof.size, proof.sha256)

    def folder(self, name: str) -> None:
        """One of the archive's folders."""
        self.make_folder(self._staging.path(name))

    def had(self, name: str) -> None:
        """The disk knows."""

    def discard(self, name: str) -> None:
        """Remove its file."""
        with contextlib.suppress(OSError):  # it may never have been made
            self._staging.path(name).unlink()

    def open(self, path: Path, *, keep: int = 0) -> BinaryIO:
        """A file for a member; raises ``BadMember`` where its place is taken."""
        try:
            return self._staging.open(path, keep=keep)
        except OSError as error:
            raise _of_member(path, error) from None

    def make_folder(self, path: Path) -> None:
        """One of the archive's folders; raises ``BadMember`` where its place is taken."""
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

    def close(self, file: BinaryIO) -> None:
        """The member is whole, or will be written again."""
        try:
            file.close()
        except OSError as error:
            raise unwritable(error) from None

    def _wrote(self, count: int) -> None:
        self._meter.written += count
        self._bytes += count
        self._guard.spend(self._notes.key, count)
        self._since_look += count
        if self._since_look >= _LOOK_EVERY:
            self._guard.check()
            self._since_look = 0

    def _make_safe(self) -> Future[Receipts]:
        make_safe = partial(self._staging.make_safe, self._staging.take_unsafe())
        return _in_thread(make_safe, f"sync of {self._notes.key}")


def _in_thread(work: Callable[[], None], name: str) -> Future[Receipts]:
    """Not in a pool's: for those Python waits at its end, however long the disk takes."""
    ended: Future[Receipts] = Future()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result({})

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


def _of_member(path: Path, error: OSError) -> Exception:
    """Is it this file's name that the disk will not have, or will it have none?"""
    if error.errno in _TAKEN:
        return BadMember(COLLISION, "another file or folder has its place")
    if error.errno in _UNNAMEABLE:
        return BadMember(
            "unsafe_path", f"the disk has no such name as {shown(path.name)} ({error.strerror})"
        )
    return unwritable(error)
