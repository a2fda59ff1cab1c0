"""How large a world is made: a module of its own, for the command line to load quickly."""

from typing import Literal

Scale = Literal["small", "medium", "large"]

SCALES: dict[Scale, int] = {"small": 240, "medium": 2_000, "large": 12_000}
"""Datasets at each scale. Large is beyond the 10,000 rows that Kaggle lists."""

CONTESTS: dict[Scale, int] = {"small": 60, "medium": 400, "large": 3_000}
"""Competitions at each scale."""

LEAGUE_TEAMS = 24
"""With a rank, in the league of a world that is not told otherwise: some 1,200 games."""
