"""The official API's episodes of simulations, of `competitions.CompetitionApiService`.

The methods and their classes are kagglesdk's (verified); that scores are in none of them, too.
Reported: zero fields are left out, there are no pages, and no order but the site's, newest first
(kaggle-facts 4). Unknown: what is answered for a team, a submission or an episode that there is
not, for a game that has not finished, and for another's logs; here that is 404, 404, 404 and 403.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from kagglesdk.competitions.types.competition_api_service import (
    ApiEpisode,
    ApiEpisodeAgent,
    ApiGetEpisodeAgentLogsRequest,
    ApiGetEpisodeReplayRequest,
    ApiListSubmissionEpisodesRequest,
    ApiListSubmissionEpisodesResponse,
    ApiListTeamPublicSubmissionsRequest,
    ApiListTeamPublicSubmissionsResponse,
    ApiPublicSubmission,
)
from kagglesdk.competitions.types.episode import EpisodeAgentState, EpisodeState, EpisodeType
from kagglesdk.kaggle_object import KaggleObject

from kagglecrawl.replica import replays
from kagglecrawl.replica.league import League, LeagueEpisode, LeagueSubmission
from kagglecrawl.replica.league_contest import displayed
from kagglecrawl.replica.rpc import Family, Method, Site
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.wire import Refusal, Reply, encode, wire_time

SERVICE = "competitions.CompetitionApiService"
FILE = "application/json"
"""The type of replays and logs. Not that of the API's own answers: their bytes stay as they are."""


def played(site: Site, number: int) -> tuple[League, LeagueEpisode]:
    """The episode of this id and its league, if it has a replay.

    Raises Refusal (404) if there is no such episode, or if it has not finished.
    """
    for league in site.world.leagues:
        episode = league.episodes.get(number)
        if episode is not None and replays.has_replay(episode):
            return league, episode
    raise Refusal(404, f"Not found: replay of episode {number}")


def _list_submissions(site: Site, request: ApiListTeamPublicSubmissionsRequest) -> Reply:
    """All submissions of a team, newest first: every one of a league is active."""
    for league in site.world.leagues:
        team = league.team(request.team_id)
        if team is not None:
            found = (league.submission(number) for number in team.submissions)
            reply = ApiListTeamPublicSubmissionsResponse()
            reply.submissions = [_submission(each) for each in found if each]
            return encode(reply)
    raise Refusal(404, f"Not found: team {request.team_id}")


def _submission(submission: LeagueSubmission) -> ApiPublicSubmission:
    row = ApiPublicSubmission()
    row.id = submission.id
    row.date_submitted = wire_time(submission.submitted)
    row.public_score = displayed(submission.score)
    return row


def _list_episodes(site: Site, request: ApiListSubmissionEpisodesRequest) -> Reply:
    """All episodes of a submission, newest first."""
    number = request.submission_id
    for league in site.world.leagues:
        if league.submission(number) is not None:
            reply = ApiListSubmissionEpisodesResponse()
            reply.episodes = [_episode(league, each) for each in league.of_submission(number)]
            return encode(reply)
    raise Refusal(404, f"Not found: submission {number}")


def _episode(league: League, episode: LeagueEpisode) -> ApiEpisode:
    row = ApiEpisode()
    row.id = episode.id
    row.create_time = wire_time(episode.created)
    if episode.ended:
        row.end_time = wire_time(episode.ended)
    row.state = EpisodeState(episode.state)
    row.type = EpisodeType(episode.type)
    agents = []
    for each in episode.agents:
        agent = ApiEpisodeAgent()
        agent.submission_id = each.submission_id
        agent.index = each.index
        agent.reward = each.reward
        agent.state = EpisodeAgentState(each.state)
        team = league.team(each.team_id)
        agent.team_name = team.name if team else ""
        agent.team_id = each.team_id
        agents.append(agent)
    row.agents = agents
    return row


def _get_replay(site: Site, request: ApiGetEpisodeReplayRequest) -> Reply:
    number = request.episode_id
    if "api" not in site.behaviour.replays:
        raise Refusal(404, f"Not found: replay of episode {number}")
    league, _ = played(site, number)
    return _file(site, replays.replay_object(league, number, site.world.replay_steps))


def _get_logs(site: Site, request: ApiGetEpisodeAgentLogsRequest) -> Reply:
    """An agent's own logs are for its team alone: we are the start team."""
    number, index = request.episode_id, request.agent_index
    league, episode = played(site, number)
    if not 0 <= index < len(episode.agents):
        raise Refusal(404, f"Not found: agent {index} of episode {number}")
    if episode.agents[index].team_id != league.start_team:
        raise Refusal(403, "Permission 'episodes.getAgentLogs' was denied")
    return _file(site, replays.logs_object(league, number, index, site.world.replay_steps))


def _file(site: Site, wanted: DatasetTruth) -> Reply:
    """The file itself; or 302 to a signed URL of it (which of the two is unknown)."""
    if site.behaviour.episode_files == "redirect":
        location = site.signer.sign(wanted, None)
        return Reply(302, b"", "text/html; charset=utf-8", {"Location": location})
    assert wanted.archive is not None
    assert isinstance(wanted.archive.source, bytes)
    name = f"attachment; filename={wanted.archive_name}"
    return Reply(200, wanted.archive.source, FILE, {"Content-Disposition": name})


def iso(moment: datetime) -> str:
    """The moment as Kaggle's JSON has it since 2024."""
    return f"{wire_time(moment).isoformat(timespec='milliseconds')}Z"


def _method(
    name: str,
    request: type[KaggleObject],
    handle: Callable[[Site, Any], Reply],
    key: Callable[[Any], str],
    family: Family,
) -> Method:
    # a list may have a megabyte, and a whole season thousands of them: nothing is kept
    return Method(
        SERVICE, name, request, handle, key, family, without_credentials=401, stable=False
    )


METHODS = (
    _method(
        "ListTeamPublicSubmissions",
        ApiListTeamPublicSubmissionsRequest,
        _list_submissions,
        lambda request: f"team={request.team_id}",
        "episodes",
    ),
    _method(
        "ListSubmissionEpisodes",
        ApiListSubmissionEpisodesRequest,
        _list_episodes,
        lambda request: f"submission={request.submission_id}",
        "episodes",
    ),
    _method(
        "GetEpisodeReplay",
        ApiGetEpisodeReplayRequest,
        _get_replay,
        lambda request: f"episode={request.episode_id}",
        "replay",
    ),
    _method(
        "GetEpisodeAgentLogs",
        ApiGetEpisodeAgentLogsRequest,
        _get_logs,
        lambda request: f"episode={request.episode_id}&agent={request.agent_index}",
        "replay",
    ),
)
