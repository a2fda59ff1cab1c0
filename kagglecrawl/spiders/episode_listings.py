"""Units of episodes, which can be listed at once: a team (2020, and the API, which names its
submissions), or a submission; and what comes of their lists.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
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
)
from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.kaggle.rpc import Rpc
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
_PROMISING, _NAMED, BEGINNING = 2 * 10**9, 3 * 10**9, 4 * 10**9
#: Of a unit whose rank is known; others have their score there, times ten.
_RANKED = 10**6
#: A unit was listed: it has no row, and this is no fault.
LISTED = "listed"
#: So many units that a source refuses, before it has listed one, and the next one is tried.
_IN_VAIN = 3

#: What lists a unit of each kind, by source: the call, its field, and the method for its reply.
CALLS: dict[tuple[str, str], tuple[Rpc, str, str]] = {
    ("2026", "submission"): (web.LIST_EPISODES, "submission_id", "episodes_listed"),
    ("2020", "submission"): (web.LIST_EPISODES_2020, "submission_id", "episodes_listed"),
    ("2020", "team"): (web.LIST_EPISODES_2020, "team_id", "episodes_listed"),
    ("api", "submission"): (rpc.LIST_SUBMISSION_EPISODES, "submission_id", "episodes_listed"),
    ("api", "team"): (rpc.LIST_TEAM_PUBLIC_SUBMISSIONS, "team_id", "submissions_listed"),
}
#: What a source lists of the teams that it meets.
_KINDS = {"2026": "submission", "2020": "team", "api": "team"}


class EpisodeListings(KaggleSpider):
    """The part of the spider that lists units."""

    args: EpisodesArguments
    graph: Graph
    plan: EpisodePlan

    def episode(self, row: EpisodeRow, source: str) -> Output:
        """What to do with an episode that was listed."""
        raise NotImplementedError

    def nothing_there(self, key: str, row: dict[str, Any], reason: str) -> Output:
        """What to do where a source lists nothing."""
        raise NotImplementedError

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

    def _know_board(self, teams: list[TeamRow], source: str) -> None:
        """Teams, with their ranks and scores."""
        self._team_scores.update({t.id: t.score for t in teams if t.score is not None})
        kind = _KINDS[source]
        for team in teams:
            if number := team.id if kind == "team" else team.submission_id:
                unit = self.graph.unit(self.unit_key(kind, number))
                unit.source, unit.team, unit.name = source, team.id, team.name or unit.name
                unit.rank = team.rank or unit.rank
                unit.best = max(unit.best, team.score or 0.0)
        self.graph.version += 1

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
            priority = _priority(unit)
            if priority > unit.asked:
                unit.asked = priority
                yield self._unit_request(unit)
        best = self.graph.most_promising(self.plan.room(), self.args.team_watermark)
        if best is not None and not best.named:  # above whichever promised most before
            priority = _PROMISING + self.accounts.count(f"{SENT}{LISTINGS}")
            yield self._unit_request(best).replace(priority=priority)

    def source_of(self, key: str) -> str:
        """The first source that lists units of this kind; empty if none does."""
        kind = _parsed(key)[0]
        return next((source for source in self.ways() if (source, kind) in CALLS), "")

    def _unit_request(self, unit: Unit) -> Request:
        kind, number = _parsed(unit.key)
        if self.accounts.discover(unit.key):
            self._keep_unit(unit.key, listed=False)
        call, field, then = CALLS[unit.source, kind]
        fields: dict[str, Any] = {field: number}
        return self.fetch(
            call,
            then,
            unit.key,
            {"source": unit.source, "kind": kind, "id": number},
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

    @cached_property
    def _team_scores(self) -> dict[int, float]:
        """Scores of teams by the leaderboard."""
        return {}

    def score_of(self, episode: EpisodeRow, source: str) -> float | None:
        """What an episode is worth: the mean of its agents' updated scores; by the official API,
        which tells none, that of their teams' scores. None where nothing is told."""
        if source != "api":
            return episode.score
        found = [self._team_scores.get(agent["teamId"] or 0) for agent in episode.agents]
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
