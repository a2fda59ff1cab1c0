"""What a member's bytes come to: their size, CRC-32 and SHA-256."""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from concurrent.futures import Executor, Future

#: Pieces from this size on are handed to another thread, and no more than so many wait there.
_WORTH_HANDING_OVER = 1 << 17
_MOST_HANDED_OVER = 4


class Proof:
    """What a member's unpacked bytes come to; large pieces are summed up by a thread of ``pool``,
    while the next ones are unpacked."""

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        #: Bytes so far.
        self.size = 0
        self._crc32 = 0
        self._sha256 = hashlib.sha256()
        self._under_way: deque[Future[None]] = deque()

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self.size += len(data)
        if len(data) < _WORTH_HANDING_OVER:
            self._wait()
            self._add(data)
            return
        self._under_way.append(self._pool.submit(self._add, data))
        if len(self._under_way) > _MOST_HANDED_OVER:
            self._under_way.popleft().result()

    @property
    def crc32(self) -> int:
        """The CRC-32 of all of them."""
        self._wait()
        return self._crc32

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of all of them."""
        self._wait()
        return self._sha256.digest()

    def _add(self, data: bytes) -> None:
        self._crc32 = zlib.crc32(data, self._crc32)
        self._sha256.update(data)

    def _wait(self) -> None:
        while self._under_way:
            self._under_way.popleft().result()
