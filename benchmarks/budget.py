"""What is used of a day's budget by crawls that are killed: ``python -m benchmarks.budget``.

Four crawls at once, each a job of its own, are stopped (Ctrl-C) and killed (SIGKILL) in turn and
started again, five times each. They share what lists, metadata and downloads may cost together in a
day, and a pace, as every crawl of Kaggle has one; the replica counts what really came. Bars: never
more than the budget, at least 99 % of it, and when it is spent all of them say so.

A request that is counted when its process is killed, and has not gone out, is lost to the budget.
At full speed (``--rate 0``) that is about one for each kill.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, clean_env
from benchmarks.report import surroundings, verdict
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World

#: Seconds until a round that does not come to its end is given up.
_TIMEOUT = 600
_SPENT = 4


@dataclass(frozen=True)
class Round:
    """Crawls that ran at the same time: how they ended, and what the replica has counted since
    the first round began."""

    codes: list[int]
    requests: int
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and print it; 1 if it broke, or if a bar is missed and ``--strict`` is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__)
    parser.add_argument("--budget", type=int, default=1000, help="requests a day (default: 1000)")
    parser.add_argument("--rate", type=int, default=50, help="a second; 0: any (default: 50)")
    parser.add_argument("--processes", type=int, default=4, help="at once (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each (default: 5)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    opts = parser.parse_args(argv)
    print(surroundings(), flush=True)
    rounds = []
    try:
        with tempfile.TemporaryDirectory(prefix="kagglecrawl-benchmarks-") as name:
            for each in _rounds(Path(name), opts):
                rounds.append(each)
                ends = ", ".join(map(str, each.codes))
                print(
                    f"Round {len(rounds)}: ended with {ends} after {each.seconds:.1f} s; "
                    f"{each.requests} of {opts.budget} requests so far",
                    flush=True,
                )
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    used = rounds[-1].requests
    print(f"{opts.processes * opts.rounds} starts: {used} of {opts.budget} requests were sent")
    bars = {
        "never more than the budget": used <= opts.budget,
        "at least 0.99 of it": used >= 0.99 * opts.budget,
        "all end with the quota's exit code": set(rounds[-1].codes) == {_SPENT},
    }
    for bar, passed in bars.items():
        print(f"Bar, {bar}: {verdict(passed)}")
    return 0 if all(bars.values()) or not opts.strict else 1


def _rounds(folder: Path, opts: argparse.Namespace) -> Iterator[Round]:
    pace = f", {opts.rate}/second" if opts.rate else ""
    quotas = f"api+download={opts.budget}/day{pace}"
    with Replica(World(seed=1)) as replica:
        for number in range(1, opts.rounds + 1):
            began = time.monotonic()
            with ExitStack() as running:
                crawls = [
                    running.enter_context(_crawl(replica, folder, lane, quotas))
                    for lane in range(opts.processes)
                ]
                if number < opts.rounds:
                    _wait_for(replica, opts.budget * number // opts.rounds, crawls)
                    for lane, crawl in enumerate(crawls):
                        crawl.send_signal(signal.SIGKILL if (lane + number) % 2 else signal.SIGINT)
                codes = [crawl.wait(_TIMEOUT) for crawl in crawls]
            yield Round(codes, _requests(replica), time.monotonic() - began)


@contextmanager
def _crawl(
    replica: Replica, folder: Path, lane: int, quotas: str
) -> Iterator[subprocess.Popen[bytes]]:
    """One crawl of everything, files included; it never outlives the block."""
    own = folder / str(lane)
    own.mkdir(exist_ok=True)
    with (own / "log").open("ab") as log:
        crawl = subprocess.Popen(
            [
                *(sys.executable, "-m", "scrapy", "crawl", "datasets", "-a", "min_usability=0"),
                *("-s", f"JOBDIR={own / 'job'}", "-s", f"WORKSPACE={own}"),
                *("-o", str(own / "rows.jsonl"), "-s", "AUTOTHROTTLE_ENABLED=False"),
                *("-s", f"KAGGLE_QUOTA_FILE={folder / 'quotas.sqlite'}"),
                *("-s", f"KAGGLE_QUOTAS={quotas}"),
            ],
            cwd=ROOT,
            env=clean_env(folder, **replica.crawler_env()),
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C is for us; we end it
        )
        try:
            yield crawl
        finally:
            crawl.kill()
            crawl.wait()


def _wait_for(replica: Replica, requests: int, crawls: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until the replica has had so many."""
    deadline = time.monotonic() + _TIMEOUT
    while _requests(replica) < requests:
        if time.monotonic() > deadline or all(crawl.poll() is not None for crawl in crawls):
            raise BenchmarkError(f"only {_requests(replica)} of {requests} requests ever came")
        time.sleep(0.01)


def _requests(replica: Replica) -> int:
    return sum(sum(counts.values()) for counts in replica.stats()["requests"].values())


if __name__ == "__main__":
    sys.exit(main())
