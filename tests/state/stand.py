"""A scheduler that is driven by hand: the engine is a stand-in, time stands still, feeds and store
are real."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from scrapy import Request, Spider, signals
from scrapy.core.engine import ExecutionEngine
from scrapy.exceptions import CloseSpider, DropItem
from scrapy.http import Response, TextResponse
from scrapy.utils.defer import ensure_awaitable
from scrapy.utils.test import get_crawler
from twisted.python.failure import Failure

from kagglecrawl import settings as project
from kagglecrawl.state import closing, commits, holds
from kagglecrawl.state import scheduler as module
from kagglecrawl.state.accounts import Accounts
from kagglecrawl.state.job import Job
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.store import State
from tests.state.helpers import Item

START = 1_800_000_000.0
HEAD = "https://h/"


@dataclass(eq=False)
class Timer:
    """What ``call_later`` gives back."""

    when: float
    call: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Clock:
    """A clock that stands still, and the timers that were set on it."""

    now: float = START
    timers: list[Timer] = field(default_factory=list)
    #: The one that is installed.
    present: ClassVar[Clock]

    def call_later(self, delay: float, function: Callable[..., object], *args: Any) -> Timer:
        assert delay >= 0
        timer = Timer(self.now + delay, lambda: function(*args))
        self.timers.append(timer)
        return timer

    def pending(self) -> list[float]:
        """When timers fire, in seconds from the start."""
        return sorted(each.when - START for each in self.timers if not each.cancelled)

    def advance(self, seconds: float) -> None:
        """Let time pass, and fire the timers that fall due."""
        self.now += seconds
        due = [each for each in self.timers if each.when <= self.now]
        self.timers = [each for each in self.timers if each.when > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.call()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be the time of ``state/``."""
        Clock.present = self
        for each in (module, holds):
            monkeypatch.setattr(each, "time", SimpleNamespace(time=lambda: self.now))
        for each in (closing, holds, commits):
            monkeypatch.setattr(each, "call_later", self.call_later)


class Slot:
    """The engine's: requests under way, and how often it was woken."""

    def __init__(self) -> None:
        self.inprogress: set[Request] = set()
        self.woken = 0
        self.closed = False
        self.scheduler: KaggleScheduler | None = None
        self.nextcall = SimpleNamespace(schedule=self._schedule)

    def _schedule(self) -> None:
        self.woken += 1

    def remove_request(self, request: Request) -> None:
        self.inprogress.remove(request)

    async def close(self) -> None:
        self.closed = True


class Engine:
    """What the scheduler needs of one."""

    def __init__(self) -> None:
        self._slot: Slot | None = Slot()
        self.downloader = SimpleNamespace(slots={})
        self.closed_because: list[str] = []
        #: False from Ctrl-C or SIGTERM on.
        self.running = True
        #: False: stopped from outside, as by Ctrl-C.
        self.running = False

    @property
    def scheduler(self) -> KaggleScheduler | None:
        return self._slot.scheduler if self._slot else None

    @property
    def woken(self) -> int:
        return self._slot.woken if self._slot else 0

    async def close_spider_async(self, *, reason: str) -> None:
        self.closed_because.append(reason)


class Things(Spider):
    """Its methods are what requests name; a test says what they do."""

    keeps_accounts = True
    name = "things"
    page_folder: Path | None = None
    accounts: Accounts
    stopped_because = ""

    def __init__(self, *, sample: int | None = None, **given: Any) -> None:
        super().__init__()
        self.sample = sample
        self.given = {name: f"{value}" for name, value in given.items()}
        #: What each request comes to, by the end of its address.
        self.outputs: dict[str, Callable[[Response], Any]] = {}
        self.errors: dict[str, Callable[[Failure], Any]] = {}

    def page_row(self, item: Item) -> str:
        return f"row of {item.key}"

    def parse(self, response: Response, **_: Any) -> Any:
        call = self.outputs.get(response.url.removeprefix(HEAD))
        return call(response) if call else None

    def failed(self, failure: Failure) -> Any:
        request: Request = failure.request  # type: ignore[attr-defined]
        call = self.errors.get(request.url.removeprefix(HEAD))
        return call(failure) if call else None


def ask(name: str, *, family: str = "api", key: str = "", **given: Any) -> Request:
    """A request that can be told apart."""
    meta = {**given.pop("meta", {}), **({"family": family} if family else {})}
    return Request(f"{HEAD}{name}", meta={**meta, **({"key": key} if key else {})}, **given)


def name_of(request: Request) -> str:
    return request.url.removeprefix(HEAD)


class Stand:
    """One run of a crawl."""

    def __init__(
        self,
        folder: Path,
        *,
        job: bool = True,
        spider: type[Spider] = Things,
        arguments: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.feed = folder / "rows.csv"
        chosen = {
            "LOGSTATS_INTERVAL": 0,
            "FEED_EXPORTERS": project.FEED_EXPORTERS,
            "KAGGLE_API_URL": "https://api.kaggle.com",
            "KAGGLE_MAX_ATTEMPTS": 8,
            "KAGGLE_MAX_WAIT": 900,
            "KAGGLE_RETRY_BASE": 0.5,
            "KAGGLE_MIN_USABILITY": 0.8,
            "WORKSPACE": str(folder / "workspace"),
            "FEEDS": {str(self.feed): {"format": "csv", "item_export_kwargs": {}}},
            "FEED_EXPORT_FIELDS": ["key", "value"],
            "JOBDIR": str(folder / "job") if job else None,
            **settings,
        }
        self.crawler = get_crawler(spider, chosen)
        self.crawler.spider = spider.from_crawler(self.crawler, **(arguments or {}))
        self.spider = cast(Things, self.crawler.spider)
        self.engine = Engine()
        self.crawler.engine = cast(ExecutionEngine, self.engine)
        self.scheduler = KaggleScheduler.from_crawler(self.crawler)
        self.slot = cast(Slot, self.engine._slot)
        self.slot.scheduler = self.scheduler
        #: Pipelines: an item, and whether it passes.
        self.pipeline: Callable[[Any], None] = lambda item: None
        self.scheduler.open(self.spider)

    # -- what the engine does ---------------------------------------------------------------------

    def push(self, *requests: Request) -> list[bool]:
        return [self.scheduler.enqueue_request(request) for request in requests]

    def pull(self, most: int = 10**6) -> list[Request]:
        """What may be sent now."""
        found: list[Request] = []
        while len(found) < most and (request := self.scheduler.next_request()) is not None:
            self.slot.inprogress.add(request)
            found.append(request)
        return found

    def names(self, most: int = 10**6) -> list[str]:
        return [name_of(request) for request in self.pull(most)]

    def answer(self, request: Request, text: str = "") -> None:
        """Its answer has come: callback, pipelines, and it is over."""
        assert request.callback is not None
        response = TextResponse(request.url, body=text.encode(), request=request)
        self._through(request, response, request.callback)

    def fail(self, request: Request, error: Exception) -> None:
        """No answer came."""
        assert request.errback is not None
        failure = Failure(error)  # type: ignore[no-untyped-call]
        failure.request = request  # type: ignore[attr-defined]
        self._through(request, failure, request.errback)

    def instead(self, request: Request, other: Request) -> bool:
        """A downloader middleware has returned another request."""
        taken = self.scheduler.enqueue_request(other)
        self.over(request)
        return taken

    def over(self, request: Request) -> None:
        """The engine is through with it."""
        self.slot.remove_request(request)

    def _through(self, request: Request, given: Any, call: Callable[..., Any]) -> None:
        async def through() -> None:
            await self._scrape(given, call, request.cb_kwargs)
            self.over(request)

        asyncio.run(through())

    async def _scrape(self, given: Any, call: Callable[..., Any], kwargs: dict[str, Any]) -> None:
        try:
            output = call(given) if isinstance(given, Failure) else call(given, **kwargs)
            if hasattr(output, "__await__"):
                output = await output
            async for value in _each(output):
                self._process(value, given)
        except CloseSpider:
            pass  # Scrapy closes the spider, and tells nobody
        except Exception as error:
            if not isinstance(given, Failure) or error is not given.value:
                failure = Failure(error)  # type: ignore[no-untyped-call]
                self._send(signals.spider_error, failure=failure, response=given)

    def _process(self, value: Any, given: Any) -> None:
        if isinstance(value, Request):
            self.scheduler.enqueue_request(value)
            return
        try:
            self.pipeline(value)
        except DropItem as drop:
            self._send(signals.item_dropped, item=value, response=given, exception=drop)
        except Exception as error:
            failure = Failure(error)  # type: ignore[no-untyped-call]
            self._send(signals.item_error, item=value, response=given, failure=failure)
        else:
            self._send(signals.item_scraped, item=value, response=given)

    def _send(self, signal: object, **given: Any) -> None:
        results = self.crawler.signals.send_catch_log(signal, spider=self.spider, **given)
        assert not [value for _, value in results if isinstance(value, Failure)]

    def looped(self, work: Callable[[], object]) -> None:
        """Do it in an event loop, which closing the spider needs."""

        async def done() -> None:
            work()
            await asyncio.sleep(0)

        asyncio.run(done())

    # -- how it ends ------------------------------------------------------------------------------

    def commit(self) -> None:
        self.scheduler._commits.now()

    def begin_closing(self, *, interrupted: bool = True) -> None:
        """Ctrl-C: the engine closes its slot, and then waits for what is under way."""
        self.engine.running = not interrupted
        closing = self.slot.close()
        with contextlib.suppress(StopIteration):
            closing.send(None)

    def close(self, reason: str = "finished") -> None:
        async def closed() -> None:
            deferred = self.scheduler.close(reason)
            if deferred is not None:
                await ensure_awaitable(deferred)

        asyncio.run(closed())

    def kill(self) -> None:
        """The process is gone: what it had not committed did not happen."""
        job = cast(Job, self.scheduler._job)
        job.store.close()
        os.close(job._lock)
        Clock.present.timers.clear()

    # -- what came of it --------------------------------------------------------------------------

    @property
    def accounts(self) -> Accounts:
        return self.scheduler.accounts

    def four(self) -> tuple[int, ...]:
        """Stored, skipped, failed, pending."""
        return tuple(
            self.accounts.count(each) for each in ("stored", "skipped", "failed", "pending")
        )

    def rows(self) -> list[str]:
        """The keys in the feed."""
        lines = self.feed.read_text().splitlines() if self.feed.exists() else []
        assert not lines or lines[0] == "key,value"
        return [line.split(",")[0] for line in lines[1:]]

    def stat(self, name: str) -> Any:
        assert self.crawler.stats is not None
        return self.crawler.stats.get_value(name, 0)


async def _each(output: Any) -> AsyncIterator[Any]:
    if hasattr(output, "__aiter__"):
        async for value in output:
            yield value
    else:
        for value in cast(Iterator[Any], output or ()):
            yield value


def run(stand: Stand, *requests: Request) -> list[str]:
    """Make these requests and all that comes of them; the names, in order."""
    stand.push(*requests)
    made = []
    while found := stand.pull(1):
        made.append(name_of(found[0]))
        stand.answer(found[0])
        assert len(made) < 100, "it never ends"
    assert not stand.slot.inprogress
    assert not stand.scheduler.has_pending_requests(), "the crawl would never end"
    return made


def state_of_request(stand: Stand, request: Request) -> State:
    assert stand.crawler.request_fingerprinter is not None
    found = stand.scheduler._store.find(stand.crawler.request_fingerprinter.fingerprint(request))
    assert found is not None
    return found[1]
