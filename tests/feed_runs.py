"""Runs of a crawl's feeds, driven as the scheduler drives them, for the tests of state/feeds.py."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from scrapy import Spider
from scrapy.crawler import Crawler
from scrapy.utils.test import get_crawler

from kagglecrawl.state.feeds import Feeds
from kagglecrawl.state.store import FILE, Store

T = TypeVar("T")

GZIP: dict[str, Any] = {
    "format": "jsonlines",
    "postprocessing": ["scrapy.extensions.postprocessing.GzipPlugin"],
}
FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("rows.jsonl", {"format": "jsonlines"}),
    ("rows.csv", {"format": "csv"}),
    ("rows.jsonl.gz", GZIP),
]
#: What may be there before.
OLD = {
    "rows.jsonl": b'{"n": -1, "text": "old"}\n',
    "rows.csv": b"n,text\r\n-1,old\r\n",
    "rows.jsonl.gz": b"",
}


@dataclass
class Row:
    """An item; ``Unexportable`` as its text cannot be exported in any format."""

    n: int
    text: Any = "täxt"


class Unexportable:
    """Not even its repr can be had."""

    def __str__(self) -> str:
        raise ValueError("no text for https://me:hunter2@host/a?sig=1")

    def __reduce__(self) -> str:
        return str(self)

    __repr__ = __str__


def make_crawler(feeds: dict[Any, dict[str, Any]], **settings: Any) -> Crawler:
    given = {
        "FEEDS": feeds,
        "FEED_STORE_EMPTY": False,
        "FEED_EXPORT_ENCODING": "utf-8",
        "FEED_STORAGES": {"kept": Kept, "broken": Broken},
        "EXTENSIONS": {"scrapy.extensions.feedexport.FeedExporter": None},
        **settings,
    }
    crawler = get_crawler(Spider, given)
    crawler.spider = Spider.from_crawler(crawler, "rows")
    return crawler


class Run:
    """One run: of a job in ``folder``, or without one."""

    def __init__(
        self, folder: Path | None, feeds: dict[Any, dict[str, Any]], **settings: Any
    ) -> None:
        self.crawler = make_crawler(feeds, **settings)
        self._runner = asyncio.Runner()
        if folder is None:
            self.store = Store.in_memory()
        else:
            folder.mkdir(exist_ok=True)
            file = folder / FILE
            self.store = Store.open(file) if file.exists() else Store.create(file)
        try:
            self.feeds = Feeds.from_crawler(self.crawler, self.store, folder)
            self.feeds.open()
            self.store.put("clean", "0")
            self.store.commit()
        except BaseException:
            self._leave()
            raise

    def add(self, *numbers: int) -> Self:
        """The rows of one request."""
        self.feeds.add([Row(number) for number in numbers])
        return self

    def flush(self) -> Self:
        self.feeds.flush()
        return self

    def commit(self) -> Self:
        """Flush and commit, and let what begins then begin."""
        self.feeds.flush()
        self.store.commit()
        self.run(self._committed())
        return self

    async def _committed(self) -> None:
        self.feeds.committed()
        await asyncio.sleep(0)

    def settle(self, until: Callable[[], bool]) -> None:
        """Let what is done beside the crawl go on until it has come so far."""

        deadline = time.monotonic() + 30
        while not until():
            assert time.monotonic() < deadline
            self.run(asyncio.sleep(0.001))
        self.run(asyncio.sleep(0.001))

    def give_up(self) -> Self:
        """What the scheduler does when a flush or a commit has failed."""
        self.feeds.rollback()
        self.store.rollback()
        return self

    def kill(self) -> None:
        """What is not committed is gone, and nobody tidies up."""
        self._leave()

    def end(self, *, finished: bool = True) -> bool:
        """A clean end; was everything stored?"""
        self.commit()
        return self.close(finished=finished)

    def close(self, *, finished: bool, clean: bool = True) -> bool:
        stored = self.run(self.feeds.close(finished=finished))
        self.store.put("clean", str(int(clean)))
        self.store.commit()
        self._leave()
        return stored

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """In this run's event loop."""
        return self._runner.run(work)

    def stat(self, name: str) -> int:
        assert self.crawler.stats is not None
        return int(self.crawler.stats.get_value(f"feedexport/{name}", 0))

    def _leave(self) -> None:
        self.store.close()
        self._runner.close()


def numbers(data: bytes | Path, name: str = "") -> list[int]:
    """The rows of a feed, by its name's ending, or a path's."""
    if isinstance(data, Path):
        name = name or data.name
        data = data.read_bytes()
    if name.endswith(".gz"):
        data, name = gzip.decompress(data), name.removesuffix(".gz")
    text = data.decode()
    if name.endswith(".csv"):
        return [int(row["n"]) for row in csv.DictReader(io.StringIO(text, newline=""))]
    return [json.loads(line)["n"] for line in text.splitlines()]


class Kept:
    """A storage that stands for a remote one, with this process's memory as its server."""

    files: dict[str, bytes] = {}
    stores: list[str] = []
    #: Fail so many times.
    failures = 0

    def __init__(self, uri: str, *, feed_options: dict[str, Any] | None = None) -> None:
        self.uri = uri

    def open(self, spider: Spider) -> IO[bytes]:
        return io.BytesIO()

    async def store(self, file: IO[bytes]) -> None:
        await asyncio.sleep(0)
        cls = type(self)
        cls.stores.append(self.uri)
        if cls.failures:
            cls.failures -= 1
            raise ConnectionError(f"{self.uri} does not answer")
        file.seek(0)
        cls.files[self.uri] = file.read()
        file.close()


class Broken:
    """A storage whose library is missing."""

    def __init__(self, uri: str, *, feed_options: dict[str, Any] | None = None) -> None:
        from scrapy.exceptions import NotConfigured

        raise NotConfigured("missing a library")
