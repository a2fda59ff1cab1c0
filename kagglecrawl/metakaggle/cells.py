"""What a cell of Meta Kaggle says. Nothing here raises: a cell that makes no sense says nothing."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

#: Ids whose column has gaps have been through pandas, and are floats: "123.0".
_INTEGER = re.compile(r"([+-]?[0-9]{1,18})(?:\.0*)?", re.ASCII)
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_ZONE = r"(Z|[+-][0-2][0-9]:?[0-5][0-9])"
_CLOCK = rf"(?:[T ]([0-9]{{1,2}}):([0-9]{{2}})(?::([0-9]{{2}})(?:\.[0-9]*)?)?{_ZONE}?)?"
_MONTH_FIRST = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})" + _CLOCK)
_YEAR_FIRST = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})" + _CLOCK)


def integer(text: str) -> int | None:
    """The whole number that a cell holds, ``"123"`` or ``"123.0"``; None if it holds none."""
    found = _INTEGER.fullmatch(text.strip())
    return int(found[1]) if found else None


def flag(text: str) -> bool | None:
    """Whether a cell says True (also ``1``) or False (also ``0``), in any case; None if neither."""
    return _FLAGS.get(text.strip().lower())


def moment(text: str) -> str:
    """The time that a cell holds, in UTC and to the second: ``2010-04-07T07:57:43Z``. Kaggle writes
    ``04/07/2010 07:57:43`` or the date alone, and names no zone; ISO 8601 is read as well. ``""``
    if the cell holds no time."""
    text = text.strip()
    if found := _MONTH_FIRST.fullmatch(text):
        month, day, year, hour, minute, second, zone = found.groups()
    elif found := _YEAR_FIRST.fullmatch(text):
        year, month, day, hour, minute, second, zone = found.groups()
    else:
        return ""
    try:
        # Without a zone of its own, and ``isoformat``: other ways take three times as long.
        date = int(year), int(month), int(day)
        at = datetime(*date, int(hour or 0), int(minute or 0), int(second or 0))
        return f"{(at - _ahead(zone) if zone else at).isoformat()}Z"
    except (ValueError, OverflowError):
        return ""


def _ahead(zone: str) -> timedelta:
    """How far a zone is ahead of UTC."""
    if zone == "Z":
        return timedelta()
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return -ahead if zone[0] == "-" else ahead
