"""A child process that runs one of Kaggle's packages (worker.py), seen from the crawl."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Literal

from scrapy.exceptions import DownloadFailedError, DownloadTimeoutError

from kagglecrawl.kaggle.errors import Misconfigured

#: Seconds for Python to start and import the package; ``kaggle`` signs in over the network
#: meanwhile.
START_TIMEOUT = 30.0
_CLOSE_TIMEOUT = 2.0
_LAST_WORDS = 2000

Message = dict[str, Any]
Package = Literal["kaggle", "kagglehub"]

_INSTEAD = "use KAGGLE_TRANSPORT=scrapy"
#: How a user sees whether a package runs.
_CHECKS: dict[Package, str] = {
    "kaggle": "`kaggle --version` runs",
    "kagglehub": "`python -c 'import kagglehub'` runs",
}


class Child(asyncio.SubprocessProtocol):
    """One child process, and the answers that are awaited from it."""

    _transport: asyncio.SubprocessTransport

    def __init__(self, package: Package, instead: str = _INSTEAD) -> None:
        self.killed = False
        self._package: Package = package
        self._instead = instead
        self._pending: dict[int, asyncio.Future[Message]] = {}
        self._listeners: dict[int, Callable[[Message], None]] = {}
        self._given_up: set[int] = set()
        self._ids = count(1)
        self._decided = asyncio.Event()  # whether it is ready, or never will be
        self._ended = asyncio.Event()
        self._unread = b""
        self._errors = b""

    @classmethod
    async def start(
        cls, package: Package, environment: Mapping[str, str], instead: str = _INSTEAD
    ) -> Child:
        """Start one for this package. ``instead`` is what a user can do where it does not run.
        Raises ``Misconfigured`` if the system refuses."""
        try:
            _, child = await asyncio.get_running_loop().subprocess_exec(
                lambda: cls(package, instead),
                sys.executable,
                "-P",  # nothing of the folder that the crawl runs in is imported
                "-m",
                "kagglecrawl.transport.worker",
                package,
                env=environment,
                process_group=0,  # no Ctrl-C, not even before it can say that it wants none
            )
        except OSError as error:
            raise Misconfigured(f"the official client cannot be started: {error}") from None
        return child

    @property
    def gone(self) -> bool:
        """True when it takes no more messages."""
        return self.killed or self._ended.is_set()

    @property
    def stuck(self) -> int:
        """How many messages that nobody waits for any more it is still at."""
        return len(self._given_up)

    @property
    def last_words(self) -> str:
        """How it ended, with the last line of its stderr if it failed."""
        status = self._transport.get_returncode() or 0
        if status < 0:
            return f"by {signal.Signals(-status).name}"
        lines = self._errors.decode(errors="replace").split("\n")
        return f"with status {status} ({next(filter(None, reversed(lines)), 'and no message')})"

    async def wait_until_ready(self) -> None:
        """Return when it is.

        Raises ``DownloadTimeoutError``, ``Misconfigured`` if Python or the package does not run,
        and ``DownloadFailedError`` if something else has ended it.
        """
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._decided.wait()
        except TimeoutError:
            await self.kill()
            raise DownloadTimeoutError(
                f"the official client was not ready in {START_TIMEOUT:g} s"
            ) from None
        if not self.gone:
            return
        text = f"the official client ended {self.last_words}"
        if (self._transport.get_returncode() or 0) > 0:
            check = _CHECKS[self._package]
            raise Misconfigured(f"{text}: check that {check}, or {self._instead}")
        raise DownloadFailedError(text)

    async def ask(
        self,
        message: Message,
        seconds: float,
        told: Callable[[int], None] | None = None,
        sending: Callable[[str], None] | None = None,
    ) -> Message:
        """Send a message and wait for its answer; raises ``TimeoutError`` after so many seconds
        without a word. Words before the answer are numbers, which ``told`` is called with, and
        names of calls of the API that go out, for ``sending``; what they raise is raised here.

        ``{"error": "ended", …}`` is the answer of a child that ends before it has given one.
        """
        number = next(self._ids)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Message] = loop.create_future()
        self._pending[number] = answer
        self._stdin.write(json.dumps({"id": number, **message}).encode() + b"\n")
        try:
            async with asyncio.timeout(seconds) as limit:

                def listen(word: Message) -> None:
                    if answer.done():  # as it is when the time is over
                        return
                    limit.reschedule(loop.time() + seconds)
                    try:
                        if told is not None and "so_far" in word:
                            told(word["so_far"])
                        if sending is not None and "sending" in word:
                            sending(word["sending"])
                    except Exception as error:
                        answer.set_exception(error)

                self._listeners[number] = listen
                return await answer
        finally:
            self._listeners.pop(number, None)
            if self._pending.pop(number, None) is not None:
                self._given_up.add(number)

    async def kill(self) -> None:
        """End it at once; returns when it has ended."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()
        await self._ended.wait()

    async def close(self) -> None:
        """End it by the end of its input, and if it does not see that, kill it."""
        self.killed = True
        self._stdin.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._ended.wait()
        except TimeoutError:
            await self.kill()

    @property
    def _stdin(self) -> asyncio.WriteTransport:
        pipe = self._transport.get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)
        return pipe

    # -- what asyncio calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has been started."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It has written something."""
        if fd == 2:
            self._errors = (self._errors + data)[-_LAST_WORDS:]
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._received(json.loads(line))

    def _received(self, message: Message) -> None:
        number = message.get("id")
        if number is None:
            self._decided.set()
            return
        if "so_far" in message or "sending" in message:
            if (listen := self._listeners.get(number)) is not None:
                listen(message)
            return
        waiting = self._pending.pop(number, None)
        if waiting is None:
            self._given_up.discard(number)
        elif not waiting.done():
            waiting.set_result(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """The process has ended and all that it wrote has been read."""
        self._transport.close()
        self._ended.set()
        self._decided.set()
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            if not waiting.done():
                text = f"the official client ended {self.last_words}"
                waiting.set_result({"error": "ended", "text": text})
