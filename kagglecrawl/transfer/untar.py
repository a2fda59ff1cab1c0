"""A tar becomes files as its bytes pass, from its first to its last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kagglecrawl.kaggle.errors import Damaged, RetryLater
from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer import tars
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.members import CHOSEN, RATIO_FROM, BadMember, Choice
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.place import Place
from kagglecrawl.transfer.proof import Proof
from kagglecrawl.transfer.receiver import SMALL, Receiver, listed, too_dense
from kagglecrawl.transfer.source import PIECE, Stopped
from kagglecrawl.transfer.stream import Source, Stream


class Readable(Protocol):
    """An archive's bytes, from the first on."""

    @property
    def position(self) -> int:
        """How many of them were read."""

    @property
    def size(self) -> int:
        """How many there are, packed."""

    def read(self, limit: int, /) -> bytes:
        """At most so many bytes; none at the end."""


class Forward:
    """An object of storage, read once from its beginning."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stream = Stream(source, 0, 0)

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return self._stream.at

    @property
    def size(self) -> int:
        """How many there are; -1 until that is known."""
        return self._source.size

    def read(self, limit: int) -> bytes:
        """At most so many bytes; none at the end."""
        return self._stream.take(limit)

    def check(self) -> None:
        """Raise ``Damaged`` unless all of it has the checksum that storage gives."""
        self._stream.check()


class Untar:
    """Unpacks a tar. It cannot be entered in its middle, so another run begins with its first byte
    as well, but takes nothing to its place a second time that is there."""

    def __init__(
        self, place: Place, choice: Choice, notes: Notes, guard: DiskGuard, meter: Meter
    ) -> None:
        self._place = place
        self._choice = choice
        self._notes = notes
        self._files = place.receiver(notes, guard, meter)
        self._files.in_order = True

    def run(self, source: Readable, check: Callable[[], None] = lambda: None) -> None:
        """Unpack all that is wanted, and let it count when ``check`` has nothing against it.

        Raises ``BadArchive``, ``NoSpace``, ``Unusable`` for what would fill any disk, ``Damaged``
        where a member is another than it was, and what the source and ``check`` raise."""
        most = max(RATIO_FROM, self._choice.max_ratio * source.size)
        try:
            self._take_all(source, most)
        except Damaged:
            raise
        except (Stopped, RetryLater):
            # it goes on later, and takes nothing a second time that has got to its place
            self._files.flush(source.position, -1)
            raise
        finally:
            self._files.end()
        check()
        self._notes.listed(-1)

    def _take_all(self, source: Readable, most: float) -> None:
        files, exact = self._files, self._place.exact()
        for member, content in tars.members(source):
            if member.offset + member.size > most:  # headers count as well
                raise too_dense(self._choice)
            reason = self._choice.why_not(member)
            if reason not in CHOSEN:
                files.tell(member.name, f"it is refused ({reason})")
            entry = listed(member, reason)
            if self._notes.note([entry], exact=exact):
                again = self._place.takes_streams  # else all was forgotten
                had = self._notes.named([member.name]).get(member.name) if again else None
                if had is not None and had.number != member.number:
                    continue  # an earlier member has this name
                if had is None or had.sha256 is None:
                    self._take(MemberRow(*entry, None, ""), content)
                else:
                    files.had(had.name)
                    _compare(files, had, content)
            files.pause(source.position, -1, following=0)
        files.flush(source.position, -1)

    def _take(self, row: MemberRow, content: tars.Data | None) -> None:
        files = self._files
        proof = Proof(files.pool)
        try:
            if content is None:
                files.folder(row.name)
                files.done(row.number, 0, proof.sha256)
            elif row.size <= SMALL:
                pieces = []
                while piece := content.read(PIECE):
                    proof.add(piece)
                    pieces.append(piece)
                files.put(row.number, row.name, b"".join(pieces), proof.sha256)
            else:
                with files.writing(row, proof) as write:
                    while piece := content.read(PIECE):
                        proof.add(piece)
                        write(piece)
        except BadMember as bad:
            files.refuse(row.number, row.name, row.size, bad)


def _compare(files: Receiver, had: MemberRow, content: tars.Data | None) -> None:
    proof = Proof(files.pool)
    while content is not None and (piece := content.read(PIECE)):
        proof.add(piece)
    if proof.sha256 != had.sha256:
        raise Damaged("a member of the archive is another than it was when it was read before")
