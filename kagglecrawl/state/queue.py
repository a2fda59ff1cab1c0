"""Requests in the order in which they are made: the highest priority first, then the oldest.

The store holds them all; the first few of each quota family are taken out of it at a time, so that
memory stays flat whatever is pending. One that comes in and belongs before those is put among them.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable, Mapping

from kagglecrawl.state.store import Row, State, Store

#: How many requests of a family are taken out of the store at once.
_WINDOW = 32
#: When so many are out, they are put back, and the first ones taken anew.
_MOST = 8 * _WINDOW


class Queue:
    """The pending requests of one job. ``run`` is the number of the present run."""

    def __init__(self, store: Store, run: int) -> None:
        self._store = store
        self._run = run
        self._out: dict[str, list[tuple[int, int]]] = {}
        self._rows: dict[int, Row] = {}
        # Families of which the store may hold pending ones that are not out.
        self._more = set(store.families())
        self._due = store.next_due()

    def push(
        self,
        fingerprint: bytes | None,
        family: str,
        priority: int,
        key: str | None,
        data: str,
        due: float = 0.0,
    ) -> bool:
        """Add a request; False if it is known. A pending one that is known is raised to this
        priority if it has a lower one. Until ``due`` it waits (0: not at all)."""
        if fingerprint is not None and (known := self._store.find(fingerprint)):
            self._raise(known, priority)
            return False
        if due:
            self._store.add_request(
                fingerprint, State.WAITING, family, priority, self._run, key, data, due=due
            )
            self._due = min(due, self._due or due)
            return True
        if not self._belongs_out(family, (-priority, sys.maxsize)):
            self._store.add_request(
                fingerprint, State.PENDING, family, priority, self._run, key, data
            )
            self._more.add(family)
            return True
        number = self._store.add_request(
            fingerprint, State.LEASED, family, priority, self._run, key, data
        )
        assert number is not None
        self._take_out(family, Row(number, priority, self._run, key, data))
        return True

    def put_back(self, number: int, family: str, priority: int, data: str, due: float) -> None:
        """A request that was handed out is pending again, perhaps changed; 0 is due now."""
        self._store.put_back(number, family, priority, self._run, data, due)
        if due:
            self._due = min(due, self._due or due)
        elif self._belongs_out(family, (-priority, number)):
            self._put_in(family)
        self._more.add(family)

    def pop(
        self,
        now: float,
        held: Mapping[str, float],
        *,
        only_begun: bool,
        admit: Callable[[str], float] = lambda _: 0.0,
    ) -> Row | None:
        """The next request of a family that is not held after ``now``; with ``only_begun``, the
        next for a resource on which work has begun. ``admit`` has the last word on its family: 0,
        or until when that is held as well."""
        if self._due is not None and self._due <= now:
            for family in self._store.wake(now):
                # they may belong before those that are out
                self._put_in(family)
                self._more.add(family)
            self._due = self._store.next_due()
        if only_begun:
            return self._pop_begun(now, dict(held), admit)
        free = [family for family in self._more | self._out.keys() if held.get(family, 0.0) <= now]
        while free:
            firsts = {family: self._first(family) for family in free}
            places = [(first, family) for family, first in firsts.items() if first is not None]
            if not places:
                return None
            (_, number), family = min(places)
            if not admit(family):
                heapq.heappop(self._out[family])
                return self._rows.pop(number)
            free.remove(family)
        return None

    def _pop_begun(
        self, now: float, held: dict[str, float], admit: Callable[[str], float]
    ) -> Row | None:
        for _, number, family in self._store.begun():
            if held.get(family, 0.0) > now:
                continue
            # else it is leased: taken out, or on its way
            row = self._store.take_one(number) or self._rows.pop(number, None)
            if row is None:
                continue
            if not (until := admit(family)):
                return row
            held[family] = until
            self._take_out(family, row)
        return None

    def any(self) -> bool:
        """Is any request pending, waiting, or taken out and not handed out yet?"""
        return bool(self._rows) or self._store.any_pending()

    def next_due(self) -> float | None:
        """When the first of those that wait for their own time is due."""
        return self._due

    def families(self) -> set[str]:
        """Families with requests that could be handed out if their family is not held."""
        return self._more | {family for family, out in self._out.items() if out}

    def begun_families(self) -> set[str]:
        """Families of requests for resources on which work has begun."""
        return {family for _, _, family in self._store.begun()}

    def drop(self) -> None:
        """Let all of them be done unasked."""
        self._store.drop_pending()
        self.clear()
        self._more.clear()
        self._due = None

    def clear(self) -> None:
        """Forget what is out; the store still has it."""
        self._out.clear()
        self._rows.clear()

    # -- behind the scenes ------------------------------------------------------------------------

    def _first(self, family: str) -> tuple[int, int] | None:
        """The place of the family's first request, taken out if none is."""
        out = self._out.get(family)
        while out and (out[0][1] not in self._rows or self._rows[out[0][1]].priority != -out[0][0]):
            heapq.heappop(out)  # it was raised, and is in the heap a second time
        if not out and family in self._more:
            rows = self._store.take(family, _WINDOW)
            if len(rows) < _WINDOW:
                self._more.discard(family)
            for row in rows:
                self._take_out(family, row)
            out = self._out.get(family)
        return out[0] if out else None

    def _take_out(self, family: str, row: Row) -> None:
        self._rows[row.id] = row
        out = self._out.setdefault(family, [])
        heapq.heappush(out, (-row.priority, row.id))
        if len(out) > _MOST:
            self._put_in(family)
            self._more.add(family)

    def _put_in(self, family: str) -> None:
        """Put what is out back into the store, so that the first ones are taken anew."""
        numbers = [number for _, number in self._out.pop(family, []) if number in self._rows]
        for number in set(numbers):
            del self._rows[number]
        self._store.untake(set(numbers))

    def _belongs_out(self, family: str, place: tuple[int, int]) -> bool:
        """Does a request of this place come before the last of those that are out?"""
        out = self._out.get(family)
        return place < max(out) if out else False

    def _raise(self, known: tuple[int, State, int], priority: int) -> None:
        number, state, present = known
        if priority <= present or state not in {State.PENDING, State.LEASED, State.WAITING}:
            return
        self._store.raise_priority(number, priority)
        row = self._rows.get(number)
        if row is not None:
            of = next(f for f, out in self._out.items() if any(n == number for _, n in out))
            self._rows[number] = Row(number, priority, row.run, row.key, row.data)
            heapq.heappush(self._out[of], (-priority, number))
        elif state is State.PENDING:
            # It may belong before those that are out now.
            for family in list(self._out):
                self._put_in(family)
                self._more.add(family)
