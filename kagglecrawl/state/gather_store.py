"""The part of the job's file that is about what is gathered (gather.py): every statement of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kagglecrawl.state.database import Database

#: Made when something is gathered for the first time, so that a job without it, or one that an
#: older release has begun, opens as it always did.
_TABLES = (
    """CREATE TABLE IF NOT EXISTS gathered (
        id INTEGER PRIMARY KEY,
        weight REAL,                      -- NULL until all parts are there, and it was weighed
        data TEXT NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS gathered_part (
        id INTEGER NOT NULL,              -- what it is a part of
        place INTEGER NOT NULL,           -- its place among the parts
        part INTEGER NOT NULL,            -- its own number
        value REAL,
        data TEXT NOT NULL,
        PRIMARY KEY (id, place, part)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS gathered_best ON gathered (weight DESC, id) "
    "WHERE weight IS NOT NULL",
)


class Part(NamedTuple):
    """A part of a whole: the whole's id, its place among its parts, a number of its own, what it
    gives to the whole's weight (None: nothing), and the rest of it."""

    id: int
    place: int
    part: int
    value: float | None
    data: str


@dataclass
class Whole:
    """Something that was gathered, with its parts by their places."""

    id: int
    data: str
    parts: list[Part] = field(default_factory=list)


@dataclass
class Gathered:
    """What a callback says, in the order in which it is done."""

    #: Wholes (id, data) and parts; those that are known are replaced, and have to be weighed again.
    wholes: list[tuple[int, str]] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    #: All parts of a whole are there, and it weighs so much (weight, id).
    weights: list[tuple[float, int]] = field(default_factory=list)
    #: Wholes that are not needed any more, nor are their parts; their room is used again.
    dropped: list[int] = field(default_factory=list)
    #: Nor are all whose ids are not above this one.
    dropped_to: int = 0


class GatherStore(Database):
    """Wholes and their parts. Every method may raise ``sqlite3.Error``."""

    def gather(self, said: Gathered) -> None:
        """Do what a callback has said."""
        self._made()
        many = self._db.executemany
        many("INSERT OR REPLACE INTO gathered (id, data) VALUES (?, ?)", said.wholes)
        many("INSERT OR REPLACE INTO gathered_part VALUES (?, ?, ?, ?, ?)", said.parts)
        many("UPDATE gathered SET weight = ? WHERE id = ?", said.weights)
        for table in ("gathered", "gathered_part"):
            gone = f"DELETE FROM {table} WHERE id"  # noqa: S608
            many(f"{gone} = ?", ((number,) for number in said.dropped))
            if said.dropped_to:
                self._db.execute(f"{gone} <= ?", (said.dropped_to,))

    def gathered_ids(self) -> Iterator[int]:
        """Every whole's id, in order."""
        self._made()
        return (number for (number,) in self._db.execute("SELECT id FROM gathered ORDER BY id"))

    def count_gathered(self) -> int:
        """How many wholes there are: looks at all of them."""
        self._made()
        return int(self._db.execute("SELECT count(*) FROM gathered").fetchone()[0])

    def last_gathered(self, limit: int) -> int | None:
        """The last id of the first ``limit`` wholes; None if there are none."""
        self._made()
        first = "SELECT max(id) FROM (SELECT id FROM gathered ORDER BY id LIMIT ?)"
        found: int | None = self._db.execute(first, (limit,)).fetchone()[0]
        return found

    def gathered_values(self, last: int, limit: int) -> dict[int, list[float]]:
        """Of the first wholes whose ids are above ``last``, in order, what their parts give to
        their weights, by the parts' places."""
        self._made()
        heads = "SELECT id FROM gathered WHERE id > ? ORDER BY id LIMIT ?"
        values: dict[int, list[float]] = {
            number: [] for (number,) in self._db.execute(heads, (last, limit))
        }
        if values:
            parts = self._db.execute(
                "SELECT id, value FROM gathered_part WHERE id > ? AND id <= ? "
                "AND value IS NOT NULL ORDER BY id, place, part",
                (last, max(values)),
            )
            for number, value in parts:
                if number in values:
                    values[number].append(value)
        return values

    def heaviest_gathered(self, limit: int) -> list[Whole]:
        """The heaviest of those that were weighed; of the same weight, the lower id first."""
        self._made()
        found = self._db.execute(
            "SELECT id, data FROM gathered WHERE weight IS NOT NULL "
            "ORDER BY weight DESC, id LIMIT ?",
            (limit,),
        ).fetchall()
        return [Whole(number, data, self._parts(number)) for number, data in found]

    def _parts(self, number: int) -> list[Part]:
        found = self._db.execute(
            "SELECT id, place, part, value, data FROM gathered_part WHERE id = ? "
            "ORDER BY place, part",
            (number,),
        )
        return [Part(*row) for row in found]

    def _made(self) -> None:
        for statement in _TABLES:
            self._db.execute(statement)
