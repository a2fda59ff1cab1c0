"""Archives made byte by byte, also such as no program writes.

What they are for is in zip_cases.py and tar_cases.py: lists of ``Case``. Whoever unpacks one must
come to its ``members``, to its ``files``, and to no other file anywhere.
"""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib
from dataclasses import dataclass, field

from kagglecrawl.transfer.members import Choice

STORED, DEFLATED, BZIP2 = 0, 8, 12
FILE, LINK = 0o100644, 0o120777
UTF8 = 0x800
GOOD = b"x,y\n1,2\n"


ALL = Choice()


@dataclass(frozen=True)
class Case:
    """An archive, and what is to become of it."""

    name: str
    data: bytes
    members: tuple[tuple[str, str], ...] = ()
    """Name and reason (empty: it is unpacked) of each, as the archive lists them. They are those of
    a disk that tells names apart that differ in case or composition."""
    files: dict[str, bytes] = field(default_factory=dict)
    """What is on disk then: all of it, path and content."""
    refused: str = ""
    """Words of the sentence with which the archive as a whole is refused, if it is. What it may
    have given before is not said here."""
    choice: Choice = ALL
    clashing: tuple[int, ...] = ()
    """Those members that are refused with ``collision`` on a disk that does not tell them apart."""


#: Names that lead out of the folder somewhere, or are something else than they seem.
SLIPS: list[str] = [
    "../evil.csv",
    "../../../../../../etc/cron.d/evil",
    "a/../../evil.csv",
    "a/..",
    "..",
    ".",
    "a/./evil.csv",
    "a//evil.csv",
    "/etc/evil.csv",
    "//host/share/evil.csv",
    "..\\evil.csv",
    "a\\..\\..\\evil.csv",
    "\\evil.csv",
    "\\\\host\\share\\evil.csv",
    "C:/evil.csv",
    "C:evil.csv",
    "a/../",
    "../",
    "/",
    "evil.csv:stream",
    "evil\n.csv",
    "evil\x1b[2J.csv",
    "\u202evsc.live",
    "evil\u200b.csv",
    "NUL",
    "com1.csv",
    "aux/evil.csv",
    "evil.csv.",
    "evil.csv ",
    " ",
    "e" * 256,
]
#: The same where a name is bytes that are no UTF-8, as an old decoder would take them for "../".
RAW_SLIPS = [b"..\xc0\xaf..\xc0\xafevil.csv", b"\xc0\xae\xc0\xae/evil.csv", b"evil\xff.csv"]


# -- zips ------------------------------------------------------------------------------------------


def deflated(data: bytes, level: int = 6) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@dataclass(frozen=True)
class Entry:
    """A zip's member; what is None is as it should be."""

    name: str | bytes
    data: bytes = GOOD
    method: int = DEFLATED
    flags: int | None = None
    mode: int = FILE
    system: int = 3
    extra: bytes = b""
    stored: bytes | None = None  # the bytes in the archive
    size: int | None = None
    packed: int | None = None
    crc32: int | None = None
    offset: int | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    local_flags: int | None = None
    local_sign: bytes = b"PK\3\4"

    @property
    def raw(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode()

    @property
    def payload(self) -> bytes:
        if self.stored is not None:
            return self.stored
        pack = {DEFLATED: deflated, BZIP2: bz2.compress}.get(self.method, bytes)
        return pack(self.data)

    def fields(self) -> tuple[int, int, int, int]:
        """Flags, CRC-32, packed and unpacked size, as the directory has them."""
        usual = UTF8 if isinstance(self.name, str) and not self.name.isascii() else 0
        return (
            usual if self.flags is None else self.flags,
            zlib.crc32(self.data) if self.crc32 is None else self.crc32,
            len(self.payload) if self.packed is None else self.packed,
            len(self.data) if self.size is None else self.size,
        )

    def local(self) -> bytes:
        """Its header and data."""
        flags, crc32, packed, size = self.fields()
        name = self.raw if self.local_name is None else self.local_name
        return (
            struct.pack(
                "<4s5H3L2H",
                self.local_sign,
                20,
                flags if self.local_flags is None else self.local_flags,
                self.method if self.local_method is None else self.local_method,
                0,
                33,
                crc32,
                min(packed, 0xFFFFFFFF),
                min(size, 0xFFFFFFFF),
                len(name),
                len(self.extra),
            )
            + name
            + self.extra
            + self.payload
        )

    def listed(self, offset: int) -> bytes:
        """Its entry in the directory; fields of zip64 are used where they must be."""
        flags, crc32, packed, size = self.fields()
        offset = offset if self.offset is None else self.offset
        large = [value for value in (size, packed, offset) if value >= 0xFFFFFFFF]
        extra = self.extra
        if large:
            extra += struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large)
        return (
            struct.pack(
                "<4s4B4H3L5H2L",
                b"PK\1\2",
                20,
                self.system,
                20,
                0,
                flags,
                self.method,
                0,
                33,
                crc32,
                min(packed, 0xFFFFFFFF),
                min(size, 0xFFFFFFFF),
                len(self.raw),
                len(extra),
                0,
                0,
                0,
                self.mode << 16,
                min(offset, 0xFFFFFFFF),
            )
            + self.raw
            + extra
        )


def end(count: int, length: int, offset: int, comment: bytes = b"", disk: int = 0) -> bytes:
    """An end record."""
    return (
        struct.pack("<4s4H2LH", b"PK\5\6", disk, 0, count, count, length, offset, len(comment))
        + comment
    )


def end64(count: int, length: int, offset: int, at: int, more: bytes = b"") -> bytes:
    """A zip64 end record that is at this byte, its locator, and the end record."""
    return (
        struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44 + len(more), 45, 45, 0, 0, count, count, length, offset
        )
        + more
        + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    )


def zipped(
    *entries: Entry,
    prefix: bytes = b"",
    comment: bytes = b"",
    count: int | None = None,
    zip64: bool = False,
    more: bytes = b"",
) -> bytes:
    """A zip of these; ``count`` is what its end says, ``more`` stands in a zip64 end record."""
    body, directory = b"", b""
    for entry in entries:
        directory += entry.listed(len(body))
        body += entry.local()
    said = len(entries) if count is None else count
    if zip64:
        last = end64(said, len(directory), len(body), len(body) + len(directory), more)
    else:
        last = end(said, len(directory), len(body), comment)
    return prefix + body + directory + last


def unicode_path(raw: bytes, name: str | bytes, *, version: int = 1, wrong: int = 0) -> bytes:
    """The extra field of Info-ZIP that gives a name in UTF-8."""
    text = name if isinstance(name, bytes) else name.encode()
    data = bytes([version]) + struct.pack("<L", zlib.crc32(raw) ^ wrong) + text
    return struct.pack("<2H", 0x7075, len(data)) + data


def quoted_overlap(names: list[str], kernel: bytes) -> tuple[bytes, bytes]:
    """Fifield's construction: each member's data quotes the headers of those that follow, and all
    share the last one's. Every size and checksum is right. Returns the first one's data as well."""
    bodies: list[bytes] = []
    entries: list[Entry] = []
    stream, data = deflated(kernel), kernel
    for name in reversed(names):
        if bodies:
            inner = bodies[-1]
            header = inner[: len(inner) - len(stream)]
            stream = struct.pack("<B2H", 0, len(header), len(header) ^ 0xFFFF) + header + stream
            data = header + data
        entry = Entry(name, data, stored=stream)
        entries.append(entry)
        bodies.append(entry.local())
    offsets = [len(bodies[-1]) - len(each) for each in bodies]
    directory = b"".join(
        entry.listed(offset)
        for entry, offset in zip(reversed(entries), reversed(offsets), strict=True)
    )
    archive = bodies[-1] + directory + end(len(names), len(directory), len(bodies[-1]))
    return archive, data


# -- tars ------------------------------------------------------------------------------------------


def header(
    name: bytes,
    size: int = 0,
    kind: bytes = b"0",
    *,
    size_field: bytes | None = None,
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """A tar's header block; ``tail`` stands in place of the prefix and what follows it."""
    digits = b"%011o\0" % size if size_field is None else size_field
    block = (
        name.ljust(100, b"\0")
        + b"0000644\0"
        + b"0000000\0" * 2
        + digits
        + b"00000000000\0"
        + b" " * 8
        + kind
    )
    block = (block.ljust(257, b"\0") + magic).ljust(345, b"\0")
    block = (block + (tail or prefix)).ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def entry(name: bytes | str, data: bytes = GOOD, kind: bytes = b"0") -> bytes:
    """A tar's member: its header and its data."""
    raw = name if isinstance(name, bytes) else name.encode()
    return header(raw, len(data), kind) + padded(data)


def records(pax: dict[str, str]) -> bytes:
    """The text of a pax header."""
    text = b""
    for keyword, value in pax.items():
        rest = b" " + keyword.encode() + b"=" + value.encode("utf-8", "surrogateescape") + b"\n"
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        text += str(length).encode() + rest
    return text


def pax(known: dict[str, str], kind: bytes = b"x") -> bytes:
    """A pax header for what follows."""
    return entry(b"PaxHeaders/0", records(known), kind)


TAR_END = bytes(1024)


def tarred(*parts: bytes, ends: bytes = TAR_END) -> bytes:
    """A tar.gz of headers and data."""
    return gzip.compress(b"".join(parts) + ends, mtime=0)
