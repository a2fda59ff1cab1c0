"""A site on this machine that answers as it is told to, byte by byte, and who asks it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from unittest.mock import Mock, patch

from scrapy import Request, Spider
from scrapy.http import Response
from scrapy.utils.test import get_crawler

from kagglecrawl import settings as project
from kagglecrawl.kaggle import web
from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.kaggle.rpc import Rpc
from kagglecrawl.transport.handler import KaggleDownloadHandler
from tests.transfer.stand import head

EPISODE = 1676052
SECRET = "X-Goog-Signature=5ecre7"


def game(episode: int | None = EPISODE, steps: int = 3, **more: Any) -> dict[str, Any]:
    """A small replay; without ``info`` if it has no number."""
    agents = [{"action": "NORTH", "reward": 0, "status": "ACTIVE", "observation": {"a": "ü"}}] * 2
    made: dict[str, Any] = {
        "configuration": {"episodeSteps": 400},
        "info": {"EpisodeId": episode, "TeamNames": ["one", "two"]},
        "name": "halite",
        "rewards": [12.5, None],
        "statuses": ["DONE", "ERROR"],
        "steps": [agents] * steps,
        **more,
    }
    if episode is None:
        del made["info"]
    return made


REPLAY = json.dumps(game()).encode()
SHA256 = hashlib.sha256(REPLAY).hexdigest()


@dataclass(frozen=True)
class Asked:
    """A request as it came; the names of its headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Reply = Iterable[bytes]
Script = Callable[[Asked], Reply]


class Site:
    """Answers every path by ``script``; the connection is closed after the last piece."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        #: Answers that wait for it hold up nobody at the end.
        self.over = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                named = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.command, self.path, named, self.rfile.read(length))
                site.asked.append(asked)
                try:
                    for piece in site.script(asked):
                        self.wfile.write(piece)
                except OSError:
                    pass  # nobody listens any more
                self.close_connection = True

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


def answer(status: int, body: bytes = b"", **headers: str | None) -> Reply:
    """An answer that says how long it is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [head(status, {"Content-Length": str(len(body)), **named}), body]


def packed(body: bytes) -> Reply:
    """A replay as the site sends it to who takes gzip."""
    return answer(200, gzip.compress(body), Content_Encoding="gzip")


def to(location: str, status: int = 302) -> Reply:
    return answer(status, b"moved", Location=location)


class Scrapys:
    """In place of Scrapy's own handler, which needs a reactor: what would be sent by it."""

    def __init__(self, _: object) -> None:
        self.sent: list[Request] = []

    async def download_request(self, request: Request) -> Response:
        self.sent.append(request)
        return Response(request.url, body=b"{}")

    async def close(self) -> None:
        """Nothing."""


class Bench:
    """A download handler that is pointed at a site."""

    def __init__(self, site: Site, **settings: Any) -> None:
        ours = {name: value for name, value in vars(project).items() if name.isupper()}
        given = {
            **ours,
            "KAGGLE_API_URL": f"{site.url}/api",
            "KAGGLE_STALL_TIMEOUT": 20,
            "DOWNLOAD_HANDLERS": {},
            "ADDONS": {},
            **settings,
        }
        self.site = site
        self.crawler = get_crawler(Spider, given)
        self.crawler.engine = Mock(scheduler=None)
        with patch("kagglecrawl.transport.handler.HTTP11DownloadHandler", Scrapys):
            self.handler = KaggleDownloadHandler(self.crawler)
        self.scrapys = cast(Scrapys, self.handler._http)

    def request(self, call: Rpc = web.REPLAY_WEB, **fields: Any) -> Request:
        address = call.address(self.handler._config)
        return call.request(address, fields=fields or {"episode_id": EPISODE}, meta={"key": "k"})

    async def have(self, call: Rpc = web.REPLAY_WEB, **fields: Any) -> Response:
        return await self.handler.download_request(self.request(call, **fields))

    def stat(self, name: str) -> Any:
        assert self.crawler.stats is not None
        return self.crawler.stats.get_value(f"kaggle/{name}")


def run(test: Callable[[Bench], Awaitable[None]], script: Script, **settings: Any) -> list[Asked]:
    """Run a test with a bench, and return what was asked; no fault may be told of."""
    faults: list[dict[str, Any]] = []

    async def watched(site: Site) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))
        bench = Bench(site, **settings)
        try:
            await test(bench)
        finally:
            await bench.handler.close()

    with Site(script) as site:
        asyncio.run(watched(site))
        site.over.set()
        for thread in threading.enumerate():
            if thread.name.startswith("replay of"):
                thread.join(10)
    assert faults == []
    return site.asked


def always(reply: Reply) -> Script:
    pieces = list(reply)
    return lambda _: pieces


def had(script: Script, call: Rpc = web.REPLAY_WEB, **settings: Any) -> tuple[Any, list[Asked]]:
    """What comes of one request, or what it raises."""
    found: list[Any] = []

    async def test(bench: Bench) -> None:
        try:
            found.append(await bench.have(call))
        except KaggleError as error:
            found.append(error)

    asked = run(test, script, **settings)
    return found[0], asked
