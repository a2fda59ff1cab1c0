"""A job directory belongs to one job, and to one process at a time; whatever is wrong with it is
said in one sentence, and nothing is touched."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from scrapy.settings import Settings

from kagglecrawl.state.job import Identity, Job, JobRefused, lock_holder
from kagglecrawl.state.store import FILE, Store
from tests.conftest import ROOT, clean_env
from tests.state.helpers import add

OURS = Identity(
    spider="datasets",
    arguments={"pages": "1-5"},
    api_url="https://k",
    workspace="/w",
    feeds={"/out/rows.jsonl": "jsonlines"},
)


def begun(folder: Path) -> None:
    """A job that somebody has begun and left."""
    job = Job.take(folder, OURS)
    add(job.store, "a")
    job.store.commit()
    job.leave()


def content(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, but what SQLite keeps beside an open file."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def refusal(folder: Path, identity: Identity = OURS) -> str:
    """What both of them say, in one line; and that nothing has changed."""
    before = content(folder) if folder.is_dir() else {}
    said = []
    for refuse in (Job.check, Job.take):
        with pytest.raises(JobRefused) as refused:
            refuse(folder, identity)
        said.append(str(refused.value))
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__ or refused.value.__context__ is None
        assert (content(folder) if folder.is_dir() else {}) == before
    assert said[0] == said[1]
    assert len(said[0].splitlines()) == 1
    assert str(folder) in said[0]
    return said[0]


# -- begun, left, taken up -------------------------------------------------------------------------


def test_a_job_is_begun_left_and_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "job"
    Job.check(folder, OURS)
    assert not folder.parent.exists(), "a check changes nothing"
    begun(folder)
    Job.check(folder, OURS)
    job = Job.take(folder, OURS)
    assert job.store.find(b"a") is not None
    assert (job.store.get("spider"), job.store.get("clean")) == ("datasets", "1")
    assert json.loads(job.store.get("arguments") or "") == {"pages": "1-5"}
    job.leave()


def test_all_of_it_is_its_owners_alone(tmp_path: Path) -> None:
    folder, before = tmp_path / "job", os.umask(0)
    try:
        job = Job.take(folder, OURS)
        job.store.put("x", "y")
        job.store.commit()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys([FILE, f"{FILE}-shm", f"{FILE}-wal", "lock"], 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    job.leave()


def test_any_name_will_do_for_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a?mode=ro#b%41 c&vfs=x é"
    begun(folder)
    Job.check(folder, OURS)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / FILE).exists()


def test_a_job_that_was_killed_while_it_began_begins_anew(tmp_path: Path) -> None:
    """Between the file's name and the first commit in it."""
    Store.create(tmp_path / FILE).close()
    (tmp_path / "lock").write_text("4711\n")
    Job.check(tmp_path, OURS)
    job = Job.take(tmp_path, OURS)
    assert job.store.get("spider") == "datasets"
    job.leave()
    assert "other spider" in refusal(tmp_path, Identity("x", {}, "", "", {}))


# -- one process at a time -------------------------------------------------------------------------

HOLDS = """
import sys
from pathlib import Path
from tests.state.test_job import OURS
from kagglecrawl.state.job import Job

job = Job.take(Path(sys.argv[1]), OURS)
if len(sys.argv) > 2:
    import subprocess
    child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
else:
    print("taken", flush=True)
sys.stdin.read()
job.leave()
"""


@contextmanager
def another_process(folder: Path, home: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder), *args],
        cwd=ROOT,
        env=clean_env(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_another_process_has_it_until_it_leaves(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    with another_process(folder, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert lock_holder(folder) == process.pid
        assert f"in use by process {process.pid}: wait for it" in refusal(folder)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0
        assert lock_holder(folder) is None
        begun(folder)


def test_a_killed_process_gives_it_up_though_its_child_lives(tmp_path: Path) -> None:
    """The official transport has one."""
    folder = tmp_path / "job"
    with another_process(folder, tmp_path, "with a child") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            assert lock_holder(folder) == process.pid
            process.kill()
            process.wait(30)
            assert lock_holder(folder) is None
            begun(folder)
        finally:
            os.kill(child, signal.SIGKILL)


def test_twice_in_one_process(tmp_path: Path) -> None:
    job = Job.take(tmp_path, OURS)
    assert f"in use by process {os.getpid()}" in refusal(tmp_path)
    job.store.put("still", "works")
    job.store.commit()
    job.leave()
    begun(tmp_path)


def test_who_looks_for_a_moment_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``scrapy status`` holds the lock while it asks who holds it."""
    import fcntl

    begun(tmp_path)
    looking = (tmp_path / "lock").open("r+")
    fcntl.flock(looking, fcntl.LOCK_SH)
    pauses: list[float] = []

    def paused(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            looking.close()

    monkeypatch.setattr("time.sleep", paused)
    Job.take(tmp_path, OURS).leave()
    assert len(pauses) == 3


def test_a_lock_is_given_up_when_the_job_turns_out_to_be_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has begun it between the look and the lock."""
    begun(tmp_path)
    monkeypatch.setattr(Job, "check", lambda *_: None)
    with pytest.raises(JobRefused, match="other spider"):
        Job.take(tmp_path, Identity(**{**vars(OURS), "spider": "kernels"}))
    assert lock_holder(tmp_path) is None
    monkeypatch.undo()
    Job.take(tmp_path, OURS).leave()


def test_a_lock_is_found_without_a_folder_too(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    assert lock_holder(tmp_path / "nowhere") is None


# -- another job -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spider": "kernels"}, "other spider (datasets, now kernels)"),
        ({"arguments": {"pages": "2-5"}}, "other arguments (pages=1-5, now pages=2-5)"),
        ({"arguments": {}}, "other arguments (pages=1-5, now none)"),
        ({"api_url": "https://elsewhere"}, "other api_url (https://k, now https://elsewhere)"),
        ({"workspace": "/v"}, "other workspace (/w, now /v)"),
        (
            {"feeds": {"/out/rows.csv": "csv"}},
            "other feeds (/out/rows.jsonl=jsonlines, now /out/rows.csv=csv)",
        ),
    ],
)
def test_another_job_is_refused_by_naming_the_difference(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    begun(tmp_path)
    said = refusal(tmp_path, Identity(**{**vars(OURS), **changes}))
    assert words in said
    assert said.endswith("name another JOBDIR to begin anew")


def identity(spider: str = "datasets", **given: Any) -> Identity:
    arguments = {"pages": "1-5", **given.pop("arguments", {})}
    chosen = {
        "KAGGLE_API_URL": "https://api.kaggle.com",
        "KAGGLE_MAX_ATTEMPTS": 8,
        "KAGGLE_MAX_WAIT": 900,
        "KAGGLE_RETRY_BASE": 0.5,
        "KAGGLE_MIN_USABILITY": 0.8,
        "WORKSPACE": "local_workspace",
        "FEEDS": {"rows.jsonl": {"format": "jsonlines"}},
        **given,
    }
    return Identity.of(spider, arguments, Settings(chosen))


@pytest.mark.parametrize(
    "same",
    [
        {"arguments": {"_job": "17", "_version": "x"}},
        {"FEEDS": {Path("rows.jsonl"): {"format": "jsonlines", "overwrite": True}}},
        {"FEEDS": {str(Path.cwd() / "rows.jsonl"): {"format": "jsonlines"}}},
        {"WORKSPACE": Path.cwd() / "local_workspace"},
        {"KAGGLE_API_URL": "https://api.kaggle.com/"},
        {"KAGGLE_MAX_ATTEMPTS": 3},
    ],
)
def test_what_makes_no_other_job(same: dict[str, Any]) -> None:
    """scrapyd's ``_job`` differs in every run."""
    assert identity(**same) == identity()


@pytest.mark.parametrize(
    "other",
    [
        {"spider": "kernels"},
        {"arguments": {"pages": "2"}},
        {"arguments": {"search": "x"}},
        {"KAGGLE_API_URL": "https://elsewhere.example"},
        {"WORKSPACE": "elsewhere"},
        {"FEEDS": {"rows.csv": {"format": "csv"}}},
        {"FEEDS": {"rows.jsonl": {"format": "csv"}}},
        {"FEEDS": {"s3://b/rows.jsonl": {"format": "jsonlines"}}},
        {"FEEDS": {}},
    ],
)
def test_what_makes_another_job(other: dict[str, Any]) -> None:
    assert identity(**other) != identity()


def test_a_password_makes_no_other_job_and_is_not_told(tmp_path: Path) -> None:
    feeds = [{f"ftp://me:{secret}@h/rows.csv": {"format": "csv"}} for secret in ("one1", "two2")]
    first, second = (identity(FEEDS=each) for each in feeds)
    assert first == second
    Job.take(tmp_path, first).leave()
    said = refusal(tmp_path, identity())
    assert "one1" not in said
    assert "h/rows.csv" in said
    assert b"one1" not in (tmp_path / FILE).read_bytes()


# -- something else --------------------------------------------------------------------------------


def cut(size: Callable[[int], int]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with closing(Store.open(path)) as store:
            for number in range(300):
                add(store, f"{number}")
            store.commit()
        with path.open("r+b") as file:
            file.truncate(size(path.stat().st_size))

    return spoil


def cut_after_a_kill(path: Path) -> None:
    """The newest part is in the log beside it, and stays whole."""
    job = Job.take(path.parent, OURS)
    for number in range(300):
        add(job.store, f"{number}")
    job.store.commit()
    kept = {each.name: each.read_bytes() for each in path.parent.glob(f"{FILE}*")}
    job.leave()
    for name, data in kept.items():
        (path.parent / name).write_bytes(data[: len(data) // 2] if name == FILE else data)


def another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE job (name, value); CREATE TABLE cookies (x)")


def turned_into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def drop(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"DROP TABLE {table}")


def odd(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE job SET value = '{half' WHERE name = 'arguments'")
        database.commit()


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "half": (cut(lambda size: size // 2), "cannot be used (database disk image is malformed)"),
    "100 bytes": (cut(lambda _: 100), "cannot be used ("),
    "nothing": (cut(lambda _: 0), "is no job file of kagglecrawl's"),
    "text": (lambda path: path.write_text("notes\n" * 999), "cannot be used (file is not a data"),
    "another program's": (another_program, "is no job file of kagglecrawl's"),
    "newer": (newer, "was written by a newer kagglecrawl (format 99, this one knows 4)"),
    "a folder": (turned_into_a_folder, "cannot be used ("),
    "no tables": (lambda path: drop(path, "job"), "cannot be used (no such table"),
    "no counts": (lambda path: drop(path, "count"), "cannot be used (no such table"),
    "odd facts": (odd, "cannot be used ("),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_cannot_be_used_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    spoil, words = DAMAGED[name]
    begun(tmp_path)
    spoil(tmp_path / FILE)
    said = refusal(tmp_path)
    assert words in said
    assert "name another JOBDIR to begin anew" in said
    assert lock_holder(tmp_path) is None, "others may mend it"


def test_a_file_that_was_cut_after_a_kill_is_refused_or_whole(tmp_path: Path) -> None:
    begun(tmp_path)
    cut_after_a_kill(tmp_path / FILE)
    try:
        job = Job.take(tmp_path, OURS)
    except JobRefused as error:
        assert "cannot be used" in str(error)  # noqa: PT017
        return
    assert job.store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    job.leave()


@pytest.mark.parametrize("name", ["requests.queue", "requests.seen"])
def test_a_job_of_scrapys_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    assert "is a job of another Scrapy project" in refusal(tmp_path)


def test_other_files_are_nobodys_business(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    begun(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    for folder in (file, file / "below"):
        with pytest.raises(JobRefused, match=r"JOBDIR=.* cannot be written \(.+\): check who"):
            Job.take(folder, OURS)
    assert file.read_text() == "precious"
    if os.geteuid():
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(JobRefused, match="cannot be written"):
            Job.take(closed, OURS)


def test_a_lock_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(JobRefused, match="cannot be written"):
        Job.take(tmp_path, OURS)


def test_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(JobRefused, match="JOBDIR does not work on Windows yet"):
        Job.check(tmp_path, OURS)
