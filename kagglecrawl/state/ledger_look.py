"""The ledger for people: its counts and rows as of one moment, while crawls may be writing."""

# What is put into queries here is this module's own.
# ruff: noqa: S608

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from kagglecrawl.state.ledger_file import (
    ANEW,
    TIMEOUT,
    cannot,
    check_kind,
    check_ours,
    translated,
)
from kagglecrawl.state.ledger_file import LedgerRefused as LedgerRefused

#: A 404 that told no version is of the one that was known.
_NEWEST = "version = '', seen DESC, at DESC, id DESC"
_LATEST = f"(SELECT id FROM version WHERE resource = r.id ORDER BY {_NEWEST} LIMIT 1)"
_WITH_FILES = (
    "(SELECT id FROM version WHERE resource = r.id AND place IS NOT NULL "
    "ORDER BY files_at DESC, id DESC LIMIT 1)"
)


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


class Look:
    """A ledger as it is now, which changes nothing of it. All methods raise ``LedgerRefused``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with translated(path):
            if not os.path.lexists(path) or (path.is_file() and not path.stat().st_size):
                raise NoLedger(f"no ledger at {path}: it is made by the first crawl")
            check_kind(path)
            self._file = _open(path)

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
        newest = f"ORDER BY {_NEWEST} LIMIT 1"
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


def _where(conditions: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Those that have a value, as SQL, and the values."""
    given = {text: value for text, value in conditions.items() if value not in {None, ""}}
    return f"WHERE {' AND '.join(given)}" if given else "", tuple(given.values())


def _open(path: Path) -> sqlite3.Connection:
    """For reading alone, as of now."""
    try:
        return _connect(path, "mode=ro")
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        refused = any(words in str(error) for words in ("unable to open", "readonly"))
        if not refused or (log.exists() and log.stat().st_size):
            raise
        # A folder that cannot be written, where SQLite cannot make what readers share.
        return _connect(path, "mode=ro&immutable=1")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    file = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=TIMEOUT)
    try:
        check_ours(file, path)
        file.execute("BEGIN")
        file.execute("SELECT count(*) FROM resource WHERE id = 0").fetchone()  # from here on
    except BaseException:
        file.close()
        raise
    return file
