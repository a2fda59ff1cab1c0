"""Whom benchmarks/episodes.py compares the crawl with: the seed's algorithm, and an oracle.

All see the same: a listing of a team is its newest thousand games with their scores and the ranks
of their teams, and each listing and each replay costs one request.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from kagglecrawl.replica.episode_service import MOST
from kagglecrawl.replica.league import League

#: The seed's.
EPISODE_WATERMARK = 1100.0
TEAM_WATERMARK = 25
DISCOVERY_SHARE = 0.5
#: The oracle looks at the best of all games: so many times the budget, and at least so many.
_DEPTH, _LEAST_DEPTH = 4, 1000


class Graph:
    """A league as its listings show it: games' scores, teams' games (newest first), their ranks."""

    def __init__(
        self,
        scores: Mapping[int, float],
        games: Mapping[int, list[int]],
        ranks: Mapping[int, int | None],
        start: int,
    ) -> None:
        self.scores, self.games, self.ranks, self.start = scores, games, ranks, start
        self._met: dict[int, set[int]] = {}
        for team, numbers in games.items():
            for number in numbers:
                self._met.setdefault(number, set()).add(team)
        #: Who plays in each game, also where the game is too old for the team's own listing.
        self.players: Mapping[int, Collection[int]] = self._met

    @classmethod
    def of(cls, league: League) -> Graph:
        """What the services tell of a league."""
        scores: dict[int, float] = {}
        players: dict[int, set[int]] = {}
        games: dict[int, list[int]] = {team.id: [] for team in league.teams}
        for number in reversed(list(league.episodes)):
            episode = league.episodes[number]
            scores[number] = episode.priority
            players[number] = {agent.team_id for agent in episode.agents}
            for team in players[number]:
                if len(games[team]) < MOST:
                    games[team].append(number)
        graph = cls(scores, games, {t.id: t.rank for t in league.teams}, league.start_team)
        graph.players = players
        return graph


class OverBudgetError(Exception):
    """A contender has made more requests than it may."""


class Service:
    """Counts what is asked for. Raises ``OverBudgetError`` rather than answer too often."""

    def __init__(self, graph: Graph, budget: int) -> None:
        self._graph = graph
        self.left = budget
        self.listed: list[int] = []
        #: What was fetched; twice the same counts once, but costs twice.
        self.fetched: dict[int, float] = {}

    def list_team(self, team: int) -> tuple[dict[int, float], dict[int, int | None]]:
        """The team's games and their scores, and the ranks of all who play in them."""
        self._pay()
        self.listed.append(team)
        games = {number: self._graph.scores[number] for number in self._graph.games[team]}
        met = {other for number in games for other in self._graph.players[number]}
        return games, {other: self._graph.ranks[other] for other in sorted(met)}

    def fetch(self, number: int) -> None:
        """A replay."""
        self._pay()
        self.fetched[number] = self._graph.scores[number]

    def outcome(self) -> Outcome:
        """What it came to."""
        return Outcome(sum(self.fetched.values()), len(self.listed), len(self.fetched))

    def _pay(self) -> None:
        if self.left < 1:
            raise OverBudgetError
        self.left -= 1


@dataclass(frozen=True)
class Outcome:
    """The sum of the priorities of the replays that were fetched, and how many requests it took."""

    value: float
    listings: int
    replays: int


def seed(graph: Graph, budget: int) -> Outcome:
    """The notebook's algorithm, round by round, with its bugs fixed: ids are numbers everywhere, so
    that nothing is fetched or listed twice; teams without a rank are passed over; the first queue
    of episodes is made of the episodes."""
    service = Service(graph, budget)
    teams: dict[int, int] = {}
    episodes: dict[int, float] = {}
    team_queue, episode_queue = [graph.start], _episode_queue(episodes, budget)
    scraping = True
    while scraping:
        while episode_queue and budget > 0:
            number = episode_queue.pop(0)
            service.fetch(number)
            episodes.pop(number, None)
            budget -= 1
        limit = left = int(budget * DISCOVERY_SHARE)
        while left > 0 and team_queue:
            games, ranks = service.list_team(team_queue.pop(0))
            teams |= {team: rank for team, rank in ranks.items() if rank is not None}
            teams = {team: rank for team, rank in teams.items() if team not in service.listed}
            team_queue = [
                team
                for team in sorted(teams, key=teams.__getitem__)
                if teams[team] <= TEAM_WATERMARK
            ]
            episodes |= {n: score for n, score in games.items() if n not in service.fetched}
            episode_queue = _episode_queue(episodes, budget)
            left -= 1
        budget -= limit - left
        scraping = bool(episode_queue) and budget > 0
    return service.outcome()


def _episode_queue(episodes: Mapping[int, float], budget: int) -> list[int]:
    best = sorted(episodes, key=episodes.__getitem__, reverse=True)
    return [number for number in best if episodes[number] >= EPISODE_WATERMARK][:budget]


class Oracle:
    """Knows all games, and lists the teams of whose listings the best replays come.

    For each number of listings: a greedy choice, one team after another by what it adds, and then
    exchanges of one team for another, and droppings of one, for as long as any is better. More
    listings are tried until even the best games of all, were they known, could not be worth it.
    """

    def __init__(self, graph: Graph) -> None:
        #: Games by their scores, best first: a game is its place among them from here on.
        order = sorted(graph.scores, key=lambda number: (-graph.scores[number], number))
        self._scores = [graph.scores[number] for number in order]
        places = {number: place for place, number in enumerate(order)}
        self._games = {
            team: sorted(places[number] for number in numbers)
            for team, numbers in graph.games.items()
        }
        listable = {place for each in self._games.values() for place in each}
        self._best = sorted(listable)

    def solve(self, budget: int) -> tuple[Outcome, float]:
        """The best that it finds, and a bound that no choice of teams can exceed."""
        best, chosen, bound = 0.0, frozenset[int](), 0.0
        # only games so far from the best are looked at; the bound takes all others for given
        deepest, floor = self._best[-1], 0.0
        if len(self._best) > (most := max(_DEPTH * budget, _LEAST_DEPTH)):
            deepest = self._best[most]
            floor = self._scores[deepest]
        games = {
            team: {place for place in places[:budget] if place <= deepest}
            for team, places in self._games.items()
        }
        games = {team: places for team, places in games.items() if places}
        for count in range(1, min(budget, len(games)) + 1):
            room = budget - count
            ceiling = self._value(self._best, room)
            if ceiling <= best:
                break
            teams, limit = self._choose(games, count, room, floor)
            teams, value = self._exchange(games, teams, room)
            bound = max(bound, min(ceiling, limit))
            if value > best:
                best, chosen = value, teams
        best, chosen = self._drop(games, chosen, budget, best)
        replays = len(self._pick(games, chosen, budget - len(chosen)))
        return Outcome(best, len(chosen), replays), max(bound, best)

    def _value(self, places: Iterable[int], room: int, floor: float = 0.0) -> float:
        """The worth of the best of these games, which are in order; with a ``floor``, of as many
        games as there is room for, each at least that good."""
        best = itertools.islice(places, room)
        return room * floor + sum(self._scores[place] - floor for place in best)

    def _pick(self, games: Mapping[int, set[int]], teams: Collection[int], room: int) -> list[int]:
        """The best games that these teams' listings tell of."""
        return sorted(set().union(*(games[team] for team in teams)))[:room]

    def _choose(
        self, games: Mapping[int, set[int]], count: int, room: int, floor: float
    ) -> tuple[frozenset[int], float]:
        """So many teams, greedily; and a bound on what so many teams can be worth.

        The worth of the best ``room`` games of a union is submodular in the teams: whatever so many
        teams are worth, it is no more than what a set has, and the most that so many single teams
        would add to it. As many games of the ``floor`` as there is room for count as listed.
        """
        chosen: list[int] = []
        have: set[int] = set()
        worth, bound = self._value(have, room, floor), float("inf")
        for step in range(count + 1):
            gains = {
                team: gain
                for team in games
                if (gain := self._value(sorted(have | games[team]), room, floor) - worth) > 0
            }
            bound = min(bound, worth + sum(sorted(gains.values(), reverse=True)[:count]))
            if step == count or not gains:
                break
            team = max(gains, key=lambda each: (gains[each], -each))
            chosen.append(team)
            have = set(sorted(have | games[team])[:room])
            worth += gains[team]
        return frozenset(chosen), bound

    def _exchange(
        self, games: Mapping[int, set[int]], teams: frozenset[int], room: int
    ) -> tuple[frozenset[int], float]:
        """Exchange one for another while that is better."""
        worth = self._value(self._pick(games, teams, room), room)
        better = True
        while better:
            better = False
            for out in sorted(teams):
                rest = teams - {out}
                have = set(self._pick(games, rest, room))
                for team in sorted(games.keys() - rest):
                    value = self._value(sorted(have | games[team]), room)
                    if value > worth + 1e-6:
                        teams, worth, better = rest | {team}, value, True
                if better:
                    break
        return teams, worth

    def _drop(
        self, games: Mapping[int, set[int]], teams: frozenset[int], budget: int, worth: float
    ) -> tuple[float, frozenset[int]]:
        """Leave out those whose request is better spent on a replay."""
        for out in sorted(teams):
            rest = teams - {out}
            room = budget - len(rest)
            value = self._value(self._pick(games, rest, room), room)
            if value > worth:
                return self._drop(games, rest, budget, value)
        return worth, teams
