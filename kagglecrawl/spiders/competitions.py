"""Competitions: Meta Kaggle's table → pages where it has none → leaderboard → the seed's record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import cached_property, partial
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from scrapy import Request

from kagglecrawl.items import Board, Competition, record_of
from kagglecrawl.kaggle import lenient, rpc
from kagglecrawl.kaggle.errors import UNAUTHORIZED
from kagglecrawl.kaggle.leaderboards import Board as Leaderboard
from kagglecrawl.kaggle.leaderboards import NoBoard, read_board
from kagglecrawl.kaggle.names import safe_name
from kagglecrawl.kaggle.paging import PageShape
from kagglecrawl.kaggle.refs import competition_slug
from kagglecrawl.metakaggle import cells
from kagglecrawl.metakaggle.table import Row
from kagglecrawl.pipelines.payloads import Payload
from kagglecrawl.spiders.base import Output
from kagglecrawl.spiders.competition_boards import (
    FOR_GOOD,
    HAS_ONE,
    MORE,
    file_of,
    fill_in,
    of_board,
)
from kagglecrawl.spiders.competition_heads import COLUMNS, Head, of_api, of_table, with_sections
from kagglecrawl.spiders.competitions_args import EVERYTHING, GROUPS, CompetitionsArguments
from kagglecrawl.spiders.doubting import DoubtingSpider
from kagglecrawl.spiders.tables import TableSpider
from kagglecrawl.state.accounts import UNREADABLE
from kagglecrawl.state.ledger import WHOLE_LIST
from kagglecrawl.transfer.disk import aside


class CompetitionsSpider(TableSpider, DoubtingSpider):
    """``scrapy crawl competitions``: no request for what Meta Kaggle has, one per leaderboard, and
    one for the pages of a competition whose Overview it lacks."""

    name = "competitions"
    item_class = Competition
    args_class = CompetitionsArguments
    args: CompetitionsArguments
    page_shape = PageShape.one_file("competitions.jsonl")
    tables = ("Competitions",)
    proof = rpc.LIST_COMPETITIONS

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
                yield self.fetch(rpc.GET_COMPETITION, "described", slug, **self.fields_of(slug))
        else:
            group = GROUPS[self.args.group or EVERYTHING]
            yield self.rows(rpc.LIST_COMPETITIONS, each="listed_row", paged=True, group=group)

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
        if number is None or number < 1 or row.broken == "cells":
            yield from self._unreadable(f"byte {row.offset} of the table", row.offset)
            return
        if row.broken:
            self._count(f"kaggle/competitions/rows/{row.broken}")
            self.logger.warning("%s: its row is not UTF-8, so some characters are lost", slug)
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
        version = self._version(key, said) if head.final else self._mode
        self.accounts.describe(key, version, said)
        so_far = {
            "version": version,
            "record": asdict(head.item),
            "overview": head.overview,
            "asks": asks,
            "is_max": head.is_max,
            "final": head.final,
            "said": said,
        }
        reserved = self.accounts.reserve(key)
        if not asks:
            if reserved:
                yield from self._settle(key, so_far)
            else:  # it has its turn when the sample wants more than the first
                yield self.recall("told", key, version, so_far)
            return
        anew = self._ask(key, so_far)
        if not head.final:  # teams still climb
            yield anew
        elif request := self.unless_known(key, version, said, so_far, "known", anew):
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
        return self.fetch(call, then, key, so_far, otherwise=otherwise, **self.fields_of(key))

    async def known(
        self, key: str, so_far: dict[str, Any], record: dict[str, Any] | None
    ) -> AsyncIterator[Any]:
        """The record that the ledger has of a competition that is over."""
        if record is None or not (record["board"] or {}).get("final"):
            yield self._ask(key, so_far)
        elif not await self._file_is_there(key, record):
            self.accounts.note("files_gone")
            yield self._ask(key, {**so_far, "gone": True})
        else:
            if reason := record["board"]["reason"]:
                self._without("leaderboard", reason)
            for item in self.again(key, so_far["version"], Competition(**record)):
                yield item

    async def told(self, key: str, so_far: dict[str, Any], _: Any) -> AsyncIterator[Any]:
        """A competition of which nothing need be asked, when its turn has come."""
        for item in self._settle(key, so_far):
            yield item

    def pages(self, key: str, so_far: dict[str, Any], reply: dict[str, Any]) -> Output:
        """ListCompetitionPages' reply."""
        always = self.args.pages_api == "always"
        fill_in(so_far["record"], lenient.rows(reply, rpc.LIST_COMPETITION_PAGES.rows), always)
        yield from self._next(key, so_far)

    def no_pages(self, key: str, so_far: dict[str, Any], reason: str) -> Output:
        """They cannot be had; the rest can."""
        self._without("pages", reason)
        so_far["final"] = so_far["final"] and reason != UNAUTHORIZED
        yield from self._next(key, so_far)

    async def board(self, key: str, so_far: dict[str, Any], reply: bytes) -> AsyncIterator[Any]:
        """DownloadLeaderboard's reply, a zip with a CSV. A large one takes seconds to read."""
        try:
            async with self._reading:
                board = await aside(partial(read_board, reply, is_max=so_far["is_max"]))
        except NoBoard as error:
            self.logger.warning("No leaderboard of %s: %s", key, error)
            outputs = self.no_board(key, so_far, error.slug, error.csv)
        else:
            if self.changed_only and not await self._is_in_store(key, len(board.csv)):
                so_far = {**so_far, "gone": True}
            outputs = self._had(key, so_far, board)
        for output in outputs:
            yield output

    def _had(self, key: str, so_far: dict[str, Any], board: Leaderboard) -> Output:
        """There is one."""
        if board.unread:
            self._count("kaggle/competitions/leaderboard_rows_unread", board.unread)
            self.logger.warning("%s: %d rows of its board cannot be read", key, board.unread)
        if board.derived:
            self._count("kaggle/competitions/leaderboards_derived")
            fields = " and ".join(board.derived)
            self.logger.info("%s: %s are not in its leaderboard, but derived", key, fields)
        record = so_far["record"]
        record["leaderboard_top100"] = board.top
        so_far["board"] = of_board(so_far["final"], teams=board.teams, derived=board.derived)
        if record["has_leaderboard"] is None:
            record["has_leaderboard"] = True
        yield from self._next(key, so_far, self._payloads(key, so_far, board.csv))

    def no_board(
        self, key: str, so_far: dict[str, Any], reason: str, content: bytes = b""
    ) -> Output:
        """It cannot be had, or its ``content`` has no order; the competition is told without it."""
        self._without("leaderboard", reason)
        final = so_far["final"] and reason in FOR_GOOD
        so_far["board"] = of_board(final, reason=reason)
        if so_far["record"]["has_leaderboard"] is None:
            so_far["record"]["has_leaderboard"] = HAS_ONE.get(reason)
        yield from self._next(key, so_far, self._payloads(key, so_far, content))

    def _payloads(self, key: str, so_far: dict[str, Any], content: bytes) -> list[Payload]:
        """The whole board as a file, if it is wanted."""
        if self.args.leaderboard != "full" or not content:
            return []
        so_far["board"].update(bytes=len(content), sha256=sha256(content).hexdigest())
        self.accounts.note("files_stored")
        self.accounts.note("bytes_stored", len(content))
        return [Payload(file_of(key), content, "text/csv")]

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
        board = so_far.get("board") or of_board(so_far["final"])
        record = with_sections(so_far["record"], so_far["overview"])
        item = Competition(**{**record, "board": board})
        if payloads:
            item.payloads = payloads  # type: ignore[attr-defined]
        version = so_far["version"]
        known = None if self.refresh else self.ledger.known(key, version)
        same = known is not None and known.record_signature == so_far["said"]
        if payloads and self.bucket is None:  # its file may have been removed, or cut
            same = same and self._is_on_disk(key, board)
        same = same and "gone" not in so_far
        if same and self.ledger.record(key, version) == record_of(item):
            yield from self.again(key, version, item)
        else:
            yield item

    # -- decisions --------------------------------------------------------------------------------

    @property
    def page_place(self) -> str | None:
        """The folder of competitions.jsonl: that of the spider; for rows other than those of the
        whole list one in there, named after the arguments."""
        if self.args.slugs or self.args.sample or self.changed_only:
            return None
        given = self.args.narrowed()
        words = {name: "true" if value is True else value for name, value in given.items()}
        narrowed = [f"{name}={word}" for name, word in words.items()]
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
    def _mode(self) -> str:
        """What stands for a version, which competitions do not have: a record with its leaderboard
        is another one than without."""
        return f"{self.args.leaderboard}{', all' if self.args.all_leaderboards else ''}"

    def _version(self, key: str, said: str) -> str:
        """The same, or that of another record with all that is wanted."""
        for mode in (self._mode, *MORE.get(self._mode, ())):
            known = self.ledger.known(key, mode)
            if known is not None and known.record_signature == said:
                return mode
        return self._mode

    def _place(self, key: str) -> str:
        """Where a whole leaderboard goes: below the workspace, or as a URI."""
        return f"{self.config.output(self.name)}/{file_of(key)}"

    @cached_property
    def _reading(self) -> asyncio.Lock:
        """Leaderboards are read one after the other: a large one takes much memory."""
        return asyncio.Lock()

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

    def _without(self, what: str, reason: str) -> None:
        self._count(f"kaggle/competitions/without_{what}/{reason}")
        self.accounts.note(f"without_{what}/{reason}")

    async def _file_is_there(self, key: str, record: dict[str, Any]) -> bool:
        """Is the whole board at its place, if it is wanted and there is one?"""
        if self.args.leaderboard != "full" or not record["board"]["bytes"]:
            return True
        return await self.is_stored(file_of(key), record["board"]["bytes"])

    async def _is_in_store(self, key: str, size: int) -> bool:
        """True as well where there is no store, or no board goes there."""
        bucket, destination = self.bucket, self.config.destination
        if bucket is None or destination is None or self.args.leaderboard != "full":
            return True
        found = await aside(partial(bucket.head, destination.key_of(self._place(key))))
        return found is not None and found.size == size

    def _is_on_disk(self, key: str, board: Board) -> bool:
        try:
            return (self.config.workspace / self._place(key)).stat().st_size == board["bytes"]
        except OSError:
            return False

    def fields_of(self, key: str) -> dict[str, Any]:
        """Calls name a competition by its slug."""
        return {"competition_name": key}


#: Before the slug, in the job's count of those that were asked for and found.
_MET = "met/"
