"""A set of millions of ids in a few megabytes."""

from __future__ import annotations

from collections.abc import Iterable

#: Ids to a page, as a power of two, and the bytes that take their bits.
_PAGE = 16
_BYTES = 1 << (_PAGE - 3)
_LOW = _BYTES - 1


class Ids:
    """Whole numbers from 0, one bit each, in pages: ids that lie near each other take 1 MB for
    eight million, and one that lies far away 8 kB."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._pages: dict[int, bytearray] = {}
        self._count = 0
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        """Put one in."""
        page = self._pages.get(number >> _PAGE)
        if page is None:
            page = self._pages[number >> _PAGE] = bytearray(_BYTES)
        at, bit = number >> 3 & _LOW, 1 << (number & 7)
        if not page[at] & bit:
            page[at] |= bit
            self._count += 1

    def __contains__(self, number: int) -> bool:
        page = self._pages.get(number >> _PAGE)
        return page is not None and bool(page[number >> 3 & _LOW] & 1 << (number & 7))

    def __len__(self) -> int:
        return self._count
