"""KaggleReplyMiddleware, for calls of the site: what is asked again, and that none ends the crawl
while somebody else may have it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from scrapy import Request
from scrapy.exceptions import DownloadConnectionRefusedError

from kagglecrawl.kaggle import web
from kagglecrawl.kaggle.errors import (
    Away,
    BadPage,
    Damaged,
    KaggleError,
    Misconfigured,
    NoReply,
    Unreachable,
)
from kagglecrawl.kaggle.rpc import LIST_SUBMISSION_EPISODES, Rpc
from kagglecrawl.middlewares import KaggleReplyMiddleware
from tests.test_middleware import GOOD, answer, asked, middleware, wait_of

SITE = "http://127.0.0.1:9"
LISTED = {"episodes": [{"id": 1}]}


def of_site(call: Rpc = web.LIST_EPISODES, **meta: Any) -> Request:
    fields = {"episode_id": 7} if call.replay else {"submission_id": 7}
    given = {"family": call.family, "key": "k", **meta}
    return call.request(SITE, fields=fields, meta=given)


def until_given_up(ours: KaggleReplyMiddleware, request: Request, error: Exception) -> Any:
    """How often it was asked for, and what it was given up with."""
    for times in range(1, 100):
        try:
            again = ours.process_exception(request, error)
        except KaggleError as why:
            return times, why
        assert isinstance(again, Request)
        request = again
    raise AssertionError("asked for ever")


def test_nobody_at_the_site_is_no_end_of_the_crawl() -> None:
    """Perhaps the official API can be reached; of that it would be the end."""
    ours = middleware(KAGGLE_MAX_ATTEMPTS=8)
    times, why = until_given_up(ours, of_site(), DownloadConnectionRefusedError())
    assert (times, type(why)) == (3, Away)
    assert f"ListEpisodes at {SITE}: the connection was refused" in str(why)
    ours.process_response(of_site(), answer(200, LISTED))
    _, why = until_given_up(ours, asked(), DownloadConnectionRefusedError())
    assert type(why) is Unreachable, "that the site has answered says nothing of the API"
    assert "KAGGLE_API_URL" in str(why)


def test_a_site_that_goes_away_is_waited_for() -> None:
    ours = middleware(KAGGLE_MAX_WAIT=10)
    ours.process_response(of_site(), answer(200, LISTED))
    times, why = until_given_up(ours, of_site(), DownloadConnectionRefusedError())
    assert times > 3
    assert type(why) is Unreachable
    assert "KAGGLE_WEB_URL" in str(why)


def test_nobody_waits_for_the_content_network() -> None:
    """What it has, the site has as well."""
    ours = middleware(KAGGLE_MAX_ATTEMPTS=5)
    request = of_site(web.REPLAY_CONTENT)
    assert ours.process_response(request, answer(200, {"replay": {}}))
    times, why = until_given_up(ours, request, Away("gone"))
    assert (times, type(why)) == (5, Away)


@pytest.mark.parametrize(
    ("error", "times"), [(BadPage("a page"), 3), (Damaged("half"), 3), (NoReply("cut"), 8)]
)
def test_a_replay_is_asked_for_again_but_not_often(error: KaggleError, times: int) -> None:
    ours = middleware(KAGGLE_MAX_ATTEMPTS=8)
    ours.process_response(of_site(web.REPLAY_WEB), answer(200, {"replay": {}}))
    assert until_given_up(ours, of_site(web.REPLAY_WEB), error) == (times, error)


def test_a_page_in_place_of_a_replay_shows_that_the_site_is_there() -> None:
    ours = middleware(KAGGLE_MAX_ATTEMPTS=8)
    ours.process_exception(of_site(web.REPLAY_WEB), BadPage("a page"))
    assert until_given_up(ours, of_site(web.REPLAY_WEB), NoReply("cut"))[0] == 8


def test_good_answers_of_the_site_do_not_prove_the_apis_address() -> None:
    ours = middleware()
    ours.process_response(of_site(), answer(200, LISTED))
    fields = {"submission_id": 7}
    request = LIST_SUBMISSION_EPISODES.request(SITE, fields=fields, meta={"family": "episodes"})
    with pytest.raises(Misconfigured, match="KAGGLE_API_URL"):
        ours.process_response(request, answer(404, b"<html></html>"))
    ours.process_response(asked(), answer(200, GOOD))
    with pytest.raises(KaggleError) as caught:
        ours.process_response(request, answer(404, b"<html></html>"))
    assert caught.value.slug == "not_found"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (web.LIST_EPISODES, "No list of episodes is fetched for 30 s"),
        (web.REPLAY_WEB, "No replay is fetched for 30 s"),
    ],
)
def test_a_429_holds_its_kind(call: Rpc, words: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    again = middleware().process_response(of_site(call), answer(429, Retry_After="30"))
    assert 29.9 < wait_of(again) < 31
    assert words in caplog.text
