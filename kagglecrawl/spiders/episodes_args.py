"""What ``scrapy crawl episodes`` can be asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kagglecrawl import arguments
from kagglecrawl.arguments import ArgumentError, CrawlArguments, argument
from kagglecrawl.kaggle.refs import competition_slug
from kagglecrawl.kaggle.simulations import SIMULATIONS

_SOURCES = {word: word for word in ("auto", "service", "api", "meta")}


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e9:
        raise ValueError("write a number, such as 1100")
    return value


def _budget(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError("write how many requests may be made, or 0 for no limit")
    return int(text)


@dataclass(frozen=True)
class EpisodesArguments(CrawlArguments):
    """Arguments of ``scrapy crawl episodes``; the defaults are the seed's."""

    competition: str = argument(
        "halite",
        competition_slug,
        "slug",
        "The simulation competition whose episodes are wanted: halite, connectx, hungry-geese, …",
    )
    team: int | None = argument(
        None,
        arguments.count,
        "number",
        "Begin with the episodes of this team. Default: what earlier crawls have found; else the "
        "leaderboard, or, for Halite, team 5118174.",
    )
    submission: int | None = argument(
        None, arguments.count, "number", "Begin with the episodes of this submission."
    )
    episode_watermark: float = argument(
        1100.0,
        _number,
        "number",
        "Only replays of episodes of which the agents' mean updated score is at least this.",
    )
    team_watermark: int = argument(
        25, arguments.count, "number", "List only teams of this rank or a better one."
    )
    request_budget: int = argument(
        1000,
        _budget,
        "number",
        "How many listings and replays may be asked for, in all runs of the job; 0: no limit but "
        "KAGGLE_QUOTAS.",
    )
    discovery_share: float = argument(
        0.5,
        arguments.rating,
        "0 to 1",
        "At most this share of the budget goes to listings, which find episodes; it is used only "
        "as far as they pay.",
    )
    replays: bool = argument(
        True,
        arguments.yes_or_no,
        "true or false",
        "Fetch the replays. false: only what the listings say of the episodes.",
    )
    logs: bool = argument(
        False,
        arguments.yes_or_no,
        "true or false",
        "Fetch the agents' logs as well, one request each; Kaggle gives those of your own agents.",
    )
    sample: int | None = argument(
        None, arguments.count, "number", "Exactly so many episodes, the best that are found."
    )
    source: str = argument(
        "auto",
        arguments.one_of(_SOURCES),
        "word",
        "Where episodes are found. service: the site's EpisodeService. api: leaderboard, teams' "
        "submissions, their episodes (no scores of single episodes; wants credentials). meta: Meta "
        "Kaggle's tables, without a request. auto: meta where meta_kaggle is given, else service, "
        "and api where that does not answer.",
        ", ".join(_SOURCES),
    )
    meta_kaggle: Path | None = argument(
        None,
        arguments.folder,
        "folder",
        "Your copy of Meta Kaggle, with Episodes.csv and EpisodeAgents.csv, for source=meta. "
        "Default: kagglehub fetches them (35 GB).",
    )

    def check(self) -> None:
        """Refuse what cannot go together."""
        super().check()
        if self.meta_kaggle is not None and self.source not in {"meta", "auto"}:
            raise ArgumentError(
                f"argument source={self.source} does not read tables, and meta_kaggle is a folder "
                "of them: leave one of the two out"
            )
        for name in ("team", "submission"):
            if getattr(self, name) is not None and self.from_tables:
                raise ArgumentError(
                    f"argument {name} says where a walk through teams begins, and Meta Kaggle's "
                    "tables have all of them: leave one of the two out"
                )
        if self.team is not None and self.submission is not None:
            raise ArgumentError("arguments team and submission name two beginnings: give one")
        if self.logs and not self.replays:
            raise ArgumentError(
                "argument logs fetches logs beside the replays, and replays=false leaves those "
                "out: leave one of the two out"
            )

    @property
    def from_tables(self) -> bool:
        """Are Meta Kaggle's tables what it reads?"""
        return self.source == "meta" or (self.source == "auto" and self.meta_kaggle is not None)

    @property
    def number(self) -> int | None:
        """Kaggle's number of the competition, if it is known."""
        known = SIMULATIONS.get(self.competition)
        return known.number if known else None

    @property
    def first_team(self) -> int | None:
        """The team to begin with, if nothing else is known."""
        known = SIMULATIONS.get(self.competition)
        return self.team or (known.team if known else None)
