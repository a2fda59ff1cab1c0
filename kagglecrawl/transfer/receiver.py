"""Members of an archive on their way to a place: taken, made safe, and then noted with the job."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from kagglecrawl.kaggle.errors import Unusable
from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import COLLISION, Done, Listed, Meter
from kagglecrawl.transfer.disk import DiskGuard, unwritable
from kagglecrawl.transfer.members import BadMember, Choice, Member, shown
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.proof import Proof

logger = logging.getLogger(__name__)

#: Members that are looked at at once.
BATCH = 2048
#: Bytes after which what was done is made safe and noted, and the size of a member before which
#: it is: a kill costs twice as much at most, or the one large member that was under way.
_MOST_UNNOTED = 16 << 20
_LARGE = 8 << 20
#: Seconds after which it is, too.
_LONGEST_UNNOTED = 5.0
#: Files up to this size are small: they are proved in memory, and then taken at once.
SMALL = 1 << 18
#: So many that are left out are named in the log.
_NAMED = 20


class Refused(NamedTuple):
    """A member that a place cannot have."""

    name: str
    why: BadMember


#: By the number of a member: its receipt where it is in a store, or why it cannot be had.
Receipts = Mapping[int, str | Refused]


class Safe(Protocol):
    """What is being made safe."""

    def done(self) -> bool:
        """Is it?"""

    def result(self) -> Receipts:
        """Wait until it is; raises what has come in between."""


class _Flush(NamedTuple):
    """What is being made safe, and will then be noted."""

    safe: Safe
    digests: list[tuple[int, int, bytes]]
    left_out: list[tuple[int, str]]
    position: int
    crc32c: int


class Receiver(ABC):
    """Takes members to their place, and notes them with the job when they are safe there."""

    #: Is all that came before a large member safe before that is begun?
    settles_before_large = True
    #: Do members come in the order of their numbers, before those that follow are known?
    in_order = False

    def __init__(self, notes: Notes, guard: DiskGuard, meter: Meter) -> None:
        self._notes = notes
        self._guard = guard
        self._meter = meter
        #: What has come of members since the last flush, and how far the object was read at that.
        self._digests: list[tuple[int, int, bytes]] = []
        self._left_out: list[tuple[int, str]] = []
        self._bytes = self._refused = 0
        self._since = time.monotonic()
        self._position = 0
        #: Sums up large pieces while the next ones are unpacked.
        self.pool = ThreadPoolExecutor(1, thread_name_prefix=f"sums of {notes.key}")
        #: Members that are made safe while the next ones are taken.
        self._flushing: _Flush | None = None
        #: Why some of them could not be.
        self._failed: Exception | None = None

    # -- what differs from place to place ---------------------------------------------------------

    @abstractmethod
    def reserve(self, size: int) -> None:
        """So many bytes are to come; raises ``NoSpace`` where there is no room for them."""

    @abstractmethod
    def put(self, number: int, name: str, content: bytes | memoryview, sha256: bytes) -> None:
        """A whole small file, that is proved, and done with that; raises ``BadMember`` where its
        place is taken."""

    @abstractmethod
    def writing(
        self, row: MemberRow, proof: Proof, kept: int = 0
    ) -> AbstractContextManager[Callable[[bytes], None]]:
        """Takes a larger one, behind its first ``kept`` bytes. It is whole, and what ``proof``
        says, when the context is left without an exception."""

    @abstractmethod
    def folder(self, name: str) -> None:
        """One of the archive's folders; raises ``BadMember`` where its place is taken."""

    @abstractmethod
    def discard(self, name: str) -> None:
        """A member is not to be had: nothing of it stays."""

    @abstractmethod
    def _make_safe(self) -> Safe:
        """Make safe what was taken, while more is taken."""

    @abstractmethod
    def had(self, name: str) -> None:
        """An earlier run has taken this one."""

    # -- members ----------------------------------------------------------------------------------

    def refuse(self, number: int, name: str, size: int, bad: BadMember) -> None:
        """A member is left out; the first ones are named in the log."""
        self._guard.spend(self._notes.key, size)
        self.tell(name, f"{bad} ({bad.reason})")
        if bad.reason != COLLISION:
            self.discard(name)
        self._left_out.append((number, bad.reason))

    def tell(self, name: str, why: str) -> None:
        """Of a member that is left out."""
        self._refused += 1
        if self._refused <= _NAMED:
            logger.warning("Left out %s of %s: %s", shown(name), self._notes.key, why)
        elif self._refused == _NAMED + 1:
            logger.warning("More files of %s are left out, and counted", self._notes.key)

    def done(self, number: int, size: int, sha256: bytes) -> None:
        """A member, or folder, is there."""
        self._digests.append((number, size, sha256))
        self._meter.files += 1

    def end(self) -> None:
        """No more is unpacked."""
        self.pool.shutdown(cancel_futures=True)

    # -- making safe, and noting ------------------------------------------------------------------

    def pause(self, position: int, crc32c: int, following: int) -> None:
        """Between two members, of which the next has so many bytes: is it time to make safe what
        was taken? Where that can be done while others are taken, it is."""
        count = len(self._digests) + len(self._left_out)
        if following >= _LARGE and self.settles_before_large:
            if count or self._flushing:
                self.flush(position, crc32c)
            return
        if self._flushing is not None and self._flushing.safe.done():
            self._note()
        # What was read counts as well: members of few bytes may be far from each other.
        much = max(self._bytes, position - self._position) >= _MOST_UNNOTED
        late = time.monotonic() - self._since >= _LONGEST_UNNOTED
        if much or count >= BATCH or (count and (late or following >= _LARGE)):
            self._begin_flush(position, crc32c)

    def flush(self, position: int, crc32c: int) -> None:
        """Make it safe, and note it: all bytes of the object before ``position`` were read, and
        that is their checksum."""
        self._begin_flush(position, crc32c)
        self._note()

    def _begin_flush(self, position: int, crc32c: int) -> None:
        self._note()
        if self._failed is not None:
            raise self._failed
        flush = _Flush(self._make_safe(), self._digests, self._left_out, position, crc32c)
        self._flushing = flush
        self._digests, self._left_out, self._bytes = [], [], 0
        self._since, self._position = time.monotonic(), position

    def _note(self) -> None:
        """Wait until what is being made safe is, and note it."""
        if self._flushing is None:
            return
        flush, self._flushing = self._flushing, None
        try:
            receipts = flush.safe.result()
        except Exception as error:
            # Nothing that comes after these may be noted: they would be taken to be there.
            self._failed = unwritable(error) if isinstance(error, OSError) else error
            raise self._failed from None
        done = []
        for number, size, sha256 in flush.digests:
            receipt = receipts.get(number, "")
            if isinstance(receipt, Refused):
                self.tell(receipt.name, f"{receipt.why} ({receipt.why.reason})")
                flush.left_out.append((number, receipt.why.reason))
            else:
                done.append(Done(number, size, sha256, receipt))
        self._notes.done(done, flush.left_out, flush.position, flush.crc32c)
        self._guard.check()


def listed(member: Member, reason: str) -> Listed:
    """A member as the job notes it."""
    return Listed(
        number=member.number,
        name=member.name,
        size=member.size,
        packed=member.packed,
        crc32=member.crc32,
        method=member.method,
        offset=member.offset,
        reason=reason,
    )


def member_of(row: MemberRow) -> Member:
    """The reverse."""
    return Member(
        row.number, row.name, row.size, row.packed, row.crc32, row.method, row.offset, row.reason
    )


def too_dense(choice: Choice) -> Unusable:
    """An archive that would fill any disk."""
    return Unusable(
        f"the archive unpacks to more than {choice.max_ratio:g} times its size: raise "
        "KAGGLE_MAX_RATIO if you trust it",
        "ratio",
    )
