"""Transfers in an event loop: the engine is a stand-in; job, threads, storage and workspace are
real."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.http import Response
from scrapy.settings import Settings
from scrapy.statscollectors import MemoryStatsCollector

from kagglecrawl.config import KaggleConfig
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.store import Store
from kagglecrawl.state.transfers import Transfers as Job
from kagglecrawl.transfer.transfers import Transfers
from tests.transfer.archives import GOOD, STORED, Entry, zipped
from tests.transfer.bench import FOLDER, KEY
from tests.transfer.stand import Object, Storage, status

API = "/v1/datasets.DatasetApiService/DownloadDataset"
BIG = bytes(range(256)) * 12_000
TREE = {"a.csv": GOOD, "data/big.bin": BIG, "z.csv": GOOD}
ZIP = zipped(*(Entry(name, data, STORED) for name, data in TREE.items()))


class Scheduler(KaggleScheduler):
    """Of which only the transfers are there."""

    def __init__(self, job: Job) -> None:
        self.transfers = job


class Kit:
    """What a download handler has: a crawler, and transfers for it."""

    def __init__(self, storage: Storage, workspace: Path, **settings: Any) -> None:
        self.storage = storage
        self.workspace = workspace
        given = {
            "KAGGLE_API_URL": storage.address,
            "WORKSPACE": str(workspace),
            "WORKSPACE_MIN_FREE": "0",
            "KAGGLE_RETRY_BASE": 0.001,
            "KAGGLE_STALL_TIMEOUT": 5,
            "JOBDIR": "somewhere",
            **settings,
        }
        project = Settings()
        project.setmodule("kagglecrawl.settings")
        project.setdict(given)
        self.crawler: Any = SimpleNamespace(settings=project)
        self.crawler.stats = MemoryStatsCollector(cast(Crawler, self.crawler))
        self.store = Store.in_memory()
        self.job = Job(self.store, contextlib.nullcontext, lambda: None, self.store.commit)
        self.crawler.engine = SimpleNamespace(scheduler=Scheduler(self.job))
        config = KaggleConfig.from_settings(project)
        self.transfers = Transfers(cast(Crawler, self.crawler), config)
        self.posts = 0

    @property
    def target(self) -> Path:
        return self.workspace / FOLDER

    @property
    def beside(self) -> list[str]:
        """What is in the folder of the target."""
        parent = self.target.parent
        return sorted(each.name for each in parent.iterdir()) if parent.is_dir() else []

    def request(self, key: str = KEY, folder: str = FOLDER, **sink: Any) -> Request:
        owner, slug = key.split("/")
        return Request(
            self.storage.address + API,
            method="POST",
            body=json.dumps({"ownerSlug": owner, "datasetSlug": slug}),
            meta={"key": key, "sink": {"folder": folder, "only": [], "max_bytes": None, **sink}},
        )

    async def post(self) -> Response:
        """The API's answer: a new address each time."""
        self.posts += 1
        await asyncio.sleep(0)
        location = self.storage.url.replace("bundle", f"bundle{self.posts}")
        return Response(self.storage.address + API, status=302, headers={"Location": location})

    async def have(self, request: Request | None = None, post: Any = None) -> dict[str, Any]:
        """Run one transfer; its manifest."""
        response = await self.transfers.run(request or self.request(), post or self.post)
        manifest: dict[str, Any] = json.loads(response.body)["transfer"]
        return manifest

    def stat(self, name: str) -> Any:
        return self.crawler.stats.get_value(f"kaggle/transfers/{name}", 0)

    def idle(self) -> bool:
        """Is nothing left of any transfer but what is on disk?"""
        return not self.job.under_way and not self.transfers._guard._reserved


Test = Callable[[Kit], Awaitable[None]]


def run(test: Test, workspace: Path, content: bytes | Object = ZIP, **settings: Any) -> Kit:
    """Run a coroutine with a kit; nothing may be left in the loop, and no fault told of."""
    faults: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))
        await test(kit)
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with Storage(content) as storage:
        kit = Kit(storage, workspace, **settings)
        asyncio.run(watched())
        kit.store.close()
        for thread in threading.enumerate():
            if thread.name.startswith("transfer of"):
                thread.join(10)
        gc.collect()
    assert faults == []
    return kit


def expiring(kit: Kit, **trouble: Any) -> None:
    """The first address has expired when the object is read."""
    kit.storage.script = lambda asked: (
        status(400) if asked.number > 1 and "/bundle1/" in asked.path else None
    )


async def until(true: Callable[[], object]) -> None:
    """Wait for what a thread does."""
    while not true():  # noqa: ASYNC110  (a thread sets no event of the loop's)
        await asyncio.sleep(0.01)


async def threads_ended() -> None:
    await until(lambda: not any(t.name.startswith("transfer of") for t in threading.enumerate()))


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def grow(folder: Path, tree: dict[str, bytes]) -> None:
    for name, data in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
