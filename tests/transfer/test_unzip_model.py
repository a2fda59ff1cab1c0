"""Zips of all kinds, over a line on which all kinds of things happen, by processes that are killed
at any moment: in the end there is what a simple program would have unpacked, and nothing else."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import NoSpace, RetryLater, Unusable
from kagglecrawl.transfer import receiver as receiver_module
from kagglecrawl.transfer import zips
from kagglecrawl.transfer.members import Choice
from kagglecrawl.transfer.stream import READ_THROUGH
from tests.transfer.archives import BZIP2, DEFLATED, STORED, Entry, zipped
from tests.transfer.bench import Bench, Killed, Unlimited, files_in
from tests.transfer.reading import unzipped
from tests.transfer.stand import Asked, Object, Reply, Storage, status

pytestmark = pytest.mark.usefixtures("quick_disk")

#: More are tried by KAGGLECRAWL_SEEDS.
SEEDS = int(os.environ.get("KAGGLECRAWL_SEEDS", "40"))
SIZES = (0, 1, 500, 30_000, 300_000, READ_THROUGH + 50_000)
CHOICES = (
    Choice(),
    Choice(),
    Choice(only=("*.csv",)),
    Choice(only=("a*/*",)),
    Choice(max_bytes=40_000),
)


def some_entries(dice: random.Random) -> list[Entry]:
    """Members, some of them bad in one way or another."""
    entries = []
    for number in range(dice.randint(1, 14)):
        size = dice.choices(SIZES, (1, 1, 5, 5, 3, 1))[0]
        data = dice.randbytes(size // 2) + bytes(size - size // 2)
        folder = dice.choice(("", "a/", "b/c/"))
        entry = Entry(
            f"{folder}{number}.{dice.choice(('csv', 'bin'))}",
            data,
            dice.choice((STORED, STORED, DEFLATED, BZIP2)),
        )
        if dice.random() < 0.15:
            entry = dice.choice(
                (
                    replace(entry, crc32=1),
                    replace(entry, size=size + 1),
                    replace(entry, local_name=b"other"),
                    replace(entry, local_sign=b"PK\0\0"),
                    replace(entry, name="../evil.csv"),
                    replace(entry, flags=1),
                    replace(entry, name=f"{folder}/", data=b"", method=STORED),
                    Entry(f"{folder}sub/", b"", STORED),
                )
            )
        entries.append(entry)
    return entries


class Line:
    """What happens to an answer; nothing more after a while, so that there is an end."""

    def __init__(self, dice: random.Random, storage: Storage) -> None:
        self._dice = dice
        self._storage = storage
        self.troubles = dice.randint(0, 12)

    def __call__(self, asked: Asked) -> Reply | None:
        dice, thing = self._dice, self._storage.object
        if not self.troubles or dice.random() < 0.5:
            return None
        self.troubles -= 1
        span = thing.span(asked) or (0, len(thing.data))
        match dice.randint(0, 7):
            case 0 | 1:
                return thing.cut(asked, dice.randint(0, max(0, span[1] - span[0])))
            case 2 | 3:
                return thing.damaged(asked, dice.randrange(*span) if span[0] < span[1] else 0)
            case 4:
                return status(503)
            case 5:
                return []
            case 6:
                return thing.whole()
        self._storage.object = Object(thing.data, f'"{asked.number}"', hashes=thing.hashes)
        return None


class Fills(Unlimited):
    """A disk that is full now and then."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice
        self.times = dice.choice((0, 0, 3))

    def check(self, size: int = 0) -> None:
        """Sometimes there is no room."""
        if self.times and self._dice.random() < 0.3:
            self.times -= 1
            raise NoSpace("full")


def runs_until_the_end(bench: Bench, storage: Storage, choice: Choice, dice: random.Random) -> None:
    """As the queue does, and as somebody who starts a killed crawl again."""
    for _ in range(60):
        kill_at = dice.choice((None, None, dice.randint(0, 12)))
        count = 0

        def noting(_: str) -> None:
            nonlocal count
            if count == kill_at:  # noqa: B023
                raise Killed
            count += 1

        bench.noting = noting
        try:
            bench.run(storage, choice, publish=dice.random() < 0.9)
        except Killed:
            bench.killed()
        except (RetryLater, Unusable, NoSpace):
            pass
        else:
            bench.noting = lambda _: None
            storage.script = None
            bench.guard = Unlimited()
            bench.run(storage, choice, publish=True)
            return
        assert bench.agrees()
    raise AssertionError("it never gets there")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_in_the_end_everything_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(zips, "TAIL", dice.choice((70_000, 300_000, 1 << 20)))
    monkeypatch.setattr(receiver_module, "_MOST_UNNOTED", dice.choice((1_000, 100_000, 32 << 20)))
    monkeypatch.setattr(receiver_module, "SMALL", dice.choice((0, 1_000, 1 << 18)))
    data = zipped(*some_entries(dice), zip64=dice.random() < 0.2)
    choice = dice.choice(CHOICES)
    hashes = dice.choice((("crc32c", "md5"), ("crc32c",), ("md5",), ()))
    bench = Bench(tmp_path, guard=Fills(dice))
    with Storage(Object(data, hashes=hashes)) as storage:
        storage.script = Line(dice, storage)
        runs_until_the_end(bench, storage, choice, dice)
    expected = unzipped(data, choice)
    found = files_in(bench.staging.target)
    assert {name: content for name, content in found.items() if name[-1] != "/"} == expected.files
    assert bench.listing() == expected.members
    assert bench.proved()
    assert {each.name for each in bench.staging.target.parent.iterdir()} <= {"me_set"}
