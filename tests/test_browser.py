"""Requests for a browser: imported and started when the first one comes, once, and closed."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scrapy import Request
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler
from scrapy.http import Response
from scrapy.utils.test import get_crawler

from kagglecrawl.transport.handler import KaggleDownloadHandler
from tests.conftest import ROOT, clean_env

CHROMIUM = Path("/usr/bin/chromium")
PAGE = b"""<!doctype html><title>before</title><p id=a>plain</p>
<script>
document.title = "after";
document.getElementById("a").textContent = "made by script";
</script>
"""


# -- dispatch --------------------------------------------------------------------------------------


class Browser:
    """Stands in for scrapy-playwright's handler."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.closed = 0

    async def download_request(self, request: Request) -> Response:
        self.pages.append(request.url)
        return Response(request.url, body=b"rendered")

    async def close(self) -> None:
        self.closed += 1


class Starts:
    """Stands in for the module that starts it."""

    def __init__(self) -> None:
        self.started: list[Browser] = []
        self.failures = 0

    async def start_browser(self, crawler: Any) -> Browser:
        await asyncio.sleep(0.01)
        if self.failures:
            self.failures -= 1
            raise OSError("no browser")
        self.started.append(Browser())
        return self.started[-1]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    made = Starts()
    module = ModuleType("kagglecrawl.transport.browser")
    module.start_browser = made.start_browser  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    async def plain(self: Any, request: Request) -> Response:
        return Response(request.url, body=b"plain")

    async def close(self: Any) -> None:
        pass

    monkeypatch.setattr(HTTP11DownloadHandler, "__init__", lambda self, crawler: None)
    monkeypatch.setattr(HTTP11DownloadHandler, "download_request", plain)
    monkeypatch.setattr(HTTP11DownloadHandler, "close", close)
    return made


def page(number: int = 1, **meta: Any) -> Request:
    return Request(f"https://www.kaggle.com/{number}", meta=meta)


def with_handler(test: Callable[[KaggleDownloadHandler], Awaitable[None]]) -> None:
    async def run() -> None:
        handler = KaggleDownloadHandler(get_crawler())
        await test(handler)
        await handler.close()

    asyncio.run(run())


def test_pages_that_come_at_once_have_one_browser(starts: Starts) -> None:
    async def test(handler: KaggleDownloadHandler) -> None:
        pages = [handler.download_request(page(n, playwright=True)) for n in range(5)]
        assert {each.body for each in await asyncio.gather(*pages)} == {b"rendered"}
        await handler.download_request(page(6, playwright=True))

    with_handler(test)
    (browser,) = starts.started
    assert len(browser.pages) == 6
    assert browser.closed == 1


@pytest.mark.parametrize("meta", [{}, {"playwright": False}, {"playwright": None}])
def test_other_pages_have_none(starts: Starts, meta: dict[str, Any]) -> None:
    async def test(handler: KaggleDownloadHandler) -> None:
        assert (await handler.download_request(page(**meta))).body == b"plain"

    with_handler(test)
    assert starts.started == []


def test_one_that_did_not_start_is_started_for_the_next_page(starts: Starts) -> None:
    starts.failures = 1

    async def test(handler: KaggleDownloadHandler) -> None:
        first = handler.download_request(page(1, playwright=True))
        second = handler.download_request(page(2, playwright=True))
        found = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(found[0], OSError)
        assert isinstance(found[1], Response)

    with_handler(test)
    assert [browser.closed for browser in starts.started] == [1]


def test_a_page_that_is_given_up_does_not_give_up_the_browser_of_others(starts: Starts) -> None:
    async def test(handler: KaggleDownloadHandler) -> None:
        first = asyncio.create_task(handler.download_request(page(1, playwright=True)))
        second = asyncio.create_task(handler.download_request(page(2, playwright=True)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await second).body == b"rendered"

    with_handler(test)
    assert [browser.closed for browser in starts.started] == [1]


def test_the_private_method_that_starts_it_is_there() -> None:
    """``kagglecrawl.transport.browser`` calls it."""
    from scrapy_playwright.handler import ScrapyPlaywrightDownloadHandler

    start = ScrapyPlaywrightDownloadHandler._maybe_launch_in_thread
    assert inspect.iscoroutinefunction(start)
    assert list(inspect.signature(start).parameters) == ["self"]


# -- whole crawls ----------------------------------------------------------------------------------

CRAWL = """
import json, sys
from pathlib import Path
import scrapy
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.settings import Settings

class Pages(scrapy.Spider):
    name = "pages"
    found = []

    async def start(self):
        for number in range(3):
            meta = {"playwright": True} if sys.argv[2] == "browser" else {}
            yield scrapy.Request(f"{sys.argv[1]}/{number}", meta=meta, errback=self.failed)

    def parse(self, response):
        self.found.append([response.css("title::text").get(), response.css("#a::text").get()])

    def failed(self, failure):
        self.found.append([type(failure.value).__name__])

settings = Settings()
settings.setmodule("kagglecrawl.settings")
settings.setdict(json.loads(sys.argv[3]))
process = AsyncCrawlerProcess(settings)
process.crawl(Pages)
process.start()
print(json.dumps({
    "found": Pages.found,
    "imported": sorted(name for name in sys.modules if "playwright" in name and "." not in name),
}))
"""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def crawled(site: str, home: Path, kind: str, **settings: Any) -> dict[str, Any]:
    """What a crawl in a process of its own has found; nothing that it started is left."""
    given = {"DOWNLOAD_DELAY": 0, "LOG_LEVEL": "ERROR", "WORKSPACE": str(home), **settings}
    script = home / "crawl.py"
    script.write_text(CRAWL, encoding="utf-8")
    mark = f"kagglecrawl-test-{os.getpid()}-{home.name}"
    done = subprocess.run(
        [sys.executable, str(script), site, kind, json.dumps(given)],
        env=clean_env(home, PYTHONPATH=str(ROOT), KAGGLECRAWL_TEST_MARK=mark),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 10
    while left_with(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_with(mark) == []
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def left_with(mark: str) -> list[str]:
    """Processes that still have the mark in their environment (Linux)."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (each / "environ").read_bytes():
                found.append((each / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_crawl_without_a_browser_imports_none(site: str, tmp_path: Path) -> None:
    found = crawled(site, tmp_path, "plain")
    assert found["found"] == [["before", "plain"]] * 3
    assert found["imported"] == []


def test_a_browser_that_is_not_there_fails_the_pages_alone(site: str, tmp_path: Path) -> None:
    options = {"executable_path": str(tmp_path / "nowhere")}
    found = crawled(site, tmp_path, "browser", PLAYWRIGHT_LAUNCH_OPTIONS=options)
    assert len(found["found"]) == 3
    assert all(len(each) == 1 for each in found["found"])
    assert "scrapy_playwright" in found["imported"]


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed")
def test_pages_are_rendered(site: str, tmp_path: Path) -> None:
    options = {"executable_path": str(CHROMIUM), "args": ["--no-sandbox"]}
    found = crawled(site, tmp_path, "browser", PLAYWRIGHT_LAUNCH_OPTIONS=options)
    assert found["found"] == [["after", "made by script"]] * 3
