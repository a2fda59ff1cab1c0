"""How an answer goes over the wire: whole, cut short, drop by drop, or not at all."""

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Protocol

from aiohttp import web

from kagglecrawl.replica.wire import Reply

_MISSING = 16  # bytes that a cut answer promises beyond those of the whole


def whole(reply: Reply) -> web.Response:
    """The reply as it is."""
    headers = {**reply.headers, "Content-Type": reply.content_type}
    return web.Response(body=reply.body, status=reply.status, headers=headers)


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
