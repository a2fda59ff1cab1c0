"""What the replica lists of episodes is what is true of its league, in either generation."""

import csv
import io
import itertools
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica import episode_service
from kagglecrawl.replica.league import League, LeagueEpisode, LeagueShape
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import ROOT
from tests.replica_client import Answer, call, fetch

NEW = "/api/i/competitions.EpisodeService/ListEpisodes"
OLD = "/requests/EpisodeService/ListEpisodes?datatype=json"
BOARD = "/api/i/competitions.LeaderboardService/GetLeaderboard"
COMPETITIONS = "competitions.CompetitionApiService"


@pytest.fixture(scope="module")
def world() -> World:
    return World(scale=None, competition_count=3, league_shape=LeagueShape(teams=8))


@pytest.fixture(scope="module")
def league(world: World) -> League:
    (league,) = world.leagues
    return league


@pytest.fixture(scope="module")
def replica(world: World) -> Iterator[Replica]:
    with Replica(world) as replica:
        yield replica


@pytest.fixture(scope="module")
def of_2020(world: World) -> Iterator[Replica]:
    with Replica(world, behaviour=Behaviour(episodes="2020")) as replica:
        yield replica


def post(replica: Replica, path: str, body: dict[str, Any]) -> Answer:
    return fetch(f"{replica.url}{path}", "POST", json.dumps(body).encode())


def iso(moment: datetime) -> str:
    """The moment in milliseconds, which is all that a league's moments have of a second."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def without_zeros(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value not in (0, "", None)}


def row_2026(episode: LeagueEpisode) -> dict[str, Any]:
    states = {1: "CREATED", 2: "COMPLETED", 3: "ERRORED", 4: "NEVER_STARTED"}
    types = {1: "EPISODE_TYPE_PUBLIC", 4: "EPISODE_TYPE_VALIDATION"}
    return {
        "id": episode.id,
        "createTime": iso(episode.created),
        **({"endTime": iso(episode.ended)} if episode.ended else {}),
        "state": states[episode.state],
        "type": types[episode.type],
        "agents": [
            without_zeros(
                {
                    "submissionId": agent.submission_id,
                    "teamId": agent.team_id,
                    "index": agent.index,
                    "reward": agent.reward,
                    "initialScore": agent.initial_score,
                    "updatedScore": agent.updated_score,
                }
            )
            for agent in episode.agents
        ],
    }


def test_2026_lists_a_submission(replica: Replica, league: League) -> None:
    for team in league.teams:
        for number in team.submissions:
            truth = league.of_submission(number)
            reply = post(replica, NEW, {"submissionId": number}).json
            assert reply["episodes"] == [row_2026(each) for each in truth]
            met = {agent.submission_id: agent.team_id for e in truth for agent in e.agents}
            assert {row["id"]: row["teamId"] for row in reply["submissions"]} == met
            teams = {row["id"]: row for row in reply["teams"]}
            assert teams.keys() == set(met.values())
            best = team.best_submission if team.rank else None
            assert teams[team.id].get("publicLeaderboardSubmissionId") == best
            assert "publicLeaderboardRank" not in teams[team.id]
    states = {row_2026(each)["state"] for each in league.episodes.values()}
    assert len(states) == 4, "the league has no odd episodes to tell of"


def test_2026_lists_ids_and_no_teams(replica: Replica, league: League) -> None:
    known = list(league.episodes)[5:8]
    reply = post(replica, NEW, {"ids": [known[2], 7, known[0]]}).json
    assert reply["episodes"] == [row_2026(league.episodes[each]) for each in (known[2], known[0])]
    assert post(replica, NEW, {"submissionId": 7}).json == {}
    for body in ({"teamId": league.start_team}, {}, {"submissionId": "7"}, {"ids": 7}):
        assert post(replica, NEW, body).status == 400
    asked = replica.stats()["requests_by_key"]["ListEpisodes"]
    assert asked[f"team={league.start_team}"] == 1
    assert asked["submission=7"] == 2
    assert asked[f"ids={known[2]},7,{known[0]}"] == 1


def test_2026_lists_only_so_many(
    replica: Replica, league: League, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode_service, "MOST", 3)
    number = league.teams[0].best_submission
    ids = [each.id for each in league.of_submission(number)]
    assert ids == sorted(ids, reverse=True)
    reply = post(replica, NEW, {"submissionId": number}).json
    assert [row["id"] for row in reply["episodes"]] == ids[:3]


def test_each_generation_knows_its_own_paths(
    replica: Replica, of_2020: Replica, league: League
) -> None:
    team = {"teamId": league.start_team}
    assert post(replica, OLD, team).json == {"code": 400, "message": "Bad Request"}
    old = post(replica, "/requests/EpisodeService/GetEpisodeReplay", {"EpisodeId": 1})
    assert (old.status, old.headers.get_content_type()) == (400, "text/html")
    for path in (NEW, BOARD):
        new = post(of_2020, path, {"submissionId": 1})
        assert (new.status, new.headers.get_content_type()) == (404, "text/html")


def time_2020(moment: datetime | None) -> dict[str, int] | None:
    if moment is None:
        return None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return {
        "seconds": since // timedelta(seconds=1),
        "nanos": since % timedelta(seconds=1) // timedelta(microseconds=1) * 1000,
    }


def agents_2020(episode: LeagueEpisode) -> list[tuple[object, ...]]:
    return [
        (
            *(each.id, each.submission_id, each.index, each.reward, each.team_id),
            *(each.initial_score, each.initial_confidence),
            *(each.updated_score, each.updated_confidence),
        )
        for each in episode.agents
    ]


AGENT_2020 = ("id", "submissionId", "index", "reward")
SCORES_2020 = ("initialScore", "initialConfidence", "updatedScore", "updatedConfidence")


@pytest.mark.parametrize("field", ["teamId", "TeamId", "SubmissionId", "ids"])
def test_2020_lists(field: str, of_2020: Replica, league: League) -> None:
    team = league.team(league.start_team)
    assert team is not None
    truth = league.of_team(team.id)
    value: object = team.id
    if field == "SubmissionId":
        value, truth = team.submissions[0], league.of_submission(team.submissions[0])
    elif field == "ids":
        value = [each.id for each in truth]
    reply = post(of_2020, OLD, {field: value}).json
    assert reply["wasSuccessful"] is True
    rows = reply["result"]["episodes"]
    assert [row["id"] for row in rows] == [each.id for each in truth]
    assert [row["createTime"] for row in rows] == [time_2020(each.created) for each in truth]
    assert [row["endTime"] for row in rows] == [time_2020(each.ended) for each in truth]
    for row, each in zip(rows, truth, strict=True):
        assert [
            (
                *(agent[name] for name in AGENT_2020),
                agent["submission"]["teamId"],
                *(agent[name] for name in SCORES_2020),
            )
            for agent in row["agents"]
        ] == agents_2020(each)
    teams = {row["id"]: row for row in reply["result"]["teams"]}
    assert teams.keys() == {agent.team_id for each in truth for agent in each.agents}
    for number, row in teams.items():
        told = league.team(number)
        assert told is not None
        assert row["publicLeaderboardRank"] == told.rank
        assert row["teamName"] == told.name


def paths(value: object, path: str = "") -> set[str]:
    """Where the keys are of all objects there are: `result.teams[].id`."""
    found: set[str] = set()
    if isinstance(value, dict):
        for name, each in value.items():
            found |= {f"{path}.{name}"} | paths(each, f"{path}.{name}")
    elif isinstance(value, list):
        for each in value:
            found |= paths(each, f"{path}[]")
    return found


def test_2020_has_the_keys_of_real_replies(of_2020: Replica, league: League, samples: Path) -> None:
    folder = samples / "episodes/episode_service"

    def real(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    reply = post(of_2020, OLD, {"teamId": league.start_team}).json
    assert paths(reply) == paths(real("schema_list_by_team.json"))
    dates = {f".result.teams[].lastSubmissionDate.{name}" for name in ("seconds", "nanos")}
    assert paths(reply) - dates == paths(real("list_episodes_ids_100000-100002.json"))
    assert post(of_2020, OLD, {"teamId": 1}).json == real("list_episodes_empty.json")
    path = "/requests/EpisodeService/GetEpisodeReplay"
    over = next(each.id for each in league.of_team(league.start_team) if each.state == 2)
    answer, its = (
        post(of_2020, path, {"EpisodeId": over}).json,
        real("get_episode_replay_100000.json"),
    )
    assert paths(answer) == paths(its)
    assert type(answer["result"]["replay"]) is type(its["result"]["replay"]) is str


def test_the_board_is_the_leagues_wherever_it_is_asked_for(
    replica: Replica, world: World, league: League
) -> None:
    ranked = [team for team in league.teams if team.rank is not None]
    assert [team.rank for team in ranked] == list(range(1, len(ranked) + 1))
    assert len(ranked) < len(league.teams), "no team without a rank"
    web = post(replica, BOARD, {"competitionId": 18011, "leaderboardMode": "ANY"}).json
    assert [tuple(row.values()) for row in web["publicLeaderboard"]] == [
        (team.rank, team.id, team.best_submission, f"{team.score:.1f}") for team in ranked
    ]
    assert [row["id"] for row in web["teams"]] == [team.id for team in ranked]
    assert "privateLeaderboard" not in web
    assert post(replica, BOARD, {"competitionId": 5}).status == 404

    name = {"competitionName": league.slug}
    got = call(replica, "DownloadLeaderboard", name, service=COMPETITIONS)
    with zipfile.ZipFile(io.BytesIO(got.body)) as archive:
        text = archive.read(archive.namelist()[0]).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [(row["Rank"], row["TeamId"], row["TeamName"], row["Score"]) for row in rows] == [
        (str(team.rank), str(team.id), team.name, f"{team.score:.1f}") for team in ranked
    ]
    shown = call(replica, "GetLeaderboard", {**name, "pageSize": 100}, service=COMPETITIONS).json
    assert [row["teamId"] for row in shown["submissions"]] == [team.id for team in ranked][:20]
    assert call(replica, "GetCompetition", name, service=COMPETITIONS).json["id"] == 18011
    assert league.slug not in {each.slug for each in world.competitions}
    redirecting = Replica(world, behaviour=Behaviour(leaderboard="redirect"))
    with redirecting:
        answer = call(redirecting, "DownloadLeaderboard", name, service=COMPETITIONS)
        assert fetch(answer.headers["Location"]).body == got.body


def test_leagues_stay_where_they_are(world: World, league: League) -> None:
    assert world.moved_on(2).league("halite") is league
    assert World(seed=2).league("halite") is not league
    assert world.league("connectx") is None


def test_families_of_episodes_have_quotas_of_their_own(world: World, league: League) -> None:
    quotas = Quotas("episodes=2/minute", "replay=1/minute")
    number = league.teams[0].best_submission
    episode = next(each.id for each in league.of_submission(number) if each.state == 2)
    with Replica(world, quotas=quotas) as replica:
        assert post(replica, NEW, {"submissionId": number}).status == 200
        body = {"submissionId": number}
        assert call(replica, "ListSubmissionEpisodes", body, service=COMPETITIONS).status == 200
        refused = post(replica, BOARD, {"competitionId": 18011})
        assert (refused.status, "Retry-After" in refused.headers) == (429, True)
        url = f"{replica.url}/competitions/episodes/{episode}/replay.json"
        assert [fetch(url).status for _ in range(2)] == [200, 429]
        families = replica.stats()["families"]
        assert [families[name]["429"] for name in ("api", "episodes", "replay")] == [0, 1, 1]
        assert [families[name]["answers"] for name in ("episodes", "replay")] == [3, 2]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def text(value: float | None) -> str:
    return "" if value is None else str(value)


def test_meta_kaggle_has_the_leagues_episodes(world: World, league: League, tmp_path: Path) -> None:
    world.write_meta_kaggle(tmp_path)
    rows = table(tmp_path / "Episodes.csv")
    mine = [row for row in rows if row["CompetitionId"] == "18011"]
    date = "%m/%d/%Y %H:%M:%S"
    assert [tuple(row.values()) for row in mine] == [
        (
            *(str(each.id), str(each.type), "18011", f"{each.created:{date}}"),
            f"{each.ended:{date}}" if each.ended else "",
        )
        for each in league.episodes.values()
    ]
    assert 0 < len(rows) - len(mine) < len(rows)
    agents = table(tmp_path / "EpisodeAgents.csv")
    assert {tuple(row.values()) for row in agents if int(row["EpisodeId"]) in league.episodes} == {
        (
            *(str(each.id), str(episode.id), str(each.index), text(each.reward)),
            *(str(each.state), str(each.submission_id)),
            *(text(each.initial_confidence), text(each.initial_score)),
            *(text(each.updated_confidence), text(each.updated_score)),
        )
        for episode in league.episodes.values()
        for each in episode.agents
    }
    assert len({row["Id"] for row in agents}) == len(agents)
    known = {row["Id"] for row in rows}
    assert {row["EpisodeId"] for row in agents} == known
    adjacent = Counter(
        one["EpisodeId"] == other["EpisodeId"] for one, other in itertools.pairwise(agents)
    )
    assert adjacent[True] < 5


def test_mistakes_of_the_command_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scrapy.cmdline import execute

    monkeypatch.chdir(ROOT)
    for args, message in (
        (["--league-teams", "3"], "--league-teams must be at least 4"),
        (["--episodes", "2021"], "invalid choice: '2021'"),
        (["--fail", "Replays=500"], "Not a method to fail: 'Replays' (there are Do"),
        (["--quota", "replays=1/day"], "Not a quota: 'replays=1/day'"),
    ):
        with pytest.raises(SystemExit) as ended:
            execute(["scrapy", "replica", *args])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
