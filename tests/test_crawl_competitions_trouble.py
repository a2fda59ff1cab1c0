"""Crawls of competitions in which something is refused, fails, is gone or is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.competition_crawls import (
    BOARD,
    Crawler,
    board_of,
    check_rows,
    of_table,
    small_world,
)
from tests.conftest import Run

REFUSED, FAILING = Fault("status", 401), Fault("status", 500)
ONCE = ("-s", "KAGGLE_MAX_ATTEMPTS=1")
FULL = ("-a", "leaderboard=full")


@pytest.fixture
def world() -> World:
    return small_world()


@pytest.fixture
def faults() -> Faults:
    return Faults.script([])


@pytest.fixture
def crawler(scrapy: Run, world: World, faults: Faults, tmp_path: Path) -> Iterator[Crawler]:
    with Replica(world, faults=faults) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        crawler.publish()
        yield crawler


def test_a_token_that_is_revoked_costs_no_board(
    crawler: Crawler, world: World, faults: Faults, tmp_path: Path
) -> None:
    """Some boards were had by then; what is refused now is asked for by the next run."""
    asked = [each.slug for each in of_table(world) if each.has_leaderboard]
    faults.add(Rule(REFUSED, "ListCompetitions"), Rule(REFUSED, "ListCompetitionPages"))
    faults.add(*(Rule(REFUSED, BOARD, slug) for slug in asked[4:]))
    job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-o", str(tmp_path / "out.jsonl"))
    done = crawler(*job)
    assert done.code == 5, done.log
    assert not done.stats("kaggle/competitions/without_leaderboard/unauthorized")
    assert "Traceback" not in done.log
    faults.repair()
    rest = crawler(*job)
    assert rest.code == 0, rest.log
    check_rows(rest.rows, of_table(world))


def test_a_token_that_is_no_good_for_the_table(crawler: Crawler, faults: Faults) -> None:
    faults.add(Rule(REFUSED, "GetDataset"))
    done = crawler(meta=False)
    assert done.code == 5, done.log
    assert "Traceback" not in done.log


def test_the_whole_list_is_not_replaced_by_less(
    crawler: Crawler, world: World, faults: Faults
) -> None:
    crawler()
    before = crawler.file.read_bytes()
    running = next(each for each in of_table(world) if each.open and board_of(each))
    faults.add(Rule(FAILING, BOARD, running.slug))
    done = crawler(*ONCE)
    assert done.code == 1, done.log
    assert len(done.rows) == len(of_table(world)) - 1
    assert crawler.file.read_bytes() == before
    assert "left as an earlier crawl has made it" in done.log
    crawler.file.write_bytes(b"")  # one that has less
    crawler(*ONCE)
    assert len(crawler.rows_of_file()) == len(done.rows)


def test_a_page_of_the_list_that_is_lost_makes_no_whole_list(
    crawler: Crawler, faults: Faults
) -> None:
    faults.add(Rule(FAILING, "ListCompetitions", "page=2*"), Rule(FAILING, "ListCompetitions"))
    options = ("-a", "source=api", "-a", "leaderboard=none", "-a", "pages_api=never", *ONCE)
    done = crawler(*options, meta=False)
    assert done.code == 1, done.log
    assert not list(crawler.output.rglob("competitions.jsonl"))


def test_whole_boards_come_back(crawler: Crawler, world: World) -> None:
    """Where only changes are wanted, too: the file of a board that still runs, and of one that is
    over; and one that was cut."""
    crawler(*FULL)
    boards = [each for each in of_table(world) if each.has_leaderboard and board_of(each)]
    running = next(each for each in boards if each.open)
    over, cut = [each for each in boards if each.finished][:2]
    place = crawler.output / "leaderboard"
    for each in (running, over):
        (place / f"{each.slug}.csv").unlink()
    (place / f"{cut.slug}.csv").write_bytes(b"")
    done = crawler(*FULL, "-a", "changed_only=true")
    assert done.code == 0, done.log
    for each in (running, over, cut):
        assert (place / f"{each.slug}.csv").read_bytes() == each.board.csv, each.slug
    # a board that cannot be ranked is one all the same
    unordered = [each for each in of_table(world) if each.is_max is None and each.has_leaderboard]
    assert unordered
    for each in unordered:
        assert (place / f"{each.slug}.csv").read_bytes() == each.board.csv
    crawler.asked()
    tops = crawler()
    assert tops.code == 0, tops.log
    finished = {each.slug for each in boards if each.finished}
    assert not finished & crawler.asked()[BOARD].keys(), "the whole ones have the top"


def test_a_table_that_is_damaged_in_the_cache_is_fetched_again(
    crawler: Crawler, world: World
) -> None:
    nothing = ("-a", "leaderboard=none")
    crawler(*nothing, meta=False)
    (table,) = crawler.workspace.rglob("Competitions.csv")
    content = table.read_bytes()
    table.write_bytes(content[: len(content) // 2])
    done = crawler(*nothing, meta=False)
    assert done.code == 0, done.log
    check_rows(done.rows, of_table(world), board=False)
    assert table.read_bytes() == content
    assert "fetched again" in done.log


def test_a_file_that_ends_within_a_record_ends_the_crawl(crawler: Crawler, world: World) -> None:
    """And where it is whole again, the job goes on."""
    path = crawler.meta / "Competitions.csv"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].rpartition(b",")[0])
    job = ("-s", f"JOBDIR={crawler.tmp_path / 'job'}", "-o", str(crawler.tmp_path / "out.jsonl"))
    done = crawler("-a", "leaderboard=none", *job)
    assert done.code == 1, done.log
    assert "download it again" in done.log
    assert "cannot be had, or read" in done.log
    path.write_bytes(content)
    rest = crawler("-a", "leaderboard=none", *job)
    assert rest.code == 0, rest.log
    check_rows(rest.rows, of_table(world), board=False)


def test_what_is_held_for_hours_stops_nothing_that_needs_it_not(
    crawler: Crawler, faults: Faults
) -> None:
    faults.add(Rule(Fault("status", 429, retry_after=4000), BOARD))
    spent = crawler()
    assert spent.code == 4, spent.log
    done = crawler("-a", "leaderboard=none", "-a", "pages_api=never")
    assert done.code == 0, done.log
    assert not done.stats("kaggle/requests")


def test_a_job_knows_its_folder_wherever_it_is_gone_on_with(
    crawler: Crawler, scrapy: Run, tmp_path: Path
) -> None:
    options = ("-a", "leaderboard=none", "-a", "pages_api=never", "-s", f"JOBDIR={tmp_path}/job")
    crawler(*options, "-o", str(tmp_path / "out.jsonl"))
    elsewhere = crawler.command(*options, "-o", str(tmp_path / "out.jsonl"), meta=False)
    done = scrapy(*elsewhere, "-a", "meta_kaggle=tests", env=crawler.env())
    assert done.code == 2, "it is no folder of the kind, and not that of the job"
    assert str(Path("tests").absolute()) in done.log
