"""The files of one version as the ledger names them, found by name in whatever order they are met.

A version may have a million files. Of each a byte is in memory, and of every thousandth its name;
the rest is read from the ledger, a thousand at a time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Protocol

from kagglecrawl.state.ledger_look import KeptFile, Shelf

#: Files that are read at a time, and how many such blocks are kept: a store may list them in an
#: order that is not ours.
BLOCK = 1000
_BLOCKS = 8


class Named(Protocol):
    """What a place is compared with. All methods may raise ``LedgerRefused``."""

    def find(self, name: str) -> KeptFile | None:
        """The file of this name."""

    def take(self, name: str) -> KeptFile | None:
        """The same, and it is not among those that are left any more; None for one that was taken
        before, as for one that is not known."""

    def left(self) -> Iterator[list[KeptFile]]:
        """Those that were not taken, a block at a time."""


class Names:
    """Used by one thread at a time. All methods raise ``LedgerRefused``."""

    def __init__(self, shelf: Shelf, number: int) -> None:
        self._shelf = shelf
        self._number = number
        self._firsts: list[str] = []
        self._blocks: OrderedDict[int, dict[str, tuple[int, KeptFile]]] = OrderedDict()
        files = shelf.files(number, "", BLOCK)
        while files:
            self._keep(len(self._firsts), files)
            self._firsts.append(files[0].name)
            files = shelf.files(number, files[-1].name, BLOCK, behind=True)
        self._seen = bytearray(len(self._firsts) * BLOCK)

    def find(self, name: str) -> KeptFile | None:
        """The file of this name."""
        found = self._find(name)
        return found[1] if found else None

    def take(self, name: str) -> KeptFile | None:
        """The same, and it is not among those that are left any more; None for one that was taken
        before, as for one that is not known."""
        found = self._find(name)
        if found is None or self._seen[found[0]]:
            return None
        self._seen[found[0]] = 1
        return found[1]

    def left(self) -> Iterator[list[KeptFile]]:
        """Those that were not taken, a block at a time."""
        for block in range(len(self._firsts)):
            if left := [each for at, each in self._block(block).values() if not self._seen[at]]:
                yield left

    def _find(self, name: str) -> tuple[int, KeptFile] | None:
        # SQLite compares bytes of UTF-8 and Python code points, which is the same order
        block = bisect_right(self._firsts, name) - 1
        return self._block(block).get(name) if block >= 0 else None

    def _block(self, block: int) -> dict[str, tuple[int, KeptFile]]:
        if block not in self._blocks:
            self._keep(block, self._shelf.files(self._number, self._firsts[block], BLOCK))
        self._blocks.move_to_end(block)
        return self._blocks[block]

    def _keep(self, block: int, files: list[KeptFile]) -> None:
        start = block * BLOCK
        self._blocks[block] = {each.name: (start + at, each) for at, each in enumerate(files)}
        if len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
