"""What the replica answers: the API's methods, storage and the statistics."""

import asyncio
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, get_args

from aiohttp import web
from kagglesdk.kaggle_object import KaggleObject

from kagglecrawl.replica import (
    competitions,
    datasets,
    delivery,
    episode_service,
    episodes,
    security,
)
from kagglecrawl.replica.bucket import Bucket
from kagglecrawl.replica.episode_service import Page
from kagglecrawl.replica.faults import Fault, Faults
from kagglecrawl.replica.listing import Listings
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.rpc import Family, Method, Site
from kagglecrawl.replica.stats import Stats
from kagglecrawl.replica.storage import PREFIX
from kagglecrawl.replica.wire import (
    HTML,
    Refusal,
    Reply,
    decode,
    dump,
    error,
    nested_error,
    page_not_found,
    parse,
)
from kagglecrawl.replica.world import World

METHODS = {
    f"{method.service}/{method.name}": method
    for method in (
        *competitions.METHODS,
        *datasets.METHODS,
        *episodes.METHODS,
        *security.METHODS,
    )
}
"""Every method by `service/name`. A new resource is a module of its own, added here."""


FAMILIES: dict[str, Family] = {
    **{method.name: method.family for method in METHODS.values()},
    **episode_service.FAMILIES,
}
"""The family of every method, and of every call of the site."""
NAMES = FAMILIES.keys() | episode_service.NAMES
"""What fault scripts may name, beside storage."""

UNKNOWN = "unknown"
"""The name in the statistics of what is no method."""
MOVED = "ReplayMoved"
"""The name in the statistics of the content network's redirects, which count nowhere else."""

_LOCALHOST = "http://localhost"
"""What kagglesdk takes for Kaggle when KAGGLE_API_ENVIRONMENT is LOCALHOST."""
_KEPT = 16_384
_ALWAYS = {"api", "download"}
"""Families that statistics tell of even if nobody has asked."""


@dataclass(frozen=True)
class _Asked:
    """A request understood; `canonical` is all that it asks for, in one text."""

    label: str
    family: Family
    key: str
    canonical: str
    zipped: bool = field(default=False, kw_only=True)
    """Whether its answer is compressed on its way."""


@dataclass(frozen=True)
class _Call(_Asked):
    """A call of the API; `canonical` is its body as normal JSON."""

    method: Method
    request: KaggleObject


class _Answers:
    """What a site answers. Where that depends on the request alone, it is kept under its bytes."""

    def __init__(self, site: Site, faults: Faults) -> None:
        self._site = site
        self._faults = faults
        self._kept = lru_cache(maxsize=_KEPT)(self._make)

    def to(self, call: _Call) -> Reply:
        return self._kept(call) if call.method.stable else self._make(call)

    def _make(self, call: _Call) -> Reply:
        try:
            reply = call.method.handle(self._site, call.request)
        except Refusal as refusal:
            return refusal.reply
        return self._faults.odden(call.method.name, reply)


class Service:
    """Answers requests; one handler for all of them."""

    def __init__(self, site: Site, faults: Faults, quotas: Quotas) -> None:
        self._site = site
        self._faults = faults
        self._quotas = quotas
        self._stats = Stats()
        self._bucket = Bucket(site, faults, self._stats)
        self._answers = _Answers(site, faults)
        self._understand = lru_cache(maxsize=_KEPT)(_understand)

    @property
    def world(self) -> World:
        """What is served."""
        return self._site.world

    def move(self, world: World) -> None:
        """Serve this world from the next request on; any thread may call it."""
        # What is under way ends with the objects that it began with, and so of the old world.
        self._site = replace(self._site, world=world, listings=Listings(world))
        self._bucket = Bucket(self._site, self._faults, self._stats)
        self._answers = _Answers(self._site, self._faults)

    def stats(self) -> dict[str, Any]:
        """What it has seen and given since the last reset.

        `families` tells of each family of methods how many answers there were, how many of them
        were 429, how many requests were under way when a 429 closed it (within the grace of
        `quotas`), and how many came later while the Retry-After still ran: the violations.
        """
        found = self._stats.snapshot()
        early = self._quotas.early.copy()
        return {
            **found,
            "families": {
                family: told
                for family in get_args(Family)
                if (told := self._family(family, found["requests"], early))["answers"]
                or family in _ALWAYS
            },
            "retry_after_violations": early.total(),
            "violations_by_method": {method: count for (_, method), count in early.items()},
        }

    def _family(
        self, family: str, requests: dict[str, dict[str, int]], early: Counter[tuple[str, str]]
    ) -> dict[str, int]:
        mine = [requests.get(name, {}) for name, its in FAMILIES.items() if its == family]
        return {
            "answers": sum(sum(statuses.values()) for statuses in mine),
            "429": sum(statuses.get("429", 0) for statuses in mine),
            "under_way": self._quotas.under_way[family],
            "violations": sum(count for (each, _), count in early.items() if each == family),
        }

    def reset_stats(self) -> None:
        """Count from zero again; quotas and fault scripts go on as they were."""
        self._stats.reset()
        self._quotas.reset()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, unless its client goes away meanwhile."""
        try:
            return await self._route(request)
        except ConnectionError:
            return web.Response()  # that nobody reads

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        # Absolute-form requests come by HTTP_PROXY; they must be meant for Kaggle or for us.
        if not request.raw_path.startswith("/"):
            origin = str(request.url.origin())
            if origin not in {_LOCALHOST, self._site.signer.base_url}:
                return self._whole(UNKNOWN, error(502, f"The replica is no proxy to {origin}."))
        path = request.rel_url.raw_path
        if path.startswith(PREFIX):
            return await self._bucket.serve(request, path)
        if page := episode_service.find(request.method, path):
            return await self._serve_page(request, *page)
        if request.method == "GET" and (location := episode_service.moved(path)):
            headers = {"Location": f"{self._site.signer.base_url}{location}"}
            return self._whole(MOVED, Reply(301, b"", HTML, headers))
        for prefix in ("/api/v1/", "/v1/"):
            if path.startswith(prefix):
                return await self._serve_call(request, path.removeprefix(prefix))
        if (request.method, path) == ("GET", "/__stats"):
            return delivery.whole(Reply(200, dump(self.stats())))
        if (request.method, path) == ("POST", "/__stats/reset"):
            self.reset_stats()
            return delivery.whole(Reply(200, b"{}"))
        if (request.method, path) == ("POST", "/__faults/repair"):
            self._faults.repair()
            return delivery.whole(Reply(200, b"{}"))
        return self._whole(UNKNOWN, page_not_found())

    async def _serve_call(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        self._stats.count("user_agents", request.headers.get("User-Agent", ""))
        identity = security.identify(request.headers.get("Authorization"))
        self._stats.count("auth", identity)
        method = METHODS.get(name)
        label = method.name if method else UNKNOWN
        try:
            if request.method != "POST" or method is None:
                raise Refusal(404, f"Method not found: {request.method} {name}")
            if identity == "refused":
                return self._whole(label, nested_error(401, "Unauthenticated"))
            if identity == "anonymous" and not method.anonymous:
                if method.without_credentials == 401:
                    return self._whole(label, nested_error(401, "Unauthenticated"))
                raise Refusal(403, "Permission denied: this method needs credentials")
            call = self._understand(name, await request.read())
            self._stats.asked(label, call.key)
        except Refusal as refusal:
            return self._whole(label, refusal.reply)
        too_many = self._quotas.refuse(method.family, label)
        if too_many is not None:
            return self._whole(label, too_many)
        reply = self._answers.to(call)
        fault = self._faults.decide(label, call.key, call.canonical)
        if fault is None and reply.status in {403, 404}:
            fault = self._faults.refusal(label, call.canonical)
        return await self._send(request, call, reply, fault)

    async def _serve_page(
        self, request: web.BaseRequest, page: Page, found: re.Match[str]
    ) -> web.StreamResponse:
        """Answer a call of the site; only the REST twin of the API's asks who calls."""
        self._stats.count("user_agents", request.headers.get("User-Agent", ""))
        identity = security.identify(request.headers.get("Authorization"))
        self._stats.count("auth", identity)
        if page.place == "api":
            if identity in {"anonymous", "refused"}:
                return self._whole(page.label, nested_error(401, "Unauthenticated"))
        elif identity != "anonymous":
            self._stats.add("leaked_authorization", 1)
        site = self._site
        try:
            body = await request.read()
            asked = page.understand(site, found, body, request.rel_url.raw_query_string)
        except Refusal as refusal:
            return self._whole(page.label, refusal.reply)
        canonical = f"{page.also} {json.dumps(asked, sort_keys=True)}"
        zipped = page.place is not None and "gzip" in request.headers.get("Accept-Encoding", "")
        call = _Asked(page.label, page.family, page.key(asked), canonical, zipped=zipped)
        self._stats.asked(call.label, call.key)
        too_many = self._quotas.refuse(call.family, call.label)
        if too_many is not None:
            return self._whole(call.label, too_many)
        reply = await asyncio.to_thread(page.reply, site, asked)  # a large one takes a moment
        fault = self._faults.decide(call.label, call.key, canonical, page.also)
        return await self._send(request, call, reply, fault)

    async def _send(
        self, request: web.BaseRequest, call: _Asked, reply: Reply, fault: Fault | None
    ) -> web.StreamResponse:
        if fault is not None:
            return await self._disturb(request, call, reply, fault)
        if reply.status < 400:
            self._stats.delivered(call.label, call.key)
        return self._whole(call.label, await _packed(call, reply))

    def _whole(self, label: str, reply: Reply) -> web.StreamResponse:
        self._stats.answered(label, reply.status)
        self._stats.add("bytes_sent", len(reply.body))
        return delivery.whole(reply)

    async def _disturb(
        self, request: web.BaseRequest, call: _Asked, reply: Reply, fault: Fault
    ) -> web.StreamResponse:
        label = call.label
        self._stats.count("faults", fault.name)
        match fault.kind:
            case "reset":
                self._stats.answered(label, "reset")
                return delivery.reset(request)
            case "cut":
                self._stats.answered(label, reply.status)
                packed = await _packed(call, reply)
                return await delivery.cut(request, packed, _Meter(self._stats))
            case "drip":
                self._stats.answered(label, reply.status)
                meter = _Meter(self._stats, label, call.key if reply.status < 400 else None)
                packed = await _packed(call, reply)
                return await delivery.drip(request, packed, meter, fault.seconds)
            case "damaged" if fault.at is not None:
                packed = await _packed(call, reply)
                return self._whole(label, delivery.wrong_at(packed, fault.at))
            case "damaged":
                return self._whole(label, await _packed(call, fault.apply(reply)))
        if fault.status == 429 and fault.kind == "status" and fault.retry_after is not None:
            return self._whole(label, self._quotas.too_many(call.family, fault.retry_after))
        return self._whole(label, fault.apply(reply, str(request.url)))


@dataclass(frozen=True)
class _Meter:
    """Counts the bytes of an answer, and that of a key when it is complete."""

    stats: Stats
    label: str = ""
    key: str | None = None

    def sent(self, count: int) -> None:
        self.stats.add("bytes_sent", count)

    def complete(self) -> None:
        if self.key is not None:
            self.stats.delivered(self.label, self.key)


def _understand(name: str, body: bytes) -> _Call:
    method = METHODS[name]
    values = decode(body)
    request = parse(method.request, values)
    canonical = dump(dict(sorted(values.items()))).decode()
    return _Call(method.name, method.family, method.key(request), canonical, method, request)


async def _packed(call: _Asked, reply: Reply) -> Reply:
    """The reply as it goes over the wire."""
    if not call.zipped or reply.status != 200:
        return reply
    return await asyncio.to_thread(delivery.compressed, reply)
