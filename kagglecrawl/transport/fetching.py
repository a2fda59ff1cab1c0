"""One replay, fetched in a thread of its own: from the site, from its content network, from the
official API, or from where these redirect to."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import NoReturn
from urllib.parse import urlsplit

import requests
from requests.exceptions import RequestException
from requests.utils import get_environ_proxies
from scrapy import Request
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.exceptions import HTTPError as TransportError

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.auth import is_loopback
from kagglecrawl.kaggle.errors import (
    Away,
    Damaged,
    NoReply,
    Refused,
    ServerFailed,
    Unusable,
    parse_retry_after,
)
from kagglecrawl.kaggle.replays import ReplayFacts
from kagglecrawl.kaggle.rpc import TABLE
from kagglecrawl.transfer.hosts import check_location
from kagglecrawl.transfer.session import StorageSession
from kagglecrawl.transfer.source import Stopped
from kagglecrawl.transport.packing import PAGE, PIECE, Gunzip, Packing

#: Bytes a second that a stalled connection does not reach.
_SLOWEST = 1024
_CONNECT_TIMEOUT = 20.0
_MOST_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}
_PASSES = {408, 429, *range(500, 600)}
#: Headers of the first request alone.
_OF_THE_FIRST = {"Authorization", "Content-Type"}
#: What a connection raises that breaks.
_BROKEN = (RequestException, TransportError, OSError)
#: Headers of an answer that say what it means.
TOLD = ("Content-Type", "Date", "Location", "Retry-After")


class Fetch:
    """One replay, fetched by a thread; times are in seconds."""

    def __init__(
        self, request: Request, headers: dict[str, str], config: KaggleConfig, packing: Packing
    ) -> None:
        call = TABLE[request.meta["rpc"]]
        self._request, self._headers = request, headers
        self._name, self._of_api = call.method, call.where == "api"
        self._config = config
        self._hosts = {*config.storage_hosts, _host(config.web_url), _host(config.content_url)}
        self._packing = packing
        self._session = StorageSession()
        self._response: requests.Response | None = None
        self._stop = threading.Event()
        self._url = request.url
        #: Bytes over the wire.
        self.received = 0
        #: Until the first answer began; None as long as there is none.
        self.latency: float | None = None
        self.status = 0
        #: Of its headers, those that say what it means.
        self.told: dict[str, str] = {}
        #: Of the replay; None where something else came.
        self.facts: ReplayFacts | None = None

    def interrupt(self) -> None:
        """From another thread: nobody waits for it any more."""
        self._stop.set()
        response = self._response
        if response is not None:
            with contextlib.suppress(ValueError, RuntimeError, OSError):  # it has just ended
                response.raw.shutdown()

    def run(self) -> None:
        """Have it, or another answer. Raises ``KaggleError`` or ``Stopped``; no text holds a
        URL."""
        try:
            self._take(self._open())
            return
        except _BROKEN as error:
            away, late = _nobody_there(error), _is_late(error)
        finally:
            if self.facts is None:
                self._packing.drop()
            if self._response is not None:
                self._response.close()
            self._session.close()
        # Here, and not above: the other error quotes the URL, and would hang on to this one.
        self._check_stop()
        if away:
            kind = Away if self._url == self._request.url else NoReply
            raise kind(f"{self._name}: {_shown(self._url)} cannot be reached")
        word = "no whole answer in time" if late else "the connection broke"
        raise NoReply(f"{self._name}: {word}")

    def _open(self) -> requests.Response:
        """The first answer that is no redirect."""
        method, headers, body = self._request.method, self._headers, self._request.body
        for _ in range(_MOST_REDIRECTS + 1):
            self._check_stop()
            began = time.monotonic()
            response = self._session.request(
                method,
                self._url,
                headers=headers,
                data=body or None,
                stream=True,
                allow_redirects=False,
                timeout=(_CONNECT_TIMEOUT, self._config.stall_timeout),
                proxies=None if is_loopback(self._url) else get_environ_proxies(self._url),
                verify=os.environ.get("REQUESTS_CA_BUNDLE") or True,
            )
            if self.latency is None:
                self.latency = time.monotonic() - began
            self._response = response
            location = response.headers.get("Location", "")
            if response.status_code not in _REDIRECTS or not location:
                self._check_stop()
                return response
            response.close()
            self._url = self._followed(location)
            method, body = "GET", b""
            headers = {name: each for name, each in headers.items() if name not in _OF_THE_FIRST}
        raise Refused(f"{self._name}: it is redirected in circles")

    def _followed(self, location: str) -> str:
        try:
            return check_location(location, self._url, self._request.url, self._hosts)
        except Unusable as error:
            raise Refused(f"{self._name}: {error}") from None

    def _take(self, response: requests.Response) -> None:
        self.status = response.status_code
        self.told = {name: value for name in TOLD if (value := response.headers.get(name))}
        if self.status != 200:
            if self._of_api and self._url != self._request.url:
                self._refused_by_storage()
            self._packing.head[:] = self._page(response)
            return
        for piece in self._pieces(response):
            if not self._packing.feed(piece):
                break
        self.facts = self._packing.close()

    def _refused_by_storage(self) -> NoReturn:
        """What storage says of its addresses is nothing that the API has said."""
        said = f"{self._name}: storage answered {self.status}"
        if self.status in _PASSES:
            raise ServerFailed(said, parse_retry_after(self.told.get("Retry-After", "")))
        raise Unusable(said, "storage_refused")

    def _page(self, response: requests.Response) -> bytes:
        """The first bytes of an answer that is no replay; its status is known, whatever breaks."""
        found, gunzip = bytearray(), Gunzip()
        with contextlib.suppress(Damaged, NoReply, *_BROKEN):
            parts = (part for piece in self._pieces(response) for part in gunzip.feed(piece))
            for part in parts:  # one piece can have a thousand times its bytes
                found += part
                if len(found) > PAGE:
                    break
        return bytes(found[:PAGE])

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        """What comes over the wire."""
        count, seconds = 0, 0.0
        while True:
            began = time.monotonic()
            data: bytes = response.raw.read1(PIECE, decode_content=False)
            self._check_stop()
            if not data:
                return
            self.received += len(data)
            count, seconds = count + len(data), seconds + time.monotonic() - began
            if seconds > self._config.stall_timeout:
                if count < _SLOWEST * seconds:
                    raise NoReply(f"{self._name}: hardly anything came")
                count, seconds = 0, 0.0
            yield data

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


def _nobody_there(error: BaseException | None) -> bool:
    """Is it that nobody is at the address?"""
    kinds = NewConnectionError | ConnectTimeoutError | requests.ConnectTimeout
    return any(isinstance(each, kinds) for each in _causes(error))


def _is_late(error: BaseException | None) -> bool:
    return any("Timeout" in type(each).__name__ for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """It, and what it came of."""
    for _ in range(10):
        if error is not None:
            yield error
            error = error.__cause__ or error.__context__


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _shown(url: str) -> str:
    """The host of an address, as it may stand in a log."""
    return ascii(_host(url)[:80])[1:-1] or "no host"
