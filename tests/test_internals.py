"""Scrapy's private parts that are used: a release that changes one must fail here, loudly."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scrapy import Spider
from scrapy.core.downloader import Downloader
from scrapy.core.downloader import Slot as DownloaderSlot
from scrapy.core.engine import ExecutionEngine, _Slot
from scrapy.core.scheduler import Scheduler
from scrapy.core.scraper import Scraper
from scrapy.http import Response
from scrapy.utils.reactor import CallLaterOnce
from scrapy.utils.test import get_crawler

from kagglecrawl.state import internals
from tests.conftest import ROOT, clean_env


def crawled(code: str, home: Path) -> Any:
    """What a script prints as JSON: a real crawl, with its own event loop and reactor."""
    script = home / "script.py"  # Scrapy reads the source of callbacks
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        env=clean_env(home, PYTHONPATH=str(ROOT)),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- wake ------------------------------------------------------------------------------------------

# A scheduler keeps the only request for a moment; without `wake` the engine would ask for it at
# its next heartbeat, which is put off for an hour.
WAITING = """
import json, time
from scrapy import Request, Spider
from scrapy.core.engine import ExecutionEngine
from scrapy.crawler import AsyncCrawlerProcess

assert ExecutionEngine._SLOT_HEARTBEAT_INTERVAL > 1
ExecutionEngine._SLOT_HEARTBEAT_INTERVAL = 3600

class Waits(Spider):
    name = "waits"
    custom_settings = {
        "SCHEDULER": "kagglecrawl.state.scheduler.KaggleScheduler",
        "TELNETCONSOLE_ENABLED": False, "REMOTE_CONTROL_ENABLED": False, "LOG_ENABLED": False,
    }
    async def start(self):
        self.due = time.time() + 0.2
        yield Request("data:,one", meta={"not_before": self.due}, dont_filter=True)
    def parse(self, response):
        print(json.dumps(["woken for", response.text, time.time() >= self.due]))

process = AsyncCrawlerProcess()
process.crawl(Waits)
process.start()
"""


def test_a_sleeping_engine_is_woken(tmp_path: Path) -> None:
    assert crawled(WAITING, tmp_path) == ["woken for", "one", True]


def test_an_engine_without_a_slot_is_left_alone() -> None:
    """Before a spider is opened, and after it was closed."""
    engine = ExecutionEngine.__new__(ExecutionEngine)
    engine._slot = None
    internals.wake(engine)
    assert engine._slot is None


def test_waking_schedules_the_engines_own_next_call() -> None:
    async def woken() -> int:
        calls = 0

        def count() -> None:
            nonlocal calls
            calls += 1

        scheduler = Scheduler.from_crawler(get_crawler())
        engine = ExecutionEngine.__new__(ExecutionEngine)
        engine._slot = _Slot(close_if_idle=True, nextcall=CallLaterOnce(count), scheduler=scheduler)
        internals.wake(engine)
        internals.wake(engine)  # twice before the loop turns is once
        await asyncio.sleep(0.01)
        return calls

    assert asyncio.run(woken()) == 1


# -- watch -----------------------------------------------------------------------------------------

# Every way that a request can end, watched by a scheduler that is Scrapy's but for that.
WATCHED = """
import asyncio, json
from scrapy import Request, Spider
from scrapy.core.scheduler import Scheduler
from scrapy.crawler import AsyncCrawlerProcess
from scrapy.exceptions import DropItem, IgnoreRequest
from kagglecrawl.state import internals

events = []

def note(kind, request):
    events.append([kind, request.url])

class Watching(Scheduler):
    def open(self, spider):
        internals.watch(
            spider.crawler.engine,
            lambda request: note("ended", request),
            lambda: events.append(["closing", ""]),
        )
        return super().open(spider)
    def next_request(self):
        request = super().next_request()
        if request is not None:
            note("taken", request)
        return request

class Middleware:
    def process_request(self, request):
        if request.url == "data:,ignored":
            raise IgnoreRequest
    def process_response(self, request, response):
        if request.url == "data:,retried" and not request.meta.get("again"):
            return request.replace(meta={"again": True}, dont_filter=True)
        return response

class Slow:
    async def process_item(self, item):
        await asyncio.sleep(0.05)
        if item["of"] == "data:,dropped":
            raise DropItem("no")
        if item["of"] == "data:,broken":
            raise ValueError("broken")
        events.append(["item", item["of"]])
        return item

class Watched(Spider):
    name = "watched"
    custom_settings = {
        "SCHEDULER": Watching, "DOWNLOADER_MIDDLEWARES": {Middleware: 100},
        "ITEM_PIPELINES": {Slow: 100}, "TELNETCONSOLE_ENABLED": False,
        "REMOTE_CONTROL_ENABLED": False, "LOG_ENABLED": False, "RETRY_ENABLED": False,
    }
    async def start(self):
        for name in ("row", "async", "raises", "dropped", "broken", "retried", "ignored"):
            yield Request(f"data:,{name}", getattr(self, name, self.row), errback=self.failed)
        yield Request("unknown:scheme://x", errback=self.failed)
        yield Request("data:,unhandled", self.raises)
    def row(self, response):
        yield {"of": response.url}
        yield Request(f"data:,child%20of%20{response.url[6:]}", self.last)
    async def async_(self, response):
        await asyncio.sleep(0.02)
        yield {"of": response.url}
    def raises(self, response):
        yield {"of": response.url}
        raise KeyError
    def last(self, response):
        events.append(["callback", response.url])
    def failed(self, failure):
        events.append(["errback", failure.request.url])

setattr(Watched, "async", Watched.async_)
process = AsyncCrawlerProcess()
process.crawl(Watched)
process.start()
print(json.dumps(events))
"""


def test_a_request_is_over_once_and_after_all_that_came_of_it(tmp_path: Path) -> None:
    events = [(kind, url) for kind, url in crawled(WATCHED, tmp_path)]
    taken = Counter(url for kind, url in events if kind == "taken")
    ended = Counter(url for kind, url in events if kind == "ended")
    assert taken == ended
    assert taken["data:,retried"] == 2
    assert {"data:,ignored", "unknown:scheme://x", "data:,raises", "data:,unhandled"} <= set(taken)
    assert sum(url.startswith("data:,child") for url in taken) >= 4
    for kind, url in events:
        if kind in {"item", "callback", "errback"}:
            place = max(at for at, event in enumerate(events) if event == ("ended", url))
            assert events.index((kind, url)) < place, f"{kind} of {url} came later"
    assert {url for kind, url in events if kind == "errback"} == {
        "data:,ignored",
        "unknown:scheme://x",
    }
    assert {url for kind, url in events if kind == "item"} >= {"data:,row", "data:,async"}
    assert events[-1] == ("closing", "")
    assert events.count(("closing", "")) == 1


# A request hangs until the spider begins to close: if that were told later than the engine waits
# for what is under way, it would hang for ever.
CLOSING = """
import asyncio, json
from scrapy import Request, Spider
from scrapy.core.scheduler import Scheduler
from scrapy.crawler import AsyncCrawlerProcess
from kagglecrawl.state import internals

events, closes = [], asyncio.Event()

class Watching(Scheduler):
    def open(self, spider):
        internals.watch(spider.crawler.engine, self.ended, self.closing)
        return super().open(spider)
    def ended(self, request):
        events.append("ended")
    def closing(self):
        events.append("closing")
        closes.set()
    def close(self, reason):
        events.append("closed")
        return super().close(reason)

class Hangs(Spider):
    name = "hangs"
    custom_settings = {
        "SCHEDULER": Watching, "TELNETCONSOLE_ENABLED": False,
        "REMOTE_CONTROL_ENABLED": False, "LOG_ENABLED": False,
    }
    start_urls = ["data:,x"]
    async def parse(self, response):
        engine = self.crawler.engine
        stopping = asyncio.ensure_future(engine.close_spider_async(reason="enough"))
        await asyncio.wait_for(closes.wait(), 20)
        events.append("let go")

process = AsyncCrawlerProcess()
process.crawl(Hangs)
process.start()
print(json.dumps(events))
"""


def test_closing_is_told_before_the_engine_waits(tmp_path: Path) -> None:
    assert crawled(CLOSING, tmp_path) == ["closing", "let go", "ended", "closed"]


# -- fail_queued -----------------------------------------------------------------------------------

# The first request is sent, and the others wait in the downloader, a minute each.
QUEUED = """
import json
from scrapy import Request, Spider
from scrapy.crawler import AsyncCrawlerProcess
from kagglecrawl.state import internals
from kagglecrawl.state.leases import Interrupted

events = []

class Queues(Spider):
    name = "queues"
    custom_settings = {
        "DOWNLOAD_DELAY": 60, "CONCURRENT_REQUESTS_PER_DOMAIN": 1, "CONCURRENT_REQUESTS": 8,
        "DOWNLOAD_DELAY_JITTER": 0, "RETRY_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False, "REMOTE_CONTROL_ENABLED": False, "LOG_ENABLED": False,
    }
    async def start(self):
        for number in range(6):
            yield Request(f"data:,{number}", errback=self.failed)
    async def parse(self, response):
        import asyncio
        downloader = self.crawler.engine.downloader
        while sum(len(slot.queue) for slot in downloader.slots.values()) < 5:
            await asyncio.sleep(0.01)
        events.append(["answer", response.url])
        internals.fail_queued(self.crawler.engine, Interrupted)
        events.append(["left", str(sum(len(slot.queue) for slot in downloader.slots.values()))])
    def failed(self, failure):
        events.append([type(failure.value).__name__, failure.request.url])

process = AsyncCrawlerProcess()
process.crawl(Queues)
process.start()
print(json.dumps(events))
"""


def test_what_waits_in_the_downloader_fails_unsent(tmp_path: Path) -> None:
    events = crawled(QUEUED, tmp_path)
    assert events[:2] == [["answer", "data:,0"], ["left", "0"]]
    assert sorted(events[2:]) == [["Interrupted", f"data:,{number}"] for number in range(1, 6)]


# -- default_callback and stop_reactor -------------------------------------------------------------


class Parses(Spider):
    name = "parses"

    def parse(self, response: Response, **kwargs: Any) -> Any:
        return (response.url, kwargs)


def test_the_default_callback_is_parse() -> None:
    response = Response("https://h/a")
    assert internals.default_callback(Parses())(response, row=1) == ("https://h/a", {"row": 1})


STOPPED = """
import asyncio, json
from twisted.internet import asyncioreactor
asyncioreactor.install(asyncio.new_event_loop())
from twisted.internet import reactor
from kagglecrawl.state import internals

internals.stop_reactor()  # not running: nothing happens
reactor.callLater(3600, print, "hangs")
reactor.callLater(0, internals.stop_reactor)
reactor.callLater(0, internals.stop_reactor)
reactor.run()
internals.stop_reactor()
print(json.dumps("stopped"))
"""


def test_the_reactor_is_stopped_and_nothing_is_said_where_none_runs(tmp_path: Path) -> None:
    assert crawled(STOPPED, tmp_path) == "stopped"


# -- the names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "words"),
    [
        # wake
        (ExecutionEngine.__init__, ["self._slot: _Slot | None = None"]),
        (_Slot.__init__, ["self.nextcall: CallLaterOnce"]),
        (ExecutionEngine._start_scheduled_requests, ["self._slot"]),
        # watch: the slot is there when the scheduler is opened, and these two are its only doors
        (
            ExecutionEngine.open_spider_async,
            [
                "CallLaterOnce(self._start_scheduled_requests)",
                "self._slot = _Slot(",
                "scheduler.open(",
            ],
        ),
        (
            ExecutionEngine._start_scheduled_request,
            [
                "self._slot.scheduler.next_request()",
                "self._download(request)",
                "d.addBoth(self._handle_downloader_output, request)",
                "d.addBoth(partial(self._remove_request, request=request))",
            ],
        ),
        (ExecutionEngine._remove_request, ["self._slot.remove_request(request)"]),
        (
            ExecutionEngine.close_spider_async,
            [
                "if self._slot.closing is not None:",
                "await self._slot.close()",
                "self.downloader.close()",
                "self._slot.scheduler.close(reason)",
                "signal=signals.spider_closed",
            ],
        ),
        (_Slot.close, ["self.closing = Deferred()", "await"]),
        # fail_queued
        (Downloader.__init__, ["self.slots: dict[str, Slot] = {}"]),
        (DownloaderSlot, ["queue: deque[tuple[Request, Deferred[Response]]]"]),
        # default_callback
        (
            Scraper.call_spider_async,
            ["result.request.callback or self.crawler.spider._parse", "request.errback(result)"],
        ),
    ],
)
def test_the_names_are_where_they_were(where: Any, words: list[str]) -> None:
    """In this order."""
    source = inspect.getsource(where)
    at = 0
    for each in words:
        at = source.find(each, at)
        assert at >= 0, each


#: Of other packages, where they are no secret: kagglesdk's field tables, and os._exit; and how
#: scrapy-playwright starts, which tests/test_browser.py looks at.
NOT_SCRAPYS = {"_fields", "_replace", "_exit", "_maybe_launch_in_thread"}


def defined(path: Path) -> set[str]:
    """Names of methods and functions of ours."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_private_names_are_used_nowhere_else() -> None:
    """``engine._slot``, ``spider._parse`` and the like belong into internals.py."""
    found = []
    for path in (ROOT / "kagglecrawl").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name == "internals.py":
            continue
        assert "slot.queue" not in text, path
        assert "downloader.slots" not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                ours = ast.unparse(node.value) in {"self", "cls", "super()"}
                ours = ours or node.attr in defined(path)
                if not (ours or node.attr.startswith("__") or node.attr in NOT_SCRAPYS):
                    found.append((path.name, ast.unparse(node)))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scrapy"):
                found += [(path.name, each.name) for each in node.names if each.name[0] == "_"]
    assert not found
