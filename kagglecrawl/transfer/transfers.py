"""Transfers under way: each runs in a thread of its own, and tells the job what it has got.

A request with ``meta["sink"]`` is the files of one resource. Its sink says where they go and which
of them are wanted, and is all JSON::

    {"folder": "output/datasets/dataset/owner_slug",  below WORKSPACE
     "store": "s3://bucket/key",                      instead, if they go to a store
     "only": ["*.csv"], "max_bytes": 1000000,         left out: all of them, of any size
     "known": 3}                                      how many files are known to be in it

The answer to its callback is JSON as well: ``{"transfer": {"folder", "files", "bytes", "leftOut":
{reason: count}}}``, and in it ``"listing": [[name, size], …]`` of the archive where that holds
another number of files than was known. Stats: ``kaggle/transfers/…``, bytes under ``received`` and
``written``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import google_crc32c
from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.http import Response, TextResponse

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.auth import is_loopback
from kagglecrawl.kaggle.errors import NoReply, RetryLater, ServerFailed, Unusable
from kagglecrawl.kaggle.names import NameCollision
from kagglecrawl.kaggle.rpc import LARGEST_FILE
from kagglecrawl.s3.errors import StoreAway, StoreFailed
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.store import TransferRow
from kagglecrawl.state.transfers import Meter, UnderWay
from kagglecrawl.state.transfers import Transfers as Job
from kagglecrawl.transfer.adopt import adopt
from kagglecrawl.transfer.carry import Stores
from kagglecrawl.transfer.disk import DiskGuard, aside, unwritable
from kagglecrawl.transfer.hosts import check_location
from kagglecrawl.transfer.members import Choice
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.objects import StoreFolder
from kagglecrawl.transfer.place import Place
from kagglecrawl.transfer.source import Manners, Remote
from kagglecrawl.transfer.staging import Staging
from kagglecrawl.transfer.stream import whole
from kagglecrawl.transfer.threads import Ask, Renewal, begin
from kagglecrawl.transfer.unpack import Unpacking

if TYPE_CHECKING:
    from kagglecrawl.transport.official import OfficialTransport

logger = logging.getLogger(__name__)

#: Sends the API call once, and returns its answer whatever its status.
Post = Callable[[], Awaitable[Response]]

#: Seconds that a transfer has to note what it has got when the crawl stops.
_LAST_WORDS = 1.0
#: Seconds that removing what is of no use may take when the crawl ends.
_LAST_SWEEP = 2.0
#: Bytes that a transfer must have come further for its next attempt to be a first one.
_PROGRESS = 1 << 20
_REDIRECTS = range(300, 400)
#: After these, what was fetched before is of no more use: the files are forbidden now, or gone.
_GONE = {403, 404, 410}


class Answered(Exception):
    """The API gave no new address: its answer is for others to judge."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"answer {response.status}")
        self.response = response


@dataclass
class _Work:
    """One transfer: where to, what of it, and how it is followed."""

    number: int
    #: As the job names it: below the workspace, or a URI.
    folder: str
    #: In the workspace.
    staging: Staging
    #: Where they go instead, if there is a store.
    store: StoreFolder | None
    choice: Choice
    notes: Notes
    under_way: UnderWay
    stop: threading.Event
    #: Ends what its thread waits for.
    interrupt: Callable[[], None] = lambda: None

    @property
    def place(self) -> Place:
        """Where they go."""
        return self.store or self.staging

    def publish(self) -> None:
        """All is there: let it count."""
        # From here on, what a kill leaves half done is found again by its checksums.
        self.notes.commit()
        self.place.publish()


class Transfers:
    """Runs transfers for the download handler."""

    def __init__(self, crawler: Crawler, config: KaggleConfig) -> None:
        self._crawler = crawler
        self._config = config
        self._guard = DiskGuard(config.workspace, config.min_free)
        self._stores = Stores(config)
        self._stagings: dict[str, Staging] = {}
        #: How far transfers had come when they broke off, in bytes of the object.
        self._furthest: dict[str, int] = {}
        if google_crc32c.implementation == "python":
            logger.warning(
                "google_crc32c has no compiled part on this system, so downloads are very slow: "
                "install a build of it that has"
            )

    async def run(self, request: Request, post: Post) -> Response:
        """Have the files of a request's resource at their place; the answer is a manifest, or
        whatever else the API answers to ``post``.

        Raises what of ``KaggleError`` the transfer ended with; cancelled, it leaves what it has got
        for another run.
        """

        async def transfer(work: _Work) -> Response | None:
            await self._look_for_store(work)
            response = await post()
            if response.status not in _REDIRECTS:
                return response
            renewal = Renewal(asyncio.get_running_loop(), partial(self._renewed, post))
            remote = Remote(
                self._location(response),
                renewal,
                self._manners(),
                work.stop,
                work.under_way.meter,
            )

            def interrupt() -> None:
                remote.interrupt()
                renewal.cancel()

            work.interrupt = interrupt
            unpacking = Unpacking(remote, work.place, work.choice, work.notes, self._guard)

            def run() -> None:
                try:
                    unpacking.run()
                    work.publish()
                finally:
                    remote.close()

            await self._in_thread(work, run)
            return None

        return await self._run(request, transfer)

    async def run_official(
        self, request: Request, official: OfficialTransport, about_to_send: Callable[[], None]
    ) -> Response:
        """The same, by kagglehub in a child process: it cannot go on where it was."""
        fields = json.loads(request.body)
        ref = f"{fields['ownerSlug']}/{fields['datasetSlug']}"

        async def transfer(work: _Work) -> Response | None:
            await self._look_for_store(work)
            about_to_send()
            staging, meter = work.staging, work.under_way.meter
            await asyncio.to_thread(staging.remove)
            staging.target.parent.mkdir(parents=True, exist_ok=True)

            def told(size: int) -> None:
                meter.received = meter.position = max(size, meter.received)
                self._guard.check()

            try:
                response = await official.download(
                    ref,
                    fields.get("datasetVersionNumber"),
                    staging.folder,
                    staging.scratch,
                    told,
                )
                if response is None:
                    await self._in_thread(work, partial(self._adopt, work))
            except BaseException as error:
                staging.remove(time.monotonic() + _LAST_SWEEP)
                if isinstance(error, OSError):
                    raise unwritable(error) from None
                raise
            return response

        return await self._run(request, transfer)

    async def content(self, request: Request, post: Post) -> Response:
        """A small file, whose bytes are the answer's body: as the API gives it at once, or from
        where it redirects to, proved by the checksum that storage gives.

        Raises what of ``KaggleError`` it ended with; ``Unusable`` for more than 256 MiB.
        """
        response = await post()
        if response.status not in _REDIRECTS:
            return response
        stop = threading.Event()
        renewal = Renewal(asyncio.get_running_loop(), partial(self._renewed, post))
        remote = Remote(self._location(response), renewal, self._manners(), stop)
        body = bytearray()

        def run() -> None:
            try:
                body.extend(whole(remote, LARGEST_FILE, request.meta["rpc"]))
            finally:
                remote.close()

        ended = begin(run, request.meta["rpc"])
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            stop.set()
            remote.interrupt()
            renewal.cancel()
            raise
        except Answered as other:
            return other.response
        return Response(request.url, body=bytes(body), request=request)

    def _adopt(self, work: _Work) -> None:
        """What kagglehub has fetched is in the workspace; to a store it goes from there."""
        adopt(work.staging, work.choice, work.notes, self._guard, work.under_way.meter)
        work.notes.commit()
        work.staging.publish()
        if work.store is not None:
            folder, began = work.staging.target, time.time()
            self._stores.carry(folder, work.store, work.notes, self._guard, work.under_way.meter)
            work.publish()
            self._stores.clear(folder, work.notes, began)

    def close(self) -> None:
        """At the end: without a job, what is not whole is of no use to anybody."""
        self._stores.close()
        if self._crawler.settings.get("JOBDIR"):
            return
        deadline = time.monotonic() + _LAST_SWEEP
        self._stores.abandon(_LAST_SWEEP)
        for staging in self._stagings.values():
            if not staging.remove(deadline):
                logger.warning("%s is left, and of no more use: delete it", staging.folder)

    # -- one transfer -----------------------------------------------------------------------------

    async def _run(
        self, request: Request, transfer: Callable[[_Work], Awaitable[Response | None]]
    ) -> Response:
        sink, key = request.meta["sink"], request.meta["key"]
        try:
            row = self._job.begin(key, sink.get("store") or sink["folder"])
        except NameCollision as error:
            raise Unusable(str(error), "name_collision") from None
        if not (row.finished and self._is_there(row)):
            work = self._work(request, row)
            response = await self._watched(work, transfer)
            if response is not None:
                work.staging.forget_if_empty()
                if response.status in _GONE:
                    await self._remove(work)
                    self._job.begin_anew(row.number, "", 0)
                # another's word of a transfer is none
                alike = b'"transfer"' in response.body
                self._stores.over(row.folder, well=False)
                return response.replace(body=b"{}") if alike else response
            self._stores.over(row.folder, well=True)
            self._job.finish(row.number)
        return self._manifest(request, row, sink)

    async def _remove(self, work: _Work) -> None:
        """What was fetched is of no more use; where a store cannot do that now, it stays there."""
        work.stop.clear()  # nobody else waits for it any more
        try:
            await aside(work.place.remove)
        except RetryLater as error:
            logger.warning("What was put of %s stays: %s", work.under_way.key, error)

    def _is_there(self, row: TransferRow) -> bool:
        """Is what has got to its place still there? A store is asked by `scrapy verify`."""
        in_store = self._config.destination is not None
        place = self._config.workspace / row.folder
        return in_store or place.is_dir() or not self._job.tally(row.number).files

    def _work(self, request: Request, row: TransferRow) -> _Work:
        sink, stop = request.meta["sink"], threading.Event()
        target = self._config.workspace.absolute() / sink["folder"]
        staging = self._stagings[row.key] = Staging(target, row.token)
        notes = Notes(self._job, row.number, row.key, Ask(asyncio.get_running_loop()))
        for path in staging.leftovers():
            logger.warning(
                "%s is another crawl's; if that neither runs nor will be gone on with, delete it",
                path,
            )
        return _Work(
            row.number,
            row.folder,
            staging,
            self._stores.folder(row.folder, notes, staging.archive, stop),
            Choice(tuple(sink.get("only") or ()), sink.get("max_bytes"), self._config.max_ratio),
            notes,
            UnderWay(row.key),
            stop,
        )

    async def _watched(
        self, work: _Work, transfer: Callable[[_Work], Awaitable[Response | None]]
    ) -> Response | None:
        key = work.under_way.key
        self._job.under_way[key] = work.under_way
        try:
            self._guard.check()
            response = await transfer(work)
        except Answered as other:
            response = other.response
        except StoreAway as error:
            raise self._stores.reach.away(error) from None
        except (NoReply, ServerFailed, StoreFailed) as error:
            error.got_on = self._got_on(work.under_way)
            if isinstance(error, StoreFailed):
                raise self._stores.reach.failed(key, error) from None
            raise
        except BaseException:
            work.staging.forget_if_empty()
            raise
        finally:
            work.stop.set()
            self._guard.release(key)
            self._count(self._job.under_way.pop(key).meter)
        if response is None:
            del self._stagings[key]
        return response

    async def _look_for_store(self, work: _Work) -> None:
        if work.store is not None:
            await aside(partial(self._stores.look, work.folder, work.store))

    def _got_on(self, transfer: UnderWay) -> bool:
        """Has it come further than ever before in this run?"""
        before = self._furthest.get(transfer.key, 0)
        self._furthest[transfer.key] = max(before, transfer.meter.position)
        return transfer.meter.position - before >= _PROGRESS

    async def _in_thread(self, work: _Work, run: Callable[[], None]) -> None:
        """Let the files be unpacked, and get to their place."""
        ended = begin(run, f"transfer of {work.under_way.key}")
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            work.stop.set()
            work.interrupt()
            await asyncio.wait([ended], timeout=_LAST_WORDS)
            if ended.done() and ended.exception() is None:
                self._job.finish(work.number)
            raise

    def _location(self, response: Response) -> str:
        location = (response.headers.get("Location") or b"").decode("latin-1")
        return self._follow(location, self._config.api_url)

    def _follow(self, location: str, base: str) -> str:
        return check_location(location, base, self._config.api_url, self._config.storage_hosts)

    async def _renewed(self, post: Post) -> str:
        """A new address for an object whose old one has expired."""
        response = await post()
        if response.status not in _REDIRECTS:
            raise Answered(response)
        return self._location(response)

    def _manners(self) -> Manners:
        return Manners(
            follow=self._follow,
            stall=self._config.stall_timeout,
            retry_base=self._config.retry_base,
            user_agent=str(self._crawler.settings.get("USER_AGENT")),
            direct=is_loopback(self._config.api_url),
        )

    @property
    def _job(self) -> Job:
        scheduler = self._crawler.engine.scheduler if self._crawler.engine else None
        assert isinstance(scheduler, KaggleScheduler)
        return scheduler.transfers

    # -- what is told -----------------------------------------------------------------------------

    def _manifest(self, request: Request, transfer: TransferRow, sink: dict[str, Any]) -> Response:
        tally = self._job.tally(transfer.number)
        manifest: dict[str, Any] = {
            "folder": transfer.folder if tally.files else "",
            "files": tally.files,
            "bytes": tally.size,
            "leftOut": tally.left_out,
        }
        if self._job.count(transfer.number) != sink.get("known"):
            manifest["listing"] = self._job.every(transfer.number)
        body = json.dumps({"transfer": manifest}).encode()
        headers = {"Content-Type": "application/json"}
        return TextResponse(request.url, body=body, headers=headers, encoding="utf-8")

    def _count(self, meter: Meter) -> None:
        stats = self._crawler.stats
        assert stats is not None
        stats.inc_value("kaggle/transfers/received", meter.received)
        stats.inc_value("kaggle/transfers/written", meter.written)
        stats.inc_value("kaggle/transfers/files", meter.files)
        for reason, count in meter.again.items():
            stats.inc_value(f"kaggle/transfers/again/{reason}", count)
        for name, count in self._stores.counts().items():
            stats.set_value(f"kaggle/s3/{name}", count)
