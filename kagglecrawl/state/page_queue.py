"""Page files that take long to write: each in a thread, while the crawl goes on.

What is put is what was committed: the rows are copied (in memory, or a temporary file where they
are large) before the thread begins, and a page that changes meanwhile is put again. A store that
fails is tried again later, everything else goes on. All methods are called in the reactor's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from kagglecrawl.kaggle.errors import KaggleError, RetryLater, StopCrawl
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.pages import Pages

logger = logging.getLogger(__name__)

#: Pages under way at once, and bytes of them; one is put whatever its size.
AT_ONCE = 4
MOST_BYTES = 16 << 20
#: Bytes of a page that are held in memory; a larger one waits in a file.
IN_MEMORY = 1 << 20
_PIECE = 1 << 20
#: Seconds until a store that failed is tried again: the first time, and at the most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
#: Rounds of failures in a row at the end of a crawl, after which what is left is given up.
LAST_TRIES = 6
#: Seconds that a crawl which is stopped waits for pages.
PATIENCE = 2.0
_LOOK = 0.05
#: In place of a page's number: see which pages are there.
_PRESENT = 0
_SHOWN = 5


class PageQueue:
    """The pages that are to be put, and those that are being put.

    ``content`` gives a page's bytes, ``uncommitted`` is the set of pages that have changed since
    they were last committed. ``written`` is told of each page that is at its place, ``found`` which
    pages are there, ``broken`` of what ends the crawl: ``StopCrawl``, and what those raise.
    """

    def __init__(
        self,
        pages: Pages,
        content: Callable[[int], Iterator[bytes]],
        uncommitted: Callable[[], Collection[int]],
        written: Callable[[int], None],
        found: Callable[[set[int]], None],
        broken: Callable[[Exception], None],
        folder: Path | None,
    ) -> None:
        self._pages = pages
        self._content = content
        self._uncommitted = uncommitted
        self._written = written
        self._found = found
        self._broken = broken
        #: Where large pages wait; None: where the system has temporary files.
        self._folder = None if folder is None else str(folder)
        #: In their order; a page waits once.
        self._waiting: dict[int, None] = {}
        #: Bytes of those under way.
        self._under_way: dict[int, int] = {}
        #: Those of them that have changed since, and whether they are whole now.
        self._changed: dict[int, bool] = {}
        #: Those that the store cannot have.
        self._refused: set[int] = set()
        self._why = ""
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def look(self) -> None:
        """See which pages are there: ``found`` is told."""
        self._waiting[_PRESENT] = None
        self._start()

    def changed(self, number: int, *, whole: bool) -> None:
        """A page has changed, and that is committed."""
        if number in self._under_way:
            self._changed[number] = whole
        elif whole:
            self._refused.discard(number)
            self._waiting[number] = None
            self._start()
        else:
            self._waiting.pop(number, None)

    async def close(self, *, finished: bool) -> int:
        """Put what is left: where the crawl has ``finished``, until it is done or the store fails
        again and again; else for two seconds. How many pages are not at their place then."""
        self._failures = 0
        self._resume()
        limit = math.inf if finished else time.monotonic() + PATIENCE
        while (self._waiting or self._under_way) and not self._ended:
            if self._failures >= LAST_TRIES or time.monotonic() >= limit:
                break
            await asyncio.sleep(_LOOK)
        self.end()
        missing = sorted({*self._waiting, *self._under_way, *self._refused})
        if missing and finished:
            self._say_missing([number for number in missing if number != _PRESENT])
        return len(missing)

    def end(self) -> None:
        """Nothing more is begun, and what is under way counts for nothing."""
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pages.close()

    def _say_missing(self, numbers: list[int]) -> None:
        shown = ", ".join(map(str, numbers[:_SHOWN])) + (" …" if len(numbers) > _SHOWN else "")
        what = f"Page files could not be put into the store ({shown})"
        if not numbers:
            what = "The store could not be asked which page files it has"
        why = f": {self._why}" if self._why else ""
        logger.error("%s%s. Run it again to put them there", what, why)

    # -- one after the other ----------------------------------------------------------------------

    def _start(self) -> None:
        """Begin as many as may be under way."""
        while self._waiting and self._timer is None and not self._ended:
            full = sum(self._under_way.values()) >= MOST_BYTES
            if full or len(self._under_way) >= AT_ONCE:
                break
            number = next(iter(self._waiting))
            if _PRESENT in self._under_way or (number == _PRESENT and self._under_way):
                break  # what it removes is nobody's, if no page is under way
            del self._waiting[number]
            if number not in self._uncommitted():  # else it is named again when it is committed
                self._begin(number)

    def _begin(self, number: int) -> None:
        if number == _PRESENT:
            self._aside(number, self._pages.present)
            return
        file = SpooledTemporaryFile[bytes](IN_MEMORY, dir=self._folder)
        try:
            for piece in self._content(number):
                file.write(piece)  # writelines would hold all of it in memory
            size = file.tell()
            file.seek(0)
        except BaseException:
            file.close()
            raise

        def put() -> None:
            with file:
                self._pages.write(number, iter(partial(file.read, _PIECE), b""))

        self._under_way[number] = size
        self._aside(number, put)

    def _aside(self, number: int, work: Callable[[], Any]) -> None:
        """In a thread for which nobody waits when the process ends."""
        loop = asyncio.get_running_loop()
        self._under_way.setdefault(number, 0)

        def run() -> None:
            result, error = None, None
            try:
                result = work()
            except Exception as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._over, number, result, error)

        threading.Thread(target=run, name=f"page {number}", daemon=True).start()

    def _over(self, number: int, result: Any, error: Exception | None) -> None:
        if self._ended:
            return
        del self._under_way[number]
        whole = self._changed.pop(number, None)
        try:
            if error is not None:
                self._failed(number, error, whole=whole is not False)
            elif number == _PRESENT:
                self._failures = 0
                self._found(result)
            else:
                self._failures = 0
                if whole is None:
                    self._written(number)
                elif whole:
                    self._waiting[number] = None
            self._start()
        except Exception as raised:
            self.end()
            self._broken(raised)

    def _failed(self, number: int, error: Exception, *, whole: bool) -> None:
        self._why = clean(str(error)) or type(error).__name__
        what = f"Page {number}" if number else "The list of the page files"
        if isinstance(error, StopCrawl):
            self._refused.add(number)
            raise error
        if isinstance(error, RetryLater):
            if whole:
                self._waiting[number] = None
            if self._timer is None:  # else another has said it
                wait = min(FIRST_PAUSE * 2.0 ** min(self._failures, 20), LONGEST_PAUSE)
                self._failures += 1
                self._timer = asyncio.get_running_loop().call_later(wait, self._resume)
                logger.info("%s is tried again in %.1f s: %s", what, wait, self._why)
            return
        if not isinstance(error, KaggleError):
            logger.error("%s failed", what, exc_info=error)
        else:
            logger.error("%s cannot be put into the store: %s", what, self._why)
        self._refused.add(number)

    def _resume(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._start()
        except Exception as raised:
            self.end()
            self._broken(raised)
