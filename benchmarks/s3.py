"""How fast datasets get from Kaggle to S3, side by side: ``python -m benchmarks.s3``.

A replica in a process of its own serves archives by sendfile(2); two real stores, each in a process
of its own, take them: SeaweedFS and rclone. Contenders bring them there in turns, each in a process
of its own: this crawler, which streams, and what one does without it, kagglehub to a folder of
which every file is then uploaded, by boto3's upload_file or by ``aws s3 cp --recursive``. What is
in the store afterwards is compared with what it should be: by size after each run, by every byte
after the first of each. Rates are of the archive's bytes over the whole process, its start
included; CPU is that of the process and those it starts, and not of the store's or the replica's.
Only ratios within one run mean something. It wants 6 GB in TMPDIR. See ``--help``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.processes import BenchmarkError
from benchmarks.report import surroundings, verdict
from benchmarks.s3_contenders import Bench
from benchmarks.s3_objects import TINY, WORDS, Object, Served, serving
from benchmarks.transfers import Result, ratios
from tests import stores

#: Our rate as a share of the faster of the others, by case.
BARS = {"many": 1.0, "stored": 0.9}
#: Most of our memory, in MiB.
MEMORY_BAR = 200
_MIB, _GIB = 1 << 20, 1 << 30
#: Bytes below which the CPU of starting says nothing of a GiB.
_LEAST = _MIB
#: What is put into a store.
STORES = {"weed": stores.weed, "rclone": stores.rclone}


def main(argv: Sequence[str] | None = None) -> int:
    """Run it all and print it.

    Returns the exit code: 0, or 1 if it broke or if a bar is missed and ``--strict`` is given.
    """
    opts = _options(argv)
    try:
        with tempfile.TemporaryDirectory(prefix="kagglecrawl-benchmarks-") as name:
            passed = _run(Path(name), opts)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    return 0 if passed or not opts.strict else 1


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3", description=__doc__)
    add = parser.add_argument
    add("--size", type=_size, default="1024", help="MiB of the large file (default: 1024)")
    add("--members", type=_count, default=5000, help="small files, of 10 to 30 kB (default: 5000)")
    add("--repeats", type=_count, default=3, help="runs of each contender (default: 3)")
    add("--seconds", type=float, default=1200, help="begin no repeat that would end after these")
    add("--store", choices=STORES, action="append", help="only this one (default: each of them)")
    cases = [case for case in WORDS if case != TINY]
    add("--case", choices=cases, action="append", help="only this one (default: each of them)")
    add("--strict", action="store_true", help="exit with 1 if a bar is missed")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("write a whole number from 1")
    return int(text)


def _size(text: str) -> int:
    return _count(text) << 20


def _run(folder: Path, opts: argparse.Namespace) -> bool:
    versions = ", ".join(f"{name} {_version(name)}" for name in ("kagglehub", "boto3", "awscli"))
    print(f"{surroundings()}\n{versions}", flush=True)  # the rest takes minutes
    cases = [TINY, *(opts.case or [case for case in WORDS if case != TINY])]
    passed = []
    with serving(folder, opts.size, opts.members, cases) as served:
        chosen = opts.store or list(STORES)
        for name in chosen:
            seconds = opts.seconds / len(chosen)
            results = _repeat(name, folder / name, served, opts.repeats, seconds)
            print(report(name, served.objects, results), flush=True)
            verdicts = judge(name, results)
            print("\n".join(words for _, words in verdicts), flush=True)
            passed += [each for each, _ in verdicts]
    return all(passed)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(none)"


def _repeat(
    name: str, folder: Path, served: Served, repeats: int, seconds: float
) -> dict[str, list[Result]]:
    """Run all of them side by side, in turns first and last, until repeats or time run out."""
    folder.mkdir()
    with STORES[name]() as store:
        bench = Bench(served, store, folder)
        contenders = bench.contenders()
        results = {case: [Result(each.name) for each in contenders] for case in served.objects}
        began = time.perf_counter()
        for repeat in range(repeats):
            for case, wanted in served.objects.items():
                turns = list(zip(contenders, results[case], strict=True))
                for contender, result in turns if repeat % 2 == 0 else reversed(turns):
                    result.runs.append(bench.run(contender, wanted, whole=repeat == 0))
            spent = time.perf_counter() - began
            if spent + spent / (repeat + 1) > seconds:
                break
        bench.close()
    for found in results.values():
        for result, tiny in zip(found, results[TINY], strict=True):
            result.start = tiny.runs
    return results


# -- what came of it ------------------------------------------------------------------------------


def judge(store: str, results: Mapping[str, Sequence[Result]]) -> list[tuple[bool, str]]:
    """Is each bar reached, and in words, from the results for each case, ours first."""
    verdicts = []
    for case, bar in BARS.items():
        if case not in results:
            continue
        ours, *others = results[case]
        shares = {each.name: median(ratios(ours, each)) for each in others}
        fastest = min(shares, key=lambda name: shares[name])
        passed = shares[fastest] > bar if bar == 1 else shares[fastest] >= bar
        wanted = "more than the rate" if bar == 1 else f"at least {bar} of the rate"
        found = ", ".join(f"{share:.2f} of {name}'s" for name, share in shares.items())
        words = f"Bar, {store}, {WORDS[case]}: {wanted} of the faster one: {found}"
        verdicts.append((passed, f"{words}: {verdict(passed)}"))
    peak = max(run.peak for ours, *_ in results.values() for run in ours.runs) / _MIB
    passed = peak <= MEMORY_BAR
    words = f"Bar, {store}, memory: at most {MEMORY_BAR} MiB at any time: {peak:.0f}"
    return [*verdicts, (passed, f"{words}: {verdict(passed)}")]


def report(
    store: str, objects: Mapping[str, Object], results: Mapping[str, Sequence[Result]]
) -> str:
    """All the tables of one store: one a case, and what starting costs."""
    repeats = len(results[TINY][0].runs)
    text = [f"\n{store}: medians [least-most] of {repeats} repeats of whole processes"]
    for case, found in results.items():
        wanted = objects[case]
        unpacked = sum(size for size, _ in wanted.files.values())
        about = f"{wanted.packed / 1e6:,.1f} MB, {unpacked / 1e6:,.1f} in {len(wanted.files):,}"
        text.append(f"\n{WORDS[case]}: {about}\n\n{table(wanted, found)}")
    text.append('\nMB/s and GiB are of the archive; "net" is seconds with the start taken off.')
    return "\n".join(text)


def table(wanted: Object, results: Sequence[Result]) -> str:
    """One line a contender, ours first: medians, and [least-most] of the repeats."""
    lines: list[Sequence[str]] = [
        ("", "MB/s", "seconds", "net", "CPU s", "CPU s/GiB", "peak MiB", "our rate/its")
    ]
    for each in results:
        net = each.net() if each.start else []
        per_gib = _GIB / wanted.packed if wanted.packed > _LEAST else 0.0
        lines.append(
            (
                each.name,
                _range((wanted.packed / 1e6 / run.seconds for run in each.runs), 1),
                _range((run.seconds for run in each.runs), 2),
                f"{median(net):.2f}" if net else "-",
                _range((run.cpu for run in each.runs), 2),
                _range((run.cpu * per_gib for run in each.runs), 2) if per_gib else "-",
                f"{max(run.peak for run in each.runs) / _MIB:.0f}",
                _range(ratios(results[0], each), 2),
            )
        )
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
    middle = f"{median(found):,.{digits}f}"
    if len(found) == 1:
        return middle
    return f"{middle} [{found[0]:,.{digits}f}-{found[-1]:,.{digits}f}]"


if __name__ == "__main__":
    # like Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
