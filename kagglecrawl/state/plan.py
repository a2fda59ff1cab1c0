"""A spider's plan: which of its requests are to go before others, and how many in all.

The queue's order is by priority alone. A spider that spends a budget has more to say: that nothing
of a family is handed out until something else is known, or not any more. Its ``plan`` is asked
before each request is handed out. What has gone out of each family is counted in the job, over all
of its runs, before it goes out: the notes ``sent/<family>``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from scrapy import Request

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

    def over(self, waiting: Collection[str]) -> str:
        """With nothing under way: why none of these will ever be handed out, a word; empty if they
        will."""
