"""Calls sent through a transport, and the processes that it starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request
from scrapy.http import Response, TextResponse

from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.auth import find_credentials
from kagglecrawl.kaggle.errors import (
    judge,
    parse_retry_after,
)
from kagglecrawl.replica.faults import Fault, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World
from kagglecrawl.transport.official import OfficialTransport
from tests.conftest import clean_env

WORLD = World(seed=1)
PUBLIC = WORLD.public(0.5)[0]
#: Longer than any test; who waits for its end hangs.
STUCK = Rule(Fault("drip", seconds=60), method="GetDatasetMetadata", key=PUBLIC.ref)


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No credentials but those that a test sets; and no process is left by any test."""
    for name in set(os.environ) - set(clean_env(tmp_path)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    assert workers() == []


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KAGGLE_API_TOKEN", Replica.token)
    return Replica.token


def workers(parent: int | None = None) -> list[int]:
    """The child processes of this one that are our workers, zombies too."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, ppid = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
            if int(ppid) == (parent or os.getpid()):
                command = (folder / "cmdline").read_text()
                if state == "Z" or "kagglecrawl.transport.worker" in command:
                    found.append(int(folder.name))
    return found


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def reaped(pid: int) -> bool:
    """Whether it has ended and been waited for, so that it is not even a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


async def eventually(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(0.01)


class Caller:
    """A transport and what the tests send through it.

    A download goes into ``folder`` / slug, and by ``folder`` / ``scratch``.
    """

    def __init__(self, api_url: str, folder: Path, stall_timeout: float) -> None:
        self.api_url = api_url
        self.folder = folder
        self.transport = OfficialTransport(api_url, find_credentials(), stall_timeout=stall_timeout)

    def request(self, call: rpc.Rpc, seconds: float = 20, **fields: Any) -> Request:
        return call.request(self.api_url, fields=fields, meta={"download_timeout": seconds})

    async def metadata(self, dataset: DatasetTruth = PUBLIC, seconds: float = 20) -> Response:
        return await self.transport.send(
            self.request(
                rpc.GET_DATASET_METADATA,
                seconds,
                owner_slug=dataset.owner,
                dataset_slug=dataset.slug,
            )
        )

    async def judged(self, dataset: DatasetTruth = PUBLIC) -> dict[str, Any]:
        """The reply, or what kagglecrawl's middleware makes of it."""
        return self.judge(rpc.GET_DATASET_METADATA, await self.metadata(dataset))

    @staticmethod
    def judge(call: rpc.Rpc, response: Response) -> dict[str, Any]:
        """The reply, or what kagglecrawl's middleware makes of it."""
        assert isinstance(response, TextResponse)
        try:
            reply = response.json()
        except ValueError:
            reply = None
        retry_after = (response.headers.get("Retry-After") or b"").decode()
        wait = parse_retry_after(retry_after)
        return judge(call, response.status, reply, response.body, wait=wait, known=True)

    async def download(
        self,
        dataset: DatasetTruth,
        version: int | None = 0,
        told: Callable[[int], None] | None = None,
    ) -> Path:
        """The folder with a dataset's files, of its own version if none is given; or what the
        middleware makes of the answer."""
        into = self.folder / dataset.slug
        scratch = self.folder / f"scratch-{dataset.slug}"
        version = dataset.version if version == 0 else version
        response = await self.transport.download(dataset.ref, version, into, scratch, told)
        assert not scratch.exists()
        if response is not None:
            assert not into.exists()
            reply = self.judge(rpc.DOWNLOAD_DATASET, response)
            raise AssertionError(f"{reply} would be taken for files")
        return into


def run(
    api_url: str,
    use: Callable[[Caller], Awaitable[None]],
    folder: Path = Path("nowhere"),
    stall_timeout: float = 20,
) -> None:
    """Use a transport in a loop of its own; it is closed whatever happens."""

    async def main() -> None:
        caller = Caller(api_url, folder, stall_timeout)
        try:
            await use(caller)
        finally:
            await caller.transport.close()

    asyncio.run(main())
