"""A store of pages that does what a test says."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from kagglecrawl.kaggle.errors import StopCrawl


class Refused(StopCrawl):
    """The store lets nobody in."""

    reason = "s3_refused"


class FarPages:
    """The pages, and what is raised instead of keeping them."""

    aside = True

    def __init__(self) -> None:
        self.kept: dict[int, bytes] = {}
        #: What is raised, one for each put, and by the look.
        self.raises: list[Exception | None] = []
        self.look_raises: list[Exception | None] = []
        self.tried: list[int] = []
        self.looks = self.under_way = self.most = 0
        self.closed = False
        #: Puts wait for it.
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def write(self, number: int, pieces: Iterable[bytes]) -> None:
        with self._lock:
            self.tried.append(number)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            error = self.raises.pop(0) if self.raises else None
        content = b"".join(pieces)
        self.gate.wait(10)
        with self._lock:
            self.under_way -= 1
            if error is not None:
                raise error
            self.kept[number] = content

    def present(self) -> set[int]:
        self.looks += 1
        assert not self.under_way
        if self.look_raises and (error := self.look_raises.pop(0)) is not None:
            raise error
        return set(self.kept)

    def size(self, number: int) -> int:
        return len(self.kept.get(number, b""))

    def close(self) -> None:
        self.closed = True
