"""Whole crawls whose datasets mean harm, and a close look at what they have left behind.

A crawl runs in a process of its own, in a folder of its own that holds everything a path could lead
to: a home, a working directory, folders above the workspace, and in the workspace what others have
put there. What it did to anything of that which is not its own is told by ``Aftermath.harm``.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import pickle
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import published
from kagglecrawl.state.store import FILE
from tests.conftest import QUICK, ROOT, Crawl, clean_env
from tests.transfer.archives import SLIPS
from tests.transfer.stand import Asked, Object, Reply, head, status

#: Bytes of memory that a crawl may take, whatever it is given.
MEMORY = 150_000_000
#: What is refused for ever; of anything else another run of the job may still make something.
FOR_EVER = {"bad_archive", "ratio", "redirect_refused", "storage_refused", "place_taken"}
INNOCENT = ("innocent/first", "innocent/middle", "innocent/last")
INNOCENT_FILES = {"data.csv": b"id,name\n1,amber\n", "folder/notes \u00e9.txt": b"as it was\n" * 99}

#: Runs ``scrapy`` and leaves in a file how much memory that took at most. (What ``wait4`` tells of
#: a child is at least as much as its parent had when it was started.)
_REPORTING = """
import atexit, re, sys
from pathlib import Path
from scrapy.cmdline import execute
from kagglecrawl import middlewares
middlewares._IN_VAIN = 10**9  # what fails here fails one by one, and not because an API is down

def report(path=Path(sys.argv.pop(1))):
    status = Path("/proc/self/status")
    if status.exists():
        path.write_text(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text())[1])

atexit.register(report)
execute(["scrapy", *sys.argv[1:]])
"""
#: What every crawl keeps in its workspace.
_OF_THE_WORKSPACE = (
    *("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"),
    *("report.json", "report.html"),
)
#: Where names lead that a careless program takes from the root of the file system.
_ROOTED = sorted({Path("/") / slip.replace("\\", "/").lstrip("/") for slip in SLIPS if "/" in slip})
#: ``SECRET`` is in every address of the tests' own making that nobody may learn.
_SECRET = re.compile(r"(?i:x-goog-(?!hash))|storage/datasets/[^\s'\"]*\?|SECRET")


# -- datasets --------------------------------------------------------------------------------------


def hostile(ref: str, archive: bytes | Path, *, name: str = "archive.zip") -> DatasetTruth:
    """A dataset whose download leads to this."""
    return published(ref, archive, {"told.csv": b"of something"}, name=name)


def slug(name: str) -> str:
    """What a case is called, as a part of a reference."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def with_innocents(datasets: list[DatasetTruth]) -> tuple[DatasetTruth, ...]:
    """The datasets, to be listed in this order, with one before them that means no harm, one among
    them and one behind: the last is stored only if nothing before it has ended the crawl."""
    first, middle, last = (published(ref, files=INNOCENT_FILES) for ref in INNOCENT)
    half = len(datasets) // 2
    ordered = [first, *datasets[:half], middle, *datasets[half:], last]
    return tuple(replace(each, hotness=1.0 / number) for number, each in enumerate(ordered, 1))


# -- crawls ----------------------------------------------------------------------------------------


@dataclass
class Aftermath(Crawl):
    """What came of a crawl. It can be pickled: workers of a test run share it."""

    harm: list[str]
    """What was made, changed or removed outside the datasets' own folders."""
    files: dict[str, dict[str, bytes] | None]
    """Of each dataset, what is in its folder, by the path in it; None if there is no folder. What
    is neither a file nor a folder is told by its kind in place of its content."""
    leftovers: list[str]
    """What transfers have left beside those folders."""
    asked: dict[str, Any]
    """The replica's stats."""
    peak: int
    """Most memory that the process had, in bytes; 0 where the system does not tell."""
    verdicts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of each dataset, the job's verdict and reason."""
    members: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Of each dataset, the name of every member and why it was left out, as the job has it."""
    secrets: list[str] = field(default_factory=list)
    """Lines of the log, of the feed and of the job's files that hold what signs an address."""

    @property
    def downloads(self) -> dict[str, dict[str, Any]]:
        """What the rows say of their files."""
        return {row["Ref"]: row["Download"] for row in self.rows}

    def faults(self) -> list[str]:
        """What is wrong of a crawl that ended by itself, whatever its datasets were."""
        reasons = (
            ("Traceback" in self.log, "a traceback in the log"),
            ("The sum is wrong" in self.log, "accounts that are not balanced"),
            ("finish_reason': 'finished'" not in self.log, "it did not come to its end"),
            (self.peak > MEMORY, f"{self.peak} bytes of memory"),
            (self.stats("spider_exceptions/") != {}, "exceptions of the spider"),
            (self.asked["leaked_authorization"] != 0, "credentials for storage"),
        )
        found = [*self.harm, *self.secrets, *(words for wrong, words in reasons if wrong)]
        return found + [
            f"{ref}: {self.files[ref]}, {self.downloads.get(ref)}"
            for ref in INNOCENT
            if self.files[ref] != INNOCENT_FILES or ref not in self.downloads
        ]


@dataclass
class Sandbox:
    """A folder that holds everything a crawl could reach. Its workspace is far down in it, below
    more folders than any of the hostile names climbs."""

    root: Path

    def __post_init__(self) -> None:
        above = self.root / "a/b/c/d/e/f"
        self.workspace = above / "workspace"
        self.datasets = self.workspace / "output/datasets/dataset"
        self.home, self.cwd, self.out = (self.root / name for name in ("home", "cwd", "out"))
        self.feed, self.job = self.out / "rows.jsonl", self.out / "job"
        for folder in (self.home, self.cwd, self.out, self.datasets / "some_body"):
            folder.mkdir(parents=True)
        for folder in (self.root, self.home, self.cwd, above, self.workspace, self.datasets):
            for name in ("evil.csv", "etc", "good.csv"):
                (folder / name).write_bytes(b"somebody's own\n")
        (self.datasets / "some_body/evil.csv").write_bytes(b"somebody's own\n")

    def folder(self, ref: str) -> Path:
        """Where the files of a dataset are to be."""
        return self.datasets / ref.replace("/", "_")

    def crawl(self, replica: Replica, *args: str, in_job: bool = True) -> Aftermath:
        """Crawl all that the replica lists, and look at what came of it."""
        refs = [dataset.ref for dataset in replica.world.datasets]
        own = {self.folder(ref) for ref in refs}
        before = self._snapshot(own)
        peak = self.out / "peak"
        job = ("-s", f"JOBDIR={self.job}") if in_job else ()
        done = subprocess.run(
            [
                *(sys.executable, "-W", "error::ResourceWarning", "-c", _REPORTING, str(peak)),
                *("crawl", "datasets", "-O", str(self.feed), *QUICK, *job),
                *("-s", f"WORKSPACE={self.workspace}", "-s", "WORKSPACE_MIN_FREE=0"),
                *("-s", "STATS_DUMP=True", "-s", "LOG_LEVEL=DEBUG", *args),
            ],
            cwd=self.cwd,
            env=clean_env(
                self.home,
                PYTHONPATH=str(ROOT),
                PYTHONDONTWRITEBYTECODE="1",
                SCRAPY_SETTINGS_MODULE="kagglecrawl.settings",
                **replica.crawler_env(),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        after = self._snapshot(own)
        lines = self.feed.read_text(encoding="utf-8").splitlines() if self.feed.exists() else []
        found = Aftermath(
            code=done.returncode,
            log=done.stdout,
            rows=[json.loads(line) for line in lines],
            harm=[
                f"{path}: {before.get(path)} became {after.get(path)}"
                for path in sorted(before.keys() | after.keys())
                if before.get(path) != after.get(path)
            ],
            files={ref: _content_of(self.folder(ref)) for ref in refs},
            leftovers=sorted(path.name for path in self._leftovers()),
            asked=replica.stats(),
            peak=1024 * int(peak.read_text()) if peak.exists() else 0,
            secrets=[line for line in (*done.stdout.splitlines(), *lines) if _SECRET.search(line)],
        )
        if in_job:
            self._read_job(found)
        return found

    def _leftovers(self) -> Iterator[Path]:
        return self.datasets.glob(".*.incomplete")

    def _read_job(self, found: Aftermath) -> None:
        with contextlib.closing(sqlite3.connect(self.job / FILE)) as database:
            for key, *verdict in database.execute("SELECT key, verdict, reason FROM resource"):
                found.verdicts[key] = (verdict[0], verdict[1])
            for key, name, reason in database.execute(
                "SELECT key, name, reason FROM member JOIN transfer ON transfer.id = transfer "
                "ORDER BY number"
            ):
                found.members.setdefault(key, []).append((name, reason))
        for path in _below(self.job):
            if path.is_file() and (secret := _SECRET.search(path.read_bytes().decode("latin-1"))):
                found.secrets.append(f"{path.name} of the job: {secret[0]}")

    def _snapshot(self, own: set[Path]) -> dict[str, tuple[object, ...]]:
        """Everything but what a crawl may make: its output, and the datasets' own folders."""
        found: dict[str, tuple[object, ...]] = {}
        grows = {self.datasets, self.datasets.parent, self.datasets.parent.parent.parent}
        made = {self.out, self.datasets.parent / "meta_data", *own, *self._leftovers()}
        made |= {self.datasets.parent.parent.parent / name for name in _OF_THE_WORKSPACE}
        for path in _below(self.root, without=made):
            told = path.lstat()
            target = str(path.readlink()) if stat.S_ISLNK(told.st_mode) else ""
            times = () if path in grows else (told.st_size, told.st_mtime_ns)
            found[str(path.relative_to(self.root))] = (told.st_mode, target, *times)
        for path in _ROOTED:
            with contextlib.suppress(OSError):
                found[str(path)] = (path.lstat().st_mode,)
        return found


def once(
    factory: pytest.TempPathFactory, name: str, crawl: Callable[[Path], Aftermath]
) -> Aftermath:
    """What comes of a crawl in a folder of this name; it is made once in a test run, by that one of
    its workers that wants it first."""
    base = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent
    kept = base / f"{name}.pickle"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(crawl(base / name)))
        found: Aftermath = pickle.loads(kept.read_bytes())
    return found


# -- a server that says what no server says --------------------------------------------------------

Answer = Callable[[Asked], Reply]


class Lies:
    """Answers about an object to those who ask for it, and wait no longer than ``stall`` seconds
    for anything."""

    def __init__(self, right: Object, stall: float) -> None:
        self._right = right
        self._stall = stall
        #: Set when nobody asks any more.
        self.over = threading.Event()
        #: What has come to its end although nobody should have waited for that.
        self.ended: set[str] = set()

    def part(self, **headers: Any) -> Answer:
        """What is asked for, with these headers in place of the right ones."""

        def answer(asked: Asked) -> Reply:
            plain = replace(asked, headers={"range": f"bytes={asked.range}"})  # of any If-Range
            start, stop = self._right.span(plain) or (0, len(self._right.data))
            return self._right.part(start, stop, **headers)

        return answer

    def whole(self, body: bytes, **headers: str | None) -> Answer:
        """A 200 with this body; the headers of the right answer, but no length, and these."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.raw(head(200, {**self._right.headers(), **named}), body)

    def raw(self, *pieces: bytes) -> Answer:
        """These bytes, whatever is asked for."""
        return lambda _: pieces

    def status(self, code: int, **headers: str) -> Answer:
        """No object."""
        return lambda _: status(code, **headers)

    def at_first(self, *pieces: bytes) -> Answer:
        """These, and the right answer from the second request on."""
        arrivals = itertools.count()
        return lambda asked: self._right.answer(asked) if next(arrivals) else pieces

    def dripping(self, name: str, begin: bytes, drop: bytes) -> Answer:
        """A head that takes eight times ``stall``, and comes to its end then."""

        def answer(_: Asked) -> Reply:
            yield begin
            for _drop in range(40):
                yield drop
                if self.over.wait(self._stall / 5):
                    return
            self.ended.add(name)
            yield b"\r\n"
            yield from self._right.whole()

        return answer


# -- the disk --------------------------------------------------------------------------------------


def _below(folder: Path, without: Iterable[Path] = ()) -> Iterator[Path]:
    """Everything below a folder, however deep, but what is in or below some paths; no link is
    followed."""
    left, leave = [folder], set(without)
    while left:
        with os.scandir(left.pop()) as entries:
            for entry in entries:
                path = Path(entry.path)
                if path in leave:
                    continue
                yield path
                if entry.is_dir(follow_symlinks=False):
                    left.append(path)


def _content_of(folder: Path) -> dict[str, bytes] | None:
    if not folder.is_dir():
        return None
    return {
        path.relative_to(folder).as_posix(): _content(path)
        for path in _below(folder)
        if not stat.S_ISDIR(path.lstat().st_mode)
    }


def _content(path: Path) -> bytes:
    kind = stat.S_IFMT(path.lstat().st_mode)
    return path.read_bytes() if kind == stat.S_IFREG else oct(kind).encode()
