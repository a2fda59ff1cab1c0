"""The walk over a list, against simulated servers of every kind that was ever reported."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglecrawl.kaggle.paging import CAP_ROWS, PAGE_ROWS, Cursor, End, Findings

BEST = 200
Fields = dict[str, Any]
Serve = Callable[[Fields], tuple[list[int], str]]


@dataclass
class Server:
    """A list of ``total`` rows, numbered from 0.

    Without ``page`` it gives at most ``size`` rows, and a token for more if it has ``tokens``.
    With ``page`` it gives pages of ``page_rows``, or of what is asked for up to that if it
    ``honours`` it; nothing from row ``cap`` on. ``hidden`` rows are taken out of a page after it
    was cut. Before request n, ``inserted[n]`` new rows (negative numbers) are put on top.
    """

    total: int
    size: int
    page_rows: int
    tokens: bool = False
    honours: bool = False
    cap: int | None = None
    hidden: set[int] = field(default_factory=set)
    inserted: Sequence[int] = ()
    _asked: int = field(default=0, init=False)
    _on_top: int = field(default=0, init=False)

    def __call__(self, fields: Fields) -> tuple[list[int], str]:
        if self._asked < len(self.inserted):
            self._on_top += self.inserted[self._asked]
        self._asked += 1
        if "page" in fields:
            size = min(fields["page_size"], self.page_rows) if self.honours else self.page_rows
            begin = (fields["page"] - 1) * size
            if self.cap is not None and begin >= self.cap:
                return [], ""
            return self._cut(begin, begin + size), ""
        begin = int(fields.get("page_token") or 0)
        end = begin + min(fields["page_size"], self.size)
        more = self.tokens and end < self.total + self._on_top
        return self._cut(begin, end), str(end) if more else ""

    def _cut(self, begin: int, end: int) -> list[int]:
        rows = range(begin - self._on_top, min(end - self._on_top, self.total))
        return [row for row in rows if row not in self.hidden]

    @property
    def findings(self) -> Findings:
        """What a doctor would find of it."""
        return Findings(self.tokens, self.size, self.page_rows)

    @property
    def ideal(self) -> int:
        """The fewest requests that can be sure to have seen the whole list."""
        rows = self.total + sum(self.inserted)
        if self.tokens:
            return max(1, -(-rows // min(self.size, BEST)))
        # one more than pages with rows: only an empty page is the end
        first = min(self.size, BEST)
        return 1 + -(-max(0, rows - first) // min(self.page_rows, BEST)) + (rows > 0)


@dataclass
class Walk:
    """What came of a walk."""

    rows: set[int]
    asked: list[Fields]
    end: End


def walk(serve: Serve, found: Findings | None = None, first: int = 1, last: int = 0) -> Walk:
    """Walk as the spiders do: rows outside of the range are not looked at and pass for new."""
    cursor = Cursor.begin(BEST, found or Findings(), first, last)
    rows: set[int] = set()
    asked: list[Fields] = []
    while True:
        asked.append(cursor.fields())
        assert len(asked) <= 2_000, "the walk does not end"
        answer, token = serve(cursor.fields())
        fresh = 0
        for position, row in enumerate(answer, cursor.start):
            if position < cursor.first or (cursor.stop and position >= cursor.stop):
                fresh += 1
            elif row not in rows:
                rows.add(row)
                fresh += 1
        after = cursor.advance(len(answer), fresh, token)
        if isinstance(after, End):
            return Walk(rows, asked, after)
        # A cursor travels as JSON.
        cursor = Cursor(**json.loads(json.dumps(after.to_json())))
        assert cursor == after


totals = st.one_of(
    st.integers(0, 1_500), st.sampled_from([0, 1, 19, 20, 21, 199, 200, 201, 400, 401, 2_000])
)
#: Page sizes are round numbers: the walk counts on it where rows are hidden.
sizes = st.integers(2, 25).map(lambda tens: 10 * tens)


@st.composite
def servers(draw: st.DrawFn, smallest: int = 1) -> Server:
    """Token servers, legacy ones, and those that honour a page size in one mode or in both."""
    kind = draw(st.sampled_from(["token", "legacy", "honouring", "first only"]))
    total = draw(totals)
    if kind == "token":
        return Server(total, draw(st.integers(smallest, 250)), PAGE_ROWS, tokens=True)
    if kind == "legacy":
        return Server(total, PAGE_ROWS, PAGE_ROWS)
    size = draw(sizes)
    if kind == "honouring":
        return Server(total, size, size, honours=True)
    return Server(total, size, PAGE_ROWS)


@given(servers())
@settings(max_examples=300)
def test_every_row_is_visited_for_few_requests(server: Server) -> None:
    done = walk(server)
    assert done.rows == set(range(server.total))
    assert done.end is End.LAST
    # Scrapy's duplicate filter would end the walk at a request that was made before.
    assert len({json.dumps(fields) for fields in done.asked}) == len(done.asked)
    # A guess at the page size may be wrong once, a short token list is asked for its second page.
    assert len(done.asked) <= server.ideal + 3


@pytest.mark.parametrize(
    ("server", "requests"),
    [
        (Server(0, 20, 20), 1),
        (Server(15, 20, 20), 2),
        (Server(240, 20, 20), 13),
        (Server(1_000, 200, 200, honours=True), 6),
        (Server(1_000, 200, 20, tokens=True), 5),
        (Server(1_001, 100, 20, tokens=True), 11),
        # 200 rows at once, one page to see that pages are small, 40 of those, and the empty one
        (Server(1_000, 200, 20), 43),
    ],
)
def test_what_a_walk_costs(server: Server, requests: int) -> None:
    assert len(walk(server).asked) == requests


@given(servers(smallest=PAGE_ROWS), st.lists(st.integers(0, 6), max_size=8))
@settings(max_examples=200)
def test_rows_that_move_down_between_pages_are_not_lost(
    server: Server, inserted: list[int]
) -> None:
    server.inserted = [0, *inserted]
    done = walk(server)
    assert set(range(server.total)) <= done.rows
    assert done.end is End.LAST
    assert len(done.asked) <= server.ideal + 4


@given(servers(smallest=PAGE_ROWS), st.sets(st.integers(0, 1_500), max_size=400), st.booleans())
@settings(max_examples=300)
def test_rows_hidden_from_a_page_do_not_end_or_misplace_the_walk(
    server: Server, hidden: set[int], dense: bool
) -> None:
    # dense: half of page 2 is hidden, so that its length says nothing of the page size.
    # One row of twenty stays: an empty page is an end in page mode, and cannot be told apart.
    gone = hidden | set(range(20, 30)) if dense else hidden
    server.hidden = {row for row in gone if row % PAGE_ROWS}
    assert walk(server).rows == set(range(server.total)) - server.hidden


def test_a_list_reordered_after_the_first_answer_is_walked_on() -> None:
    """One new row on page 2 must not hide that pages are 20 rows there."""
    server = Server(1_000, 200, 20)

    def serve(fields: Fields) -> tuple[list[int], str]:
        rows, token = server(fields)
        return ([777, *rows[1:]] if fields.get("page") == 2 else rows), token

    assert set(range(1_000)) - {20} <= walk(serve).rows


def test_the_last_rows_seen_again_do_not_shrink_the_pages() -> None:
    """20 rows, one is inserted: page 2 holds one row, and that was seen on page 1."""
    done = walk(Server(20, 20, 20, inserted=[0, 1]))
    assert {fields["page_size"] for fields in done.asked[1:]} == {PAGE_ROWS}


@given(servers(), st.integers(1, 30), st.integers(0, 12) | st.none())
@settings(max_examples=300)
def test_a_range_of_pages_is_exactly_its_rows(server: Server, first: int, more: int | None) -> None:
    last = 0 if more is None else first + more
    stop = min(last * PAGE_ROWS or server.total, server.total)
    wanted = set(range((first - 1) * PAGE_ROWS, stop))
    unknown, known = walk(server, None, first, last), walk(server, server.findings, first, last)
    assert unknown.rows == wanted
    assert known.rows == wanted
    assert {unknown.end, known.end} <= {End.RANGE, End.LAST}


@pytest.mark.parametrize("size", [30, 50, 100, 190])
@pytest.mark.parametrize("last", range(1, 13))
def test_a_range_is_exact_where_pages_turn_out_smaller_than_the_first_answer(
    size: int, last: int
) -> None:
    assert walk(Server(1_000, size, 20), None, 1, last).rows == set(range(last * PAGE_ROWS))


@pytest.mark.parametrize(
    ("server", "first", "last", "requests"),
    [
        (Server(5_000, 20, 20), 1, 1, 1),
        (Server(5_000, 20, 20), 101, 103, 3),
        (Server(5_000, 200, 20, tokens=True), 1, 10, 1),
        (Server(5_000, 200, 20, tokens=True), 1, 15, 2),
        (Server(5_000, 200, 20, tokens=True), 200, 200, 1),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_what_a_range_costs(
    server: Server, first: int, last: int, requests: int, known: bool
) -> None:
    assert len(walk(server, server.findings if known else None, first, last).asked) == requests


@given(servers())
@settings(max_examples=300)
def test_right_findings_lose_no_row_and_never_cost_more(server: Server) -> None:
    without, done = walk(server), walk(server, server.findings)
    assert done.rows == set(range(server.total))
    assert done.end is End.LAST
    assert len(done.asked) <= len(without.asked)


def test_findings_save_the_guesses() -> None:
    short = Server(150, 200, 20, tokens=True)
    assert (len(walk(short).asked), len(walk(short, short.findings).asked)) == (4, 1)


@pytest.mark.parametrize("total", [20, 150, 200, 1_000])
@pytest.mark.parametrize(
    "server",
    [Server(0, 20, 20), Server(0, 200, 200, honours=True), Server(0, 200, 20)],
    ids=["legacy", "honouring", "first only"],
)
def test_findings_out_of_date_do_not_end_a_list_early(server: Server, total: int) -> None:
    """Tokens were found once and are gone: a full answer without one is not the list's end."""
    aged = replace(server, total=total)
    assert walk(aged, Findings(True, 200, 20)).rows == set(range(total))


@pytest.mark.parametrize("rows", [1, 5, 20, 50, 200])
def test_the_same_page_for_ever_is_a_circle(rows: int) -> None:
    done = walk(lambda _: (list(range(rows)), ""))
    assert done.end is End.CIRCLE
    assert len(done.asked) <= 7
    assert done.rows == set(range(rows))


def test_the_same_token_again_is_a_circle() -> None:
    done = walk(lambda _: (list(range(20)), "A"))
    assert (done.end, len(done.asked)) == (End.CIRCLE, 2)


def test_tokens_that_go_round_are_a_circle() -> None:
    tokens = {None: "A", "A": "B", "B": "A"}
    done = walk(lambda fields: (list(range(20)), tokens[fields.get("page_token")]))
    assert done.end is End.CIRCLE
    assert len(done.asked) <= 6


def test_empty_token_pages_do_not_end_a_list() -> None:
    """Rows are filtered after paging: a page may have none, and yet a next one."""
    pages = {"": ([0, 1], "a"), "a": ([], "b"), "b": ([], "c"), "c": ([2], "")}
    done = walk(lambda fields: pages[fields.get("page_token", "")])
    assert (done.rows, done.end) == ({0, 1, 2}, End.LAST)


@pytest.mark.parametrize(
    "server",
    [
        Server(CAP_ROWS, 20, 20, cap=CAP_ROWS),
        Server(CAP_ROWS, 200, 20, cap=CAP_ROWS),
        Server(CAP_ROWS, 200, 200, honours=True, cap=CAP_ROWS),
        Server(CAP_ROWS, 200, 20, tokens=True),
    ],
    ids=["legacy", "first only", "honouring", "token"],
)
def test_row_10_000_is_the_cap_and_not_the_end(server: Server) -> None:
    done = walk(server)
    assert done.end is End.CAP
    assert done.rows == set(range(CAP_ROWS))


def test_a_range_beyond_the_cap_says_so() -> None:
    server = Server(12_000, 20, 20, cap=CAP_ROWS)
    for first, last in itertools.product([499, 501, 510], [0, 520]):
        done = walk(server, None, first, last)
        assert done.end is End.CAP
        assert done.rows == set(range((first - 1) * PAGE_ROWS, CAP_ROWS))


def test_a_list_that_ends_before_the_cap_has_ended() -> None:
    assert walk(Server(CAP_ROWS - PAGE_ROWS, 20, 20, cap=CAP_ROWS)).end is End.LAST


def test_what_is_asked_for() -> None:
    """kagglesdk's names; ``page`` and ``page_token`` never together."""
    assert Cursor.begin(200, Findings()).fields() == {"page_size": 200}
    assert Cursor.begin(200, Findings(), 3, 7).fields() == {"page_size": 20, "page": 3}
    token = Cursor.begin(200, Findings()).advance(200, 200, "t")
    assert isinstance(token, Cursor)
    assert token.fields() == {"page_size": 200, "page_token": "t"}


def test_a_page_that_cannot_be_had_is_passed_over_by_number_only() -> None:
    by_number = Cursor("page", PAGE_ROWS, start=60, page=4)
    after = by_number.skip()
    assert after is not None
    assert (after.page, after.start, after.lost) == (5, 80, 1)
    found = after.advance(PAGE_ROWS, PAGE_ROWS, "")
    assert isinstance(found, Cursor)
    assert (found.page, found.lost) == (6, 0)
    twice = after.skip()
    assert twice is not None
    assert twice.skip() is None, "three in a row are the end"
    assert Cursor("token", 200, token="x").skip() is None
    assert Cursor("probe", 200).skip() is None
    assert Cursor("page", PAGE_ROWS, start=60, page=4, stop=80).skip() is None
