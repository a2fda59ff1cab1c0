"""Teams, their ranks and submissions; and every real reply that there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kagglesdk.competitions.types.competition_api_service import (
    ApiListTeamPublicSubmissionsResponse,
    ApiPublicSubmission,
)

from kagglecrawl.kaggle.episodes import (
    Listing,
    SubmissionRow,
    TeamRow,
    read_listing,
    read_submissions,
    read_web_leaderboard,
)

RUNNING = {
    "publicLeaderboardRank": 7,
    "publicLeaderboardScore": "1012.5",
    "publicLeaderboardSubmissionId": 70,
}
OVER = {
    "privateLeaderboardRank": 2,
    "privateLeaderboardScore": 990.0,
    "privateLeaderboardSubmissionId": 71,
}


@pytest.mark.parametrize(
    ("said", "rank", "score", "submission"),
    [
        (RUNNING, 7, 1012.5, 70),
        ({**RUNNING, **OVER}, 2, 1012.5, 70),
        (OVER, 2, 990.0, 71),
        ({**RUNNING, **dict.fromkeys(OVER)}, 7, 1012.5, 70),
        ({"publicLeaderboardScoreFormatted": "0"}, None, 0.0, None),
        ({"publicLeaderboardRank": "3", "publicLeaderboardScore": 5}, 3, 5.0, None),
        # without a rank, as in the reply that the seed falls over
        (dict.fromkeys(RUNNING), None, None, None),
        ({"publicLeaderboardRank": 0, "publicLeaderboardScore": "--"}, None, None, None),
        ({}, None, None, None),
    ],
)
def test_what_a_team_is(
    said: dict[str, Any], rank: int | None, score: float | None, submission: int | None
) -> None:
    found = read_listing({"teams": [{"id": 3, "teamName": "three", **said}]})
    assert found.teams == [TeamRow(3, "three", rank, score, submission)]
    assert isinstance(found.teams[0].score, float | None)


BOARD: dict[str, Any] = {
    "teams": [
        {"id": 1, "teamName": "one", "publicLeaderboardSubmissionId": 11},
        {"id": 2, "teamName": "two"},
        {"id": 3, "teamName": "three", **RUNNING},
    ],
    "publicLeaderboard": [
        {"rank": 2, "teamId": 1, "displayScore": "900.5"},
        {"rank": 1, "teamId": 2, "submissionId": 22, "displayScore": "1000"},
    ],
}


def test_the_public_board_by_rank_and_then_who_is_not_on_it() -> None:
    assert read_web_leaderboard(BOARD) == [
        TeamRow(2, "two", 1, 1000.0, 22),
        TeamRow(1, "one", 2, 900.5, 11),
        TeamRow(3, "three", None, 1012.5, 70),
    ]


def test_the_private_board_where_there_is_one() -> None:
    private = [
        {"rank": 1, "teamId": 1, "submissionId": 12, "displayScore": "950"},
        {"rank": 2, "teamId": 9, "teamName": "nine"},
        {"rank": 3, "teamId": 1},  # of one team the first row counts
        {"rank": 4, "teamId": None},
        None,
    ]
    found = read_web_leaderboard({**BOARD, "privateLeaderboard": private})
    assert found == [
        TeamRow(1, "one", 1, 950.0, 12),
        TeamRow(9, "nine", 2, None, None),
        TeamRow(2, "two", None, None, None),
        TeamRow(3, "three", None, 1012.5, 70),
    ]
    empty = read_web_leaderboard({**BOARD, "privateLeaderboard": []})
    assert empty == read_web_leaderboard(BOARD)


def test_teams_without_any_board_have_their_own_ranks() -> None:
    found = read_web_leaderboard({"teams": BOARD["teams"]})
    assert [(team.id, team.rank) for team in found] == [(3, 7), (1, None), (2, None)]


def test_the_submissions_of_a_team() -> None:
    reply, best, other = (
        ApiListTeamPublicSubmissionsResponse(),
        ApiPublicSubmission(),
        ApiPublicSubmission(),
    )
    best.id, best.public_score, other.id = 5, "1200.5", 6
    reply.submissions = [best, other, best]
    given = json.loads(json.dumps(ApiListTeamPublicSubmissionsResponse.to_dict(reply)))
    given["submissions"][0]["dateSubmitted"] = "2026-09-01T03:04:05.1Z"
    given["submissions"] += [{"publicScore": "5"}, None]
    assert read_submissions(given, 3) == [
        SubmissionRow(5, 3, "2026-09-01T03:04:05.1Z", 1200.5),
        SubmissionRow(6, 3, "", None),
    ]


# -- real replies ----------------------------------------------------------------------------------


def real(samples: Path, name: str) -> Listing:
    path = samples / "episodes" / "episode_service" / name
    return read_listing(json.loads(path.read_text(encoding="utf-8")))


def test_a_real_listing_by_ids(samples: Path) -> None:
    name = "list_episodes_ids_100000-100002.json"
    found = real(samples, name)
    assert [each.id for each in found.episodes] == [100000, 100001, 100002]
    assert (len(found.teams), found.unread) == (6, 0)
    first = found.episodes[0]
    assert (first.competition_id, first.type, first.state) == (17592, "public", "completed")
    assert first.create_time == "2020-01-27T05:59:12.208496Z"
    assert [(each["index"], each["teamName"], each["reward"]) for each in first.agents] == [
        (0, "Evdilos_Ikaria", 0.0),
        (1, "Galmiza", 1.0),
    ]
    assert first.priority == pytest.approx((701.9174567483943 + 791.7787001184637) / 2)
    path = samples / "episodes" / "episode_service" / name
    result = json.loads(path.read_text(encoding="utf-8"))["result"]
    names = {team["id"]: team["teamName"] for team in result["teams"]}
    for row, given in zip(found.episodes, result["episodes"], strict=True):
        for read, wire in zip(row.agents, given["agents"], strict=True):
            assert read["teamId"] == wire["submission"]["teamId"]
            assert read["teamName"] == names[read["teamId"]]
            assert {name: wire[name] for name in wire if name in read} == {
                name: value for name, value in read.items() if name in wire
            }


def test_a_real_empty_listing(samples: Path) -> None:
    assert real(samples, "list_episodes_empty.json") == Listing()


def test_real_teams_by_rank(samples: Path) -> None:
    found = real(samples, "halite_top5_teams_reconstructed.json")
    assert [(team.rank, team.name) for team in found.teams] == [
        (1, "mzotkiew"),
        (2, "Robiland"),
        (3, "Team VQ"),
        (4, "Sergey Stupin"),
        (5, "Tom Van de Wiele"),
    ]
    assert found.teams[0] == TeamRow(5118779, "mzotkiew", 1, None, 16454608)


@pytest.mark.parametrize("by", ["team", "ids", "submission"])
def test_a_reply_in_which_everything_is_null(samples: Path, by: str) -> None:
    """The shape of a real reply, without its values."""
    assert real(samples, f"schema_list_by_{by}.json") == Listing(unread=2)


def test_no_real_reply_is_forgotten(samples: Path) -> None:
    """Replays are no listings; all else is read above."""
    folder = samples / "episodes" / "episode_service"
    assert {path.name for path in folder.iterdir()} == {
        "get_episode_replay_100000.json",
        "halite_top5_teams_reconstructed.json",
        "list_episodes_empty.json",
        "list_episodes_ids_100000-100002.json",
        "schema_get_replay.json",
        *(f"schema_list_by_{by}.json" for by in ("team", "ids", "submission")),
    }
    for name in ("get_episode_replay_100000.json", "schema_get_replay.json"):
        assert real(samples, name) == Listing()
