"""The connected graph of a simulation competition: teams, their submissions, and their games.

A season as Halite's was is played (see `league_play`), and what the services tell of it is made of
that on demand. `league_shape` says which number was fitted from what; none **is to be tuned to
what a crawl gets out of it**: this was made before there was a crawl of episodes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from kagglecrawl.replica import league_play
from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.league_play import PLAYERS, Entry, Season, normal, play
from kagglecrawl.replica.league_shape import LeagueShape

__all__ = [
    "League",
    "LeagueAgent",
    "LeagueEpisode",
    "LeagueShape",
    "LeagueSubmission",
    "LeagueTeam",
]

PUBLIC, VALIDATION = 1, 4
"""Types of an episode that a league has."""
CREATED, COMPLETED, ERRORED, NEVER_STARTED = 1, 2, 3, 4
"""States of an episode."""
PENDING, COMPLETE, ERROR_EVALUATION, ERROR_ON_EPISODE = 1, 2, 3, 6
"""States of an agent that a league has; between the last two are an invalid action and a
timeout."""

_DAY = 86_400.0
#: Of competition 18011 (Meta Kaggle's EnabledDate).
_BEGIN = datetime(2020, 6, 15, 0, 1, tzinfo=UTC)
#: The real replays of Halite are numbered from 1432278 to 1744232; the numbers are shared with the
#: games of other competitions.
_FIRST_EPISODE, _EPISODE_STEP = 1_300_000, 7
#: The real top five teams' submissions of July 2020 are 16362931 to 16466155.
_FIRST_SUBMISSION, _SUBMISSION_STEP = 15_900_000, 131
#: Games that have not ended yet.
_RUNNING = 3
_NAMES = ("Halite Miners", "ship happens", "Team Zürich", "Swarm", "kernel panic", "Dropoff")
_ODD_NAMES = (
    "World 🐝 Wild 🐝 Wasps",
    "Myles O'Neill",
    "焼たらこ",
    'The "Best", & Co',
    "NULL",
    "007",
)


@dataclass(frozen=True)
class LeagueTeam:
    """A team. `rank` and `score` (of its best submission) are None if the leaderboard has it not.
    `submissions` are newest first, `last_submission` is the newest one's moment."""

    id: int
    name: str
    leader_id: int
    rank: int | None
    score: float | None
    submissions: tuple[int, ...]
    best_submission: int
    last_submission: datetime


@dataclass(frozen=True)
class LeagueSubmission:
    """A submission; `score` is its score now, None if it failed its validation."""

    id: int
    team_id: int
    submitted: datetime
    score: float | None


@dataclass(frozen=True)
class LeagueAgent:
    """A player of a game. No scores: not finished (updated), validation (initial), or failed."""

    id: int
    submission_id: int
    team_id: int
    index: int
    reward: float | None
    initial_score: float | None
    initial_confidence: float | None
    updated_score: float | None
    updated_confidence: float | None
    state: int


@dataclass(frozen=True)
class LeagueEpisode:
    """A game; its agents are in the order of their indexes."""

    id: int
    competition_id: int
    type: int
    state: int
    created: datetime
    ended: datetime | None
    agents: tuple[LeagueAgent, ...]

    @property
    def priority(self) -> float:
        """The mean of its agents' updated scores, 0.0 where none has one: what a crawl collects."""
        scores = [each.updated_score for each in self.agents if each.updated_score is not None]
        return sum(scores) / len(scores) if scores else 0.0


class Episodes(Mapping[int, LeagueEpisode]):
    """All games by their ids, oldest first; each is made when it is asked for."""

    def __init__(self, league: League) -> None:
        self._league = league

    def __getitem__(self, number: int) -> LeagueEpisode:
        serial, rest = divmod(number - _FIRST_EPISODE, _EPISODE_STEP)
        if rest or not 0 <= serial < len(self):
            raise KeyError(number)
        return self._league.episode(serial)

    def __iter__(self) -> Iterator[int]:
        return iter(
            range(_FIRST_EPISODE, _FIRST_EPISODE + _EPISODE_STEP * len(self), _EPISODE_STEP)
        )

    def __len__(self) -> int:
        return len(self._league.season.moments)


class League:
    """A season, the same for the same seed, slug and shape; it is played when it is first asked
    for. The whole takes a second or two and 40 MB, 40 teams some hundredths of a second."""

    def __init__(
        self,
        seed: int,
        slug: str = "halite",
        competition_id: int = 18011,
        start_team: int = 5118174,
        shape: LeagueShape | None = None,
    ) -> None:
        self.slug = slug
        self.competition_id = competition_id
        self.start_team = start_team
        self.shape = shape or LeagueShape()
        self._key = ("league", seed, slug)
        self.episodes: Mapping[int, LeagueEpisode] = Episodes(self)

    # -- what the services ask for -----------------------------------------------------------------

    @cached_property
    def teams(self) -> tuple[LeagueTeam, ...]:
        """The teams by rank, rank 1 first, and behind them those that have none."""
        shape, final = self.shape, self.season.final
        best = [
            max((each for each in entries if not self._entries[each].fails), key=final.__getitem__)
            for entries in self._entries_of
        ]
        order = sorted(range(len(best)), key=lambda team: (-final[best[team]], team))
        # a team is left out wherever it would stand, but neither the first nor the start team
        places = Dice("unranked", *self._key)
        out = set(places.sample(range(1, len(order)), shape.without_rank))
        ranked = [team for place, team in enumerate(order) if place not in out]
        start = ranked[min(int(shape.start_place * len(ranked)), len(ranked) - 1)]
        ids = self._team_ids(len(order))
        ids[start] = self.start_team
        rows = [(rank, team) for rank, team in enumerate(ranked, 1)]
        rows += [(0, order[place]) for place in sorted(out)]
        names = Dice("names", *self._key)
        return tuple(
            LeagueTeam(
                id=ids[team],
                name=_name(names, ids[team]),
                leader_id=1_000 + ids[team] % 99_991 * 37,
                rank=rank or None,
                score=final[best[team]] if rank else None,
                submissions=tuple(map(_submission, reversed(self._entries_of[team]))),
                best_submission=_submission(best[team]),
                last_submission=self._when(self._entries[self._entries_of[team][-1]].moment),
            )
            for rank, team in rows
        )

    def team(self, number: int) -> LeagueTeam | None:
        """The team of this id."""
        return self._teams.get(number)

    def submission(self, number: int) -> LeagueSubmission | None:
        """The submission of this id."""
        entry, rest = divmod(number - _FIRST_SUBMISSION, _SUBMISSION_STEP)
        if rest or not 0 <= entry < len(self._entries):
            return None
        made = self._entries[entry]
        score = None if made.fails else self.season.final[entry]
        return LeagueSubmission(number, self._team_of[entry], self._when(made.moment), score)

    def of_team(self, number: int) -> list[LeagueEpisode]:
        """All games of a team, newest first; none if there is no such team."""
        team = self.team(number)
        entries = [_entry(each) for each in team.submissions] if team else []
        serials = {serial for entry in entries for serial in self.season.games[entry]}
        return [self.episode(serial) for serial in sorted(serials, reverse=True)]

    def of_submission(self, number: int) -> list[LeagueEpisode]:
        """All games of a submission, newest first; none if there is no such submission."""
        if self.submission(number) is None:
            return []
        return [self.episode(serial) for serial in reversed(self.season.games[_entry(number)])]

    def episode(self, serial: int) -> LeagueEpisode:
        """The game of this place in the season."""
        season, number = self.season, _FIRST_EPISODE + _EPISODE_STEP * serial
        state = self._state(serial)
        created = self._when(season.moments[serial])
        dice = Dice("episode", *self._key, serial)
        # real games of Halite take some minutes
        took = timedelta(seconds=dice.between(60, 900), microseconds=100 * dice.below(10_000))
        seats = dice.sample(range(PLAYERS), PLAYERS)
        agents = [self._agent(serial, state, place, seats[place], dice) for place in range(PLAYERS)]
        return LeagueEpisode(
            id=number,
            competition_id=self.competition_id,
            type=VALIDATION if season.kinds[serial] == league_play.VALIDATION else PUBLIC,
            state=state,
            created=created,
            ended=None if state in {CREATED, NEVER_STARTED} else created + took,
            agents=tuple(sorted(agents, key=lambda agent: agent.index)),
        )

    # -- how it comes about ------------------------------------------------------------------------

    @cached_property
    def season(self) -> Season:
        """What was played."""
        shape = self.shape
        return play(
            Dice("season", *self._key),
            self._entries,
            length=shape.season * _DAY,
            rounds=shape.rounds,
            fresh=shape.fresh,
            share=shape.share,
            width=shape.width,
            errored=shape.errored,
        )

    @cached_property
    def _made(self) -> list[tuple[Entry, int]]:
        """All submissions and whose they are, oldest first. Teams count from the strongest."""
        shape, dice = self.shape, Dice("teams", *self._key)
        count = shape.teams + shape.without_rank
        last = shape.season * (1 - 3 / shape.rounds)  # later ones would hardly play
        made: list[tuple[Entry, int]] = []
        for team in range(count):
            place = (team + dice.unit()) / count
            strong = _between(shape.board, place)
            # three times the square of a uniform number: 1 in the mean, and many small ones
            more = int((_between(shape.rows, place) - 1) * 3 * dice.unit() ** 2 + 0.5)
            more = min(more, shape.most_rows - 1)
            weak = min(strong, shape.first[0] + shape.first[1] * normal(dice))
            begin = min(shape.first_day * dice.unit() ** 2, last)
            # real last rows: the more rows a team has, the nearer to the season's end
            end = begin + (last - begin) * max(0.05, 1 - dice.unit() * 6 / (more + 4))
            for number in range(more + 1):
                part = number / more if more else 1.0
                day = begin + (end - begin) * part
                skill = weak + (strong - weak) * part
                fails = more > 0 and number < more and dice.chance(shape.unfit)
                made.append((Entry(day * _DAY, skill, fails), team))
        made.sort(key=lambda pair: (pair[0].moment, pair[1]))
        return made

    @cached_property
    def _entries(self) -> list[Entry]:
        return [entry for entry, _ in self._made]

    @cached_property
    def _entries_of(self) -> list[list[int]]:
        """Each team's entries, oldest first."""
        entries: list[list[int]] = [[] for _ in range(self.shape.teams + self.shape.without_rank)]
        for entry, (_, team) in enumerate(self._made):
            entries[team].append(entry)
        return entries

    @cached_property
    def _teams(self) -> dict[int, LeagueTeam]:
        return {team.id: team for team in self.teams}

    @cached_property
    def _team_of(self) -> list[int]:
        """The id of each entry's team."""
        ids = [0] * len(self._entries)
        for team in self.teams:
            for each in team.submissions:
                ids[_entry(each)] = team.id
        return ids

    def _team_ids(self, count: int) -> list[int]:
        """Different ones, in no order, and not the start team's; real ones of Halite's teams lie
        between 4.7 and 5.2 million."""
        dice, step = Dice("ids", *self._key), 450
        places = dice.sample(range(count), count)
        ids = [4_710_000 + place * step + dice.below(step) for place in places]
        return [each + step * count if each == self.start_team else each for each in ids]

    def _when(self, seconds: float) -> datetime:
        return _BEGIN + timedelta(milliseconds=int(seconds * 1000))

    def _state(self, serial: int) -> int:
        """Few are odd, but in every season some: the newest have not ended yet."""
        kind = self.season.kinds[serial]
        if kind == league_play.VALIDATION:
            fails = self._entries[self.season.players[PLAYERS * serial]].fails
            return ERRORED if fails else COMPLETED
        if serial >= len(self.season.moments) - _RUNNING:
            return CREATED
        return {league_play.FAILED: ERRORED, league_play.NEVER_PLAYED: NEVER_STARTED}.get(
            kind, COMPLETED
        )

    def _agent(self, serial: int, state: int, place: int, index: int, dice: Dice) -> LeagueAgent:
        """The player of that place in the game's outcome."""
        season, column = self.season, PLAYERS * serial + place
        validation, done = season.kinds[serial] == league_play.VALIDATION, state == COMPLETED
        entry = season.players[column]
        reward, its_state = None, PENDING
        if done:
            its_state = COMPLETE
            reward = float(max(0, 6_000 - 1_700 * place + dice.between(-800, 800)))
            if not validation and dice.chance(self.shape.no_reward):
                reward, its_state = None, dice.between(ERROR_EVALUATION, ERROR_ON_EPISODE)
        elif state == ERRORED:
            its_state = dice.between(ERROR_EVALUATION, ERROR_ON_EPISODE)
        return LeagueAgent(
            id=PLAYERS * (_FIRST_EPISODE + _EPISODE_STEP * serial) + index,
            submission_id=_submission(entry),
            team_id=self._team_of[entry],
            index=index,
            reward=reward,
            initial_score=None if validation else season.scores[column],
            initial_confidence=None if validation else season.confidences[column],
            updated_score=season.new_scores[column] if done else None,
            updated_confidence=season.new_confidences[column] if done else None,
            state=its_state,
        )


def _submission(entry: int) -> int:
    return _FIRST_SUBMISSION + _SUBMISSION_STEP * entry


def _entry(submission: int) -> int:
    return (submission - _FIRST_SUBMISSION) // _SUBMISSION_STEP


def _between(line: tuple[tuple[float, float], ...], place: float) -> float:
    """The value of a line through these points."""
    at = bisect_left(line, (place,))
    if at == 0:
        return line[0][1]
    (left, low), (right, high) = line[at - 1], line[min(at, len(line) - 1)]
    return low if right <= left else low + (high - low) * (place - left) / (right - left)


def _name(dice: Dice, number: int) -> str:
    odd = dice.chance(0.05)
    return f"{dice.pick(_ODD_NAMES if odd else _NAMES)} {number % 10_000}"
