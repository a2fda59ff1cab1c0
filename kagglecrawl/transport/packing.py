"""A replay on its way from what comes over the wire to what is stored: unpacked, judged and
compressed piece by piece. Nothing here knows where it comes from."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, Literal

from kagglecrawl.kaggle.errors import TOO_LARGE, BadPage, Damaged, NoReply, Unusable
from kagglecrawl.kaggle.replays import BadReplay, Compressor, ReplayFacts, ReplayReader
from kagglecrawl.kaggle.rpc import LARGEST_FILE

#: Bytes that are unpacked at a time.
PIECE = 1 << 20
#: Bytes of an answer that is no replay, which is left for others to judge.
PAGE = 1 << 16
#: The first byte of gzip, which no JSON begins with.
_GZIP = 0x1F


class Gunzip:
    """Bytes as they were before gzip, if they were packed by it: whether they are is seen by the
    first one, since servers do not always say so, or say so of what is not."""

    def __init__(self) -> None:
        self._begun = self._packed = False
        self._member: Any = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """At most ``PIECE`` bytes at a time; raises ``Damaged``."""
        if data and not self._begun:
            self._begun, self._packed = True, data[0] == _GZIP
        if not self._packed:
            yield data
            return
        while data:
            if self._member is None:
                data = data.lstrip(b"\0")  # padding between members
                if not data:
                    return
                self._member = zlib.decompressobj(wbits=31)
            try:
                piece = self._member.decompress(data, PIECE)
            except zlib.error:
                raise Damaged("what came is no whole gzip") from None
            yield piece
            if self._member.eof:
                data, self._member = self._member.unused_data, None
            else:
                data = self._member.unconsumed_tail
                if len(piece) < PIECE and not data:
                    return

    def close(self) -> None:
        """That was all; raises ``NoReply`` where the last member has not ended."""
        if self._member is not None:
            raise NoReply("the answer was cut short")


class Packing:
    """A replay on its way from what came over the wire to what is stored.

    ``head`` has the first bytes of it, for the case that it is none.
    """

    def __init__(self, compression: Literal["gzip", "zstd"], most: int = LARGEST_FILE) -> None:
        self._reader = ReplayReader()
        self._compressor = Compressor(compression)
        self._gunzip = Gunzip()
        self._most = most
        self._content: list[bytes] = []
        self._stored = 0
        self._bad: BadReplay | None = None
        self.head = bytearray()

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; False if no more are wanted. Raises what of ``KaggleError`` says
        that they cannot be used."""
        for piece in self._gunzip.feed(data):
            if len(self.head) <= PAGE:
                self.head += piece[: PAGE + 1 - len(self.head)]
            if self._bad is None:
                try:
                    self._keep(self._compressor.write(self._reader.feed(piece)))
                except BadReplay as error:
                    self._is_bad(error)
            # of what is no replay, so much is wanted that one can tell what it is
            if self._bad and not (_is_none(self._bad) and len(self.head) <= PAGE):
                return False
        return True

    def drop(self) -> None:
        """Nobody wants the replay: let go of it, but not of ``head``. An error that is handed on
        has this object in its traceback, for as long as somebody looks at it."""
        self._reader.drop()
        self._content.clear()
        self._gunzip = Gunzip()

    def close(self) -> ReplayFacts | None:
        """What it is. None if it is something else, which is whole in ``head``. Raises
        ``KaggleError``."""
        facts: ReplayFacts | None = None
        if self._bad is None:
            self._gunzip.close()
            try:
                rest, facts = self._reader.close()
            except BadReplay as error:
                self._is_bad(error)
            else:
                self._keep(self._compressor.write(rest))
                self._keep(self._compressor.close())
        if self._bad is not None:
            self._refuse(self._bad)
        return facts

    @property
    def content(self) -> bytes:
        """The compressed replay, when it is closed."""
        return b"".join(self._content)

    def _keep(self, data: bytes) -> None:
        self._stored += len(data)
        if self._stored > self._most:
            raise Unusable(f"the replay has more than {self._most} bytes", TOO_LARGE)
        if data:
            self._content.append(data)

    def _is_bad(self, error: BadReplay) -> None:
        # another one: the traceback of this one has this object, which would hold itself
        self._bad = BadReplay(error.slug, str(error))
        self._reader.drop()
        self._content.clear()

    def _refuse(self, bad: BadReplay) -> None:
        if bad.slug == "cut":
            raise Damaged(f"half of a replay came: {bad}")
        if not _is_none(bad):
            raise Unusable(f"the replay is none that can be used: {bad}", "bad_replay")
        if len(self.head) > PAGE:
            raise BadPage(f"something else came in place of a replay: {bad}")


def _is_none(bad: BadReplay) -> bool:
    """Is it something else altogether, a web page or an error?"""
    return bad.slug in {"not_json", "no_replay"}
