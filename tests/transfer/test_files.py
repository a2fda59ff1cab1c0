"""Members on their way to disk: what counts only when it is safe, and what a disk may say."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest

from kagglecrawl.kaggle.errors import NoSpace
from kagglecrawl.state.transfers import COLLISION, Listed, Meter
from kagglecrawl.transfer import receiver
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.files import Files
from kagglecrawl.transfer.members import BadMember
from kagglecrawl.transfer.proof import Proof
from kagglecrawl.transfer.staging import Staging
from tests.transfer.bench import KEY, Bench, Unlimited


class Kit:
    """``Files`` for a job that knows some members."""

    def __init__(self, bench: Bench, *members: tuple[str, int]) -> None:
        self.bench = bench
        self.meter = Meter()
        bench.staging.prepare()
        listed = [
            Listed(n, name, size, size, 0, 0, n, "") for n, (name, size) in enumerate(members)
        ]
        bench.job.note(bench.number, listed, exact=True)
        self.files = Files(bench.staging, bench.notes, bench.guard, self.meter)

    def path(self, name: str) -> Path:
        return self.bench.staging.path(name)

    def put(self, number: int, name: str, data: bytes) -> None:
        file = self.files.open(self.path(name))
        self.files.write(file, data)
        self.files.close(file)
        self.files.done(number, len(data), sha256(data).digest())


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(Bench(tmp_path), ("a.csv", 3), ("b/c.csv", 4))


def test_nothing_is_noted_before_it_is_safe(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    make_safe = Staging.make_safe

    def spied(self: Staging, paths: set[str]) -> None:
        order.append("sync")
        make_safe(self, paths)

    monkeypatch.setattr(Staging, "make_safe", spied)
    kit.bench.noting = order.append
    kit.files = Files(kit.bench.staging, kit.bench.notes, kit.bench.guard, kit.meter)
    kit.put(0, "a.csv", b"abc")
    kit.put(1, "b/c.csv", b"abcd")
    assert order == []
    assert set(kit.bench.members().values()) == {"open"}
    kit.files.flush(100, 7)
    assert order == ["sync", "done"]
    assert set(kit.bench.members().values()) == {"done"}
    assert (kit.bench.row.position, kit.bench.row.crc32c) == (100, 7)
    assert kit.bench.proved()
    assert (kit.meter.files, kit.meter.written) == (2, 7)


def test_each_is_noted_once(kit: Kit) -> None:
    kit.put(0, "a.csv", b"abc")
    kit.files.flush(1, 1)
    kit.bench.job.missing(kit.bench.number, [0])
    kit.files.flush(2, 2)
    assert kit.bench.members() == {"a.csv": "open", "b/c.csv": "open"}


def test_what_cannot_be_made_safe_is_not_noted(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Staging, "make_safe", fails)
    kit.put(0, "a.csv", b"abc")
    with pytest.raises(NoSpace, match="cannot be written"):
        kit.files.flush(100, 7)
    assert set(kit.bench.members().values()) == {"open"}
    assert kit.bench.row.position == 0


def test_what_is_left_out_is_noted_with_how_far_the_object_is_read(kit: Kit) -> None:
    """Not sooner: a run that went on before it would not read it, and so prove nothing."""
    kit.put(0, "a.csv", b"abc")
    bad = BadMember("crc_mismatch", "its bytes have another CRC-32 than the directory says")
    kit.files.refuse(1, "b/c.csv", 4, bad)
    assert kit.bench.members() == {"a.csv": "open", "b/c.csv": "open"}
    kit.files.pause(300, 9, 1 << 40)
    assert kit.bench.members() == {"a.csv": "done", "b/c.csv": "crc_mismatch"}
    assert (kit.bench.row.position, kit.bench.row.crc32c) == (300, 9)


def test_what_was_read_and_not_written_is_noted_too(kit: Kit) -> None:
    kit.files.pause(receiver._MOST_UNNOTED - 1, 1, 0)
    kit.files.flush(20_000_000, 2)
    assert kit.bench.row.position == 20_000_000
    kit.files.pause(21_000_000, 3, 0)
    kit.files.pause(90_000_000, 4, 0)
    kit.files.pause(90_000_001, 5, 1 << 40)
    assert kit.bench.row.position == 90_000_001


def test_without_another_thread_it_is_made_safe_at_once(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    safe: list[set[str]] = []
    make_safe = Staging.make_safe

    def spied(self: Staging, paths: set[str]) -> None:
        safe.append(paths)
        make_safe(self, paths)

    monkeypatch.setattr(Staging, "make_safe", spied)
    kit.put(0, "a.csv", b"abc")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        kit.files.flush(100, 7)
    assert len(safe) == 1
    assert str(kit.path("a.csv")) in safe[0]
    assert kit.bench.members() == {"a.csv": "done", "b/c.csv": "open"}


def test_nothing_is_noted_behind_what_cannot_be_made_safe(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk failed once, and then no more: what it lost must not be taken to be there."""
    outcomes = iter([OSError(errno.EIO, "Input/output error")])

    def fails_once(*_: object) -> None:
        if error := next(outcomes, None):
            raise error

    monkeypatch.setattr(Staging, "make_safe", fails_once)
    monkeypatch.setattr(receiver, "_MOST_UNNOTED", 1)
    kit.put(0, "a.csv", b"abc")
    kit.files.pause(100, 7, 0)
    kit.put(1, "b/c.csv", b"abcd")
    for _ in range(3):
        with pytest.raises(NoSpace, match="cannot be written"):
            kit.files.flush(200, 8)
    assert set(kit.bench.members().values()) == {"open"}
    assert kit.bench.row.position == 0


def test_the_last_bytes_of_a_full_disk_are_noted(tmp_path: Path) -> None:
    """The room is gone, but what was written is there: the next run need not fetch it again."""

    class Full(Unlimited):
        def check(self, size: int = 0) -> None:
            raise NoSpace("full")

    kit = Kit(Bench(tmp_path), ("a.csv", 3))
    kit.bench.guard = Full()
    kit.files = Files(kit.bench.staging, kit.bench.notes, kit.bench.guard, kit.meter)
    kit.put(0, "a.csv", b"abc")
    with pytest.raises(NoSpace):
        kit.files.flush(100, 7)
    assert kit.bench.members() == {"a.csv": "done"}


def test_room_is_looked_at_while_a_large_file_is_written(tmp_path: Path) -> None:
    class Filling(DiskGuard):
        written = 0

        def _free(self) -> int:
            return 100_000_000 - self.written

        def spend(self, key: str, size: int) -> None:
            assert key == KEY
            super().spend(key, size)
            self.written += size

    guard = Filling(tmp_path, 40_000_000)
    kit = Kit(Bench(tmp_path, guard=guard), ("a.csv", 200_000_000))
    file = kit.files.open(kit.path("a.csv"))
    piece = bytes(1 << 20)

    def fill() -> None:
        for _ in range(200):
            kit.files.write(file, piece)

    with pytest.raises(NoSpace):
        fill()
    kit.files.close(file)
    assert 60_000_000 - len(piece) <= guard.written <= 60_000_000 + (32 << 20)


def test_when_it_is_time(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    kit.files = Files(kit.bench.staging, kit.bench.notes, kit.bench.guard, kit.meter)
    synced = threading.Semaphore(0)
    begun: list[str] = []

    def slowly(*_: object) -> None:
        begun.append("sync")
        assert synced.acquire(timeout=60)

    monkeypatch.setattr(Staging, "make_safe", slowly)

    def states() -> list[str]:
        return list(kit.bench.members().values())

    kit.files.pause(1, 1, 1 << 40)  # nothing to note
    kit.put(0, "a.csv", b"abc")
    kit.files.pause(1, 1, 0)
    kit.files.pause(1, 1, 1_000)
    assert begun == []
    now += 60
    kit.files.pause(2, 20, 1_000)
    kit.put(1, "b/c.csv", b"abcd")  # meanwhile
    kit.files.pause(3, 30, 1_000)
    assert states() == ["open", "open"]
    synced.release()
    deadline = time.time() + 60
    while states() == ["open", "open"] and time.time() < deadline:
        kit.files.pause(3, 30, 1_000)
    assert states() == ["done", "open"]
    assert (kit.bench.row.position, kit.bench.row.crc32c) == (2, 20)
    synced.release()
    kit.files.pause(4, 40, 1 << 40)  # before a large one all of it is noted
    assert states() == ["done", "done"]
    assert (kit.bench.row.position, kit.bench.row.crc32c) == (4, 40)
    monkeypatch.setattr(receiver, "_MOST_UNNOTED", 10)
    kit.put(0, "a.csv", b"abc" * 4)
    kit.files.pause(5, 50, 0)
    synced.release(2)
    kit.files.flush(6, 60)
    assert begun == ["sync"] * 4


# -- what a disk may say ---------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")])
def test_files_and_folders_that_clash(kit: Kit, first: str, second: str) -> None:
    kit.put(0, first, b"abc")
    with pytest.raises(BadMember) as caught:
        kit.files.open(kit.path(second))
    assert caught.value.reason == COLLISION
    assert kit.path(first).read_bytes() == b"abc"


def test_folders_that_clash(kit: Kit) -> None:
    kit.put(0, "a", b"abc")
    for name in ("a/", "a/b/"):
        with pytest.raises(BadMember) as caught:
            kit.files.make_folder(kit.path(name))
        assert caught.value.reason == COLLISION
    kit.files.make_folder(kit.path("b/"))
    kit.files.make_folder(kit.path("b/"))
    kit.put(1, "b/c", b"x")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENAMETOOLONG, "unsafe_path"),
        (errno.EINVAL, "unsafe_path"),
        (errno.EILSEQ, "unsafe_path"),
        (errno.ELOOP, COLLISION),
        (errno.EISDIR, COLLISION),
        (errno.ENOSPC, None),
        (errno.EROFS, None),
        (errno.EACCES, None),
        (errno.ENOENT, None),
        (errno.EMFILE, None),
    ],
)
def test_one_files_name_or_the_whole_disk(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, number: int, reason: str | None
) -> None:
    def fails(*args: object) -> int:
        raise OSError(number, os.strerror(number), "path")

    path = kit.path("a.csv")
    for name, call in (("open", kit.files.open), ("mkdir", kit.files.make_folder)):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fails)
            with pytest.raises(NoSpace if reason is None else BadMember) as caught:
                call(path)
            assert getattr(caught.value, "reason", None) == (reason or "kaggle_no_space")


def test_a_write_takes_all_bytes(kit: Kit) -> None:
    class Slow:
        """A file that takes a few bytes at a time, as one may."""

        def __init__(self) -> None:
            self.taken = b""

        def write(self, data: memoryview) -> int:
            self.taken += bytes(data[:3])
            return min(3, len(data))

    file = Slow()
    kit.files.write(file, b"0123456789")  # type: ignore[arg-type]
    assert file.taken == b"0123456789"
    assert kit.meter.written == 10


@pytest.mark.parametrize("what", ["write", "close"])
def test_a_disk_that_is_full(kit: Kit, what: str) -> None:
    class Full:
        def write(self, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    file: BinaryIO = Full()  # type: ignore[assignment]
    with pytest.raises(NoSpace, match="is full"):
        kit.files.write(file, b"x") if what == "write" else kit.files.close(file)
    assert kit.meter.written == 0


# -- small files, and checksums by another thread --------------------------------------------------


def small(kit: Kit, *names: str) -> None:
    for number, name in enumerate(names):
        kit.files.put(number, name, name.encode() + b"!", b"sha256")


def test_small_files_are_there_when_they_are_noted(kit: Kit) -> None:
    small(kit, "a.csv", "b/c.csv")
    assert set(kit.bench.members().values()) == {"open"}
    kit.files.flush(1, 1)
    assert set(kit.bench.members().values()) == {"done"}
    assert kit.bench.files() == {"a.csv": b"a.csv!", "b/c.csv": b"b/c.csv!"}
    kit.files.end()


def test_whoever_comes_first_has_the_place(tmp_path: Path) -> None:
    names = ("a", "a/b", "c/d", "c", "e", "e/f/g")
    kit = Kit(Bench(tmp_path), *((name, 1) for name in names))
    refused = []
    for number, name in enumerate(names):
        try:
            kit.files.put(number, name, name.encode() + b"!", b"sha256")
        except BadMember as bad:
            refused.append((name, bad.reason))
    kit.files.flush(1, 1)
    kit.files.end()
    assert kit.bench.files() == {"a": b"a!", "c/d": b"c/d!", "e": b"e!"}
    assert refused == [("a/b", COLLISION), ("c", COLLISION), ("e/f/g", COLLISION)]


@pytest.mark.parametrize("step", [1, 100, (1 << 17) - 1, 1 << 17, 1 << 20])
def test_a_proof_is_that_of_all_bytes_in_their_order(step: int) -> None:
    data = random.Random(11).randbytes(20_000 if step == 1 else 3_000_000)
    with ThreadPoolExecutor(1) as pool:
        proof = Proof(pool)
        for at in range(0, len(data), step):
            proof.add(data[at : at + step])
        assert proof.size == len(data)
        assert proof.sha256 == sha256(data).digest()
        assert proof.crc32 == zlib.crc32(data)
        assert Proof(pool).sha256 == sha256().digest()


def test_pieces_of_all_sizes() -> None:
    dice = random.Random(12)
    data = dice.randbytes(8_000_000)
    with ThreadPoolExecutor(1) as pool:
        proof = Proof(pool)
        at = 0
        while at < len(data):
            size = dice.choice((1, 50, 1_000, 131_071, 131_072, 400_000))
            proof.add(data[at : at + size])
            at += size
            if dice.random() < 0.1:
                assert proof.crc32 == zlib.crc32(data[:at])
        assert proof.sha256 == sha256(data).digest()
