"""Calls of the site: what is sent, what their answers are, and what a refusal means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.errors import (
    BadPage,
    BadReply,
    Forbidden,
    KaggleError,
    NotFound,
    Refused,
    ServerFailed,
    StopCrawl,
    Throttled,
    judge,
)
from kagglecrawl.kaggle.web import (
    LIST_EPISODES,
    LIST_EPISODES_2020,
    REPLAY_2020,
    REPLAY_CONTENT,
    REPLAY_WEB,
    WEB_CALLS,
    WEB_LEADERBOARD,
    WebCall,
)

SITE = "https://www.kaggle.com"
HTML = b"<!DOCTYPE html><html><title>Kaggle</title></html>"
LISTS = [LIST_EPISODES, LIST_EPISODES_2020, WEB_LEADERBOARD]
by_call = pytest.mark.parametrize("call", WEB_CALLS, ids=lambda call: call.method)


@pytest.mark.parametrize(
    ("call", "fields", "url", "body"),
    [
        (
            LIST_EPISODES,
            {"submission_id": 7},
            "/api/i/competitions.EpisodeService/ListEpisodes",
            {"submissionId": 7},
        ),
        (
            LIST_EPISODES,
            {"ids": [1, 2], "submission_id": None},
            "/api/i/competitions.EpisodeService/ListEpisodes",
            {"ids": [1, 2]},
        ),
        (
            LIST_EPISODES_2020,
            {"team_id": 5},
            "/requests/EpisodeService/ListEpisodes?datatype=json",
            {"TeamId": 5},
        ),
        (
            WEB_LEADERBOARD,
            {"competition_id": 18011},
            "/api/i/competitions.LeaderboardService/GetLeaderboard",
            {"competitionId": 18011, "leaderboardMode": "LEADERBOARD_MODE_DEFAULT"},
        ),
        (
            REPLAY_2020,
            {"episode_id": 9},
            "/requests/EpisodeService/GetEpisodeReplay",
            {"EpisodeId": 9},
        ),
        (REPLAY_WEB, {"episode_id": 9}, "/competitions/episodes/9/replay.json", None),
        (REPLAY_CONTENT, {"episode_id": 9}, "/episodes/9.json", None),
    ],
)
def test_what_is_sent(call: WebCall, fields: dict[str, Any], url: str, body: Any) -> None:
    request = call.request(SITE, fields=fields, meta={"key": "k"}, priority=3)
    assert request.url == SITE + url
    assert request.method == ("GET" if body is None else "POST")
    assert (json.loads(request.body) if request.body else None) == body
    assert (b"Content-Type" in request.headers) is (body is not None)
    assert request.headers["Accept"] == b"application/json"
    assert "Authorization" not in request.headers
    assert (request.priority, request.meta["key"]) == (3, "k")
    assert rpc.TABLE[request.meta["rpc"]] is call
    for name in ("handle_httpstatus_all", "dont_redirect", "dont_retry"):
        assert request.meta[name] is True
    if call.replay:
        assert request.meta["episode"] == 9
        assert request.meta["dont_cache"] is True
        assert request.meta["download_slot"] == rpc.REPLAY_SLOT


@pytest.mark.parametrize(
    ("call", "fields", "words"),
    [
        (LIST_EPISODES, {"team_id": 5}, "no field 'team_id'"),
        (LIST_EPISODES, {"submissionId": 5}, "no field 'submissionId'"),
        (LIST_EPISODES, {"submission_id": "5"}, "not of type int"),
        (LIST_EPISODES, {"submission_id": True}, "not of type int"),
        (LIST_EPISODES, {"ids": [1, "2"]}, "not of type list of int"),
        (LIST_EPISODES, {"ids": (1, 2)}, "not of type list of int"),
        (REPLAY_WEB, {}, "needs the field 'episode_id'"),
        (REPLAY_WEB, {"episode_id": "../x"}, "not of type int"),
    ],
)
def test_what_a_call_does_not_have_is_refused(
    call: WebCall, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        call.request(SITE, fields=fields, meta={})


def test_whom_each_asks() -> None:
    class Here:
        api_url, web_url, content_url = "api", "web", "content"

    assert {call.where for call in rpc.TABLE.values()} == {"api", "web", "content"}
    for call in rpc.TABLE.values():
        assert call.address(Here()) == call.where
    assert {call.family for call in WEB_CALLS} == {"episodes", "replay"}
    assert all(call.part and call.kind == "item" for call in WEB_CALLS)


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"episodes": []},
        {"episodes": [{"id": 1}], "teams": [], "submissions": [], "new": 1},
        {"teams": [{"id": 1}]},
        {"episodes": None},
        {"result": {"episodes": [], "teams": []}, "wasSuccessful": True},
        {"result": {}, "wasSuccessful": True},
        {"wasSuccessful": True},
    ],
)
@pytest.mark.parametrize("call", LISTS[:2], ids=lambda call: call.method)
def test_a_list_of_every_generation(call: WebCall, reply: dict[str, Any]) -> None:
    body = json.dumps(reply).encode()
    assert judge(call, 200, reply, body, known=False) == reply


@pytest.mark.parametrize("name", ["list_episodes_empty", "list_episodes_ids_100000-100002"])
def test_real_lists(name: str, samples: Path) -> None:
    body = (samples / f"episodes/episode_service/{name}.json").read_bytes()
    assert judge(LIST_EPISODES_2020, 200, json.loads(body), body, known=False)


@pytest.mark.parametrize(
    "reply",
    [
        {"status": "ok"},
        {"episodes": "none"},
        {"result": "none", "wasSuccessful": True},
        {"result": {"status": "ok"}, "wasSuccessful": True},
        {"result": {"episodes": {}, "teams": 7}},
        [],
        7,
    ],
)
@pytest.mark.parametrize("call", LISTS, ids=lambda call: call.method)
def test_what_is_no_list_is_asked_for_again_but_not_often(call: WebCall, reply: Any) -> None:
    with pytest.raises(BadPage) as caught:
        judge(call, 200, reply, json.dumps(reply).encode(), known=False)
    assert (caught.value.slug, caught.value.most_attempts) == (BadReply.slug, 3)


@by_call
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, BadPage),
        (301, Refused),
        (304, Refused),
        (400, Refused),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (405, Refused),
        (408, ServerFailed),
        (410, NotFound),
        (429, Throttled),
        (500, ServerFailed),
        (503, ServerFailed),
    ],
)
def test_no_answer_of_the_site_ends_the_crawl(
    call: WebCall, known: bool, status: int, kind: type[KaggleError]
) -> None:
    for body in (HTML, b"", b'{"code": 1, "message": "no"}'):
        reply = json.loads(body) if body.startswith(b"{") else None
        with pytest.raises(KaggleError) as caught:
            judge(call, status, reply, body, known=known, location="https://x/")
        assert type(caught.value) is kind
        assert not isinstance(caught.value, StopCrawl)


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        (["Invalid request"], Refused),
        ([], Refused),
        (None, Refused),
        ("Invalid", Refused),
        (["Episode not found"], NotFound),
        (["Too many requests"], Throttled),
    ],
)
@by_call
def test_what_was_not_successful(call: WebCall, errors: Any, kind: type[KaggleError]) -> None:
    """In 2020 a refusal came with status 200."""
    reply = {"wasSuccessful": False, "errors": errors}
    with pytest.raises(KaggleError) as caught:
        judge(call, 200, reply, json.dumps(reply).encode(), known=False)
    assert type(caught.value) is kind
