"""The record of an episode: its names, its schema, and what is made of a row."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from itemadapter import ItemAdapter

from kagglecrawl import item_parts
from kagglecrawl.items import (
    Agent,
    Episode,
    Log,
    Replay,
    feed_fields,
    no_log,
    record_of,
    schema,
    signature,
)
from kagglecrawl.kaggle.episodes import read_listing
from tests.json_schema import fits

ROW = {
    "id": 100000,
    "competitionId": 17592,
    "createTime": {"seconds": 1580104752, "nanos": 208496000},
    "endTime": {"seconds": 1580104776, "nanos": 202911600},
    "state": "completed",
    "type": "public",
    "agents": [
        {"submissionId": 5, "index": 0, "reward": 1, "updatedScore": 700.0, "state": 2},
        {"submissionId": 6, "index": 1, "reward": None, "updatedScore": None, "state": 4},
    ],
}
REPLAY = Replay(
    path="replay/connectx/100000.json.gz",
    bytes=1200,
    sha256="ab" * 32,
    rawBytes=9000,
    rawSha256="cd" * 32,
    steps=10,
    statuses=["DONE", "ERROR"],
    rewards=[1, None],
    source="web",
)
LOG = Log(index=1, path="log/connectx/100000-1.json", bytes=5, sha256="ef" * 32, reason="")


def episode(**said: Any) -> Episode:
    (row,) = read_listing({"episodes": [{**ROW, **said}]}).episodes
    return Episode.of("connectx", row)


def test_a_record_of_a_row() -> None:
    found = episode()
    assert found.key == "connectx/100000"
    assert (found.replay, found.logs) == (None, None)
    names = feed_fields(Episode)
    assert {names[name]: value for name, value in ItemAdapter(found).asdict().items()} == {
        "Competition": "connectx",
        "CompetitionId": 17592,
        "EpisodeId": 100000,
        "Type": "public",
        "State": "completed",
        "CreateTime": "2020-01-27T05:59:12.208496Z",
        "EndTime": "2020-01-27T05:59:36.202911Z",
        "Score": 700.0,
        "Agents": [
            {
                "index": 0,
                "submissionId": 5,
                "teamId": None,
                "teamName": "",
                "reward": 1.0,
                "state": "complete",
                "initialScore": None,
                "initialConfidence": None,
                "updatedScore": 700.0,
                "updatedConfidence": None,
            },
            {
                "index": 1,
                "submissionId": 6,
                "teamId": None,
                "teamName": "",
                "reward": None,
                "state": "error_invalid_action",
                "initialScore": None,
                "initialConfidence": None,
                "updatedScore": None,
                "updatedConfidence": None,
            },
        ],
        "Replay": None,
        "Logs": None,
    }


def test_no_score_is_no_zero() -> None:
    assert episode(agents=[]).score is None
    assert episode(agents=[{"updatedScore": 0.0}]).score == 0.0


def test_the_ledgers_record_makes_the_same_item_again() -> None:
    found = dataclasses.replace(episode(), replay=REPLAY, logs=[LOG])
    kept = json.loads(json.dumps(record_of(found)))
    assert Episode(**kept) == found


def test_the_same_game_from_two_generations_says_the_same() -> None:
    modern = {
        **ROW,
        "createTime": "2020-01-27T05:59:12.208496Z",
        "endTime": "2020-01-27T05:59:36.2029110Z",
        "state": 2,
        "type": "EPISODE_TYPE_PUBLIC",
        "agents": [
            {"submissionId": "6", "index": 1, "state": "ERROR_INVALID_ACTION"},
            {"submissionId": "5", "reward": 1.0, "updatedScore": 700, "state": "complete"},
        ],
    }
    assert signature(episode(**modern)) == signature(episode())
    assert signature(episode(state="errored")) != signature(episode())


# -- the schema ------------------------------------------------------------------------------------


def row_of(item: Episode) -> dict[str, Any]:
    names = feed_fields(Episode)
    return {names[name]: value for name, value in ItemAdapter(item).asdict().items()}


@pytest.mark.parametrize(
    ("replay", "logs"),
    [
        (None, None),
        (REPLAY, []),
        (REPLAY, [LOG, no_log(0, "forbidden")]),
        (None, [no_log(0, "not_found")]),
    ],
)
def test_every_record_fits_its_schema(replay: Replay | None, logs: list[Log] | None) -> None:
    rule = schema(Episode)
    unknown = episode(type=None, state=None, competitionId=None, agents=[{}, {}], endTime=None)
    for item in (episode(), unknown):
        row = row_of(dataclasses.replace(item, replay=replay, logs=logs))
        assert fits(row, rule)
        assert not fits({**row, "State": "COMPLETED"}, rule)
        assert not fits({**row, "Agents": [{"index": 0}]}, rule)
        assert not fits({**row, "EpisodeId": "100000"}, rule)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [(Agent, item_parts.AGENT), (Replay, item_parts.REPLAY), (Log, item_parts.LOG)],
)
def test_the_schema_of_a_part_has_its_keys(kind: type, rule: dict[str, Any]) -> None:
    assert list(rule["properties"]) == rule["required"] == list(kind.__annotations__)
    assert all(each["description"] for each in rule["properties"].values())


def test_there_is_no_log_without_a_reason() -> None:
    assert no_log(1, "cut") == {"index": 1, "path": "", "bytes": 0, "sha256": "", "reason": "cut"}
