"""``scrapy …`` in a process that kills itself: ``python -m tests.killing.victim crawl datasets …``.

``KILL_AT=feed write:2`` is the second pass of that point (points.py); without it, the process ends
as any other. ``COMMIT_EVERY`` is how many seconds lie between two commits, if not as many as the
project has. The points are wrapped around the project's own methods, which know nothing of them.
"""

from __future__ import annotations

import functools
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from scrapy import cmdline

from kagglecrawl.pipelines import markdown
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.state import commits, database, job, pages, scheduler
from kagglecrawl.state.database import FILE, Database
from kagglecrawl.state.feeds import Feeds, file, places
from kagglecrawl.state.ledger import Ledger
from kagglecrawl.state.queue import Queue
from kagglecrawl.state.store import Store

_point, _, _passes = os.environ.get("KILL_AT", "").partition(":")
_left = int(_passes or 0)
#: A full file of a feed is being copied to its place.
_placing = False


def _due(point: str) -> bool:
    """Is this pass of the point the one to die at?"""
    global _left
    if not point or point != _point:
        return False
    _left -= 1
    return _left == 0


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _pass(point: str) -> None:
    if _due(point):
        _die()


class _Os:
    """``os``, some of whose functions kill the process half-way; everything else as it is."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class _OsOfFeeds(_Os):
    def write(self, descriptor: int, data: memoryview) -> int:
        if _due("place half" if _placing else "feed write"):
            os.write(descriptor, data[: len(data) // 2])
            _die()
        return os.write(descriptor, data)


class _OsOfPages(_Os):
    def fsync(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        is_file = stat.S_ISREG(found.st_mode)
        if is_file and _due("page half"):
            os.ftruncate(descriptor, found.st_size // 2)
            _die()
        os.fsync(descriptor)
        if is_file:
            _pass("page whole")


class _OsOfDatabase(_Os):
    def close(self, descriptor: int) -> None:
        os.close(descriptor)
        _pass("job half")


def _around(owner: type | ModuleType, name: str, *, before: str = "", after: str = "") -> None:
    """Let a call of a function or method pass these points."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def passed(*args: Any, **kwargs: Any) -> Any:
        _pass(before)
        result = original(*args, **kwargs)
        _pass(after)
        return result

    setattr(owner, name, passed)


def _around_callbacks() -> None:
    listed, fetched = KaggleSpider.listed, KaggleSpider.fetched

    @functools.wraps(listed)
    def listing(self: KaggleSpider, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for value in listed(self, *args, **kwargs):
            yield value
            _pass("listing")

    @functools.wraps(fetched)
    def fetching(self: KaggleSpider, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for value in fetched(self, *args, **kwargs):
            _pass("fetched")
            yield value
            _pass("fetched")

    KaggleSpider.listed = listing  # type: ignore[method-assign]
    KaggleSpider.fetched = fetching  # type: ignore[method-assign]


def _around_waits() -> None:
    put_back, commit = Queue.put_back, Database.commit

    @functools.wraps(put_back)
    def putting_back(
        self: Queue, number: int, family: str, priority: int, data: str, due: float
    ) -> None:
        put_back(self, number, family, priority, data, due)
        if due:
            _pass("retry")

    @functools.wraps(commit)
    def committing(self: Database) -> None:
        commit(self)
        if isinstance(self, Store) and self.next_due() is not None:
            _pass("waiting")

    Queue.put_back = putting_back  # type: ignore[method-assign]
    Database.commit = committing  # type: ignore[method-assign]


def _around_jobs() -> None:
    replace, close = Path.replace, Feeds.close

    @functools.wraps(replace)
    def replacing(self: Path, target: Any) -> Path:
        if self.name == f"{FILE}.incomplete":
            _pass("job whole")
        return replace(self, target)

    @functools.wraps(close)
    async def closing(self: Feeds, *, finished: bool) -> bool:
        stored = await close(self, finished=finished)
        _pass("stored")
        return stored

    Path.replace = replacing  # type: ignore[assignment, method-assign]
    Feeds.close = closing  # type: ignore[method-assign]


def _around_places() -> None:
    copy = places.copy_to_place  # type: ignore[attr-defined]

    @functools.wraps(copy)
    def copying(*args: Any, **kwargs: Any) -> None:
        global _placing
        _placing = True
        copy(*args, **kwargs)
        _placing = False
        _pass("placed")

    places.copy_to_place = copying  # type: ignore[attr-defined]


def _arm() -> None:
    _around_callbacks()
    _around_waits()
    _around_jobs()
    _around_places()
    for module, its_os in (
        (file, _OsOfFeeds),
        (pages, _OsOfPages),
        (database, _OsOfDatabase),
    ):
        assert module.os is os, f"{module} does its work elsewhere now"
        module.os = its_os()  # type: ignore[attr-defined]
    _around(markdown, "to_markdown", after="pipeline")
    _around(Feeds, "flush", after="flushed")
    _around(Feeds, "committed", before="committed")
    _around(pages.PageFiles, "write", after="page renamed")
    _around(job, "_begin", before="job named", after="job begun")
    _around(Feeds, "open", before="reopened", after="feeds open")
    _around(Ledger, "apply", before="ledger untold", after="ledger told")
    _around(Ledger, "walked", after="list noted")
    _around(scheduler.KaggleScheduler, "hold", after="held")
    _around(scheduler, "begin_run", after="run begun")
    _around(job.Job, "leave", before="closed")


if __name__ == "__main__":
    commits.EVERY = float(os.environ.get("COMMIT_EVERY", commits.EVERY))
    _arm()
    cmdline.execute(["scrapy", *sys.argv[1:]])
