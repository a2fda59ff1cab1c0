"""Whether anything is lost or doubled when crawls are killed: ``python -m benchmarks.kills``.

Crawls of all shapes (tests/killing/shapes.py) are killed with SIGKILL at random passes of every
point (tests/killing/points.py), looked over, and started again, at the project's own pace of
commits. The exit code is 1 if anything at all was wrong. See ``--help``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from kagglecrawl.replica.scales import Scale
from kagglecrawl.replica.world import World
from tests.killing.look import Faults
from tests.killing.points import POINTS, When
from tests.killing.shapes import SHAPES, Shape
from tests.killing.trial import Job, Kill, Outcome

#: What the larger world has more of, for points that requests and rows pass, not commits.
_LONGER = {"small": 1, "medium": 8}
_OF_COMMITS = 3
#: A job is left to end by itself after so many kills.
_MOST_KILLS = 12


@dataclass
class Tally:
    """What all jobs have come to so far; they run in several threads."""

    wanted: int
    kills: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    starts: int = 0
    faults: Faults = field(default_factory=Faults)
    #: Of each job: requests that were answered more often than once, for each of its kills.
    repeated: list[float] = field(default_factory=list)
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def enough(self) -> bool:
        """Are there as many kills as are wanted?"""
        return self.stopped or self.kills.total() >= self.wanted

    def draw(self, dice: random.Random, job: Job, scale: Scale) -> Kill | None:
        """The next kill of a job, rather at points that have had few; None: it is left to end."""
        with self.lock:
            done = {point for point in job.kills if POINTS[point].when is When.END}
            if self.enough or done or job.kills.total() >= _MOST_KILLS:
                return None
            able = [point for point in POINTS if _passes(job, point)]
            weights = [1 / (1 + self.kills[point]) ** 2 for point in able]
        (point,) = dice.choices(able, weights)
        most = POINTS[point].passes
        return Kill.draw(dice, point, most if most <= _OF_COMMITS else most * _LONGER[scale])

    def note(self, job: Job, kill: Kill | None, faults: Faults, outcome: Outcome) -> None:
        """One start and what was found wrong after it; told when something was."""
        with self.lock:
            self.starts += 1
            self.faults.add(faults)
            if outcome.killed and kill is not None:
                self.kills[kill.point] += 1
            if faults:
                print(f"\n{job.shape.name}, {job.folder}, {kill}: {faults}", file=sys.stderr)
            print(f"\r{self.kills.total()} of {self.wanted} kills", end="", file=sys.stderr)

    def ended(self, job: Job) -> None:
        """A job has come to its end."""
        with self.lock:
            self.jobs += 1
            if job.kills:
                self.repeated.append(job.repeated() / job.kills.total())


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it; returns the exit code."""
    opts = _options(argv)
    world = World(seed=1, scale=opts.scale)
    assert world.datasets  # made once, before there are threads
    folder = Path(tempfile.mkdtemp(prefix="kagglecrawl-kills-"))
    tally = Tally(opts.kills)
    print(f"{opts.kills} kills with --seed {opts.seed}:\n")
    with ThreadPoolExecutor(opts.jobs) as workers:
        try:
            list(workers.map(lambda n: _work(n, opts, world, folder, tally), range(opts.jobs)))
        finally:
            tally.stopped = True
    print(file=sys.stderr)
    print(_table(tally))
    if tally.faults:
        print(f"Wrong: {tally.faults}\nWhat is left of those jobs is in {folder}.")
        return 1
    shutil.rmtree(folder)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=200, help="default: 200")
    add("--seed", type=int, default=random.randrange(10_000), help="default: another each time")
    add("--scale", choices=tuple(_LONGER), default="medium", help="240 or 2,000 datasets")
    add("--jobs", type=int, default=2, help="that run side by side (default: 2)")
    return parser.parse_args(argv)


def _work(worker: int, opts: argparse.Namespace, world: World, folder: Path, tally: Tally) -> None:
    """One job after the other until there are enough kills."""
    number = worker
    while not tally.enough:
        dice = random.Random(f"{opts.seed} {number}")
        shape = _larger(SHAPES[number % len(SHAPES)], opts.scale)
        place = folder / str(number)
        place.mkdir()
        with Job(shape, place, opts.seed + number, world) as job:
            right = _run(job, dice, opts.scale, tally)
        if right:
            shutil.rmtree(place)
        number += opts.jobs


def _run(job: Job, dice: random.Random, scale: Scale, tally: Tally) -> bool:
    """Start a job until it ends; False if anything was wrong."""
    right = True
    while True:
        kill = tally.draw(dice, job, scale)
        outcome = job.start(kill)
        faults = job.look() if outcome.killed else job.look_at_end(outcome)
        tally.note(job, kill, faults, outcome)
        right = right and not faults
        if not outcome.killed:
            tally.ended(job)
            return right


def _passes(job: Job, point: str) -> bool:
    """Will the job's next start pass this point, if it lives long enough?"""
    match POINTS[point].when:
        case When.BEGIN:
            return job.starts == 0
        case When.AGAIN:
            return job.starts > 0
        case When.BATCHES:
            return job.shape.feed.batched
    return True


def _larger(shape: Shape, scale: Scale) -> Shape:
    """The same for a larger world."""
    times = _LONGER[scale]
    first, last = shape.pages or (0, 0)
    pages = (first, last * times) if shape.pages else None
    return replace(shape, sample=shape.sample * times, pages=pages)


def _table(tally: Tally) -> str:
    lines = [f"{'kills':>5}  killed at"]
    lines += [f"{tally.kills[name]:>5}  {point.words}" for name, point in POINTS.items()]
    faults, repeated = tally.faults, tally.repeated or [0.0]
    lines += [
        f"{tally.kills.total():>5}  in {tally.starts} starts of {tally.jobs} jobs",
        "",
        f"rows lost {len(faults.lost)}, doubled {len(faults.doubled)}, wrong {len(faults.wrong)}; "
        f"page files wrong {len(faults.pages)}; anything else wrong {len(faults.other)}",
        f"requests made again for each kill: {statistics.mean(repeated):.0f} on average, "
        f"{max(repeated):.0f} in the worst job",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
