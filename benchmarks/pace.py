"""What is used of a rate, and what is refused: ``python -m benchmarks.pace``.

A replica that lets so many requests a second through is crawled three times: told its rate, not
told it, and not told it once more. Bars, of the first: all is delivered, at most 2 % of the
answers are 429, at least 90 % of the rate is used, and none comes while a Retry-After runs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, clean_env
from benchmarks.report import surroundings, verdict
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World

_TIMEOUT = 600


@dataclass(frozen=True)
class Pace:
    """What came of one crawl: answers by status, seconds, and requests that came too early."""

    answers: Counter[str]
    seconds: float
    violations: int
    rows: int

    def used(self, rate: float) -> float:
        """The share of the rate that good answers took; the first one costs no time."""
        good = self.answers.total() - self.answers["429"]
        return (good - 1) / self.seconds / rate

    @property
    def refused(self) -> float:
        """The share of answers that were 429."""
        return self.answers["429"] / self.answers.total()


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and print it; 1 if it broke, or if a bar is missed and ``--strict`` is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pace", description=__doc__)
    parser.add_argument("--rate", type=int, default=5, help="requests a second (default: 5)")
    parser.add_argument("--records", type=int, default=170, help="to be had (default: 170)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    opts = parser.parse_args(argv)
    print(surroundings(), flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="kagglecrawl-benchmarks-") as name:
            paces = _crawls(Path(name), opts.rate, opts.records)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    for words, pace in paces.items():
        print(
            f"{words}: {pace.rows} of {opts.records} records, {pace.answers.total()} answers, "
            f"{pace.refused:.1%} of them 429, {pace.used(opts.rate):.2f} of the rate, "
            f"{pace.violations} while a Retry-After ran"
        )
    told = next(iter(paces.values()))
    bars = {
        "all delivered": told.rows == opts.records,
        "at most 2 % of answers are 429": told.refused <= 0.02,
        "at least 0.9 of the rate": told.used(opts.rate) >= 0.9,
        "none while a Retry-After runs": not any(each.violations for each in paces.values()),
    }
    for bar, passed in bars.items():
        print(f"Bar, {bar}: {verdict(passed)}")
    return 0 if all(bars.values()) or not opts.strict else 1


def _crawls(folder: Path, rate: int, records: int) -> dict[str, Pace]:
    told = ("-s", f"KAGGLE_QUOTAS=api={rate}/second")
    # a far higher rate than it bears: what it bears is to be learnt, and kept
    untold = ("-s", f"KAGGLE_QUOTAS=api={4 * rate}/second")
    with _replica(rate) as replica:
        found = {"told its rate": _crawl(replica, folder / "told", records, told)}
    with _replica(rate) as replica:
        for words in ("not told", "not told, once more"):
            found[words] = _crawl(replica, folder / "untold", records, untold)
    return found


def _replica(rate: int) -> Replica:
    return Replica(World(seed=1), quotas=Quotas(f"api={rate}/second"))


def _crawl(replica: Replica, folder: Path, records: int, options: Sequence[str]) -> Pace:
    folder.mkdir(exist_ok=True)
    rows = folder / "rows.jsonl"
    before, early = _answers(replica)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scrapy", "crawl", "datasets", *options),
            *("-a", "download=false", "-a", "min_usability=0", "-a", f"sample={records}"),
            *("-O", str(rows), "-s", f"WORKSPACE={folder}", "-s", "STATS_DUMP=True"),
        ],
        cwd=ROOT,
        env=clean_env(folder, **replica.crawler_env()),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    after, violations = _answers(replica)
    found = re.search(r"'elapsed_time_seconds': ([\d.]+)", done.stderr)
    if done.returncode or found is None:
        raise BenchmarkError(f"the crawl ended with {done.returncode}:\n{done.stderr[-2000:]}")
    delivered = len(rows.read_text("utf-8").splitlines())
    return Pace(after - before, float(found[1]), violations - early, delivered)


def _answers(replica: Replica) -> tuple[Counter[str], int]:
    """How many by status, and how many came while a Retry-After ran."""
    stats, answers = replica.stats(), Counter[str]()
    for counts in stats["requests"].values():
        answers.update(counts)
    return answers, int(stats["retry_after_violations"])


if __name__ == "__main__":
    sys.exit(main())
