"""When another listing is worth its request, and which family is handed out next."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from scrapy import Request

from kagglecrawl.spiders.episode_graph import Graph
from kagglecrawl.spiders.episode_plan import EpisodePlan
from kagglecrawl.state.leases import Lease

FAR = 10**10


def graph(**teams: int) -> Graph:
    """Teams with these ranks, that can be listed."""
    made = Graph()
    for number, (name, rank) in enumerate(teams.items(), start=1):
        unit = made.unit(name)
        unit.source, unit.rank, unit.team = "2020", rank, number
    return made


def tell(made: Graph, first: int, scores: list[float], *players: str) -> None:
    """Games that were listed, and are wanted."""
    for number, score in enumerate(scores, start=first):
        made.know(f"game {number}", score, dict.fromkeys(players, score), wanted=True)
        made.want(f"game {number}", score)


def test_a_listing_pays_while_there_is_room_for_more_games_than_are_known() -> None:
    made = graph(a=1)
    tell(made, 0, [1200.0] * 5, "b")
    assert made.pays(6, 25)
    assert not made.pays(5, 25), "a has played no game that is known"


def test_a_listing_pays_when_what_it_promises_is_worth_more_than_the_replay_it_costs() -> None:
    made = graph(a=1, b=2)
    tell(made, 0, [1000.0] * 10, "b")
    tell(made, 10, [1500.0, 1500.0], "a")
    # two games, 500 above the tenth best of the twelve: as much as the game that it costs
    assert not made.pays(10, 25)
    tell(made, 12, [1500.0], "a")
    assert made.pays(10, 25)


def test_earlier_listings_teach_how_much_the_known_games_promise() -> None:
    made = graph(a=1, b=2)
    tell(made, 0, [1000.0] * 10, "c")
    tell(made, 10, [1500.0] * 4, "a", "b")
    assert made.pays(10, 25)
    expected = made.expect("a", 10)
    made.learn(expected, [1500.0])  # a quarter of what its known games promised
    made.settle("a", listed=True)
    assert not made.pays(10, 25)


def test_units_beyond_the_watermark_are_not_listed() -> None:
    made = graph(a=25, b=26)
    assert [unit.key for unit in made.open_units(25)] == ["a"]
    made.settle("a", listed=False)
    assert not made.pays(100, 25)
    assert made.pays(100, 26)


def test_a_unit_without_a_rank_has_its_place_by_score_among_the_teams() -> None:
    made = Graph()
    for number, score in enumerate([900.0, 1300.0, 1100.0, 1200.0]):
        for entry in range(2):  # two submissions each
            unit = made.unit(f"{number}/{entry}")
            unit.source, unit.team, unit.best = "2026", number, score - entry
    assert {unit.key for unit in made.open_units(2)} == {"1/0", "1/1", "3/0"}


def test_a_game_is_known_once() -> None:
    made = Graph()
    assert made.know("g", 1200.0, {"a": 1300.0}, wanted=True)
    assert not made.know("g", 1200.0, {"a": 1300.0}, wanted=True)
    assert made.unit("a").games == [1200.0]
    assert made.know("h", 900.0, {"a": 1400.0}, wanted=False)
    assert made.unit("a").games == [1200.0], "what is not wanted promises nothing"
    assert made.unit("a").best == 1400.0


def test_the_worst_game_for_which_there_is_room() -> None:
    made = Graph()
    tell(made, 0, [1300.0, 1100.0, 1200.0])
    assert [made.threshold(room) for room in (0, 1, 2, 3, 4, math.inf)] == [
        math.inf,
        1300.0,
        1200.0,
        1100.0,
        0.0,
        0.0,
    ]
    made.over("game 0")
    assert made.threshold(1) == 1200.0


# -- the plan --------------------------------------------------------------------------------------


class Crawl:
    """A plan, and what has gone out so far."""

    def __init__(self, made: Graph, *, beginning: bool = False, **options: Any) -> None:
        self.sent: Counter[str] = Counter()
        self.said: list[tuple[int, int]] = []
        self.beginning, self.searching, self.ready = beginning, False, True
        self.wanted = options.pop("wanted", math.inf)
        self.plan = EpisodePlan(
            made,
            **{"total": 10, "share": 0.5, "watermark": 25, **options},
            sent=self.sent.__getitem__,
            wanted=lambda: self.wanted,
            beginning=lambda: self.beginning,
            searching=lambda: self.searching,
            ready=lambda: self.ready,
            prepare=lambda request: request,
            say=lambda listings, replays: self.said.append((listings, replays)),
        )

    def held(
        self, *waiting: str, leases: list[Lease] | None = None, until: float = 0.0
    ) -> set[str]:
        return set(self.plan.held(waiting, leases or [], {"episodes": until}))


def lease(family: str, *, sent: bool) -> Lease:
    return Lease(1, Request("data:,"), "key", family, sent=sent)


def test_replays_wait_while_a_listing_pays() -> None:
    crawl = Crawl(graph(a=1))
    assert crawl.held("episodes", "replay") == {"replay"}
    assert crawl.held("replay", leases=[lease("episodes", sent=True)]) == {"replay"}
    assert crawl.held("replay") == set(), "no listing is there to be waited for"


def test_nobody_waits_where_there_is_no_end_to_the_requests() -> None:
    assert Crawl(graph(a=1), total=0).held("episodes", "replay") == set()


def test_replays_do_not_wait_for_listings_that_may_not_be_sent_for_long() -> None:
    assert Crawl(graph(a=1)).held("episodes", "replay", until=FAR) == set()


def test_a_listing_that_does_not_pay_waits() -> None:
    made = graph(a=1)
    tell(made, 0, [1200.0] * 20, "b")
    assert Crawl(made).held("episodes", "replay") == {"episodes"}


def test_the_first_listing_is_made_whatever_it_pays() -> None:
    made = Graph()
    assert "episodes" not in Crawl(made, beginning=True).held("episodes")
    assert Crawl(made).held("episodes") == {"episodes"}


def test_no_more_listings_than_their_share() -> None:
    crawl = Crawl(graph(a=1), share=0.3)
    crawl.sent["episodes"] = 2
    assert "episodes" not in crawl.held("episodes")
    assert "episodes" in crawl.held("episodes", leases=[lease("episodes", sent=False)])
    crawl.sent["episodes"] = 3
    assert crawl.held("episodes", "replay") == {"episodes"}


@pytest.mark.parametrize("listings", range(5))
def test_no_request_beyond_the_budget(listings: int) -> None:
    crawl = Crawl(graph(a=1))
    crawl.sent.update(episodes=listings, replay=9 - listings)
    assert "replay" not in crawl.held("replay")
    handed_out = [lease("replay", sent=False)]
    assert crawl.held("replay", leases=handed_out) == {"episodes", "replay"}
    assert "replay" not in crawl.held("replay", leases=[lease("replay", sent=True)])
    crawl.sent["replay"] += 1
    assert crawl.held("replay") == {"episodes", "replay"}
    assert crawl.plan.over(["replay"]) == "beyond_budget"
    assert not crawl.plan.over(["replay", "download"]), "which has no part in the budget"


def test_nothing_is_fetched_before_all_is_known_that_was_found() -> None:
    made = Graph()
    tell(made, 0, [1200.0] * 5, "b")
    crawl = Crawl(made, wanted=3)
    crawl.ready = False
    assert crawl.held("replay") >= {"replay", ""}
    crawl.ready = True
    assert not crawl.held("replay") & {"replay", ""}


def test_one_replay_finds_out_which_place_has_them() -> None:
    crawl = Crawl(Graph(), total=0)
    crawl.searching = True
    assert "replay" not in crawl.held("replay")
    assert "replay" in crawl.held("replay", leases=[lease("replay", sent=True)])
    crawl.searching = False
    assert "replay" not in crawl.held("replay", leases=[lease("replay", sent=True)])


def test_why_what_waits_is_not_asked_for() -> None:
    made = graph(a=26)
    assert Crawl(made).plan.over(["episodes"]) == "team_watermark"
    crawl = Crawl(graph(a=1), share=0.0)
    assert crawl.plan.over(["episodes"]) == "beyond_share"
    assert crawl.plan.over(["episodes", "replay"]) == ""
    assert Crawl(graph(a=1)).plan.over(["episodes"]) == ""
    assert Crawl(graph(a=1)).plan.over([]) == ""


def test_a_sample_is_a_budget_of_replays() -> None:
    made = graph(a=1)
    tell(made, 0, [1200.0] * 5, "b")
    assert Crawl(made, total=0, wanted=5).held("episodes", "replay") == {"episodes"}
    # what the ledger tells waits as well: it is in the sample if it is among the best
    assert Crawl(made, total=0, wanted=6).held("episodes", "replay") == {"replay", ""}


def test_it_is_said_when_listings_have_come_to_their_end() -> None:
    made = graph(a=1)
    crawl = Crawl(made)
    crawl.held("episodes")
    assert not crawl.said
    crawl.sent["episodes"] = 1
    tell(made, 0, [1200.0] * 20, "b")
    for _ in range(2):
        crawl.held("episodes", "replay")
    assert crawl.said == [(1, 20)]


def test_a_team_without_a_rank_is_not_listed_where_others_have_one() -> None:
    made = graph(a=1, b=30)
    made.unit("c").source, made.unit("c").best = "2020", 1500.0
    assert [unit.key for unit in made.open_units(25)] == ["a"]
    # another submission of a team that has one is
    other = made.unit("a2")
    other.source, other.team = "2026", made.unit("a").team
    assert {unit.key for unit in made.open_units(25)} == {"a", "a2"}


def test_a_named_unit_is_listed_whatever_its_rank() -> None:
    made = graph(a=400)
    tell(made, 0, [1200.0] * 20, "b")
    assert not made.pays(10, 25)
    made.unit("a").named = True
    assert made.pays(10, 25)


def test_the_unit_that_promises_most_is_the_next() -> None:
    made = graph(a=1, b=2, c=3)
    assert made.most_promising(10, 25) is None
    tell(made, 0, [1200.0, 1300.0], "b", "c")
    best = made.most_promising(10, 25)
    assert best is not None
    assert best.key == "b", "of two alike the one of the better rank"
    tell(made, 2, [1300.0], "c")
    best = made.most_promising(10, 25)
    assert best is not None
    assert best.key == "c"
