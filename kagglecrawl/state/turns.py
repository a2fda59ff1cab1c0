"""Turns of families that wait for rates that they share.

The scheduler asks for its first request first, always. Where one family's come before another's and
there is no end of them, the other would never be let through: so whoever waits longest goes first.
It is one process's matter: between processes chance decides, which favours nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from kagglecrawl.rates import families_of


class Turns:
    """``names`` are those of rates (``api+download``). Times are in seconds since the epoch."""

    def __init__(self, names: Iterable[str]) -> None:
        self._others: dict[str, set[str]] = {}
        for families in map(families_of, names):
            for family in families:
                self._others.setdefault(family, set()).update({*families} - {family})
        self._numbers = count()
        #: Of each family that waits its place in the row, and when it is to ask again.
        self._waiting: dict[str, tuple[int, float]] = {}
        #: Families that another one has stood back for, and that have not asked since.
        self._called: set[str] = set()

    def stands_back(self, family: str, now: float) -> bool:
        """Is it the turn of another, which has waited longer and may ask now? One that does not
        ask then (it has nothing to send) loses its place."""
        self._called.discard(family)
        own = self._waiting.get(family)
        for other in self._others.get(family, ()):
            place = self._waiting.get(other)
            if place is None or place[1] > now or (own is not None and own < place):
                continue
            if other not in self._called:
                self._called.add(other)
                return True
            self._called.discard(other)
            del self._waiting[other]
        return False

    def waits(self, family: str, until: float) -> None:
        """It has asked, and is to ask again then."""
        if family in self._others:
            number, _ = self._waiting.get(family) or (next(self._numbers), 0.0)
            self._waiting[family] = number, until

    def went(self, family: str) -> None:
        """It was let through."""
        self._waiting.pop(family, None)
