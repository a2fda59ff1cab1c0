"""Crawls of episodes against a replica, and what a right crawler has of its league."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from kagglecrawl.items import Episode, schema
from kagglecrawl.kaggle.replays import open_replay
from kagglecrawl.replica.league import COMPLETED, ERRORED, LeagueEpisode, LeagueShape
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import QUICK, Crawl, Run
from tests.json_schema import fits

LISTINGS = {"WebLeaderboard", "ListEpisodes", "ListTeamPublicSubmissions", "ListSubmissionEpisodes"}
REPLAYS = {"Replay", "GetEpisodeReplay", "GetEpisodeReplay2020"}


def small_world(seed: int = 1, teams: int = 24, **options: Any) -> World:
    """With a league of so many teams, and no dataset."""
    shape = LeagueShape(teams=teams)
    return World(seed=seed, scale=None, league_shape=shape, **options)


class Crawler:
    """Crawls one replica's league."""

    def __init__(self, scrapy: Run, replica: Replica, folder: Path) -> None:
        self._scrapy = scrapy
        self.replica = replica
        self.tmp_path = folder
        self.workspace = folder / "workspace"
        self.output = self.workspace / "output/episodes"
        league = replica.world.league("halite")
        assert league is not None
        self.league = league

    def __call__(self, *args: str, spider: str = "episodes", **env: str) -> Crawl:
        command = ["crawl", spider, *self.options(*args)]
        return self._scrapy(*command, env={**self.replica.crawler_env(), **env})

    def options(self, *args: str) -> list[str]:
        own = ("-s", "STATS_DUMP=True", "-s", f"WORKSPACE={self.workspace}")
        feed = () if {"-o", "-O"} & set(args) else ("-O", str(self.tmp_path / "out.jsonl"))
        return [*feed, *QUICK, *own, *args]

    def asked(self) -> dict[str, Counter[str]]:
        """What the replica was asked for since it was last looked at, by method and key; its 301s
        are no requests of ours."""
        found = self.replica.stats()["requests_by_key"]
        self.replica.reset_stats()
        return {method: Counter(keys) for method, keys in found.items() if method != "ReplayMoved"}

    def wanted(self, watermark: float = 1100.0) -> list[LeagueEpisode]:
        """The episodes that have a replay and are good enough, the best first."""
        found = [
            each
            for each in self.league.episodes.values()
            if each.state in {COMPLETED, ERRORED} and each.priority >= watermark
        ]
        return sorted(found, key=lambda each: -each.priority)

    def check(self, row: dict[str, Any]) -> None:
        """A row of the feed is what the league says, and its replay is on disk, exactly."""
        truth = self.league.episodes[row["EpisodeId"]]
        assert [each["submissionId"] for each in row["Agents"]] == [
            each.submission_id for each in truth.agents
        ]
        replay = row["Replay"]
        path = self.output / replay["path"]
        assert path.stat().st_size == replay["bytes"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == replay["sha256"]
        with open_replay(path) as file:
            content = file.read()
        assert content == self.replica.world.replay(truth.id)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            replay["rawBytes"],
            replay["rawSha256"],
        )
        game = json.loads(content)
        assert (len(game["steps"]), game["rewards"], game["statuses"]) == (
            replay["steps"],
            replay["rewards"],
            replay["statuses"],
        )

    def files(self) -> set[str]:
        """Every file below the output folder."""
        return {
            str(path.relative_to(self.output)) for path in self.output.rglob("*") if path.is_file()
        }


def sent(asked: dict[str, Counter[str]], methods: set[str]) -> int:
    """How many requests there were of these methods."""
    return sum(keys.total() for method, keys in asked.items() if method in methods)


def doubled(asked: dict[str, Counter[str]]) -> dict[str, int]:
    """Whatever was asked for more than once."""
    return {
        f"{method} {key}": count
        for method, keys in asked.items()
        for key, count in keys.items()
        if count > 1
    }


def balanced(done: Crawl) -> dict[str, int]:
    """The counts of a crawl, whose sum is right."""
    counts = done.stats("kaggle/episodes/")
    kinds = ("stored", "skipped", "failed", "pending")
    assert counts["discovered"] == sum(counts.get(kind, 0) for kind in kinds), counts
    return counts


def check_rows(crawler: Crawler, rows: list[dict[str, Any]]) -> None:
    """Each is one that was wanted, in its place, and a record as the schema has it."""
    wanted = {each.id for each in crawler.wanted()}
    for row in rows:
        assert fits(row, schema(Episode)), row
        crawler.check(row)
    found = [row["EpisodeId"] for row in rows]
    assert len(found) == len(set(found))
    assert set(found) <= wanted
