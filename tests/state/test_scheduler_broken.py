"""A job that cannot go on stops, says why in one sentence, and loses nothing."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scrapy.http import Response

from kagglecrawl.state import leases
from tests.state.helpers import Item
from tests.state.stand import Clock, Stand, Things, ask, run


def assert_stopped(stand: Stand, words: str) -> None:
    assert stand.engine.closed_because == ["kaggle_failed"]
    assert words in stand.spider.stopped_because
    assert "Errno" not in stand.spider.stopped_because
    assert len(stand.spider.stopped_because.splitlines()) == 1
    assert stand.pull() == []
    assert stand.push(ask("more")) == [False]
    assert not stand.scheduler.has_pending_requests()
    assert stand.accounts.balanced()


def test_a_full_disk_under_the_job(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    for number in range(3):
        stand.spider.outputs[f"{number}"] = lambda _, n=number: [Item(f"k{n}", n)]  # type: ignore[misc]
    stand.push(*(ask(f"{number}", key=f"k{number}") for number in range(3)))
    first, second, third = stand.pull()
    stand.answer(first)
    stand.commit()
    database = stand.scheduler._store._db
    (size,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {size}")
    stand.spider.outputs["1"] = lambda _: [
        Item("k1", 1),
        *(ask(f"{n}", cb_kwargs={"x": "y" * 9999}) for n in range(100, 200)),
    ]
    stand.answer(second)
    assert_stopped(stand, "The job in JOBDIR cannot be written (database or disk is full)")
    stand.answer(third)
    stand.close("kaggle_failed")
    assert (stand.rows(), stand.four()) == (["k0"], (1, 0, 0, 0))
    again = Stand(tmp_path)
    assert again.names() == ["1", "2"]
    again.kill()


def test_a_full_disk_under_the_feed(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(tmp_path)
    stand.spider.outputs = {"a": lambda _: [Item("k", 1)], "b": lambda _: [Item("l", 1)]}
    stand.push(ask("a"), ask("b"))
    a, b = stand.pull()
    stand.answer(a)
    stand.commit()
    stand.answer(b)

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stand.scheduler.feeds, "flush", full)
    stand.looped(stand.commit)
    assert_stopped(stand, "No space left on device")
    assert stand.four() == (1, 0, 0, 0)
    stand.close("kaggle_failed")
    again = Stand(tmp_path)
    again.spider.outputs = stand.spider.outputs
    assert run(again) == ["b"]
    again.close()
    assert again.rows() == ["k", "l"]


def test_a_commit_that_fails_takes_the_rows_back(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were flushed, and count for nothing."""
    stand = Stand(tmp_path)
    stand.spider.outputs = {"a": lambda _: [Item("k", 1)], "b": lambda _: [Item("l", 1)]}
    stand.push(ask("a"), ask("b"))
    a, b = stand.pull()
    stand.answer(a)
    stand.commit()
    stand.answer(b)

    def fails() -> None:
        assert stand.rows() == ["k", "l"]
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(stand.scheduler._store, "commit", fails)
    stand.looped(stand.commit)
    assert_stopped(stand, "The job in JOBDIR cannot be written (disk I/O error)")
    assert (stand.rows(), stand.four()) == (["k"], (1, 0, 0, 0))
    stand.kill()


def test_a_page_that_cannot_be_written_is_written_by_the_next_run(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pages"
    folder.write_text("in the way")
    monkeypatch.setattr(Things, "page_folder", folder)

    def listed(_: Response) -> Iterator[Any]:
        stand.accounts.discover("k", 0)
        lease = leases.current()
        assert lease is not None
        lease.covered = (0, 20)
        yield Item("k", 1)

    stand = Stand(tmp_path)
    stand.spider.outputs["a"] = listed
    stand.push(ask("a"))
    (request,) = stand.pull()
    stand.answer(request)
    stand.looped(stand.commit)
    assert_stopped(stand, f"{folder}: File exists")
    stand.close("kaggle_failed")
    assert stand.rows() == ["k"], "the row is safe"
    folder.unlink()
    again = Stand(tmp_path)
    assert (folder / "page_1.jsonl").read_text() == "row of k\n"
    assert run(again) == []
    again.close()
    (folder / "page_1.jsonl").unlink()
    Stand(tmp_path).close()
    assert (folder / "page_1.jsonl").exists(), "a whole page without its file gets it"


def test_a_store_that_fails_when_something_is_asked_of_it(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    stand.push(ask("a"), ask("b"))
    stand.commit()
    store = stand.scheduler._store
    with closing(sqlite3.connect(":memory:")) as other:
        kept, store._db = store._db, other
        stand.looped(stand.pull)
        store._db = kept
    assert_stopped(stand, "The job in JOBDIR cannot be written (no such table: ")
    stand.close("kaggle_failed")
    again = Stand(tmp_path)
    assert again.names() == ["a", "b"]
    again.kill()
