"""Replays as streams beside json.loads, and their memory: ``python -m benchmarks.replays``.

Replays like Halite's are made from a seed: one of 400 steps and 2 MB as they were in 2020, and one
of 34 MB as they are in 2026, each as it is and in a string, as one of Kaggle's services gives it.
``ReplayReader`` takes them in pieces, gives the replay's bytes, checks all of it and hashes it;
``json.loads`` gets the whole text (for a string: both of them), and does no more. They run in turn,
in one process, by CPU time. Bar: the median ratio is at most 1.2, of each replay. Then processes of
their own read one of 34 MB and one of 300 MB that has more such steps, and compress them. Bar: the
peak of memory grows by less than 8 MB. Other replays, such as real ones, can be named. See
``--help``.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks.processes import ROOT, BenchmarkError, clean_env, measure
from benchmarks.report import surroundings, verdict
from kagglecrawl.kaggle.replays import Compressor, ReplayReader

#: Our CPU seconds must be at most so many times those of json.loads.
BAR = 1.2
#: Bytes by which the peak may grow from the small replay to the large one.
MEMORY_BAR = 8 * 10**6
_PIECE = 1 << 16
_STEPS = 400
_PEAK = Path(__file__).with_name("peak.py")
_TIMEOUT = 600


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and print it; 1 if it broke, or if a bar is missed and ``--strict`` is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replays", description=__doc__)
    add = parser.add_argument
    add("replays", nargs="*", type=Path, help="files of replays to read, too")
    add("--repeats", type=int, default=7, help="of each replay (default: 7)")
    add("--seed", type=int, default=1, help="of the replays (default: 1)")
    add("--small", type=float, default=2, help="MB of the small replay (default: 2)")
    add("--large", type=float, default=34, help="MB of the large one (default: 34)")
    add("--huge", type=float, default=300, help="MB of what memory is measured with (default: 300)")
    add("--strict", action="store_true", help="exit with 1 if a bar is missed")
    # what a process of its own does
    add("--one", type=float, nargs=2, metavar=("MB", "STEPS"), help=argparse.SUPPRESS)
    opts = parser.parse_args(argv)
    if opts.one is not None:
        print(_read_and_compress(made(opts.one[0], opts.seed, int(opts.one[1]))))
        return 0
    print(surroundings(), flush=True)
    try:
        passed = _run(opts)
    except (BenchmarkError, ValueError, OSError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    return 0 if passed or not opts.strict else 1


def _run(opts: argparse.Namespace) -> bool:
    answers = {str(path): path.read_bytes() for path in opts.replays}
    for size in (opts.small, opts.large):
        text = b"".join(made(size, opts.seed, _STEPS))
        answers[f"{size:g} MB"] = text
        answers[f"{size:g} MB in a string"] = json.dumps(
            {"result": {"replay": text.decode()}, "wasSuccessful": True}
        ).encode()
    passed = True
    for name, answer in answers.items():
        passed &= _beside(name, answer, opts.repeats)
    for kind in ("gzip", "zstd"):
        _compress(b"".join(made(opts.small, opts.seed, _STEPS)), kind)
    return _memory(opts) and passed


# -- time ------------------------------------------------------------------------------------------


def _beside(name: str, answer: bytes, repeats: int) -> bool:
    """Ours and json.loads in turn, which must find the same; is the bar reached?"""
    ours: list[float] = []
    loads: list[float] = []
    turns: list[tuple[list[float], Callable[[], int]]]
    turns = [(ours, partial(_read, answer)), (loads, partial(_loads, answer))]
    steps = set()
    for repeat in range(repeats):
        for seconds, read in turns if repeat % 2 else reversed(turns):
            began = time.process_time()
            steps.add(read())
            seconds.append(time.process_time() - began)
    if len(steps) != 1:
        raise BenchmarkError(f"not both have found the same steps in {name}: {sorted(steps)}")
    ratios = [our / its for our, its in zip(ours, loads, strict=True)]
    passed = median(ratios) <= BAR
    print(
        f"{name}, {steps.pop():,} steps: {len(answer) / 1e6 / median(ours):,.0f} MB/s of CPU, "
        f"json.loads {len(answer) / 1e6 / median(loads):,.0f}; its time, at most {BAR} times: "
        f"{median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]: {verdict(passed)}",
        flush=True,
    )
    return passed


def _read(answer: bytes) -> int:
    reader = ReplayReader()
    for at in range(0, len(answer), _PIECE):
        reader.feed(answer[at : at + _PIECE])
    return reader.close()[1].steps


def _loads(answer: bytes) -> int:
    found = json.loads(answer)
    if "result" in found:
        found = json.loads(found["result"]["replay"])
    steps: list[object] = found["steps"]
    return len(steps)


def _compress(data: bytes, kind: Literal["gzip", "zstd"]) -> None:
    began = time.process_time()
    engine = Compressor(kind)
    size = sum(len(engine.write(data[at : at + _PIECE])) for at in range(0, len(data), _PIECE))
    size += len(engine.close())
    seconds = time.process_time() - began
    print(f"{kind}: {len(data) / size:.1f} times less at {len(data) / 1e6 / seconds:,.0f} MB/s")


# -- memory ----------------------------------------------------------------------------------------


def _memory(opts: argparse.Namespace) -> bool:
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="kagglecrawl-replays-") as name:
        for size in (opts.large, opts.huge):
            usage = Path(name) / "usage.txt"
            child = [sys.executable, "-m", "benchmarks.replays", "--seed", str(opts.seed)]
            child += ["--one", str(size), str(_STEPS * size / opts.large)]
            bare = [sys.executable, "-I", "-S", str(_PEAK), str(usage), *child]
            measure(bare, folder=ROOT, env=clean_env(Path(name)), timeout=_TIMEOUT)
            peaks[size] = int(usage.read_text("ascii").split()[2])
    small, large = peaks[opts.large], peaks[opts.huge]
    passed = large - small < MEMORY_BAR
    print(
        f"Peak of a process that reads and compresses one: {small / 1e6:.1f} MB for "
        f"{opts.large:g} MB, {large / 1e6:.1f} MB for {opts.huge:g} MB; more by at most "
        f"{MEMORY_BAR / 1e6:g} MB: {verdict(passed)}"
    )
    return passed


def _read_and_compress(pieces: Iterator[bytes]) -> int:
    """How many bytes a replay is, read and compressed and let go."""
    reader, engine = ReplayReader(), Compressor("gzip")
    size = sum(len(engine.write(reader.feed(piece))) for piece in pieces)
    rest, _ = reader.close()
    return size + len(engine.write(rest)) + len(engine.close())


# -- replays ---------------------------------------------------------------------------------------


def made(megabytes: float, seed: int, steps: int) -> Iterator[bytes]:
    """A replay like Halite's of so many steps and about so many MB, piece by piece."""
    dice = random.Random(seed)
    head = {"configuration": {"episodeSteps": steps, "size": 21}, "name": "halite"}
    tail = {"rewards": [10891, 183650, None, -98], "statuses": ["DONE", "DONE", "ERROR", "DONE"]}
    yield f'{json.dumps(head)[:-1]}, "steps": ['.encode()
    field = [round(dice.random() * 500, 3) for _ in range(441)]
    ships = {f"{number}-1": [dice.randrange(441), dice.randrange(500)] for number in range(40)}
    for step in range(steps):
        yield b", " if step else b""
        yield from _step(step, field, ships, int(megabytes * 1e6 / steps), dice)
    yield f"], {json.dumps(tail)[1:]}".encode()


def _step(
    step: int,
    field: list[float],
    ships: dict[str, list[int]],
    size: int,
    dice: random.Random,
) -> Iterator[bytes]:
    """A step of at least so many bytes: it has as many boards as that takes."""
    agents = [
        {
            "action": {name: dice.choice(("NORTH", "EAST", "SOUTH", "WEST")) for name in ships},
            "reward": dice.randrange(5000),
            "info": {},
            "observation": {"player": number, "step": step},
            "status": "ACTIVE",
        }
        for number in range(4)
    ]
    text = json.dumps(agents)
    yield f'{text[:-2]}, "boards": ['.encode()
    length = len(text)
    while True:
        field[dice.randrange(len(field))] = round(dice.random() * 500, 3)
        for place in ships.values():
            place[0] = (place[0] + dice.choice((1, 20, 21, 440))) % 441
        board = json.dumps({"halite": field, "ships": ships}).encode()
        yield board
        length += len(board)
        if length >= size:
            break
        yield b", "
    yield b"]}]"


if __name__ == "__main__":
    sys.exit(main())
