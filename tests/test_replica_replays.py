"""Replays and logs: the same bytes at every place, what is no replay, and what goes wrong."""

import gzip
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica import replays
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.league import League, LeagueEpisode, LeagueShape
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.official import official_json
from tests.replica_client import Answer, bearer, call, fetch

COMPETITIONS = "competitions.CompetitionApiService"
OLD = "/requests/EpisodeService/GetEpisodeReplay"
GZIP = {"Accept-Encoding": "gzip, deflate"}


@pytest.fixture(scope="module")
def world() -> World:
    # many an agent fails, to have such replays
    shape = LeagueShape(teams=8, no_reward=0.2)
    return World(scale=None, competition_count=3, league_shape=shape)


@pytest.fixture(scope="module")
def league(world: World) -> League:
    (league,) = world.leagues
    return league


@pytest.fixture(scope="module")
def replica(world: World) -> Iterator[Replica]:
    with Replica(world) as replica:
        yield replica


def over(league: League) -> list[LeagueEpisode]:
    """The start team's games that have ended, newest first."""
    return [each for each in league.of_team(league.start_team) if replays.has_replay(each)]


def web(replica: Replica, number: int, headers: dict[str, str] | None = None) -> Answer:
    url = f"{replica.url}/competitions/episodes/{number}/replay.json"
    return fetch(url, headers=headers)


def rest(replica: Replica, number: int, headers: dict[str, str] | None = None) -> Answer:
    url = f"{replica.url}/api/v1/competitions/episodes/{number}/replay"
    return fetch(url, headers={**bearer(replica), **(headers or {})})


def cdn(replica: Replica, number: int, headers: dict[str, str] | None = None) -> Answer:
    answer = fetch(f"{replica.url}/episodes/{number}.json", headers=headers)
    assert answer.status == 301
    return fetch(answer.headers["Location"], headers=headers)


def rpc(replica: Replica, number: int) -> Answer:
    return call(replica, "GetEpisodeReplay", {"episodeId": number}, service=COMPETITIONS)


def logs(replica: Replica, number: int, index: int) -> Answer:
    body = {"episodeId": number, "agentIndex": index}
    return call(replica, "GetEpisodeAgentLogs", body, service=COMPETITIONS)


def of_2020(replica: Replica, number: int) -> Answer:
    return fetch(replica.url + OLD, "POST", json.dumps({"EpisodeId": number}).encode())


def test_every_place_serves_the_same_bytes(world: World, league: League) -> None:
    number = over(league)[0].id
    truth = world.replay(number)
    with Replica(world, behaviour=Behaviour(episodes="2020")) as replica:
        for place in (web, cdn, rest):
            assert place(replica, number).body == truth
            zipped = place(replica, number, GZIP)
            assert zipped.headers["Content-Encoding"] == "gzip"
            assert len(zipped.body) < len(truth) / 2
            assert gzip.decompress(zipped.body) == truth
        assert rpc(replica, number).body == truth
        old = of_2020(replica, number).json
        assert old["result"]["replay"].encode() == truth
        stats = replica.stats()
    assert stats["delivered_by_key"]["Replay"] == {f"episode={number}": 6}
    assert stats["requests"]["ReplayMoved"] == {"301": 2}
    assert stats["families"]["replay"]["answers"] == 8
    assert stats["leaked_authorization"] == 0


def test_what_has_not_ended_has_no_replay_anywhere(
    world: World, league: League, replica: Replica
) -> None:
    odd = {each.state: each.id for each in league.episodes.values()}
    for number in (odd[1], odd[4], 12):
        for place in (web, cdn, rest, rpc):
            assert place(replica, number).status == 404, place
        assert web(replica, number).headers.get_content_type() == "text/html"
        assert logs(replica, number, 0).status == 404
        with pytest.raises((KeyError, ValueError)):
            world.replay(number)
    assert web(replica, odd[3]).status == 200


def test_only_the_places_that_are_said_to_serve_do(world: World, league: League) -> None:
    number = over(league)[0].id
    with Replica(world, behaviour=Behaviour(replays=("cdn",))) as replica:
        statuses = [place(replica, number).status for place in (web, cdn, rest)]
        assert [*statuses, rpc(replica, number).status] == [404, 200, 404, 404]


def test_credentials_are_for_the_api_alone(replica: Replica, league: League) -> None:
    number = over(league)[0].id
    replica.reset_stats()
    for headers in ({}, {"Authorization": "Bearer KGAT_wrong"}):
        url = f"{replica.url}/api/v1/competitions/episodes/{number}/replay"
        assert fetch(url, headers=headers).status == 401
        body = json.dumps({"episodeId": number}).encode()
        url = f"{replica.api_url}/v1/{COMPETITIONS}/GetEpisodeReplay"
        assert fetch(url, "POST", body, headers).status == 401
    assert replica.stats()["leaked_authorization"] == 0
    assert web(replica, number, bearer(replica)).status == 200
    assert replica.stats()["leaked_authorization"] == 1


def test_replays_say_what_the_league_says(world: World, league: League) -> None:
    seen = set()
    lengths = set()
    for episode in over(league):
        replay = replays.league_replay(league, episode.id)
        assert replays.replay_bytes(league, episode.id) == world.replay(episode.id)
        assert replay["name"] == "halite"
        assert replay["info"]["EpisodeId"] == episode.id
        teams = [league.team(agent.team_id) for agent in episode.agents]
        assert replay["info"]["TeamNames"] == [team and team.name for team in teams]
        assert replay["rewards"] == [agent.reward for agent in episode.agents]
        steps: list[list[dict[str, Any]]] = replay["steps"]
        lengths.add(len(steps))
        assert {len(step) for step in steps} == {4}
        assert [agent["status"] for agent in steps[-1]] == replay["statuses"]
        assert [agent["reward"] for agent in steps[-1]] == replay["rewards"]
        assert [step[0]["observation"]["step"] for step in steps] == [*range(len(steps))]
        for agent, status in zip(episode.agents, replay["statuses"], strict=True):
            failed = agent.reward is None or agent.state > 2
            assert (status != "DONE") == failed
            seen.add(status)
    assert seen == {"DONE", "ERROR", "INVALID", "TIMEOUT"}
    assert min(lengths) < max(lengths) <= replay["configuration"]["episodeSteps"]


def test_replays_are_as_long_as_is_wanted(league: League) -> None:
    world = World(scale=None, league_shape=league.shape, replay_steps=40)
    number = next(each.id for each in over(league) if len(replay_of(world, each.id)["steps"]) == 40)
    replay = replay_of(world, number)
    assert len(replay["steps"][0][0]["observation"]["halite"]) == 21 * 21
    assert len(world.replay(number)) > 40 * 4_000
    with Replica(world) as replica:
        assert gzip.decompress(web(replica, number, GZIP).body) == world.replay(number)


def replay_of(world: World, number: int) -> dict[str, Any]:
    replay: dict[str, Any] = json.loads(world.replay(number))
    return replay


def test_replays_have_the_keys_of_real_ones(league: League, samples: Path) -> None:
    path = samples / "episodes/replays_kaggle/halite_1432278.json"
    real = json.loads(path.read_text(encoding="utf-8"))
    mine = replays.league_replay(league, over(league)[0].id)
    assert mine.keys() == real.keys() | {"info"}
    assert mine["configuration"].keys() <= real["configuration"].keys()
    for agent in (0, 1):
        theirs = real["steps"][1][agent]
        assert mine["steps"][1][agent].keys() == theirs.keys()
        assert mine["steps"][1][agent]["observation"].keys() == theirs["observation"].keys()


def test_logs_are_our_own_alone(replica: Replica, league: League) -> None:
    mixed = next(each for each in over(league) if len({a.team_id for a in each.agents}) > 1)
    replica.reset_stats()
    for agent in mixed.agents:
        answer = logs(replica, mixed.id, agent.index)
        if agent.team_id != league.start_team:
            assert answer.status == 403
            continue
        assert answer.body == replays.agent_logs(league, mixed.id, agent.index)
        assert len(answer.json) == len(replays.league_replay(league, mixed.id)["steps"])
        assert {tuple(each) for (each,) in answer.json} == {("duration", "stdout", "stderr")}
    assert logs(replica, mixed.id, 4).status == 404
    asked = replica.stats()["requests_by_key"]["GetEpisodeAgentLogs"]
    assert asked == {f"episode={mixed.id}&agent={index}": 1 for index in range(5)}


def test_the_api_may_redirect_to_storage(world: World, league: League) -> None:
    episode = over(league)[0]
    index = next(a.index for a in episode.agents if a.team_id == league.start_team)
    with Replica(world, behaviour=Behaviour(episode_files="redirect")) as replica:
        for answer, truth in (
            (rpc(replica, episode.id), world.replay(episode.id)),
            (logs(replica, episode.id, index), replays.agent_logs(league, episode.id, index)),
        ):
            assert (answer.status, answer.body) == (302, b"")
            location = answer.headers["Location"]
            stored = fetch(location)
            assert (stored.status, stored.body) == (200, truth)
            assert fetch(location.replace("X-Goog-Signature=", "X-Goog-Signature=0")).status == 403


@pytest.mark.parametrize("name", ["Replay", "ReplayWeb", "*"])
def test_scripted_trouble_with_replays(name: str, world: World, league: League) -> None:
    number, other = (each.id for each in over(league)[:2])
    truth = world.replay(number)
    kinds = (
        Fault("html"),
        Fault("cut"),
        Fault("damaged"),
        Fault("damaged", at=30),
        Fault("error_in_200", 500),
        Fault("status", 503),
        Fault("reset"),
    )
    rules = [
        Rule(fault, name, f"episode={number}", (1,)) for fault in kinds
    ]  # each rule counts its own arrivals, so they come one after another
    with Replica(world, faults=Faults.script(rules)) as replica:
        assert web(replica, other).body == world.replay(other)
        page = web(replica, number, GZIP)
        assert (page.status, page.headers.get_content_type()) == (200, "text/html")
        with pytest.raises(http.client.IncompleteRead):
            web(replica, number, GZIP)
        broken = gzip.decompress(web(replica, number, GZIP).body)
        with pytest.raises(ValueError, match=r"Expecting|Invalid|delimiter|Unterminated"):
            json.loads(broken)
        flipped = web(replica, number)
        assert [at for at in range(len(truth)) if flipped.body[at] != truth[at]] == [30]
        assert web(replica, number, GZIP).json["code"] == 500
        assert web(replica, number).status == 503
        with pytest.raises(ConnectionError):
            web(replica, number)
        assert web(replica, number).body == truth
        stats = replica.stats()
        assert stats["requests_by_key"]["Replay"] == {f"episode={other}": 1, f"episode={number}": 8}
        assert stats["delivered_by_key"]["Replay"][f"episode={number}"] == 1
        assert sum(stats["faults"].values()) == len(kinds)
        # of another place it is the first arrival, where the rules are for that as well
        assert (cdn(replica, number).body == truth) == (name == "ReplayWeb")


def test_scripted_trouble_with_lists_and_the_old_replay(world: World, league: League) -> None:
    number = over(league)[0].id
    rules = [Rule(Fault("status", 500), "ListEpisodes", f"team={league.start_team}", (1,))]
    rules += [Rule(Fault("html"), "GetEpisodeReplay2020", f"episode={number}", (1,))]
    faults = Faults.script(rules)
    with Replica(world, faults=faults, behaviour=Behaviour(episodes="2020")) as replica:
        url = f"{replica.url}/requests/EpisodeService/ListEpisodes"
        body = json.dumps({"teamId": league.start_team}).encode()
        assert [fetch(url, "POST", body).status for _ in range(2)] == [500, 200]
        first, second = of_2020(replica, number), of_2020(replica, number)
        assert (first.status, first.headers.get_content_type()) == (200, "text/html")
        assert second.json["wasSuccessful"] is True


def test_the_official_cli_agrees_with_the_league(
    replica: Replica, league: League, tmp_path: Path
) -> None:
    """One process for all four commands: each of them is a second of CPU otherwise."""
    team = league.team(league.start_team)
    assert team is not None
    number = team.best_submission
    episode = over(league)[0]
    index = next(a.index for a in episode.agents if a.team_id == team.id)
    commands = [
        ["team-submissions", str(team.id), "--format", "json"],
        ["episodes", str(number), "-q", "--format", "json"],
        ["replay", str(episode.id), "-p", str(tmp_path), "-q"],
        ["logs", str(episode.id), str(index), "-p", str(tmp_path), "-q"],
    ]
    code = f"""
import contextlib, io, json, sys
from kaggle import cli
shown = []
for command in {commands!r}:
    sys.argv = ["kaggle", "competitions", *command]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        cli.main()
    shown.append(output.getvalue())
print(json.dumps(shown))
"""
    submissions, episodes, *_ = official_json(replica, code)
    found = [league.submission(each) for each in team.submissions]
    assert [(row["id"], row["publicScore"]) for row in json.loads(submissions)] == [
        (each.id, "" if each.score is None else f"{each.score:.1f}") for each in found if each
    ]
    states = {1: "CREATED", 2: "COMPLETED", 3: "ERRORED", 4: "NEVER_STARTED"}
    types = {1: "EPISODE_TYPE_PUBLIC", 4: "EPISODE_TYPE_VALIDATION"}
    assert [
        (row["id"], row["state"].rpartition(".")[2], row["type"].rpartition(".")[2])
        for row in json.loads(episodes)
    ] == [(each.id, states[each.state], types[each.type]) for each in league.of_submission(number)]
    replay = tmp_path / f"episode-{episode.id}-replay.json"
    assert replay.read_bytes() == replays.replay_bytes(league, episode.id)
    printed = tmp_path / f"episode-{episode.id}-agent-{index}-logs.json"
    assert printed.read_bytes() == replays.agent_logs(league, episode.id, index)
