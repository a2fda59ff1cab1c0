"""A league as a competition: what the API tells of it beside its episodes, such as its board."""

from dataclasses import replace
from datetime import UTC
from functools import cached_property

from kagglecrawl.replica import contests
from kagglecrawl.replica.boards import Board, Team, Try
from kagglecrawl.replica.contests import CompetitionTruth, Metric
from kagglecrawl.replica.league import League


def displayed(score: float | None) -> str:
    """A score as boards show it: Halite's real one has one decimal. Empty is none."""
    return "" if score is None else f"{score:.1f}"


class LeagueBoard(Board):
    """A board whose ranks are the league's: scores that look alike differ behind the decimal."""

    @cached_property
    def ranked(self) -> tuple[Team, ...]:
        """The teams, best first, as they were given."""
        return self.teams


def contest_of(league: League) -> CompetitionTruth:
    """The competition. It is on no list and not in Meta Kaggle's Competitions.csv."""
    # of an index whose competition has a board, pages, and nothing odd about it
    example = contests.make(0, 20, 60)
    return replace(
        example,
        id=league.competition_id,
        slug=league.slug,
        title=league.slug.title(),
        category="Featured",
        has_leaderboard=True,
        verified=True,
        answer="board",
        metric=Metric("", "Skill rating", True),
        teams=sum(team.rank is not None for team in league.teams),
        submissions=sum(len(team.submissions) for team in league.teams),
        state="public",
        in_meta=False,
        write_board=lambda: board_of(league),
    )


def board_of(league: League) -> Board:
    """The leaderboard: a row for each team that has a rank."""
    teams = []
    for team in league.teams:
        if team.rank is None:
            continue
        last = team.last_submission.astimezone(UTC).replace(tzinfo=None, microsecond=0)
        best = Try(last, 0, displayed(team.score))
        member = (f"user{team.leader_id}",)
        teams.append(Team(team.id, team.name, member, (best,), len(team.submissions), last))
    return LeagueBoard(
        slug=league.slug,
        teams=tuple(teams),
        is_max=True,
        header="modern",
        order="rank",
        style="points",
        changed=max(team.last for team in teams),
    )
