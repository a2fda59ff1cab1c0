"""One league of benchmarks/episodes.py: what the crawl, the seed's algorithm and the oracle get.

`python -m benchmarks.episodes_case SEED TEAMS BUDGET...` prints a row of JSON for each budget.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.episodes_rivals import Graph, Oracle, Outcome, seed
from benchmarks.processes import ROOT, BenchmarkError, clean_env, measure
from kagglecrawl.replica import episode_service, episodes
from kagglecrawl.replica.league import League, LeagueShape
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World

#: Seconds for one crawl, of which the largest takes some ten.
_TIMEOUT = 600.0
#: Every call of the service, by what it counts as.
_FAMILIES = {
    **episode_service.FAMILIES,
    **{method.name: method.family for method in episodes.METHODS},
}


@dataclass(frozen=True)
class Case:
    """One league under one budget. ``bound``: no choice of teams is worth more than that."""

    seed: int
    budget: int
    ours: Outcome
    seeds: Outcome
    oracle: Outcome
    bound: float

    @property
    def of_oracle(self) -> float:
        """Our part of what the oracle gets."""
        return self.ours.value / self.oracle.value if self.oracle.value else 1.0

    @property
    def of_seed(self) -> float:
        """Ours by the seed's; infinite where that finds nothing."""
        if not self.seeds.value:
            return float("inf") if self.ours.value else 1.0
        return self.ours.value / self.seeds.value

    @classmethod
    def read(cls, line: str) -> Self:
        """From a row."""
        row: dict[str, Any] = json.loads(line)
        for name in ("ours", "seeds", "oracle"):
            row[name] = Outcome(**row[name])
        return cls(**row)

    def row(self) -> str:
        """As a row."""
        return json.dumps(asdict(self))


def crawl(replica: Replica, league: League, budget: int) -> Outcome:
    """Our crawl, in a process and a workspace of its own, by the replica's counts.

    Raises ``BenchmarkError`` if it fails, or has made more requests than it may, or has fetched a
    replay twice.
    """
    replica.reset_stats()
    with tempfile.TemporaryDirectory(prefix="kagglecrawl-episodes-") as name:
        folder = Path(name)
        command = [
            *(sys.executable, "-m", "scrapy", "crawl", "halite_episodes"),
            *("-a", f"request_budget={budget}", "-s", f"WORKSPACE={folder / 'workspace'}"),
            *("-s", "WORKSPACE_MIN_FREE=0", "-s", "DOWNLOAD_DELAY=0"),
            *("-s", "AUTOTHROTTLE_ENABLED=False", "-o", str(folder / "rows.jsonl")),
        ]
        env = clean_env(folder, **replica.crawler_env())
        measure(command, folder=ROOT, env=env, timeout=_TIMEOUT)
    return outcome(replica.stats(), league, budget)


def outcome(stats: dict[str, Any], league: League, budget: int) -> Outcome:
    """What a crawl came to by the replica's counts; raises ``BenchmarkError`` like ``crawl``."""
    made = {"episodes": 0, "replay": 0}
    for method, by_status in stats["requests"].items():
        if method in _FAMILIES:
            made[_FAMILIES[method]] += sum(by_status.values())
    if sum(made.values()) > budget:
        raise BenchmarkError(f"{made} requests were made, and {budget} is the budget")
    had: dict[str, int] = {}
    for method, by_key in stats["delivered_by_key"].items():
        if _FAMILIES.get(method) == "replay":
            for key, count in by_key.items():
                had[key] = had.get(key, 0) + count
    if twice := [key for key, count in had.items() if count > 1]:
        raise BenchmarkError(f"these were fetched more than once: {', '.join(sorted(twice)[:5])}")
    value = sum(league.episodes[int(key.removeprefix("episode="))].priority for key in had)
    return Outcome(value, made["episodes"], len(had))


def check_listing(replica: Replica, graph: Graph, team: int) -> None:
    """Does the replica tell of a team what the rivals see? Raises ``BenchmarkError`` if not."""
    request = urllib.request.Request(
        f"{replica.url}/requests/EpisodeService/ListEpisodes",
        json.dumps({"teamId": team}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        told = [each["id"] for each in json.load(response)["result"]["episodes"]]
    if told != graph.games[team]:
        raise BenchmarkError(
            f"the replica lists {len(told)} episodes of team {team}, and the rivals see "
            f"{len(graph.games[team])}, or others"
        )


def cases(number: int, teams: int, budgets: list[int]) -> list[Case]:
    """One league under each of the budgets."""
    world = World(seed=number, scale=None, league_shape=LeagueShape(teams=teams))
    league = world.league("halite")
    if league is None:
        raise BenchmarkError("the replica has no league of halite")
    graph = Graph.of(league)
    oracle, found = Oracle(graph), []
    with Replica(world, behaviour=Behaviour(episodes="2020")) as replica:
        for team in (league.teams[0].id, league.start_team):
            check_listing(replica, graph, team)
        for budget in budgets:
            best, bound = oracle.solve(budget)
            ours = crawl(replica, league, budget)
            found.append(Case(number, budget, ours, seed(graph, budget), best, bound))
    return found


def main() -> int:
    """Print the cases; returns the exit code."""
    number, teams, *budgets = map(int, sys.argv[1:])
    try:
        for case in cases(number, teams, budgets):
            print(case.row())
    except BenchmarkError as error:
        print(f"league {number}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # like Ctrl-C, so that no crawl is left running
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())
