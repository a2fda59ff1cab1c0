"""What a run has collected of episodes, and by how many requests, in memory that does not grow.

Replays are counted in the order in which they came. When there would be too many of them, each two
neighbours become one, as slots of time do in series.py.
"""

from __future__ import annotations

from kagglecrawl.items import Episode
from kagglecrawl.report.shape import Gain

#: The most that are kept, an even number.
MOST = 500
#: The families of requests that are spent on episodes.
FAMILIES = frozenset(("episodes", "replay"))


class Gains:
    """The replays of one run."""

    def __init__(self, most: int = MOST) -> None:
        """``most`` is an even number."""
        self._most = most
        #: Replays that are counted as one.
        self._each = 1
        self._gains: list[Gain] = []

    def add(self, score: float, requests: int) -> None:
        """A replay has come, of an episode of this score, after so many requests of the run."""
        gain = Gain(replays=1, requests=requests, sum=score, lowest=score, highest=score)
        if self._gains and self._gains[-1]["replays"] < self._each:
            self._gains[-1] = together([self._gains[-1], gain])
        else:
            self._gains.append(gain)
        if len(self._gains) > self._most:
            self._each *= 2
            self._gains = [
                together(self._gains[at : at + 2]) for at in range(0, len(self._gains), 2)
            ]

    def rows(self) -> list[Gain]:
        """As they came."""
        return [
            Gain(
                replays=gain["replays"],
                requests=gain["requests"],
                sum=round(gain["sum"], 3),
                lowest=round(gain["lowest"], 3),
                highest=round(gain["highest"], 3),
            )
            for gain in self._gains
        ]


def together(gains: list[Gain]) -> Gain:
    """Neighbours as one; one at least."""
    return Gain(
        replays=sum(gain["replays"] for gain in gains),
        requests=gains[-1]["requests"],
        sum=sum(gain["sum"] for gain in gains),
        lowest=min(gain["lowest"] for gain in gains),
        highest=max(gain["highest"] for gain in gains),
    )


def score_of(item: object) -> float | None:
    """The score of an episode whose replay was had, 0 where no agent has one; None for any other
    item."""
    if not isinstance(item, Episode) or item.replay is None:
        return None
    return float(item.score or 0)
