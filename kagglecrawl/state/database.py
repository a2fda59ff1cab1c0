"""The job's SQLite file: its tables, how it is opened, and its one transaction.

All that happens is written at once into one open transaction, and ``commit`` makes it last: what a
killed process had not committed did not happen.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Self

FILE = "kagglecrawl.sqlite"
#: In the header of the file: "kglc". Anything else is not ours.
APPLICATION_ID = 0x6B676C63
#: Raised by one when the tables change.
VERSION = 4

_SCHEMA = """
CREATE TABLE job (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE request (
    id INTEGER PRIMARY KEY,           -- in the order of discovery
    fingerprint BLOB UNIQUE,          -- NULL for a request that the duplicate filter lets pass
    state INTEGER NOT NULL,           -- State
    family TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due REAL NOT NULL,                -- of a waiting one: not before this time
    run INTEGER NOT NULL,             -- the run of the job that wrote data
    key TEXT,                         -- the resource that it is for
    reason TEXT,                      -- of a failed one
    data TEXT                         -- the request as JSON; NULL when it is done
);
CREATE INDEX request_pending ON request (family, priority DESC, id) WHERE state = 0;
CREATE INDEX request_leased ON request (id) WHERE state = 1;
CREATE INDEX request_waiting ON request (due) WHERE state = 2;
CREATE INDEX request_failed ON request (id) WHERE state = 4;
CREATE TABLE resource (
    key TEXT PRIMARY KEY,
    verdict TEXT NOT NULL,            -- Verdict
    reason TEXT NOT NULL,
    admitted INTEGER NOT NULL,        -- work on it has begun
    page INTEGER,                     -- of the list that it was found on
    position INTEGER,                 -- its row in that list, from 0
    row TEXT,                         -- its line of the page file
    version TEXT NOT NULL DEFAULT '', -- which version of it was listed, and a checksum of what the
    signature TEXT NOT NULL DEFAULT '',-- list says of it
    seen REAL NOT NULL DEFAULT 0      -- and when that was
) WITHOUT ROWID;
CREATE INDEX resource_page ON resource (page, position) WHERE page IS NOT NULL;
CREATE INDEX resource_open ON resource (key) WHERE verdict = 'pending';
-- what the ledger is still to be told: outbox.py
CREATE TABLE outcome (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, version TEXT NOT NULL, verdict TEXT NOT NULL,
    reason TEXT NOT NULL, signature TEXT NOT NULL, seen REAL NOT NULL, at REAL NOT NULL,
    record TEXT, manifest TEXT
);
CREATE TABLE page (number INTEGER PRIMARY KEY, listed INTEGER NOT NULL, written INTEGER NOT NULL);
CREATE TABLE feed (
    template TEXT, batch INTEGER, uri TEXT, base INTEGER, offset INTEGER, items INTEGER,
    tail TEXT, closed INTEGER, stored INTEGER, PRIMARY KEY (template, batch)
) WITHOUT ROWID;
CREATE TABLE count (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
-- the files of resources: transfer_store.py says what the columns are
CREATE TABLE transfer (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, place TEXT NOT NULL UNIQUE,
    folder TEXT NOT NULL, token TEXT NOT NULL, validator TEXT NOT NULL, size INTEGER NOT NULL,
    position INTEGER NOT NULL, crc32c INTEGER NOT NULL, directory INTEGER NOT NULL,
    listed INTEGER NOT NULL, finished INTEGER NOT NULL
);
CREATE INDEX transfer_unfinished ON transfer (key) WHERE finished = 0;
CREATE TABLE member (
    transfer INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL,
    packed INTEGER NOT NULL, crc32 INTEGER NOT NULL, method INTEGER NOT NULL,
    offset INTEGER NOT NULL, reason TEXT NOT NULL,
    sha256 BLOB,                      -- of one that is had: on disk, or in the store
    place BLOB,                       -- a stand-in for its path; no two have the same
    etag TEXT NOT NULL DEFAULT '',    -- of one that is in the store: its receipt
    upload TEXT NOT NULL DEFAULT '',  -- the id of its multipart upload that is under way
    PRIMARY KEY (transfer, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX member_place ON member (transfer, place) WHERE place IS NOT NULL;
CREATE INDEX member_wanted ON member (transfer, offset, number)
    WHERE reason = '' AND sha256 IS NULL;
CREATE INDEX member_upload ON member (transfer, number) WHERE upload <> '';
"""


class NotOurs(ValueError):
    """The file is not a job of kagglecrawl's; the text says what it is instead."""


class Database:
    """One job's file, or one in memory. Every method may raise ``sqlite3.Error``."""

    def __init__(self, database: sqlite3.Connection, *, read_only: bool = False) -> None:
        self._db = database
        self._begin_with = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        self._begin()  # before the first look, so that all that is seen is of one moment
        self._counts: dict[str, int] = dict(self._db.execute("SELECT name, value FROM count"))
        self._changed: set[str] = set()

    @classmethod
    def in_memory(cls) -> Self:
        """A store that ends with the process: in memory, and what is too much for that in a
        temporary file, which nobody else can open."""
        database = sqlite3.connect("", isolation_level=None)
        database.execute("PRAGMA journal_mode = MEMORY")
        database.execute("PRAGMA cache_size = -16000")
        database.executescript(_SCHEMA)
        return cls(database)

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new file, readable by its owner alone; raises ``OSError`` and ``sqlite3.Error``.

        It gets its name when it is whole: a process killed meanwhile leaves none.
        """
        beside = path.with_name(f"{path.name}.incomplete")
        for leftover in (beside, beside.with_name(f"{beside.name}-journal")):
            leftover.unlink(missing_ok=True)
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        database = sqlite3.connect(beside, isolation_level=None)
        try:
            database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {VERSION}")
        finally:
            database.close()
        beside.replace(path)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """A file that is there; raises ``NotOurs`` and ``sqlite3.Error``."""
        database = _connect(path, "mode=rw")
        # After a kill, what was committed is in the log beside it. A power cut may lose the last
        # commits, never their order: the feeds are cut to what is left (docs/architecture.md).
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA cache_size = -16000")
        return cls(database)

    @classmethod
    def look(cls, path: Path) -> Self:
        """As of the last commit, for reading alone, while a crawl may be writing; raises as
        ``open`` does."""
        try:
            return cls(_connect(path, "mode=ro"), read_only=True)
        except sqlite3.OperationalError as error:
            log = path.with_name(f"{path.name}-wal")
            refused = any(words in str(error) for words in ("unable to open", "readonly"))
            if not refused or (log.exists() and log.stat().st_size):
                raise
            # A folder that cannot be written, where SQLite cannot make what readers share.
            return cls(_connect(path, "mode=ro&immutable=1"), read_only=True)

    # -- the transaction --------------------------------------------------------------------------

    def _begin(self) -> None:
        self._db.execute(self._begin_with)

    def commit(self) -> None:
        """Make everything since the last commit last."""
        if self._changed:
            self._db.executemany(
                "INSERT INTO count VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                [(name, self._counts[name]) for name in self._changed],
            )
            self._changed.clear()
        self._db.execute("COMMIT")
        self._begin()

    def rollback(self) -> None:
        """Go back to the last commit."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._counts = dict(self._db.execute("SELECT name, value FROM count"))
        self._changed.clear()
        self._begin()

    def close(self) -> None:
        """Without a commit."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._db.close()

    # -- what the job is --------------------------------------------------------------------------

    def get(self, name: str) -> str | None:
        """A fact about the job."""
        found = self._db.execute("SELECT value FROM job WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def put(self, name: str, value: str) -> None:
        """Note a fact about the job."""
        self._db.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", (name, value))

    # -- counts: kept one by one, so that their sum can be wrong and is checked --------------------

    def add_count(self, name: str, by: int = 1) -> None:
        """Add to a count."""
        self._counts[name] = self._counts.get(name, 0) + by
        self._changed.add(name)

    def count(self, name: str) -> int:
        """One count; 0 if there is none."""
        return self._counts.get(name, 0)

    def counts(self, head: str = "") -> dict[str, int]:
        """All counts that are not 0 and whose names begin with ``head``, by the rest of the name,
        the largest first."""
        found = {k[len(head) :]: v for k, v in self._counts.items() if v and k.startswith(head)}
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    def tally(self) -> dict[str, int]:
        """How many resources have each verdict, counted anew: takes a look at all of them."""
        return dict(self._db.execute("SELECT verdict, count(*) FROM resource GROUP BY verdict"))


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{mode}"
    database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=1.0)
    try:
        ours = _pragma(database, "application_id")
        version = _pragma(database, "user_version")
        if ours != APPLICATION_ID:
            raise NotOurs(f"{path} is no job file of kagglecrawl's")
        if version > VERSION:
            raise NotOurs(
                f"{path} was written by a newer kagglecrawl (format {version}, "
                f"this one knows {VERSION})"
            )
        if version < VERSION:
            raise NotOurs(
                f"{path} was begun by an older kagglecrawl (format {version}, this one writes "
                f"{VERSION})"
            )
        database.execute("SELECT count(*) FROM job").fetchone()
    except BaseException:
        database.close()
        raise
    return database


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])
