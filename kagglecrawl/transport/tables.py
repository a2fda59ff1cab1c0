"""The download handler of ``metakaggle:`` requests: each is one batch of a table of Meta Kaggle.

``metakaggle://tables/Competitions?offset=0`` reads from the record at that byte on (0: the first),
by what its ``meta["table"]`` says, which is all JSON. (Scrapy takes no address without a host.) ::

    {"name": "Competitions", "columns": ["Id", "Slug"],
     "keep": "wanted",    a method of the spider, called in a thread with the cells; "": all rows
     "key": "Slug",       the column whose cell alone that method gets; absent: all of "columns"
     "before": "noted",   another, called here before each batch is read; absent: none
     "version": "1819",   the version of kaggle/meta-kaggle to read; "": the newest
     "stamp": "…",        what ``Table.stamp`` was for the batch before; "": there was none
     "most": 500}         rows that are wanted in one batch; absent: ``Table.batch`` decides

Tables come from the spider's ``meta_kaggle``, a folder of the user's, or else from kaggle's dataset
by kagglehub (hub.py). Files are read in threads.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scrapy import Request
from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.crawler import Crawler
from scrapy.http import Response

from kagglecrawl.config import KaggleConfig
from kagglecrawl.metakaggle.folder import find_table
from kagglecrawl.metakaggle.table import Batch, Table, TableDamaged
from kagglecrawl.transfer.disk import aside
from kagglecrawl.transport.hub import Hub
from kagglecrawl.transport.sending import UntilTheEnd

logger = logging.getLogger(__name__)

#: It gets the cells of a row, or one of them.
Keep = Callable[[Any], bool]


class TableResponse(Response):
    """A batch of a table; its status is 200, and its body is empty."""

    batch: Batch
    #: The table as it was when the batch was read.
    table: Table
    #: The version of kaggle/meta-kaggle that it is of, such as ``1819``; "" for a user's folder.
    version: str = ""
    #: A stamp was given, and the file is another now: the batch is from its beginning.
    changed: bool = False

    @classmethod
    def of(cls, request: Request, read: tuple[Batch, Table, bool], version: str) -> TableResponse:
        """The answer to a request."""
        response = cls(request.url, request=request)
        response.batch, response.table, response.changed = read
        response.version = version
        return response


class TableHandler(BaseDownloadHandler):
    """Reads tables beside everything else."""

    lazy = True

    def __init__(self, crawler: Crawler) -> None:
        super().__init__(crawler)
        self._until_the_end = UntilTheEnd(crawler)
        self._finding = threading.Lock()
        #: Tables that were damaged in kagglehub's cache.
        self._fetched_again: set[str] = set()

    # Read when a table is first asked for: `scrapy shell` needs none of it.

    @cached_property
    def _config(self) -> KaggleConfig:
        return KaggleConfig.from_settings(self.crawler.settings)

    @cached_property
    def _hub(self) -> Hub:
        return Hub(self.crawler, self._config)

    async def download_request(self, request: Request) -> TableResponse:
        """Read one batch.

        Raises ``TableRefused`` and other ``StopCrawl`` where the table cannot be had or read,
        ``RetryLater`` where Kaggle does not give it now (it has been asked several times by then),
        and ``Interrupted`` where the crawl ends before the batch is read, or must wait for long.
        """
        return await self._until_the_end.run(partial(self._read, request))

    async def _read(self, request: Request) -> TableResponse:
        wanted: dict[str, Any] = request.meta["table"]
        name, version = _name(wanted["name"]), ""
        folder: Path | None = getattr(self.crawler.spider, "meta_kaggle", None)
        if folder is None:
            folder, version = await self._hub.have(request, name, wanted.get("version", ""))
        if before := wanted.get("before", ""):
            getattr(self.crawler.spider, before)()
        keep: Keep | None = None
        if method := wanted.get("keep", ""):
            keep = getattr(self.crawler.spider, method)
        work = partial(self._batch, folder, name, _offset(request.url), wanted, keep)
        try:
            return TableResponse.of(request, await aside(work), version)
        except TableDamaged as error:
            if not version or name in self._fetched_again:
                raise
            logger.warning("%s. It is fetched again", error)
        self._fetched_again.add(name)
        await aside(partial(self._hub.forget, name, version))
        return await self._read(request)

    def _batch(
        self, folder: Path, name: str, offset: int, wanted: dict[str, Any], keep: Keep | None
    ) -> tuple[Batch, Table, bool]:
        """The batch, its table, and whether that has changed; in a thread."""
        with self._finding:  # one that is zipped is unpacked once
            path = find_table(folder, name, self._config.workspace / "meta_kaggle")
        table = Table.open(name, path)
        changed = bool(wanted.get("stamp")) and wanted["stamp"] != table.stamp
        how = {"key": wanted.get("key", "")}
        if "most" in wanted:
            how["most_rows"] = wanted["most"]
        batch = table.batch(0 if changed else offset, wanted["columns"], keep, **how)
        return batch, table, changed

    async def close(self) -> None:
        """End what fetches tables, if anything does."""
        if "_hub" in self.__dict__:  # only if there was ever one
            await self._hub.close()


def _name(name: str) -> str:
    if not re.fullmatch(r"\w+", name):  # it becomes a path
        raise ValueError(f"{name!r} is no table of Meta Kaggle")
    return name


def _offset(url: str) -> int:
    return int(parse_qs(urlsplit(url).query).get("offset", ["0"])[0])
