"""How storage is spoken to: ``requests``, without what it would do of its own accord.

It would read the body of a redirect whole, whatever its size; follow ``.netrc``; and wait for ever
for a head that comes drop by drop, since each drop begins a socket's time-out anew.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPResponse
from io import BufferedReader
from typing import Any, cast

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

# It logs the addresses that it asks for, also as a warning: a signed URL is a secret.
logging.getLogger("urllib3").setLevel(logging.CRITICAL)

#: A head may take so many times the time-out of a single read.
_HEAD = 2.0


class StorageSession(requests.Session):
    """A session that follows nothing, and gives up on a head that does not come."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: who asks looks at the address first."""
        return None


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        _watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        _watch(manager)
        return manager


def _watch(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


@contextlib.contextmanager
def _watchdog(connection: HTTPConnection) -> Iterator[None]:
    """Cut the connection if what is done with it takes too long."""
    sock = connection.sock

    def cut() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    # set by the pool, to that of a read; the socket's own is still that of connecting
    timer = threading.Timer(_HEAD * float(connection.timeout or 60.0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Lines:
    """A connection's bytes while a head is read, and the last line of it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.last = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._file.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Response(HTTPResponse):
    """``http.client`` takes the end of a connection for the end of a head."""

    def begin(self) -> None:
        file = self.fp
        lines = _Lines(file)
        self.fp = cast(BufferedReader, lines)
        try:
            super().begin()
        finally:
            if self.fp is not None:
                self.fp = file
        if lines.last not in {b"\r\n", b"\n"}:
            raise ConnectionResetError("the connection ended within a head")


class _Connection(HTTPConnection):
    response_class = _Response

    def getresponse(self) -> Any:
        with _watchdog(self):
            return super().getresponse()


class _SecureConnection(HTTPSConnection):
    response_class = _Response

    def getresponse(self) -> Any:
        with _watchdog(self):
            return super().getresponse()


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
