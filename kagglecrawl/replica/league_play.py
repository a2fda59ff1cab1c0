"""A simulated season of a simulation competition: who plays whom, and what scores come of it.

Every number here is fitted to real data, or said not to be. **It is not to be tuned to what any
crawl gets out of it**: the season was made before the crawl, and is to be like Halite's only.

How a game changes scores was found from the real episodes 100000 to 100002 of the sample replies.
Their six changes of score and the one of confidence are, to a thousandth, those of TrueSkill with
β = 100 and no dynamics, each step taken 1.05 times, and no confidence below 20. This is TrueSkill
as published (μ = 25, σ = 25/3, β = 25/6) times 24, so that all begin at 600 with 200. Only the
confidence falls more slowly here (`_SHRINK`).

Only additions, multiplications, divisions and square roots are used, which are exact on every
machine; the one curve that is not made of these is a table of rounded numbers.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from kagglecrawl.replica.dice import Dice

FIRST_SCORE = 600.0
FIRST_CONFIDENCE = 200.0
LEAST_CONFIDENCE = 20.0
PLAYERS = 4
"""Of a game: Halite's."""
GAME, VALIDATION, FAILED, NEVER_PLAYED = 0, 1, 2, 3
"""Kinds of a game. The last two change no scores."""
_BETA = 100.0
_STEP = 1.05
#: Of confidence: it falls more slowly than in the real games (by 1.05 there), as far fewer are
#: played here. Fitted to the real leaderboard: with 1.05 nobody comes above 1170, with 0.21 the
#: best has 1850, with 0.42 the final scores' quantiles are some 5 % off at most in the better 70 %.
_SHRINK = 0.42
#: The curve's steps for one standard deviation, and where it ends on both sides.
_PER_UNIT, _END = 32, 6


def _curve() -> tuple[float, ...]:
    """How surprising it is that the one has won who was better by t, for t from -6 to 6: the
    normal density by its distribution. Rounded, as no two C libraries need agree on more."""
    values = []
    for number in range(-_END * _PER_UNIT, _END * _PER_UNIT + 2):
        t = number / _PER_UNIT
        density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
        values.append(round(density / (math.erfc(-t / math.sqrt(2)) / 2), 9))
    return tuple(values)


_SURPRISE = _curve()


def surprise(t: float) -> float:
    """The curve at t, interpolated."""
    place = (t + _END) * _PER_UNIT
    if place <= 0:
        return -t
    if place >= 2 * _END * _PER_UNIT:
        return 0.0
    at = int(place)
    return _SURPRISE[at] + (place - at) * (_SURPRISE[at + 1] - _SURPRISE[at])


def update(scores: Sequence[float], confidences: Sequence[float]) -> list[tuple[float, float]]:
    """Scores and confidences after a game, of its players from the winner to the last.

    Only neighbours are compared, as TrueSkill does; of each two the upper one has won.
    """
    moves = [0.0] * len(scores)
    shrinks = [0.0] * len(scores)
    for upper in range(len(scores) - 1):
        mine, its = confidences[upper] ** 2, confidences[upper + 1] ** 2
        square = 2 * _BETA * _BETA + mine + its
        spread = math.sqrt(square)
        t = (scores[upper] - scores[upper + 1]) / spread
        v = surprise(t)
        w = v * (v + t)
        moves[upper] += _STEP * mine / spread * v
        moves[upper + 1] -= _STEP * its / spread * v
        shrinks[upper] += _SHRINK * mine / square * w
        shrinks[upper + 1] += _SHRINK * its / square * w
    return [
        (
            score + move,
            # a middle one's two shrinks are not to take it all
            max(LEAST_CONFIDENCE, confidence * math.sqrt(max(1 - shrink, 0.25))),
        )
        for score, confidence, move, shrink in zip(scores, confidences, moves, shrinks, strict=True)
    ]


@dataclass(frozen=True)
class Entry:
    """A submission that is to play: when it was made (seconds since the season's begin), how
    strong it is in points of the score, and whether its validation game fails."""

    moment: float
    skill: float
    fails: bool = False


@dataclass
class Season:
    """What was played, as columns: game n has its own place in `moments`, and the places 4 n to
    4 n + 3 in the others, the winner first. A validation game is its submission against itself.

    `scores` and `confidences` are those before the game, `new_…` those after it. 150 bytes a game.
    """

    moments: array[float] = field(default_factory=lambda: array("d"))
    kinds: bytearray = field(default_factory=bytearray)
    players: array[int] = field(default_factory=lambda: array("i"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    confidences: array[float] = field(default_factory=lambda: array("d"))
    new_scores: array[float] = field(default_factory=lambda: array("d"))
    new_confidences: array[float] = field(default_factory=lambda: array("d"))
    final: list[float] = field(default_factory=list)
    """Each entry's score in the end."""
    games: list[list[int]] = field(default_factory=list)
    """Each entry's games, oldest first."""

    def add(self, moment: float, players: Sequence[int], kind: int) -> None:
        """Note a game without its scores."""
        number = len(self.moments)
        self.moments.append(moment)
        self.kinds.append(kind)
        self.players.extend(players)
        for player in dict.fromkeys(players):
            self.games[player].append(number)


def play(
    dice: Dice,
    entries: Sequence[Entry],
    *,
    length: float,
    rounds: int,
    fresh: int,
    share: float,
    width: float,
    errored: int,
) -> Season:
    """Play a season of `length` seconds in `rounds` rounds; the entries are in order of moments.

    In a round play all that have had fewer than `fresh` games, and of the others the given share.
    They are put in order of their scores, each moved by at most `width` points at random, and four
    after four play together. One game of `errored` fails, and fewer are never played.
    """
    season = Season(final=[FIRST_SCORE] * len(entries), games=[[] for _ in entries])
    scores = season.final
    confidences = [FIRST_CONFIDENCE] * len(entries)
    active: list[int] = []
    entered = 0
    for turn in range(1, rounds + 1):
        begin = length * (turn - 1) / rounds
        end = length * turn / rounds
        while entered < len(entries) and (entries[entered].moment < begin or turn == rounds):
            _validate(season, entered, begin)
            if not entries[entered].fails:
                active.append(entered)
            entered += 1
        chosen = [
            player for player in active if len(season.games[player]) <= fresh or dice.unit() < share
        ]
        # who cannot be seated are the oldest: a new one plays as soon as there are four
        chosen = chosen[len(chosen) % PLAYERS :]
        places = {player: scores[player] + width * (2 * dice.unit() - 1) for player in chosen}
        chosen.sort(key=places.__getitem__)
        tables = [chosen[at : at + PLAYERS] for at in range(0, len(chosen), PLAYERS)]
        # drawn, or the newest games of all would always be those of the best
        for number, table in enumerate(dice.sample(tables, len(tables))):
            moment = begin + (end - begin) * (number + 0.5) / len(tables)
            kind = _kind(len(season.moments), errored)
            _game(season, dice, entries, confidences, table, moment, kind)
    return season


def _validate(season: Season, player: int, moment: float) -> None:
    """Each submission's first game is against itself, and begins its score. Of Meta Kaggle's
    159 million agents 0.5 % have no InitialScore, about as many as play such games."""
    season.add(moment, [player] * PLAYERS, VALIDATION)
    season.scores.extend([FIRST_SCORE] * PLAYERS)
    season.confidences.extend([FIRST_CONFIDENCE] * PLAYERS)
    season.new_scores.extend([FIRST_SCORE] * PLAYERS)
    season.new_confidences.extend([FIRST_CONFIDENCE] * PLAYERS)


def _kind(number: int, errored: int) -> int:
    """By the game's number, so that even a small season has some."""
    if number % (4 * errored) == 90:
        return NEVER_PLAYED
    return FAILED if number % errored == 40 else GAME


def _game(
    season: Season,
    dice: Dice,
    entries: Sequence[Entry],
    confidences: list[float],
    table: list[int],
    moment: float,
    kind: int,
) -> None:
    shown = {player: entries[player].skill + _BETA * normal(dice) for player in table}
    table.sort(key=shown.__getitem__, reverse=True)
    season.add(moment, table, kind)
    before = [season.final[player] for player in table]
    sure = [confidences[player] for player in table]
    season.scores.extend(before)
    season.confidences.extend(sure)
    after = update(before, sure) if kind == GAME else zip(before, sure, strict=True)
    for player, (score, confidence) in zip(table, after, strict=True):
        season.final[player] = score
        confidences[player] = confidence
        season.new_scores.append(score)
        season.new_confidences.append(confidence)


def normal(dice: Dice) -> float:
    """About normally distributed with mean 0 and deviation 1: four uniform ones of 16 bits."""
    bits = dice.below(1 << 64)
    total = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48)
    return (total / 65536 - 2) * 1.7320508075688772
