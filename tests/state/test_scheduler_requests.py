"""The same request again, from a middleware or the spider; and requests that cannot be kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request, Spider
from scrapy.downloadermiddlewares.httpproxy import HttpProxyMiddleware
from scrapy.utils.test import get_crawler

from kagglecrawl.state.store import State
from tests.state.helpers import Item
from tests.state.stand import START, Clock, Stand, ask, name_of, run, state_of_request

# -- the same request again ------------------------------------------------------------------------


def test_a_copy_of_a_middlewares_is_the_same_request(stand: Stand) -> None:
    """A redirect, a retry: done once, its children once."""
    stand.spider.outputs["b"] = lambda _: [Item("k", 1), ask("child")]
    stand.push(ask("a", key="k"))
    (request,) = stand.pull()
    assert stand.instead(request, request.replace(url="https://h/b", dont_filter=True))
    assert state_of_request(stand, ask("a")) is not State.DONE
    (again,) = stand.pull()
    stand.answer(again)
    assert state_of_request(stand, ask("a")) is State.DONE
    assert stand.names() == ["child"]
    assert stand.four() == (1, 0, 0, 0)
    stand.close("shutdown")


def test_the_very_same_object_may_come_back(stand: Stand) -> None:
    """From a middleware that changes the request that it got."""
    stand.push(ask("a", key="k"))
    (request,) = stand.pull()
    request.meta["not_before"] = START + 5
    assert stand.instead(request, request)
    assert stand.scheduler.has_pending_requests()
    assert stand.names() == []
    stand.close("shutdown")


@pytest.mark.parametrize("copied", [True, False], ids=["copy", "object"])
@pytest.mark.parametrize("as_errback", [False, True], ids=["callback", "errback"])
def test_a_spider_may_ask_the_same_again(stand: Stand, copied: bool, as_errback: bool) -> None:
    """``yield response.request``: a second request, and the first one is over."""
    times: list[int] = []

    def again(given: Any) -> Iterator[Any]:
        times.append(1)
        request: Request = given.request
        if len(times) < 3:
            yield request.replace(dont_filter=True) if copied else request
        else:
            yield Item("k", 1)

    stand.spider.outputs["a"] = stand.spider.errors["a"] = again
    stand.push(ask("a", key="k", dont_filter=True, errback=stand.spider.failed))
    for _ in range(3):
        (request,) = stand.pull()
        if as_errback:
            stand.fail(request, OSError())
        else:
            stand.answer(request)
    assert not stand.slot.inprogress
    assert not stand.scheduler.has_pending_requests(), "the crawl would never end"
    assert stand.four() == (1, 0, 0, 0)
    assert stand.stat("scheduler/dequeued") == 3
    stand.close()


def test_a_request_that_is_yielded_twice_is_made_once(stand: Stand) -> None:
    stand.spider.outputs["a"] = lambda _: [ask("b"), ask("b"), ask("a")]
    stand.spider.outputs["b"] = lambda _: [ask("b")]
    assert run(stand, ask("a")) == ["a", "b"]
    assert stand.stat("dupefilter/filtered") == 3
    stand.close()


def test_a_kept_request_can_be_made_again_and_again(stand: Stand) -> None:
    """The same object, yielded from two callbacks."""
    kept = ask("kept", dont_filter=True)
    for name in "ab":
        stand.spider.outputs[name] = lambda _: [kept]
    assert run(stand, ask("a"), ask("b")) in (
        ["a", "b", "kept", "kept"],
        ["a", "kept", "b", "kept"],
    )
    assert not kept.meta.get("kagglecrawl_lease")
    stand.close()


@pytest.mark.parametrize("user", ["", "me:hunter2@"])
def test_a_proxy_is_found_anew_each_time(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    """That of the environment, which may be another one in the next run; its password is not
    written anywhere, and sent again."""
    monkeypatch.setenv("https_proxy", f"http://{user}one:3128")
    stand = Stand(tmp_path)
    stand.push(
        ask("a"), ask("b", meta={"proxy": "http://mine:3128"}), ask("c", meta={"proxy": None})
    )
    proxy = HttpProxyMiddleware.from_crawler(get_crawler())
    for request in stand.pull():
        proxy.process_request(request)
        stand.instead(request, request.replace(dont_filter=True))
    stand.close("shutdown")
    for path in (tmp_path / "job").iterdir():
        assert b"hunter2" not in path.read_bytes()
        assert b"bWU6aHVudGVyMg" not in path.read_bytes()
    monkeypatch.setenv("https_proxy", f"http://{user}two:3128")
    proxy = HttpProxyMiddleware.from_crawler(get_crawler())
    again = Stand(tmp_path)
    found = {}
    for request in again.pull():
        proxy.process_request(request)
        found[name_of(request)] = request.meta["proxy"]
        assert ("Proxy-Authorization" in request.headers) == (
            bool(user) and name_of(request) == "a"
        )
    assert found == {"a": "http://two:3128", "b": "http://mine:3128", "c": None}
    again.kill()


# -- what cannot be kept ---------------------------------------------------------------------------


def test_a_request_that_cannot_be_kept_is_a_failure(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stand = Stand(tmp_path)
    secret = {"Authorization": "Bearer hunter2"}
    stand.spider.outputs["a"] = lambda _: [
        ask("b", key="k", callback=lambda _: None),
        ask("c?sig=hunter2", key="l", headers=secret),
        ask("d"),
    ]
    assert run(stand, ask("a")) == ["a", "d"]
    assert stand.accounts.reasons("failed") == {"not_serializable": 2}
    assert stand.stat("scheduler/unserializable") == 2
    assert "GET https://h/b: " in caplog.text
    assert "hunter2" not in caplog.text
    stand.close()


def test_without_a_job_any_request_will_do(clock: Clock, tmp_path: Path) -> None:
    """``scrapy shell`` and ``parse`` make such."""
    stand, called = Stand(tmp_path, job=False), []
    callback: Any = lambda response: called.append(response.url)  # noqa: E731
    requests = [ask(f"{n}", callback=callback, cb_kwargs={}) for n in range(3)]
    requests.append(ask("set", meta={"found": {1, 2}}))
    stand.push(*requests)
    found = stand.pull()
    assert found[-1].meta["found"] == {1, 2}
    retried = found.pop(0)
    stand.instead(retried, retried.replace(dont_filter=True))
    for each in [*found, *stand.pull()]:
        stand.answer(each)
    assert called == ["https://h/1", "https://h/2", "https://h/0"]
    assert not stand.scheduler._kept, "nothing is kept for ever"
    stand.close()


@pytest.mark.parametrize("text", ["half \ud83d of a pair", "\udfff"])
def test_a_row_with_half_a_character_waits_like_any_other(stand: Stand, text: str) -> None:
    stand.spider.outputs["a"] = lambda _: [ask("b", cb_kwargs={"row": {"title": text}})]
    run(stand, ask("a"))
    stand.commit()
    stand.close()


class Other(Spider):
    """A spider that is none of ours."""

    name = "other"


def test_any_spider_will_do(clock: Clock, tmp_path: Path) -> None:
    """One that knows nothing of accounts."""
    stand = Stand(tmp_path, spider=Other)
    assert stand.push(ask("a")) == [True]
    assert stand.names() == ["a"]
    stand.close("shutdown")
    assert stand.stat("kaggle/other/stored") == 0
