"""Rows of the ledger as JSON and CSV, one by one, whatever their number."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from kagglecrawl.items import ITEMS, feed_fields
from kagglecrawl.state.ledger_file import ANEW, LedgerRefused
from kagglecrawl.state.ledger_look import Row

_TIMES = frozenset(("first_seen", "last_seen", "last_listed", "gone_since", "at", "stored_at"))
#: What a spreadsheet may take for a formula at the beginning of a cell.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
#: The fields of an exported row, in their order; ``record`` is not in CSV.
FIELDS = (
    *("source", "spider", "key", "version", "verdict", "reason", "at", "gone", "gone_since"),
    *("first_seen", "last_seen", "last_listed", "stored_at"),
    *("choice", "files", "bytes", "folder", "record"),
)


def moment(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC; None for never. Raises ``LedgerRefused``."""
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError, TypeError):
        raise LedgerRefused(f"the ledger has {seconds!a} for a time: {ANEW}") from None


def as_object(row: Row, *, records: bool) -> dict[str, Any]:
    """A row under the names of the export."""
    found = {
        name: moment(getattr(row, name)) if name in _TIMES else getattr(row, name)
        for name in FIELDS
    }
    found["version"] = row.version or None
    found["gone"] = row.gone or None
    found["record"] = _record(row)
    if not records:
        del found["record"]
    return found


def _record(row: Row) -> dict[str, Any] | None:
    """The record under the names of a feed's row, with what has come of its files."""
    if row.record is None:
        return None
    names = _names(row.spider)
    given = {**row.record, "download": row.manifest} if "download" in names else row.record
    return {names.get(name, name): value for name, value in given.items()}


@cache
def _names(spider: str) -> dict[str, str]:
    return feed_fields(ITEMS[spider]) if spider in ITEMS else {}


def line(row: Row, *, records: bool) -> str:
    """A row as one line of JSON that is safe on any terminal: ASCII, without control characters."""
    return json.dumps(as_object(row, records=records))


def export(path: Path, rows: Iterable[Row], *, records: bool) -> int:
    """Write rows into a file, as its suffix has it: ``.csv``, ``.json`` or ``.jsonl``. Returns how
    many. The file is there when it is whole. Raises ``OSError``."""
    write = {".csv": _csv, ".json": _json, ".jsonl": _lines}[path.suffix.lower()]
    with whole(path) as file:
        return write(file, (as_object(row, records=records) for row in rows))


def _lines(file: TextIO, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):  # noqa: B007
        file.write(f"{json.dumps(row, ensure_ascii=False)}\n")
    return count


def _json(file: TextIO, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    for count, row in enumerate(rows, 1):
        file.write(f"{',' if count > 1 else '['}\n{json.dumps(row, ensure_ascii=False)}")
    file.write("\n]\n" if count else "[]\n")
    return count


def _csv(file: TextIO, rows: Iterator[dict[str, Any]]) -> int:
    count, fields = 0, [name for name in FIELDS if name != "record"]
    table = csv.writer(file)
    table.writerow(fields)
    for count, row in enumerate(rows, 1):  # noqa: B007
        table.writerow([_cell(row[name]) for name in fields])
    return count


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value


@contextmanager
def whole(path: Path) -> Iterator[TextIO]:
    """A file that gets its name when it is whole; a link to one stays. Raises ``OSError``."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")
    beside = path.with_name(f".{path.name}.{os.getpid()}.incomplete")
    try:
        # A record may hold half of a surrogate pair, which UTF-8 has no bytes for: the escape that
        # takes its place is JSON's as well.
        with beside.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
