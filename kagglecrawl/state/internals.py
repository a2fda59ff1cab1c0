"""The private parts of Scrapy that this project uses, all of them, in one place.

``tests/test_internals.py`` fails loudly when a release of Scrapy changes one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from scrapy import Request, Spider
from scrapy.core.engine import ExecutionEngine


def wake(engine: ExecutionEngine) -> None:
    """Make the engine ask the scheduler for requests now.

    A scheduler that returned None is otherwise asked again at the engine's heartbeat, every 5
    seconds, or when another request ends.
    """
    if engine._slot is not None:
        engine._slot.nextcall.schedule()


def watch(
    engine: ExecutionEngine, ended: Callable[[Request], None], closing: Callable[[], None]
) -> None:
    """Be told when a request is over, its callback and its items' pipelines included, and when the
    spider begins to close. Called when the scheduler is opened.

    Scrapy has no signal for either. The engine calls ``remove_request`` once for each request that
    it took from the scheduler, and ``close`` before it waits for those under way.
    """
    slot = engine._slot
    assert slot is not None
    remove, close = slot.remove_request, slot.close

    def remove_request(request: Request) -> None:
        try:
            ended(request)
        finally:  # or the engine would wait for it for ever
            remove(request)

    async def close_slot() -> None:
        closing()
        await close()

    slot.remove_request = remove_request  # type: ignore[method-assign]
    slot.close = close_slot  # type: ignore[method-assign]


def fail_queued(engine: ExecutionEngine, error: Callable[[], Exception]) -> None:
    """Let the requests that wait in the downloader for their turn fail, unsent.

    Scrapy would send them when the spider closes, each after its delay, and wait for the answers.
    """
    for slot in engine.downloader.slots.values():
        while slot.queue:
            _, waiting = slot.queue.popleft()
            waiting.errback(error())


def default_callback(spider: Spider) -> Callable[..., Any]:
    """What a request without a callback calls."""
    return spider._parse


def stop_reactor() -> None:
    """End the process as a second Ctrl-C does, if it is not ending already."""
    from twisted.internet import reactor

    with contextlib.suppress(RuntimeError):  # not running
        reactor.stop()  # type: ignore[misc]
