"""Small members of a zip that follow one another: their bytes are read in one piece.

Read one by one, as unzip.py does, each costs more than its bytes do. Nothing is refused here: what
is not as it should be is for unzip.py to read again, and to look at closely.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from isal import isal_zlib

from kagglecrawl.state.store import MemberRow
from kagglecrawl.transfer import zips
from kagglecrawl.transfer.members import BadMember
from kagglecrawl.transfer.receiver import SMALL, member_of

#: Bytes of an archive that are read in one piece at most.
_WINDOW = 1 << 19
#: And of what they unpack to: nobody looks at a stop, or at the disk, in between.
_MOST_UNPACKED = 4 << 20
_QUICK = frozenset({zips.STORED, zips.DEFLATED})


class Content(NamedTuple):
    """A member's bytes, proved; ``stop`` is where it ends in the window."""

    data: bytes | memoryview
    sha256: bytes
    stop: int


def together(members: Sequence[MemberRow], first: int) -> int:
    """Up to which index members can be read in one piece, from ``first`` on; they are in the order
    of their offsets. The piece ends where the next one begins, so the last is never among them."""
    start, at, unpacked = members[first].offset, first, 0
    while at + 1 < len(members):
        row = members[at]
        if row.size > SMALL or row.name.endswith("/") or row.method not in _QUICK:
            break
        following = members[at + 1].offset
        overlap = row.offset + zips.LOCAL_HEADER + len(row.name) + row.packed > following
        unpacked += row.size
        if overlap or following - start > _WINDOW or unpacked > _MOST_UNPACKED:
            break
        at += 1
    return at


def read(window: memoryview, at: int, stop: int, row: MemberRow) -> Content | None:
    """The member whose local header is at ``window[at]``, and that ends before ``stop``; None if
    anything is not as the directory says."""
    name = row.name.encode("utf-8", "surrogatepass")
    start = zips.quick_start(window, at, name, row.method)
    if start < 0:
        try:
            start = at + zips.data_start(bytes(window[at : at + zips.LOCAL_HEADER]))
            zips.check_local_header(bytes(window[at:start]), member_of(row))
        except BadMember:
            return None
    end = start + row.packed
    if end > stop or len(window) < end:
        return None
    data: bytes | memoryview = window[start:end]
    if row.method == zips.DEFLATED:
        inflater = isal_zlib.decompressobj(-isal_zlib.MAX_WBITS)
        try:
            data = inflater.decompress(data, row.size + 1)
        except zips.IsalError:
            return None
        if not inflater.eof or inflater.unused_data:
            return None
    if len(data) != row.size or isal_zlib.crc32(data) != row.crc32:
        return None
    return Content(data, hashlib.sha256(data).digest(), end)
