"""An object in storage, read piece by piece: what breaks on the way is made good here.

A cut, a stall or a failing server is asked again, by Range from the byte that is wanted next; a
URL that has expired is renewed. What comes is of one object, by its ETag and size, or ``Changed``
is raised. Everything here waits for the network, so it runs in a transfer's own thread.

Storage headers (kaggle-facts 1.4): ``ETag``, ``Last-Modified``, ``Accept-Ranges: bytes``,
``x-goog-hash: crc32c=<base64>,md5=<base64>``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from requests.exceptions import RequestException
from requests.utils import get_environ_proxies
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.exceptions import HTTPError as TransportError

from kagglecrawl.kaggle.errors import Away, KaggleError, NoReply, ServerFailed, Unusable
from kagglecrawl.kaggle.errors import parse_retry_after as retry_after
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.session import StorageSession

#: Bytes that are read at a time.
PIECE = 1 << 20
#: A small read receives so many: each costs as much as a large one.
_READ_AHEAD = 1 << 17
#: Times that one place of an object is asked for before the whole request goes back to the queue.
ATTEMPTS = 4
#: Bytes that must have come for an attempt to count as one that got on.
_PROGRESS = 1 << 16
#: Bytes a second that a stalled connection does not reach.
_SLOWEST = 1024
_CONNECT_TIMEOUT = 20.0
_MOST_REDIRECTS = 3
#: The longest that storage may ask to wait; the request goes back to the queue for more.
_LONGEST_WAIT = 60.0
_TRIED_AGAIN = {408, 429, 500, 502, 503, 504}
#: The word for a host that nobody answers at: true of every object there.
_AWAY = "away"
_REDIRECTS = {301, 302, 303, 307, 308}


class Stopped(Exception):
    """The crawl ends, or nobody waits for this any more."""


class Changed(Exception):
    """The object is another one than it was."""


@dataclass(frozen=True)
class Manners:
    """How storage is asked. ``follow`` checks an address and returns it, or raises ``Unusable``;
    times are in seconds."""

    follow: Callable[[str, str], str]
    stall: float = 60.0
    retry_base: float = 0.5
    user_agent: str = "kagglecrawl"
    #: Not through a proxy, whatever the environment says.
    direct: bool = False


class Remote:
    """An object behind a signed URL.

    ``renew`` gives a new URL for it. Every method may raise ``Stopped``, ``Changed``, and what of
    ``KaggleError`` says that it cannot be had now. No text that is raised holds a URL.
    """

    def __init__(
        self,
        url: str,
        renew: Callable[[], str],
        manners: Manners,
        stop: threading.Event,
        meter: Meter | None = None,
    ) -> None:
        self._url = url
        self._renew = renew
        self._manners = manners
        self._stop = stop
        self.meter = meter or Meter()
        #: Known from the first answer on: strong ETag (or else the date), size in bytes, checksums.
        self.validator = ""
        self.size = -1
        self.crc32c: int | None = None
        self.md5: bytes | None = None
        #: Does it answer to Range?
        self.ranged = True
        self.position = 0
        #: Ask for no byte from this one on.
        self.stop_at: int | None = None
        #: The object's last bytes, from ``_cached_from`` on.
        self._cached = b""
        self._cached_from = 0
        self._session = StorageSession()
        self._response: requests.Response | None = None
        #: What was received and not read yet.
        self._ahead = memoryview(b"")
        self._response_start = self._response_stop = 0
        #: How many bytes of the end were asked for.
        self._tail = 0
        self._failures = 0
        self._since_failure = 0
        self._window_bytes, self._window_seconds = 0, 0.0
        self._renewed = False
        self._jitter = random.Random()  # noqa: S311  (spreads retries; not a secret)

    def close(self) -> None:
        """Let the connection go."""
        self._drop()
        self._session.close()

    def interrupt(self) -> None:
        """From another thread, when the stop is set: nobody waits for bytes any more."""
        response = self._response
        if response is not None:
            with contextlib.suppress(ValueError, RuntimeError, OSError):  # it has just ended
                response.raw.shutdown()

    # -- what the caller reads --------------------------------------------------------------------

    def tail(self, length: int) -> bytes:
        """The object's last bytes, at most ``length``; they are not asked for again.

        Empty where storage does not answer to Range: then the object is read from its beginning.
        """
        self._cached, self._cached_from = b"", 0
        self._tail = length
        self._open({"Range": f"bytes=-{length}"}, None)
        if not self.ranged:
            return b""
        start = self.position = self._response_start
        data = bytearray()
        while piece := self.read(length):
            data += piece
        self._cached, self._cached_from = bytes(data), start
        return self._cached

    def seek(self, position: int) -> None:
        """Read on from here."""
        if position != self.position:
            self._drop()
            self.position = position

    def read(self, limit: int = PIECE) -> bytes:
        """At least one byte and at most ``limit``, from ``position`` on; none at the end."""
        self._check_stop()
        if self._ahead:
            ahead, self._ahead = bytes(self._ahead[:limit]), self._ahead[limit:]
            self.position += len(ahead)
            return ahead
        if self._cached and self.position >= self._cached_from:
            start = self.position - self._cached_from
            data = self._cached[start : start + min(limit, PIECE)]
            self.position += len(data)
            return data
        if self.position >= self.size >= 0:
            return b""
        while True:
            self._ensure_open()
            data = self._receive(max(limit, _READ_AHEAD))
            if data:
                self._ahead = memoryview(data)[limit:]
                data = data[:limit]
                self.position += len(data)
                return data

    def forget(self) -> None:
        """It is another object from now on."""
        self.distrust()
        self.validator, self.size, self.crc32c, self.md5 = "", -1, None, None
        self.ranged, self.position, self.stop_at = True, 0, None

    def distrust(self) -> None:
        """Something that was read was wrong: read it again from storage."""
        self._cached, self._cached_from = b"", 0
        self._drop()

    # -- asking -----------------------------------------------------------------------------------

    def _ensure_open(self) -> None:
        if self._response is None:
            stop = self._cached_from if self._cached else self.size
            if self.stop_at is not None and self.stop_at > self.position:
                stop = min(stop, self.stop_at)
            wanted = f"bytes={self.position}-{stop - 1 if stop > 0 else ''}"
            headers = {"Range": wanted} if self.ranged else {}
            if self.ranged and self.validator:
                headers["If-Range"] = self.validator
            self._open(headers, self.position)

    def _open(self, headers: Mapping[str, str], start: int | None) -> None:
        """Ask until there is an answer with bytes; ``start`` is where they are to begin, None for a
        range of the end."""
        while True:
            self._check_stop()
            try:
                response = self._ask(headers)
                self._judge(response, start)
                return
            except _Again:
                continue
            except (RequestException, TransportError, OSError) as error:
                kind = _kind(error)
            # Here, and not above: the other error quotes the URL, and would hang on to this one.
            self._failed(kind, self._no_reply(kind))

    def _no_reply(self, kind: str) -> NoReply:
        if kind != _AWAY:
            return NoReply(f"storage: {kind}")
        host = urlsplit(self._url).hostname or "no host"
        return Away(f"storage at {ascii(host[:80])[1:-1]} cannot be reached")

    def _ask(self, headers: Mapping[str, str]) -> requests.Response:
        url = self._url
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._session.get(
                url,
                headers={
                    **headers,
                    "Accept-Encoding": "identity",
                    "User-Agent": self._manners.user_agent,
                },
                stream=True,
                allow_redirects=False,
                timeout=(_CONNECT_TIMEOUT, self._manners.stall),
                proxies=None if self._manners.direct else get_environ_proxies(url),
                verify=os.environ.get("REQUESTS_CA_BUNDLE") or True,
            )
            if response.status_code not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.close()
            url = self._manners.follow(location, url)
        raise Unusable("storage redirects in circles", "redirect_refused")

    def _judge(self, response: requests.Response, start: int | None) -> None:
        """Take the answer; raises ``_Again`` after a pause, if it is to be asked once more."""
        status = response.status_code
        try:
            if status == 206:
                self._take_part(response, start)
            elif status == 200:
                self._take_whole(response, start)
            elif status == 416:
                self._take_nothing(response, start)
            elif status in _TRIED_AGAIN:
                wait = retry_after(response.headers.get("Retry-After", "")) or 0.0
                error = ServerFailed(f"storage answered {status}", wait or None)
                self._failed("server_error", error, wait)
                raise _Again
            elif not self._renewed:
                self.meter.count("url_renewed")
                self._url = self._renew()
                self._renewed = True
                raise _Again
            else:
                raise Unusable(f"storage answered {status} to a new URL", "storage_refused")
        except BaseException:
            response.close()
            raise

    def _take_part(self, response: requests.Response, start: int | None) -> None:
        given = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", given.strip())
        if match is None or not int(match[1]) <= int(match[2]) < int(match[3]):
            raise Unusable(f"storage answered with the range {given[:60]!r}", "storage_refused")
        first, last, size = (int(number) for number in match.groups())
        wanted = max(0, size - self._tail) if start is None else start
        if first != wanted or (start is None and last != size - 1):
            raise Unusable(
                f"storage was asked for bytes from {wanted} on and gave {first} to {last}",
                "storage_refused",
            )
        self._know(response, size)
        self._response, self._response_start, self._response_stop = response, first, last + 1

    def _take_whole(self, response: requests.Response, start: int | None) -> None:
        length = response.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{0,18}", length):
            raise Unusable(f"storage gives the length {length[:60]!r}", "storage_refused")
        if not length:  # Google's always tells it, and without it nothing says what is whole
            raise Unusable("storage does not say how long the object is", "storage_refused")
        size = int(length)
        self._know(response, size)
        self._response, self._response_stop = response, size
        if start:  # it does not know of ranges, or not any more
            self._response = None
            raise Changed
        if start is None:
            self.ranged = False
        self.position = 0

    def _take_nothing(self, response: requests.Response, start: int | None) -> None:
        """The range is beyond the object: an empty one has none."""
        if start is not None or response.headers.get("Content-Range", "").strip() != "bytes */0":
            raise Changed
        self._know(response, 0)
        response.close()

    def _know(self, response: requests.Response, size: int) -> None:
        """Note what object this is, or see that it is still the same."""
        etag = response.headers.get("ETag", "")
        weak = not etag.startswith('"')
        validator = response.headers.get("Last-Modified", "") if weak else etag
        if self.size < 0 and not self.validator:
            self.size, self.validator = size, validator
            sums = _sums(response.headers.get("x-goog-hash", ""))
            crc32c, self.md5 = sums.get("crc32c"), sums.get("md5")
            self.crc32c = int.from_bytes(crc32c, "big") if crc32c else None
            self.meter.size = max(0, size)
        elif (self.size, self.validator) != (size, validator):
            raise Changed

    # -- receiving --------------------------------------------------------------------------------

    def _receive(self, limit: int) -> bytes:
        """Some bytes; none if the connection has broken, which is noted."""
        assert self._response is not None
        left = self._response_stop - self.position  # nothing is ahead when this is asked
        if left <= 0:
            self._drop()
            return b""
        began, kind = time.monotonic(), ""
        try:
            data: bytes = self._response.raw.read1(min(limit, PIECE, left), decode_content=False)
        except (RequestException, TransportError, OSError) as error:
            kind = _kind(error)
        if kind:
            self._drop()
            self._failed(kind, NoReply(f"storage: {kind}"))
            return b""
        self._check_stop()
        if not data:
            self._drop()
            self._failed("cut", NoReply("storage: the answer was cut short"))
            return b""
        self._received(len(data), time.monotonic() - began)
        return data

    def _received(self, count: int, seconds: float) -> None:
        self.meter.received += count
        self._since_failure += count
        if self._since_failure >= _PROGRESS:
            self._failures, self._renewed = 0, False
        self._window_bytes += count
        self._window_seconds += seconds
        if self._window_seconds > self._manners.stall:
            slow = self._window_bytes < _SLOWEST * self._window_seconds
            self._window_bytes, self._window_seconds = 0, 0.0
            if slow:
                self._drop()
                self._failed("stalled", NoReply("storage: hardly anything came"))

    def _drop(self) -> None:
        self._ahead = memoryview(b"")
        if self._response is not None:
            self._response.close()
            self._response = None
        self._window_bytes, self._window_seconds = 0, 0.0

    def _failed(self, reason: str, error: KaggleError, wait: float = 0.0) -> None:
        """Wait before the next attempt, or raise ``error`` when there have been enough."""
        self._check_stop()
        self.meter.count(reason)
        self._failures += 1
        self._since_failure = 0
        if self._failures >= ATTEMPTS or wait > _LONGEST_WAIT:
            self._failures = 0
            raise error
        base = self._manners.retry_base * 2 ** (self._failures - 1)
        pause = max(wait, min(_LONGEST_WAIT, base * (0.5 + self._jitter.random())))
        if self._stop.wait(pause):
            raise Stopped

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped


class _Again(Exception):
    """The pause is over: ask once more."""


def _kind(error: BaseException) -> str:
    """A word for what has gone wrong on the way."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            break
        name = type(seen).__name__
        if isinstance(seen, NewConnectionError | ConnectTimeoutError | requests.ConnectTimeout):
            return _AWAY
        if isinstance(seen, TimeoutError | requests.Timeout) or "Timeout" in name:
            return "timeout"
        if "SSL" in name or "Certificate" in name:
            return "tls"
        if "IncompleteRead" in name:
            return "cut"
        seen = seen.__cause__ or seen.__context__
    return "broken"


def _sums(header: str) -> dict[str, bytes]:
    """``crc32c=…,md5=…`` of ``x-goog-hash``, decoded; what cannot be read is left out."""
    found: dict[str, bytes] = {}
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        try:
            decoded = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(decoded) == {"crc32c": 4, "md5": 16}.get(name, -1):
            found[name] = decoded
    return found
