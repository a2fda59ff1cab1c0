"""A job over several runs: nothing lost and nothing twice, whenever it was killed; and what cannot
be gone on with is left as it is."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request, signals
from scrapy.exceptions import CloseSpider
from scrapy.http import Response
from twisted.python.failure import Failure

from kagglecrawl.state import leases
from kagglecrawl.state.store import FILE, Store
from tests.state.helpers import Item
from tests.state.stand import Clock, Stand, Things, ask, run

# -- killed ----------------------------------------------------------------------------------------


def test_what_was_not_committed_is_done_again(clock: Clock, tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    for name in "abc":
        stand.spider.outputs[name] = lambda _, key=name: [Item(key, 1), ask(f"child of {key}")]  # type: ignore[misc]
    stand.push(*(ask(name, key=name) for name in "abc"))
    a, b, _ = stand.pull()
    stand.answer(a)
    stand.commit()
    stand.answer(b)
    stand.scheduler.feeds.flush()  # its row is in the file; then it was killed
    assert stand.rows() == ["a", "b"]
    stand.kill()

    again = Stand(tmp_path)
    assert again.rows() == ["a"], "the tail of the feed was cut off"
    assert again.four() == (1, 0, 0, 0)
    again.spider.outputs = stand.spider.outputs
    assert run(again) == ["b", "c", "child%20of%20a", "child%20of%20b", "child%20of%20c"]
    again.close()
    assert again.rows() == ["a", "b", "c"]
    assert again.four() == (3, 0, 0, 0)


def world(stand: Stand, dice: random.Random, trouble: dict[str, int]) -> None:
    """Six pages of a list with ten rows each; some have a second step, some are dropped, and
    ``trouble`` says how often a request raises before it goes well."""

    def maybe_raise(name: str) -> None:
        if trouble.get(name, 0) > 0:
            trouble[name] -= 1
            raise OSError("trouble")

    def listed(page: int) -> Any:
        def callback(_: Response) -> Iterator[Any]:
            for position in range(page * 10, page * 10 + 10):
                if stand.accounts.discover(f"k{position}", position):
                    yield ask(f"row{position}", key=f"k{position}", priority=10)
            maybe_raise(f"list{page}")
            lease = leases.current()
            assert lease is not None
            lease.covered = (page * 10, page * 10 + 10)
            if page < 5:
                yield ask(f"list{page + 1}")

        return callback

    def row(position: int) -> Any:
        def callback(_: Response) -> Iterator[Any]:
            key = f"k{position}"
            if position % 7 == 3:
                stand.accounts.skip(key, "below")
            elif position % 3 == 1:
                yield ask(f"step{position}", key=key, priority=20)
            else:
                yield Item(key, position)
            maybe_raise(f"row{position}")

        return callback

    for page in range(6):
        stand.spider.outputs[f"list{page}"] = listed(page)
    for position in range(60):
        stand.spider.outputs[f"row{position}"] = row(position)
        stand.spider.outputs[f"step{position}"] = lambda _, p=position: [Item(f"k{p}", p)]  # type: ignore[misc]


EXPECTED = {f"k{position}" for position in range(60) if position % 7 != 3}


@pytest.mark.parametrize("seed", range(25))
def test_killed_at_any_moment_nothing_is_lost_and_nothing_is_twice(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(Things, "page_folder", tmp_path / "pages")
    dice = random.Random(seed)
    trouble = {f"row{dice.randrange(60)}": dice.randint(1, 2) for _ in range(5)}
    trouble[f"list{dice.randrange(6)}"] = 1
    kills, made, finished = 0, 0, False
    while not finished:
        stand = Stand(tmp_path)
        world(stand, dice, trouble)
        stand.push(ask("list0"))
        stand.push(ask("list0"))
        under_way: list[Any] = []
        left = dice.randint(5, 60) if kills < 8 else 10**6
        while True:
            under_way += stand.pull(8 - len(under_way))
            if not under_way:
                clock.advance(1)
                if not stand.scheduler.has_pending_requests():
                    failed = stand.accounts.count("failed") + stand.accounts.count("lists_failed")
                    stand.begin_closing()
                    stand.close("finished")
                    finished = not failed
                    break
                continue
            request = under_way.pop(dice.randrange(len(under_way)))
            made += 1
            if dice.random() < 0.1:
                changed = request.replace(
                    meta={**request.meta, "not_before": clock.now + 1}, dont_filter=True
                )
                stand.instead(request, changed)
            else:
                stand.answer(request)
            if dice.random() < 0.3:
                clock.advance(dice.choice([0.1, 0.3]))
            left -= 1
            if not left:
                kills += 1
                if dice.random() < 0.5:  # in the midst of a commit
                    stand.scheduler.feeds.flush()
                    if dice.random() < 0.5:
                        stand.scheduler._store.commit()
                stand.kill()
                break
        pages = {int(p.stem[5:]): p for p in (tmp_path / "pages").glob("*")}
        for number, path in pages.items():
            keys = [f"k{p}" for p in range(20 * number - 20, 20 * number) if f"k{p}" in EXPECTED]
            found = path.read_text().splitlines()
            assert set(found) <= {f"row of {key}" for key in keys}
            if finished:
                assert found == [f"row of {key}" for key in keys], "in the list's order"
    assert sorted(stand.rows()) == sorted(EXPECTED)
    assert stand.four() == (len(EXPECTED), 60 - len(EXPECTED), 0, 0)
    assert stand.scheduler.balanced
    assert stand.accounts.count("lists_failed") == 0
    assert set(pages) == {1, 2, 3}
    needed = 6 + 60 + 20
    assert made <= 2 * needed + 16 * kills, "it does not begin anew each time"


# -- the next run ----------------------------------------------------------------------------------


def test_attempts_are_counted_in_one_run(clock: Clock, tmp_path: Path) -> None:
    counted = {"attempt": 3, "waits": 2, "waited": 5.0}
    stand = Stand(tmp_path)
    stand.push(ask("a"), ask("b"))
    a, b = stand.pull()
    stand.instead(a, a.replace(meta={**a.meta, **counted}))
    (again,) = stand.pull()
    assert {name: again.meta[name] for name in counted} == counted
    stand.instead(again, again.replace(dont_filter=True))
    stand.close("shutdown")
    third = Stand(tmp_path)
    for request in third.pull():
        assert not request.meta.keys() & counted.keys()
        assert request.meta["family"] == "api"
    third.kill()
    del b


def test_what_has_failed_is_tried_again_and_made_good(clock: Clock, tmp_path: Path) -> None:
    def raises(_: Response) -> None:
        raise KeyError

    stand = Stand(tmp_path)
    stand.spider.outputs = {"list": raises, "a": raises}
    assert run(stand, ask("list"), ask("a", key="k")) == ["list", "a"]
    stand.close()
    assert (stand.four(), stand.accounts.count("lists_failed")) == ((0, 0, 1, 0), 1)
    again = Stand(tmp_path)
    assert (again.four(), again.accounts.count("lists_failed")) == ((0, 0, 0, 1), 0)
    again.spider.outputs = {"a": lambda _: [Item("k", 1)]}
    assert run(again) == ["list", "a"]
    again.close()
    assert (again.four(), again.accounts.count("lists_failed")) == ((1, 0, 0, 0), 0)
    third = Stand(tmp_path)
    assert run(third, ask("list"), ask("a", key="k")) == [], "there is nothing left to do"
    third.close()
    assert third.rows() == ["k"]
    assert third.accounts.stored_before == 1


def start(name: str, **given: Any) -> Request:
    """As Scrapy marks what ``start()`` yields."""
    return ask(name, meta={"is_start_request": True}, **given)


def test_a_run_begins_as_the_first_one_did(clock: Clock, tmp_path: Path) -> None:
    """The list has begun; that what is known of Kaggle has changed since begins no second walk."""
    stand = Stand(tmp_path)
    assert run(stand, start("list page_size=200"), start("another list")) == [
        "list%20page_size=200",
        "another%20list",
    ]
    stand.close("shutdown")
    again = Stand(tmp_path)
    assert run(again, start("list page_size=20"), start("another list"), start("third")) == [
        "third"
    ]
    again.close()


def test_a_run_may_be_told_of_more_resources(clock: Clock, tmp_path: Path) -> None:
    """A file of refs that has grown, at its top."""
    stand = Stand(tmp_path)
    assert run(stand, *(start(key, key=key) for key in ("b", "c"))) == ["b", "c"]
    stand.close("shutdown")
    again = Stand(tmp_path)
    for key in ("a", "b", "c", "d"):
        again.accounts.discover(key)
        again.spider.outputs[key] = lambda _, key=key: [Item(key, 1)]  # type: ignore[misc]
    assert run(again, *(start(key, key=key) for key in ("a", "b", "c", "d"))) == [
        "b",
        "c",
        "a",
        "d",
    ], "two have failed, and are tried again; two are new"
    again.close()
    assert again.four() == (4, 0, 0, 0)


def test_facts_of_a_run_are_kept_for_who_asks(clock: Clock, tmp_path: Path) -> None:
    def facts() -> dict[str, str | None]:
        with closing(Store.look(tmp_path / "job" / FILE)) as store:
            return {name: store.get(name) for name in ("run", "clean", "reason", "run_stored")}

    stand = Stand(tmp_path)
    stand.spider.outputs["a"] = lambda _: [Item("k", 1)]
    assert facts() == {"run": "1", "clean": "0", "reason": None, "run_stored": "0"}
    run(stand, ask("a"))
    stand.close("shutdown")
    assert facts() == {"run": "1", "clean": "1", "reason": "shutdown", "run_stored": "0"}
    again = Stand(tmp_path)
    assert facts()["run"] == "2"
    assert (facts()["clean"], facts()["run_stored"]) == ("0", "1")
    again.close()
    assert (facts()["clean"], facts()["reason"]) == ("1", "finished")


def test_a_request_whose_method_is_gone_fails_and_nobody_else(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Before(Things):
        def gone(self, response: Response) -> None:
            """Not there any more in the next version."""

    stand = Stand(tmp_path, spider=Before)
    stand.push(ask("a", key="k", callback=stand.spider.gone), ask("b"))  # type: ignore[attr-defined]
    stand.close("shutdown")
    again = Stand(tmp_path)
    assert run(again) == ["b"]
    assert again.accounts.reasons("failed") == {"unreadable_request": 1}
    assert "things has no method gone" in caplog.text
    again.close()
    third = Stand(tmp_path, spider=Before)
    assert run(third) == ["a"], "it is there again"
    third.close()


def test_all_that_is_in_a_job_is_its_owners_alone(clock: Clock, tmp_path: Path) -> None:
    """While it runs, and when it was killed: rows that wait for their place as well."""
    feeds = {
        f"{tmp_path}/%(batch_id)d.csv": {"format": "csv", "batch_item_count": 5},
        str(tmp_path / "rows.csv"): {"format": "csv"},
    }
    before = os.umask(0)
    try:
        stand = Stand(tmp_path, FEEDS=feeds)
        stand.spider.outputs["a"] = lambda _: [Item("k", 1)]
        run(stand, ask("a"))
        stand.commit()
    finally:
        os.umask(before)
    found = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "job").rglob("*")
        if path.is_file()
    }
    assert found.keys() > {FILE, f"{FILE}-wal", f"{FILE}-shm", "lock"}
    assert set(found.values()) == {0o600}
    stand.kill()


# -- refused ---------------------------------------------------------------------------------------


def refused(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> str:
    """The spider closes again at once, as Scrapy asks for it, and nothing was done."""
    results = stand.crawler.signals.send_catch_log(
        signals.spider_opened, spider=stand.spider, dont_log=CloseSpider
    )
    errors: list[Any] = [value.value for _, value in results if isinstance(value, Failure)]
    assert [(type(each), each.reason) for each in errors] == [(CloseSpider, "kaggle_job")]
    assert stand.push(ask("a")) == [False]
    assert stand.pull() == []
    assert not stand.scheduler.has_pending_requests()
    assert stand.accounts.counts() == {}
    stand.close("kaggle_job")
    assert len(stand.spider.stopped_because.splitlines()) == 1
    return stand.spider.stopped_because


def test_a_job_that_is_in_use_closes_the_spider_again(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(tmp_path)
    stand.spider.outputs["a"] = lambda _: [Item("k", 1)]
    run(stand, ask("a"))
    stand.commit()
    before = stand.feed.read_bytes()
    second = Stand(tmp_path)
    assert "is in use by process" in refused(second, monkeypatch)
    assert stand.feed.read_bytes() == before
    stand.close()


@pytest.mark.parametrize("spoil", ["shorter", "gone", "changed", "longer"])
def test_a_feed_that_is_not_as_it_was_left(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    stand = Stand(tmp_path)
    stand.spider.outputs["a"] = lambda _: [Item("k", 1)]
    run(stand, ask("a"), ask("b"))
    stand.close("shutdown")
    right = stand.feed.read_bytes()
    changes = {"shorter": right[:-3], "changed": right[:-3] + b"xx\n", "longer": right + b"x\n"}
    if spoil == "gone":
        stand.feed.unlink()
    else:
        stand.feed.write_bytes(changes[spoil])
    wrong = stand.feed.read_bytes() if stand.feed.exists() else None
    said = refused(Stand(tmp_path), monkeypatch)
    assert str(stand.feed) in said
    assert (stand.feed.read_bytes() if stand.feed.exists() else None) == wrong
    stand.feed.write_bytes(right)
    again = Stand(tmp_path)
    assert again.four() == (1, 0, 0, 0)
    again.close()
    assert again.rows() == ["k"]


def test_a_refused_job_can_be_taken_by_another(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stand(tmp_path).close("shutdown")
    other = Stand(tmp_path, arguments={"search": "x"})
    assert "other arguments (none, now search=x)" in refused(other, monkeypatch)
    Stand(tmp_path).close()
