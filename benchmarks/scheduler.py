"""What the durable scheduler costs: one spider, with Scrapy's schedulers and with ours.

The spider is the bare one, storing what it parses, so that next to nothing but the schedulers and
their feeds differs: `python -m benchmarks.scheduler`. The exit code is 1 if it breaks, or if the
bar is missed and `--strict` is given.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.contenders import PAGE_ROWS, Bench, Run
from benchmarks.processes import BenchmarkError, ReplicaProcess

#: Of the requests per second of Scrapy's own scheduler in memory.
BAR = 0.85

_OURS = (
    "-s",
    "SCHEDULER=kagglecrawl.state.scheduler.KaggleScheduler",
    "-s",
    'EXTENSIONS={"scrapy.extensions.feedexport.FeedExporter": null,'
    ' "scrapy.extensions.spiderstate.SpiderState": null}',
)
_BASE = "Scrapy's, in memory"
_DURABLE = "kagglecrawl's, with JOBDIR"
_MODES: dict[str, tuple[tuple[str, ...], bool]] = {
    _BASE: ((), False),
    "Scrapy's, with JOBDIR": ((), True),
    "kagglecrawl's, in memory": (_OURS, False),
    _DURABLE: (_OURS, True),
}


@dataclass(frozen=True)
class Rate:
    """Of one repeat: requests per second and CPU seconds per request, start-up taken off."""

    requests: float
    cpu: float


def compare(bench: Bench, pages: int, repeats: int) -> tuple[str, bool]:
    """A table, and whether ours reaches the bar: the median ratio of repeats side by side."""
    rates: dict[str, list[Rate]] = {name: [] for name in _MODES}
    for repeat in range(repeats):
        for name in _MODES if repeat % 2 == 0 else reversed(_MODES):
            few, many = (_run(bench, name, each) for each in (1, pages))
            calls = many.calls - few.calls
            rates[name].append(
                Rate(
                    calls / (many.usage.seconds - few.usage.seconds),
                    (many.usage.cpu - few.usage.cpu) / calls,
                )
            )
    share = median(_shares(rates[_DURABLE], rates[_BASE]))
    lines = [
        f"{name:28} {median(each.requests for each in found):8,.0f} requests/s  "
        f"{1000 * median(each.cpu for each in found):6.3f} ms of CPU each  "
        f"{median(_shares(found, rates[_BASE])):5.2f} of the first's rate"
        for name, found in rates.items()
    ]
    passed = share >= BAR
    lines.append(
        f"Bar: {_DURABLE}, at least {BAR} of the requests per second of {_BASE}: "
        f"{share:.2f}, {'passed' if passed else 'MISSED'}"
    )
    return "\n".join(lines), passed


def _shares(these: Sequence[Rate], those: Sequence[Rate]) -> list[float]:
    return [this.requests / that.requests for this, that in zip(these, those, strict=True)]


def _run(bench: Bench, name: str, pages: int) -> Run:
    options, durable = _MODES[name]
    job = bench.folder / "scheduler-job"
    shutil.rmtree(job, ignore_errors=True)
    feed = ("-a", "store=1", "-O", str(bench.folder / "scheduler.jsonl"))
    return bench.bare(pages, *feed, *options, *(("-s", f"JOBDIR={job}") if durable else ()))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduler", description=__doc__)
    parser.add_argument("--scale", choices=("small", "medium"), default="medium")
    parser.add_argument("--pages", type=int, help="pages of a run (default: all there are)")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each (default: 7)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if the bar is missed")
    opts = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="kagglecrawl-benchmarks-") as name:
            folder = Path(name)
            with ReplicaProcess(opts.scale, folder) as replica:
                pages = opts.pages or len(replica.refs) // PAGE_ROWS
                table, passed = compare(Bench(replica, folder), pages, opts.repeats)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(table)
    return 0 if passed or not opts.strict else 1


if __name__ == "__main__":
    sys.exit(main())
