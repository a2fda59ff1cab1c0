"""A zip becomes files as its bytes pass: what comes of it, and what of it is fetched."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import Damaged, Unusable
from kagglecrawl.transfer import zips
from kagglecrawl.transfer.members import Choice
from kagglecrawl.transfer.stream import READ_THROUGH
from tests.transfer.archives import STORED, Case, Entry, end64, zipped
from tests.transfer.bench import FOLDER, Bench, files_in
from tests.transfer.stand import Object, Storage, told_of
from tests.transfer.unzipping import BIG, MIXED, MIXED_FILES, MIXED_ZIP, archive_of, many
from tests.transfer.zip_cases import ZIPS

pytestmark = pytest.mark.usefixtures("quick_disk")


# -- what comes of archives ------------------------------------------------------------------------


@pytest.mark.parametrize("case", ZIPS, ids=lambda case: case.name)
def test_good_and_hostile_archives(bench: Bench, case: Case) -> None:
    with Storage(case.data) as storage:
        if case.refused:
            with pytest.raises(Unusable) as caught:
                bench.run(storage, case.choice)
            assert case.refused in str(caught.value)
            assert bench.files() == {}
            return
        bench.run(storage, case.choice)
        names = [name.encode("utf-8", "backslashreplace").decode() for name, _ in case.members]
        reasons = [reason for _, reason in case.members]
        if not bench.staging.exact():
            for number in case.clashing:
                reasons[number] = "collision"
        assert bench.listing() == list(zip(names, reasons, strict=True))
        folders = {name: data for name, data in bench.files().items() if name.endswith("/")}
        assert {name: bench.files()[name] for name in bench.files().keys() - folders} == case.files
        assert bench.proved()


def test_one_request_for_a_small_archive_and_nothing_twice(bench: Bench) -> None:
    with Storage(MIXED_ZIP) as storage:
        meter = bench.run(storage, publish=True)
        assert storage.ranges == [f"-{zips.TAIL}"]
    assert files_in(bench.staging.target) == MIXED_FILES
    assert meter.received == len(MIXED_ZIP)
    assert meter.files == len(MIXED)
    assert meter.again == {}
    tally = bench.job.tally(bench.number)
    assert (tally.files, tally.size) == (len(MIXED_FILES), sum(map(len, MIXED.values())))


@pytest.mark.parametrize("by", [-1, 0, 1, 2, 50, 65_633])
def test_archives_as_large_as_the_tail(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, by: int
) -> None:
    monkeypatch.setattr(zips, "TAIL", 70_000)
    small = len(zipped(Entry("a.csv", b"", STORED)))
    data = BIG[: 70_000 + by - small]
    archive = zipped(Entry("a.csv", data, STORED))
    assert len(archive) == 70_000 + by
    with Storage(archive) as storage:
        meter = bench.run(storage)
        assert storage.ranges == ["-70000"] + ([f"0-{by - 1}"] if by > 0 else [])
    assert bench.files() == {"a.csv": data}
    assert meter.received == len(archive)


def test_a_directory_longer_than_the_tail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "TAIL", 70_000)
    files = many(600)
    with Storage(archive_of(files)) as storage:
        bench.run(storage)
        # the end, the directory's beginning, and all but the end from the first byte on
        assert len(storage.asked) == 3
    assert bench.files() == files
    assert bench.proved()


def test_memory_does_not_depend_on_the_number_of_members(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zips, "TAIL", 70_000)
    monkeypatch.setattr("kagglecrawl.transfer.unzip.PIECE", 1 << 16)
    count = 15_000
    entry = Entry("0123456789/0123456789", b"x", STORED)
    local = entry.local()
    listed = bytearray()
    for number in range(count):
        raw = entry.listed(number * len(local))
        listed += raw[:46] + b"%010d/%010d" % (number % 7, number)
    body = local * count  # none is wanted, so nobody looks at its name here
    last = end64(count, len(listed), len(body), len(body) + len(listed))
    with Storage(body + bytes(listed) + last) as storage:
        tracemalloc.start()
        try:
            bench.run(storage, Choice(only=("nothing",)))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert len(storage.asked) <= 4
    assert bench.job.tally(bench.number).left_out == {"only": count}
    assert peak < 4 << 20  # all members together are more than 5 MiB


# -- what is wanted --------------------------------------------------------------------------------


def gapped() -> tuple[dict[str, bytes], bytes]:
    files = {}
    for number in range(6):
        files[f"{number}.csv"] = BIG[number * 1_000 :][:20_000]
        files[f"{number}.bin"] = BIG[: READ_THROUGH + 400_000]
    return files, zipped(*(Entry(name, data, STORED) for name, data in files.items()))


def test_only_what_is_wanted_is_fetched_where_that_is_worth_it(bench: Bench) -> None:
    files, archive = gapped()
    with Storage(archive) as storage:
        meter = bench.run(storage, Choice(only=("1.csv", "4.*")))
        wanted = ("1.csv", "4.csv", "4.bin")
        assert bench.files() == {name: files[name] for name in wanted}
        assert Counter(bench.members().values()) == {"done": 3, "only": 9}
        assert meter.received < zips.TAIL * 2 + sum(len(files[name]) for name in wanted) + 500_000
        assert len(storage.asked) <= 4


def test_small_gaps_are_read_through_and_the_whole_is_proved(bench: Bench) -> None:
    files = {f"{n}.csv": BIG[:150_000] for n in range(20)}
    archive = zipped(*(Entry(name, data, STORED) for name, data in files.items()))
    thing = Object(archive)
    with Storage(thing) as storage:
        bench.run(storage, Choice(only=("*0.csv", "*5.csv")))
        assert len(storage.asked) == 2
        assert bench.row.crc32c >= 0
    wrong = archive[:400_000] + bytes([archive[400_000] ^ 1]) + archive[400_001:]
    other = Bench(bench.workspace / "other")
    with Storage(wrong) as storage:
        storage.script = lambda asked: told_of(thing, storage.object.answer(asked))
        with pytest.raises(Damaged):
            other.run(storage, Choice(only=("*0.csv", "*5.csv")))
    assert other.files() == {}


@pytest.mark.parametrize("choice", [Choice(only=("*.none",)), Choice(max_bytes=1)])
def test_nothing_is_wanted(bench: Bench, choice: Choice) -> None:
    _, archive = gapped()
    with Storage(archive) as storage:
        bench.run(storage, choice, publish=True)
        assert len(storage.asked) <= 3
    assert files_in(bench.workspace) == {f"{Path(FOLDER).parent}/": b""}
