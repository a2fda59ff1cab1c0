"""Quota families that are held back, and the moment at which the engine is to be woken.

Kaggle holds a family by a Retry-After, our own quotas (quotas.py) by its pace and budgets, and the
number of downloads by what is under way. What Kaggle asks for outlives the run, and is known to the
other processes of the account: a Retry-After is never shortened.

Stats: ``kaggle/quotas/interval/<family>`` (seconds between two requests that Kaggle has taught us).
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.settings import BaseSettings
from scrapy.utils.asyncio import CallLaterResult, call_later

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.auth import account_of
from kagglecrawl.state import internals
from kagglecrawl.state.leases import Lease
from kagglecrawl.state.lessons import Lessons
from kagglecrawl.state.quotas import LONGEST_PACE, Quotas, QuotasRefused
from kagglecrawl.state.store import Store
from kagglecrawl.state.turns import Turns
from kagglecrawl.units import duration

logger = logging.getLogger(__name__)

#: Seconds after which a request that was handed out goes out late.
_LATE = 0.01
#: Seconds that a pace may keep two requests apart, and somewhat more.
_PACE = LONGEST_PACE + 5.0
#: Seconds until a family that stands back for another one asks again.
_TURN = 0.002
#: Settings that a run may change, and that one that goes on with its job should have as well.
_REPEATED = ("KAGGLE_QUOTAS", "KAGGLE_QUOTA_SPENT", "KAGGLE_QUOTA_FILE", "KAGGLE_LEDGER")
#: Downloads may take hours: the requests of other families must not wait for them.
DOWNLOADS = "download"
#: What one listing of episodes tells decides on the next.
LISTINGS = "episodes"
REPLAYS = "replay"


class Held(Exception):
    """A request's family is held until ``until``; it was handed out, and must not be sent."""

    def __init__(self, until: float) -> None:
        super().__init__(f"held until {until:.0f}")
        self.until = until


class Holds:
    """Until when nothing of a family may be sent, in seconds since the epoch."""

    def __init__(self, crawler: Crawler, store: Store, config: object = None) -> None:
        """``config`` is a ``KaggleConfig``; a spider of something else has none, and no quotas."""
        self._crawler = crawler
        self._store = store
        self._config = config if isinstance(config, KaggleConfig) else None
        quotas = self._quotas = _quotas(self._config) if self._config else None
        if quotas is not None:
            quotas.check()
            store.put("repeated", json.dumps(repeated(crawler.settings)))
            store.put("account", quotas.account)
        self._lessons = Lessons(quotas) if quotas else None
        self._turns = Turns(self._config.quotas if self._config else ())
        #: When our own quotas let the next one of a family through; and where that was no pace.
        self._paced: dict[str, float] = {}
        self._spent: dict[str, float] = {}
        #: When that was last looked at, and until when a wait was told of.
        self._latest = self._told = 0.0
        self._timer: CallLaterResult | None = None
        self._wake_at = 0.0
        #: How many requests of a family may be under way at once.
        transfers = crawler.settings.getint("KAGGLE_CONCURRENT_TRANSFERS", 1)
        others = crawler.settings.getint("CONCURRENT_REQUESTS") - 1
        # replays that a store does not take must not be followed by others
        self._most = {
            DOWNLOADS: max(1, min(transfers, others)),
            LISTINGS: 1,
            REPLAYS: max(1, others),
        }
        known: dict[str, float] = json.loads(store.get("holds") or "{}")
        for family, until in (quotas.holds() if quotas else {}).items():
            known[family] = max(until, known.get(family, 0.0))
        self.until = {family: until for family, until in known.items() if until > time.time()}

    def hold(self, family: str, until: float) -> None:
        """Hand out nothing of this family before ``until``; never shortens a hold."""
        self.until[family] = max(until, self.until.get(family, 0.0))
        self._store.put("holds", json.dumps(self.until))
        if self._quotas is not None:
            try:
                self._quotas.hold(family, self.until[family])
            except QuotasRefused as error:  # this crawl knows it all the same
                logger.warning("Other crawls are not told to wait: %s", error)

    def admit(self, family: str) -> float:
        """Count a request of this family, which is handed out at once: 0; or when to ask again."""
        if self._quotas is None or not family:
            return 0.0
        if self._turns.stands_back(family, now := time.time()):
            self._paced[family] = now + _TURN
            return self._paced[family]
        return self._take(self._quotas, family)

    def _take(self, quotas: Quotas, family: str) -> float:
        due = self._paced[family] = quotas.take(family)
        if due:
            self._turns.waits(family, due)
            if due - time.time() > _PACE:
                self._spent[family] = due
            self._hear(family)
            return due
        self._turns.went(family)
        if self._lessons is not None:
            self._lessons.sent(family)
        return 0.0

    def _hear(self, family: str) -> None:
        """What another process was told counts here too."""
        if self._quotas is not None and family:
            held = self._quotas.held(family)
            if held > self.until.get(family, 0.0):
                self.until[family] = held

    def sent(self, lease: Lease) -> None:
        """It goes out now. A transfer may do so again, for a new address: that is one more, and
        ``Held`` is raised if that may not be sent now."""
        if lease.sent:
            # whoever waits: a transfer that broke off for a turn would cost more than that
            if self._quotas is not None and (until := self._take(self._quotas, lease.family)):
                raise Held(until)
        elif self._quotas is not None and time.time() - lease.since > _LATE:
            self._quotas.late(lease.family)
        lease.sent = True
        if self._one_by_one(lease.family) and self._crawler.engine is not None:
            internals.wake(self._crawler.engine)  # the next one may be handed out

    def _one_by_one(self, family: str) -> bool:
        """Is one to be on its way before the next is handed out? The downloader may keep what it
        has for a while, and then send all of it at once."""
        return self._quotas is not None and self._quotas.limits(family)

    def over(self, lease: Lease) -> None:
        """What was handed out and has never gone out does not count."""
        if not lease.sent and self._quotas is not None and lease.family:
            self._quotas.give_back(lease.family)
            self._paced.pop(lease.family, None)
        lease.sent = True

    def went_well(self, family: str) -> None:
        """Kaggle has answered one of this family."""
        if self._lessons is not None:
            with suppress(QuotasRefused):  # the next request to be handed out will tell
                self._tell(family, self._lessons.went_well(family))

    def pushed_back(self, family: str) -> None:
        """Kaggle has answered one of this family with a 429."""
        if self._lessons is not None and self.until.get(family, 0.0) <= time.time():
            with suppress(QuotasRefused):
                self._tell(family, self._lessons.pushed_back(family))

    def _tell(self, family: str, interval: float | None) -> None:
        if interval is None or self._quotas is None or self._crawler.stats is None:
            return
        if interval <= self._quotas.own_interval(family):
            interval = 0.0  # nothing is taught any more
        self._crawler.stats.set_value(f"kaggle/quotas/interval/{family}", round(interval, 3))

    def check(self, request: Request) -> None:
        """Raise ``Held`` if nothing of the request's family may be sent now.

        A request that was handed out waits its turn in the downloader, where a 429 may overtake it.
        """
        family = request.meta.get("family", "")
        self._hear(family)
        until = self.until.get(family, 0.0)
        if until > time.time():
            raise Held(until)

    def with_full(self, under_way: Collection[Lease]) -> dict[str, float]:
        """Until when each family is held, and those of which as many requests are under way as may
        be, or one that has not gone out yet: for now without an end."""
        now = time.time()
        if now < self._latest - 1:  # the clock was set back: what was said of it is void
            self._paced.clear()
            self._spent.clear()
        self._latest = now
        held = {family: self._free_at(family) for family in self._paced.keys() | self.until.keys()}
        counts = Counter(lease.family for lease in under_way)
        for lease in under_way:
            if not lease.sent and self._one_by_one(lease.family):
                counts[lease.family] = sys.maxsize
        for family, count in counts.items():
            if count >= self._most.get(family, sys.maxsize):
                held[family] = math.inf
        return held

    def seconds(self) -> float:
        """Until the last hold ends; 0 when nothing is held."""
        return max(0.0, max(self.until.values(), default=0.0) - time.time())

    def account(self) -> str:
        """Whose requests are counted; empty if nobody's are."""
        return self._quotas.account if self._quotas else ""

    def families_waiting(self) -> list[str]:
        """Families that Kaggle or a budget holds for a second or longer."""
        soon = time.time() + 1
        return sorted(f for f in {*self.until, *self._spent} if self._held_for_long(f) > soon)

    def _held_for_long(self, family: str) -> float:
        return max(self.until.get(family, 0.0), self._spent.get(family, 0.0))

    def seconds_spent(self) -> float:
        """Until the last budget that is spent lets something through; 0 when none is."""
        return max(0.0, max(self._spent.values(), default=0.0) - time.time())

    def wake_when_due(self, families: Iterable[str], due: float | None) -> None:
        """Let the engine ask again when one of these families is free, or at ``due``."""
        now = time.time()
        moments = [self._free_at(family) for family in families]
        moments += [due] if due is not None else []
        # one that has come since we looked is no less a moment to look again
        when = min((moment for moment in moments if moment > self._latest), default=0.0)
        if not when or now < self._wake_at <= when:
            return  # a timer for an earlier moment is running
        self.stop()
        self._wake_at = when
        self._timer = call_later(max(0.0, when - now), self._wake)

    def too_long(self, families: Iterable[str], due: float | None) -> str:
        """Why the crawl should end, if none of these families, nor what is due then, may be sent
        for longer than KAGGLE_MAX_WAIT: one sentence."""
        if self._config is None:
            return ""
        now, longest = time.time(), self._config.max_wait
        # A pace is no reason to end, however short the longest wait may be.
        spent = {f: at for f, at in self._paced.items() if at - now > max(longest, _PACE)}
        spent |= {f: at for f, at in self.until.items() if at - now > longest}
        waiting = set(families)
        if not spent or waiting - spent.keys() or not (waiting or due is not None):
            return ""
        first = min(spent[family] for family in waiting or spent)
        if due is not None and due - now <= longest:  # one that is asked again before that
            return ""
        wait = first - now
        asked = any(until >= first for until in self.until.values())
        who = "Kaggle asks to wait" if asked else f"KAGGLE_QUOTAS is spent for {_all(waiting)}, for"
        moment = datetime.fromtimestamp(first).astimezone().strftime("%Y-%m-%d %H:%M %Z")
        said = f"{who} {duration(wait)}, longer than KAGGLE_MAX_WAIT ({longest:.0f} s)"
        if self._config.quota_spent == "stop":
            return (
                f"{said}: run the same command again after that, at {moment} "
                "(or let it wait: KAGGLE_QUOTA_SPENT=wait)"
            )
        if first > self._told + _PACE:
            self._told = first
            logger.info("%s: it goes on at %s (KAGGLE_QUOTA_SPENT=wait)", said, moment)
        return ""

    def _free_at(self, family: str) -> float:
        """When neither Kaggle nor our own quotas hold it."""
        return max(self.until.get(family, 0.0), self._paced.get(family, 0.0))

    def close(self) -> None:
        """No more waking, and no more counting."""
        self.stop()
        if self._quotas is not None:
            self._quotas.close()

    def stop(self) -> None:
        """No more waking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        self._wake_at = 0.0
        if self._crawler.engine is not None:
            internals.wake(self._crawler.engine)


def _all(families: Iterable[str]) -> str:
    return " and ".join(sorted(families)) or "what is left"


def repeated(settings: BaseSettings) -> dict[str, str]:
    """What these settings say of that which the command that goes on with a job should repeat;
    paths are absolute, and what is not set is empty."""
    found = {}
    for name in _REPEATED:
        value = settings.get(name) or ""
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if text and name.endswith(("_FILE", "_LEDGER")):
            with suppress(RuntimeError):  # the home of nobody
                text = str(Path(text).expanduser().absolute())
        found[name] = text
    return found


def _quotas(config: KaggleConfig) -> Quotas:
    return Quotas(config.quota_file, account_of(config.api_url), config.quotas)
