"""A job whose pages go to a store: it waits for them, and the next run puts what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scrapy.http import Response
from scrapy.utils.defer import ensure_awaitable

from kagglecrawl.kaggle.errors import RetryLater
from kagglecrawl.state import leases, page_queue
from tests.state.far_pages import FarPages, Refused
from tests.state.helpers import Item
from tests.state.stand import Clock, Stand, Things, ask


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_queue, "FIRST_PAUSE", 0.001)


def listed(stand: Stand, page: int) -> Callable[[Response], Iterator[Any]]:
    """A whole page of the list, with one item."""

    def rows(_: Response) -> Iterator[Any]:
        start = 20 * (page - 1)
        stand.accounts.discover(f"k{page}", start)
        lease = leases.current()
        assert lease is not None
        lease.covered = (start, start + 20)
        yield Item(f"k{page}", page)

    return rows


def job(folder: Path, store: FarPages, monkeypatch: pytest.MonkeyPatch) -> Stand:
    monkeypatch.setattr(Things, "page_store", store, raising=False)
    made: list[Stand] = []

    async def opened() -> None:
        made.append(Stand(folder))
        queue = made[0].scheduler._commits._queue
        assert queue is not None
        for _ in range(1000):  # the look's answer comes to this loop
            await asyncio.sleep(0.001 if queue._under_way else 0)

    asyncio.run(opened())
    stand = made[0]
    stand.spider.outputs = {f"{page}": listed(stand, page) for page in (1, 2)}
    return stand


def close(stand: Stand, reason: str = "finished") -> None:
    async def closed() -> None:
        stand.commit()
        deferred = stand.scheduler.close(reason)
        assert deferred is not None
        await ensure_awaitable(deferred)

    asyncio.run(closed())


def crawl(stand: Stand) -> None:
    stand.push(ask("1"), ask("2"))
    for request in stand.pull():
        stand.answer(request)


def test_a_job_waits_for_its_pages(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FarPages()
    stand = job(tmp_path, store, monkeypatch)
    crawl(stand)
    close(stand)
    assert store.kept == {1: b"row of k1\n", 2: b"row of k2\n"}
    assert (stand.scheduler.stored, stand.stat("kaggle/pages_written")) == (True, 2)
    del store.kept[2]
    store.tried.clear()
    again = job(tmp_path, store, monkeypatch)
    close(again)
    assert store.tried == [2], "a page that is not there any more is put again, and no other"
    assert store.kept[2] == b"row of k2\n"


def test_the_next_run_puts_what_this_one_could_not(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FarPages()
    stand = job(tmp_path, store, monkeypatch)
    crawl(stand)
    store.raises = [RetryLater("busy")] * 99
    close(stand)
    assert not stand.scheduler.stored, "so the exit code says that something is missing"
    assert (stand.stat("kaggle/pages_missing"), stand.stat("kaggle/pages_written")) == (2, 0)
    assert stand.rows() == ["k1", "k2"]
    assert stand.scheduler.balanced
    store.raises = []
    again = job(tmp_path, store, monkeypatch)
    assert again.scheduler._store.get("reason") == "pages_not_stored"
    close(again)
    assert store.kept.keys() == {1, 2}
    assert again.scheduler.stored
    last = job(tmp_path, store, monkeypatch)
    assert last.scheduler._store.get("reason") == "finished"
    last.kill()


def test_a_job_goes_on_to_be_safe_when_the_store_refuses(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FarPages()
    stand = job(tmp_path, store, monkeypatch)
    stand.push(ask("1"), ask("2"))
    first, second = stand.pull()
    stand.answer(first)
    store.raises = [Refused("AccessDenied for S3_URI: allow s3:PutObject on it")]

    async def refused() -> None:
        stand.commit()
        for _ in range(1000):
            if stand.engine.closed_because:
                return
            await asyncio.sleep(0.005)

    asyncio.run(refused())
    assert stand.engine.closed_because == ["s3_refused"]
    assert stand.spider.stopped_because == "AccessDenied for S3_URI: allow s3:PutObject on it"
    stand.answer(second)
    close(stand, "s3_refused")
    assert stand.rows() == ["k1", "k2"], "what was under way still counts"
    assert store.kept == {}
    again = job(tmp_path, store, monkeypatch)
    close(again)
    assert store.kept.keys() == {1, 2}


def test_a_job_that_cannot_be_written_puts_nothing_more(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FarPages()
    stand = job(tmp_path, store, monkeypatch)
    crawl(stand)
    store.raises = [RetryLater("busy")] * 4

    async def broken() -> None:
        stand.commit()
        stand.scheduler._commits.give_up("The job in JOBDIR cannot be written (disk full)")
        await asyncio.sleep(0.05)

    asyncio.run(broken())
    assert store.closed
    assert store.kept == {}
    stand.close("kaggle_failed")
    again = job(tmp_path, store, monkeypatch)
    store.raises = []
    close(again)
    assert store.kept.keys() == {1, 2}
