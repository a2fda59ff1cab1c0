"""A call of Kaggle's API, and how it becomes a ``scrapy.Request``.

Every official call is ``POST {KAGGLE_API_URL}/v1/{service}/{method}`` with a JSON body
(verified: kagglesdk 0.1.37, ``KaggleHttpClient._get_request_url``). The body is built with
kagglesdk's own request class, so that field names and enums are Kaggle's.
"""

from __future__ import annotations

import enum
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Literal, Protocol

from scrapy import Request

#: Bytes of a call's answer that is a file: it is held in memory.
LARGEST_FILE = 256 << 20
#: Replays come from several hosts, and are slower than other answers: AutoThrottle has them for
#: themselves.
REPLAY_SLOT = "kaggle replays"
_DATASETS = "kagglesdk.datasets.types.dataset_api_service"

Family = Literal["api", "download", "episodes", "replay"]
#: Whom a call asks: the official API, the site, or the host of the site's files.
Where = Literal["api", "web", "content"]

#: Statuses are judged in one place (errors.py), and Kaggle's API is never followed elsewhere.
_META: dict[str, Any] = {
    "handle_httpstatus_all": True,
    "dont_redirect": True,
    "dont_retry": True,
}
_OF_REPLAYS: dict[str, Any] = {
    "download_slot": REPLAY_SLOT,
    "dont_cache": True,  # a cache would keep what is told of the replay, and not the replay
}


class Addresses(Protocol):
    """Where Kaggle is: what stands before the path of a call."""

    @property
    def api_url(self) -> str:
        """Of the official API."""

    @property
    def web_url(self) -> str:
        """Of the site."""

    @property
    def content_url(self) -> str:
        """Of the host of the site's files."""


@dataclass(frozen=True)
class Rpc:
    """One of Kaggle's methods.

    ``kind`` says what a refusal means: of a ``list`` it stops the crawl, of one ``item`` it
    skips that item. ``rows`` is the field of the reply that holds the rows of a list (absent when
    there are none), ``needs`` the name and type of one without which a reply is none.
    ``best_page_size`` is the most rows it is worth asking for in one reply. The answer of a
    ``file`` is no JSON but a small file: at once, or where a redirect leads. That of a ``replay``
    is the JSON of one game, as a ``ReplayResponse`` (transport/replays.py). What a ``part`` gives
    is some of a record, which is told without it where Kaggle refuses it.
    """

    service: str
    method: str
    request_class: str
    kind: Literal["list", "item"]
    family: Family = "api"
    rows: str = ""
    needs: tuple[str, type] | None = None
    best_page_size: int = 200
    module: str = _DATASETS
    file: bool = False
    part: bool = False
    replay: bool = False

    @property
    def name(self) -> str:
        """Its key in ``TABLE``, in logs and in stats: ``service/method``."""
        return f"{self.service}/{self.method}"

    @property
    def where(self) -> Where:
        """Whom it asks. What is no ``api`` is never sent credentials."""
        return "api"

    def address(self, addresses: Addresses) -> str:
        """The first argument of ``request``: that of these addresses at which it asks."""
        return addresses.api_url

    @cached_property
    def _fields(self) -> Mapping[str, Any]:
        return {each.field_name: each for each in getattr(self._module, self.request_class)._fields}

    @cached_property
    def _module(self) -> ModuleType:
        return importlib.import_module(self.module)

    def is_reply(self, payload: Mapping[str, Any]) -> bool:
        """Does this JSON object have the shape of this method's reply?"""
        if self.rows and not isinstance(payload.get(self.rows) or [], list):
            return False
        if self.rows and payload and not payload.keys() & self._reply_fields:
            return False  # {} is a page without rows; {"status": "ok"} is something else
        return self.needs is None or isinstance(payload.get(self.needs[0]), self.needs[1])

    @cached_property
    def _reply_fields(self) -> set[str]:
        name = self.request_class.replace("Request", "Response")
        return {field.json_name for field in getattr(self._module, name)._fields}

    def body(self, **fields: Any) -> dict[str, Any]:
        """The JSON body for these fields, as kagglesdk would send it (defaults left out).

        Names are kagglesdk's (``owner_slug``); an enum may be given as its member's name.
        Raises ``ValueError`` for a field, a type or an enum name that Kaggle does not have.
        """
        body: dict[str, Any] = {}
        for name, value in fields.items():
            if value is None:
                continue
            field = self._fields.get(name)
            if field is None:
                raise ValueError(f"{self.name} has no field {name!r}")
            kind = field.field_type
            if issubclass(kind, enum.Enum):
                if not isinstance(value, str) or value not in kind.__members__:
                    raise ValueError(f"{self.name}: {name}={value!r} is not a {kind.__name__}")
                if kind[value] != field.default_value:
                    body[field.json_name] = value
                continue
            if type(value) is not kind:
                raise ValueError(f"{self.name}: {name}={value!r} is not of type {kind.__name__}")
            if value != field.default_value:
                body[field.json_name] = value
        return body

    def request(self, address: str, *, meta: Mapping[str, Any], **kwargs: Any) -> Request:
        """A request for this call at an address (``address`` gives it); ``fields`` among ``kwargs``
        becomes the body, the rest is handed to ``scrapy.Request``. It carries no credentials: they
        are added when it is sent.
        """
        fields = kwargs.pop("fields")
        return Request(
            f"{address}/v1/{self.name}",
            method="POST",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=json.dumps(self.body(**fields)).encode(),
            meta=self._meta(meta, fields),
            **kwargs,
        )

    def _meta(self, meta: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        own = dict(_META)
        if self.file:
            own["download_maxsize"] = LARGEST_FILE
        if self.replay:  # what comes must be of the episode that was asked for
            own |= {**_OF_REPLAYS, "episode": fields.get("episode_id")}
        return {**own, **meta, "rpc": self.name}
