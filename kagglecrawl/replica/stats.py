"""What the replica has seen and given, as its own count."""

from collections import Counter, defaultdict, deque
from threading import Lock
from typing import Any

_COUNTERS = ("faults", "auth", "storage", "storage_bytes", "user_agents")
_TABLES = ("requests", "requests_by_key", "delivered_by_key")

RANGES_KEPT = 100
"""Of each object, how many of the latest ranges asked for are told."""


class Stats:
    """Counters that the server's thread writes and any thread may read."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        with self._lock:
            self._counters: dict[str, Counter[str]] = {name: Counter() for name in _COUNTERS}
            self._tables: dict[str, defaultdict[str, Counter[str]]] = {
                name: defaultdict(Counter) for name in _TABLES
            }
            self._numbers: Counter[str] = Counter()
            self._ranges: defaultdict[str, deque[str]] = defaultdict(
                lambda: deque(maxlen=RANGES_KEPT)
            )

    def count(self, counter: str, key: str, by: int = 1) -> None:
        """Count in one of `faults`, `auth`, `storage`, `storage_bytes`, `user_agents`."""
        with self._lock:
            self._counters[counter][key] += by

    def answered(self, method: str, status: int | str) -> None:
        """Count an answer by its status; `reset` stands for a connection that got none."""
        with self._lock:
            self._tables["requests"][method][str(status)] += 1

    def asked(self, method: str, key: str) -> None:
        """Count a request that was understood, whatever came of it."""
        with self._lock:
            self._tables["requests_by_key"][method][key] += 1

    def asked_range(self, key: str, spec: str) -> None:
        """Note the Range of a GET for an object, as it was sent; '' is the whole."""
        with self._lock:
            self._ranges[key].append(spec)

    def delivered(self, method: str, key: str) -> None:
        """Count a clean, whole and positive answer."""
        with self._lock:
            self._tables["delivered_by_key"][method][key] += 1

    def add(self, number: str, by: int) -> None:
        """Add to `bytes_sent` or `leaked_authorization`."""
        with self._lock:
            self._numbers[number] += by

    def snapshot(self) -> dict[str, Any]:
        """A copy as plain dicts, as `GET /__stats` shows it."""
        with self._lock:
            tables = {
                name: {method: dict(counts) for method, counts in table.items()}
                for name, table in self._tables.items()
            }
            counters = {name: dict(counter) for name, counter in self._counters.items()}
            ranges = {key: list(specs) for key, specs in self._ranges.items()}
            numbers = {name: self._numbers[name] for name in ("bytes_sent", "leaked_authorization")}
        by_key = tables["delivered_by_key"]
        delivered = {method: sum(keys.values()) for method, keys in by_key.items()}
        return {
            **tables,
            "delivered": delivered,
            **counters,
            "storage_ranges": ranges,
            **numbers,
        }
