"""Every team of a leaderboard, with rank and score."""

from __future__ import annotations

import io
import zipfile

import pytest

from kagglecrawl.kaggle.episodes import TeamRow
from kagglecrawl.kaggle.team_scores import read_team_scores

MODERN = """\
\ufeffRank,TeamId,TeamName,LastSubmissionDate,Score,SubmissionCount,TeamMemberUserNames
2,7,"B, & C",2020-07-01 00:00:00,1300.5,3,"b,c"
1,5,A,2020-07-02 00:00:00,1310.0,9,a
3,9,,2020-07-02 00:00:00,,1,d
"""
OLD = """\
TeamId,TeamName,SubmissionDate,Score
7,B,2020-06-01 00:00:00,900.0
5,A,2020-06-01 00:00:00,1000.0
7,B,2020-07-01 00:00:00,1300.5
7,B,2020-07-02 00:00:00,1100.0
"""


def zipped(text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("halite-publicleaderboard.csv", text)
    return file.getvalue()


@pytest.mark.parametrize("content", [MODERN.encode(), zipped(MODERN)], ids=["csv", "zip"])
def test_a_board_with_ranks(content: bytes) -> None:
    assert read_team_scores(content) == [
        TeamRow(5, "A", 1, 1310.0, None),
        TeamRow(7, "B, & C", 2, 1300.5, None),
        TeamRow(9, "", 3, None, None),
    ]


def test_one_without_has_a_row_for_each_improvement() -> None:
    assert read_team_scores(zipped(OLD)) == [
        TeamRow(7, "B", 1, 1300.5, None),
        TeamRow(5, "A", 2, 1000.0, None),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 half a zip",
        b"TeamName,Score\nA,1\n",
        b"TeamId,Score\nnone,1\n0,2\n",
        b'TeamId,TeamName\n5,"' + b"x" * 200_000,
    ],
    ids=["empty", "damaged", "no ids", "no numbers", "a quote without end"],
)
def test_what_is_no_board_has_no_teams(content: bytes) -> None:
    assert read_team_scores(content) == []


def test_a_score_that_is_no_number_is_none() -> None:
    (team,) = read_team_scores(b"TeamId,Score\n5,nan\n")
    assert team.score is None
