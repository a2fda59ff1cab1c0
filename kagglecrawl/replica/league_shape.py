"""The numbers of a simulated season, and which of them was fitted to what real data.

None **is to be tuned to what a crawl gets out of it**, and none was: they were made before there
was a crawl of episodes.

The real leaderboard is Halite's public one of 2020-09-13 (1,133 teams, 4,434 rows, each a
submission that was better than all that its team had sent before).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LeagueShape:
    """How large a season is, and how its teams are. Times are in days."""

    teams: int = 1133
    """With a rank: as many as the real leaderboard has."""
    unranked: int = 6
    """Whose games are known, but that the leaderboard does not have: Meta Kaggle's TotalTeams are
    1,139. At least one, and at most one of twenty."""
    season: float = 90.7
    """From the begin to the real leaderboard, whose zip is of 2020-09-13, 12:47."""
    board: tuple[tuple[float, float], ...] = (
        (0.0, 1531),
        (0.0022, 1469),
        (0.005, 1443),
        (0.01, 1361),
        (0.02, 1261),
        (0.03, 1219),
        (0.05, 1112),
        (0.1, 1058),
        (0.2, 938),
        (0.3, 877),
        (0.4, 764),
        (0.5, 630),
        (0.6, 524),
        (0.7, 470),
        (0.8, 458),
        (0.9, 375),
        (0.95, 265),
        (0.99, 236),
        (1.0, 196),
    )
    """How strong teams are in points of the score: quantiles of the real leaderboard, from the
    best, between which lines are drawn."""
    rows: tuple[tuple[float, float], ...] = (
        (0.004, 24.2),
        (0.015, 22.7),
        (0.037, 16.8),
        (0.079, 9.0),
        (0.163, 5.4),
        (0.287, 3.5),
        (0.441, 3.4),
        (0.618, 2.1),
        (0.794, 1.1),
        (0.94, 1.1),
    )
    """Submissions of a team by its place from the best: the means of the real leaderboard's rows.
    (All that were ever sent are 15,037 by Meta Kaggle's TotalSubmissions: only those that the
    leaderboard tells of are played.)"""
    most_rows: int = 39
    """No team has more on the real leaderboard."""
    first: tuple[float, float] = (620.0, 130.0)
    """Mean and deviation of how strong a team's first submission is, if that is weaker than its
    last: in the ten groups of the real leaderboard from the best team to the last, the medians of
    the first rows' scores are 654 524 669 614 693 739 542 472 457 268."""
    first_day: float = 72.0
    """A team comes after u² times so many days, u uniform: real quartiles of the first ten are 4 10
    18, of others 3 15 38, 9 24 41, 9 24 46, 7 23 40."""
    unfit: float = 0.01
    """Of the submissions, whose validation game fails. No real number is known."""
    per_day: float = 3.0
    """Rounds of games."""
    fresh: int = 16
    """Games that a submission plays in every round before it plays in only some: the newest play
    more often, says the real competition's page; how much more is not known."""
    share: float = 0.5
    """Of the rounds, in which a submission plays after that. Kaggle aimed at some 8 games a day,
    for all of 15,037 submissions over a million in the season; here are some 80,000, as it is to
    be played in 3 seconds. Some 3,000 of them have a mean score of 1100 and more."""
    width: float = 75.0
    """By how many points of score the matchmaking may err, at most, to either side: players of the
    real episodes 100000 to 100002 are 87, 25 and 43 points apart, and two neighbours here 50."""
    no_reward: float = 0.0142
    """Of the agents: Meta Kaggle's EpisodeAgents have 2,249,787 of 158.8 million without Reward."""
    errored: int = 800
    """One game of so many fails and changes no score: 199,784 of 158.8 million agents have no
    UpdatedScore, one of 795."""
    start_place: float = 0.5
    """Where the start team is, from the best (0) to the last (1). The real team 5118174 was 49th of
    679 in July 2020, and 24th of 1,133 in the end."""

    @property
    def without_rank(self) -> int:
        """How many teams have no rank."""
        return max(1, min(self.unranked, self.teams // 20))

    @property
    def rounds(self) -> int:
        """Rounds of games in the season."""
        return max(4, int(self.season * self.per_day))
