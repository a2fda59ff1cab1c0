"""Whole crawls of episodes: every generation of the service, the API, Meta Kaggle; the best first,
within a budget, nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from tests.conftest import Run
from tests.episode_crawls import (
    LISTINGS,
    REPLAYS,
    Crawler,
    balanced,
    check_rows,
    doubled,
    sent,
    small_world,
)

BUDGET = 30


@pytest.fixture
def replica() -> Iterator[Replica]:
    with Replica(small_world()) as running:
        yield running


@pytest.fixture
def crawler(scrapy: Run, replica: Replica, tmp_path: Path) -> Crawler:
    return Crawler(scrapy, replica, tmp_path)


def test_the_seeds_command_as_it_is_typed_fetches_the_best_games(crawler: Crawler) -> None:
    done = crawler(spider="halite_episodes")
    asked = crawler.asked()
    assert done.code == 0, done.log
    assert asked["WebLeaderboard"].total() == 1
    assert not doubled(asked)
    check_rows(crawler, done.rows)
    # there is a request for each of them: all that 25 teams' listings tell of
    scores = {row["EpisodeId"]: row["Score"] for row in done.rows}
    best = crawler.wanted()[:50]
    assert {each.id for each in best} <= scores.keys()
    assert scores[best[0].id] == pytest.approx(best[0].priority)
    counts = balanced(done)
    assert counts["stored"] == len(done.rows) == len(crawler.files())
    assert counts["skipped/listed"] == asked["ListEpisodes"].total() + 1
    assert not crawler.replica.stats()["leaked_authorization"]
    assert list(crawler.workspace.glob("output/halite_episodes/*")) == []


@pytest.mark.parametrize(
    ("behaviour", "source"),
    [
        ({"episodes": "2026"}, "service"),
        ({"episodes": "2020"}, "auto"),
        ({"replays": ("api",), "episode_files": "redirect"}, "api"),
    ],
    ids=["2026", "2020", "api"],
)
def test_a_budget_is_spent_on_listings_while_they_pay_and_then_on_the_best(
    scrapy: Run, tmp_path: Path, behaviour: dict[str, Any], source: str
) -> None:
    with Replica(small_world(), behaviour=Behaviour(**behaviour)) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        done = crawler("-a", f"request_budget={BUDGET}", "-a", f"source={source}")
        asked = crawler.asked()
    assert done.code == 0, done.log
    boards = done.stats("kaggle/requests/").get("DownloadLeaderboard", 0)
    assert done.stat("kaggle/requests") - boards == BUDGET
    assert sent(asked, LISTINGS) <= BUDGET // 2
    assert not doubled({name: keys for name, keys in asked.items() if name != "Replay"})
    if source != "api":  # which has no scores of single games
        check_rows(crawler, done.rows)
    for row in done.rows:
        crawler.check(row)
    counts = balanced(done)
    assert counts["stored"] == len(done.rows) > 0
    assert counts["skipped/beyond_budget"] > 0


def test_meta_kaggle_needs_no_request_to_find_the_best(crawler: Crawler) -> None:
    meta = crawler.tmp_path / "meta"
    crawler.replica.world.write_meta_kaggle(meta)
    done = crawler("-a", f"meta_kaggle={meta}", "-a", "request_budget=12")
    asked = crawler.asked()
    assert done.code == 0, done.log
    assert sent(asked, LISTINGS) == 0
    check_rows(crawler, done.rows)
    best = [each.id for each in crawler.wanted() if each.state == 2][:12]
    assert {row["EpisodeId"] for row in done.rows} == set(best)
    assert balanced(done)["stored"] == 12


def test_nothing_is_fetched_twice_in_later_crawls_and_from_other_sources(crawler: Crawler) -> None:
    first = crawler("-a", f"request_budget={BUDGET}")
    listed, had = crawler.asked(), {row["EpisodeId"] for row in first.rows}
    second = crawler("-a", f"request_budget={BUDGET}")
    again = crawler.asked()
    for method in (*LISTINGS, *REPLAYS):
        assert not listed.get(method, {}).keys() & again.get(method, {}).keys(), method
    # what was had is told again, and what is new besides
    new = {row["EpisodeId"] for row in second.rows}
    assert had < new
    third = crawler("-a", "request_budget=20", "-a", "changed_only=true", "-a", "source=api")
    asked = crawler.asked()
    assert asked.keys() & {"ListSubmissionEpisodes"}, third.log
    before = {*listed.get("Replay", {}), *again.get("Replay", {})}
    assert not before & asked.get("Replay", {}).keys()
    assert not {row["EpisodeId"] for row in third.rows} & new
    for done in (first, second, third):
        assert done.code == 0, done.log
        balanced(done)
    check_rows(crawler, second.rows)
    for row in third.rows:  # chosen by their teams' scores
        crawler.check(row)


def test_a_replay_that_is_gone_is_fetched_again(crawler: Crawler) -> None:
    first = crawler("-a", "request_budget=20")
    lost = crawler.output / first.rows[0]["Replay"]["path"]
    lost.unlink()
    crawler.asked()
    second = crawler("-a", "request_budget=20", "-a", "team_watermark=1")
    assert second.code == 0, second.log
    assert crawler.asked()["Replay"][f"episode={first.rows[0]['EpisodeId']}"] == 1
    assert lost.exists()
    assert "were not at their place any more" in second.log


def test_a_sample_is_the_best_and_exactly_so_many(crawler: Crawler) -> None:
    done = crawler("-a", "sample=5", "-a", "request_budget=0")
    assert done.code == 0, done.log
    assert len(done.rows) == 5 == len(crawler.files())
    best = [each.id for each in crawler.wanted()][:5]
    assert {row["EpisodeId"] for row in done.rows} == set(best)
    assert balanced(done)["skipped/beyond_sample"] > 0


def test_records_alone(crawler: Crawler) -> None:
    done = crawler("-a", "replays=false", "-a", "request_budget=6", "-a", "episode_watermark=1000")
    asked = crawler.asked()
    assert done.code == 0, done.log
    assert sent(asked, REPLAYS) == 0
    assert sent(asked, LISTINGS) == 6, "they have all of the budget"
    assert done.rows
    assert all(row["Replay"] is None and row["Score"] >= 1000 for row in done.rows)
    # another crawl fetches the replays of what is known
    more = crawler("-a", "request_budget=4", "-a", "discovery_share=0")
    assert sent(crawler.asked(), REPLAYS) == 4, more.log
    check_rows(crawler, more.rows)


def test_logs_of_ones_own_agents(crawler: Crawler) -> None:
    ours = crawler.league.team(5118174)
    assert ours is not None
    options = ("-a", "team=5118174", "-a", "episode_watermark=0", "-a", "team_watermark=1")
    done = crawler(*options, "-a", "logs=true", "-a", "request_budget=12")
    assert done.code == 0, done.log
    logs = [(row, log) for row in done.rows for log in row["Logs"]]
    assert {log["reason"] for _, log in logs} == {"", "forbidden"}
    for row, log in logs:
        agent = next(each for each in row["Agents"] if each["index"] == log["index"])
        assert (log["reason"] == "") == (agent["teamId"] == ours.id)
        if not log["reason"]:
            json.loads((crawler.output / log["path"]).read_bytes())
    # a team that is closed to us is asked about once
    refused = sum(crawler.replica.stats()["requests"]["GetEpisodeAgentLogs"].values()) - sum(
        not log["reason"] for _, log in logs
    )
    assert refused < sum(bool(log["reason"]) for _, log in logs)


def test_zstd_where_it_is_set(crawler: Crawler) -> None:
    done = crawler("-a", "sample=2", "-s", "KAGGLE_REPLAY_COMPRESSION=zstd")
    assert done.code == 0, done.log
    assert all(row["Replay"]["path"].endswith(".json.zst") for row in done.rows)
    check_rows(crawler, done.rows)
