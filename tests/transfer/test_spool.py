"""An archive that has to be whole before it can be unpacked."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import Damaged, NoReply, NoSpace
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.source import Stopped
from kagglecrawl.transfer.spool import LocalSource, fetch
from tests.transfer.bench import KEY, Unlimited
from tests.transfer.stand import Asked, Object, Reply, Storage, remote

DATA = random.Random(8).randbytes(2_500_000)


def get(
    storage: Storage,
    path: Path,
    *,
    go_on: bool,
    guard: DiskGuard | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Fetch as ``Unpacking`` does; the bytes that came for it."""
    with remote(storage, stop=stop) as source:
        source.tail(1)
        before = source.meter.received
        fetch(source, path, guard or Unlimited(), KEY, go_on=go_on)
        return source.meter.received - before


@pytest.mark.parametrize("hashes", [("crc32c", "md5"), ("crc32c",), ("md5",), ()])
@pytest.mark.parametrize("have", [None, 0, 1, 1_000_000, len(DATA) - 1, len(DATA)])
def test_what_is_there_is_its_beginning(
    tmp_path: Path, have: int | None, hashes: tuple[str, ...]
) -> None:
    path = tmp_path / "archive"
    if have is not None:
        path.write_bytes(DATA[:have])
    with Storage(Object(DATA, hashes=hashes)) as storage:
        assert get(storage, path, go_on=True) <= len(DATA) - (have or 0)
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("there", [DATA[:1_000], b"?" * 1_000, DATA + b"more"])
def test_what_is_there_is_nothing(tmp_path: Path, there: bytes) -> None:
    path = tmp_path / "archive"
    path.write_bytes(there)
    with Storage(DATA) as storage:
        get(storage, path, go_on=False)
    assert path.read_bytes() == DATA


def test_more_than_there_can_be_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(DATA + b"?")
    with Storage(DATA) as storage:
        get(storage, path, go_on=True)
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("hashes", [("crc32c",), ("md5",)])
@pytest.mark.parametrize("have", [1, 1_000_000, len(DATA)])
def test_a_wrong_beginning_is_seen_and_thrown_away(
    tmp_path: Path, have: int, hashes: tuple[str, ...]
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(DATA[: have - 1] + bytes([DATA[have - 1] ^ 1]))
    with Storage(Object(DATA, hashes=hashes)) as storage:
        with pytest.raises(Damaged):
            get(storage, path, go_on=True)
        assert not path.exists()
        get(storage, path, go_on=True)
    assert path.read_bytes() == DATA


def test_what_was_fetched_stays_when_the_line_breaks_or_the_crawl_ends(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    stop = threading.Event()

    def stopping(asked: Asked) -> Reply:
        begin, body = storage.object.answer(asked)
        yield begin
        yield body[:700_000]
        stop.set()
        yield body[700_000:]

    with Storage(DATA) as storage:
        storage.script = lambda asked: (
            None
            if asked.number == 1
            else storage.object.cut(asked, 1_000_000)
            if asked.number == 2
            else []
        )
        with pytest.raises(NoReply):
            get(storage, path, go_on=True)
        assert path.read_bytes() == DATA[:1_000_000]
        number = len(storage.asked)
        storage.script = lambda asked: stopping(asked) if asked.number == number + 2 else None
        with pytest.raises(Stopped):
            get(storage, path, go_on=True, stop=stop)
        had = path.stat().st_size
        assert had >= 1_000_000
        assert path.read_bytes() == DATA[:had]
        storage.script = None
        get(storage, path, go_on=True)
        assert storage.ranges[-1] == f"{had}-{len(DATA) - 2}"
    assert path.read_bytes() == DATA


def test_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with Storage(b"") as storage:
        get(storage, path, go_on=True)
    assert path.read_bytes() == b""


def test_it_needs_room_for_what_is_to_come(tmp_path: Path) -> None:
    class Disk(DiskGuard):
        free = 0
        spent = 0

        def _free(self) -> int:
            return self.free

        def spend(self, key: str, size: int) -> None:
            assert key == KEY
            super().spend(key, size)
            self.spent += size

    path, guard = tmp_path / "archive", Disk(tmp_path, 0)
    with Storage(DATA) as storage:
        guard.free = len(DATA) - 1
        with pytest.raises(NoSpace):
            get(storage, path, go_on=True, guard=guard)
        assert path.stat().st_size == 0
        path.write_bytes(DATA[:1_000])
        guard.free = len(DATA) - 1_000
        get(storage, path, go_on=True, guard=guard)
        assert guard.spent == len(DATA) - 1_000
    assert path.read_bytes() == DATA


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Storage(DATA) as storage:
        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(NoSpace, match="cannot be written"):
            get(storage, tmp_path / "archive", go_on=True)
        with pytest.raises(NoSpace, match="cannot be written"):
            get(storage, tmp_path / "nowhere" / "archive", go_on=True)


def test_an_archive_on_disk_is_a_source(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(DATA)
    with LocalSource(path, '"one"', Meter()) as source:
        assert (source.size, source.validator) == (len(DATA), '"one"')
        assert source.tail(10) == DATA[-10:]
        assert source.tail(10 * len(DATA)) == DATA
        source.seek(100)
        assert source.read(10) == DATA[100:110]
        assert source.position == 110
        assert len(source.read(10 * len(DATA))) <= 1 << 20
        source.distrust()
        source.seek(len(DATA))
        assert source.read() == b""
