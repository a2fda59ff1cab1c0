"""Replays through the download handler: what comes of every answer that a site may give."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scrapy.http import TextResponse

from kagglecrawl.kaggle import web
from kagglecrawl.kaggle.errors import (
    BadPage,
    Damaged,
    KaggleError,
    NoReply,
    NotFound,
    Refused,
    ServerFailed,
    Throttled,
    Unusable,
    judge,
)
from kagglecrawl.kaggle.replays import ReplayReader, open_replay
from kagglecrawl.kaggle.rpc import Rpc
from kagglecrawl.transport import packing
from kagglecrawl.transport.replays import ReplayResponse
from tests.transfer.stand import head
from tests.transport_replays.site import (
    EPISODE,
    REPLAY,
    SHA256,
    Asked,
    Bench,
    Reply,
    always,
    answer,
    game,
    had,
    packed,
    run,
)

STRING = json.dumps({"result": {"replay": REPLAY.decode()}, "wasSuccessful": True}).encode()
HTML = b"<!DOCTYPE html><html><title>Kaggle</title></html>"
LARGE = json.dumps(game(steps=40_000)).encode()


def chunked(body: bytes, *, whole: bool = True) -> Reply:
    """In two chunks, without a length."""
    half = len(body) // 2
    yield head(200, {"Transfer-Encoding": "chunked"})
    for part in (body[:half], body[half:]) if whole else (body[:half],):
        yield f"{len(part):x}\r\n".encode() + part + b"\r\n"
    if whole:
        yield b"0\r\n\r\n"


def judged(found: Any, call: Rpc = web.REPLAY_WEB) -> KaggleError:
    """What an answer that is no replay means."""
    assert isinstance(found, TextResponse)
    assert not isinstance(found, ReplayResponse)
    try:
        reply = found.json()
    except ValueError:
        reply = None
    with pytest.raises(KaggleError) as caught:
        judge(call, found.status, reply, found.body, known=True)
    return caught.value


@pytest.mark.parametrize(
    "reply",
    [
        packed(REPLAY),
        answer(200, REPLAY),
        answer(200, REPLAY, Content_Encoding="gzip"),  # a lie: somebody has unpacked it
        answer(200, gzip.compress(REPLAY)),  # nobody says that it is packed
        answer(200, gzip.compress(REPLAY[:99]) + gzip.compress(REPLAY[99:]) + bytes(512)),
        packed(STRING),
        answer(200, b"\xef\xbb\xbf \n" + REPLAY),
        [head(200, {}), REPLAY],
        chunked(gzip.compress(REPLAY)),
        chunked(REPLAY),
    ],
    ids=["gzip", "plain", "lie", "silent", "members", "string", "bom", "close", "chunks", "both"],
)
def test_a_replay_is_had_in_every_wrapping(reply: Reply) -> None:
    found, asked = had(always(reply))
    assert isinstance(found, ReplayResponse)
    assert gzip.decompress(found.content).strip() == REPLAY
    told = found.json()["replay"]
    assert told == {
        "name": "halite",
        "episodeId": EPISODE,
        "steps": 3,
        "rewards": [12.5, None],
        "statuses": ["DONE", "ERROR"],
        "rawBytes": len(REPLAY),
        "rawSha256": SHA256,
        "bytes": len(found.content),
        "sha256": hashlib.sha256(found.content).hexdigest(),
    }
    assert judge(web.REPLAY_WEB, 200, found.json(), found.body, known=False) == {"replay": told}
    (only,) = asked
    assert (only.method, only.path) == ("GET", f"/competitions/episodes/{EPISODE}/replay.json")
    assert only.headers["accept-encoding"] == "gzip"
    assert only.headers["user-agent"].startswith("kagglecrawl/")
    copied = found.replace(status=200)
    assert copied.content == found.content, "middlewares make copies"


def test_what_is_told_in_bytes() -> None:
    async def test(bench: Bench) -> None:
        request = bench.request()
        found = await bench.handler.download_request(request)
        assert isinstance(found, ReplayResponse)
        assert request.meta["download_latency"] > 0, "AutoThrottle reads it"
        assert bench.stat("replays/received") == len(gzip.compress(REPLAY))
        assert bench.stat("replays/raw") == len(REPLAY)
        assert bench.stat("replays/stored") == len(found.content)
        assert bench.stat("requests") == bench.stat("requests/ReplayWeb") == 1

    run(test, always(packed(REPLAY)))


@pytest.mark.parametrize(("kind", "suffix"), [("gzip", ".gz"), ("zstd", ".zst")])
def test_how_it_is_stored(kind: str, suffix: str, tmp_path: Path) -> None:
    found, _ = had(always(packed(REPLAY)), KAGGLE_REPLAY_COMPRESSION=kind)
    stored = tmp_path / f"1.json{suffix}"
    stored.write_bytes(found.content)
    with open_replay(stored) as file:
        assert file.read() == REPLAY


def test_of_2020_it_is_a_post() -> None:
    found, (asked,) = had(always(packed(STRING)), web.REPLAY_2020)
    assert isinstance(found, ReplayResponse)
    assert asked.method == "POST"
    assert asked.path == "/requests/EpisodeService/GetEpisodeReplay"
    assert json.loads(asked.body) == {"EpisodeId": EPISODE}
    assert asked.headers["content-type"] == "application/json"


def test_no_info_is_no_contradiction_but_another_number_is() -> None:
    old = json.dumps(game(None)).encode()
    found, _ = had(always(packed(old)))
    assert found.json()["replay"]["episodeId"] is None
    other = json.dumps(game(EPISODE + 1)).encode()
    found, _ = had(always(packed(other)))
    assert isinstance(found, Unusable)
    assert (found.slug, str(EPISODE + 1) in str(found)) == ("bad_replay", True)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(200, gzip.compress(LARGE)[:-9]), NoReply),
        ([head(200, {"Content-Length": "999999"}), gzip.compress(LARGE)], NoReply),
        ([head(200, {"Content-Length": str(len(REPLAY))}), REPLAY[:-50]], NoReply),
        (chunked(REPLAY, whole=False), NoReply),
        ([b"HTTP/1.1 200 OK\r\nContent-"], NoReply),
        ([], NoReply),
        (answer(200, REPLAY[:-50]), Damaged),
        (packed(REPLAY[:-50]), Damaged),
        (packed(b""), Damaged),
        (answer(200, bytes(bytearray(gzip.compress(LARGE))[:-8]) + b"\1" * 8), Damaged),
        (packed(LARGE.replace(b'"steps": [', b'"steps": [7, ')), Unusable),
        (packed(json.dumps(game(statuses=["DONE"])).encode()), Unusable),
        (packed(HTML + b" " * 100_000), BadPage),
    ],
)
def test_what_does_not_come_whole_is_none(reply: Reply, kind: type[KaggleError]) -> None:
    found, _ = had(always(reply))
    assert type(found) is kind, found
    if kind is Unusable:
        assert found.slug == "bad_replay"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(404, HTML), NotFound),
        (answer(404), NotFound),
        (answer(404, gzip.compress(HTML), Content_Encoding="gzip"), NotFound),
        (answer(404, json.dumps({"replay": {}}).encode()), NotFound),
        (answer(400, b'{"code": 400, "message": "no"}'), Refused),
        (answer(429, Retry_After="30"), Throttled),
        (answer(503, HTML), ServerFailed),
        (answer(304), Refused),
        (answer(200, HTML), BadPage),
        (packed(HTML), BadPage),
        (answer(200, b'{"code": 404, "message": "no such episode"}'), NotFound),
        (answer(200, b'{"wasSuccessful": false, "errors": ["no"]}'), Refused),
        (answer(200, b'{"result": {"episodes": []}}'), BadPage),
        (answer(200, b"[]"), BadPage),
        (answer(200, b'{"replay": 7}'), BadPage),
        (answer(200, b'{"\\u0072eplay": {}}'), BadPage),
        (answer(206, b'{"replay": {"name": "halite"}}'), BadPage),
        ([head(404, {"Content-Length": "500"}), b"half of a page"], NotFound),
    ],
)
def test_another_answer_is_judged_as_any(reply: Reply, kind: type[KaggleError]) -> None:
    found, _ = had(always(reply))
    if isinstance(found, KaggleError):
        assert type(found) is kind, found
        return
    assert type(judged(found)) is kind
    assert len(found.body) <= 1 << 16


def test_a_long_page_is_not_read_to_its_end() -> None:
    def script(_: Asked) -> Iterator[bytes]:
        yield head(404, {})
        for _n in range(1000):
            yield HTML * 1000

    found, _ = had(script)
    assert len(found.body) == 1 << 16
    assert type(judged(found)) is NotFound


def test_a_retry_after_is_heard() -> None:
    found, _ = had(always(answer(429, b"", Retry_After="30")))
    assert found.headers["Retry-After"] == b"30"


def test_memory_holds_the_compressed_replay_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    reader = ReplayReader.feed

    def feed(self: Any, data: bytes) -> bytes:
        largest.append(len(data))
        return reader(self, data)

    monkeypatch.setattr(ReplayReader, "feed", feed)
    monkeypatch.setattr(packing, "PIECE", 1 << 14)
    found, _ = had(always(packed(LARGE)))
    assert gzip.decompress(found.content) == LARGE
    assert max(largest) <= 1 << 14
    assert len(largest) > 100, "a bomb is unpacked piece by piece as well"


def test_too_much_is_refused() -> None:
    noise = random.Random(8).randbytes(100_000).hex()
    half = packing.Packing("gzip", most=1000)
    half.feed(json.dumps(game(noise=noise)).encode())
    with pytest.raises(Unusable, match="more than 1000 bytes") as caught:
        half.close()
    assert caught.value.slug == "too_large"
