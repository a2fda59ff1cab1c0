"""Transfers under way: each runs in a thread of its own, and tells the job what it has got.

A request with ``meta["sink"]`` is the files of one resource. Its sink says where they go and which
of them are wanted, and is all JSON::

    {"folder": "output/datasets/dataset/owner_slug",  below WORKSPACE
     "only": ["*.csv"], "max_bytes": 1000000,         left out: all of them, of any size
     "known": 3}                                      how many files are known to be in it

The answer to its callback is JSON as well: ``{"transfer": {"folder", "files", "bytes", "leftOut":
{reason: count}}}``, and in it ``"listing": [[name, size], …]`` of the archive where that holds
another number of files than was known. Stats: ``kaggle/transfers/…``, bytes under ``received`` and
``written``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import google_crc32c
from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.http import Response, TextResponse

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.auth import is_loopback
from kagglecrawl.kaggle.errors import NoReply, ServerFailed, Unusable
from kagglecrawl.kaggle.names import NameCollision
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.store import TransferRow
from kagglecrawl.state.transfers import Meter, UnderWay
from kagglecrawl.state.transfers import Transfers as Job
from kagglecrawl.transfer.adopt import adopt
from kagglecrawl.transfer.disk import DiskGuard, unwritable
from kagglecrawl.transfer.hosts import check_location
from kagglecrawl.transfer.members import Choice
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.source import Manners, Remote, Stopped
from kagglecrawl.transfer.staging import Staging
from kagglecrawl.transfer.unpack import Unpacking

if TYPE_CHECKING:
    from kagglecrawl.transport.official import OfficialTransport

logger = logging.getLogger(__name__)

T = TypeVar("T")
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
    staging: Staging
    choice: Choice
    notes: Notes
    under_way: UnderWay
    stop: threading.Event = field(default_factory=threading.Event)
    #: Ends what its thread waits for.
    interrupt: Callable[[], None] = lambda: None


class Transfers:
    """Runs transfers for the download handler."""

    def __init__(self, crawler: Crawler, config: KaggleConfig) -> None:
        self._crawler = crawler
        self._config = config
        self._guard = DiskGuard(config.workspace, config.min_free)
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
            response = await post()
            if response.status not in _REDIRECTS:
                return response
            renewal = _Renewal(asyncio.get_running_loop(), partial(self._renewed, post))
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
            unpacking = Unpacking(remote, work.staging, work.choice, work.notes, self._guard)

            def run() -> None:
                try:
                    unpacking.run()
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
                    work_of_thread = partial(
                        adopt, staging, work.choice, work.notes, self._guard, meter
                    )
                    await self._in_thread(work, work_of_thread)
            except BaseException as error:
                staging.remove(time.monotonic() + _LAST_SWEEP)
                if isinstance(error, OSError):
                    raise unwritable(error) from None
                raise
            return response

        return await self._run(request, transfer)

    def close(self) -> None:
        """At the end: without a job, what is not whole is of no use to anybody."""
        if self._crawler.settings.get("JOBDIR"):
            return
        deadline = time.monotonic() + _LAST_SWEEP
        for staging in self._stagings.values():
            if not staging.remove(deadline):
                logger.warning("%s is left, and of no more use: delete it", staging.folder)

    # -- one transfer -----------------------------------------------------------------------------

    async def _run(
        self, request: Request, transfer: Callable[[_Work], Awaitable[Response | None]]
    ) -> Response:
        sink, key = request.meta["sink"], request.meta["key"]
        try:
            row = self._job.begin(key, sink["folder"])
        except NameCollision as error:
            raise Unusable(str(error), "name_collision") from None
        target = self._config.workspace.absolute() / row.folder
        if not (row.finished and (target.is_dir() or not self._job.tally(row.number).files)):
            work = self._work(request, row, target)
            response = await self._watched(work, transfer)
            if response is not None:
                work.staging.forget_if_empty()
                if response.status in _GONE:
                    work.staging.remove()
                    self._job.begin_anew(row.number, "", 0)
                # another's word of a transfer is none
                alike = b'"transfer"' in response.body
                return response.replace(body=b"{}") if alike else response
            self._job.finish(row.number)
        return self._manifest(request, row, sink)

    def _work(self, request: Request, row: TransferRow, target: Path) -> _Work:
        sink = request.meta["sink"]
        staging = self._stagings[row.key] = Staging(target, row.token)
        for path in staging.leftovers():
            logger.warning(
                "%s is another crawl's; if that neither runs nor will be gone on with, delete it",
                path,
            )
        return _Work(
            row.number,
            staging,
            Choice(tuple(sink.get("only") or ()), sink.get("max_bytes"), self._config.max_ratio),
            Notes(self._job, row.number, row.key, _Ask(asyncio.get_running_loop())),
            UnderWay(row.key),
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
        except (NoReply, ServerFailed) as error:
            error.got_on = self._got_on(work.under_way)
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

    def _got_on(self, transfer: UnderWay) -> bool:
        """Has it come further than ever before in this run?"""
        before = self._furthest.get(transfer.key, 0)
        self._furthest[transfer.key] = max(before, transfer.meter.position)
        return transfer.meter.position - before >= _PROGRESS

    async def _in_thread(self, work: _Work, run: Callable[[], None]) -> None:
        """Let the files be unpacked, and get to their place."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        # seen, whoever waits for it: else asyncio would tell of it as of a fault
        ended.add_done_callback(lambda future: future.cancelled() or future.exception())
        threading.Thread(
            target=_until_the_end,
            args=(run, work, loop, ended),
            name=f"transfer of {work.under_way.key}",
            daemon=True,  # one that waits for a dead network holds up nobody
        ).start()
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


class _Renewal:
    """Asks for a new address from a transfer's thread, in the reactor's."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, renew: Callable[[], Awaitable[str]]
    ) -> None:
        self._loop = loop
        self._renew = renew
        self._task: asyncio.Task[Any] | None = None
        self._over = False

    def __call__(self) -> str:
        try:
            return _wait_for(self._loop, self._renewed)
        except CancelledError:
            raise Stopped from None

    async def _renewed(self) -> str:
        if self._over:
            raise Stopped
        self._task = asyncio.current_task()
        return await self._renew()

    def cancel(self) -> None:
        """In the reactor's thread: nobody waits for it any more."""
        self._over = True
        if self._task is not None:
            self._task.cancel()


class _Ask:
    """Runs something in the reactor's thread, for another one, and waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __call__(self, what: Callable[[], T], /) -> T:
        async def asked() -> T:
            return what()

        return _wait_for(self._loop, asked)


def _wait_for(loop: asyncio.AbstractEventLoop, what: Callable[[], Awaitable[T]]) -> T:
    """Run something in the reactor's loop, from a thread, and wait for it."""

    async def awaited() -> T:
        return await what()

    if loop.is_closed():
        raise Stopped
    return asyncio.run_coroutine_threadsafe(awaited(), loop).result()


def _until_the_end(
    run: Callable[[], None],
    work: _Work,
    loop: asyncio.AbstractEventLoop,
    ended: asyncio.Future[None],
) -> None:
    """The thread: unpack, publish, and say how it ended."""
    error: BaseException | None = None
    try:
        run()
        # From here on, what a kill leaves half done is found again by its checksums.
        work.notes.commit()
        work.staging.publish()
    except OSError as failure:
        error = unwritable(failure)
    except BaseException as failure:
        error = failure

    def end() -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(end)
