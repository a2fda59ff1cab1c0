"""What the job knows of the files of its resources: each transfer, and every member of it.

A transfer is the files of one resource. Its members are noted as its directory is read, and each
that is had, on disk or in a store, gets its sha256. All of it counts at the next commit, as
everything of the job's does, so a killed process has at most lost the note of what it had just
written.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from kagglecrawl.kaggle.names import NameCollision, folded
from kagglecrawl.state.leases import Interrupted
from kagglecrawl.state.store import MemberRow, Store, TransferRow

#: Not wanted, or not possible: another of the same archive has this place.
COLLISION = "collision"


class Listed(NamedTuple):
    """A member as its archive's directory lists it; ``reason`` is why it is left out, or empty."""

    number: int
    name: str
    size: int
    packed: int
    crc32: int
    method: int
    offset: int
    reason: str


class Done(NamedTuple):
    """A member that is safe where it belongs: ``size`` in bytes, and in a store the ETag that it
    must have there."""

    number: int
    size: int
    sha256: bytes
    etag: str = ""


@dataclass(frozen=True)
class Tally:
    """What has come of a transfer's members: files and bytes on disk, and how many were left out,
    by reason."""

    files: int
    size: int
    left_out: dict[str, int]


@dataclass
class Meter:
    """What a transfer has done, for whoever wants to know; written by its thread alone."""

    #: Bytes that have come over the network.
    received: int = 0
    #: Bytes of the object that are dealt with, and its size.
    position: int = 0
    size: int = 0
    #: Bytes and files written.
    written: int = 0
    files: int = 0
    #: What was asked for again, by reason; URLs that were renewed; members that were refetched.
    again: dict[str, int] = field(default_factory=dict)

    def count(self, reason: str) -> None:
        """One more that was asked for again."""
        self.again[reason] = self.again.get(reason, 0) + 1


@dataclass
class UnderWay:
    """A transfer that is running, for whoever shows it."""

    key: str
    meter: Meter = field(default_factory=Meter)
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> int:
        """Bytes of the object that are still to come."""
        return max(0, self.meter.size - self.meter.position)

    @property
    def rate(self) -> float:
        """Bytes that have come a second; 0 until that can be told."""
        return self.meter.received / self.seconds if self.seconds >= 1 else 0.0

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.began


class Transfers:
    """The transfers of one job. ``writing`` guards what is written, ``changed`` is told after it,
    and ``commit`` makes it last.

    Used in the reactor's thread alone.
    """

    def __init__(
        self,
        store: Store,
        writing: Callable[[], AbstractContextManager[None]],
        changed: Callable[[], None],
        commit: Callable[[], None],
    ) -> None:
        self._store = store
        self._writing = writing
        self._changed = changed
        self.commit = commit
        #: Those that are running, by the key of their resource.
        self.under_way: dict[str, UnderWay] = {}

    def begin(self, key: str, folder: str) -> TransferRow:
        """The transfer of a resource to this folder, begun now or by an earlier run.

        Raises ``NameCollision`` if another resource of the job has the folder.
        """
        place = folded(folder)
        known = self._store.transfer(key)
        if known is not None:
            return known
        holder = self._store.transfer_at(place)
        if holder is not None:
            raise NameCollision(f"{key!a} and {holder!a} would both be stored as {folder!a}.")
        with self._write():
            self._store.add_transfer(key, place, folder, secrets.token_hex(4))
            self.commit()  # a folder that a kill leaves must be known to be this job's
        row = self._store.transfer(key)
        if row is None:  # the job's file cannot be written: the crawl is ending
            raise Interrupted
        return row

    def of(self, key: str) -> TransferRow | None:
        """What is known of a resource's transfer."""
        return self._store.transfer(key)

    def begin_anew(self, number: int, validator: str, size: int) -> None:
        """All that was known is of another object, or of none. Uploads are forgotten as well, so
        they are to be aborted before."""
        with self._write():
            self._store.forget_members(number)
            self._store.put_transfer(number, validator, size, 0, 0, listed=False)
            self.commit()

    def listed(self, number: int, crc32c: int) -> None:
        """Its whole directory is noted; with the checksum of its bytes, or -1."""
        with self._write():
            self._store.transfer_listed(number, crc32c)
            self.commit()

    def note(self, number: int, members: Iterable[Listed], *, exact: bool) -> list[int]:
        """Note a part of the directory; the numbers of those that are to be had.

        Two members never share a place: the second is left out. With ``exact`` places are compared
        byte by byte, else as a file system does that knows neither case nor composition.
        """
        rows = [
            (_row(each), None if each.reason else _place(each.name, exact=exact))
            for each in members
        ]
        with self._write():
            second = self._store.add_members(number, rows)
            if second:
                again = [MemberRow(*row[:7], COLLISION, None) for row in second]
                self._store.add_members(number, [(row, None) for row in again])
        left_out = {row.number for row in second}
        return [row.number for row, _ in rows if not row.reason and row.number not in left_out]

    def wanted(self, number: int, limit: int, after: MemberRow | None = None) -> list[MemberRow]:
        """The first members, by their offset, that are to be unpacked and are not; behind this
        one."""
        return self._store.wanted_members(number, limit, after)

    def size_wanted(self, number: int) -> int:
        """Bytes that are to be unpacked and are not."""
        return self._store.size_wanted(number)

    def stored(self, number: int, after: int, limit: int) -> list[MemberRow]:
        """Members that are had, by their number from ``after`` on."""
        return self._store.stored_members(number, after, limit)

    def named(self, number: int, names: Sequence[str]) -> dict[str, MemberRow]:
        """The members of these exact names, of which there are at most 1000, by their names;
        neither folders nor those that are left out are among them."""
        wanted = set(names)
        places = {_place(name, exact=exact) for name in wanted for exact in (True, False)}
        rows = self._store.members_named(number, [place for place in places if place])
        return {row.name: row for row in rows if row.name in wanted}

    def uploading(self, number: int, member: int, upload: str) -> None:
        """A member's multipart upload has this id; empty: it has none any more. Lasts at once: an
        upload that nobody knows would be left in the store."""
        with self._write():
            self._store.member_uploading(number, member, upload)
            self.commit()

    def uploads(self, number: int) -> list[tuple[int, str, str]]:
        """Multipart uploads that were begun and are not over: the member's number, its name, and
        the upload's id."""
        return self._store.members_uploading(number)

    def count(self, number: int) -> int:
        """How many files the directory lists."""
        return self._store.count_members(number)

    def every(self, number: int) -> list[tuple[str, int]]:
        """Name and size of every file that the directory lists, in its order."""
        return self._store.member_names(number)

    def done(
        self,
        number: int,
        digests: Sequence[Done],
        position: int,
        crc32c: int,
        left_out: Sequence[tuple[int, str]] = (),
    ) -> None:
        """These members are safe where they belong, and the others cannot be had (number, reason
        in a word). All bytes of the object before ``position`` were read;
        ``crc32c`` is their checksum, or -1 if some were passed over."""
        with self._write():
            self._store.members_at(number, digests)
            for member, reason in left_out:
                self._store.member_left_out(number, member, reason)
            self._store.transfer_at_position(number, position, crc32c)
            self.commit()

    def missing(self, number: int, members: Iterable[int]) -> None:
        """These were noted as done, and are not there."""
        with self._write():
            self._store.members_at(number, ((member, None, None, "") for member in members))

    def finish(self, number: int) -> None:
        """All that is wanted is at its place."""
        with self._write():
            self._store.transfer_finished(number)

    def tally(self, number: int) -> Tally:
        """What has come of the members."""
        left_out = dict(self._store.members_left_out(number))
        files, size = self._store.members_done(number)
        return Tally(files, size, left_out)

    def _write(self) -> AbstractContextManager[None]:
        self._changed()
        return self._writing()


def _row(each: Listed) -> MemberRow:
    name = each.name.encode("utf-8", "backslashreplace").decode()
    return MemberRow(each.number, name, *each[2:], None)


def _place(name: str, *, exact: bool) -> bytes | None:
    """A short stand-in for where a member goes; None for a folder, which may be there twice."""
    if name.endswith("/"):
        return None
    text = name if exact else folded(name)
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).digest()
