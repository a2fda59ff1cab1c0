"""Zips beside Python's ``zipfile``: the same members, the same bytes; and zips that are damaged."""

from __future__ import annotations

import contextlib
import io
import zipfile
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from kagglecrawl.transfer.members import BadArchive
from tests.transfer.archives import BZIP2, DEFLATED, STORED, UTF8, Entry, zipped
from tests.transfer.reading import content, listed, unzipped
from tests.transfer.zip_cases import ZIPS


class Forward(io.BytesIO):
    """What cannot be gone back in, so that sizes and checksums are written behind the data."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError("not here")


@dataclass(frozen=True)
class Plan:
    """A member to be written."""

    name: str
    data: bytes
    method: int
    zip64: bool
    pieces: int


# zipfile cuts a name at its first NUL.
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
# Long enough to come out in more than one piece, and short ones.
BYTES = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda some, times: some * times, st.binary(max_size=50), st.integers(0, 40_000)),
)
# zipfile takes signatures in a comment, or before the archive, for the archive's own.
AROUND = st.binary(max_size=80).filter(lambda some: b"PK" not in some)
PLANS = st.lists(
    st.builds(
        Plan,
        NAMES,
        BYTES,
        st.sampled_from([STORED, DEFLATED, BZIP2]),
        st.booleans(),
        st.integers(1, 3),
    ),
    max_size=6,
    unique_by=lambda plan: plan.name,
)


def written(plans: list[Plan], *, forward: bool, prefix: bytes, comment: bytes) -> bytes:
    made = Forward() if forward else io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.comment = comment
        for plan in plans:
            info = zipfile.ZipInfo(plan.name)
            info.compress_type = plan.method
            with archive.open(info, "w", force_zip64=plan.zip64) as file:
                step = len(plan.data) // plan.pieces + 1
                for at in range(0, len(plan.data), step):
                    file.write(plan.data[at : at + step])
    return prefix + made.getvalue()


@settings(max_examples=200, deadline=None)
@given(
    plans=PLANS,
    forward=st.booleans(),
    prefix=AROUND,
    comment=AROUND,
    step=st.integers(1, 400),
    data_step=st.integers(1, 100_000),
)
def test_it_reads_what_zipfile_writes(
    plans: list[Plan], forward: bool, prefix: bytes, comment: bytes, step: int, data_step: int
) -> None:
    data = written(plans, forward=forward, prefix=prefix, comment=comment)
    members = listed(data, step)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert [
            (each.name, each.size, each.packed, each.crc32, each.method, each.offset)
            for each in members
        ] == [
            (
                each.filename,
                each.file_size,
                each.compress_size,
                each.CRC,
                each.compress_type,
                each.header_offset,
            )
            for each in archive.infolist()
        ]
    for number, (member, plan) in enumerate(zip(members, plans, strict=True)):
        assert member.number == number
        assert member.fault == ("special_file" if plan.data and plan.name.endswith("/") else "")
        assert content(data, member, data_step) == plan.data


RAW_NAMES = st.binary(min_size=1, max_size=40).filter(lambda raw: b"\0" not in raw)


@settings(max_examples=200, deadline=None)
@given(names=st.lists(RAW_NAMES | NAMES, max_size=5), zip64=st.booleans())
def test_old_names_are_read_as_zipfile_does(names: list[bytes | str], zip64: bool) -> None:
    entries = [
        Entry(name, flags=0 if isinstance(name, bytes) else UTF8, system=0) for name in names
    ]
    data = zipped(*entries, zip64=zip64)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert [each.name for each in listed(data)] == archive.namelist()


def damaged(archive: bytes, dice: st.DataObject) -> bytes:
    """Some bytes are others, are gone, or are new; more often where the numbers are."""
    found = bytearray(archive)
    for _ in range(dice.draw(st.integers(1, 4))):
        last = len(found)
        at = dice.draw(st.integers(0, last) | st.integers(max(0, last - 120), last))
        gone = dice.draw(st.sampled_from([0, 1, 2, 4, 8, 30]))
        new = dice.draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * gone, b"\0" * gone]))
        found[at : at + gone] = new
    return bytes(found)


@settings(max_examples=600, deadline=None)
@given(dice=st.data())
def test_damage_is_refused_and_nothing_worse(dice: st.DataObject) -> None:
    """``unzipped`` lets pass no other exception, and no piece or file larger than it should be."""
    case = dice.draw(st.sampled_from(ZIPS))
    data = damaged(case.data, dice)
    with contextlib.suppress(BadArchive):
        for member in listed(data, dice.draw(st.integers(1, 300))):
            assert 0 <= member.size < 1 << 63
            assert 0 <= member.offset < 1 << 63
            assert 0 <= member.packed < 1 << 63
        unzipped(data, case.choice)
