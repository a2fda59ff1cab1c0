"""The best episodes under a budget: `python -m benchmarks.episodes`.

Over leagues like the real Halite's (one a seed), and budgets of 100, 300 and 1,000 requests, the
sum of the priorities of the replays fetched by: our crawl, as a process of its own against the
replica as of 2020; the seed's algorithm, its bugs fixed; and an oracle that knows all games but
pays one request for each team that it lists and each replay. All see the same listings. The oracle
is a greedy choice with a local search; how far it may be from the best that is possible is told.
Bars: ours never below the seed's, and in the median at least 0.9 of the oracle's at each budget.
The exit code is 1 if one is missed, or if a crawl has made more requests than it may. It needs
Linux. See `--help`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.episodes_case import Case
from benchmarks.processes import ROOT, BenchmarkError, clean_env

#: Of the oracle's sum, at least so much is ours in the median.
BAR = 0.9
#: Sums of the same numbers in another order differ by that much.
_SAME = 1e-9
_POLL = 0.1
#: Seconds that a league's process has to end its crawl.
_LAST = 20.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it; returns the exit code."""
    opts = _options(argv)
    print(report.surroundings(), flush=True)
    seeds = range(opts.first, opts.first + opts.seeds)
    began = time.monotonic()
    try:
        cases = run(seeds, opts.teams, opts.budgets, opts.jobs)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(f"\n{len(seeds)} leagues of {opts.teams:,} teams, {time.monotonic() - began:.0f} s\n")
    print(table(cases))
    faults = judge(cases)
    print("".join(f"\n{fault}" for fault in faults))
    print(
        f"Never below the seed's, and at each budget a median of {BAR:g} of the oracle's or more: "
        f"{report.verdict(not faults)}"
    )
    return 1 if faults else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.episodes", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=20, help="how many leagues (default: 20)")
    add("--first", type=int, default=1, help="the first one's seed (default: 1)")
    add("--budgets", type=int, nargs="+", default=[100, 300, 1000], help="of requests")
    add("--teams", type=int, default=1133, help="of a league (default: 1,133, as in reality)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="leagues at once (default: cores)")
    return parser.parse_args(argv)


def run(seeds: Iterable[int], teams: int, budgets: Sequence[int], jobs: int) -> list[Case]:
    """The cases of all leagues, each league in a process of its own.

    Raises ``BenchmarkError`` with a process's last words if it fails.
    """
    waiting = list(seeds)
    running: list[_League] = []
    cases: list[Case] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        while waiting or running:
            while waiting and len(running) < jobs:
                league = _League(waiting.pop(0), teams, budgets, folder)
                stack.callback(league.end)
                running.append(league)
            time.sleep(_POLL)
            for league in [each for each in running if each.is_over()]:
                running.remove(league)
                found = league.cases()
                cases += found
                print(" ".join(f"{league.seed}/{c.budget}: {c.of_oracle:.3f}" for c in found))
                sys.stdout.flush()
    return sorted(cases, key=lambda case: (case.budget, case.seed))


class _League:
    """The process that makes one league's cases."""

    def __init__(self, seed: int, teams: int, budgets: Sequence[int], folder: Path) -> None:
        self.seed = seed
        self._rows, self._words = folder / f"{seed}.jsonl", folder / f"{seed}.log"
        with self._rows.open("wb") as rows, self._words.open("wb") as words:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.episodes_case"),
                    *map(str, (seed, teams, *budgets)),
                ],
                cwd=ROOT,
                env=clean_env(folder),
                stdin=subprocess.DEVNULL,
                stdout=rows,
                stderr=words,
                start_new_session=True,  # a Ctrl-C is for us; we end it
            )

    def is_over(self) -> bool:
        """Has it ended?"""
        return self._process.poll() is not None

    def cases(self) -> list[Case]:
        """What it has found. Raises ``BenchmarkError`` if it failed."""
        if self._process.returncode:
            words = self._words.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise BenchmarkError(
                f"league {self.seed} ended with {self._process.returncode}: {words}"
            )
        return [Case.read(line) for line in self._rows.read_text("utf-8").splitlines()]

    def end(self) -> None:
        """End it, and it its crawl."""
        if not self.is_over():
            self._process.terminate()
            try:
                self._process.wait(_LAST)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def table(cases: Sequence[Case]) -> str:
    """One line a budget; ratios are of the same league."""
    lines = [
        f"{'budget':>6}{'ours by oracle':>22}{'ours by seed':>22}{'seed by oracle':>22}"
        f"{'oracle by bound':>17}{'listings of ours, seed, oracle':>33}{'replays of them':>20}"
    ]
    for budget in sorted({case.budget for case in cases}):
        found = [case for case in cases if case.budget == budget]
        all_three = [(case.ours, case.seeds, case.oracle) for case in found]
        listings = [tuple(each.listings for each in three) for three in all_three]
        replays = [tuple(each.replays for each in three) for three in all_three]
        lines.append(
            f"{budget:>6}{_range(case.of_oracle for case in found):>22}"
            f"{_range(case.of_seed for case in found):>22}"
            f"{_range(case.seeds.value / case.oracle.value for case in found):>22}"
            f"{min(case.oracle.value / case.bound for case in found):>17.4f}"
            f"{_middles(listings):>33}"
            f"{_middles(replays):>20}"
        )
    return "\n".join([*lines, "Ratios are medians [least-most]; listings and replays are medians."])


def judge(cases: Sequence[Case]) -> list[str]:
    """Which bars are missed, in words."""
    faults = [
        f"League {case.seed}, budget {case.budget}: ours is {case.ours.value:,.0f} with "
        f"{case.ours.listings} listings, and the seed's {case.seeds.value:,.0f}"
        for case in cases
        if case.ours.value < case.seeds.value * (1 - _SAME)
    ]
    for budget in sorted({case.budget for case in cases}):
        middle = median(case.of_oracle for case in cases if case.budget == budget)
        if middle < BAR:
            faults.append(f"Budget {budget}: in the median {middle:.3f} of the oracle's")
    return faults


def _range(values: Iterable[float]) -> str:
    found = list(values)
    return f"{median(found):.3f} [{min(found):.3f}-{max(found):.3f}]"


def _middles(rows: Sequence[tuple[int, ...]]) -> str:
    return " ".join(f"{median(column):g}" for column in zip(*rows, strict=True))


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
