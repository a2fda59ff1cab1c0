"""``KAGGLE_TRANSPORT=official``: everything through the unmodified ``kaggle`` and ``kagglehub``.

The packages run in child processes (see worker.py for what is said between them and us), because
their calls have no time-out and their threads cannot be stopped (verified: kagglesdk 0.1.37,
kagglehub 1.0.2), while a process can. Calls share one child. A download has one of its own, which
is killed to stop it.

An answer arrives as if Scrapy's downloader had brought it, with these differences, all
kagglesdk's: replies went through its classes, so that fields it does not know are gone; redirects
were followed; a reply that is no JSON at all comes with status 200.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
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
    Unusable,
)
from kagglecrawl.kaggle.refs import DatasetRef
from kagglecrawl.transport.child import Child, Message, Package

#: The call by which the ``kaggle`` package signs in with a token.
SIGN_IN = "IntrospectToken"
#: Calls that timed out but are still at it in the child, after which it is replaced.
MOST_STUCK = 8
#: Children that were ended by others, one after the other with no answer, before we give up.
MOST_DEATHS = 2
#: Seconds between two looks at what a download has on the disk.
_LOOK_EVERY = 1.0

_NO_REPLY: dict[str, type[Exception]] = {
    "timeout": DownloadTimeoutError,
    "refused": DownloadConnectionRefusedError,
    "unknown_host": CannotResolveHostError,
    "cut": ResponseDataLossError,
    "damaged": ResponseDataLossError,
    "broken": DownloadFailedError,
    "ended": DownloadFailedError,
}


def check_official(api_url: str) -> None:
    """Raise ``SettingError`` if the ``kaggle`` package cannot be brought to call this address."""
    _address(api_url)


def _address(api_url: str) -> dict[str, str]:
    """``address_of``, but raises ``SettingError`` where that is None."""
    if sys.platform == "win32":
        raise SettingError(
            "KAGGLE_TRANSPORT=official does not work on Windows: use KAGGLE_TRANSPORT=scrapy"
        )
    address = address_of(api_url)
    if address is None:
        raise SettingError(
            f"KAGGLE_TRANSPORT=official cannot call KAGGLE_API_URL={api_url}: the kaggle package "
            "reaches https://api.kaggle.com and http://127.0.0.1:PORT/api alone, "
            "so use one of these, or KAGGLE_TRANSPORT=scrapy"
        )
    return address


def address_of(api_url: str) -> dict[str, str] | None:
    """The environment that sends ``kaggle`` or ``kagglehub`` to this address; None if they cannot
    be brought to call it.

    They call https://api.kaggle.com, or with ``KAGGLE_API_ENVIRONMENT=LOCALHOST``
    http://localhost/api, and look at no other environment's name (verified: kaggle 2.2.4). Any
    port of this machine is reached by naming it as the proxy for that: every HTTP/1.1 server
    takes a request line with a whole address (RFC 9112, 3.2.2).
    """
    if api_url == "https://api.kaggle.com":
        return {}
    parts = urlsplit(api_url)
    if parts.scheme != "http" or parts.path != "/api" or not is_loopback(api_url):
        return None
    local = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST"}
    if parts.netloc == "localhost":
        # not through whatever proxy there is: the token would leave this machine in clear
        return local | {"NO_PROXY": "localhost", "no_proxy": "localhost"}
    proxy = f"http://{parts.netloc}"
    return local | {"HTTP_PROXY": proxy, "http_proxy": proxy, "NO_PROXY": "", "no_proxy": ""}


def environment_of(package: Package, address: dict[str, str]) -> dict[str, str]:
    """That of a child process: this one's, and such that the package does what we want alone."""
    environment = dict(os.environ)
    # With VERBOSE kaggle prints every request with its Authorization header; kagglehub would write
    # a log into the home folder.
    for name in ("VERBOSE", "VERBOSE_OUTPUT", "KAGGLE_API_ENVIRONMENT", "KAGGLE_LOGGING_ENABLED"):
        environment.pop(name, None)
    folder = config_dir(os.environ)
    if package == "kagglehub":
        environment["KAGGLE_CONFIG_DIR"] = str(folder)  # it does not look into XDG's by itself
        # In a notebook of Kaggle's or Google's it would mount files in place of fetching them.
        environment |= {"DISABLE_KAGGLE_CACHE": "true", "DISABLE_COLAB_CACHE": "true"}
    elif not folder.exists():
        # It would create the folder; any that exists and has no kaggle.json means the same.
        environment["KAGGLE_CONFIG_DIR"] = sys.prefix
    # The child must find this package where we did: below the project, or in a deployed egg.
    places = [str(Path(kagglecrawl.__file__).parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, places))
    return environment | address


class OfficialTransport:
    """Sends API calls through the official client, and downloads through the official library.

    A download in which for ``stall_timeout`` seconds nothing changes on the disk is given up;
    kagglehub writes a MiB at a time, so that is one of less than a MiB in this time.
    Raises ``SettingError`` if the packages cannot be brought to call this address.
    """

    def __init__(
        self, api_url: str, credentials: Credentials, *, stall_timeout: float = 60.0
    ) -> None:
        self._api_url = api_url
        self._address = _address(api_url)
        self._credentials = credentials
        self._stall_timeout = stall_timeout
        self._child: Child | None = None
        self._downloading: set[Child] = set()
        self._idle: list[Child] = []
        self._unpackable: set[str] = set()
        self._starting = asyncio.Lock()
        self._deaths = 0
        self._closed = False

    async def signs_in(self, about_to: Callable[[], None]) -> bool:
        """Be ready for calls. True if the package had to sign in for that, which is a request of
        its own (``SIGN_IN``): ``about_to`` is called just before, and what that raises is raised
        here. For a token that Kaggle refuses it sends two.

        Raises as ``send`` does where no child can be had.
        """
        signed_in = False

        def sign_in() -> None:
            nonlocal signed_in
            if self._credentials.authorization.startswith("Bearer "):  # others it only looks at
                about_to()
                signed_in = True

        await self._running(sign_in)
        return signed_in

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
        return _response(request.url, answer)

    async def download(
        self,
        ref: str,
        version: int | None,
        into: Path,
        scratch: Path,
        told: Callable[[int], None] | None = None,
    ) -> Response | None:
        """Put the files of a dataset (``owner/slug``; the newest version if None) into a folder.

        ``into`` is empty or not there yet, and gets the whole tree at once, and nothing else. All
        that kagglehub writes meanwhile (the archive, then the files beside it, so twice the size)
        is in ``scratch``, a folder of this download alone on the same disk. ``told`` is called
        about once a second with the bytes in there (fewer again once the archive is unpacked and
        removed), and at the end with those of the tree; what it raises ends the download, and is
        raised here.

        Returns None when the files are there, or the answer of Kaggle's API when that is another
        one; then scratch is gone. Raises Scrapy's download exceptions when no whole answer came
        (``ResponseDataLossError`` for wrong bytes), ``Unusable`` for what cannot be unpacked,
        ``OSError`` with its number when the files cannot be written, ``ValueError`` for a ref
        that is none, and as ``send`` does. Whatever is raised, the child is gone or has nothing
        to do any more, and the caller removes both folders.
        """
        handle = str(DatasetRef.parse(ref)) + (f"/versions/{version}" if version else "")
        message = {
            "op": "download",
            "handle": handle,
            "into": str(into),
            "scratch": str(scratch),
            "look_every": min(_LOOK_EVERY, self._stall_timeout / 20),
        }
        child = await self._idle_child()
        answer: Message | None = None
        try:
            await child.wait_until_ready()
            answer = await child.ask(message, self._stall_timeout, told)
        except TimeoutError:
            raise DownloadTimeoutError(
                f"{ref}: nothing has come in {self._stall_timeout:g} s"
            ) from None
        finally:
            if answer is None:  # given up, cancelled: it cannot be stopped in another way
                await child.kill()
            if child.gone:
                self._downloading.discard(child)
            else:
                self._idle.append(child)
        if "error" in answer:
            raise self._failure(handle, answer, into)
        self._unpackable.discard(handle)
        if "status" not in answer:
            return None
        return _response(f"{self._api_url}/v1/{rpc.DOWNLOAD_DATASET.name}", answer)

    async def close(self) -> None:
        """End all child processes, within about two seconds; nothing of them is left."""
        self._closed = True
        async with self._starting:  # one may be on its way
            children = [child.kill() for child in self._downloading]
            if self._child is not None:
                children.append(self._child.close())
            await asyncio.gather(*children)

    async def _idle_child(self) -> Child:
        """A child for a download: one that has nothing to do, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if not child.gone:
                return child
            self._downloading.discard(child)
        async with self._starting:
            self._check_open()
            child = await Child.start("kagglehub", environment_of("kagglehub", self._address))
            self._downloading.add(child)
        return child

    def _check_open(self) -> None:
        if self._closed:
            raise DownloadCancelledError("the crawl is ending")

    async def _running(self, about_to_start: Callable[[], None] = lambda: None) -> Child:
        """A child that is ready; a new one if there is none, or no longer."""
        seen = self._child
        if seen is None or seen.gone:
            async with self._starting:
                self._check_open()
                if self._child is seen:  # else another call has started one while we waited
                    about_to_start()
                    self._child = await self._start_after(seen)
        assert self._child is not None
        child = self._child
        await child.wait_until_ready()
        return child

    async def _start_after(self, last: Child | None) -> Child:
        if last is not None:
            if not last.killed and self._deaths < MOST_DEATHS:
                self._deaths += 1
            if self._deaths >= MOST_DEATHS:
                raise Misconfigured(
                    f"the official client ended {self._deaths} times without an answer, lastly "
                    f"{last.last_words}: see what ends it, or use KAGGLE_TRANSPORT=scrapy"
                )
            await last.kill()
        return await Child.start("kaggle", environment_of("kaggle", self._address))

    def _exception(self, call: rpc.Rpc, error: str, text: str) -> Exception:
        if error in _NO_REPLY:
            return _NO_REPLY[error](f"{call.name}: {text}")
        if error == "too_large":
            return Unusable(f"{call.name}: {text}", error)
        if error == "unreadable":
            return Refused(
                f"{call.name}: the kaggle package cannot read the answer ({text}). "
                "Use KAGGLE_TRANSPORT=scrapy for it"
            )
        return self._nobody()

    def _failure(self, handle: str, answer: Message, into: Path) -> Exception:
        error, text = answer["error"], answer["text"]
        if error in _NO_REPLY:
            return _NO_REPLY[error](f"{handle}: {text}")
        if error == "disk":
            return OSError(answer["errno"], text, str(into))
        if error == "archive" and handle not in self._unpackable:
            # Storage may give no checksum that kagglehub knows, so it may be the way that is bad.
            self._unpackable.add(handle)
            return ResponseDataLossError(f"{handle}: kagglehub cannot unpack it ({text})")
        what = "unpack it" if error == "archive" else "read an answer"
        return Unusable(
            f"{handle}: kagglehub cannot {what} ({text}). Use KAGGLE_TRANSPORT=scrapy for it",
            error,
        )

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


def _response(url: str, answer: Message) -> Response:
    if "base64" in answer:
        return Response(url, body=base64.b64decode(answer["base64"]))
    return TextResponse(
        url,
        status=answer["status"],
        headers=answer["headers"],
        body=answer["body"].encode(),
        encoding="utf-8",
    )
