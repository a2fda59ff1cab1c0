"""Crawls of episodes where places and services fail, refuse, or are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
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

BOARD, LIST = "WebLeaderboard", "ListEpisodes"
#: Attempts, so that what is down is soon given up.
FEW = ("-s", "KAGGLE_MAX_ATTEMPTS=2")


def down(*methods: str, status: int = 503) -> Faults:
    """These answer nothing but this status, until they are repaired."""
    return Faults.script([Rule(Fault("status", status=status), method=name) for name in methods])


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
    assert "the official API tells the ranks" in done.log
    assert asked["ListSubmissionEpisodes"]
    assert done.rows
    assert alone.code == 1, alone.log
    assert "No episodes of halite can be found" in alone.log


@pytest.mark.parametrize("status", [400, 404, 503])
def test_a_board_without_listings_is_no_source(scrapy: Run, tmp_path: Path, status: int) -> None:
    with Replica(small_world(), faults=down(LIST, status=status)) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        done = crawler("-a", "request_budget=30", *FEW)
        asked = crawler.asked()
    assert asked["ListSubmissionEpisodes"], done.log
    assert done.rows
    assert done.code == (1 if status == 503 else 0), done.log
    if status != 503:  # those are asked again, and others meanwhile
        refused = asked[LIST].keys()
        assert len(refused) == 3, "units of a source that was given up are not asked for"
    balanced(done)


def test_an_outage_takes_no_budget_and_a_job_goes_on_after_it(scrapy: Run, tmp_path: Path) -> None:
    faults = down(BOARD, LIST, "DownloadLeaderboard")
    job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-a", "request_budget=24", *FEW)
    with Replica(small_world(), faults=faults) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        first = crawler(*job)
        assert first.code == 1, first.log
        assert "No episodes of halite can be found" in first.log
        assert "Run the same command again" in first.log
        replica.faults.repair()
        crawler.asked()
        second = crawler(*job)
        asked = crawler.asked()
    assert second.code == 0, second.log
    # the one of 2020 has answered in the first run, with a refusal
    assert sent(asked, LISTINGS) + sent(asked, REPLAYS) == 24 - 1
    check_rows(crawler, second.rows)


def test_replays_that_no_place_has_for_now_have_failed_for_now(scrapy: Run, tmp_path: Path) -> None:
    """One place is down, and the others never had them: that is no refusal."""
    behaviour = Behaviour(replays=("web",))
    job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-a", "sample=5", "-a", "team_watermark=3", *FEW)
    with Replica(small_world(), faults=down("ReplayWeb"), behaviour=behaviour) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        first = crawler(*job)
        assert first.code == 1, first.log
        counts = balanced(first)
        assert counts["failed"] == counts["failed/server_error"] == 5
        assert not first.rows
        replica.faults.repair()
        second = crawler(*job)
    assert second.code == 0, second.log
    assert len(second.rows) == 5
    check_rows(crawler, second.rows)


def test_refused_credentials_are_the_end_of_what_wants_them_alone(
    scrapy: Run, tmp_path: Path
) -> None:
    """The site's places answer but for one game: the official API is asked for that, in vain."""
    rule = Rule(Fault("status", status=503), method="ReplayWeb", arrivals=tuple(range(1, 100, 9)))
    with Replica(small_world(), faults=Faults.script([rule])) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        done = crawler(
            *("-a", "sample=8", "-s", "KAGGLE_MAX_ATTEMPTS=1"), KAGGLE_API_TOKEN="KGAT_wrong"
        )
    assert done.code in {0, 1}, done.log
    assert len(done.rows) >= 7
    check_rows(crawler, done.rows)
    balanced(done)


def test_a_sample_is_of_the_best_whatever_was_had_before(scrapy: Run, tmp_path: Path) -> None:
    with Replica(small_world()) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        assert crawler().code == 0
        done = crawler("-a", "sample=10")
    best = [each.id for each in crawler.wanted()][:10]
    assert {row["EpisodeId"] for row in done.rows} == set(best)


def test_records_alone_are_told_of_what_is_known(scrapy: Run, tmp_path: Path) -> None:
    alone = ("-a", "replays=false")
    with Replica(small_world()) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        first = crawler(*alone)
        crawler.asked()
        second = crawler(*alone, "-a", "episode_watermark=1000")
        asked = crawler.asked()
    assert (first.code, second.code) == (0, 0)
    assert not sent(asked, REPLAYS)
    told = {row["EpisodeId"] for row in second.rows}
    assert {row["EpisodeId"] for row in first.rows} < told
    assert all(row["Score"] >= 1000 for row in second.rows)
    assert len(told) > len(crawler.wanted(1100))


def test_a_team_that_is_named_is_listed_whatever_its_rank(scrapy: Run, tmp_path: Path) -> None:
    with Replica(small_world()) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        last = next(team for team in reversed(crawler.league.teams) if team.rank)
        assert crawler("-a", "request_budget=20").code == 0
        crawler.asked()
        done = crawler("-a", f"team={last.id}", "-a", "team_watermark=1", "-a", "request_budget=9")
        asked = crawler.asked()
        none = crawler("-a", "team=99", "-a", "request_budget=3")
        options = (f"team={last.id}", "team_watermark=1", "request_budget=9", "refresh=true")
        crawler.asked()
        by_api = crawler("-a", "source=api", *(word for each in options for word in ("-a", each)))
        then = crawler.asked()
    assert done.code == 0, done.log
    assert asked[LIST][f"submission={last.best_submission}"] == 1
    assert "Team 99 is not on the leaderboard" in none.log
    assert by_api.code == 0, by_api.log
    assert then["ListTeamPublicSubmissions"][f"team={last.id}"] == 1
    listed = {int(key.partition("=")[2]) for key in then["ListSubmissionEpisodes"]}
    assert listed & set(last.submissions)


def test_where_no_place_has_replays_the_crawl_ends_soon(scrapy: Run, tmp_path: Path) -> None:
    with Replica(small_world(), behaviour=Behaviour(replays=())) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        done = crawler("-a", "request_budget=60")
        asked = done.stats("kaggle/requests/")
    assert done.code == 1, done.log
    assert "gives any replays" in done.log
    fetched = sum(count for name, count in asked.items() if "Replay" in name)
    assert fetched <= 5 * 4
    assert balanced(done)["failed/no_place"] == 5
    # what was not found there is no 404 of a game
    with Replica(small_world()) as replica:
        more = Crawler(scrapy, replica, tmp_path)("-a", "request_budget=60")
    assert more.code == 0, more.log
    assert len(more.rows) > 5


def test_a_job_that_fell_back_to_the_api_goes_on_there(scrapy: Run, tmp_path: Path) -> None:
    """What is in its queue is the API's, whatever source is tried first."""
    job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-a", "request_budget=40", "-a", "team_watermark=5")
    with Replica(small_world(), faults=down(BOARD, LIST, status=400)) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        first = crawler(*job, "-s", "CLOSESPIDER_PAGECOUNT=2")
        before = crawler.asked()
        second = crawler(*job)
        after = crawler.asked()
    assert first.code == 3, first.log
    assert before["ListTeamPublicSubmissions"], "it was stopped among the listings"
    assert second.code == 0, second.log
    assert "Traceback" not in second.log
    assert after["ListSubmissionEpisodes"]
    assert not after.get(LIST)
    for method in before.keys() & after.keys():
        assert not before[method].keys() & after[method].keys()
    assert not doubled(after)
    assert len(second.rows) > 5
    balanced(second)
