"""What was asked of the store, counted for the stats."""

from __future__ import annotations

import threading
from collections import Counter


class Tally:
    """Counts by name: ``puts``, ``parts``, ``bytes``, ``lists``, ``heads``, ``reads``,
    ``deletes`` and ``retries/<reason>``. Several threads count."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, name: str, number: int = 1) -> None:
        """So many more."""
        with self._lock:
            self._counts[name] += number

    def counts(self) -> dict[str, int]:
        """All that is not zero."""
        with self._lock:
            return dict(self._counts)

    def __getitem__(self, name: str) -> int:
        with self._lock:
            return self._counts[name]

    @property
    def retries(self) -> dict[str, int]:
        """How often something was tried again, by reason."""
        head = "retries/"
        return {
            name[len(head) :]: number
            for name, number in self.counts().items()
            if name.startswith(head)
        }
