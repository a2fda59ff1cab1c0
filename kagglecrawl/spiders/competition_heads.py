"""What is known of a competition before anything is asked: its row, of Meta Kaggle or the API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from kagglecrawl.items import SITE, Competition, signature
from kagglecrawl.kaggle import lenient
from kagglecrawl.metakaggle import cells
from kagglecrawl.pipelines.markdown import to_markdown
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
    """A competition as far as its row tells, its texts as they are there; the Overview, empty if it
    is absent; whether the best score is the highest, if that is known; and whether its leaderboard
    will change no more."""

    item: Competition
    overview: str
    is_max: bool | None
    final: bool

    @property
    def said(self) -> str:
        """A checksum of it: what says the same need not be asked for again."""
        overview = sha256(self.overview.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return f"{signature(self.item)}{overview if self.overview else ''}"


def with_sections(record: dict[str, Any], overview: str) -> dict[str, Any]:
    """The record with the parts of its Overview (where it has none from its pages), and with all
    its texts as Markdown."""
    base = f"{SITE}competitions/{record['slug']}/"
    parts = sections(overview, base)
    texts = {
        "dataset_description": record["dataset_description"],
        "description": record["description"] or parts.description,
        "evaluation": record["evaluation"] or parts.evaluation,
    }
    return {**record, **{name: to_markdown(text, base) for name, text in texts.items()}}


def of_table(number: int, slug: str, row: dict[str, str]) -> Head:
    """Of a row of Meta Kaggle's table, with its Id and Slug as they were read."""
    item = Competition(
        competition_id=number,
        title=row["Title"],
        sub_title=row["Subtitle"],
        slug=slug,
        has_leaderboard=cells.flag(row["HasLeaderboard"]),
        dataset_description=row["DatasetDescription"],
        description="",
        evaluation="",
        leaderboard_top100=[],
    )
    is_max = cells.flag(row["EvaluationAlgorithmIsMax"])
    overview = row["Overview"].strip()
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
    return Head(item, "", None, _is_over(lenient.timestamp(row, "deadline")))


def _is_over(deadline: str) -> bool:
    """Will its leaderboard change no more?"""
    try:
        return datetime.fromisoformat(deadline) < datetime.now(UTC) - _SETTLED
    except (ValueError, TypeError):
        return False
