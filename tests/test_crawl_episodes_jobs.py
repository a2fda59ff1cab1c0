"""Crawls of episodes that are killed, that share their quotas, and that go on."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kagglecrawl.kaggle.auth import source_of
from kagglecrawl.replica.server import Replica
from kagglecrawl.state.ledger import Ledger, Outcome
from tests import warm
from tests.conftest import ROOT, Run, clean_env
from tests.episode_crawls import (
    LISTINGS,
    REPLAYS,
    Crawler,
    balanced,
    doubled,
    sent,
    small_world,
)

BUDGET = 60


@pytest.fixture
def crawler(scrapy: Run, tmp_path: Path) -> Iterator[Crawler]:
    with Replica(small_world()) as replica:
        yield Crawler(scrapy, replica, tmp_path)


@contextmanager
def running(crawler: Crawler, *args: str) -> Iterator[warm.Process]:
    """A crawl in a process of its own, killed at the end if it still runs."""
    env = clean_env(crawler.tmp_path, **crawler.replica.crawler_env())
    command = ("crawl", "episodes", *crawler.options(*args))
    with (crawler.tmp_path / "log").open("ab") as log:
        process = warm.start("scrapy", *command, cwd=ROOT, env=env, output=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def answered(replica: Replica) -> int:
    return sum(sum(each.values()) for each in replica.stats()["requests"].values())


@pytest.mark.parametrize("seed", range(3))
def test_kills_lose_nothing_and_only_what_was_under_way_is_asked_for_again(
    crawler: Crawler, seed: int
) -> None:
    dice = random.Random(seed)
    options = (
        *("-s", f"JOBDIR={crawler.tmp_path / 'job'}", "-a", f"request_budget={BUDGET}"),
        *("-s", "KAGGLE_QUOTAS=replay=40/second", "-s", "CONCURRENT_REQUESTS=2"),
    )
    kills = 0
    while kills < 6:
        with running(crawler, *options) as process:
            until = answered(crawler.replica) + dice.randint(1, 12)
            while process.poll() is None and answered(crawler.replica) < until:
                time.sleep(0.005)
            time.sleep(dice.uniform(0, 0.05))
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            kills += 1
    done = crawler(*options)
    assert kills
    assert done.code == 0, done.log
    asked = crawler.asked()
    again = doubled(asked)
    assert sum(count - 1 for count in again.values()) <= 2 * kills, again
    assert sent(asked, LISTINGS) + sent(asked, REPLAYS) <= BUDGET
    assert sent(asked, LISTINGS) <= BUDGET // 2
    balanced(done)
    feed = (crawler.tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in feed if line]
    had = Counter(row["EpisodeId"] for row in rows)
    assert set(had.values()) == {1}
    # every replay that was sent is in a row of the feed, and on disk
    assert {f"episode={number}" for number in had} == asked["Replay"].keys()
    files = {path for path in crawler.files() if path.endswith(".json.gz")}
    assert files == {row["Replay"]["path"] for row in rows}
    for row in rows:
        crawler.check(row)


def test_two_crawls_at_once_and_those_after_them_keep_to_the_rates(crawler: Crawler) -> None:
    """Fifteen listings and twenty replays a day, whoever asks, however often."""
    rates = "episodes=15/day; replay=20/day"
    quotas = ("-s", f"KAGGLE_QUOTA_FILE={crawler.tmp_path / 'quotas.sqlite'}")
    options = (*quotas, "-s", f"KAGGLE_QUOTAS={rates}", "-a", "episode_watermark=900")
    for attempt in range(2):
        with (
            running(crawler, *options, "-O", str(crawler.tmp_path / "one.jsonl")) as one,
            running(crawler, *options, "-O", str(crawler.tmp_path / "two.jsonl")) as two,
        ):
            assert {one.wait(60), two.wait(60)} == {4}, (crawler.tmp_path / "log").read_text()
        asked = {name: keys.copy() for name, keys in crawler.replica.stats()["requests"].items()}
        listings = sum(sum(asked.get(name, {}).values()) for name in LISTINGS)
        replays = sum(asked["Replay"].values())
        assert (listings, replays) == (15, 20), attempt


def test_a_job_whose_budget_is_spent_is_complete_and_another_goes_on(crawler: Crawler) -> None:
    job = ("-s", f"JOBDIR={crawler.tmp_path / 'job'}", "-a", "request_budget=25")
    first = crawler(*job)
    before = crawler.asked()
    again = crawler(*job)
    assert (first.code, again.code) == (0, 0), first.log
    assert not crawler.asked()
    assert "nothing was left to do" in again.log
    other = crawler("-a", "request_budget=25", "-a", "changed_only=true")
    asked = crawler.asked()
    assert other.code == 0, other.log
    assert 0 < sent(asked, LISTINGS) <= 12
    assert 0 < sent(asked, REPLAYS) <= 25 - sent(asked, LISTINGS)
    for method in LISTINGS | REPLAYS:
        assert not before.get(method, {}).keys() & asked.get(method, {}).keys()


@pytest.mark.parametrize(("days", "again"), [(3, 1), (20, 0)])
def test_a_list_that_was_still_growing_is_read_again(
    crawler: Crawler, days: int, again: int
) -> None:
    """Its newest game was played so many days ago, and it was read the day before yesterday."""
    budget = ("-a", "request_budget=12")
    assert crawler(*budget).code == 0
    env = crawler.replica.crawler_env()
    now = time.time()
    path = crawler.workspace / "ledger.sqlite"
    with closing(Ledger(path, source_of(env["KAGGLE_API_URL"]), "episodes")) as ledger:
        found = (each for each in ledger.each("halite/submission/") if each.reason == "listed")
        entry = next(found)
        newest = datetime.fromtimestamp(now - days * 86400, UTC).isoformat()
        record = {**(entry.record or {}), "newest": newest, "read": now - 2 * 86400}
        text = json.dumps(record)
        ledger.apply([Outcome(entry.key, "", "skipped", "listed", "1", now, text)])
    crawler.asked()
    assert crawler(*budget).code == 0
    asked = crawler.asked()
    assert asked["ListEpisodes"][f"submission={record['id']}"] == again
    assert asked.get("WebLeaderboard", Counter()).total() == again
