"""The dicts that records are made of, with their JSON Schemas.

Dicts, not dataclasses: an exporter takes four times as long for a record of nested ones. Their keys
are those of the feeds. ``items`` has the records, and is where all of these are imported from.
"""

from __future__ import annotations

import json
from typing import Any, TypedDict, cast

from kagglecrawl.kaggle.episodes import AGENT_STATES, UNSPECIFIED

#: The places of Kaggle's that have replays: the site's page, the host of its contents, the service
#: of 2020, the official API.
REPLAY_SOURCES = ("web", "content", "2020", "api", "disk")


def _objects(**properties: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of such a dict, all of whose fields are there."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": list(properties),
    }


_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_NUMBER = {"type": ["number", "null"]}
_ID = {"type": ["integer", "null"], "minimum": 1}


class File(TypedDict):
    """One file of a resource: its path below the root, its size in bytes."""

    name: str
    size: int


class License(TypedDict):
    """A licence by Kaggle's name for it, such as ``CC0-1.0``."""

    name: str


FILE = _objects(
    name={"type": "string", "description": "Path below the dataset's root."},
    size={"type": "integer", "minimum": 0, "description": "Size in bytes."},
)
LICENSE = _objects(name={"type": "string"})


class Download(TypedDict):
    """What has come of a resource's files.

    ``folder`` is below the workspace; ``files`` and ``bytes`` are what is in it. ``leftOut`` counts
    the files that were not wanted or refused, by reason. ``reason`` says why there are no files.
    """

    folder: str
    files: int
    bytes: int
    leftOut: dict[str, int]
    reason: str


DOWNLOAD = _objects(
    folder={"type": "string", "description": "Folder of the files, below the workspace."},
    files={**_COUNT, "description": "How many files are in it."},
    bytes={**_COUNT, "description": "Their bytes."},
    leftOut={
        "type": "object",
        "additionalProperties": {"type": "integer", "minimum": 1},
        "description": "How many files were not wanted or refused, by reason.",
    },
    reason={"type": "string", "description": "Why there are no files; empty if there are."},
)


def no_download(reason: str) -> Download:
    """There are no files, for this reason, a word."""
    return Download(folder="", files=0, bytes=0, leftOut={}, reason=reason)


def download_of(manifest: str | None) -> Download | None:
    """The JSON of one, as the ledger keeps it; None if it is none, or another release's."""
    try:
        found = json.loads(manifest or "")
    except ValueError:
        return None
    if not isinstance(found, dict) or found.keys() != Download.__annotations__.keys():
        return None
    return cast("Download", found)


class Board(TypedDict):
    """What has come of a leaderboard: how many teams it has, which of its fields had to be derived
    from its rows, and why there is none. A ``final`` one will not change any more, and need not be
    asked for again. ``bytes`` and ``sha256`` are of its file, if that was wanted."""

    teams: int
    derived: list[str]
    reason: str
    final: bool
    bytes: int
    sha256: str


ENTRY = _objects(
    Rank={"type": "integer", "minimum": 1},
    Team={"type": "string", "description": "Name of the team."},
    Score={
        "type": ["number", "string", "null"],
        "description": "A number where that is exactly what Kaggle writes, else its text.",
    },
    SubmissionCount=_COUNT,
)


class Replay(TypedDict):
    """What has come of a game's replay.

    ``path`` is its file below the spider's output folder, of so many ``bytes``; ``rawBytes`` and
    ``rawSha256`` are of the JSON in it, before compression. ``steps``, ``statuses`` and ``rewards``
    are the replay's own. ``source`` is the place that had it.
    """

    path: str
    bytes: int
    sha256: str
    rawBytes: int
    rawSha256: str
    steps: int
    statuses: list[str]
    rewards: list[float | None]
    source: str


class Log(TypedDict):
    """What has come of the log of one agent, by its index: as a ``Replay``, uncompressed."""

    index: int
    path: str
    bytes: int
    sha256: str
    reason: str


AGENT = _objects(
    index={**_COUNT, "description": "Its place in the game, from 0."},
    submissionId={**_ID, "description": "The submission that plays."},
    teamId={**_ID, "description": "Whose submission it is."},
    teamName={**_TEXT, "description": "The team's name; empty where nothing gives it."},
    reward={**_NUMBER, "description": "What the game gave it, in the game's units."},
    state={
        "enum": [*AGENT_STATES, UNSPECIFIED],
        "description": "How it ended; mostly unspecified where it ended well.",
    },
    initialScore={**_NUMBER, "description": "Its rating before the game."},
    initialConfidence={**_NUMBER, "description": "That rating's uncertainty."},
    updatedScore={**_NUMBER, "description": "Its rating after the game."},
    updatedConfidence={**_NUMBER, "description": "That rating's uncertainty."},
)
_STORED: dict[str, dict[str, Any]] = {
    "path": {**_TEXT, "description": "The file, below the spider's output folder."},
    "bytes": {**_COUNT, "description": "Its size."},
    "sha256": {**_TEXT, "description": "Its SHA-256, in hexadecimal digits."},
}
_REASON = {**_TEXT, "description": "Why there is none; empty if there is one."}
REPLAY = _objects(
    **_STORED,
    rawBytes={**_COUNT, "description": "Size of the JSON in it, uncompressed."},
    rawSha256={**_TEXT, "description": "SHA-256 of that JSON."},
    steps={**_COUNT, "description": "How many steps the replay has."},
    statuses={"type": "array", "items": _TEXT, "description": "Each agent's, at the end."},
    rewards={"type": "array", "items": _NUMBER, "description": "Each agent's, at the end."},
    source={
        "enum": [*REPLAY_SOURCES],
        "description": "Where it came from; disk: an earlier run had stored it.",
    },
)
LOG = _objects(
    index={**_COUNT, "description": "Which agent's."},
    **_STORED,
    reason=_REASON,
)


def no_log(index: int, reason: str) -> Log:
    """There is none of this agent, for this reason, a word."""
    return Log(index=index, path="", bytes=0, sha256="", reason=reason)
