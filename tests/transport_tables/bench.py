"""A handler of ``metakaggle:`` requests with a crawler around it, and a dataset of tables."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.settings import Settings
from scrapy.signalmanager import SignalManager
from scrapy.statscollectors import MemoryStatsCollector

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World, published
from kagglecrawl.transport.hub import REF
from kagglecrawl.transport.tables import TableHandler, TableResponse

ROWS = [["Id", "Slug", "Title"], *([str(n), f"slug-{n}", f"One,\r\n{n}"] for n in range(5000))]
ASKED = ["Id", "Title", "NotThere"]


def written(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


CONTENT = written(ROWS)
#: More than can be on its way when a download is cut.
LARGE = written([ROWS[0], *([str(n), "s", os.urandom(500).hex()] for n in range(8000))])
SMALL = b"Id,Name\n1,a\n"
META = published(REF, files={"Competitions.csv": CONTENT, "Tags.csv": SMALL}, version=1819)


class Bench:
    """A handler with a crawler around it."""

    def __init__(self, workspace: Path, folder: Path | None = None, **given: Any) -> None:
        settings = Settings()
        settings.setmodule("kagglecrawl.settings")
        settings.setdict(
            {
                "WORKSPACE": str(workspace),
                "WORKSPACE_MIN_FREE": "0",
                "KAGGLE_RETRY_BASE": 0.001,
                "KAGGLE_STALL_TIMEOUT": 20,
                "KAGGLE_MAX_ATTEMPTS": 1,
                **given,
            }
        )
        self.threads: set[int] = set()
        self.workspace = workspace
        crawler: Any = SimpleNamespace(settings=settings, engine=None)
        crawler.signals = self.signals = SignalManager(crawler)
        self.stats = crawler.stats = MemoryStatsCollector(cast(Crawler, crawler))
        crawler.spider = SimpleNamespace(meta_kaggle=folder, wanted=self.wanted)
        self.handler = TableHandler(cast(Crawler, crawler))

    def wanted(self, cells: dict[str, str]) -> bool:
        self.threads.add(threading.get_ident())
        return int(cells["Id"]) % 2 == 0

    async def get(
        self, name: str = "Competitions", offset: int | None = 0, **table: Any
    ) -> TableResponse:
        wanted = {"name": name, "columns": ASKED, "keep": "", **table}
        meta = {"table": wanted, "family": "download"}
        return await self.handler.download_request(
            Request(f"metakaggle://tables/{name}?offset={offset}", meta=meta)
        )

    async def all(self, **table: Any) -> list[dict[str, str]]:
        rows, offset = [], 0
        while True:
            response = await self.get(offset=offset, **table)
            rows += [row.cells for row in response.batch.rows]
            if response.batch.next is None:
                return rows
            offset = response.batch.next

    def sent(self) -> dict[str, int]:
        head = "kaggle/requests/"
        found = self.stats.get_stats()
        return {name.removeprefix(head): found[name] for name in found if name.startswith(head)}


def run(use: Callable[[Bench], Awaitable[None]], *args: Any, **settings: Any) -> Bench:
    bench = Bench(*args, **settings)

    async def main() -> None:
        try:
            await use(bench)
        finally:
            await bench.handler.close()

    asyncio.run(main())
    return bench


def hub(use: Callable[[Bench], Awaitable[None]], replica: Replica, tmp: Path, **more: Any) -> Bench:
    return run(use, tmp / "work", KAGGLE_API_URL=replica.api_url, **more)


def world(dataset: DatasetTruth = META) -> World:
    return World(scale=None, extra=(dataset,))


def expected(rows: list[list[str]] = ROWS) -> list[dict[str, str]]:
    return [{"Id": row[0], "Title": row[2], "NotThere": ""} for row in rows[1:]]
