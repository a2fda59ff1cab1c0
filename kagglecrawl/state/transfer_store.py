"""The part of the job's file that is about the bytes of resources: every statement of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from kagglecrawl.state.database import Database


@dataclass(frozen=True)
class TransferRow:
    """The files of one resource.

    ``folder`` is below the workspace, ``token`` makes the name of the folder in which they are
    collected one of its own. ``validator`` and ``size`` (bytes) are those of the object in storage,
    empty and 0 when it has not been seen. All bytes of it before ``position`` were read; ``crc32c``
    is their checksum, -1 if some were passed over. ``listed``: its whole directory is noted, and
    ``directory`` is the CRC-32C of its bytes, -1 if it has none.
    """

    number: int
    key: str
    folder: str
    token: str
    validator: str
    size: int
    position: int
    crc32c: int
    directory: int
    listed: bool
    finished: bool


class MemberRow(NamedTuple):
    """A member of a transfer's archive; ``reason`` says why it is left out, ``sha256`` that it is
    had (on disk, or in the store, whose ETag for it is ``etag`` then), ``size`` and ``packed`` are
    bytes."""

    number: int
    name: str
    size: int
    packed: int
    crc32: int
    method: int
    offset: int
    reason: str
    sha256: bytes | None
    etag: str = ""


_MEMBER = "number, name, size, packed, crc32, method, offset, reason, sha256, etag"
_WANTED = "reason = '' AND sha256 IS NULL"


class TransferStore(Database):
    """Transfers and their members. Every method may raise ``sqlite3.Error``."""

    def transfer(self, key: str) -> TransferRow | None:
        """The transfer of a resource."""
        found = self._db.execute(
            "SELECT id, key, folder, token, validator, size, position, crc32c, "
            "directory, listed, finished FROM transfer WHERE key = ?",
            (key,),
        ).fetchone()
        if found is None:
            return None
        row = TransferRow(*found)
        return replace(row, listed=bool(row.listed), finished=bool(row.finished))

    def unfinished_transfers(self, limit: int) -> list[tuple[str, int, int]]:
        """Those that have begun and are not at their place, the largest first: key, bytes of the
        object that are dealt with, and of all of it (0 if that is not known)."""
        return self._db.execute(
            "SELECT t.key, t.position, t.size FROM transfer AS t CROSS JOIN resource AS r "
            "ON r.key = t.key WHERE t.finished = 0 AND r.verdict IN ('pending', 'failed') "
            "ORDER BY t.size - t.position DESC, t.key LIMIT ?",
            (limit,),
        ).fetchall()

    def transfer_at(self, place: str) -> str | None:
        """Whose folder this is."""
        found = self._db.execute("SELECT key FROM transfer WHERE place = ?", (place,)).fetchone()
        return None if found is None else str(found[0])

    def add_transfer(self, key: str, place: str, folder: str, token: str) -> None:
        """Begin one."""
        self._db.execute(
            "INSERT INTO transfer (key, place, folder, token, validator, size, position, crc32c, "
            "directory, listed, finished) VALUES (?, ?, ?, ?, '', 0, 0, 0, -1, 0, 0)",
            (key, place, folder, token),
        )

    def put_transfer(
        self, number: int, validator: str, size: int, position: int, crc32c: int, *, listed: bool
    ) -> None:
        """Note which object it is of, and how far it is."""
        self._db.execute(
            "UPDATE transfer SET validator = ?, size = ?, position = ?, crc32c = ?, listed = ?, "
            "finished = 0 WHERE id = ?",
            (validator, size, position, crc32c, listed, number),
        )

    def transfer_at_position(self, number: int, position: int, crc32c: int) -> None:
        """It has come so far."""
        self._db.execute(
            "UPDATE transfer SET position = ?, crc32c = ? WHERE id = ?", (position, crc32c, number)
        )

    def transfer_listed(self, number: int, crc32c: int) -> None:
        """Its whole directory is noted, whose bytes have this checksum."""
        self._db.execute(
            "UPDATE transfer SET listed = 1, directory = ? WHERE id = ?", (crc32c, number)
        )

    def transfer_finished(self, number: int) -> None:
        """Its files are at their place."""
        self._db.execute("UPDATE transfer SET finished = 1 WHERE id = ?", (number,))

    def add_members(
        self, transfer: int, members: Sequence[tuple[MemberRow, bytes | None]]
    ) -> list[MemberRow]:
        """Note members, each with its place; those are returned whose place another has."""
        done = self._db.executemany(
            f"INSERT OR IGNORE INTO member (transfer, place, {_MEMBER}) "  # noqa: S608
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((transfer, place, *member) for member, place in members),
        )
        if done.rowcount == len(members):
            return []
        numbers = [member.number for member, _ in members]
        known = self._db.execute(
            "SELECT number FROM member WHERE transfer = ? AND number BETWEEN ? AND ?",
            (transfer, min(numbers), max(numbers)),
        )
        there = {number for (number,) in known}
        return [member for member, _ in members if member.number not in there]

    def forget_members(self, transfer: int) -> None:
        """All of them."""
        self._db.execute("DELETE FROM member WHERE transfer = ?", (transfer,))

    def wanted_members(
        self, transfer: int, limit: int, after: MemberRow | None = None
    ) -> list[MemberRow]:
        """The first that are to be had and are not, by their offset; behind this one."""
        last = (-1, -1) if after is None else (after.offset, after.number)
        found = self._db.execute(
            f"SELECT {_MEMBER} FROM member WHERE transfer = ? AND {_WANTED} "  # noqa: S608
            "AND (offset, number) > (?, ?) ORDER BY offset, number LIMIT ?",
            (transfer, *last, limit),
        )
        return [MemberRow(*row) for row in found]

    def size_wanted(self, transfer: int) -> int:
        """The bytes of all that are to be had and are not."""
        found = self._db.execute(
            f"SELECT coalesce(sum(size), 0) FROM member WHERE transfer = ? AND {_WANTED}",  # noqa: S608
            (transfer,),
        ).fetchone()
        return int(found[0])

    def stored_members(self, transfer: int, after: int, limit: int) -> list[MemberRow]:
        """Those that are had, from this number on."""
        found = self._db.execute(
            f"SELECT {_MEMBER} FROM member WHERE transfer = ? AND number >= ? "  # noqa: S608
            "AND sha256 IS NOT NULL ORDER BY number LIMIT ?",
            (transfer, after, limit),
        )
        return [MemberRow(*row) for row in found]

    def member_names(self, transfer: int) -> list[tuple[str, int]]:
        """Name and size of every file, in the directory's order."""
        return self._db.execute(
            "SELECT name, size FROM member WHERE transfer = ? AND name NOT LIKE '%/' "
            "ORDER BY number",
            (transfer,),
        ).fetchall()

    def count_members(self, transfer: int) -> int:
        """How many files there are."""
        found = self._db.execute(
            "SELECT count(*) FROM member WHERE transfer = ? AND name NOT LIKE '%/'", (transfer,)
        ).fetchone()
        return int(found[0])

    def members_named(self, transfer: int, places: Sequence[bytes]) -> list[MemberRow]:
        """Those that have these places, at most 2000."""
        marks = ", ".join("?" * len(places))
        found = self._db.execute(
            f"SELECT {_MEMBER} FROM member WHERE transfer = ? AND place IN ({marks})",  # noqa: S608
            (transfer, *places),
        )
        return [MemberRow(*row) for row in found]

    def members_at(
        self, transfer: int, members: Iterable[tuple[int, int | None, bytes | None, str]]
    ) -> None:
        """Number, size, checksum and ETag of members that are had; without checksum and size, of
        some that are not. A size that was not known before is noted. An upload is over."""
        self._db.executemany(
            "UPDATE member SET sha256 = ?, size = coalesce(?, size), etag = ?, upload = '' "
            "WHERE transfer = ? AND number = ?",
            ((sha256, size, etag, transfer, number) for number, size, sha256, etag in members),
        )

    def member_uploading(self, transfer: int, number: int, upload: str) -> None:
        """The id of its multipart upload; empty when there is none any more."""
        self._db.execute(
            "UPDATE member SET upload = ? WHERE transfer = ? AND number = ?",
            (upload, transfer, number),
        )

    def members_uploading(self, transfer: int) -> list[tuple[int, str, str]]:
        """Number, name and upload id of those whose multipart upload was begun."""
        return self._db.execute(
            "SELECT number, name, upload FROM member WHERE transfer = ? AND upload <> '' "
            "ORDER BY number",
            (transfer,),
        ).fetchall()

    def member_left_out(self, transfer: int, number: int, reason: str) -> None:
        """It cannot be had."""
        self._db.execute(
            "UPDATE member SET reason = ?, sha256 = NULL, place = NULL, etag = '' "
            "WHERE transfer = ? AND number = ?",
            (reason, transfer, number),
        )

    def members_left_out(self, transfer: int) -> list[tuple[str, int]]:
        """How many are left out, by reason."""
        return self._db.execute(
            "SELECT reason, count(*) FROM member WHERE transfer = ? AND reason <> '' "
            "GROUP BY reason ORDER BY reason",
            (transfer,),
        ).fetchall()

    def members_done(self, transfer: int) -> tuple[int, int]:
        """How many files are had, and their bytes."""
        found = self._db.execute(
            "SELECT count(*), coalesce(sum(size), 0) FROM member "
            "WHERE transfer = ? AND sha256 IS NOT NULL AND name NOT LIKE '%/'",
            (transfer,),
        ).fetchone()
        return int(found[0]), int(found[1])
