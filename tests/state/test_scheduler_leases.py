"""Everything that comes of a request counts when it is over, or nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from scrapy.exceptions import CloseSpider, DropItem
from scrapy.http import Response

from kagglecrawl.state import leases
from kagglecrawl.state.store import State
from tests.state.helpers import Item, Refused
from tests.state.stand import Clock, Stand, Things, ask, run, state_of_request

# -- all of it -------------------------------------------------------------------------------------


def test_nothing_counts_before_the_request_is_over(stand: Stand) -> None:
    seen: list[Any] = []

    def callback(_: Response) -> Iterator[Any]:
        stand.accounts.discover("k", 0)
        yield Item("k", 1)
        yield ask("child")
        stand.commit()
        seen.append((stand.four(), stand.rows(), stand.names()))

    stand.spider.outputs["a"] = callback
    assert run(stand, ask("a")) == ["a", "child"]
    assert seen == [((0, 0, 0, 0), [], [])]
    assert stand.four() == (1, 0, 0, 0)
    stand.commit()
    assert stand.rows() == ["k"]
    assert state_of_request(stand, ask("a")) is State.DONE
    stand.close()


def test_rows_are_in_the_feed_when_the_commit_is_made(stand: Stand, clock: Clock) -> None:
    stand.spider.outputs["a"] = lambda _: [Item("k", 1)]
    run(stand, ask("a"))
    assert stand.rows() == []
    clock.advance(0.3)
    assert stand.rows() == ["k"]
    assert stand.stat("kaggle/things/stored") == 1
    stand.close()


def test_an_item_that_is_dropped_is_skipped_for_its_reason(stand: Stand) -> None:
    def pipeline(item: Item) -> None:
        if item.value < 5:
            error = DropItem("below")
            error.slug = "usability"  # type: ignore[attr-defined]
            raise error

    stand.pipeline = pipeline
    stand.spider.outputs["a"] = lambda _: [Item("k", 1), Item("l", 9)]
    run(stand, ask("a", key="k"))
    stand.commit()
    assert (stand.rows(), stand.four()) == (["l"], (1, 1, 0, 0))
    assert stand.accounts.reasons("skipped") == {"usability": 1}
    stand.close()


def test_an_item_without_a_key_is_a_row_and_no_account(stand: Stand) -> None:
    stand.spider.outputs["a"] = lambda _: [{"key": "k", "value": 1}]
    run(stand, ask("a"))
    stand.commit()
    assert (stand.rows(), stand.four()) == (["k"], (0, 0, 0, 0))
    stand.close()


def test_a_record_that_a_pipeline_has_made_a_dict_of_is_still_the_requests(stand: Stand) -> None:
    """It has no key of its own any more."""
    stand.spider.outputs["a"] = lambda _: [{"key": "row", "value": 1}]
    stand.spider.outputs["b"] = lambda _: [{"key": "again", "value": 2}]
    run(stand, ask("a", key="k"), ask("b", key="k"))
    stand.commit()
    assert (stand.rows(), stand.four()) == (["row"], (1, 0, 0, 0))
    stand.close()


def test_a_dict_beside_a_record_is_nobodys(stand: Stand) -> None:
    """One of them has the key, so the other is something else."""
    stand.spider.outputs["a"] = lambda _: [Item("k", 1), {"key": "beside", "value": 2}]
    run(stand, ask("a", key="k"))
    stand.commit()
    assert (stand.rows(), stand.four()) == (["k", "beside"], (1, 0, 0, 0))
    stand.close()


def test_what_is_dropped_without_a_key_is_the_requests(stand: Stand) -> None:
    def pipeline(item: Any) -> None:
        if isinstance(item, dict):
            raise DropItem("no")

    stand.pipeline = pipeline
    stand.spider.outputs["a"] = lambda _: [{"key": "x", "value": 1}]
    stand.spider.outputs["b"] = lambda _: [{"key": "x", "value": 1}, Item("l", 1)]
    run(stand, ask("a", key="k"), ask("b", key="l"))
    stand.commit()
    assert (stand.rows(), stand.four()) == (["l"], (1, 1, 0, 0))
    assert stand.accounts.reasons("skipped") == {"dropped": 1}
    stand.close()


def test_the_words_of_another_projects_spider_mean_nothing(clock: Clock, tmp_path: Path) -> None:
    """Its meta and its items may have a key, which is none of ours."""

    class Foreign(Things):
        keeps_accounts = False

    stand = Stand(tmp_path, spider=Foreign)
    stand.spider.outputs["a"] = lambda _: [Item("k", 1), Item("k", 2)]
    run(stand, ask("a", key="k"))
    stand.commit()
    assert (stand.rows(), stand.four()) == (["k", "k"], (0, 0, 0, 0))
    stand.close()


def test_a_resource_is_in_the_feed_once(stand: Stand) -> None:
    """Whether one callback yields it twice, or two do."""
    stand.spider.outputs["a"] = lambda _: [Item("k", 1), Item("k", 2), ask("b")]
    stand.spider.outputs["b"] = lambda _: [Item("k", 3)]
    run(stand, ask("a"))
    stand.commit()
    assert (stand.rows(), stand.four()) == (["k"], (1, 0, 0, 0))
    assert stand.stat("kaggle/doubled") == 2
    stand.close()


def test_a_resource_is_not_in_the_feed_when_it_is_skipped(stand: Stand) -> None:
    """The account and the feed say the same."""

    def callback(_: Response) -> Iterator[Any]:
        stand.accounts.skip("k", "usability")
        yield Item("k", 1)

    stand.spider.outputs["a"] = callback
    run(stand, ask("a"))
    stand.commit()
    assert len(stand.rows()) == stand.accounts.count("stored")
    assert stand.accounts.balanced()
    stand.close()


def test_a_resource_that_was_skipped_before_stays_out_of_the_feed(stand: Stand) -> None:
    stand.accounts.discover("k")
    stand.accounts.skip("k", "usability")
    stand.spider.outputs["a"] = lambda _: [Item("k", 1)]
    run(stand, ask("a"))
    stand.commit()
    assert (stand.rows(), stand.four()) == ([], (0, 1, 0, 0))
    stand.close()


def test_an_item_from_start_is_a_row_too(stand: Stand) -> None:
    stand._process(Item("k", 1), None)
    stand.commit()
    assert (stand.rows(), stand.four()) == (["k"], (1, 0, 0, 0))
    stand.close()


# -- none of it ------------------------------------------------------------------------------------


def raises(stand: Stand) -> Any:
    def callback(_: Response) -> Iterator[Any]:
        stand.accounts.discover("l")
        yield Item("k", 1)
        yield ask("child")
        raise KeyError("half-way")

    return callback


def raises_async(stand: Stand) -> Any:
    async def callback(_: Response) -> AsyncIterator[Any]:
        yield Item("k", 1)
        yield ask("child")
        raise KeyError("half-way")

    return callback


def raises_at_once(stand: Stand) -> Any:
    async def callback(_: Response) -> None:
        raise KeyError("at once")

    return callback


def pipeline_raises(stand: Stand) -> Any:
    def pipeline(item: Item) -> None:
        if item.value == 2:
            raise OSError("disk")

    stand.pipeline = pipeline
    return lambda _: [Item("l", 1), Item("k", 2), ask("child")]


def cannot_be_exported(stand: Stand) -> Any:
    return lambda _: [Item("l", 1), Item("k", Unprintable()), ask("child")]  # type: ignore[arg-type]


class Unprintable:
    def __str__(self) -> str:
        raise LookupError("no text")


def has_no_page_row(stand: Stand) -> Any:
    def page_row(item: Item) -> str:
        if item.value == 2:
            raise TypeError("it has no such field")
        return "row"

    stand.accounts._page_row = page_row
    return lambda _: [Item("l", 1), Item("k", 2), ask("child")]


def says_nothing(stand: Stand) -> Any:
    return lambda _: [Item("l", 1)]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (raises, "callback_KeyError"),
        (raises_async, "callback_KeyError"),
        (raises_at_once, "callback_KeyError"),
        (pipeline_raises, "pipeline_OSError"),
        (cannot_be_exported, "feed_LookupError"),
        (has_no_page_row, "feed_TypeError"),
        (says_nothing, "nothing_came_of_it"),
    ],
)
def test_a_failure_half_way_leaves_nothing_of_it(stand: Stand, make: Any, reason: str) -> None:
    stand.spider.outputs["a"] = make(stand)
    stand.spider.outputs["b"] = lambda _: [Item("m", 1)]
    assert run(stand, ask("a", key="k"), ask("b", key="m")) == ["a", "b"]
    stand.commit()
    assert stand.rows() == ["m"], "what comes after it is as always"
    assert stand.four() == (1, 0, 1, 0)
    assert stand.accounts.reasons("failed") == {reason: 1}
    assert state_of_request(stand, ask("a")) is State.FAILED
    assert stand.accounts.balanced()
    stand.close()


def test_a_list_that_fails_is_counted_as_one(stand: Stand) -> None:
    stand.spider.outputs["a"] = raises(stand)
    run(stand, ask("a"))
    assert stand.accounts.count("lists_failed") == 1
    assert stand.four() == (0, 0, 0, 0)
    stand.close()


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError("x"), "OSError"), (Refused(404), "Refused_404")]
)
def test_a_request_without_an_answer_and_without_an_errback(
    stand: Stand, error: Exception, reason: str
) -> None:
    """A swallowed 404, a refused connection."""
    stand.push(ask("a", key="k"))
    (request,) = stand.pull()
    stand.fail(request, error)
    assert stand.accounts.reasons("failed") == {reason: 1}
    assert state_of_request(stand, ask("a")) is State.FAILED
    stand.close()


def test_a_request_that_nobody_hears_of_again_has_failed(stand: Stand) -> None:
    """A middleware has swallowed it."""
    stand.push(ask("a", key="k"))
    (request,) = stand.pull()
    stand.over(request)
    assert stand.accounts.reasons("failed") == {"no_verdict": 1}
    assert not stand.scheduler.has_pending_requests()
    stand.close()


def test_a_callback_that_was_not_read_to_its_end_has_failed(stand: Stand) -> None:
    """By a spider middleware that stops half-way."""
    stand.spider.outputs["a"] = lambda _: iter([Item("k", 1), Item("l", 2)])
    stand.push(ask("a", key="k"))
    (request,) = stand.pull()
    assert request.callback is not None
    output: Any = request.callback(Response(request.url, request=request))
    stand._process(next(output), Response(request.url, request=request))
    output.close()
    stand.over(request)
    stand.commit()
    assert (stand.rows(), stand.four()) == ([], (0, 0, 1, 0))
    assert stand.accounts.reasons("failed") == {"no_verdict": 1}
    stand.close()


def test_an_errback_that_takes_care_is_a_success(stand: Stand) -> None:
    def skips(_: object) -> Iterator[Any]:
        stand.accounts.skip("k", "not_found")
        yield ask("instead")

    stand.spider.errors["a"] = skips
    stand.push(ask("a", key="k", errback=stand.spider.failed))
    (request,) = stand.pull()
    stand.fail(request, OSError())
    assert stand.names() == ["instead"]
    assert stand.four() == (0, 1, 0, 0)
    assert state_of_request(stand, ask("a")) is State.DONE
    stand.close("shutdown")


def test_a_declared_failure_keeps_what_was_yielded(stand: Stand) -> None:
    """A page of a list that could not be had is followed by the next one, and tried again later."""

    def declares(_: object) -> Iterator[Any]:
        leases.declare_failed("server_error")
        stand.accounts.note("noted")
        yield ask("next page")

    stand.spider.errors["a"] = declares
    stand.push(ask("a", errback=stand.spider.failed))
    (request,) = stand.pull()
    stand.fail(request, OSError())
    assert stand.names() == ["next%20page"]
    assert stand.accounts.count("lists_failed") == stand.accounts.count("noted") == 1
    assert state_of_request(stand, ask("a")) is State.FAILED
    stand.close("shutdown")


def test_close_spider_gives_the_request_to_the_next_run(clock: Clock, tmp_path: Path) -> None:
    def callback(_: Response) -> Iterator[Any]:
        yield Item("k", 1)
        yield ask("child")
        raise CloseSpider("enough")

    stand = Stand(tmp_path)
    stand.spider.outputs["a"] = callback
    stand.push(ask("a", key="k"))
    (request,) = stand.pull()
    stand.begin_closing()
    stand.answer(request)
    stand.close("enough")
    assert (stand.rows(), stand.four()) == ([], (0, 0, 0, 0))
    again = Stand(tmp_path)
    again.spider.outputs["a"] = lambda _: [Item("k", 1)]
    assert run(again) == ["a"]
    again.close()
    assert again.rows() == ["k"]


def test_page_files_are_written_when_all_of_a_page_is_known(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Things, "page_folder", tmp_path / "pages")
    stand = Stand(tmp_path)

    def listed(_: Response) -> Iterator[Any]:
        for position in range(20):
            stand.accounts.discover(f"k{position}", position)
            yield ask(f"{position}", key=f"k{position}")
        lease = leases.current()
        assert lease is not None
        lease.covered = (0, 20)

    stand.spider.outputs["list"] = listed
    for position in range(20):
        stand.spider.outputs[f"{position}"] = lambda _, p=position: [Item(f"k{p}", p)]  # type: ignore[misc]
    stand.push(ask("list"))
    page = tmp_path / "pages" / "page_1.jsonl"
    for number in range(21):
        assert not page.exists(), number
        (request,) = stand.pull(1)
        stand.answer(request)
        stand.commit()
    assert page.read_text().splitlines() == [f"row of k{position}" for position in range(20)]
    assert stand.stat("kaggle/pages_written") == 1
    stand.close()
