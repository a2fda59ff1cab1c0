"""``KAGGLE_TRANSPORT=official`` and time: stuck, killed, closed, interrupted; nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scrapy.exceptions import (
    DownloadCancelledError,
    DownloadFailedError,
    DownloadTimeoutError,
)
from scrapy.http import Response

from kagglecrawl.kaggle.errors import (
    Misconfigured,
)
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.transport import child, official
from tests.conftest import NO_FILES, ROOT, clean_env
from tests.official_transport.conftest import (
    PUBLIC,
    STUCK,
    WORLD,
    Caller,
    alive,
    command_line,
    eventually,
    reaped,
    run,
    wait_until,
    workers,
)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc"
)

# -- time and processes ---------------------------------------------------------------------------


def test_a_call_is_given_up_and_a_stuck_child_replaced(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "MOST_STUCK", 2)
    other = WORLD.public(0.5)[1]

    async def use(caller: Caller) -> None:
        await caller.judged(other)
        first = workers()
        with pytest.raises(DownloadTimeoutError, match=r"no answer in 0\.2 s"):
            await caller.metadata(seconds=0.2)
        await caller.judged(other)
        assert workers() == first
        with pytest.raises(DownloadTimeoutError):
            await caller.metadata(seconds=0.2)
        assert workers() == []
        await caller.judged(other)
        assert len(workers()) == 1

    with Replica(WORLD, faults=Faults.script([STUCK])) as replica:
        run(replica.api_url, use)


def test_an_answer_that_comes_too_late_frees_its_thread(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "MOST_STUCK", 2)
    late = Rule(Fault("drip", seconds=0.3), method="GetDatasetMetadata", key=PUBLIC.ref)

    async def use(caller: Caller) -> None:
        def nothing_is_stuck() -> bool:
            assert caller.transport._child is not None
            return caller.transport._child.stuck == 0

        await caller.judged(WORLD.public(0.5)[1])
        first = workers()
        for _ in range(3):
            with pytest.raises(DownloadTimeoutError):
                await caller.metadata(seconds=0.1)
            await eventually(nothing_is_stuck)
        assert workers() == first

    with Replica(WORLD, faults=Faults.script([late])) as replica:
        run(replica.api_url, use)


def test_a_server_that_is_silent_from_the_start(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "START_TIMEOUT", 0.2)

    async def use(caller: Caller) -> None:
        outcomes = await asyncio.gather(
            *(caller.metadata() for _ in range(8)), return_exceptions=True
        )
        # one start for all of them, and each of them knows
        assert {type(outcome) for outcome in outcomes} <= {
            DownloadTimeoutError,
            DownloadFailedError,
        }
        assert workers() == []

    with socket.create_server(("127.0.0.1", 0)) as silent:
        run(f"http://127.0.0.1:{silent.getsockname()[1]}/api", use)


def test_a_child_that_is_killed(token: str) -> None:
    async def kill_in_mid_call(caller: Caller, replica: Replica) -> None:
        call = asyncio.create_task(caller.metadata())
        await eventually(lambda: bool(replica.stats()["requests"].get("GetDatasetMetadata")))
        replica.reset_stats()
        (pid,) = workers()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(DownloadFailedError, match="ended by SIGKILL"):
            await call

    with Replica(WORLD, faults=Faults.script([STUCK])) as replica:

        async def use(caller: Caller) -> None:
            for _ in range(3):  # an answer in between, and all is well
                await kill_in_mid_call(caller, replica)
                await caller.judged(WORLD.public(0.5)[1])
                replica.reset_stats()
            await kill_in_mid_call(caller, replica)
            await kill_in_mid_call(caller, replica)
            for _ in range(2):
                with pytest.raises(Misconfigured, match="ended 2 times without an answer"):
                    await caller.metadata()

        run(replica.api_url, use)


def test_a_package_that_does_not_run_ends_the_crawl_with_its_reason(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: no kaggle here' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))

    async def use(caller: Caller) -> None:
        with pytest.raises(Misconfigured, match=r"with status 1 \(ImportError: no kaggle here\)"):
            await caller.metadata()

    async def missing(caller: Caller) -> None:
        with pytest.raises(Misconfigured, match="cannot be started"):
            await caller.metadata()

    run("http://127.0.0.1:9/api", use)
    broken.unlink()
    run("http://127.0.0.1:9/api", missing)


def test_closing_leaves_nothing(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_work(caller: Caller) -> None:
        call = asyncio.create_task(caller.metadata())
        await eventually(lambda: bool(replica.stats()["requests"].get("GetDatasetMetadata")))
        await end(caller, call)

    async def at_the_start(caller: Caller) -> None:
        call = asyncio.create_task(caller.metadata())
        await eventually(lambda: bool(workers()))
        await end(caller, call)

    async def deaf(caller: Caller) -> None:
        monkeypatch.setattr(child, "_CLOSE_TIMEOUT", 0.1)
        await caller.judged(WORLD.public(0.5)[1])
        os.kill(workers()[0], signal.SIGSTOP)  # it does not see the end of its input
        await end(caller, None)

    async def unused(caller: Caller) -> None:
        await caller.transport.close()
        with pytest.raises(DownloadCancelledError):
            await caller.metadata()

    async def end(caller: Caller, call: asyncio.Task[Response] | None) -> None:
        (pid,) = workers()
        await caller.transport.close()
        assert reaped(pid)
        if call is not None:
            with pytest.raises(DownloadFailedError, match="the official client ended"):
                await call
        with pytest.raises(DownloadCancelledError):
            await caller.metadata()

    with Replica(WORLD, faults=Faults.script([STUCK])) as replica:
        before = set(threading.enumerate())
        for use in (at_work, at_the_start, deaf, unused):
            run(replica.api_url, use)
        for thread in set(threading.enumerate()) - before:
            thread.join(5)
        assert set(threading.enumerate()) <= before


def test_the_token_is_shown_nowhere(
    token: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("VERBOSE", "1")  # with it the package prints headers

    async def use(caller: Caller) -> None:
        await caller.judged()
        assert [token in command_line(pid) for pid in workers()] == [False]

    with Replica(WORLD) as replica:
        run(replica.api_url, use)
    assert token not in caplog.text
    assert capfd.readouterr() == ("", "")


# -- inside Scrapy --------------------------------------------------------------------------------

NOISE = re.compile(r"Task was destroyed|Traceback|Warning:|never retrieved|Exception ignored")
STUCK_LIST = Rule(Fault("drip", seconds=60), method="ListDatasets")


def listing(replica: Replica) -> bool:
    """Whether a call is under way, or was."""
    return bool(replica.stats()["requests"].get("ListDatasets"))


@contextlib.contextmanager
def crawling(replica: Replica, home: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A crawl in a process group of its own, as a terminal starts it."""
    options = {
        "KAGGLE_TRANSPORT": "official",
        "WORKSPACE": str(home),
        "DOWNLOAD_DELAY": "0",
        "STATS_DUMP": "True",
        "CLOSESPIDER_ITEMCOUNT": "1",
    }
    settings = (word for name, value in options.items() for word in ("-s", f"{name}={value}"))
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-m", "scrapy", "crawl", "datasets", *NO_FILES, *settings],
        cwd=ROOT,
        env=clean_env(home, KAGGLE_API_URL=replica.api_url, **env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_crawl_by_it(tmp_path: Path) -> None:
    throttled = Rule(Fault("status", 429, retry_after=0), method="ListDatasets", arrivals=(1,))
    with (
        Replica(WORLD, faults=Faults.script([throttled])) as replica,
        crawling(replica, tmp_path, KAGGLE_API_TOKEN=replica.token) as process,
    ):
        log, _ = process.communicate(timeout=60)
        stats = replica.stats()
    assert "'kaggle/retries/throttled': 1" in log
    assert int(re.findall(r"'item_scraped_count': (\d+)", log)[-1]) > 0
    assert "kagglecrawl" not in str(stats["user_agents"]), "it was sent by Scrapy"
    assert not NOISE.search(log), log


def test_a_crawl_by_nobody_stops_with_the_sentence(tmp_path: Path) -> None:
    with Replica(WORLD) as replica, crawling(replica, tmp_path) as process:
        log, _ = process.communicate(timeout=60)
    assert "ERROR: KAGGLE_TRANSPORT=official needs credentials: create a token" in log
    assert "'finish_reason': 'kaggle_credentials'" in log
    assert not NOISE.search(log), log


def test_a_crawl_that_is_killed_takes_its_child_along(tmp_path: Path) -> None:
    with (
        Replica(WORLD, faults=Faults.script([STUCK_LIST])) as replica,
        crawling(replica, tmp_path, KAGGLE_API_TOKEN=replica.token) as process,
    ):
        wait_until(lambda: listing(replica))
        (worker,) = workers(process.pid)
        process.kill()
        process.communicate(timeout=60)
        wait_until(lambda: not alive(worker))


def test_two_interrupts_leave_nothing(tmp_path: Path) -> None:
    with (
        Replica(WORLD, faults=Faults.script([STUCK_LIST])) as replica,
        crawling(replica, tmp_path, KAGGLE_API_TOKEN=replica.token) as process,
    ):
        wait_until(lambda: listing(replica))
        (worker,) = workers(process.pid)
        assert process.stdout is not None
        os.killpg(process.pid, signal.SIGINT)
        before = ""
        while "shutting down gracefully" not in before:
            line = process.stdout.readline()
            assert line, before
            before += line
        assert alive(worker), "the first one lets calls end"
        os.killpg(process.pid, signal.SIGINT)
        after, _ = process.communicate(timeout=60)
        wait_until(lambda: not alive(worker))
    assert not NOISE.search(before + after), before + after
