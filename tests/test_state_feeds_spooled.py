"""Feeds that are collected in the job directory: batches, and what is stored elsewhere."""

from __future__ import annotations

import errno
import io
import logging
import os
import sqlite3
import stat
import sys
from pathlib import Path
from typing import IO, Any

import pytest
from scrapy import Spider, signals
from scrapy.extensions.feedexport import FTPFeedStorage

from kagglecrawl.state.feeds import FeedRefused
from kagglecrawl.state.feeds import places as feedplaces
from kagglecrawl.state.store import FILE
from tests.feed_runs import Kept, Run, numbers

BATCHES = {"format": "jsonlines", "batch_item_count": 2}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "job"


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one."""
    Kept.files, Kept.stores, Kept.failures = {}, [], 0
    monkeypatch.setattr(os, "fsync", lambda _: None)


def stored() -> dict[str, list[int]]:
    return {uri: numbers(data, uri) for uri, data in Kept.files.items()}


def spooled(job: Path) -> list[str]:
    return sorted(path.name for path in (job / "feeds").iterdir())


# -- batches on this machine -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["%(batch_id)d.jsonl", "%(batch_time)s.jsonl"])
def test_a_batch_goes_to_its_place_when_it_is_full(tmp_path: Path, job: Path, name: str) -> None:
    out = tmp_path / "out"
    run = Run(job, {f"{out}/{name}": BATCHES}).add(1)
    assert not (job / "feeds").exists() or not spooled(job), "only in memory"
    run.commit()
    assert not out.exists()
    assert spooled(job) == ["1-1.rows"]
    assert stat.S_IMODE((job / "feeds").stat().st_mode) == 0o700
    assert stat.S_IMODE((job / "feeds" / "1-1.rows").stat().st_mode) == 0o600
    run.add(2, 3, 4, 5).commit()
    assert [numbers(file) for file in sorted(out.iterdir())] == [[1, 2], [3, 4]]
    assert run.feeds.unstored == [str(run.store.feeds()[-1].uri)]
    run.commit()
    assert spooled(job) == ["1-3.rows"]
    assert run.end()
    assert [numbers(file) for file in sorted(out.iterdir())] == [[1, 2], [3, 4], [5]]
    assert run.stat("success_count/FileFeedStorage") == 3
    assert spooled(job) == []
    assert run.feeds.unstored == []


def test_a_batch_that_is_not_full_goes_on_under_its_name(
    tmp_path: Path, job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kagglecrawl")
    out = tmp_path / "out"
    feeds = {f"{out}/%(batch_time)s_%(batch_id)d.csv": {"batch_item_count": 3}}
    run = Run(job, feeds).add(1, 2)
    assert run.end(finished=False)
    assert "is stored when the job ends: until then its 2 rows are in" in caplog.text
    (name,) = [Path(uri).name for uri in run.feeds.unstored]
    run = Run(job, feeds).add(3, 4)
    assert run.end(finished=False)
    assert numbers(out / name) == [1, 2, 3]
    assert Run(job, feeds).end()
    files = sorted(out.iterdir())
    assert [(file.name[-5], numbers(file)) for file in files] == [("1", [1, 2, 3]), ("2", [4])]
    assert Run(job, feeds).add(5).end(), "what failed may have rows after all"
    assert [numbers(file) for file in sorted(out.iterdir())] == [[1, 2, 3], [4], [5]]


def test_batches_are_appended_to_what_is_there(tmp_path: Path, job: Path) -> None:
    """Two of them to the same file, in one commit."""
    (tmp_path / "a.csv").write_bytes(b"n,text\r\n-1,old\r\n")

    def one_name(params: dict[str, Any], spider: Spider) -> dict[str, Any]:
        return {**params, "batch_id": "a"}

    feeds = {f"{tmp_path}/%(batch_id)s.csv": {"batch_item_count": 2, "uri_params": one_name}}
    Run(job, feeds).add(1, 2, 3, 4).commit().kill()
    (tmp_path / "a.csv").write_bytes((tmp_path / "a.csv").read_bytes()[:-5])
    run = Run(job, feeds)
    assert numbers(tmp_path / "a.csv") == [-1, 1, 2, 3, 4], "placed when the job is opened"
    assert run.end()
    assert run.stat("success_count/FileFeedStorage") == 2
    assert numbers(tmp_path / "a.csv") == [-1, 1, 2, 3, 4]


def test_an_empty_batch_is_stored_if_one_is_wanted(tmp_path: Path, job: Path) -> None:
    feeds = {
        f"{tmp_path}/%(batch_id)d.csv": {"batch_item_count": 2},
        "kept://a.csv": {},
        "kept://%(batch_id)d.csv": {"batch_item_count": 2},
    }
    assert Run(job, feeds, FEED_STORE_EMPTY=True).end()
    assert (tmp_path / "1.csv").read_bytes() == b""
    assert Kept.files == {"kept://a.csv": b"", "kept://1.csv": b""}


def test_a_place_that_is_full(
    tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    feeds = {f"{tmp_path}/%(batch_id)d.jsonl": BATCHES}
    run = Run(job, feeds).add(1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(feedplaces, "copy_to_place", full)
        with pytest.raises(OSError, match="No space left"):
            run.commit()
        assert not run.close(finished=False)
    assert run.stat("failed_count/FileFeedStorage") == 1
    assert "Error storing jsonlines feed (2 items) in:" in caplog.text
    assert run.feeds.unstored == [f"{tmp_path}/1.jsonl"]
    assert Run(job, feeds).end()
    assert numbers(tmp_path / "1.jsonl") == [1, 2]


def test_a_place_that_was_changed_meanwhile(tmp_path: Path, job: Path) -> None:
    file = tmp_path / "1.jsonl"
    file.write_bytes(b'{"n": -1}\n')
    feeds = {f"{tmp_path}/%(batch_id)d.jsonl": BATCHES}
    run = Run(job, feeds).add(1, 2).flush()
    run.store.commit()
    file.write_bytes(b"")
    with pytest.raises(OSError, match="another program has changed it"):
        run.feeds.committed()
    run.kill()
    spoiled = b'{"n": -1}\n' + b"x" * 1000
    file.write_bytes(spoiled)
    with pytest.raises(FeedRefused, match=r"was changed while .* put it back as it was, with 10"):
        Run(job, feeds)
    assert file.read_bytes() == spoiled
    file.write_bytes(b'{"n": -1}\n')
    assert Run(job, feeds).end()
    assert numbers(file) == [-1, 1, 2]


def test_leftovers_go_and_other_files_stay(tmp_path: Path, job: Path) -> None:
    feeds = {f"{tmp_path}/%(batch_id)d.jsonl": BATCHES}
    Run(job, feeds).add(1).commit().add(2, 3).flush().kill()
    assert spooled(job) == ["1-1.rows", "1-2.rows"]
    (job / "feeds" / "notes.txt").touch()
    run = Run(job, feeds)
    assert spooled(job) == ["1-1.rows", "notes.txt"]
    assert run.add(2, 3).end()
    assert [numbers(tmp_path / f"{n}.jsonl") for n in (1, 2)] == [[1, 2], [3]]


@pytest.mark.parametrize("spoil", [lambda file: file.unlink(), lambda file: os.truncate(file, 3)])
def test_a_job_directory_that_was_spoilt(tmp_path: Path, job: Path, spoil: Any) -> None:
    Run(job, {"kept://a.jsonl": {}}).add(1).end(finished=False)
    spoil(job / "feeds" / "1-1.rows")
    with pytest.raises(FeedRefused, match=r"1-1.rows, of the feed kept://a.jsonl, is .*JOBDIR"):
        Run(job, {"kept://a.jsonl": {}})


# -- elsewhere -------------------------------------------------------------------------------------


def test_a_feed_elsewhere_is_stored_when_the_job_ends(
    tmp_path: Path, job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kagglecrawl")
    feeds: dict[Any, dict[str, Any]] = {"kept://%(name)s/%(time)s.jsonl": {}}
    run = Run(job, feeds).add(1, 2)
    assert run.end(finished=False)
    (uri,) = run.feeds.unstored
    assert (
        f"The feed {uri} is stored when the job ends: until then its 2 rows are in" in caplog.text
    )
    assert Kept.files == {}
    Run(job, feeds).add(3).commit().add(4).flush().kill()
    run = Run(job, feeds)
    slots: list[Any] = []

    def closed(slot: Any) -> None:
        slots.append(slot)

    run.crawler.signals.connect(closed, signals.feed_slot_closed)
    assert run.end()
    assert stored() == {uri: [1, 2, 3]}
    assert f"Stored jsonl feed (3 items) in: {uri}" in caplog.text
    assert run.stat("success_count/Kept") == 1
    (slot,) = slots
    assert (slot.uri, slot.format, slot.batch_id, slot.itemcount) == (uri, "jsonl", 1, 3)
    assert run.feeds.unstored == []


def test_a_job_that_had_ended_and_has_more_rows_stores_all_of_them(job: Path) -> None:
    feeds: dict[Any, dict[str, Any]] = {"kept://a.jsonl": {}}
    assert Run(job, feeds).add(1).end()
    assert Run(job, feeds).end()
    assert Kept.stores == ["kept://a.jsonl"], "nothing new"
    assert Run(job, feeds).add(2).end()
    assert stored() == {"kept://a.jsonl": [1, 2]}


def test_a_store_that_fails_is_made_up_for_by_the_next_run(
    job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = "kept://me:hunter2@host/a.jsonl?sig=s3cret"
    Kept.failures = 1
    run = Run(job, {uri: {"format": "jsonl"}}).add(1, 2)
    assert not run.end()
    assert run.stat("failed_count/Kept") == 1
    assert run.stat("success_count/Kept") == 0
    assert "Error storing jsonl feed (2 items) in: kept://***@host/a.jsonl?…" in caplog.text
    assert "hunter2" not in caplog.text
    assert "s3cret" not in caplog.text
    assert run.feeds.unstored == ["kept://***@host/a.jsonl?…"]
    run = Run(job, {uri: {"format": "jsonl"}})
    assert run.end(), "with nothing left to crawl"
    assert Kept.stores == [uri, uri], "with the password"
    assert numbers(Kept.files[uri], "a.jsonl") == [1, 2]


def test_a_password_is_not_kept_and_may_change(job: Path) -> None:
    for password in ("hunter2", "hunter3"):
        feeds: dict[Any, dict[str, Any]] = {f"kept://me:{password}@host/%(time)s.jsonl": {}}
        Run(job, feeds).add(1).end(finished=False)
        written = b"".join(path.read_bytes() for path in job.rglob("*") if path.is_file())
        assert b"host/20" in written
        assert b"hunter" not in written
    Run(job, feeds).end()
    (uri,) = Kept.files
    assert uri.startswith("kept://me:hunter3@host/20")


def test_batches_elsewhere_are_stored_while_the_crawl_goes_on(
    job: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feeds = {"kept://%(batch_id)d.jsonl": BATCHES}
    run = Run(job, feeds).add(1, 2, 3)
    Kept.failures = 1
    run.commit()
    run.settle(lambda: len(Kept.stores) == 1)
    assert "is tried again at the end: ConnectionError" in caplog.text
    run.add(4).commit()
    run.settle(lambda: "kept://2.jsonl" in Kept.files)
    run.commit().commit()
    assert spooled(job) == ["1-1.rows"]
    assert Kept.stores == ["kept://1.jsonl", "kept://2.jsonl"], "not again and again"
    assert run.end(finished=False), "what is full is stored, whatever the job does"
    assert stored() == {"kept://1.jsonl": [1, 2], "kept://2.jsonl": [3, 4]}
    assert run.stat("failed_count/Kept") == 0
    assert run.stat("success_count/Kept") == 2
    assert spooled(job) == []


def test_what_is_stored_is_not_stored_again_after_a_failure(job: Path) -> None:
    run = Run(job, {"kept://%(batch_id)d.jsonl": BATCHES}).add(1, 2).commit()
    run.settle(lambda: bool(Kept.files))
    assert not run.add(3, 4).flush().give_up().close(finished=False)
    assert Kept.stores == ["kept://1.jsonl"]
    assert spooled(job) == []


def test_a_batch_that_was_being_stored_at_a_kill_is_stored_again(job: Path) -> None:
    feeds = {"kept://%(batch_id)d.jsonl.gz": {**BATCHES, "postprocessing": GZIP}}
    run = Run(job, feeds).add(1, 2).flush()
    run.store.commit()
    run.kill()
    run = Run(job, feeds).commit()
    run.settle(lambda: bool(Kept.files))
    run.kill()
    assert Run(job, feeds).end()
    assert Kept.stores == ["kept://1.jsonl.gz"] * 2
    assert stored() == {"kept://1.jsonl.gz": [1, 2]}


GZIP = ["scrapy.extensions.postprocessing.GzipPlugin"]


class Ftp(FTPFeedStorage):
    """An FTP server, as much as is needed of one."""

    files: dict[str, bytes] = {}

    def open(self, spider: Spider) -> IO[bytes]:
        return io.BytesIO()

    async def store(self, file: IO[bytes]) -> None:  # type: ignore[override]
        file.seek(0)
        before = b"" if self.overwrite else self.files.get(self.path, b"")
        self.files[self.path] = before + file.read()


def test_a_file_at_an_ftp_server_gets_each_row_once(job: Path) -> None:
    Ftp.files = {"/appended.jsonl": b'{"n": -1}\n', "/replaced.jsonl": b'{"n": -1}\n'}
    feeds: dict[Any, dict[str, Any]] = {
        "ftp://me@host/appended.jsonl": {"overwrite": False},
        "ftp://me@host/replaced.jsonl": {},
    }
    for number in (1, 2):
        assert Run(job, feeds, FEED_STORAGES={"ftp": Ftp}).add(number).end()
    found = {name: numbers(data, name) for name, data in Ftp.files.items()}
    assert found == {"/appended.jsonl": [-1, 1, 2], "/replaced.jsonl": [1, 2]}


def test_a_job_that_cannot_be_written_at_the_end(
    job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then nothing is stored of which the job would not know."""

    def fail() -> None:
        raise sqlite3.OperationalError("database or disk is full")

    run = Run(job, {"kept://%(batch_id)d.jsonl": BATCHES}).add(1).commit()
    with monkeypatch.context() as patch:
        patch.setattr(run.store, "commit", fail)
        assert not run.run(run.feeds.close(finished=True))
    assert f"The job in {job} cannot be written" in caplog.text
    assert Kept.files == {}
    run.kill()
    assert Run(job, {"kept://%(batch_id)d.jsonl": BATCHES}).end()
    assert stored() == {"kept://1.jsonl": [1]}


# -- what gives no row back ------------------------------------------------------------------------


class Output:
    """A standard output."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()


def test_the_standard_output_gets_rows_as_they_are_flushed(
    tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output()
    monkeypatch.setattr(sys, "stdout", output)
    feeds: dict[Any, dict[str, Any]] = {"stdout:": {"format": "csv"}, str(tmp_path / "a.csv"): {}}
    run = Run(job, feeds).add(1).commit().add(2).flush().give_up()
    assert not run.close(finished=False, clean=False)
    assert numbers(tmp_path / "a.csv") == [1]
    assert numbers(output.buffer.getvalue(), ".csv") == [1, 2], "never cut"
    output.buffer = io.BytesIO()
    assert Run(job, feeds).add(2).end()
    assert numbers(output.buffer.getvalue(), ".csv") == [2], (
        "with a header, in an output of its own"
    )
    assert numbers(tmp_path / "a.csv") == [1, 2]


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="no such device")
def test_a_device_is_written_and_not_asked_for_its_rows(tmp_path: Path, job: Path) -> None:
    feeds: dict[Any, dict[str, Any]] = {"/dev/null": {"format": "jsonl"}, "kept://a.jsonl": {}}
    Run(job, feeds).add(1).end(finished=False)
    assert Run(job, feeds).add(2).end()
    assert stored() == {"kept://a.jsonl": [1, 2]}
    assert (job / FILE).exists()
