"""Replays: the JSON of one game each, which has up to 34 MB. What comes is unpacked, judged and
compressed piece by piece, so that memory holds the compressed replay alone, some 0.5 MB.

It comes from the site, from its content network, or from the official API, at once or where that
redirects to. A thread of its own waits for it.

Stats, in bytes: ``kaggle/replays/received`` (over the wire), ``kaggle/replays/raw`` (JSON),
``kaggle/replays/stored`` (as it is stored); ``kaggle/replays/on_disk``, those that were there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.http import Response, TextResponse

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.errors import KaggleError, Unusable
from kagglecrawl.kaggle.replays import UNREADABLE, ReplayFacts, ReplayReader, open_replay
from kagglecrawl.transfer.threads import begin
from kagglecrawl.transport.fetching import TOLD, Fetch
from kagglecrawl.transport.packing import PIECE, Packing

#: Headers of a request that are set here, or meant for others.
_NOT_SENT = {b"Accept-Encoding", b"Authorization", b"Proxy-Authorization"}


#: A flag of a response: nobody was asked for it.
ON_DISK = "on disk"
#: How compressed replays end, and what that means in KAGGLE_REPLAY_COMPRESSION.
SUFFIXES = {".gz": "gzip", ".zst": "zstd"}


class ReplayResponse(TextResponse):
    """What is told of a replay, as JSON, and in ``content`` the replay, compressed::

        {"replay": {"name", "episodeId", "steps", "rewards", "statuses",
                    "rawBytes", "rawSha256", "bytes", "sha256"}}

    ``raw…`` are of the JSON itself, the others of ``content``.
    """

    attributes = (*TextResponse.attributes, "content")

    def __init__(self, *args: Any, content: bytes = b"", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.content = content


class Replays:
    """Has replays for the download handler."""

    def __init__(self, crawler: Crawler, config: KaggleConfig) -> None:
        self._crawler = crawler
        self._config = config

    async def fetch(self, request: Request, authorization: str = "") -> Response:
        """The answer to a request for a replay: a ``ReplayResponse``, or what came in place of it.

        ``authorization`` is that header of the first request alone, if it is to have one. Raises
        what of ``KaggleError`` says that no replay could be had, and why: ``NoReply``, ``Damaged``,
        ``BadPage``, ``Refused`` (redirected to where it may not lead), ``Unusable``.
        """
        packing = self._packing()
        fetch = Fetch(request, self._headers(request, authorization), self._config, packing)
        try:
            await _in_thread(fetch.run, request, fetch.interrupt)
        finally:
            self._count("received", fetch.received)
            if fetch.latency is not None:
                request.meta["download_latency"] = fetch.latency
        if fetch.facts is None:
            return _other(request, fetch.status, fetch.told, bytes(packing.head))
        return self._told(request, fetch.facts, packing.content)

    async def kept(self, request: Request) -> ReplayResponse | None:
        """The answer from a file that an earlier run has stored, before it was killed perhaps: it
        is named by ``meta["kept"]``, below the workspace and without the end that says how it is
        compressed. None if there is none, or none that is a whole replay of that game."""
        named = request.meta.get("kept")
        paths = [self._config.workspace / f"{named}{each}" for each in SUFFIXES] if named else []
        path = next((each for each in paths if each.is_file()), None)
        if path is None:
            return None
        reader, found = ReplayReader(), list[tuple[ReplayFacts, bytes]]()

        def run() -> None:
            try:
                with open_replay(path) as file:
                    while piece := file.read(PIECE):
                        reader.feed(piece)
                found.append((reader.close()[1], path.read_bytes()))
            finally:
                reader.drop()

        try:
            await _in_thread(run, request, lambda: None)
            response = self._told(request, *found[0])
        except (KaggleError, *UNREADABLE):
            return None
        self._count("on_disk", 1)
        return response.replace(flags=[ON_DISK, SUFFIXES[path.suffix]])

    async def read(self, request: Request, response: Response) -> Response:
        """The same from an answer that is there already, the official client's. Raises the same."""
        told = {name: (response.headers.get(name) or b"").decode("latin-1") for name in TOLD}
        if response.status != 200:
            return _other(request, response.status, told, response.body)
        packing, stop = self._packing(), threading.Event()
        found: list[ReplayFacts | None] = []

        def run() -> None:
            try:
                for at in range(0, len(response.body), PIECE):
                    if stop.is_set() or not packing.feed(response.body[at : at + PIECE]):
                        break
                found.append(packing.close())
            finally:
                if not found or found[0] is None:
                    packing.drop()

        self._count("received", len(response.body))
        await _in_thread(run, request, stop.set)
        if found[0] is None:
            return _other(request, response.status, told, bytes(packing.head))
        return self._told(request, found[0], packing.content)

    def _packing(self) -> Packing:
        return Packing("zstd" if self._config.replay_compression == "zstd" else "gzip")

    def _headers(self, request: Request, authorization: str) -> dict[str, str]:
        found = {
            name.decode("latin-1"): b",".join(values).decode("latin-1")
            for name, values in request.headers.items()
            if name not in _NOT_SENT
        }
        found.setdefault("User-Agent", str(self._crawler.settings.get("USER_AGENT")))
        if authorization:
            found["Authorization"] = authorization
        return {**found, "Accept-Encoding": "gzip"}

    def _told(self, request: Request, facts: ReplayFacts, content: bytes) -> ReplayResponse:
        asked = request.meta.get("episode")
        if asked is not None and facts.episode_id not in {None, asked}:
            raise Unusable(f"the replay is of the episode {facts.episode_id}", "bad_replay")
        self._count("raw", facts.size)
        self._count("stored", len(content))
        told = {
            "name": facts.name,
            "episodeId": facts.episode_id,
            "steps": facts.steps,
            "rewards": facts.rewards,
            "statuses": facts.statuses,
            "rawBytes": facts.size,
            "rawSha256": facts.sha256,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return ReplayResponse(
            request.url,
            headers={"Content-Type": "application/json"},
            body=json.dumps({"replay": told}).encode(),
            encoding="utf-8",
            content=content,
            request=request,
        )

    def _count(self, stat: str, count: int) -> None:
        assert self._crawler.stats is not None
        self._crawler.stats.inc_value(f"kaggle/replays/{stat}", count)


async def _in_thread(
    run: Callable[[], None], request: Request, interrupt: Callable[[], None]
) -> None:
    ended = begin(run, f"replay of {request.meta['rpc']}")
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        interrupt()
        raise
    finally:
        del ended  # its error has this frame in its traceback, and would hold itself


def _other(request: Request, status: int, headers: dict[str, str], body: bytes) -> Response:
    """An answer that is no replay. Another's word of one is none."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        reply = None
    if isinstance(reply, dict) and "replay" in reply:
        body = b"{}"
    named = {name: value for name, value in headers.items() if value}
    return TextResponse(
        request.url, status=status, headers=named, body=body, encoding="utf-8", request=request
    )
