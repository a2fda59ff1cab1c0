"""What ``scrapy crawl competitions`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kagglecrawl import arguments
from kagglecrawl.arguments import ArgumentError, CrawlArguments, argument
from kagglecrawl.kaggle.refs import competition_slug

#: Words for kagglesdk 0.1.37's CompetitionListTab (competitions/types/competition_enums.py).
GROUPS = {
    word: f"COMPETITION_LIST_TAB_{word.upper()}"
    for word in ("general", "entered", "community", "hosted", "everything")
}
#: What the unmodified client asks for where no group is named (verified: kaggle 2.2.4).
EVERYTHING = "everything"
_SOURCES = {word: word for word in ("meta", "api")}
_BOARDS = {word: word for word in ("top100", "full", "none")}
_WHEN = {word: word for word in ("auto", "never", "always")}
#: Arguments that change which rows there are, or what is in them.
NARROWING = ("source", "group", "since", "leaderboard", "all_leaderboards", "pages_api")
#: Values of these that change neither.
_SAME = {"leaderboard": "full", "pages_api": "always"}


@dataclass(frozen=True)
class CompetitionsArguments(CrawlArguments):
    """Arguments of ``scrapy crawl competitions``."""

    meta_kaggle: Path | None = argument(
        None,
        arguments.folder,
        "folder",
        "Your copy of Meta Kaggle, or a part of it: the folder with Competitions.csv, or "
        "Competitions.csv.zip. Default: kagglehub fetches that one file, and keeps it.",
    )
    source: str = argument(
        "meta",
        arguments.one_of(_SOURCES),
        "word",
        "Where the list comes from. api: ListCompetitions, and one request more for each "
        "competition's pages.",
        ", ".join(_SOURCES),
    )
    group: str | None = argument(
        None,
        arguments.one_of({word: word for word in GROUPS}),
        "word",
        "Which list of the API, with source=api; general has the open ones alone. Default: "
        "everything, as with the kaggle command.",
        ", ".join(GROUPS),
    )
    slugs: tuple[str, ...] | None = argument(
        None,
        arguments.listed(competition_slug),
        "list or file",
        "Exactly these competitions: titanic,digit-recognizer, or a file with one a line.",
    )
    since: str | None = argument(
        None,
        arguments.day,
        "date",
        "Only competitions that began on this day or later: 2024-01-31.",
    )
    sample: int | None = argument(
        None, arguments.count, "number", "Exactly so many items, the first that can be had."
    )
    leaderboard: str = argument(
        "top100",
        arguments.one_of(_BOARDS),
        "word",
        "One request per competition for its leaderboard, for LeaderboardTop100. full: the whole "
        "board as well, as leaderboard/<slug>.csv. none: no request.",
        ", ".join(_BOARDS),
    )
    all_leaderboards: bool = argument(
        False,
        arguments.yes_or_no,
        "true or false",
        "Ask for the leaderboards of competitions of which Meta Kaggle says that they have none, "
        "too: a few have one.",
    )
    pages_api: str = argument(
        "auto",
        arguments.one_of(_WHEN),
        "word",
        "One request for a competition's pages: where Meta Kaggle has no Overview of it (auto), "
        "for each (always), or for none (never).",
        ", ".join(_WHEN),
    )

    def check(self) -> None:
        """Refuse what cannot go together."""
        super().check()
        if self.group is not None and (self.source != "api" or self.slugs):
            raise ArgumentError(
                "argument group names a list of the API, which is walked with source=api and "
                "without slugs alone: give source=api, or leave group out"
            )
        if self.meta_kaggle is not None and self.source == "api":
            raise ArgumentError(
                "argument source=api asks the API for the list, and meta_kaggle is a folder with "
                "another one: leave one of the two out"
            )
        if self.slugs and self.since:
            raise ArgumentError(
                "argument slugs asks for exactly these competitions, so since cannot go with it: "
                "leave one of the two out"
            )

    def narrowed(self) -> dict[str, object]:
        """What was given that makes rows others than those of the whole list."""
        given = self.given()
        return {
            name: given[name]
            for name in NARROWING
            if name in given and given[name] != _SAME.get(name)
        }
