"""Rates as they are written: ``5/second, 1000/day``, for each family of requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_RATE = re.compile(r"([1-9]\d{0,8})\s*/\s*(second|minute|hour|day)")
_PART = re.compile(r"\s*(\w+)\s*=\s*([^=;]*?)\s*(?:;|\Z)")


@dataclass(frozen=True)
class Rate:
    """At most ``count`` requests in any ``seconds``. A day is 24 hours, whenever they begin."""

    count: int
    seconds: int

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in SECONDS.items() if seconds == self.seconds)
        return f"{self.count}/{unit}"


def rates_of(text: str) -> tuple[Rate, ...]:
    """``5/second, 1000/day`` as rates; none if it is empty.

    Raises:
        ValueError: one sentence, if a part is no rate.
    """
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = _RATE.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} is no rate: write 2/second, 60/minute or 1000/day")
        found.append(Rate(int(match[1]), SECONDS[match[2]]))
    return tuple(found)


def quotas_of(given: str | Mapping[str, str]) -> dict[str, tuple[Rate, ...]]:
    """The rates of each family, from a mapping or from ``api=2/second, 1000/day; download=``.

    Raises:
        ValueError: one sentence, if this is no such text.
    """
    if isinstance(given, str):
        parts, at = {}, 0
        while at < len(given.rstrip()):
            match = _PART.match(given, at)
            if match is None:
                raise ValueError(
                    f"{given[at:].strip()!r} is no quota: write api=2/second; download=1000/day"
                )
            if match[1] in parts:
                raise ValueError(f"{match[1]!r} is named twice: write its rates with a comma")
            parts[match[1]] = match[2]
            at = match.end()
        given = parts
    for family, text in given.items():
        if not isinstance(text, str):
            raise ValueError(f"{family!r} must be a text: write 2/second, 1000/day")
    return {family: rates_of(text) for family, text in given.items()}
