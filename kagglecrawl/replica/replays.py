"""Replays of a league's games, the logs of their agents, and both as objects in storage.

A replay is JSON as kaggle-environments writes it, of a game like Halite: valid in its shape, and
by no means played by its rules. All bytes follow from the league, the episode and `steps`.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.league import (
    COMPLETED,
    ERROR_EVALUATION,
    ERRORED,
    League,
    LeagueAgent,
    LeagueEpisode,
)
from kagglecrawl.replica.truth import Archive, DatasetTruth, Licence

FIRST_ID = 10**12
"""From here on ids of objects in storage are those of replays and logs."""
_REPLAY_IDS, _LOG_IDS = FIRST_ID, 2 * FIRST_ID
_MOST_AGENTS = 100
_SMALL_STEPS, _SMALL_BOARD, _BOARD = 6, 5, 21
_BOARDS = 4
"""So many different ones a game has, which take turns: dumping numbers is what takes time."""
_SHIPS = 8
_MOVES = ("NORTH", "SOUTH", "EAST", "WEST", "CONVERT", "SPAWN")
_WORDS = {3: "ERROR", 4: "INVALID", 5: "TIMEOUT", 6: "ERROR"}
"""By the state of an agent, from EpisodeAgentState: its status in a replay, if it is not DONE."""
_UNKNOWN = Licence("unknown", "Unknown", "OTHER")


def has_replay(episode: LeagueEpisode) -> bool:
    """Whether the game was played to its end, good or bad: only then it has a replay and logs.

    That what has not finished answers 404 is reported (2026-09, kaggle-facts 4); what an errored
    game answers is unknown: here it has a replay, in which somebody fails.
    """
    return episode.state in {COMPLETED, ERRORED}


def league_replay(league: League, episode_id: int, steps: int | None = None) -> dict[str, Any]:
    """The replay as an object; see `replay_bytes`."""
    replay: dict[str, Any] = json.loads(replay_bytes(league, episode_id, steps))
    return replay


def replay_bytes(league: League, episode_id: int, steps: int | None = None) -> bytes:
    """The replay of an episode, in UTF-8, exactly as every place serves it.

    It has about 6 KB; with `steps`, a game of so many lasts that long on a board as large as
    Halite's: 400 steps are 2 MB, as real ones of 2020 had, and 6,000 are 30 MB. Some games end
    earlier. Raises KeyError if there is no such episode, and ValueError if it has no replay.
    """
    episode = league.episodes[episode_id]
    if not has_replay(episode):
        raise ValueError(f"Episode {episode_id} has not finished.")
    return _replay(league, episode_id, steps)


@lru_cache(maxsize=2)
def _replay(league: League, episode_id: int, steps: int | None) -> bytes:
    episode = league.episodes[episode_id]
    dice = Dice("replay", league.slug, episode_id)
    most, size = (_SMALL_STEPS, _SMALL_BOARD) if steps is None else (steps, _BOARD)
    names = [team.name if (team := league.team(a.team_id)) else "" for a in episode.agents]
    head = {
        "configuration": {
            "actTimeout": 6,
            "agentTimeout": 30,
            "collectRate": 0.25,
            "convertCost": 500,
            "episodeSteps": most,
            "maxCellHalite": 500,
            "moveCost": 0,
            "regenRate": 0.02,
            "runTimeout": 9600,
            "size": size,
            "spawnCost": 500,
            "startingHalite": 24000,
        },
        "description": "A game like the one of space salt.",
        "id": f"{dice.below(1 << 32):08x}-c2f6-11ea-8c40-0242ac130204",
        "info": {"EpisodeId": episode_id, "TeamNames": names},
        "name": league.slug,
        "rewards": [_reward(agent) for agent in episode.agents],
        "schema_version": 1,
        "specification": {
            "action": {"default": {}, "description": "Actions per asset.", "type": "object"},
            "agents": [1, 2, 4],
            "configuration": {"episodeSteps": {"default": 400, "minimum": 1, "type": "integer"}},
            "info": {},
            "observation": {"step": {"minimum": 0, "shared": True, "type": "integer"}},
            "reward": {"default": 5000, "type": ["integer", "null"]},
        },
        "statuses": [_status(agent) for agent in episode.agents],
    }
    played = ", ".join(_steps(episode, _length(league, episode_id, steps), size, dice))
    tail = {"title": "Halite", "version": "1.2.1"}
    text = f'{json.dumps(head)[:-1]}, "steps": [{played}], {json.dumps(tail)[1:]}'
    return text.encode()


def _length(league: League, episode_id: int, steps: int | None) -> int:
    """How many steps the game has; one in seven ends before its time."""
    most = steps or _SMALL_STEPS
    dice = Dice("length", league.slug, episode_id)
    return most if dice.chance(6 / 7) else max(2, most * dice.between(3, 9) // 10)


def _reward(agent: LeagueAgent) -> int | float | None:
    if agent.reward is None:
        return None
    return int(agent.reward) if agent.reward.is_integer() else agent.reward


def _status(agent: LeagueAgent) -> str:
    """DONE, unless it failed; who has no reward has failed in any case."""
    if agent.state >= ERROR_EVALUATION:
        return _WORDS.get(agent.state, "ERROR")
    return "DONE" if agent.reward is not None else "ERROR"


def _steps(episode: LeagueEpisode, count: int, size: int, dice: Dice) -> Iterator[str]:
    """The steps as JSON. Only the first agent of a step sees the board."""
    cells = size * size
    boards = [
        json.dumps([dice.below(500_000) / 1000 if dice.chance(0.9) else 0.0 for _ in range(cells)])
        for _ in range(_BOARDS)
    ]
    ships = 2 if size == _SMALL_BOARD else _SHIPS
    fails = [agent.state >= ERROR_EVALUATION or agent.reward is None for agent in episode.agents]
    for number in range(count):
        last = number == count - 1
        players, agents = [], []
        for index, agent in enumerate(episode.agents):
            stock = 5000 - 7 * number - index
            out = fails[index] and 2 * number >= count - 1
            names = [] if out else [f"{number % 97}-{index + 1 + ship}" for ship in range(ships)]
            fleet = ", ".join(
                f'"{name}": [{(7 * number + 31 * at) % cells}, {(number * 13 + at) % 500}]'
                for at, name in enumerate(names)
            )
            players.append(f"[{stock}, {{}}, {{{fleet}}}]")
            moves = ", ".join(
                f'"{name}": "{_MOVES[(number + at) % 6]}"' for at, name in enumerate(names)
            )
            reward: object = None if out else _reward(agent) if last else stock
            status = _status(agent) if out else "DONE" if last else "ACTIVE"
            agents.append((moves, index, json.dumps(reward), status))
        board = f'"halite": {boards[number % _BOARDS]}, "player": 0, "players": '
        shared = f'{board}[{", ".join(players)}], "step": {number}'
        yield "[{}]".format(
            ", ".join(
                f'{{"action": {{{moves}}}, "info": {{}}, "observation": '
                f"{{{shared if index == 0 else f'{chr(34)}player{chr(34)}: {index}'}}}, "
                f'"reward": {reward}, "status": "{status}"}}'
                for moves, index, reward, status in agents
            )
        )


def agent_logs(league: League, episode_id: int, index: int, steps: int | None = None) -> bytes:
    """What an agent has printed: a list, which has for each step a list of one object.

    Raises KeyError if there is no such episode or agent, and ValueError if it has no logs.
    """
    episode = league.episodes[episode_id]
    if not 0 <= index < len(episode.agents):
        raise KeyError(index)
    if not has_replay(episode):
        raise ValueError(f"Episode {episode_id} has not finished.")
    dice = Dice("logs", league.slug, episode_id, index)
    failed = _status(episode.agents[index]) != "DONE"
    logs = [
        [
            {
                "duration": dice.below(10**6) / 10**6,
                "stdout": f"step {number}\n" if dice.chance(0.2) else "",
                "stderr": "",
            }
        ]
        for number in range(_length(league, episode_id, steps))
    ]
    if failed:
        logs[-1][0]["stderr"] = "Traceback (most recent call last):\nValueError: schiffbrüchig\n"
    return json.dumps(logs).encode()


# -- as objects in storage -------------------------------------------------------------------------


def replay_object(league: League, episode_id: int, steps: int | None = None) -> DatasetTruth:
    """The replay as storage keeps it; raises as `replay_bytes` does."""
    content = replay_bytes(league, episode_id, steps)
    return _object(league, episode_id, _REPLAY_IDS + episode_id, content)


def logs_object(
    league: League, episode_id: int, index: int, steps: int | None = None
) -> DatasetTruth:
    """An agent's logs as storage keeps them; raises as `agent_logs` does."""
    content = agent_logs(league, episode_id, index, steps)
    return _object(league, episode_id, _LOG_IDS + episode_id * _MOST_AGENTS + index, content)


def stored(league: League, object_id: int, steps: int | None = None) -> DatasetTruth | None:
    """The object of this id, or None if the league has none such."""
    try:
        if object_id >= _LOG_IDS:
            return logs_object(league, *divmod(object_id - _LOG_IDS, _MOST_AGENTS), steps)
        return replay_object(league, object_id - _REPLAY_IDS, steps)
    except (KeyError, ValueError):
        return None


def _object(league: League, episode_id: int, number: int, content: bytes) -> DatasetTruth:
    ended = league.episodes[episode_id].ended or datetime(2020, 1, 1, tzinfo=UTC)
    return DatasetTruth(
        id=number,
        owner="episodes",
        slug=str(episode_id),
        title="",
        subtitle="",
        usability=0.0,
        last_updated=ended,
        version=1,
        licence=_UNKNOWN,
        tags=(),
        files=(),
        archive=Archive(content, f"{episode_id}.json"),
    )
