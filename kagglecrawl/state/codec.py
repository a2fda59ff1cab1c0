"""Requests as JSON: what the job's file holds of them. Never pickle, which runs what it reads.

Only what differs from a plain request is written. One that carries a password (a header
Authorization, a proxy's, one in its address) is refused, so that it is noticed when a spider is
written; what is secret in a cookie, or in a query, nobody can tell.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from scrapy import Request, Spider
from scrapy.utils.misc import load_object
from scrapy.utils.python import global_object_name

#: Added again by HttpProxyMiddleware; a proxy's password is a secret.
_ADDED_AGAIN = b"Proxy-Authorization"
_SECRET = b"Authorization"


class NotSerializable(ValueError):
    """A request cannot be kept; the text says which, and why."""


def encode(request: Request, spider: Spider) -> str:
    """The request as JSON; raises ``NotSerializable``."""
    try:
        known = _to_dict(request, spider)
        return json.dumps(known, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise NotSerializable(f"{request.method} {_address(request)}: {error}") from None


def decode(data: str, spider: Spider) -> Request:
    """The request again; raises ``ValueError``, where its method is gone from the spider, say."""
    try:
        return _to_request(json.loads(data), spider)
    except (TypeError, AttributeError, LookupError, ImportError, NameError) as error:
        raise ValueError(str(error)) from None


def _to_request(found: dict[str, Any], spider: Spider) -> Request:
    kind = load_object(found.pop("class")) if "class" in found else Request
    if not (isinstance(kind, type) and issubclass(kind, Request)):
        raise TypeError(f"{kind!r} is no request")
    for name in ("callback", "errback"):
        if name in found:
            if not hasattr(spider, found[name]):
                raise ValueError(f"{spider.name} has no method {found[name]}")
            found[name] = getattr(spider, found[name])
    if "base64" in found:
        found["body"] = base64.b64decode(found.pop("base64"))
    elif "body" in found:
        found["body"] = found["body"].encode()  # whatever the request's encoding is
    if "headers" in found:
        found["headers"] = {
            name: [value.encode("latin-1") for value in values]
            for name, values in found["headers"].items()
        }
    return kind(**found)


def _to_dict(request: Request, spider: Spider) -> dict[str, Any]:
    if "@" in urlsplit(request.url).netloc:
        raise ValueError("the password in its address is a secret: let a middleware add it")
    known: dict[str, Any] = {"url": request.url}
    if request.method != "GET":
        known["method"] = request.method
    if request.body:
        known |= _body(request.body)
    if request.headers:
        known["headers"] = _headers(request)
    for name in ("callback", "errback"):
        if (method := getattr(request, name)) is not None:
            known[name] = _name(method, spider)
    if meta := _meta(request):
        known["meta"] = meta
    for name in ("cb_kwargs", "cookies", "flags", "priority", "dont_filter"):
        if value := getattr(request, name):
            known[name] = value
    for name in ("meta", "cb_kwargs", "cookies"):
        if name in known:
            _refuse_what_changes(known[name])
    if request.encoding != "utf-8":
        known["encoding"] = request.encoding
    if type(request) is not Request:
        known["class"] = global_object_name(type(request))
        for name in type(request).attributes:
            if name not in Request.attributes:
                known[name] = getattr(request, name)
    return known


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode("ascii")}


def _headers(request: Request) -> dict[str, list[str]]:
    found = {}
    for name, values in request.headers.items():
        if name == _SECRET:
            raise ValueError("its header Authorization is a secret: let a middleware add it")
        if name != _ADDED_AGAIN:
            found[name.decode("latin-1")] = [value.decode("latin-1") for value in values]
    return found


def _meta(request: Request) -> dict[str, Any]:
    meta = dict(request.meta)
    if "_auth_proxy" in meta:
        # HttpProxyMiddleware's, which finds it again, and its password
        del meta["_auth_proxy"]
        meta.pop("proxy", None)
    proxy = meta.get("proxy")
    if isinstance(proxy, str) and "@" in proxy:
        raise ValueError("the password of its proxy is a secret: set HTTPS_PROXY instead")
    return meta


def _refuse_what_changes(value: Any) -> None:
    """JSON would make a text of a key, and a list of a tuple, without a word."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key of it is no text ({key!r})")
            _refuse_what_changes(each)
    elif isinstance(value, list):
        for each in value:
            _refuse_what_changes(each)
    elif isinstance(value, tuple):
        raise TypeError("a tuple of it would become a list")


def _name(method: Callable[..., Any], spider: Spider) -> str:
    name = getattr(method, "__name__", "")
    if getattr(method, "__self__", None) is not spider or getattr(spider, name, None) != method:
        raise TypeError(f"{method!r} is no method of the spider {spider.name}")
    return name


def _address(request: Request) -> str:
    """Without its query, which may be signed."""
    parts = urlsplit(request.url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
