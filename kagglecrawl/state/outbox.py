"""What the job has done, brought to the ledger.

Two files do not commit together. So an outcome is noted in the job's file, in the transaction in
which it counts, and taken to the ledger after that; only then is the note removed. A kill in
between leaves the note, and the next run brings it: the ledger takes the same outcome twice without
a change.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Self

from scrapy import Spider
from scrapy.statscollectors import StatsCollector

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.auth import source_of
from kagglecrawl.state.ledger import Ledger, LedgerBusy, Outcome
from kagglecrawl.state.store import OutcomeRow, Store

logger = logging.getLogger(__name__)

#: Outcomes and files that are taken at a time.
_OUTCOMES, _FILES = 200, 1000
#: How often a ledger that another process holds is asked again at the end of a run that was
#: stopped, where a person waits, and of one that is finished. Each takes a second, and as long a
#: pause comes after it, in which that person may press Ctrl-C.
_LAST_ATTEMPTS, _LAST_ATTEMPTS_FINISHED = 2, 10
_LAST_PAUSE = 1.0
#: Seconds before it is asked again until then: each time all else waits for a second.
_PAUSE = 10.0


class Outbox:
    """Brings outcomes to the ledger. Every method may raise ``sqlite3.Error`` and
    ``LedgerRefused``.

    ``choice`` says which files this crawl wants of each resource, ``listing`` names the list that
    it walks from its first row on, if it does.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        stats: StatsCollector,
        choice: str = "",
        listing: str | None = None,
        hurried: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._choice = choice
        self._listing = listing
        self._hurried = hurried
        self._stats = stats
        self._busy_until = 0.0

    @classmethod
    def of_spider(cls, spider: Spider, store: Store, stats: StatsCollector) -> Self | None:
        """For the ledger of the spider's workspace, which the spider is given to look into; None
        if it has no workspace, or nothing to keep. Raises ``LedgerRefused``."""
        config = getattr(spider, "config", None)
        if not isinstance(config, KaggleConfig) or not hasattr(spider, "kept"):
            return None
        resource = getattr(spider, "resource", spider.name)
        ledger = Ledger(config.ledger, source_of(config.api_url), resource)
        ledger.check()
        spider.ledger = ledger  # type: ignore[attr-defined]
        choice, listing = getattr(spider, "choice", ""), getattr(spider, "listing", None)

        def hurried() -> bool:
            engine = spider.crawler.engine
            return engine is None or not engine.running  # stopped from outside

        return cls(store, ledger, stats, choice, listing, hurried)

    def deliver(self, *, written: bool) -> bool:
        """Bring what is committed; False if another process holds the ledger, and some of it is
        left for the next time. ``written``: its rows are at their places in the feeds."""
        if time.monotonic() < self._busy_until:
            return not self._store.any_outcomes()
        last = 0

        def outcomes() -> Iterator[Outcome]:
            nonlocal last
            for row in self._store.outcomes(_OUTCOMES):
                last = row.number
                yield self._outcome(row, written=written)

        while self._store.any_outcomes():
            try:
                self._ledger.apply(outcomes())
            except LedgerBusy:
                self._stats.inc_value("kaggle/ledger/busy")
                self._busy_until = time.monotonic() + _PAUSE
                return False
            self._store.forget_outcomes(last)
        return True

    async def close(self, *, finished: bool, whole: bool, delayed: bool, written: bool) -> None:
        """At the end of a run: bring what is left, and, of a job that is finished, what was listed;
        ``whole``: to the list's end. ``written``: all rows of the job are at their places in the
        feeds, where some came late if they were ``delayed``."""
        try:
            await self._deliver_last(finished=finished, written=written)
            self._close(finished=finished, whole=whole, delayed=delayed, written=written)
        finally:
            self._ledger.close()

    async def _deliver_last(self, *, finished: bool, written: bool) -> None:
        for attempt in range(1, _LAST_ATTEMPTS_FINISHED + 1):
            self._busy_until = 0.0
            if self.deliver(written=written):
                break
            if attempt >= _LAST_ATTEMPTS and (self._hurried() or not finished):
                break
            await asyncio.sleep(_LAST_PAUSE)

    def _close(self, *, finished: bool, whole: bool, delayed: bool, written: bool) -> None:
        if left := self._store.count_outcomes():
            self._stats.set_value("kaggle/ledger/left", left)
            logger.warning(
                "Another process holds %s, so %d outcomes are not in it; with JOBDIR the same "
                "command brings them, without it they are asked for again by the next crawl",
                self._ledger.path,
                left,
            )
            return
        began = float(self._store.get("began") or 0)
        try:
            if delayed and written:
                self._ledger.written(self._store.stored_versions())
            if not finished or self._listing is None:
                return
            walk = self._ledger.walked(self._listing, began, self._store.listed_keys(), whole=whole)
        except LedgerBusy as error:
            logger.warning("What was listed, and what was written late, is not noted: %s", error)
            return
        for name, value in (("back", walk.back), ("not_listed", walk.missing)):
            if value:
                self._stats.set_value(f"kaggle/ledger/{name}", value)

    def _outcome(self, row: OutcomeRow, *, written: bool) -> Outcome:
        manifest, files = row.manifest, None
        if manifest is not None and json.loads(manifest)["files"]:
            transfer = self._store.transfer(row.key)
            if transfer is None:
                manifest = None  # they were there before: what is kept of them stays
            else:
                files = self._files(transfer.number)
        return Outcome(
            key=row.key,
            version=row.version,
            verdict=row.verdict,
            reason=row.reason,
            signature=row.signature,
            at=row.at,
            seen=row.seen,
            record=row.record,
            choice=self._choice,
            manifest=manifest,
            files=files or (),
            written=written,
        )

    def _files(self, transfer: int) -> Iterator[tuple[str, int, bytes, str]]:
        after = 0
        while members := self._store.stored_members(transfer, after, _FILES):
            after = members[-1].number + 1
            for member in members:
                if member.sha256 is not None and not member.name.endswith("/"):
                    yield member.name, member.size, member.sha256, member.etag
