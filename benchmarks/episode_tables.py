"""Episodes found in Meta Kaggle's tables: `python -m benchmarks.episode_tables`.

Tables of 2 million episodes and 5 million agents are made, of which one competition has 300,000
episodes. A crawl joins them as `scrapy crawl episodes -a source=meta` does, with a job; beside it
csv.reader reads the same files, and does nothing with them. Then the same with a quarter of the
rows: memory must not grow with them. Rates are of CPU time, as ratios within one run. The
exit code is 1 if anything was wrong or a bar is missed. See `--help`.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.episode_tables_made import WANTED, Made, make
from benchmarks.processes import ROOT, BenchmarkError, clean_env, measure

#: Most memory of a crawl, in bytes, and how much more it may have with four times the rows.
MEMORY_BAR, GROWTH_BAR = 300 * 10**6, 20 * 10**6
_PEAK = Path(__file__).with_name("peak.py")
_TIMEOUT = 3600
#: Bytes on disk for an episode of the tables, its job included, and more.
_EPISODE = 600


@dataclass(frozen=True)
class Run:
    """One crawl: seconds and CPU seconds with its start, the process's most memory and the job's
    file in bytes, CPU seconds of each phase."""

    seconds: float
    cpu: float
    peak: int
    job: int
    phases: dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it; returns the exit code."""
    opts = _options(argv)
    folder = Path(tempfile.mkdtemp(prefix="kagglecrawl-episodes-"))
    try:
        return 0 if _run(folder, opts.episodes) else 1
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.episode_tables")
    add = parser.add_argument
    add("--episodes", type=int, default=2_000_000, help="in the table (default: 2,000,000)")
    return parser.parse_args(argv)


def _run(folder: Path, episodes: int) -> bool:
    free = shutil.disk_usage(folder).free
    if free < episodes * _EPISODE:
        raise BenchmarkError(
            f"{folder} has {free >> 20:,} MiB free, and {episodes:,} episodes want "
            f"{episodes * _EPISODE >> 20:,}: name another place by TMPDIR, or use --episodes"
        )
    print(report.surroundings(), flush=True)
    small, large = (make(folder / name, n) for name, n in (("a", episodes // 4), ("b", episodes)))
    fewer = crawl(small, folder / "fewer")
    print(
        f"\n{large.episodes:,} episodes and {large.agents:,} agents, {large.size / 1e6:,.0f} MB; "
        f"{large.wanted:,} episodes are of the competition, {large.above:,} at the watermark\n",
        flush=True,
    )
    alone, run = bare(large, folder), crawl(large, folder / "more")
    print(table(large, alone, run))
    return judge(fewer, run)


# -- contenders ------------------------------------------------------------------------------------


def read(folder: Path) -> float:
    """What csv.reader alone takes for both tables, in CPU seconds."""
    began = time.process_time()
    for name in ("Episodes", "EpisodeAgents"):
        with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            for _ in csv.reader(file):
                pass
    return time.process_time() - began


def bare(made: Made, folder: Path) -> float:
    """The same in a process of its own."""
    result = folder / "alone.txt"
    program = "import pathlib, sys; from benchmarks.episode_tables import read; "
    program += "pathlib.Path(sys.argv[2]).write_text(str(read(pathlib.Path(sys.argv[1]))))"
    command = [sys.executable, "-c", program, str(made.folder), str(result)]
    measure(command, folder=ROOT, env=clean_env(folder), timeout=_TIMEOUT)
    return float(result.read_text("ascii"))


def crawl(made: Made, folder: Path) -> Run:
    """A crawl with a job. Raises ``BenchmarkError`` if it is not handed what it should be."""
    folder.mkdir()
    result, usage = folder / "result.json", folder / "usage.txt"
    arguments = {
        "meta_kaggle": made.folder,
        "number": WANTED,
        "watermark": made.watermark,
        "result": result,
    }
    options = {
        "SPIDER_MODULES": "benchmarks.episode_tables_spider",
        "JOBDIR": folder / "job",
        "WORKSPACE": folder / "workspace",
        "WORKSPACE_MIN_FREE": 0,
    }
    command = [
        *(sys.executable, "-I", "-S", str(_PEAK), str(usage)),
        *(sys.executable, "-m", "scrapy", "crawl", "counting"),
        *(word for pair in arguments.items() for word in ("-a", "{}={}".format(*pair))),
        *(word for pair in options.items() for word in ("-s", "{}={}".format(*pair))),
    ]
    took = measure(command, folder=ROOT, env=clean_env(folder), timeout=_TIMEOUT)
    if not result.exists():
        raise BenchmarkError("the crawl has ended, but not come to the end of the tables")
    told = json.loads(result.read_text("ascii"))
    if told["handed"] != made.above or not told["ordered"] or told["least"] < made.watermark:
        raise BenchmarkError(f"{made.above} episodes should have come, best first; came: {told}")
    job = sum(path.stat().st_size for path in (folder / "job").rglob("*") if path.is_file())
    peak = int(usage.read_text("ascii").split()[2])
    return Run(took.seconds, took.cpu, peak, job, told["phases"])


# -- what is printed -------------------------------------------------------------------------------


def table(made: Made, alone: float, run: Run) -> str:
    """One line for each, and the phases of the crawl."""
    reading = run.phases["Episodes"] + run.phases["EpisodeAgents"]
    lines = [
        f"{'':<26}{'CPU s':>9}{'rows/s':>12}{'csv: 1':>9}",
        f"{'csv.reader alone':<26}{alone:>9.1f}{made.rows / alone:>12,.0f}{1:>9.2f}",
        f"{'a crawl, its start and all':<26}{run.cpu:>9.1f}"
        f"{made.rows / run.cpu:>12,.0f}{run.cpu / alone:>9.2f}",
        f"{'  reading, gathering':<26}{reading:>9.1f}"
        f"{made.rows / reading:>12,.0f}{reading / alone:>9.2f}",
    ]
    parts = {"Episodes": made.episodes, "EpisodeAgents": made.agents, "weighed": made.wanted}
    for name, rows in (parts | {"handed on": made.above}).items():
        seconds = run.phases[name]
        lines.append(f"{'  ' + name:<26}{seconds:>9.1f}{rows / max(seconds, 1e-9):>12,.0f}")
    lines.append(f"It took {run.seconds:.1f} s; the job's file has {run.job / 1e6:,.0f} MB")
    return "\n".join(lines)


def judge(fewer: Run, more: Run) -> bool:
    """Print the memory; are the bars reached?"""
    passed = more.peak < MEMORY_BAR and more.peak - fewer.peak < GROWTH_BAR
    print(
        f"Memory: at most {more.peak / 1e6:.0f} MB (bar {MEMORY_BAR / 1e6:.0f}), "
        f"{(more.peak - fewer.peak) / 1e6:+.0f} MB beside a quarter of the rows "
        f"(bar {GROWTH_BAR / 1e6:+.0f}): {report.verdict(passed)}",
        flush=True,
    )
    return passed


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
