"""The ledger: what every crawl into a workspace has had, and what became of it, for those to come.

One file that outlives jobs and is shared by all crawls of a workspace, several at once. A job
brings what it has done after it has committed it (two files do not commit together), so the same
may come twice, or late. What decides is when something was seen, never when it came: the newest
outcome of a version counts, and whether a resource is gone follows from when it was last listed,
missed, stored and refused.

``ledger_file.py`` has its tables, ``ledger_each.py`` walks through it, ``ledger_look.py`` reads it
for people.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

from kagglecrawl.kaggle.errors import OF_FILES
from kagglecrawl.kaggle.names import folded
from kagglecrawl.state.ledger_each import Entry as Entry
from kagglecrawl.state.ledger_each import entries, parsed
from kagglecrawl.state.ledger_file import (
    ELSEWHERE,
    cannot,
    check_place,
    connect,
    mend_times,
    theirs,
    translated,
)
from kagglecrawl.state.ledger_file import LedgerBusy as LedgerBusy
from kagglecrawl.state.ledger_file import LedgerFull as LedgerFull
from kagglecrawl.state.ledger_file import LedgerRefused as LedgerRefused
from kagglecrawl.state.outcomes import Known as Known
from kagglecrawl.state.outcomes import Outcome as Outcome
from kagglecrawl.state.outcomes import Walk as Walk

#: Files that are read at a time.
_FILES = 1000

#: The name of the list that nothing narrows.
WHOLE_LIST = "{}"
_GONE = (
    "CASE WHEN deleted > stored THEN 'deleted' "
    "WHEN missed > last_listed AND missed > stored THEN 'not_listed' ELSE '' END"
)
_SETTLE = (
    f"UPDATE resource SET gone = {_GONE}, gone_since = CASE {_GONE} WHEN gone THEN gone_since "  # noqa: S608
    "WHEN 'deleted' THEN deleted WHEN 'not_listed' THEN missed ELSE 0 END WHERE id = ?"
)
#: Other files have come to its folder later; and why its own cannot be had, if none were had since.
_OVERWRITTEN = (
    "EXISTS (SELECT 1 FROM version AS o WHERE o.place = v.place AND o.files_at > v.files_at)"
)
_REFUSED = "CASE WHEN v.refused_at > coalesce(v.files_at, 0) THEN v.files_refused ELSE '' END"
_UPSERT = (
    "INSERT INTO version (resource, version, verdict, reason, signature, at, since, seen) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (resource, version) DO UPDATE SET "
    "since = CASE WHEN (excluded.verdict, excluded.reason, excluded.signature) = "
    "(version.verdict, version.reason, version.signature) AND ? "
    "THEN version.since ELSE excluded.at END, "
    "verdict = excluded.verdict, reason = excluded.reason, signature = excluded.signature, "
    "at = excluded.at WHERE excluded.at > version.at"
)
_OF_VERSION = (
    "FROM version AS v JOIN resource AS r ON r.id = v.resource "
    "WHERE r.source = ? AND r.resource = ? AND r.key = ? AND v.version = ?"
)


class Ledger:
    """What the ledger has of one resource (a spider's name) from one source.

    All methods raise ``LedgerRefused`` where the file cannot be used, and ``LedgerBusy`` where
    another process holds it for longer than a second. It is made when something is first written.
    """

    def __init__(self, path: Path, source: str, resource: str) -> None:
        self.path = path
        self._whose = (source, resource)
        self._file: sqlite3.Connection | None = None
        #: Which file that is: it may be removed while it is open.
        self._inode = (0, 0)

    def another(self) -> Self:
        """The same, for another thread."""
        return type(self)(self.path, *self._whose)

    def check(self) -> None:
        """Raise if it is there and cannot be used, or could not be made."""
        with suppress(LedgerBusy):
            if self._open() is None:
                check_place(self.path)
            elif not os.access(self.path, os.W_OK):  # SQLite would only say so when it writes
                raise LedgerRefused(cannot(self.path, "it may not be written", ELSEWHERE))
            else:
                with self._writing() as file:
                    mend_times(file, time.time())

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- looking ----------------------------------------------------------------------------------

    def known(self, key: str, version: str) -> Known | None:
        """What it has of this version."""
        found = self._look(
            "SELECT v.version, v.verdict, v.reason, v.signature, v.at, v.record_signature, "
            "coalesce(v.stored_at >= v.at, 0), "
            "coalesce(v.written = v.record_signature, 0), v.choice, v.manifest, v.files_signature, "
            f"{_OVERWRITTEN}, {_REFUSED}, r.gone {_OF_VERSION}",
            (*self._whose, key, version),
        )
        if not found:
            return None
        known = Known(*found[0])
        return replace(  # SQLite has no truth but 0 and 1
            known,
            fresh=bool(known.fresh),
            written=bool(known.written),
            overwritten=bool(known.overwritten),
        )

    def record(self, key: str, version: str) -> dict[str, Any] | None:
        """The record that is kept of this version; None if there is none, or what is kept is no
        record."""
        found = self._look(f"SELECT v.record {_OF_VERSION}", (*self._whose, key, version))
        return parsed(found[0][0]) if found else None

    def each(self, prefix: str) -> Iterator[Entry]:
        """All resources whose keys begin so, by key, each as its newest version is.

        They are read piece by piece: what else is done with the ledger meanwhile is no harm.
        """
        return entries(self._look, *self._whose, prefix)

    def files(self, key: str, version: str) -> Iterator[tuple[str, int, bytes, str]]:
        """Name, size in bytes, SHA-256 and ETag (of one in a store, else empty) of the files that
        are kept of this version, by name.

        They are read piece by piece: what else is done with the ledger meanwhile is no harm.
        """
        if not (found := self._look(f"SELECT v.id {_OF_VERSION}", (*self._whose, key, version))):
            return
        after = ""
        while files := self._look(
            "SELECT name, size, sha256, etag FROM file WHERE version = ? AND name > ? "
            "ORDER BY name LIMIT ?",
            (found[0][0], after, _FILES),
        ):
            after = files[-1][0]
            yield from files

    def holder(self, folder: str, key: str) -> str | None:
        """Another resource whose stored files are in this folder, below the workspace, if any."""
        found = self._look(
            "SELECT r.key FROM version AS v JOIN resource AS r ON r.id = v.resource "
            "WHERE v.place = ? AND r.source = ? AND r.resource = ? AND r.key <> ? LIMIT 1",
            (folded(folder), *self._whose, key),
        )
        return str(found[0][0]) if found else None

    def _look(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """All rows at once, so that no look lasts."""
        if (file := self._open()) is None:
            return []
        with translated(self.path):
            return file.execute(query, values).fetchall()

    # -- outcomes ---------------------------------------------------------------------------------

    def apply(self, outcomes: Iterable[Outcome]) -> None:
        """Take these, all or none. The same again changes nothing."""
        rest = iter(outcomes)
        if (first := next(rest, None)) is None:
            return
        with self._writing() as file:
            for outcome in chain((first,), theirs(rest)):
                self._apply(file, outcome)

    def _apply(self, file: sqlite3.Connection, outcome: Outcome) -> None:
        resource, at = self._met(file, outcome.key, outcome.at), outcome.at
        of = (resource, outcome.version)
        file.execute(
            _UPSERT,
            (
                *(*of, outcome.verdict, outcome.reason, outcome.signature, at, at),
                *(outcome.seen or at, outcome.record is None),
            ),
        )
        file.execute(
            "UPDATE version SET seen = max(seen, ?) WHERE resource = ? AND version = ?",
            (outcome.seen or at, *of),
        )
        if outcome.record is not None:
            file.execute(
                "UPDATE version SET record = ?, record_signature = ?, stored_at = ?, "
                "written = NULL "
                "WHERE resource = ? AND version = ? AND (stored_at IS NULL OR stored_at < ?)",
                (_text(outcome.record), outcome.signature, at, *of, at),
            )
        if outcome.verdict == "stored":
            if outcome.record is not None:
                # one that was emitted again only shows that a list had it
                file.execute(
                    "UPDATE resource SET stored = max(stored, ?) WHERE id = ?", (at, resource)
                )
            if outcome.written:
                self._write(file, *of, outcome)
            if outcome.manifest is not None:
                self._apply_files(file, of, outcome, outcome.manifest)
        elif outcome.reason in OF_FILES:
            file.execute(
                "UPDATE version SET files_refused = ?, refused_at = ? "
                "WHERE resource = ? AND version = ? AND refused_at < ?",
                (outcome.reason, at, *of, at),
            )
        elif outcome.reason == "not_found":
            file.execute(
                "UPDATE resource SET deleted = max(deleted, ?) WHERE id = ?", (at, resource)
            )
        file.execute(
            "UPDATE resource SET last_listed = max(last_listed, ?) WHERE id = ?",
            (outcome.seen, resource),
        )
        file.execute(_SETTLE, (resource,))

    def _write(
        self, file: sqlite3.Connection, resource: int, version: str, outcome: Outcome
    ) -> None:
        """The row of this outcome is at its place, with the record that it has brought, or with one
        that was there before it."""
        of_its_own = outcome.record is not None
        file.execute(
            "UPDATE version SET written = record_signature WHERE resource = ? AND version = ? "
            "AND record_signature = ? AND CASE WHEN ? THEN stored_at = ? ELSE stored_at < ? END",
            (resource, version, outcome.signature, of_its_own, outcome.at, outcome.at),
        )

    def written(self, versions: Iterable[tuple[str, str, str]]) -> None:
        """The rows of these (key, version, signature) are at their places now."""
        with self._writing() as file:
            for key, version, signature in theirs(versions):
                found = file.execute(f"SELECT v.id {_OF_VERSION}", (*self._whose, key, version))
                for (number,) in found.fetchall():
                    file.execute(
                        "UPDATE version SET written = record_signature "
                        "WHERE id = ? AND record_signature = ?",
                        (number, signature),
                    )

    def _apply_files(
        self, file: sqlite3.Connection, of: tuple[int, str], outcome: Outcome, manifest: str
    ) -> None:
        download = json.loads(manifest)
        changed = file.execute(
            "UPDATE version SET choice = ?, manifest = ?, place = ?, files = ?, bytes = ?, "
            "files_signature = ?, files_at = ? WHERE resource = ? AND version = ? "
            "AND (files_at IS NULL OR files_at < ?)",
            (
                outcome.choice,
                _text(manifest),
                folded(download["folder"]) or None,
                download["files"],
                download["bytes"],
                outcome.signature,
                outcome.at,
                *of,
                outcome.at,
            ),
        )
        if not changed.rowcount:
            return  # what is kept is as new
        (version,) = file.execute(
            "SELECT id FROM version WHERE resource = ? AND version = ?", of
        ).fetchone()
        file.execute("DELETE FROM file WHERE version = ?", (version,))
        file.executemany(
            "INSERT OR REPLACE INTO file (version, name, size, sha256, etag) "
            "VALUES (?, ?, ?, ?, ?)",
            ((version, *file) for file in theirs(outcome.files)),
        )

    def _met(self, file: sqlite3.Connection, key: str, at: float) -> int:
        """Note that a crawl has met a resource; returns its id."""
        file.execute(
            "INSERT INTO resource (source, resource, key, first_seen, last_seen) "
            "VALUES (?, ?, ?, ?, ?) ON CONFLICT (source, resource, key) DO UPDATE SET "
            "first_seen = min(first_seen, excluded.first_seen), "
            "last_seen = max(last_seen, excluded.last_seen)",
            (*self._whose, key, at, at),
        )
        found = file.execute(
            "SELECT id FROM resource WHERE source = ? AND resource = ? AND key = ?",
            (*self._whose, key),
        )
        return int(found.fetchone()[0])

    # -- lists ------------------------------------------------------------------------------------

    def walked(self, listing: str, began: float, keys: Iterable[str], *, whole: bool) -> Walk:
        """Note what was on the list of this name in a walk that began then (seconds since the
        epoch); ``whole``: it was seen from its first row to its last, so what was on it earlier
        and is no more is ``not_listed``. The same again changes nothing."""
        rest = iter(keys)
        first = next(rest, None)
        if first is None and self._open() is None:
            return Walk(0, 0, 0)
        rows = back = missing = 0
        with self._writing() as file:
            for key in chain(() if first is None else (first,), theirs(rest)):
                rows += 1
                back += self._listed(file, listing, began, key)
            whole = whole and rows > 0  # an empty one may be an accident
            for resource in self._lost(file, listing, began) if whole else ():
                file.execute("UPDATE resource SET missed = ? WHERE id = ?", (began, resource))
                missing += self._settled(file, resource, "", "not_listed")
            if whole:
                file.execute(
                    "INSERT INTO walk VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                    "whole = max(whole, excluded.whole)",
                    (*self._whose, listing, began),
                )
        return Walk(rows, back, missing)

    def _listed(self, file: sqlite3.Connection, listing: str, began: float, key: str) -> bool:
        """Note that a resource was on this list; had it not been listed any more?"""
        resource = self._met(file, key, began)
        file.execute(
            "INSERT INTO listed VALUES (?, ?, ?) ON CONFLICT (listing, resource) DO UPDATE SET "
            "at = max(at, excluded.at)",
            (listing, resource, began),
        )
        file.execute(
            "UPDATE resource SET last_listed = max(last_listed, ?) WHERE id = ?", (began, resource)
        )
        return self._settled(file, resource, "not_listed", "")

    def _lost(self, file: sqlite3.Connection, listing: str, began: float) -> list[int]:
        """Who was on this list before, was on none and not missed since this walk began, and is not
        on the whole list, as far as that is known."""
        found = file.execute(
            "SELECT r.id FROM listed AS l JOIN resource AS r ON r.id = l.resource "
            "WHERE l.listing = ? AND r.source = ? AND r.resource = ? "
            "AND r.last_listed < ? AND r.missed < ? AND NOT EXISTS (SELECT 1 FROM listed AS o "
            "LEFT JOIN walk AS w ON w.source = r.source AND w.resource = r.resource "
            "AND w.listing = o.listing WHERE o.resource = r.id AND o.listing = ? "
            "AND o.listing <> l.listing AND o.at >= coalesce(w.whole, 0))",
            (listing, *self._whose, began, began, WHOLE_LIST),
        )
        return [resource for (resource,) in found]

    def _settled(self, file: sqlite3.Connection, resource: int, before: str, after: str) -> bool:
        """Find out anew whether a resource is gone; has that become ``after`` from ``before``?"""
        gone = "SELECT gone FROM resource WHERE id = ?"
        (was,) = file.execute(gone, (resource,)).fetchone()
        file.execute(_SETTLE, (resource,))
        return (was, file.execute(gone, (resource,)).fetchone()[0]) == (before, after)

    # -- the file ---------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, in a file that is made if it is not there."""
        file = self._open(make=True)
        assert file is not None
        with translated(self.path):
            file.execute("BEGIN IMMEDIATE")
            try:
                yield file
                file.execute("COMMIT")
            except BaseException:
                if file.in_transaction:  # SQLite itself ends it when the disk is full
                    file.execute("ROLLBACK")
                raise

    def _open(self, *, make: bool = False) -> sqlite3.Connection | None:
        """The file; None if it is not there, and not to be made."""
        with suppress(OSError):
            found = self.path.lstat()
            if self._file is not None and (found.st_dev, found.st_ino) == self._inode:
                return self._file
        self.close()
        with translated(self.path):
            if make:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
                # Only a new one is opened apart from SQLite: closing another would take away the
                # locks that this process has on it.
                with suppress(FileExistsError):
                    os.close(os.open(self.path, flags, 0o600))
            try:
                found = self.path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            self._file = connect(self.path)
            self._inode = (found.st_dev, found.st_ino)
        return self._file


def _text(document: str) -> str:
    """JSON as UTF-8 can have it: a lone surrogate becomes JSON's escape for it."""
    return document.encode(errors="backslashreplace").decode()
