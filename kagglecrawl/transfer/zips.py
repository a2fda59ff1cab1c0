"""Zip archives, read from bytes that somebody else fetches.

```
local header  name  extra  data  [descriptor]    of each member
…
directory: an entry for each member              at Directory.start
zip64 end record, its locator                    of large archives
end record  comment                              ends the object
```

The directory at the end is what counts. Numbers are those of PKWARE's APPNOTE.TXT 6.3.10, whose
sections the comments cite. Where archives contradict themselves they are refused: two programs that
read different members out of one archive is how such archives are made to do harm.
"""

from __future__ import annotations

import bz2
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from isal import igzip_lib, isal_zlib

from kagglecrawl.transfer.members import BadArchive, BadMember, Member, shown

TAIL = 1 << 20
"""Bytes of the object's end that are asked for first."""

LOCAL_HEADER = 30
"""Bytes of a local header before its name (4.3.7)."""

PIECE = 1 << 20
"""Most bytes that an `Inflater` gives out at a time."""

IsalError: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stub is wrong

STORED, DEFLATED, BZIP2 = 0, 8, 12
METHODS = frozenset({STORED, DEFLATED, BZIP2})
"""The compressions that can be unpacked (4.4.5)."""

# Signature, this disk, the directory's disk, entries here, entries, bytes, offset, comment (4.3.16)
_END = struct.Struct("<4s4H2LH")
_END_SIGN = b"PK\5\6"
# Signature, disk of the zip64 end record, its offset, disks (4.3.15)
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_SIGN = b"PK\6\7"
# Signature, bytes that follow, versions, and the same as in the end record (4.3.14)
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_SIGN = b"PK\6\6"
# Signature, made by (version, system), needed (version, system), flags, method, time, date, CRC,
# packed, size, bytes of name, extra, comment, disk, internal, external attributes, offset (4.3.12)
_ENTRY = struct.Struct("<4s4B4H3L5H2L")
_ENTRY_SIGN = b"PK\1\2"
# Signature, version, flags, method, time, date, CRC, packed, size, bytes of name, extra (4.3.7)
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_SIGN = b"PK\3\4"
_EXTRA = struct.Struct("<2H")

_LONGEST_COMMENT = 0xFFFF
_LEAST_TAIL = _END.size + _LONGEST_COMMENT + _LOCATOR.size + _END64.size
_LONGEST_ENTRY = _ENTRY.size + 3 * 0xFFFF
_LARGEST = (1 << 63) - 1
_SLICE = 1 << 17

_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13  # 4.4.4: traditional, strong, the directory itself
_PATCHED = 1 << 5
_UTF8 = 1 << 11
_ZIP64_EXTRA = 0x0001
_PATH_EXTRA = 0x7075
_UNIX_SYSTEMS = frozenset(
    {3, 19}
)  # Unix, macOS: whose external attributes hold a file mode (4.4.2)


@dataclass(frozen=True)
class Directory:
    """Where the directory is, and how many members it has.

    `start` and `stop` are in bytes from the object's first byte. `shift` is how many bytes stand
    before the archive proper, as in one that extracts itself: all offsets count from there.
    """

    start: int
    stop: int
    count: int
    shift: int


def find_directory(tail: bytes, size: int) -> Directory:
    """Return where the directory of an archive of `size` bytes is, from its last bytes, `tail`.

    `tail` is the whole archive or at least 65,633 bytes of it (`TAIL` is plenty).

    Raises:
        BadArchive: if there is no end record, if it is cut off, contradicts itself or gives counts
            and sizes that cannot be, or if the archive spans several disks.
        ValueError: if `tail` is too short or too long to be what it should be.
    """
    base = size - len(tail)
    if base < 0 or (base and len(tail) < _LEAST_TAIL):
        raise ValueError(f"{len(tail)} bytes are no tail of {size}")
    at = _find_end(tail)
    _, disk, home, here, count, length, offset, _ = _END.unpack_from(tail, at)
    stop = at
    wide = _find_end64(tail, at, base)
    if wide is not None:
        stop = wide.at
        narrow = (disk, home, here, count, length, offset)
        full = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
        for old, new, unknown in zip(narrow, wide.fields, full, strict=True):
            if old not in {unknown, new}:
                raise BadArchive("The zip's two end records contradict each other.")
        disk, home, here, count, length, offset = wide.fields
    if disk or home or here != count:
        raise BadArchive("The zip spans several disks, of which this is one.")
    start = base + stop - length
    shift = start - offset
    if shift < 0 or (wide and wide.offset + shift != base + wide.at):
        raise BadArchive(
            f"The zip's directory cannot be where its end record says: {length} bytes from byte"
            f" {offset} on, of {size}."
        )
    if not count * _ENTRY.size <= length <= count * _LONGEST_ENTRY:
        raise BadArchive(f"The zip's directory cannot hold {count} members in {length} bytes.")
    return Directory(start, base + stop, count, shift)


def _find_end(tail: bytes) -> int:
    # The last one whose comment fills the rest: a comment can hold the signature by chance.
    low = max(0, len(tail) - _END.size - _LONGEST_COMMENT)
    at = tail.rfind(_END_SIGN, low, max(0, len(tail) - _END.size + len(_END_SIGN)))
    while at >= 0:
        if at + _END.size + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return at
        at = tail.rfind(_END_SIGN, low, at + len(_END_SIGN) - 1)
    raise BadArchive("The zip has no end record: it is cut off, or no zip at all.")


@dataclass(frozen=True)
class _End64:
    at: int  # in the tail
    offset: int  # as its locator gives it
    fields: tuple[int, int, int, int, int, int]  # as in the end record


def _find_end64(tail: bytes, end: int, base: int) -> _End64 | None:
    locator = end - _LOCATOR.size
    if locator < 0 or not tail.startswith(_LOCATOR_SIGN, locator):
        return None
    _, disk, offset, disks = _LOCATOR.unpack_from(tail, locator)
    if disk or disks > 1:
        raise BadArchive("The zip spans several disks, of which this is one.")
    # It ends where its locator begins, and is longer than usual if it has data of its own (4.3.14).
    for at in (locator - _END64.size, offset - base):
        if not 0 <= at <= locator - _END64.size:
            continue
        sign, follows, _, _, *fields = _END64.unpack_from(tail, at)
        if sign == _END64_SIGN and at + 12 + follows == locator:
            disk, home, here, count, length, start = fields
            return _End64(at, offset, (disk, home, here, count, length, start))
    raise BadArchive("The zip's zip64 end record is missing or cut off.")


class DirectoryReader:
    """Reads the members out of a directory, of which it is given piece after piece.

    It keeps less than one entry, 200 KB at most, besides what it is given at a time.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._buffer = bytearray()
        self._left = directory.stop - directory.start
        self._count = 0

    def feed(self, data: bytes) -> list[Member]:
        """Return the members that are whole now, in the directory's order.

        Raises:
            BadArchive: if an entry is damaged, or there are more entries or bytes than there
                should be. No more can be fed then.
        """
        self._buffer += data
        if len(self._buffer) > self._left:
            raise BadArchive("The zip's directory is longer than its end record says.")
        found = []
        at = 0
        while at + _ENTRY.size <= len(self._buffer):
            entry = _ENTRY.unpack_from(self._buffer, at)
            if entry[0] != _ENTRY_SIGN:
                raise BadArchive(f"The zip's directory is damaged at its entry {self._count}.")
            after = at + _ENTRY.size + entry[12] + entry[13] + entry[14]
            if after > len(self._buffer):
                break
            if self._count == self._directory.count:
                raise BadArchive(
                    f"The zip's directory has more entries than the {self._count} of its end"
                    " record."
                )
            name_ends = at + _ENTRY.size + entry[12]
            name = bytes(self._buffer[at + _ENTRY.size : name_ends])
            extra = bytes(self._buffer[name_ends : name_ends + entry[13]])
            found.append(self._member(entry, name, extra))
            self._count += 1
            at = after
        del self._buffer[:at]
        self._left -= at
        return found

    def close(self) -> None:
        """Say that all of the directory has been fed.

        Raises:
            BadArchive: if bytes or members are missing.
        """
        if self._left:
            raise BadArchive(f"The zip's directory is cut off {self._left} bytes before its end.")
        if self._count != self._directory.count:
            raise BadArchive(
                f"The zip's directory has {self._count} members, and its end record says"
                f" {self._directory.count}."
            )

    def _member(self, entry: tuple[int, ...], raw: bytes, extra: bytes) -> Member:
        _, _, system, _, _, flags, method, _, _, crc32, packed, size, *_, external, offset = entry
        extras = _extras(extra)
        if extras is None:
            raise BadArchive(f"The zip's entry {self._count} has a damaged extra field.")
        size, packed, offset = self._wide(extras.get(_ZIP64_EXTRA, b""), size, packed, offset)
        offset += self._directory.shift
        if max(size, packed, offset) > _LARGEST:
            raise BadArchive(f"The zip's entry {self._count} has a size that no file can have.")
        name = _decoded(raw, flags, extras)
        fault = _fault(name, size, flags, method, external >> 16 if system in _UNIX_SYSTEMS else 0)
        if not fault and offset + LOCAL_HEADER + packed > self._directory.start:
            fault = "overlap"
        return Member(self._count, name, size, packed, crc32, method, offset, fault)

    def _wide(self, data: bytes, *narrow: int) -> list[int]:
        # Those fields alone that are full in the entry, in this order (4.5.3).
        if 0xFFFFFFFF not in narrow:
            return list(narrow)
        wide = []
        for value in narrow:
            if value == 0xFFFFFFFF:
                if len(data) < 8:
                    raise BadArchive(f"The zip's entry {self._count} lacks a size of zip64.")
                value, data = int.from_bytes(data[:8], "little"), data[8:]
            wide.append(value)
        return wide


def _fault(name: str, size: int, flags: int, method: int, mode: int) -> str:
    if flags & _ENCRYPTED:
        return "encrypted"
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return "link"
    if name.endswith("/"):
        if size or kind not in {0, stat.S_IFDIR, stat.S_IFREG}:
            return "special_file"
    elif kind not in {0, stat.S_IFREG}:
        return "special_file"
    return "method" if method not in METHODS or flags & _PATCHED else ""


def _extras(extra: bytes) -> dict[int, bytes] | None:
    """The extra fields by their number, the first of each; None if they are damaged (4.5.1)."""
    found: dict[int, bytes] = {}
    while len(extra) >= _EXTRA.size:  # fewer bytes are padding
        number, length = _EXTRA.unpack_from(extra)
        if _EXTRA.size + length > len(extra):
            return None
        found.setdefault(number, extra[_EXTRA.size : _EXTRA.size + length])
        extra = extra[_EXTRA.size + length :]
    return found


def _decoded(raw: bytes, flags: int, extras: dict[int, bytes]) -> str:
    # 4.4.4, bit 11; then 4.6.9, the "Info-ZIP Unicode Path": a version, the CRC of the name that it
    # stands for, the name; then the encoding of the format's first days (appendix D). A name is
    # kept whole where zipfile cuts it at a NUL: it will be refused.
    if flags & _UTF8:
        return raw.decode("utf-8", "surrogateescape")
    path = extras.get(_PATH_EXTRA, b"")
    if path[:5] == b"\x01" + zlib.crc32(raw).to_bytes(4, "little") and path[5:]:
        return path[5:].decode("utf-8", "surrogateescape")
    return raw.decode("cp437")


def data_start(head: bytes) -> int:
    """Return how many bytes lie between a local header's first byte and the member's data.

    `head` is the first `LOCAL_HEADER` bytes of the local header, or more.

    Raises:
        BadMember: `header_mismatch`, if that is no local header.
    """
    if len(head) < LOCAL_HEADER or not head.startswith(_LOCAL_SIGN):
        raise BadMember("header_mismatch", "A member does not begin where the directory says.")
    *_, name, extra = _LOCAL.unpack_from(head)
    return LOCAL_HEADER + int(name) + int(extra)


def quick_start(data: memoryview, at: int, name: bytes, method: int) -> int:
    """Return where the data of a member begins whose local header is at `data[at]`.

    -1 if the header is not all there, or not plainly that of a member with this name (in UTF-8)
    and compression: then `check_local_header` tells.
    """
    if len(data) < at + LOCAL_HEADER:
        return -1
    sign, _, flags, found, *_, length, extra = _LOCAL.unpack_from(data, at)
    if sign != _LOCAL_SIGN or found != method or flags & _ENCRYPTED:
        return -1
    ends = at + LOCAL_HEADER + int(length)
    return ends + int(extra) if data[at + LOCAL_HEADER : ends] == name else -1


def check_local_header(header: bytes, member: Member) -> None:
    """Check that a local header says the same as the directory.

    `header` is all of it, `data_start` bytes. Its sizes and its checksum are not looked at: they
    may follow the data (4.4.4, bit 3).

    Raises:
        BadMember: `header_mismatch`, if it is another member's, is compressed otherwise, or is
            encrypted where the directory says that it is not.
    """
    if data_start(header) != len(header):
        raise BadMember("header_mismatch", f"The header of {shown(member.name)} is cut off.")
    _, _, flags, method, *_, length, _ = _LOCAL.unpack_from(header)
    raw = header[LOCAL_HEADER : LOCAL_HEADER + length]
    extras = _extras(header[LOCAL_HEADER + length :]) or {}
    # Some programs set the flag for UTF-8 in one of the two places alone.
    if member.name not in {_decoded(raw, flags, extras), _decoded(raw, flags ^ _UTF8, extras)}:
        what = "name"
    elif method != member.method:
        what = "compression"
    elif flags & _ENCRYPTED and member.fault != "encrypted":
        what = "encryption"
    else:
        return
    raise BadMember(
        "header_mismatch",
        f"The header of {shown(member.name)} has another {what} than the directory says.",
    )


class _Unpacker(Protocol):
    """What zlib's, isal's and bz2's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, /, max_length: int) -> bytes: ...


class Inflater:
    """Unpacks one member's data, a bounded piece at a time.

    It is to be fed the member's `packed` bytes and no more. It checks neither the size nor the
    checksum of what comes out. `quick` is more than twice as quick, and for those who look at the
    member again, without it, before they call it damaged: zlib's word is everybody's.
    """

    unused: int
    """How many bytes were fed after the end of the compressed stream: there should be none."""

    def __init__(self, method: int, *, quick: bool = False) -> None:
        self.unused = 0
        self._unpacker: _Unpacker | None = None
        if method == DEFLATED:
            library = isal_zlib if quick else zlib
            self._unpacker = library.decompressobj(-zlib.MAX_WBITS)
        elif method == BZIP2:
            self._unpacker = bz2.BZ2Decompressor()
        elif method != STORED:
            raise BadMember("method", f"A member has the compression {method}, which is unknown.")

    @property
    def finished(self) -> bool:
        """Whether the compressed stream has come to its end.

        Always true of stored data, which has no end of its own: only its size tells.
        """
        return self._unpacker is None or self._unpacker.eof

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Yield what `data` unpacks to, in pieces of at most `PIECE` bytes, none of them empty.

        The pieces are made as they are taken. All of them are to be taken before more is fed.

        Raises:
            BadMember: `damaged`, if this is no such stream.
        """
        view = memoryview(data)
        if self._unpacker is None:
            for at in range(0, len(view), PIECE):
                yield bytes(view[at : at + PIECE])
            return
        # zlib copies what it did not get to each time, so it is given little at a time.
        for at in range(0, len(view), _SLICE):
            yield from self._unpacked(self._unpacker, view[at : at + _SLICE])

    def _unpacked(self, unpacker: _Unpacker, data: bytes | memoryview) -> Iterator[bytes]:
        if self.finished:
            self.unused += len(data)
            return
        while True:
            try:
                piece = unpacker.decompress(data, max_length=PIECE)
            except (zlib.error, IsalError, OSError) as error:
                raise BadMember("damaged", f"A member's data is damaged: {error}.") from None
            if piece:
                yield piece
            # Both may hold back output although they have taken all of the input, but only if it
            # filled the piece. bz2 itself keeps what it did not get to.
            if len(piece) < PIECE or unpacker.eof:
                break
            data = getattr(unpacker, "unconsumed_tail", b"")
        self.unused += len(unpacker.unused_data)
