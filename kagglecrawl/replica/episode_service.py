"""What Kaggle's site answers of episodes beside the official API, in two generations.

- 2020: `/requests/EpisodeService/…`. The reply of ListEpisodes has the keys of real ones of 2020
  (verified), GetEpisodeReplay's is a JSON text inside of JSON (verified). Unknown: the words for
  states other than `completed`, and what an unknown id is answered.
- 2026: `/api/i/competitions.…Service/…`, without a wrapper, without zero fields and nulls, by
  submission or ids alone, newest first and 1,000 at the most (all reported, kaggle-facts 4); that
  it says nothing of agents' states and confidences follows the same report. Unknown: what an
  unknown submission is answered (here an empty reply), and what else `teams` have.
- Replays as files are reported for 2026 at three places; which of them serve is a switch, in
  either generation. The content network redirects once; where to is unknown.

What the generation does not have answers 404 in 2020, and 400 in 2026 (reported; its body is not).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from kagglesdk.competitions.types.episode import EpisodeState, EpisodeType

from kagglecrawl.replica import replays
from kagglecrawl.replica.episodes import FILE, iso, played
from kagglecrawl.replica.league import League, LeagueAgent, LeagueEpisode, LeagueTeam
from kagglecrawl.replica.league_contest import displayed
from kagglecrawl.replica.rpc import Family, Place, Site
from kagglecrawl.replica.wire import Refusal, Reply, decode, dump, encode_fields

MOST = 1_000
"""Episodes in one reply of 2026."""
MOVED = "/kaggle-episode-replays"
"""Where the content network's redirects lead."""

_STATES = {1: "created", 2: "completed", 3: "errored", 4: "neverStarted"}
_TYPES = {1: "public", 2: "private", 3: "exhibition", 4: "validation"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Generation = Literal["2020", "2026"]
Values = dict[str, Any]
"""What is asked for: the fields of a body, their names as in 2026, and those of the path."""


@dataclass(frozen=True)
class Page:
    """A call of the site. `label` is its name in statistics, quotas and fault scripts.

    `place` is what of `Behaviour.replays` it is, if it is one of those.
    """

    label: str
    family: Family
    verb: Literal["GET", "POST"]
    path: re.Pattern[str]
    key: Callable[[Values], str]
    handle: Callable[[Site, Values], Reply]
    generation: Generation | None = None
    place: Place | None = None

    @property
    def also(self) -> str:
        """Another name for fault scripts: a single place of those that `Replay` is all of."""
        return PLACES[self.place] if self.place else ""

    def understand(self, site: Site, found: re.Match[str], body: bytes, query: str) -> Values:
        """What a request asks for; raises Refusal if the generation knows no such call."""
        if self.generation not in {None, site.behaviour.episodes}:
            if self.generation == "2026":
                raise Refusal(404, "Not Found", page=True)
            raise Refusal(400, "Bad Request", page="datatype=json" not in query)
        asked = {name: int(value) for name, value in found.groupdict().items()}
        if self.verb == "GET":
            return asked
        given = decode(body)
        return {f"{name[:1].lower()}{name[1:]}": value for name, value in given.items()} | asked

    def reply(self, site: Site, asked: Values) -> Reply:
        """The answer, also where that is an error."""
        try:
            return self.handle(site, asked)
        except Refusal as refusal:
            return refusal.reply


PLACES: dict[Place, str] = {"web": "ReplayWeb", "cdn": "ReplayContent", "api": "ReplayApi"}


def find(verb: str, path: str) -> tuple[Page, re.Match[str]] | None:
    """The call that a request is, and what of its path names what is asked for."""
    for page in PAGES:
        if page.verb == verb and (found := page.path.fullmatch(path)):
            return page, found
    return None


def moved(path: str) -> str | None:
    """Where the content network says that a replay is; None for what is no path of its."""
    found = re.fullmatch(r"/episodes/(\d{1,15}\.json)", path)
    return f"{MOVED}/{found[1]}" if found else None


def _key(values: Values) -> str:
    for name, key in (("teamId", "team"), ("submissionId", "submission"), ("episodeId", "episode")):
        if name in values:
            return f"{key}={values[name]}"
    if "competitionId" in values:
        return f"competition={values['competitionId']}"
    ids = values.get("ids")
    return f"ids={','.join(map(str, ids)) if isinstance(ids, list) else ids}"


def _number(values: Values, name: str) -> int:
    value = values.get(name)
    if type(value) is not int:
        raise Refusal(400, f"Field {name!r} must be a number.")
    return value


# -- lists of episodes -----------------------------------------------------------------------------

_Found = tuple[League | None, list[LeagueEpisode]]


def _asked_for(site: Site, values: Values, names: tuple[str, ...]) -> _Found:
    """The episodes asked for by the first of these fields, which must be the only one."""
    given = [name for name in ("teamId", "submissionId", "ids") if values.get(name) is not None]
    if len(given) != 1 or given[0] not in names:
        raise Refusal(400, f"Exactly one of these fields is needed: {', '.join(names)}.")
    if given[0] == "ids":
        return _of_ids(site, values["ids"])
    number = _number(values, given[0])
    for league in site.world.leagues:
        if given[0] == "teamId" and league.team(number):
            return league, league.of_team(number)
        if given[0] == "submissionId" and league.submission(number):
            return league, league.of_submission(number)
    return None, []


def _of_ids(site: Site, ids: object) -> _Found:
    if not isinstance(ids, list) or any(type(each) is not int for each in ids):
        raise Refusal(400, "Field 'ids' must be a list of numbers.")
    for league in site.world.leagues:
        found = [league.episodes[each] for each in ids if each in league.episodes]
        if found:
            return league, found
    return None, []


def _teams_of(league: League, episodes: Iterable[LeagueEpisode]) -> list[LeagueTeam]:
    """Who plays in them, in the order in which they are met."""
    met = dict.fromkeys(agent.team_id for each in episodes for agent in each.agents)
    return [team for number in met if (team := league.team(number))]


def _list_2026(site: Site, values: Values) -> Reply:
    league, found = _asked_for(site, values, ("submissionId", "ids"))
    if league is None:
        return encode_fields({})
    found = found[:MOST]
    players = {agent.submission_id: agent for each in found for agent in each.agents}
    return encode_fields(
        {
            "episodes": [_episode_2026(each) for each in found],
            "submissions": [
                {"id": number, "teamId": agent.team_id} for number, agent in players.items()
            ],
            "teams": [_team_2026(league, team) for team in _teams_of(league, found)],
        }
    )


def _episode_2026(episode: LeagueEpisode) -> Values:
    return {
        "id": episode.id,
        "createTime": iso(episode.created),
        "endTime": iso(episode.ended) if episode.ended else None,
        "state": EpisodeState(episode.state).name,
        "type": EpisodeType(episode.type).name,
        "agents": [
            {
                "submissionId": agent.submission_id,
                "teamId": agent.team_id,
                "reward": agent.reward,
                "index": agent.index,
                "initialScore": agent.initial_score,
                "updatedScore": agent.updated_score,
            }
            for agent in episode.agents
        ],
    }


def _team_2026(league: League, team: LeagueTeam) -> Values:
    return {
        "id": team.id,
        "teamName": team.name,
        "competitionId": league.competition_id,
        "teamLeaderId": team.leader_id,
        "submissionCount": len(team.submissions),
        "lastSubmissionDate": iso(team.last_submission),
        "publicLeaderboardSubmissionId": team.best_submission if team.rank else None,
    }


def _leaderboard(site: Site, values: Values) -> Reply:
    """The whole board. Unknown: what competitions without episodes answer; here 404."""
    number = _number(values, "competitionId")
    for league in site.world.leagues:
        if league.competition_id == number:
            ranked = [team for team in league.teams if team.rank is not None]
            rows = [
                {
                    "rank": team.rank,
                    "teamId": team.id,
                    "submissionId": team.best_submission,
                    "displayScore": displayed(team.score),
                }
                for team in ranked
            ]
            teams = [_team_2026(league, team) for team in ranked]
            return encode_fields({"teams": teams, "publicLeaderboard": rows})
    raise Refusal(404, f"Not found: competition {number}")


def _list_2020(site: Site, values: Values) -> Reply:
    """Every field, whatever its value; the newest alone, as today (of 2020 no limit is known)."""
    league, found = _asked_for(site, values, ("teamId", "submissionId", "ids"))
    found = found[:MOST]
    result: Values = {"episodes": [], "teams": []}
    if league is not None:
        result["episodes"] = [_episode_2020(league, each) for each in found]
        result["teams"] = [_team_2020(league, team) for team in _teams_of(league, found)]
    return Reply(200, dump({"result": result, "wasSuccessful": True}))


def _time_2020(moment: datetime | None) -> Values | None:
    if moment is None:
        return None
    whole = (moment - _EPOCH) // timedelta(seconds=1)
    return {"seconds": whole, "nanos": moment.microsecond * 1000}


def _episode_2020(league: League, episode: LeagueEpisode) -> Values:
    return {
        "id": episode.id,
        "competitionId": episode.competition_id,
        "createTime": _time_2020(episode.created),
        "endTime": _time_2020(episode.ended),
        "replayUrl": f"gs://kaggle-episode-replays/{episode.id}.json",
        "adminNotes": None,
        "state": _STATES[episode.state],
        "type": _TYPES[episode.type],
        "agents": [_agent_2020(league, agent) for agent in episode.agents],
    }


def _agent_2020(league: League, agent: LeagueAgent) -> Values:
    return {
        "id": agent.id,
        "submissionId": agent.submission_id,
        "reward": agent.reward,
        "index": agent.index,
        "initialScore": agent.initial_score,
        "initialConfidence": agent.initial_confidence,
        "updatedScore": agent.updated_score,
        "updatedConfidence": agent.updated_confidence,
        "state": "unspecified",  # as all real ones say, whatever has become of them
        "submission": _submission_2020(league, agent.submission_id),
    }


def _submission_2020(league: League, number: int) -> Values:
    submission = league.submission(number)
    assert submission is not None
    texts = ("title", "details", "publicScoreAdditionalDetails", "privateScoreAdditionalDetails")
    zeros = ("contentLength", "sourceScriptVersionId", "clonedFromSubmissionId", "syncRerunId")
    nulls = ("dateInvalidated", "team", "sourceKernelRun", "syncRerunState", "privateScore")
    return {
        "id": number,
        "submittedUserId": 0,
        "dateSubmitted": _time_2020(submission.submitted),
        "teamId": submission.team_id,
        "publicScore": submission.score,
        "isSelected": False,
        "status": "pending",  # as all real ones say
        "isAfterDeadline": False,
        "processingDetails": "",
        "publicConfidence": 25.0,
        **dict.fromkeys(texts, ""),
        **dict.fromkeys(zeros, 0),
        **dict.fromkeys(nulls),
    }


def _team_2020(league: League, team: LeagueTeam) -> Values:
    return {
        "id": team.id,
        "teamName": team.name,
        "competitionId": league.competition_id,
        "teamLeaderId": team.leader_id,
        "isBenchmark": False,
        "createdAfterDeadline": False,
        "medal": 0,
        "dateMedalAwarded": None,
        "submissionCount": len(team.submissions),
        "lastSubmissionDate": _time_2020(team.last_submission),
        "publicLeaderboardSubmissionId": team.best_submission if team.rank else None,
        "publicLeaderboardScore": team.score,
        "publicLeaderboardRank": team.rank,
        "privateLeaderboardSubmissionId": None,
        "privateLeaderboardScore": None,
        "privateLeaderboardRank": None,
        "competition": None,
        "teamMembers": [],
        "inboundMergeRequests": [],
        "outboundMergeRequests": [],
    }


# -- replays ---------------------------------------------------------------------------------------


def _replay_2020(site: Site, values: Values) -> Reply:
    number = _number(values, "episodeId")
    league, _ = played(site, number)
    text = replays.replay_bytes(league, number, site.world.replay_steps).decode()
    return Reply(200, dump({"result": {"replay": text}, "wasSuccessful": True}))


def _replay_at(place: Place) -> Callable[[Site, Values], Reply]:
    def serve(site: Site, values: Values) -> Reply:
        if place not in site.behaviour.replays:
            raise Refusal(404, "Not Found", page=True)
        try:
            league, _ = played(site, values["episodeId"])
        except Refusal as refusal:
            raise Refusal(404, str(refusal), page=place != "api") from None
        content = replays.replay_bytes(league, values["episodeId"], site.world.replay_steps)
        return Reply(200, content, FILE)

    return serve


def _page(
    generation: Generation,
    family: Family,
    label: str,
    path: str,
    handle: Callable[[Site, Values], Reply],
) -> Page:
    return Page(label, family, "POST", re.compile(path), _key, handle, generation)


def _replay_page(place: Place, path: str) -> Page:
    pattern = re.compile(path.replace("<id>", r"(?P<episodeId>\d{1,15})"))
    return Page("Replay", "replay", "GET", pattern, _key, _replay_at(place), place=place)


_NEW, _OLD = r"/api/i/competitions\.", "/requests/EpisodeService/"
_BOARD = f"{_NEW}LeaderboardService/GetLeaderboard"

PAGES = (
    _page("2026", "episodes", "ListEpisodes", f"{_NEW}EpisodeService/ListEpisodes", _list_2026),
    _page("2026", "episodes", "WebLeaderboard", _BOARD, _leaderboard),
    _page("2020", "episodes", "ListEpisodes", f"{_OLD}ListEpisodes", _list_2020),
    _page("2020", "replay", "GetEpisodeReplay2020", f"{_OLD}GetEpisodeReplay", _replay_2020),
    _replay_page("web", r"/competitions/episodes/<id>/replay\.json"),
    _replay_page("cdn", rf"{MOVED}/<id>\.json"),
    _replay_page("api", "/api/v1/competitions/episodes/<id>/replay"),
)
FAMILIES: dict[str, Family] = {page.label: page.family for page in PAGES}
"""The family of each call by its label."""
NAMES = frozenset(FAMILIES) | frozenset(PLACES.values())
"""What fault scripts may name."""
