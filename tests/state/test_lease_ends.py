"""How a callback ends, and what becomes of its items, is noted on its lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from scrapy import Request, Spider, signals
from scrapy.exceptions import CloseSpider, DropItem
from scrapy.http import Response
from scrapy.utils.test import get_crawler
from twisted.python.failure import Failure

from kagglecrawl.state import leases
from kagglecrawl.state.leases import Interrupted, Lease, Witness
from kagglecrawl.state.store import Verdict
from tests.state.helpers import (
    Item,
    Refused,
    answer,
    asynchronous,
    called,
    failure,
    generator,
    lease_for,
    notes,
    output,
)

# -- how they end ----------------------------------------------------------------------------------


def raises_at_once(response: Response) -> Iterator[Any]:
    raise KeyError("k")


def raises_first(response: Response) -> Iterator[Any]:
    yield from map(_raise, [1])


def raises_between(response: Response) -> Iterator[Any]:
    yield {"first": "row"}
    raise KeyError("k")


async def raises_between_async(response: Response) -> AsyncIterator[Any]:
    yield {"first": "row"}
    await asyncio.sleep(0)
    raise KeyError("k")


async def coroutine_raises(response: Response) -> list[Any]:
    await asyncio.sleep(0)
    raise KeyError("k")


def a_lazy_list(response: Response) -> Iterator[Any]:
    return map(_raise, [1])


async def a_lazy_list_later(response: Response) -> Iterator[Any]:
    return map(_raise, [1])


def _raise(_: object) -> Any:
    raise KeyError("k")


RAISING = [
    raises_at_once,
    raises_first,
    raises_between,
    raises_between_async,
    coroutine_raises,
    a_lazy_list,
    a_lazy_list_later,
]


@pytest.mark.parametrize("callback", RAISING)
def test_an_error_is_noted_and_goes_on_to_scrapy(callback: Callable[..., Any]) -> None:
    lease = lease_for(callback)
    with pytest.raises(KeyError):
        output(lease)
    assert (lease.called, lease.ended, lease.error) == (True, False, "callback_KeyError")
    assert (lease.declared, lease.instead) == (False, None)
    assert leases.current() is None


def test_the_first_reason_is_kept() -> None:
    lease = lease_for(raises_between)
    lease.fail("pipeline_OSError")
    with pytest.raises(KeyError):
        output(lease)
    assert lease.error == "pipeline_OSError"


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("callback", [generator, asynchronous])
def test_a_callback_that_is_not_read_to_its_end_has_none(
    callback: Callable[..., Any], number: int
) -> None:
    """A spider middleware may stop reading; that is no error, and no success."""

    async def read() -> None:
        made = called(lease)
        for _ in range(number):
            await anext(made) if hasattr(made, "__anext__") else next(made)
        if hasattr(made, "aclose"):
            await made.aclose()
        else:
            made.close()

    lease = lease_for(callback)
    asyncio.run(read())
    assert (lease.called, lease.ended, lease.error, lease.instead) == (True, False, "", None)
    assert leases.current() is None


def test_reading_all_of_it_but_the_end_is_not_the_end() -> None:
    """After the last value there may be more to do."""
    lease = lease_for(generator)
    made = called(lease)
    assert len([next(made), next(made)]) == 2
    assert not lease.ended
    assert list(made) == []
    assert lease.ended


@pytest.mark.parametrize("kind", ["sync", "async", "coroutine", "function"])
def test_close_spider_gives_the_request_to_the_next_run(kind: str) -> None:
    def sync(_: Response) -> Iterator[Any]:
        yield {"first": "row"}
        raise CloseSpider("enough")

    async def agen(_: Response) -> AsyncIterator[Any]:
        yield {"first": "row"}
        raise CloseSpider("enough")

    async def coro(_: Response) -> None:
        raise CloseSpider("enough")

    def function(_: Response) -> None:
        raise CloseSpider("enough")

    callbacks = {"sync": sync, "async": agen, "coroutine": coro, "function": function}
    lease = lease_for(callbacks[kind])
    with pytest.raises(CloseSpider):
        output(lease)
    assert (lease.instead, lease.error, lease.ended) == (lease.request, "", False)


def test_a_request_that_was_interrupted_is_given_back_unheard() -> None:
    lease = lease_for(errback=generator)
    assert output(lease, failure(lease, Interrupted())) == []
    assert notes == []
    assert (lease.instead, lease.error) == (lease.request, "")


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError("disk"), "OSError"), (Refused(404), "Refused_404"), (DropItem("x"), "DropItem")],
)
def test_without_an_errback_the_error_itself_is_the_reason(error: Exception, reason: str) -> None:
    lease = lease_for(generator)
    with pytest.raises(type(error)):
        output(lease, failure(lease, error))
    assert notes == []
    assert (lease.error, lease.ended, lease.declared) == (reason, False, False)


def test_an_errback_that_returns_its_failure_has_not_handled_it() -> None:
    lease = lease_for(errback=lambda failed: failed)
    given = failure(lease, OSError())
    assert called(lease, given) is given, "Scrapy raises it"
    assert (lease.error, lease.ended) == ("callback_OSError", False)


def test_an_errback_says_what_becomes_of_its_request() -> None:
    def declares(_: Failure) -> Iterator[Any]:
        leases.declare_failed("server_error")
        yield Request("https://h/next")

    lease = lease_for(errback=declares)
    assert len(output(lease, failure(lease, OSError()))) == 1
    assert (lease.error, lease.declared, lease.ended) == ("server_error", True, True)

    lease = lease_for(errback=lambda _: leases.give_back())
    output(lease, failure(lease, OSError()))
    assert (lease.instead, lease.error) == (lease.request, "")


def test_outside_of_a_callback_there_is_nothing_to_say() -> None:
    leases.give_back()
    leases.declare_failed("x")
    assert leases.current() is None


# -- what becomes of items -------------------------------------------------------------------------


def test_the_witness_notes_what_becomes_of_items() -> None:
    crawler = get_crawler()
    spider = Spider.from_crawler(crawler, name="x")
    orphans: list[Any] = []
    Witness(crawler, orphans.append)

    def send(signal: object, lease: Lease | None, **given: Any) -> None:
        response = answer(lease) if lease else None
        results = crawler.signals.send_catch_log(signal, response=response, spider=spider, **given)
        assert results
        assert not [value for _, value in results if isinstance(value, Failure)]

    one, two, three = lease_for(), lease_for(), lease_for()
    kept, dropped = Item("a/b", 1), Item("c/d", 2)
    drop = DropItem("below")
    drop.slug = "usability"  # type: ignore[attr-defined]
    send(signals.item_scraped, one, item=kept)
    send(signals.item_dropped, one, item=dropped, exception=drop)
    send(signals.item_dropped, one, item={"no": "key"}, exception=DropItem("x"))
    send(signals.item_error, two, item=kept, failure=failure(None, OSError()))
    send(signals.spider_error, three, failure=failure(None, KeyError()))
    send(signals.item_scraped, None, item="orphan")
    send(signals.item_dropped, None, item=dropped, exception=drop)
    send(signals.item_error, None, item=kept, failure=failure(None, OSError()))
    assert (one.items, one.error) == ([kept], "")
    assert {key: (each.verdict, each.reason) for key, each in one.settled.items()} == {
        "c/d": (Verdict.SKIPPED, "usability"),
    }
    assert one.dropped == "dropped", "it has no key of its own: perhaps the request's"
    assert (two.items, two.error) == ([], "pipeline_OSError")
    assert three.error == "callback_KeyError"
    assert orphans == ["orphan"]


def test_an_item_of_an_errback_belongs_to_its_lease() -> None:
    crawler = get_crawler()
    Witness(crawler, lambda _: pytest.fail("it has a lease"))
    lease = lease_for()
    given = failure(lease, OSError())
    crawler.signals.send_catch_log(signals.item_scraped, item="row", response=given, spider=None)
    assert lease.items == ["row"]
