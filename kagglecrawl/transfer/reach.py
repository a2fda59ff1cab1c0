"""Whether the store is there: while it is not, Kaggle is asked for nothing that would go to it."""

from __future__ import annotations

import logging
import time

from kagglecrawl.kaggle.errors import RetryLater
from kagglecrawl.s3.errors import StoreFailed, StoreUnreachable
from kagglecrawl.state.holds import Held

logger = logging.getLogger(__name__)

#: Seconds until it is looked for again: they double.
_FIRST, _LONGEST = 1.0, 30.0
#: So many resources in a row may fail.
_MOST_FAILING = 5


class Reach:
    """Of one store, and all transfers to it. ``max_wait`` is in seconds."""

    def __init__(self, max_wait: float) -> None:
        self._max_wait = max_wait
        #: Since when it has been away, 0 if it is not, and when to look for it again.
        self._since = self._next = 0.0
        self._pause = _FIRST
        #: Resources in a row for which it has failed.
        self._failing: set[str] = set()

    def check(self) -> None:
        """Raise ``Held`` where it is not to be looked for yet."""
        if self._since and (now := time.time()) < self._next:
            raise Held(max(now, self._next))

    def failed(self, key: str, error: StoreFailed) -> Exception:
        """It has failed for this resource: what to raise. When it has for many and for none it has
        not, it is as good as away."""
        self._failing.add(key)
        return self.away(error) if len(self._failing) > _MOST_FAILING else error

    def well(self) -> None:
        """All of a resource has got there."""
        self._failing.clear()

    def there(self) -> None:
        """It has answered."""
        if len(self._failing) > _MOST_FAILING:
            return
        if self._since:
            logger.info("The store is there again")
        self._since, self._pause = 0.0, _FIRST

    def away(self, error: RetryLater) -> Held | StoreUnreachable:
        """It has not: what to raise."""
        now = time.time()
        if not self._since:
            self._since = now
            logger.warning("%s: no download is begun until it is there again", error)
        if now - self._since >= self._max_wait:
            return StoreUnreachable(
                f"{error}, for longer than KAGGLE_MAX_WAIT ({self._max_wait:.0f} s): see that it "
                "is there, then run the same command again"
            )
        if now >= self._next:
            self._next = now + self._pause
            self._pause = min(_LONGEST, 2 * self._pause)
        return Held(self._next)
