"""The scheduler: every request is leased, and done only when all that came of it is safe.

A request that is handed out is a lease (leases.py). When the engine says that it is over, its lease
is acknowledged: if its callback came to its end, and every item passed its pipelines or was dropped
with a reason, its rows go to the feeds, its children into the queue, its resources get their
verdicts, and it is done, all in one transaction (commits.py). If not, it has failed, with its
reason, and nothing of it counts. What a killed process had not committed did not happen, and the
next run does it.

``meta["not_before"]`` (seconds since the epoch) keeps one request back; ``hold(family, until)``
keeps back every request of that family, as a Retry-After asks. Waiting here costs no download slot,
and the engine is woken when the next one falls due. Without JOBDIR all of it runs in memory.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from scrapy import Request, Spider, signals
from scrapy.core.scheduler import BaseScheduler
from scrapy.crawler import Crawler
from scrapy.exceptions import CloseSpider
from scrapy.utils.defer import deferred_from_coro
from twisted.internet.defer import Deferred

from kagglecrawl.kaggle.auth import CredentialsError
from kagglecrawl.state import codec, internals
from kagglecrawl.state.accounts import BEYOND_SAMPLE, Accounts, begin_run
from kagglecrawl.state.closing import Closing
from kagglecrawl.state.commits import Commits, unwritable
from kagglecrawl.state.desk import Desk
from kagglecrawl.state.feeds import FeedRefused, Feeds
from kagglecrawl.state.holds import LISTINGS, Holds
from kagglecrawl.state.job import Identity, Job, JobRefused
from kagglecrawl.state.leases import (
    Lease,
    Witness,
    hand_out,
    lease_of,
    parent_of,
    unwrap,
)
from kagglecrawl.state.ledger import LedgerRefused
from kagglecrawl.state.outbox import Outbox
from kagglecrawl.state.pages import pages_of, shape_of
from kagglecrawl.state.plan import Planned
from kagglecrawl.state.queue import Queue
from kagglecrawl.state.quotas import QuotasRefused
from kagglecrawl.state.store import Row, Store, Verdict
from kagglecrawl.state.transfers import Transfers

logger = logging.getLogger(__name__)

#: Why a job, or what it needs, is not taken.
_REFUSED = (JobRefused, FeedRefused, QuotasRefused, LedgerRefused, CredentialsError)
#: What the retries of a request have counted; a new run begins anew.
_COUNTED_PER_RUN = ("attempt", "alike", "waits", "waited")


class KaggleScheduler(BaseScheduler):
    """The project's scheduler, for every spider."""

    accounts: Accounts
    holds: Holds
    feeds: Feeds
    transfers: Transfers

    def __init__(self, crawler: Crawler) -> None:
        assert crawler.stats is not None
        self.crawler = crawler
        self._stats = crawler.stats
        self._leases: dict[int, Lease] = {}
        #: Of a crawl without JOBDIR: requests that have no JSON (`scrapy shell` makes such).
        self._kept: dict[str, Request] = {}
        self._job: Job | None = None
        self._opened = self._closing = False
        #: Requests of start() so far.
        self._started = 0
        #: Is the sum of the accounts right, and are feeds and pages at their places, at the end?
        self.balanced = self.stored = True

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy builds it."""
        return cls(crawler)

    # -- what Scrapy calls ------------------------------------------------------------------------

    def open(self, spider: Spider) -> None:
        """Take the job; where it cannot be gone on with, the spider is closed again."""
        self._spider = spider
        # A spider of ours says what its requests are for; what others have in meta is their own.
        self._ours = bool(getattr(spider, "keeps_accounts", False))
        try:
            self._open(spider)
        except (*_REFUSED, sqlite3.Error, OSError) as error:
            self._refuse(str(error))
            return
        assert self.crawler.engine is not None
        internals.watch(self.crawler.engine, self._ended, self._on_closing)
        Witness(self.crawler, self._of_no_request)

    def has_pending_requests(self) -> bool:
        """Is there anything to do, now or later?"""
        if not self._opened or self._commits.broken:
            return False
        if self._leases:
            return True
        if not self._queue.any():
            return False
        if self.accounts.sated():
            self._drop_the_rest(BEYOND_SAMPLE)
        elif self._queue.next_due() is None and (why := self._plan.over(self._queue.families())):
            self._drop_the_rest(why)
        return self._queue.any()

    def enqueue_request(self, request: Request) -> bool:
        """Keep a request; False if it is known. What a callback yields is kept with its lease."""
        kept = False
        if self._opened and not self._commits.broken:
            with self._writing():
                kept = self._keep(request)
        return kept

    def next_request(self) -> Request | None:
        """The next request that may be sent now, leased."""
        if not self._opened or self._closing or self._commits.broken:
            return None
        with self._writing():
            while True:
                begun = not self.accounts.room()
                waiting, under_way = self._queue.families(), self._leases.values()
                held = self._plan.held(self.holds.with_full(under_way), waiting, under_way)
                row = self._queue.pop(time.time(), held, only_begun=begun, admit=self.holds.admit)
                if row is None and waiting != self._queue.families():
                    continue  # the plan was asked about a family that had nothing
                if row is None:
                    break
                if (request := self._lease(row)) is not None:
                    return request
            self.holds.wake_when_due(self._queue.families(), self._queue.next_due())
            self._close_if_spent(only_begun=begun)
        return None

    def close(self, reason: str) -> Deferred[None] | None:
        """Commit what is done; the rest stays for the next run."""
        if not self._opened:
            return None
        return deferred_from_coro(self._close(reason))

    # -- what others of ours call -----------------------------------------------------------------

    def hold(self, family: str, until: float) -> None:
        """Hand out nothing of this quota family before ``until`` (seconds since the epoch)."""
        with self._writing():
            self.holds.hold(family, until)
            self._commits.now()  # a kill must not shorten it

    def about_to_send(self, request: Request) -> None:
        """A request goes out now. Raises ``Held`` if it must not, as the last one to ask."""
        with self._writing():
            self.holds.check(request)
            if (lease := lease_of(request)) is not None:
                self.holds.sent(lease)
                self._plan.sent(lease)

    # -- opening and closing ----------------------------------------------------------------------

    def _open(self, spider: Spider) -> None:
        folder = Path(self.crawler.settings["JOBDIR"]) if self.crawler.settings["JOBDIR"] else None
        if folder is not None:
            given = getattr(spider, "given", {})
            self._job = Job.take(folder, Identity.of(spider.name, given, self.crawler.settings))
        store = self._store = self._job.store if self._job else Store.in_memory()
        pages = pages_of(spider)
        page_row = getattr(spider, "page_row", None) if pages else None
        outbox = Outbox.of_spider(spider, store, self._stats) if self._ours else None
        kept = getattr(spider, "kept", None) if outbox else None
        sample = getattr(spider, "sample", None)
        size = shape_of(spider).rows
        name = getattr(spider, "resource", spider.name)
        self.accounts = Accounts(store, name, page_row, sample, kept, size)
        self.holds = Holds(self.crawler, store, getattr(spider, "config", None))
        self.feeds = Feeds.from_crawler(self.crawler, store, folder)
        self.feeds.open()
        if outbox is not None:  # what a killed run has left; the spider may look at once
            outbox.deliver(written=not self.feeds.delayed)
        self._run = begin_run(store, self.accounts)
        self._commits = Commits(
            store, self.feeds, self.accounts, pages, outbox, self._stats, self._stop_crawl, folder
        )
        self.transfers = Transfers(store, self._writing, self._commits.soon, self._commits.now)
        self._desk = Desk(store, self.accounts, self.feeds, self._stats, ours=self._ours)
        self._commits.pages_again()
        self._commits.show()
        self._queue = Queue(store, self._run)
        spider.accounts = self.accounts  # type: ignore[attr-defined]
        plan = getattr(spider, "plan", None) if self._ours else None
        commit = self._commits.now if self._job else lambda: None
        self._plan = Planned(plan, self.accounts, commit)
        self._ending = Closing(self.crawler, self._leases, self.accounts, self._commits.now)
        self._opened = True

    def _refuse(self, why: str) -> None:
        if self._job is not None:
            self._job.leave()
        self.accounts = Accounts(Store.in_memory(), self._spider.name)
        self._spider.accounts = self.accounts  # type: ignore[attr-defined]
        self._stop(why)
        # Not raised here: Scrapy would leave its scraper half open, and say so with a traceback.
        self.crawler.signals.connect(_close_again, signals.spider_opened)

    def _on_closing(self) -> None:
        """Nothing more is handed out, and what is under way has a moment to come to its end."""
        self._closing = True
        if self._leases or self._commits.broken:
            self._ending.begin()

    async def _close(self, reason: str) -> None:
        self._ending.end()
        self.holds.close()
        finished, lacking = reason == "finished" and not self._commits.broken, ""
        with self._writing():
            if finished and not self._queue.any():
                self.accounts.close_open(Verdict.FAILED, "nothing_came_of_it")
            self._commits.now()
            finished = finished and not self._commits.broken
            lacking = await self._commits.close(finished=finished)
            if not self._commits.broken:
                self._store.put("clean", "1")
                self._store.put("run_ended", str(time.time()))
                self._store.put("reason", lacking or reason)
                self._store.commit()
        self.stored = not (lacking or self._commits.broken)
        self.balanced = self.accounts.balanced()
        self.accounts.close()
        self._commits.show()
        self._opened = False
        if self._job is not None:
            self._job.leave()

    # -- requests ---------------------------------------------------------------------------------

    def _is_open(self, lease: Lease) -> bool:
        return self._leases.get(lease.number) is lease

    def _keep(self, request: Request) -> bool:
        lease, parent = lease_of(request), parent_of(request)
        if lease is not None and not lease.called and self._is_open(lease):
            self._plan.failed(lease)
            self._put_back(lease, request)  # a middleware's: a retry, a redirect
            return True
        if lease is not None:
            request = lease.without_passing(unwrap(request.copy()))  # it goes on with its own
        if lease is not None or parent is not None:
            request.meta.pop("is_start_request", None)  # a copy of one is none
        if parent is not None and self._is_open(parent):
            parent.children.append(request)
            return True
        return self._push(request)

    def _push(self, request: Request) -> bool:
        due = _due(request)
        try:
            data = self._encode(request)
        except codec.NotSerializable as error:
            logger.error("A request cannot be kept in JOBDIR, so it is not made: %s", error)
            self._stats.inc_value("scheduler/unserializable")
            self.accounts.broken(self._of(request)[1], "not_serializable")
            return False
        family, key = self._of(request)
        fingerprint = self._fingerprint(request)
        new = self._queue.push(fingerprint, family, request.priority, key, data, due)
        if not new:
            self._kept.pop(data, None)
        self._stats.inc_value("scheduler/enqueued" if new else "dupefilter/filtered")
        self._commits.soon()
        return new

    def _of(self, request: Request) -> tuple[str, str | None]:
        """The quota family that it counts in, and the resource that it is for."""
        if not self._ours:
            return "", None  # somebody else's words in meta
        return request.meta.get("family", ""), request.meta.get("key")

    def _fingerprint(self, request: Request) -> bytes | None:
        """None for a request that is made however often it is asked for."""
        assert self.crawler.request_fingerprinter is not None
        if request.meta.pop("anew", False):
            return None  # also where an earlier run has made it
        from_start = self._job is not None and request.meta.get("is_start_request")
        if from_start and self._ours and "key" not in request.meta:
            # A list's first request depends on what is known of Kaggle, which may have changed.
            self._started += 1
            return b"start %d" % self._started
        if request.dont_filter and not from_start:
            return None
        return self.crawler.request_fingerprinter.fingerprint(request)

    def _put_back(self, lease: Lease, request: Request) -> None:
        """The lease's request is to be made again, perhaps changed."""
        due = _due(request := lease.without_passing(unwrap(request)))
        self.holds.over(lease)
        try:
            data = self._encode(request)
        except codec.NotSerializable as error:
            logger.error("A request cannot be kept in JOBDIR, so it is given up: %s", error)
            lease.fail("not_serializable")
            return
        del self._leases[lease.number]
        family = self._of(request)[0]
        self._queue.put_back(lease.number, family, request.priority, data, due)
        self._commits.soon()

    def _encode(self, request: Request) -> str:
        try:
            return codec.encode(request, self._spider)
        except codec.NotSerializable:
            if self._job is not None:
                raise
            self._kept[name := f"kept {id(request)}"] = request
            return name

    def _lease(self, row: Row) -> Request | None:
        try:
            request = self._kept.pop(row.data, None) or codec.decode(row.data, self._spider)
        except (ValueError, TypeError) as error:
            logger.error("A request of the job cannot be made: %s", error)
            self._store.fail(row.id, "unreadable_request")
            self.accounts.broken(row.key, "unreadable_request")
            return None
        if row.run != self._run:
            for name in _COUNTED_PER_RUN:
                request.meta.pop(name, None)
        family = self._of(request)[0]
        request = self._plan.prepare(request)
        lease = self._leases[row.id] = Lease(row.id, request, row.key, family)
        lease.since = time.time()
        if row.key is not None and family != LISTINGS:  # which finds what a sample is of
            self.accounts.begin(row.key)
        self._stats.inc_value("scheduler/dequeued")
        return hand_out(lease, internals.default_callback(self._spider))

    def _drop_the_rest(self, reason: str) -> None:
        """There is all that was wanted, or that may be asked for."""
        with self._writing():
            self.accounts.close_open(Verdict.SKIPPED, reason)
            self._queue.drop()
            self._commits.soon()

    # -- verdicts ---------------------------------------------------------------------------------

    def _ended(self, request: Request) -> None:
        """The engine is through with a request, its callback and its items."""
        lease = lease_of(request)
        at_it = self._opened and not self._commits.broken
        if lease is not None and self._is_open(lease) and at_it:
            with self._writing():
                try:
                    self._acknowledge(lease)
                    self._plan.done(lease)
                except sqlite3.Error:
                    raise
                except Exception as error:
                    # Half of it may have been done: nothing may count that is not whole.
                    logger.exception("Failed %s", lease.key or lease.request)
                    self._give_up(f"What came of a request cannot be kept ({error!r})")

    def _acknowledge(self, lease: Lease) -> None:
        if lease.instead is not None and not lease.error:
            self._put_back(lease, lease.instead)
            return
        if lease.error or lease.passing:
            self._plan.failed(lease)
        self.holds.over(lease)
        del self._leases[lease.number]
        for child in self._desk.acknowledge(lease):
            if not self._push(child):
                self.crawler.signals.send_catch_log(
                    signals.request_dropped, request=child, spider=self._spider
                )
        self._commits.soon()

    def _of_no_request(self, item: Any) -> None:
        """An item that no callback has yielded; from start(), say."""
        with self._writing():
            self._desk.take_in(item)
            self._commits.soon()

    # -- when it cannot go on ---------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._give_up(unwritable(error, self._job.folder if self._job else None))
        except QuotasRefused as error:
            self._give_up(str(error))

    def _give_up(self, why: str) -> None:
        self._leases.clear()
        self._queue.clear()
        self._commits.give_up(why)

    def _stop_crawl(self, why: str, reason: str = "kaggle_failed") -> None:
        assert self.crawler.engine is not None
        self._stop(why)
        deferred_from_coro(self.crawler.engine.close_spider_async(reason=reason))

    def _close_if_spent(self, *, only_begun: bool) -> None:
        """Where nothing may be sent for longer than KAGGLE_MAX_WAIT, the crawl ends."""
        if self._leases or self._closing or not self._plan.ready():
            return
        families = self._queue.begun_families() if only_begun else self._queue.families()
        families = set(self._plan.free(families, self.holds.with_full(())))
        if why := self.holds.too_long(families, self._queue.next_due()):
            self._closing = True
            self._stop_crawl(why, "kaggle_quota")

    def _stop(self, why: str) -> None:
        """Say why it ends, once; the report and the command repeat it where it is seen."""
        why = why[:1].upper() + why[1:]
        if hasattr(self._spider, "stopped_because"):
            self._spider.stopped_because = self._spider.stopped_because or why
        else:
            logger.error("%s", why)


def _due(request: Request) -> float:
    """When the request may be made, 0 for now; the scheduler remembers it from here on."""
    due = float(request.meta.pop("not_before", 0.0))
    return due if due > time.time() else 0.0


def _close_again() -> None:
    raise CloseSpider("kaggle_job")
