"""What a kill costs a large download: ``python -m benchmarks.transfer_kills``.

One archive, served by a replica in a process of its own, is crawled into a job that is killed with
SIGKILL at random bytes, and gone on with by the same command each time. In the end every file must
be there with the right bytes, and the row once. Bars: a crawl never holds more than 150 MB of
memory, and after a kill at most 64 MiB are fetched again, or one packed member. The exit code is 1
if anything was wrong. It needs Linux. See ``--help``.

How much is fetched again: the replica notes which bytes it has sent. Before a crawl is killed it is
stopped for a moment, and what is still in the two sockets is taken off, since the crawl has never
had it. What the next run asks for is held against all that came before, the archive's last MiB
included, with which every run begins.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, BenchmarkError, clean_env
from tests.transfer.victim_archive import Made, Part, make_tar, make_zip
from tests.transfer.victim_process import children, peak_memory, wait_for_end, written
from tests.transfer.victim_storage import Answer, Sent, Spans, in_flight

REF = "me/large"
#: Bytes of memory that a crawl may hold.
MEMORY_BAR = 150_000_000
#: Bytes that may be fetched again after a kill, unless one packed member is larger.
AGAIN_BAR = 64 << 20
#: What the replica counts before it goes: a slice of a file.
_SLICE = 1 << 20
#: Every run begins with so much of the archive's end.
TAIL = 1 << 20
_POLL = 0.02
_TIMEOUT = 1200.0
_MIB = 1 << 20


@dataclass
class Run:
    """One start of the crawl: how it ended, and what it took."""

    killed: bool
    code: int | None
    seconds: float
    peak: int
    answers: list[Answer]
    lost: int
    """Bytes of the last answer that it has never read."""
    log: Path
    again: int = 0
    """Bytes that a run before had read already."""

    @property
    def sent(self) -> int:
        return sum(count for _, count in self.answers)

    @property
    def end(self) -> int:
        """How far into the archive it has come."""
        if not self.answers:
            return 0
        start, count = self.answers[-1]
        return start + count - self.lost


class Storage:
    """The replica's process, for a `with` block."""

    def __init__(self, archive: Path, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.transfer_kills", "--serve", str(archive)],
            cwd=ROOT,
            env=clean_env(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for us; we end it
        )
        about = self._read()
        self.env: dict[str, str] = about["env"]
        self.port: int = about["port"]

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def answers(self) -> list[Answer]:
        """What it has sent so far."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return [(start, count) for start, count in self._read()]

    def in_flight(self) -> int:
        """Bytes that its client, which has been stopped, has not read; once they change no more."""
        before: object = None
        while (now := (self.answers(), in_flight(self.port))) != before:
            before = now
            time.sleep(_POLL)
        return now[1]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"the replica ended with {self._process.wait()}")
        return json.loads(line)


def serve(archive: Path) -> None:
    """Serve the archive; for each line of stdin, tell what was sent, until that ends."""
    from kagglecrawl.replica.server import Replica
    from kagglecrawl.replica.world import World, published

    name = "archive.tar.gz" if archive.suffix == ".gz" else "archive.zip"
    dataset = published(REF, archive, {"data.csv": b"x\n"}, name=name)
    sent = Sent()
    with sent(), Replica(World(scale=None, extra=(dataset,))) as replica:
        replica.prepare(dataset)
        print(json.dumps({"env": replica.crawler_env(), "port": replica.port}), flush=True)
        for _ in sys.stdin:
            print(json.dumps(sent.answers()), flush=True)


def parts(size: int) -> list[Part]:
    """Members for a zip of so many bytes: small and large, packed and not, in nested folders."""

    def share(part: float) -> int:
        return int(size * part)

    small = size // 200_000
    found = [Part("empty folder/", 0), Part("empty.csv", 0)]
    found += [
        Part(f"rows/{n % 7}/{n % 3}/part {n}.csv", 1_000 + 37 * n % 30_000, stored=n % 5 == 0)
        for n in range(small // 10)
    ]
    found += [Part(f"medium/{n}.npy", share(0.02), dense=True) for n in range(8)]
    found += [Part("video.mp4", share(0.33), stored=True, dense=True)]
    # less than is noted at once, and then the large one begins
    found += [Part(f"beside/{n}.bin", share(0.0003), dense=True) for n in range(90)]
    found += [Part("large.csv", share(0.25))]
    found += [Part(f"medium/{n}.wav", share(0.01), stored=True, dense=True) for n in range(8)]
    found += [
        Part(f"bilder/größe {n % 11}/{n}.txt", 200 + 91 * n % 9_000) for n in range(small // 10)
    ]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it; returns the exit code."""
    opts = _options(argv)
    if opts.serve:
        serve(opts.serve)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="kagglecrawl-transfer-kills-", dir=opts.folder))
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
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfer_kills", description=__doc__
    )
    add = parser.add_argument
    add("--size", type=_bytes, default=2 << 30, help="of the archive (default: 2GiB)")
    add("--kills", type=int, default=20, help="default: 20")
    add("--seed", type=int, default=random.randrange(10_000), help="default: another each time")
    add("--tar", action="store_true", help="a tar.gz")
    add("--official", action="store_true", help="by kagglehub, which begins anew each time")
    add("--folder", type=Path, help="where there is room for three times the size")
    add("--serve", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+) ?([KMG]iB)?", text)
    if match is None:
        raise argparse.ArgumentTypeError("write a size like 2GiB or 300MiB")
    return int(match[1]) << {"KiB": 10, "MiB": 20, "GiB": 30}.get(match[2], 0)


def _run(opts: argparse.Namespace, folder: Path) -> list[str]:
    """Kill and go on until it ends; what was wrong."""
    make, name = (make_tar, "large.tar.gz") if opts.tar else (make_zip, "large.zip")
    made = make(folder / name, parts(opts.size), fill=opts.size, seed=opts.seed)
    print(
        f"{made.size / _MIB:,.0f} MiB in {len(made.files):,} files of "
        f"{made.unpacked / _MIB:,.0f} MiB; {opts.kills} kills with --seed {opts.seed}:\n\n{_HEADS}",
        flush=True,
    )
    runs: list[Run] = []
    with Storage(made.path, folder) as storage:
        crawl = _Crawl(opts, folder, storage, made)
        moments: list[int | None] = [*crawl.moments(), None]
        while moments and (not runs or runs[-1].killed):
            runs.append(crawl.start(moments.pop(0)))
            print(line(made, runs), flush=True)
        wrong = over_the_bars(made, runs, official=opts.official) + crawl.wrong_at_end(runs[-1])
        after = crawl.start(None)
        if after.code != 0 or after.answers:
            wrong.append(f"after the end: exit code {after.code}, asked for {after.answers}")
    print(
        f"\n{sum(run.killed for run in runs)} kills; "
        f"sent {sum(run.sent for run in runs) / _MIB:,.0f} MiB in all, "
        f"again after a kill at most {max(run.again for run in runs) / _MIB:.1f} MiB; "
        f"peak memory {max(run.peak for run in runs) / 1e6:.0f} MB "
        f"(bar {MEMORY_BAR / 1e6:.0f})"
    )
    return wrong


@dataclass
class _Crawl:
    """The job that is killed again and again."""

    opts: argparse.Namespace
    folder: Path
    storage: Storage
    made: Made
    had: Spans = field(default_factory=Spans)
    starts: int = 0

    def moments(self) -> list[int]:
        """At which bytes it is killed; those past the archive's size are of one that is unpacked
        from disk. They rise where it goes on."""
        dice = random.Random(self.opts.seed)
        most = self.made.size + (self.made.unpacked if self.opts.tar else 0)
        drawn = [dice.randrange(most) for _ in range(self.opts.kills)]
        return drawn if self.opts.official else sorted(drawn)

    def start(self, kill_at: int | None) -> Run:
        """Run the crawl to its end, or until it has come so far."""
        self.starts += 1
        before = len(self.storage.answers())
        log = self.folder / f"start-{self.starts}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            child = subprocess.Popen(
                self._command(),
                cwd=ROOT,
                env=clean_env(self.folder, **self.storage.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                peak, lost = self._watch(child, kill_at, before)
            finally:
                child.kill()
                code = child.wait()
        run = Run(
            killed=code == -signal.SIGKILL,
            code=code,
            seconds=time.monotonic() - began,
            peak=peak,
            answers=self.storage.answers()[before:],
            lost=lost,
            log=log,
        )
        for number, (start, count) in enumerate(run.answers, 1):
            stop = start + count - (lost if number == len(run.answers) else 0)
            run.again += self.had.common(start, stop)
            self.had.add(start, stop)
        return run

    def _watch(
        self, child: subprocess.Popen[bytes], kill_at: int | None, before: int
    ) -> tuple[int, int]:
        """Kill it when it is time; the most memory it held, and what was in flight then."""
        progress = _Progress(self, child.pid, before)
        peak, deadline = 0, time.monotonic() + _TIMEOUT
        while child.poll() is None:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no end after {_TIMEOUT:g} s: see {self.folder}")
            peak = max(peak, peak_memory(child.pid))
            if kill_at is not None and progress.now() >= kill_at:
                return self._kill(child, peak)
            time.sleep(_POLL)
        return peak, 0

    def _kill(self, child: subprocess.Popen[bytes], peak: int) -> tuple[int, int]:
        lost = 0
        if not self.opts.official:  # which reads in a process of its own
            child.send_signal(signal.SIGSTOP)
            lost = self.storage.in_flight()
        peak = max(peak, peak_memory(child.pid))
        helpers = children(child.pid)
        child.kill()
        if outlived := wait_for_end(helpers):
            raise BenchmarkError(f"{outlived} have outlived the crawl that started them")
        return peak, lost

    def _command(self) -> list[str]:
        options = [
            f"JOBDIR={self.folder / 'job'}",
            f"WORKSPACE={self.folder / 'workspace'}",
            "DOWNLOAD_DELAY=0",
            "WORKSPACE_MIN_FREE=0",
            f"KAGGLE_TRANSPORT={'official' if self.opts.official else 'scrapy'}",
        ]
        return [
            *(sys.executable, "-m", "scrapy", "crawl", "datasets", "-a", f"refs={REF}"),
            *(word for option in options for word in ("-s", option)),
            *("-o", str(self.folder / "rows.jsonl")),
        ]

    def wrong_at_end(self, last: Run) -> list[str]:
        """What is not as it should be, now that the job has ended."""
        found = [] if last.code == 0 else [f"exit code {last.code}: see {last.log}"]
        place = self.folder / "workspace" / "output" / "datasets" / "dataset"
        target = place / REF.replace("/", "_")
        found += self.made.differences(target)
        found += [f"{path.name} is left over" for path in place.iterdir() if path != target]
        feed = (self.folder / "rows.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(row) for row in feed.splitlines()]
        told = [(row["Ref"], row["Download"]["files"], row["Download"]["bytes"]) for row in rows]
        if told != [(REF, len(self.made.files), self.made.unpacked)]:
            found.append(f"the rows are {told}")
        return found


def allowed(made: Made, before: Sequence[Run]) -> int:
    """Bytes that the run after these may fetch again: the bar, or the packed member that the last
    one was in; and what is counted before it goes."""
    member = made.member_at(max(0, before[-1].end - 1)) if before else None
    packed = 0 if member is None or member.stored else member.stop - member.start
    return max(AGAIN_BAR, packed) + _SLICE


def over_the_bars(made: Made, runs: Sequence[Run], *, official: bool) -> list[str]:
    """Runs that held too much memory, or fetched too much again."""
    found = []
    for number, run in enumerate(runs):
        if run.peak >= MEMORY_BAR:
            found.append(f"start {number + 1} held {run.peak / 1e6:.0f} MB")
        if not official and run.again > (most := allowed(made, runs[:number])):
            found.append(
                f"start {number + 1} fetched {run.again / _MIB:.1f} MiB again, and "
                f"{most / _MIB:.1f} are allowed"
            )
    return found


def line(made: Made, runs: Sequence[Run]) -> str:
    """The last of these starts, in a row of the table."""
    *before, run = runs
    where = ""
    if member := made.member_at(max(0, run.end - 1)):
        where = member.name if member.stored else f"{member.name}, packed"
    return (
        f"{len(runs):>5} {'killed' if run.killed else f'code {run.code}':>7} "
        f"{run.end / _MIB:>8,.1f} {run.sent / _MIB:>8,.1f} {run.lost / _MIB:>9,.1f} "
        f"{run.again / _MIB:>8,.1f} {allowed(made, before) / _MIB:>8,.1f} "
        f"{run.peak / 1e6:>7.0f} {run.seconds:>6.1f}  {where}"
    )


#: Of `line`; all but memory (MB) and time (seconds) in MiB.
_HEADS = "start   ended       at     sent in flight    again  allowed  memory   time  in the member"


class _Progress:
    """How far a run has come: in the archive, and then in unpacking it from disk."""

    def __init__(self, crawl: _Crawl, pid: int, before: int) -> None:
        self._crawl = crawl
        self._pid = pid
        self._before = before
        self._unpacked_from = 0

    def now(self) -> int:
        made = self._crawl.made
        place = self._crawl.folder / "workspace" / "output" / "datasets" / "dataset"
        fetched = max((path.stat().st_size for path in place.glob(".*.archive.*")), default=0)
        if fetched == made.size:  # else it is no archive that has to be whole
            so_far = written(self._pid)
            self._unpacked_from = self._unpacked_from or so_far
            return fetched + so_far - self._unpacked_from
        answers = self._crawl.storage.answers()[self._before :]
        # every run begins with the archive's end
        return max((a + n for a, n in answers if a < made.size - TAIL), default=0)


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
