"""Downloads through kagglehub and time: cancelled, stalled, killed, closed; nothing is left."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scrapy.exceptions import (
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
)

from kagglecrawl.kaggle.errors import Misconfigured, NoSpace
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World, published
from kagglecrawl.transport import child
from tests.conftest import ROOT, clean_env
from tests.official_transport.conftest import (
    PUBLIC,
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

OTHER = WORLD.public(0.5)[1]
#: A drip of it brings a MiB now and then.
LARGE = published("some/large", bytes(40 << 20))
#: Longer than any test; who waits for its end hangs.
SLOW_STORAGE = Rule(Fault("drip", seconds=600), method="storage", key=PUBLIC.archive_key)
SLOW_API = Rule(Fault("drip", seconds=600), method="GetDataset", key=PUBLIC.ref)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def under_way(caller: Caller, replica: Replica) -> tuple[asyncio.Task[Path], int]:
    """A download that storage has begun to answer, and its process."""
    before = set(workers())
    seen = replica.stats()["storage"].get("GET 200", 0)
    task = asyncio.create_task(caller.download(PUBLIC))
    await eventually(lambda: replica.stats()["storage"].get("GET 200", 0) > seen)
    (pid,) = set(workers()) - before
    return task, pid


async def cancelled(task: asyncio.Task[Path]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_download_that_is_cancelled_is_killed_before_anybody_knows(
    token: str, tmp_path: Path
) -> None:
    async def use(caller: Caller) -> None:
        task, pid = await under_way(caller, replica)
        other = await caller.download(OTHER)  # meanwhile, and untouched by it
        await cancelled(task)
        assert reaped(pid)
        assert not (tmp_path / PUBLIC.slug).exists()
        assert len(workers()) == 1
        assert entries(other)

    async def stopped(caller: Caller) -> None:
        task, pid = await under_way(caller, replica)
        os.kill(pid, signal.SIGSTOP)  # it can do nothing by itself
        await cancelled(task)
        assert reaped(pid)
        assert workers() == []

    async def at_the_start(caller: Caller) -> None:
        task = asyncio.create_task(caller.download(PUBLIC))
        await eventually(lambda: bool(workers()))
        (pid,) = workers()
        await cancelled(task)
        assert reaped(pid)

    async def at_once(caller: Caller) -> None:
        task = asyncio.create_task(caller.download(PUBLIC))
        await asyncio.sleep(0)
        await cancelled(task)
        assert workers() == []

    async def at_the_api(caller: Caller) -> None:
        task = asyncio.create_task(caller.download(PUBLIC, version=None))
        await eventually(lambda: bool(replica.stats()["requests"].get("GetDataset")))
        await cancelled(task)
        assert workers() == []

    with Replica(WORLD, faults=Faults.script([SLOW_STORAGE, SLOW_API])) as replica:
        for use_it in (use, stopped, at_the_start, at_once, at_the_api):
            run(replica.api_url, use_it, tmp_path)


def test_after_a_cancelled_one_the_next_is_whole(token: str, tmp_path: Path) -> None:
    async def use(caller: Caller) -> None:
        task, _ = await under_way(caller, replica)
        await cancelled(task)
        into = await caller.download(PUBLIC)
        found = {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()}
        assert found == {file.name for file in PUBLIC.files}

    once = Rule(SLOW_STORAGE.fault, SLOW_STORAGE.method, SLOW_STORAGE.key, arrivals=(1,))
    with Replica(WORLD, faults=Faults.script([once])) as replica:
        run(replica.api_url, use, tmp_path)


@pytest.mark.parametrize("rule", [SLOW_STORAGE, SLOW_API], ids=["storage", "api"])
def test_a_stall_ends_a_download_and_its_child(token: str, tmp_path: Path, rule: Rule) -> None:
    async def use(caller: Caller) -> None:
        with pytest.raises(DownloadTimeoutError, match=r"nothing has come in 0\.5 s"):
            await caller.download(PUBLIC, version=None)
        assert workers() == []
        assert not (tmp_path / PUBLIC.slug).exists()

    with Replica(WORLD, faults=Faults.script([rule])) as replica:
        run(replica.api_url, use, tmp_path, stall_timeout=0.5)


def test_whoever_is_told_may_end_a_download(token: str, tmp_path: Path) -> None:
    def full(size: int) -> None:
        raise NoSpace(f"{size} bytes are too many")

    async def use(caller: Caller) -> None:
        with pytest.raises(NoSpace, match="bytes are too many"):
            await caller.download(LARGE, told=full)
        assert workers() == []
        assert not (tmp_path / LARGE.slug).exists()

    drip = Rule(Fault("drip", seconds=60), method="storage")
    with Replica(World(scale=None, extra=(LARGE,)), faults=Faults.script([drip])) as replica:
        run(replica.api_url, use, tmp_path)


def test_a_child_that_is_killed(token: str, tmp_path: Path) -> None:
    async def use(caller: Caller) -> None:
        for _ in range(3):
            task, pid = await under_way(caller, replica)
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(DownloadFailedError, match="ended by SIGKILL"):
                await task
        await caller.download(OTHER)
        (pid,) = workers()
        os.kill(pid, signal.SIGKILL)
        (idle,) = caller.transport._idle
        await eventually(lambda: idle.gone)
        (tmp_path / OTHER.slug).rename(tmp_path / "before")
        await caller.download(OTHER)

    with Replica(WORLD, faults=Faults.script([SLOW_STORAGE])) as replica:
        run(replica.api_url, use, tmp_path)


def test_closing_ends_downloads_and_what_waits_for_one(token: str, tmp_path: Path) -> None:
    async def at_work(caller: Caller) -> None:
        task, pid = await under_way(caller, replica)
        await caller.transport.close()
        assert reaped(pid)
        with pytest.raises(DownloadFailedError, match="the official client ended"):
            await task

    async def at_the_start(caller: Caller) -> None:
        task = asyncio.create_task(caller.download(PUBLIC))
        await eventually(lambda: bool(workers()))
        await caller.transport.close()
        assert workers() == []
        with pytest.raises(DownloadFailedError, match="the official client ended"):
            await task

    async def idle(caller: Caller) -> None:
        await caller.download(OTHER)
        assert len(workers()) == 1
        await caller.transport.close()
        assert workers() == []

    async def beside_calls(caller: Caller) -> None:
        task, _ = await under_way(caller, replica)
        await caller.judged(OTHER)
        assert len(workers()) == 2
        await caller.transport.close()
        assert workers() == []
        with pytest.raises(DownloadFailedError):
            await task

    before = set(threading.enumerate())
    with Replica(WORLD, faults=Faults.script([SLOW_STORAGE])) as replica:
        for number, use in enumerate((at_work, at_the_start, idle, beside_calls)):

            async def use_and_ask(caller: Caller, use: object = use) -> None:
                await use(caller)  # type: ignore[operator]
                with pytest.raises(DownloadCancelledError):
                    await caller.download(PUBLIC)

            (tmp_path / str(number)).mkdir()
            run(replica.api_url, use_and_ask, tmp_path / str(number))
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before


CRAWL = """
import asyncio, sys
from pathlib import Path
from kagglecrawl.kaggle.auth import find_credentials
from kagglecrawl.transport.official import OfficialTransport

api_url, ref, folder = sys.argv[1:]

async def main():
    transport = OfficialTransport(api_url, find_credentials())
    await transport.download(ref, None, Path(folder, "into"), Path(folder, "scratch"))

asyncio.run(main())
"""


def test_a_crawl_that_is_killed_takes_its_downloads_along(tmp_path: Path) -> None:
    with Replica(WORLD, faults=Faults.script([SLOW_STORAGE])) as replica:
        command = [sys.executable, "-c", CRAWL, replica.api_url, PUBLIC.ref, str(tmp_path)]
        env = clean_env(tmp_path, KAGGLE_API_TOKEN=replica.token)
        with subprocess.Popen(command, cwd=ROOT, env=env) as process:
            try:
                wait_until(lambda: bool(replica.stats()["storage"]))
                (worker,) = workers(process.pid)
            finally:
                process.kill()
            process.wait()
            wait_until(lambda: not alive(worker))
    assert not (tmp_path / "into").exists()


def test_nothing_listens(token: str, tmp_path: Path) -> None:
    async def use(caller: Caller) -> None:
        with pytest.raises((DownloadConnectionRefusedError, DownloadFailedError)):
            await caller.download(PUBLIC)

    with socket.socket() as taken:  # bound, so nobody else's; but it does not listen
        taken.bind(("127.0.0.1", 0))
        run(f"http://127.0.0.1:{taken.getsockname()[1]}/api", use, tmp_path)


def test_a_package_that_does_not_run_ends_the_crawl_with_its_reason(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ImportError: no kagglehub here' >&2\nexit 1\n")
    broken.chmod(0o755)

    async def use(caller: Caller) -> None:
        with pytest.raises(Misconfigured, match=r"no kagglehub here\): check that `python -c"):
            await caller.download(PUBLIC)

    async def late(caller: Caller) -> None:
        monkeypatch.setattr(child, "START_TIMEOUT", 0.0)
        with pytest.raises(DownloadTimeoutError, match="was not ready"):
            await caller.download(PUBLIC)
        assert workers() == []

    run("http://127.0.0.1:9/api", late, tmp_path)
    monkeypatch.setattr(child, "START_TIMEOUT", 30.0)
    monkeypatch.setattr(sys, "executable", str(broken))
    run("http://127.0.0.1:9/api", use, tmp_path)


def test_the_token_and_the_progress_bars_are_shown_nowhere(
    token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("VERBOSE", "1")
    monkeypatch.setenv("KAGGLEHUB_VERBOSITY", "debug")

    async def use(caller: Caller) -> None:
        await caller.download(OTHER)
        assert [token in command_line(pid) for pid in workers()] == [False]

    with Replica(WORLD) as replica:
        run(replica.api_url, use, tmp_path)
    assert token not in caplog.text
    assert "X-Goog" not in caplog.text
    assert capfd.readouterr() == ("", "")
