"""Spiders and parts of a crawl that do wrong when they are told to; put into SPIDER_MODULES.

What is wrong is named by ``-a fault=`` for the plain spider, and by the environment variable FAULT
for the datasets spider, whose arguments are part of what makes a job. Without it all goes well.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Self

from scrapy import Request, Spider
from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.retry import get_retry_request
from scrapy.exceptions import CloseSpider, DropItem, IgnoreRequest
from scrapy.exporters import JsonLinesItemExporter
from scrapy.http import Response
from twisted.python.failure import Failure

from kagglecrawl.spiders.base import Output
from kagglecrawl.spiders.datasets import DatasetsSpider

HERE = __name__


@dataclass
class Thing:
    """An item; it is counted by its name."""

    name: str

    @property
    def key(self) -> str:
        return self.name


class Faulty(Spider):
    """Asks for ``/one``, which gives the thing ``one`` and leads to ``/child``.

    ``fault`` is the name of one of the methods below, or of something that a part of the crawl
    below does.
    """

    keeps_accounts = True
    name = "faulty"
    custom_settings = {
        "DOWNLOADER_MIDDLEWARES": {f"{HERE}.Refuses": 100},
        "SPIDER_MIDDLEWARES": {f"{HERE}.Meddles": 100},
        "ITEM_PIPELINES": {f"{HERE}.Pipe": 100},
        "FEED_EXPORTERS": {"jsonl": f"{HERE}.Exports"},
        "DOWNLOAD_DELAY": 0,
        "AUTOTHROTTLE_ENABLED": False,
    }

    def __init__(self, url: str, fault: str = "", path: str = "/one", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url = url
        self.fault = fault
        self.path = path

    async def start(self) -> AsyncIterator[Any]:
        errback = getattr(self, self.fault) if self.fault in {"errs", "recovers"} else None
        meta = {"key": "one", "proxy": None}
        yield Request(self.url + self.path, self.parse, errback=errback, meta=meta)
        if self.fault == "once more":
            yield Request(f"{self.url}/two", self.parse, meta={"proxy": None})

    def parse(self, response: Response) -> Any:
        return getattr(self, self.fault, self.well)(response)

    def well(self, response: Response) -> Iterator[Any]:
        yield Thing("one")
        yield self._child()

    def child(self, response: Response) -> Iterator[Any]:
        yield Thing("child")

    # -- callbacks that do wrong ------------------------------------------------------------------

    def raises(self, response: Response) -> Iterator[Any]:
        yield from self.well(response)
        raise RuntimeError

    async def raises_asynchronously(self, response: Response) -> AsyncIterator[Any]:
        yield Thing("one")
        yield self._child()
        raise RuntimeError

    async def raises_as_coroutine(self, response: Response) -> list[Any]:
        raise RuntimeError

    def raises_at_once(self, response: Response) -> list[Any]:
        raise RuntimeError

    def hushed(self, response: Response) -> list[Any]:
        raise RuntimeError  # which a spider middleware keeps to itself

    def yields_nothing(self, response: Response) -> list[Any]:
        return []

    def closes(self, response: Response) -> Iterator[Any]:
        yield from self.well(response)
        raise CloseSpider("enough")

    def errs(self, failure: Failure) -> Any:
        raise RuntimeError

    # -- callbacks that do right, in odd ways -----------------------------------------------------

    async def asynchronously(self, response: Response) -> AsyncIterator[Any]:
        yield Thing("one")
        yield self._child()

    async def as_coroutine(self, response: Response) -> list[Any]:
        return [Thing("one"), self._child()]

    def asks_again(self, response: Response) -> Iterator[Any]:
        if response.text == "first":
            assert response.request is not None
            yield response.request.replace(dont_filter=True)
        else:
            yield from self.well(response)

    def asks_the_same_again(self, response: Response) -> Iterator[Any]:
        if response.text == "first":
            assert response.request is not None
            response.request.dont_filter = True
            yield response.request
        else:
            yield from self.well(response)

    def retries(self, response: Response) -> Iterator[Any]:
        if response.text == "first":
            assert response.request is not None
            yield get_retry_request(response.request, spider=self, reason="so")
        else:
            yield from self.well(response)

    def recovers(self, failure: Failure) -> Iterator[Any]:
        yield Thing("one")
        yield self._child()

    def doubles(self, response: Response) -> Iterator[Any]:
        yield Thing("one")
        yield from self.well(response)

    def _child(self) -> Request:
        meta = {"key": "child", "proxy": None}
        return Request(f"{self.url}/child", self.child, meta=meta)


class _Part:
    """Part of a crawl that knows its spider's fault."""

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        return cls(crawler)

    @property
    def fault(self) -> str:
        return str(getattr(self._crawler.spider, "fault", ""))


class Refuses(_Part):
    """A downloader middleware."""

    def process_request(self, request: Request) -> None:
        if self.fault == "ignored":
            raise IgnoreRequest


class Meddles(_Part):
    """A spider middleware."""

    def process_spider_input(self, response: Response) -> None:
        if self.fault == "bad input":
            raise KeyError

    async def process_spider_output(
        self, response: Response, result: AsyncIterator[Any]
    ) -> AsyncIterator[Any]:
        async for each in result:
            yield each
            if self.fault == "bad output":
                raise KeyError
            if self.fault == "half output":
                return

    def process_spider_exception(self, response: Response, exception: Exception) -> Any:
        return [] if self.fault == "hushed" else None


class Pipe(_Part):
    """An item pipeline."""

    def process_item(self, item: Thing) -> Thing:
        if self.fault == "bad pipeline":
            raise ValueError
        if self.fault == "dropped" and item.name == "one":
            raise DropItem("not wanted")
        return item


class Exports(JsonLinesItemExporter):
    """The exporter of both spiders; FAULT=export:… names the row that it cannot write."""

    def export_item(self, item: Any) -> None:
        super().export_item(item)
        if told("export", item.key):
            raise OverflowError


class Datasets(DatasetsSpider):
    """The project's, which can be told to do wrong with one dataset."""

    name = "datasets"

    def metadata(self, key: str, row: Any, reply: dict[str, Any]) -> Output:
        yield from super().metadata(key, row, reply)
        if told("callback", key):
            raise RuntimeError


class DatasetsPipe:
    """A pipeline of the datasets spider."""

    def process_item(self, item: Any) -> Any:
        if told("pipeline", item.key):
            raise ValueError
        return item


def told(part: str, key: str) -> bool:
    """Is this part to do wrong with this resource?"""
    return os.environ.get("FAULT") == f"{part}:{key}"
