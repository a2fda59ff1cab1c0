"""What happened when, in memory that does not grow with the run.

Time is cut into slots of equal width. When there would be too many of them, each two become one: a
run of ten minutes is told by the second, one of a month by a bit more than an hour.
"""

from __future__ import annotations

#: The most slots that are kept, an even number.
MOST = 600


class Series:
    """Amounts and levels by slot. All times are seconds since the run began."""

    def __init__(self, width: float = 1.0, most: int = MOST) -> None:
        """``width`` is that of a slot at first, in seconds; ``most`` is an even number of them."""
        self.width = width
        #: Up to when something is known.
        self.end = 0.0
        self._most = most
        self._sums: dict[str, list[float]] = {}
        self._levels: dict[str, list[float]] = {}

    @property
    def length(self) -> int:
        """How many slots there are."""
        return max(1, -int(-self.end // self.width)) if self.end else 0

    def reach(self, end: float) -> None:
        """Something is known up to this moment."""
        self.end = max(self.end, end)
        while self.end > self._most * self.width:
            self._double()

    def add(self, name: str, start: float, end: float, amount: float) -> None:
        """So much came between these moments, evenly as far as anybody knows."""
        self.reach(end)
        if not amount:
            return
        slots = self._sums.setdefault(name, [])
        first, last = self._span(start, end)
        slots.extend([0.0] * (last + 1 - len(slots)))
        if first == last:
            slots[first] += amount
            return
        for slot in range(first, last + 1):
            begin, stop = slot * self.width, (slot + 1) * self.width
            slots[slot] += amount * (min(stop, end) - max(begin, start)) / (end - start)

    def level(self, name: str, start: float, end: float, value: float) -> None:
        """It was so high between these moments; a slot keeps the highest."""
        self.reach(end)
        if not value:
            return
        slots = self._levels.setdefault(name, [])
        first, last = self._span(start, end)
        slots.extend([0.0] * (last + 1 - len(slots)))
        for slot in range(first, last + 1):
            slots[slot] = max(slots[slot], value)

    def values(self, name: str) -> list[float]:
        """One number for each slot; zeros where nothing was said."""
        slots = self._sums.get(name) or self._levels.get(name) or []
        return [*slots, *[0.0] * (self.length - len(slots))]

    def below(self, head: str) -> list[str]:
        """The rests of the names that begin with this and a slash."""
        names = {*self._sums, *self._levels}
        return sorted(
            name.removeprefix(f"{head}/") for name in names if name.startswith(f"{head}/")
        )

    def total(self, name: str) -> float:
        """All that came of it."""
        return sum(self._sums.get(name, ()))

    def _span(self, start: float, end: float) -> tuple[int, int]:
        """The first and the last slot of a span; a moment on an edge belongs to what it ends."""
        last = max(0, -int(-end // self.width) - 1)
        return min(int(start // self.width), last), last

    def _double(self) -> None:
        self.width *= 2
        for table, merge in ((self._sums, sum), (self._levels, max)):
            for name, slots in table.items():
                table[name] = [merge(slots[at : at + 2]) for at in range(0, len(slots), 2)]
