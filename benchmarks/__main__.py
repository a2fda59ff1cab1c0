"""What a call costs us, Scrapy alone, and the official clients: `python -m benchmarks`.

A replica runs in a process of its own, so only ratios within one run mean something: the CPU of
one process against another's, measured side by side, repeat by repeat. See `--help`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import flood, report
from benchmarks.contenders import PAGE_ROWS, Bench, Contender, Run
from benchmarks.processes import BenchmarkError, ReplicaProcess
from benchmarks.report import Result, verdict
from kagglecrawl.replica.scales import Scale
from kagglecrawl.replica.world import World


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it.

    Returns the exit code: 0, or 1 if it broke or if a bar is missed and ``--strict`` is given.
    """
    opts = _options(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="kagglecrawl-benchmarks-") as name:
            folder = Path(name)
            with ReplicaProcess(opts.scale, folder) as replica:
                passed = _run(Bench(replica, folder), opts)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    return 0 if passed or not opts.strict else 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--scale", choices=("small", "medium"), default="medium", help="240 or 2,000 datasets")
    add("--pages", type=_count, help=f"pages of {PAGE_ROWS} rows in a run (default: all there are)")
    add("--repeats", type=_count, default=5, help="runs of each contender (default: 5)")
    add("--seconds", type=float, default=200, help="begin no repeat that would end after these")
    add("--cli-calls", type=_count, default=5, help="calls of the kaggle CLI (default: 5)")
    add("--own-pages", type=_count, default=5, help="pages at the crawler's own pace (default: 5)")
    add(
        "--rounds", type=_count, default=5, help="rounds over all datasets to time the replica with"
    )
    add("--strict", action="store_true", help="exit with 1 if a bar is missed")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("write a whole number from 1")
    return int(text)


def _run(bench: Bench, opts: argparse.Namespace) -> bool:
    pages = opts.pages or len(bench.replica.refs) // PAGE_ROWS
    print(report.surroundings())
    flooded = flood.flood(bench.replica, opts.rounds)
    quick_enough = flooded.rate > flood.BAR
    print(
        f"\nReplica, {flooded.replies:,} small replies: {flooded.rate:,.0f} a second of its CPU "
        f"({1000 * flooded.cpu / flooded.replies:.3f} ms each), "
        f"{flooded.replies / flooded.seconds:,.0f} a second of time. "
        f"Bar: over {flood.BAR:,} a second of its CPU: {verdict(quick_enough)}",
        flush=True,  # the rest takes minutes
    )
    contenders = bench.contenders()
    results = _repeat(contenders, pages, opts.repeats, opts.seconds)
    us, base = results[0], results[1]
    started = [r for r, c in zip(results, contenders, strict=True) if c.start_up == c.name]
    results.append(Result("kaggle CLI, one process a call", [bench.cli(opts.cli_calls)]))
    cheap_enough, words = report.judge(report.ratios(us, base))
    print(f"\nMedians [least-most] of {len(us.many)} repeats, start-up taken off:\n")
    print(report.table(results, base))
    print(f"\n{report.start_ups(started)}")
    own = bench.at_its_own_pace(opts.own_pages)
    print(
        f"{us.name} at its own pace (AutoThrottle, DOWNLOAD_DELAY): {own.calls} calls in "
        f"{own.usage.seconds:.1f} s for {own.usage.cpu:.2f} s of CPU, start-up included"
    )
    print(f"Bar: {us.name} at most {report.BAR} times the CPU of {base.name}: {words}")
    print(
        f"(With HTML in {html_share(opts.scale):.0%} of the descriptions. The bare spider converts "
        "nothing: each 10 % of HTML adds about 0.2 to the figure, and at 30 % the bar is missed.)"
    )
    return quick_enough and cheap_enough


def html_share(scale: Scale) -> float:
    """The share of the replica's readable datasets whose description is HTML, 0 to 1."""
    datasets = World(scale=scale).public()
    return sum(each.description.startswith("<") for each in datasets) / len(datasets)


def _repeat(
    contenders: Sequence[Contender], pages: int, repeats: int, seconds: float
) -> list[Result]:
    """Run all of them side by side, in turns first and last, until repeats or time run out."""
    few: dict[str, list[Run]] = {each.name: [] for each in contenders}
    many: dict[str, list[Run]] = {each.name: [] for each in contenders}
    began = time.perf_counter()
    for repeat in range(repeats):
        for contender in contenders if repeat % 2 == 0 else reversed(contenders):
            if contender.start_up == contender.name:
                few[contender.name].append(contender.run(1))
            many[contender.name].append(contender.run(pages))
        spent = time.perf_counter() - began
        if spent + spent / (repeat + 1) > seconds:
            break
    return [Result(each.name, many[each.name], few[each.start_up]) for each in contenders]


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
