"""A run that was never made: its spider, stats and scheduler, and a clock that is set by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.http import TextResponse
from scrapy.statscollectors import StatsCollector
from scrapy.utils.test import get_crawler

from kagglecrawl import settings as project
from kagglecrawl.kaggle import rpc
from kagglecrawl.report.collect import Collector
from kagglecrawl.report.document import document
from kagglecrawl.report.shape import Report
from kagglecrawl.spiders.datasets import DatasetsSpider
from kagglecrawl.state.accounts import Accounts, Exported
from kagglecrawl.state.leases import Lease, hand_out
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.store import Store
from kagglecrawl.state.transfers import UnderWay

#: When such runs begin, in seconds since the epoch.
BEGAN = 1_800_000_000.0
DATASETS, METADATA, DOWNLOAD = (
    rpc.LIST_DATASETS.name,
    rpc.GET_DATASET_METADATA.name,
    rpc.DOWNLOAD_DATASET.name,
)


class MadeRun:
    """A run whose clock only ``at`` moves."""

    def __init__(
        self,
        folder: Path,
        arguments: dict[str, str] | None = None,
        accounts: Accounts | None = None,
        **given: Any,
    ) -> None:
        chosen = {name: value for name, value in vars(project).items() if name.isupper()}
        places = {
            "KAGGLE_API_URL": "https://api.kaggle.com",
            "WORKSPACE": str(folder),
            "KAGGLE_QUOTA_FILE": str(folder / "quotas.sqlite"),
            "ADDONS": {},
        }
        settings = {**chosen, **places, **given}
        self.crawler: Crawler = get_crawler(DatasetsSpider, settings_dict=settings)
        self.spider = DatasetsSpider.from_crawler(self.crawler, **(arguments or {}))
        if accounts is None:
            accounts = Accounts(Store.in_memory(), "datasets", sample=self.spider.sample)
        accounts.stored_before = accounts.count("stored")
        self.spider.accounts = accounts
        assert self.crawler.stats is not None
        self.stats: StatsCollector = self.crawler.stats
        self.under_way: dict[str, UnderWay] = {}
        self.held: dict[str, float] = {}
        self.seconds = 0.0
        self.collector = Collector(
            self.stats,
            self.spider.accounts,
            clock=lambda: self.seconds,
            now=lambda: BEGAN + self.seconds,
        )
        scheduler = SimpleNamespace(
            holds=SimpleNamespace(until=self.held, account=lambda: ""),
            transfers=SimpleNamespace(under_way=self.under_way),
            balanced=True,
        )
        self.scheduler = cast(KaggleScheduler, scheduler)

    def at(self, seconds: float, *, last: bool = False, **stats: int) -> None:
        """It is so late, and the stats have these values; ``__`` stands for a slash."""
        self.seconds = seconds
        for name, value in stats.items():
            self.stats.set_value(f"kaggle/{name.replace('__', '/')}", value)
        self.collector.look(self.held, self.under_way, last=last)

    def settle(self, stored: int = 0, skipped: int = 0, failed: int = 0, pending: int = 0) -> None:
        """Open and close so many accounts more."""
        accounts = self.spider.accounts
        first = accounts.count("discovered")
        keys = [f"owner/{n}" for n in range(first, first + stored + skipped + failed + pending)]
        for key in keys:
            accounts.discover(key)
        accounts.store(Exported(key) for key in keys[:stored])
        for key in keys[stored : stored + skipped]:
            accounts.skip(key, "usability")
        for key in keys[stored + skipped : stored + skipped + failed]:
            accounts.fail(key, "server_error")

    def answer(
        self, name: str, seconds: float | None, key: str | None, body: bytes = b"{}"
    ) -> None:
        """A call of the API was answered so late after it was sent."""
        meta = {"rpc": name, "download_latency": seconds, **({"key": key} if key else {})}
        request = Request("https://api.kaggle.com/v1/x?token=hunter2", meta=meta)
        self.collector.answered(TextResponse(request.url, body=body, encoding="utf-8"), request)

    def download(self, key: str, seconds: float, body: bytes) -> None:
        """A download has ended, so long after it was handed out."""
        meta = {"rpc": DOWNLOAD, "sink": {}, "key": key, "download_latency": 0.1}
        request = Request("https://api.kaggle.com/v1/x", meta=meta)
        lease = Lease(1, request, key, since=BEGAN + self.seconds - seconds)
        leased = hand_out(lease, lambda response: None)
        self.collector.answered(TextResponse(request.url, body=body, encoding="utf-8"), leased)

    def report(self, reason: str | None = None) -> Report:
        """The report of it."""
        if reason is not None:
            self.stats.set_value("finish_reason", reason)
        return document(self.spider, self.scheduler, self.stats, self.collector, reason)
