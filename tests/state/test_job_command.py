"""``scrapy crawl -s JOBDIR=…``: a job that cannot be gone on with is refused in one sentence, with
exit code 2, and nothing is touched."""

from __future__ import annotations

import csv
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from kagglecrawl.state.job import Identity, Job
from kagglecrawl.state.store import FILE
from tests.conftest import Crawl, Run

TOKEN = {"KAGGLE_API_TOKEN": "KGAT_not_a_secret"}
USAGE = 2


@pytest.fixture
def refused(scrapy: Run, tmp_path: Path) -> Callable[..., str]:
    """The one sentence, after a look that nothing has changed."""

    def run(*args: str, folder: Path = tmp_path / "job") -> str:
        feed = tmp_path / "rows.jsonl"
        before = contents(tmp_path)
        done: Crawl = scrapy(
            *("crawl", "datasets", "-o", str(feed), "-s", f"JOBDIR={folder}"),
            *("-s", f"WORKSPACE={tmp_path / 'workspace'}"),
            *args,
            env=TOKEN,
        )
        assert done.code == USAGE, done.log
        assert "Traceback" not in done.log
        (line,) = done.sentence.splitlines()
        assert line.startswith("scrapy crawl: ")
        assert str(folder) in line
        assert contents(tmp_path) == before
        return line

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """All files, but what SQLite keeps beside an open one, and Python beside a source."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm", ".pyc"))
    }


def identity(tmp_path: Path) -> Identity:
    """What the command's own job is."""
    return Identity(
        spider="datasets",
        arguments={},
        api_url="https://api.kaggle.com",
        workspace=str(tmp_path / "workspace"),
        feeds={str(tmp_path / "rows.jsonl"): "jsonlines"},
    )


def begun(tmp_path: Path) -> Path:
    """The file of a job that was left, whose feed has a row."""
    (tmp_path / "rows.jsonl").write_text('{"Ref": "a/b"}\n', encoding="utf-8")
    Job.take(tmp_path / "job", identity(tmp_path)).leave()
    return tmp_path / "job" / FILE


def test_other_arguments(refused: Callable[..., str], tmp_path: Path) -> None:
    begun(tmp_path)
    said = refused("-a", "pages=2-5", "-a", "_job=17")
    assert "other arguments (none, now pages=2-5)" in said


def test_another_address(refused: Callable[..., str], tmp_path: Path) -> None:
    begun(tmp_path)
    said = refused("-s", "KAGGLE_API_URL=http://127.0.0.1:9")
    assert "other api_url (https://api.kaggle.com, now http://127.0.0.1:9)" in said


def test_a_job_that_runs(refused: Callable[..., str], tmp_path: Path) -> None:
    begun(tmp_path)
    job = Job.take(tmp_path / "job", identity(tmp_path))
    try:
        assert "is in use by process" in refused()
    finally:
        job.leave()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def half(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (half, "cannot be used (database disk image is malformed)"),
        (lambda path: path.write_bytes(b""), "is no job file of kagglecrawl's"),
        (lambda path: path.write_text("my notes\n" * 99), "file is not a database"),
        (newer, "newer kagglecrawl"),
    ],
)
def test_a_file_that_cannot_be_used(
    refused: Callable[..., str], tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(begun(tmp_path))
    said = refused()
    assert words in said
    assert "name another JOBDIR to begin anew" in said


def test_a_job_of_scrapys(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "job" / "requests.queue").mkdir(parents=True)
    assert "another Scrapy project" in refused()


def test_a_folder_below_a_file(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    assert "is a file, not a folder" in refused(folder=tmp_path / "file" / "job")


def test_another_scheduler_would_keep_no_accounts(scrapy: Run) -> None:
    done = scrapy("crawl", "datasets", "-s", "SCHEDULER=scrapy.core.scheduler.Scheduler", env=TOKEN)
    assert done.code == USAGE, done.log
    (line,) = done.sentence.splitlines()
    assert "SCHEDULER=scrapy.core.scheduler.Scheduler" in line


def test_a_whole_job_is_its_owners_alone_and_complete_the_second_time(
    crawl: Run, tmp_path: Path
) -> None:
    """With every kind of feed; and nothing is asked for when there is nothing left to do."""
    args = (
        *("-s", f"JOBDIR={tmp_path / 'job'}", "-s", "FEED_EXPORT_BATCH_ITEM_COUNT=7"),
        *("-o", f"{tmp_path}/rows-%(batch_id)d.csv", "-a", "pages=1-2"),
    )
    with Replica(World(seed=1)) as replica:
        first = crawl(replica, *args)
        replica.reset_stats()
        second = crawl(replica, *args)
        asked = replica.stats()["requests"]
    assert (first.code, second.code) == (0, 0), first.log + second.log
    assert asked == {}
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "job").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} <= {0o700}
    refs: list[str] = []
    for path in tmp_path.glob("rows-*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            refs += [row["Ref"] for row in csv.DictReader(file)]
    stored = len(set(refs))
    assert stored == len(refs)
    assert stored == first.stat("kaggle/datasets/stored") == second.stat("kaggle/datasets/stored")
