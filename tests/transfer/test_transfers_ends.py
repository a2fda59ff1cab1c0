"""Transfers when the crawl ends: what is left of them, on disk and in the loop."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from scrapy.http import Response

from kagglecrawl.transfer import transfers as module
from kagglecrawl.transfer.staging import Staging
from tests.transfer.bench import FOLDER, KEY, files_in
from tests.transfer.kit import TREE, Kit, cancelled, expiring, run, threads_ended, until
from tests.transfer.stand import Asked, Reply, status

pytestmark = pytest.mark.usefixtures("quick_disk")


# -- the end of the crawl --------------------------------------------------------------------------


def begin_slowly(kit: Kit) -> asyncio.Task[dict[str, Any]]:
    """A transfer whose bytes do not come any more once some have."""

    def script(asked: Asked) -> Reply | None:
        if asked.number != 2:
            return None

        def stuck() -> Reply:
            begin, body = kit.storage.object.answer(asked)
            yield begin
            yield body[:1_000_000]
            kit.storage.over.wait(10)

        return stuck()

    kit.storage.script = script
    return asyncio.create_task(kit.have())


def written(kit: Kit) -> int:
    """Bytes of the member that does not get to its end."""
    found = list(kit.target.parent.glob(".*/data/big.bin"))
    return found[0].stat().st_size if found else 0


def test_cancelled_before_the_api_has_answered(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        async def post() -> Response:
            await asyncio.sleep(60)
            raise AssertionError

        task = asyncio.create_task(kit.have(post=post))
        await asyncio.sleep(0.01)
        await cancelled(task)
        assert kit.idle()

    kit = run(test, tmp_path)
    assert kit.beside == []
    assert not kit.storage.asked


def test_cancelled_while_bytes_do_not_come(tmp_path: Path) -> None:
    """What was had is kept, and gone on with."""

    async def test(kit: Kit) -> None:
        task = begin_slowly(kit)
        await until(lambda: written(kit) > 900_000)
        await cancelled(task)
        assert kit.idle()
        assert kit.beside != []
        row = kit.job.of(KEY)
        assert row is not None
        assert row.position > 0
        assert [each.name for each in kit.job.stored(row.number, 0, 10)] == ["a.csv"]
        asked = len(kit.storage.asked)
        kit.storage.script = None
        await kit.have()
        assert kit.storage.ranges[asked + 1 :][0].partition("-")[0] != "0"

    kit = run(test, tmp_path)
    assert files_in(kit.target) == TREE
    assert kit.beside == ["me_set"]


def test_cancelled_while_it_pauses(tmp_path: Path) -> None:
    async def test(kit: Kit) -> None:
        kit.storage.script = lambda _: status(503, Retry_After="60")
        task = asyncio.create_task(kit.have())
        await until(lambda: kit.storage.asked)
        await cancelled(task)
        assert kit.idle()

    run(test, tmp_path)


def test_a_thread_that_sees_the_end_too_late_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LAST_WORDS", 0.01)
    reached, go_on = stuck(monkeypatch)

    async def test(kit: Kit) -> None:
        task = asyncio.create_task(kit.have())
        await until(reached.is_set)
        await cancelled(task)
        go_on.set()
        await threads_ended()

    run(test, tmp_path)


def stuck(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The disk takes its time: set when it is asked, and until when it waits."""
    reached, go_on = threading.Event(), threading.Event()

    def make_safe(*_: object) -> None:
        reached.set()
        go_on.wait(10)

    monkeypatch.setattr(Staging, "make_safe", make_safe)
    return reached, go_on


def test_cancelled_in_its_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets to its end all the same, which the next run knows."""
    reached, go_on = threading.Event(), threading.Event()
    publish = Staging.publish

    def slowly(self: Staging) -> None:
        reached.set()
        go_on.wait(10)
        publish(self)

    monkeypatch.setattr(Staging, "publish", slowly)

    async def test(kit: Kit) -> None:
        task = asyncio.create_task(kit.have())
        await until(reached.is_set)
        task.cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        asked = len(kit.storage.asked)
        await kit.have()
        assert len(kit.storage.asked) == asked
        assert kit.posts == 1

    assert files_in(run(test, tmp_path).target) == TREE


def test_cancelled_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LAST_WORDS", 60.0)
    reached, go_on = stuck(monkeypatch)

    async def test(kit: Kit) -> None:
        task = asyncio.create_task(kit.have())
        await until(reached.is_set)
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()  # it waits for the notes
        await cancelled(task)
        assert kit.idle()
        go_on.set()
        await threads_ended()

    run(test, tmp_path)


def test_cancelled_while_a_new_address_is_asked_for(tmp_path: Path) -> None:
    """That request is given up as well, and no other is made."""

    async def test(kit: Kit) -> None:
        expiring(kit)
        waiting, given_up = asyncio.Event(), asyncio.Event()

        async def post() -> Response:
            if not kit.posts:
                return await kit.post()
            waiting.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                given_up.set()
                raise
            raise AssertionError

        task = asyncio.create_task(kit.have(post=post))
        await waiting.wait()
        await cancelled(task)
        await asyncio.sleep(0.01)
        assert given_up.is_set()
        assert kit.idle()

    run(test, tmp_path)


@pytest.mark.parametrize("job", ["jobs/1", None])
def test_what_is_not_whole_is_of_use_to_a_job_alone(tmp_path: Path, job: str | None) -> None:
    async def test(kit: Kit) -> None:
        task = begin_slowly(kit)
        await until(lambda: written(kit))
        await cancelled(task)
        await kit.have(kit.request("me/other", f"{FOLDER}2"))
        kit.transfers.close()

    kit = run(test, tmp_path, JOBDIR=job)
    assert f"{kit.target.name}2" in kit.beside
    assert len(kit.beside) == (2 if job else 1)
