"""An item passes when all that it names is stored; the reactor never waits for that."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest
from scrapy import Spider
from scrapy.utils.test import get_crawler

from kagglecrawl import settings as project
from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.errors import KaggleError, NoSpace, StopCrawl, Unusable
from kagglecrawl.pipelines import payloads
from kagglecrawl.pipelines.payloads import Ended, Payload
from kagglecrawl.pipelines.upload import Unproven, UploadPipeline
from kagglecrawl.s3.errors import KeyRefused, StoreFailed, StoreRefused, Unproved
from tests.state.helpers import Item
from tests.state.stand import Clock, Stand, ask

LOG = Payload("code/a_b/kernel.log", b"line\n", "text/plain")
SOURCE = Payload("code/a_b/source.py", b"print()\n")


@dataclass
class Kernel:
    """An item with files of its own."""

    key: str = "a/b"
    version: int | None = 3
    download: dict[str, Any] | None = None
    payloads: list[Payload] = field(default_factory=list)


class FakeBucket:
    """Keeps what it is given, or does what a test says."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[bytes, str]] = {}
        self.proved: dict[str, bytes] = {}
        #: What puts raise, one after the other.
        self.raises: list[Exception] = []
        self.puts = 0
        self.threads: set[threading.Thread] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.pause: Callable[[float], None] = lambda _: None

    def pausing(self, pause: Callable[[float], None]) -> Self:
        self.pause = pause
        return self

    def prove(self, key: str, receipt: object, sha256: bytes) -> None:
        self.proved[key] = sha256

    def put(self, key: str, data: bytes, content_type: str = "") -> None:
        self.puts += 1
        self.threads.add(threading.current_thread())
        self.gate.wait(10)
        if self.raises:
            raise self.raises.pop(0)
        self.kept[key] = data, content_type


class Accounts:
    """What the pipeline asks of the job."""

    def __init__(self) -> None:
        self.ending = False
        self.known: dict[tuple[str, str], tuple[int, int]] = {}

    def receipts(self, key: str, folder: str) -> tuple[int, int] | None:
        return self.known.get((key, folder))


class Ledger:
    """What it asks of earlier crawls."""

    def __init__(self, *files: int) -> None:
        self.sizes = files
        self.others = 0

    def files(self, key: str, version: str) -> Iterator[tuple[str, int, bytes, str]]:
        assert (key, version) == ("a/b", "3")
        return ((f"{n}", size, b"", "etag") for n, size in enumerate(self.sizes))

    def another(self) -> Self:
        self.others += 1
        return self

    def close(self) -> None:
        assert threading.current_thread() is not threading.main_thread()


class Bench:
    """The pipeline in a crawl; with a store, or without one."""

    def __init__(self, workspace: Path, *, store: bool) -> None:
        settings = {
            **{name: getattr(project, name) for name in dir(project) if name.isupper()},
            "WORKSPACE": str(workspace),
            "KAGGLE_API_URL": "http://127.0.0.1:1",
            "KAGGLE_RETRY_BASE": 0,
            "KAGGLE_MAX_ATTEMPTS": 4,
            **({"S3_URI": "s3://bucket/harvest"} if store else {}),
        }
        self.crawler = get_crawler(Spider, settings)
        self.bucket, self.accounts, self.ledger = FakeBucket(), Accounts(), Ledger()
        self.stopped: list[StopCrawl] = []
        spider = SimpleNamespace(
            name="kernels",
            resource="kernels",
            config=KaggleConfig.from_settings(self.crawler.settings),
            accounts=self.accounts,
            bucket=self.bucket if store else None,
            ledger=self.ledger,
            stop=self.stopped.append,
        )
        self.spider = spider
        self.crawler.spider = cast(Spider, spider)
        self.pipeline = UploadPipeline.from_crawler(self.crawler)

    def process(self, item: Any) -> Any:
        return asyncio.run(self.pipeline.process_item(item))

    def stat(self, name: str) -> Any:
        assert self.crawler.stats is not None
        return self.crawler.stats.get_value(name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "work", store=True)


def kernel(*payloads: Payload, **given: Any) -> Kernel:
    return Kernel(payloads=list(payloads), **given)


def test_an_item_that_names_nothing_passes(bench: Bench) -> None:
    for item in ({"key": "dict"}, object(), kernel(), kernel(download=None)):
        assert bench.process(item) is item
    local = kernel(download={"folder": "output/kernels/a_b", "files": 3, "bytes": 9})
    assert bench.process(local) is local, "the workspace's files have their own proof"
    assert bench.bucket.puts == 0


def test_payloads_are_in_the_store_before_the_item_passes(bench: Bench) -> None:
    item = kernel(LOG, SOURCE)
    assert bench.process(item) is item
    head = "harvest/kernels/code/a_b"
    assert bench.bucket.kept == {
        f"{head}/kernel.log": (b"line\n", "text/plain"),
        f"{head}/source.py": (b"print()\n", ""),
    }
    assert bench.bucket.proved.keys() == bench.bucket.kept.keys()
    assert threading.main_thread() not in bench.bucket.threads
    assert all(thread.daemon for thread in bench.bucket.threads)
    assert (bench.stat("kaggle/s3/payloads"), bench.stat("kaggle/s3/payload_bytes")) == (2, 13)


def test_without_a_store_they_are_in_the_workspace(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "work", store=False)
    bench.process(kernel(LOG, SOURCE))
    bench.process(kernel(replace(LOG, content=b"shorter")))
    folder = tmp_path / "work" / "output" / "kernels" / "code" / "a_b"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "kernel.log": b"shorter",
        "source.py": b"print()\n",
    }


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "work" / "output" / "kernels" / "code" / "a_b"
    folder.mkdir(parents=True)
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    left, ours = folder / f".{killed.pid}-1.incomplete", folder / f".{os.getpid()}-1.incomplete"
    other = folder / ".mine-1.incomplete"
    for path in (left, ours, other):
        path.touch()
    Bench(tmp_path / "work", store=False).process(kernel(LOG))
    assert not left.exists()
    assert ours.exists(), "of a process that runs"
    assert other.exists()


def test_a_workspace_that_is_full_ends_the_crawl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "work", store=False)

    def full(_: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(NoSpace, match="the disk of WORKSPACE is full"):
        bench.process(kernel(LOG))
    assert len(bench.stopped) == 1
    assert list((tmp_path / "work" / "output" / "kernels" / "code" / "a_b").iterdir()) == []


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a//b", "a/..", "", "a\\b", "a/\x00"])
@pytest.mark.parametrize("store", [True, False])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, store: bool, path: str) -> None:
    bench = Bench(tmp_path / "work", store=store)
    with pytest.raises(Unusable) as raised:
        bench.process(kernel(LOG, Payload(path, b"x")))
    assert raised.value.slug == "unsafe_name"
    assert not bench.bucket.kept, "not even the good one: the item does not pass"
    assert not (tmp_path / "work").exists()


def test_a_key_that_is_too_long_is_refused(bench: Bench) -> None:
    path = "/".join(["x" * 250] * 4) + "/" + "y" * 18
    assert len(path) == 1022, "as a path it would do"
    with pytest.raises(Unusable, match="longer than 1024 bytes"):
        bench.process(kernel(Payload(path, b"x")))
    assert bench.bucket.puts == 0


def test_a_store_that_fails_is_tried_again(bench: Bench) -> None:
    bench.bucket.raises = [StoreFailed("503 SlowDown"), StoreFailed("cut")]
    bench.process(kernel(LOG, SOURCE))
    assert (len(bench.bucket.kept), bench.bucket.puts) == (2, 4)


@pytest.mark.parametrize(
    ("error", "puts", "slug"),
    [
        (StoreFailed("503 SlowDown"), 4, "store_failed"),
        (Unproved("other bytes", "store_damaged"), 3, "store_damaged"),
        (KeyRefused("a folder is there"), 1, "store_refused"),
    ],
)
def test_what_cannot_be_stored_fails_with_its_reason(
    bench: Bench, error: KaggleError, puts: int, slug: str
) -> None:
    bench.bucket.raises = [error] * 9
    with pytest.raises(type(error)) as raised:
        bench.process(kernel(LOG))
    assert (raised.value.slug, bench.bucket.puts) == (slug, puts)
    assert bench.stopped == []
    assert bench.stat("kaggle/s3/payloads") is None


def test_a_store_that_refuses_ends_the_crawl(bench: Bench) -> None:
    bench.bucket.raises = [StoreRefused("AccessDenied: allow s3:PutObject")]
    with pytest.raises(StoreRefused):
        bench.process(kernel(LOG))
    assert [error.reason for error in bench.stopped] == ["s3_refused"]


def test_a_stop_gives_up_what_is_under_way(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "_LOOK", 0.01)
    bench.bucket.gate.clear()

    async def crawl() -> None:
        work = asyncio.ensure_future(bench.pipeline.process_item(kernel(LOG)))
        await asyncio.sleep(0.05)
        assert not work.done(), "the reactor goes on"
        bench.accounts.ending = True
        with pytest.raises(Ended):
            await asyncio.wait_for(work, 10)
        with pytest.raises(Ended):
            await bench.pipeline.process_item(kernel(SOURCE))

    try:
        asyncio.run(crawl())
    finally:
        bench.bucket.gate.set()
    assert bench.stopped == [], "the crawl ends already"
    with pytest.raises(Ended):
        bench.bucket.pause(1000)


def test_only_so_many_are_sent_at_once(bench: Bench) -> None:
    bench.bucket.gate.clear()
    most = KaggleConfig.from_settings(bench.crawler.settings).uploads

    async def crawl() -> None:
        items = [kernel(replace(LOG, path=f"{number}")) for number in range(most + 5)]
        work = [asyncio.ensure_future(bench.pipeline.process_item(item)) for item in items]
        await asyncio.sleep(0.05)
        assert bench.bucket.puts == most
        bench.bucket.gate.set()
        await asyncio.gather(*work)

    asyncio.run(crawl())
    assert len(bench.bucket.kept) == most + 5


# -- receipts --------------------------------------------------------------------------------------

FOLDER = "s3://bucket/harvest/kernels/dataset/a_b"


def stored(files: int, size: int) -> Kernel:
    return kernel(download={"folder": FOLDER, "files": files, "bytes": size})


def test_files_in_the_store_want_receipts_of_the_job(bench: Bench) -> None:
    bench.accounts.known["a/b", FOLDER] = (2, 30)
    bench.process(stored(2, 30))
    for files, size in ((3, 30), (2, 31), (1, 30)):
        with pytest.raises(Unproven, match="receipts for 2, of 30: the next run") as raised:
            bench.process(stored(files, size))
        assert raised.value.slug == "no_receipt"


def test_or_of_the_ledger(bench: Bench) -> None:
    bench.ledger.sizes = (10, 20)
    bench.process(stored(2, 30))
    with pytest.raises(Unproven, match="a/b names 3 files"):
        bench.process(stored(3, 30))
    assert bench.ledger.others == 0
    bench.accounts.known["a/b", FOLDER] = (9, 9)
    with pytest.raises(Unproven):
        bench.process(stored(2, 30))  # what the job knows is newer


def test_many_are_counted_aside(bench: Bench) -> None:
    bench.ledger.sizes = (1,) * 2_001
    bench.process(stored(2_001, 2_001))
    assert bench.ledger.others == 1


# -- what becomes of the request -------------------------------------------------------------------


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    Clock().install(monkeypatch)
    stand = Stand(tmp_path)
    stand.spider.outputs = {"a": lambda _: [Item("a", 1)], "b": lambda _: [Item("b", 1)]}
    stand.push(ask("a", key="a"), ask("b", key="b"))
    yield stand
    stand.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unproved("other bytes", "store_damaged"), "store_damaged"),
        (Unproven("no receipts"), "no_receipt"),
        (Unusable("its name is ..", "unsafe_name"), "unsafe_name"),
        (KeyError("of ours"), "pipeline_KeyError"),
    ],
)
def test_an_item_that_does_not_pass_fails_with_its_reason(
    stand: Stand, error: Exception, reason: str
) -> None:
    def pipeline(item: Any) -> None:
        if item.key == "a":
            raise error

    stand.pipeline = pipeline
    for request in stand.pull():
        stand.answer(request)
    stand.commit()
    assert stand.rows() == ["b"]
    assert stand.four() == (1, 0, 1, 0)
    assert stand.accounts.reasons("failed") == {reason: 1}


def test_a_crawl_that_ends_meanwhile_makes_the_request_again(stand: Stand) -> None:
    def ends(item: Any) -> None:
        if item.key == "a":
            raise Ended("the crawl ends")

    stand.pipeline = ends
    a, b = stand.pull()
    stand.answer(a)
    stand.answer(b)
    stand.commit()
    assert stand.four() == (1, 0, 0, 0), "it has not failed"
    stand.pipeline = lambda item: None
    assert stand.names() == ["a"]
    for request in list(stand.slot.inprogress):
        stand.answer(request)
    stand.commit()
    assert stand.rows() == ["b", "a"]
