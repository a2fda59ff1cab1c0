"""``KAGGLE_TRANSPORT=official``: API calls through the unmodified ``kaggle`` package.

The package runs in one child process (see worker.py for what is said between the two), because
its calls have no time-out and its threads cannot be stopped (verified: kagglesdk 0.1.37), while a
process can. An answer arrives as if Scrapy's downloader had brought it, with these differences,
all kagglesdk's: replies went through its classes, so that fields it does not know are gone;
redirects were followed; a reply that is no JSON at all comes with status 200.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scrapy import Request
from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    ResponseDataLossError,
)
from scrapy.http import Response, TextResponse
from scrapy.settings.default_settings import DOWNLOAD_TIMEOUT

import kagglecrawl
from kagglecrawl.config import SettingError
from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.auth import Credentials, config_dir, is_loopback
from kagglecrawl.kaggle.errors import (
    CredentialsNeeded,
    CredentialsRefused,
    KaggleError,
    Misconfigured,
    Refused,
)

#: Seconds for Python to start and import the package, which signs in over the network meanwhile.
START_TIMEOUT = 30.0
#: Calls that timed out but are still at it in the child, after which it is replaced.
MOST_STUCK = 8
#: Children that were ended by others, one after the other with no answer, before we give up.
MOST_DEATHS = 2
_CLOSE_TIMEOUT = 2.0
_LAST_WORDS = 2000

_NO_REPLY: dict[str, type[Exception]] = {
    "timeout": DownloadTimeoutError,
    "refused": DownloadConnectionRefusedError,
    "unknown_host": CannotResolveHostError,
    "cut": ResponseDataLossError,
    "broken": DownloadFailedError,
    "ended": DownloadFailedError,
}

Message = dict[str, Any]


def check_official(api_url: str) -> None:
    """Raise ``SettingError`` if the ``kaggle`` package cannot be brought to call this address."""
    _address(api_url)


def _address(api_url: str) -> dict[str, str]:
    """The environment that sends the ``kaggle`` package to this address.

    It calls https://api.kaggle.com, or with ``KAGGLE_API_ENVIRONMENT=LOCALHOST``
    http://localhost/api, and looks at no other environment's name (verified: kaggle 2.2.4). Any
    port of this machine is reached by naming it as the proxy for that: every HTTP/1.1 server
    takes a request line with a whole address (RFC 9112, 3.2.2).
    """
    if sys.platform == "win32":
        raise SettingError(
            "KAGGLE_TRANSPORT=official does not work on Windows: use KAGGLE_TRANSPORT=scrapy"
        )
    if api_url == "https://api.kaggle.com":
        return {}
    parts = urlsplit(api_url)
    if parts.scheme != "http" or parts.path != "/api" or not is_loopback(api_url):
        raise SettingError(
            f"KAGGLE_TRANSPORT=official cannot call KAGGLE_API_URL={api_url}: the kaggle package "
            "reaches https://api.kaggle.com and http://127.0.0.1:PORT/api alone, "
            "so use one of these, or KAGGLE_TRANSPORT=scrapy"
        )
    local = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    if parts.netloc == "localhost":
        # not through whatever proxy there is: the token would leave this machine in clear
        return local | {"NO_PROXY": "localhost", "no_proxy": "localhost"}
    proxy = f"http://{parts.netloc}"
    return local | {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}


def _environment(address: dict[str, str]) -> dict[str, str]:
    environment = dict(os.environ)
    # The package would print every request with its Authorization header.
    for name in ("VERBOSE", "VERBOSE_OUTPUT", "KAGGLE_API_ENVIRONMENT"):
        environment.pop(name, None)
    if not config_dir(os.environ).exists():
        # It would create the folder; any that exists and has no kaggle.json means the same.
        environment["KAGGLE_CONFIG_DIR"] = sys.prefix
    # The child must find this package where we did: below the project, or in a deployed egg.
    places = [str(Path(kagglecrawl.__file__).parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return environment | address


class OfficialTransport:
    """Sends API calls through the official client. Raises ``SettingError`` if it cannot."""

    def __init__(self, api_url: str, credentials: Credentials) -> None:
        self._address = _address(api_url)
        self._credentials = credentials
        self._child: _Child | None = None
        self._starting = asyncio.Lock()
        self._deaths = 0
        self._closed = False

    async def send(self, request: Request) -> Response:
        """Send one call, and return its answer whatever its status.

        ``request.meta["rpc"]`` names it; ``download_timeout`` is in seconds, counted from the
        moment when a child is ready for it. Raises Scrapy's download exceptions when no whole
        answer came, and ours when the package does not accept the credentials, cannot read the
        answer, or cannot be run.
        """
        call = rpc.TABLE[request.meta["rpc"]]
        seconds = float(request.meta.get("download_timeout", DOWNLOAD_TIMEOUT))
        child = await self._running()
        started = time.monotonic()
        try:
            answer = await child.ask(
                {
                    "op": "call",
                    "service": call.service,
                    "method": call.method,
                    "body": json.loads(request.body),
                },
                seconds,
            )
        except TimeoutError:
            if child.stuck >= MOST_STUCK:
                await child.kill()
            raise DownloadTimeoutError(f"{call.name}: no answer in {seconds:g} s") from None
        if answer.get("error") != "ended":
            self._deaths = 0
        if "error" in answer:
            raise self._exception(call, answer["error"], answer["text"])
        request.meta["download_latency"] = time.monotonic() - started
        return TextResponse(
            request.url,
            status=answer["status"],
            headers=answer["headers"],
            body=answer["body"].encode(),
            encoding="utf-8",
        )

    async def close(self) -> None:
        """End the child process, within about two seconds; nothing of it is left."""
        self._closed = True
        if self._child is not None:
            await self._child.close()
        async with self._starting:  # one may have been on its way
            if self._child is not None:
                await self._child.close()

    async def _running(self) -> _Child:
        """A child that is ready; a new one if there is none, or no longer."""
        seen = self._child
        if seen is None or seen.gone:
            async with self._starting:
                if self._closed:
                    raise DownloadCancelledError("the crawl is ending")
                if self._child is seen:  # else another call has started one while we waited
                    self._child = await self._start_after(seen)
        assert self._child is not None
        child = self._child
        await child.wait_until_ready()
        return child

    async def _start_after(self, last: _Child | None) -> _Child:
        if last is not None:
            if not last.killed and self._deaths < MOST_DEATHS:
                self._deaths += 1
            if self._deaths >= MOST_DEATHS:
                raise Misconfigured(
                    f"the official client ended {self._deaths} times without an answer, lastly "
                    f"{last.last_words}: see what ends it, or use KAGGLE_TRANSPORT=scrapy"
                )
            await last.kill()
        return await _Child.start(_environment(self._address))

    def _exception(self, call: rpc.Rpc, error: str, text: str) -> Exception:
        if error in _NO_REPLY:
            return _NO_REPLY[error](f"{call.name}: {text}")
        if error == "unreadable":
            return Refused(
                f"{call.name}: the kaggle package cannot read the answer ({text}). "
                "Use KAGGLE_TRANSPORT=scrapy for it"
            )
        return self._nobody()

    def _nobody(self) -> KaggleError:
        step = (
            "create a token on kaggle.com/settings and set KAGGLE_API_TOKEN, "
            "or use KAGGLE_TRANSPORT=scrapy"
        )
        if self._credentials.anonymous:
            return CredentialsNeeded(f"KAGGLE_TRANSPORT=official needs credentials: {step}")
        return CredentialsRefused(
            "KAGGLE_TRANSPORT=official: the kaggle package does not accept the credentials from "
            f"{self._credentials.source}: {step}"
        )


class _Child(asyncio.SubprocessProtocol):
    """One child process, and the calls that wait for it."""

    _transport: asyncio.SubprocessTransport

    def __init__(self) -> None:
        self.killed = False
        self._pending: dict[int, asyncio.Future[Message]] = {}
        self._given_up: set[int] = set()
        self._ids = count(1)
        self._decided = asyncio.Event()  # whether it is ready, or never will be
        self._ended = asyncio.Event()
        self._unread = b""
        self._errors = b""

    @classmethod
    async def start(cls, environment: Mapping[str, str]) -> _Child:
        """Start one. Raises ``Misconfigured`` if the system refuses."""
        try:
            _, child = await asyncio.get_running_loop().subprocess_exec(
                cls,
                sys.executable,
                "-P",  # nothing of the folder that the crawl runs in is imported
                "-m",
                "kagglecrawl.transport.worker",
                env=environment,
                process_group=0,  # no Ctrl-C, not even before it can say that it wants none
            )
        except OSError as error:
            raise Misconfigured(f"the official client cannot be started: {error}") from None
        return child

    @property
    def gone(self) -> bool:
        """True when it takes no more calls."""
        return self.killed or self._ended.is_set()

    @property
    def stuck(self) -> int:
        """How many calls that nobody waits for any more it is still at."""
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
            raise Misconfigured(
                f"{text}: check that `kaggle --version` runs, or use KAGGLE_TRANSPORT=scrapy"
            )
        raise DownloadFailedError(text)

    async def ask(self, message: Message, seconds: float) -> Message:
        """Send a message and wait for its answer; raises ``TimeoutError``.

        ``{"error": "ended", …}`` is the answer of a child that ends before it has given one.
        """
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._pending[number] = answer
        self._stdin.write(json.dumps({"id": number, **message}).encode() + b"\n")
        try:
            async with asyncio.timeout(seconds):
                return await answer
        finally:
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
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
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
