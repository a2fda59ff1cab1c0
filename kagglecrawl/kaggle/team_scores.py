"""Every team of a competition with rank and score, from the official leaderboard's file."""

from __future__ import annotations

import csv
import io
import re

from kagglecrawl.kaggle.episodes import TeamRow
from kagglecrawl.kaggle.leaderboards import NoBoard, csv_of


def read_team_scores(content: bytes) -> list[TeamRow]:
    """The teams of ``DownloadLeaderboard``'s zip, the best first: by ``Rank``, or where that is not
    told by the best ``Score`` (of simulations the highest is the best). Empty where there is none.
    """
    try:
        text = csv_of(content).decode("utf-8-sig", "replace")
    except NoBoard:
        return []
    teams: dict[int, TeamRow] = {}
    for cells in _rows(text):
        row = {
            re.sub(r"\W|_", "", str(name)).lower(): str(cell or "").strip()
            for name, cell in cells.items()
        }
        if (number := _whole(row.get("teamid", ""))) is None:
            continue
        score, rank = _score(row.get("score", "")), _whole(row.get("rank", ""))
        before = teams.get(number)
        if before is not None and (score is None or (before.score or 0.0) >= score):
            continue  # a row for each submission by which a team improved (real-data-quirks 14)
        name = row.get("teamname") or row.get("team", "")
        teams[number] = TeamRow(number, name, rank, score, None)
    if not any(team.rank for team in teams.values()):
        ordered = sorted(teams.values(), key=lambda team: -(team.score or 0.0))
        return [
            TeamRow(team.id, team.name, rank, team.score, None)
            for rank, team in enumerate(ordered, start=1)
        ]
    return sorted(teams.values(), key=lambda team: team.rank or len(teams) + 1)


def _rows(text: str) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error:  # a quote without end, say
        return []


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) and int(text) else None


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None
