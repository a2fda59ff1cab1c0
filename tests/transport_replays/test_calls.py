"""What the download handler makes of the other calls about episodes, and by the official client."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scrapy import Request
from scrapy.http import Response, TextResponse

from kagglecrawl.kaggle import rpc, web
from kagglecrawl.kaggle.errors import BadReply, KaggleError, NotFound, Unusable, judge
from kagglecrawl.transport.replays import ReplayResponse
from tests.transport_replays.site import (
    EPISODE,
    REPLAY,
    SECRET,
    Asked,
    Bench,
    Reply,
    answer,
    game,
    packed,
    run,
    to,
)

LOGS = rpc.GET_EPISODE_AGENT_LOGS
OF_AGENT = {"episode_id": EPISODE, "agent_index": 1}


def nothing(_: Asked) -> Reply:
    return answer(500)


@pytest.mark.parametrize("transport", ["scrapy", "official"])
def test_lists_of_the_site_go_by_scrapy_without_credentials(transport: str) -> None:
    async def test(bench: Bench) -> None:
        config = bench.handler._config
        beside = {"web_url": config.api_url}  # below the address that is sent credentials
        bench.handler._config = cast(Any, SimpleNamespace(**{**vars(config), **beside}))
        for call, fields in (
            (web.LIST_EPISODES, {"submission_id": 7}),
            (web.LIST_EPISODES_2020, {"team_id": 7}),
            (web.WEB_LEADERBOARD, {"competition_id": 7}),
        ):
            await bench.have(call, **fields)
        for sent in bench.scrapys.sent:
            assert sent.url.startswith(config.api_url)
            assert "Authorization" not in sent.headers
        assert len(bench.scrapys.sent) == bench.stat("requests") == 3
        assert bench.stat("requests/ListEpisodes") == 1
        assert bench.stat("requests/ListEpisodes2020") == 1

    run(test, nothing, KAGGLE_TRANSPORT=transport)


class Official:
    """In place of the official client: what it gives for a file."""

    def __init__(self, response: Response) -> None:
        self.response = response
        self.sent: list[Request] = []

    async def signs_in(self, about_to: Any) -> bool:
        return False

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        return self.response

    async def close(self) -> None:
        """Nothing."""


def by_official(response: Response) -> Any:
    """What comes of a replay."""
    found: list[Any] = []

    async def test(bench: Bench) -> None:
        bench.handler._official = cast(Any, Official(response))
        try:
            found.append(await bench.have(rpc.GET_EPISODE_REPLAY))
        except KaggleError as error:
            found.append(error)
        assert bench.stat("requests/GetEpisodeReplay") == 1

    assert run(test, nothing) == []
    return found[0]


def test_the_official_client_gives_the_same_replay() -> None:
    found = by_official(Response("https://x", body=REPLAY))
    assert isinstance(found, ReplayResponse)
    assert gzip.decompress(found.content) == REPLAY
    directly: list[Any] = []

    async def test(bench: Bench) -> None:
        directly.append(await bench.have(rpc.GET_EPISODE_REPLAY))

    run(test, lambda _: packed(REPLAY))
    assert (found.body, found.content) == (directly[0].body, directly[0].content)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (TextResponse("https://x", status=404, body=b'{"code": 404}'), NotFound),
        (TextResponse("https://x", status=404, body=b'{"replay": {}}'), NotFound),
        (Response("https://x", body=b'{"code": 404, "message": "no"}'), NotFound),
        (Response("https://x", body=b"<html></html>"), BadReply),
        (Response("https://x", body=b'{"replay": {"name": "x"}}'), BadReply),
        (Response("https://x", body=json.dumps(game(rewards=[])).encode()), Unusable),
    ],
)
def test_what_else_it_gives(response: Response, kind: type[KaggleError]) -> None:
    found = by_official(response)
    if isinstance(found, KaggleError):
        assert type(found) is kind
        return
    reply = found.json() if found.body.startswith(b"{") else None
    with pytest.raises(kind):
        judge(rpc.GET_EPISODE_REPLAY, found.status, reply, found.body, known=True)


def test_the_site_is_asked_directly_all_the_same() -> None:
    async def test(bench: Bench) -> None:
        official = Official(Response("https://x", body=b"not asked"))
        bench.handler._official = cast(Any, official)
        assert isinstance(await bench.have(web.REPLAY_WEB), ReplayResponse)
        assert official.sent == []

    run(test, lambda _: packed(REPLAY))


# -- logs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [b"", b"[]", b'[{"duration": 0.1, "stderr": ""}]', b"plain text"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "redirected"])
def test_a_log_is_its_bytes(log: bytes, at_once: bool) -> None:
    """Also an empty one, and JSON that is a list."""

    async def test(bench: Bench) -> None:
        async def sent(request: Request) -> Response:
            location = f"{bench.site.url}/storage/1.json?{SECRET}"
            if at_once:
                return Response(request.url, body=log)
            return Response(request.url, status=302, headers={"Location": location})

        bench.scrapys.download_request = sent  # type: ignore[method-assign]
        found = await bench.have(LOGS, **OF_AGENT)
        assert (found.status, found.body) == (200, log)
        reply = json.loads(log) if log.startswith(b"[") else None
        assert judge(LOGS, found.status, reply, found.body, known=True) == {}

    def storage(asked: Asked) -> Reply:
        assert "authorization" not in asked.headers
        return answer(200, log) if log else answer(416, Content_Range="bytes */0")

    asked = run(test, storage)
    assert len(asked) == (0 if at_once else 1)


def test_a_redirect_that_leads_nowhere_is_no_replay() -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(KaggleError, match="KAGGLE_STORAGE_HOSTS"):
            await bench.have(rpc.GET_EPISODE_REPLAY)

    run(test, lambda _: to(f"https://evil.example/?{SECRET}"))
