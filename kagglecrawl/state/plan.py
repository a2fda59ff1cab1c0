"""A spider's plan: which of its requests are to go before others, and how many in all.

The queue's order is by priority alone. A spider that spends a budget has more to say: that nothing
of a family is handed out until something else is known, or not any more. Its ``plan`` is asked
before each request is handed out. What has gone out of each family is counted in the job, over all
of its runs, before it goes out: the notes ``sent/<family>``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from scrapy import Request

from kagglecrawl.state.accounts import Accounts
from kagglecrawl.state.leases import Lease

#: Skipped for this reason: the requests that were allowed are made.
BEYOND_BUDGET = "beyond_budget"
#: The job's count of what has gone out, before the family.
SENT = "sent/"


class Plan(Protocol):
    """What the scheduler asks a spider that has one."""

    def held(
        self, waiting: Collection[str], under_way: Collection[Lease], until: Mapping[str, float]
    ) -> Collection[str]:
        """Families of which nothing is to be handed out now. ``waiting`` are those with requests
        that could be, ``until`` says when others are free (seconds since the epoch)."""

    def prepare(self, request: Request) -> Request:
        """The request to hand out in place of one that was queued before more was known."""

    def ready(self) -> bool:
        """Has the spider's start() come to its end?"""

    def over(self, waiting: Collection[str]) -> str:
        """With nothing under way: why none of these will ever be handed out, a word; empty if they
        will."""


class Planned:
    """A plan as the scheduler uses it, or none; and the count of what has gone out.

    A request that failed in a way that passes is not counted: an outage must not take the budget.
    ``commit`` makes what is counted safe, where a kill must not forget it.
    """

    def __init__(self, plan: Plan | None, accounts: Accounts, commit: Callable[[], None]) -> None:
        self._plan = plan
        self._accounts = accounts
        self._commit = commit

    def held(
        self, until: dict[str, float], waiting: Collection[str], under_way: Collection[Lease]
    ) -> dict[str, float]:
        """Until when families are held, by whatever holds them."""
        if self._plan is None:
            return until
        return until | dict.fromkeys(self._plan.held(waiting, under_way, until), math.inf)

    def over(self, waiting: Collection[str]) -> str:
        """Why nothing of what waits will be handed out; empty if it will."""
        return "" if self._plan is None else self._plan.over(waiting)

    def ready(self) -> bool:
        """May the crawl end, if nothing can be sent?"""
        return self._plan is None or self._plan.ready()

    def free(self, waiting: Collection[str], until: dict[str, float]) -> Collection[str]:
        """Of these, with nothing under way, the families that the plan does not hold."""
        held = () if self._plan is None else self._plan.held(waiting, (), until)
        return set(waiting).difference(held)

    def prepare(self, request: Request) -> Request:
        """The request to hand out."""
        return request if self._plan is None else self._plan.prepare(request)

    def sent(self, lease: Lease) -> None:
        """Its request goes out now."""
        self._count(lease, 1)

    def failed(self, lease: Lease) -> None:
        """It is asked again, or not in this run any more."""
        if lease.sent:
            self._count(lease, -1)

    def done(self, lease: Lease) -> None:
        """What came of it is kept: a kill must not have it asked for again."""
        if self._plan is not None and lease.sent:
            self._commit()

    def _count(self, lease: Lease, by: int) -> None:
        if self._plan is not None:
            self._accounts.note(f"{SENT}{lease.family}", by)
            self._commit()
