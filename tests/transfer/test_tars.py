"""Tars read forward: what they hold, and that damage is never taken for their end."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglecrawl.transfer import tars
from kagglecrawl.transfer.members import BadArchive
from tests.transfer.archives import GOOD, TAR_END, Case, entry, header, padded, pax, records, tarred
from tests.transfer.reading import untarred
from tests.transfer.tar_cases import TARS


@pytest.mark.parametrize("case", TARS, ids=lambda case: case.name)
def test_of_every_tar_comes_what_should(case: Case) -> None:
    if case.refused:
        with pytest.raises(BadArchive, match=case.refused):
            untarred(case.data, case.choice)
        return
    taken = untarred(case.data, case.choice)
    assert taken.members == list(case.members)
    assert taken.files == case.files


@pytest.mark.parametrize("case", [case for case in TARS if not case.refused], ids=lambda c: c.name)
def test_a_tar_need_not_be_packed(case: Case) -> None:
    assert untarred(gzip.decompress(case.data), case.choice).files == case.files


def test_the_first_member_does_not_wait_for_the_last() -> None:
    data = tarred(entry("a"), entry("b", random.Random(1).randbytes(1 << 20)))
    stream = io.BytesIO(data)
    member, content = next(tars.members(stream))
    assert (member.name, member.number, member.size, member.packed) == ("a", 0, 8, 8)
    assert content is not None
    assert content.read(5) + content.read(99) + content.read(99) == GOOD
    assert stream.tell() <= 1 << 16


def test_what_is_not_read_is_passed_over() -> None:
    data = tarred(entry("a", b"a" * 2_000), entry("b", b"b" * 700), entry("c"))
    kept = []
    names = []
    for member, content in tars.members(io.BytesIO(data)):
        assert content is not None
        assert content.read(9) == (member.name.encode() * 9 if member.name != "c" else GOOD)
        names.append((member.number, member.name, member.offset))
        kept.append(content)
    assert names == [(0, "a", 0), (1, "b", 2_560), (2, "c", 4_096)]
    for content in kept:
        with pytest.raises(ValueError, match="next member"):
            content.read(1)


class Dribble:
    """Gives one byte at a time, however many are asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._data.read(min(size, 1))


@pytest.mark.parametrize("pack", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_the_stream_may_give_less_than_asked(pack: Callable[[bytes], bytes]) -> None:
    data = pack(entry("a") + entry("b", b"b" * 999) + TAR_END)
    found = []
    for member, content in tars.members(Dribble(data)):
        assert content is not None
        whole = b""
        while piece := content.read(99):
            whole += piece
        found.append((member.name, whole))
    assert found == [("a", GOOD), ("b", b"b" * 999)]


class Repeated:
    """A gzip of a head, of so many copies of one block, and of a tail, made as it is read."""

    def __init__(self, block: bytes, times: int) -> None:
        self._parts = self._made(gzip.compress(block), times)
        self._left = b""

    def read(self, size: int, /) -> bytes:
        if not self._left:
            self._left = next(self._parts, b"")
        found, self._left = self._left[:size], self._left[size:]
        return found

    @staticmethod
    def _made(packed: bytes, times: int) -> Iterator[bytes]:
        for _ in range(times):
            yield packed
        yield gzip.compress(TAR_END)


@pytest.mark.parametrize(
    "block",
    [
        entry("a", b"") * 500,
        header(b"zeros", 16 << 20) + bytes(16 << 20),
        b"".join(pax({f"key{n}": "v" * 500, "path": f"p{n}"}, b"g") for n in range(200))
        + entry("a"),
    ],
    ids=["many members", "large members", "global headers"],
)
def test_memory_is_flat(block: bytes) -> None:
    tracemalloc.start()
    try:
        found = sum(1 for _ in tars.members(Repeated(block, 40)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found >= 40
    assert peak < 8 << 20


def test_damage_behind_many_members_is_no_end() -> None:
    # tarfile would stop there and say nothing
    data = entry("a") * 100 + b"?" * 512 + entry("b") + TAR_END
    names = []
    with pytest.raises(BadArchive, match="at byte 102400 "):
        names += [member.name for member, _ in tars.members(io.BytesIO(data))]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert len(archive.getnames()) == 100


def test_what_a_damaged_gzip_gave_before_is_known_to_be_bad_at_its_end() -> None:
    data = tarred(entry("a", random.Random(5).randbytes(300_000)))
    members = tars.members(io.BytesIO(data[:-8] + bytes(8)))
    _, content = next(members)
    assert content is not None
    assert len(content.read(1 << 16)) > 0
    with pytest.raises(BadArchive, match="gzip is damaged"):
        next(members)


# -- beside tarfile --------------------------------------------------------------------------------

names = st.lists(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60
    ).filter(lambda each: each not in {".", ".."}),
    min_size=1,
    max_size=6,
).map("/".join)
files = st.dictionaries(names, st.binary(max_size=1_500), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    files=files,
    folders=st.sets(names, max_size=3),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    step=st.integers(1, 2_000),
)
def test_it_reads_what_tarfile_writes(
    files: dict[str, bytes], folders: set[str], form: int, step: int
) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:
                return  # too long for ustar
        for name in folders:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE
            try:
                archive.addfile(info)
            except ValueError:
                return
    wanted = [*files.items(), *((f"{each}/", None) for each in folders)]
    found = []
    for member, content in tars.members(io.BytesIO(made.getvalue())):
        assert not member.fault
        whole = None
        if content is not None:
            whole = b""
            while piece := content.read(step):
                assert len(piece) <= step
                whole += piece
        found.append((member.name, whole))
    assert found == wanted


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_damage_raises_nothing_else(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(TARS))
    packed = data.draw(st.booleans())
    archive = bytearray(case.data if packed or case.refused else gzip.decompress(case.data))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(archive)))
        if data.draw(st.booleans()):
            archive[at : at + data.draw(st.integers(0, 600))] = data.draw(st.binary(max_size=4))
        else:
            archive[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
    with contextlib.suppress(BadArchive):
        for member, content in tars.members(io.BytesIO(bytes(archive))):
            assert 0 <= member.size < 1 << 63
            if content is not None:
                content.read(100)


def test_a_checksum_of_signed_bytes() -> None:
    block = header("é".encode())
    total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    signed = block[:148] + b"%06o\0 " % (total - 2 * 256) + block[156:]
    assert untarred(signed + TAR_END).files == {"é": b""}
    with pytest.raises(BadArchive):
        untarred(block[:148] + b"%06o\0 " % (total - 256) + block[156:] + TAR_END)


@pytest.mark.parametrize(
    "parts",
    [
        [pax({"path": "first"}), pax({"path": "second"}), entry("a")],
        [pax({"path": "first"}), entry("././@LongLink", b"second\0", b"L"), entry("a")],
        [entry("././@LongLink", b"first\0", b"L"), pax({"path": "second"}), entry("a")],
        [pax({"path": "all"}, b"g"), entry("a"), pax({"path": "own"}), entry("b"), entry("c")],
        [entry("p", records({"path": "padded"}) + bytes(99), b"x"), entry("a")],
        [pax({"path": "x" * 300 + "/é"}), entry("a")],
        [header(b"name", prefix=b"folder")],
    ],
)
def test_which_name_counts_is_as_in_tarfile(parts: list[bytes]) -> None:
    data = b"".join(parts) + TAR_END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [name for name, _ in untarred(data).members] == archive.getnames()


def test_a_header_cut_anywhere_is_damage() -> None:
    plain = pax({"path": "long"}) + entry("a") + entry("b")
    whole = plain + TAR_END
    for length in range(1, len(plain) + 512, 37):
        with pytest.raises(BadArchive):
            untarred(whole[:length])
    assert untarred(plain + bytes(512)).files == {"long": GOOD, "b": GOOD}


def test_padding_belongs_to_the_file() -> None:
    assert padded(b"") == b""
    assert untarred(entry("a", b"x" * 512) + entry("b") + TAR_END).files == {
        "a": b"x" * 512,
        "b": GOOD,
    }
