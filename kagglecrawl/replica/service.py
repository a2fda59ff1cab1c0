"""What the replica answers: the API's methods, storage and the statistics."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, get_args

from aiohttp import web
from kagglesdk.kaggle_object import KaggleObject

from kagglecrawl.replica import competitions, datasets, delivery, security
from kagglecrawl.replica.bucket import Bucket
from kagglecrawl.replica.faults import Fault, Faults
from kagglecrawl.replica.listing import Listings
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.rpc import Family, Method, Site
from kagglecrawl.replica.stats import Stats
from kagglecrawl.replica.storage import PREFIX
from kagglecrawl.replica.wire import (
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
    for method in (*competitions.METHODS, *datasets.METHODS, *security.METHODS)
}
"""Every method by `service/name`. A new resource is a module of its own, added here."""


UNKNOWN = "unknown"
"""The name in the statistics of what is no method."""

_LOCALHOST = "http://localhost"
"""What kagglesdk takes for Kaggle when KAGGLE_API_ENVIRONMENT is LOCALHOST."""
_KEPT = 16_384


@dataclass(frozen=True)
class _Call:
    """A request understood; `canonical` is its body as normal JSON."""

    method: Method
    request: KaggleObject
    key: str
    canonical: str


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
                family: self._family(family, found["requests"], early)
                for family in get_args(Family)
            },
            "retry_after_violations": early.total(),
            "violations_by_method": {method: count for (_, method), count in early.items()},
        }

    def _family(
        self, family: str, requests: dict[str, dict[str, int]], early: Counter[tuple[str, str]]
    ) -> dict[str, int]:
        mine = [requests.get(m.name, {}) for m in METHODS.values() if m.family == family]
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
        if fault is None:
            if reply.status < 400:
                self._stats.delivered(label, call.key)
            return self._whole(label, reply)
        return await self._disturb(request, call, reply, fault)

    def _whole(self, label: str, reply: Reply) -> web.StreamResponse:
        self._stats.answered(label, reply.status)
        self._stats.add("bytes_sent", len(reply.body))
        return delivery.whole(reply)

    async def _disturb(
        self, request: web.BaseRequest, call: _Call, reply: Reply, fault: Fault
    ) -> web.StreamResponse:
        label = call.method.name
        self._stats.count("faults", fault.name)
        match fault.kind:
            case "reset":
                self._stats.answered(label, "reset")
                return delivery.reset(request)
            case "cut":
                self._stats.answered(label, reply.status)
                return await delivery.cut(request, reply, _Meter(self._stats))
            case "drip":
                self._stats.answered(label, reply.status)
                meter = _Meter(self._stats, label, call.key if reply.status < 400 else None)
                return await delivery.drip(request, reply, meter, fault.seconds)
        if fault.status == 429 and fault.kind == "status" and fault.retry_after is not None:
            return self._whole(label, self._quotas.too_many(call.method.family, fault.retry_after))
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
    return _Call(method, request, method.key(request), canonical)
