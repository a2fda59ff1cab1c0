"""The disk of the workspace, and what has to stay free on it (``WORKSPACE_MIN_FREE``)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from kagglecrawl.kaggle.errors import NoSpace, Unusable
from kagglecrawl.units import amount

T = TypeVar("T")
#: What a full disk says, or one on which this user may not have more.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def all_there(folder: Path, files: Iterable[tuple[str, int]], count: int) -> bool:
    """Are these files (path below the folder, size in bytes) so many, and at their places?"""
    try:
        sizes = [(folder / name).stat().st_size == size for name, size in files]
    except (OSError, ValueError):
        return False
    return all(sizes) and len(sizes) == count


async def aside(work: Callable[[], T]) -> T:
    """Do this in a thread of its own, for which nobody waits when the process ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def end(set_it: Callable[[Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(lambda: None if done.done() else set_it(value))

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            end(done.set_exception, error)
        else:
            end(done.set_result, result)

    threading.Thread(target=run, name="looking at files", daemon=True).start()
    return await done


class DiskGuard:
    """Sees that a workspace's disk does not become full. Used by several threads."""

    def __init__(self, workspace: Path, min_free: int) -> None:
        self._workspace = workspace
        self._min_free = min_free
        self._reserved: dict[str, int] = {}
        self._lock = threading.Lock()

    def reserve(self, key: str, size: int) -> None:
        """This transfer will write so many bytes more; raises ``NoSpace`` if there is no room."""
        with self._lock:
            others = sum(self._reserved.values()) - self._reserved.get(key, 0)
            free = self._free()
            if size + self._min_free > self._total():
                raise Unusable(
                    f"its files need {amount(size)}, more than the disk of WORKSPACE has",
                    "too_large",
                )
            if size and free - others - size < self._min_free:
                raise NoSpace(
                    f"the files of {key} need {amount(size)} more, and {amount(free)} are free at "
                    f"WORKSPACE, of which {amount(self._min_free)} are to stay free "
                    f"(WORKSPACE_MIN_FREE){_of_others(others)}: make room, or begin another "
                    "crawl that leaves it out (max_size, max_bytes)"
                )
            self._reserved[key] = size

    def spend(self, key: str, size: int) -> None:
        """So many of those bytes are written, or never will be."""
        with self._lock:
            if key in self._reserved:
                self._reserved[key] = max(0, self._reserved[key] - size)

    def release(self, key: str) -> None:
        """This transfer writes no more."""
        with self._lock:
            self._reserved.pop(key, None)

    def check(self, size: int = 0) -> None:
        """Raise ``NoSpace`` if so many bytes more would leave too little."""
        free = self._free()
        if free - size < self._min_free:
            raise NoSpace(
                f"{amount(free)} are free at WORKSPACE, and {amount(self._min_free)} are to stay "
                "free (WORKSPACE_MIN_FREE): make room"
            )

    def _free(self) -> int:
        return shutil.disk_usage(self._place()).free

    def _total(self) -> int:
        return shutil.disk_usage(self._place()).total

    def _place(self) -> Path:
        """The workspace, or where it will be."""
        folder = self._workspace
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return folder


def unwritable(error: OSError) -> NoSpace:
    """What a failed write to the workspace means: it would fail for every file alike."""
    what = "is full" if error.errno in _FULL else "cannot be written"
    where = f" at {error.filename}" if error.filename else ""
    return NoSpace(f"the disk of WORKSPACE {what} ({error.strerror}{where}): mend that")


def _of_others(size: int) -> str:
    return f"; {amount(size)} are for transfers under way" if size else ""
