"""Families that wait for the same rates take turns; nobody else waits for anybody."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.config import KaggleConfig
from kagglecrawl.rates import quotas_of
from kagglecrawl.state import holds
from kagglecrawl.state.holds import Holds
from kagglecrawl.state.quotas import Quotas
from kagglecrawl.state.turns import Turns
from tests.state.stand import START, Clock, Stand, Things, ask, name_of


def test_who_waits_longest_goes_first() -> None:
    turns = Turns(["api+download"])
    assert not turns.stands_back("download", 10.0), "nobody waits"
    turns.waits("api", 11.0)
    turns.waits("download", 11.0)
    assert not turns.stands_back("download", 10.5), "the other may not be let through yet"
    assert turns.stands_back("download", 11.0)
    assert not turns.stands_back("api", 11.0)
    turns.went("api")
    assert not turns.stands_back("download", 11.0)
    turns.waits("api", 12.0)
    assert not turns.stands_back("download", 12.0), "it waits longer now"
    turns.went("download")
    turns.waits("download", 13.0)
    assert turns.stands_back("download", 13.0)


def test_who_does_not_come_is_not_waited_for_twice() -> None:
    turns = Turns(["api+download"])
    turns.waits("api", 11.0)
    assert turns.stands_back("download", 11.0)
    assert not turns.stands_back("download", 11.0)
    turns.went("download")
    assert not turns.stands_back("download", 12.0), "it has lost its place"


def test_who_came_and_was_refused_keeps_the_place() -> None:
    """Another process was quicker."""
    turns = Turns(["api+download"])
    turns.waits("api", 11.0)
    assert turns.stands_back("download", 11.0)
    assert not turns.stands_back("api", 11.0)
    turns.waits("api", 12.0)
    turns.waits("download", 12.0)
    assert turns.stands_back("download", 12.0)


def test_families_that_share_nothing_do_not_wait_for_each_other() -> None:
    turns = Turns(["api+download", "web", "api"])
    turns.waits("api", 10.0)
    assert not turns.stands_back("web", 11.0)
    turns.waits("web", 10.0)
    assert not turns.stands_back("api", 11.0)


# -- in the scheduler ------------------------------------------------------------------------------


class Crawling:
    """A scheduler under quotas, driven by a clock that goes from one timer to the next."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        quotas: str,
        **options: Any,
    ) -> None:
        monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_nobody")

        def on_the_clock(given: KaggleConfig) -> Quotas:
            return Quotas(given.quota_file, "me", given.quotas, lambda: clock.now)

        monkeypatch.setattr(holds, "_quotas", on_the_clock)

        class Configured(Things):
            config = KaggleConfig(
                *("https://api.kaggle.com", "scrapy", 8, 900, 0.5, 0.8, folder, folder / "f.json"),
                quotas=quotas_of(quotas),
                quota_file=folder / "quotas.sqlite",
                **options,
            )

        self.clock = clock
        self.stand = Stand(folder, job=False, spider=Configured)
        #: When requests were sent, in seconds from the start, by family.
        self.sent: dict[str, list[float]] = {"api": [], "download": []}

    @property
    def holds(self) -> Holds:
        return self.stand.scheduler.holds

    def push(self, family: str, count: int, priority: int = 0) -> None:
        first = len(self.sent["api"]) + len(self.sent["download"])
        for number in range(first, first + count):
            self.stand.push(ask(f"{family}/{number}", family=family, priority=priority))

    def run(self, seconds: float) -> None:
        """Send whatever may be sent; each is answered at once. It ends when nobody would wake the
        engine any more."""
        end = self.clock.now + seconds
        while True:
            for request in self.stand.pull(1):
                self.stand.scheduler.about_to_send(request)
                self.sent[name_of(request).partition("/")[0]].append(self.clock.now - START)
                self.stand.answer(request)
                break
            else:
                moments = self.clock.pending()
                if not moments or START + moments[0] > end:
                    self.clock.now = end
                    return
                self.clock.advance(max(0.0, START + moments[0] - self.clock.now))

    def counts(self, since: float = 0.0) -> Counter[str]:
        return Counter({f: sum(at >= since for at in sent) for f, sent in self.sent.items()})


@pytest.fixture
def make(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    def crawling(quotas: str, **config: Any) -> Crawling:
        return Crawling(tmp_path, clock, monkeypatch, quotas, **config)

    return crawling


@pytest.mark.parametrize("first", ["api", "download"])
def test_neither_starves_whoever_comes_first(make: Any, first: str) -> None:
    """There is no end of either, and the scheduler would always send one family's."""
    crawling = make("api+download=10/second")
    for family in ("api", "download"):
        crawling.push(family, 300, priority=20 if family == first else 0)
    crawling.run(20)
    counts = crawling.counts()
    assert min(counts.values()) >= 0.48 * counts.total()
    assert counts.total() >= 0.9 * 10 * 20
    both = sorted(crawling.sent["api"] + crawling.sent["download"])
    assert max(sum(at <= other < at + 1 for other in both) for at in both) <= 10


def test_who_is_alone_has_all_of_it(make: Any) -> None:
    """No turn is kept for one that has nothing to send."""
    crawling = make("api+download=10/second")
    crawling.push("download", 400, priority=20)
    crawling.push("api", 20)
    crawling.run(5)
    assert crawling.counts()["api"] == 20
    before = crawling.counts()["download"]
    crawling.run(10)
    assert crawling.counts()["download"] - before >= 0.9 * 10 * 10


@pytest.mark.parametrize(
    ("quotas", "held"),
    [("api=10/second; download=5/second", 30.0), ("api=10/second; download=5/second, 3/day", 0.0)],
    ids=["a Retry-After", "a spent budget"],
)
def test_while_one_family_is_stopped_the_other_runs_at_full_rate(
    make: Any, clock: Clock, quotas: str, held: float
) -> None:
    """As many are sent as with nobody beside it, and of the stopped one none."""
    alone = make(quotas)
    alone.push("api", 500)
    alone.run(28)
    (alone.stand.folder / "quotas.sqlite").unlink()
    clock.now = START
    crawling = make(quotas)
    crawling.push("download", 100, priority=20)
    crawling.push("api", 500)
    if held:
        crawling.stand.scheduler.hold("download", START + held)
    crawling.run(28)
    counts = crawling.counts()
    assert counts["download"] == (0 if held else 3)
    assert counts["api"] == alone.counts()["api"] >= 0.9 * 10 * 28
    crawling.run(12)
    went_on = crawling.counts(since=30)["download"]
    assert went_on >= 0.9 * 5 * 10 if held else went_on == 0
    assert crawling.counts(since=30)["api"] >= 0.9 * 10 * 10


def test_a_spent_budget_ends_the_crawl_at_once_and_says_when_to_come_back(make: Any) -> None:
    crawling = make("api=5/hour; api+download=6/day")
    crawling.push("api", 9)
    stand = crawling.stand
    for _ in range(5):
        (request,) = stand.pull(1)
        stand.scheduler.about_to_send(request)
        stand.answer(request)
    assert not stand.engine.closed_because
    stand.looped(stand.pull)
    assert stand.engine.closed_because == ["kaggle_quota"]
    assert stand.spider.stopped_because.startswith("KAGGLE_QUOTAS is spent for ")
    assert "run the same command again after that, at 20" in stand.spider.stopped_because


def test_a_spent_budget_is_waited_for_where_that_is_wanted(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    crawling = make("api=5/hour; api+download=8/day", quota_spent="wait")
    crawling.push("api", 9)
    with caplog.at_level("INFO"):
        crawling.run(3_000)
    assert crawling.counts()["api"] == 5
    assert 600 < crawling.holds.seconds_spent() <= 602
    assert crawling.holds.seconds() == 0, "Kaggle has asked for nothing"
    told = [each for each in caplog.messages if "KAGGLE_QUOTA_SPENT=wait" in each]
    assert len(told) == 1
    assert told[0].startswith("KAGGLE_QUOTAS is spent for ")
    crawling.run(700)
    assert crawling.counts()["api"] == 8
    crawling.run(86_400)
    assert crawling.counts()["api"] == 9
    assert not crawling.stand.spider.stopped_because


def test_a_transfer_that_needs_a_new_address_stands_back_for_nobody(make: Any) -> None:
    """Else it would break off for a turn."""
    crawling = make("api+download=10/second")
    crawling.push("download", 1, priority=20)
    (transfer,) = crawling.stand.pull(1)
    crawling.stand.scheduler.about_to_send(transfer)
    crawling.push("api", 3)
    assert not crawling.stand.pull(), "it waits now"
    crawling.clock.now += 0.2
    crawling.stand.scheduler.about_to_send(transfer)
    crawling.run(1)
    assert crawling.counts()["api"] == 3
