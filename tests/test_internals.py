"""Scrapy's private parts that are used: a release that changes one must fail here, loudly."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from scrapy.core.engine import ExecutionEngine, _Slot
from scrapy.core.scheduler import Scheduler
from scrapy.utils.reactor import CallLaterOnce
from scrapy.utils.test import get_crawler

from kagglecrawl.state import internals
from tests.conftest import ROOT, clean_env

# A scheduler keeps the only request for a moment; without `wake` the engine would ask for it at
# its next heartbeat, which is put off for an hour.
CRAWL = """
import sys, time
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
        yield Request("data:,one", meta={"not_before": time.time() + 0.2}, dont_filter=True)
    def parse(self, response):
        print("woken for", response.text)

process = AsyncCrawlerProcess()
process.crawl(Waits)
process.start()
"""


def test_a_sleeping_engine_is_woken(tmp_path: Path) -> None:
    """In a real crawl, with its own event loop and reactor."""
    done = subprocess.run(
        [sys.executable, "-c", CRAWL],
        env=clean_env(tmp_path, PYTHONPATH=str(ROOT)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("woken for one\n", 0), done.stderr


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

        crawler = get_crawler(settings_dict={"TWISTED_REACTOR_ENABLED": False})
        scheduler = Scheduler.from_crawler(crawler)
        engine = ExecutionEngine.__new__(ExecutionEngine)
        engine._slot = _Slot(close_if_idle=True, nextcall=CallLaterOnce(count), scheduler=scheduler)
        internals.wake(engine)
        internals.wake(engine)  # twice before the loop turns is once
        await asyncio.sleep(0.01)
        return calls

    assert asyncio.run(woken()) == 1


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (ExecutionEngine.__init__, "self._slot: _Slot | None = None"),
        (_Slot.__init__, "self.nextcall: CallLaterOnce"),
        (ExecutionEngine.open_spider_async, "CallLaterOnce(self._start_scheduled_requests)"),
        (ExecutionEngine._start_scheduled_requests, "self._slot"),
    ],
)
def test_the_names_are_where_they_were(where: object, words: str) -> None:
    assert words in inspect.getsource(where)  # type: ignore[arg-type]


def test_private_names_of_scrapy_are_used_nowhere_else() -> None:
    """``engine._slot`` and the like belong into internals.py."""
    for path in (ROOT / "kagglecrawl").rglob("*.py"):
        if path.name != "internals.py":
            text = path.read_text(encoding="utf-8")
            assert "engine._" not in text, path
            assert "._slot" not in text, path
