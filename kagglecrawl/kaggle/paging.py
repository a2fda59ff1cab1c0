"""How a list is walked: by token where the server hands out tokens, by page number where not.

What Kaggle does when ``page`` is left out is unknown, so both are read off the answers
(kaggle-facts 0.3): the first request leaves ``page`` out and asks for the largest page. An answer
with a ``nextPageToken`` goes on by token. One without goes on by page number, where a page is 20
rows whatever is asked for (reported three times), unless the answers show otherwise.

In page mode only an empty page is the end: a short one is not (rows are filtered after paging).
An empty page at row 10,000 is Kaggle's cap, not the end (reported 2019, 2024, 2026).

A cursor is small, JSON-able and knows nothing of requests: it travels with the list request.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Self

#: Rows of a page in the seeds' sense, and of Kaggle's page mode.
PAGE_ROWS = 20
#: The list row at which Kaggle's page mode stops answering.
CAP_ROWS = 10_000
#: More rows than any list has, and no more than SQLite can count.
_ALL_ROWS = 1 << 62
#: Pages in a row that could not be had after which the rest of a list is given up.
LOST_PAGES = 3
#: Pages in a row with nothing new on them after which a list is taken to go round in circles.
STALE_PAGES = 5


@dataclass(frozen=True)
class PageShape:
    """How the rows of a list become page files: so many to each, the files of this name, in which
    ``{}`` stands for the page's number, counted from 1. Without one, all rows are one file."""

    name: str = "page_{}.jsonl"
    rows: int = PAGE_ROWS

    @classmethod
    def one_file(cls, name: str) -> Self:
        """All rows of the list in one file."""
        return cls(name, _ALL_ROWS)

    @property
    def whole(self) -> bool:
        """Is it one file?"""
        return self.rows == _ALL_ROWS

    def name_of(self, number: int) -> str:
        """The name of a page's file."""
        return self.name.format(number)

    def number_of(self, name: str) -> int | None:
        """Which page a file is, by its name; None if it is none."""
        if self.whole:
            return 1 if name == self.name else None
        head, _, tail = self.name.partition("{}")
        match = re.fullmatch(rf"{re.escape(head)}([1-9]\d*){re.escape(tail)}", name)
        return int(match[1]) if match else None


class End(StrEnum):
    """Why a list is over."""

    LAST = "end"
    CAP = "cap"
    RANGE = "range"
    CIRCLE = "circle"


@dataclass(frozen=True)
class Findings:
    """What `scrapy doctor` found of one list; None is unknown.

    ``tokens``: it hands out page tokens. ``page_size``: the most rows it gave without ``page``.
    ``page_rows``: the rows of a page when ``page`` is set.
    """

    tokens: bool | None = None
    page_size: int | None = None
    page_rows: int | None = None


@dataclass(frozen=True)
class Cursor:
    """Where a walk stands: the next request's paging fields, and the list row it begins at.

    ``start`` counts list rows from 0; rows from ``first`` on are wanted, up to ``stop`` (0: to
    the end). ``rows`` is the page size to ask for, ``stale`` how many pages in a row held nothing
    new, ``lost`` how many in a row could not be had.
    """

    mode: str
    rows: int
    start: int = 0
    first: int = 0
    stop: int = 0
    page: int = 0
    token: str = ""
    stale: int = 0
    expect_tokens: bool = False
    page_rows: int = 0
    lost: int = 0

    @classmethod
    def begin(cls, best: int, found: Findings, first_page: int = 1, last_page: int = 0) -> Self:
        """The first request of a walk over the seeds' pages ``first_page``…``last_page`` (0: all).

        ``best`` is the largest page worth asking for. A range that begins later than page 1 is
        asked for by number, unless walking there by token is known to be cheaper.
        """
        first, stop = (first_page - 1) * PAGE_ROWS, last_page * PAGE_ROWS
        size = min(best, found.page_size or best)
        span = found.page_rows or PAGE_ROWS
        probe_is_better = found.tokens is not False or (found.page_size or 0) > span
        page = first // span + 1
        by_token, by_page = -(-stop // size), -(-stop // span) - (page - 1)
        cheaper_by_page = bool(stop) and by_page < by_token
        by_number = found.tokens is not True and first_page > 1
        if by_number or cheaper_by_page or not probe_is_better:
            walk = cls("page", span, start=(page - 1) * span, page=page)
        else:
            walk = cls("probe", min(size, stop) if stop else size)
        return replace(
            walk,
            first=first,
            stop=stop,
            expect_tokens=bool(found.tokens),
            page_rows=found.page_rows or 0,
        )

    def skip(self) -> Cursor | None:
        """What comes after a page that could not be had; None where only that page could tell."""
        if self.mode != "page" or self.lost + 1 >= LOST_PAGES:
            return None
        following = self._numbered(self.rows, self.start + self.rows, self.stale)
        return replace(following, lost=self.lost + 1) if isinstance(following, Cursor) else None

    def fields(self) -> dict[str, Any]:
        """kagglesdk's field names and values for the next request."""
        fields: dict[str, Any] = {"page_size": self.rows}
        if self.mode == "page":
            fields["page"] = self.page
        elif self.mode == "token":
            fields["page_token"] = self.token
        return fields

    def advance(self, rows: int, fresh: int, token: str) -> Cursor | End:
        """What comes after an answer with ``rows`` rows, ``fresh`` of them not seen before."""
        after = self.start + rows
        stale = 0 if fresh else self.stale + 1
        if self.mode != "page" and token:
            if stale >= STALE_PAGES or token == self.token:
                return End.CIRCLE
            following = replace(self, mode="token", token=token, start=after, stale=stale, page=0)
            return End.RANGE if self._past(after) else following
        if self.mode == "token" or (self.mode == "probe" and self._whole_list(rows)):
            return End.CAP if after == CAP_ROWS else End.LAST
        if self.mode == "probe":
            return self._probed(rows)
        if not rows:
            return End.CAP if self.start >= CAP_ROWS else End.LAST
        if stale >= STALE_PAGES:
            return End.CIRCLE
        smaller = max(PAGE_ROWS, -(-rows // 10) * 10)
        if self.page == 2 and fresh < rows and smaller < self.rows:
            # Asked for pages as large as the first answer, got small ones: number by those. Rows
            # may be filtered after paging, and page sizes are round numbers.
            return self._numbered(smaller, self.start, stale)
        return self._numbered(self.rows, self.start + self.rows, stale)

    def _whole_list(self, rows: int) -> bool:
        """Is a first answer without a token all there is?

        Where tokens are known to be handed out, yes, unless it is exactly a full page: then the
        finding may be out of date.
        """
        full = rows in {self.rows, self.page_rows or PAGE_ROWS}
        return not rows or (self.expect_tokens and not full)

    def _probed(self, rows: int) -> Cursor | End:
        """Go on by number after a first answer without a token."""
        span = self.page_rows or max(rows, PAGE_ROWS)
        return self._numbered(span, max(rows, span), 0)

    def _numbered(self, span: int, after: int, stale: int) -> Cursor | End:
        page = after // span + 1
        start = (page - 1) * span
        if self._past(start):
            return End.RANGE
        return replace(
            self, mode="page", rows=span, page=page, start=start, stale=stale, token="", lost=0
        )

    def _past(self, row: int) -> bool:
        return bool(self.stop) and row >= self.stop

    def to_json(self) -> dict[str, Any]:
        """As a JSON-able dict, for a request's ``cb_kwargs``."""
        return asdict(self)
