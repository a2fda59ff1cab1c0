"""Quotas by family of methods, and the 429s that tell of them."""

import math
import re
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate

from kagglecrawl.replica.wire import Reply, error, nested_error

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_SPEC = re.compile(r"(api|download|episodes|replay)=(.+)")
_RATE = re.compile(r"([1-9]\d*)/(second|minute|hour|day)")
_BURST = re.compile(r"(api|download|episodes|replay)=([1-9]\d*):([1-9]\d*):(\d+)", re.ASCII)

GRACE = 0.25
"""Seconds after a 429 in which requests already under way do not count as violations."""
EARLY = 0.02
"""Seconds by which a timer may fire early without that being a violation."""


class _Rate:
    """At most `count` requests in any `seconds`."""

    def __init__(self, count: int, seconds: float) -> None:
        self._seconds = seconds
        self._latest: deque[float] = deque(maxlen=count)

    def wait(self, now: float) -> float:
        """Seconds until a request would be let through; 0 or less is now."""
        if len(self._latest) < (self._latest.maxlen or 0):
            return 0.0
        return self._latest[0] + self._seconds - now

    def take(self, now: float) -> None:
        self._latest.append(now)


@dataclass(frozen=True)
class Burst:
    """429s that no rate explains: again and again, `count` of them in a row.

    They come after every `every` requests of the family that its rates allow, each with a
    Retry-After of `wait` seconds.
    """

    family: str
    every: int
    count: int = 1
    wait: int = 1

    @classmethod
    def parse(cls, text: str) -> "Burst":
        """Read `FAMILY=EVERY:COUNT:SECONDS`; raises ValueError, one sentence, if it is not so."""
        found = _BURST.fullmatch(text)
        if found is None:
            raise ValueError(f"Not a burst: {text!r} (expected as in api=50:3:1)")
        return cls(found[1], int(found[2]), int(found[3]), int(found[4]))

    def meets(self, arrival: int) -> bool:
        """Whether the request of this number, from 0, is in a burst."""
        return arrival % (self.every + self.count) >= self.every


class Quotas:
    """Sliding windows per family, from specs such as `api=10/second,600/minute`.

    No spec for a family means no quota. `bursts` (one for a family) come on top. Raises ValueError,
    one sentence, for a bad spec.
    """

    def __init__(self, *specs: str, bursts: Iterable[Burst] = ()) -> None:
        self._rates: dict[str, list[_Rate]] = {}
        self._closed: dict[str, tuple[float, float]] = {}
        self._refused = 0
        self._bursts = {burst.family: burst for burst in bursts}
        self._allowed: Counter[str] = Counter()
        self.reset()
        for spec in specs:
            family = _SPEC.fullmatch(spec)
            rates = [_RATE.fullmatch(part) for part in family[2].split(",")] if family else []
            if family is None or not all(rates):
                raise ValueError(f"Not a quota: {spec!r} (expected as in api=10/second,600/minute)")
            found: Iterable[re.Match[str]] = (rate for rate in rates if rate)
            self._rates[family[1]] = [_Rate(int(r[1]), _SECONDS[r[2]]) for r in found]

    def reset(self) -> None:
        """Count what comes too early from zero again; rates, bursts and waits go on."""
        self.under_way: Counter[str] = Counter()
        """By family: requests within the grace after a 429, when they were already sent."""
        self.early: Counter[tuple[str, str]] = Counter()
        """By family and method: requests while a Retry-After of the family ran, after the grace."""

    @property
    def violations(self) -> int:
        """Requests that came before an announced Retry-After of their family had run out."""
        return self.early.total()

    def refuse(self, family: str, method: str = "") -> Reply | None:
        """Count a request of the family; the 429 it gets, or None if it is within its quota."""
        now = time.monotonic()
        since, until = self._closed.get(family, (now, now))
        if now < until - EARLY:
            if now > since + GRACE:
                self.early[family, method] += 1
            else:
                self.under_way[family] += 1
        rates = self._rates.get(family, [])
        wait = max((rate.wait(now) for rate in rates), default=0.0)
        if wait > 0:
            return self.too_many(family, wait)
        burst = self._bursts.get(family)
        self._allowed[family] += 1
        if burst and burst.meets(self._allowed[family] - 1):
            return self.too_many(family, burst.wait)
        for rate in rates:
            rate.take(now)
        return None

    def too_many(self, family: str, wait: float) -> Reply:
        """A 429 that closes the family for `wait` seconds, rounded up.

        The two known bodies and the two forms of `Retry-After` take turns.
        """
        nested, dated = divmod(self._refused % 4, 2)
        self._refused += 1
        message = "Too many requests"
        reply = nested_error(429, message, "RESOURCE_EXHAUSTED") if nested else error(429, message)
        if dated and wait > 0:
            moment = math.ceil(time.time() + wait)
            wait = moment - time.time()
            reply.headers["Retry-After"] = formatdate(moment, usegmt=True)
        else:
            wait = math.ceil(wait)
            reply.headers["Retry-After"] = str(wait)
        now = time.monotonic()
        since, until = self._closed.get(family, (now, now))
        self._closed[family] = (since if now < until else now, max(until, now + wait))
        return reply
