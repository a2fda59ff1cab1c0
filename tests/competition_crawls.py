"""Crawls of competitions against a replica, and what a right crawler writes of its world."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from kagglecrawl.pipelines.markdown import to_markdown
from kagglecrawl.pipelines.sections import sections
from kagglecrawl.replica.contests import CompetitionTruth
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import QUICK, Crawl, Run

BOARD, PAGES = "DownloadLeaderboard", "ListCompetitionPages"
SITE = "https://www.kaggle.com/"
FIELDS = [
    "CompetitionID",
    "Title",
    "SubTitle",
    "Slug",
    "HasLeaderboard",
    "DatasetDescription",
    "Description",
    "Evaluation",
    "LeaderboardTop100",
]
TOP = ["Rank", "Team", "Score", "SubmissionCount"]


def small_world(seed: int = 1, count: int = 24) -> World:
    """With one competition of each kind of oddity, and no dataset."""
    return World(seed=seed, scale=None, competition_count=count)


class Crawler:
    """Crawls one replica's competitions, by Meta Kaggle in a folder unless told otherwise."""

    def __init__(self, scrapy: Run, replica: Replica, folder: Path) -> None:
        self._scrapy = scrapy
        self._replica = replica
        self.tmp_path = folder
        self.meta = folder / "meta"
        self.workspace = folder / "workspace"
        self.output = self.workspace / "output/competitions"
        self.file = self.output / "competitions.jsonl"

    def publish(self, **options: Any) -> None:
        """Meta Kaggle as it is today."""
        self._replica.world.write_meta_kaggle(self.meta, **options)

    def __call__(self, *args: str, meta: bool = True, env: dict[str, str] | None = None) -> Crawl:
        return self._scrapy(*self.command(*args, meta=meta), env=self.env(env))

    def env(self, more: dict[str, str] | None = None) -> dict[str, str]:
        return {**self._replica.crawler_env(), **(more or {})}

    def command(self, *args: str, meta: bool = True) -> list[str]:
        """The words after ``scrapy``."""
        own = ("-s", "STATS_DUMP=True", "-s", f"WORKSPACE={self.workspace}")
        feed = () if {"-o", "-O"} & set(args) else ("-O", str(self.tmp_path / "out.jsonl"))
        table = ("-a", f"meta_kaggle={self.meta}") if meta else ()
        return ["crawl", "competitions", *feed, *QUICK, *own, *table, *args]

    def move(self, world: World) -> None:
        """The replica is this world from now on."""
        self._replica.move(world)

    def asked(self) -> dict[str, dict[str, int]]:
        """What the replica was asked for since it was last looked at, by method and slug."""
        found: dict[str, dict[str, int]] = self._replica.stats()["requests_by_key"]
        self._replica.reset_stats()
        return found

    def rows_of_file(self) -> list[dict[str, Any]]:
        """What is in competitions.jsonl."""
        lines = self.file.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]


def of_table(world: World) -> list[CompetitionTruth]:
    """Those that Meta Kaggle has, in its order."""
    return [each for each in world.competitions if each.in_meta]


def asked_for_board(contests: Iterable[CompetitionTruth]) -> dict[str, int]:
    return {each.slug: 1 for each in contests if each.has_leaderboard}


def asked_for_pages(contests: Iterable[CompetitionTruth]) -> dict[str, int]:
    return {each.slug: 1 for each in contests if not each.overview}


def board_of(contest: CompetitionTruth) -> list[dict[str, Any]]:
    """The LeaderboardTop100 of a competition that is asked for its board."""
    reachable = contest.answer == "board" and contest.state == "public"
    if not reachable or (contest.is_max is None and not contest.board.directed):
        return []
    return [
        {
            "Rank": each.rank,
            "Team": each.team,
            "Score": exact(each.score),
            "SubmissionCount": each.submissions,
        }
        for each in contest.board.standings[:100]
    ]


def exact(score: str) -> int | float | str:
    """A number where that is exactly it, else the text."""
    whole, value = Decimal(score), float(score)
    if whole == whole.to_integral_value() and "e" not in score.lower() and "." not in score:
        return int(score)
    return value if Decimal(repr(value)) == whole else score


def check_row(row: dict[str, Any], contest: CompetitionTruth, *, board: bool = True) -> None:
    """Is this the record of a competition that Meta Kaggle has?"""
    assert list(row) == FIELDS
    assert row["CompetitionID"] == contest.id
    assert row["Title"] == contest.title
    assert row["SubTitle"] == contest.subtitle
    assert row["Slug"] == contest.slug
    assert row["HasLeaderboard"] is contest.has_leaderboard
    base = f"{SITE}competitions/{contest.slug}/"
    assert row["DatasetDescription"] == to_markdown(contest.dataset_description, base)
    texts = sections(contest.overview, base)
    if contest.overview:
        assert (row["Description"], row["Evaluation"]) == texts
    named = (("Description", contest.description), ("Evaluation", contest.evaluation))
    for name, section in named:
        told = contest.overview or (contest.pages and contest.state == "public")
        if section is None or not told:
            inner = f"### {name}" in contest.overview  # a part of another page, which is taken
            assert row[name] == "" or inner, contest.slug
            continue
        if section.markdown is not None:
            assert row[name] == section.markdown, contest.slug
        assert all(word in row[name] for word in section.words), contest.slug
        assert not any(word in row[name] for word in section.absent), contest.slug
    top = board_of(contest) if board and contest.has_leaderboard else []
    assert row["LeaderboardTop100"] == top, contest.slug
    assert all(list(entry) == TOP for entry in row["LeaderboardTop100"])


def check_rows(
    rows: list[dict[str, Any]], contests: list[CompetitionTruth], *, board: bool = True
) -> None:
    """Are these the records of just these competitions, in whatever order?"""
    found = {row["Slug"]: row for row in rows}
    assert len(found) == len(rows), "a competition is there twice"
    assert found.keys() == {each.slug for each in contests}
    for each in contests:
        check_row(found[each.slug], each, board=board)
