"""KaggleReplyMiddleware: what is asked again, when, and for how long."""

from __future__ import annotations

import json
import time
from typing import Any
from unittest.mock import Mock

import pytest
from scrapy import Request, Spider
from scrapy.exceptions import DownloadConnectionRefusedError, ResponseDataLossError
from scrapy.http import JsonResponse, Response, TextResponse
from scrapy.utils.test import get_crawler

from kagglecrawl import settings as project
from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.errors import (
    CredentialsNeeded,
    Damaged,
    Forbidden,
    Misconfigured,
    NoReply,
    NotFound,
    ServerFailed,
    Unreachable,
)
from kagglecrawl.middlewares import KaggleReplyMiddleware, pause
from kagglecrawl.state.holds import Held
from kagglecrawl.state.scheduler import KaggleScheduler

API = "http://127.0.0.1:9/api"
OURS = {
    name: value
    for name, value in vars(project).items()
    if name.startswith(("KAGGLE_", "WORKSPACE"))
}


def middleware(**settings: Any) -> KaggleReplyMiddleware:
    crawler = get_crawler(
        Spider,
        {
            **OURS,
            "KAGGLE_API_URL": API,
            "KAGGLE_MAX_ATTEMPTS": 3,
            "KAGGLE_MAX_WAIT": 100,
            "KAGGLE_RETRY_BASE": 1,
            "KAGGLE_MIN_USABILITY": 0.8,
            **settings,
        },
    )
    crawler.engine = Mock(scheduler=None)
    return KaggleReplyMiddleware.from_crawler(crawler)


def asked(**meta: Any) -> Request:
    fields = {"owner_slug": "a", "dataset_slug": "b"}
    return rpc.GET_DATASET_METADATA.request(
        API, fields=fields, meta={"family": "api", "key": "a/b", **meta}
    )


def answer(status: int, body: Any = None, **headers: str) -> Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    return JsonResponse(API, status=status, body=content, headers=given)


GOOD = {"info": {"title": "x"}}


def wait_of(request: Request | Response) -> float:
    assert isinstance(request, Request)
    assert request.dont_filter
    return float(request.meta["not_before"]) - time.time()


def test_a_good_reply_passes_and_is_decoded_once() -> None:
    request, reply = asked(), answer(200, GOOD)
    passed = middleware().process_response(request, reply)
    assert passed is reply
    assert isinstance(passed, TextResponse)
    assert passed.json() == GOOD


def test_what_is_not_kaggles_is_not_judged() -> None:
    reply = answer(500)
    assert middleware().process_response(Request("https://example.org"), reply) is reply


@pytest.mark.parametrize("header", [{}, {"Retry_After": "0"}, {"Retry_After": "junk"}])
def test_a_429_without_a_wait_backs_off_by_itself(header: dict[str, str]) -> None:
    """Asked again at once it would be asked for ever: a 429 costs no attempt."""
    ours, request = middleware(), asked()
    waits = []
    for _ in range(4):
        again = ours.process_response(request, answer(429, **header))
        waits.append(wait_of(again))
        assert isinstance(again, Request)
        assert again.meta.get("attempt", 1) == 1
        request = again
    assert waits[0] >= 0.4
    assert waits[3] >= 3.9


def test_a_429_for_ever_ends_the_run_when_the_waits_add_up() -> None:
    ours, request, refusal = middleware(), asked(), answer(429, Retry_After="24")
    for _ in range(4):
        again = ours.process_response(request, refusal)
        assert isinstance(again, Request)
        request = again
    assert 96 <= request.meta["waited"] <= 100
    again = ours.process_response(request, refusal)
    assert isinstance(again, Request)
    assert 100 < wait_of(again) < 102, "one long wait, at which the scheduler ends the crawl"
    assert (again.meta["waits"], again.meta["waited"]) == (0, 0.0)


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_is_never_shortened(status: int) -> None:
    again = middleware().process_response(asked(), answer(status, Retry_After="7"))
    assert 6.9 < wait_of(again) < 8


def test_a_retry_after_date_is_read_by_the_servers_own_clock() -> None:
    headers = {
        "Date": "Thu, 01 Jan 2015 00:00:00 GMT",
        "Retry_After": "Thu, 01 Jan 2015 00:00:09 GMT",
    }
    assert 8.9 < wait_of(middleware().process_response(asked(), answer(429, **headers))) < 10


@pytest.mark.parametrize("status", [429, 503])
def test_a_429_holds_its_whole_family(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing resource holds nobody but itself."""
    ours, held = middleware(), list[tuple[str, float]]()
    scheduler = KaggleScheduler.from_crawler(ours._crawler)
    monkeypatch.setattr(scheduler, "hold", lambda *given: held.append(given))
    scheduler.holds = Mock()
    ours._crawler.engine = Mock(scheduler=scheduler)
    again = ours.process_response(asked(), answer(status, Retry_After="7"))
    assert isinstance(again, Request)
    if status == 429:
        ((family, until),) = held
        assert family == "api"
        assert until == pytest.approx(again.meta["not_before"], abs=1)
    else:
        assert not held


def test_what_is_asked_again_carries_no_password_of_a_proxy() -> None:
    """It may wait in a file."""
    request = asked(proxy="http://p:3128", _auth_proxy="http://p:3128")
    request.headers["Proxy-Authorization"] = "Basic hunter2"
    again = middleware().process_response(request, answer(500))
    assert isinstance(again, Request)
    assert "Proxy-Authorization" not in again.headers
    assert not {"proxy", "_auth_proxy"} & again.meta.keys()
    assert request.headers["Proxy-Authorization"], "that one is still under way"


def test_attempts_are_counted_and_end() -> None:
    ours, request = middleware(), asked()
    for attempt in (2, 3):
        again = ours.process_response(request, answer(500))
        assert isinstance(again, Request)
        assert again.meta["attempt"] == attempt
        request = again
    with pytest.raises(ServerFailed, match="answered 500"):
        ours.process_response(request, answer(500))


def test_an_endpoint_that_is_down_is_not_asked_again_and_again() -> None:
    """Three requests in a row were given up: each of the next is asked for once, until one is
    answered well."""
    ours = middleware()

    def attempts() -> int:
        request: Request | Response = asked()
        for count in range(1, 9):
            assert isinstance(request, Request)
            try:
                request = ours.process_response(request, answer(500))
            except ServerFailed:
                return count
        raise AssertionError("for ever")

    assert [attempts() for _ in range(5)] == [3, 3, 3, 1, 1]
    assert ours._stats.get_value("kaggle/given_up/at_once") == 2
    ours.process_response(asked(), answer(200, GOOD))
    assert attempts() == 3


def test_the_pause_doubles_up_to_a_minute() -> None:
    assert [pause(n, 1, 0.5) for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert pause(40, 1, 0.99) == 60
    assert pause(3, 1, 0.1) != pause(3, 1, 0.9)


def test_attempts_that_failed_otherwise_are_none_at_what_is_damaged() -> None:
    """Three downloads that do not agree with their checksum are enough, whatever was before."""
    ours, request = middleware(KAGGLE_MAX_ATTEMPTS=9), asked()
    for _ in range(3):
        again = ours.process_response(request, answer(503))
        assert isinstance(again, Request)
        request = again
    for _ in range(2):
        other = ours.process_exception(request, Damaged("another checksum"))
        assert other is not None
        request = other
    with pytest.raises(Damaged):
        ours.process_exception(request, Damaged("another checksum"))


def test_nobody_there_is_said_soon_but_a_lost_line_is_waited_for() -> None:
    ours, refused = middleware(KAGGLE_MAX_ATTEMPTS=10), DownloadConnectionRefusedError("x")
    with pytest.raises(Unreachable, match="KAGGLE_API_URL"):
        ours.process_exception(asked(attempt=3), refused)
    ours.process_response(asked(), answer(200, GOOD))
    away = ours.process_exception(asked(attempt=3), refused)
    assert isinstance(away, Request)
    assert away.meta["attempt"] == 3, "it is no fault of this request's"
    with pytest.raises(Unreachable, match="longer than KAGGLE_MAX_WAIT"):
        ours.process_exception(asked(waits=20, waited=90.0), refused)
    with pytest.raises(NoReply, match="cut short"):
        ours.process_exception(asked(attempt=10), ResponseDataLossError())
    assert ours.process_exception(asked(), KeyError()) is None


def test_an_odd_refusal_stops_the_crawl_only_before_the_method_has_worked() -> None:
    page = answer(404, b"<html>nothing here</html>")
    anonymous = middleware()
    with pytest.raises(Misconfigured):
        anonymous.process_response(asked(), page)
    with pytest.raises(CredentialsNeeded):
        anonymous.process_response(asked(), answer(403))
    anonymous.process_response(asked(), answer(200, GOOD))
    with pytest.raises(NotFound):
        anonymous.process_response(asked(), page)
    with pytest.raises(Forbidden):
        anonymous.process_response(asked(), answer(403))


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No credentials of this machine's."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path_factory.mktemp("kaggle")))


def test_a_request_that_was_overtaken_by_a_429_goes_back_without_an_attempt() -> None:
    until = time.time() + 5
    again = middleware().process_exception(asked(attempt=2), Held(until))
    assert isinstance(again, Request)
    assert again.meta["attempt"] == 2
    assert again.meta["not_before"] < until - 3, "its family is held; a quota may be raised"
