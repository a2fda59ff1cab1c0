"""A job directory goes on after a clean stop, and says so in one sentence where it cannot."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from kagglecrawl.state.job import Job, JobRefused
from tests.conftest import QUICK, ROOT, Run, clean_env

ARGUMENTS = {"pages": "1-5", "_job": "17"}


def job(folder: Path, **changes: str) -> Job:
    arguments = {**ARGUMENTS, **{k: v for k, v in changes.items() if k == "pages"}}
    return Job(
        folder, changes.get("spider", "datasets"), arguments, changes.get("url", "https://k")
    )


def test_a_new_job_and_a_stopped_one_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    job(folder).check()
    job(folder).write("stopped")
    assert stat.S_IMODE((folder / "kagglecrawl.json").stat().st_mode) == 0o600
    again = Job(folder, "datasets", {"pages": "1-5", "_job": "18"}, "https://k")
    again.check()
    assert not again.missing


def test_what_was_missing_is_remembered(tmp_path: Path) -> None:
    first = job(tmp_path)
    first.missing = True
    first.write("stopped")
    second = job(tmp_path)
    second.check()
    assert second.missing


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spider": "kernels"}, ["other spider", "datasets, now kernels"]),
        ({"pages": "2-5"}, ["other arguments", "pages=1-5, now pages=2-5"]),
        ({"url": "https://elsewhere"}, ["other api_url", "https://k, now https://elsewhere"]),
    ],
)
def test_another_job_is_refused_by_naming_the_difference(
    tmp_path: Path, change: dict[str, str], words: list[str]
) -> None:
    job(tmp_path).write("stopped")
    with pytest.raises(JobRefused) as refused:
        job(tmp_path, **change).check()
    assert all(word in str(refused.value) for word in words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state": "complete"}, "is complete"),
        ({"state": "incomplete"}, "something missing"),
        ({"state": "running", "pid": 2**22 + 1}, "was killed"),
        ({"state": "running", "pid": os.getppid()}, f"in use by process {os.getppid()}"),
        ("half", "cannot be read"),
    ],
)
def test_a_job_that_cannot_go_on(tmp_path: Path, content: object, words: str) -> None:
    file = tmp_path / "kagglecrawl.json"
    job(tmp_path).write("stopped")
    if isinstance(content, dict):
        record = {**json.loads(file.read_text(encoding="utf-8")), **content}
        file.write_text(json.dumps(record), encoding="utf-8")
    else:
        file.write_text('{"spider', encoding="utf-8")
    with pytest.raises(JobRefused, match=words):
        job(tmp_path).check()


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(JobRefused, match="something else"):
        job(tmp_path).check()


def test_a_killed_job_says_so_and_leaves_the_feed_alone(crawl: Run, tmp_path: Path) -> None:
    feed = tmp_path / "out.jsonl"
    args = ("-s", f"JOBDIR={tmp_path / 'job'}", "-o", str(feed))
    with Replica(World(seed=1)) as replica:
        process = subprocess.Popen(
            [sys.executable, "-m", "scrapy", "crawl", "datasets", *QUICK, *args],
            cwd=ROOT,
            env=clean_env(tmp_path, **replica.crawler_env()),
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while not replica.stats()["requests"].get("GetDatasetMetadata"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = feed.read_bytes() if feed.exists() else b""
        time.sleep(0.5)  # for what the killed process had sent
        replica.reset_stats()
        done = crawl(replica, *args)
        asked = replica.stats()["requests"]
    assert done.code == 2
    assert "was killed" in done.log
    assert asked == {}
    assert (feed.read_bytes() if feed.exists() else b"") == before


def test_a_failure_of_an_earlier_run_is_not_forgotten(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=2)
    args = ("-s", f"JOBDIR={tmp_path / 'job'}", "-o", str(tmp_path / "out.jsonl"))
    with Replica(world, behaviour=Behaviour(paging="token")) as probe:
        order = list(crawl(probe).rows)
    (tmp_path / "out.jsonl").unlink()
    rule = Rule(Fault("status", status=500), method="GetDatasetMetadata", key=order[0]["Ref"])
    faults = Faults.script([rule])
    with Replica(world, behaviour=Behaviour(paging="token"), faults=faults) as replica:
        limits = ("-s", "KAGGLE_MAX_ATTEMPTS=1", "-s", "CLOSESPIDER_ITEMCOUNT=30")
        first = crawl(replica, *args, *limits)
        second = crawl(replica, *args)
        third = crawl(replica, *args)
    assert (first.code, second.code, third.code) == (3, 1, 2)
    assert "earlier run" in second.log
    assert "something missing" in third.log
    assert len(second.rows) == len(order) - 1
