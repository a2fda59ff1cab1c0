"""What is known of an object in the store: its receipt, its entry in a list, its parts."""

from __future__ import annotations

from typing import Any, NamedTuple

#: Larger objects go by multipart: bytes.
PUT_MOST = 8 << 20
_MOST_PARTS = 10_000


class Receipt(NamedTuple):
    """What the store must say of an object if it is right; the ETag without quotes."""

    size: int
    etag: str


class Entry(NamedTuple):
    """What the store says of an object."""

    key: str
    size: int
    etag: str


class Part(NamedTuple):
    """A part that the store has; its ETag is the MD5 as hex where the store proves by ETags."""

    number: int
    size: int
    etag: str


def part_size(size: int) -> int:
    """Bytes of each part of an object of ``size`` bytes: 8 MiB, more where there would be too many
    parts."""
    return max(PUT_MOST, -(-size // _MOST_PARTS))


def body_of(data: bytes | bytearray | memoryview) -> bytearray:
    """What boto3 sends as it is: a view of all of a bytearray is that, without a copy.

    Of bytes it would make a file, ask the store before each request whether it may send it (and
    wait for a second where that is not answered), and read it 16 KiB at a time.
    """
    whole = data.obj if isinstance(data, memoryview) and data.c_contiguous else data
    if isinstance(whole, bytearray) and len(whole) == len(data):
        return whole
    return bytearray(data)


def etag_of(answer: Any) -> str:
    """The ETag in an answer without its quotes; empty if there is none."""
    return str(answer.get("ETag") or "").strip('"')


def fits(entry: Entry, receipt: Receipt) -> bool:
    """Is it the object of the receipt, as far as that tells?"""
    return entry.size == receipt.size and (not receipt.etag or entry.etag == receipt.etag)
