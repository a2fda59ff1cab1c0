"""A request that was handed out, what comes of it, and when that counts.

The callback and errback of a leased request are wrapped. While they run, ``current()`` is the
lease; what they yield is tied to it; and that they came to their end is noted here. Nothing
counts before the lease is acknowledged: then all of it does, or none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import CloseSpider
from scrapy.http import Response
from scrapy.utils.misc import arg_to_iter
from scrapy.utils.python import global_object_name
from twisted.python.failure import Failure

from kagglecrawl.kaggle.errors import KaggleError, StopCrawl
from kagglecrawl.state.gather_store import Gathered
from kagglecrawl.state.store import Verdict


class Interrupted(Exception):
    """The crawl ends, so this request was given up; the next run makes it."""


#: What the downloader and its middlewares put into ``meta``; the next time it may be another.
_PASSING = ("download_latency", "download_slot", "proxy", "_auth_proxy")
_END = object()
_TAG = "kagglecrawl_lease"
_current: ContextVar[Lease | None] = ContextVar("kagglecrawl_lease", default=None)


@dataclass
class Settled:
    """What a callback says of a resource."""

    key: str
    verdict: Verdict
    reason: str


@dataclass
class Found:
    """A resource that a callback has discovered, and its row of the list, from 0."""

    key: str
    position: int | None


@dataclass(eq=False)
class Lease:
    """A request on its way, and what has come of it so far."""

    number: int
    request: Request
    #: The resource that it is for, if it is for one.
    key: str | None
    #: The quota family that it counts in.
    family: str = ""
    #: What its ``meta`` held when it was handed out; the rest is the downloader's.
    own_meta: frozenset[str] = frozenset()
    #: The callback or errback has been called, and has come to its end.
    called: bool = False
    ended: bool = False
    #: When it was handed out (seconds since the epoch), and has it gone out to Kaggle?
    since: float = 0.0
    sent: bool = False
    #: Why it has failed, a word; its rows and children do not count then, unless ``declared``.
    error: str = ""
    #: The spider itself said that it failed: what it yielded instead counts.
    declared: bool = False
    #: Its request failed in a way that passes, whatever the spider makes of it.
    passing: bool = False
    #: The request to be made instead of this one (a retry), or this one again.
    instead: Request | None = None
    children: list[Request] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    found: dict[str, Found] = field(default_factory=dict)
    settled: dict[str, Settled] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    #: Version and checksum of resources, as a list has them.
    described: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: Records, as JSON, of resources of which the rest could not be had.
    records: dict[str, str] = field(default_factory=dict)
    #: Resources whose items are what the ledger has already.
    unchanged: set[str] = field(default_factory=set)
    #: Resources that it has found, and that have a place in the sample.
    reserved: list[str] = field(default_factory=list)
    #: Why an item without a key of its own was dropped.
    dropped: str = ""
    #: Rows of a list that this reply has covered: from, and up to.
    covered: tuple[int, int] | None = None
    #: What it has to say of what the job gathers (gather.py).
    gathered: Gathered | None = None

    def keyed_items(self) -> list[tuple[str | None, Any]]:
        """Its items, each with the key of the resource that it is of. A pipeline may have made
        something without a key of the one for which the request was."""
        keys = [own_key(item) for item in self.items]
        if self.key not in keys and None in keys:
            keys[keys.index(None)] = self.key
        return list(zip(keys, self.items, strict=True))

    def without_passing(self, request: Request) -> Request:
        """A request that was this lease's, without what the downloader has put on it."""
        for name in _PASSING:
            if name not in self.own_meta:
                request.meta.pop(name, None)
        return request

    def fail(self, reason: str) -> None:
        """The first reason is the one that is kept."""
        if not self.error:
            self.error = reason


def own_key(item: Any) -> str | None:
    """What an item says of which resource it is."""
    key = getattr(item, "key", None)
    return key if isinstance(key, str) else None


def current() -> Lease | None:
    """The lease whose callback is running now."""
    return _current.get()


def give_back() -> None:
    """The request whose errback is running is to be made again by the next run."""
    if (lease := current()) is not None:
        lease.instead = lease.request


def declare_failed(reason: str) -> None:
    """The request whose errback is running has failed, for this reason, a word; what the errback
    yields counts."""
    if (lease := current()) is not None:
        lease.error, lease.declared = reason, True


def note_passing() -> None:
    """The request whose errback is running failed in a way that passes: no plan counts it."""
    if (lease := current()) is not None:
        lease.passing = True


def hand_out(lease: Lease, default: Callable[..., Any]) -> Request:
    """Wrap the callbacks of the lease's request; ``default`` is called where it has none."""
    request = lease.request
    lease.own_meta = frozenset(request.meta)
    request.callback = _Wrapped(lease, request.callback, request.callback or default)
    request.errback = _Wrapped(lease, request.errback, request.errback or _raise)
    return request


def lease_of(request: Request | None) -> Lease | None:
    """The lease that a request, or a copy that a middleware made of it, was handed out with."""
    wrapped = getattr(request, "callback", None)
    return wrapped.lease if isinstance(wrapped, _Wrapped) else None


def parent_of(request: Request) -> Lease | None:
    """The lease whose callback has yielded this request; it is told once."""
    parent = request.meta.pop(_TAG, None)
    return parent if isinstance(parent, Lease) else None


def unwrap(request: Request) -> Request:
    """Give a request its own callbacks back."""
    if isinstance(request.callback, _Wrapped):
        request.callback = request.callback.original
    if isinstance(request.errback, _Wrapped):
        request.errback = request.errback.original
    return request


class _Wrapped:
    """A callback or errback that notes that it was called, what it yields, and how it ends."""

    def __init__(self, lease: Lease, original: Any, call: Callable[..., Any]) -> None:
        self.lease = lease
        self.original = original
        self._call = call
        self.__name__ = getattr(call, "__name__", global_object_name(type(call)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.lease.called = True
        if isinstance(getattr(args[0], "value", None), Interrupted):
            self.lease.instead = self.lease.request
            return None
        with self._at_it():
            output = self._call(*args, **kwargs)
        if isawaitable(output):
            return self._awaited(output)
        if isinstance(output, Failure):
            self.lease.fail(f"callback_{type(output.value).__name__}")
            return output
        if isinstance(output, AsyncIterator):
            return self._asynchronously(output)
        return self._stepwise(iter(arg_to_iter(output)))

    def _stepwise(self, output: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self._at_it():
                value = next(output, _END)
            if value is _END:
                break
            yield self._tied(value)
        self.lease.ended = True

    async def _asynchronously(self, output: AsyncIterator[Any]) -> AsyncIterator[Any]:
        while True:
            with self._at_it():
                value = await anext(output, _END)
            if value is _END:
                break
            yield self._tied(value)
        self.lease.ended = True

    async def _awaited(self, output: Any) -> Any:
        with self._at_it():
            values = await output
        return self._stepwise(iter(arg_to_iter(values)))

    @contextmanager
    def _at_it(self) -> Iterator[None]:
        """The callback runs a step."""
        token = _current.set(self.lease)
        try:
            yield
        except BaseException as error:
            self._raised(error)
            raise
        finally:
            # In another context, one that is thrown away at the end of the process.
            with suppress(ValueError):
                _current.reset(token)

    def _tied(self, value: Any) -> Any:
        if isinstance(value, Request):
            value.meta[_TAG] = self.lease
        return value

    def _raised(self, error: BaseException) -> None:
        if isinstance(error, CloseSpider):
            self.lease.instead = self.lease.request  # a stop; the next run makes it again
        elif not isinstance(error, GeneratorExit):  # else it has come to no end: no verdict
            self.lease.fail(f"callback_{type(error).__name__}")


def _raise(failure: Failure) -> Any:
    """What Scrapy does where a request has no errback; the lease notes the reason."""
    lease = lease_of(getattr(failure, "request", None))
    if lease is not None:
        lease.fail(reason_of(failure.value))
    failure.raiseException()


def reason_of(error: BaseException | None) -> str:
    """A word for an error that nobody has handled: ``HttpError_404``."""
    status = getattr(getattr(error, "response", None), "status", None)
    return type(error).__name__ + (f"_{status}" if status else "")


class Witness:
    """Notes on each lease what becomes of its items. ``of_no_request`` gets items without one."""

    def __init__(self, crawler: Crawler, of_no_request: Callable[[Any], None]) -> None:
        self._of_no_request = of_no_request
        for signal, method in (
            (signals.item_scraped, self._item_scraped),
            (signals.item_dropped, self._item_dropped),
            (signals.item_error, self._item_error),
            (signals.spider_error, self._spider_error),
        ):
            crawler.signals.connect(method, signal, weak=False)

    def _item_scraped(self, item: Any, response: Response | Failure | None) -> None:
        lease = _of_answer(response)
        if lease is None:
            self._of_no_request(item)
        else:
            lease.items.append(item)

    def _item_dropped(
        self, item: Any, response: Response | Failure | None, exception: BaseException
    ) -> None:
        lease = _of_answer(response)
        if lease is not None:
            reason = getattr(exception, "slug", "dropped")
            if key := own_key(item):
                lease.settled[key] = Settled(key, Verdict.SKIPPED, reason)
            else:
                lease.dropped = reason

    def _item_error(self, response: Response | Failure | None, failure: Failure) -> None:
        lease, error = _of_answer(response), failure.value
        if lease is None:
            return
        if isinstance(error, StopCrawl):
            lease.instead = lease.request  # the crawl ends; the next run makes it again
        elif isinstance(error, KaggleError):
            lease.fail(error.slug)
        else:
            lease.fail(f"pipeline_{type(error).__name__}")

    def _spider_error(self, failure: Failure, response: Response | Failure | None) -> None:
        """Also what a spider middleware has raised."""
        lease = _of_answer(response)
        if lease is not None:
            lease.fail(f"callback_{type(failure.value).__name__}")


def _of_answer(answer: Response | Failure | None) -> Lease | None:
    return lease_of(getattr(answer, "request", None))
