"""Competitions: Meta Kaggle's table → pages where it has none → leaderboard → the seed's record."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any
from urllib.parse import quote

from scrapy import Request
from scrapy.http import Response

from kagglecrawl.items import Board, Competition, record_of
from kagglecrawl.kaggle import lenient, rpc
from kagglecrawl.kaggle.errors import CredentialsRefused, StopCrawl, Unauthorized
from kagglecrawl.kaggle.leaderboards import NoBoard, read_board
from kagglecrawl.kaggle.names import safe_name
from kagglecrawl.kaggle.paging import PageShape
from kagglecrawl.kaggle.refs import competition_slug
from kagglecrawl.metakaggle import cells
from kagglecrawl.metakaggle.table import Row
from kagglecrawl.pipelines.upload import Payload
from kagglecrawl.spiders.base import Output
from kagglecrawl.spiders.competition_heads import COLUMNS, Head, of_api, of_table, with_sections
from kagglecrawl.spiders.competitions_args import CompetitionsArguments
from kagglecrawl.spiders.remembering import NEXT_STEP_PRIORITY
from kagglecrawl.spiders.tables import TableSpider
from kagglecrawl.state import leases
from kagglecrawl.state.accounts import BEYOND_SAMPLE, UNREADABLE
from kagglecrawl.state.ledger import WHOLE_LIST
from kagglecrawl.transfer.disk import aside


class CompetitionsSpider(TableSpider):
    """``scrapy crawl competitions``: no request for what Meta Kaggle has, one per leaderboard, and
    one for the pages of a competition whose Overview it lacks."""

    name = "competitions"
    item_class = Competition
    args_class = CompetitionsArguments
    args: CompetitionsArguments
    page_shape = PageShape.one_file("competitions.jsonl")

    #: By the number of a lease, how many items without a request of their own it has given.
    _given = (0, 0)

    async def start(self) -> AsyncIterator[Any]:
        """The table; or the API's list, or GetCompetition for each of ``slugs``."""
        if self.args.source == "meta":
            yield self.table(
                "Competitions",
                each="competition",
                columns=COLUMNS,
                needs=("Id", "Slug"),
                keep="wanted",
                then="looked_through",
            )
        elif self.args.slugs:
            for slug in self.args.slugs:
                self.accounts.discover(slug)
                yield self.fetch(rpc.GET_COMPETITION, "described", slug, competition_name=slug)
        else:
            yield self.rows(
                rpc.LIST_COMPETITIONS, each="listed_row", paged=True, group=self.args.group
            )

    # -- from Meta Kaggle -------------------------------------------------------------------------

    def wanted(self, row: dict[str, str]) -> bool:
        """Is this row of the table asked for? (Called in another thread.)"""
        if self.args.slugs:
            return row["Slug"].strip().casefold() in self._slugs
        return not self.args.since or cells.moment(row["EnabledDate"]) >= self.args.since

    def competition(self, row: Row) -> Output:
        """A row of the table."""
        try:
            number, slug = cells.integer(row.cells["Id"]), competition_slug(row.cells["Slug"])
        except ValueError:
            number, slug = None, ""
        if number is None or row.broken == "cells":
            yield from self._unreadable(f"byte {row.offset} of the table", row.offset)
            return
        if row.broken:
            self._count(f"kaggle/competitions/rows/{row.broken}")
        if self.args.slugs:
            self.accounts.note(f"{_MET}{slug.casefold()}")
            self._met.add(slug.casefold())
        if self.accounts.discover(slug, row.offset):
            yield from self._begin(slug, of_table(number, slug, row.cells))

    def looked_through(self) -> Output:
        """The table is over: what of ``slugs`` was not in it?"""
        for slug in self.args.slugs or ():
            met = slug.casefold() in self._met or self.accounts.count(f"{_MET}{slug.casefold()}")
            if not met and self.accounts.discover(slug):
                self.logger.warning(
                    "%s is not in Meta Kaggle's Competitions.csv (which may be a few days old): "
                    "with source=api Kaggle is asked itself",
                    slug,
                )
                self.accounts.fail(slug, "not_in_meta_kaggle")
        yield from ()

    # -- from the API -----------------------------------------------------------------------------

    def listed_row(self, row: dict[str, Any], position: int | None) -> Output | None:
        """A row of ListCompetitions. None: it was seen before."""
        text = lenient.text(row, "ref") or lenient.text(row, "url")
        try:
            slug = competition_slug(text)
        except ValueError:
            return self._unreadable(text, position)
        if self.args.since and lenient.timestamp(row, "enabledDate") < self.args.since:
            return iter(())
        if not self.accounts.discover(slug, position):
            return None
        return self.described(slug, None, row)

    def described(self, key: str, _: Any, row: dict[str, Any]) -> Output:
        """What the API says of one competition."""
        yield from self._begin(key, of_api(key, row))

    # -- one competition --------------------------------------------------------------------------

    def _begin(self, key: str, head: Head) -> Output:
        """Ask for what is missing, unless the ledger has it."""
        asks = [*self._asks_pages(head), *self._asks_board(head)]
        said = " ".join([head.said, *asks, *(["final"] if head.final else [])])
        self.accounts.describe(key, self._version, said)
        so_far = {
            "record": asdict(head.item),
            "overview": head.overview,
            "asks": asks,
            "is_max": head.is_max,
            "final": head.final,
            "said": said,
        }
        if not asks:
            yield from self._settle(key, so_far)
            return
        anew = self._ask(key, so_far)
        if not head.final:  # teams still climb
            yield anew
        elif request := self.unless_known(key, self._version, said, so_far, "known", anew):
            yield request

    def _asks_pages(self, head: Head) -> list[str]:
        wish = self.args.pages_api
        return ["pages"] if wish == "always" or (wish == "auto" and not head.overview) else []

    def _asks_board(self, head: Head) -> list[str]:
        if self.args.leaderboard == "none":
            return []
        has = head.item.has_leaderboard is not False or self.args.all_leaderboards
        return ["board"] if has else []

    def _ask(self, key: str, so_far: dict[str, Any]) -> Request:
        """The request for the first thing that is missing."""
        pages = so_far["asks"][0] == "pages"
        call = rpc.LIST_COMPETITION_PAGES if pages else rpc.DOWNLOAD_LEADERBOARD
        then, otherwise = ("pages", "no_pages") if pages else ("board", "no_board")
        return self.fetch(call, then, key, so_far, otherwise=otherwise, competition_name=key)

    async def known(
        self, key: str, so_far: dict[str, Any], record: dict[str, Any] | None
    ) -> AsyncIterator[Any]:
        """The record that the ledger has of a competition that is over."""
        if record is None or not (record["board"] or {}).get("final"):
            yield self._ask(key, so_far)
        elif not await self._file_is_there(key, record):
            self.accounts.note("files_gone")
            yield self._ask(key, so_far)
        else:
            for item in self.again(key, self._version, Competition(**record)):
                yield item

    def pages(self, key: str, so_far: dict[str, Any], reply: dict[str, Any]) -> Output:
        """ListCompetitionPages' reply."""
        record = so_far["record"]
        for page in lenient.rows(reply, rpc.LIST_COMPETITION_PAGES.rows):
            name = lenient.text(page, "name").strip().casefold().replace(" ", "-")
            field, content = _PAGES.get(name), lenient.text(page, "content")
            if field and content and (self.args.pages_api == "always" or not record[field]):
                record[field] = content
        yield from self._next(key, so_far)

    def no_pages(self, key: str, so_far: dict[str, Any], reason: str) -> Output:
        """They cannot be had; the rest can."""
        self._without("pages", reason)
        so_far["final"] = so_far["final"] and reason != Unauthorized.slug
        yield from self._next(key, so_far)

    def board(self, key: str, so_far: dict[str, Any], reply: bytes) -> Output:
        """DownloadLeaderboard's reply, a zip with a CSV."""
        try:
            board = read_board(reply, is_max=so_far["is_max"])
        except NoBoard as error:
            self.logger.warning("No leaderboard of %s: %s", key, error)
            yield from self.no_board(key, so_far, error.slug)
            return
        if board.unread:
            self._count("kaggle/competitions/leaderboard_rows_unread", board.unread)
            self.logger.warning("%s: %d rows of its board cannot be read", key, board.unread)
        if board.derived:
            self._count("kaggle/competitions/leaderboards_derived")
            fields = " and ".join(board.derived)
            self.logger.info("%s: %s are not in its leaderboard, but derived", key, fields)
        record = so_far["record"]
        record["leaderboard_top100"] = board.top
        so_far["board"] = Board(
            teams=board.teams, derived=list(board.derived), reason="", final=so_far["final"]
        )
        if record["has_leaderboard"] is None:
            record["has_leaderboard"] = True
        payloads = []
        if self.args.leaderboard == "full":
            payloads = [Payload(_file_of(key), board.csv, "text/csv")]
        yield from self._next(key, so_far, payloads)

    def no_board(self, key: str, so_far: dict[str, Any], reason: str) -> Output:
        """It cannot be had; the competition is told without it."""
        self._without("leaderboard", reason)
        final = so_far["final"] and reason in _FOR_GOOD
        so_far["board"] = Board(teams=0, derived=[], reason=reason, final=final)
        if so_far["record"]["has_leaderboard"] is None:
            so_far["record"]["has_leaderboard"] = False
        yield from self._next(key, so_far)

    def _next(
        self, key: str, so_far: dict[str, Any], payloads: list[Payload] | None = None
    ) -> Output:
        """The next thing that is missing, or the item."""
        so_far = {**so_far, "asks": so_far["asks"][1:]}
        if so_far["asks"]:
            yield self._ask(key, so_far)
        else:
            yield from self._settle(key, so_far, payloads)

    def _settle(
        self, key: str, so_far: dict[str, Any], payloads: list[Payload] | None = None
    ) -> Output:
        """All is there: the item, unless only changes are wanted and it is none."""
        if self._beyond_sample(key):
            return
        board = so_far.get("board") or Board(teams=0, derived=[], reason="", final=so_far["final"])
        record = with_sections(so_far["record"], so_far["overview"])
        item = Competition(**{**record, "board": board})
        if payloads:
            item.payloads = payloads  # type: ignore[attr-defined]
        known = None if self.refresh else self.ledger.known(key, self._version)
        same = known is not None and known.record_signature == so_far["said"]
        if same and self.ledger.record(key, self._version) == record_of(item):
            yield from self.again(key, self._version, item)
        else:
            yield item

    # -- decisions --------------------------------------------------------------------------------

    @property
    def page_place(self) -> str | None:
        """The folder of competitions.jsonl: that of the spider; for rows other than those of the
        whole list one in there, named after the arguments."""
        if self.args.slugs or self.args.sample or self.changed_only:
            return None
        narrowed = [f"{name}={value}" for name, value in self.args.narrowed().items()]
        return safe_name(quote(",".join(narrowed), safe="=, ")) if narrowed else ""

    @property
    def listing(self) -> str | None:
        """What narrows the list."""
        if self.args.slugs:
            return None
        given = self.args.narrowed()
        narrowed = {name: given[name] for name in ("source", "group", "since") if name in given}
        return json.dumps(narrowed) if narrowed else WHOLE_LIST

    @property
    def _version(self) -> str:
        """There is none of a competition; a record with its leaderboard is another than one
        without."""
        return self.args.leaderboard

    @cached_property
    def _met(self) -> set[str]:
        """Those of ``slugs`` that were in the table, in this run."""
        return set()

    @cached_property
    def _slugs(self) -> frozenset[str]:
        return frozenset(slug.casefold() for slug in self.args.slugs or ())

    def _unreadable(self, text: str, position: int | None) -> Output:
        key = f"unreadable:{text[:200]}"
        if self.accounts.discover(key, position):
            self.logger.warning("A row of the list cannot be read: %.200r", text)
            self.accounts.fail(key, UNREADABLE)
        return iter(())

    def _beyond_sample(self, key: str) -> bool:
        """Are there enough without it? Of one with a request of its own, the queue has seen to it;
        those that need none come many at a time."""
        lease = leases.current()
        if self.sample is None or lease is None or lease.key == key:
            return False
        if self._given[0] != lease.number:
            self._given = (lease.number, 0)
        if self.accounts.room(beside=self._given[1]):
            self._given = (lease.number, self._given[1] + 1)
            return False
        self.accounts.skip(key, BEYOND_SAMPLE)
        return True

    def _without(self, what: str, reason: str) -> None:
        self._count(f"kaggle/competitions/without_{what}/{reason}")
        self.accounts.note(f"without_{what}/{reason}")

    async def _file_is_there(self, key: str, record: dict[str, Any]) -> bool:
        """Is the whole board at its place, if it is wanted and there is one?"""
        if self.args.leaderboard != "full" or record["board"]["reason"]:
            return True
        place, bucket = f"{self.config.output(self.name)}/{_file_of(key)}", self.bucket
        if bucket is None:
            return (self.config.workspace / place).is_file()
        destination = self.config.destination
        assert destination is not None
        return await aside(partial(bucket.head, destination.key_of(place))) is not None

    def before_stopping(self, error: StopCrawl, request: Request) -> Request | None:
        """Before the crawl ends for a 401, Kaggle is asked something that it answers to everybody
        whom it knows: it may have been about this competition alone."""
        if not isinstance(error, CredentialsRefused) or not rpc.TABLE[request.meta["rpc"]].part:
            return None
        again = {"rpc": request.meta["rpc"], **request.cb_kwargs}
        return self._request(
            rpc.LIST_COMPETITIONS,
            {"page": 1},
            callback=self.answered,
            dont_filter=True,
            priority=NEXT_STEP_PRIORITY,
            meta={"key": request.meta["key"]},
            cb_kwargs={"again": again},
        )

    def answered(self, _: Response, again: dict[str, Any]) -> Output:
        """The credentials are good, so what was refused is asked for once more."""
        key = again["key"]
        yield self.fetch(
            rpc.TABLE[again["rpc"]],
            again["then"],
            key,
            again["row"],
            again=True,
            otherwise=again["otherwise"],
            competition_name=key,
        )


def _file_of(slug: str) -> str:
    """Where a whole leaderboard goes, below the spider's folder."""
    return f"leaderboard/{safe_name(f'{slug}.csv')}"


#: Pages by their names (kaggle-facts 2.1; some are seen with a capital).
_PAGES = {
    "description": "description",
    "evaluation": "evaluation",
    "data-description": "dataset_description",
    "dataset-description": "dataset_description",
}
#: Before the slug, in the job's count of those that were asked for and found.
_MET = "met/"
#: Why there is no leaderboard, where that will not change.
_FOR_GOOD = frozenset({"not_found", "forbidden", "refused"})
