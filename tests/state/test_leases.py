"""What a callback does while it runs is tied to its lease, however the callback is written."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from scrapy import Request
from scrapy.http import Response

from kagglecrawl.state import leases
from kagglecrawl.state.leases import Lease
from tests.state.helpers import (
    URL,
    Item,
    Refused,
    asynchronous,
    called,
    failure,
    generator,
    lease_for,
    note,
    notes,
    output,
)

# -- how callbacks are written ---------------------------------------------------------------------


def a_list(response: Response) -> list[Any]:
    for word in ("begun", "between", "ended"):
        note(word)
    return [Request("https://h/child"), {"an": "item"}]


async def coroutine(response: Response) -> list[Any]:
    note("begun")
    await asyncio.sleep(0)
    note("between")
    await asyncio.sleep(0)
    note("ended")
    return [Request("https://h/child"), {"an": "item"}]


class Iterable:
    """Any iterable will do."""

    def __init__(self, response: Response) -> None:
        note("begun")

    def __iter__(self) -> Iterator[Any]:
        note("between")
        yield Request("https://h/child")
        yield {"an": "item"}
        note("ended")


@pytest.mark.parametrize("callback", [generator, a_list, coroutine, asynchronous, Iterable])
@pytest.mark.parametrize("as_errback", [False, True], ids=["callback", "errback"])
def test_every_kind_of_callback(callback: Callable[..., Any], as_errback: bool) -> None:
    lease = lease_for(**{"errback" if as_errback else "callback": callback})
    assert (lease.called, lease.ended) == (False, False)
    child, item = output(lease, failure(lease, OSError()) if as_errback else None)
    assert notes == [(word, lease) for word in ("begun", "between", "ended")]
    assert leases.current() is None
    assert (lease.called, lease.ended, lease.error, lease.instead) == (True, True, "", None)
    assert item == {"an": "item"}
    assert child.url == "https://h/child"
    assert leases.parent_of(child) is lease
    assert leases.parent_of(child) is None, "told once"
    assert not child.meta, "nothing of it stays on the request"


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (None, []),
        ([], []),
        ({"an": "item"}, [{"an": "item"}]),
        (Item("a/b", 1), [Item("a/b", 1)]),
    ],
)
def test_one_value_or_none(value: Any, items: list[Any]) -> None:
    for callback in (lambda _: value, functools.partial(later, value=value)):
        lease = lease_for(callback)
        assert output(lease) == items
        assert (lease.called, lease.ended, lease.error) == (True, True, "")


async def later(response: Response, value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def test_a_request_alone_is_a_child_too() -> None:
    lease = lease_for(lambda _: Request("https://h/child"))
    (child,) = output(lease)
    assert leases.parent_of(child) is lease


def test_arguments_reach_the_callback() -> None:
    got: list[Any] = []
    lease = lease_for(lambda response, **given: got.append((response.url, given)))
    lease.request.cb_kwargs["row"] = {"x": 1}
    output(lease)
    assert got == [(URL, {"row": {"x": 1}})]


def test_a_request_without_a_callback_calls_the_default() -> None:
    lease = lease_for()
    assert output(lease) == []
    assert notes == [("default", lease)]
    assert lease.ended


# -- several at once -------------------------------------------------------------------------------


def test_interleaved_callbacks_each_have_their_own_lease() -> None:
    """Eight of each kind, switched at every await and every value."""
    wrong: list[Any] = []

    def look(expected: dict[str, Lease]) -> None:
        if leases.current() is not expected["lease"]:
            wrong.append((leases.current(), expected))

    async def run(kind: str) -> Lease:
        expected: dict[str, Lease] = {}

        def sync(_: Response) -> Iterator[Any]:
            for number in range(5):
                look(expected)
                yield Request(f"https://h/{number}")
            look(expected)

        async def agen(_: Response) -> AsyncIterator[Any]:
            for number in range(5):
                look(expected)
                await asyncio.sleep(0)
                look(expected)
                yield Request(f"https://h/{number}")
            look(expected)

        async def coro(_: Response) -> list[Any]:
            for _number in range(5):
                look(expected)
                await asyncio.sleep(0)
            look(expected)
            return [Request(f"https://h/{number}") for number in range(5)]

        lease = lease_for({"sync": sync, "async": agen, "coroutine": coro}[kind])
        expected["lease"] = lease
        made = called(lease)
        if hasattr(made, "__await__"):
            made = await made
        values = made if hasattr(made, "__aiter__") else later_each(made)
        async for child in values:
            assert leases.current() is None, "between two values nobody runs"
            assert leases.parent_of(child) is lease
            await asyncio.sleep(0)
        return lease

    async def all_of_them() -> list[Lease]:
        kinds = ["sync", "async", "coroutine"] * 8
        return await asyncio.gather(*(run(kind) for kind in kinds))

    found = asyncio.run(all_of_them())
    assert not wrong
    assert all(lease.ended and not lease.error for lease in found)


async def later_each(values: Iterator[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


def test_an_async_callback_may_be_read_by_several_tasks() -> None:
    """Each step in a context of its own, as Scrapy's workers do it."""

    async def read() -> list[Any]:
        made = called(lease)
        values = []
        with contextlib.suppress(StopAsyncIteration):
            while True:
                values.append(await asyncio.create_task(step(made)))
        return values

    async def step(made: AsyncIterator[Any]) -> Any:
        return await anext(made)

    lease = lease_for(asynchronous)
    assert len(asyncio.run(read())) == 2
    assert lease.ended
    assert {each for _, each in notes} == {lease}


@pytest.mark.parametrize("kind", ["async", "coroutine"])
def test_a_callback_that_hangs_is_thrown_away_without_a_word(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the end of a process that would not wait for it: in no task, and in another context."""

    class Never:
        def __await__(self) -> Generator[None, None, None]:
            yield

    async def agen(_: Response) -> AsyncIterator[Any]:
        await Never()
        yield {"an": "item"}

    async def coro(_: Response) -> None:
        await Never()

    lease = lease_for({"async": agen, "coroutine": coro}[kind])
    made = called(lease)
    step = made if kind == "coroutine" else anext(made)
    contextvars.copy_context().run(step.send, None)
    step.close()
    del step, made
    gc.collect()
    assert "Traceback" not in capsys.readouterr().err
    assert (lease.ended, lease.error) == (False, "")


# -- which lease is it -----------------------------------------------------------------------------


def test_a_copy_belongs_to_the_same_lease() -> None:
    lease = lease_for(generator, a_list)
    copies = [lease.request.replace(dont_filter=True), lease.request.copy()]
    assert [leases.lease_of(each) for each in copies] == [lease, lease]
    assert leases.lease_of(Request(URL)) is None
    assert leases.lease_of(None) is None
    assert leases.parent_of(copies[0]) is None
    plain = leases.unwrap(copies[0])
    assert [plain.callback, plain.errback] == [generator, a_list]
    assert leases.lease_of(lease.request) is lease, "the copy alone was unwrapped"


def test_a_request_without_callbacks_has_none_again() -> None:
    lease = lease_for()
    plain = leases.unwrap(lease.request.copy())
    assert (plain.callback, plain.errback) == (None, None)


def test_a_second_request_that_is_the_first_is_a_child() -> None:
    """``yield response.request.replace(dont_filter=True)`` asks again; so it is a new request."""

    def again(response: Response) -> Iterator[Any]:
        assert response.request is not None
        yield response.request.replace(dont_filter=True)

    lease = lease_for(again)
    (child,) = output(lease)
    assert leases.parent_of(child) is lease
    assert leases.unwrap(child).callback is again


def test_the_words_for_an_unhandled_error() -> None:
    assert leases.reason_of(None) == "NoneType"
    assert leases.reason_of(Refused(503)) == "Refused_503"


def test_what_the_downloader_put_on_it_is_taken_off() -> None:
    """Not what the spider said itself."""
    lease = lease_for(generator)
    request = lease.request
    request.meta.update(download_slot="h", download_latency=0.5, proxy="http://p", _auth_proxy="p")
    assert lease.without_passing(request).meta == {}
    own = Lease(1, Request(URL, meta={"download_slot": "mine", "proxy": None}), None)
    leases.hand_out(own, print)
    own.request.meta.update(download_latency=0.5)
    assert own.without_passing(own.request).meta == {"download_slot": "mine", "proxy": None}
