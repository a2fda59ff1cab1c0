"""A spider that finds episodes in tables of Meta Kaggle, and such tables; the join by dicts."""

from __future__ import annotations

import asyncio
import csv
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request
from scrapy.http import Response

from kagglecrawl import arguments
from kagglecrawl import settings as project
from kagglecrawl.arguments import Arguments, argument
from kagglecrawl.kaggle.episodes import EpisodeRow
from kagglecrawl.metakaggle import table
from kagglecrawl.spiders import episode_tables
from kagglecrawl.spiders.base import Output
from kagglecrawl.spiders.episode_tables import EpisodeTables
from kagglecrawl.transport.tables import TableHandler
from tests.state.stand import Stand

EPISODES = ("Id", "Type", "CompetitionId", "CreateTime", "EndTime")
AGENTS = (
    *("Id", "EpisodeId", "Index", "Reward", "State", "SubmissionId"),
    *("InitialConfidence", "InitialScore", "UpdatedConfidence", "UpdatedScore"),
)
TIMES = ("01/03/2020 21:08:01", "01/03/2020 21:08:03")
Rows = Sequence[Sequence[str]]


# -- a spider --------------------------------------------------------------------------------------


@dataclass
class Game:
    """An episode, whole, as JSON."""

    key: str = field(metadata={"export": "key", "page": False})
    value: str = field(metadata={"export": "value", "page": False})


def _text(text: str) -> str:
    return text


@dataclass(frozen=True)
class GamesArguments(Arguments):
    meta_kaggle: Path | None = argument(None, arguments.folder, "folder", "Tables.")
    number: int | None = argument(None, int, "number", "Of the competition.")
    slug: str = argument("", _text, "text", "Of the competition.")
    watermark: float = argument(0.0, float, "number", "Only those with a priority like that.")
    most: int | None = argument(None, int, "number", "The best of them.")


class Games(EpisodeTables):
    """Each episode that is handed on becomes an item."""

    name = "games"
    item_class = Game
    args_class = GamesArguments
    args: GamesArguments

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        #: What this run was handed, and how often it was told that this was all.
        self.handed: list[list[EpisodeRow]] = []
        self.over = 0

    def begin(self) -> Request:
        args = self.args
        return self.episode_tables(args.number, args.watermark, most=args.most, slug=args.slug)

    async def start(self) -> AsyncIterator[Any]:
        yield self.begin()

    def listed_by_meta(self, rows: list[EpisodeRow]) -> Output:
        self.handed.append(rows)
        for row in rows:
            key = f"{row.competition_id}/{row.id}"
            self.accounts.discover(key)
            yield Game(key, json.dumps(asdict(row)))

    def meta_is_over(self) -> Output:
        self.over += 1
        yield from ()


# -- tables ----------------------------------------------------------------------------------------


def write(folder: Path, name: str, header: Sequence[str], rows: Rows) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_both(folder: Path, episodes: Rows, agents: Rows) -> None:
    write(folder, "Episodes", EPISODES, episodes)
    write(folder, "EpisodeAgents", AGENTS, agents)


def episode(number: object, competition: object = 1, kind: object = 1) -> list[str]:
    return [str(number), str(kind), str(competition), *TIMES]


def agent(own: object, number: object, index: object, score: object, team: int = 0) -> list[str]:
    head = (own, number, index, "1.0", "2", 900 + team, "150.5", "600", "140.25", score)
    return [str(cell) for cell in head]


# -- the join, by dicts ----------------------------------------------------------------------------


def whole(text: str) -> int | None:
    return int(float(text)) if re.fullmatch(r"\s*[+-]?[0-9]+(\.0*)?\s*", text) else None


@dataclass
class Joined:
    """What is to come of it; ``unread`` are rows of the one table and of the other."""

    best: list[EpisodeRow]
    below: int
    unread: tuple[int, int]


def join(episodes: Rows, agents: Rows, number: int, watermark: float) -> Joined:
    """All of it in memory, all at once."""
    rows: dict[int, EpisodeRow] = {}
    unread = [0, 0]
    for cells in episodes:
        of = whole(cells[2]) if len(cells) > 2 else None
        if of not in {number, None}:
            continue
        own = whole(cells[0])
        if len(cells) != len(EPISODES) or of is None or own is None or own < 1:
            unread[0] += 1
            continue
        kinds = {"1": "public", "2": "private", "3": "exhibition", "4": "validation"}
        times = ("2020-01-03T21:08:01Z", "2020-01-03T21:08:03Z")
        rows[own] = EpisodeRow(own, number, kinds.get(cells[1], ""), "", *times, [])
    found: dict[int, dict[tuple[int, int], Any]] = {own: {} for own in rows}
    for cells in agents:
        of = whole(cells[1])
        if of is not None and of not in rows:
            continue
        own, index = whole(cells[0]), whole(cells[2])
        if len(cells) != len(AGENTS) or of is None or own is None or index is None:
            unread[1] += 1
            continue
        found[of][index, own] = {
            "index": index,
            "submissionId": int(cells[5]),
            "teamId": None,
            "teamName": "",
            "reward": 1.0,
            "state": "complete",
            "initialScore": 600.0,
            "initialConfidence": 150.5,
            "updatedScore": float(cells[9]) if cells[9] else None,
            "updatedConfidence": 140.25,
        }
    for own, parts in found.items():
        rows[own].agents = [parts[each] for each in sorted(parts)]
    best = [row for row in rows.values() if row.priority >= watermark]
    best.sort(key=lambda row: (-row.priority, row.id))
    return Joined(best, len(rows) - len(best), (unread[0], unread[1]))


# -- a crawl of them, by hand ----------------------------------------------------------------------


class Walk(Stand):
    """One run of a crawl whose tables are read by the project's handler."""

    def __init__(self, folder: Path, *, job: bool = True, **given: object) -> None:
        given = {"meta_kaggle": str(folder / "meta"), **given}
        words = {name: str(value) for name, value in given.items() if value is not None}
        own = ("KAGGLE_", "S3_", "WORKSPACE", "CLOUD_CONFIG", "OUTPUT_PREFIX")
        ours = {name: value for name, value in vars(project).items() if name.startswith(own)}
        ours |= {"WORKSPACE": str(folder / "workspace"), "KAGGLE_QUOTAS": ""}
        super().__init__(folder, job=job, spider=Games, arguments=words, **ours)
        self.handler = TableHandler(self.crawler)

    @property
    def games(self) -> Games:
        assert isinstance(self.crawler.spider, Games)
        return self.crawler.spider

    def begin(self) -> None:
        """What Scrapy does with what start() yields."""
        request = self.games.begin()
        request.meta["is_start_request"] = True
        self.push(request)

    def step(self) -> bool:
        """Make the next request; False if there is none."""
        for request in self.pull(1):
            if request.url.startswith("metakaggle:"):
                response: Response = asyncio.run(self.handler.download_request(request))
                assert request.callback is not None
                self._through(request, response, request.callback)
            else:
                self.answer(request)
            return True
        return False

    def run(self) -> None:
        self.begin()
        while self.step():
            pass
        assert not self.scheduler.has_pending_requests()

    def noted(self, name: str) -> int:
        return self.accounts.count(f"meta/{name}")

    def left(self) -> int:
        """How many episodes the job's file still has."""
        return self.accounts.gathering.count()

    def handed(self) -> list[EpisodeRow]:
        """What the spider has got in this run."""
        return [row for rows in self.games.handed for row in rows]


def in_small_steps(monkeypatch: pytest.MonkeyPatch, rows: int = 3) -> None:
    """So that a small table is many requests."""
    read = table.Table.batch

    def batch(self: table.Table, *args: Any, **kwargs: Any) -> table.Batch:
        return read(self, *args, **{**kwargs, "most_rows": rows})

    monkeypatch.setattr(table.Table, "batch", batch)
    monkeypatch.setattr(episode_tables, "WEIGHED", rows + 1)
    monkeypatch.setattr(episode_tables, "HANDED", rows)
    monkeypatch.setattr(episode_tables, "FORGOTTEN", rows)
