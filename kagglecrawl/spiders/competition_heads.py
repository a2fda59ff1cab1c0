"""What is known of a competition before anything is asked: its row, of Meta Kaggle or the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from kagglecrawl.items import SITE, Competition
from kagglecrawl.kaggle import lenient
from kagglecrawl.metakaggle import cells
from kagglecrawl.pipelines.sections import sections

#: What is read of Meta Kaggle's table; which of its releases lack some, real-data-quirks 1 says.
COLUMNS = (
    "Id",
    "Slug",
    "Title",
    "Subtitle",
    "HasLeaderboard",
    "EnabledDate",
    "DeadlineDate",
    "EvaluationAlgorithmIsMax",
    "Overview",
    "DatasetDescription",
)
#: After its deadline a leaderboard still changes, while Kaggle looks for those who cheated. It does
#: not say for how long, so this is a guess on the safe side.
_SETTLED = timedelta(days=30)


class Head(NamedTuple):
    """A competition as far as its row tells; whether that has its pages; whether the best score is
    the highest, if that is known; and whether its leaderboard will change no more."""

    item: Competition
    overview: bool
    is_max: bool | None
    final: bool


def of_table(number: int, slug: str, row: dict[str, str]) -> Head:
    """Of a row of Meta Kaggle's table, with its Id and Slug as they were read."""
    texts = sections(row["Overview"], SITE)
    item = Competition(
        competition_id=number,
        title=row["Title"],
        sub_title=row["Subtitle"],
        slug=slug,
        has_leaderboard=cells.flag(row["HasLeaderboard"]),
        dataset_description=row["DatasetDescription"],
        description=texts.description,
        evaluation=texts.evaluation,
        leaderboard_top100=[],
    )
    is_max = cells.flag(row["EvaluationAlgorithmIsMax"])
    overview = bool(row["Overview"].strip())
    return Head(item, overview, is_max, _is_over(cells.moment(row["DeadlineDate"])))


def of_api(slug: str, row: dict[str, Any]) -> Head:
    """Of a row of ListCompetitions, or GetCompetition's reply."""
    item = Competition(
        competition_id=lenient.integer(row, "id"),
        title=lenient.text(row, "title"),
        sub_title=lenient.text(row, "description"),
        slug=slug,
        has_leaderboard=None,
        dataset_description="",
        description="",
        evaluation="",
        leaderboard_top100=[],
    )
    return Head(item, False, None, _is_over(lenient.timestamp(row, "deadline")))


def _is_over(deadline: str) -> bool:
    """Will its leaderboard change no more?"""
    try:
        return datetime.fromisoformat(deadline) < datetime.now(UTC) - _SETTLED
    except (ValueError, TypeError):
        return False
