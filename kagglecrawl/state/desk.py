"""Where a lease is acknowledged: all that came of it counts now, or none of it."""

from __future__ import annotations

import logging
from typing import Any

from scrapy import Request
from scrapy.statscollectors import StatsCollector

from kagglecrawl.state.accounts import Accounts, Exported
from kagglecrawl.state.feeds import ExportError, Feeds
from kagglecrawl.state.leases import Lease, Settled
from kagglecrawl.state.store import Store, Verdict

logger = logging.getLogger(__name__)


class Desk:
    """Gives each lease its verdict. Every method may raise ``sqlite3.Error``.

    ``ours``: the spider keeps accounts; else items have no keys.
    """

    def __init__(
        self, store: Store, accounts: Accounts, feeds: Feeds, stats: StatsCollector, *, ours: bool
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._feeds = feeds
        self._stats = stats
        self._ours = ours

    def acknowledge(self, lease: Lease) -> list[Request]:
        """Done, or failed with its reason; the requests that are to be made now."""
        if not (lease.ended or lease.error):
            lease.fail("no_verdict")
        if not lease.error and self._accounts.missing_verdict(lease):
            if lease.key and lease.dropped:
                lease.settled[lease.key] = Settled(lease.key, Verdict.SKIPPED, lease.dropped)
            else:
                lease.fail("nothing_came_of_it")
        rows = self._export(lease) if not lease.error else []
        if lease.error and not lease.declared:
            logger.debug("Failed %s: %s", lease.key or lease.request, lease.error)
            self._accounts.broken(lease.key, lease.error)
            children = []
        else:
            self._accounts.apply(lease)
            self._accounts.store(rows)
            children = lease.children
        if lease.error:
            self._store.fail(lease.number, lease.error)
        else:
            self._store.finish(lease.number)
        return children

    def take_in(self, item: Any) -> None:
        """An item that no callback has yielded."""
        orphan = Lease(0, Request("data:,"), None, items=[item])
        self._accounts.store(self._export(orphan))

    def _export(self, lease: Lease) -> list[Exported]:
        """The lease's items whose rows are in the feeds now; none if one cannot be exported."""
        items = self._wanted(lease)
        try:
            rows = [
                self._accounts.exported(key, item, unchanged=key in lease.unchanged)
                for key, item in items
                if key is not None
            ]
            self._feeds.add([item for _, item in items])
        except Exception as error:
            cause = error.__cause__ if isinstance(error, ExportError) else error
            logger.error("Failed %s: its row cannot be exported: %s", lease.key, cause)
            lease.fail(f"feed_{type(cause).__name__}")
            return []
        return rows

    def _wanted(self, lease: Lease) -> list[tuple[str | None, Any]]:
        """Key and item, without items that are here twice, or whose verdict is known."""
        seen = {key for key, said in lease.settled.items() if said.verdict is Verdict.SKIPPED}
        found: list[tuple[str | None, Any]] = []
        for known, item in lease.keyed_items():
            key = known if self._ours else None
            if key is not None and (key in seen or self._accounts.is_closed(key)):
                self._stats.inc_value("kaggle/doubled")
                continue
            if key is not None:
                seen.add(key)
            found.append((key, item))
        return found
