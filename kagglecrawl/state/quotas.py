"""What may be sent of each family of requests, and when: kept on disk, for all runs and processes.

Every request is counted before it is sent, in one transaction with the look at whether it may be.
So a run that follows another, or that works beside it, stays within the same rates, and within what
Kaggle has asked to wait. One file holds the accounts that this user of the machine crawls with.

A rate of up to a minute is a pace: requests are spaced evenly. One of an hour or a day is a budget:
it may be spent at once. Rates that families share (``api+download``) count the requests of all of
them; a request is let through where those of its family and those that it shares allow it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kagglecrawl.rates import Rate, families_of

APPLICATION_ID = 0x6B637175  # "kcqu"
VERSION = 1

#: Rates of more seconds than this are budgets.
LONGEST_PACE = 60
#: Added to what a rate counts in, as a share and in seconds at most: two clocks and a network are
#: between us and the server that counts.
_SLACK, _MOST_SLACK = 0.05, 1.0
#: Of that slack, the share by which a request may come early after one that was late.
_CATCH_UP = 0.3
#: And of the gap between two.
_MOST_EARLY = 0.15
#: Requests between two looks for what is too old to count.
_PRUNE_EVERY = 200
#: Seconds that another process may hold the file before we ask again a second later, and for how
#: long that may go on: a process that was stopped must not end the others.
_TIMEOUT, _ASK_AGAIN, _LONGEST_BUSY = 0.5, 1.0, 300.0
#: Seconds after which nothing counts any more.
_FORGOTTEN = 86_400 + _MOST_SLACK

_SCHEMA = (
    """
CREATE TABLE family (
    account TEXT NOT NULL, name TEXT NOT NULL,
    next REAL NOT NULL,       -- when the pace lets the next one through
    held REAL NOT NULL,       -- until when Kaggle has asked to wait, or 0
    held_at REAL NOT NULL,    -- when it has
    learnt REAL NOT NULL,     -- seconds between two requests that Kaggle has taught us, or 0
    PRIMARY KEY (account, name)
) WITHOUT ROWID""",
    "CREATE TABLE sent (account TEXT NOT NULL, name TEXT NOT NULL, at REAL NOT NULL)",
    "CREATE INDEX sent_at ON sent (account, name, at)",
)
_SENT = "SELECT at FROM sent WHERE account = ? AND name = ?"


class QuotasRefused(ValueError):
    """The file cannot be used; the text is one sentence."""


class _Busy(QuotasRefused):
    """Another process holds it, for now."""


@dataclass(frozen=True)
class Left:
    """What is left of one family, or of what families share (``name`` is theirs with a + between).
    Times are in seconds since the epoch, 0 for now.

    ``next`` is when another request may be sent. ``used`` has, for each budget, how many were sent
    in it, and when the first of these no longer counts.
    """

    name: str
    held: float
    next: float
    learnt: float
    used: tuple[tuple[Rate, int, float], ...]


class Quotas:
    """The families of one account, with these rates (``rates.quotas_of`` says how they are named);
    what has none is only ever held."""

    def __init__(
        self,
        path: Path,
        account: str,
        rates: Mapping[str, tuple[Rate, ...]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.account = account
        self._rates = rates
        self._now = now
        #: Of each family, the names of the rates that hold for it: its own, and shared ones.
        self._names: dict[str, list[str]] = {}
        for name in rates:
            for family in families_of(name):
                names = self._names.setdefault(family, [family])
                names += [name] if name != family else []
        self._file: sqlite3.Connection | None = None
        #: Which file that is: it may be removed while it is open.
        self._inode = (0, 0)
        self._taken = 0
        self._busy_since = 0.0
        #: Holds that could not be written yet.
        self._unwritten: dict[str, float] = {}

    def check(self) -> None:
        """Raise ``QuotasRefused`` if there are rates, and no file for them can be had."""
        if any(self._rates.values()):
            with suppress(_Busy), self._writing():
                pass

    def take(self, family: str) -> float:
        """Count a request of this family, which is to be sent at once: returns 0. If it may not be
        yet, nothing is counted, and when to ask again is returned.

        Raises ``QuotasRefused``, as all of this does.
        """
        if not self.limits(family) and not self._is_there():
            return 0.0
        try:
            with self._writing() as file:
                now = self._now()  # not before the file is ours
                if (due := self._due(file, family, now)) > now:
                    return due
                self._count(file, family, now)
        except _Busy:
            now = self._now()
            self._busy_since = self._busy_since or now
            if now - self._busy_since > _LONGEST_BUSY:
                raise
            return now + _ASK_AGAIN
        self._busy_since = 0.0
        return 0.0

    def limits(self, family: str) -> bool:
        """Has this family any rates?"""
        return any(map(self._rates.get, self._names_of(family)))

    def late(self, family: str) -> None:
        """The last one that was counted is sent now, and not when it was."""
        if not self.limits(family):
            return
        with suppress(_Busy), self._writing() as file:
            now = self._now()
            for name in self._names_of(family):
                due, _, learnt = self._family(file, name, now)
                self._put(file, name, max(due, now + self._pace(name, learnt)[0]), learnt)
            file.execute(
                "UPDATE sent SET at = ? WHERE rowid = (SELECT max(rowid) FROM sent "
                "WHERE account = ? AND name = ?)",
                (now, self.account, family),
            )

    def give_back(self, family: str) -> None:
        """A request that was counted was not sent."""
        if not self.limits(family):
            return
        with suppress(_Busy), self._writing() as file:  # else one less may be sent
            file.execute(
                "DELETE FROM sent WHERE rowid = (SELECT max(rowid) FROM sent "
                "WHERE account = ? AND name = ?)",
                (self.account, family),
            )
            for name in self._names_of(family):
                due, _, learnt = self._family(file, name, self._now())
                self._put(file, name, due - self._pace(name, learnt)[0], learnt)

    def hold(self, family: str, until: float) -> None:
        """Nothing of this family may be sent before this moment; never shortens a hold."""
        self._unwritten[family] = max(until, self._unwritten.get(family, 0.0))
        with suppress(_Busy), self._writing():
            pass  # it is written with whatever comes next

    def held(self, family: str) -> float:
        """Until when this one is."""
        if not self._is_there():
            return 0.0
        with suppress(_Busy), self._writing() as file:
            return self._family(file, family, self._now())[1]
        return 0.0

    def holds(self) -> dict[str, float]:
        """Until when families are held."""
        return {left.name: left.held for left in self.left() if left.held > self._now()}

    def interval(self, family: str) -> float:
        """Seconds between two requests, as the rates and what was learnt have it."""
        with self._writing() as file:
            _, _, learnt = self._family(file, family, self._now())
        return max(learnt, self.own_interval(family))

    def own_interval(self, family: str) -> float:
        """The same, by the rates alone."""
        return max(self._pace(name, 0.0)[0] for name in self._names_of(family))

    def learn(self, family: str, seconds: float) -> None:
        """Leave so many seconds between two requests from now on; 0: what the rates have."""
        with self._writing() as file:
            due, _, _ = self._family(file, family, self._now())
            self._put(file, family, due, seconds)

    def left(self) -> list[Left]:
        """What is left of every family, and of what families share."""
        if not self._is_there():
            return [Left(n, 0.0, 0.0, 0.0, self._used(None, n)) for n in sorted(self._rates)]
        with self._writing() as file:
            found = file.execute("SELECT name FROM family WHERE account = ?", (self.account,))
            names = sorted({name for (name,) in found} | self._rates.keys())
            return [self._left(file, name) for name in names]

    def _left(self, file: sqlite3.Connection, name: str) -> Left:
        now = self._now()
        _, held, learnt = self._family(file, name, now)
        due = self._due(file, name, now)
        held, due = (moment if moment > now else 0.0 for moment in (held, due))
        return Left(name, held, due, learnt, self._used(file, name))

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- one family, or rates that are shared -----------------------------------------------------

    def _names_of(self, family: str) -> list[str]:
        return self._names.get(family) or [family]

    def _due(self, file: sqlite3.Connection, family: str, now: float) -> float:
        """When all that holds for this family lets the next one through."""
        due = 0.0
        for name in self._names_of(family):
            paced, held, _ = self._family(file, name, now)
            due = max(due, paced, held, self._budget_due(file, name, now))
        return due

    def _family(
        self, file: sqlite3.Connection, family: str, now: float
    ) -> tuple[float, float, float]:
        """When the pace lets the next one through, until when it is held, and what was learnt."""
        row = file.execute(
            "SELECT next, held, held_at, learnt FROM family WHERE account = ? AND name = ?",
            (self.account, family),
        ).fetchone()
        due, held, held_at, learnt = row or (0.0, 0.0, 0.0, 0.0)
        if held and now < held_at - 1:  # the clock was set back: as long as it was, from now on
            held = now + held - held_at
            self._put_hold(file, family, held, now)
        interval, _ = self._pace(family, learnt)
        # more than one interval ahead: the clock was set back, or the rates were lower before
        return min(due, now + interval), held, learnt

    def _put(self, file: sqlite3.Connection, family: str, due: float, learnt: float) -> None:
        file.execute(
            "INSERT INTO family VALUES (?, ?, ?, 0, 0, ?) ON CONFLICT DO "
            "UPDATE SET next = excluded.next, learnt = excluded.learnt",
            (self.account, family, due, learnt),
        )

    def _put_hold(self, file: sqlite3.Connection, family: str, until: float, now: float) -> None:
        file.execute(
            "INSERT INTO family VALUES (?, ?, 0, ?, ?, 0) ON CONFLICT DO "
            "UPDATE SET held = excluded.held, held_at = excluded.held_at",
            (self.account, family, until, now),
        )

    def _count(self, file: sqlite3.Connection, family: str, now: float) -> None:
        for name in self._names_of(family):
            due, _, learnt = self._family(file, name, now)
            interval, early = self._pace(name, learnt)
            if interval:
                self._put(file, name, max(due, now - early) + interval, learnt)
        if not self.limits(family):
            return
        # also without a budget: one may be set tomorrow, or be another process's
        file.execute("INSERT INTO sent VALUES (?, ?, ?)", (self.account, family, now))
        self._taken += 1
        if self._taken % _PRUNE_EVERY == 1:
            file.execute(
                "DELETE FROM sent WHERE account = ? AND name = ? AND at < ?",
                (self.account, family, now - _FORGOTTEN),
            )

    def _pace(self, family: str, learnt: float) -> tuple[float, float]:
        """Seconds between two requests, and by how many one may come early."""
        interval, slack = learnt, min(_SLACK * learnt, _MOST_SLACK)
        for rate in self._rates.get(family, ()):
            if rate.seconds <= LONGEST_PACE:
                own = (rate.seconds + _slack(rate)) / rate.count
                interval, slack = max((interval, slack), (own, _slack(rate)))
        return interval, min(_CATCH_UP * slack, _MOST_EARLY * interval)

    def _budgets(self, name: str) -> list[Rate]:
        return [rate for rate in self._rates.get(name, ()) if rate.seconds > LONGEST_PACE]

    def _budget_due(self, file: sqlite3.Connection, name: str, now: float) -> float:
        """When the budgets of this name let the next one through."""
        due, budgets, families = 0.0, self._budgets(name), families_of(name)
        for family in families if budgets else ():
            # those of the future were sent before the clock was set back
            file.execute(
                "UPDATE sent SET at = ? WHERE account = ? AND name = ? AND at > ?",
                (now, self.account, family, now + 1),
            )
        of_each = " UNION ALL ".join([_SENT] * len(families))  # each by its index, and merged
        whose = [word for family in families for word in (self.account, family)]
        for rate in budgets:
            oldest = file.execute(
                f"{of_each} ORDER BY at DESC LIMIT 1 OFFSET ?", (*whose, rate.count - 1)
            ).fetchone()
            if oldest is not None:
                due = max(due, float(oldest[0]) + rate.seconds + _slack(rate))
        return due

    def _used(
        self, file: sqlite3.Connection | None, name: str
    ) -> tuple[tuple[Rate, int, float], ...]:
        found = []
        for rate in self._budgets(name):
            used, oldest = 0, float("inf")
            for family in families_of(name):
                if file is None:
                    break
                count, first = file.execute(
                    "SELECT count(*), min(at) FROM sent WHERE account = ? AND name = ? AND at > ?",
                    (self.account, family, self._now() - rate.seconds - _slack(rate)),
                ).fetchone()
                used, oldest = used + count, min(oldest, first or oldest)
            found.append((rate, used, oldest + rate.seconds + _slack(rate) if used else 0.0))
        return tuple(found)

    # -- the file ---------------------------------------------------------------------------------

    def _is_there(self) -> bool:
        """Has anybody ever counted or held anything?"""
        return self._file is not None or self.path.exists()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        file = self._open()
        try:
            file.execute("BEGIN IMMEDIATE")
            try:
                for family, until in self._unwritten.items():
                    held = self._family(file, family, self._now())[1]
                    self._put_hold(file, family, max(held, until), self._now())
                yield file
            except BaseException:
                file.execute("ROLLBACK")
                raise
            file.execute("COMMIT")
            self._unwritten.clear()
        except sqlite3.Error as error:
            kind = _Busy if "locked" in str(error) else QuotasRefused
            raise kind(_cannot(self.path, str(error))) from None

    def _open(self) -> sqlite3.Connection:
        with suppress(OSError):
            found = self.path.stat()
            if self._file is not None and (found.st_dev, found.st_ino) == self._inode:
                return self._file
        self.close()
        self._file = _open(self.path)
        found = self.path.stat()
        self._inode = (found.st_dev, found.st_ino)
        return self._file


def _slack(rate: Rate) -> float:
    return min(_SLACK * rate.seconds, _MOST_SLACK)


def _open(path: Path) -> sqlite3.Connection:
    """Open the file, or make it, readable by its owner alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only a new one is opened apart from SQLite: closing another would take away the locks that
        # this process has on it.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if path.is_symlink():  # nothing is written through one
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        file = sqlite3.connect(path, isolation_level=None, timeout=_TIMEOUT)
    except (OSError, sqlite3.Error) as error:
        raise QuotasRefused(_cannot(path, str(error))) from None
    try:
        _prepare(file, path)
        # What a killed process has counted stays counted; a power cut may forget the last ones.
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error as error:
        file.close()
        raise QuotasRefused(_cannot(path, str(error))) from None
    except BaseException:
        file.close()
        raise
    return file


def _prepare(file: sqlite3.Connection, path: Path) -> None:
    file.execute("BEGIN IMMEDIATE")
    (made,) = file.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not made:
        for statement in _SCHEMA:
            file.execute(statement)
        file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        file.execute(f"PRAGMA user_version = {VERSION}")
    file.execute("COMMIT")
    (ours,) = file.execute("PRAGMA application_id").fetchone()
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if (ours, version) != (APPLICATION_ID, VERSION):
        raise QuotasRefused(_cannot(path, "it is another program's, or another version's"))


def _cannot(path: Path, why: str) -> str:
    return (
        f"the file {path}, which holds what was sent of each quota, cannot be used ({why}): "
        "set KAGGLE_QUOTA_FILE to another place, the same for every crawl of this account"
    )
