"""Who is compared in benchmarks/transfers.py: each has the same files, in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shlex
import shutil
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, clean_env, measure
from benchmarks.transfer_objects import Object, Served

_TIMEOUT = 900
#: Seconds between two looks at how much disk is in use.
_LOOK_EVERY = 0.05
_PEAK = Path(__file__).with_name("peak.py")
_HUB = """
import sys, kagglehub
for ref in sys.argv[2:]:
    kagglehub.dataset_download(ref, output_dir=f"{sys.argv[1]}/{ref.partition('/')[2]}")
"""
#: Where a contender's files are.
_FILES = "files"


@dataclass(frozen=True)
class Run:
    """What one process took for one object: wall-clock and CPU seconds, and its most memory in
    bytes. ``safe`` is when all that it had written was safe on disk, in seconds."""

    seconds: float
    safe: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Contender:
    """``command(refs, place)`` has each dataset's files in the folder ``files(ref)`` below
    ``place``; of one that does not unpack that is the archive's own path."""

    name: str
    command: Callable[[Sequence[str], Path], list[str]]
    env: dict[str, str]
    files: Callable[[str], str]
    unpacks: bool = True


class Bench:
    """Runs contenders, one after the other, in a folder of which it is told."""

    def __init__(self, served: Served, folder: Path) -> None:
        self._served = served
        self._folder = folder
        self._place = folder / "place"
        self._emptied = folder / "emptied"
        self._emptied.mkdir()
        self._count = itertools.count()

    def contenders(self) -> list[Contender]:
        """Ours, kagglehub, and the rest; curl and unzip if they are installed."""
        bare = clean_env(self._folder)
        official = clean_env(
            self._folder,
            **self._served.official_env,
            KAGGLE_CONFIG_DIR=str(self._folder / "kaggle"),
            KAGGLEHUB_CACHE=str(self._place / "cache"),
        )
        crawler = clean_env(self._folder, **self._served.crawler_env)
        found = [
            Contender("kagglecrawl", _crawl, crawler, _crawled),
            Contender("kagglehub", _hub, official, _files),
            Contender("kaggle CLI --unzip", _cli, official, _files),
        ]
        if shutil.which("curl"):
            found.append(Contender("curl, no unpacking", self._curl, bare, _archive, False))
            if shutil.which("unzip"):
                found.append(Contender("curl, then unzip", self._curl_unzip, bare, _files))
        return found

    def run(self, contender: Contender, wanted: Object) -> Run:
        """One process; raises ``BenchmarkError`` if it fails, or has not all the files there by
        their size. What came before it is safe on disk when it starts."""
        with self._fresh():
            run = self._measure(contender, wanted)
            self._check(contender, wanted, whole=False)
        return run

    def look(self, contender: Contender, wanted: Object) -> int:
        """One process that is not timed: is every byte right? Returns its most bytes on disk."""
        most, ended = 0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(_LOOK_EVERY):
                most = max(most, _in_use(self._place))

        watcher = threading.Thread(target=watch)
        with self._fresh():
            watcher.start()
            try:
                self._measure(contender, wanted)
            finally:
                ended.set()
                watcher.join()
            most = max(most, _in_use(self._place))
            self._check(contender, wanted, whole=True)
        return most

    @contextmanager
    def _fresh(self) -> Iterator[None]:
        """An empty place, and afterwards its disk again for others.

        Files are emptied, and not removed before the end of it all: where many have been removed
        within minutes, ext4 takes 20 times as long to make a new one (it looks at each of them),
        and so one contender would pay for another.
        """
        self._place.mkdir()
        os.sync()
        try:
            yield
        finally:
            for path in _every(self._place):
                os.truncate(path, 0)
            self._place.rename(self._emptied / str(next(self._count)))

    def _measure(self, contender: Contender, wanted: Object) -> Run:
        result = self._folder / "usage.txt"
        command = contender.command(wanted.refs, self._place)
        bare = [sys.executable, "-I", "-S", str(_PEAK), str(result), *command]
        measure(bare, folder=ROOT, env=contender.env, timeout=_TIMEOUT)
        began = time.perf_counter()
        os.sync()
        synced = time.perf_counter() - began
        seconds, cpu, peak = result.read_text("ascii").split()
        return Run(float(seconds), float(seconds) + synced, float(cpu), int(peak))

    def _check(self, contender: Contender, wanted: Object, *, whole: bool) -> None:
        proofs = wanted.files if contender.unpacks else {"": wanted.archive}
        for ref, (name, proof) in itertools.product(wanted.refs, proofs.items()):
            path = self._place / contender.files(ref) / name
            if not path.is_file() or path.stat().st_size != proof.size:
                raise BenchmarkError(f"{contender.name} has no {path} of {proof.size} bytes")
            if whole and _sha256(path) != proof.sha256:
                raise BenchmarkError(f"{contender.name} has the wrong bytes in {path}")

    def _curl(self, refs: Sequence[str], place: Path) -> list[str]:
        return _in_turn([self._curl_one(ref, place) for ref in refs])

    def _curl_one(self, ref: str, place: Path) -> list[str]:
        owner, _, slug = ref.partition("/")
        return [
            *("curl", "--silent", "--show-error", "--fail", "--location"),
            *("--output", str(place / _archive(ref)), "--header", "Content-Type: application/json"),
            *("--data", f'{{"ownerSlug": "{owner}", "datasetSlug": "{slug}"}}'),
            f"{self._served.url}/v1/datasets.DatasetApiService/DownloadDataset",
        ]

    def _curl_unzip(self, refs: Sequence[str], place: Path) -> list[str]:
        commands = []
        for ref in refs:
            archive, files = str(place / _archive(ref)), str(place / _files(ref))
            unzip = [["mkdir", "-p", files], ["unzip", "-q", archive, "-d", files], ["rm", archive]]
            commands += [self._curl_one(ref, place), *unzip]
        return _in_turn(commands)


def _in_turn(commands: Sequence[Sequence[str]]) -> list[str]:
    """One command that runs them one after the other, as long as none fails."""
    if len(commands) == 1:
        return list(commands[0])
    return ["sh", "-c", " && ".join(map(shlex.join, commands))]


def _crawl(refs: Sequence[str], place: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "scrapy", "crawl", "datasets", "-a", f"refs={','.join(refs)}"),
        *("-O", str(place / "rows.jsonl"), "-s", f"WORKSPACE={place}"),
        *("-s", "AUTOTHROTTLE_ENABLED=False", "-s", "DOWNLOAD_DELAY=0"),
        *("-s", "WORKSPACE_MIN_FREE=0", "-s", "LOG_LEVEL=WARNING"),
    ]


def _crawled(ref: str) -> str:
    return f"output/datasets/dataset/{ref.replace('/', '_')}"


def _hub(refs: Sequence[str], place: Path) -> list[str]:
    return [sys.executable, "-c", _HUB, str(place / _FILES), *refs]


def _cli(refs: Sequence[str], place: Path) -> list[str]:
    kaggle = str(Path(sysconfig.get_path("scripts")) / "kaggle")
    download = [kaggle, "datasets", "download", "--unzip", "-p"]
    return _in_turn([[*download, str(place / _files(ref)), ref] for ref in refs])


def _files(ref: str) -> str:
    return f"{_FILES}/{ref.partition('/')[2]}"


def _archive(ref: str) -> str:
    return f"{ref.partition('/')[2]}.zip"


def _every(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names)


def _in_use(folder: Path) -> int:
    """Bytes of disk that its files take, as far as can be seen while they change."""
    used = 0
    for path in _every(folder):
        with contextlib.suppress(FileNotFoundError):
            used += path.lstat().st_blocks * 512
    return used


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
