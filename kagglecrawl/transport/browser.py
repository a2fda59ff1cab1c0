"""scrapy-playwright's download handler, started when the first page needs a browser.

Scrapy would import it, and start Playwright's driver, for every crawl.
"""

from __future__ import annotations

from typing import cast

from scrapy.core.downloader.handlers.base import BaseDownloadHandler
from scrapy.crawler import Crawler


async def start_browser(crawler: Crawler) -> BaseDownloadHandler:
    """The handler, ready. Raises what Playwright raises if it cannot be started."""
    from scrapy_playwright.handler import ScrapyPlaywrightDownloadHandler

    handler = ScrapyPlaywrightDownloadHandler.from_crawler(crawler)
    # It starts itself when the engine does, which has long happened (0.0.48; a private method,
    # so tests/test_browser.py looks at it).
    await handler._maybe_launch_in_thread()
    return cast(BaseDownloadHandler, handler)
