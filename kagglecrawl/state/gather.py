"""What is gathered from several lists until it can be put together: wholes, and their parts.

A callback says what it has found, and that counts when its lease is acknowledged, in the same
transaction: a kill loses and doubles nothing. Rows are in the job's file, not in memory, and are
dropped there when they have been handed on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kagglecrawl.state.gather_store import Gathered as Gathered
from kagglecrawl.state.gather_store import Part as Part
from kagglecrawl.state.gather_store import Whole as Whole
from kagglecrawl.state.leases import current
from kagglecrawl.state.store import Store

#: The fact about the job that says what is gathered.
_WHAT = "gathering"


class Gathering:
    """What a job gathers, as of the last acknowledged lease. Every method may raise
    ``sqlite3.Error``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def what(self) -> dict[str, Any]:
        """What is gathered, in the spider's own words; empty if nothing ever was."""
        known: dict[str, Any] = json.loads(self._store.get(_WHAT) or "{}")
        return known

    def begin(self, what: dict[str, Any]) -> None:
        """What is gathered from now on, whatever becomes of the lease that is under way."""
        self._store.put(_WHAT, json.dumps(what))

    def said(self) -> Gathered:
        """What the running callback says, to be added to; it counts with its lease. Raises
        ``RuntimeError`` where no callback runs."""
        lease = current()
        if lease is None:
            raise RuntimeError("only what a callback says can be gathered")
        if lease.gathered is None:
            lease.gathered = Gathered()
        return lease.gathered

    def ids(self) -> Iterator[int]:
        """The id of every whole, in order."""
        return self._store.gathered_ids()

    def count(self) -> int:
        """How many wholes there are: looks at all of them."""
        return self._store.count_gathered()

    def last_of(self, limit: int) -> int | None:
        """The last id of the first ``limit`` wholes; None if there are none."""
        return self._store.last_gathered(limit)

    def values(self, last: int, limit: int) -> dict[int, list[float]]:
        """Of the first wholes whose ids are above ``last``, in order, what their parts give to
        their weights, by the parts' places."""
        return self._store.gathered_values(last, limit)

    def heaviest(self, limit: int) -> list[Whole]:
        """The heaviest of those that have been weighed, and not dropped."""
        return self._store.heaviest_gathered(limit)
