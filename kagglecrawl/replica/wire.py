"""Kaggle's JSON: requests checked against kagglesdk's classes, replies as proto3 writes them."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from reprlib import repr as shorten
from typing import Any, TypeVar

from kagglesdk.kaggle_object import (
    EnumSerializer,
    FieldMetadata,
    KaggleObject,
    PredefinedSerializer,
)

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"

R = TypeVar("R", bound=KaggleObject)


@dataclass(frozen=True)
class Reply:
    """An answer before it is sent."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An answer other than the one asked for; `reply` is what the client gets.

    With `page`, as the site says it: in HTML.
    """

    def __init__(self, status: int, message: str, *, page: bool = False) -> None:
        super().__init__(message)
        self.reply = _page(status, message) if page else error(status, message)


def dump(value: object) -> bytes:
    """Compact JSON in UTF-8; where a text holds half of a surrogate pair, in ASCII escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def error(status: int, message: str) -> Reply:
    """The flat error shape, `{"code": …, "message": …}` (kagglesdk 0.1.37 looks for `code`)."""
    return Reply(status, dump({"code": status, "message": message}))


def nested_error(status: int, message: str, reason: str = "") -> Reply:
    """The nested shape, `{"error": {"code": …, …}}` (reported 2026-02, kaggle-facts 1.3)."""
    inner = {"code": status, "message": message, "status": reason}
    return Reply(status, dump({"error": _without_zeros(inner)}))


def _page(status: int, message: str) -> Reply:
    text = f"<!DOCTYPE html><html><body><h1>{status}: {message}</h1></body></html>"
    return Reply(status, text.encode(), HTML)


def page_not_found() -> Reply:
    """The HTML that unknown paths get (reported, kaggle-facts 1.3)."""
    return _page(404, "Not Found")


def decode(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body.

    Raises Refusal (400) if the body is not one.
    """
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False).encode()  # fails for half of a surrogate pair
    except (ValueError, RecursionError):
        raise Refusal(400, "The request body is not JSON.") from None
    if not isinstance(value, dict):
        raise Refusal(400, "The request body is not a JSON object.")
    return value


def parse(request_class: type[R], values: dict[str, Any]) -> R:
    """Build the kagglesdk request from its JSON fields; a `null` is an absent field.

    Raises Refusal (400) naming the field that the class does not have, that is of the wrong type,
    or whose enum does not have the value. Enums are accepted by full name or number (reported
    2026-10, kaggle-facts 2.0).
    """
    fields: dict[str, FieldMetadata] = {each.json_name: each for each in request_class._fields}
    clean = {}
    for name, value in values.items():
        if name not in fields:
            raise Refusal(400, f"{request_class.__name__} has no field {shorten(name)}.")
        if value is not None:
            clean[name] = _checked(fields[name], value)
    request: R = request_class.from_dict(clean)
    return request


def _checked(spec: FieldMetadata, value: object) -> object:
    kind: type = spec.field_type
    if isinstance(spec.serializer, EnumSerializer):
        assert issubclass(kind, Enum)
        for member in kind:
            if value == member.name or (value == member.value and type(value) is int):
                return member.name
        raise Refusal(
            400, f"Field {spec.json_name!r}: {kind.__name__} has no value {shorten(value)}."
        )
    if isinstance(spec.serializer, PredefinedSerializer) and type(value) is not kind:
        raise Refusal(
            400, f"Field {spec.json_name!r} must be {kind.__name__}, not {shorten(value)}."
        )
    return value


def encode(reply: KaggleObject) -> Reply:
    """The reply as proto3 JSON: zero, empty and false fields are left out (kaggle-facts 2.0)."""
    return encode_fields(reply.to_dict())


def encode_fields(fields: dict[str, Any]) -> Reply:
    """The same of an object that kagglesdk has no class for: the fields as JSON has them."""
    return Reply(200, dump(_without_zeros(fields)))


def _without_zeros(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_zeros(each) for key, each in value.items() if each}
    if isinstance(value, list):
        return [_without_zeros(each) for each in value]
    return value


def wire_time(moment: datetime) -> datetime:
    """The moment as kagglesdk's serialiser wants it: UTC without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None)
