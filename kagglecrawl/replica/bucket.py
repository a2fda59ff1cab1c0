"""What storage answers: objects behind signed URLs, whole or in ranges, and what goes wrong."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from aiohttp import web

from kagglecrawl.replica import delivery
from kagglecrawl.replica.faults import INSTEAD, STORAGE, Fault, Faults
from kagglecrawl.replica.meta import MadeFile, zip_of
from kagglecrawl.replica.rpc import Site
from kagglecrawl.replica.stats import Stats
from kagglecrawl.replica.storage import (
    CHUNK,
    PREFIX,
    Blob,
    Span,
    open_source,
    xml_error,
)
from kagglecrawl.replica.truth import DatasetTruth, FileTruth
from kagglecrawl.replica.wire import Reply

_DROPS = 8  # at least so many pieces make a slow answer
_LIES = {"damaged", "wrong_hash", "wrong_start", "wrong_total", "wrong_length"}
"""Faults of answers that come to their end and yet are not delivered: something in them is off."""


class Bucket:
    """Answers GET and HEAD for the objects of a world."""

    def __init__(self, site: Site, faults: Faults, stats: Stats) -> None:
        self._world = site.world
        self._signer = site.signer
        self._storage = site.storage
        self._faults = faults
        self._stats = stats

    async def serve(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer a request for an object; `path` as it stands in the URL.

        Raises ConnectionError if the client goes away.
        """
        if "Authorization" in request.headers:
            self._stats.add("leaked_authorization", 1)
        refusal = self._refuse(request, path)
        blob = None if refusal else await self._find(path)
        if blob is None:
            missing = xml_error(404, "NoSuchKey", "The specified key does not exist.")
            return self._answer(request, refusal or missing)
        key = unquote(path.removeprefix(PREFIX))
        span = _span(blob, request.headers)
        if request.method == "HEAD":
            return await self._send(request, key, blob, span, None)
        self._stats.asked_range(key, request.headers.get("Range", ""))
        fault = self._faults.decide_object(key, span)
        if fault is not None:
            self._stats.count("faults", fault.name)
            if fault.kind == "changed":
                self._storage.change(key, fault.content)
                blob = await self._find(path) or blob
                span = _span(blob, request.headers)
        return await self._send(request, key, blob, span, fault)

    def _refuse(self, request: web.BaseRequest, path: str) -> Reply | None:
        if request.method not in {"GET", "HEAD"}:
            return xml_error(405, "MethodNotAllowed", "The specified method is not allowed.")
        if "Authorization" in request.headers:  # as Google does where it comes with a signature
            return xml_error(400, "InvalidArgument", "Only one auth mechanism allowed.")
        return self._signer.refuse(path, request.rel_url.query)

    async def _find(self, path: str) -> Blob | None:
        """The object of a percent-encoded path that is known to be signed."""
        dataset_id, version, name = unquote(path).removeprefix(PREFIX).split("/", 2)
        latest = self._world.by_id(int(dataset_id))
        dataset = latest and latest.at(int(version))
        if dataset is None or dataset.version != int(version):
            return None
        if name == dataset.archive_name:
            return await asyncio.to_thread(self._storage.blob, dataset, None)
        name = name.removeprefix("files/")
        file = dataset.file(name) or _zipped(dataset, name)
        return await asyncio.to_thread(self._storage.blob, dataset, file) if file else None

    async def _send(
        self,
        request: web.BaseRequest,
        key: str,
        blob: Blob,
        span: Span | None,
        fault: Fault | None,
    ) -> web.StreamResponse:
        kind = fault.kind if fault else None
        if fault and kind == "reset":
            self._stats.count("storage", f"{request.method} reset")
            return delivery.reset(request)
        if fault and kind in INSTEAD:
            return self._answer(request, self._trouble(request, fault))
        if kind == "no_ranges":
            span = blob.whole
        if span is None:
            unsatisfied = xml_error(416, "InvalidRange", "The requested range cannot be satisfied.")
            unsatisfied.headers["Content-Range"] = f"bytes */{blob.size}"
            return self._answer(request, unsatisfied)
        if fault and kind == "wrong_start":
            span = replace(span, start=span.start + fault.by)
        head = _head(blob, span, fault)
        self._stats.count("storage", f"{request.method} {head.status}")
        if request.method == "HEAD":
            await head.prepare(request)
            return head
        meter = _Meter(self._stats, key, whole=kind not in _LIES)
        return await _send_body(request, head, blob, span, fault, meter)

    def _answer(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        self._stats.count("storage", f"{request.method} {reply.status}")
        return delivery.whole(reply)

    def _trouble(self, request: web.BaseRequest, fault: Fault) -> Reply:
        if fault.kind == "expired":
            return self._signer.end(request.rel_url.query, fault.status or 400)
        reply = fault.apply(Reply(200, b""), str(request.url))
        if fault.kind != "status":
            return reply
        refusal = xml_error(fault.status, "ServiceUnavailable", "Please try again.")
        refusal.headers.update(reply.headers)
        return refusal


def _zipped(dataset: DatasetTruth, name: str) -> FileTruth | None:
    """A zip of the file whose name this is, but for a `.zip` at its end."""
    file = dataset.file(name.removesuffix(".zip"))
    if file is None:
        return None
    return MadeFile(name, lambda: zip_of(PurePosixPath(file.name).name, file.content()))


@dataclass(frozen=True)
class _Meter:
    """Counts the bytes of an answer, and that of an object when all of it went out."""

    stats: Stats
    key: str
    whole: bool

    def sent(self, count: int) -> None:
        self.stats.add("bytes_sent", count)
        self.stats.count("storage_bytes", self.key, count)

    def complete(self) -> None:
        if self.whole:
            self.stats.delivered(STORAGE, self.key)


def _span(blob: Blob, headers: Mapping[str, str]) -> Span | None:
    """The bytes that a request's headers ask for; None if there are none of them."""
    try:
        return blob.range(headers)
    except ValueError:
        return None


def _head(blob: Blob, span: Span, fault: Fault | None) -> web.StreamResponse:
    """Status and headers of an answer, with the lies that the fault tells in them."""
    kind = fault.kind if fault else None
    by = fault.by if fault else 0
    longer = by if kind == "wrong_length" else 0
    head = web.StreamResponse(status=206 if span.ranged else 200, headers=blob.headers(kind))
    head.content_type = "application/octet-stream"
    head.content_length = span.length + longer
    if span.ranged:
        total = span.size + (by if kind in {"wrong_length", "wrong_total"} else 0)
        last = span.stop - 1 + longer
        head.headers["Content-Range"] = f"bytes {span.start}-{last}/{total}"
    return head


async def _send_body(
    request: web.BaseRequest,
    head: web.StreamResponse,
    blob: Blob,
    span: Span,
    fault: Fault | None,
    meter: delivery.Meter,
) -> web.StreamResponse:
    """Send the head, and of the object what the fault leaves of those bytes."""
    kind = fault.kind if fault else None
    stop, bad, slow = span.stop, None, 0.0
    if fault and kind == "cut":
        stop = fault.place(span)
    elif fault and kind == "wrong_length":
        stop += min(fault.by, 0)
    elif fault and kind == "damaged":
        bad = fault.place(span)
    elif fault and kind in {"drip", "trickle"}:
        slow = fault.seconds
    elif isinstance(blob.source, Path):
        with open_source(blob.source) as file:
            return await delivery.send_file(request, head, file, span.start, meter)
    size = min(CHUNK, span.length // _DROPS + 1) if slow else CHUNK
    pieces = _pieces(blob, span.start, stop, size, bad)
    if kind == "trickle":
        return await delivery.trickle(request, head, pieces, meter, slow)
    pause = slow * size / max(span.length, 1)
    return await delivery.stream(request, head, pieces, meter, pause=pause)


def _pieces(blob: Blob, start: int, stop: int, size: int, bad: int | None) -> Iterator[bytes]:
    """The bytes from start to stop, so many at a time; the one at `bad` is another one."""
    with open_source(blob.source) as content:
        content.seek(start)
        while start < stop:
            piece = content.read(min(size, stop - start))
            if bad is not None and start <= bad < start + len(piece):
                at = bad - start
                piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
            start += len(piece)
            yield piece
