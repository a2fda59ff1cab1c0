"""Large tables beside pandas and polars, and under SIGKILL: `python -m benchmarks.tables`.

A synthetic Competitions.csv of Meta Kaggle's (5 million rows and some 3.9 GB by default) is made.
One of a hundred of its rows is selected: by the batches that our crawls read, by the csv module
alone, by pandas in chunks and by polars streamed, which must all find the same. Then a whole crawl
makes the records of these rows, once left alone, and once killed at random moments and gone on
with. Bars: memory, and no row lost, doubled or changed. Rates are told as ratios within one run.
The exit code is 1 if anything was wrong or a bar is missed. It needs Linux. See `--help`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks import report, tables_select
from benchmarks.processes import ROOT, BenchmarkError, clean_env, measure
from benchmarks.tables_crawl import Crawl, Faults, Start, kill_again_and_again, look
from benchmarks.tables_made import Made, make

#: Most memory of a crawl, in bytes.
MEMORY_BAR = 300 * 10**6
#: Of pandas and polars, which are no requirement of ours.
_PACKAGES = ("pandas>=3,<4", "polars>=1.30,<3")
_NAMES = {"ours": "kagglecrawl", "csv": "csv.reader alone", "pandas": "pandas", "polars": "polars"}
_PEAK = Path(__file__).with_name("peak.py")
_TIMEOUT = 1800
#: Where the table is.
_PLACE = "meta-kaggle"
_MIB = 1 << 20
#: Bytes that a row of the table takes, and more.
_ROW = 1000


@dataclass(frozen=True)
class Run:
    """One selection: seconds and CPU seconds of it, the process's most memory in bytes, and how
    many characters the cells have that it found."""

    seconds: float
    cpu: float
    peak: int
    characters: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it; returns the exit code."""
    opts = _options(argv)
    folder = Path(tempfile.mkdtemp(prefix="kagglecrawl-tables-"))
    try:
        passed = _run(folder, opts)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        passed = False
    except BaseException:  # Ctrl-C
        shutil.rmtree(folder)
        raise
    if passed:
        shutil.rmtree(folder)
        return 0
    shutil.rmtree(folder / _PLACE, ignore_errors=True)  # of gigabytes, and soon made again
    print(f"What is left is in {folder}.")
    return 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    add = parser.add_argument
    add("--rows", type=int, default=5_000_000, help="of the table (default: 5,000,000)")
    add("--repeats", type=int, default=3, help="of each selection (default: 3; 0: none)")
    add("--kills", type=int, default=5, help="of a crawl (default: 5; -1: no crawls)")
    add("--seed", type=int, default=random.randrange(10_000), help="default: another each time")
    add(
        "--packages",
        type=Path,
        default=Path(sys.prefix) / "contenders",
        help="environment of pandas and polars, made if it is not there (default: in our own)",
    )
    return parser.parse_args(argv)


def _run(folder: Path, opts: argparse.Namespace) -> bool:
    free = shutil.disk_usage(folder).free
    if free < opts.rows * _ROW:
        raise BenchmarkError(
            f"{folder} has {free / _MIB:,.0f} MiB free, and a table of {opts.rows:,} rows wants "
            f"{opts.rows * _ROW / _MIB:,.0f}: name another place by TMPDIR, or use --rows"
        )
    print(report.surroundings(), flush=True)
    place = folder / _PLACE
    place.mkdir()
    made = make(place, opts.rows)
    print(
        f"\nA table of {made.rows:,} rows and {made.size / 1e9:.2f} GB, of which "
        f"{len(list(made.wanted())):,} rows are wanted; --seed {opts.seed}\n",
        flush=True,
    )
    if opts.repeats > 0:
        results = select(made, folder, opts.packages, opts.repeats)
        print(f"Selecting them, medians [least-most] of {opts.repeats}:\n{table(made, results)}\n")
    if opts.kills < 0:
        return True
    return _crawls(made, folder, opts.kills, random.Random(opts.seed))


# -- selections ------------------------------------------------------------------------------------


def select(made: Made, folder: Path, packages: Path, repeats: int) -> dict[str, list[Run]]:
    """Every contender in turns. Raises ``BenchmarkError`` if they do not all find the same."""
    pythons = {"ours": sys.executable, "csv": sys.executable}
    if (python := environment(packages, folder)) is not None:
        pythons |= {"pandas": python, "polars": python}
    results: dict[str, list[Run]] = {who: [] for who in pythons}
    for repeat in range(repeats):
        for who in pythons if repeat % 2 == 0 else reversed(pythons):
            results[who].append(_select(who, pythons[who], made, folder))
    found = {who: {run.characters for run in runs} for who, runs in results.items()}
    if len(set().union(*found.values())) > 1:
        raise BenchmarkError(f"not all have found the same cells; their characters: {found}")
    return results


def environment(packages: Path, folder: Path) -> str | None:
    """The Python of an environment that has pandas and polars. None if there is none and it cannot
    be made, which is said."""
    python = packages / "bin" / "python"
    steps = [
        [sys.executable, "-m", "venv", str(packages)],
        [str(python), "-m", "pip", "install", "--quiet", *_PACKAGES],
    ]
    probe = [str(python), "-c", "import pandas, polars"]
    try:
        if (
            python.exists()
            and subprocess.run(probe, capture_output=True, check=False).returncode == 0
        ):
            return str(python)
        for step in steps:
            # not a clean environment: where packages come from is the user's affair
            subprocess.run(step, cwd=folder, capture_output=True, check=True, timeout=_TIMEOUT)
    except (OSError, subprocess.SubprocessError):
        what = " and ".join(_PACKAGES)
        print(f"pandas and polars are left out: {packages} could not be made with {what}\n")
        return None
    return str(python)


def _select(who: str, python: str, made: Made, folder: Path) -> Run:
    """One process. Raises ``BenchmarkError`` if it finds anything else than what is wanted."""
    usage, result = folder / "usage.txt", folder / "result.txt"
    script = Path(tables_select.__file__)
    ours = who in {"ours", "csv"}
    # -P: the script's neighbours are not to be imported in place of what they are called like
    how = ("-m", f"benchmarks.{script.stem}") if ours else ("-P", str(script))
    since = f"{made.since}T00:00:00Z"
    command = [python, *how, who, str(made.path), since, str(result)]
    bare = [sys.executable, "-I", "-S", str(_PEAK), str(usage), *command]
    measure(bare, folder=ROOT, env=clean_env(folder), timeout=_TIMEOUT)
    first, *ids = result.read_text("ascii").splitlines()
    seconds, cpu, read, characters = first.split()
    wanted = list(map(str, made.wanted()))
    if ids != wanted or int(read) not in {0, made.rows}:
        raise BenchmarkError(
            f"{who} looked at {read} rows and found {len(ids)}, not {made.rows} and {len(wanted)}"
        )
    peak = int(usage.read_text("ascii").split()[2])
    return Run(float(seconds), float(cpu), peak, int(characters))


def table(made: Made, results: dict[str, list[Run]]) -> str:
    """One line a contender; ratios are of the same repeat."""
    lines = [
        f"{'':<18}{'rows/s':>12}{'MB/s':>8}{'seconds':>22}{'CPU s':>8}{'MiB':>8}  rows/s, ours:1"
    ]
    for who, runs in results.items():
        seconds = [run.seconds for run in runs]
        ratios = [
            ours.seconds / run.seconds for ours, run in zip(results["ours"], runs, strict=True)
        ]
        middle = median(seconds)
        lines.append(
            f"{_NAMES[who]:<18}{made.rows / middle:>12,.0f}{made.size / 1e6 / middle:>8,.0f}"
            f"{_range(seconds, 1):>22}{median(run.cpu for run in runs):>8.1f}"
            f"{max(run.peak for run in runs) / _MIB:>8,.0f}  {_range(ratios, 2)}"
        )
    return "\n".join(lines)


def _range(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}-{max(values):.{digits}f}]"


# -- crawls ----------------------------------------------------------------------------------------


def _crawls(made: Made, folder: Path, kills: int, dice: random.Random) -> bool:
    """One that is left alone, and one that is killed; are the bars reached?"""
    alone = Crawl(folder / "alone", made)
    whole = alone.start()
    faults = look(alone, made)
    passed = judge("A crawl of it", [whole], faults, made)
    if kills and not faults:
        killed = Crawl(folder / "killed", made)
        starts = kill_again_and_again(killed, whole.feed, kills, dice)
        came = sum(start.killed for start in starts)
        words = f"The same, {came} of {kills} kills in time"
        passed &= judge(words, starts, look(killed, made, alone.rows()), made)
    return passed


def judge(what: str, starts: Sequence[Start], faults: Faults, made: Made) -> bool:
    """Print what crawls came to; are the bars reached?"""
    peak = max(start.peak for start in starts)
    seconds = sum(start.seconds for start in starts)
    passed = peak < MEMORY_BAR and not faults
    print(
        f"{what}: {seconds:.1f} s ({made.rows / seconds:,.0f} rows of the table a second), "
        f"{sum(start.cpu for start in starts):.1f} s of CPU, at most {peak / 1e6:.0f} MB of memory "
        f"(bar {MEMORY_BAR / 1e6:.0f}); {faults}: {report.verdict(passed)}",
        flush=True,
    )
    return passed


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
