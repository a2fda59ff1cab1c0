"""How an answer goes over the wire: whole, cut short, drop by drop, or not at all."""

import asyncio
import gzip
import socket
import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import BinaryIO, Protocol

from aiohttp import web

from kagglecrawl.replica.wire import Reply

_MISSING = 16  # bytes that a cut answer promises beyond those of the whole
_GLANCE = 0.05  # seconds between two looks whether a client is still there
_SLICE = 1 << 20
_LAST = 1 << 16  # bytes that are sent after an answer has been told to be complete


def whole(reply: Reply) -> web.Response:
    """The reply as it is."""
    headers = {**reply.headers, "Content-Type": reply.content_type}
    return web.Response(body=reply.body, status=reply.status, headers=headers)


def compressed(reply: Reply) -> Reply:
    """The reply as gzip, for a client that accepts that; so it says."""
    headers = {**reply.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return replace(reply, body=gzip.compress(reply.body, 6, mtime=0), headers=headers)


def wrong_at(reply: Reply, at: int) -> Reply:
    """The reply with another byte at this place; at its last one, if it is not as long."""
    at = min(at, len(reply.body) - 1)
    body = reply.body[:at] + bytes([reply.body[at] ^ 1]) + reply.body[at + 1 :]
    return replace(reply, body=body)


class Meter(Protocol):
    """Is told what goes out."""

    def sent(self, count: int) -> None:
        """So many bytes of the body."""

    def complete(self) -> None:
        """All that the head promises: told before the last byte, lest the client be faster."""


async def stream(
    request: web.BaseRequest,
    head: web.StreamResponse,
    pieces: Iterable[bytes],
    meter: Meter,
    *,
    pause: float = 0.0,
) -> web.StreamResponse:
    """Send the head, then the pieces with a pause (seconds) before each.

    If they are short of what the head promises, the connection closes after them. Raises
    ConnectionError if the client goes away.
    """
    missing = head.content_length or 0
    if not missing:
        meter.complete()
    await head.prepare(request)
    for piece in pieces:
        await asyncio.sleep(pause)
        missing -= len(piece)
        meter.sent(len(piece))
        if not missing:
            meter.complete()
        await head.write(piece)
    if missing and request.transport is not None:
        request.transport.close()
    return head


async def send_file(
    request: web.BaseRequest, head: web.StreamResponse, file: BinaryIO, start: int, meter: Meter
) -> web.StreamResponse:
    """Send the head, then as many bytes of the file as it promises, from `start` on.

    The kernel copies them, so that it costs next to no CPU and no memory. They are metered by the
    slice, before it goes. Raises ConnectionError if the client goes away.
    """
    stop = start + (head.content_length or 0)
    if start == stop:
        meter.complete()
    await head.prepare(request)
    loop = asyncio.get_running_loop()
    while start < stop:
        ahead = stop - start
        count = min(_SLICE, ahead - _LAST) if ahead > _LAST else ahead
        if count == ahead:
            meter.complete()
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone away")
        meter.sent(count)
        try:
            await loop.sendfile(transport, file, start, count)
        except RuntimeError:  # so it says that the connection is closing
            raise ConnectionResetError("the client has gone away") from None
        start += count
    return head


async def trickle(
    request: web.BaseRequest,
    head: web.StreamResponse,
    pieces: Iterable[bytes],
    meter: Meter,
    seconds: float,
) -> web.StreamResponse:
    """Send the head, then a byte every so many seconds, and never the last one.

    Returns when the client has gone away, and not before.
    """
    await head.prepare(request)
    left = head.content_length or 0
    for piece in pieces:
        for number in range(len(piece)):
            await asyncio.sleep(seconds)
            left -= 1
            if left <= 0:
                break
            meter.sent(1)
            await head.write(piece[number : number + 1])
    # aiohttp tells a handler in no other way that its client has left.
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(max(seconds, _GLANCE))
    return head


def promise(reply: Reply, extra: int = 0) -> web.StreamResponse:
    """The head of a reply whose body is sent in pieces; it promises `extra` bytes too many."""
    headers = {**reply.headers, "Content-Type": reply.content_type}
    head = web.StreamResponse(status=reply.status, headers=headers)
    head.content_length = len(reply.body) + extra
    return head


async def cut(request: web.BaseRequest, reply: Reply, meter: Meter) -> web.StreamResponse:
    """Half of the body, under a Content-Length beyond the whole of it, then the end."""
    half = reply.body[: len(reply.body) // 2]
    return await stream(request, promise(reply, _MISSING), [half], meter)


async def drip(
    request: web.BaseRequest, reply: Reply, meter: Meter, seconds: float
) -> web.StreamResponse:
    """The whole body in up to eight pieces over so many seconds."""
    size = len(reply.body) // 8 + 1
    pieces = [reply.body[start : start + size] for start in range(0, len(reply.body), size)]
    return await stream(request, promise(reply), pieces, meter, pause=seconds / max(len(pieces), 1))


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """No answer: the connection is reset."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket = transport.get_extra_info("socket")
        # With no time to linger, closing sends RST in place of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()
