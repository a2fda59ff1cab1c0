"""One job: its crawl is started, killed, looked at and started again, until it ends."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from kagglecrawl.replica.faults import Fault, Rule
from kagglecrawl.replica.faults import Faults as Trouble
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests import warm
from tests.conftest import NO_FILES, QUICK, ROOT, clean_env
from tests.killing.look import MINIMUM, Faults, Truth, of_ledger, of_store
from tests.killing.shapes import Shape, workspace
from tests.warm import Process

#: Seconds after which a crawl is taken to hang.
_TIMEOUT = 120
_POLL = 0.002


@dataclass(frozen=True)
class Kill:
    """The pass of a point at which a process is to die; for "outside", the number of requests
    after which it is killed, and for how many seconds it then lives on."""

    point: str
    passes: int = 1
    pause: float = 0.0

    @classmethod
    def draw(cls, dice: random.Random, point: str, most: int) -> Kill:
        """At any of its passes, up to ``most``."""
        pause = dice.uniform(0, 0.02) if point == "outside" else 0.0
        return cls(point, dice.randint(1, most), pause)

    def __str__(self) -> str:
        return f"{self.point}:{self.passes}"


@dataclass
class Outcome:
    """What came of one start. ``killed`` if it died of its kill; ``code`` is None if it hung."""

    killed: bool
    code: int | None
    log: str


@dataclass
class Job:
    """A job of this shape in this folder, against a replica of its own, for a ``with`` block.

    ``commit_every`` is in seconds; None is the project's own.
    """

    shape: Shape
    folder: Path
    seed: int
    world: World
    commit_every: float | None = None
    #: What goes wrong at the replica, and options of the crawl beyond those of its shape.
    trouble: Trouble | None = None
    options: tuple[str, ...] = ()
    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0

    def __post_init__(self) -> None:
        self.truth = Truth(self.world, self.shape)
        self.replica = Replica(
            self.world,
            faults=self.trouble or trouble(self.world, self.seed),
            behaviour=self.shape.behaviour,
        )
        self.job_folder = self.folder / "job"
        self.shape.feed.prepare(self.folder)

    def __enter__(self) -> Job:
        self.replica.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.replica.stop()

    def start(self, kill: Kill | None = None) -> Outcome:
        """Run the crawl until it ends or dies."""
        self.starts += 1
        outcome = self._run(kill)
        if kill is not None and outcome.killed:
            self.kills[kill.point] += 1
        return outcome

    def look(self, *, ended: bool = False) -> Faults:
        """What is wrong now. Between a kill and the next start, rows and pages may be missing."""
        faults = self.truth.of_pages(self.folder, ended=ended)
        faults.add(of_store(self.job_folder))
        feed = self.shape.feed
        try:
            rows = feed.rows(self.folder) if ended else feed.rows_so_far(self.folder)
        except (AssertionError, ValueError, OSError) as error:
            faults.other.append(f"the feed: {error}")
        else:
            faults.add(self.truth.of_rows(rows, ended=ended))
            if not self.shape.feed.batched and self.shape.name != "csv":  # rows as JSON has them
                path = workspace(self.folder) / "ledger.sqlite"
                faults.add(of_ledger(path, rows, ended=ended))
        return faults

    def look_at_end(self, outcome: Outcome) -> Faults:
        """What is wrong after a start that was not killed: it must have ended the job."""
        faults = self.look(ended=True)
        if outcome.code is None:
            faults.other.append(f"it hung: no end after {_TIMEOUT} s")
        elif outcome.code != 0:
            faults.other.append(f"exit code {outcome.code}")
        if "Traceback" in outcome.log:
            faults.other.append("a traceback in the log")
        faults.other += self._wrong_summary(outcome.log)
        faults.other += [
            f"{path.relative_to(self.folder)} is left over"
            for path in self.folder.rglob("*")
            if path.suffix in {".incomplete", ".rows"}
        ]
        return faults

    def requests(self) -> int:
        """That the replica has answered, whatever the answer."""
        table: dict[str, dict[str, int]] = self.replica.stats()["requests"]
        return sum(sum(by_status.values()) for by_status in table.values())

    def needed(self) -> int:
        """Requests that the replica would have answered, had nobody killed anything."""
        stats = self.replica.stats()
        asked: int = self.truth.asked
        if self.shape.sample:
            by_status = stats["requests"].get("GetDatasetMetadata", {})
            asked = self.shape.sample + by_status.get("403", 0) + by_status.get("404", 0)
        went_wrong: dict[str, int] = stats["faults"]
        return asked + self.truth.pages + 1 + sum(went_wrong.values())

    def repeated(self) -> int:
        """Requests that it has answered well more often than once."""
        table: dict[str, dict[str, int]] = self.replica.stats()["delivered_by_key"]
        return sum(count - 1 for keys in table.values() for count in keys.values())

    # -- behind the scenes ------------------------------------------------------------------------

    def _run(self, kill: Kill | None) -> Outcome:
        env = self.replica.crawler_env()
        if kill is not None and kill.point != "outside":
            env["KILL_AT"] = str(kill)
        if self.commit_every is not None:
            env["COMMIT_EVERY"] = str(self.commit_every)
        command = (
            *(
                "tests.killing.victim",
                "crawl",
                "datasets",
                *QUICK,
                *NO_FILES,
                "-s",
                f"JOBDIR={self.job_folder}",
            ),
            *("-s", f"WORKSPACE={workspace(self.folder)}", *self.shape.options(self.folder)),
            *self.options,
        )
        log = self.folder / f"start-{self.starts}.log"
        with log.open("wb") as output:
            given = clean_env(self.folder, **env)
            child = warm.start(*command, cwd=ROOT, env=given, output=output)
            try:
                if kill is not None and kill.point == "outside":
                    self._kill_after(child, kill)
                code: int | None = child.wait(_TIMEOUT)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                child.kill()
                child.wait()
        text = log.read_text(encoding="utf-8", errors="replace")
        return Outcome(code == -signal.SIGKILL, code, text)

    def _kill_after(self, child: Process, kill: Kill) -> None:
        """Kill it when it has made so many requests, if it does not end before."""
        wanted = self.requests() + kill.passes
        while child.poll() is None:
            if self.requests() >= wanted:
                time.sleep(kill.pause)
                child.kill()  # does nothing if it has ended
                return
            time.sleep(_POLL)

    def _wrong_summary(self, log: str) -> list[str]:
        sums = re.findall(
            r"datasets: (\d+) discovered = (\d+) stored \+ (\d+) skipped \+ (\d+) failed \+ "
            r"(\d+) pending",
            log,
        )
        if not sums:
            return ["no summary in the log"]
        discovered, stored, skipped, failed, pending = map(int, sums[-1])
        listed = discovered if self.shape.sample else self.truth.listed
        right = (listed, self.truth.stored, listed - self.truth.stored, 0, 0)
        if (discovered, stored, skipped, failed, pending) == right:
            return []
        return [f"the summary says {sums[-1]} and not {right}"]


def trouble(world: World, seed: int) -> Trouble:
    """A few requests in a hundred go wrong; some have to wait for a second, and some hold up all.

    Each of those at its first arrival, so that a job meets it once however often it is started.
    """
    refs = [dataset.ref for dataset in world.public(MINIMUM)]
    chosen = random.Random(seed).sample(refs, len(refs) // 12 + 2)
    rules = [
        Rule(Fault("status", 503, retry_after=1), "GetDatasetMetadata", ref, arrivals=(1,))
        for ref in chosen[2:]
    ]
    rules += [
        Rule(Fault("status", 429, retry_after=1), "GetDatasetMetadata", ref, arrivals=(1,))
        for ref in chosen[:2]
    ]
    return replace(Trouble.mild(seed, drip_seconds=0.2), rules=tuple(rules))
