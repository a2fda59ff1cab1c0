"""The ledger for people: its counts and rows as of one moment, while crawls may be writing."""

# What is put into queries here is this module's own.
# ruff: noqa: S608

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import translate
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

from kagglecrawl.kaggle.names import folded
from kagglecrawl.state.ledger_each import NEWEST, Entry, entries, sources
from kagglecrawl.state.ledger_file import (
    ANEW,
    cannot,
    check_kind,
    check_ours,
    open_to_read,
    translated,
)
from kagglecrawl.state.ledger_file import LedgerRefused as LedgerRefused

_LATEST = f"(SELECT id FROM version WHERE resource = r.id ORDER BY {NEWEST} LIMIT 1)"
_WITH_FILES = (
    "(SELECT id FROM version WHERE resource = r.id AND place IS NOT NULL "
    "ORDER BY files_at DESC, id DESC LIMIT 1)"
)


#: Resources that are read at a time.
_KEPT = 500

#: What stands for the version of a resource that has none.
_NO_VERSION = (None, "", "", None, None, "", 0, 0, None, None)


class NoLedger(LedgerRefused):
    """There is none yet."""


@dataclass
class Sums:
    """The counts of one spider and source. By verdict, resources are counted by their newest
    version; ``listed_only`` are those of which no more is known than that a list had them.

    ``versions`` and ``records`` count all versions. ``files`` and ``bytes`` are those of the newest
    version of each resource that has any.
    """

    source: str
    spider: str
    resources: int = 0
    versions: int = 0
    records: int = 0
    stored: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    pending: int = 0
    listed_only: int = 0
    not_listed: int = 0
    deleted: int = 0
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Wanted:
    """Which rows are wanted; what is None or empty leaves none out.

    ``since`` and ``until`` are seconds since the epoch, of when an outcome was first so; one of
    ``until`` itself is out.
    ``gone`` may also be ``any``.
    """

    spider: str = ""
    source: str = ""
    verdict: str = ""
    reason: str = ""
    gone: str = ""
    key: str = ""
    since: float | None = None
    until: float | None = None
    all_versions: bool = False

    def of_resource(self) -> dict[str, Any]:
        """Conditions for a resource (but not its key), with their values."""
        how = {"length(gone) > ?": 0} if self.gone == "any" else {"gone = ?": self.gone}
        return {"resource = ?": self.spider, "source = ?": self.source, **how}

    def of_version(self) -> dict[str, Any]:
        """Conditions for a version, with their values."""
        return {
            "verdict = ?": self.verdict,
            "reason = ?": self.reason,
            "since >= ?": self.since,
            "since < ?": self.until,
        }


@dataclass(frozen=True)
class Row:
    """One resource version; ``version`` is None for a resource that was listed and no more. Times
    are in seconds since the epoch, 0 or None for never."""

    source: str
    spider: str
    key: str
    first_seen: float
    last_seen: float
    last_listed: float
    gone: str
    gone_since: float
    version: str | None
    verdict: str
    reason: str
    at: float | None
    stored_at: float | None
    choice: str
    files: int
    bytes: int
    manifest: dict[str, Any] | None
    record: dict[str, Any] | None

    @property
    def folder(self) -> str:
        """Where its files are, below the workspace; empty if there are none."""
        return str((self.manifest or {}).get("folder", ""))


@dataclass(frozen=True)
class Kept:
    """The files that are stored of one resource, as the ledger has them: those of the version whose
    files came last. ``overwritten``: files of another have come to the same folder since.

    ``folder`` is below the workspace, or in a store a whole URI. ``number`` and ``at`` change when
    the files do.
    """

    source: str
    spider: str
    key: str
    version: str
    number: int
    at: float
    files: int
    bytes: int
    overwritten: bool
    folder: str


class KeptFile(NamedTuple):
    """One of them: bytes, SHA-256, and the ETag that it must have in a store, if that is known."""

    name: str
    size: int
    sha256: bytes
    etag: str


class Look:
    """A ledger as it is now, which changes nothing of it. All methods raise ``LedgerRefused``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with translated(path):
            if not os.path.lexists(path) or (path.is_file() and not path.stat().st_size):
                raise NoLedger(f"no ledger at {path}: it is made by the first crawl")
            check_kind(path)
            self._file = open_to_read(path)

    def close(self) -> None:
        """Let the file go."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def whose(self) -> list[tuple[str, str]]:
        """The sources and spiders of which it has anything."""
        return [
            (str(source), str(spider))
            for source, spider in self._rows("SELECT DISTINCT source, resource FROM resource")
        ]

    def sums(self) -> list[Sums]:
        """The counts, by spider and source."""
        found: dict[tuple[str, str], Sums] = {}
        for source, spider, *counts in self._rows(
            "SELECT source, resource, count(*), sum(gone = 'not_listed'), sum(gone = 'deleted') "
            "FROM resource GROUP BY source, resource"
        ):
            sums = found[source, spider] = Sums(source, spider)
            sums.resources, sums.not_listed, sums.deleted = counts
        for source, spider, *counts in self._rows(
            "SELECT r.source, r.resource, count(*), count(v.record) "
            "FROM version AS v JOIN resource AS r ON r.id = v.resource "
            "GROUP BY r.source, r.resource"
        ):
            sums = found[source, spider]
            sums.versions, sums.records = counts
        for source, spider, files, size in self._rows(
            "SELECT r.source, r.resource, sum(v.files), sum(v.bytes) FROM resource AS r "
            f"JOIN version AS v ON v.id = {_WITH_FILES} GROUP BY r.source, r.resource"
        ):
            found[source, spider].files, found[source, spider].bytes = files, size
        for source, spider, verdict, reason, count in self._rows(
            "SELECT r.source, r.resource, v.verdict, v.reason, count(*) AS many "
            f"FROM resource AS r LEFT JOIN version AS v ON v.id = {_LATEST} "
            "GROUP BY r.source, r.resource, v.verdict, v.reason ORDER BY many DESC, v.reason"
        ):
            sums = found[source, spider]
            match verdict:
                case "stored":
                    sums.stored += count
                case "pending":
                    sums.pending = count
                case "skipped":
                    sums.skipped[reason] = count
                case None:
                    sums.listed_only = count
                case _:
                    sums.failed[reason] = count
        return list(found.values())

    def rows(self, wanted: Wanted, *, records: bool = False) -> Iterator[Row]:
        """What is wanted, by source, spider and key, and a resource's versions by time; one by one,
        whatever their number."""
        for resource, version in self._found(
            wanted,
            "source, resource, key",
            "version, verdict, reason, since, stored_at, choice, files, bytes, manifest, "
            f"{'record' if records else 'NULL'}",
        ):
            *plain, manifest, record = version or _NO_VERSION
            key = resource[2]
            documents = (self._object(document, key) for document in (manifest, record))
            yield Row(*(*resource, *plain, *documents))

    def keys(self, wanted: Wanted) -> Iterator[str]:
        """The keys of what is wanted, each once."""
        for key, _ in groupby(row[0][2] for row in self._found(wanted, "key", "id")):
            yield key

    def _found(
        self, wanted: Wanted, order: str, columns: str
    ) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...] | None]]:
        """Each resource that is wanted with each of its versions that is, or with None if it has
        none. Two queries, and not one with a join, so that nothing but keys is ever sorted."""
        where, values = _where(wanted.of_resource())
        conditions, conditional = _where(wanted.of_version())
        newest = f"ORDER BY {NEWEST} LIMIT 1"
        query = f"SELECT * FROM version WHERE resource = ? {newest}"
        if wanted.all_versions:
            query = "SELECT * FROM version WHERE resource = ?"
        query = f"SELECT {columns} FROM ({query}) {conditions} ORDER BY seen, at, id"
        like = re.compile(translate(wanted.key or "*")).match
        for number, *resource in self._rows(
            "SELECT id, source, resource, key, first_seen, last_seen, last_listed, gone, "
            f"gone_since FROM resource {where} ORDER BY {order}",
            values,
        ):
            if like(resource[2]):
                versions = list(self._rows(query, (number, *conditional)))
                if not versions and not conditions:
                    yield tuple(resource), None
                for version in versions:
                    yield tuple(resource), version

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        with translated(self._path):
            # no "yield from", which closes the cursor of rows that nobody wants any more, perhaps
            # when the file is closed
            for row in self._file.execute(query, values):  # noqa: UP028
                yield row

    def _object(self, document: str | None, key: str) -> dict[str, Any] | None:
        if document is None:
            return None
        try:
            found = json.loads(document)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            why = f"what it has of {key} is no JSON object"
            raise LedgerRefused(cannot(self._path, why, ANEW))
        return found


class Shelf:
    """What the ledger has of files, for whoever compares them for hours: each look is short, so no
    crawl's log grows for it, and sees the ledger as it is then.

    Several threads may share one. All methods raise ``LedgerRefused``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        with translated(path):
            try:
                check_kind(path)
            except FileNotFoundError:
                raise NoLedger(f"there is no ledger at {path} yet: a crawl makes one") from None
            self._file = open_to_read(path, shared=True)
            version = check_ours(self._file, path)
        # one of format 1 has none, until a crawl writes it
        self._columns = f"name, size, sha256, {'etag' if version > 1 else repr('')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._file.close()

    def kept(self, spider: str = "") -> Iterator[Kept]:
        """All resources that have files, by source, spider and key."""
        after = ("", "", "")
        while rows := self._kept(
            "(r.source, r.resource, r.key) > (?, ?, ?) AND ? IN ('', r.resource) "
            "ORDER BY r.source, r.resource, r.key LIMIT ?",
            (*after, spider, _KEPT),
        ):
            yield from rows
            after = (rows[-1].source, rows[-1].spider, rows[-1].key)

    def now(self, kept: Kept) -> Kept | None:
        """The same resource, as it is now."""
        whose = (kept.source, kept.spider, kept.key)
        found = self._kept("r.source = ? AND r.resource = ? AND r.key = ?", whose)
        return found[0] if found else None

    def _kept(self, where: str, values: tuple[Any, ...]) -> list[Kept]:
        rows = self._rows(
            "SELECT r.source, r.resource, r.key, v.version, v.id, v.files_at, v.files, v.bytes, "
            "EXISTS (SELECT 1 FROM version AS o WHERE o.place = v.place "
            "AND o.files_at > v.files_at), v.manifest "
            f"FROM resource AS r JOIN version AS v ON v.id = {_WITH_FILES} WHERE {where}",
            values,
        )
        return [Kept(*(*row[:8], bool(row[8]), self._folder(row[9], row[2]))) for row in rows]

    def _folder(self, manifest: str, key: str) -> str:
        try:
            return str(json.loads(manifest)["folder"])
        except (ValueError, TypeError, KeyError):
            why = f"what it has of the files of {key} is no manifest"
            raise LedgerRefused(cannot(self._path, why, ANEW)) from None

    def files(self, number: int, first: str, limit: int, *, behind: bool = False) -> list[KeptFile]:
        """So many files of a version (``Kept.number``), by name, from this name on, or ``behind``
        it."""
        where = f"version = ? AND name {'>' if behind else '>='} ?"
        rows = self._rows(
            f"SELECT {self._columns} FROM file WHERE {where} ORDER BY name LIMIT ?",
            (number, first, limit),
        )
        return [KeptFile(*row) for row in rows]

    def each(self, resource: str) -> Iterator[tuple[str, Entry]]:
        """All of a spider's resources with their sources, by source and key, each as its newest
        version is."""
        for source in sources(self._rows, resource):
            for entry in entries(self._rows, source, resource, ""):
                yield source, entry

    def has_folder(self, folder: str) -> bool:
        """Are, or were, any resource's files in this folder?"""
        return self._any("SELECT 1 FROM version WHERE place = ? LIMIT 1", (folded(folder),))

    def of_another_version(self, kept: Kept, name: str) -> bool:
        """Is this a file of another version that went to the same folder?"""
        return self._any(
            "SELECT 1 FROM version AS v JOIN file AS f ON f.version = v.id "
            "WHERE v.place = ? AND v.id <> ? AND f.name = ? LIMIT 1",
            (folded(kept.folder), kept.number, name),
        )

    def _any(self, query: str, values: tuple[Any, ...]) -> bool:
        with suppress(UnicodeEncodeError):  # a disk may have names that are no text
            return bool(self._rows(query, values))
        return False

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with translated(self._path), self._lock:
            return self._file.execute(query, values).fetchall()


def _where(conditions: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Those that have a value, as SQL, and the values."""
    given = {text: value for text, value in conditions.items() if value not in {None, ""}}
    return f"WHERE {' AND '.join(given)}" if given else "", tuple(given.values())
