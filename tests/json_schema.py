"""As much of JSON Schema as ours has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "array": (list,),
    "object": (dict,),
}


def fits(value: Any, rule: Mapping[str, Any]) -> bool:
    """Is it what this schema says?"""
    kinds = rule.get("type", list(KINDS))
    allowed = [
        kind for name in ([kinds] if isinstance(kinds, str) else kinds) for kind in KINDS[name]
    ]
    if type(value) not in allowed or value not in rule.get("enum", [value]):
        return False
    if isinstance(value, dict):
        parts = rule["properties"]
        assert rule["additionalProperties"] is False
        return (
            value.keys() <= parts.keys()
            and set(rule["required"]) <= value.keys()
            and all(fits(each, parts[name]) for name, each in value.items())
        )
    if isinstance(value, list):
        return all(fits(each, rule["items"]) for each in value)
    return value is None or isinstance(value, str) or value >= rule.get("minimum", value)
