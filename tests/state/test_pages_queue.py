"""Pages that take long: the crawl goes on, a store that fails is tried again, and what is not there
is said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.kaggle.errors import RetryLater, Unusable
from kagglecrawl.state import page_queue
from kagglecrawl.state.page_queue import PageQueue
from tests.state.far_pages import FarPages, Refused


class Bench:
    """A queue, and what it has told."""

    def __init__(self, folder: Path | None = None) -> None:
        self.store = FarPages()
        self.rows: dict[int, list[bytes]] = {}
        self.uncommitted: set[int] = set()
        self.written: list[int] = []
        self.found: list[set[int]] = []
        self.broken: list[Exception] = []
        self.queue = PageQueue(
            self.store,
            self.content,
            lambda: self.uncommitted,
            self.written.append,
            self.found.append,
            self.broken.append,
            folder,
        )

    def content(self, number: int) -> Iterator[bytes]:
        return iter(self.rows.get(number, [b"page %d\n" % number]))

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.queue.changed(number, whole=True)

    async def until(self, true: Callable[[], object]) -> None:
        for _ in range(1000):
            if true():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("it never comes to that")

    async def close(self, *, finished: bool = True) -> int:
        return await self.queue.close(finished=finished)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_queue, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(page_queue, "PATIENCE", 0.1)


def done(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def test_a_page_counts_when_it_is_there() -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.gate.clear()
        bench.put(1, 2)
        await bench.until(lambda: bench.store.under_way == 2)
        assert bench.written == []
        bench.store.gate.set()
        await bench.until(lambda: bench.written)
        assert await bench.close() == 0
        assert sorted(bench.written) == [1, 2]
        assert bench.store.kept == {1: b"page 1\n", 2: b"page 2\n"}
        assert bench.store.closed

    done(work)


def test_few_are_under_way_at_once() -> None:
    async def work() -> None:
        bench = Bench()
        bench.put(*range(1, 12))
        assert await bench.close() == 0
        assert len(bench.store.kept) == 11
        assert 1 <= bench.store.most <= page_queue.AT_ONCE

    done(work)


def test_large_ones_go_alone_and_wait_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(page_queue, "IN_MEMORY", 10)
    monkeypatch.setattr(page_queue, "MOST_BYTES", 100)

    async def work() -> None:
        bench = Bench(tmp_path)
        bench.rows = {number: [b"%d" % number * 50, b"\n" * 50] for number in (1, 2, 3)}
        bench.put(1, 2, 3)
        assert await bench.close() == 0
        assert bench.store.kept == {n: b"".join(rows) for n, rows in bench.rows.items()}
        assert bench.store.most == 1
        elsewhere = Bench(tmp_path / "nowhere")
        elsewhere.rows = bench.rows
        with pytest.raises(FileNotFoundError):
            elsewhere.put(1)

    done(work)
    assert list(tmp_path.iterdir()) == []


def test_one_that_changes_meanwhile_is_put_again() -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.gate.clear()
        bench.put(1, 2)
        await bench.until(lambda: bench.store.under_way == 2)
        bench.rows = {1: [b"newer\n"]}
        bench.put(1)
        bench.queue.changed(2, whole=False)
        bench.store.gate.set()
        assert await bench.close() == 0
        assert bench.written == [1], "a page that is not whole any more is not written"
        assert bench.store.kept[1] == b"newer\n"
        assert sorted(bench.store.tried) == [1, 1, 2]

    done(work)


def test_what_is_not_committed_is_not_put() -> None:
    async def work() -> None:
        bench = Bench()
        bench.uncommitted = {2}
        bench.put(1, 2, 3)
        await bench.until(lambda: len(bench.written) == 2)
        assert 2 not in bench.store.tried
        bench.uncommitted = set()
        bench.put(2)
        assert await bench.close() == 0
        assert bench.store.kept.keys() == {1, 2, 3}

    done(work)


def test_a_store_that_fails_is_tried_again() -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.raises = [RetryLater("busy")] * 9
        bench.put(1, 2, 3)
        await bench.until(lambda: len(bench.written) == 3)
        assert len(bench.store.tried) == 12
        assert await bench.close() == 0

    done(work)


def test_at_the_end_it_is_given_up_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.raises = [RetryLater("https://u:secret@h/x?X-Amz-Signature=abc is busy")] * 99
        bench.put(*range(1, 8))
        assert await bench.close() == 7
        assert bench.written == []
        assert bench.store.closed

    done(work)
    (said,) = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert said.startswith("Page files could not be put into the store (1, 2, 3, 4, 5 …): ")
    assert said.endswith("Run it again to put them there")
    assert "secret" not in caplog.text
    assert "abc" not in caplog.text


def test_a_stop_does_not_wait_for_a_store_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.gate.clear()
        bench.put(*range(1, 8))
        await bench.until(lambda: bench.store.under_way)
        assert await bench.close(finished=False) == 7
        assert bench.store.closed
        bench.store.gate.set()
        await bench.until(lambda: bench.store.kept)
        await asyncio.sleep(0.02)
        assert bench.written == [], "the job is left: the next run puts it again"

    done(work)
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


def test_a_store_that_refuses_ends_the_crawl() -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.raises = [Refused("AccessDenied: allow s3:PutObject")]
        bench.put(1)
        await bench.until(lambda: bench.broken)
        assert isinstance(bench.broken[0], Refused)
        bench.put(2)
        assert await bench.close() == 2
        assert bench.store.tried == [1], "nothing is begun after it"

    done(work)


def test_one_that_the_store_cannot_have_is_given_up_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.raises = [Unusable("there is a folder of that name", "store_refused")]
        bench.put(1)
        await bench.until(lambda: not bench.queue._under_way)
        bench.put(2)
        assert await bench.close() == 1
        assert bench.written == [2]

    done(work)
    assert "Page 1 cannot be put into the store: there is a folder of that name" in caplog.text


def test_a_fault_of_ours_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.raises = [KeyError("oops")]
        bench.put(1, 2)
        assert await bench.close() == 1
        assert len(bench.written) == 1

    done(work)
    assert "KeyError" in caplog.text


def test_looking_comes_before_and_alone() -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.kept = {4: b"", 7: b""}
        bench.store.look_raises = [RetryLater("busy"), RetryLater("busy")]
        bench.queue.look()
        bench.put(1, 2)
        assert await bench.close() == 0
        assert bench.store.looks == 3
        assert len(bench.found) == 1
        assert bench.found[0] >= {4, 7}

    done(work)


def test_one_that_was_not_looked_for_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        bench = Bench()
        bench.store.look_raises = [RetryLater("busy")] * 99
        bench.queue.look()
        assert await bench.close() == 1

    done(work)
    assert "The store could not be asked which page files it has: busy. Run" in caplog.text


def test_what_cannot_be_noted_is_told() -> None:
    async def work() -> None:
        bench = Bench()

        def fails(_: int) -> None:
            raise OSError("the job's disk")

        bench.queue._written = fails
        bench.put(1)
        await bench.until(lambda: bench.broken)
        assert str(bench.broken[0]) == "the job's disk"

    done(work)
