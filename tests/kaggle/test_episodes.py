"""Listings of every generation: what each field is, where it comes from, and what is not read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kagglesdk.competitions.types.competition_api_service import (
    ApiEpisode,
    ApiEpisodeAgent,
    ApiListSubmissionEpisodesResponse,
)
from kagglesdk.competitions.types.episode import EpisodeAgentState, EpisodeState, EpisodeType

from kagglecrawl.kaggle.episodes import (
    Agent,
    EpisodeRow,
    Listing,
    SubmissionRow,
    TeamRow,
    read_listing,
    read_submissions,
    read_web_leaderboard,
)

# As the service of 2020 wrote it: everything is there, zeros and nulls too.
OLD_AGENT: dict[str, Any] = {
    "id": 197423,
    "submissionId": 14115616,
    "reward": 0.0,
    "index": 0,
    "initialScore": 703.25,
    "initialConfidence": 20.0,
    "updatedScore": 701.5,
    "updatedConfidence": 19.5,
    "state": "unspecified",
    "submission": {
        "id": 14115616,
        "dateSubmitted": {"seconds": 1578693663, "nanos": 280000000},
        "teamId": 4212968,
        "publicScore": 0.0,
        "status": "pending",
        "team": None,
    },
}
OLD: dict[str, Any] = {
    "result": {
        "episodes": [
            {
                "id": 100000,
                "competitionId": 17592,
                "createTime": {"seconds": 1580104752, "nanos": 208496000},
                "endTime": {"seconds": 1580104776, "nanos": 202911600},
                "replayUrl": "gs://kaggle-episode-replays/100000.json",
                "adminNotes": None,
                "state": "completed",
                "type": "public",
                "agents": [OLD_AGENT],
            }
        ],
        "teams": [
            {
                "id": 4212968,
                "teamName": "Evdilos_Ikaria",
                "competitionId": 17592,
                "lastSubmissionDate": None,
                "publicLeaderboardSubmissionId": 14115616,
                "publicLeaderboardScore": 812.5,
                "publicLeaderboardRank": 7,
                "privateLeaderboardSubmissionId": None,
                "privateLeaderboardScore": None,
                "privateLeaderboardRank": None,
            }
        ],
    },
    "wasSuccessful": True,
}
# As it is now: no wrapper, no zeros, no nulls.
MODERN: dict[str, Any] = {
    "episodes": [
        {
            "id": 91537598,
            "createTime": "2026-09-01T03:04:05.1234567Z",
            "endTime": "2026-09-01T03:14:05Z",
            "state": "COMPLETED",
            "type": "EPISODE_TYPE_PUBLIC",
            "agents": [
                {"submissionId": 42, "reward": 1, "index": 1, "updatedScore": 1200.5},
                {"submissionId": 41, "teamId": 1, "reward": -1.0, "updatedScore": 1100.0},
            ],
        }
    ],
    "submissions": [{"id": 42, "teamId": 2}],
    "teams": [
        {"id": 1, "teamName": "one", "publicLeaderboardSubmissionId": 41, "competitionId": 18011},
        {"id": 2, "teamName": "two"},
    ],
}


def agent(**said: Any) -> Agent:
    """An agent of whom nothing is known but this."""
    nothing = Agent(
        index=0,
        submissionId=None,
        teamId=None,
        teamName="",
        reward=None,
        state="unspecified",
        initialScore=None,
        initialConfidence=None,
        updatedScore=None,
        updatedConfidence=None,
    )
    return Agent(**{**nothing, **said})  # type: ignore[typeddict-item]


def agents_of(*agents: Any, wrapped: bool = False, **beside: Any) -> list[Agent]:
    """What is read of such agents, and of what else the reply says."""
    body = {"episodes": [{"id": 5, "state": "completed", "agents": list(agents)}], **beside}
    (row,) = read_listing({"result": body} if wrapped else body).episodes
    return row.agents


# -- the generations -------------------------------------------------------------------------------


def test_a_reply_of_2020() -> None:
    assert read_listing(OLD) == Listing(
        episodes=[
            EpisodeRow(
                id=100000,
                competition_id=17592,
                type="public",
                state="completed",
                create_time="2020-01-27T05:59:12.208496Z",
                end_time="2020-01-27T05:59:36.202911Z",
                agents=[
                    agent(
                        submissionId=14115616,
                        teamId=4212968,
                        teamName="Evdilos_Ikaria",
                        reward=0.0,
                        initialScore=703.25,
                        initialConfidence=20.0,
                        updatedScore=701.5,
                        updatedConfidence=19.5,
                    )
                ],
            )
        ],
        teams=[TeamRow(4212968, "Evdilos_Ikaria", 7, 812.5, 14115616)],
    )


def test_a_reply_of_2026() -> None:
    found = read_listing(MODERN)
    assert found == Listing(
        episodes=[
            EpisodeRow(
                id=91537598,
                competition_id=18011,  # the teams say it, the episode does not
                type="public",
                state="completed",
                create_time="2026-09-01T03:04:05.123456Z",
                end_time="2026-09-01T03:14:05Z",
                agents=[
                    agent(
                        index=0,
                        submissionId=41,
                        teamId=1,
                        teamName="one",
                        reward=-1.0,
                        updatedScore=1100.0,
                    ),
                    agent(
                        index=1,
                        submissionId=42,
                        teamId=2,
                        teamName="two",
                        reward=1.0,
                        updatedScore=1200.5,
                    ),
                ],
            )
        ],
        teams=[TeamRow(1, "one", None, None, 41), TeamRow(2, "two", None, None, None)],
        submissions=[SubmissionRow(42, 2, "", None)],
    )
    assert found.episodes[0].priority == 1150.25


def test_a_reply_of_the_official_api() -> None:
    """Made by Kaggle's own classes, which leave out what is unset."""
    reply, episode = ApiListSubmissionEpisodesResponse(), ApiEpisode()
    episode.id, episode.type = 7, EpisodeType.EPISODE_TYPE_VALIDATION
    episode.state = EpisodeState.NEVER_STARTED
    one, two = ApiEpisodeAgent(), ApiEpisodeAgent()
    one.submission_id, one.team_id, one.team_name, one.reward = 41, 1, "one", 0.0
    two.submission_id, two.team_id, two.index = 42, 2, 1
    two.state = EpisodeAgentState.EPISODE_AGENT_STATE_ERROR_TIMEOUT
    episode.agents, reply.episodes = [one, two], [episode]
    found = read_listing(json.loads(json.dumps(ApiListSubmissionEpisodesResponse.to_dict(reply))))
    assert found == Listing(
        episodes=[
            EpisodeRow(
                id=7,
                competition_id=None,
                type="validation",
                state="never_started",
                create_time="",
                end_time="",
                agents=[
                    agent(submissionId=41, teamId=1, teamName="one", reward=0.0),
                    agent(index=1, submissionId=42, teamId=2, state="error_timeout"),
                ],
            )
        ]
    )
    assert found.episodes[0].score is None
    assert found.episodes[0].priority == 0.0


@pytest.mark.parametrize(
    "reply",
    [
        {"result": {"episodes": [], "teams": []}, "wasSuccessful": True},
        {"result": {"episodes": None, "teams": None}, "wasSuccessful": True},
        {"result": None, "wasSuccessful": True},
        {"result": {}},
        {},
        None,
        [],
        "<html>",
    ],
)
def test_an_empty_reply_is_an_empty_listing(reply: Any) -> None:
    assert read_listing(reply) == Listing()
    assert read_submissions(reply, 1) == []
    assert read_web_leaderboard(reply) == []


# -- agents ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "wrapped", "reward"),
    [
        # a zero that proto3 has left out
        ({"state": "EPISODE_AGENT_STATE_COMPLETE"}, False, 0.0),
        ({"state": 2}, False, 0.0),
        # a null is no zero, nor is what 2020 did not write
        ({"state": 2, "reward": None}, False, None),
        ({"state": 2}, True, None),
        # zero or null: not known
        ({}, False, None),
        ({"state": 4}, False, None),
        ({"state": 2, "reward": "NaN"}, False, None),
        ({"state": 2, "reward": float("inf")}, False, None),
        ({"reward": "12.5"}, False, 12.5),
        ({"reward": -3}, True, -3.0),
        ({"reward": 10**400}, False, None),
    ],
)
def test_the_reward_of_an_agent(said: dict[str, Any], wrapped: bool, reward: float | None) -> None:
    (found,) = agents_of(said, wrapped=wrapped)
    assert found["reward"] == reward
    assert isinstance(found["reward"], float | None)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([1, ...], [0, 1]),
        (["1", 0, 2.0], [0, 1, 2]),
        ([3, 1], [1, 3]),  # a gap stays
        ([..., 5], [0, 5]),
        ([..., ..., ...], [0, 1, 2]),
        ([None, -1], [0, 1]),
        ([0, ...], [0, 1]),
        ([], []),
    ],
)
def test_agents_by_their_index(given: list[Any], read: list[int]) -> None:
    rows = [{} if index is ... else {"index": index} for index in given]
    assert [each["index"] for each in agents_of(*rows)] == read


def test_what_is_no_agent_is_none() -> None:
    assert agents_of(None, "agent", 5, []) == []
    assert [each["submissionId"] for each in agents_of(None, {"submissionId": 8}, None)] == [8]
    given: tuple[Any, ...] = (None, {}, "two")
    for agents in given:
        (row,) = read_listing({"episodes": [{"id": 5, "agents": agents}]}).episodes
        assert (row.agents, row.priority) == ([], 0.0)


@pytest.mark.parametrize(
    ("said", "beside", "team"),
    [
        ({"submissionId": 9, "teamId": "3"}, {}, 3),
        ({"submissionId": 9, "teamId": 0, "submission": {"id": 9, "teamId": 3}}, {}, 3),
        ({"submissionId": 9, "submission": None}, {"submissions": [{"id": "9", "teamId": 3}]}, 3),
        (
            {"submission": {"id": 9}},
            {"submissions": [{"id": 9}], "teams": [{"id": 3, "publicLeaderboardSubmissionId": 9}]},
            3,
        ),
        ({"submissionId": 9, "submission": "9"}, {"submissions": [{"id": 8, "teamId": 3}]}, None),
        ({}, {"teams": [{"id": 3}]}, None),
    ],
)
def test_whose_an_agent_is(said: Any, beside: dict[str, Any], team: int | None) -> None:
    (found,) = agents_of(said, **beside)
    assert found["teamId"] == team
    assert found["submissionId"] == (9 if said else None)


def test_the_agents_own_name_of_its_team_comes_first() -> None:
    teams = [{"id": 3, "teamName": "now"}]
    (found,) = agents_of({"teamId": 3, "teamName": "then"}, teams=teams)
    assert found["teamName"] == "then"
    (found,) = agents_of({"teamId": 3, "teamName": None}, teams=teams)
    assert found["teamName"] == "now"


def test_the_priority_is_the_mean_of_the_scores_that_are_there() -> None:
    def row(*scores: Any) -> EpisodeRow:
        agents = [{"updatedScore": score} for score in scores]
        return read_listing({"episodes": [{"id": 5, "agents": agents}]}).episodes[0]

    assert row(1200.0, None, "1000", "NaN", {}).priority == 1100.0
    assert (row(None, None).priority, row(None).score) == (0.0, None)
    assert (row(0.0, -2.0).priority, row(0.0).score) == (-1.0, 0.0)


@pytest.mark.parametrize(
    ("own", "of_teams", "read"),
    [(None, [7, 7], 7), (None, [7, 8], None), (None, [], None), ("9", [7], 9)],
)
def test_the_competition_of_an_episode(own: Any, of_teams: list[int], read: int | None) -> None:
    teams = [{"id": at, "competitionId": each} for at, each in enumerate(of_teams, 1)]
    (row,) = read_listing({"episodes": [{"id": 5, "competitionId": own}], "teams": teams}).episodes
    assert row.competition_id == read
