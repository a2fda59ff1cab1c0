"""Whole crawls over a large table for benchmarks/tables.py: left alone, and killed.

Nobody is asked for anything: the records need nothing that is not in the table. It needs Linux.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, clean_env
from benchmarks.tables_made import Made
from tests.transfer.victim_process import children, peak_memory, wait_for_end

#: Most seconds from the moment at which a run has come so far to its kill.
_LATER = 0.5
_POLL = 0.02
_TIMEOUT = 3600.0
#: Nobody answers there.
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Start:
    """One start of the crawl: seconds, CPU seconds (of one that was killed as well), the most bytes
    of memory that it held, and bytes of the feed when it ended."""

    killed: bool
    seconds: float
    cpu: float
    peak: int
    feed: int


class Crawl:
    """A job over the table, in a folder of its own."""

    def __init__(self, folder: Path, made: Made) -> None:
        self._folder = folder
        self._made = made
        self._starts = 0
        self.feed = folder / "rows.jsonl"
        folder.mkdir()

    def start(self, kill_at: int | None = None, later: float = 0.0) -> Start:
        """Run it to its end; or kill it ``later`` seconds after the feed has so many bytes.

        Raises ``BenchmarkError`` if it ends with another code than 0.
        """
        self._starts += 1
        log = self._folder / f"start-{self._starts}.log"
        began = time.monotonic()
        with log.open("wb") as output:
            child = subprocess.Popen(
                self._command(),
                cwd=ROOT,
                env=clean_env(self._folder, KAGGLE_API_URL=_NOWHERE, KAGGLE_WEB_URL=_NOWHERE),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                peak = self._watch(child, kill_at, later)
            finally:
                # not Popen.kill, which may wait for it: what it took would not be known
                os.kill(child.pid, signal.SIGKILL)
                _, status, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
        killed = child.returncode == -signal.SIGKILL
        if child.returncode and not killed:
            words = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise BenchmarkError(f"the crawl ended with {child.returncode}:\n{words}")
        return Start(
            killed=killed,
            seconds=time.monotonic() - began,
            cpu=usage.ru_utime + usage.ru_stime,
            peak=peak,
            feed=self._written(),
        )

    def _watch(self, child: subprocess.Popen[bytes], kill_at: int | None, later: float) -> int:
        """Until it has ended, or was killed, but is still to be waited for; its peak of memory."""
        peak, deadline = 0, time.monotonic() + _TIMEOUT
        while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no end after {_TIMEOUT:g} s: see {self._folder}")
            peak = max(peak, peak_memory(child.pid))
            if kill_at is not None and self._written() >= kill_at:
                time.sleep(later)
                peak = max(peak, peak_memory(child.pid))
                helpers = children(child.pid)
                os.kill(child.pid, signal.SIGKILL)
                if outlived := wait_for_end(helpers):
                    raise BenchmarkError(f"{outlived} have outlived the crawl that started them")
                break
            time.sleep(_POLL)
        return peak

    def _written(self) -> int:
        return self.feed.stat().st_size if self.feed.exists() else 0

    def _command(self) -> list[str]:
        arguments = (
            *(f"meta_kaggle={self._made.path.parent}", f"since={self._made.since}"),
            *("leaderboard=none", "pages_api=never"),
        )
        return [
            *(sys.executable, "-m", "scrapy", "crawl", "competitions"),
            *(word for each in arguments for word in ("-a", each)),
            *("-s", f"JOBDIR={self._folder / 'job'}", "-s", f"WORKSPACE={self._folder / 'w'}"),
            *("-s", "WORKSPACE_MIN_FREE=0", "-s", "DOWNLOAD_DELAY=0", "-o", str(self.feed)),
        ]

    def rows(self) -> dict[int, bytes]:
        """The feed's rows by their ids, each as a digest. Raises ``BenchmarkError`` if there is one
        that is no JSON object."""
        return dict(self._every())

    def doubled(self) -> list[int]:
        """Ids of which the feed has more than one row."""
        return [
            each for each, count in Counter(key for key, _ in self._every()).items() if count > 1
        ]

    def _every(self) -> Iterable[tuple[int, bytes]]:
        with self.feed.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield int(json.loads(line)["CompetitionID"]), hashlib.sha1(line).digest()
                except (ValueError, KeyError, TypeError):
                    raise BenchmarkError(f"row {number} of {self.feed} is no record") from None


@dataclass(frozen=True)
class Faults:
    """What is wrong with a feed, by ids; ``wrong`` are rows that a crawl which was left alone has
    differently."""

    lost: list[int]
    doubled: list[int]
    others: list[int]
    wrong: list[int]

    def __bool__(self) -> bool:
        return any((self.lost, self.doubled, self.others, self.wrong))

    def __str__(self) -> str:
        parts = [
            f"{name} {len(ids)}" + (f" ({', '.join(map(str, ids[:3]))} …)" if ids else "")
            for name, ids in vars(self).items()
        ]
        return "rows " + ", ".join(parts)


def look(crawl: Crawl, made: Made, right: dict[int, bytes] | None = None) -> Faults:
    """Compare a feed with what is wanted of the table, and with the ``right`` rows."""
    rows, wanted = crawl.rows(), set(made.wanted())
    right = rows if right is None else right
    return Faults(
        lost=sorted(wanted - rows.keys()),
        doubled=crawl.doubled(),
        others=sorted(rows.keys() - wanted),
        wrong=[each for each in rows if each in right and rows[each] != right[each]],
    )


def kill_again_and_again(crawl: Crawl, feed: int, kills: int, dice: random.Random) -> list[Start]:
    """Run a job to its end, killed so often at random moments; ``feed`` is how many bytes its rows
    will have."""
    starts = []
    for at in sorted(dice.randrange(max(1, feed * 19 // 20)) for _ in range(kills)):
        starts.append(crawl.start(at, dice.random() * _LATER))
        if not starts[-1].killed:
            return starts
    return [*starts, crawl.start()]
