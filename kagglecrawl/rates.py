"""Rates as they are written: ``5/second, 1000/day``, for each family of requests.

Families may share some: ``api+download=5000/day`` counts every request of either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_RATE = re.compile(r"([1-9]\d{0,8})\s*/\s*(second|minute|hour|day)")
_PART = re.compile(r"\s*([\w+](?:[\w+\s]*[\w+])?)\s*=\s*([^=;]*?)\s*(?:;|\Z)")


@dataclass(frozen=True)
class Rate:
    """At most ``count`` requests in any ``seconds``. A day is 24 hours, whenever they begin."""

    count: int
    seconds: int

    def __str__(self) -> str:
        unit = next(unit for unit, seconds in SECONDS.items() if seconds == self.seconds)
        return f"{self.count}/{unit}"


def families_of(name: str) -> tuple[str, ...]:
    """The families that rates of this name are of: ``api+download`` is two, ``api`` one."""
    return tuple(name.split("+"))


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
    """The rates of each family, and those that families share (``families_of`` names them), from a
    mapping or from ``api=2/second, 1000/day; download=; api+download=5000/day``.

    Raises:
        ValueError: one sentence, if this is no such text.
    """
    found: dict[str, tuple[Rate, ...]] = {}
    for written, text in given.items() if isinstance(given, Mapping) else _parts(given):
        name = _name(written)
        if name in found:
            raise ValueError(f"{name!r} is named twice: write its rates with a comma")
        if not isinstance(text, str):
            raise ValueError(f"{name!r} must be a text: write 2/second, 1000/day")
        found[name] = rates_of(text)
    return found


def _parts(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = _PART.match(text, at)
        if match is None:
            raise ValueError(
                f"{text[at:].strip()!r} is no quota: "
                "write api=2/second; download=1000/day; api+download=5000/day"
            )
        found.append((match[1], match[2]))
        at = match.end()
    return found


def _name(written: str) -> str:
    """The families' names, always in the same order: other processes may write it in another."""
    families = sorted(family.strip() for family in written.split("+"))
    if not all(re.fullmatch(r"\w+", family) for family in families):
        raise ValueError(f"{written!r} is no family: write api, download or api+download")
    if len(set(families)) < len(families):
        raise ValueError(f"{written!r} names a family twice: write those that share the rates once")
    return "+".join(families)
