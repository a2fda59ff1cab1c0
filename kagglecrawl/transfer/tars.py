"""Tar archives, plain or in gzip, read forward once.

Not by Python's `tarfile`: it takes damage in the middle of an archive for its end, keeps what every
global header says, and in some releases takes quadratic time over a pax header. What is read here
is what it reads: the formats of POSIX (ustar, pax: IEEE 1003.1, pax, "pax Interchange Format") and
of GNU (GNU tar manual, "Basic Tar Format"), of which only what leads to names and bytes is looked
at.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from kagglecrawl.transfer.members import BadArchive, Member

BLOCK = 512
"""Bytes of a header; data is padded to a multiple of it."""

LONGEST_META = 1 << 20
"""Most bytes of the headers (long names, pax) that may stand before one member."""

PIECE = 1 << 20
"""Most bytes that are held at a time, unpacked."""

# Little, since zlib copies what it did not get to, and since a gzip file can be of many tiny ones.
_READ = 1 << 16
_GZIP_SIGN = b"\x1f\x8b"
_ZEROS = bytes(BLOCK)
_LARGEST = (1 << 63) - 1

_REGULAR = frozenset({b"0", b"\0", b"7"})
_LINKS = frozenset({b"1", b"2"})
_FOLDER = b"5"
_DEVICES = frozenset({b"3", b"4", b"6"})
_SPARSE = b"S"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_PAX = frozenset({b"x", b"X"})
_PAX_GLOBAL = b"g"
_META = _PAX | {_PAX_GLOBAL, _LONG_NAME, _LONG_LINK}


class Readable(Protocol):
    """Where an archive's bytes come from."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, and none at the end alone."""
        ...


class Data:
    """The bytes of one member. They can be read until the next member is asked for."""

    def __init__(self, tar: _Tar, size: int) -> None:
        self._tar = tar
        self._left = size
        self._over = False

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, which may be fewer; none at the end alone.

        Raises:
            BadArchive: if the archive is cut off or damaged.
            ValueError: if the next member has been asked for.
        """
        if self._over:
            raise ValueError("The archive has been read on to its next member.")
        if not self._left:
            return b""
        piece = self._tar.some(min(size, self._left))
        if not piece and size:
            raise BadArchive("The tar is cut off within a file.")
        self._left -= len(piece)
        return bytes(piece)

    def skip(self) -> None:
        """Leave the rest unread, for good."""
        self._over = True
        self._tar.skip(self._left)


def members(stream: Readable) -> Iterator[tuple[Member, Data | None]]:
    """Yield each member of an archive with its bytes; None with a folder, and where it has a fault.

    A leading `./` is left out of the names, and `./` itself out of the members. What is not read of
    a member's bytes is passed over. All of `stream` is read, 64 KiB at a time at most, to the end
    of the gzip. A member's `offset` tells what the archive has unpacked to before it, headers and
    all. Memory does not depend on the archive.

    Raises:
        BadArchive: if it is no tar, is damaged or cut off, or has bytes other than 0 behind its
            end. The members up to there have been yielded.
    """
    tar = _Tar(_unpacked(stream))
    shared: dict[str, str] = {}
    number = 0
    while (found := _next(tar, shared)) is not None:
        data = Data(tar, found.size)
        if found.name != "./" or found.fault:
            wanted = not found.fault and not found.name.endswith("/")
            yield _member(number, found), data if wanted else None
            number += 1
        data.skip()
        tar.skip(-found.size % BLOCK)
    tar.finish()


def _member(number: int, found: _Found) -> Member:
    size = found.size
    return Member(number, found.name, size, size, 0, 0, found.offset, found.fault)


# -- headers ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """What a member's headers say; `size` is that of what follows them, without its padding."""

    name: str
    size: int
    offset: int
    fault: str


def _next(tar: _Tar, shared: dict[str, str]) -> _Found | None:
    """Read the headers of the next member, None at the end; `shared` is what global ones said."""
    own: dict[str, str] = {}
    spent = 0
    while True:
        offset = tar.position
        block = tar.exactly(BLOCK)
        if block == _ZEROS:
            if spent:
                raise BadArchive("The tar ends where a member should begin.")
            return None
        _check(block, offset)
        kind = block[156:157]
        if kind not in _META:
            return _found(tar, block, offset, {**shared, **own})
        size = _number(block[124:136], offset)
        spent += BLOCK + size + -size % BLOCK
        if spent > LONGEST_META:
            raise BadArchive(
                f"The tar has headers of more than {LONGEST_META} bytes before one member."
            )
        text = tar.exactly(size)
        tar.skip(-size % BLOCK)
        # Of several for one member the first counts, as in tarfile.
        if kind == _LONG_NAME:
            own.setdefault("path", _text(text))
        elif kind == _PAX_GLOBAL:
            shared.update(_pax(text, offset))
        elif kind in _PAX:
            own = {**_pax(text, offset), **own}


def _check(block: bytes, offset: int) -> None:
    # The sum of the header's bytes with blanks for the sum itself; some summed them up as signed.
    fields = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(fields)
    signed = unsigned - 256 * sum(byte > 127 for byte in fields)
    if _number(block[148:156], offset) not in {unsigned, signed}:
        raise _damage(offset)


def _found(tar: _Tar, block: bytes, offset: int, pax: dict[str, str]) -> _Found:
    kind = block[156:157]
    name = pax.get("path") or _stored_name(block)
    name = pax.get("GNU.sparse.name") or name
    while name.startswith("./") and name != "./":
        name = name[2:]
    size = _number(block[124:136], offset)
    if "size" in pax:
        size = _decimal(pax["size"], offset)
    if kind == b"\0" and name.endswith("/"):
        kind = _FOLDER  # the first tars had no other way to say so
    if kind == _FOLDER:
        name = name.rstrip("/") + "/"
    if kind == _FOLDER or kind in _LINKS or kind in _DEVICES:
        size = 0  # whatever it says: no data follows
    fault = ""
    if kind in _LINKS:
        fault = "link"
    elif kind != _FOLDER and (kind not in _REGULAR or "sparse" in pax or name.endswith("/")):
        fault = "special_file"
    if kind == _SPARSE:
        _skip_map(tar, block)
    return _Found(name, size, offset, fault)


def _stored_name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _skip_map(tar: _Tar, block: bytes) -> None:
    # Where the holes of an old GNU sparse file are: blocks, each of which says if one more follows.
    more = block[482]
    while more:
        more = tar.exactly(BLOCK)[504]


def _pax(text: bytes, offset: int) -> dict[str, str]:
    """Those records of a pax header that are of use: `<length> <keyword>=<value>\\n` each."""
    found = {}
    at = 0
    while at < len(text) and text[at]:  # some pad them with NUL
        digits = text[at : at + 20].partition(b" ")[0]
        length = _decimal(digits.decode("latin-1"), offset)
        record = text[at : at + length]
        keyword, _, value = record[len(digits) + 1 :].partition(b"=")
        if len(record) < length or not value.endswith(b"\n"):
            raise _damage(offset)
        if keyword in {b"path", b"size", b"GNU.sparse.name"}:
            found[keyword.decode()] = value[:-1].decode("utf-8", "surrogateescape")
        if keyword.startswith(b"GNU.sparse."):
            found["sparse"] = "yes"
        at += length
    return found


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _decimal(digits: str, offset: int) -> int:
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        raise _damage(offset)
    return _possible(int(digits), offset)


def _number(field: bytes, offset: int) -> int:
    if field[0] == 0x80:  # GNU: too large for octal digits
        return _possible(int.from_bytes(field[1:], "big"), offset)
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise _damage(offset)
    return _possible(int(digits or b"0", 8), offset)


def _possible(number: int, offset: int) -> int:
    if number > _LARGEST:
        raise _damage(offset)
    return number


def _damage(offset: int) -> BadArchive:
    if not offset:
        return BadArchive("This is no tar archive: it does not begin with the header of one.")
    return BadArchive(f"The tar is damaged: at byte {offset} (unpacked) there is no right header.")


# -- bytes -----------------------------------------------------------------------------------------


class _Tar:
    """The tar's own bytes, one after the other."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.position = 0
        self._pieces = pieces
        self._piece = memoryview(b"")

    def some(self, most: int) -> memoryview:
        """At most so many bytes; none at the end of the stream alone, or if none are asked for."""
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        found = self._piece[:most]
        self._piece = self._piece[most:]
        self.position += len(found)
        return found

    def exactly(self, size: int) -> bytes:
        """So many bytes; raises ``BadArchive`` if there are fewer."""
        found = bytearray()
        while len(found) < size:
            piece = self.some(size - len(found))
            if not piece:
                raise BadArchive("The tar is cut off: it ends without the mark of its end.")
            found += piece
        return bytes(found)

    def skip(self, size: int) -> None:
        """Pass over so many bytes; raises ``BadArchive`` if there are fewer."""
        while size:
            passed = len(self.some(size))
            if not passed:
                raise BadArchive("The tar is cut off within a file.")
            size -= passed

    def finish(self) -> None:
        """Read all that is left, which ought to be zeros."""
        while piece := bytes(self.some(PIECE)):
            if piece.count(0) != len(piece):
                raise BadArchive(f"The tar has more bytes behind its end, up to {self.position}.")


def _unpacked(stream: Readable) -> Iterator[bytes]:
    data = stream.read(_READ)
    if len(data) < len(_GZIP_SIGN):
        data += stream.read(_READ)
    if data.startswith(_GZIP_SIGN):
        try:
            yield from _gunzipped(data, stream)
        except zlib.error as error:
            raise BadArchive(f"The tar's gzip is damaged: {error}.") from None
        return
    while data:
        yield data
        data = stream.read(_READ)


def _gunzipped(data: bytes, stream: Readable) -> Iterator[bytes]:
    # A gzip file is one or more of them (RFC 1952, 2.2), and may be padded with zeros. zlib checks
    # the length and the CRC-32 at the end of each.
    while data:
        unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
        while not unzip.eof:
            piece = unzip.decompress(data, PIECE)
            if piece:
                yield piece
            data = unzip.unconsumed_tail
            if not data and not unzip.eof:
                data = stream.read(_READ)
                if not data:
                    raise BadArchive("The tar's gzip is cut off.")
        data = unzip.unused_data.lstrip(b"\0") or stream.read(_READ)
        while data and not data.strip(b"\0"):
            data = stream.read(_READ)
        data = data.lstrip(b"\0")
