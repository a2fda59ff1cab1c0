"""Whom benchmarks/episodes.py compares with, on small leagues, and what it makes of the figures."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import episodes, episodes_case
from benchmarks.episodes_case import Case, check_listing, outcome
from benchmarks.episodes_rivals import Graph, Oracle, Outcome, OverBudgetError, Service, seed
from benchmarks.processes import BenchmarkError
from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.episode_service import MOST
from kagglecrawl.replica.league import League, LeagueShape
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World

BUDGETS = (1, 2, 3, 5, 8, 20, 100, 2000)


def tiny(number: int) -> Graph:
    """Seven teams and some 400 games."""
    return Graph.of(League(number, shape=LeagueShape(teams=6)))


def made(games: dict[int, list[int]], scores: dict[int, float], start: int = 1) -> Graph:
    """Teams whose ranks are their numbers; those from 90 on have none."""
    ranks = {team: None if team >= 90 else team for team in games}
    return Graph(scores, games, ranks, start)


def brute_force(graph: Graph, budget: int) -> float:
    """The best of all choices of teams."""
    best = 0.0
    for count in range(1, min(budget, len(graph.games)) + 1):
        for teams in itertools.combinations(graph.games, count):
            found = set().union(*(graph.games[team] for team in teams))
            scores = sorted((graph.scores[number] for number in found), reverse=True)
            best = max(best, sum(scores[: budget - count]))
    return best


# -- what is known ---------------------------------------------------------------------------------


def test_a_graph_is_what_the_services_tell_of_a_league() -> None:
    league = League(1, shape=LeagueShape(teams=40))
    graph = Graph.of(league)
    for team in league.teams:
        listed = league.of_team(team.id)[:MOST]
        assert graph.games[team.id] == [episode.id for episode in listed]
        assert graph.ranks[team.id] == team.rank
        for episode in listed:
            assert graph.scores[episode.id] == episode.priority
            assert graph.players[episode.id] == {agent.team_id for agent in episode.agents}
    assert max(map(len, graph.games.values())) == MOST


def test_a_service_counts_and_refuses() -> None:
    service = Service(made({1: [7, 8], 2: [8], 90: [8]}, {7: 1.0, 8: 2.0}), 3)
    assert service.list_team(1) == ({7: 1.0, 8: 2.0}, {1: 1, 2: 2, 90: None})
    service.fetch(8)
    service.fetch(8)
    assert service.outcome() == Outcome(2.0, 1, 1)
    with pytest.raises(OverBudgetError):
        service.fetch(7)
    with pytest.raises(OverBudgetError):
        service.list_team(2)


# -- the seed's algorithm --------------------------------------------------------------------------


def test_the_seed_lists_by_rank_and_fetches_the_best() -> None:
    games = {
        3: [10, 11],
        1: [20, 21, 22],
        2: [22, 23],
        26: [11, 30],  # beyond its watermark
        90: [10, 31],  # without a rank
    }
    scores = {10: 1150.0, 11: 900.0, 20: 1500.0, 21: 1099.9, 22: 1400.0, 23: 1300.0}
    scores |= {30: 2000.0, 31: 2000.0}
    graph = made(games, scores, start=3)
    # 3 names only 26 and 90: no better games are found from there
    assert seed(graph, 100) == Outcome(1150.0, 1, 1)
    # one game with team 2, and all but those of 26 and 90 are found: 1 by way of 2
    games[3].append(23)
    graph = made(games, scores, start=3)
    assert seed(graph, 100) == Outcome(1150.0 + 1500 + 1400 + 1300, 3, 4)
    # half of 4 are listings, of 3 and 2; the other two are the best of what they told
    assert seed(graph, 4) == Outcome(1400.0 + 1300, 2, 2)
    assert seed(graph, 1) == Outcome(0.0, 0, 0)


def test_the_seed_goes_on_listing_with_what_its_first_round_left() -> None:
    # its only good game is fetched in the first round, and the second finds nothing to list
    graph = made({1: [10, 11], 2: [11]}, {10: 1200.0, 11: 1000.0})
    assert seed(graph, 2) == Outcome(1200.0, 1, 1)
    # five requests: 1 and 2 are listed, then the queue is empty; all three games are had
    graph = made({1: [10, 11], 2: [11, 12]}, {10: 1200.0, 11: 1150.0, 12: 1300.0})
    assert seed(graph, 5) == Outcome(3650.0, 2, 3)


@pytest.mark.parametrize("number", range(3))
def test_the_seed_obeys_its_budget(number: int) -> None:
    graph = Graph.of(League(number, shape=LeagueShape(teams=40)))
    for budget in BUDGETS:
        found = seed(graph, budget)  # else OverBudgetError
        assert found.listings <= max(1, budget // 2) + 1
        assert found.listings + found.replays <= budget
        assert found.value >= 1100 * found.replays


# -- the oracle ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(4))
def test_the_oracle_finds_the_best_of_a_tiny_league(number: int) -> None:
    graph = tiny(number)
    oracle = Oracle(graph)
    for budget in BUDGETS:
        found, bound = oracle.solve(budget)
        best = brute_force(graph, budget)
        assert found.value == pytest.approx(best)
        assert bound >= best - 1e-6
        assert found.listings + found.replays <= budget
        assert found.value >= seed(graph, budget).value


def test_the_oracle_is_seldom_wrong_and_its_bound_never() -> None:
    right = 0
    for number in range(20):
        dice = Dice("graph", number)
        scores = {game: float(dice.below(1000)) for game in range(60)}
        games = {team: dice.sample(range(60), dice.between(1, 12)) for team in range(8)}
        graph = made(games, scores)
        for budget in (2, 5, 8, 20):
            found, bound = Oracle(graph).solve(budget)
            best = brute_force(graph, budget)
            assert found.value <= best + 1e-6 <= bound + 2e-6
            assert found.value >= 0.99 * best
            right += found.value == pytest.approx(best)
    assert right >= 78, "of 80, which are made to be hard"


def test_the_bound_holds_where_not_all_games_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = tiny(1)
    whole = {budget: Oracle(graph).solve(budget)[0].value for budget in (5, 40)}
    monkeypatch.setattr("benchmarks.episodes_rivals._LEAST_DEPTH", 1)
    monkeypatch.setattr("benchmarks.episodes_rivals._DEPTH", 1)
    for budget, best in whole.items():
        found, bound = Oracle(graph).solve(budget)
        assert 0.9 * best < found.value <= best + 1e-6 <= bound + 2e-6


# -- what is made of it ----------------------------------------------------------------------------


def test_the_replica_must_tell_what_the_rivals_see() -> None:
    world = World(scale=None, league_shape=LeagueShape(teams=6))
    (league,) = world.leagues
    graph = Graph.of(league)
    team = league.start_team
    with Replica(world, behaviour=Behaviour(episodes="2020")) as replica:
        check_listing(replica, graph, team)
        missing = made({**graph.games, team: graph.games[team][1:]}, dict(graph.scores), team)
        with pytest.raises(BenchmarkError, match=rf"of team {team}, and the rivals see \d+"):
            check_listing(replica, missing, team)
        requests = replica.stats()["requests"]
    # its calls are those that are counted
    assert requests.keys() <= episodes_case._FAMILIES.keys()


def test_a_crawl_is_judged_by_the_replicas_counts() -> None:
    league = League(1, shape=LeagueShape(teams=6))
    first, second, *_ = (each for each in league.episodes.values() if each.priority > 700)
    stats: dict[str, Any] = {
        "requests": {"ListEpisodes": {"200": 2, "404": 1}, "Replay": {"200": 2, "500": 1}},
        "delivered_by_key": {
            "ListEpisodes": {"team=1": 2},
            "Replay": {f"episode={first.id}": 1},
            "GetEpisodeReplay2020": {f"episode={second.id}": 1},
        },
    }
    found = outcome(stats, league, 6)
    assert found == Outcome(first.priority + second.priority, 3, 2)
    with pytest.raises(BenchmarkError, match="and 5 is the budget"):
        outcome(stats, league, 5)
    stats["delivered_by_key"]["GetEpisodeReplay2020"] = {f"episode={first.id}": 1}
    with pytest.raises(BenchmarkError, match=rf"more than once: episode={first.id}$"):
        outcome(stats, league, 6)


def test_bars_and_table() -> None:
    case = Case(1, 100, Outcome(95.0, 3, 97), Outcome(90.0, 26, 74), Outcome(100.0, 1, 99), 101.0)
    assert Case.read(case.row()) == case
    assert (case.of_oracle, case.of_seed) == (0.95, 95 / 90)
    cases = [case, replace(case, seed=2, ours=Outcome(92.0, 4, 96))]
    assert episodes.judge(cases) == []
    line = episodes.table(cases).splitlines()[1]
    assert line.split()[:3] == ["100", "0.935", "[0.920-0.950]"]
    assert line.split()[-6:] == ["3.5", "26", "1", "96.5", "74", "99"]
    worse = [*cases, replace(case, seed=3, ours=Outcome(89.0, 5, 95))]
    assert episodes.judge(worse) == [
        "League 3, budget 100: ours is 89 with 5 listings, and the seed's 90"
    ]
    # a good budget does not make up for a bad one
    bad = replace(case, budget=300, ours=Outcome(89.0, 5, 95), seeds=Outcome(0.0, 1, 0))
    assert bad.of_seed == float("inf")
    assert episodes.judge([*cases, bad]) == ["Budget 300: in the median 0.890 of the oracle's"]


def test_a_league_that_fails_says_why() -> None:
    with pytest.raises(BenchmarkError, match=r"(?s)league 7 ended with 1: .*invalid literal"):
        episodes.run([7], 6, ["many"], 1)  # type: ignore[list-item]


def test_a_small_league_from_end_to_end() -> None:
    (case,) = episodes.run([1], 40, [20], 1)
    assert (case.seed, case.budget) == (1, 20)
    assert case.ours.listings + case.ours.replays <= 20
    assert 0 < case.ours.value <= case.bound + 1e-6
    assert 0 < case.seeds.value <= case.oracle.value <= case.bound
