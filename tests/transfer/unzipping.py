"""Zips that several tests unpack, and how they are had in the end."""

from __future__ import annotations

import random

from kagglecrawl.kaggle.errors import RetryLater, Unusable
from kagglecrawl.transfer.members import Choice
from tests.transfer.archives import BZIP2, DEFLATED, GOOD, STORED, Entry, zipped
from tests.transfer.bench import Bench
from tests.transfer.stand import Storage

RANDOM = random.Random(4)
BIG = RANDOM.randbytes(3_000_000)
#: Methods of all kinds, folders, sizes around nothing.
MIXED = {
    "a.csv": GOOD,
    "b/": b"",
    "b/stored.bin": BIG[:300_000],
    "b/packed.bin": bytes(200_000) + BIG[:100_000],
    "c/empty.csv": b"",
    "d.bz2": BIG[:50_000],
    "z.csv": GOOD * 3,
}
METHODS = {"b/stored.bin": STORED, "d.bz2": BZIP2, "z.csv": STORED}
MIXED_ZIP = zipped(
    *(Entry(name, data, METHODS.get(name, DEFLATED)) for name, data in MIXED.items())
)
MIXED_FILES = {name: data for name, data in MIXED.items() if name != "b/"}
TWO = {"a.csv": GOOD, "data/b.csv": GOOD * 2}
TWO_ZIP = zipped(Entry("a.csv", GOOD, STORED), Entry("data/b.csv", GOOD * 2))


def many(count: int) -> dict[str, bytes]:
    return {f"folder/{n:05}-{'x' * 200}.csv": b"%d" % n for n in range(count)}


def archive_of(files: dict[str, bytes], method: int = STORED) -> bytes:
    return zipped(*(Entry(name, data, method) for name, data in files.items()))


def run_until_it_is_there(bench: Bench, storage: Storage, choice: Choice | None = None) -> int:
    """As the queue does; the number of runs."""
    for number in range(1, 6):
        try:
            bench.run(storage, choice)
        except (RetryLater, Unusable):
            continue
        return number
    raise AssertionError("it never gets there")
