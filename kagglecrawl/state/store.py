"""What the job's file holds: every request, every resource, every page and feed.

Nothing here knows of Scrapy; times are in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from enum import IntEnum, StrEnum

from kagglecrawl.kaggle.errors import PERMANENT
from kagglecrawl.state.database import APPLICATION_ID as APPLICATION_ID
from kagglecrawl.state.database import FILE as FILE
from kagglecrawl.state.database import VERSION as VERSION
from kagglecrawl.state.database import NotOurs as NotOurs
from kagglecrawl.state.gather_store import GatherStore
from kagglecrawl.state.outcome_store import OutcomeRow as OutcomeRow
from kagglecrawl.state.outcome_store import OutcomeStore
from kagglecrawl.state.transfer_store import MemberRow as MemberRow
from kagglecrawl.state.transfer_store import TransferRow as TransferRow


class State(IntEnum):
    """Of a request. Leased: taken out to be handed out, or on its way."""

    PENDING = 0
    LEASED = 1
    WAITING = 2
    DONE = 3
    FAILED = 4


class Verdict(StrEnum):
    """Of a resource."""

    PENDING = "pending"
    STORED = "stored"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True)
class Row:
    """A request taken out of the store: its number, its place in the order, and its JSON."""

    id: int
    priority: int
    run: int
    key: str | None
    data: str


@dataclass(frozen=True)
class Known:
    """What is known of a resource."""

    verdict: Verdict
    reason: str
    page: int | None
    admitted: bool


@dataclass
class FeedFile:
    """One file of a feed.

    ``template`` is the feed's URI as it is set, ``uri`` the one with its parameters filled in.
    ``base`` is the size in bytes when the job first found it, ``offset`` the size committed,
    ``items`` the rows committed, ``tail`` a checksum of the bytes before ``offset``; with nothing
    written yet, of what is to be overwritten. A ``closed`` one gets no more rows; ``stored`` is how
    many bytes of a spooled one are at their place.
    """

    template: str
    batch: int
    uri: str
    base: int = 0
    offset: int = 0
    items: int = 0
    tail: str = ""
    closed: bool = False
    stored: int = 0


#: Failed requests that another run makes again, and the reasons for which it does not.
_FOR_GOOD = tuple(sorted(PERMANENT))
_AGAIN = (
    "state = 4 AND data IS NOT NULL "
    f"AND (key IS NULL OR reason NOT IN ({', '.join('?' * len(_FOR_GOOD))}))"
)


class Store(OutcomeStore, GatherStore):
    """One job. Every method may raise ``sqlite3.Error``: a full disk, a damaged file."""

    # -- requests ---------------------------------------------------------------------------------

    def begin_run(self) -> None:
        """Take up what earlier runs left: what was under way, and what failed."""
        self._db.execute("UPDATE request SET state = 0 WHERE state = 1")
        again = f"UPDATE request SET state = 0, reason = NULL WHERE {_AGAIN}"  # noqa: S608
        self._db.execute(again, _FOR_GOOD)

    def any_failed(self) -> bool:
        """Has a request failed that is worth being made again?"""
        failed = f"SELECT EXISTS (SELECT 1 FROM request WHERE {_AGAIN})"  # noqa: S608
        return bool(self._db.execute(failed, _FOR_GOOD).fetchone()[0])

    def failed_requests(self) -> Iterator[tuple[str | None, str]]:
        """Key and reason of every failed request that is worth being made again."""
        failed = f"SELECT key, reason FROM request WHERE {_AGAIN}"  # noqa: S608
        yield from self._db.execute(failed, _FOR_GOOD)

    def prepare_sample(self) -> None:
        """Make ``begun`` quick; only a sample needs it."""
        self._db.execute("CREATE INDEX IF NOT EXISTS request_key ON request (key) WHERE state < 2")
        self._db.execute(
            "CREATE INDEX IF NOT EXISTS resource_admitted ON resource (key) WHERE admitted = 1"
        )

    def begun(self) -> list[tuple[int, int, str]]:
        """Priority, number and family of the pending and leased requests for resources on which
        work has begun, and not ended; the first ones first."""
        return self._db.execute(
            "SELECT r.priority, r.id, r.family FROM resource CROSS JOIN request AS r "
            "ON r.key = resource.key WHERE resource.admitted = 1 AND r.state < 2 "
            "ORDER BY r.priority DESC, r.id"
        ).fetchall()

    def take_one(self, number: int) -> Row | None:
        """Lease this request if it is pending."""
        found = self._db.execute(
            "UPDATE request SET state = 1 WHERE id = ? AND state = 0 "
            "RETURNING id, priority, run, key, data",
            (number,),
        ).fetchone()
        return None if found is None else Row(*found)

    def find(self, fingerprint: bytes) -> tuple[int, State, int] | None:
        """Number, state and priority of the request with this fingerprint."""
        found = self._db.execute(
            "SELECT id, state, priority FROM request WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        return None if found is None else (found[0], State(found[1]), found[2])

    def add_request(
        self,
        fingerprint: bytes | None,
        state: State,
        family: str,
        priority: int,
        run: int,
        key: str | None,
        data: str | None,
        *,
        due: float = 0.0,
        reason: str | None = None,
    ) -> int | None:
        """Add a request; its number, or None if there is one with this fingerprint."""
        done = self._db.execute(
            "INSERT INTO request (fingerprint, state, family, priority, due, run, key, reason, "
            "data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (fingerprint) DO NOTHING",
            (fingerprint, state, family, priority, due, run, key, reason, data),
        )
        return done.lastrowid if done.rowcount else None

    def raise_priority(self, number: int, priority: int) -> None:
        """Put a request higher; never lower."""
        self._db.execute(
            "UPDATE request SET priority = ? WHERE id = ? AND priority < ?",
            (priority, number, priority),
        )

    def take(self, family: str, limit: int) -> list[Row]:
        """Lease the first ``limit`` pending requests of a family, in no order."""
        return [
            Row(*found)
            for found in self._db.execute(
                "UPDATE request SET state = 1 WHERE id IN (SELECT id FROM request "
                "WHERE state = 0 AND family = ? ORDER BY priority DESC, id LIMIT ?) "
                "RETURNING id, priority, run, key, data",
                (family, limit),
            )
        ]

    def untake(self, numbers: Iterable[int]) -> None:
        """Put leased requests back as they were."""
        self._db.executemany("UPDATE request SET state = 0 WHERE id = ?", [(n,) for n in numbers])

    def put_back(
        self, number: int, family: str, priority: int, run: int, data: str, due: float
    ) -> None:
        """Put a leased request back, changed; until ``due`` it waits (0: not at all)."""
        state = State.WAITING if due else State.PENDING
        self._db.execute(
            "UPDATE request SET state = ?, family = ?, priority = ?, run = ?, data = ?, due = ? "
            "WHERE id = ?",
            (state, family, priority, run, data, due, number),
        )

    def finish(self, number: int) -> None:
        """A request is done; what it was is forgotten, but not that it was."""
        self._db.execute("UPDATE request SET state = 3, data = NULL WHERE id = ?", (number,))

    def fail(self, number: int, reason: str) -> None:
        """A request has failed; the next run takes it up."""
        self._db.execute("UPDATE request SET state = 4, reason = ? WHERE id = ?", (reason, number))

    def wake(self, now: float) -> list[str]:
        """Make pending what has waited long enough; the families of what was."""
        woken = self._db.execute(
            "UPDATE request SET state = 0 WHERE state = 2 AND due <= ? RETURNING family", (now,)
        )
        return list({family for (family,) in woken.fetchall()})

    def next_due(self) -> float | None:
        """When the first of the waiting requests is due."""
        due: float | None = self._db.execute(
            "SELECT min(due) FROM request WHERE state = 2"
        ).fetchone()[0]
        return due

    def families(self) -> list[str]:
        """Families with a pending request."""
        found: list[str] = []
        following = "SELECT min(family) FROM request WHERE state = 0 AND family > ?"
        last: str | None = ""
        if self._db.execute("SELECT 1 FROM request WHERE state = 0 AND family = ''").fetchone():
            found.append("")
        while last is not None:
            last = self._db.execute(following, (last,)).fetchone()[0]
            if last is not None:
                found.append(last)
        return found

    def open_requests(self) -> int:
        """How many are pending, leased or waiting: looks at all of them."""
        looked = self._db.execute(
            "SELECT (SELECT count(*) FROM request WHERE state = 0) + "
            "(SELECT count(*) FROM request WHERE state = 1) + "
            "(SELECT count(*) FROM request WHERE state = 2)"
        )
        return int(looked.fetchone()[0])

    def any_pending(self) -> bool:
        """Is any request pending or waiting?"""
        found = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM request WHERE state = 0) "
            "OR EXISTS (SELECT 1 FROM request WHERE state = 2)"
        )
        return bool(found.fetchone()[0])

    def waiting_requests(self, now: float) -> int:
        """How many wait for a time after ``now``."""
        waiting = "SELECT count(*) FROM request WHERE state = 2 AND due > ?"
        return int(self._db.execute(waiting, (now,)).fetchone()[0])

    def drop_pending(self) -> None:
        """Let everything that is pending or waits be done unasked."""
        self._db.execute("UPDATE request SET state = 3, data = NULL WHERE state = 0")
        self._db.execute("UPDATE request SET state = 3, data = NULL WHERE state = 1")
        self._db.execute("UPDATE request SET state = 3, data = NULL WHERE state = 2")

    # -- resources --------------------------------------------------------------------------------

    def discover(self, key: str, page: int | None, position: int | None) -> bool:
        """Note a resource; False if it is known."""
        done = self._db.execute(
            "INSERT INTO resource (key, verdict, reason, admitted, page, position) "
            "VALUES (?, 'pending', '', 0, ?, ?) ON CONFLICT (key) DO NOTHING",
            (key, page, position),
        )
        return done.rowcount > 0

    def known(self, key: str) -> Known | None:
        """What is known of a resource, or None if nothing is."""
        found = self._db.execute(
            "SELECT verdict, reason, page, admitted FROM resource WHERE key = ?", (key,)
        ).fetchone()
        return (
            None if found is None else Known(Verdict(found[0]), found[1], found[2], bool(found[3]))
        )

    def describe(self, key: str, version: str, signature: str, seen: float) -> None:
        """Which version of a resource was listed then, and the checksum of what was said of it."""
        self._db.execute(
            "UPDATE resource SET version = ?, signature = ?, seen = ? WHERE key = ?",
            (version, signature, seen, key),
        )

    def listed_keys(self) -> Iterator[str]:
        """Every resource that a list has named and described."""
        found = self._db.execute(
            "SELECT key FROM resource WHERE position IS NOT NULL AND signature <> ''"
        )
        return (key for (key,) in found)

    def stored_versions(self) -> Iterator[tuple[str, str, str]]:
        """Every resource that is stored, its version and signature."""
        stored = "SELECT key, version, signature FROM resource WHERE verdict = 'stored'"
        return self._db.execute(stored)

    def admit(self, key: str) -> bool:
        """Note that work on a resource begins; False if it had begun."""
        done = self._db.execute(
            "UPDATE resource SET admitted = 1 "
            "WHERE key = ? AND admitted = 0 AND verdict = 'pending'",
            (key,),
        )
        return done.rowcount > 0

    def admitted(self) -> int:
        """How many resources are being worked on."""
        found = self._db.execute(
            "SELECT count(*) FROM resource WHERE verdict = 'pending' AND admitted = 1"
        )
        return int(found.fetchone()[0])

    def settle(self, key: str, verdict: Verdict, reason: str, row: str | None = None) -> None:
        """Give a resource its verdict; ``pending`` opens it again."""
        self._db.execute(
            "UPDATE resource SET verdict = ?, reason = ?, row = ?, admitted = 0 WHERE key = ?",
            (verdict, reason, row, key),
        )

    def open_keys(self) -> list[str]:
        """Resources without a verdict."""
        found = self._db.execute("SELECT key FROM resource WHERE verdict = 'pending'")
        return [key for (key,) in found]

    # -- pages ------------------------------------------------------------------------------------

    def list_page(self, number: int, positions: int) -> None:
        """So many more positions of a page have been listed."""
        self._db.execute(
            "INSERT INTO page VALUES (?, ?, 0) ON CONFLICT (number) DO UPDATE "
            "SET listed = listed + excluded.listed, written = 0",
            (number, positions),
        )

    def touch_page(self, number: int) -> None:
        """A row of the page has changed."""
        self._db.execute("UPDATE page SET written = 0 WHERE number = ?", (number,))

    def page_is_whole(self, number: int, size: int, absent: tuple[str, ...]) -> bool:
        """Are all its positions listed, is no resource of it pending, none left out for one of
        the reasons in ``absent``, and is there any?"""
        page = self._db.execute("SELECT listed FROM page WHERE number = ?", (number,)).fetchone()
        if page is None or page[0] < size:
            return False
        # apart, since there is an index of these: a page may have all rows of a list
        pending = "SELECT 1 FROM resource WHERE verdict = 'pending' AND page = ? LIMIT 1"
        if self._db.execute(pending, (number,)).fetchone():
            return False
        reasons = self._db.execute(
            "SELECT DISTINCT reason FROM resource WHERE page = ?", (number,)
        ).fetchall()
        return bool(reasons) and not any(reason in absent for (reason,) in reasons)

    def page_rows(self, number: int) -> Iterator[str]:
        """The lines of a page, in the list's order; one at a time, since they may be large."""
        found = self._db.execute(
            "SELECT row FROM resource WHERE page = ? AND verdict = 'stored' ORDER BY position",
            (number,),
        )
        return (row for (row,) in found if row is not None)

    def page_bytes(self, number: int) -> int:
        """Bytes of a page as it is now."""
        found = self._db.execute(
            "SELECT sum(length(CAST(row AS BLOB)) + 1) FROM resource "
            "WHERE page = ? AND verdict = 'stored'",
            (number,),
        ).fetchone()
        return found[0] or 0

    def page_written(self, number: int) -> None:
        """A page's file is at its place."""
        self._db.execute("UPDATE page SET written = 1 WHERE number = ?", (number,))

    def pages(self) -> list[tuple[int, bool]]:
        """Every page that was listed, and whether its file was written."""
        found = self._db.execute("SELECT number, written FROM page ORDER BY number")
        return [(number, bool(written)) for number, written in found]

    # -- feeds ------------------------------------------------------------------------------------

    def feeds(self) -> list[FeedFile]:
        """Every file of every feed."""
        names = ", ".join(field.name for field in fields(FeedFile))
        found = self._db.execute(f"SELECT {names} FROM feed ORDER BY template, batch")  # noqa: S608
        files = [FeedFile(*row) for row in found]
        for file in files:
            file.closed = bool(file.closed)  # SQLite keeps a number
        return files

    def put_feed(self, feed: FeedFile) -> None:
        """Note a feed's file as it is."""
        names = ", ".join(field.name for field in fields(FeedFile))
        marks = ", ".join("?" for _ in fields(FeedFile))
        self._db.execute(
            f"INSERT OR REPLACE INTO feed ({names}) VALUES ({marks})",  # noqa: S608
            astuple(feed),
        )
