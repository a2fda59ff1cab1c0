"""Scrapy's feed exports, with two changes: a row that could not be written is not counted as
stored, and lists in CSV are JSON."""

from __future__ import annotations

import json
from typing import Any

from scrapy import Spider
from scrapy.exporters import CsvItemExporter
from scrapy.extensions.feedexport import FeedExporter

from kagglecrawl.kaggle.errors import StopCrawl
from kagglecrawl.spiders.base import KaggleSpider


class CsvExporter(CsvItemExporter):
    """Cells that hold a list or an object are JSON; Scrapy writes Python's repr of them."""

    def serialize_field(self, field: Any, name: str, value: Any) -> Any:
        """The cell's text, or a plain value."""
        if isinstance(value, list | tuple | dict):
            return json.dumps(value, ensure_ascii=False)
        return super().serialize_field(field, name, value)


class Feeds(FeedExporter):
    """Takes the place of Scrapy's extension."""

    def item_scraped(self, item: Any, spider: Spider) -> None:
        """Write the item; Scrapy would log an error here and go on as if it were written."""
        if not isinstance(spider, KaggleSpider):
            super().item_scraped(item, spider)
            return
        try:
            super().item_scraped(item, spider)
        except OSError as error:
            spider.accounts.lose(item.key, "feed_cannot_be_written")
            spider.stop(
                StopCrawl(
                    f"A feed cannot be written ({error.strerror or error}), so the crawl stops "
                    "before it spends more requests: mend that, then run it again"
                )
            )
        except Exception as error:
            spider.accounts.lose(item.key, f"feed_{type(error).__name__}")
            spider.logger.error("Failed %s: its row cannot be exported: %s", item.key, error)
