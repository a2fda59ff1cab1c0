"""A job's feeds after its end at any moment: each row once, and nothing else."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.state import feeds as module
from kagglecrawl.state.store import FILE, Store
from tests.feed_runs import FORMATS, GZIP, OLD, Run, numbers


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody cuts the power of this machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Killed(BaseException):
    """The process is gone."""


def calls(monkeypatch: pytest.MonkeyPatch, then: Callable[[int], None]) -> list[str]:
    """Call ``then`` with the count before everything that changes a file or the store; a write is
    done half before."""
    made: list[str] = []

    def watch(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            if owner is os and name == "write" and len(args[1]) > 1:
                done = real(args[0], args[1][: len(args[1]) // 2])
                then(len(made))
                return done
            then(len(made))
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    for name in ("write", "fsync", "ftruncate"):
        watch(os, name)
    watch(Path, "unlink")
    watch(Store, "commit")
    return made


def crawl(job: Path, feeds: dict[Any, dict[str, Any]], total: int = 7) -> None:
    """A crawl that knows from the store what it has done."""
    run = Run(job, feeds)
    try:
        done = int(run.store.get("done") or 0)
        while done < total:
            rows = range(done, min(done + 3, total))
            run.add(*rows)
            done += len(rows)
            run.store.put("done", str(done))
            run.commit()
        assert run.end()
    except Killed:
        run.kill()
        raise


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, options) for name, options in FORMATS},
    "batches.jsonl": ("batch_%(batch_id)02d.jsonl", {"format": "jsonlines", "batch_item_count": 4}),
    "batches.csv": ("batch_%(batch_id)02d.csv", {"format": "csv", "batch_item_count": 2}),
    "batches.jsonl.gz": ("batch_%(batch_id)02d.jsonl.gz", {**GZIP, "batch_item_count": 4}),
}


BATCH = {"batch_item_count": 2}


def content(folder: Path) -> list[int]:
    """The rows of all files, in the order of their names."""
    return [row for file in sorted(folder.iterdir()) for row in numbers(file)]


def test_rows_are_safe_before_they_are_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job"
    made = calls(monkeypatch, lambda _: None)
    for name, options in SHAPES.values():
        crawl(job, {f"{tmp_path}/{name}": options})
        shutil.rmtree(job)
        changes = [call for call in made if call != "unlink"]
        for before, after in itertools.pairwise(changes):
            assert (before, after) != ("write", "commit")
        assert {"write", "commit"} <= set(changes)
        made.clear()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files have no names there")
def test_a_new_file_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that it is in is made safe as well."""
    synced: list[Path] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())

    monkeypatch.setattr(os, "fsync", fsync)
    run = Run(tmp_path / "job", {f"{tmp_path}/a/b.csv": {}, f"{tmp_path}/%(batch_id)d.csv": BATCH})
    run.add(1, 2).commit()
    names = {path.relative_to(tmp_path).as_posix() for path in synced}
    assert {".", "a", "a/b.csv", "job", "job/feeds", "job/feeds/1-1.rows", "1.csv"} <= names
    run.kill()


@pytest.mark.parametrize(
    ("shape", "how", "end"),
    [
        *((shape, "-o", "kill") for shape in SHAPES),
        ("rows.jsonl", "-O", "kill"),
        ("batches.jsonl", "-O", "kill"),
        ("rows.jsonl", "-o", "power cut"),
        ("rows.csv", "-O", "power cut"),
        ("batches.csv", "-o", "power cut"),
    ],
)
def test_an_end_at_any_moment_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, how: str, end: str
) -> None:
    """After a power cut the store may be as it was when it was last made safe."""
    name, options = SHAPES[shape]
    overwrite = how == "-O"
    kill_at = 0
    old = OLD.get(name, b"")
    safe = tmp_path / "safe"

    def then(count: int) -> None:
        if count == kill_at:
            raise Killed

    def snapshot(wal: Path) -> None:
        shutil.rmtree(safe, ignore_errors=True)
        shutil.copytree(wal.parent, safe, ignore=shutil.ignore_patterns("feeds", "*-shm"))

    while True:
        kill_at += 1
        out, job = tmp_path / f"out{kill_at}", tmp_path / f"job{kill_at}"
        out.mkdir()
        job.mkdir()
        if old:
            (out / name).write_bytes(old)
        feeds = {f"{out}/{name}": {**options, "overwrite": overwrite}}
        Store.create(job / FILE).close()
        snapshot(job / FILE)
        try:
            with monkeypatch.context() as patch:
                calls(patch, then)
                patch.setattr(module, "sync_file", snapshot)
                crawl(job, feeds)
        except Killed:
            if end == "power cut":
                for file in job.glob(f"{FILE}*"):
                    file.unlink()
                shutil.copytree(safe, job, dirs_exist_ok=True)
            crawl(job, feeds)
        else:
            break
        expected = [-1] * bool(old and not overwrite) + list(range(7))
        assert content(out) == expected, f"killed at {kill_at}"
        assert not list((job / "feeds").glob("*.rows")), "nothing is left in the job directory"
    assert kill_at > 12, "it was killed at many moments"
