"""The world: all datasets and competitions there are, made from a seed."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from kagglecrawl.replica import contest_moves, contests, league_contest, meta, moves, replays
from kagglecrawl.replica.contest_moves import ContestMoves, ContestStage
from kagglecrawl.replica.contests import CompetitionTruth
from kagglecrawl.replica.league import League, LeagueShape
from kagglecrawl.replica.made import FIRST_DAY, LICENCES, make
from kagglecrawl.replica.moves import Moves, Stage
from kagglecrawl.replica.scales import CONTESTS, LEAGUE_TEAMS, SCALES, Scale
from kagglecrawl.replica.truth import Archive, DatasetTruth, GivenFile, State

_FIRST_GIVEN_ID = 1_000_000
_SMALL_LEAGUE = LeagueShape(teams=LEAGUE_TEAMS)
_leagues = lru_cache(maxsize=4)(League)
"""Kept, as a league is the same in many a world: at each step, and in every test."""
_REF = re.compile(r"([\w-]+)/([\w-]+)", re.ASCII)


@dataclass(frozen=True, eq=False)
class World:
    """All datasets of one seed and scale, then those given as `extra` (folders, `published`).

    And its competitions: as many as the scale says, unless `competition_count` does. The dataset
    `kaggle/meta-kaggle`, which is on no list, tells of them as well; its tables have every value
    quoted, or without `meta_quoted` only those that must be.

    `scale=None` makes a world of `extra` alone. With `gated`, 3 % of those that are public
    otherwise cannot be downloaded. Heads are made at first use (about 0.1 ms each), descriptions
    and file contents each when asked for.

    It has one league of a simulation competition, `halite`, of this shape (a small one, unless one
    is given); it is on no list of competitions. `replay_steps` makes its replays so many steps long
    (see `replays.replay_bytes`).

    `moved` is by how many steps, of a week each, the world is later; see `moved_on`.
    """

    seed: int = 1
    scale: Scale | None = "small"
    extra: tuple[DatasetTruth, ...] = ()
    gated: bool = False
    moved: int = 0
    competition_count: int | None = None
    meta_quoted: bool = True
    league_shape: LeagueShape = _SMALL_LEAGUE
    replay_steps: int | None = None
    _earlier: "World | None" = field(default=None, repr=False)
    """The same world at an earlier step, to begin at; None begins at the beginning."""

    @cached_property
    def _stage(self) -> Stage:
        count = SCALES[self.scale] if self.scale else 0

        def made(index: int) -> DatasetTruth:
            return make(self.seed, index, count, self.gated)

        if self._earlier is None:
            stage, at = Stage((*map(made, range(count)), *self.extra)), 0
        else:
            stage, at = self._earlier._stage, self._earlier.moved
        for number in range(at + 1, self.moved + 1):
            stage = moves.step(stage, self.seed, number, lambda serial: made(count + serial))
        return stage

    @cached_property
    def _contest_stage(self) -> ContestStage:
        count = self.competition_count
        if count is None:
            count = CONTESTS[self.scale] if self.scale else 0

        def made(index: int) -> CompetitionTruth:
            return contests.make(self.seed, index, count)

        if self._earlier is None:
            stage, at = ContestStage(tuple(map(made, range(count)))), 0
        else:
            stage, at = self._earlier._contest_stage, self._earlier.moved
        for number in range(at + 1, self.moved + 1):
            stage = contest_moves.step(
                stage, self.seed, number, lambda serial: made(count + serial)
            )
        return stage

    @property
    def competitions(self) -> tuple[CompetitionTruth, ...]:
        """Every competition, also those that are deleted, or not in Meta Kaggle."""
        return self._contest_stage.contests

    @cached_property
    def _by_slug(self) -> dict[str, CompetitionTruth]:
        return {contest.slug: contest for contest in self.competitions}

    @cached_property
    def _by_contest_id(self) -> dict[int, CompetitionTruth]:
        return {contest.id: contest for contest in self.competitions}

    def competition(self, slug: str) -> CompetitionTruth | None:
        """The competition of this slug, exactly, or None; a league counts as one."""
        return self._by_slug.get(slug) or self._of_leagues.get(slug)

    @cached_property
    def leagues(self) -> tuple[League, ...]:
        """The simulation competitions. They stay as they are when a world moves on."""
        return (_leagues(self.seed, shape=self.league_shape),)

    def league(self, slug: str) -> League | None:
        """The league of this slug, or None."""
        return next((each for each in self.leagues if each.slug == slug), None)

    @cached_property
    def _of_leagues(self) -> dict[str, CompetitionTruth]:
        return {each.slug: league_contest.contest_of(each) for each in self.leagues}

    def replay(self, episode_id: int) -> bytes:
        """The replay of an episode, as every place serves it.

        Raises KeyError if there is no such episode, and ValueError if it has no replay.
        """
        for league in self.leagues:
            if episode_id in league.episodes:
                return replays.replay_bytes(league, episode_id, self.replay_steps)
        raise KeyError(episode_id)

    def public_competitions(self) -> list[CompetitionTruth]:
        """Those that the API lists and tells of, in the order of their ids."""
        return [each for each in self.competitions if each.state == "public"]

    def meta_competitions(self) -> list[CompetitionTruth]:
        """Those that Meta Kaggle has, in the order of its rows."""
        return [each for each in self.competitions if each.in_meta]

    @cached_property
    def meta_kaggle(self) -> DatasetTruth | None:
        """The dataset `kaggle/meta-kaggle`, in all its versions; None without competitions."""
        if not self.competitions:
            return None
        older = None
        if self.moved:
            older = replace(self, moved=self.moved - 1, _earlier=None).meta_kaggle
        return meta.meta_kaggle(self.competitions, self.moved, self.meta_quoted, older)

    def write_meta_kaggle(
        self, folder: Path, *, schema: meta.Schema = "2025", zipped: bool = False
    ) -> None:
        """Write Meta Kaggle's tables into a folder, as `-a meta_kaggle=FOLDER` wants them.

        See meta.write_tables. Raises OSError.
        """
        quoted = self.meta_quoted
        meta.write_tables(
            self.competitions,
            folder,
            schema=schema,
            quoted=quoted,
            zipped=zipped,
            leagues=self.leagues,
        )

    @property
    def datasets(self) -> tuple[DatasetTruth, ...]:
        """Every dataset that is there: those made, the extra ones, and those that have come."""
        return self._stage.datasets

    @property
    def removed(self) -> tuple[DatasetTruth, ...]:
        """Those that were there at an earlier step, and are no longer; their state is `deleted`."""
        return self._stage.removed

    @cached_property
    def _by_ref(self) -> dict[tuple[str, str], DatasetTruth]:
        return {(dataset.owner, dataset.slug): dataset for dataset in self.datasets}

    @cached_property
    def _by_id(self) -> dict[int, DatasetTruth]:
        return {dataset.id: dataset for dataset in (*self.removed, *self.datasets)}

    def get(self, owner: str, slug: str) -> DatasetTruth | None:
        """The dataset of this reference, or None if there is none (any more)."""
        found = self._by_ref.get((owner, slug))
        if found is None and (owner, slug) == (meta.OWNER, meta.SLUG):
            return self.meta_kaggle
        return found

    def by_id(self, dataset_id: int) -> DatasetTruth | None:
        """The dataset of this id, removed ones too, or None.

        Boards of competitions, replays and logs are kept in storage like a dataset's archive, and
        are found as well.
        """
        number = contests.id_of_board(dataset_id)
        contest = self._by_contest_id.get(number)
        if contest is not None:
            return contest.stored_board
        for league in self.leagues:
            if league.competition_id == number:
                return self._of_leagues[league.slug].stored_board
            if dataset_id >= replays.FIRST_ID:
                return replays.stored(league, dataset_id, self.replay_steps)
        if dataset_id == meta.ID:
            return self.meta_kaggle
        return self._by_id.get(dataset_id)

    def public(self, min_usability: float = 0.0) -> list[DatasetTruth]:
        """The datasets that can be read and are at least this usable."""
        return [
            dataset
            for dataset in self.datasets
            if dataset.state in {"public", "gated"} and dataset.usability >= min_usability
        ]

    def downloadable(self, min_usability: float = 0.0) -> list[DatasetTruth]:
        """The datasets whose files can be had, too, and that are at least this usable."""
        return [each for each in self.public(min_usability) if each.state != "gated"]

    def moved_on(self, times: int = 1) -> "World":
        """The same world so many steps later; moving once and once more is moving twice.

        In each step, of the datasets that can be read, 10 % get a new version, 3 % another row and
        1 % another description alone, 3 % are removed (neither listed nor found), and 3 % come; at
        least one of each where there are 20 datasets. `extra` ones move like all others. What moves
        follows from seed, ids and step. For competitions see `contest_moves.step`; leagues stay
        as they are. Raises ValueError if `times` is negative.
        """
        if times < 0:
            raise ValueError(f"A world does not move back: {times} times.")
        return replace(self, moved=self.moved + times, _earlier=self)

    def difference(self, later: "World") -> Moves:
        """What the later world has otherwise of datasets; see Moves."""
        return moves.compare(self.datasets, later.datasets)

    def contest_difference(self, later: "World") -> ContestMoves:
        """What the later world has otherwise of competitions; see ContestMoves."""
        return contest_moves.compare(self.competitions, later.competitions)


def published(
    ref: str,
    archive: bytes | Path | None = None,
    files: Mapping[str, bytes] | None = None,
    *,
    name: str = "archive.zip",
    state: State = "public",
    usability: float = 1.0,
    version: int = 1,
) -> DatasetTruth:
    """A dataset made to order, for the `extra` of a world.

    `archive` is the object that a download leads to, under the given `name`, whatever it holds;
    without it, a zip of the files. `files`, by name, is what metadata and lists tell of; sizes are
    those of the contents. The id follows from `ref`. Raises ValueError if `ref` is no owner/slug.
    """
    matched = _REF.fullmatch(ref)
    if matched is None:
        raise ValueError(f"Not an owner/slug: {ref!r}.")
    return DatasetTruth(
        id=_FIRST_GIVEN_ID + zlib.crc32(ref.encode()),
        owner=matched[1],
        slug=matched[2],
        title=matched[2].replace("-", " ").title(),
        subtitle="",
        usability=usability,
        last_updated=FIRST_DAY,
        version=version,
        licence=LICENCES[0],
        tags=(),
        files=tuple(GivenFile(path, data) for path, data in (files or {}).items()),
        state=state,
        archive=None if archive is None else Archive(archive, name),
    )
