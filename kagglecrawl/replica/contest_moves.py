"""Competitions move on: in a step of a week boards change, some close, one comes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice

from kagglecrawl.replica import boards, pages
from kagglecrawl.replica.boards import Board
from kagglecrawl.replica.contests import OPEN_UNTIL, CompetitionTruth
from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.pages import Texts

_FIRST_WEEK = datetime(2026, 1, 5, tzinfo=UTC)
_ENOUGH = 12  # competitions, from which on there is something of each kind


@dataclass(frozen=True)
class ContestMoves:
    """What the competitions of a later world have otherwise, each as it is later.

    - `new`: were not there before
    - `closed`: were open, and are finished now; their board is another one
    - `scored`: are open, and have another board
    - `edited`: have another Description
    """

    new: tuple[CompetitionTruth, ...]
    closed: tuple[CompetitionTruth, ...]
    scored: tuple[CompetitionTruth, ...]
    edited: tuple[CompetitionTruth, ...]

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True)
class ContestStage:
    """The competitions of a world at one moment, and how many have come since the beginning."""

    contests: tuple[CompetitionTruth, ...]
    born: int = 0


def compare(before: Iterable[CompetitionTruth], after: Iterable[CompetitionTruth]) -> ContestMoves:
    """What the competitions of `after` have otherwise."""
    found: dict[str, list[CompetitionTruth]] = {each.name: [] for each in fields(ContestMoves)}
    earlier = {contest.slug: contest for contest in before}
    for contest in after:
        old = earlier.get(contest.slug)
        if old is None:
            found["new"].append(contest)
            continue
        if old.open and not contest.open:
            found["closed"].append(contest)
        elif old.board_version != contest.board_version:
            found["scored"].append(contest)
        if old.write_texts is not contest.write_texts:
            found["edited"].append(contest)
    return ContestMoves(**{kind: tuple(contests) for kind, contests in found.items()})


def step(
    now: ContestStage, seed: int, number: int, make: Callable[[int], CompetitionTruth]
) -> ContestStage:
    """The competitions a week later; `number` is that of the step, from 1.

    Of the open ones with a board a third has another board, and a tenth closes (not those that are
    there for getting started); 3 % of all change their Description; one comes, which `make` gives
    by its serial number. From twelve competitions on, each of these happens as long as it can.
    """
    if not now.contests:
        return now
    enough = len(now.contests) >= _ENOUGH
    public = [each for each in now.contests if each.state == "public"]
    public.sort(key=lambda each: (Dice("contest move", seed, number, each.id).unit(), each.id))
    playing = [each for each in public if each.open and each.answer == "board"]
    ending = [each for each in playing if each.category != "Getting Started"]
    ending = ending[: max(int(enough), len(playing) // 10)]
    closed = {each.id for each in ending}
    rest = [each for each in playing if each.id not in closed]
    scored = {each.id for each in rest[: max(int(enough), len(playing) // 3)]}
    revisable = (each.id for each in reversed(public) if each.in_overview and each.description)
    edited = set(islice(revisable, max(1, len(public) // 33) if enough else 0))
    contests = []
    for contest in now.contests:
        if contest.id in closed | scored:
            contest = _scored(contest, seed, number, ends=contest.id in closed)
        if contest.id in edited:
            contest = replace(contest, write_texts=partial(_revised, contest.write_texts, number))
        contests.append(contest)
    contests.append(_newcomer(make(now.born), seed, number))
    return ContestStage(tuple(contests), now.born + 1)


def _week(number: int) -> datetime:
    return _FIRST_WEEK + timedelta(weeks=number - 1)


def _scored(contest: CompetitionTruth, seed: int, number: int, *, ends: bool) -> CompetitionTruth:
    dice = Dice("scored", seed, number, contest.id)
    new = dice.between(1, 3)
    week = _week(number)
    end = week + timedelta(days=6, hours=23, minutes=59)
    return replace(
        contest,
        teams=contest.teams + new,
        submissions=contest.submissions + new + dice.between(1, 50),
        deadline=end if ends else contest.deadline,
        verified=ends,
        write_board=partial(_improved, contest, (seed, number, contest.id), new, week),
        board_version=contest.board_version + 1,
        older=contest,
    )


def _improved(before: CompetitionTruth, key: tuple[int, ...], new: int, week: datetime) -> Board:
    return boards.improved(before.board, key, new, week)


def _revised(write: Callable[[], Texts], number: int) -> Texts:
    return pages.revised(write(), number)


def _newcomer(made: CompetitionTruth, seed: int, number: int) -> CompetitionTruth:
    """It is open, in Meta Kaggle, and nobody has submitted anything yet."""
    dice = Dice("new competition", seed, number, made.id)
    enabled = _week(number) + timedelta(seconds=dice.below(5 * 86_400))
    return replace(
        made,
        category="Featured",
        enabled=enabled,
        deadline=OPEN_UNTIL,
        verified=False,
        has_leaderboard=True,
        answer="board",
        teams=0,
        submissions=0,
        state="public",
        in_meta=True,
        in_overview=True,
        write_board=partial(
            boards.make_board,
            (seed, number, made.id),
            made.slug,
            0,
            enabled,
            enabled,
            is_max=made.metric.is_max is not False,
            header="modern",
            style="fraction",
        ),
    )
