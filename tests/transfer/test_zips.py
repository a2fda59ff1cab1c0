"""Zips from bytes: where the directory is, what it lists, and what the members' data is."""

from __future__ import annotations

import bz2
import io
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from kagglecrawl.transfer import zips
from kagglecrawl.transfer.members import BadArchive, BadMember, Member
from kagglecrawl.transfer.zips import PIECE, Directory, DirectoryReader, Inflater, find_directory
from tests.transfer.archives import (
    BZIP2,
    DEFLATED,
    GOOD,
    LINK,
    STORED,
    UTF8,
    Case,
    Entry,
    deflated,
    unicode_path,
    zipped,
)
from tests.transfer.reading import content, listed, unzipped
from tests.transfer.zip_cases import ZIPS

LEAST_TAIL = 22 + 0xFFFF + 20 + 56


@pytest.mark.parametrize("case", ZIPS, ids=lambda case: case.name)
def test_of_every_zip_comes_what_should(case: Case) -> None:
    if case.refused:
        with pytest.raises(BadArchive, match=case.refused):
            unzipped(case.data, case.choice)
        return
    taken = unzipped(case.data, case.choice)
    assert taken.members == list(case.members)
    assert taken.files == case.files


# -- the directory ---------------------------------------------------------------------------------


@pytest.mark.parametrize("zip64", [False, True])
def test_the_tail_is_enough(zip64: bool) -> None:
    data = zipped(*(Entry(f"{number}", method=STORED) for number in range(3_000)), zip64=zip64)
    data = b"before" + data
    whole = find_directory(data, len(data))
    assert find_directory(data[-LEAST_TAIL:], len(data)) == whole
    assert (whole.shift, whole.count) == (6, 3_000)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert whole.start == archive.start_dir
    for tail in (data[-LEAST_TAIL + 1 :], b"more" + data):
        with pytest.raises(ValueError, match="no tail"):
            find_directory(tail, len(data))


def test_the_longest_comment_is_passed_over() -> None:
    # one byte more, and no end record is where it could be
    data = zipped(Entry("a"), comment=b"c" * 0xFFFF)
    assert find_directory(data[-LEAST_TAIL:], len(data)).count == 1
    with pytest.raises(BadArchive, match="no end record"):
        find_directory(data + b"c", len(data) + 1)


def test_members_are_given_as_soon_as_they_are_whole() -> None:
    data = zipped(Entry("first"), Entry("second", extra=unicode_path(b"second", "zwei")))
    directory = find_directory(data, len(data))
    reader = DirectoryReader(directory)
    came = {}
    for at in range(directory.start, directory.stop):
        for member in reader.feed(data[at : at + 1]):
            came[at + 1] = member.name
    reader.close()
    assert came == {directory.start + 46 + len("first"): "first", directory.stop: "zwei"}


def test_all_of_the_directory_and_no_more_is_wanted() -> None:
    data = zipped(Entry("a"), Entry("b"))
    directory = find_directory(data, len(data))
    body = data[directory.start : directory.stop]
    reader = DirectoryReader(directory)
    assert len(reader.feed(body[:-1])) == 1
    with pytest.raises(BadArchive, match="cut off 47 bytes before its end"):
        reader.close()
    with pytest.raises(BadArchive, match="longer than its end record"):
        reader.feed(body[-1:] + b"P")


def test_numbers_of_64_bits() -> None:
    sizes = {"size": 5 << 30, "packed": 6 << 30, "offset": 7 << 30}
    entries = [
        Entry("all", **sizes),  # type: ignore[arg-type]
        Entry("none", size=1, packed=2, offset=3),
        Entry("size", size=5 << 30, packed=2, offset=3),
        Entry("packed", size=1, packed=6 << 30, offset=3),
        Entry("offset", size=1, packed=2, offset=7 << 30),
        Entry("just", size=0xFFFFFFFF, packed=0xFFFFFFFE, offset=0xFFFFFFFF),
    ]
    data = b"".join(entry.listed(0) for entry in entries)
    start = 20 << 30
    found = DirectoryReader(Directory(start, start + len(data), len(entries), 10)).feed(data)
    assert [(each.size, each.packed, each.offset - 10) for each in found] == [
        (entry.size, entry.packed, entry.offset) for entry in entries
    ]
    assert not any(each.fault for each in found)


def test_a_large_directory_costs_little_memory() -> None:
    one = Entry("folder/" * 10 + "file", b"", STORED).listed(0)
    count = 40_000
    start = 1 << 30
    reader = DirectoryReader(Directory(start, start + count * len(one), count, 0))
    piece = one * 500
    with peak_below(2 << 20):
        seen = sum(len(reader.feed(piece)) for _ in range(count // 500))
    reader.close()
    assert seen == count


@pytest.mark.parametrize("system", [3, 19])
def test_a_file_mode_counts_where_the_system_has_one(system: int) -> None:
    entry = Entry("a", mode=LINK, system=system)
    assert listed(zipped(entry))[0].fault == "link"
    assert listed(zipped(replace(entry, system=0)))[0].fault == ""


def test_a_member_may_end_where_the_directory_begins() -> None:
    data = zipped(Entry("a", method=STORED, local_name=b""))
    (member,) = listed(data)
    assert (member.fault, member.offset + 30 + member.packed) == (
        "",
        find_directory(data, len(data)).start,
    )
    (member,) = listed(zipped(Entry("a", method=STORED, local_name=b"", packed=len(GOOD) + 1)))
    assert member.fault == "overlap"


@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (unicode_path(b"raw", "süß"), "süß"),
        (unicode_path(b"raw", "süß", version=2), "raw"),
        (unicode_path(b"raw", ""), "raw"),
        (unicode_path(b"raw", b"\xff"), "\udcff"),
        (b"\x99\x99\x03\0abc" + unicode_path(b"raw", "süß") + b"\0\0\0", "süß"),
    ],
)
def test_a_name_in_an_extra_field(extra: bytes, name: str) -> None:
    data = zipped(Entry(b"raw", extra=extra))
    assert [each.name for each in listed(data)] == [name]
    assert content(data, listed(data)[0]) == GOOD


def test_the_flag_goes_before_the_extra_field() -> None:
    raw = "süß".encode()
    data = zipped(Entry(raw, flags=UTF8, extra=unicode_path(raw, "other")))
    assert [each.name for each in listed(data)] == ["süß"]


# -- local headers ---------------------------------------------------------------------------------


def member_of(entry: Entry) -> Member:
    return listed(zipped(entry))[0]


@pytest.mark.parametrize("flags", [0, UTF8])
@pytest.mark.parametrize("local_flags", [0, UTF8])
def test_the_flag_for_utf_8_may_be_in_one_place_alone(flags: int, local_flags: int) -> None:
    entry = Entry("süß".encode(), flags=flags, local_flags=local_flags)
    assert content(zipped(entry), member_of(entry)) == GOOD


def test_a_local_header_is_read_to_its_end() -> None:
    entry = Entry("name", extra=b"\x99\x99\x03\0abc")
    local = entry.local()
    start = zips.data_start(local[:30])
    assert local[start:] == entry.payload
    zips.check_local_header(local[:start], member_of(entry))
    for header in (local[: start - 1], local[: start + 1], local[:29], b""):
        with pytest.raises(BadMember) as caught:
            zips.check_local_header(header, member_of(entry))
        assert caught.value.reason == "header_mismatch"


def test_what_is_said_of_a_member_can_be_logged() -> None:
    entry = Entry("\x1b]0;title\x07\udc80".encode("utf-8", "surrogateescape") * 99, flags=UTF8)
    with pytest.raises(BadMember) as caught:
        zips.check_local_header(replace(entry, local_name=b"a").local()[:31], member_of(entry))
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


# -- data ------------------------------------------------------------------------------------------


@contextmanager
def peak_below(limit: int) -> Iterator[None]:
    """Python has never more than so many bytes at a time, besides what it had."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit


PACKERS: list[tuple[int, Callable[[bytes], bytes]]] = [
    (STORED, bytes),
    (DEFLATED, deflated),
    (BZIP2, bz2.compress),
]


@pytest.mark.parametrize(("method", "pack"), PACKERS)
@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("whole", [True, False])
def test_data_comes_out_in_pieces(
    method: int, pack: Callable[[bytes], bytes], size: int, whole: bool
) -> None:
    data = b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]
    packed = pack(data)
    inflater = Inflater(method)
    step = len(packed) + 1 if whole else 100_003
    pieces: list[bytes] = []
    for at in range(0, len(packed), step):
        pieces += inflater.feed(memoryview(packed)[at : at + step])
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    assert (inflater.finished, inflater.unused) == (True, 0)


@pytest.mark.parametrize(("method", "pack"), PACKERS[1:])
@pytest.mark.parametrize("size", [0, 10, PIECE, 3 * PIECE])
def test_what_follows_the_end_is_counted(
    method: int, pack: Callable[[bytes], bytes], size: int
) -> None:
    inflater = Inflater(method)
    packed = pack(bytes(size))
    assert b"".join(inflater.feed(packed + b"x" * 300_000)) == bytes(size)
    assert list(inflater.feed(b"more")) == []
    assert (inflater.finished, inflater.unused) == (True, 300_004)


@pytest.mark.parametrize(("method", "pack"), PACKERS[1:])
def test_a_cut_stream_is_not_finished(method: int, pack: Callable[[bytes], bytes]) -> None:
    inflater = Inflater(method)
    list(inflater.feed(pack(bytes(3 * PIECE))[:-1]))
    assert (inflater.finished, inflater.unused) == (False, 0)


@pytest.mark.parametrize(("method", "pack"), PACKERS[1:])
def test_a_bomb_costs_no_memory(method: int, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(bytes(40 * PIECE))
    inflater = Inflater(method)
    with peak_below(4 * PIECE):
        size = sum(len(piece) for piece in inflater.feed(packed))
    assert size == 40 * PIECE


def test_a_bomb_is_not_unpacked_further_than_it_is_taken() -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(bytes(8 * PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    pieces = Inflater(DEFLATED).feed(packed + b"\xff")  # a block of no type that there is
    for _ in range(7):
        assert len(next(pieces)) == PIECE
    with pytest.raises(BadMember) as caught:
        list(pieces)
    assert caught.value.reason == "damaged"


@pytest.mark.parametrize("method", [1, 9, 14, 99])
def test_an_unknown_compression(method: int) -> None:
    with pytest.raises(BadMember, match=f"compression {method}") as caught:
        Inflater(method)
    assert caught.value.reason == "method"


def test_zlib_and_bzip2_headers_are_no_raw_streams() -> None:
    for method, packed in ((DEFLATED, zlib.compress(GOOD)), (BZIP2, deflated(GOOD))):
        with pytest.raises(BadMember):
            list(Inflater(method).feed(packed))
