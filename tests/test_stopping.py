"""One Ctrl-C or SIGTERM ends a crawl without waiting for answers, a second one at once; what was
under way is done by the next run."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from kagglecrawl.state.store import FILE, Store
from tests.conftest import NO_FILES, QUICK, ROOT, Run, by_ref, clean_env, record

#: No test waits for these: they end after answers that take an hour.
SLOW = Rule(Fault("drip", seconds=3600), method="GetDatasetMetadata")
TOKENS = Behaviour(paging="token")
WORLD = World(seed=2)
#: Seconds for what must not depend on an answer; far more than it takes.
PATIENCE = 60


class Hangs:
    """A pipeline that never comes to its end."""

    async def process_item(self, item: Any) -> Any:
        await asyncio.sleep(3600)
        return item


@contextmanager
def crawling(replica: Replica, folder: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    options = (*QUICK, *NO_FILES, *job(folder), *args)
    process = subprocess.Popen(
        [sys.executable, "-m", "scrapy", "crawl", "datasets", *options],
        cwd=ROOT,
        env=clean_env(folder, **replica.crawler_env()),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def job(folder: Path) -> tuple[str, ...]:
    workspace = ("-s", f"WORKSPACE={folder / 'workspace'}")
    return ("-s", f"JOBDIR={folder / 'job'}", "-o", str(folder / "out.jsonl"), *workspace)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def wait_for_slow_ones(replica: Replica, count: int) -> None:
    """Until so many requests wait for their answer."""
    wait_until(lambda: replica.stats()["faults"].get("drip", 0) >= count)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_it_and_the_next_run_goes_on(
    crawl: Run, tmp_path: Path, number: signal.Signals
) -> None:
    with Replica(WORLD, behaviour=TOKENS, faults=Faults.script([SLOW])) as replica:
        port = replica.port
        with crawling(replica, tmp_path) as process:
            wait_for_slow_ones(replica, 8)
            process.send_signal(number)
            log = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 3, log
    assert "Run the same command again to go on." in log
    assert "Traceback" not in log
    assert "ERROR" not in log
    with closing(Store.look(tmp_path / "job" / FILE)) as store:
        assert store.get("clean") == "1"
        assert store.count("failed") == 0
        assert store.count("pending") == store.count("discovered") - store.count("skipped")
    with Replica(WORLD, behaviour=TOKENS, port=port) as replica:
        done = crawl(replica, *job(tmp_path))
    assert done.code == 0, done.log
    assert by_ref(done.rows) == {each.ref: record(each) for each in WORLD.public(0.8)}


def test_one_signal_does_not_wait_for_requests_that_wait_their_turn(tmp_path: Path) -> None:
    """The downloader holds them back; Scrapy would send them all before it ends."""
    delay = ("-s", "DOWNLOAD_DELAY=3600", "-s", "AUTOTHROTTLE_ENABLED=False")
    with Replica(WORLD, behaviour=TOKENS) as replica:
        with crawling(replica, tmp_path, *delay) as process:
            wait_until(lambda: bool(replica.stats()["requests"].get("ListDatasets")))
            wait_until(lambda: discovered(tmp_path) > 0)
            process.send_signal(signal.SIGINT)
            log = process.communicate(timeout=PATIENCE)[1]
        assert "GetDatasetMetadata" not in replica.stats()["requests"]
    assert process.returncode == 3, log
    assert "ERROR" not in log


def discovered(folder: Path) -> int:
    """As it was committed."""
    if not (folder / "job" / FILE).exists():
        return 0
    with closing(Store.look(folder / "job" / FILE)) as store:
        return store.count("discovered")


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with (
        Replica(WORLD, behaviour=TOKENS, faults=Faults.script([SLOW])) as replica,
        crawling(replica, tmp_path) as process,
    ):
        wait_for_slow_ones(replica, 4)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        before = ""
        while "shutting down gracefully" not in before:
            line = process.stderr.readline()
            assert line, before
            before += line
        process.send_signal(signal.SIGINT)
        log = before + process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 3, log
    assert "Nothing is lost: run the same command again to go on." in log
    assert "Traceback" not in log


def test_what_hangs_is_left_behind(tmp_path: Path) -> None:
    """A pipeline that never ends, say; what was acknowledged before that is safe."""
    pipelines = '{"tests.test_stopping.Hangs": 900}'
    with (
        Replica(WORLD, behaviour=TOKENS) as replica,
        crawling(replica, tmp_path, "-s", f"ITEM_PIPELINES={pipelines}") as process,
    ):
        wait_until(lambda: bool(replica.stats()["delivered"].get("GetDatasetMetadata")))
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 3, log
    assert "do not come to an end" in log
    assert "run the same command again to go on" in log
    with closing(Store.look(tmp_path / "job" / FILE)) as store:
        assert store.count("discovered") > 0
        assert store.count("stored") == 0
