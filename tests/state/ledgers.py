"""Outcomes for a ledger, and a look at all that is in one."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from kagglecrawl.state.ledger import Ledger, Outcome

#: 2026-01-01.
START = 1_767_225_600.0
DAY = 86_400
KAGGLE = "https://api.kaggle.com"
#: A process that writes as if it were a crawl: the ledger's path, and how often.
WRITE = """
import sys
from contextlib import closing
from pathlib import Path
from kagglecrawl.state.ledger import Ledger, LedgerBusy, Outcome

def write(ledger, number):
    while True:
        try:
            ledger.apply(
                Outcome(f"o/{number}-{i % 7}", str(i), "stored", "", "s", i + 1, "{}")
                for i in range(number, number + 20)
            )
            return ledger.walked("all", number + 1, [f"o/{number}-0"], whole=False)
        except LedgerBusy:
            pass

with closing(Ledger(Path(sys.argv[1]), "loopback", "datasets")) as ledger:
    for number in range(int(sys.argv[2])):
        write(ledger, number)
"""

TABLES = ("resource", "version", "file", "listed", "walk")


def manifest(folder: str, files: int, size: int = 0) -> str:
    return json.dumps(
        {"folder": folder, "files": files, "bytes": size, "leftOut": {}, "reason": ""}
    )


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def stored(key: str, at: float, version: str = "1", **more: Any) -> Outcome:
    given = {"signature": f"s{at:g}", "record": json.dumps({"Ref": key, "at": at}), **more}
    return Outcome(key, version, "stored", "", at=at, **given)


def failed(key: str, at: float, reason: str = "server_error", version: str = "1") -> Outcome:
    return Outcome(key, version, "failed", reason, f"s{at:g}", at)


def contents(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that is in the file."""
    with closing(sqlite3.connect(path)) as file:
        return {table: sorted(file.execute(f"SELECT * FROM {table}"), key=repr) for table in TABLES}


def make_older(path: Path) -> None:
    """Turn a ledger into one of format 1, whose files had no ETag."""
    with closing(sqlite3.connect(path)) as file:
        file.executescript(
            "BEGIN; CREATE TABLE old (version INTEGER NOT NULL, name TEXT NOT NULL, "
            "size INTEGER NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (version, name)) "
            "WITHOUT ROWID; INSERT INTO old SELECT version, name, size, sha256 FROM file; "
            "DROP TABLE file; ALTER TABLE old RENAME TO file; PRAGMA user_version = 1; COMMIT;"
        )


def record(ref: str, **more: Any) -> str:
    return json.dumps({"ref": ref, "title": "T", "version": 1, **more})


def fill(path: Path) -> None:
    """Two versions of a/a, of which the first is stored and the second has failed; b/b is skipped,
    c/c deleted, d/d not listed any more, e/e listed alone; and models from a replica."""
    files = [("x.csv", 5, digest("x"), ""), ("y.csv", 7, digest("y"), "")]
    with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
        ledger.walked("all", START, ["a/a", "b/b", "d/d", "e/e"], whole=True)
        kept = manifest("output/a_a", 2, 12)
        at = START + DAY
        ledger.apply(
            [
                stored("a/a", at, record=record("a/a"), manifest=kept, files=files, choice="all"),
                failed("a/a", START + 2 * DAY, "forbidden", version="2"),
                replace(failed("b/b", START + 3 * DAY, "odd_word"), verdict="skipped"),
                failed("c/c", START + 4 * DAY, "not_found"),
                stored("d/d", START + 5 * DAY, record=record("d/d")),
            ]
        )
        ledger.walked("all", START + 6 * DAY, ["a/a", "b/b", "e/e"], whole=True)
    with closing(Ledger(path, "loopback", "models")) as ledger:
        ledger.apply([stored("m/m", START + DAY, record='{"slug": "m"}', version="")])
