"""How fast the replica answers: small replies, as many as its one thread can give."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.processes import ReplicaProcess

#: Small replies a second of its CPU that the replica must reach, lest it be what is measured.
BAR = 2000
_CONNECTIONS = 8


@dataclass(frozen=True)
class Flood:
    """So many replies in wall-clock ``seconds``, for ``cpu`` seconds of the replica's."""

    replies: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Replies for a second of CPU, which is what one core gives in a second."""
        return self.replies / self.cpu


def flood(replica: ReplicaProcess, rounds: int) -> Flood:
    """Ask for the metadata of every dataset so often, after one round that is not counted.

    The first answer is made, later ones are kept, so this warms the replica for the others too.
    """
    queue = [_request(replica, ref) for ref in replica.refs]
    asyncio.run(_send(replica.url, queue))
    cpu, began = replica.cpu(), time.perf_counter()
    asyncio.run(_send(replica.url, queue * rounds))
    seconds = time.perf_counter() - began
    return Flood(len(queue) * rounds, seconds, replica.cpu() - cpu)


def _request(replica: ReplicaProcess, ref: str) -> bytes:
    owner, _, slug = ref.partition("/")
    body = json.dumps({"ownerSlug": owner, "datasetSlug": slug}).encode()
    url = urlsplit(replica.url)
    head = (
        f"POST {url.path}/v1/datasets.DatasetApiService/GetDatasetMetadata HTTP/1.1\r\n"
        f"Host: {url.netloc}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {replica.crawler_env['KAGGLE_API_TOKEN']}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _send(url: str, queue: list[bytes]) -> None:
    requests = iter(queue)
    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(_connection(url, requests))


async def _connection(url: str, requests: Iterator[bytes]) -> None:
    """Send what the others have left, one at a time."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        for request in requests:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
    finally:
        writer.close()
        await writer.wait_closed()
