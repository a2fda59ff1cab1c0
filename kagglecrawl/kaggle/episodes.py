"""Lists of episodes, submissions and teams, as every generation of Kaggle's services writes them.

A *listing* is one reply of ListEpisodes (of a team, a submission, or ids) or of
ListSubmissionEpisodes. The 2020 service writes every field, nulls and zeros too, wraps the reply
in ``result``, gives each agent its ``submission`` and dates as ``{seconds, nanos}``; today's has no
wrapper, leaves nulls and zeros out and lists ``submissions`` beside the episodes; the official API
gives no scores, but the teams with the agents (kaggle-facts 4, real-data-quirks 9). All are read by
the same functions, none of which raises: a row that cannot be read is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from kagglecrawl.kaggle import lenient

EPISODE_TYPES = ("public", "private", "exhibition", "validation")
EPISODE_STATES = ("created", "completed", "errored", "never_started")
AGENT_STATES = (
    "pending",
    "complete",
    "error_evaluation",
    "error_invalid_action",
    "error_timeout",
    "error_on_episode",
)
#: The state of an agent of which nothing is said. Kaggle says nothing of those that ended well,
#: in the real replies of 2020 and (reported twice) in those of 2026.
UNSPECIFIED = "unspecified"

#: The highest number that SQLite can hold: an id beyond it is none.
_MOST = (1 << 63) - 1
#: From here on a bare number of a time counts milliseconds: in seconds it is the year 5138.
_MILLISECONDS = 10**11
#: How protocol buffers and .NET write a time that was never set.
_NEVER = ("1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z")


class Agent(TypedDict):
    """One player of a game. Scores are Kaggle's ratings before and after it (mu, of about 600 to
    2,000) with their uncertainties (sigma); a ``reward`` is in the game's own units. None is not
    known. ``teamName`` is empty where nothing names the team."""

    index: int
    submissionId: int | None
    teamId: int | None
    teamName: str
    reward: float | None
    state: str
    initialScore: float | None
    initialConfidence: float | None
    updatedScore: float | None
    updatedConfidence: float | None


@dataclass
class EpisodeRow:
    """One game: ``type``, ``state`` and its agents' states as words (empty: not known), times as
    ISO 8601 in UTC (empty: none), agents by their index."""

    id: int
    competition_id: int | None
    type: str
    state: str
    create_time: str
    end_time: str
    agents: list[Agent]

    @property
    def score(self) -> float | None:
        """The mean of the scores that its agents have after it; None where none has one."""
        scores = [each["updatedScore"] for each in self.agents]
        known = [score for score in scores if score is not None]
        return sum(known) / len(known) if known else None

    @property
    def priority(self) -> float:
        """The better the agents, the sooner its replay is wanted: ``score``, or 0.0."""
        return self.score or 0.0


@dataclass
class TeamRow:
    """A team: rank (1 is the best), score, and the submission that has them; None: not known."""

    id: int
    name: str
    rank: int | None
    score: float | None
    submission_id: int | None


@dataclass
class SubmissionRow:
    """A submission: its team, when it was made (ISO 8601, UTC; empty: not known), public score."""

    id: int
    team_id: int | None
    date: str
    score: float | None


@dataclass
class Listing:
    """What a reply lists, in its order, of each id the first row. ``unread`` is the number of its
    rows, of all three kinds, that have no id that can be read."""

    episodes: list[EpisodeRow] = field(default_factory=list)
    teams: list[TeamRow] = field(default_factory=list)
    submissions: list[SubmissionRow] = field(default_factory=list)
    unread: int = 0


def read_listing(reply: Any) -> Listing:
    """The reply of a ListEpisodes of any generation, or of ListSubmissionEpisodes.

    An agent's team is what the agent says, else its ``submission``, else ``submissions``, else the
    team of which it is the submission on the leaderboard; its name is the agent's or the team's.
    """
    body, zeros_left_out = _body(reply)
    found = Listing()
    given_teams = _unique(body, "teams", found)
    given_submissions = _unique(body, "submissions", found)
    found.teams = [_team(number, row) for number, row in given_teams]
    found.submissions = [_submission(number, row) for number, row in given_submissions]
    teams = {each.submission_id: each.id for each in found.teams if each.submission_id}
    teams |= {each.id: each.team_id for each in found.submissions if each.team_id}
    known = _Known(teams, {each.id: each.name for each in found.teams}, zeros_left_out)
    # one reply is of one competition, so the teams tell it where the episodes do not
    of_teams = {each for _, row in given_teams if (each := _id(row, "competitionId"))}
    competition = of_teams.pop() if len(of_teams) == 1 else None
    for number, row in _unique(body, "episodes", found):
        found.episodes.append(
            EpisodeRow(
                id=number,
                competition_id=_id(row, "competitionId") or competition,
                type=episode_type(row.get("type")),
                state=episode_state(row.get("state")),
                create_time=_time(row, "createTime"),
                end_time=_time(row, "endTime"),
                agents=_agents(lenient.rows(row, "agents"), known),
            )
        )
    return found


def read_submissions(reply: Any, team_id: int) -> list[SubmissionRow]:
    """ListTeamPublicSubmissions' reply for that team; rows without an id are left out."""
    body, _ = _body(reply)
    rows = [_submission(number, row) for number, row in _unique(body, "submissions", Listing())]
    for row in rows:
        row.team_id = row.team_id or team_id
    return rows


def read_web_leaderboard(reply: Any) -> list[TeamRow]:
    """The teams of the site's GetLeaderboard, best first, then those that have no rank.

    The private board where it has rows, which are the final standings, else the public one. A
    team that is not on that board has no rank, whatever another board says of it: ranks of two
    boards cannot be compared.
    """
    body, _ = _body(reply)
    teams = {number: _team(number, row) for number, row in _unique(body, "teams", Listing())}
    boards = ("privateLeaderboard", "publicLeaderboard")
    board = next(filter(None, (lenient.rows(body, name) for name in boards)), [])
    if not board:
        return _by_rank(teams.values())
    places: dict[int, TeamRow] = {}
    for row in board:
        if not (number := _id(row, "teamId")) or number in places:
            continue
        team = teams.pop(number, None) or TeamRow(number, "", None, None, None)
        team.name = team.name or lenient.text(row, "teamName")
        team.rank = _id(row, "rank")
        score = _number(row, "displayScore")
        team.score = team.score if score is None else score
        team.submission_id = _id(row, "submissionId") or team.submission_id
        places[number] = team
    for team in teams.values():
        team.rank = None
    return _by_rank([*places.values(), *teams.values()])


def episode_type(value: Any) -> str:
    """One of ``EPISODE_TYPES``, from its number, word or enum name; else empty."""
    return _word(value, _TYPES)


def episode_state(value: Any) -> str:
    """One of ``EPISODE_STATES``, from its number, word or enum name; else empty."""
    return _word(value, _STATES)


def agent_state(value: Any) -> str:
    """One of ``AGENT_STATES``, from its number, word or enum name; else ``UNSPECIFIED``."""
    return _word(value, _AGENT_STATES) or UNSPECIFIED


# -- rows ------------------------------------------------------------------------------------------


def _body(reply: Any) -> tuple[Mapping[str, Any], bool]:
    """What is in the reply, without its wrapper, and: does it leave out zeros?"""
    if not isinstance(reply, Mapping):
        return {}, True
    if "result" not in reply:
        return reply, True
    result = reply["result"]
    return (result if isinstance(result, Mapping) else {}), False


def _unique(
    body: Mapping[str, Any], name: str, counts: Listing
) -> Iterable[tuple[int, dict[str, Any]]]:
    """The rows of a list with their ids, of each id the first; others are counted as unread."""
    given = lenient.pick(body, name)
    found: dict[int, dict[str, Any]] = {}
    for row in given if isinstance(given, list) else []:
        if isinstance(row, dict) and (number := _id(row, "id")):
            found.setdefault(number, row)
        else:
            counts.unread += 1
    return found.items()


@dataclass
class _Known:
    """What the rest of a reply says: teams by submission, names by team, and how it is written."""

    teams: dict[int, int]
    names: dict[int, str]
    zeros_left_out: bool


def _agents(rows: list[dict[str, Any]], known: _Known) -> list[Agent]:
    indices = [_index(row) for row in rows]
    # proto3 leaves out a zero, so one agent without an index has 0; of several the order must do
    if indices.count(None) == 1 and 0 not in indices:
        indices[indices.index(None)] = 0
    agents = [
        _agent(at if index is None else index, row, known)
        for at, (index, row) in enumerate(zip(indices, rows, strict=True))
    ]
    return sorted(agents, key=_by_index)


def _agent(index: int, row: dict[str, Any], known: _Known) -> Agent:
    inner = row.get("submission")
    if not isinstance(inner, dict):
        inner = {}
    submission = _id(row, "submissionId") or _id(inner, "id")
    team = _id(row, "teamId") or _id(inner, "teamId")
    if team is None and submission is not None:
        team = known.teams.get(submission)
    state = agent_state(row.get("state"))
    reward = _number(row, "reward")
    if reward is None and known.zeros_left_out and state == "complete" and "reward" not in row:
        # Absent is a zero or a null here. An agent that is said to have completed has a reward, so
        # it is a zero; of any other it is not known (those with errors have none), and the replay
        # tells. The 2020 service writes zeros: there absent and null alike are not known.
        reward = 0.0
    return Agent(
        index=index,
        submissionId=submission,
        teamId=team,
        teamName=lenient.text(row, "teamName") or (known.names.get(team, "") if team else ""),
        reward=reward,
        state=state,
        # a rating of exactly 0 does not happen (it starts at 600), so absent is not known
        initialScore=_number(row, "initialScore"),
        initialConfidence=_number(row, "initialConfidence"),
        updatedScore=_number(row, "updatedScore"),
        updatedConfidence=_number(row, "updatedConfidence"),
    )


def _by_index(agent: Agent) -> int:
    return agent["index"]


def _team(number: int, row: dict[str, Any]) -> TeamRow:
    """The private rank is given only when a competition is over: it is the final standing, and what
    ``read_web_leaderboard`` takes too, so that a team has one rank wherever it is read."""
    return TeamRow(
        id=number,
        name=lenient.text(row, "teamName"),
        rank=_id(row, "privateLeaderboardRank") or _id(row, "publicLeaderboardRank"),
        score=_first_number(
            row,
            *("publicLeaderboardScore", "publicLeaderboardScoreFormatted"),
            *("privateLeaderboardScore", "privateLeaderboardScoreFormatted"),
        ),
        submission_id=_id(row, "publicLeaderboardSubmissionId")
        or _id(row, "privateLeaderboardSubmissionId"),
    )


def _submission(number: int, row: dict[str, Any]) -> SubmissionRow:
    return SubmissionRow(
        id=number,
        team_id=_id(row, "teamId"),
        date=_time(row, "dateSubmitted"),
        score=_first_number(row, "publicScore", "publicScoreFormatted"),
    )


def _by_rank(teams: Iterable[TeamRow]) -> list[TeamRow]:
    return sorted(teams, key=lambda team: (team.rank is None, team.rank or 0))


# -- values ----------------------------------------------------------------------------------------


def _id(row: Mapping[str, Any], name: str) -> int | None:
    """An id or a rank: 1 or more, and no more than can be stored."""
    value = row.get(name)
    found = value if type(value) is int else lenient.integer(row, name)
    return found if 0 < found <= _MOST else None


def _index(row: Mapping[str, Any]) -> int | None:
    value = row.get("index")
    number = value if type(value) is int else lenient.number(row, "index")
    return None if number is None or not 0 <= number <= _MOST else int(number)


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """A finite number, always a float: the same game reads the same from every source."""
    found = lenient.number(row, name)
    try:
        return None if found is None else float(found)
    except OverflowError:
        return None


def _first_number(row: Mapping[str, Any], *names: str) -> float | None:
    found = (_number(row, name) for name in names)
    return next((number for number in found if number is not None), None)


def _time(row: Mapping[str, Any], name: str) -> str:
    """As ``lenient.timestamp``; seconds or milliseconds since 1970 as a bare number are read too,
    and a time that was never set is empty."""
    value = lenient.pick(row, name)
    bare = isinstance(value, int | float)
    if isinstance(value, str) and re.fullmatch(r"\s*\d{9,}(\.\d*)?\s*", value):
        bare = True
    if bare:
        seconds = _number({name: value}, name) or 0.0
        if abs(seconds) >= _MILLISECONDS:
            seconds /= 1000
        whole = int(seconds // 1)
        row = {name: {"seconds": whole, "nanos": round((seconds - whole) * 1e6) * 1000}}
    found = lenient.timestamp(row, name)
    return "" if found in _NEVER else found


def _words(prefix: str, words: tuple[str, ...]) -> dict[str, str]:
    """Every spelling of an enum, without underscores in lower case, by the word that is ours."""
    plain = {word.replace("_", ""): word for word in words}
    whole = {prefix + spelling: word for spelling, word in plain.items()}
    return {str(at): word for at, word in enumerate(words, 1)} | plain | whole


_TYPES = _words("episodetype", EPISODE_TYPES)
_STATES = _words("episodestate", EPISODE_STATES)
_AGENT_STATES = _words("episodeagentstate", AGENT_STATES)


def _word(value: Any, words: Mapping[str, str]) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    return words.get(str(value).strip().replace("_", "").lower(), "")
