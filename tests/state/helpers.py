"""What the tests of state/ share: requests in a store, and leases whose callbacks are called as
Scrapy would call them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from scrapy import Request
from scrapy.http import Response, TextResponse
from twisted.python.failure import Failure

from kagglecrawl.state import leases
from kagglecrawl.state.leases import Lease, hand_out
from kagglecrawl.state.store import State, Store


@dataclass
class Item:
    """A record of a resource."""

    key: str
    value: int = 0


URL = "https://h/a"


class Refused(Exception):
    """As HttpError is raised."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.response = Response(URL, status=status)


def lease_for(
    callback: Callable[..., Any] | None = None, errback: Callable[..., Any] | None = None
) -> Lease:
    """A lease that was handed out."""
    lease = Lease(1, Request(URL, callback=callback, errback=errback), "a/b")
    hand_out(lease, default)
    return lease


def default(response: Response) -> None:
    """What is called where a request has no callback."""
    note("default")


#: What the callbacks below have said, and the lease that was the current one then.
notes: list[tuple[str, Lease | None]] = []


def note(word: str) -> None:
    notes.append((word, leases.current()))


def generator(response: Response) -> Iterator[Any]:
    note("begun")
    yield Request("https://h/child")
    note("between")
    yield {"an": "item"}
    note("ended")


async def asynchronous(response: Response) -> AsyncIterator[Any]:
    note("begun")
    yield Request("https://h/child")
    await asyncio.sleep(0)
    note("between")
    yield {"an": "item"}
    await asyncio.sleep(0)
    note("ended")


def answer(lease: Lease) -> TextResponse:
    return TextResponse(URL, request=lease.request)


def failure(lease: Lease | None, error: Exception) -> Failure:
    made = Failure(error)  # type: ignore[no-untyped-call]
    made.request = lease and lease.request  # type: ignore[attr-defined]
    return made


def called(lease: Lease, given: Any = None) -> Any:
    """The callback, or the errback where a failure is given."""
    request = lease.request
    function: Any = request.errback if isinstance(given, Failure) else request.callback
    assert function is not None
    return function(answer(lease) if given is None else given, **request.cb_kwargs)


def output(lease: Lease, given: Any = None) -> list[Any]:
    """What comes of it, read to its end, as Scrapy would."""

    async def read() -> list[Any]:
        made = called(lease, given)
        if hasattr(made, "__await__"):
            made = await made
        if hasattr(made, "__aiter__"):
            return [each async for each in made]
        return list(made or ())

    return asyncio.run(read())


def add(store: Store, name: str, *, family: str = "api", priority: int = 0, run: int = 1) -> int:
    """A pending request."""
    number = store.add_request(
        name.encode(), State.PENDING, family, priority, run, f"key/{name}", f"data of {name}"
    )
    assert number is not None
    return number


def state_of(store: Store, name: str) -> State:
    found = store.find(name.encode())
    assert found is not None
    return found[1]
