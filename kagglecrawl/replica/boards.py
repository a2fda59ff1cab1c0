"""Leaderboards: teams with what they have submitted, and the CSV files made of them."""

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Literal, NamedTuple

from kagglecrawl.replica.dice import Dice

Header = Literal["modern", "old", "oldest"]
"""`modern`: a row for each team, with Rank and SubmissionCount. `old` (2017 to 2023) and `oldest`
(2011): a row for each submission that improved a team's score, and neither of the two."""
Order = Literal["rank", "team", "time", "none"]
Style = Literal["fraction", "points", "signed", "tiny", "huge"]

BEST = 1_000_000
"""The highest quality that a submission may have; the lowest is 0."""

MODERN = "Rank,TeamId,TeamName,LastSubmissionDate,Score,SubmissionCount,TeamMemberUserNames"
OLD = "TeamId,TeamName,SubmissionDate,Score"
OLDEST = "TeamId, TeamName, SubmissionDate, Score"

_MEMBER_DATE = (2020, 1, 1, 0, 0, 0)
_NEEDS_QUOTES = re.compile(r'[\s,"]')


def _fraction(quality: int) -> str:
    whole, rest = divmod(quality // 10, 100_000)
    return f"{whole}.{rest:05}"


_SCORES: dict[Style, Callable[[int], str]] = {
    "fraction": _fraction,  # 0.77990, 1.00000
    "points": lambda quality: f"{quality // 1000}.{quality // 100 % 10}",  # 554.7
    "signed": lambda quality: str(Decimal(quality // 1000 - 500) / 10),  # -0.5
    "tiny": lambda quality: f"{quality // 1000 + 1}e-10",  # 1e-10
    "huge": lambda quality: str(10**19 + quality * 12_345_678_901),  # 20 digits
}
_ODD_NAMES = (
    "Smith, Jones & Co",
    'The "Best" Team',
    "first line\nsecond line",
    "焼たらこ",
    "World 🐝 Wild 🐝 Wasps",
    "Myles O'Neill",
    "Команда №1",
    "=SUM(A1:A9)",
    "NULL",
    "nan",
    "007",
    "Lucia #4",
    "a|b\\c",
    "<b>bold</b> &amp; co",
    '",",',
)
_NAMES = ("Overfitters", "Gradient", "Team Zürich", "kernel panic", "Random Forest", "ensemble")


class Try(NamedTuple):
    """A submission that was better than all that its team had sent before."""

    moment: datetime
    """UTC without saying so, in whole seconds; no two of a board are the same."""
    quality: int
    score: str
    """As the board shows it."""


@dataclass(frozen=True)
class Team:
    """A team of a board. `submissions` counts those that did not improve its score, too."""

    id: int
    name: str
    members: tuple[str, ...]
    tries: tuple[Try, ...]
    """From the first to the last, each better than the one before; at least one."""
    submissions: int
    last: datetime
    """When it submitted for the last time."""


class Standing(NamedTuple):
    """A team's place on a board, as a right crawler has it."""

    rank: int
    team: str
    score: str
    """The best one, exactly as the file has it."""
    submissions: int
    """SubmissionCount; on a board without it, the number of the team's rows."""
    team_id: int
    moment: datetime
    """When the best score was submitted."""


@dataclass(frozen=True)
class Board:
    """A leaderboard, and how its file is written.

    Ranks are 1, 2, … without gaps or sharing: the better score first (the larger one where
    `is_max`, else the smaller), of equal ones the one submitted earlier.
    """

    slug: str
    teams: tuple[Team, ...]
    is_max: bool
    header: Header
    order: Order
    style: Style
    changed: datetime
    """When it was what it is."""
    shuffle: str = ""
    """The key of the dice for the order `none`."""

    @property
    def derived(self) -> tuple[str, ...]:
        """Which of a record's fields the file does not have."""
        return () if self.header == "modern" else ("Rank", "SubmissionCount")

    @property
    def directed(self) -> bool:
        """Whether the file alone shows if larger or smaller scores are better."""
        return self.header == "modern" or any(len(team.tries) > 1 for team in self.teams)

    @cached_property
    def ranked(self) -> tuple[Team, ...]:
        """The teams, best first."""
        sign = -1 if self.is_max else 1

        def place(team: Team) -> tuple[Decimal, datetime]:
            best = team.tries[-1]
            return sign * Decimal(best.score), best.moment

        return tuple(sorted(self.teams, key=place))

    @cached_property
    def standings(self) -> tuple[Standing, ...]:
        """The whole board, best first; what a record's LeaderboardTop100 has of it at most 100."""
        return tuple(
            Standing(
                rank,
                team.name,
                team.tries[-1].score,
                team.submissions if self.header == "modern" else len(team.tries),
                team.id,
                team.tries[-1].moment,
            )
            for rank, team in enumerate(self.ranked, 1)
        )

    @cached_property
    def csv(self) -> bytes:
        """The file, exactly as Kaggle serves it."""
        if self.header == "modern":
            lines, rows = [MODERN], self._modern()
        else:
            lines, rows = [OLD if self.header == "old" else OLDEST], self._old()
        lines += (",".join(map(_cell, row)) for row in rows)
        end = "\r\n" if self.header == "oldest" else "\n"
        encoding = "utf-8" if self.header == "oldest" else "utf-8-sig"
        return "".join(f"{line}{end}" for line in lines).encode(encoding)

    def _modern(self) -> list[tuple[str, ...]]:
        ranked = list(enumerate(self.ranked, 1))
        if self.order == "team":
            ranked.sort(key=lambda each: each[1].id)
        return [
            (
                str(rank),
                str(team.id),
                team.name,
                str(team.last),
                team.tries[-1].score,
                str(team.submissions),
                ",".join(team.members),
            )
            for rank, team in ranked
        ]

    def _old(self) -> list[tuple[str, ...]]:
        tries = [(team, each) for team in self.teams for each in team.tries]
        if self.order == "none":
            dice = Dice("shuffle", self.shuffle)
            tries = dice.sample(tries, len(tries))
        elif self.order == "team":
            tries.sort(key=lambda pair: (pair[0].id, pair[1].moment))
        else:
            tries.sort(key=lambda pair: pair[1].moment)
        date = _american if self.header == "oldest" else str
        return [(str(team.id), team.name, date(each.moment), each.score) for team, each in tries]

    @cached_property
    def archive(self) -> bytes:
        """The zip that a download of the board brings."""
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
            name = f"{self.slug}-publicleaderboard-{self.changed:%Y-%m-%dT%H:%M:%S}.csv"
            archive.writestr(zipfile.ZipInfo(name, _MEMBER_DATE), self.csv)
        return memory.getvalue()


def _american(moment: datetime) -> str:
    """`9/17/2011 5:33:33 AM`."""
    half = "AM" if moment.hour < 12 else "PM"
    hour = moment.hour % 12 or 12
    return f"{moment.month}/{moment.day}/{moment.year} {hour}:{moment:%M:%S} {half}"


def _cell(text: str) -> str:
    """As real boards quote: where there is a blank, a comma, a quote or the end of a line."""
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def make_board(
    key: Sequence[object],
    slug: str,
    count: int,
    since: datetime,
    until: datetime,
    *,
    is_max: bool,
    header: Header,
    style: Style,
    single: bool = False,
) -> Board:
    """A board of so many teams, whose submissions lie between the two moments.

    With `single`, no team has improved: nothing shows which scores are better.
    """
    since, until = since.replace(tzinfo=None), until.replace(tzinfo=None)
    dice = Dice("board", *key)
    span = int((until - since).total_seconds())
    total = count * 4  # submissions at most, each with a second of its own
    slots = max(span // max(total, 1), 8)
    teams = []
    for number in range(count):
        most = 1 if single else dice.pick((1, 1, 1, 2, 3, 4))
        qualities = sorted({_quality(dice) for _ in range(most)})
        seconds = sorted(dice.below(slots) * total + number * 4 + n for n in range(len(qualities)))
        moments = [since + timedelta(seconds=each) for each in seconds]
        tries = _improving(zip(moments, qualities, strict=True), is_max, style)
        submissions = len(tries) + dice.below(40)
        idle = dice.below(86_400) if submissions > len(tries) else 0
        teams.append(
            Team(
                1_000_000 + dice.below(3_000) * 4_000 + number,
                _name(dice, number),
                _members(dice, number),
                tries,
                submissions,
                tries[-1].moment + timedelta(seconds=idle),
            )
        )
    orders: tuple[Order, ...] = ("rank", "team") if header == "modern" else ("time", "team", "none")
    return Board(
        slug=slug,
        teams=tuple(teams),
        is_max=is_max,
        header=header,
        order=dice.pick(orders),
        style=style,
        changed=max((team.last for team in teams), default=since),
        shuffle="/".join(map(str, key)),
    )


def _quality(dice: Dice) -> int:
    """Many are alike, so that scores are shared; few are perfect."""
    if dice.chance(0.02):
        return BEST
    if dice.chance(0.3):
        return 100_000 * dice.between(1, 9)
    return dice.below(BEST)


def _improving(found: "zip[tuple[datetime, int]]", is_max: bool, style: Style) -> tuple[Try, ...]:
    """The tries of these moments and qualities, without those whose score looks no better."""
    tries: list[Try] = []
    for moment, quality in found:
        score = _SCORES[style](quality if is_max else BEST - quality)
        if not tries or tries[-1].score != score:
            tries.append(Try(moment, quality, score))
    return tuple(tries)


def _name(dice: Dice, number: int) -> str:
    if dice.chance(0.15):
        return dice.pick(_ODD_NAMES)
    return f"{dice.pick(_NAMES)} {number + 1}"


def _members(dice: Dice, number: int) -> tuple[str, ...]:
    return tuple(f"user{number}x{n}" for n in range(dice.pick((1, 1, 1, 2, 5))))


def improved(board: Board, key: Sequence[object], new: int, week: datetime) -> Board:
    """The board after the week that begins then: a tenth of the teams is better, `new` have come.

    At least one team that can be better is.
    """
    dice = Dice("improved", *key)
    week = week.replace(tzinfo=None)
    teams = list(board.teams)
    able = [n for n, team in enumerate(teams) if team.tries[-1].quality < BEST - 2_000]
    chosen = dice.sample(able, min(len(able), max(1, len(teams) // 10)))
    for serial, number in enumerate(chosen):
        team = teams[number]
        moment = week + timedelta(seconds=serial)
        quality = min(team.tries[-1].quality + dice.between(1_000, 200_000), BEST)
        score = _SCORES[board.style](quality if board.is_max else BEST - quality)
        teams[number] = replace(
            team,
            tries=(*team.tries, Try(moment, quality, score)),
            submissions=team.submissions + 1,
            last=max(team.last, moment),
        )
    for serial in range(new):
        moment = week + timedelta(seconds=len(chosen) + serial)
        quality = _quality(dice)
        score = _SCORES[board.style](quality if board.is_max else BEST - quality)
        number = len(teams)
        teams.append(
            Team(
                20_000_000 + dice.below(3_000) * 4_000 + number,
                _name(dice, number),
                _members(dice, number),
                (Try(moment, quality, score),),
                1,
                moment,
            )
        )
    changed = max((team.last for team in teams), default=week)
    return replace(board, teams=tuple(teams), changed=changed)
