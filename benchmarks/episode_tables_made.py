"""Tables of episodes for benchmarks/episode_tables.py, in Meta Kaggle's schema and quoting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The competition that is wanted, and others.
WANTED, _OTHERS = 18011, (17592, 21723, 25401)
#: Of so many episodes so many are wanted, spread evenly. 7 has no factor in common with 20.
_OF, _WANTED, _STEP = 20, 3, 7
#: So many episodes' agents lie mixed: all the first ones, then all the second ones.
_BLOCK = 1000
_FIRST = 100_000
_EPISODES = ("Id", "Type", "CompetitionId", "CreateTime", "EndTime")
_AGENTS = (
    *("Id", "EpisodeId", "Index", "Reward", "State", "SubmissionId"),
    *("InitialConfidence", "InitialScore", "UpdatedConfidence", "UpdatedScore"),
)


@dataclass(frozen=True)
class Made:
    """Both tables, and what is in them."""

    folder: Path
    episodes: int
    agents: int
    wanted: int
    above: int
    """How many of those that are wanted have a score of at least ``watermark``."""
    watermark: float
    size: int
    """Bytes of both files."""

    @property
    def rows(self) -> int:
        """Of both tables."""
        return self.episodes + self.agents


def make(folder: Path, episodes: int) -> Made:
    """Write ``Episodes.csv`` and ``EpisodeAgents.csv``, with two and a half agents an episode; some
    380 bytes for each episode."""
    folder.mkdir()
    agents = wanted = above = 0
    with (
        (folder / "Episodes.csv").open("w", encoding="ascii", newline="") as heads,
        (folder / "EpisodeAgents.csv").open("w", encoding="ascii", newline="") as parts,
    ):
        heads.write(_line(*_EPISODES))
        parts.write(_line(*_AGENTS))
        for first in range(0, episodes, _BLOCK):
            block = range(first, min(episodes, first + _BLOCK))
            heads.writelines(_episode(n) for n in block)
            for index in range(3):
                rows = [n for n in block if index < _players(n)]
                parts.writelines(_agent(agents + at, n, index) for at, n in enumerate(rows))
                agents += len(rows)
            ours = [n for n in block if _is_wanted(n)]
            wanted += len(ours)
            above += sum(_score(n) >= _WATERMARK for n in ours)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Made(folder, episodes, agents, wanted, above, _WATERMARK, size)


_WATERMARK = 1100.0


def _line(*cells: object) -> str:
    return ",".join(f'"{cell}"' for cell in cells) + "\n"


def _is_wanted(n: int) -> bool:
    return n * _STEP % _OF < _WANTED


def _players(n: int) -> int:
    return 2 + n % 2


def _score(n: int) -> float:
    """The mean of its agents' scores, of which it is the middle."""
    return 600 + n * 7919 % 900_000 / 1000


def _episode(n: int) -> str:
    of = WANTED if _is_wanted(n) else _OTHERS[n % 3]
    minute, hour, day = n % 60, n // 60 % 24, n // 1440 % 28 + 1
    start, end = (f"06/{day:02}/2020 {hour:02}:{minute:02}:{each}" for each in ("01", "43"))
    return _line(_FIRST + n, 1, of, start, end)


def _agent(own: int, n: int, index: int) -> str:
    # on either side of the middle as far, and one of three in it
    score = _score(n) + (0.0 if index == 2 else 12.5 - 25 * index)
    return _line(
        *(own + 1, _FIRST + n, index, f"{n % 5}.0", 2, 14_000_000 + n % 4000 + index),
        *("141.658961", f"{score - 3:.6f}", "131.142945", f"{score:.6f}"),
    )
