"""Where episodes are looked for: the generations of the site's service, and the official API. Each
way to begin is tried in turn, until one answers.
"""

from __future__ import annotations

import json
from typing import Any

from scrapy import Request

from kagglecrawl.kaggle import rpc, web
from kagglecrawl.kaggle.episodes import TeamRow, read_web_leaderboard
from kagglecrawl.kaggle.rpc import Rpc
from kagglecrawl.kaggle.team_scores import read_team_scores
from kagglecrawl.spiders.episode_listings import (
    BEGINNING,
    CALLS,
    LISTED,
    EpisodeListings,
    Output,
)
from kagglecrawl.state.accounts import NO_SOURCE

_NAMES = {
    "2026": "the site's EpisodeService",
    "2020": "the EpisodeService as it was in 2020",
    "api": "the official API",
}


class EpisodeSources(EpisodeListings):
    """The part of the spider that finds out where to begin."""

    def begin(self, step: int = 0) -> Output:
        """The first request of a way to begin, or of one after it."""
        for number, source in list(enumerate(self.ways()))[step:]:
            if (request := self._first(source, number)) is not None:
                self.logger.info("Episodes are looked for at %s", _NAMES[source])
                yield request
                return
        self.logger.error(
            "No episodes of %s can be found: %s",
            self.args.competition,
            "none of the places that were asked answers"
            if step
            else "name a team or submission to begin with, or use source=api or source=meta",
        )
        self.accounts.fail(self.start_key, NO_SOURCE)

    def _first(self, source: str, step: int) -> Request | None:
        row = {"source": source, "step": step}
        fields: dict[str, Any]
        if source == "api":  # without its scores no game of the API's has any
            call, then = rpc.DOWNLOAD_LEADERBOARD, "downloaded_board"
            fields = {"competition_name": self.args.competition}
        elif self.args.submission:
            return self._ask_first(source, "submission", self.args.submission, row)
        elif source == "2020":
            team = self.args.first_team
            return self._ask_first(source, "team", team, row) if team else None
        elif (number := self.args.number) is not None:
            call, then = web.WEB_LEADERBOARD, "web_board"
            fields = {"competition_id": number}
        else:
            return None
        return self._ask_way(call, then, row, fields)

    def _ask_first(self, source: str, kind: str, number: int, row: dict[str, Any]) -> Request:
        call, field, then = CALLS[source, kind]
        row = {**row, "kind": kind, "id": number, "then": then}
        return self._ask_way(call, "first_listed", row, {field: number})

    def _ask_way(
        self, call: Rpc, then: str, row: dict[str, Any], fields: dict[str, Any]
    ) -> Request:
        """It is of no resource: the account of where to begin is open until a listing was had."""
        request = self.fetch(
            call,
            then,
            self.start_key,
            row,
            again=True,
            otherwise="nothing_there",
            priority=BEGINNING,
            **fields,
        )
        meta = {name: value for name, value in request.meta.items() if name != "key"}
        return request.replace(meta={**meta, "anew": True})

    def nothing_there(self, key: str, row: dict[str, Any], reason: str) -> Output:
        """A way to begin does not answer."""
        self._count(f"kaggle/episodes/source_refused/{row['source']}")
        self.logger.info("%s cannot be used: %s", _NAMES[row["source"]], reason)
        yield from self.begin(row["step"] + 1)

    def first_listed(self, key: str, row: dict[str, Any], reply: dict[str, Any]) -> Output:
        """The first unit was listed."""
        self.logger.info("%s answers: it is used", _NAMES[row["source"]])
        unit = self.unit_key(row["kind"], row["id"])
        self.accounts.discover(unit)
        yield from getattr(self, row["then"])(unit, row, reply)

    def web_board(self, key: str, row: dict[str, Any], reply: dict[str, Any]) -> Output:
        """The site's leaderboard: every team's submission and rank, in one reply."""
        teams = read_web_leaderboard(reply)
        if not teams:
            yield from self.nothing_there(key, row, "its leaderboard is empty")
            return
        self.logger.info("%s tells the ranks of %d teams", _NAMES[row["source"]], len(teams))
        self._keep_board(teams, row["source"])
        self._name_team(teams)
        yield from self._meet(teams, row["source"])
        self._close_start()

    async def downloaded_board(self, key: str, row: dict[str, Any], content: bytes) -> Any:
        """The official leaderboard: every team's rank and score."""
        teams = read_team_scores(content)
        if not teams:
            for output in self.nothing_there(key, row, "its leaderboard has no teams"):
                yield output
            return
        self.logger.info("%s tells the ranks of %d teams", _NAMES[row["source"]], len(teams))
        self._keep_board(teams, row["source"])
        for kind, number in (("team", self.args.team), ("submission", self.args.submission)):
            if number:
                unit = self.graph.unit(self.unit_key(kind, number))
                unit.source, unit.named = "api", True
        for output in self._meet(teams, row["source"]):
            yield output
        self._close_start()

    def _keep_board(self, teams: list[TeamRow], source: str) -> None:
        """The ledger keeps the leaderboard: the next crawl may have another watermark."""
        board = [[team.id, team.rank, team.score, team.submission_id] for team in teams]
        self.accounts.describe(self.start_key, "", "1")
        record = {"kind": "start", "source": source, "teams": board}
        self.accounts.keep(self.start_key, json.dumps(record))

    def remember_board(self, record: dict[str, Any]) -> None:
        """The leaderboard that an earlier crawl has kept."""
        if record["source"] in self.ways():
            teams = [TeamRow(number, "", *rest) for number, *rest in record["teams"]]
            self._know_board(teams, record["source"])

    def _close_start(self) -> None:
        """It is known where to begin, and that nothing is to be listed there."""
        if not self.graph.open_units(self.args.team_watermark):
            self.accounts.skip(self.start_key, LISTED)

    def _name_team(self, teams: list[TeamRow]) -> None:
        """The team that was asked for is listed before all others, whatever its rank."""
        if self.args.team is None:
            return
        numbers = [team.submission_id for team in teams if team.id == self.args.team]
        if numbers and numbers[0]:
            self.graph.unit(self.unit_key("submission", numbers[0])).named = True
        else:
            self.logger.warning(
                "Team %d is not on the leaderboard of %s, so its episodes are not listed; those of "
                "the best teams are",
                self.args.team,
                self.args.competition,
            )
