"""Crawls of competitions that are killed, go to a store, or take the official client."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from tests.competition_crawls import (
    BOARD,
    Crawler,
    asked_for_board,
    board_of,
    check_rows,
    of_table,
    small_world,
)
from tests.conftest import ROOT, Run, clean_env
from tests.stores import Store

KILLS = 3


def killed(crawler: Crawler, words: list[str], seconds: float) -> int | None:
    """Run the crawl, reading a few rows of the table at a time, and kill it after so long; how it
    ended, None if it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.small_stretches", *words],
        cwd=ROOT,
        env=clean_env(crawler.tmp_path, **crawler.env()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None


@pytest.mark.parametrize("pace", ["", "download=12/second"], ids=["table", "boards"])
def test_kills_lose_and_double_nothing(scrapy: Run, tmp_path: Path, pace: str) -> None:
    """At random moments: with a pace of downloads the table is read long before the boards."""
    world = small_world(seed=4, count=60)
    contests = of_table(world)
    dice = random.Random(5)
    with Replica(world) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        crawler.publish()
        feed = tmp_path / "out.jsonl"
        options = ["-o", str(feed), "-s", f"JOBDIR={tmp_path / 'job'}"]
        options += ["-s", f"KAGGLE_QUOTAS={pace}"] if pace else ["-a", "leaderboard=none"]
        words = crawler.command(*options)
        kills = 0
        for _ in range(KILLS):
            if killed(crawler, words, dice.uniform(0.55, 1.3)) is None:
                kills += 1
        assert kills, "else this test shows nothing"
        deadline = time.monotonic() + 60
        while killed(crawler, words, 30) != 0:
            assert time.monotonic() < deadline, "it does not come to its end"
        rows = [json.loads(line) for line in feed.read_text().split("\n") if line]
        check_rows(rows, contests, board=bool(pace))
        place = crawler.output if pace else crawler.output / "leaderboard=none"
        whole = (place / "competitions.jsonl").read_text().split("\n")
        assert [json.loads(line)["Slug"] for line in whole if line] == [
            each.slug for each in contests
        ]
        if pace:
            asked = crawler.asked()[BOARD]
            assert asked.keys() == asked_for_board(contests).keys()
            assert sum(asked.values()) <= len(asked) + 4 * kills, "and little twice"


def test_into_a_store(scrapy: Run, tmp_path: Path, weed_store: Store) -> None:
    world = small_world(count=20)
    with Replica(world) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        crawler.publish()
        uri = ("-s", f"S3_URI={weed_store.uri('kaggle')}", "-a", "leaderboard=full")
        env = weed_store.environment()
        done = crawler(*uri, env=env)
        assert done.code == 0, done.log
        contests = of_table(world)
        check_rows(done.rows, contests)
        objects = weed_store.objects()
        head = "kaggle/competitions"
        lines = objects.pop(f"{head}/competitions.jsonl").decode().split("\n")
        assert [json.loads(line)["Slug"] for line in lines if line] == [
            each.slug for each in contests
        ]
        boards = {each.slug: each for each in contests if each.has_leaderboard and board_of(each)}
        for slug, contest in boards.items():
            assert objects.pop(f"{head}/leaderboard/{slug}.csv") == contest.board.csv
        assert not crawler.output.exists() or not list(crawler.output.rglob("*.csv"))
        crawler.asked()
        again = crawler(*uri, env=env)
        assert again.code == 0, again.log
        settled = {slug for slug, each in boards.items() if each.finished}
        assert settled
        assert not settled & crawler.asked()[BOARD].keys(), "they are in the store"


def test_by_the_official_client(scrapy: Run, tmp_path: Path) -> None:
    world = small_world(count=16)
    with Replica(world) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        crawler.publish()
        done = crawler("-s", "KAGGLE_TRANSPORT=official")
        assert done.code == 0, done.log
        check_rows(done.rows, of_table(world))
