"""How ids, times and enums of listings are spelt, and that nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kagglesdk.competitions.types.episode import EpisodeAgentState, EpisodeState, EpisodeType

from kagglecrawl.kaggle.episodes import (
    agent_state,
    episode_state,
    episode_type,
    read_listing,
    read_submissions,
    read_web_leaderboard,
)


@pytest.mark.parametrize("number", [None, 0, -4, "", "five", True, {}, [5], 2**63, 1e300, "NaN"])
def test_a_row_without_an_id_is_counted(number: Any) -> None:
    for name in ("episodes", "teams", "submissions"):
        found = read_listing({name: [{"id": number}, {"id": "77"}, {}, None, 5]})
        assert found.unread == 4
        assert [each.id for each in getattr(found, name)] == [77]


def test_of_one_id_the_first_row_counts() -> None:
    states = ["COMPLETED", "CREATED", "ERRORED"]
    rows = [{"id": at % 2 + 1, "state": state} for at, state in enumerate(states)]
    found = read_listing({"episodes": rows})
    assert [(each.id, each.state) for each in found.episodes] == [(1, "completed"), (2, "created")]
    assert found.unread == 0


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2026-09-01T03:04:05Z", "2026-09-01T03:04:05Z"),
        ("2026-09-01T03:04:05.5", "2026-09-01T03:04:05.5Z"),
        ({"seconds": "1580104752", "nanos": 208496000}, "2020-01-27T05:59:12.208496Z"),
        ({"seconds": None, "nanos": None}, ""),
        (1580104752, "2020-01-27T05:59:12Z"),
        (1580104752.25, "2020-01-27T05:59:12.25Z"),
        (1580104752208, "2020-01-27T05:59:12.208Z"),
        ("1580104752208", "2020-01-27T05:59:12.208Z"),
        # a time that was never set
        ({"seconds": 0, "nanos": 0}, ""),
        ("0001-01-01T00:00:00", ""),
        (0, ""),
        (10**400, ""),
        (float("nan"), ""),
        (True, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_times(value: Any, read: str) -> None:
    (row,) = read_listing({"episodes": [{"id": 5, "endTime": value}]}).episodes
    assert (row.create_time, row.end_time) == ("", read)
    (submission,) = read_submissions({"submissions": [{"id": 5, "dateSubmitted": value}]}, 1)
    assert submission.date == read


@pytest.mark.parametrize("kind", [EpisodeType, EpisodeState, EpisodeAgentState])
def test_every_enum_of_kaggles_in_every_spelling(kind: Any) -> None:
    prefix = {
        EpisodeType: "EPISODE_TYPE_",
        EpisodeState: "EPISODE_STATE_",
        EpisodeAgentState: "EPISODE_AGENT_STATE_",
    }[kind]
    read = {EpisodeType: episode_type, EpisodeState: episode_state, EpisodeAgentState: agent_state}
    for member in kind:
        name = member.name.removeprefix(prefix)
        word = name.lower()
        if not member.value:
            word = "unspecified" if kind is EpisodeAgentState else ""
        camel = "".join(part.capitalize() for part in (prefix + name).split("_"))
        for value in (
            *(member.value, str(member.value), name, name.lower(), prefix + name),
            *(camel, camel[0].lower() + camel[1:], f" {name} "),
        ):
            assert read[kind](value) == word, value


@pytest.mark.parametrize("value", [None, True, 99, -1, 1.5, "", "canary", "EPISODE_", [], {}])
def test_what_is_no_word_of_theirs_is_not_known(value: Any) -> None:
    assert (episode_type(value), episode_state(value)) == ("", "")
    assert agent_state(value) == "unspecified"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["result", "episodes", "teams", "submissions", "agents", "submission"])
            | st.sampled_from(["id", "teamId", "index", "reward", "state", "createTime", "rank"])
            | st.sampled_from(["publicLeaderboard", "seconds", "nanos", "updatedScore"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(json_values)
def test_nothing_raises_and_all_of_it_is_json(reply: Any) -> None:
    for row in read_listing(reply).episodes:
        json.dumps([row.agents, row.priority, row.create_time], allow_nan=False)
    assert all(each.rank is None or each.rank > 0 for each in read_web_leaderboard(reply))
    assert all(each.id > 0 for each in read_submissions(reply, 1))
