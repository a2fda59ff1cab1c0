"""The spider of benchmarks/episode_tables.py: it counts what it is handed, and its CPU time."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scrapy.http import Response

from kagglecrawl import arguments
from kagglecrawl.arguments import Arguments, argument
from kagglecrawl.kaggle.episodes import EpisodeRow
from kagglecrawl.spiders.base import Output
from kagglecrawl.spiders.episode_tables import EpisodeTables


@dataclass
class Nothing:
    """There are no items: what is done with an episode is not measured here."""

    key: str = field(default="", metadata={"export": "key", "page": False})


@dataclass(frozen=True)
class CountingArguments(Arguments):
    """What to look for, and where to tell of it."""

    meta_kaggle: Path | None = argument(None, arguments.folder, "folder", "The tables.")
    number: int = argument(0, int, "number", "Of the competition.")
    watermark: float = argument(0.0, float, "number", "Only episodes of such a score.")
    result: Path | None = argument(None, Path, "file", "Gets what came of it, as JSON.")


class Counting(EpisodeTables):
    """Tells how many episodes and agents it was handed, whether they came best first, and the
    CPU seconds of each phase."""

    name = "counting"
    item_class = Nothing
    args_class = CountingArguments
    args: CountingArguments

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.phases: dict[str, float] = {}
        self.handed = self.agents = 0
        self.ordered = True
        self.least = float("inf")

    async def start(self) -> AsyncIterator[Any]:
        """The tables."""
        self.since = time.process_time()
        yield self.episode_tables(self.args.number, self.args.watermark)

    def episodes_over(self) -> Output:
        """The first table."""
        self._phase("Episodes")
        yield from super().episodes_over()

    def agents_over(self) -> Output:
        """The second one."""
        self._phase("EpisodeAgents")
        yield from super().agents_over()

    def hand_on(self, response: Response, left: int | None) -> Output:
        """All are weighed."""
        if "weighed" not in self.phases:
            self._phase("weighed")
        yield from super().hand_on(response, left)

    def listed_by_meta(self, rows: list[EpisodeRow]) -> Output:
        """Count them."""
        self.handed += len(rows)
        for row in rows:
            self.agents += len(row.agents)
            self.ordered &= row.priority <= self.least
            self.least = row.priority
        yield from ()

    def meta_is_over(self) -> Output:
        """Tell."""
        self._phase("handed on")
        told = {
            name: getattr(self, name) for name in ("handed", "agents", "ordered", "least", "phases")
        }
        assert self.args.result is not None
        self.args.result.write_text(json.dumps(told), encoding="ascii")
        yield from ()

    def _phase(self, name: str) -> None:
        now = time.process_time()
        self.phases[name] = now - self.since
        self.since = now
