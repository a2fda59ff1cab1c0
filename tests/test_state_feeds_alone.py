"""Feeds of a crawl without a job: they do as Scrapy's do, byte for byte."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import resource
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from scrapy import Spider, signals
from scrapy.extensions.feedexport import FeedExporter, StdoutFeedStorage

from kagglecrawl.items import Dataset, feed_fields
from kagglecrawl.state.feeds import ExportError, FeedRefused
from tests.conftest import ROOT
from tests.feed_runs import Kept, Run, Unexportable, make_crawler, numbers

DATASETS = [
    Dataset(
        ref=f"me/{number}",
        title='Tïtle, with "quotes"\nand\r\nlines',
        last_updated="2024-08-14T08:20:49.922Z",
        dataset_size=number,
        usability_rating=None,
        file_explorer=[{"name": "a.csv", "size": 1}],
        licenses=[],
        tags=["a", "b"],
        content="# ☃\n",
        version=None,
    )
    for number in range(5)
]


@pytest.fixture(autouse=True)
def server() -> None:
    Kept.files, Kept.stores, Kept.failures = {}, [], 0


def scrapys(feeds: dict[Any, dict[str, Any]], items: list[Any], **settings: Any) -> None:
    """What Scrapy makes of it."""
    crawler = make_crawler(feeds, **settings)
    assert crawler.spider is not None

    async def export(spider: Spider) -> None:
        exporter = FeedExporter.from_crawler(crawler)
        exporter.open_spider(spider)
        for item in items:
            exporter.item_scraped(item, spider)
        await exporter.close_spider(spider)

    asyncio.run(export(crawler.spider))


def ours(feeds: dict[Any, dict[str, Any]], items: list[Any], **settings: Any) -> None:
    """What we make of it, with a rejected request in between, and a flush now and then."""
    run = Run(None, feeds, **settings)
    for number, item in enumerate(items):
        with pytest.raises(ExportError):
            run.feeds.add([item, replace(item, title=Unexportable())])
        run.feeds.add([item])
        if number % 2:
            run.commit()
    assert run.end()


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "indent": {"indent": 3},
    "indent 0": {"indent": 0},
    "fields": {"fields": {"ref": "Ref", "title": "Title", "n": "N"}},
    "no encoding": {"encoding": None},
    "utf-16": {"encoding": "utf-16"},
    "overwrite": {"overwrite": True},
    "batches": {"batch_item_count": 2},
    "batches that fit": {"batch_item_count": 5},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["jsonlines", "json", "csv", "xml", "pickle", "marshal"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_same_bytes_as_scrapys(tmp_path: Path, kind: str, options: str, count: int) -> None:
    settings: dict[str, Any] = {"FEED_STORE_EMPTY": True}
    if kind != "xml":
        settings["FEED_EXPORT_FIELDS"] = feed_fields(Dataset)
    for folder, export in (("scrapy", scrapys), ("ours", ours)):
        (tmp_path / folder).mkdir()
        if options in {"plain", "overwrite"} and kind != "csv":
            # Scrapy writes the header of a CSV file again
            (tmp_path / folder / "1").write_bytes(b"old")
        feeds = {f"{tmp_path}/{folder}/%(batch_id)d": {"format": kind, **OPTIONS[options]}}
        items = [] if count == 0 else DATASETS[:count]
        export(feeds, items, **settings)
    found = {file.name: file.read_bytes() for file in (tmp_path / "ours").iterdir()}
    assert found == {file.name: file.read_bytes() for file in (tmp_path / "scrapy").iterdir()}
    if options == "batches" and count == 5:
        assert len(found) == 3


def test_a_header_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    for number in (1, 2):
        assert Run(None, {str(file): {}}).add(number).end()
    assert numbers(file) == [1, 2]


@pytest.mark.parametrize("kind", ["json", "jsonlines"])
def test_compressed_in_one_piece_or_in_many(tmp_path: Path, kind: str) -> None:
    plugins = [f"scrapy.extensions.postprocessing.{name}Plugin" for name in ("Gzip", "Gzip")]
    file = tmp_path / "rows.gz"
    run = Run(None, {str(file): {"format": kind, "postprocessing": plugins}})
    run.add(1).commit().add(2).commit().add(3)
    assert run.end()
    text = gzip.decompress(gzip.decompress(file.read_bytes())).decode()
    rows = json.loads(text) if kind == "json" else list(map(json.loads, text.splitlines()))
    assert [row["n"] for row in rows] == [1, 2, 3]


@pytest.mark.parametrize("finished", [False, True])
def test_what_is_elsewhere_is_stored_however_the_crawl_ends(finished: bool) -> None:
    feeds: dict[Any, dict[str, Any]] = {
        "kept://rows.json": {},
        "kept://%(batch_id)d.csv": {"batch_item_count": 2},
        "kept://nothing.jsonl": {"item_classes": [Dataset]},
    }
    run = Run(None, feeds).add(1, 2, 3).commit()
    run.settle(lambda: "kept://1.csv" in Kept.files)
    assert run.add(4, 5).end(finished=finished)
    assert [row["n"] for row in json.loads(Kept.files.pop("kept://rows.json"))] == [1, 2, 3, 4, 5]
    found = {uri: numbers(data, uri) for uri, data in Kept.files.items()}
    assert found == {"kept://1.csv": [1, 2], "kept://2.csv": [3, 4], "kept://3.csv": [5]}
    assert run.stat("success_count/Kept") == 4
    assert run.feeds.unstored == []


def test_a_store_that_fails_is_told(caplog: pytest.LogCaptureFixture) -> None:
    Kept.failures = 1
    closed: list[str] = []
    run = Run(None, {"kept://me:hunter2@a.csv": {}}).add(1)

    def told() -> None:
        closed.append("exporter")

    run.crawler.signals.connect(told, signals.feed_exporter_closed)
    assert not run.end()
    assert run.stat("failed_count/Kept") == 1
    assert "Error storing csv feed (1 items) in: kept://***@a.csv" in caplog.text
    assert "hunter2" not in caplog.text
    assert closed == ["exporter"]


def test_nothing_is_stored_of_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"yesterday's")
    feeds: dict[Any, dict[str, Any]] = {str(file): {"overwrite": True}, "kept://a.csv": {}}
    run = Run(None, feeds)
    assert run.end()
    assert file.read_bytes() == b"yesterday's"
    assert Kept.stores == []
    assert run.stat("success_count/FileFeedStorage") == 0


class Output(StdoutFeedStorage):
    """A standard output that the test can read, which is a file as after ``> rows.csv``."""

    path = Path()

    def __init__(self, uri: str, *, feed_options: dict[str, Any] | None = None) -> None:
        super().__init__(uri, feed_options=feed_options)

    def open(self, spider: Spider) -> IO[bytes]:
        return self.path.open("ab")


def test_the_standard_output_is_never_cut(tmp_path: Path) -> None:
    Output.path = tmp_path / "rows.csv"
    run = Run(None, {"stdout:": {"format": "csv"}}, FEED_STORAGES={"stdout": Output}).add(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it is not ours to close
        assert not run.commit().add(2).flush().give_up().close(finished=False)
    assert numbers(Output.path) == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_device_that_is_full() -> None:
    run = Run(None, {"/dev/full": {"format": "csv"}}).add(1)
    with pytest.raises(OSError, match="No space left"):
        run.flush()
    assert not run.give_up().close(finished=False)


FULL = """
import asyncio, resource, sys
from tests.feed_runs import Run
path, limit = sys.argv[1], int(sys.argv[2])
run = Run(None, {path: {"format": "json"}})
run.add(1).commit()
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    run.add(2, 3).flush()
except OSError as error:
    print(type(error).__name__, error.strerror)
run.give_up()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(run.close(finished=False))
"""


def test_a_disk_that_is_full_in_the_middle_of_a_row(tmp_path: Path) -> None:
    """In a process of its own, in which no file may grow further."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    file = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, str(file), "50"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["OSError File too large", "False"], done.stderr
    assert [row["n"] for row in json.loads(file.read_bytes())] == [1]


def test_rows_that_no_commit_knows_leave_no_half_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    run = Run(None, {str(file): {}, f"{tmp_path}/%(batch_id)d.csv": {"batch_item_count": 1}})
    run.add(1, 2).flush().give_up()
    assert not run.close(finished=False)
    assert file.read_bytes() == b""
    assert [path.read_bytes() for path in sorted(tmp_path.glob("*.csv"))] == [b"", b""]


def test_what_is_wrong_is_told_before_the_crawl(tmp_path: Path) -> None:
    for name, words in (
        ("a.nothing", "no known format"),
        ("gopher://a.csv", "not known"),
        ("broken://a.csv", "missing a library"),
    ):
        with pytest.raises(FeedRefused, match=words):
            Run(None, {name: {}})


def test_a_storage_that_breaks_its_promise(tmp_path: Path) -> None:
    """Whatever goes wrong when a file is opened, the crawl hears of it as of a full disk."""

    class Surprising(Kept):
        def open(self, spider: Spider) -> IO[bytes]:
            raise RuntimeError("no token for kept://me:hunter2@host")

    run = Run(None, {"kept://a.csv": {}}, FEED_STORAGES={"kept": Surprising}).add(1)
    with pytest.raises(OSError, match="no token") as failed:
        run.flush()
    assert "hunter2" not in str(failed.value)
    assert not run.give_up().close(finished=False)


def test_a_file_that_a_storage_keeps_in_memory_is_cut_as_well() -> None:
    feeds: dict[Any, dict[str, Any]] = {"kept://a.csv": {}}
    run = Run(None, feeds).add(1).commit().add(2).flush().give_up()
    assert not run.close(finished=False)
    assert numbers(Kept.files["kept://a.csv"], ".csv") == [1]
    assert isinstance(Kept("kept://a.csv").open(Spider("rows")), io.BytesIO)
