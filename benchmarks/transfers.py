"""How fast datasets become files, side by side: ``python -m benchmarks.transfers``.

A replica in a process of its own serves archives by sendfile(2): one file stored, one CSV deflated,
and many small files. Each contender has them on the same disk, in turns, in a process of its own;
what it has got is checked. Rates are of the archive's bytes over the whole process, its start
included. Only ratios within one run mean something. See ``--help``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.processes import BenchmarkError
from benchmarks.report import surroundings, verdict
from benchmarks.transfer_contenders import Bench, Contender, Run
from benchmarks.transfer_objects import TINY, WORDS, Object, serving

#: Of kagglehub's rate, for every object.
BAR = 0.9
#: Most of our memory, in MB.
MEMORY_BAR = 150
#: A run that tells more than what starting costs takes so many times as long.
_LEAST = 1.3


@dataclass
class Result:
    """The runs of one contender for one object, one a repeat; ``start`` are its runs for the
    smallest object, which tell what starting costs, and ``disk`` is its most bytes on disk."""

    name: str
    disk: int = 0
    runs: list[Run] = field(default_factory=list)
    start: list[Run] = field(default_factory=list)

    def net(self) -> list[float]:
        """Seconds of each repeat with what starting costs taken off; empty if that was most of
        them, since its noise would be all there is."""
        start = median(run.seconds for run in self.start)
        if min(run.seconds for run in self.runs) < _LEAST * start:
            return []
        return [run.seconds - start for run in self.runs]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it.

    Returns the exit code: 0, or 1 if it broke or if a bar is missed and ``--strict`` is given.
    """
    opts = _options(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="kagglecrawl-benchmarks-", dir=opts.folder) as name:
            passed = _run(Path(name), opts)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    return 0 if passed or not opts.strict else 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfers", description=__doc__)
    add = parser.add_argument
    add("--size", type=_size, default="1024", help="MiB of the large files (default: 1024)")
    add("--members", type=_count, default=5000, help="small files, of 10 to 30 kB (default: 5000)")
    add("--repeats", type=_count, default=5, help="runs of each contender (default: 5)")
    add("--seconds", type=float, default=240, help="begin no repeat that would end after these")
    add(
        "--folder",
        type=Path,
        help="where 5 GB are free, on the disk to be measured (default: TMPDIR)",
    )
    add("--strict", action="store_true", help="exit with 1 if a bar is missed")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("write a whole number from 1")
    return int(text)


def _size(text: str) -> int:
    return _count(text) << 20


def _run(folder: Path, opts: argparse.Namespace) -> bool:
    hub = importlib.metadata.version("kagglehub")
    print(f"{surroundings()}\nkagglehub {hub}", flush=True)  # the rest takes minutes
    with serving(folder, opts.size, opts.members) as served:
        bench = Bench(served, folder)
        contenders = bench.contenders()
        results = _repeat(bench, contenders, served.objects, opts.repeats, opts.seconds)
    repeats = len(results[TINY][0].runs)
    print(f"\nMedians [least-most] of {repeats} repeats of whole processes:")
    for slug, found in results.items():
        if slug == TINY:
            continue
        wanted = served.objects[slug]
        print(
            f"\n{WORDS[slug]}: {wanted.packed / 1e6:,.0f} MB, "
            f"unpacked {wanted.unpacked / 1e6:,.0f} MB in "
            f"{len(wanted.files) * len(wanted.refs):,}\n"
        )
        print(table(wanted, found))
    print(f"\n{WORDS[TINY]}, which tells what starting costs:\n")
    print(start_ups(results[TINY]))
    print(_NOTES)
    verdicts = judge({slug: found[:2] for slug, found in results.items()})
    print("\n".join(words for _, words in verdicts))
    return all(passed for passed, _ in verdicts)


_NOTES = """\

MB/s are of the archive; "net" is seconds with the start taken off; "safe" is when all was safe on
disk, which kagglecrawl alone waits for; "disk" is the most on it at once, in times of the files."""


def _repeat(
    bench: Bench,
    contenders: Sequence[Contender],
    objects: dict[str, Object],
    repeats: int,
    seconds: float,
) -> dict[str, list[Result]]:
    """Run all of them side by side, in turns first and last, until repeats or time run out."""
    results = {
        slug: [Result(each.name, bench.look(each, wanted)) for each in contenders]
        for slug, wanted in objects.items()
    }
    began = time.perf_counter()
    for repeat in range(repeats):
        for slug, wanted in objects.items():
            turns = list(zip(contenders, results[slug], strict=True))
            for contender, result in turns if repeat % 2 == 0 else reversed(turns):
                result.runs.append(bench.run(contender, wanted))
        spent = time.perf_counter() - began
        if spent + spent / (repeat + 1) > seconds:
            break
    for found in results.values():
        for result, tiny in zip(found, results[TINY], strict=True):
            result.start = tiny.runs
    return results


# -- what came of it ------------------------------------------------------------------------------


def ratios(ours: Result, base: Result, *, net: bool = False) -> list[float]:
    """Our rate as a share of the base's, repeat by repeat: what ran side by side is compared.

    With ``net`` the start is taken off both; empty where that tells nothing.
    """
    if net:
        return [its / our for our, its in zip(ours.net(), base.net(), strict=False)]
    return [its.seconds / our.seconds for our, its in zip(ours.runs, base.runs, strict=True)]


def judge(results: dict[str, Sequence[Result]]) -> list[tuple[bool, str]]:
    """Is each bar reached, and in words, from our result and kagglehub's for each object."""
    verdicts = []
    for slug, (ours, hub) in results.items():
        if slug == TINY:
            continue
        share, net = median(ratios(ours, hub)), ratios(ours, hub, net=True)
        found = f"{share:.2f} (net {_range(net, 2)})"
        passed = share >= BAR
        bar = f"Bar, {WORDS[slug]}: at least {BAR} of {hub.name}'s rate"
        verdicts.append((passed, f"{bar}: {found}: {verdict(passed)}"))
    peak = max(run.peak for ours, _ in results.values() for run in ours.runs) / 1e6
    passed = peak < MEMORY_BAR
    words = f"Bar, memory: less than {MEMORY_BAR} MB at any time: {peak:.0f}: {verdict(passed)}"
    return [*verdicts, (passed, words)]


def table(wanted: Object, results: Sequence[Result]) -> str:
    """One line a contender, ours first: medians, and [least-most] of the repeats."""
    us = results[0]
    lines: list[Sequence[str]] = [
        ("", "MB/s", "seconds", "net", "safe", "CPU s", "peak MB", "disk", "our rate/its")
    ]
    for each in results:
        runs = each.runs
        lines.append(
            (
                each.name,
                _range((wanted.packed / 1e6 / run.seconds for run in runs), 0),
                _range((run.seconds for run in runs), 2),
                f"{median(each.net()):.2f}" if each.net() else "-",
                f"{median(run.safe for run in runs):.2f}",
                _range((run.cpu for run in runs), 2),
                f"{max(run.peak for run in runs) / 1e6:.0f}",
                f"{each.disk / wanted.unpacked:.2f}",
                _range(ratios(us, each), 2),
            )
        )
    return _aligned(lines)


def start_ups(results: Iterable[Result]) -> str:
    """What starting costs, one line a contender, from runs that have next to nothing to do."""
    return _aligned(
        [
            ("", "seconds", "CPU s", "peak MB"),
            *(
                (
                    each.name,
                    _range((run.seconds for run in each.runs), 2),
                    _range((run.cpu for run in each.runs), 2),
                    f"{max(run.peak for run in each.runs) / 1e6:.0f}",
                )
                for each in results
            ),
        ]
    )


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _range(values: Iterable[float], digits: int) -> str:
    found = sorted(values)
    if not found:
        return "-"
    middle = f"{median(found):,.{digits}f}"
    if len(found) == 1:
        return middle
    return f"{middle} [{found[0]:,.{digits}f}-{found[-1]:,.{digits}f}]"


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
