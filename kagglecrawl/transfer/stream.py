"""An object's bytes in their order, and the checksum of all of them so far."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import google_crc32c

from kagglecrawl.kaggle.errors import TOO_LARGE, Damaged, NoReply, Unusable
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.source import PIECE, Changed, Remote

#: Bytes that are not wanted are read all the same up to here: another request costs more.
READ_THROUGH = 1 << 20


#: Where a stream was: position, CRC-32C, MD5.
Mark = tuple[int, int, Any]


class Source(Protocol):
    """Where an archive's bytes come from: a ``Remote``, or a file."""

    meter: Meter
    position: int
    stop_at: int | None
    validator: str
    size: int
    crc32c: int | None
    md5: bytes | None

    def seek(self, position: int) -> None:
        """Read on from here."""

    def read(self, limit: int = PIECE) -> bytes:
        """At least one byte and at most ``limit``; none at the end."""

    def distrust(self) -> None:
        """What is remembered may be wrong."""


def whole(remote: Remote, most: int, what: str) -> bytes:
    """All bytes of a small object, proved; ``what`` it is, for people.

    Raises ``Unusable`` if it has more than ``most``, ``Damaged``, and what ``Remote`` raises.
    """
    try:
        remote.tail(PIECE)  # of one that is smaller, all: one request then
        if remote.size > most:
            raise Unusable(f"{what}: {remote.size} bytes are too many", TOO_LARGE)
        stream = Stream(remote, 0, 0)
        data = bytearray()
        while piece := stream.take(PIECE):
            data += piece
        stream.check()
    except Changed:
        raise NoReply(f"{what}: it has changed meanwhile") from None
    return bytes(data)


class Stream:
    """The object's bytes in their order, and the checksum of all of them so far.

    ``crc32c`` is -1 when some were passed over, and ``md5`` None.
    """

    def __init__(self, source: Source, position: int, crc32c: int) -> None:
        self._source = source
        self.crc32c = crc32c
        # An MD5 cannot be kept over a kill: only where there is no CRC-32C, and from the beginning.
        use_md5 = source.crc32c is None and source.md5 is not None and position == 0
        self.md5 = hashlib.md5(usedforsecurity=False) if use_md5 else None
        self.at = position
        source.seek(position)

    def take(self, limit: int) -> bytes:
        """At least one byte and at most ``limit``; none at the object's end."""
        data = self._source.read(limit)
        self._pass(data)
        return data

    def exactly(self, count: int) -> bytes:
        """So many bytes; fewer at the object's end."""
        data = bytearray()
        while len(data) < count and (piece := self.take(count - len(data))):
            data += piece
        return bytes(data)

    def go(self, position: int) -> None:
        """On, or back, to this byte."""
        if not 0 <= position - self.at <= READ_THROUGH:
            self.jump(position)
        while self.at < position and self.take(min(PIECE, position - self.at)):
            pass

    def jump(self, position: int) -> None:
        """To this byte, whatever is between: the checksum of the whole is given up."""
        self.crc32c, self.md5 = -1, None
        self.at = position
        self._source.seek(position)

    def known(self, data: bytes) -> None:
        """These are the next bytes; they were read before."""
        self._pass(data)

    def mark(self) -> Mark:
        """Where it is, to go back to."""
        return self.at, self.crc32c, self.md5.copy() if self.md5 else None

    def back(self, mark: Mark) -> None:
        """Read again from there, and not from memory."""
        self._source.distrust()
        self.at, self.crc32c = mark[0], mark[1]
        self.md5 = mark[2].copy() if mark[2] is not None else None
        self._source.seek(self.at)

    @property
    def proves(self) -> bool:
        """Will the checksum of the whole tell?"""
        return self.md5 is not None or (self.crc32c >= 0 and self._source.crc32c is not None)

    def check(self) -> None:
        """Read to the object's end, and raise ``Damaged`` unless the whole has the checksum that
        storage gives for it. Nothing is checked where bytes were passed over."""
        if self.crc32c < 0 and self.md5 is None:
            return
        while self.take(PIECE):
            pass
        given, found = self._source.crc32c, self.crc32c
        wrong = given is not None and found >= 0 and given != found
        if self.md5 is not None and self.md5.digest() != self._source.md5:
            wrong = True
        if wrong:
            raise Damaged("the archive has another checksum than storage gives for it")

    def _pass(self, data: bytes) -> None:
        if self.crc32c >= 0:
            self.crc32c = google_crc32c.extend(self.crc32c, data)
        if self.md5 is not None:
            self.md5.update(data)
        self.at += len(data)
        self._source.meter.position = self.at
