"""Kaggle's simulation competitions, which are played in episodes: one line adds another.

Numbers are reported (kaggle-facts 4). A competition that is not here can be crawled all the same:
from a team or submission that is named, or by Meta Kaggle's table, which has its number.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Simulation:
    """A simulation competition: Kaggle's number of it, and a team to begin with, if any is."""

    number: int
    team: int | None = None


SIMULATIONS: dict[str, Simulation] = {
    "connectx": Simulation(17592),
    "halite": Simulation(18011, team=5118174),  # the seed's team
    "google-football": Simulation(21723),
    "rock-paper-scissors": Simulation(22838),
    "santa-2020": Simulation(24539),
    "hungry-geese": Simulation(25401),
    "lux-ai-2021": Simulation(30067),
    "kore-2022": Simulation(34419),
    "lux-ai-season-2": Simulation(45040),
    "lux-ai-season-3": Simulation(86411),
}
