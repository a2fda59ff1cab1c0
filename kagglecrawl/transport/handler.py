"""The one download handler for http and https.

Calls of Kaggle's API get their credentials here, at the last moment and on a copy: no header with
a secret is ever on a request that a queue, a log or a callback sees.
"""

from __future__ import annotations

from scrapy import Request
from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler
from scrapy.crawler import Crawler
from scrapy.http import Response

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.auth import find_credentials
from kagglecrawl.transport.official import OfficialTransport


class KaggleDownloadHandler(BaseDownloadHandler):
    """Sends API calls with credentials, and everything else as Scrapy does."""

    lazy = True

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._http = HTTP11DownloadHandler(crawler)
        self._config = KaggleConfig.from_settings(crawler.settings)
        self._credentials = find_credentials()
        self._official: OfficialTransport | None = None
        if self._config.transport == "official":
            self._official = OfficialTransport(self._config.api_url, self._credentials)

    async def download_request(self, request: Request) -> Response:
        """Send one request; Scrapy's download exceptions say what went wrong."""
        if "rpc" not in request.meta:
            return await self._http.download_request(request)
        if self._official is not None:
            return await self._official.send(request)
        header = self._credentials.header_for(request.url, self._config.api_url)
        if not header:
            return await self._http.download_request(request)
        sent = request.replace(headers={**request.headers, "Authorization": header})
        response = await self._http.download_request(sent)
        # AutoThrottle reads it from the request that it knows
        request.meta["download_latency"] = sent.meta.get("download_latency")
        return response

    async def close(self) -> None:
        """Close connections, and the child process if there is one."""
        await self._http.close()
        if self._official is not None:
            await self._official.close()
