"""A small Meta Kaggle out of a large one, in which rows still find those that they refer to.

Each table is read once, from its first byte to its last, and of each row only
where it lies is kept; memory is that of the rows that are chosen.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from kagglecrawl.metakaggle.folder import find_table
from kagglecrawl.metakaggle.table import Table, TableRefused
from kagglecrawl.units import amount

#: Of a table whose rows belong to rows of others: how many there are at most for each of those.
PER_PARENT = 10
#: Seconds between two lines that say how far it is.
_SAY_EVERY = 10.0
#: Rows between two looks at the clock.
_LOOK_EVERY = 20_000

#: The order in which tables are made. What a row belongs to comes before it, and what it only
#: mentions after it, so that either is known when a table is read.
ORDER = (
    *("Competitions", "Datasets", "Kernels", "Models", "Datasources"),
    *("Teams", "TeamMemberships", "Episodes", "EpisodeAgents", "Submissions", "CompetitionTags"),
    *("DatasetVersions", "DatasetTags", "DatasetVotes", "DatasetTasks", "DatasetTaskSubmissions"),
    *("KernelVersions", "KernelTags", "KernelVotes", "KernelVersionCompetitionSources"),
    *("KernelVersionDatasetSources", "KernelVersionKernelSources", "KernelVersionModelSources"),
    *("ModelVersions", "ModelVariations", "ModelVariationVersions", "ModelTags", "ModelVotes"),
    *("Forums", "ForumTopics", "ForumMessages", "ForumMessageVotes", "ForumMessageReactions"),
    *("Tags", "KernelLanguages", "KernelAcceleratorTypes", "Organizations"),
    *("Users", "UserAchievements", "UserFollowers", "UserOrganizations"),
)
#: Tables of which rows are drawn, whatever they mention.
_DRAWN = frozenset(("Competitions", "Datasets", "Kernels", "Models", "Datasources"))
#: Tables that are there for others: their rows are those that are mentioned, and no more.
_MENTIONED = frozenset(
    ("Forums", "Tags", "KernelLanguages", "KernelAcceleratorTypes", "Organizations", "Users")
)
#: The columns by which a row belongs to one of another table, if that comes before it.
_BELONGS = {
    "CompetitionId": "Competitions",
    "TeamId": "Teams",
    "EpisodeId": "Episodes",
    "DatasetId": "Datasets",
    "DatasetVersionId": "DatasetVersions",
    "DatasetTaskId": "DatasetTasks",
    "KernelId": "Kernels",
    "ScriptId": "Kernels",
    "KernelVersionId": "KernelVersions",
    "ModelId": "Models",
    "ModelVariationId": "ModelVariations",
    "ForumId": "Forums",
    "ForumTopicId": "ForumTopics",
    "ForumMessageId": "ForumMessages",
    "UserId": "Users",
}
#: The columns that mention a row of a table that comes later, beside those of ``_BELONGS``. (The
#: sources of kernels are not among them: that they lead nowhere is common in Meta Kaggle as well.)
_MENTIONS = {
    "CurrentDatasetVersionId": "DatasetVersions",
    "CurrentKernelVersionId": "KernelVersions",
    "FirstKernelVersionId": "KernelVersions",
    "CurrentModelVersionId": "ModelVersions",
    "CurrentModelVariationVersionId": "ModelVariationVersions",
    "SubmissionId": "Submissions",
    "PublicLeaderboardSubmissionId": "Submissions",
    "PrivateLeaderboardSubmissionId": "Submissions",
    "WriteUpForumTopicId": "ForumTopics",
    "FirstForumMessageId": "ForumMessages",
    "LastForumMessageId": "ForumMessages",
    "TagId": "Tags",
    "ScriptLanguageId": "KernelLanguages",
    "AcceleratorTypeId": "KernelAcceleratorTypes",
    "OrganizationId": "Organizations",
    "OwnerOrganizationId": "Organizations",
    "TeamLeaderId": "Users",
}


class Chosen(NamedTuple):
    """A row that is in the sample, or may be."""

    begin: int
    end: int
    key: str
    mentions: tuple[tuple[str, str], ...]
    """The table and the id of each row that it mentions."""


class Made(NamedTuple):
    """What came of a table."""

    name: str
    rows: int
    """Rows in the sample."""
    read: int
    """Rows in the large table."""
    broken: int
    """Rows that were passed over, since they have another number of cells than the header."""


class Sampler:
    """Makes the tables one by one, in the order of ``in_order``.

    ``rows`` are drawn of each table that belongs to no other, every row with the same chance, and
    the same ones for the same ``seed``; competitions of ``slugs`` are among them in any case.
    ``tell`` is called with a line now and then.
    """

    def __init__(
        self,
        source: Path,
        target: Path,
        *,
        rows: int,
        seed: int,
        slugs: Collection[str],
        tell: Callable[[str], None],
    ) -> None:
        self.source = source
        self.target = target
        self.rows = rows
        self.seed = seed
        self.slugs = frozenset(slugs)
        self.tell = tell
        #: The ids of the rows in the sample, and of those that they mention, by table.
        self.ids: dict[str, set[str]] = {}
        self.mentioned: dict[str, set[str]] = {}

    def make(self, name: str) -> Made:
        """Make one table, whole or not at all. Raises ``TableRefused``, also for a slug that no
        competition has, and ``OSError`` where it cannot be written."""
        with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=self.target) as cache:
            table = Table.open(name, find_table(self.source, name, Path(cache)))
            chosen, read, broken = _Choice(self, table).run()
            self._write(table, chosen)
        self.ids[name] = {each.key for each in chosen}
        for each in chosen:
            for other, key in each.mentions:
                self.mentioned.setdefault(other, set()).add(key)
        return Made(name, len(chosen), read, broken)

    def _write(self, table: Table, chosen: Iterable[Chosen]) -> None:
        beside = self.target / f".{table.name}.csv.incomplete"
        spans = [(0, table.start), *((each.begin, each.end) for each in chosen)]
        try:
            with beside.open("wb") as file:
                file.writelines(table.pieces(spans))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.target / f"{table.name}.csv")
        finally:
            beside.unlink(missing_ok=True)


class _Choice:
    """Which rows of one table."""

    def __init__(self, sampler: Sampler, table: Table) -> None:
        self.sampler = sampler
        self.table = table
        where = {name: at for at, name in reversed([*enumerate(table.columns)])}
        self.key = where.get("Id", -1)
        self.slug = where.get("Slug", -1) if table.name == "Competitions" else -1
        #: Where the ids stand that a row belongs by, and what is in the sample of those.
        self.parents = [
            (at, sampler.ids[_BELONGS[column]])
            for column, at in where.items()
            if table.name not in _DRAWN and _BELONGS.get(column) in sampler.ids
        ]
        self.mentions = [
            (at, other)
            for column, at in where.items()
            if (other := _mentioned(column)) and other not in sampler.ids and other != table.name
        ]
        self.wanted = sampler.mentioned.get(table.name, set())
        self.dice = random.Random(f"{sampler.seed} {table.name}")  # noqa: S311

    def most(self) -> int:
        """How many rows may be drawn."""
        if self.parents:
            return PER_PARENT * max(len(ids) for _, ids in self.parents)
        if self.table.name in _MENTIONED and self.sampler.ids:
            return 0
        return max(0, self.sampler.rows - (len(self.sampler.slugs) if self.slug >= 0 else 0))

    def run(self) -> tuple[list[Chosen], int, int]:
        """Read the table: the rows for the sample in their order, and how many there are and are
        broken. Raises ``TableRefused``."""
        certain: list[Chosen] = []
        drawn: list[Chosen] = []
        slugs, width, most = set(self.sampler.slugs), len(self.table.columns), self.most()
        read = broken = candidates = 0
        said = time.monotonic()
        for begin, end, cells, _ in self.table.records():
            read += 1
            if not read % _LOOK_EVERY and time.monotonic() - said >= _SAY_EVERY:
                said = time.monotonic()
                size = self.table.size
                self.sampler.tell(f"{self.table.name}: {100 * end // size} % of {amount(size)}")
            if len(cells) != width:
                broken += 1
            elif (self.key >= 0 and _id(cells[self.key]) in self.wanted) or (
                self.slug >= 0 and cells[self.slug] in slugs
            ):
                slugs.discard(cells[self.slug])
                certain.append(self._chosen(begin, end, cells))
            elif self._belongs(cells):
                # Of however many there will be, each has the same chance to be among the drawn.
                candidates += 1
                if len(drawn) < most:
                    drawn.append(self._chosen(begin, end, cells))
                elif (at := int(self.dice.random() * candidates)) < most:
                    drawn[at] = self._chosen(begin, end, cells)
        if self.slug >= 0 and slugs:
            raise TableRefused(
                f"no competition in {self.table.path} has the slug {', '.join(sorted(slugs))}: "
                "check --slugs"
            )
        return sorted(certain + drawn), read, broken

    def _belongs(self, cells: list[str]) -> bool:
        if not self.parents:
            return True
        return any(_id(cells[at]) in ids for at, ids in self.parents)

    def _chosen(self, begin: int, end: int, cells: list[str]) -> Chosen:
        found = ((other, _id(cells[at])) for at, other in self.mentions)
        key = _id(cells[self.key]) if self.key >= 0 else ""
        return Chosen(begin, end, key, tuple(each for each in found if each[1]))


def in_order(names: Iterable[str]) -> list[str]:
    """Tables in the order in which they are to be made; those of no known name come last."""
    known = {name: at for at, name in enumerate(ORDER)}
    return sorted(names, key=lambda name: (known.get(name, len(known)), name))


def _mentioned(column: str) -> str | None:
    if column.endswith("UserId"):
        return "Users"
    return _MENTIONS.get(column) or _BELONGS.get(column)


def _id(cell: str) -> str:
    """An id as text, however it was written; columns with gaps may hold floats."""
    return cell.strip().removesuffix(".0")
