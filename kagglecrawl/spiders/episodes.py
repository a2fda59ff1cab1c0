"""Episodes of simulation competitions: listings → the best games first → their replays, under a
budget."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from scrapy import Request
from twisted.python.failure import Failure

from kagglecrawl.arguments import Arguments
from kagglecrawl.config import KaggleConfig
from kagglecrawl.items import Episode, record_of
from kagglecrawl.kaggle.episodes import EpisodeRow
from kagglecrawl.kaggle.errors import (
    PERMANENT,
    KaggleError,
    NotFound,
    RetryLater,
    SkipResource,
    StopCrawl,
    Unusable,
)
from kagglecrawl.kaggle.rpc import TABLE
from kagglecrawl.kaggle.simulations import SIMULATIONS
from kagglecrawl.spiders.base import Output
from kagglecrawl.spiders.episode_graph import Graph
from kagglecrawl.spiders.episode_plan import LISTINGS, REPLAYS, EpisodePlan
from kagglecrawl.spiders.episode_replays import NO_CREDENTIALS, EpisodeReplays, priority_of
from kagglecrawl.spiders.episode_sources import EpisodeSources
from kagglecrawl.spiders.episode_tables import EpisodeTables
from kagglecrawl.spiders.episodes_args import EpisodesArguments
from kagglecrawl.state import internals, leases
from kagglecrawl.state.ledger_each import Entry
from kagglecrawl.state.plan import SENT

#: Skipped for this reason: the agents' mean score is too low.
BELOW_WATERMARK = "below_watermark"
#: Or there is none.
NO_SCORE = "no_score"
#: Numbers of the competitions that are known.
_NUMBERS = {each.number for each in SIMULATIONS.values()}
#: States of episodes that have no replay, or none yet, and the reason.
_WITHOUT = {"created": "not_finished", "never_started": "never_started"}
#: A unit that had an episode so shortly before it was listed may have others now, after so long.
_LIVELY, _STALE = timedelta(days=14), timedelta(days=1)


class EpisodesSpider(EpisodeReplays, EpisodeSources, EpisodeTables):
    """``scrapy crawl episodes -a competition=<slug>``: the replays of the best games.

    Teams and submissions are listed while that pays, then replays are fetched from the best game
    on: both are requests of the durable queue, and the plan says which family is next.
    """

    name = "episodes"
    item_class = Episode
    args_class = EpisodesArguments
    args: EpisodesArguments
    #: Is all in the queue that start() knows?
    _ready = False
    #: The number of a competition that is not known, as its first games have it.
    _met_number: int | None = None
    #: Does the ledger have a list that may have grown?
    _outdated = False

    @classmethod
    def check(cls, args: Arguments, config: KaggleConfig) -> None:
        """Are the tables there, if they are to be read?"""
        if getattr(args, "from_tables", False):
            cls.check_tables(args, config)

    @cached_property
    def graph(self) -> Graph:  # type: ignore[override]
        """What is known of teams and games."""
        return Graph()

    @cached_property
    def plan(self) -> EpisodePlan:  # type: ignore[override]
        """How the budget is spent."""
        return EpisodePlan(
            self.graph,
            total=self.args.request_budget,
            share=self.args.discovery_share if self.args.replays else 1.0,
            watermark=self.args.team_watermark,
            sent=lambda family: self.accounts.count(f"{SENT}{family}"),
            wanted=self._wanted,
            beginning=self.start_is_open,
            searching=lambda: not self.place_is_known,
            ready=lambda: self._ready,
            prepare=lambda request: self.asks_nobody(self.elsewhere(request)),
            say=lambda listings, replays: self.logger.info(
                "%d listings are made, and no other pays: %d replays are known to be worth "
                "fetching, the best first",
                listings,
                replays,
            ),
        )

    def progress(self) -> list[str]:
        """Listings and replays so far, what is left of the budget, and what is known."""
        listings, replays = (self.accounts.count(f"{SENT}{each}") for each in (LISTINGS, REPLAYS))
        parts = [f"{listings} listings", f"{replays} replays asked for"]
        if math.isfinite(self.plan.left):
            parts.append(f"{self.plan.left:,.0f} of {self.args.request_budget:,} requests left")
        if games := self.graph.candidates:
            parts.append(f"{len(games)} games to fetch, the best {max(games.values()):.0f}")
        return [*parts, *([f"{n} failed"] if (n := self.accounts.count("failed")) else [])]

    async def start(self) -> AsyncIterator[Any]:
        """What earlier crawls have found, and then a way to begin."""
        for request in self._start():
            yield request
        self._ready = True
        if self.crawler.engine is not None:
            internals.wake(self.crawler.engine)

    def _start(self) -> Output:
        for entry in self.ledger.each(f"{self.args.competition}/"):
            yield from self._remembered(entry)
        self._remember_open()
        if self.args.from_tables:
            yield self.episode_tables(
                self.args.number,
                self.args.episode_watermark,
                most=self._most,
                slug=self.args.competition,
            )
            return
        yield from self.ask_units()
        again = self.accounts.has_failed(self.start_key)
        if again:
            self.accounts.reopen(self.start_key)
        if again or (self._begins() and self.accounts.discover(self.start_key)):
            yield from self.begin()

    def _begins(self) -> bool:
        """Is it to be found out where to begin? Not where earlier crawls know teams, unless the
        leaderboard may be another one now."""
        if self.args.team or self.args.submission or self.refresh or self._outdated:
            return True
        return not self.graph.open_units(self.args.team_watermark)

    # -- what the ledger has ----------------------------------------------------------------------

    def _remembered(self, entry: Entry) -> Output:
        """A team, a submission or an episode of an earlier crawl, or of an earlier run of this."""
        record, tail = entry.record, entry.key.split("/")[1:]
        if record is None:
            return
        if tail == ["start"]:
            self.remember_board(record)
        elif len(tail) == 2:
            self._remember_unit(entry, record)
        elif record.keys() == record_of(_EMPTY).keys():
            yield from self._remember_episode(entry, record)

    def _remember_unit(self, entry: Entry, record: dict[str, Any]) -> None:
        unit = self.graph.unit(entry.key)
        unit.rank, unit.best = record["rank"], max(unit.best, record["score"] or 0.0)
        unit.team, unit.name, unit.source = record["team"], record["name"], record["source"]
        if not self.accounts.is_open(entry.key):  # else it is in the queue, whoever lists it
            trusted = unit.source != "api" or self._by_api
            unit.source = unit.source if trusted and unit.source in self.ways() else ""
        grown = _may_have_grown(record["newest"], record["read"] or entry.at)
        self._outdated = self._outdated or (bool(record["listed"]) and grown)
        in_this_job = self.accounts.is_closed(entry.key)
        unit.listed = in_this_job or (bool(record["listed"]) and not (grown or self.refresh))
        unit.closed = entry.reason in PERMANENT and not self.refresh
        self.graph.version += 1

    def _remember_episode(self, entry: Entry, record: dict[str, Any]) -> Output:
        key, score = entry.key, record["score"]
        row = _row_of(record)
        if row.score is None and entry.verdict != "stored" and not self._by_api:
            return  # its score is its teams'; the service has its own
        wanted = self._why_not(row, score) == ""
        self.graph.know(key, score or 0.0, self._players(row, ""), wanted=wanted)
        if not wanted:
            return
        # whatever has been said of it since
        had = self._has_all(record) and not self.refresh
        if had or not self.args.replays:
            if self.accounts.discover(key):
                yield self._told_again(key, record)
            return
        if self._for_good_of(entry.reason, row, entry.at):
            if self.accounts.discover(key):
                self.refused_before(key, entry.verdict, entry.reason)
            return
        fresh = self.accounts.discover(key)
        if fresh or self.accounts.is_open(key):
            self.graph.want(key, score or 0.0)
        if fresh:
            self.accounts.describe(key, "", "1")
            yield self.replay(key, {**record, "replay": None, "logs": None})

    def _remember_open(self) -> None:
        """What the queue has of this job, and the ledger was not told yet: it is to be asked for,
        however good it is."""
        for key in self.accounts.open_keys():
            tail = key.split("/")[1:]
            if len(tail) == 2:
                unit = self.graph.unit(key)
                unit.source, unit.rank = unit.source or self.source_of(key), unit.rank or 1
            elif tail != ["start"]:
                self.graph.candidates.setdefault(key, self.args.episode_watermark)
        self.graph.version += 1

    def _for_good_of(self, reason: str, row: EpisodeRow, at: float) -> bool:
        """Was a replay refused at that moment so that it is not asked for again? A game that was
        not finished then has one by now."""
        if reason not in PERMANENT or self.refresh or not self.args.replays:
            return False
        return not (reason == NotFound.slug and _is_recent(row.end_time or row.create_time, at))

    @property
    def _by_api(self) -> bool:
        """Is it the official API that is asked first?"""
        return self.ways()[:1] == ["api"]

    def _told_again(self, key: str, record: dict[str, Any]) -> Request:
        """The request that asks nobody, for a game whose record is had: of a sample it is one of
        the best, or it is not."""
        if self.sample is not None:
            self.graph.want(key, record["score"] or 0.0)
        return self.recall("told", key, "", record).replace(priority=priority_of(record))

    def _has_all(self, record: Mapping[str, Any]) -> bool:
        """Does a record have what is wanted now?"""
        has_replay, logs = record["replay"] is not None, record["logs"]
        has_logs = logs is not None and all(log["reason"] != NO_CREDENTIALS for log in logs)
        return (has_replay or not self.args.replays) and (has_logs or not self.args.logs)

    async def told(
        self, key: str, row: dict[str, Any], record: dict[str, Any] | None
    ) -> AsyncIterator[Any]:
        """The record that the ledger has of an episode whose replay was had."""
        if not self.args.replays:
            record = record or row
        needs = record is not None and record["replay"] and self.args.replays
        if record is None or (needs and not await self.is_there(record)):
            self.accounts.note("files_gone")
            self.graph.want(key, row["score"] or 0.0)
            yield self.replay(key, {**row, "replay": None, "logs": None})
            return
        self.graph.over(key)
        known, item = self.ledger.known(key, ""), Episode(**record)
        if known is None or known.verdict != "stored":
            yield item
            return
        for output in self.again(key, "", item):
            yield output

    # -- an episode -------------------------------------------------------------------------------

    def episode(self, row: EpisodeRow, source: str) -> Output:
        """An episode that was listed: its replay is asked for, if it is wanted."""
        number, theirs = self.args.number or self._met_number, row.competition_id
        if number is None and theirs not in _NUMBERS:
            number = self._met_number = theirs
        if theirs is not None and theirs != number:
            self._count("kaggle/episodes/of_other_competitions")
            return
        key, score = f"{self.args.competition}/{row.id}", self.score_of(row, source)
        why = self._why_not(row, score)
        self.graph.know(key, score or 0.0, self._players(row, source), wanted=not why)
        if not self.accounts.discover(key):
            return
        item = Episode.of(self.args.competition, row)
        item.score = score
        item.competition_id = row.competition_id or number
        record = record_of(item)
        self.accounts.describe(key, "", "1")
        known = None if self.refresh else self.ledger.known(key, "")
        had = None if known is None else self.ledger.record(key, "")
        if had is not None and (had.keys() != record.keys() or had["replay"] is None):
            had = None
        if had is not None and not why and self._has_all(had):
            yield self._told_again(key, had)
            return
        if known is not None and self._for_good_of(known.reason, row, known.at):
            self.refused_before(key, known.verdict, known.reason)
            return
        if had is None:  # what is kept of one that was had stays
            self.accounts.keep(key, json.dumps(record, ensure_ascii=False))
        if why:
            self.accounts.skip(key, why)
        elif self.args.replays:
            self.graph.want(key, score or 0.0)
            yield self.replay(key, record)
        elif self.sample is None:
            yield item
        else:
            yield self._told_again(key, record)

    def _why_not(self, row: EpisodeRow, score: float | None) -> str:
        """Why an episode's replay is not wanted; empty if it is."""
        if reason := _WITHOUT.get(row.state):
            return reason
        if (score or 0.0) >= self.args.episode_watermark:
            return ""
        return NO_SCORE if score is None else BELOW_WATERMARK

    def listed_by_meta(self, rows: list[EpisodeRow]) -> Output:
        """Episodes of Meta Kaggle's tables."""
        for row in rows:
            yield from self.episode(row, "")

    def _players(self, row: EpisodeRow, source: str) -> dict[str, float | None]:
        """The units that played, with their scores after it."""
        players: dict[str, float | None] = {}
        for agent in row.agents:
            score = agent["updatedScore"]
            for kind, number in (("team", agent["teamId"]), ("submission", agent["submissionId"])):
                if number and self._lists(kind, source):
                    key = self.unit_key(kind, number)
                    players[key] = max(score or 0.0, players.get(key) or 0.0)
                    if source in {"2020", "2026"}:
                        unit = self.graph.unit(key)
                        unit.source = unit.source or source
                        unit.team = unit.team or agent["teamId"]
                        unit.name = unit.name or agent["teamName"]
        return players

    @staticmethod
    def _lists(kind: str, source: str) -> bool:
        """Are such units listed by this source? (Empty: not known which.)"""
        return kind == {"2020": "team", "2026": "submission"}.get(source, kind)

    # -- decisions --------------------------------------------------------------------------------

    def failed(self, failure: Failure) -> Output:
        """The errback: where one place is down, another may not be."""
        request = failure.request  # type: ignore[attr-defined]
        otherwise, error = request.cb_kwargs.get("otherwise"), failure.value
        call = TABLE.get(request.meta.get("rpc", ""))
        # refused credentials are the end of what wants them, where there is something else
        closed = isinstance(error, StopCrawl) and call is not None and call.where == "api"
        passing = isinstance(error, RetryLater | Unusable)
        refused = isinstance(error, SkipResource)
        if passing:
            leases.note_passing()
        if not isinstance(error, KaggleError):
            yield from super().failed(failure)
        elif otherwise == "no_replay_there" and (closed or passing):
            yield from self.place_failed(request, error)
        elif otherwise == "no_log_there" and closed:
            yield from self.logs_failed(request, error)
        elif otherwise == "no_log_there" and passing:
            yield from self.no_log_there(request.meta["key"], request.cb_kwargs["row"], error.slug)
        elif otherwise == "no_listing" and passing:
            yield from self.listing_failed(request, error)
        elif otherwise == "nothing_there" and (passing or refused):
            row = request.cb_kwargs["row"]
            yield from self.nothing_there(self.start_key, row, str(error))
        else:
            self.graph.over(request.meta.get("key") or "")
            yield from super().failed(failure)

    @property
    def _most(self) -> int | None:
        """How many episodes of the tables are worth knowing: some may have no replay."""
        wanted = [each for each in (self.args.sample, self.args.request_budget) if each]
        return 10 * min(wanted) if wanted and self.args.replays else self.args.sample

    def _wanted(self) -> float:
        """How many replays are wanted still."""
        if self.args.sample is None:
            return math.inf
        return max(0, self.args.sample - self.accounts.count("stored"))


def _may_have_grown(newest: str, at: float) -> bool:
    """May a list that was read at that moment (seconds since the epoch) have more rows now?"""
    read = datetime.fromtimestamp(at, UTC)
    if datetime.now(UTC) - read < _STALE:
        return False
    return not newest or _is_recent(newest, at)


def _is_recent(moment: str, at: float) -> bool:
    """Is this moment (ISO 8601) but shortly before that one (seconds since the epoch)?"""
    try:
        return datetime.fromtimestamp(at, UTC) - datetime.fromisoformat(moment) < _LIVELY
    except ValueError:
        return False


def _row_of(record: Mapping[str, Any]) -> EpisodeRow:
    return EpisodeRow(
        id=record["episode_id"],
        competition_id=record["competition_id"],
        type=record["type"],
        state=record["state"],
        create_time=record["create_time"],
        end_time=record["end_time"],
        agents=record["agents"],
    )


_EMPTY = Episode.of("", EpisodeRow(1, None, "", "", "", "", []))
