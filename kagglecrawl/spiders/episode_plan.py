"""How the budget of an episode crawl is spent: listings while they pay, then the best replays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping

from scrapy import Request

from kagglecrawl.spiders.episode_graph import Graph
from kagglecrawl.state.leases import Lease
from kagglecrawl.state.plan import BEYOND_BUDGET

#: Quota families.
LISTINGS, REPLAYS = "episodes", "replay"
#: That of what the ledger tells.
TOLD = ""
#: Or since the share of the budget that is for listings was spent.
BEYOND_SHARE = "beyond_share"
#: A unit is not listed since its rank is beyond the watermark.
TEAM_WATERMARK = "team_watermark"
#: Seconds that replays wait for a listing that may not be asked for yet.
_PATIENCE = 60.0


class EpisodePlan:
    """The scheduler's ``Plan``.

    A budget of ``total`` requests (0: no limit), of which at most ``share`` are listings, over all
    runs of the job; ``sent`` says how many of a family have gone out. ``wanted`` says how many
    replays are wanted still; with a budget, none is fetched while a better one may be found.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        total: int,
        share: float,
        watermark: int,
        sent: Callable[[str], int],
        wanted: Callable[[], float],
        beginning: Callable[[], bool],
        searching: Callable[[], bool],
        ready: Callable[[], bool],
        prepare: Callable[[Request], Request],
        say: Callable[[int, int], None],
    ) -> None:
        self._graph = graph
        self._total = total or math.inf
        least = 1 if share else 0  # where to begin
        self._listings = max(least, math.floor(total * share)) if total else math.inf
        self._watermark = watermark
        self._sent = sent
        self._wanted = wanted
        #: Is it not known yet where to begin?
        self._beginning = beginning
        #: And not, which place has replays?
        self._searching = searching
        #: Is all known that earlier crawls have found?
        self.ready = ready
        self.prepare = prepare
        #: Gets the number of listings, and of replays that are to follow.
        self._say = say
        self._seen: tuple[int, bool] | None = None
        self._pays = True
        #: Were listings made, when it was last looked at?
        self._looked = False

    def held(
        self, waiting: Collection[str], under_way: Collection[Lease], until: Mapping[str, float]
    ) -> Collection[str]:
        """Families of which nothing is handed out now."""
        unsent = [lease.family for lease in under_way if not lease.sent]
        left = self._left() - sum(family in {LISTINGS, REPLAYS} for family in unsent)
        listing = any(lease.family == LISTINGS for lease in under_way)
        held = set()
        if left < 1:
            return {LISTINGS, REPLAYS}
        fetching = REPLAYS in waiting or any(lease.family == REPLAYS for lease in under_way)
        if not self._may_list(unsent.count(LISTINGS), fetching=fetching):
            held.add(LISTINGS)
        soon = until.get(LISTINGS, 0.0) < time.time() + _PATIENCE
        if self._searching() and any(lease.family == REPLAYS for lease in under_way):
            held.add(REPLAYS)  # one finds out for all
        looking = listing or (LISTINGS in waiting and LISTINGS not in held and soon)
        looking = looking or not self.ready()
        if looking and self._is_short():
            held.add(REPLAYS)
            if math.isfinite(self._wanted()):
                held.add(TOLD)  # what was had before has its place in a sample, as what is new
        self._tell(looking)
        return held

    def _tell(self, looking: bool) -> None:
        """Say once that listings have come to their end."""
        if self._looked and not looking and self._graph.candidates:
            self._say(self._sent(LISTINGS), len(self._graph.candidates))
        self._looked = looking

    def over(self, waiting: Collection[str]) -> str:
        """Why nothing of what waits will ever be handed out; empty if it will."""
        if not self.ready() or not set(waiting) <= {LISTINGS, REPLAYS}:
            return ""
        if self._left() < 1:
            return BEYOND_BUDGET
        if set(waiting) != {LISTINGS} or self._may_list(0, fetching=False):
            return ""
        return BEYOND_SHARE if self._sent(LISTINGS) >= self._listings else TEAM_WATERMARK

    @property
    def left(self) -> float:
        """How many requests may be made still."""
        return max(0, self._left())

    def room(self) -> float:
        """How many replays can be fetched still."""
        return min(self._left(), self._wanted())

    def _left(self) -> float:
        return self._total - self._sent(LISTINGS) - self._sent(REPLAYS)

    def _is_short(self) -> bool:
        """Is there an end to how many replays can be had?"""
        return math.isfinite(self.room())

    def _may_list(self, handed_out: int, *, fetching: bool) -> bool:
        if self._sent(LISTINGS) + handed_out >= self._listings:
            return False
        if self._beginning():
            return True
        if not fetching:  # nothing is given up for it
            return bool(self._graph.open_units(self._watermark))
        room = self.room()
        seen = self._graph.version, len(self._graph.candidates) < room
        if seen != self._seen:
            self._seen, self._pays = seen, self._graph.pays(room, self._watermark)
        return self._pays
