"""From runs to figures, and from figures to a table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.contenders import Run
from benchmarks.processes import Usage

#: Our CPU a call must be at most so many times the bare spider's.
BAR = 1.3
#: A long run has at least so many times the calls of the one that tells what starting costs.
_LEAST = 10


@dataclass(frozen=True)
class Result:
    """The runs of one contender, one a repeat; ``few`` are those that tell what starting costs.

    Without ``few`` the start-up is part of every call, as it is for a command that makes one.
    """

    name: str
    many: Sequence[Run]
    few: Sequence[Run] = ()

    def gross(self) -> list[float]:
        """Seconds of CPU a call in each repeat, start-up shared among the calls."""
        return [run.usage.cpu / run.calls for run in self.many]

    def net(self) -> list[float]:
        """The same with the start-up taken off; empty if there were too few calls to tell."""
        start = self._start()
        if start is None:
            return []
        return [(run.usage.cpu - start.usage.cpu) / (run.calls - start.calls) for run in self.many]

    def rates(self) -> list[float]:
        """Calls a second in each repeat, likewise."""
        start = self._start()
        if start is None:
            return []
        return [
            (run.calls - start.calls) / (run.usage.seconds - start.usage.seconds)
            for run in self.many
        ]

    def _start(self) -> Run | None:
        """The start-up's median, with its calls; None if the noise in it would be all there is."""
        if not self.few:
            return Run(0, Usage(0.0, 0.0))
        calls = self.few[0].calls
        if min(run.calls for run in self.many) < _LEAST * calls:
            return None
        seconds = median(run.usage.seconds for run in self.few)
        return Run(calls, Usage(seconds, median(run.usage.cpu for run in self.few)))


def ratios(ours: Result, base: Result) -> list[float]:
    """CPU a call against the base's, repeat by repeat: what ran side by side is compared.

    Empty if one of the two has too few calls to tell.
    """
    return [our / its for our, its in zip(ours.net(), base.net(), strict=False)]


def judge(ratio: Sequence[float]) -> tuple[bool, str]:
    """Is the bar reached, and in words."""
    if not ratio:
        return False, "not judged: too few calls"
    middle = median(ratio)
    return middle <= BAR, f"{middle:.2f}: {verdict(middle <= BAR)}"


def verdict(passed: bool) -> str:
    """One word."""
    return "PASS" if passed else "FAIL"


def table(results: Sequence[Result], base: Result) -> str:
    """One line a contender: medians, and [least-most] of the repeats."""
    heads = ("", "calls", "calls/s", "CPU ms a call", "with start-up", "CPU, times bare spider's")
    lines = [heads]
    for result in results:
        rates = result.rates()
        lines.append(
            (
                result.name,
                " ".join(f"{count:,}" for count in sorted({run.calls for run in result.many})),
                _range(rates, 1 if rates and rates[0] < 20 else 0),
                _range([1000 * cpu for cpu in result.net()], 2),
                _range([1000 * cpu for cpu in result.gross()], 2),
                _range(ratios(result, base), 2),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def start_ups(results: Sequence[Result]) -> str:
    """What starting costs, in runs of the least calls."""
    parts = [
        f"{result.name} {_range([run.usage.cpu for run in result.few], 2)}" for result in results
    ]
    return f"CPU seconds of a run of {results[0].few[0].calls} calls: " + "; ".join(parts)


def _range(values: Sequence[float], digits: int) -> str:
    if not values:
        return "-"
    middle = f"{median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} [{min(values):,.{digits}f}-{max(values):,.{digits}f}]"


def surroundings() -> str:
    """What ran where."""
    packages = ("kagglecrawl", "scrapy", "twisted", "kaggle", "kagglesdk", "aiohttp")
    versions = [f"{name} {_version(name)}" for name in packages]
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"Python {platform.python_version()}, {', '.join(versions)}\n"
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, load {load}"
    )


def _version(package: str) -> str:
    if package == "kagglecrawl":  # need not be installed
        from kagglecrawl import __version__

        return __version__
    return importlib.metadata.version(package)
