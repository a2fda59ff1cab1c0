"""Reading replies leniently: one small function for each way a value may be spelt.

Replies are JSON made from protocol buffers, with a history: zero fields are absent, older
shapes carry ``titleNullable`` beside ``title``, numbers come as strings, dates with and without
fractions or as ``{seconds, nanos}``, enums as names, camelCase or integers
(kaggle-facts 2.0, real-data-quirks 9 and 13). None of these functions raises.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def pick(row: Mapping[str, Any], name: str) -> Any:
    """The field ``name``, or its ``…Nullable`` twin, or None."""
    value = row.get(name)
    return row.get(f"{name}Nullable") if value is None else value


def text(row: Mapping[str, Any], name: str) -> str:
    """A string; absent and null are ``""``, a number is its digits."""
    value = pick(row, name)
    if isinstance(value, str):
        return _encodable(value)
    return "" if value is None or isinstance(value, dict | list) else str(value)


def integer(row: Mapping[str, Any], name: str) -> int:
    """A whole number; absent, null and nonsense are 0 (proto3 drops zero fields)."""
    value = pick(row, name)
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,30}", value.strip()):
        return int(value)  # proto3 JSON writes 64-bit numbers as text; a float would round them
    found = number(row, name)
    return 0 if found is None else int(found)


def number(row: Mapping[str, Any], name: str) -> float | None:
    """A finite number, or None when the field is absent, null or nonsense."""
    value = pick(row, name)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        if isinstance(value, int):
            return value  # exact: a size in bytes may be above 2**53
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def rating(row: Mapping[str, Any], name: str) -> float | None:
    """A rating: absent is 0.0, as proto3 drops zero fields; an explicit null is None, unknown."""
    if name not in row and f"{name}Nullable" not in row:
        return 0.0
    return number(row, name)


def rows(payload: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list field; an absent list is empty, what is not an object is left out."""
    value = pick(payload, name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def texts(payload: Mapping[str, Any], name: str) -> list[str]:
    """The strings in a list field."""
    value = pick(payload, name)
    items = value if isinstance(value, list) else []
    return [_encodable(item) for item in items if isinstance(item, str)]


def _encodable(text: str) -> str:
    """JSON can hold half of a surrogate pair, which no file in UTF-8 can."""
    return text.encode("utf-8", "replace").decode("utf-8")


def timestamp(row: Mapping[str, Any], name: str) -> str:
    """A time as ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z`` (UTC), trailing zeros of the fraction cut.

    Reads ISO 8601 with any number of fraction digits, with or without ``Z``, and the 2020 shape
    ``{"seconds": …, "nanos": …}``. What cannot be read is returned as it came, absent is ``""``.
    """
    value = pick(row, name)
    if isinstance(value, dict):
        seconds = number(value, "seconds")
        if seconds is None:
            return ""
        try:
            moment = datetime.fromtimestamp(int(seconds), UTC)
        except (ValueError, OverflowError, OSError):
            return ""
        micros = integer(value, "nanos") // 1000 % 1_000_000
        return _utc(moment.replace(microsecond=micros))
    if not isinstance(value, str):
        return ""
    head, dot, tail = value.strip().partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))] if dot else ""
    zone = tail[len(digits) :]
    try:
        moment = datetime.fromisoformat(f"{head}.{digits[:6]:0<6}{zone}" if dot else head)
        return _utc(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    except (ValueError, OverflowError):
        return value


def _utc(moment: datetime) -> str:
    text = moment.replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"
