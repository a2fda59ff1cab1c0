"""What is known of a competition's games: which are worth fetching, and whether another listing is
worth its request.

A listing (of a team, or of a submission: a *unit*) tells of episodes and of further units, the
opponents. Each listing and each replay costs a request. So with ``room`` requests left, one more
listing pays when what it brings is worth more than the replay that is given up for it: the
``room``-th best that is known. What it will bring is not known; but the games that it has played
against units that were listed are, and they tell how good the rest will be. By how much the rest is
more or less than those, earlier listings have taught.

This is a view of what the job and the ledger hold, made anew by each run. The order in which things
are asked for is the queue's.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: How much of what earlier listings have taught is kept at each new one.
_MEMORY = 0.6


@dataclass
class Unit:
    """A team or submission that can be listed."""

    key: str
    #: Which source lists it; none does, where it is only known to play.
    source: str = ""
    team: int | None = None
    name: str = ""
    rank: int | None = None
    #: It is to be listed whatever its rank.
    named: bool = False
    #: The priority with which it was asked for last.
    asked: int = 0
    listed: bool = False
    #: Nothing can be had of it, or it is beyond the watermark.
    closed: bool = False
    #: The best score that an agent of it was seen to have.
    best: float = 0.0
    #: Scores of the wanted games that it is known to have played in.
    games: list[float] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Can it be listed still?"""
        return bool(self.source) and not (self.listed or self.closed)


class Graph:
    """The known units and games of one competition."""

    def __init__(self) -> None:
        self.units: dict[str, Unit] = {}
        #: Games that are wanted and not had yet, by their keys: their scores.
        self.candidates: dict[str, float] = {}
        #: Raised by whatever may change which unit is worth listing.
        self.version = 0
        self._known: set[str] = set()
        #: What listings have brought, and what was expected of them by the games known before.
        self._brought = self._expected = 0.0

    def unit(self, key: str) -> Unit:
        """The unit of this key."""
        return self.units.setdefault(key, Unit(key))

    def know(
        self, key: str, score: float, players: Mapping[str, float | None], *, wanted: bool
    ) -> bool:
        """A game was listed, with the units that played in it and their scores after it; False if
        it is known. One that is not wanted for its score promises nothing."""
        if key in self._known:
            return False
        self._known.add(key)
        self.version += 1
        for name, theirs in players.items():
            unit = self.unit(name)
            unit.best = max(unit.best, theirs or 0.0)
            if wanted:
                unit.games.append(score)
        return True

    def want(self, key: str, score: float) -> None:
        """A game is to be fetched."""
        self.version += 1
        self.candidates[key] = score

    def over(self, key: str) -> None:
        """It is fetched, or cannot be."""
        self.candidates.pop(key, None)

    def settle(self, key: str, *, listed: bool) -> None:
        """A unit is listed, or cannot be."""
        unit = self.unit(key)
        unit.listed, unit.closed = listed, not listed
        self.version += 1

    def threshold(self, room: float) -> float:
        """The score of the worst game for which there is room; 0 where there is room for more."""
        if room < 1:
            return math.inf
        if len(self.candidates) < room:
            return 0.0
        return sorted(self.candidates.values(), reverse=True)[int(room) - 1]

    def expect(self, key: str, room: float) -> tuple[str, float, float]:
        """Before a unit is listed: what its known games promise, for ``learn``."""
        threshold = self.threshold(room)
        return key, threshold, _above(self.unit(key).games, threshold)

    def learn(self, expected: tuple[str, float, float], scores: Iterable[float]) -> None:
        """After that: the scores of the wanted games that its listing has told of first."""
        _, threshold, promised = expected
        brought = _above(scores, threshold)
        if promised:
            self._brought = _MEMORY * self._brought + brought
            self._expected = _MEMORY * self._expected + promised

    def pays(self, room: float, watermark: int) -> bool:
        """Is one more listing worth more than the replay that it would cost? Units of a rank beyond
        the ``watermark`` are not listed."""
        waiting = self.open_units(watermark) if room > 0 else []
        if not waiting:
            return False
        threshold = self.threshold(room)
        if not threshold or any(unit.named for unit in waiting):
            return True
        ratio = self._brought / self._expected if self._expected else 1.0
        return max(ratio * _above(unit.games, threshold) for unit in waiting) > threshold

    def most_promising(self, room: float, watermark: int) -> Unit | None:
        """The unit whose known games promise most; of two alike, the one of the better rank. None
        where none promises anything."""
        threshold = self.threshold(room)
        best, most = None, 0.0
        for unit in sorted(self.open_units(watermark), key=lambda unit: unit.rank or math.inf):
            if (promised := _above(unit.games, threshold)) > most:
                best, most = unit, promised
        return best

    def open_units(self, watermark: int) -> list[Unit]:
        """The units that can be listed still, and that are named or of a team of a rank up to the
        ``watermark``.

        Where nobody tells ranks, a unit's is its place by score among the teams that are known.
        Where they are told, a team without one is not on the leaderboard, and is not listed.
        """
        ranks: dict[int | str, int] = {}
        teams: dict[int | str, float] = {}
        for unit in self.units.values():
            team = unit.team or unit.key
            teams[team] = max(unit.best, teams.get(team, 0.0))
            if unit.rank is not None:
                ranks[team] = min(unit.rank, ranks.get(team, unit.rank))
        scores = sorted(teams.values())

        def rank(unit: Unit) -> float:
            if ranks:
                return ranks.get(unit.team or unit.key, math.inf)
            return 1 + len(scores) - bisect.bisect_right(scores, unit.best)

        opens = (unit for unit in self.units.values() if unit.is_open)
        return [unit for unit in opens if unit.named or rank(unit) <= watermark]


def _above(scores: Iterable[float], threshold: float) -> float:
    return sum(score - threshold for score in scores if score > threshold)
