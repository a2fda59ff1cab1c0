"""Small files of an item's own are stored before it passes, and files that it names are proved.

A spider gives an item such files as its attribute ``payloads``, a list of ``Payload``; it is no
field, so no feed, page or ledger has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any, Self

from scrapy.crawler import Crawler
from scrapy.exceptions import NotConfigured

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.errors import KaggleError, StopCrawl
from kagglecrawl.pipelines.payloads import Ended, Payload, PayloadStore
from kagglecrawl.transfer.disk import aside

#: More files than this are not counted in the reactor's thread.
_MANY_FILES = 2_000


class Unproven(KaggleError):
    """The item names files for which there are no receipts. It counts as failed for now."""

    slug = "no_receipt"


class UploadPipeline:
    """Stores an item's ``payloads``, and lets it pass with receipts for all files of its
    ``download`` in a store.

    A ``KaggleError`` is raised for one that cannot pass.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._payloads = PayloadStore(crawler, KaggleConfig.from_settings(crawler.settings))

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy builds it; for spiders of ours alone."""
        if not isinstance(getattr(crawler.spider, "config", None), KaggleConfig):
            raise NotConfigured
        return cls(crawler)

    async def process_item(self, item: Any) -> Any:
        """Pass the item when all that it names is stored."""
        payloads: Sequence[Payload] = getattr(item, "payloads", ())
        download = getattr(item, "download", None)
        try:
            if payloads:
                await self._payloads.store(payloads)
            if download and str(download["folder"]).startswith("s3://"):
                await self._prove(item, download)
        except StopCrawl as error:
            if not isinstance(error, Ended):
                self._spider.stop(error)
            raise
        return item

    @property
    def _spider(self) -> Any:
        return self._crawler.spider

    # -- receipts ---------------------------------------------------------------------------------

    async def _prove(self, item: Any, download: dict[str, Any]) -> None:
        """Are there receipts, of this job or in the ledger, for all files that it names?"""
        named = download["files"], download["bytes"]
        had = self._spider.accounts.receipts(item.key, download["folder"])
        if had is None:
            had = await self._in_ledger(item, many=download["files"] > _MANY_FILES)
        if had != named:
            raise Unproven(
                f"{item.key} names {named[0]} files in the store, of {named[1]} bytes, and there "
                f"are receipts for {had[0]}, of {had[1]}: the next run fetches it again"
            )

    async def _in_ledger(self, item: Any, *, many: bool) -> tuple[int, int]:
        ledger, version = self._spider.ledger, str(item.version or "")

        def counted(ledger: Any) -> tuple[int, int]:
            files = size = 0
            for file in ledger.files(item.key, version):
                files, size = files + 1, size + file[1]
            return files, size

        def counted_aside() -> tuple[int, int]:
            with closing(ledger.another()) as another:
                return counted(another)

        return await aside(counted_aside) if many else counted(ledger)
