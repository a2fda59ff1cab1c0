"""A storage that answers as it is told to, and how a transfer reads it.

``Storage`` is a server on this machine that speaks HTTP byte by byte, so that it can also say what
no server says.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import google_crc32c

from kagglecrawl.transfer.hosts import check_location
from kagglecrawl.transfer.source import Manners, Remote

MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"
#: Must never be seen in a log or an exception's text.
SECRET = "X-Goog-Signature=5ecre7"


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    number: int
    """From 1."""
    path: str
    headers: dict[str, str]
    """Their names are in lower case."""

    @property
    def range(self) -> str:
        """What is asked for, without the unit; empty if it is the whole."""
        return self.headers.get("range", "").removeprefix("bytes=")


#: What comes over the connection: it is closed after the last piece.
Reply = Iterable[bytes | memoryview]


def head(status: int, headers: dict[str, str | None]) -> bytes:
    """Status line and headers; one whose value is None is left out."""
    lines = [f"HTTP/1.1 {status} -"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def status(code: int, **headers: str) -> Reply:
    """An answer that is no object."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [head(code, {"Content-Length": "0", **named})]


@dataclass
class Object:
    """Bytes behind an address, and how they are told of."""

    data: bytes
    etag: str | None = '"one"'
    modified: str | None = MODIFIED
    hashes: tuple[str, ...] = ("crc32c", "md5")

    def headers(self) -> dict[str, str | None]:
        """What is said of the object whatever part of it is asked for."""
        sums = {
            "crc32c": google_crc32c.value(self.data).to_bytes(4, "big"),
            "md5": hashlib.md5(self.data, usedforsecurity=False).digest(),
        }
        told = [f"{name}={base64.b64encode(sums[name]).decode()}" for name in self.hashes]
        return {
            "ETag": self.etag,
            "Last-Modified": self.modified,
            "x-goog-hash": ",".join(told) or None,
        }

    def part(self, start: int, stop: int, **headers: str | None) -> Reply:
        """A 206 with these bytes; ``headers`` in place of the right ones, None for none."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        size = len(self.data)
        yield head(
            206,
            {
                "Content-Range": f"bytes {start}-{stop - 1}/{size}",
                "Content-Length": str(stop - start),
                **self.headers(),
                **named,
            },
        )
        yield memoryview(self.data)[start:stop]

    def whole(self, **headers: str | None) -> Reply:
        """A 200 with all of it."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        yield head(200, {"Content-Length": str(len(self.data)), **self.headers(), **named})
        yield self.data

    def span(self, asked: Asked) -> tuple[int, int] | None:
        """First byte and the one behind the last that is asked for; None for the whole."""
        found = re.fullmatch(r"(\d*)-(\d*)", asked.range)
        validator = asked.headers.get("if-range")
        if found is None or validator not in {None, self.etag, self.modified}:
            return None
        first, last = found.groups()
        if not first:
            return max(0, len(self.data) - int(last)), len(self.data)
        if last and int(last) < int(first):
            return None
        return int(first), min(int(last) + 1 if last else len(self.data), len(self.data))

    def answer(self, asked: Asked) -> Reply:
        """As a right server answers."""
        span = self.span(asked)
        if span is None:
            return self.whole()
        if span[0] >= span[1]:
            return status(416, Content_Range=f"bytes */{len(self.data)}")
        return self.part(*span)

    def cut(self, asked: Asked, after: int) -> Reply:
        """The right answer up to so many bytes of its body, and then nothing."""
        begin, *pieces = self.answer(asked)
        return [begin, b"".join(pieces)[:after]]

    def damaged(self, asked: Asked, *at: int) -> Reply:
        """The right answer with these bytes of the object flipped, where it holds them."""
        start = (self.span(asked) or (0, 0))[0]
        begin, body = self.answer(asked)
        wrong = bytearray(body)
        for each in at:
            if 0 <= each - start < len(wrong):
                wrong[each - start] ^= 1
        return [begin, bytes(wrong)]


#: A reply for a request, or None for the right one.
Script = Callable[[Asked], "Reply | None"]


class Storage:
    """Serves one object to whoever asks, under any path; counts, and lies as the script says."""

    def __init__(self, content: bytes | Object = b"", script: Script | None = None) -> None:
        self.object = content if isinstance(content, Object) else Object(content)
        self.script = script
        self.asked: list[Asked] = []
        #: Set by a test: answers that wait for it hold up nobody at the end.
        self.over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._serve)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join()

    @property
    def address(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def url(self) -> str:
        """A signed address of the object."""
        return f"{self.address}/bundle/archive.zip?{SECRET}"

    @property
    def ranges(self) -> list[str]:
        """What was asked for, in order."""
        return [each.range for each in self.asked]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                piece = connection.recv(4096)
                if not piece:
                    return
                request += piece
            first, *lines = request.decode("latin-1").split("\r\n")
            named = (line.partition(": ") for line in lines if line)
            headers = {name.lower(): value for name, _, value in named}
            asked = Asked(len(self.asked) + 1, first.split()[1], headers)
            self.asked.append(asked)
            reply = self.script(asked) if self.script else None
            for part in self.object.answer(asked) if reply is None else reply:
                connection.sendall(part)


def each_in_turn(*replies: Callable[[Asked], Reply | None]) -> Script:
    """These for the first requests, and the right ones after that."""

    def script(asked: Asked) -> Reply | None:
        return replies[asked.number - 1](asked) if asked.number <= len(replies) else None

    return script


def never() -> str:
    """For a ``renew`` that must not be asked."""
    raise AssertionError("a new URL was asked for")


@contextlib.contextmanager
def remote(
    storage: Storage,
    *,
    renew: Callable[[], str] = never,
    stop: threading.Event | None = None,
    stall: float = 5.0,
    url: str = "",
    follow: Callable[[str, str], str] | None = None,
) -> Iterator[Remote]:
    """The object as a transfer reads it."""

    def checked(location: str, base: str) -> str:
        return check_location(location, base, storage.address, ())

    manners = Manners(follow or checked, stall=stall, retry_base=0.001, direct=True)
    made = Remote(url or storage.url, renew, manners, stop or threading.Event())
    with contextlib.closing(made):
        yield made


def everything(source: Remote) -> bytes:
    """From its position to its end."""
    found = bytearray()
    while piece := source.read():
        found += piece
    return bytes(found)


def told_of(thing: Object, reply: Reply) -> Reply:
    """Bytes of one object with the checksums of another."""
    begin, *rest = reply
    told = thing.headers()["x-goog-hash"]
    lines = bytes(begin).decode().split("\r\n")
    lines = [f"x-goog-hash: {told}" if each.startswith("x-goog") else each for each in lines]
    return ["\r\n".join(lines).encode(), *rest]


def garbage(_: Asked) -> Reply:
    return [b"\x16\x03\x01\x02\x00 no http at all\r\n\r\n"]


def nothing(_: Asked) -> Reply:
    return []
