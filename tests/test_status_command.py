"""`scrapy status` as a command: its options, what is no job, and that it leaves no trace."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.commands import status as command
from kagglecrawl.commands.status import examine
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from kagglecrawl.state.store import FILE, Store
from tests.conftest import QUICK, ROOT, Run, clean_env
from tests.status_jobs import DONE, FACTS, KILLED, NOW, ROWS, look, make, with_requests


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "job"


# -- as JSON, and through the command --------------------------------------------------------------


def documented() -> list[str]:
    """The fields in the docstring's second table."""
    table = (command.__doc__ or "").split("=\nfield ")[1].partition("=\n")[2]
    names = [line[:21].strip() for line in table.splitlines() if line[:1] not in {" ", "="}]
    return [name for name in re.split(r",?\s+|,", " ".join(names)) if name]


def test_json_has_the_documented_fields(job: Path, scrapy: Run) -> None:
    make(job, {"reason": "kaggle_quota"}, feeds=(ROWS,), more=with_requests)
    done = scrapy("status", str(job), "--json", env={"KAGGLE_API_URL": FACTS["api_url"]})
    seen: dict[str, Any] = json.loads(done.log)
    assert done.code == 0
    assert list(seen) == documented()
    settings = get_project_settings()
    settings.set("KAGGLE_API_URL", FACTS["api_url"])
    assert seen == examine(job, settings, NOW + 3600)
    assert seen["discovered"] == 240
    assert seen["skipped_by_reason"] == {"usability": 37, "not_found": 2, "some_new_reason": 1}
    assert seen["run_ended"] == "2026-01-02T14:59:50+00:00"
    assert seen["feeds"][0]["rows"] == 139


def test_the_help_documents_them_too(scrapy: Run) -> None:
    helped = scrapy("status", "-h")
    assert helped.code == 0
    assert "\nrequests_waiting      how many of these wait" in helped.log
    assert "\n2    wrong usage: " in helped.log


def test_through_the_command(job: Path, scrapy: Run) -> None:
    make(job, {"reason": "finished"}, DONE)
    for args in ([str(job)], ["-s", f"JOBDIR={job}"]):
        done = scrapy("status", *args)
        assert done.code == 0
        assert done.log.startswith(f"Job in {job}: datasets with pages=1-12")
        assert "\nComplete.\n" in done.log
    nothing = scrapy("status", str(job.parent))
    assert nothing.code == 2
    assert nothing.sentence.count("\n") == 0
    assert nothing.sentence.startswith(f"scrapy status: there is no job in {job.parent} (no ")


def test_the_command_that_it_names_goes_on_with_a_real_job(
    crawl: Run, scrapy: Run, job: Path, tmp_path: Path
) -> None:
    with Replica(World(seed=1)) as replica:
        env = replica.crawler_env()
        options = ("-a", "pages=1-5", "-s", f"JOBDIR={job}", "-o", str(tmp_path / "out.jsonl"))
        crawl(replica, *options, "-s", "CLOSESPIDER_ITEMCOUNT=20")
        stopped = json.loads(scrapy("status", str(job), "--json", env=env).log)
        again = scrapy(*shlex.split(stopped["command"])[1:], *QUICK, env=env)
        ended = json.loads(scrapy("status", str(job), "--json", env=env).log)
    assert (stopped["state"], stopped["run"]) == ("stopped", 1)
    assert (stopped["reason"], stopped["balanced"]) == ("closespider_itemcount", True)
    assert stopped["requests_pending"] > 0
    assert again.code == 0, again.log
    assert (ended["state"], ended["run"], ended["command"]) == ("complete", 2, None)
    assert ended["discovered"] == ended["stored"] + ended["skipped"] == 100
    assert ended["stored"] == ended["feeds"][0]["rows"] == len(again.rows) > stopped["stored"]
    assert ended["feeds"][0]["bytes"] == (tmp_path / "out.jsonl").stat().st_size


# -- what is no job --------------------------------------------------------------------------------


def newer(file: Path) -> None:
    make(file.parent)
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def foreign(file: Path) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE job (a)")
    database.close()


def without_tables(file: Path) -> None:
    make(file.parent)
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE feed")
    database.close()


def damaged(file: Path) -> None:
    """Its first page is whole."""
    make(file.parent, more=with_requests)
    data = file.read_bytes()
    file.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


def written(data: bytes) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.parent.mkdir()
        file.write_bytes(data)

    return write


def with_fact(name: str, value: str) -> Callable[[Path], None]:
    return lambda file: make(file.parent, {name: value})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: None, "/job does not exist: name the folder that was given with -s JOBDIR="),
        (lambda file: file.parent.touch(), "/job is a file, not a folder: name the folder"),
        (lambda file: file.parent.mkdir(), "there is no job in "),
        (lambda file: file.mkdir(parents=True), "/job cannot be read (Is a directory): check who"),
        (written(b"no database at all, however long it may be" * 100), "file is not a database"),
        (written(b""), "is no job file of kagglecrawl's: name the folder"),
        (foreign, "is no job file of kagglecrawl's: name the folder"),
        (newer, "was written by a newer kagglecrawl (format 99, this one knows 4): name the"),
        (without_tables, "cannot be read (no such table: feed): restore it from a copy, or name"),
        (damaged, "): restore it from a copy, or name another JOBDIR to begin anew"),
        (with_fact("arguments", "[1]"), "cannot be read (arguments is no JSON object): restore"),
        (with_fact("holds", '{"api": "soon"}'), "cannot be read (could not convert string"),
        (with_fact("run_started", "1e300"), f"{FILE} cannot be read ("),
        (with_fact("created", ""), "/job has not begun: start the crawl again"),
    ],
)
def test_what_is_no_job_is_told_in_one_sentence(
    job: Path, spoil: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(job / FILE)
    with pytest.raises(SystemExit) as ended:
        execute(["scrapy", "status", str(job)], settings=get_project_settings())
    output, errors = capsys.readouterr()
    assert (ended.value.code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("scrapy status: ")
    assert words in errors


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "name one job directory: scrapy status JOBDIR"),
        (["a", "b"], "name one job directory: scrapy status JOBDIR"),
        (["--jsn", "a"], "option --jsn is not known: see `scrapy status -h`"),
        (["a", "-s", "JOBDIR"], "Invalid -s value"),
    ],
)
def test_wrong_usage(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        execute(["scrapy", "status", *args], settings=get_project_settings())
    output, errors = capsys.readouterr()
    assert (ended.value.code, output, errors.count("\n")) == (2, "", 1)
    assert words in errors


# -- without a trace, and while others write -------------------------------------------------------


def test_it_changes_nothing(job: Path) -> None:
    def state() -> list[tuple[str, str, int]]:
        return [
            (path.name, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in sorted(job.iterdir())
            if path.name not in {f"{FILE}-shm", f"{FILE}-wal"}  # SQLite's own, for readers too
        ]

    make(job)
    before = state()
    look(job)
    assert state() == before
    log = job / f"{FILE}-wal"
    assert not log.exists() or log.read_bytes() == b""


KILL = """
import os, signal, sys
from pathlib import Path
from kagglecrawl.state.job import Identity, Job
from tests.status_jobs import COUNTS, KILLED, fill

job = Job.take(Path(sys.argv[1]), Identity("datasets", {}, "https://k", "/w", {}))
fill(job.store, KILLED, COUNTS)
job.store.commit()
job.store.add_count("stored")
print("ready", flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_before_and_after_its_kill(job: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILL, str(job)],
        cwd=ROOT,
        env=clean_env(tmp_path, PYTHONPATH=str(ROOT)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        alive = look(job)
        process.communicate(b"")
    dead = look(job)
    assert (alive["state"], alive["pid"], alive["stored"]) == ("running", process.pid, 139)
    assert (dead["state"], dead["pid"], dead["stored"]) == ("killed", None, 139)


def test_a_job_that_is_being_written(job: Path) -> None:
    """Only what was committed is seen, and all of it at one moment."""
    make(job, KILLED, {})
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        store = Store.open(job / FILE)
        while not stop.is_set():
            store.add_count("discovered")
            store.add_count("pending")
            store.commit()
            store.add_count("pending", -1)
            store.add_count("stored")
            store.commit()
            store.add_count("stored")  # this one never lasts
            store.rollback()
            begun.set()
        store.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        seen = [look(job) for _ in range(60)]
    finally:
        stop.set()
        writer.join()
    assert all(each["balanced"] for each in seen)
    assert seen[-1]["discovered"] > seen[0]["discovered"] > 0


def test_a_folder_that_cannot_be_written(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite cannot make its files beside it then; root, who can, is stood in for."""
    make(job)
    connect = sqlite3.connect
    uris = []

    def refuse(file: str, **options: Any) -> Any:
        uris.append(file)
        if os.geteuid() == 0 and "immutable" not in file:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(file, **options)

    monkeypatch.setattr(sqlite3, "connect", refuse)
    job.chmod(0o500)
    try:
        assert look(job)["stored"] == 139
    finally:
        job.chmod(0o700)
    assert any("immutable" in uri for uri in uris)
    assert [path.name for path in job.iterdir()] == [FILE]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else(job: Path) -> None:
    make(job)
    (job / FILE).chmod(0)
    with pytest.raises(command.Unreadable, match=r"cannot be read \(Permission denied\): check"):
        look(job)


def test_a_large_job_is_not_looked_through(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests only those that are open are counted, by their indexes; of resources none."""
    make(job, more=with_requests)
    connect = sqlite3.connect
    asked: list[str] = []

    def listen(*args: Any, **options: Any) -> Any:
        database = connect(*args, **options)
        database.set_trace_callback(asked.append)
        return database

    monkeypatch.setattr(sqlite3, "connect", listen)
    look(job)
    monkeypatch.undo()
    assert any("FROM request" in query for query in asked)
    with sqlite3.connect(job / FILE) as database:
        plans = [
            str(step[3])
            for query in asked
            if query.startswith("SELECT")
            for step in database.execute(f"EXPLAIN QUERY PLAN {query}")
        ]
    database.close()
    scans = [plan for plan in plans if re.match(r"SCAN (request|resource)\b", plan)]
    assert all(" USING INDEX request_" in plan for plan in scans), scans
