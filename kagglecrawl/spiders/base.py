"""What every spider of ours does: walk lists, fetch single resources, keep their accounts.

A spider declares its calls with ``rows`` (a list, each row to a method) and ``fetch`` (one
resource). Requests carry only JSON-able values and name their methods, so that the scheduler can
keep them; nothing goes around the scheduler.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.http import Response, TextResponse
from scrapy.settings import BaseSettings
from scrapy.utils.defer import deferred_from_coro
from twisted.python.failure import Failure

from kagglecrawl import findings
from kagglecrawl.arguments import Arguments, PageRange
from kagglecrawl.config import KaggleConfig
from kagglecrawl.items import feed_fields, page_row
from kagglecrawl.kaggle import lenient
from kagglecrawl.kaggle.auth import is_loopback
from kagglecrawl.kaggle.errors import (
    TOO_LARGE,
    Forbidden,
    KaggleError,
    RetryLater,
    SkipResource,
    StopCrawl,
)
from kagglecrawl.kaggle.paging import PAGE_ROWS, Cursor, End, PageShape
from kagglecrawl.kaggle.rpc import TABLE, Rpc
from kagglecrawl.s3.bucket import Bucket
from kagglecrawl.s3.errors import StoreUnreachable
from kagglecrawl.s3.pages import PageObjects
from kagglecrawl.spiders.remembering import (
    CHILD_PRIORITY,
    LEDGER_SLOT,
    NEXT_STEP_PRIORITY,
    Remembering,
)
from kagglecrawl.state import leases
from kagglecrawl.transfer.disk import aside

#: A download may take hours: it has a slot of its own, and says nothing of the API's latency.
_DOWNLOAD_SLOT = "kaggle downloads"
_OF_DOWNLOADS = {
    "download_slot": _DOWNLOAD_SLOT,
    "autothrottle_dont_adjust_delay": True,
    "dont_cache": True,  # its answer is what is on disk now
}

Output = Iterator[Any]


def _is_spared(request: Request, error: BaseException | None) -> bool:
    """Does the ``otherwise`` of a request go on after this error? Not where it may pass."""
    if not request.cb_kwargs.get("otherwise"):
        return False
    if TABLE[request.meta["rpc"]].part:
        return isinstance(error, SkipResource) or getattr(error, "slug", "") == TOO_LARGE
    return isinstance(error, Forbidden)


class KaggleSpider(Remembering):
    """Base of the project's spiders."""

    #: How the rows of its list become page files.
    page_shape: ClassVar[PageShape] = PageShape()
    #: Its requests say in ``meta`` which resource (``key``) and quota ``family`` they are of.
    keeps_accounts: ClassVar[bool] = True
    args_class: ClassVar[type[Arguments]] = Arguments

    config: KaggleConfig
    found: findings.Report
    #: What the ledger and the folder of its output are named after, if not after the spider.
    resource: str

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name)
        self.args = self.args_class.parse(kwargs)
        #: The arguments as they were given; they are part of what makes a job this job.
        self.given: dict[str, str] = self.args_class.settled(kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A spider is named after its resource, unless it says otherwise."""
        super().__init_subclass__(**kwargs)
        if "resource" not in cls.__dict__ and "name" in cls.__dict__:
            cls.resource = cls.name

    @classmethod
    def update_settings(cls, settings: BaseSettings) -> None:
        """Name the feed's fields as the seeds do, and give the rows a place if nobody named one."""
        super().update_settings(settings)
        settings.set("FEED_EXPORT_FIELDS", feed_fields(cls.item_class), priority="spider")
        settings.set("DOWNLOAD_DELAY", 0, priority="spider")  # the scheduler sets the pace
        # AutoThrottle would leave a slot that tells it nothing at the delay that it starts with.
        slot = {
            "delay": settings.getfloat("DOWNLOAD_DELAY"),
            "concurrency": settings.getint("KAGGLE_CONCURRENT_TRANSFERS"),
        }
        own = {"delay": 0, "concurrency": settings.getint("CONCURRENT_REQUESTS")}
        slots = {
            _DOWNLOAD_SLOT: slot,
            LEDGER_SLOT: own,
            **settings.getdict("DOWNLOAD_SLOTS"),
        }
        settings.set("DOWNLOAD_SLOTS", slots, priority="spider")
        if not settings.getdict("FEEDS"):
            # absolute, so that no character of the folder is read as a URI's
            folder = KaggleConfig.from_settings(settings).workspace.absolute() / "output"
            uri = f"{folder}/{cls.resource}/%(name)s_%(time)s.jsonl"
            settings.set("FEEDS", {uri: {"format": "jsonlines"}}, priority="spider")

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        """As Scrapy builds it; wrong arguments and settings raise in one sentence."""
        spider = super().from_crawler(crawler, *args, **kwargs)
        spider.config = KaggleConfig.from_settings(crawler.settings)
        spider.found = findings.load(spider.config)
        return spider

    @classmethod
    def check(cls, args: Arguments, config: KaggleConfig) -> None:
        """Refuse, before anything is begun, what could not be crawled so; raises
        ``SettingError``."""

    # -- what a spider declares -------------------------------------------------------------------

    def rows(
        self,
        call: Rpc,
        each: str,
        *,
        pages: PageRange | None = None,
        paged: bool = False,
        **fields: Any,
    ) -> Request:
        """A request for a whole list; the method named ``each`` gets every row of it once, and the
        row's position in the list, from 0, which is None unless ``paged``: then the list's pages
        become page files."""
        span = pages or PageRange()
        cursor = Cursor.begin(call.best_page_size, self.found.of(call.name), span.first, span.last)
        return self._list_request(call, each, cursor, fields, paged)

    def fetch(
        self,
        call: Rpc,
        then: str,
        key: str,
        row: Any = None,
        *,
        again: bool = False,
        otherwise: str = "",
        sink: dict[str, Any] | None = None,
        priority: int | None = None,
        **fields: Any,
    ) -> Request:
        """A request for one resource; the method named ``then`` gets the reply and ``row``.

        ``again`` lets a request through that was made before. ``otherwise`` names a method that
        gets key, ``row`` and the reason where Kaggle forbids it (of a call that gives a part: where
        it cannot be had for any reason that stays); else the resource is skipped.
        With a ``sink`` the call is a download, and its reply what has come of it
        (transfer/transfers.py).
        """
        lease = leases.current()
        begun = lease is not None and lease.key == key
        usual = NEXT_STEP_PRIORITY if begun else CHILD_PRIORITY
        return self._request(
            call,
            fields,
            callback=self.file_fetched if call.file else self.fetched,
            dont_filter=again,
            priority=usual if priority is None else priority,
            meta={"key": key, **({"sink": sink, **_OF_DOWNLOADS} if sink else {})},
            cb_kwargs={"then": then, "key": key, "row": row, "otherwise": otherwise},
        )

    @property
    def sample(self) -> int | None:
        """How many items are wanted, or None for all."""
        return getattr(self.args, "sample", None)

    @property
    def expected(self) -> int | None:
        """How many resources the arguments name at the most, or None if that is not known."""
        pages: PageRange | None = getattr(self.args, "pages", None)
        if refs := getattr(self.args, "refs", None):
            return len(refs)
        return (pages.last - pages.first + 1) * PAGE_ROWS if pages and pages.last else None

    def progress(self) -> list[str]:
        """How far it is, in words of its own; none: as every crawl says it."""
        return []

    @property
    def bucket(self) -> Bucket | None:
        """The store that files go to, or None; raises what ``open_bucket`` raises."""
        return self.config.bucket()

    async def is_stored(self, path: str, size: int) -> bool:
        """Is a file at this path, below the spider's folder, and has it so many bytes? Raises
        ``StopCrawl`` where the store cannot be asked."""
        place = f"{self.config.output(self.resource)}/{path}"
        bucket, destination = self.bucket, self.config.destination
        if bucket is None or destination is None:
            try:
                return (self.config.workspace / place).stat().st_size == size
            except OSError:
                return False
        try:
            found = await aside(partial(bucket.head, destination.key_of(place)))
        except RetryLater as error:  # true of every object there: the next run looks again
            raise StoreUnreachable(str(error)) from None
        return found is not None and found.size == size

    @property
    def page_place(self) -> str | None:
        """The folder of the page files, below that of the spider's output; None if the crawl walks
        no list that has pages."""
        return None

    @property
    def page_folder(self) -> Path | None:
        """The same in the workspace."""
        place = self.page_place
        output = self.config.workspace.absolute() / "output" / self.resource
        return None if place is None else output / place

    @property
    def page_store(self) -> PageObjects | None:
        """The page files, if they go to a store."""
        destination, place = self.config.destination, self.page_place
        if destination is None or place is None:
            return None
        key = destination.key_of(f"{self.config.output(self.resource)}/{place}".rstrip("/"))
        return PageObjects(self.config.bucket, key, self.page_shape)

    def page_row(self, item: Any) -> str:
        """An item's line of its page file."""
        return json.dumps(page_row(self.item_class, item), ensure_ascii=False)

    # -- callbacks --------------------------------------------------------------------------------

    def listed(
        self,
        response: TextResponse,
        rpc: str,
        each: str,
        cursor: dict[str, Any],
        fields: Any,
        paged: bool,
    ) -> Output:
        """One page of a list: its new rows to ``each``, then the page after it."""
        call, here = TABLE[rpc], Cursor(**cursor)
        reply = response.json()
        found = reply.get(call.rows) or []
        self._count(f"kaggle/lists/{call.method}/rows", len(found))
        fresh = 0
        for position, row in enumerate(found, start=here.start):
            if position < here.first or (here.stop and position >= here.stop):
                fresh += 1  # outside the pages asked for: not looked at, so taken for new
                continue
            place = position if paged else None
            with self.remembering():
                outputs = getattr(self, each)(row if isinstance(row, dict) else {}, place)
            if outputs is None:
                continue
            fresh += 1
            with self.remembering():
                yield from outputs
        after = here.advance(len(found), fresh, lenient.text(reply, "nextPageToken"))
        if paged:
            self._cover(here, after, len(found))
        if isinstance(after, Cursor):
            yield self._list_request(call, each, after, fields, paged)
        else:
            self._ended(call, after)

    def fetched(
        self, response: TextResponse, then: str, key: str, row: Any, otherwise: str = ""
    ) -> Output:
        """One resource's reply, to the method that was named for it."""
        with self.remembering():
            yield from getattr(self, then)(key, row, response.json())

    async def file_fetched(
        self, response: Response, then: str, key: str, row: Any, otherwise: str = ""
    ) -> AsyncIterator[Any]:
        """The same of a call whose answer is a file: the method gets its bytes, and waits."""
        with self.remembering():
            async for output in getattr(self, then)(key, row, response.body):
                yield output

    def failed(self, failure: Failure) -> Output:
        """Every request's errback: give the verdict and go on, or stop."""
        error = failure.value
        request: Request = failure.request  # type: ignore[attr-defined]
        if isinstance(error, StopCrawl):
            instead = self.before_stopping(error, request)
            if instead is not None:
                yield instead
                return
            leases.give_back()
            self.stop(error)
            return
        slug = error.slug if isinstance(error, KaggleError) else leases.reason_of(error)
        key = request.meta.get("key")
        if key is None:
            self._count("kaggle/lists/failed")
            self.logger.error(
                "A page of a list was given up, so what it holds is missing: %s", error
            )
            leases.declare_failed(slug)
            if "cursor" in request.cb_kwargs:
                yield from self._page_after(request.cb_kwargs)
        elif _is_spared(request, error):
            self.logger.info("Not had of %s: %s", key, error)
            otherwise = getattr(self, request.cb_kwargs["otherwise"])
            yield from otherwise(key, request.cb_kwargs["row"], slug)
        elif isinstance(error, SkipResource):
            self.logger.info("Skipped %s: %s", key, error)
            self.accounts.skip(key, slug)
        else:
            self.logger.warning("Failed %s: %s", key, error)
            if "sink" in request.meta:
                self.keep_record(key, request.cb_kwargs["row"])
            leases.declare_failed(slug)

    def before_stopping(self, error: StopCrawl, request: Request) -> Request | None:
        """A request to make in place of one that has failed so, before the crawl ends for it."""
        return None

    def _page_after(self, lost: dict[str, Any]) -> Output:
        """The page after one that could not be had, where it can be asked for by number."""
        after = Cursor(**lost["cursor"]).skip()
        if after is not None:
            call = TABLE[lost["rpc"]]
            yield self._list_request(call, lost["each"], after, lost["fields"], lost["paged"])

    def stop(self, error: StopCrawl) -> None:
        """Close the spider, once. (Scrapy would log a CloseSpider from an errback as an error.)"""
        if not self.stopped_because:
            self.stopped_because = str(error)
            assert self.crawler.engine is not None
            deferred_from_coro(self.crawler.engine.close_spider_async(reason=error.reason))

    # -- behind the scenes ------------------------------------------------------------------------

    def _request(self, call: Rpc, fields: dict[str, Any], **kwargs: Any) -> Request:
        meta = {"family": call.family, **kwargs.pop("meta", {})}
        if is_loopback(call.address(self.config)):
            meta["proxy"] = None  # whatever HTTP_PROXY says
        address = call.address(self.config)
        return call.request(address, fields=fields, meta=meta, errback=self.failed, **kwargs)

    def _list_request(
        self, call: Rpc, each: str, cursor: Cursor, fields: Any, paged: bool
    ) -> Request:
        return self._request(
            call,
            {**fields, **cursor.fields()},
            callback=self.listed,
            # By number, every page is asked for once: one that failed and is asked for again in a
            # later run is followed by pages that are known. By token, the walk ends by itself; the
            # filter would end it unseen where a list goes in circles.
            dont_filter=cursor.mode == "token",
            cb_kwargs={
                "rpc": call.name,
                "each": each,
                "cursor": cursor.to_json(),
                "fields": fields,
                "paged": paged,
            },
        )

    def _cover(self, here: Cursor, after: Cursor | End, rows: int) -> None:
        """Note which rows of the list this reply has covered.

        By number, a page may hold fewer rows than its span: some are filtered after paging. At its
        end, a list covers the rest of its last page.
        """
        lease = leases.current()
        if self.page_shape.whole:
            if after is End.LAST and lease is not None and self.page_place is not None:
                lease.covered = (0, self.page_shape.rows)
            return
        stop = after.start if isinstance(after, Cursor) else here.start + max(rows, here.rows)
        if isinstance(after, End) and after is not End.RANGE:
            stop = -(-(here.start + rows) // PAGE_ROWS) * PAGE_ROWS
        if lease is not None and stop > here.start:
            lease.covered = (here.start, stop)

    def _ended(self, call: Rpc, end: End) -> None:
        self.list_ended(call.method, end)
        if end is End.CAP:
            self.logger.warning(
                "%s ended at row 10,000: that is Kaggle's cap, not the end of the list. "
                "Crawl the rest in slices (search, user, tags, file_type, license, min_size …)",
                call.method,
            )
        elif end is End.CIRCLE:
            self._count("kaggle/lists/failed")
            self.accounts.note("lists_failed")
            self.logger.error("%s gives the same rows again and again: walk ended", call.method)

    def list_ended(self, name: str, end: End) -> None:
        """A list or table is over, for this reason."""
        self.accounts.note(f"ended/{end}")
        self._count(f"kaggle/lists/{name}/ended/{end}")

    def _count(self, stat: str, value: int = 1) -> None:
        assert self.crawler.stats is not None
        self.crawler.stats.inc_value(stat, value)
