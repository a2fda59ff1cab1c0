"""What a transfer's thread notes with the job, and asks of it (state/transfers.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from kagglecrawl.state.store import MemberRow, TransferRow
from kagglecrawl.state.transfers import Done, Listed, Transfers

T = TypeVar("T")


class Ask(Protocol):
    """Runs something in the reactor's thread, which alone may use the job's file, and waits."""

    def __call__(self, what: Callable[[], T], /) -> T:
        """What it returns, or raises."""
        ...


class Notes:
    """The notes of one transfer."""

    def __init__(self, job: Transfers, number: int, key: str, ask: Ask) -> None:
        self._job = job
        self._number = number
        self.key = key
        self._ask = ask

    def known(self) -> TransferRow:
        """What is known of the transfer."""
        row = self._ask(lambda: self._job.of(self.key))
        assert row is not None
        return row

    def begin_anew(self, validator: str, size: int) -> None:
        """It is of this object, and nothing of that has been had."""
        self._ask(lambda: self._job.begin_anew(self._number, validator, size))

    def note(self, members: Sequence[Listed], *, exact: bool) -> list[int]:
        """A part of the directory; the numbers of those that are to be had."""
        return self._ask(lambda: self._job.note(self._number, members, exact=exact))

    def listed(self, crc32c: int) -> None:
        """The whole directory is noted; with the checksum of its bytes, or -1."""
        self._ask(lambda: self._job.listed(self._number, crc32c))

    def wanted(self, limit: int, after: MemberRow | None = None) -> list[MemberRow]:
        """The first members that are to be had and are not, by their offset; behind this one."""
        return self._ask(lambda: self._job.wanted(self._number, limit, after))

    def size_wanted(self) -> int:
        """The bytes of all of those."""
        return self._ask(lambda: self._job.size_wanted(self._number))

    def stored(self, after: int, limit: int) -> list[MemberRow]:
        """Members that are had, from this number on."""
        return self._ask(lambda: self._job.stored(self._number, after, limit))

    def named(self, names: Sequence[str]) -> dict[str, MemberRow]:
        """The members of these exact names, at most 1000, by their names."""
        return self._ask(lambda: self._job.named(self._number, names))

    def uploading(self, member: int, upload: str) -> None:
        """A member's multipart upload has this id, or none any more; it outlasts a kill."""
        self._ask(lambda: self._job.uploading(self._number, member, upload))

    def uploads(self) -> list[tuple[int, str, str]]:
        """Uploads that are not over: the member's number, its name, and the upload's id."""
        return self._ask(lambda: self._job.uploads(self._number))

    def done(
        self,
        digests: Sequence[Done],
        left_out: Sequence[tuple[int, str]],
        position: int,
        crc32c: int,
    ) -> None:
        """Members that are safe where they belong, others that cannot be had (number, reason), and
        how far the object is read."""
        self._ask(lambda: self._job.done(self._number, digests, position, crc32c, left_out))

    def commit(self) -> None:
        """Let all of that outlast a kill."""
        self._ask(self._job.commit)

    def missing(self, members: Sequence[int]) -> None:
        """Members that were noted as done, and are not there."""
        self._ask(lambda: self._job.missing(self._number, members))
