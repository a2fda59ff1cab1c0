"""A store that lies: a proxy on loopback in front of a real S3 store.

It has the owner's credentials, so whatever it makes of a request is believed by the store behind
it. Clients may use any credentials: theirs are not looked at. Bodies are held in memory.

    with LyingStore(endpoint, access_key, secret_key) as store:
        store.tell("flip", "*/large.bin", times=3)      # one after the other, as often as wanted
        ...                                             # a client at store.endpoint
        assert store.told["flip"] == 3
        store.behave()

By hand, until its stdin ends (credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY):

    python -m tests.s3.lying_store http://127.0.0.1:8333 "flip:*.bin:3" "deny:*"
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

import aiohttp
from aiohttp import web

from tests.s3 import lying_wire as wire
from tests.s3.lying_lies import KINDS, STATUS, Lie
from tests.s3.lying_wire import Answer, Ask, Behind

_HOST = "127.0.0.1"
_STOP_SECONDS = 0.1
#: An answer that drips comes in so many pieces.
_DROPS = 10


@dataclass
class _Before:
    """An object as it was before the last write, and how often it is yet to be told of."""

    head: Answer | None
    get: Answer | None
    left: int | None
    lie: Lie

    def tells(self) -> bool:
        """Once more? Counts."""
        if self.left == 0:
            return False
        self.left = self.left and self.left - 1
        self.lie.told += 1
        return True


class LyingStore:
    """Listens on a free port of loopback for as long as its `with` block lasts."""

    def __init__(
        self, endpoint: str, access_key: str, secret_key: str, *, region: str = "us-east-1"
    ) -> None:
        self.asked: Counter[str] = Counter()
        """Requests so far, by operation."""
        self.lies: list[Lie] = []
        self._port = 0
        self._owner = (endpoint, access_key, secret_key, region)
        self._behind: Behind
        self._before: dict[str, _Before] = {}
        self._claims: dict[str, dict[str, str]] = {}
        self._parts: dict[str, dict[int, wire.Part | None]] = {}
        """Of uploads: parts that were answered otherwise than they are kept, or not kept."""
        self._bodies: dict[str, dict[int, bytes]] = {}
        """Of uploads some parts of which may be answered otherwise: what their client has sent."""
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stopped: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="lying-store", daemon=True)

    @property
    def endpoint(self) -> str:
        """Where it listens: ``http://127.0.0.1:PORT``."""
        return f"http://{_HOST}:{self._port}"

    @property
    def told(self) -> Counter[str]:
        """How often it has lied, by kind, since it last began to behave."""
        found: Counter[str] = Counter()
        for lie in self.lies:
            found[lie.kind] += lie.told
        return found

    def tell(
        self,
        kind: str,
        keys: str = "*",
        *,
        times: int | None = None,
        after: int = 0,
        operations: Collection[str] = (),
        seconds: float = 1.0,
        status: int = 0,
        code: str = "",
    ) -> Lie:
        """Lie from now on (see `KINDS` and `Lie`). Of several that fit, the first one is told."""
        usual = STATUS.get(kind, (0, ""))
        told_of = frozenset(operations) or KINDS[kind]
        assert told_of <= KINDS[kind], f"{kind} is no lie about {set(told_of - KINDS[kind])}"
        lie = Lie(kind, keys, times, after, told_of, seconds, status or usual[0], code or usual[1])
        self.lies.append(lie)
        return lie

    def behave(self) -> None:
        """Tell the truth from now on, also of what it has kept wrongly."""
        self.lies = []
        self._before.clear()
        self._claims.clear()
        self._parts.clear()
        self._bodies.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        assert self._port, "it could not listen"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    # -- in its own thread ------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as session:
            self._behind = Behind(session, *self._owner)
            server = web.Server(self._handle, access_log=None)
            runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
            await runner.setup()
            try:
                await web.TCPSite(runner, _HOST, 0).start()
                self._port = runner.addresses[0][1]
                self._ready.set()
                await self._stopped.wait()
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        ask = Ask.of(request)
        self.asked[ask.operation] += 1
        size = request.content_length or 0
        stateless = (each for each in self.lies if each.kind != "stale")
        lie = next((each for each in stateless if each.takes(ask, size)), None)
        kind = lie.kind if lie else ""
        if "100-continue" in ask.headers.get("expect", "") and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if kind == "cut_body" and ask.method == "PUT":
            await request.content.readexactly(size // 2)
            return _cut(request)
        try:
            ask = ask.with_body(await request.content.read())
        except ConnectionError:  # its client has left
            return _cut(request)
        if kind == "cut_before":
            return _cut(request)
        try:
            answer = await (self._lied(lie, ask) if lie else self._passed(ask))
        except aiohttp.ClientError as problem:
            answer = wire.error(502, f"BehindIt{type(problem).__name__}", ask.key)
        if kind == "cut_after":
            return _cut(request)
        pause = lie.seconds / (_DROPS + 1) if lie and kind == "slow" else 0.0
        return await _deliver(request, answer, pause, cut=kind == "cut_body")

    async def _lied(self, lie: Lie, ask: Ask) -> Answer:
        match lie.kind:
            case "fail" | "deny" | "full" | "quota" | "ok_error":
                return wire.error(lie.status, lie.code, ask.key)
            case "flip" | "truncate":
                return await self._passed(_damaged(ask, lie.kind))
            case "echo" | "echo_short":
                return await self._echoed(lie, ask)
            case "lose_part":
                etag = wire.md5(ask.body)
                self._parts.setdefault(ask.upload, {})[ask.number] = None
                return _stored(ask, etag)
            case "lose_object" if ask.operation == "put":
                return _stored(ask, wire.md5(ask.body))
            case "lose_object":
                await self._behind.send(ask.aborting())
                etags = [part.etag for part in wire.parts_of(ask.body)]
                return wire.completed(ask, wire.etag_of_parts(etags))
        return await self._passed(ask)

    async def _echoed(self, lie: Lie, ask: Ask) -> Answer:
        answer = await self._passed(_damaged(ask, "flip" if lie.kind == "echo" else "truncate"))
        if not answer.ok:
            return answer
        if ask.operation == "part":
            self._bodies[ask.upload][ask.number] = ask.body
        claim = {"etag": f'"{wire.md5(ask.body)}"', **ask.checksums}
        if ask.operation == "put":
            self._claims[ask.key] = claim
        else:
            real = wire.Part.stored(ask.number, answer)
            self._parts.setdefault(ask.upload, {})[ask.number] = real
        return answer.claiming(claim)

    async def _passed(self, ask: Ask) -> Answer:
        """What the store behind it says, but for what has been claimed before."""
        match ask.operation:
            case "part":
                self._parts.get(ask.upload, {}).pop(ask.number, None)
                if any(lie.kind.startswith("echo") and lie.fits(ask) for lie in self.lies):
                    self._bodies.setdefault(ask.upload, {})[ask.number] = ask.body
            case "put" | "complete":
                await self._remember(ask)
                self._claims.pop(ask.key, None)
                if ask.operation == "complete" and self._parts.get(ask.upload):
                    return await self._completed(ask)
            case "delete":
                self._claims.pop(ask.key, None)
                self._before.pop(ask.key, None)
            case "head" | "get":
                return await self._told_of(ask)
            case "list":
                return await self._listed(ask)
        return await self._behind.send(ask)

    async def _completed(self, ask: Ask) -> Answer:
        """Completes an upload by the parts that there really are."""
        odd, claimed = self._parts[ask.upload], wire.parts_of(ask.body)
        etag = wire.etag_of_parts([part.etag for part in claimed])
        numbered = [(part.number, odd.get(part.number, part)) for part in claimed]
        kept = [part for _, part in numbered if part]
        if not kept:
            await self._behind.send(ask.aborting())
            return wire.completed(ask, etag)
        # some stores will have no gaps, and others no part of no bytes
        gapless = [part or await self._of_nothing(ask, n) for n, part in numbered]
        answer = await self._behind.send(ask.unsealed(wire.complete_of(gapless)))
        if gapless != kept and not answer.ok:
            answer = await self._behind.send(ask.unsealed(wire.complete_of(kept)))
        if not answer.ok or b"<Error>" in answer.body:
            return answer
        bodies = self._bodies.pop(ask.upload, {})
        if any(self._parts.pop(ask.upload).values()):  # those of which it has other bytes
            head = await self._behind.send(ask.reading("HEAD"))
            whole = b"".join(bodies.get(part.number, b"") for part in claimed)
            told = etag if "-" in head.etag else wire.md5(whole)
            self._claims[ask.key] = {"etag": f'"{told}"'}
        return answer.with_body(wire.with_etag(answer.body.decode(), etag).encode())

    async def _of_nothing(self, ask: Ask, number: int) -> wire.Part:
        answer = await self._behind.send(ask.empty_part(number))
        return wire.Part.stored(number, answer)

    async def _told_of(self, ask: Ask) -> Answer:
        before = self._before.get(ask.key)
        if before and before.tells():
            found = before.head if ask.operation == "head" else before.get
            return found or wire.error(404, "NoSuchKey", ask.key)
        answer = await self._behind.send(ask)
        if not answer.ok or ask.key not in self._claims:
            return answer
        return answer.claiming(self._claims[ask.key])

    async def _listed(self, ask: Ask) -> Answer:
        answer = await self._behind.send(ask)
        if not answer.ok:
            return answer

        def entry(key: str, text: str) -> str | None:
            before = self._before.get(key)
            if before and before.tells():
                return wire.entry_like(text, before.head) if before.head else None
            claim = self._claims.get(key)
            return wire.with_etag(text, claim["etag"].strip('"')) if claim else text

        return answer.with_body(wire.relisted(answer.body.decode(), entry).encode())

    async def _remember(self, ask: Ask) -> None:
        """What there is now, if it is to be told of after this write."""
        fitting = (each for each in self.lies if each.kind == "stale")
        lie = next((each for each in fitting if fnmatchcase(ask.key, each.keys)), None)
        if lie is None:
            return
        head = await self._behind.send(ask.reading("HEAD"))
        get = await self._behind.send(ask.reading("GET"))
        there = head.ok and get.ok
        self._before[ask.key] = _Before(
            head if there else None, get if there else None, lie.times, lie
        )


def _damaged(ask: Ask, how: str) -> Ask:
    if how == "truncate":  # by an eighth: stores want 5 MiB of a part that is not the last
        return ask.unsealed(ask.body[: len(ask.body) * 7 // 8])
    middle = len(ask.body) // 2
    flipped = bytes([ask.body[middle] ^ 1])
    return ask.unsealed(ask.body[:middle] + flipped + ask.body[middle + 1 :])


def _stored(ask: Ask, etag: str) -> Answer:
    return Answer(200, {"etag": f'"{etag}"', "content-length": "0", **ask.checksums})


def _cut(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _deliver(
    request: web.BaseRequest, answer: Answer, pause: float, *, cut: bool
) -> web.StreamResponse:
    """Send it, with ``pause`` seconds before the head and before each piece; half of it if cut."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    await asyncio.sleep(pause)
    await response.prepare(request)
    body = b"" if request.method == "HEAD" else answer.body
    if cut:
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response
    if pause and not body:
        await asyncio.sleep(pause * _DROPS)
    step = max(1, -(-len(body) // _DROPS)) if pause else max(1, len(body))
    for start in range(0, len(body), step):
        await asyncio.sleep(pause)
        await response.write(body[start : start + step])
    await response.write_eof()
    return response


def main() -> None:
    """Serve until stdin ends; arguments: the store's endpoint, and lies as KIND:GLOB[:TIMES]."""
    endpoint, *lies = sys.argv[1:]
    keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    with LyingStore(endpoint, *keys) as store:
        for each in lies:
            kind, glob, *times = each.split(":")
            store.tell(kind, glob, times=int(times[0]) if times else None)
        print(store.endpoint, flush=True)
        sys.stdin.read()
        print(dict(store.told), dict(store.asked), flush=True)


if __name__ == "__main__":
    main()
