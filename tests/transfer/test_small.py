"""Small members that are read together: the same files, and fewer requests and reads."""

from __future__ import annotations

import itertools
import random
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import Damaged
from kagglecrawl.transfer import zips
from kagglecrawl.transfer.members import BadMember
from kagglecrawl.transfer.receiver import SMALL
from kagglecrawl.transfer.source import Stopped
from kagglecrawl.transfer.unzip import Unzip
from tests.transfer.archives import BZIP2, DEFLATED, STORED, Entry, end, zipped
from tests.transfer.bench import Bench, Unlimited
from tests.transfer.stand import Asked, Reply, Storage

DICE = random.Random(14)
NOISE = DICE.randbytes(SMALL + 2)


def test_archives_of_all_sizes(tmp_path: Path) -> None:
    """Around what is small, what is read at once, and what is empty; packed and not."""
    for number in range(12):
        dice = random.Random(number)
        files, entries = {}, []
        for each in range(dice.randrange(1, 40)):
            size = dice.choice((0, 1, 7, 20_000, 150_000, SMALL - 1, SMALL, SMALL + 1))
            name = f"{dice.choice(('a', 'b/c', 'é'))}/{each}.csv"
            data = dice.choice((NOISE[:size], bytes(size)))
            files[name] = data
            method = dice.choice((STORED, DEFLATED))
            entries.append(Entry(name, data, method))
        bench = Bench(tmp_path / str(number))
        with Storage(zipped(*entries)) as storage:
            meter = bench.run(storage)
        assert bench.files() == files
        assert bench.proved()
        assert meter.again == {}
        assert len(storage.asked) <= 2  # the end, and what is before it


def test_names_of_old_programs_cost_no_second_reading(tmp_path: Path) -> None:
    """A header that is not plainly the member's is looked at closely, which takes no request."""
    files = {f"donn\u00e9es-{n}.csv": NOISE[n : n + 30_000] for n in range(60)}
    old = [Entry(name.encode("cp437"), data, flags=0) for name, data in files.items()]
    bench = Bench(tmp_path)
    with Storage(zipped(*old)) as storage:
        meter = bench.run(storage)
    assert bench.files() == files
    assert meter.again == {}
    assert len(storage.asked) == 2


def test_what_isal_will_not_have_zlib_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[bytes] = []

    class Refuses:
        eof = False

        def decompress(self, data: bytes, max_length: int) -> bytes:
            refused.append(bytes(data))
            raise zips.IsalError("no")

    monkeypatch.setattr("isal.isal_zlib.decompressobj", lambda _: Refuses())
    files = {f"{n}.csv": bytes(n * 1_000) for n in range(6)}
    bench = Bench(tmp_path)
    with Storage(zipped(*(Entry(name, data, DEFLATED) for name, data in files.items()))) as storage:
        meter = bench.run(storage)
    assert bench.files() == files
    assert bench.proved()
    assert meter.again == {"damaged_member": 6}  # five that were read together, and one alone
    assert len(refused) == 6


@pytest.mark.parametrize("wrong", [b"\0" * 40, b"\xff" * 40, b"\x03\x00" * 20])
def test_garbage_is_left_to_a_closer_look(tmp_path: Path, wrong: bytes) -> None:
    """One bad member: it is refused, those around it are there, and it was read three times."""
    good = {f"{n}.csv": NOISE[n:][:5_000] for n in range(20)}
    entries = [Entry(name, data, DEFLATED) for name, data in good.items()]
    archive = bytearray(zipped(*entries))
    at = archive.index(b"9.csv") + len(b"9.csv")
    archive[at : at + len(wrong)] = wrong
    bench = Bench(tmp_path)
    with Storage(bytes(archive)) as storage:
        meter = bench.run(storage)
    del good["9.csv"]
    assert bench.files() == good
    states = bench.members()
    assert states.pop("9.csv") in {"damaged", "crc_mismatch", "size_mismatch"}
    assert set(states.values()) == {"done"}
    assert meter.again == {"damaged_member": 2}


def inflated(raw: bytes, cuts: list[int], *, quick: bool) -> tuple[bytes, bool, int] | None:
    """What comes of a stream that is fed in pieces; None if it is damaged."""
    inflater = zips.Inflater(DEFLATED, quick=quick)
    found = bytearray()
    try:
        for start, stop in itertools.pairwise([0, *cuts, len(raw)]):
            for piece in inflater.feed(raw[start:stop]):
                assert 0 < len(piece) <= zips.PIECE
                found += piece
    except BadMember:
        return None
    return bytes(found), inflater.finished, inflater.unused


@pytest.mark.parametrize("seed", range(60))
def test_isal_unpacks_what_zlib_does(seed: int) -> None:
    """A stream that is whole, whatever follows it; and no other one."""
    dice = random.Random(seed)
    size = dice.choice((0, 1, 100, 70_000, zips.PIECE, zips.PIECE + 1, 2_500_000))
    data = dice.choice((bytes(size), dice.randbytes(size), (b"a,%d\n" % seed * size)[:size]))
    packer = zlib.compressobj(dice.randrange(10), zlib.DEFLATED, -15, 9, dice.randrange(5))
    raw = packer.compress(data) + packer.flush()
    cuts = sorted(dice.randrange(len(raw) + 1) for _ in range(dice.choice((0, 1, 30))))
    more = dice.randbytes(dice.randrange(40))
    for stream in (raw, raw + more):
        assert inflated(stream, cuts, quick=True) == inflated(stream, cuts, quick=False)
    assert inflated(raw + more, cuts, quick=True) == (data, True, len(more))
    broken = bytearray(raw)
    broken[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    for stream in (bytes(broken), raw[: dice.randrange(len(raw))]):
        found, zlibs = (inflated(stream, [], quick=quick) for quick in (True, False))
        whole = [each is not None and each[1] for each in (found, zlibs)]
        assert whole[0] == whole[1]
        if whole[0]:
            assert found == zlibs


def test_places_that_are_taken_cost_no_request(tmp_path: Path) -> None:
    entries = [Entry("a", b"x", STORED), *(Entry(f"a/{n}", b"y", STORED) for n in range(50))]
    bench = Bench(tmp_path)
    with Storage(zipped(*entries)) as storage:
        bench.run(storage)
        assert len(storage.asked) == 1
    assert bench.files() == {"a": b"x"}
    assert list(bench.members().values()) == ["done"] + ["collision"] * 50


@pytest.mark.parametrize("extra", [b"", b"\1\0\0\0"])
def test_members_that_overlap_cost_few_requests(tmp_path: Path, extra: bytes) -> None:
    """One in another, as the directory has it; or a bit of one, as a header alone tells, which has
    an extra field that the directory has not."""
    body, directory, count = b"", b"", 60
    for n in range(count):
        inner = Entry(f"{n}b", b"bb", STORED)
        shared = inner.local()[: len(extra) or None]
        outer = Entry(f"{n}a", b"aaaa" + shared, STORED)
        local = replace(outer, extra=extra).local() + inner.local()[len(shared) :]
        directory += outer.listed(len(body))
        directory += inner.listed(len(body) + len(local) - len(inner.local()))
        body += local
    bench = Bench(tmp_path)
    with Storage(body + directory + end(2 * count, len(directory), len(body))) as storage:
        meter = bench.run(storage)
        assert len(storage.asked) < 10
    states = bench.members()
    assert {states[f"{n}a"] for n in range(count)} == {"done"}
    assert {states[f"{n}b"] for n in range(count)} == {"overlap"}
    assert bench.proved()
    assert meter.again.get("damaged_member", 0) == (3 if extra else 0)


def test_what_packs_well_is_no_large_piece(tmp_path: Path) -> None:
    """Between two pieces the stop and the disk are looked at."""
    files = {f"{n}.csv": bytes(SMALL - 4_000) + NOISE[n:][:4_000] for n in range(200)}
    archive = zipped(*(Entry(name, data, DEFLATED) for name, data in files.items()))
    assert len(archive) < 1 << 20
    bench = Bench(tmp_path)
    stop = threading.Event()

    class Stops(Unlimited):
        def check(self, size: int = 0) -> None:
            stop.set()

    bench.guard = Stops()
    with Storage(archive) as storage, pytest.raises(Stopped):
        bench.run(storage, stop=stop)
    assert 60 < len(bench.files()) < 100


@pytest.mark.parametrize("times", range(1, 10))
def test_a_member_is_had_or_left_out_whatever_was_bad_before(tmp_path: Path, times: int) -> None:
    """Three members are bad for good, so that those after them are read once alone; and one of
    these is damaged on the way so many times."""
    bad = [Entry(f"{n}.bz2", NOISE[n:][:2_000], BZIP2, crc32=1) for n in range(3)]
    good = {f"{n}.csv": NOISE[n:][:2_000] for n in range(20)}
    last = Entry("last.bin", random.Random(3).randbytes(2_000_000), STORED)
    archive = zipped(*bad, *(Entry(name, data, STORED) for name, data in good.items()), last)
    at = archive.index(good["5.csv"], archive.index(b"5.csv")) + 10
    bench = Bench(tmp_path)
    left = times

    def script(asked: Asked) -> Reply | None:
        nonlocal left
        span = storage.object.span(asked)
        if asked.number == 1 or not left or span is None or not span[0] <= at < span[1]:
            return None
        left -= 1
        return storage.object.damaged(asked, at)

    with Storage(archive) as storage:
        storage.script = script
        for _ in range(5):
            try:
                bench.run(storage)
                break
            except Damaged:
                assert not bench.rows()
    assert "open" not in bench.members().values()
    assert good.items() <= bench.files().items()


def test_what_was_neither_had_nor_left_out_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unzip, "_member", lambda *_: None)
    bench = Bench(tmp_path)
    with Storage(zipped(Entry("a.csv"), Entry("b.csv"))) as storage, pytest.raises(Damaged):
        bench.run(storage)
