"""The account of every resource: discovered = stored + skipped + failed + pending, always.

Kept as separate counters, so that the sum can be wrong and is checked. Stats, for a spider named
``datasets``: ``kaggle/datasets/discovered``, ``…/stored``, ``…/skipped``, ``…/failed``,
``…/pending``, and ``…/skipped/<reason>``, ``…/failed/<reason>``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from scrapy import Request, signals
from scrapy.crawler import Crawler
from scrapy.http import Response
from scrapy.statscollectors import StatsCollector
from twisted.python.failure import Failure

Verdict = Literal["stored", "skipped", "failed"]


class Accounts:
    """Who was discovered, and what became of them. One per spider.

    ``on_loss`` is called with the key of a resource that ends as anything but stored.
    """

    def __init__(self, crawler: Crawler, resource: str, on_loss: Callable[[str], None]) -> None:
        self._crawler = crawler
        self._prefix = f"kaggle/{resource}"
        self._seen: set[str] = set()
        self._pending: set[str] = set()
        self._on_loss = on_loss
        crawler.signals.connect(self._item_scraped, signals.item_scraped)
        crawler.signals.connect(self._item_dropped, signals.item_dropped)
        crawler.signals.connect(self._item_error, signals.item_error)
        crawler.signals.connect(self._spider_error, signals.spider_error)
        crawler.signals.connect(self._request_dropped, signals.request_dropped)

    @property
    def _stats(self) -> StatsCollector:
        assert self._crawler.stats is not None  # Scrapy makes it after the spider
        return self._crawler.stats

    def discover(self, key: str) -> bool:
        """Open an account; False if this one was discovered before."""
        if key in self._seen:
            self._stats.inc_value(f"{self._prefix}/seen_again")
            return False
        self._seen.add(key)
        self._pending.add(key)
        self._stats.inc_value(f"{self._prefix}/discovered")
        return True

    def settle(self, key: str, verdict: Verdict, reason: str = "") -> bool:
        """Close an account, with its reason unless it is stored; False if it was closed before.

        One that is not known was discovered by an earlier run of the job.
        """
        if key not in self._seen:
            self.discover(key)
        if key not in self._pending:
            return False
        self._pending.remove(key)
        self._stats.inc_value(f"{self._prefix}/{verdict}")
        if verdict != "stored":
            self._stats.inc_value(f"{self._prefix}/{verdict}/{reason}")
            self._on_loss(key)
        return True

    def lose(self, key: str, reason: str) -> None:
        """What was counted as stored could not be written: it has failed."""
        self._stats.inc_value(f"{self._prefix}/stored", -1)
        self._stats.inc_value(f"{self._prefix}/failed")
        self._stats.inc_value(f"{self._prefix}/failed/{reason}")
        self._on_loss(key)

    @property
    def pending(self) -> int:
        """How many are still open."""
        return len(self._pending)

    def count(self, name: str) -> int:
        """One of the counters: discovered, stored, skipped, failed."""
        return int(self._stats.get_value(f"{self._prefix}/{name}", 0))

    def reasons(self, verdict: Verdict) -> dict[str, int]:
        """Counts by reason, the largest first."""
        head = f"{self._prefix}/{verdict}/"
        stats = self._stats.get_stats().items()
        found = {name[len(head) :]: value for name, value in stats if name.startswith(head)}
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    def balanced(self) -> bool:
        """True when the sum is right; also sets the ``pending`` stat."""
        self._stats.set_value(f"{self._prefix}/pending", self.pending)
        ends = sum(self.count(name) for name in ("stored", "skipped", "failed"))
        return self.count("discovered") == ends + self.pending

    def _item_scraped(self, item: Any) -> None:
        self.settle(item.key, "stored")

    def _item_dropped(self, item: Any, exception: BaseException) -> None:
        self.settle(item.key, "skipped", getattr(exception, "slug", "dropped"))

    def _item_error(self, item: Any, failure: Failure) -> None:
        self.settle(item.key, "failed", f"pipeline_{type(failure.value).__name__}")

    def _request_dropped(self, request: Request) -> None:
        """Scrapy's duplicate filter knows the request: an earlier run of this job asked it, and
        counts it, unless what came of it is still in the queue."""
        key = request.meta.get("key")
        if key in self._pending:
            self._pending.remove(key)
            self._seen.remove(key)
            self._stats.inc_value(f"{self._prefix}/discovered", -1)
            self._stats.inc_value(f"{self._prefix}/asked_before")

    def _spider_error(self, failure: Failure, response: Response | Failure | None) -> None:
        request = getattr(response, "request", None)
        if request is not None and (key := request.meta.get("key")):
            self.settle(key, "failed", f"callback_{type(failure.value).__name__}")
        else:
            self._stats.inc_value("kaggle/lists/failed")
