"""The one download handler for http and https: by ``meta`` a request goes to a browser
(``playwright``), becomes files (``sink``) or a replay, or is sent as Scrapy does.

Calls of Kaggle's API get their credentials here, at the last moment and on a copy: no header with
a secret is ever on a request that a queue, a log or a callback sees. Calls of the site get none,
and are sent by Scrapy whatever KAGGLE_TRANSPORT says. Stats: ``kaggle/requests`` and
``kaggle/requests/<Method>``, counted as they are sent.
"""

from __future__ import annotations

import asyncio
import time
from functools import cached_property, partial

from scrapy import Request
from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler
from scrapy.crawler import Crawler
from scrapy.http import Response

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.auth import Credentials, find_credentials
from kagglecrawl.kaggle.rpc import TABLE, Rpc
from kagglecrawl.state.holds import Held
from kagglecrawl.transfer.transfers import Transfers
from kagglecrawl.transport.official import SIGN_IN, OfficialTransport
from kagglecrawl.transport.replays import Replays
from kagglecrawl.transport.sending import UntilTheEnd, about_to_send, count_sent


class KaggleDownloadHandler(BaseDownloadHandler):
    """Sends API calls with credentials, and dispatches everything else."""

    lazy = True

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._http = HTTP11DownloadHandler(crawler)
        self._until_the_end = UntilTheEnd(crawler)
        self._playwright: BaseDownloadHandler | None = None
        self._starting_browser = asyncio.Lock()

    # Read when Kaggle is first asked: other pages need neither.

    @cached_property
    def _config(self) -> KaggleConfig:
        return KaggleConfig.from_settings(self.crawler.settings)

    @cached_property
    def _credentials(self) -> Credentials:
        return find_credentials()

    @cached_property
    def _official(self) -> OfficialTransport | None:
        if self._config.transport != "official":
            return None
        return OfficialTransport(
            self._config.api_url, self._credentials, stall_timeout=self._config.stall_timeout
        )

    @cached_property
    def _transfers(self) -> Transfers:
        return Transfers(self.crawler, self._config)

    @cached_property
    def _replays(self) -> Replays:
        return Replays(self.crawler, self._config)

    async def _browser(self) -> BaseDownloadHandler:
        """scrapy-playwright's handler, imported and started when a page is first asked for."""
        async with self._starting_browser:
            if self._playwright is None:
                from kagglecrawl.transport.browser import start_browser

                self._playwright = await start_browser(self.crawler)
            return self._playwright

    async def download_request(self, request: Request) -> Response:
        """Send one request; Scrapy's download exceptions say what went wrong.

        Raises ``Held`` where a Retry-After came since the request was handed out, and
        ``Interrupted`` where the crawl ends before the answer is there.
        """
        return await self._until_the_end.run(partial(self._send, request))

    async def _send(self, request: Request) -> Response:
        if request.meta.get("playwright"):
            return await (await self._browser()).download_request(request)
        if "rpc" not in request.meta:
            return await self._http.download_request(request)
        if "sink" in request.meta:
            return await self._transfer(request)
        call = TABLE[request.meta["rpc"]]
        if call.replay:
            return await self._replay(request, call)
        if call.file and self._official is None:
            return await self._transfers.content(request, partial(self._call, request))
        return await self._call(request)

    async def _transfer(self, request: Request) -> Response:
        """The files of a resource; see transfer/transfers.py."""
        if self._official is not None:
            return await self._transfers.run_official(
                request, self._official, partial(self._about_to_send, request)
            )
        return await self._transfers.run(request, partial(self._call, request))

    async def _replay(self, request: Request, call: Rpc) -> Response:
        """The JSON of a game; see transport/replays.py."""
        if (kept := await self._replays.kept(request)) is not None:
            return kept
        if self._official is not None and call.where == "api":
            return await self._replays.read(request, await self._call(request))
        self._about_to_send(request)
        return await self._replays.fetch(request, self._authorization(request))

    def _authorization(self, request: Request) -> str:
        """That header of a call, or nothing: the site's may be below the API's own address, and get
        none all the same."""
        if TABLE[request.meta["rpc"]].where != "api":
            return ""
        return self._credentials.header_for(request.url, self._config.api_url)

    async def _call(self, request: Request) -> Response:
        if self._official is not None and TABLE[request.meta["rpc"]].where == "api":
            if await self._official.signs_in(partial(self._about_to_send, request, SIGN_IN)):
                raise Held(time.time())  # that had its turn: it is to have one of its own
            self._about_to_send(request)
            return await self._official.send(request)
        self._about_to_send(request)
        header = self._authorization(request)
        if not header:
            return await self._http.download_request(request)
        sent = request.replace(headers={**request.headers, "Authorization": header})
        response = await self._http.download_request(sent)
        # AutoThrottle reads it from the request that it knows
        request.meta["download_latency"] = sent.meta.get("download_latency")
        return response

    def _about_to_send(self, request: Request, method: str = "") -> None:
        """The last moment at which a hold can stop a request; past it, the request is counted, or
        the call that goes out in its place."""
        about_to_send(self.crawler, request)
        count_sent(self.crawler, method or TABLE[request.meta["rpc"]].method)

    async def close(self) -> None:
        """Close connections, and what else was started."""
        await self._http.close()
        if "_transfers" in self.__dict__:  # only if there was ever one
            self._transfers.close()
        if self._playwright is not None:
            await self._playwright.close()
        official = self.__dict__.get("_official")  # only if it was ever made
        if official is not None:
            await official.close()
