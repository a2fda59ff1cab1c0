"""Where episodes are listed: the generations of the site's service, and the official API.

A *unit* is what can be listed at once: a team (2020, and the API, which names its submissions), or
a submission. Each way to begin is tried in turn, until one answers.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from scrapy import Request

from kagglecrawl.kaggle import rpc, web
from kagglecrawl.kaggle.auth import find_credentials
from kagglecrawl.kaggle.episodes import (
    EpisodeRow,
    Listing,
    TeamRow,
    read_listing,
    read_submissions,
    read_web_leaderboard,
)
from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.kaggle.rpc import Rpc
from kagglecrawl.kaggle.team_scores import read_team_scores
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.spiders.episode_graph import Graph, Unit
from kagglecrawl.spiders.episode_plan import LISTINGS, EpisodePlan
from kagglecrawl.spiders.episodes_args import EpisodesArguments
from kagglecrawl.state import leases
from kagglecrawl.state.accounts import NO_SOURCE
from kagglecrawl.state.plan import SENT

Output = Iterator[Any]

#: Listings go before all replays; the plan says when there are enough of them.
_LISTING_PRIORITY = 10**9
#: Before them the unit that promises most, before that those that the user has named, and first of
#: all where to begin.
_PROMISING, _NAMED, _BEGINNING = 2 * 10**9, 3 * 10**9, 4 * 10**9
#: Of a unit whose rank is known; others have their score there, times ten.
_RANKED = 10**6
#: A unit was listed: it has no row, and this is no fault.
LISTED = "listed"
#: So many units that a source refuses, before it has listed one, and the next one is tried.
_IN_VAIN = 3

#: What lists a unit of each kind, by source: the call, its field, and the method for its reply.
_CALLS: dict[tuple[str, str], tuple[Rpc, str, str]] = {
    ("2026", "submission"): (web.LIST_EPISODES, "submission_id", "episodes_listed"),
    ("2020", "submission"): (web.LIST_EPISODES_2020, "submission_id", "episodes_listed"),
    ("2020", "team"): (web.LIST_EPISODES_2020, "team_id", "episodes_listed"),
    ("api", "submission"): (rpc.LIST_SUBMISSION_EPISODES, "submission_id", "episodes_listed"),
    ("api", "team"): (rpc.LIST_TEAM_PUBLIC_SUBMISSIONS, "team_id", "submissions_listed"),
}
#: What a source lists of the teams that it meets.
_KINDS = {"2026": "submission", "2020": "team", "api": "team"}
_NAMES = {
    "2026": "the site's EpisodeService",
    "2020": "the EpisodeService as it was in 2020",
    "api": "the official API",
}


class EpisodeSources(KaggleSpider):
    """The part of the spider that finds units and lists them."""

    args: EpisodesArguments
    graph: Graph
    plan: EpisodePlan

    def episode(self, row: EpisodeRow, source: str) -> Output:
        """What to do with an episode that was listed."""
        raise NotImplementedError

    # -- where to begin ---------------------------------------------------------------------------

    def ways(self) -> list[str]:
        """The sources that are tried, in their order."""
        known = not find_credentials().anonymous
        service = ["2026", "2020"]
        if self.args.from_tables:
            return []
        return {
            "service": service,
            "api": ["api"],
            "auto": [*service, *(["api"] if known else [])],
        }[self.args.source]

    @property
    def start_key(self) -> str:
        """The account of where to begin."""
        return f"{self.args.competition}/start"

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
        call, field, then = _CALLS[source, kind]
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
            priority=_BEGINNING,
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
        self._know_board(teams, source)

    def _know_board(self, teams: list[TeamRow], source: str) -> None:
        """Teams, with their ranks and scores."""
        self._team_scores.update({str(t.id): t.score for t in teams if t.score is not None})
        kind = _KINDS[source]
        for team in teams:
            if number := team.id if kind == "team" else team.submission_id:
                unit = self.graph.unit(self.unit_key(kind, number))
                unit.source, unit.team, unit.name = source, team.id, team.name or unit.name
                unit.rank = team.rank or unit.rank
                unit.best = max(unit.best, team.score or 0.0)
        self.graph.version += 1

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

    # -- units ------------------------------------------------------------------------------------

    def unit_key(self, kind: str, number: int) -> str:
        """The account of a unit."""
        return f"{self.args.competition}/{kind}/{number}"

    def _meet(self, teams: list[TeamRow], source: str) -> Output:
        """Teams, with their ranks: those within the watermark are to be listed."""
        self._know_board(teams, source)
        yield from self.ask_units()

    def ask_units(self) -> Output:
        """A request for each unit within the watermark that has none yet, or a better place."""
        for unit in self.graph.open_units(self.args.team_watermark):
            kind, number = _parsed(unit.key)
            if not unit.source or (unit.source, kind) not in _CALLS:
                continue
            priority = _priority(unit)
            if priority > unit.asked:
                unit.asked = priority
                yield self._unit_request(unit.key, unit.source, kind, number)
        best = self.graph.most_promising(self.plan.room(), self.args.team_watermark)
        if best is not None and not best.named:  # above whichever promised most before
            kind, number = _parsed(best.key)
            priority = _PROMISING + self.accounts.count(f"{SENT}{LISTINGS}")
            request = self._unit_request(best.key, best.source, kind, number)
            yield request.replace(priority=priority)

    def _unit_request(self, key: str, source: str, kind: str, number: int) -> Request:
        unit = self.graph.unit(key)
        if self.accounts.discover(key):
            self._keep_unit(key, listed=False)
        call, field, then = _CALLS[source, kind]
        fields: dict[str, Any] = {field: number}
        return self.fetch(
            call,
            then,
            key,
            {"source": source, "kind": kind, "id": number},
            otherwise="no_listing",
            priority=_priority(unit),
            **fields,
        )

    def _keep_unit(self, key: str, *, listed: bool, newest: str = "") -> None:
        unit, (kind, number) = self.graph.unit(key), _parsed(key)
        self.accounts.describe(key, "", "1")
        record = {
            "kind": kind,
            "id": number,
            "team": unit.team,
            "name": unit.name,
            "rank": unit.rank,
            "score": unit.best or None,
            "source": unit.source,
            "listed": listed,
            "newest": newest,
            "read": time.time() if listed else 0.0,
        }
        self.accounts.keep(key, json.dumps(record, ensure_ascii=False))

    # -- listings ---------------------------------------------------------------------------------

    def episodes_listed(self, key: str, row: dict[str, Any], reply: dict[str, Any]) -> Output:
        """The episodes of a unit."""
        listing, source = read_listing(reply), row["source"]
        if listing.unread:
            self._count("kaggle/episodes/rows_unread", listing.unread)
            self.logger.warning("%s: %d rows of its list cannot be read", key, listing.unread)
        self._count("kaggle/episodes/listed", len(listing.episodes))
        if not listing.episodes:
            self.logger.warning("%s has no episodes", key)
        expected = self.graph.expect(key, self.plan.room())
        before = dict(self.graph.candidates)
        for episode in listing.episodes:
            yield from self.episode(episode, source)
        new = [score for each, score in self.graph.candidates.items() if each not in before]
        self.graph.learn(expected, new)
        yield from self._unit_over(key, source, listing)

    def _unit_over(self, key: str, source: str, listing: Listing) -> Output:
        """A unit is listed; others were met."""
        self.graph.settle(key, listed=True)
        unit = self.graph.unit(key)
        unit.source = unit.source or source
        newest = max((each.create_time for each in listing.episodes), default="")
        self._keep_unit(key, listed=True, newest=newest)
        self._over(key, source)
        yield from self._meet(listing.teams if source != "api" else [], source)

    def submissions_listed(self, key: str, row: dict[str, Any], reply: dict[str, Any]) -> Output:
        """The API's submissions of a team: each is listed by itself."""
        team = self.graph.unit(key)
        submissions = read_submissions(reply, row["id"])
        if team.named and submissions:
            best = max(submissions, key=lambda each: each.score or 0.0)
            self.graph.unit(self.unit_key("submission", best.id)).named = True
        for submission in submissions:
            unit = self.graph.unit(self.unit_key("submission", submission.id))
            unit.source, unit.team, unit.rank = "api", row["id"], team.rank
            unit.best = max(unit.best, submission.score or 0.0)
        self.graph.settle(key, listed=True)
        self._keep_unit(key, listed=True)
        self._over(key, "api")
        yield from self.ask_units()

    def _over(self, key: str, source: str) -> None:
        """A unit was listed: its source is a good one."""
        self.accounts.skip(key, LISTED)
        if self.start_is_open():
            self.accounts.skip(self.start_key, LISTED)
            self.accounts.note(f"source/{source}")

    def no_listing(self, key: str, row: dict[str, Any], reason: str) -> Output:
        """A unit cannot be listed."""
        self.logger.info("%s cannot be listed (%s)", key, reason)
        self.accounts.skip(key, reason)
        yield from self._in_vain_at(key, row, reason)

    def listing_failed(self, request: Request, error: KaggleError) -> Output:
        """Or not now."""
        key = request.meta["key"]
        self.logger.warning("Failed %s: %s", key, error)
        leases.declare_failed(error.slug)
        yield from self._in_vain_at(key, request.cb_kwargs["row"], str(error))

    def _in_vain_at(self, key: str, row: dict[str, Any], reason: str) -> Output:
        """Where a source has not listed one of several units, it is given up for the next."""
        source = row["source"]
        self.graph.settle(key, listed=False)
        self.accounts.note(f"refused/{source}")
        if not self.start_is_open():
            return
        opens = any(unit.is_open and unit.source == source for unit in self.graph.units.values())
        if not opens or self.accounts.count(f"refused/{source}") + 1 >= _IN_VAIN:
            self.accounts.note(f"given_up/{source}")
            for unit in self.graph.units.values():
                unit.source = "" if unit.source == source else unit.source
            self.graph.version += 1
            step = self.ways().index(source)
            yield from self.nothing_there(key, {"source": source, "step": step}, reason)

    def asks_nobody(self, request: Request) -> Request:
        """In place of a listing of a source that was given up: its unit is left out."""
        row = request.cb_kwargs.get("row") or {}
        is_listing = request.cb_kwargs.get("otherwise") == "no_listing"
        if not is_listing or not self.accounts.count(f"given_up/{row['source']}"):
            return request
        key = request.meta["key"]
        left_out = self.recall("left_out", key, "", row)
        return left_out.replace(priority=request.priority)

    async def left_out(self, key: str, row: dict[str, Any], _: Any) -> AsyncIterator[Any]:
        """A unit whose source does not answer."""
        self.accounts.skip(key, NO_SOURCE)
        for nothing in list[Any]():
            yield nothing

    def start_is_open(self) -> bool:
        """Has it not been found yet where to begin?"""
        return self.accounts.is_open(self.start_key)

    @property
    def _team_scores(self) -> dict[str, float]:
        """Scores of teams by the official leaderboard."""
        return self.__dict__.setdefault("_scores", {})  # type: ignore[no-any-return]

    def score_of(self, episode: EpisodeRow, source: str) -> float | None:
        """What an episode is worth: the mean of its agents' updated scores; by the official API,
        which tells none, that of their teams' scores. None where nothing is told."""
        if source != "api":
            return episode.score
        found = [self._team_scores.get(str(agent["teamId"])) for agent in episode.agents]
        scores = [score for score in found if score is not None]
        return sum(scores) / len(scores) if scores else None


def _priority(unit: Unit) -> int:
    """A unit's place in the queue: by rank, or by score where nobody tells ranks."""
    if unit.named:
        return _NAMED
    if unit.rank is not None:
        return _LISTING_PRIORITY + _RANKED - min(unit.rank, _RANKED // 2)
    return _LISTING_PRIORITY + min(int(10 * max(unit.best, 0.0)), _RANKED // 2 - 1)


def _parsed(key: str) -> tuple[str, int]:
    """Kind and number of a unit."""
    _, kind, number = key.split("/")
    return kind, int(number)
