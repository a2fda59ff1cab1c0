"""A competition's whole leaderboard, as ``DownloadLeaderboard`` brings it: a zip with one CSV.

Today's boards have ``Rank`` and ``SubmissionCount``, in the order of neither. Those until 2023 have
``TeamId,TeamName,SubmissionDate,Score`` alone, in no order, and mostly a row for each submission by
which a team improved (real-data-quirks 14): what such a board does not say is derived from its
rows, and the board says what was. Nothing here asks anybody for anything.
"""

from __future__ import annotations

import csv
import heapq
import io
import math
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple, TypedDict

#: Bytes of CSV beyond which it is no leaderboard: a row of 200 bytes for a million teams.
MOST_BYTES = 256 << 20
#: How columns are called, by the letters and digits of their names.
_NAMES = {
    "rank": ("rank",),
    "id": ("teamid",),
    "team": ("teamname", "team"),
    "score": ("score",),
    "submissions": ("submissioncount",),
    "date": ("lastsubmissiondate", "submissiondate"),
}
#: A direction is believed if it is that of so large a share of the teams that show one.
_AGREED = 0.9
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_UNORDERED = "unordered_leaderboard"
#: Rows that may be unlike the header.
_MOST_UNREAD = 10_000
_BLANKS = b" \t\r\n\0\xef\xbb\xbf"
#: How much of a file is looked at to tell what it is, in bytes.
_HEAD = 4096
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,6})?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"(\d{1,15})(\.0*)?", re.ASCII)
#: Characters of a number; what is longer is a text.
_LONGEST = 100
_US_DATE = re.compile(
    r"(\d{1,2})/(\d{1,2})/(\d{4})(?: (\d{1,2}):(\d\d)(?::(\d\d))?(?: ?([AP])M)?)?",
    re.ASCII | re.IGNORECASE,
)
#: Bytes that are no UTF-8 (as ``surrogateescape`` has them) are read as Latin-1.
_LATIN_1 = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}


class Entry(TypedDict):
    """A team on the board, in the names of the feed.

    ``Score`` is exactly what the file says: a number if a JSON number can be that, else the text
    itself; None if there is none.
    """

    Rank: int
    Team: str
    Score: int | float | str | None
    SubmissionCount: int


@dataclass(frozen=True)
class Board:
    """A leaderboard."""

    top: list[Entry]
    """By rank, at most as many as were asked for."""
    teams: int
    """How many teams the whole board ranks. Benchmarks (rank 0) are none, nor are teams that a
    board without ranks gives no score."""
    derived: tuple[str, ...]
    """Which of ``Rank`` and ``SubmissionCount`` the file does not say, so that they were derived
    from its rows."""
    csv: bytes = field(repr=False)
    """The whole CSV exactly as Kaggle sent it."""
    unread: int = 0
    """Rows that were left out, since they have another number of cells than the header, or no
    team."""


class NoBoard(Exception):
    """There is no leaderboard in what was sent. ``slug`` names the reason, ``str()`` is for people:
    ``empty_leaderboard``, ``bad_leaderboard``, or ``unordered_leaderboard`` (scores alone, and
    nothing that says whether high or low ones are better)."""

    #: The CSV exactly as Kaggle sent it, of one that has no order.
    csv = b""

    def __init__(self, message: str, slug: str) -> None:
        super().__init__(message)
        self.slug = slug


def read_board(content: bytes, *, most: int = 100, is_max: bool | None = None) -> Board:
    """Read the zip that ``DownloadLeaderboard`` brought, or a bare CSV.

    ``most`` is how many teams ``top`` may have. ``is_max`` says whether high scores are the better
    ones; it is needed only where the file has no ranks, and None has it told by the rows within
    teams, which are improvements. There, of a team its best row counts, equal scores are ordered
    by the earlier submission, and ranks are 1, 2, 3 … without sharing, as Kaggle does it.

    Reading takes a few times the memory of ``top``, and without ``Rank`` or ``SubmissionCount``
    that of one entry a team. Raises ``NoBoard``, also for more than ``MOST_BYTES`` of CSV.
    """
    content = csv_of(content)
    if len(content) > MOST_BYTES:
        raise _bad(f"it has more than {MOST_BYTES >> 20} MiB")
    head = content[:_HEAD].strip(_BLANKS)
    if not head:
        raise NoBoard("The leaderboard is empty.", "empty_leaderboard")
    if head.startswith(b"<"):
        raise _bad("it is HTML or XML")
    table = _Table(content)
    try:
        if "rank" not in table.columns:
            board = _derived(table, most, is_max)
        elif "submissions" in table.columns:
            board = _said(table, most)
        else:
            board = _counted(table, most)
    except csv.Error as error:  # a cell without end
        raise _bad(f"its CSV is broken ({error})") from None
    except NoBoard as error:
        if error.slug == _UNORDERED:
            error.csv = content
        raise
    if table.unread and not table.rows:
        raise _bad("no row of it has as many cells as its header, and a team")
    return board


def _bad(why: str) -> NoBoard:
    return NoBoard(f"What was sent is no leaderboard: {why}.", "bad_leaderboard")


# -- the file --------------------------------------------------------------------------------------


def csv_of(content: bytes) -> bytes:
    """The file in an answer, which may be a zip or not. Raises ``NoBoard``."""
    return _csv_in(content) if content.startswith(_ZIP) else content


def _csv_in(content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [each for each in archive.infolist() if not each.is_dir()]
            if not files:
                raise NoBoard("The leaderboard's zip is empty.", "empty_leaderboard")
            member = min(files, key=_preference)
            if member.flag_bits & 1:
                raise _bad("its zip is encrypted")
            with archive.open(member) as file:
                return file.read(MOST_BYTES + 1)  # no more, whatever the zip says of its size
    except NoBoard:
        raise
    except Exception as error:  # zipfile lets through whatever its parts raise
        raise _bad(f"its zip is damaged ({type(error).__name__})") from None


def _preference(member: zipfile.ZipInfo) -> tuple[bool, bool, bool]:
    name = member.filename.lower()
    return not name.endswith(".csv"), name.startswith("__macosx/"), "public" not in name


class _Line(NamedTuple):
    """A row's cells; ``""`` where the file has no such column."""

    number: int
    rank: str
    id: str
    team: str
    score: str
    submissions: str
    date: str


class _Table:
    """Iterates the rows of a CSV with a header, anew each time. ``rows`` and ``unread`` count those
    of the latest time."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._spaced = False
        try:
            header = next(filter(None, self._read()), [])
            # where names follow a space so do cells, and their quotes
            self._spaced = any(name.startswith(" ") for name in header[1:])
            header = next(filter(None, self._read()), [])
        except csv.Error as error:
            raise _bad(f"its header is broken ({error})") from None
        names = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
        found = {
            column: next((names.index(name) for name in spellings if name in names), -1)
            for column, spellings in _NAMES.items()
        }
        self._width = len(header)
        self._places = [found[column] for column in _Line._fields if column in found]
        #: Those of ours that the file has.
        self.columns = {column for column, place in found.items() if place >= 0}
        if not self.columns & {"id", "team"} and "rank" not in self.columns:
            raise _bad("its header names neither a team nor a rank")
        if not self.columns & {"score", "rank"}:
            raise _bad("its header names neither a score nor a rank")
        self.rows = self.unread = 0

    def __iter__(self) -> Iterator[_Line]:
        self.rows = self.unread = 0
        nameless = not self.columns & {"id", "team"}
        lines = self._read()
        next(filter(None, lines))
        blank = 0
        for cells in lines:
            if not cells:
                blank += 1
                if blank > _MOST_UNREAD:
                    raise _bad("it is mostly blank lines")
                continue
            if len(cells) != self._width:
                if any("\n" in cell for cell in cells):
                    raise _bad("it has a quote that does not end where its cell ends")
                self._leave_out()
                continue
            found = ["" if place < 0 else cells[place] for place in self._places]
            line = _Line(self.rows, *found)
            if not (nameless or line.id.strip() or line.team.strip()):
                self._leave_out()
                continue
            self.rows += 1
            yield line

    def _leave_out(self) -> None:
        self.unread += 1
        if self.unread > _MOST_UNREAD:
            raise _bad("most of its rows are not like its header")

    def team(self, line: _Line) -> str | int:
        """What tells a team from others; of a file that names none each row is one."""
        return line.id.strip() or line.team.strip() or line.number

    def board(self, top: Sequence[_Ranked], teams: int, derived: tuple[str, ...]) -> Board:
        """The board of what was found in the rows."""
        entries: list[Entry] = [
            {
                "Rank": each.rank,
                "Team": each.line.team if "team" in self.columns else each.line.id,
                "Score": _score(each.line.score),
                "SubmissionCount": each.submissions,
            }
            for each in top
        ]
        return Board(entries, teams, derived, self._content, self.unread)

    def _read(self) -> Iterator[list[str]]:
        text = io.TextIOWrapper(
            io.BytesIO(self._content), encoding="utf-8-sig", errors="surrogateescape", newline=""
        )
        whole = (line if line.isascii() else line.translate(_LATIN_1) for line in text)
        return csv.reader(whole, skipinitialspace=self._spaced)


# -- ranks -----------------------------------------------------------------------------------------


class _Ranked(NamedTuple):
    rank: int
    line: _Line
    submissions: int


def _said(table: _Table, most: int) -> Board:
    """The file says it all."""
    teams = 0

    def ranked() -> Iterator[_Ranked]:
        nonlocal teams
        for line in table:
            if rank := _whole(line.rank):
                teams += 1
                yield _Ranked(rank, line, _whole(line.submissions))

    top = heapq.nsmallest(max(1, most), ranked())  # for 0 it would read nothing
    return table.board(top[:most], teams, ())


def _counted(table: _Table, most: int) -> Board:
    """The file says the ranks alone."""
    counts: Counter[str | int] = Counter()
    best: dict[str | int, tuple[int, _Line]] = {}
    for line in table:
        team = table.team(line)
        counts[team] += 1
        rank = _whole(line.rank)
        if rank and (team not in best or rank < best[team][0]):
            best[team] = rank, line
    every = (_Ranked(rank, line, counts[team]) for team, (rank, line) in best.items())
    return table.board(heapq.nsmallest(most, every), len(best), ("SubmissionCount",))


class _Row(NamedTuple):
    score: Decimal
    when: datetime
    line: _Line


@dataclass
class _Team:
    """What a board without ranks has of a team: its rows counted, the best and the worst of those
    with a score (the earliest of equal ones), and the first and the last of them by date."""

    rows: int = 0
    submissions: int = 0
    high: _Row | None = None
    low: _Row | None = None
    first: _Row | None = None
    last: _Row | None = None

    def add(self, line: _Line) -> None:
        self.rows += 1
        self.submissions = max(self.submissions, _whole(line.submissions))
        score = _number(line.score)
        if score is None:
            return
        row = _Row(score, _moment(line.date), line)
        if self.high is None or (score, self.high.when) > (self.high.score, row.when):
            self.high = row
        if self.low is None or (score, row.when) < (self.low.score, self.low.when):
            self.low = row
        if self.first is None or row.when < self.first.when:
            self.first = row
        if self.last is None or row.when >= self.last.when:
            self.last = row

    @property
    def trend(self) -> int:
        """1 where its scores rise in time, -1 where they fall, else 0."""
        if self.first is None or self.last is None:
            return 0
        return (self.last.score > self.first.score) - (self.last.score < self.first.score)


def _derived(table: _Table, most: int, is_max: bool | None) -> Board:
    """The file says no ranks."""
    teams: dict[str | int, _Team] = {}
    for line in table:
        teams.setdefault(table.team(line), _Team()).add(line)
    if is_max is None:
        is_max = _direction(teams.values())
    counts = "submissions" in table.columns
    best = []
    for team in teams.values():
        row = team.high if is_max else team.low
        if row is not None:
            score = -row.score if is_max else row.score
            best.append((score, row.when, row.line, team.submissions if counts else team.rows))
    top = [
        _Ranked(rank, line, count)
        for rank, (_, _, line, count) in enumerate(heapq.nsmallest(most, best), start=1)
    ]
    return table.board(top, len(best), ("Rank",) if counts else ("Rank", "SubmissionCount"))


def _direction(teams: Collection[_Team]) -> bool:
    """Are high scores the better ones? Told by the teams with several rows."""
    trends = Counter(team.trend for team in teams)
    rising, falling = trends[1], trends[-1]
    if max(rising, falling) > _AGREED * (rising + falling):
        return rising > falling
    if len({row.score for team in teams for row in (team.high, team.low) if row}) <= 1:
        return True  # nothing to tell apart: the earlier submission comes first
    raise NoBoard(
        "The leaderboard has scores alone, no ranks, and nothing in it says whether high or low "
        "ones are better.",
        _UNORDERED,
    )


# -- cells -----------------------------------------------------------------------------------------


def _whole(text: str) -> int:
    """A whole number from 1, else 0."""
    match = _WHOLE.fullmatch(text.strip())
    return int(match[1]) if match else 0


def _number(text: str) -> Decimal | None:
    """A finite number, exactly."""
    text = text.strip()
    return Decimal(text) if len(text) <= _LONGEST and _NUMBER.fullmatch(text) else None


def _score(text: str) -> int | float | str | None:
    """A number where JSON can hold exactly what the text says, else the text."""
    text = text.strip()
    exact = _number(text)
    if exact is None:
        return text or None
    if text.lstrip("+-").isdecimal():
        return int(text)
    number = float(text)
    return number if math.isfinite(number) and Decimal(repr(number)) == exact else text


def _moment(text: str) -> datetime:
    """UTC, without a zone; of no date the end of all days, so that any other is earlier."""
    text = text.strip()
    try:
        if match := _US_DATE.fullmatch(text):
            month, day, year, hour, minute, second = (int(each or 0) for each in match.groups()[:6])
            if match[7]:
                hour = hour % 12 + 12 * (match[7].upper() == "P")
            return datetime(year, month, day, hour, minute, second)
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return datetime.max
