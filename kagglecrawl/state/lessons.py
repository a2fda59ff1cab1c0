"""How slow Kaggle wants us: learnt from its 429s, and kept with the quotas.

A 429 now and then is an accident. Two of them with few good answers in between say that the pace is
too high: from then on requests are further apart. (With none in between they say nothing of it: one
request after a pause cannot be too many.) Many good answers in a row let it rise again, up to what
KAGGLE_QUOTAS has.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from itertools import pairwise
from statistics import median

from kagglecrawl.state.quotas import Quotas

logger = logging.getLogger(__name__)

#: Good answers between two 429s that make them two accidents: a few in a hundred may be such.
_APART = 25
#: Good answers in a row after which the pace rises a step.
_PATIENCE = 50
#: What one lesson does to the seconds between two requests, and what patience does.
_SLOWER, _FASTER = 1.25, 0.9
#: No lesson makes it slower than so many times the rates' pace, or these seconds.
_MOST_TIMES, _MOST_SECONDS = 8.0, 10.0
#: Of so many requests the gaps are looked at, to know how fast they were sent.
_LATEST = 10


class Lessons:
    """The lessons of one process; what it has learnt is all processes'."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._good: Counter[str] = Counter()
        self._pushed: set[str] = set()
        self._slowed = {left.name for left in quotas.left() if left.learnt}
        self._latest: dict[str, deque[float]] = {}

    def sent(self, family: str) -> None:
        """A request of this family is sent now."""
        self._latest.setdefault(family, deque(maxlen=_LATEST)).append(time.time())

    def went_well(self, family: str) -> float | None:
        """A good answer; returns the new seconds between two requests if that changes them."""
        self._good[family] += 1
        if family not in self._slowed or self._good[family] % _PATIENCE:
            return None
        interval = self._quotas.interval(family) * _FASTER
        self._quotas.learn(family, interval)
        if self._quotas.interval(family) > interval:  # the rates' own pace is slower by now
            self._quotas.learn(family, 0.0)
            self._slowed.discard(family)
        return self._quotas.interval(family)

    def pushed_back(self, family: str) -> float | None:
        """The first 429 since the family was last held; as above."""
        soon = family in self._pushed and 0 < self._good[family] < _APART
        self._pushed.add(family)
        self._good[family] = 0
        if not soon:
            return None
        pace = self._quotas.interval(family)
        most = max(_MOST_TIMES * self._quotas.own_interval(family), _MOST_SECONDS)
        interval = min(most, max(pace, self._gap(family)) * _SLOWER)
        if interval <= pace:
            return None
        self._quotas.learn(family, interval)
        self._slowed.add(family)
        logger.info(
            "Kaggle pushes back: %s requests are %.2g s apart from now on", family, interval
        )
        return interval

    def _gap(self, family: str) -> float:
        """Seconds between two requests, as they were sent of late."""
        gaps = [later - sooner for sooner, later in pairwise(self._latest.get(family, ()))]
        return median(gaps) if gaps else 0.0
