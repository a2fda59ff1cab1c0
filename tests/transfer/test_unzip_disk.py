"""Zips and what is on the disk already: the middle of a member, links, and no room."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import NoSpace
from kagglecrawl.transfer import staging
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.members import Choice
from tests.transfer.archives import GOOD, STORED, Entry, zipped
from tests.transfer.bench import Bench, Killed
from tests.transfer.stand import Object, Storage
from tests.transfer.unzipping import BIG, MIXED, MIXED_FILES, MIXED_ZIP, archive_of

pytestmark = pytest.mark.usefixtures("quick_disk")


# -- in the middle of a stored member --------------------------------------------------------------

STORED_ZIP = zipped(
    Entry("before.csv", BIG[:400_000]), Entry("big.bin", BIG, STORED), Entry("after.csv")
)
AT = STORED_ZIP.index(b"big.bin") - 30
STORED_FILES = {"before.csv": BIG[:400_000], "big.bin": BIG, "after.csv": GOOD}


def link_out(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_bytes(b"p" * 2_000_000)
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (lambda path: path.write_bytes(BIG[:1_500_000]), 1_500_000),
        (lambda path: path.write_bytes(BIG[: 1 << 20]), 1 << 20),
        (lambda path: path.write_bytes(BIG[: (1 << 20) - 1]), 0),
        (lambda path: path.write_bytes(b""), 0),
        (lambda path: path.write_bytes(BIG), len(BIG)),
        (lambda path: path.write_bytes(BIG + b"more" * 1_000), len(BIG)),
        (lambda path: path.write_bytes(b"other" * 400_000), None),
        (lambda path: path.write_bytes(BIG[:1_999_999] + b"?"), None),
        (lambda path: path.write_bytes(bytes(5_000_000)), None),
        (lambda path: None, 0),
    ],
    ids=["part", "just", "too small", "empty", "all", "more", "other", "last", "larger", "none"],
)
@pytest.mark.parametrize("hashes", [("crc32c",), ("md5",)])
def test_going_on_in_the_middle(
    bench: Bench, make: Callable[[Path], object], kept: int | None, hashes: tuple[str, ...]
) -> None:
    with Storage(Object(STORED_ZIP, hashes=hashes)) as storage:
        bench.seen(storage)
        make(bench.staging.path("big.bin"))
        before = len(storage.asked)
        meter = bench.run(storage)
        firsts = [int(each.partition("-")[0] or -1) for each in storage.ranges[before + 1 :]]
    assert bench.files() == STORED_FILES
    assert bench.proved()
    assert set(bench.members().values()) == {"done"}
    if kept is None:  # what was there was wrong, so the member is read again
        assert meter.again == {"damaged_member": 1}
    else:
        assert meter.again == {}
    if kept and kept < len(BIG):
        assert AT + 37 + kept in firsts


def test_a_folder_in_the_place_of_a_file(bench: Bench) -> None:
    with Storage(STORED_ZIP) as storage:
        bench.seen(storage)
        bench.staging.path("big.bin").mkdir()
        bench.run(storage)
    assert bench.members()["big.bin"] == "collision"


@pytest.mark.parametrize("name", ["before.csv", "big.bin"])
def test_a_link_in_the_place_of_a_file_is_not_followed(bench: Bench, name: str) -> None:
    with Storage(STORED_ZIP) as storage:
        bench.seen(storage)
        link_out(bench.staging.path(name))
        bench.run(storage)
    outside = bench.staging.folder.parent / "outside"
    assert outside.read_bytes() == b"p" * 2_000_000
    assert set(bench.members().values()) <= {"done", "collision"}


def test_a_header_that_is_damaged_when_it_is_gone_on_with(bench: Bench) -> None:
    """No byte is fetched but those of the member, its header again, and what follows."""
    archive = zipped(Entry("big.bin", BIG, STORED), Entry("after.bin", BIG[::-1], STORED))
    with Storage(archive) as storage:
        bench.seen(storage)
        bench.staging.path("big.bin").write_bytes(BIG[:2_000_000])
        before = len(storage.asked)
        storage.script = lambda asked: (
            storage.object.damaged(asked, 30) if asked.number == before + 2 else None
        )
        meter = bench.run(storage)
        for each in storage.ranges[before + 1 :]:
            first, _, last = each.partition("-")
            assert int(first) <= int(last)
    assert meter.again in ({"damaged_member": 1}, {})
    assert bench.files() == {"big.bin": BIG, "after.bin": BIG[::-1]}


def test_a_deflated_member_begins_anew(bench: Bench) -> None:
    archive = zipped(Entry("big.bin", BIG))
    with Storage(archive) as storage:
        bench.seen(storage)
        bench.staging.path("big.bin").write_bytes(BIG[:2_000_000])
        bench.run(storage)
    assert bench.files() == {"big.bin": BIG}


def test_overlaps_are_seen_in_a_later_run_as_well(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The member that lies in another one is as whole as can be."""
    inner = Entry("inner.csv", GOOD, STORED)
    outer = Entry("outer.csv", inner.local() + GOOD, STORED)
    hidden = Entry("inner.csv", GOOD, STORED, offset=30 + len("outer.csv"))
    body = outer.local()
    directory = outer.listed(0) + hidden.listed(0)
    archive = zipped(outer)[: len(body)] + directory
    archive += zipped()[:8] + b"\2\0\2\0" + len(directory).to_bytes(4, "little")
    archive += len(body).to_bytes(4, "little") + b"\0\0"
    monkeypatch.setattr("kagglecrawl.transfer.unzip.BATCH", 1)
    monkeypatch.setattr("kagglecrawl.transfer.receiver._LARGE", 0)  # each is noted before the next

    noted: list[str] = []

    def noting(word: str) -> None:
        bench.store.commit()
        noted.append(word)
        if noted.count("done") == 2:
            raise Killed

    with Storage(archive) as storage:
        bench.noting = noting
        with pytest.raises(Killed):
            bench.run(storage)
        bench.killed()
        assert bench.members() == {"outer.csv": "done", "inner.csv": "open"}
        bench.noting = lambda _: None
        bench.run(storage)
    assert bench.members() == {"outer.csv": "done", "inner.csv": "overlap"}


# -- room ------------------------------------------------------------------------------------------


class Disk(DiskGuard):
    """So many bytes are free."""

    def __init__(self, free: int) -> None:
        super().__init__(Path("/"), 0)
        self.free = free

    def _free(self) -> int:
        return self.free

    def spend(self, key: str, size: int) -> None:
        super().spend(key, size)
        self.free -= size


def test_no_byte_is_written_where_there_is_no_room(bench: Bench) -> None:
    bench.guard = Disk(sum(map(len, MIXED.values())) - 1)
    with Storage(MIXED_ZIP) as storage:
        with pytest.raises(NoSpace):
            bench.run(storage)
        assert bench.files() == {}
        bench.guard = Disk(sum(map(len, MIXED.values())))
        bench.run(storage)
    assert bench.files() == MIXED_FILES


def test_what_is_left_out_needs_no_room(bench: Bench) -> None:
    bench.guard = Disk(len(GOOD))
    with Storage(MIXED_ZIP) as storage:
        bench.run(storage, Choice(only=("a.csv",)))
    assert bench.files() == {"a.csv": GOOD}


def test_what_is_there_already_needs_no_room(bench: Bench) -> None:
    archive = zipped(Entry("big.bin", BIG, STORED), Entry("after.csv", BIG[:400_000]))
    with Storage(archive) as storage:
        bench.seen(storage)
        bench.staging.path("big.bin").write_bytes(BIG[:2_900_000])
        bench.guard = Disk(len(BIG) - 2_900_000 + 400_000)
        bench.run(storage)
    assert bench.files() == {"big.bin": BIG, "after.csv": BIG[:400_000]}


def test_the_disk_becomes_full_meanwhile_and_then_there_is_room(bench: Bench) -> None:
    class Other(Disk):
        """Somebody else writes as well."""

        def spend(self, key: str, size: int) -> None:
            super().spend(key, size)
            self.free -= 2 * size

    files = {f"{n}.bin": BIG for n in range(12)}
    archive = zipped(*(Entry(name, data, STORED) for name, data in files.items()))
    bench.guard = Other(len(archive))
    with Storage(archive) as storage:
        with pytest.raises(NoSpace):
            bench.run(storage)
        done = [name for name, state in bench.members().items() if state == "done"]
        assert done
        assert bench.proved()
        bench.guard = Disk(len(archive))
        meter = bench.run(storage)
        assert meter.files == 12 - len(done)
    assert bench.files() == files


SMALL = {f"{n}.csv": BIG[n:][:1_000] for n in range(300)}


def test_a_disk_that_takes_a_part_of_a_small_file(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    parts: list[int] = []

    def taking(descriptor: int, data: memoryview) -> int:
        parts.append(len(data))
        return write(descriptor, data[:400])

    monkeypatch.setattr(os, "write", taking)
    with Storage(archive_of(SMALL)) as storage:
        bench.run(storage)
    assert parts.count(200) >= len(SMALL)
    assert bench.files() == SMALL
    assert bench.proved()


@pytest.mark.parametrize("bad", [1, 2, 5])
def test_a_disk_that_fails_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    """What could not be made safe is had again, and what came after it is no excuse."""
    files = {f"{n}.csv": BIG[n:][:50_000] for n in range(60)}
    make_safe = staging.Staging.make_safe
    calls = itertools.count(1)

    def failing(self: staging.Staging, paths: set[str]) -> None:
        if next(calls) == bad:
            raise OSError(errno.EIO, "Input/output error")
        make_safe(self, paths)

    monkeypatch.setattr(staging.Staging, "make_safe", failing)
    monkeypatch.setattr("kagglecrawl.transfer.receiver._MOST_UNNOTED", 400_000)
    with Storage(archive_of(files)) as storage:
        with pytest.raises(NoSpace):
            bench.run(storage)
        assert bench.proved()
        bench.run(storage)
    assert bench.files() == files
    assert set(bench.members().values()) == {"done"}


@pytest.mark.parametrize("bad", [0, 7, 70, 299])
@pytest.mark.parametrize("lasts", [True, False])
def test_a_full_disk_while_small_files_are_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bad: int, lasts: bool
) -> None:
    """The next run has all that this one has not."""
    opened = staging.Staging._open
    full = False

    def filling(self: staging.Staging, path: str, flags: int) -> int:
        nonlocal full
        if path.endswith(f"/{bad}.csv") or (full and lasts):
            full = True
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        return opened(self, path, flags)

    with Storage(archive_of(SMALL)) as storage:
        with monkeypatch.context() as patch:
            patch.setattr(staging.Staging, "_open", filling)
            with pytest.raises(NoSpace):
                bench.run(storage)
        assert bench.proved()
        bench.run(storage)
    assert bench.files() == SMALL
    assert bench.proved()
    assert set(bench.members().values()) == {"done"}
