"""The checksum of an object's bytes, kept over jumps, repeats and kills."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

import google_crc32c
import pytest

from kagglecrawl.kaggle.errors import Damaged
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.source import PIECE
from kagglecrawl.transfer.stream import READ_THROUGH, Stream

DATA = random.Random(2).randbytes(4_000_000)
CRC = google_crc32c.value(DATA)
MD5 = hashlib.md5(DATA, usedforsecurity=False).digest()


@dataclass
class Memory:
    """A source in memory, which gives out pieces of all sizes."""

    data: bytes = DATA
    crc32c: int | None = CRC
    md5: bytes | None = MD5
    validator: str = '"one"'
    position: int = 0
    stop_at: int | None = None
    meter: Meter = field(default_factory=Meter)
    seeks: list[int] = field(default_factory=list)
    distrusted: int = 0
    received: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(3))

    @property
    def size(self) -> int:
        return len(self.data)

    @size.setter
    def size(self, _: int) -> None:
        raise AssertionError

    def seek(self, position: int) -> None:
        self.seeks.append(position)
        self.position = position

    def read(self, limit: int = PIECE) -> bytes:
        assert limit > 0
        limit = min(limit, PIECE, self.dice.choice((1, 1_000, PIECE)))
        data = self.data[self.position : self.position + limit]
        self.position += len(data)
        self.received += len(data)
        return data

    def distrust(self) -> None:
        self.distrusted += 1


def spoilt(at: int) -> bytes:
    return DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :]


@pytest.mark.parametrize(
    ("crc32c", "md5"), [(CRC, MD5), (CRC, None), (None, MD5)], ids=["both", "crc32c", "md5"]
)
@pytest.mark.parametrize("at", [0, 1, 2_000_000, len(DATA) - 1])
def test_one_wrong_byte_anywhere_is_seen(crc32c: int | None, md5: bytes | None, at: int) -> None:
    Stream(Memory(DATA, crc32c, md5), 0, 0).check()
    with pytest.raises(Damaged):
        Stream(Memory(spoilt(at), crc32c, md5), 0, 0).check()


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"\0", b""])
def test_too_few_and_too_many_are_seen(data: bytes) -> None:
    with pytest.raises(Damaged):
        Stream(Memory(data), 0, 0).check()


def test_a_wrong_checksum_is_seen_although_the_other_is_right() -> None:
    """Storage says both of the same object: but a crc32c alone is looked at, where there is one."""
    with pytest.raises(Damaged):
        Stream(Memory(crc32c=CRC ^ 1), 0, 0).check()
    with pytest.raises(Damaged):
        Stream(Memory(crc32c=None, md5=bytes(16)), 0, 0).check()


def test_the_empty_object_has_a_checksum_as_well() -> None:
    Stream(Memory(b"", 0, None), 0, 0).check()
    with pytest.raises(Damaged):
        Stream(Memory(b"", 1, None), 0, 0).check()


def test_without_a_checksum_it_is_read_and_nothing_said() -> None:
    Stream(Memory(crc32c=None, md5=None), 0, 0).check()


@pytest.mark.parametrize("cut", [0, 1, 1_500_000, len(DATA)])
def test_a_crc32c_outlasts_a_kill(cut: int) -> None:
    first = Stream(Memory(), 0, 0)
    assert first.exactly(cut) == DATA[:cut]
    for data, right in ((DATA, True), (spoilt(len(DATA) - 1), cut == len(DATA))):
        source = Memory(data)
        again = Stream(source, first.at, first.crc32c)
        assert source.seeks == [cut]
        if right:
            again.check()
            assert again.crc32c == CRC
        else:
            with pytest.raises(Damaged):
                again.check()


def test_an_md5_does_not_and_says_nothing_wrong() -> None:
    first = Stream(Memory(crc32c=None), 0, 0)
    first.exactly(10)
    Stream(Memory(crc32c=None), first.at, first.crc32c).check()


def test_bytes_that_are_known_count_as_those_that_come() -> None:
    for md5_only in (False, True):
        source = Memory(crc32c=None if md5_only else CRC)
        stream = Stream(source, 0, 0)
        stream.known(DATA[:1_000_000])
        source.seek(stream.at)
        stream.check()
        source = Memory(crc32c=None if md5_only else CRC)
        stream = Stream(source, 0, 0)
        stream.known(spoilt(5)[:1_000_000])
        source.seek(stream.at)
        with pytest.raises(Damaged):
            stream.check()


# -- on and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [0, 1, READ_THROUGH - 1, READ_THROUGH])
def test_a_small_gap_is_read(gap: int) -> None:
    source = Memory()
    stream = Stream(source, 0, 0)
    stream.exactly(10)
    stream.go(10 + gap)
    assert stream.at == source.position == 10 + gap
    assert source.seeks == [0]
    assert stream.exactly(5) == DATA[10 + gap :][:5]
    stream.check()
    assert stream.crc32c == CRC


@pytest.mark.parametrize("position", [11 + READ_THROUGH, 9, 0, len(DATA)])
def test_over_a_large_gap_and_back_the_checksum_is_given_up(position: int) -> None:
    for source in (Memory(), Memory(crc32c=None)):
        stream = Stream(source, 0, 0)
        stream.exactly(10)
        stream.go(position)
        assert source.received == 10
        assert (stream.at, source.position, stream.crc32c) == (position, position, -1)
        assert stream.md5 is None
        assert stream.exactly(5) == DATA[position:][:5]
        before = source.received
        stream.check()
        assert source.received == before


def test_what_was_given_up_stays_so() -> None:
    stream = Stream(Memory(spoilt(0)), 100, -1)
    stream.exactly(50)
    stream.go(300)
    assert stream.crc32c == -1
    stream.check()


def test_a_gap_that_leads_past_the_end() -> None:
    source = Memory(DATA[:100], google_crc32c.value(DATA[:100]))
    stream = Stream(source, 0, 0)
    stream.go(1_000)
    assert stream.at == 100
    assert stream.exactly(5) == b""


@pytest.mark.parametrize("md5_only", [False, True])
def test_back_to_a_mark_as_often_as_one_likes(md5_only: bool) -> None:
    source = Memory(spoilt(1_500), None if md5_only else CRC)
    stream = Stream(source, 0, 0)
    stream.exactly(1_000)
    mark = stream.mark()
    for _ in range(2):
        stream.exactly(1_000)
        stream.back(mark)
        assert (stream.at, source.position) == (1_000, 1_000)
    assert source.distrusted == 2
    source.data = DATA
    assert stream.exactly(1_000) == DATA[1_000:2_000]
    stream.check()


def test_back_over_a_jump() -> None:
    source = Memory()
    stream = Stream(source, 0, 0)
    stream.exactly(1_000)
    mark = stream.mark()
    stream.go(3_500_000)
    stream.back(mark)
    stream.check()
    assert stream.crc32c == CRC


def test_whoever_watches_is_told_the_position() -> None:
    source = Memory()
    stream = Stream(source, 0, 0)
    stream.exactly(1_000)
    assert source.meter.position == 1_000
    stream.known(DATA[1_000:1_500])
    assert source.meter.position == 1_500
