"""The replays of episodes, from whichever place still has them, and the agents' logs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cached_property
from typing import Any
from uuid import uuid4

from scrapy import Request
from scrapy.exceptions import CloseSpider

from kagglecrawl.items import Episode, Log, Replay, no_log
from kagglecrawl.kaggle import rpc, web
from kagglecrawl.kaggle.auth import find_credentials
from kagglecrawl.kaggle.errors import (
    KaggleError,
    NotFound,
    Refused,
    StopCrawl,
)
from kagglecrawl.kaggle.names import safe_name
from kagglecrawl.kaggle.rpc import Rpc
from kagglecrawl.pipelines.payloads import Payload, PayloadStore
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.spiders.episode_graph import Graph
from kagglecrawl.spiders.episodes_args import EpisodesArguments
from kagglecrawl.state import leases
from kagglecrawl.transport.replays import ON_DISK, ReplayResponse

Output = Iterator[Any]

#: Where replays are, in the order in which they are tried (kaggle-facts 4).
_PLACES: dict[str, Rpc] = {
    "web": web.REPLAY_WEB,
    "content": web.REPLAY_CONTENT,
    "api": rpc.GET_EPISODE_REPLAY,
    "2020": web.REPLAY_2020,
}
#: Why a log, or a replay, could not be had.
NO_CREDENTIALS = "credentials"
#: Places that want credentials.
_KNOWN_ONLY = {"api"}
#: How a compressed replay's file ends, and what it is.
_COMPRESSED = {"gzip": (".gz", "application/gzip"), "zstd": (".zst", "application/zstd")}
#: So many refusals (no 404) of a place that has given nothing, and it is asked no more in this run.
_REFUSALS = 3
#: So many games of which no place has a replay, and none ever gave one: there are none to be had.
_FRUITLESS = 5
NO_PLACE = "no_place"
_NO_REPLAYS = (
    "no place that was asked gives any replays: run it again another day, or with credentials "
    "(KAGGLE_API_TOKEN), by which the official API is asked as well"
)
#: What has been begun goes before what has not; replays have their score, times a thousand.
_BEGUN_PRIORITY = 2 * 10**9
_FINEST = 1000


def priority_of(record: Mapping[str, Any]) -> int:
    """The place in the queue of an episode of this record."""
    return round(_FINEST * (record["score"] or 0.0))


class EpisodeReplays(KaggleSpider):
    """The part of the spider that fetches replays and logs."""

    args: EpisodesArguments
    graph: Graph
    #: Games of which no place had a replay, before one gave any.
    _fruitless = 0

    def replay(self, key: str, record: dict[str, Any], *, again: bool = False) -> Request:
        """The request for an episode's replay; its place in the queue is by the score."""
        return self._ask_place(key, {"record": record, "tried": [], "failed": ""}, again=again)

    def _ask_place(self, key: str, row: dict[str, Any], *, again: bool = True) -> Request:
        place = next(each for each in self._places() if each not in row["tried"])
        row = {**row, "place": place, "run": self._run}
        request = self.fetch(
            _PLACES[place],
            "replay_had",
            key,
            row,
            again=again,
            otherwise="no_replay_there",
            priority=_BEGUN_PRIORITY if row["tried"] else priority_of(row["record"]),
            episode_id=row["record"]["episode_id"],
        )
        meta = dict(request.meta)
        if self.config.destination is None and not self.refresh:  # a killed run may have had it
            number = row["record"]["episode_id"]
            meta["kept"] = f"{self.config.output(self.resource)}/{self.file_of(number)}"
        return request.replace(callback=self.replay_fetched, meta=meta)

    def elsewhere(self, request: Request) -> Request:
        """A request for a replay, at a place that is better than the one that was chosen when it
        was queued."""
        if request.cb_kwargs.get("otherwise") != "no_replay_there":
            return request
        row = request.cb_kwargs["row"]
        if row["run"] != self._run:  # what was tried then is tried again
            row = {**row, "tried": [], "failed": ""}
        elif row["place"] not in self._in_vain:
            return request
        if not any(place not in row["tried"] for place in self._places()):
            return request  # the last that is left
        better = self._ask_place(request.meta["key"], row)
        return better.replace(meta={**request.meta, **better.meta}, priority=request.priority)

    def _places(self) -> list[str]:
        """All that may be asked; those that were asked in vain come last."""
        places = [place for place in _PLACES if place not in self._closed] or ["web"]
        return sorted(places, key=lambda place: place in self._in_vain) if self._given else places

    def no_replay_there(self, key: str, row: dict[str, Any], reason: str) -> Output:
        """A place does not have it; perhaps another does. One that has given replays knows."""
        place = row["place"]
        self._count(f"kaggle/episodes/replay_refused/{place}/{reason}")
        if place not in self._given:
            self._in_vain.add(place)
            self._refusals[place] += reason == Refused.slug
            if self._refusals[place] >= _REFUSALS:
                self._closed.add(place)
        if row.get("reason") == NotFound.slug:  # which tells more than another's refusal
            reason = NotFound.slug
        yield from self._next_place(key, {**row, "reason": reason}, reason)

    def _next_place(self, key: str, row: dict[str, Any], reason: str, passing: str = "") -> Output:
        """Another place, or none: the episode is skipped for this ``reason``. Where a place had a
        fault that is ``passing``, it has failed for now."""
        place, passing = row["place"], row["failed"] or passing
        row = {**row, "tried": [*row["tried"], place], "failed": passing}
        rest = any(each not in row["tried"] for each in self._places())
        if rest and (place not in self._given or reason != NotFound.slug):
            yield self._ask_place(key, row)
            return
        self.graph.over(key)
        if not self._given:
            passing = passing or NO_PLACE
            self._fruitless += 1
        if passing:
            self.logger.warning("Failed %s: no place has its replay now (%s)", key, passing)
            leases.declare_failed(passing)
        else:
            self.logger.info("No replay of %s (%s)", key, reason)
            self.accounts.skip(key, reason)
        if self._fruitless >= _FRUITLESS:
            self.stop(StopCrawl(_NO_REPLAYS))

    def place_failed(self, request: Request, error: KaggleError) -> Output:
        """A place cannot give a replay now; perhaps another can. Credentials that are refused close
        it for this run."""
        row = request.cb_kwargs["row"]
        self._count(f"kaggle/episodes/replay_refused/{row['place']}/{error.slug}")
        if isinstance(error, StopCrawl):
            self.logger.warning("Replays are not asked for at %s any more: %s", row["place"], error)
            self._closed.add(row["place"])
        slug = NO_CREDENTIALS if isinstance(error, StopCrawl) else error.slug
        yield from self._next_place(request.meta["key"], row, slug, slug)

    async def replay_fetched(
        self, response: ReplayResponse, then: str, key: str, row: Any, otherwise: str = ""
    ) -> AsyncIterator[Any]:
        """A replay: its file is stored, and the record is told, or its logs are asked for."""
        facts, place = response.json()["replay"], row["place"]
        compression = self.config.replay_compression
        if ON_DISK in response.flags:
            place, compression = "disk", response.flags[-1]
        else:
            self._given.add(place)
            self._in_vain.discard(place)
            self._fruitless = 0
        suffix, content_type = _COMPRESSED[compression]
        path = self.file_of(row["record"]["episode_id"], suffix)
        payload = Payload(path, response.content, content_type)
        replay = Replay(
            path=path,
            bytes=facts["bytes"],
            sha256=facts["sha256"],
            rawBytes=facts["rawBytes"],
            rawSha256=facts["rawSha256"],
            steps=facts["steps"],
            statuses=facts["statuses"],
            rewards=facts["rewards"],
            source=place,
        )
        self._count(f"kaggle/episodes/replays_from/{place}")
        self._note_file(payload)
        self.graph.over(key)
        record = {**row["record"], "replay": replay}
        if not self.args.logs:
            item = Episode(**record)
            item.payloads = [payload]  # type: ignore[attr-defined]
            yield item
        elif await self._stored(key, payload):
            for output in self._next_log(key, {**record, "logs": []}):
                yield output

    def file_of(self, number: int, suffix: str = "") -> str:
        """Where a replay goes, below the spider's folder."""
        return f"replay/{safe_name(self.args.competition)}/{safe_name(f'{number}.json{suffix}')}"

    async def is_there(self, record: dict[str, Any]) -> bool:
        """Is the replay of a record of the ledger at its place?"""
        return await self.is_stored(record["replay"]["path"], record["replay"]["bytes"])

    # -- logs -------------------------------------------------------------------------------------

    def _next_log(self, key: str, record: dict[str, Any]) -> Output:
        """The request for the next log, or the item."""
        for agent in record["agents"][len(record["logs"]) :]:
            reason = NO_CREDENTIALS if "logs" in self._closed else ""
            if agent["teamId"] in self._closed_teams:
                reason = "forbidden"
            if not reason:
                yield self.fetch(
                    rpc.GET_EPISODE_AGENT_LOGS,
                    "log_had",
                    key,
                    record,
                    otherwise="no_log_there",
                    priority=_BEGUN_PRIORITY,
                    episode_id=record["episode_id"],
                    agent_index=agent["index"],
                )
                return
            record = {**record, "logs": [*record["logs"], no_log(agent["index"], reason)]}
        yield Episode(**record)

    async def log_had(self, key: str, record: dict[str, Any], content: bytes) -> AsyncIterator[Any]:
        """An agent's log."""
        index = record["agents"][len(record["logs"])]["index"]
        name = safe_name(f"{record['episode_id']}-agent-{index}.json")
        payload = Payload(
            f"logs/{safe_name(self.args.competition)}/{name}", content, "application/json"
        )
        log = Log(
            index=index,
            path=payload.path,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            reason="",
        )
        if await self._stored(key, payload):
            self._note_file(payload)
            for output in self._next_log(key, {**record, "logs": [*record["logs"], log]}):
                yield output

    def no_log_there(self, key: str, record: dict[str, Any], reason: str) -> Output:
        """Kaggle gives the logs of one's own agents alone."""
        self._count(f"kaggle/episodes/without_log/{reason}")
        agent = record["agents"][len(record["logs"])]
        if reason == "forbidden" and agent["teamId"]:
            self._closed_teams.add(agent["teamId"])
        log = no_log(agent["index"], reason)
        yield from self._next_log(key, {**record, "logs": [*record["logs"], log]})

    # -- behind the scenes ------------------------------------------------------------------------

    async def _stored(self, key: str, payload: Payload) -> bool:
        """Store a file now; where it cannot be, the episode has failed for now."""
        try:
            await self._payloads.store([payload])
        except StopCrawl as error:
            self.stop(error)
            raise CloseSpider(error.reason) from None
        except KaggleError as error:
            self.logger.warning("Failed %s: %s", key, error)
            leases.declare_failed(error.slug)
            return False
        return True

    def _note_file(self, payload: Payload) -> None:
        self.accounts.note("files_stored")
        self.accounts.note("bytes_stored", len(payload.content))

    @cached_property
    def _payloads(self) -> PayloadStore:
        return PayloadStore(self.crawler, self.config)

    @property
    def place_is_known(self) -> bool:
        """Has a place given a replay in this run?"""
        return bool(self._given)

    @cached_property
    def _in_vain(self) -> set[str]:
        """Places that had none of those that they were asked for."""
        return set()

    def logs_failed(self, request: Request, error: KaggleError) -> Output:
        """The credentials are refused: no logs in this run."""
        self.logger.warning("Logs are not asked for any more: %s", error)
        self._closed.add("logs")
        yield from self._next_log(request.meta["key"], request.cb_kwargs["row"])

    @cached_property
    def _run(self) -> str:
        """Tells this process's run from others."""
        return uuid4().hex

    @cached_property
    def _closed(self) -> set[str]:
        """Places that cannot be asked, and logs: for want of credentials, say."""
        return {*_KNOWN_ONLY, "logs"} if find_credentials().anonymous else set()

    @cached_property
    def _refusals(self) -> Counter[str]:
        """How often a place that has given nothing has refused; it is no place any more."""
        return Counter()

    @cached_property
    def _given(self) -> set[str]:
        """Places that have given a replay in this run."""
        return set()

    @cached_property
    def _closed_teams(self) -> set[int]:
        """Teams whose agents' logs are not ours to see."""
        return set()
