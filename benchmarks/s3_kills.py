"""What kills cost a harvest to S3: ``python -m benchmarks.s3_kills``.

One archive, served by a replica in a process of its own, is crawled into a bucket of a real store,
by a job that is killed with SIGKILL at random moments, and gone on with by the same command each
time until it ends. Then the bucket must hold every file as an object with the right bytes, and
nothing else, not even a part of an upload; the feed must have the row once, and the same command
once more must ask for nothing. Bars, at any time: at most 64 MiB on disk beside the job's own files
(those that are open but removed count as well), and at most 200 MiB of memory. The exit code is 1
if anything was wrong. It needs Linux. See ``--help``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, clean_env
from benchmarks.s3_bucket import differences, uploads
from benchmarks.transfer_kills import REF, TAIL, Storage, parts
from tests import stores
from tests.stores import Store
from tests.transfer.victim_archive import Made, Part, make_tar, make_zip
from tests.transfer.victim_process import children, peak_memory, wait_for_end

#: Bytes on disk beside the job's files, and bytes of memory.
DISK_BAR = 64 << 20
MEMORY_BAR = 200 << 20
STORES = {"weed": stores.weed, "rclone": stores.rclone}
KINDS = ("mix", "stored", "deflated", "many", "tar")
#: Bytes of a small file, where there are many.
_SMALL = 20_000
#: Most seconds from the moment at which a run has come so far to its kill.
_LATER = 0.5
_PREFIX = "harvest"
_POLL = 0.02
_TIMEOUT = 1800.0
_MIB = 1 << 20


@dataclass
class Run:
    """One start of the crawl: how it ended, and what it took; bytes and seconds."""

    killed: bool
    code: int
    seconds: float
    end: int
    """How far into the archive it has read."""
    sent: int
    peak: int
    disk: int
    log: Path
    uploads: int = 0
    """Multipart uploads that were under way when it ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it; returns the exit code."""
    opts = _options(argv)
    folder = Path(tempfile.mkdtemp(prefix="kagglecrawl-s3-kills-"))
    try:
        wrong = _run(opts, folder)
    except BenchmarkError as error:
        wrong = [str(error)]
    except BaseException:  # Ctrl-C
        shutil.rmtree(folder)
        raise
    if wrong:
        print("Wrong: " + "\n       ".join(wrong) + f"\nWhat is left is in {folder}.")
        return 1
    shutil.rmtree(folder)
    print("All right.")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3_kills", description=__doc__)
    add = parser.add_argument
    add("--size", type=_bytes, default=2 << 30, help="of the archive (default: 2GiB)")
    add("--kills", type=int, default=20, help="default: 20")
    add("--seed", type=int, default=random.randrange(10_000), help="default: another each time")
    add("--store", choices=STORES, default="weed", help="default: weed")
    add("--kind", choices=KINDS, default="mix", help="what is in the archive (default: mix)")
    return parser.parse_args(argv)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+) ?([KMG]iB)?", text)
    if match is None:
        raise argparse.ArgumentTypeError("write a size like 2GiB or 300MiB")
    return int(match[1]) << {"KiB": 10, "MiB": 20, "GiB": 30}.get(match[2], 0)


def make(path: Path, kind: str, size: int, seed: int) -> Made:
    """An archive of about so many bytes, in a folder."""
    match kind:
        case "stored":
            return make_zip(path / "large.zip", [], fill=size, seed=seed)
        case "deflated":
            return make_zip(path / "large.zip", [Part("table.csv", 2 * size)], seed=seed)
        case "many":
            files = [
                Part(f"{n // 100}/{n}", _SMALL, stored=n % 2 == 0, dense=True)
                for n in range(size // _SMALL)
            ]
            return make_zip(path / "large.zip", files, seed=seed)
        case "tar":
            return make_tar(path / "large.tar.gz", parts(size), fill=size, seed=seed)
    return make_zip(path / "large.zip", parts(size), fill=size, seed=seed)


def _run(opts: argparse.Namespace, folder: Path) -> list[str]:
    """Kill and go on until it ends; what was wrong."""
    made = make(folder, opts.kind, opts.size, opts.seed)
    print(
        f"{opts.kind}: {made.size / _MIB:,.0f} MiB in {len(made.files):,} files of "
        f"{made.unpacked / _MIB:,.0f} MiB, to {opts.store}; {opts.kills} kills with "
        f"--seed {opts.seed}:\n\n{_HEADS}",
        flush=True,
    )
    runs: list[Run] = []
    with Storage(made.path, folder) as storage, STORES[opts.store]() as store:
        crawl = _Crawl(folder, storage, store, made, random.Random(opts.seed))
        moments: list[int | None] = [*crawl.moments(opts.kills), None]
        while moments and (not runs or runs[-1].killed):
            runs.append(crawl.start(moments.pop(0)))
            print(_line(len(runs), runs[-1]), flush=True)
        wrong = over_the_bars(runs) + crawl.wrong_at_end(runs[-1])
        after = crawl.start(None)
        if after.code != 0 or after.sent:
            wrong.append(f"after the end: exit code {after.code}, {after.sent} bytes: {after.log}")
        wrong += differences(store, crawl.prefix, made.files)
    print(
        f"\n{sum(run.killed for run in runs)} kills of {opts.kills} came in time; "
        f"sent {sum(run.sent for run in runs) / _MIB:,.0f} MiB in all, "
        f"{max(run.uploads for run in runs)} uploads under way at most; "
        f"peak on disk {max(run.disk for run in runs) / _MIB:.1f} MiB (bar {DISK_BAR / _MIB:.0f}), "
        f"of memory {max(run.peak for run in runs) / _MIB:.0f} MiB (bar {MEMORY_BAR / _MIB:.0f})"
    )
    return wrong


@dataclass
class _Crawl:
    """The job that is killed again and again."""

    folder: Path
    storage: Storage
    store: Store
    made: Made
    dice: random.Random
    starts: int = 0
    home: Path = field(init=False)

    def __post_init__(self) -> None:
        self.home = self.folder / "crawl"
        (self.home / "temp").mkdir(parents=True)

    @property
    def prefix(self) -> str:
        """What every key begins with."""
        return f"{_PREFIX}/datasets/dataset/{REF.replace('/', '_')}/"

    def moments(self, kills: int) -> list[int]:
        """At which bytes of the archive it is killed; they rise, since it goes on. What is left
        after the last one takes it longer than a moment."""
        most = max(1, self.made.size * 19 // 20)
        return sorted(self.dice.randrange(most) for _ in range(kills))

    def start(self, kill_at: int | None) -> Run:
        """Run the crawl to its end, or until it has read so far, and a moment longer."""
        self.starts += 1
        before = len(self.storage.answers())
        log = self.folder / f"start-{self.starts}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            child = subprocess.Popen(
                self._command(),
                cwd=ROOT,
                env=clean_env(
                    self.home,
                    **self.storage.env,
                    **self.store.environment(),
                    TMPDIR=str(self.home / "temp"),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                peak, disk = self._watch(child, kill_at, before)
            finally:
                child.kill()
                code = child.wait()
        answers = self.storage.answers()[before:]
        return Run(
            killed=code == -signal.SIGKILL,
            code=code,
            seconds=time.monotonic() - began,
            end=self._come_to(before),
            sent=sum(count for _, count in answers),
            peak=peak,
            disk=disk,
            log=log,
            uploads=len(uploads(self.store)),
        )

    def _watch(
        self, child: subprocess.Popen[bytes], kill_at: int | None, before: int
    ) -> tuple[int, int]:
        """Kill it when it is time; the most memory and disk that it took."""
        peak, disk, deadline = 0, 0, time.monotonic() + _TIMEOUT
        while child.poll() is None:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no end after {_TIMEOUT:g} s: see {self.folder}")
            peak = max(peak, peak_memory(child.pid))
            disk = max(disk, self._on_disk(child.pid))
            if kill_at is not None and self._come_to(before) >= kill_at:
                time.sleep(self.dice.random() * _LATER)
                peak = max(peak, peak_memory(child.pid))
                disk = max(disk, self._on_disk(child.pid))
                helpers = children(child.pid)
                child.kill()
                if outlived := wait_for_end(helpers):
                    raise BenchmarkError(f"{outlived} have outlived the crawl that started them")
                break
            time.sleep(_POLL)
        return peak, disk

    def _come_to(self, before: int) -> int:
        """How far into the archive this run has read; each begins with the archive's end."""
        answers, most = self.storage.answers()[before:], self.made.size - TAIL
        return max((start + count for start, count in answers if start < most), default=0)

    def _on_disk(self, pid: int) -> int:
        """Bytes that the crawl has on disk, but for its job's files."""
        used = 0
        for root, folders, names in os.walk(self.home):
            if Path(root) == self.home:
                folders[:] = [each for each in folders if each != "job"]
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    used += Path(root, name).lstat().st_blocks * 512
        return used + sum(_removed(pid))

    def _command(self) -> list[str]:
        options = [
            f"JOBDIR={self.home / 'job'}",
            f"WORKSPACE={self.home / 'workspace'}",
            f"S3_URI={self.store.uri(_PREFIX)}",
            "DOWNLOAD_DELAY=0",
            "WORKSPACE_MIN_FREE=0",
        ]
        return [
            *(sys.executable, "-m", "scrapy", "crawl", "datasets", "-a", f"refs={REF}"),
            *(word for option in options for word in ("-s", option)),
            *("-o", str(self.home / "rows.jsonl")),
        ]

    def wrong_at_end(self, last: Run) -> list[str]:
        """What is not as it should be, now that the job has ended."""
        found = [] if last.code == 0 else [f"exit code {last.code}: see {last.log}"]
        found += differences(self.store, self.prefix, self.made.files)
        feed = self.home / "rows.jsonl"
        rows = feed.read_text(encoding="utf-8").splitlines() if feed.exists() else []
        told = [(row["Ref"], row["Download"]) for row in map(json.loads, rows)]
        right = {
            "folder": self.store.uri(self.prefix),
            "files": len(self.made.files),
            "bytes": self.made.unpacked,
            "leftOut": {},
            "reason": "",
        }
        if told != [(REF, right)]:
            found.append(f"the rows are {told}")
        return found


def _removed(pid: int) -> Iterator[int]:
    """Bytes on disk of each file that a process has open and that has no name any more."""
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                about = link.stat()
                if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                    yield about.st_blocks * 512


def over_the_bars(runs: Sequence[Run]) -> list[str]:
    """Runs that took too much memory or disk."""
    found = []
    for number, run in enumerate(runs, 1):
        if run.peak > MEMORY_BAR:
            found.append(f"start {number} held {run.peak / _MIB:.0f} MiB of memory: see {run.log}")
        if run.disk > DISK_BAR:
            found.append(f"start {number} had {run.disk / _MIB:.1f} MiB on disk: see {run.log}")
    return found


def _line(number: int, run: Run) -> str:
    """A start, in a row of the table."""
    return (
        f"{number:>5} {'killed' if run.killed else f'code {run.code}':>7} "
        f"{run.end / _MIB:>8,.1f} {run.sent / _MIB:>8,.1f} {run.uploads:>8} "
        f"{run.disk / _MIB:>6.1f} {run.peak / _MIB:>7.0f} {run.seconds:>6.1f}"
    )


#: Of `_line`; all but uploads and time (seconds) in MiB.
_HEADS = "start   ended       at     sent  uploads   disk  memory   time"


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
