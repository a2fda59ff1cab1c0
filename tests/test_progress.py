"""The line on the terminal: what it says, and that it gives way to the log."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scrapy.crawler import Crawler
from scrapy.utils.test import get_crawler

from kagglecrawl import settings as project
from kagglecrawl.extensions import progress as module
from kagglecrawl.extensions.progress import Progress
from kagglecrawl.spiders.datasets import DatasetsSpider
from kagglecrawl.state.accounts import Accounts, Exported
from kagglecrawl.state.holds import Holds
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.store import Store
from kagglecrawl.state.transfers import Meter, UnderWay


@pytest.fixture
def crawler(tmp_path: Any) -> Crawler:
    """A crawler of datasets that has not begun."""
    chosen = {name: value for name, value in vars(project).items() if name.isupper()}
    places = {"KAGGLE_API_URL": "https://api.kaggle.com", "WORKSPACE": str(tmp_path), "ADDONS": {}}
    made = get_crawler(DatasetsSpider, settings_dict={**chosen, **places})
    made.engine = cast(Any, SimpleNamespace(scheduler=None))
    return made


def spider(crawler: Crawler, **arguments: str) -> DatasetsSpider:
    """With the accounts that the scheduler gives it."""
    made = DatasetsSpider.from_crawler(crawler, **arguments)
    made.accounts = Accounts(Store.in_memory(), made.name, sample=made.sample)
    return made


def count(
    spider: DatasetsSpider, stored: int = 0, skipped: int = 0, failed: int = 0, pending: int = 0
) -> None:
    """Open and close that many accounts more."""
    accounts, first = spider.accounts, spider.accounts.count("discovered")
    keys = [f"{number}" for number in range(first, first + stored + skipped + failed + pending)]
    for key in keys:
        accounts.discover(key)
    accounts.store(Exported(key) for key in keys[:stored])
    for key in keys[stored : stored + skipped]:
        accounts.skip(key, "reason")
    for key in keys[stored + skipped : stored + skipped + failed]:
        accounts.fail(key, "reason")


def line(
    crawler: Crawler, elapsed: float, sample: int = 0, requests: int = 0, **counts: int
) -> str:
    """The line of a crawl with these counts."""
    crawling = spider(crawler, **({"sample": f"{sample}"} if sample else {}))
    count(crawling, **counts)
    assert crawler.stats is not None
    crawler.stats.set_value("kaggle/requests", requests)
    return Progress(crawler, io.StringIO()).line(crawling, elapsed)


@pytest.mark.parametrize(
    ("elapsed", "counts", "shown"),
    [
        (0.0, {}, "0 datasets  0 requests  0 pending"),
        (0.5, {"stored": 3, "pending": 2}, "3 datasets  0 requests  2 pending"),
        (
            60.0,
            {"stored": 30, "requests": 33},
            "30 datasets  30/min  33 requests  0 pending  ETA 5 h 32 min for 10,000 rows",
        ),
        (
            10.0,
            {"stored": 8, "skipped": 2, "pending": 5, "requests": 10},
            "8 datasets  48/min  10 requests  5 pending  2 skipped  ETA 2 h 46 min for 10,000 rows",
        ),
        (
            10.0,
            {"failed": 1, "pending": 100, "requests": 1},
            "0 datasets  0/min  1 requests  100 pending  1 failed  ETA 27 h 46 min for 10,000 rows",
        ),
        (10.0, {"pending": 5}, "0 datasets  0/min  0 requests  5 pending"),
    ],
)
def test_the_line(crawler: Crawler, elapsed: float, counts: dict[str, int], shown: str) -> None:
    assert line(crawler, elapsed, **counts) == shown


def test_a_sample_is_the_whole_of_what_is_left(crawler: Crawler) -> None:
    """What is pending beyond it does not count."""
    text = line(crawler, 10.0, sample=25, stored=5, skipped=10, pending=100)
    assert text.endswith("100 pending  10 skipped  ETA 40 s")


def test_a_sample_that_is_had_has_no_eta(crawler: Crawler) -> None:
    assert "ETA" not in line(crawler, 10.0, sample=5, stored=5, pending=3)


def test_a_hold_is_told(crawler: Crawler, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = KaggleScheduler.from_crawler(crawler)
    scheduler.holds = Holds(crawler, Store.in_memory())
    scheduler.transfers = cast(Any, SimpleNamespace(under_way={}))
    crawler.engine = cast(Any, SimpleNamespace(scheduler=scheduler))
    monkeypatch.setattr(Holds, "seconds", lambda _: 90.4)
    assert line(crawler, 10.0, stored=5).startswith("5 datasets  waiting 1 min 30 s as Kaggle asks")
    assert "ETA" not in line(crawler, 10.0, stored=5)
    monkeypatch.setattr(Holds, "seconds", lambda _: 0.4)
    assert line(crawler, 0.0).endswith("0 pending")


def test_a_spent_budget_is_told(crawler: Crawler, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = KaggleScheduler.from_crawler(crawler)
    scheduler.holds = Holds(crawler, Store.in_memory())
    scheduler.transfers = cast(Any, SimpleNamespace(under_way={}))
    crawler.engine = cast(Any, SimpleNamespace(scheduler=scheduler))
    monkeypatch.setattr(Holds, "seconds_spent", lambda _: 7_300.0)
    text = line(crawler, 10.0, stored=5)
    assert text.startswith("5 datasets  waiting 2 h 01 min for the quota")
    assert "ETA" not in text
    monkeypatch.setattr(Holds, "seconds", lambda _: 90.0)
    assert " for the quota" in line(crawler, 10.0), "the longer of the two"
    monkeypatch.setattr(Holds, "seconds", lambda _: 7_400.0)
    assert "waiting 2 h 03 min as Kaggle asks" in line(crawler, 10.0)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"pages": "1-5"}, "50 datasets  60/min  0 requests  20 pending  10 skipped  ETA 26 s"),
        ({"sample": "60"}, "50 datasets  60/min  0 requests  20 pending  10 skipped  ETA 10 s"),
    ],
)
def test_a_job_that_goes_on_is_told_by_its_present_run(
    crawler: Crawler, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, str], shown: str
) -> None:
    """What earlier runs did says nothing of how fast this one is."""
    monkeypatch.setattr(module, "create_looping_call", lambda *_: Ticking(lambda: None))
    resumed = spider(crawler, **arguments)
    count(resumed, stored=40, skipped=5)
    progress = Progress(crawler, io.StringIO())
    progress._opened(resumed)
    assert "ETA" not in progress.line(resumed, 10.0)
    count(resumed, stored=10, skipped=5, pending=20)
    assert progress.line(resumed, 10.0) == shown
    progress._closed()


# -- bytes -----------------------------------------------------------------------------------------


def transfer(key: str, position: int, size: int, seconds: float = 10.0) -> UnderWay:
    """One that has had all before ``position`` in so many seconds."""
    made = UnderWay(key, Meter(received=position, position=position, size=size))
    made.began -= seconds
    return made


class Crawling:
    """A crawl whose clock, transfers and counts of bytes the test sets."""

    def __init__(self, crawler: Crawler, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self._spider = spider(crawler)
        self._under_way: dict[str, UnderWay] = {}
        scheduler = KaggleScheduler.from_crawler(crawler)
        scheduler.holds = Holds(crawler, Store.in_memory())
        scheduler.accounts = self._spider.accounts
        scheduler.transfers = cast(Any, SimpleNamespace(under_way=self._under_way))
        crawler.engine = cast(Any, SimpleNamespace(scheduler=scheduler))
        assert crawler.stats is not None
        self.stats = crawler.stats
        self._progress = Progress(crawler, io.StringIO())

    def expect(self, size: int, settled: int = 0) -> None:
        """The files of datasets that are known, and of those that are done with."""
        self._spider.accounts.note("bytes_expected", size)
        self._spider.accounts.note("bytes_settled", settled)

    def line(self, *under_way: UnderWay, after: float = 0.0) -> list[str]:
        """The parts of the line that are about bytes, so many seconds later."""
        self.now += after
        self._under_way.clear()
        self._under_way.update({each.key: each for each in under_way})
        return self._progress.line(self._spider, 0.0).split("  ")[1:-2]


@pytest.fixture
def crawling(crawler: Crawler, monkeypatch: pytest.MonkeyPatch) -> Crawling:
    return Crawling(crawler, monkeypatch)


def test_bytes_are_told_once_some_have_come(crawling: Crawling) -> None:
    assert crawling.line() == []
    assert crawling.line(transfer("a/b", 0, 1000)) == []
    assert crawling.line(transfer("a/b", 500, 1000)) == ["500 B"]
    crawling.stats.set_value("kaggle/transfers/received", 1_000_000)
    assert crawling.line(transfer("c/d", 500_000, 600_000)) == ["1.5 MB"], "of both"


def test_the_rate_is_that_of_the_last_seconds(crawling: Crawling) -> None:
    crawling.stats.set_value("kaggle/transfers/received", 1_000_000)
    assert crawling.line() == ["1.0 MB"]
    crawling.stats.set_value("kaggle/transfers/received", 5_000_000)
    assert crawling.line(after=2.0) == ["5.0 MB at 2.0 MB/s"]
    for _ in range(100):  # and then nothing comes
        last = crawling.line(after=0.5)
    assert last == ["5.0 MB"]


def test_what_is_to_come_takes_as_long_as_the_rate_says(crawling: Crawling) -> None:
    """Of all that is known, less what is done with, and what is had of those under way."""
    crawling.expect(1_000_000_000, settled=200_000_000)
    crawling.line(transfer("a/b", 10_000_000, 15_000_000))
    crawling.stats.set_value("kaggle/transfers/received", 60_000_000)
    assert crawling.line(transfer("c/d", 10_000_000, 15_000_000), after=6.0) == [
        "70.0 MB at 10.0 MB/s, 1 min 19 s for 790.0 MB more"
    ]
    crawling.expect(0, settled=785_000_000)
    assert crawling.line(transfer("c/d", 10_000_000, 15_000_000)) == ["70.0 MB at 10.0 MB/s"], (
        "what is over in a moment is not told"
    )


def test_the_largest_transfers_are_named(crawling: Crawling) -> None:
    many = [
        transfer("a/small", 9_000_000, 10_000_000),
        transfer("a/soon", 95_000_000, 100_000_000),
        transfer("a/half", 50_000_000, 100_000_000),
        transfer("a/huge", 100_000_000, 100_000_000_000),
        transfer("a/new", 0, 90_000_000_000, seconds=0.0),
    ]
    assert crawling.line(*many)[1:] == ["a/huge 0% of 100.0 GB, 2 h 46 min more"], (
        "of the two that take longest, one has no rate yet"
    )
    assert crawling.line(transfer("a/b", 0, 0)) == ["a/b waits for storage"]
    assert crawling.line(*many[:3])[1:] == [
        "a/half 50% of 100.0 MB, 10 s more",
        "a/soon 95% of 100.0 MB, 0 s more",
    ]


def test_only_a_terminal_has_one(crawler: Crawler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", stream := io.StringIO())
    Progress.from_crawler(crawler).clear()
    assert stream.getvalue() == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(Progress.from_crawler(crawler), Progress)


class Ticking:
    """A looping call whose turns the test takes."""

    running = False

    def __init__(self, function: Callable[..., None], *args: object) -> None:
        self.function, self.args = function, args

    def turn(self) -> None:
        self.function(*self.args)

    def start(self, interval: float, now: bool) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


def test_it_is_drawn_wiped_for_the_log_and_gone_at_the_end(
    crawler: Crawler, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking: list[Ticking] = []

    def create(function: Callable[..., None], *args: object) -> Ticking:
        ticking.append(Ticking(function, *args))
        return ticking[0]

    monkeypatch.setattr(module, "create_looping_call", create)
    monkeypatch.setattr(module, "AsyncioLoopingCall", Ticking)
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    shown = Progress(crawler, stream)
    try:
        shown._opened(spider(crawler))
        begun = ticking[0].running
        ticking[0].turn()
        assert stream.getvalue() == "\r\x1b[K0 datasets", "cut: never a second line"
        root.warning("A record")
        root.warning("Another")
        drawn = "\r\x1b[K0 datasets\r\x1b[KA record\nAnother\n"
        assert stream.getvalue() == drawn, "wiped once, before the record is written"
        ticking[0].turn()
        shown._closed()
        assert stream.getvalue().endswith("datasets\r\x1b[K")
        assert (begun, ticking[0].running) == (True, False)
        assert not handler.filters
    finally:
        root.removeHandler(handler)


def test_another_kind_of_spider_has_none(crawler: Crawler) -> None:
    stream = io.StringIO()
    shown = Progress(crawler, stream)
    shown._opened(object())
    shown._closed()
    assert stream.getvalue() == ""
