"""Competitions made from a seed, and what is true of each: the side that tests compare with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import Literal, NamedTuple

from kagglecrawl.replica import boards, pages
from kagglecrawl.replica.boards import Board, Header, Style
from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.made import TAGS, slugify
from kagglecrawl.replica.pages import Page, Section, Texts
from kagglecrawl.replica.truth import Archive, DatasetTruth, Licence, Tag

SITE = "https://www.kaggle.com/competitions/"
"""What `ref` and `url` of a row begin with (reported 2026-10, kaggle-facts 2.1)."""

Answer = Literal["board", "empty", 401, 403, 404]
"""What a call for the leaderboard gets: the board, 0 bytes in place of a zip, or an error."""

_BOARD_IDS = 7_000_000
_FIRST_DAY = datetime(2010, 4, 7, 7, 57, 43, tzinfo=UTC)
_LAST_DAY = datetime(2025, 12, 20, tzinfo=UTC)
OPEN_UNTIL = datetime(2035, 1, 1, 23, 59, tzinfo=UTC)
"""The deadline of what is open: so it is open whichever clock is asked, this one's or the world's.
"""
_STARTED = datetime(2030, 1, 1, tzinfo=UTC)
_LATEST = datetime(2026, 1, 3, tzinfo=UTC)  # before the first week in which the world moves

_VERBS = ("Predict", "Classify", "Detect", "Forecast", "Recognize", "Rank", "Segment")
_THINGS = (
    "Whale Songs",
    "Loan Defaults",
    "Galaxy Shapes",
    "House Prices",
    "Toxic Comments",
    "Store Sales",
    "Café Queues",
    "Plant Seedlings",
    "Taxi Fares",
    "Molecules",
    "気象",
)
_PRIZES = ("Knowledge", "Kudos", "Swag", "")
_HOSTS = ("Acme Research", "Université de Demain", "City of Lisbon", "")
_PERIOD = 60
"""Every so many competitions these cases come again (what is not named is as the dice fall):

- 1: no leaderboard; Meta Kaggle says so
- 2: for getting started: open until 2030; with nearly 3,000 teams the first time
- 3: of the playground, without a Description
- 4, 13, 19: Meta Kaggle has no Overview; 13 is newer than Meta Kaggle, 19 has no pages either
- 5, 18: an older board; of 18 nothing tells which scores are better
- 6: 0 bytes in place of a board; 7, 11, 12: 403, 404 and 401 in place of it
- 8, 10: open; 10 has a board, and Meta Kaggle says it has none
- 9: without an Evaluation; 12: without a data description
- 14: over, and not verified; 15: the oldest kind of board; 16: nobody on the board; 17: deleted
"""


class Metric(NamedTuple):
    """How submissions are scored. `is_max` None: Meta Kaggle does not say."""

    short: str
    name: str
    is_max: bool | None


_METRICS = (
    Metric("CategorizationAccuracy", "Categorization Accuracy", True),
    Metric("AUC", "Area Under Receiver Operating Characteristic Curve", True),
    Metric("RMSE", "Root Mean Squared Error", False),
    Metric("LogLoss", "Log Loss", False),
    Metric("F_{Beta}", "F-Score, with a comma", True),
)
_CATEGORIES = (
    *("Community",) * 9,
    *("Featured",) * 5,
    *("Research",) * 3,
    *("Playground",) * 3,
    *("Recruitment", "Masters", "Analytics"),
)


@dataclass(frozen=True, eq=False)
class CompetitionTruth:
    """A competition. Times are UTC.

    `deleted` ones are in Meta Kaggle all the same, are on no list, and every call for them answers
    404. `in_meta` False is one that is newer than Meta Kaggle.
    """

    id: int
    slug: str
    title: str
    subtitle: str
    category: str
    """Meta Kaggle's HostSegmentTitle: Featured, Getting Started, Community …"""
    enabled: datetime
    deadline: datetime
    verified: bool
    """Whether its final leaderboard has been verified."""
    has_leaderboard: bool
    """What Meta Kaggle says; some have a board all the same, and others have none."""
    answer: Answer
    metric: Metric
    teams: int
    """How many are on its board; 0 where there is none."""
    submissions: int
    """As Meta Kaggle counts them; more than the board's."""
    reward: tuple[str, int]
    """Kind (USD, Knowledge, Kudos …) and, of money, how much."""
    host: str
    tags: tuple[Tag, ...]
    state: Literal["public", "deleted"] = "public"
    in_meta: bool = True
    in_overview: bool = True
    """Whether Meta Kaggle has its Overview."""
    write_texts: Callable[[], Texts] = field(repr=False, kw_only=True)
    write_board: Callable[[], Board] = field(repr=False, kw_only=True)
    board_version: int = 1
    """Grows with every change of the board."""
    older: "CompetitionTruth | None" = field(default=None, repr=False)
    """What it was before its board changed for the last time."""

    @property
    def ref(self) -> str:
        """How rows of lists name it: by its whole address."""
        return SITE + self.slug

    @property
    def open(self) -> bool:
        """Whether its deadline lies ahead."""
        return self.deadline >= _STARTED

    @property
    def finished(self) -> bool:
        """Whether it is over and its board is the final one."""
        return self.verified and not self.open

    @property
    def is_max(self) -> bool | None:
        """Whether larger scores are better, as far as Meta Kaggle says."""
        return self.metric.is_max

    @cached_property
    def texts(self) -> Texts:
        """All that it says of itself."""
        return self.write_texts()

    @property
    def description(self) -> Section | None:
        """The Description page, if it has one."""
        return self.texts.description

    @property
    def evaluation(self) -> Section | None:
        """The Evaluation page, if it has one."""
        return self.texts.evaluation

    @property
    def overview(self) -> str:
        """Meta Kaggle's column; empty where that is missing."""
        return self.texts.overview if self.in_overview else ""

    @property
    def dataset_description(self) -> str:
        """Meta Kaggle's column."""
        return self.texts.dataset_description

    @property
    def data(self) -> Section | None:
        """The page `data-description`, if it has one."""
        return self.texts.data

    @property
    def pages(self) -> tuple[Page, ...]:
        """What ListCompetitionPages tells of, in its order."""
        return tuple(page for page in self.texts.pages if page.published)

    @cached_property
    def board(self) -> Board:
        """Its leaderboard, also where no call gets it (see `answer`)."""
        return self.write_board()

    @property
    def content(self) -> bytes:
        """What DownloadLeaderboard brings where it brings something."""
        return self.board.archive if self.answer == "board" else b""

    @cached_property
    def stored_board(self) -> DatasetTruth:
        """The board as an object in storage, for a Kaggle that redirects there."""
        return DatasetTruth(
            id=_BOARD_IDS + self.id,
            owner="competitions",
            slug=self.slug,
            title=self.title,
            subtitle="",
            usability=0.0,
            last_updated=self.board.changed.replace(tzinfo=UTC),
            version=self.board_version,
            licence=Licence("unknown", "Unknown", "OTHER"),
            tags=(),
            files=(),
            archive=Archive(self.content, f"{self.slug}.zip"),
            older=self.older.stored_board if self.older else None,
        )

    @property
    def board_key(self) -> str:
        """What statistics and fault scripts call that object by."""
        return f"{_BOARD_IDS + self.id}/{self.board_version}/{self.slug}.zip"


def id_of_board(object_id: int) -> int:
    """The competition whose board has this id in storage; no competition's id, if there is none."""
    return object_id - _BOARD_IDS


def make(seed: int, index: int, count: int) -> CompetitionTruth:
    """The competition of this index in a world that begins with `count` of them.

    Those of the first indices are one of each kind of oddity, and so again after every sixty.
    """
    dice = Dice("competition", seed, index)
    case = index % _PERIOD
    title, slug = _names(dice, index)
    enabled, deadline = _times(dice, case, index, count)
    is_open = deadline >= _STARTED
    metric = dice.pick(_METRICS)
    if case == 18:
        metric = Metric("", "", None)
    teams = _team_count(dice, case, index)
    answer = _answer(dice, case)
    number = 2_400 + 7 * index
    money = dice.chance(0.4)
    return CompetitionTruth(
        id=number,
        slug=slug,
        title=title,
        subtitle="" if dice.chance(0.05) else f"{title}, by {dice.pick(_HOSTS) or 'nobody'}",
        category={2: "Getting Started", 3: "Playground"}.get(case, dice.pick(_CATEGORIES)),
        enabled=enabled,
        deadline=deadline,
        verified=not is_open and case != 14,
        has_leaderboard=case not in {1, 10} and not dice.chance(0.02),
        answer=answer,
        metric=metric,
        teams=teams,
        submissions=teams * dice.between(3, 30),
        reward=("USD", 1_000 * dice.between(1, 100)) if money else (dice.pick(_PRIZES), 0),
        host=dice.pick(_HOSTS),
        tags=tuple(dice.sample(TAGS, dice.below(4))),
        state="deleted" if case == 17 else "public",
        in_meta=case != 13,
        in_overview=case not in {4, 13, 19} and not dice.chance(0.06),
        write_texts=partial(
            pages.write,
            (seed, index),
            number,
            slug,
            description=case != 3 and not dice.chance(0.05),
            data=case != 12,
            evaluation=case != 9 and not dice.chance(0.05),
            pages=case != 19,
        ),
        write_board=partial(
            boards.make_board,
            (seed, index),
            slug,
            teams,
            enabled,
            min(deadline, _LATEST),
            is_max=metric.is_max is not False,
            header=_header(dice, case, enabled),
            style=_style(dice, case),
            single=case == 18,
        ),
    )


def _names(dice: Dice, index: int) -> tuple[str, str]:
    thing = dice.pick(_THINGS)
    title = f"{dice.pick(_VERBS)} {thing} {dice.between(2010, 2026)}"
    if index % 10 == 1:  # some have capitals, such as Eurovision2010
        return title, "".join(slugify(title).title().split("-")) + f"X{index + 1}"
    return title, f"{slugify(title)}-{index + 1}"


def _times(dice: Dice, case: int, index: int, count: int) -> tuple[datetime, datetime]:
    share = (_LAST_DAY - _FIRST_DAY) / max(count, 1)
    enabled = _FIRST_DAY + index * share + timedelta(seconds=dice.below(86_400))
    enabled = min(enabled, _LAST_DAY).replace(microsecond=0)
    if case == 15:  # before the headers changed
        enabled = _FIRST_DAY + timedelta(days=300 + dice.below(300))
    if case == 2:
        return enabled, _STARTED
    if case in {4, 8, 10, 13} or (case >= 20 and dice.chance(0.1)):
        return enabled, OPEN_UNTIL
    over = enabled + timedelta(days=dice.between(14, 120), hours=dice.below(24))
    return enabled, min(over, _LATEST - timedelta(days=1)).replace(microsecond=0)


def _answer(dice: Dice, case: int) -> Answer:
    """A share of 401, 403 and 404 among those that are listed; most have a board."""
    fixed: dict[int, Answer] = {1: 404, 6: "empty", 7: 403, 11: 404, 12: 401}
    if case in fixed:
        return fixed[case]
    if case >= 20 and dice.chance(0.06):
        return dice.pick((403, 404, "empty"))
    return "board"


def _team_count(dice: Dice, case: int, index: int) -> int:
    match case:
        case 1 | 16:
            return 0
        case 2:
            return (2_900 if index == 2 else 400) + dice.below(100)
        case 5 | 8 | 15 | 18:
            return dice.between(101, 160)
    return dice.pick((1, 2, 5)) if dice.chance(0.1) else int(3 + 400 * dice.unit() ** 4)


def _header(dice: Dice, case: int, enabled: datetime) -> Header:
    if case == 15:
        return "oldest"
    if case in {5, 18} or (enabled.year < 2018 and case >= 20 and dice.chance(0.4)):
        return "old"
    return "modern"


def _style(dice: Dice, case: int) -> Style:
    styles: tuple[Style, ...] = ("fraction", "points", "signed", "tiny", "huge")
    return styles[case % 5] if case < 20 else dice.pick(("fraction", "fraction", *styles))
