"""What storage has sent, answer by answer, and how much of that was sent before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from kagglecrawl.replica import delivery

#: The first byte of an answer, and how many it has sent.
Answer = tuple[int, int]


class Sent:
    """The bytes of one object that a replica in this process has sent, for a ``with`` block.

    The object has to be a file on disk, and what goes wrong with it must not change its bytes.
    """

    def __init__(self) -> None:
        self._answers: list[list[int]] = []

    def answers(self) -> list[Answer]:
        """All so far. The last piece of an answer (up to 1 MiB) may be on its way yet."""
        return [(start, count) for start, count in self._answers]

    def total(self) -> int:
        """Bytes."""
        return sum(count for _, count in self._answers)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        original = delivery.send_file

        async def send_file(
            request: web.BaseRequest,
            head: web.StreamResponse,
            file: BinaryIO,
            start: int,
            meter: delivery.Meter,
        ) -> web.StreamResponse:
            answer = [start, 0]
            self._answers.append(answer)
            return await original(request, head, file, start, _Meter(meter, answer))

        delivery.send_file = send_file
        try:
            yield
        finally:
            delivery.send_file = original


class _Meter:
    def __init__(self, meter: delivery.Meter, answer: list[int]) -> None:
        self._meter = meter
        self._answer = answer

    def sent(self, count: int) -> None:
        self._answer[1] += count
        self._meter.sent(count)

    def complete(self) -> None:
        self._meter.complete()


class Spans:
    """Parts of an object, from a byte to one behind it; those that touch become one."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def add(self, start: int, stop: int) -> None:
        """One more."""
        apart = []
        for left, right in self._spans:
            if right < start or left > stop:
                apart.append((left, right))
            else:
                start, stop = min(start, left), max(stop, right)
        self._spans = [*apart, (start, stop)] if stop > start else apart

    def common(self, start: int, stop: int) -> int:
        """How many bytes of this part are in one of them."""
        return sum(max(0, min(stop, right) - max(start, left)) for left, right in self._spans)


def in_flight(port: int) -> int:
    """Bytes that a server of this port has sent, and that no client of this machine has read: they
    are in the queues of the two sockets. 0 where the system does not say (other than Linux)."""
    count = 0
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                fields = line.split()
                local, remote = (int(each.rpartition(":")[2], 16) for each in fields[1:3])
                unsent, unread = (int(each, 16) for each in fields[4].split(":"))
                established = fields[3] == "01"
                count += unsent if local == port and established else 0
                count += unread if remote == port and established else 0
    return count
