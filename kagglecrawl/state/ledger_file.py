"""The ledger's SQLite file: its tables, how it is opened, and what is said when it cannot be."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kagglecrawl.kaggle.redaction import clean

APPLICATION_ID = 0x6B636C64  # "kcld"
#: Raised by one when the tables change.
VERSION = 2
#: The oldest that can be read as it is, and is brought to this one when it is first written.
OLDEST = 1

#: Seconds that another process may hold the file.
TIMEOUT = 1.0
#: And by which the clocks of those that share it may differ.
_CLOCKS = 60.0
#: What to do when it cannot be used, and by what SQLite says (its primary result codes).
ELSEWHERE = "set KAGGLE_LEDGER to another place"
ANEW = "restore it from a copy, or move it away to begin a new one"
_NEXT = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_CORRUPT: ANEW,
    sqlite3.SQLITE_NOTADB: ANEW,
    sqlite3.SQLITE_ERROR: ANEW,  # a table is not as it was made
}

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

#: All times are in seconds since the epoch, 0 for never.
_SCHEMA = (
    """
CREATE TABLE resource (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL, resource TEXT NOT NULL, key TEXT NOT NULL,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,               -- when a crawl last met it, on a list or otherwise
    last_listed REAL NOT NULL DEFAULT 0,   -- the last walk of a list that had it
    missed REAL NOT NULL DEFAULT 0,        -- the last whole walk of a list that had lost it
    stored REAL NOT NULL DEFAULT 0,        -- the last outcome that was a new record
    deleted REAL NOT NULL DEFAULT 0,       -- the last that was its own 404
    gone TEXT NOT NULL DEFAULT '',         -- what follows: '', not_listed or deleted
    gone_since REAL NOT NULL DEFAULT 0,
    UNIQUE (source, resource, key)
)""",
    """
CREATE TABLE version (
    id INTEGER PRIMARY KEY,
    resource INTEGER NOT NULL, version TEXT NOT NULL,
    verdict TEXT NOT NULL, reason TEXT NOT NULL, signature TEXT NOT NULL, at REAL NOT NULL,
    since REAL NOT NULL,                   -- when that was first found so; at is the last time
    seen REAL NOT NULL,                    -- when a list last had this version
    -- what is stored of it, which no later skip or failure takes away
    record_signature TEXT, stored_at REAL,
    choice TEXT NOT NULL DEFAULT '', manifest TEXT,
    place TEXT,                            -- the folder of its files as names.folded has it
    files INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
    files_at REAL, files_signature TEXT,
    written TEXT,                          -- the record_signature that was last written to feeds
    files_refused TEXT NOT NULL DEFAULT '', refused_at REAL NOT NULL DEFAULT 0,
    record TEXT,                           -- the last, since it may be large
    UNIQUE (resource, version)
)""",
    "CREATE INDEX version_place ON version (place) WHERE place IS NOT NULL",
    """
CREATE TABLE file (
    version INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL,
    etag TEXT NOT NULL DEFAULT '',         -- of one in a store: what that must say of it
    PRIMARY KEY (version, name)
) WITHOUT ROWID""",
    """
CREATE TABLE listed (
    listing TEXT NOT NULL, resource INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (listing, resource)
) WITHOUT ROWID""",
    "CREATE INDEX listed_resource ON listed (resource)",
    """
CREATE TABLE walk (
    source TEXT NOT NULL, resource TEXT NOT NULL, listing TEXT NOT NULL,
    whole REAL NOT NULL,                   -- when the last from its first row to its last began
    PRIMARY KEY (source, resource, listing)
) WITHOUT ROWID""",
)


class LedgerRefused(ValueError):
    """The ledger cannot be used; the text is one sentence, with the next step."""


class LedgerFull(LedgerRefused):
    """Its disk has no room."""


class LedgerBusy(LedgerRefused):
    """Another process holds it, for now."""


def connect(path: Path) -> sqlite3.Connection:
    """A file that is there; an empty one gets its tables, and one of an older format the columns
    that it has not."""
    check_kind(path)
    file = sqlite3.connect(path, isolation_level=None, timeout=TIMEOUT)
    try:
        if not _has_tables(file):
            _make_tables(file)
        if check_ours(file, path) < VERSION:
            _upgrade(file)
        # What it has taken the job forgets, so it must outlive a power cut too.
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute("PRAGMA cache_size = -16000")
        file.execute("PRAGMA journal_size_limit = 16000000")
    except BaseException:
        file.close()
        raise
    return file


def open_to_read(path: Path, *, shared: bool = False) -> sqlite3.Connection:
    """For reading alone, as of now; ``shared`` by threads that take turns, and as of each look."""
    try:
        return _connect_to_read(path, "mode=ro", shared=shared)
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        refused = any(words in str(error) for words in ("unable to open", "readonly"))
        if not refused or (log.exists() and log.stat().st_size):
            raise
        # A folder that cannot be written, where SQLite cannot make what readers share.
        return _connect_to_read(path, "mode=ro&immutable=1", shared=shared)


def _connect_to_read(path: Path, mode: str, *, shared: bool) -> sqlite3.Connection:
    file = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}",
        uri=True,
        isolation_level=None,
        timeout=TIMEOUT,
        check_same_thread=not shared,
    )
    try:
        check_ours(file, path)
        if not shared:
            file.execute("BEGIN")
        file.execute("SELECT count(*) FROM resource WHERE id = 0").fetchone()  # from here on
    except BaseException:
        file.close()
        raise
    return file


def _has_tables(file: sqlite3.Connection) -> bool:
    return bool(file.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


def _make_tables(file: sqlite3.Connection) -> None:
    file.execute("BEGIN IMMEDIATE")
    if not _has_tables(file):  # else another process was quicker
        for statement in _SCHEMA:
            file.execute(statement)
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        file.execute(f"PRAGMA user_version = {VERSION}")
    file.execute("COMMIT")


def _upgrade(file: sqlite3.Connection) -> None:
    file.execute("BEGIN IMMEDIATE")
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version < VERSION:  # else another process was quicker
        file.execute("ALTER TABLE file ADD COLUMN etag TEXT NOT NULL DEFAULT ''")
        file.execute(f"PRAGMA user_version = {VERSION}")
    file.execute("COMMIT")


def check_kind(path: Path) -> None:
    """Raise ``LedgerRefused`` for what is there but is no file, and ``OSError``."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        raise LedgerRefused(cannot(path, "it is a symbolic link"))
    if not stat.S_ISREG(mode):
        raise LedgerRefused(cannot(path, "it is no file"))


def check_ours(file: sqlite3.Connection, path: Path) -> int:
    """The format of a ledger; raises ``LedgerRefused`` unless it is one that can be read, and
    ``sqlite3.Error``."""
    (ours,) = file.execute("PRAGMA application_id").fetchone()
    version = int(file.execute("PRAGMA user_version").fetchone()[0])
    if ours != APPLICATION_ID:
        raise LedgerRefused(cannot(path, "it is another program's"))
    if not OLDEST <= version <= VERSION:
        made = "a newer" if version > VERSION else "an older"
        why = f"{made} kagglecrawl made it: format {version}, and this one knows {VERSION}"
        raise LedgerRefused(cannot(path, why))
    return version


def check_place(path: Path) -> None:
    """Raise ``LedgerRefused`` if no file could be made here, without making one."""
    for folder in path.absolute().parents:
        if folder.exists():
            if not folder.is_dir():
                raise LedgerRefused(cannot(path, f"{folder} is no folder"))
            if not os.access(folder, os.W_OK | os.X_OK):
                raise LedgerRefused(cannot(path, f"{folder} cannot be written"))
            return


class _Elsewhere(Exception):
    """What another's iterator has raised, which says nothing of the ledger."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def theirs(given: Iterable[Any]) -> Iterator[Any]:
    """The same; what its own files raise is not taken for the ledger's."""
    try:
        yield from given
    except (sqlite3.Error, OSError) as error:
        raise _Elsewhere(error) from None


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say of this ledger into ``LedgerRefused``."""
    try:
        yield
    except _Elsewhere as error:
        raise error.error from None
    except sqlite3.Error as error:
        # the lower byte; the rest says more exactly what
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise LedgerBusy(cannot(path, "another process holds it", "try again")) from None
        kind = LedgerFull if code == sqlite3.SQLITE_FULL else LedgerRefused
        raise kind(cannot(path, str(error), _NEXT.get(code, ELSEWHERE))) from None
    except OSError as error:
        kind = LedgerFull if error.errno in _NO_ROOM else LedgerRefused
        raise kind(cannot(path, error.strerror or str(error))) from None


def cannot(path: Path, why: str, then: str = ELSEWHERE) -> str:
    """The one sentence."""
    return clean(f"the ledger {path} cannot be used ({why}): {then}")


#: Every column with a time, by its table.
_TIMES = {
    "resource": ("first_seen", "last_seen", "last_listed", "missed", "stored", "deleted"),
    "version": ("at", "since", "seen", "stored_at", "files_at", "refused_at"),
    "listed": ("at",),
    "walk": ("whole",),
}


def mend_times(file: sqlite3.Connection, now: float) -> None:
    """What lies in the future was noted by a clock that was wrong, and would be newer than all that
    is to come: it is of now."""
    for table, names in _TIMES.items():
        wrong = " OR ".join(f"{name} > ?" for name in names)
        right = ", ".join(f"{name} = min({name}, ?)" for name in names)
        values = (now,) * len(names)
        soon = (now + _CLOCKS,) * len(names)
        file.execute(f"UPDATE {table} SET {right} WHERE {wrong}", (*values, *soon))  # noqa: S608
