"""Whole crawls of episodes: every generation of the service, the API, Meta Kaggle; the best first,
within a budget, nothing twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.items import Episode, schema
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from tests.conftest import Run
from tests.episode_crawls import (
    LISTINGS,
    REPLAYS,
    Crawler,
    balanced,
    doubled,
    sent,
    small_world,
)
from tests.json_schema import fits

BUDGET = 30


@pytest.fixture
def replica() -> Iterator[Replica]:
    with Replica(small_world()) as running:
        yield running


@pytest.fixture
def crawler(scrapy: Run, replica: Replica, tmp_path: Path) -> Crawler:
    return Crawler(scrapy, replica, tmp_path)


def check_rows(crawler: Crawler, rows: list[dict[str, Any]]) -> None:
    """Each is one that was wanted, in its place, and a record as the schema has it."""
    wanted = {each.id for each in crawler.wanted()}
    for row in rows:
        assert fits(row, schema(Episode)), row
        crawler.check(row)
    found = [row["EpisodeId"] for row in rows]
    assert len(found) == len(set(found))
    assert set(found) <= wanted


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


# -- trouble ---------------------------------------------------------------------------------------


def test_a_place_that_has_no_replays_any_more_is_left_for_the_next(
    scrapy: Run, tmp_path: Path
) -> None:
    with Replica(small_world(), behaviour=Behaviour(replays=("cdn",))) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        done = crawler("-a", "sample=12")
        asked = crawler.asked()
    assert done.code == 0, done.log
    assert {row["Replay"]["source"] for row in done.rows} == {"content"}
    # the site is asked once in vain, and then no more
    assert done.stat("kaggle/episodes/replay_refused/web/not_found") == 1
    assert asked["Replay"].total() == 12 + 1


def test_what_is_no_replay_never_becomes_one(scrapy: Run, tmp_path: Path) -> None:
    """Error pages with status 200, cuts and damage, here and there."""
    rules = [
        Rule(Fault("html", status=200), method="Replay", arrivals=(1, 4)),
        Rule(Fault("cut"), method="Replay", arrivals=(2, 6)),
        Rule(Fault("damaged", at=200), method="Replay", arrivals=(3, 8)),
        Rule(Fault("status", status=503), method="Replay", arrivals=(5,)),
    ]
    with Replica(small_world(), faults=Faults.script(rules)) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        done = crawler("-a", "sample=10")
        assert replica.stats()["faults"]
    assert done.code == 0, done.log
    check_rows(crawler, done.rows)
    assert len(done.rows) == 10 == len(crawler.files())


def test_a_service_that_is_gone_gives_way_to_the_api(scrapy: Run, tmp_path: Path) -> None:
    gone = [
        Rule(Fault("status", status=400), method=name)
        for name in ("WebLeaderboard", "ListEpisodes")
    ]
    with Replica(small_world(), faults=Faults.script(gone)) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        done = crawler("-a", "request_budget=20")
        asked = crawler.asked()
        alone = crawler("-a", "request_budget=20", "-a", "source=service", "-a", "refresh=true")
    assert done.code == 0, done.log
    assert "the official API answers: it is used" in done.log
    assert asked["ListSubmissionEpisodes"]
    assert done.rows
    assert alone.code == 1, alone.log
    assert "No episodes of halite can be found" in alone.log
