"""Between a transfer's thread and the reactor's, which alone may ask Kaggle and use the job."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from kagglecrawl.transfer.disk import unwritable
from kagglecrawl.transfer.source import Stopped

T = TypeVar("T")


class Renewal:
    """Asks for a new address from a transfer's thread, in the reactor's."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, renew: Callable[[], Awaitable[str]]
    ) -> None:
        self._loop = loop
        self._renew = renew
        self._task: asyncio.Task[Any] | None = None
        self._over = False

    def __call__(self) -> str:
        """The new address; raises ``Stopped`` when nobody waits for it."""
        try:
            return wait_for(self._loop, self._renewed)
        except CancelledError:
            raise Stopped from None

    async def _renewed(self) -> str:
        if self._over:
            raise Stopped
        self._task = asyncio.current_task()
        return await self._renew()

    def cancel(self) -> None:
        """In the reactor's thread: nobody waits for it any more."""
        self._over = True
        if self._task is not None:
            self._task.cancel()


class Ask:
    """Runs something in the reactor's thread, for another one, and waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __call__(self, what: Callable[[], T], /) -> T:
        """What it returns, or raises."""

        async def asked() -> T:
            return what()

        return wait_for(self._loop, asked)


def wait_for(loop: asyncio.AbstractEventLoop, what: Callable[[], Awaitable[T]]) -> T:
    """Run something in the reactor's loop, from a thread, and wait for it."""

    async def awaited() -> T:
        return await what()

    if loop.is_closed():
        raise Stopped
    return asyncio.run_coroutine_threadsafe(awaited(), loop).result()


def begin(run: Callable[[], None], name: str) -> asyncio.Future[None]:
    """Run something in a thread of its own; how it ended. Nobody waits for it when the process
    ends."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    # seen, whoever waits for it: else asyncio would tell of it as of a fault
    ended.add_done_callback(lambda future: future.cancelled() or future.exception())
    threading.Thread(target=_to_its_end, args=(run, loop, ended), name=name, daemon=True).start()
    return ended


def _to_its_end(
    run: Callable[[], None], loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]
) -> None:
    error: BaseException | None = None
    try:
        run()
    except OSError as failure:
        error = unwritable(failure)
    except BaseException as failure:
        error = failure

    def end() -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(end)
