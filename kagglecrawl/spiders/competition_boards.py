"""What comes of a competition's leaderboard and pages, apart from asking for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kagglecrawl.items import Board
from kagglecrawl.kaggle import lenient
from kagglecrawl.kaggle.names import safe_name


def of_board(
    final: bool, *, reason: str = "", teams: int = 0, derived: Sequence[str] = ()
) -> Board:
    """What is noted of a leaderboard, apart from its file."""
    return Board(teams=teams, derived=list(derived), reason=reason, final=final, bytes=0, sha256="")


def file_of(slug: str) -> str:
    """Where a whole leaderboard goes, below the spider's folder."""
    return f"leaderboard/{safe_name(f'{slug}.csv')}"


#: Pages by their names (kaggle-facts 2.1; some are seen with a capital).
_PAGES = {
    "description": "description",
    "evaluation": "evaluation",
    "data-description": "dataset_description",
    "dataset-description": "dataset_description",
}
#: Records that have what another has, and more.
MORE = {
    "top100": ("full", "top100, all", "full, all"),
    "full": ("full, all",),
    "top100, all": ("full, all",),
}
#: What these tell of whether there is a leaderboard; others tell nothing.
HAS_ONE = {
    "not_found": False,
    "empty_leaderboard": False,
    "bad_leaderboard": True,
    "unordered_leaderboard": True,
}
#: As Meta Kaggle begins a text that it takes from a page.
_HEADS = {"dataset_description": "# Dataset Description\n\n"}
#: Why there is no leaderboard, where that will not change.
FOR_GOOD = frozenset({"not_found", "forbidden", "refused", "unordered_leaderboard"})


def fill_in(record: dict[str, Any], pages: list[dict[str, Any]], always: bool) -> None:
    """Put pages of ListCompetitionPages into a record, where it lacks them or ``always``."""
    for page in pages:
        name = lenient.text(page, "name").strip().casefold().replace(" ", "-")
        field, content = _PAGES.get(name), lenient.text(page, "content")
        if field and content and (always or not record[field]):
            record[field] = f"{_HEADS.get(field, '')}{content}"
