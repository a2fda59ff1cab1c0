"""Small replays in every shape that real ones were seen in, made by hand.

The shapes are of Kaggle's own Halite replays of 2020, of the test replays of its viewer, and of
games that the `kaggle-environments` package wrote of agents that raise, are late or make nonsense.
"""

from __future__ import annotations

import json
from typing import Any

Game = dict[str, Any]


def agent(status: str = "ACTIVE", reward: Any = 0, **more: Any) -> Game:
    """One agent's part of a step."""
    return {
        "action": {},
        "info": {},
        "observation": {"remainingOverageTime": 60},
        "reward": reward,
        "status": status,
        **more,
    }


def game(rewards: list[Any], statuses: list[str], steps: int = 3, **more: Any) -> Game:
    """A game with ``steps`` steps, the members of which are in the order of kaggle-environments."""
    last = [agent(status, reward) for status, reward in zip(statuses, rewards, strict=True)]
    return {
        "id": "39b64dc4-e5fa-11f0-8c2e-0242ac130202",
        "name": "halite",
        "title": "Halite",
        "description": "Collect the most halite before the match's end.",
        "version": "1.2.1",
        "module_version": "1.33.2",
        "configuration": {"episodeSteps": steps, "actTimeout": 3},
        "specification": {"agents": [1, 2, 4], "reward": {"type": ["number", "null"]}},
        "steps": [[agent() for _ in rewards] for _ in range(steps - 1)] + [last],
        "rewards": rewards,
        "statuses": statuses,
        "schema_version": 1,
        "info": {},
        **more,
    }


def _old() -> Game:
    """As in 2020: sorted, without info and module_version."""
    new = game([-98, -112, -85, 27020], ["DONE"] * 4)
    return {name: new[name] for name in sorted(new) if name not in {"info", "module_version"}}


_TALK = 'He said: "{\\"steps\\": [1]}" \\ / \b\f\n\r\t \u2028 é 漢字 😀 \x7f'

SHAPES: dict[str, Game] = {
    "2020": _old(),
    "errors": game([0, None, None, None], ["DONE", "ERROR", "INVALID", "TIMEOUT"]),
    "all_failed": game([None, None], ["ERROR", "ERROR"], steps=2),
    "one_agent": game([4000], ["DONE"]),
    "one_step": game([0, 0], ["INACTIVE", "ACTIVE"], steps=1),
    "fractions": game([0.5, -1.0], ["DONE", "DONE"]),
    "episode": game([1, -1], ["DONE"] * 2, info={"EpisodeId": 78104746, "TeamNames": [_TALK, ""]}),
    "no_number": game([1, -1], ["DONE"] * 2, info={"EpisodeId": None}),
    "null_info": game([1, -1], ["DONE"] * 2, info=None),
    "talk": game(
        [1, 0],
        ["DONE"] * 2,
        steps=2,
        logs=[[{"duration": 1e-05, "stdout": _TALK, "stderr": ""}], []],
        result="of a game",
        replay={"of": "another"},
    ),
    "nan": game([1, -1], ["DONE"] * 2, evaluation=[float("nan"), float("-inf"), 10**30, -0.0]),
    # json.loads reads half of a pair, and so does everybody who reads replays
    "half_a_pair": game([1, -1], ["DONE"] * 2, configuration={"agentExec": "\ud83d"}),
}


def texts(shape: Game) -> dict[str, bytes]:
    """The JSON of a game, as it was seen to be written."""
    written = {
        "dumps": json.dumps(shape),
        "tight": json.dumps(shape, separators=(",", ":")),
        "indented": json.dumps(shape, indent=2) + "\n",
    }
    if '\\ud83d"' not in written["dumps"]:  # half of a pair is in no UTF-8
        written["unicode"] = json.dumps(shape, ensure_ascii=False)
    return {how: text.encode() for how, text in written.items()}


def wrapped(text: bytes) -> dict[str, tuple[bytes, bytes]]:
    """Answers that have this replay in them, each with what is to come out of it."""
    bare, said = text.strip(), text.decode()
    head, tail = (
        b'{"wasSuccessful": true, "a": [{"replay": 1}], ',
        b', "errors": [], "steps": 0}\r\n',
    )
    return {
        "object": (text, bare),
        "bom": (b"\xef\xbb\xbf \r\n\t" + text, bare),
        "replay": (b'{"replay": ' + text + b"}", bare),
        "result": (head + b'"result": {"id": 5, "replay":' + text + b', "b": "}"}' + tail, bare),
        "string": (json.dumps({"replay": said}).encode(), text),
        "tight_string": (
            b'{"result":{"replay":' + json.dumps(said, ensure_ascii=False).encode() + b"}}",
            text,
        ),
        "result_string": (
            head + b'"result": {"replay" : ' + json.dumps(said).encode() + b' , "b": 0}' + tail,
            text,
        ),
        # every character escaped
        "escaped": (
            b'{"replay":"' + b"".join(b"\\u" + unit for unit in _units(said)) + b'"}',
            text,
        ),
    }


def _units(text: str) -> list[bytes]:
    coded = text.encode("utf-16-be").hex()
    return [coded[at : at + 4].encode() for at in range(0, len(coded), 4)]
