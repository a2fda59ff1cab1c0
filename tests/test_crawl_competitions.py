"""Whole crawls of competitions: Meta Kaggle's table, pages where it has none, leaderboards."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagglecrawl.arguments import ArgumentError
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from kagglecrawl.spiders.competitions_args import CompetitionsArguments
from tests.competition_crawls import (
    BOARD,
    PAGES,
    Crawler,
    asked_for_board,
    asked_for_pages,
    board_of,
    check_rows,
    of_table,
    small_world,
)
from tests.conftest import Run

NO_BOARD = ("-a", "leaderboard=none")
NO_PAGES = ("-a", "pages_api=never")
NOTHING_ASKED = (*NO_BOARD, *NO_PAGES)


@pytest.fixture
def world() -> World:
    return small_world()


@pytest.fixture
def crawler(scrapy: Run, world: World, tmp_path: Path) -> Iterator[Crawler]:
    with Replica(world) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        crawler.publish()
        yield crawler


def test_the_whole_list(crawler: Crawler, world: World) -> None:
    done = crawler()
    assert done.code == 0, done.log
    contests = of_table(world)
    check_rows(done.rows, contests)
    assert crawler.rows_of_file() == sorted(done.rows, key=lambda row: row["CompetitionID"])
    asked = crawler.asked()
    assert asked.pop(BOARD) == asked_for_board(contests), "each is asked for once"
    assert asked.pop(PAGES) == asked_for_pages(contests), "none whose Overview is there"
    closed = [each for each in contests if each.answer == 401 and each.has_leaderboard]
    assert sum(asked.pop("ListCompetitions").values()) == len(closed), "is the token still good?"
    assert asked == {}, "and nothing else"
    assert done.stat("kaggle/competitions/stored") == len(contests)
    for reason in ("unauthorized", "forbidden", "not_found", "empty_leaderboard"):
        assert done.stat(f"kaggle/competitions/without_leaderboard/{reason}"), reason
    assert "derived" in done.log


def test_again_it_asks_for_what_may_have_changed(crawler: Crawler, world: World) -> None:
    first = crawler()
    crawler.asked()
    again = crawler()
    assert again.code == 0, again.log
    check_rows(again.rows, of_table(world))
    contests = of_table(world)
    unsettled = {each.slug for each in contests if not each.finished}
    # what brought nothing, and may bring something
    unsettled |= {each.slug for each in contests if each.answer in {"empty", 401}}
    unsettled |= {each.slug for each in contests if each.is_max is None}
    asked = crawler.asked()
    assert asked[BOARD].keys() <= unsettled
    assert asked[BOARD].keys() >= {
        each.slug for each in contests if each.open and each.has_leaderboard
    }
    assert asked.get(PAGES, {}).keys() <= unsettled
    assert crawler.rows_of_file() == sorted(first.rows, key=lambda row: row["CompetitionID"])
    changes = crawler("-a", "changed_only=true")
    assert changes.code == 0, changes.log
    assert changes.rows == [], "all boards are what they were"


def test_the_world_moves_on(crawler: Crawler, world: World) -> None:
    crawler()
    crawler.asked()
    later = world.moved_on(3)
    crawler.move(later)
    crawler.publish()
    done = crawler("-a", "changed_only=true")
    assert done.code == 0, done.log
    moves = world.contest_difference(later)
    found = (moves.new, moves.closed, moves.scored, moves.edited)
    changed = {each.slug for group in found for each in group if each.in_meta}
    assert all((moves.closed, moves.scored, moves.edited)), "else this test shows nothing"
    assert {row["Slug"] for row in done.rows} == changed & {
        each.slug for each in of_table(later)
    } - {each.slug for each in moves.scored if not board_of(each)}
    full = crawler()
    check_rows(full.rows, of_table(later))


def test_whole_boards(crawler: Crawler, world: World) -> None:
    done = crawler("-a", "leaderboard=full", "-a", "all_leaderboards=true")
    assert done.code == 0, done.log
    contests = of_table(world)
    had = {each.slug: each for each in contests if board_of(each)}
    files = {path.stem: path.read_bytes() for path in (crawler.output / "leaderboard").iterdir()}
    assert had.keys() <= files.keys()
    for slug, content in files.items():
        contest = world.competition(slug)
        assert contest is not None
        assert content == contest.board.csv
    assert any(not each.has_leaderboard for each in had.values()), "some that were not asked for"
    asked = crawler.asked()
    assert asked[BOARD] == {each.slug: 1 for each in contests}
    lost = next(each.slug for each in had.values() if each.finished)
    (crawler.output / "leaderboard" / f"{lost}.csv").unlink()
    again = crawler("-a", "leaderboard=full", "-a", "all_leaderboards=true")
    assert again.code == 0, again.log
    assert crawler.asked()[BOARD].get(lost) == 1
    assert (crawler.output / "leaderboard" / f"{lost}.csv").read_bytes() == files[lost]


def test_nothing_need_be_asked(crawler: Crawler, world: World) -> None:
    """Nobody is at the address, and there are no credentials."""
    nobody = {"KAGGLE_API_URL": "http://127.0.0.1:9/api", "KAGGLE_API_TOKEN": ""}
    done = crawler(*NOTHING_ASKED, env=nobody)
    assert done.code == 0, done.log
    rows = {row["Slug"]: row for row in done.rows}
    assert rows.keys() == {each.slug for each in of_table(world)}
    assert all(row["LeaderboardTop100"] == [] for row in done.rows)
    assert not crawler.file.exists(), "it has less than that"
    other = crawler.output / "leaderboard=none,pages_api=never/competitions.jsonl"
    assert len(other.read_text().splitlines()) == len(rows)


@pytest.mark.parametrize("options", [{"schema": "2022"}, {"zipped": True}], ids=str)
def test_releases_of_the_table(crawler: Crawler, world: World, options: dict[str, object]) -> None:
    for path in crawler.meta.iterdir():
        path.unlink()
    crawler.publish(**options)
    done = crawler(*NO_BOARD)
    assert done.code == 0, done.log
    contests = of_table(world)
    assert {row["CompetitionID"] for row in done.rows} == {each.id for each in contests}
    asked = crawler.asked()
    if options == {"schema": "2022"}:
        assert asked[PAGES] == {each.slug: 1 for each in contests}
        for row in done.rows:
            contest = world.competition(row["Slug"])
            assert contest is not None
            data = contest.texts.data
            if data and contest.pages and contest.state == "public":
                assert all(word in row["DatasetDescription"] for word in data.words)
    else:
        check_rows(done.rows, contests, board=False)


def test_by_kagglehub(scrapy: Run, world: World, tmp_path: Path) -> None:
    """Without a folder, kagglehub fetches the one file; a board may lie behind a redirect."""
    with Replica(world, behaviour=Behaviour(leaderboard="redirect")) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        done = crawler(meta=False)
        assert done.code == 0, done.log
        check_rows(done.rows, of_table(world))
        asked = crawler.asked()
        assert asked[BOARD] == asked_for_board(of_table(world))
        assert sum(asked["DownloadDataset"].values()) == 1
        assert sum(asked["GetDataset"].values()) == 1
        assert "X-Goog" not in done.log, "an address of storage is a secret"
        crawler(*NO_BOARD, meta=False)
        assert "DownloadDataset" not in crawler.asked(), "it is in the cache"


def test_by_the_api(crawler: Crawler, world: World) -> None:
    done = crawler("-a", "source=api", meta=False)
    assert done.code == 0, done.log
    listed = world.public_competitions()
    assert {row["Slug"] for row in done.rows} == {each.slug for each in listed}
    asked = crawler.asked()
    assert asked[PAGES] == asked[BOARD] == {each.slug: 1 for each in listed}
    for row in done.rows:
        contest = world.competition(row["Slug"])
        assert contest is not None
        assert row["LeaderboardTop100"] == board_of(contest)
        told = {"board": True, "empty": False, 404: False}
        assert row["HasLeaderboard"] is told.get(contest.answer), contest.slug
        assert row["SubTitle"] == contest.subtitle
        assert row["CompetitionID"] == contest.id
        data = row["DatasetDescription"]
        assert data == "" or data.startswith("# Dataset Description\n\n")
    place = crawler.output / "source=api/competitions.jsonl"
    assert len(place.read_text().splitlines()) == len(listed)
    general = crawler("-a", "source=api", "-a", "group=general", *NOTHING_ASKED, meta=False)
    assert {row["Slug"] for row in general.rows} == {each.slug for each in listed if each.open}
    assert (crawler.output / "source=api,group=general,leaderboard=none,pages_api=never").is_dir()


def test_some_by_their_slugs(crawler: Crawler, world: World) -> None:
    first, second = of_table(world)[0], of_table(world)[5]
    newer = next(each for each in world.competitions if not each.in_meta)
    wanted = f"slugs={first.slug.upper()},{second.slug},{newer.slug}"
    done = crawler("-a", wanted)
    assert done.code == 1, "one of them is not in the table"
    check_rows(done.rows, [first, second])
    assert done.stat("kaggle/competitions/failed/not_in_meta_kaggle") == 1
    assert "source=api" in done.log
    api = crawler("-a", f"slugs={newer.slug}", "-a", "source=api", meta=False)
    assert api.code == 0, api.log
    assert [row["Slug"] for row in api.rows] == [newer.slug]
    assert api.rows[0]["LeaderboardTop100"] == board_of(newer)
    assert not crawler.file.exists()


def test_some_by_their_day(crawler: Crawler, world: World) -> None:
    day = sorted(each.enabled for each in of_table(world))[-6].date().isoformat()
    done = crawler("-a", f"since={day}", *NO_BOARD)
    assert done.code == 0, done.log
    late = [each for each in of_table(world) if each.enabled.date().isoformat() >= day]
    check_rows(done.rows, late, board=False)


@pytest.mark.parametrize("asked", [(), NOTHING_ASKED], ids=["boards", "nothing asked"])
def test_a_sample_is_exact(crawler: Crawler, world: World, asked: tuple[str, ...]) -> None:
    done = crawler("-a", "sample=5", *asked)
    assert done.code == 0, done.log
    first = [each.slug for each in of_table(world)][:5]
    assert {row["Slug"] for row in done.rows} == set(first), "the first of the table"
    assert done.stat("kaggle/competitions/stored") == 5
    assert sum(crawler.asked().get(BOARD, {}).values()) <= 6


# -- what goes wrong -------------------------------------------------------------------------------


def test_credentials_that_are_no_good_end_it(crawler: Crawler) -> None:
    done = crawler(env={"KAGGLE_API_TOKEN": "KGAT_wrong"})
    assert done.code == 5, done.log
    assert not any(row["LeaderboardTop100"] for row in done.rows)
    asked = crawler.asked()
    assert sum(asked.get(BOARD, {}).values()) <= 8
    assert done.stat("kaggle/competitions/without_leaderboard/unauthorized") == 0
    assert "KAGGLE_API_TOKEN" in done.log


def test_the_first_board_may_be_closed(crawler: Crawler, world: World) -> None:
    """A 401 for the first thing that is asked for says nothing of the credentials."""
    closed = next(each for each in of_table(world) if each.answer == 401)
    done = crawler("-a", f"slugs={closed.slug}")
    assert done.code == 0, done.log
    assert [row["LeaderboardTop100"] for row in done.rows] == [[]]
    asked = crawler.asked()
    assert asked[BOARD] == {closed.slug: 1}
    assert sum(asked["ListCompetitions"].values()) == 1


def test_a_server_that_fails_loses_nothing(scrapy: Run, world: World, tmp_path: Path) -> None:
    contests = of_table(world)
    some = [each.slug for each in contests if board_of(each)][:2]
    broken = Faults.script([Rule(Fault("status", 500), BOARD, key) for key in some])
    with Replica(world, faults=broken) as replica:
        crawler = Crawler(scrapy, replica, tmp_path)
        crawler.publish()
        job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-s", "KAGGLE_MAX_ATTEMPTS=2")
        done = crawler(*job, "-o", str(tmp_path / "out.jsonl"))
        assert done.code == 1, done.log
        assert {row["Slug"] for row in done.rows} == {
            each.slug for each in contests if each.slug not in some
        }
        broken.repair()
        rest = crawler(*job, "-o", str(tmp_path / "out.jsonl"))
        assert rest.code == 0, rest.log
        check_rows(rest.rows, contests)
        assert crawler.rows_of_file() == sorted(rest.rows, key=lambda row: row["CompetitionID"])


def test_rows_that_cannot_be_read_have_a_reason(crawler: Crawler) -> None:
    crawler.meta.joinpath("Competitions.csv").write_text(
        'Id,Slug,Title\n1.0,good,A title\n2,,No slug\nthree,bad-id,\n4,short\n5,"../up",x\n'
        '6,good,Twice\n7,fine,"Two\nlines"\n',
        encoding="utf-8",
    )
    done = crawler(*NOTHING_ASKED)
    assert done.code == 1, "some could not be had"
    assert [row["Slug"] for row in done.rows] == ["good", "fine"]
    assert done.rows[0]["CompetitionID"] == 1
    assert done.rows[0]["HasLeaderboard"] is None
    assert done.rows[1]["Title"] == "Two\nlines"
    assert done.stat("kaggle/competitions/failed/unreadable_ref") == 4
    assert done.stat("kaggle/competitions/seen_again") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "Competitions.csv"), ("a,b\n1,2\n", "no column"), (None, "Competitions.csv")],
    ids=["empty", "another table", "none"],
)
def test_a_table_that_is_none(crawler: Crawler, content: str | None, said: str) -> None:
    path = crawler.meta / "Competitions.csv"
    path.unlink()
    if content is not None:
        path.write_text(content)
    done = crawler(*NOTHING_ASKED)
    assert done.code == (2 if content is None else 1), done.log
    assert said in done.log
    assert "Traceback" not in done.log
    assert done.rows == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("meta_kaggle=/nowhere/at/all",), "there is no such folder"),
        (("source=api", "meta_kaggle=."), "leave one of the two out"),
        (("group=general",), "source=api"),
        (("slugs=a", "since=2024-01-01"), "leave one of the two out"),
        (("since=yesterday",), "2024-01-31"),
        (("leaderboard=all",), "top100"),
        (("slugs=not a slug",), "titanic"),
    ],
    ids=str,
)
def test_wrong_arguments_are_one_sentence(args: tuple[str, ...], said: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        CompetitionsArguments.parse(dict(arg.split("=") for arg in args))
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# -- real data -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Competitions.csv", "DERIVED_Competitions_2025schema.csv"])
def test_every_real_row_is_a_record(scrapy: Run, samples: Path, tmp_path: Path, name: str) -> None:
    source = samples / "meta_kaggle" / name
    meta = tmp_path / "meta"
    meta.mkdir()
    (meta / "Competitions.csv").write_bytes(source.read_bytes())
    feed = tmp_path / "out.jsonl"
    workspace = f"WORKSPACE={tmp_path / 'ws'}"
    done = scrapy(
        *("crawl", "competitions", "-O", str(feed), "-s", workspace),
        *("-a", f"meta_kaggle={meta}", *NOTHING_ASKED),
        env={"KAGGLE_API_URL": "http://127.0.0.1:9/api"},
    )
    assert done.code == 0, done.log
    csv.field_size_limit(1 << 30)
    with source.open(encoding="utf-8-sig", newline="") as file:
        real = list(csv.DictReader(file))
    assert [row["CompetitionID"] for row in done.rows] == [int(row["Id"]) for row in real]
    for row, true in zip(done.rows, real, strict=True):
        assert row["Slug"] == true["Slug"]
        assert row["Title"] == true["Title"]
        assert row["HasLeaderboard"] is (true["HasLeaderboard"] == "True")
        overview = true.get("Overview") or ""
        assert bool(re.search(r"(?m)^#+ \W*Description", overview)) <= bool(row["Description"])
        assert bool(re.search(r"(?m)^#+ \W*Evaluation", overview)) <= bool(row["Evaluation"])
    assert json.loads(json.dumps(done.rows)) == done.rows
