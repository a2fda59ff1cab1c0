"""The moments at which what was done becomes safe.

In this order, so that a kill in between is made good when the job is opened again: feeds are
flushed (a tail that no commit knows of is cut off), the store is committed, page files are written
(a whole page without its file gets it), the ledger is told (what it was not told is still noted).
Page files that take long are put beside the crawl (page_queue.py), which waits for them at its end.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from scrapy.statscollectors import StatsCollector
from scrapy.utils.asyncio import CallLaterResult, call_later

from kagglecrawl.kaggle.errors import StopCrawl
from kagglecrawl.kaggle.paging import PAGE_ROWS
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.accounts import BEYOND_SAMPLE, Accounts
from kagglecrawl.state.feeds import Feeds
from kagglecrawl.state.ledger import LedgerFull, LedgerRefused
from kagglecrawl.state.outbox import Outbox
from kagglecrawl.state.page_queue import PageQueue
from kagglecrawl.state.pages import Pages
from kagglecrawl.state.store import Store, Verdict

logger = logging.getLogger(__name__)

#: Seconds between two commits, while there is something to commit.
EVERY = 0.25
#: The name under which the job notes that it has written a page file.
_OURS = "pages_written"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_MEND = "so the crawl stops; what was stored is kept: mend that, then run it again"


class Commits:
    """Flushes, commits and writes pages, a few times a second while anything changes.

    ``stop`` is called with a sentence and Scrapy's finish reason when that has become impossible;
    nothing is done after it. ``folder`` is that of the job.
    """

    def __init__(
        self,
        store: Store,
        feeds: Feeds,
        accounts: Accounts,
        pages: Pages | None,
        outbox: Outbox | None,
        stats: StatsCollector,
        stop: Callable[[str, str], None],
        folder: Path | None = None,
    ) -> None:
        self._store = store
        self._feeds = feeds
        self._accounts = accounts
        self._pages = pages
        self._outbox = outbox
        self._folder = folder
        self._stats = stats
        self._stop = stop
        #: Of pages that are put beside the crawl.
        self._queue: PageQueue | None = None
        if pages is not None and pages.aside:
            self._queue = PageQueue(
                pages,
                self._page,
                lambda: accounts.touched,
                self._page_written,
                self._pages_found,
                self._page_broken,
                folder,
            )
        self._timer: CallLaterResult | None = None
        #: Is it known which pages are there? Of a list that is one file: was that left as it was?
        self._seen = self._kept_file = False
        #: Of this run's stats, what the store has counted already.
        self._counted: dict[str, int] = {}
        self.broken = self._closing = False

    def soon(self) -> None:
        """Something has changed."""
        if self._timer is None and not (self.broken or self._closing):
            self._timer = call_later(EVERY, self.now)

    def now(self) -> None:
        """Make everything safe that was acknowledged."""
        self.cancel()
        if self.broken:
            return
        try:
            self._feeds.flush()
            self._count_requests()
            self._store.commit()
        except OSError as error:
            self.give_up(f"A feed cannot be written ({_said(error)})")
            return
        except sqlite3.Error as error:
            self.give_up(unwritable(error, self._folder))
            return
        try:
            self._feeds.committed()
            self._write_pages()
            written = not self._feeds.delayed
            if self._outbox is not None and not self._outbox.deliver(written=written):
                self.soon()  # another process has it
        except (OSError, sqlite3.Error, LedgerRefused) as error:
            self._break_of_a_file(error)
        self.show()

    def give_up(self, why: str) -> None:
        """Nothing can be made safe any more: go back to what is, and stop."""
        if self.broken:
            return
        self._break(why)
        with contextlib.suppress(OSError, sqlite3.Error):
            self._feeds.rollback()
        with contextlib.suppress(sqlite3.Error):
            self._store.rollback()
        self.show()

    def cancel(self) -> None:
        """No commit but one that is asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self, *, finished: bool) -> str:
        """The last of this run, with which the job is ``finished`` or not: feeds and pages get to
        their places, and the ledger is told. Returns in a word what could not be stored, or
        nothing."""
        self._closing = True
        stored = await self._feeds.close(finished=finished)
        missing = 0
        if self._queue is not None and not self.broken:
            missing = await self._queue.close(finished=finished)
            self._stats.set_value("kaggle/pages_missing", missing)
        if self._outbox is not None and not self.broken:
            await self._tell(self._outbox, finished=finished, stored=stored)
        if finished and self._kept_file:
            self._stats.set_value("kaggle/pages_kept", 1)
            logger.warning(
                "The file of the whole list is left as an earlier crawl has made it, since that is "
                "larger, and %d of its rows could not be had this time",
                self._accounts.lacking(),
            )
        if not stored:
            return "feeds_not_stored"
        return "pages_not_stored" if missing and finished else ""

    async def _tell(self, outbox: Outbox, *, finished: bool, stored: bool) -> None:
        """The last that the ledger is told."""
        try:
            whole, delayed = self._accounts.walked_whole(), self._feeds.delayed
            written = stored and not self._feeds.unstored
            await outbox.close(finished=finished, whole=whole, delayed=delayed, written=written)
        except (OSError, sqlite3.Error, LedgerRefused) as error:
            self._break_of_a_file(error)

    def pages_again(self) -> None:
        """Write the whole pages whose file is not there."""
        if self._pages is None:
            return
        self._accounts.touched |= {page for page, written in self._store.pages() if not written}
        if self._queue is None:
            self._pages_found(self._pages.present())
        else:
            self._queue.look()
            self._write_pages()

    def show(self) -> None:
        """Put the job's counts into the stats."""
        head = f"kaggle/{self._accounts.resource}"
        for name in ("discovered", *Verdict, "seen_again", "lists_failed"):
            value = self._accounts.count(name)
            if value or name in tuple(Verdict):
                self._stats.set_value(f"{head}/{name}", value)
        for verdict in (Verdict.SKIPPED, Verdict.FAILED):
            for reason, value in self._accounts.reasons(verdict).items():
                self._stats.set_value(f"{head}/{verdict}/{reason}", value)

    def _break_of_a_file(self, error: Exception) -> None:
        """All is committed: the next run writes it again."""
        full = isinstance(error, LedgerFull) or getattr(error, "errno", 0) in _NO_ROOM
        reason = "kaggle_no_space" if full else "kaggle_failed"
        self._break(f"A file of the crawl's cannot be written ({_said(error)})", reason)

    def _break(self, why: str, reason: str = "kaggle_failed") -> None:
        self.broken = True
        self.cancel()
        if self._queue is not None:
            self._queue.end()
        self._stop(f"{why}, {_MEND}", reason)

    # -- pages ------------------------------------------------------------------------------------

    def _write_pages(self) -> None:
        touched, self._accounts.touched = self._accounts.touched, set()
        if self._pages is None:
            return
        for page in sorted(touched):
            whole = self._store.page_is_whole(page, self._accounts.page_size, (BEYOND_SAMPLE,))
            whole = whole and not self._would_be_less(page)
            if self._queue is not None:
                self._queue.changed(page, whole=whole)
            elif whole:
                self._pages.write(page, self._page(page))
                self._page_written(page)

    def _would_be_less(self, page: int) -> bool:
        """Is there a larger file of the whole list, of another crawl, and was not all of it had
        now? Then that stays. One of a list that was not seen whole is none."""
        if self._accounts.page_size == PAGE_ROWS:
            return False
        self._kept_file = False
        if self._accounts.count("lists_failed"):
            return True
        if self._store.get(_OURS):
            return False
        assert self._pages is not None
        if not self._accounts.lacking():
            return False
        if not self._seen:  # it is looked at again when that is known
            self._accounts.touched.add(page)
            return True
        self._kept_file = self._pages.size(page) > self._store.page_bytes(page)
        return self._kept_file

    def _page(self, number: int) -> Iterator[bytes]:
        return (f"{row}\n".encode() for row in self._store.page_rows(number))

    def _page_written(self, number: int) -> None:
        if not self.broken:
            self._store.page_written(number)
            self._store.put(_OURS, "1")
            self._stats.inc_value("kaggle/pages_written")
            self.soon()

    def _pages_found(self, present: set[int]) -> None:
        """So many are there; whoever is not is written."""
        self._seen = True
        lost = {page for page, written in self._store.pages() if written and page not in present}
        self._accounts.touched |= lost
        if self._queue is None or self._closing:
            self._write_pages()
        else:
            self.soon()  # others may have changed, and are not committed

    def _page_broken(self, error: Exception) -> None:
        """The store refuses a page, or the job cannot note it."""
        if isinstance(error, StopCrawl):
            self._stop(str(error), error.reason)
        elif isinstance(error, OSError | sqlite3.Error):
            self._break_of_a_file(error)
        else:
            logger.error("A page file failed", exc_info=error)
            self._break(f"A page file cannot be put into the store ({clean(repr(error))})")

    def _count_requests(self) -> None:
        """The store counts over all runs what the stats count of this one."""
        stats = self._stats.get_stats()
        for name, value in stats.items():
            counts = name == "kaggle/requests" or name.startswith("kaggle/retries/")
            if counts and (new := value - self._counted.get(name, 0)):
                self._store.add_count(name.removeprefix("kaggle/"), new)
                self._counted[name] = value


def unwritable(error: sqlite3.Error, folder: Path | None) -> str:
    """Why what is done and pending cannot be kept."""
    if folder is not None:
        return f"The job in JOBDIR cannot be written ({error})"
    return (
        f"What is pending cannot be kept ({error}): it is in a temporary file, in the folder that "
        "SQLITE_TMPDIR or TMPDIR names, or in JOBDIR if you give one"
    )


def _said(error: Exception) -> str:
    """What the system said, and of which file."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
