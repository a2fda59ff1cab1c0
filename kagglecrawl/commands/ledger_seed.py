"""What the ledger has of a competition's episodes, as the three text files of the Halite seed.

The seed's notebook reads and writes them in its folder ``scraper_metadata``: it can go on where a
crawl has stopped.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagglecrawl.commands.ledger_export import whole
from kagglecrawl.state.ledger_look import LedgerRefused, Look, Row, Wanted

#: The folder, as the seed names it, and its files.
FOLDER = "scraper_metadata"
EPISODES = "episode_priority_map.txt"
TEAMS = "team_priority_map.txt"
DOWNLOADS = "episode_downloads.txt"
#: What the ledger calls the resource.
_SPIDER = "episodes"


@dataclass
class Seed:
    """The contents of the files: priority by episode for those whose replay was not had, rank by
    team for those that were not listed, and the episodes whose replay was had.

    ``unranked`` are teams that were not listed and have no rank, ``unknown`` episodes without a
    record, ``listed`` teams: those are in no file.
    """

    episodes: dict[int, float] = field(default_factory=dict)
    teams: dict[int, int] = field(default_factory=dict)
    downloads: list[int] = field(default_factory=list)
    unranked: set[int] = field(default_factory=set)
    listed: set[int] = field(default_factory=set)
    unknown: int = 0

    def write(self, folder: Path) -> None:
        """Write the three, each whole or not at all: what is had first, so that nothing is fetched
        twice whenever this is cut short. Raises ``OSError``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.downloads.sort()
        with whole(folder / DOWNLOADS) as file:
            file.writelines(f"{number}\n" for number in self.downloads)
        best_first = sorted(self.episodes.items(), key=lambda each: (-each[1], each[0]))
        for name, rows in (
            (EPISODES, best_first),
            (TEAMS, sorted(self.teams.items(), key=lambda each: (each[1], each[0]))),
        ):
            # numbers are texts here: JSON has no other names
            with whole(folder / name) as file:
                json.dump({str(number): value for number, value in rows}, file)


def gather(look: Look, competition: str, source: str = "") -> Seed:
    """What the ledger has of this competition. Raises ``LedgerRefused`` where it has nothing of it,
    or has it from several sources, and none is named."""
    wanted = Wanted(spider=_SPIDER, source=source, key=f"{glob.escape(competition)}/*")
    seed, found = Seed(), set()
    for row in look.rows(wanted, records=True) if "/" not in competition else ():
        found.add(row.source)
        _take(seed, row)
    if not found:
        raise LedgerRefused(f"the ledger has no episodes of {competition}: {_has(look, source)}")
    for team in seed.listed:
        seed.teams.pop(team, None)
    seed.unranked -= seed.listed | seed.teams.keys()
    if len(found) > 1:
        names = " and ".join(sorted(found))
        raise LedgerRefused(f"the ledger has {competition} from {names}: name one with --source")
    return seed


def _take(seed: Seed, row: Row) -> None:
    kind, _, number = row.key.partition("/")[2].rpartition("/")
    record: dict[str, Any] = row.record or {}
    if (kind, number) == ("", "start"):  # the leaderboard
        for team, rank, *_ in record.get("teams", ()):
            if rank:
                seed.teams[team] = rank
        return
    if not number.isdecimal():
        return
    if kind in {"team", "submission"}:  # today's service lists a team by its submissions
        team = record.get("team") or (int(number) if kind == "team" else 0)
        rank = record.get("rank")
        if not team:
            return
        if record.get("listed") or row.reason == "listed":
            seed.listed.add(team)
        elif isinstance(rank, int):
            seed.teams[team] = min(rank, seed.teams.get(team, rank))
        else:
            seed.unranked.add(team)
    elif not kind:
        replay = record.get("replay")
        if not record:
            seed.unknown += 1
        elif replay:
            seed.downloads.append(int(number))
        else:
            # one that no agent has a score of is worth nothing, as to the seed
            seed.episodes[int(number)] = record.get("score") or 0.0


def _has(look: Look, source: str) -> str:
    """Of what it has episodes, for whoever named something else."""
    keys = look.keys(Wanted(spider=_SPIDER, source=source))
    names = sorted({key.partition("/")[0] for key in keys})
    return f"it has those of {', '.join(names)}" if names else "`scrapy crawl episodes` brings them"


def told(seed: Seed, folder: Path) -> Iterator[str]:
    """What was written, for people."""
    yield f"{_many(len(seed.episodes), 'episode')} to fetch in {folder / EPISODES}"
    yield f"{_many(len(seed.teams), 'team')} to list in {folder / TEAMS}"
    yield f"{_many(len(seed.downloads), 'episode')} that are had in {folder / DOWNLOADS}"
    if seed.unranked:
        yield f"left out: {_many(len(seed.unranked), 'team')} to list without a rank"
    if seed.unknown:
        yield f"left out: {_many(seed.unknown, 'episode')} without a record"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
