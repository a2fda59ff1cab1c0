"""The part of the job's file that is about what the ledger is still to be told (outbox.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kagglecrawl.state.transfer_store import TransferStore


@dataclass(frozen=True)
class OutcomeRow:
    """What became of a resource, until the ledger has it. ``record`` and ``manifest`` are JSON;
    None where there is nothing new to say of them."""

    number: int
    key: str
    version: str
    verdict: str
    reason: str
    signature: str
    seen: float
    at: float
    record: str | None
    manifest: str | None


class OutcomeStore(TransferStore):
    """Outcomes that the ledger does not have yet. Every method may raise ``sqlite3.Error``."""

    def add_outcome(self, key: str, at: float, record: str | None, manifest: str | None) -> None:
        """Note the verdict that a resource has."""
        self._db.execute(
            "INSERT INTO outcome "
            "(key, version, verdict, reason, signature, seen, at, record, manifest) "
            "SELECT key, version, verdict, reason, signature, seen, ?, ?, ? "
            "FROM resource WHERE key = ?",
            (at, record, manifest, key),
        )

    def outcomes(self, limit: int) -> Iterator[OutcomeRow]:
        """The first of them, one by one: a record may be large."""
        found = self._db.execute(
            "SELECT id, key, version, verdict, reason, signature, seen, at, record, manifest "
            "FROM outcome ORDER BY id LIMIT ?",
            (limit,),
        )
        return (OutcomeRow(*row) for row in found)

    def forget_outcomes(self, last: int) -> None:
        """The ledger has those up to this number."""
        self._db.execute("DELETE FROM outcome WHERE id <= ?", (last,))

    def any_outcomes(self) -> bool:
        """Is there any that the ledger does not have yet?"""
        return bool(self._db.execute("SELECT EXISTS (SELECT 1 FROM outcome)").fetchone()[0])

    def count_outcomes(self) -> int:
        """How many the ledger does not have yet."""
        return int(self._db.execute("SELECT count(*) FROM outcome").fetchone()[0])
