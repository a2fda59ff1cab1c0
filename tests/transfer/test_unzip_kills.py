"""Zips over a line that breaks, and in processes that are killed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import Damaged, NoReply, ServerFailed
from kagglecrawl.transfer.files import Files
from kagglecrawl.transfer.source import Stopped
from tests.transfer.archives import STORED, Entry, zipped
from tests.transfer.bench import Bench, Killed, files_in
from tests.transfer.stand import Asked, Object, Reply, Storage, each_in_turn, status
from tests.transfer.unzipping import BIG, MIXED_FILES, MIXED_ZIP, run_until_it_is_there

pytestmark = pytest.mark.usefixtures("quick_disk")


# -- the line --------------------------------------------------------------------------------------


def test_cut_everywhere(bench: Bench) -> None:
    with Storage(MIXED_ZIP) as storage:
        storage.script = lambda asked: storage.object.cut(asked, 70_000)
        run_until_it_is_there(bench, storage)
    assert bench.files() == MIXED_FILES
    assert bench.proved()


@pytest.mark.parametrize("trouble", [lambda _: status(503), lambda _: []])
def test_what_was_had_stays_when_the_line_is_gone(
    bench: Bench, trouble: Callable[[Asked], Reply]
) -> None:
    files = {f"{n}.csv": BIG[n:][:200_000] for n in range(15)}
    archive = zipped(*(Entry(name, data) for name, data in files.items()))
    with Storage(archive) as storage:
        storage.script = lambda asked: (
            None
            if asked.number == 1
            else storage.object.cut(asked, 1_500_000)
            if asked.number == 2
            else trouble(asked)
        )
        with pytest.raises((NoReply, ServerFailed)):
            bench.run(storage)
        done = [name for name, state in bench.members().items() if state == "done"]
        assert len(done) == 7
        assert bench.proved()
        asked = len(storage.asked)
        storage.script = None
        meter = bench.run(storage)
        first = int(storage.ranges[asked + 1].partition("-")[0])
        assert 1_200_000 <= first < 1_500_000  # where the last piece began
        assert meter.files == 15 - 7
    assert bench.files() == files
    assert bench.row.crc32c >= 0  # the whole was proved, over both runs


def test_what_was_had_stays_when_it_is_to_stop(bench: Bench) -> None:
    files = {f"{n}.csv": BIG[n:][:200_000] for n in range(15)}
    archive = zipped(*(Entry(name, data) for name, data in files.items()))
    stop = threading.Event()

    def stopping(asked: Asked) -> Reply:
        begin, body = storage.object.answer(asked)
        yield begin
        yield body[:1_000_000]
        stop.set()
        yield body[1_000_000:]

    with Storage(archive) as storage:
        storage.script = each_in_turn(lambda _: None, stopping)
        with pytest.raises(Stopped):
            bench.run(storage, stop=stop)
        done = [name for name, state in bench.members().items() if state == "done"]
        assert bench.proved()
        assert bench.run(storage).files == 15 - len(done)
    assert bench.files() == files


@pytest.mark.parametrize("when", ["directory", "members", "end"])
def test_another_object_in_its_place(bench: Bench, when: str) -> None:
    """Nothing of the first is among the files of the second."""
    old = {f"{n}.csv": BIG[n:][:100_000] for n in range(30)}
    new = {f"{n}.csv": BIG[50 + n :][:100_000] for n in range(20)}
    first, second = (
        zipped(*(Entry(name, data, STORED) for name, data in files.items())) for files in (old, new)
    )

    def change(asked: Asked) -> Reply:
        storage.object = Object(second, '"two"')
        return storage.object.answer(asked)

    with Storage(first) as storage:
        cut = {"directory": 0, "members": 1_000_000, "end": len(first)}[when]
        storage.script = each_in_turn(
            lambda _: None, lambda asked: storage.object.cut(asked, cut), change
        )
        meter = bench.run(storage)
        if when == "end":  # nobody has seen it
            assert bench.files() == old
            bench.run(storage)
            storage.object = Object(second, '"two"')
            meter = bench.run(storage)
    assert bench.files() == new
    assert bench.proved()
    assert when == "end" or meter.again["changed"] == 1


def test_an_object_that_changes_all_the_time(bench: Bench) -> None:
    def script(asked: Asked) -> Reply:
        storage.object = Object(MIXED_ZIP, f'"{asked.number}"')
        return storage.object.cut(asked, 100_000)

    with Storage(MIXED_ZIP, script) as storage, pytest.raises(Damaged, match="changes"):
        bench.run(storage)
    assert bench.files() == {}


# -- kills -----------------------------------------------------------------------------------------


def killing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """The process is gone when it writes to a file for the so-manieth time."""
    left = after
    write = Files.write

    def writes(self: Files, file: object, data: bytes) -> None:
        nonlocal left
        if left == 0:
            write(self, file, data[: len(data) // 2])  # type: ignore[arg-type]
            raise Killed
        left -= 1
        write(self, file, data)  # type: ignore[arg-type]

    monkeypatch.setattr(Files, "write", writes)


@pytest.mark.parametrize("after", range(0, 24, 3))
@pytest.mark.parametrize("commits", [True, False], ids=["committed", "not committed"])
def test_killed_while_it_writes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, after: int, commits: bool
) -> None:
    monkeypatch.setattr("kagglecrawl.transfer.receiver._MOST_UNNOTED", 150_000)
    bench.store.commit()
    if commits:
        bench.noting = lambda _: bench.store.commit()
    with Storage(MIXED_ZIP) as storage:
        with monkeypatch.context() as patch:
            killing(patch, after)
            try:
                bench.run(storage)
            except Killed:
                bench.killed()
        assert bench.proved()
        bench.run(storage, publish=True)
    assert files_in(bench.staging.target) == MIXED_FILES


def test_killed_before_anything_that_it_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kagglecrawl.transfer.receiver._MOST_UNNOTED", 100_000)
    dice = random.Random(6)
    number, ended = 0, False
    while not ended:
        bench = Bench(tmp_path / f"{number}")
        bench.store.commit()
        count = 0

        def noting(_: str) -> None:
            nonlocal count
            if dice.random() < 0.5:
                bench.store.commit()  # noqa: B023
            if count == number:  # noqa: B023
                raise Killed
            count += 1

        bench.noting = noting
        with Storage(MIXED_ZIP) as storage:
            try:
                bench.run(storage, publish=True)
                ended = True
            except Killed:
                bench.killed()
            assert bench.proved() or ended
            bench.noting = lambda _: None
            bench.run(storage, publish=True)
        assert files_in(bench.staging.target) == MIXED_FILES, number
        assert set(bench.members().values()) == {"done"}
        number += 1
    assert number > 8


def test_killed_between_its_place_and_the_note_of_that(bench: Bench) -> None:
    with Storage(MIXED_ZIP) as storage:
        bench.run(storage, publish=True)
        meter = bench.run(storage, publish=True)
        assert meter.written == 0
    assert files_in(bench.staging.target) == MIXED_FILES


def test_files_that_somebody_has_taken_away_are_had_again(bench: Bench) -> None:
    with Storage(MIXED_ZIP) as storage:
        bench.run(storage)
        for name in ("a.csv", "b/packed.bin", "z.csv"):
            bench.staging.path(name).unlink()
        bench.staging.path("d.bz2").write_bytes(b"shorter")
        assert bench.run(storage).files == 4
    assert bench.files() == MIXED_FILES
    assert bench.proved()
    assert set(bench.members().values()) == {"done"}
