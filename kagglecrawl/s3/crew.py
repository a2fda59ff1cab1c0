"""Threads that send to the store: so many requests at once, and so many bytes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_Job = tuple[int, Callable[[], Any], "Future[Any]"]


class Crew:
    """Daemon threads, shared by all transfers of a crawl: nobody waits for one at the end.

    ``workers`` work at once; ``most_bytes`` is how much may wait or be under way together, which
    bounds the memory.
    """

    def __init__(self, workers: int, most_bytes: int) -> None:
        self._workers = max(1, workers)
        self._most = most_bytes
        self._under_way = 0
        self._room = threading.Condition()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started = 0
        #: Threads that wait for a job, and jobs that wait for a thread.
        self._idle = self._waiting = 0
        self._closed = False

    def submit(self, size: int, work: Callable[[], T]) -> Future[T]:
        """Have ``work`` done by a thread, once there is room for its ``size`` bytes.

        Something larger than all the room waits until nothing else is under way. The room is given
        back when the work ends, however it does. Raises ``RuntimeError`` when closed.
        """
        future: Future[T] = Future()
        with self._room:
            self._room.wait_for(lambda: self._closed or self._has_room(size))
            if self._closed:
                raise RuntimeError("the crew takes no more work")
            self._under_way += size
            self._jobs.put((size, work, future))
            self._waiting += 1
            if self._idle < self._waiting and self._started < self._workers:
                self._started += 1
                name = f"store-{self._started}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Take no more: who waits in ``submit`` gets its error, what waits for a thread is
        cancelled, and what is under way is left to end by itself."""
        with self._room:
            if self._closed:
                return
            self._closed = True
            self._room.notify_all()
        for _ in range(self._workers):
            self._jobs.put(None)

    def _has_room(self, size: int) -> bool:
        return self._under_way == 0 or self._under_way + size <= self._most

    def _work(self) -> None:
        while True:
            with self._room:
                self._idle += 1
            job = self._jobs.get()
            with self._room:
                self._idle -= 1
                self._waiting -= job is not None
            if job is None:
                return
            size, work, future = job
            del job
            if self._closed:
                future.cancel()
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del work, future  # with what they hold: bytes of a part
            with self._room:
                self._under_way -= size
                self._room.notify_all()
