"""All that the ledger has of some resources, whatever their number: by key, piece by piece.

Each piece is one short look, so that whoever walks through may write the ledger meanwhile, and so
may other processes. A key comes once, as it is when its piece is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

#: Of the versions of a resource, the newest first. (A 404 that told no version is of the one that
#: was known.)
NEWEST = "version = '', seen DESC, at DESC, id DESC"
#: Resources that are read at a time: a record of an episode has 1 to 2 KB.
_PIECE = 500
_QUERY = (
    "SELECT r.key, v.version, v.verdict, v.reason, v.signature, v.at, v.record "  # noqa: S608
    "FROM resource AS r JOIN version AS v ON v.id = "
    f"(SELECT id FROM version WHERE resource = r.id ORDER BY {NEWEST} LIMIT 1) "
    # the first is found by the index, the other leaves out that one alone
    "WHERE r.source = ? AND r.resource = ? AND r.key >= ? AND r.key <> ? ORDER BY r.key LIMIT ?"
)

#: Runs a query with values, and gives all rows at once.
Query = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]


class Entry(NamedTuple):
    """The newest version of a resource: its newest outcome (``at`` in seconds since the epoch), and
    the record that is kept of it; None if there is none, or what is kept is no record."""

    key: str
    version: str
    verdict: str
    reason: str
    signature: str
    at: float
    record: dict[str, Any] | None


def entries(query: Query, source: str, resource: str, prefix: str) -> Iterator[Entry]:
    """The resources whose keys begin so, by key; those that a list had, and of which no more is
    known, are none."""
    # Keys are in the order of their code points, so what begins alike stands together: no pattern
    # is needed, in which a key could mean more than it says.
    start, had = prefix, ""
    while rows := query(_QUERY, (source, resource, start, had, _PIECE)):
        for key, version, verdict, reason, signature, at, record in rows:
            if not key.startswith(prefix):
                return
            yield Entry(key, version, verdict, reason, signature, at, parsed(record))
        start = had = rows[-1][0]


def sources(query: Query, resource: str) -> list[str]:
    """The sources from which there is anything of a resource, by name."""
    found = query(
        "SELECT DISTINCT source FROM resource WHERE resource = ? ORDER BY source", (resource,)
    )
    return [str(source) for (source,) in found]


def parsed(record: str | None) -> dict[str, Any] | None:
    """A record as it is kept; None if there is none, or it is no record."""
    if record is not None:
        with suppress(ValueError):
            found = json.loads(record)
            if isinstance(found, dict):
                return found
    return None
