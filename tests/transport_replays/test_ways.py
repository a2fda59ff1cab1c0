"""Where a replay may come from, who is told who we are, and what becomes of one that breaks off."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kagglecrawl.kaggle import web
from kagglecrawl.kaggle.errors import Away, KaggleError, NoReply, Refused, ServerFailed, Unusable
from kagglecrawl.kaggle.rpc import GET_EPISODE_REPLAY, Rpc
from kagglecrawl.transport.replays import ReplayResponse
from tests.transfer.stand import head
from tests.transport_replays.site import (
    EPISODE,
    REPLAY,
    SECRET,
    Asked,
    Bench,
    Reply,
    Site,
    always,
    answer,
    had,
    packed,
    run,
    to,
)

HTML = b"<!DOCTYPE html><html><title>Kaggle</title></html>"


# -- redirects -------------------------------------------------------------------------------------


def test_the_content_network_redirects_once() -> None:
    def script(asked: Asked) -> Reply:
        return packed(REPLAY) if asked.path == "/there" else to("/there", 301)

    found, asked = had(script, web.REPLAY_CONTENT)
    assert isinstance(found, ReplayResponse)
    assert found.url.endswith(f"/episodes/{EPISODE}.json")
    assert [each.path for each in asked] == [f"/episodes/{EPISODE}.json", "/there"]


@pytest.mark.parametrize(
    "location",
    [
        f"https://evil.example/x?{SECRET}",
        f"http://storage.googleapis.com/x?{SECRET}",
        f"ftp://127.0.0.1/{SECRET}",
        f"https://me:{SECRET}@storage.googleapis.com/",
        f"https://storage.googleapis.com:8443/x?{SECRET}",
        "http://10.0.0.1/",
        "https://[bad",
    ],
)
def test_it_leads_nowhere_else(location: str) -> None:
    found, asked = had(always(to(location)))
    assert type(found) is Refused, found
    assert SECRET not in str(found)
    assert len(asked) == 1


def test_circles_end() -> None:
    found, asked = had(always(to("/again")))
    assert type(found) is Refused
    assert len(asked) == 4


def test_of_the_api_credentials_go_to_the_api_alone() -> None:
    def script(asked: Asked) -> Reply:
        return packed(REPLAY) if SECRET in asked.path else to(f"/storage/1.json?{SECRET}")

    found, (first, second) = had(script, GET_EPISODE_REPLAY)
    assert isinstance(found, ReplayResponse)
    assert SECRET not in found.url
    assert (first.method, first.headers["authorization"]) == ("POST", "Bearer KGAT_5ecre7")
    assert first.path == f"/api/v1/{GET_EPISODE_REPLAY.name}"
    assert json.loads(first.body) == {"episodeId": EPISODE}
    assert second.method == "GET"
    assert not second.headers.keys() & {"authorization", "content-type"}


@pytest.mark.parametrize(
    "call", [web.REPLAY_WEB, web.REPLAY_CONTENT, web.REPLAY_2020], ids=lambda call: call.method
)
def test_the_site_gets_none(call: Rpc) -> None:
    """Not even below the API's own address."""

    async def test(bench: Bench) -> None:
        config = bench.handler._config
        bench.handler._config = replace(config, web_url=config.api_url, content_url=config.api_url)
        assert bench.request(call).url.startswith(f"{config.api_url}/")
        assert isinstance(await bench.have(call), ReplayResponse)

    (asked,) = run(test, always(packed(REPLAY)))
    assert asked.path.startswith("/api/")
    assert "5ecre7" not in str(asked)
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("status", "kind", "slug"),
    [
        (403, Unusable, "storage_refused"),
        (401, Unusable, "storage_refused"),
        (404, Unusable, "storage_refused"),
        (503, ServerFailed, "server_error"),
        (429, ServerFailed, "server_error"),
    ],
)
def test_what_storage_says_is_not_said_by_the_api(
    status: int, kind: type[KaggleError], slug: str
) -> None:
    def script(asked: Asked) -> Reply:
        return answer(status, HTML) if "storage" in asked.path else to(f"/storage?{SECRET}")

    found, _ = had(script, GET_EPISODE_REPLAY)
    assert type(found) is kind
    assert found.slug == slug
    assert SECRET not in str(found)


# -- what does not come ----------------------------------------------------------------------------


def test_nobody_is_there() -> None:
    async def test() -> None:
        with Site(always(packed(REPLAY))) as site:
            bench = Bench(site)
            request = bench.request()
        with pytest.raises(Away, match=r"127\.0\.0\.1 cannot be reached"):
            await bench.handler.download_request(request)
        await bench.handler.close()

    asyncio.run(test())


@pytest.mark.parametrize("begun", [True, False], ids=["in its midst", "no head"])
def test_a_stall_is_no_reply(begun: bool) -> None:
    over = threading.Event()

    def script(_: Asked) -> Iterator[bytes]:
        if begun:
            yield head(200, {"Content-Length": "5000"}) + REPLAY[:100]
        over.wait(20)

    found, _ = had(script, KAGGLE_STALL_TIMEOUT=0.2)
    over.set()
    assert type(found) is NoReply


def test_drops_are_a_stall_as_well() -> None:
    def script(_: Asked) -> Iterator[bytes]:
        yield head(200, {})
        for byte in REPLAY * 50:
            yield bytes([byte])
            threading.Event().wait(0.02)

    found, _ = had(script, KAGGLE_STALL_TIMEOUT=0.1)
    assert type(found) is NoReply
    assert "hardly anything" in str(found)


def test_the_end_of_the_crawl_interrupts_it_at_once() -> None:
    begun, over = threading.Event(), threading.Event()

    def script(_: Asked) -> Iterator[bytes]:
        yield head(200, {"Content-Length": "5000"}) + REPLAY[:100]
        begun.set()
        over.wait(20)

    async def test(bench: Bench) -> None:
        task = asyncio.create_task(bench.have())
        assert await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for thread in threading.enumerate():  # the site still waits: the thread does not
            if thread.name.startswith("replay of"):
                await asyncio.to_thread(thread.join, 10)
                assert not thread.is_alive()
        assert not over.is_set()
        over.set()

    run(test, script)
