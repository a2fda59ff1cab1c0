"""What an archive holds, which of it is wanted, and why the rest is refused."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from kagglecrawl.kaggle.names import UnsafeName, check_path

RATIO_FROM = 1 << 20
"""Bytes unpacked from which on a ratio is looked at: a small file of blanks packs very well."""


CHOSEN = frozenset({"", "only", "max_bytes"})
"""Of the reasons in `Choice.why_not`, those that are the user's, and not the archive's."""


class BadArchive(ValueError):
    """An archive cannot be read; the text is one sentence saying what is wrong with it."""


class BadMember(ValueError):
    """One member of an archive cannot be unpacked; the text is one sentence.

    `reason` is the word for it, as in `Choice.why_not`.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Member(NamedTuple):
    """One entry of an archive, as the archive describes it: nothing of it is proved.

    Sizes and the offset are at least 0 and below 2**63, so that a database can hold them. The
    name can hold anything, also lone surrogates for bytes that are no UTF-8.
    """

    number: int
    """Its place in the archive's directory (a tar's: in the archive), from 0."""
    name: str
    """As it is stored, with `/` between folders. The name of a folder ends in `/`."""
    size: int
    """Bytes, unpacked."""
    packed: int
    """Bytes in the archive; in a tar the same as `size`."""
    crc32: int
    """CRC-32 of the unpacked bytes; 0 in a tar, which has none."""
    method: int
    """Compression, of zip's APPNOTE 4.4.5: 0 stored, 8 deflated, 12 bzip2; 0 in a tar."""
    offset: int
    """Bytes from the object's first byte to the local header; in a tar to the header, unpacked."""
    fault: str
    """Why the archive's form forbids to unpack it, a word: `encrypted`, `link`, `special_file`,
    `method` or `overlap`; empty if nothing does."""

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder, which has no bytes."""
        return self.name.endswith("/")


@dataclass(frozen=True)
class Choice:
    """Which members are wanted."""

    only: tuple[str, ...] = ()
    """Globs, of which a file must match one; none means all. `*` stands for `/` as well. A glob
    without `/` is compared with the last component of a name, one with `/` with all of it. Case
    counts. A folder alone is wanted only where there are no globs."""
    max_bytes: int | None = None
    """Largest size of one file in bytes, unpacked; None: any."""
    max_ratio: float = 200.0
    """Most unpacked bytes to one packed byte, of files larger than `RATIO_FROM`."""

    def why_not(self, member: Member) -> str:
        """Return why this member is not wanted, a word; empty if it is.

        The first of: its fault, `unsafe_path`, `only`, `max_bytes`, `ratio`.
        """
        if member.fault:
            return member.fault
        try:
            check_path(member.name.removesuffix("/"))
        except UnsafeName:
            return "unsafe_path"
        if self.only and not self._is_named(member):
            return "only"
        if self.max_bytes is not None and member.size > self.max_bytes:
            return "max_bytes"
        if member.size > RATIO_FROM and member.size > self.max_ratio * member.packed:
            return "ratio"
        return ""

    @property
    def takes_all(self) -> bool:
        """Is nothing left out by choice?"""
        return not self.only and self.max_bytes is None

    def _is_named(self, member: Member) -> bool:
        if member.is_folder:
            return False
        last = member.name.rpartition("/")[2]
        return any(fnmatchcase(member.name if "/" in glob else last, glob) for glob in self.only)


def shown(name: str) -> str:
    """Return a name as it may stand in a log or a sentence: ASCII alone, quoted, and cut."""
    return ascii(name) if len(name) <= 80 else f"{name[:80]!a}..."
