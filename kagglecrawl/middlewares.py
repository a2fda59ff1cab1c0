"""Downloader middleware: every answer of Kaggle's is judged once, here.

Stats: ``kaggle/requests`` and ``kaggle/requests/<Method>`` (sent), ``kaggle/replies/<status>``,
``kaggle/retries/<reason>`` (asked again), ``kaggle/throttled`` (429), ``kaggle/given_up/<reason>``.
"""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime
from typing import Any, Self

from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    ResponseDataLossError,
)
from scrapy.http import Response, TextResponse

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.auth import find_credentials
from kagglecrawl.kaggle.errors import (
    NoReply,
    QuotaSpent,
    RetryLater,
    Throttled,
    Unreachable,
    judge,
    parse_retry_after,
)
from kagglecrawl.state.scheduler import KaggleScheduler

_NO_REPLY: dict[type[Exception], str] = {
    CannotResolveHostError: "its host name cannot be resolved",
    DownloadConnectionRefusedError: "the connection was refused",
    DownloadTimeoutError: "no whole answer in time",
    ResponseDataLossError: "the answer was cut short",
    DownloadFailedError: "the connection broke",
}
_LONGEST_PAUSE = 60.0
#: Attempts without a single answer after which the address is taken to be wrong.
_ATTEMPTS_IN_THE_DARK = 3


def pause(attempt: int, base: float, spread: float) -> float:
    """Seconds before the attempt after this one (from 1): doubling, up to a minute, and spread
    by ``spread`` in [0, 1) so that requests do not come back all at once."""
    return float(min(_LONGEST_PAUSE, base * 2 ** min(attempt - 1, 30) * (0.5 + spread)))


class KaggleReplyMiddleware:
    """Judges answers; sends back to the scheduler what should be asked again."""

    def __init__(self, crawler: Crawler) -> None:
        assert crawler.stats is not None
        self._crawler = crawler
        self._stats = crawler.stats
        self._config = KaggleConfig.from_settings(crawler.settings)
        self._known = not find_credentials().anonymous
        self._answered = False
        self._proven: set[str] = set()
        self._jitter = random.Random()  # noqa: S311  (spreads retries; not a secret)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy builds it."""
        return cls(crawler)

    def process_request(self, request: Request) -> None:
        """Count what is sent."""
        if name := request.meta.get("rpc"):
            self._stats.inc_value("kaggle/requests")
            self._stats.inc_value(f"kaggle/requests/{rpc.TABLE[name].method}")

    def process_response(self, request: Request, response: Response) -> Response | Request:
        """Pass a good reply on; raise what any other means (it reaches the errback)."""
        if "rpc" not in request.meta:
            return response
        self._answered = True
        name = request.meta["rpc"]
        self._stats.inc_value(f"kaggle/replies/{response.status}")
        if not isinstance(response, TextResponse):
            response = response.replace(cls=TextResponse, encoding="utf-8")
        after = (response.headers.get("Retry-After") or b"").decode("latin-1")
        try:
            judge(
                rpc.TABLE[name],
                response.status,
                _decoded(response),
                response.body,
                wait=parse_retry_after(after, _server_time(response)) if after else None,
                location=(response.headers.get("Location") or b"").decode("latin-1"),
                known=self._known,
                proven=name in self._proven,
            )
        except RetryLater as error:
            return self._again(request, error)
        self._proven.add(name)
        return response

    def process_exception(self, request: Request, exception: Exception) -> Request | None:
        """Ask again when no whole answer came."""
        if "rpc" not in request.meta:
            return None
        for kind, words in _NO_REPLY.items():
            if isinstance(exception, kind):
                method = rpc.TABLE[request.meta["rpc"]].method
                return self._again(request, NoReply(f"{method} at {self._config.api_url}: {words}"))
        return None

    def _again(self, request: Request, error: RetryLater) -> Request:
        attempt: int = request.meta.get("attempt", 1)
        changes: dict[str, Any] = {}
        if isinstance(error, Throttled):
            throttles: int = request.meta.get("throttles", 0) + 1
            wait = self._wait_of(error, throttles)
            waited: float = request.meta.get("throttled_for", 0.0) + wait
            if waited > self._config.max_wait:
                raise QuotaSpent(self._too_long(error, waited))
            changes = {"throttles": throttles, "throttled_for": waited}
            self._stats.inc_value("kaggle/throttled")
            self._hold(request.meta.get("family", ""), time.time() + wait)
        else:
            if not self._answered and attempt >= _ATTEMPTS_IN_THE_DARK:
                raise Unreachable(
                    f"{error}. Check the network and KAGGLE_API_URL, then run it again"
                )
            if attempt >= self._config.max_attempts:
                self._stats.inc_value(f"kaggle/given_up/{error.slug}")
                raise error
            wait = self._wait_of(error, attempt)
            changes["attempt"] = attempt + 1
        self._stats.inc_value(f"kaggle/retries/{error.slug}")
        meta = {**request.meta, **changes, "not_before": time.time() + wait}
        return request.replace(meta=meta, dont_filter=True)

    def _wait_of(self, error: RetryLater, attempt: int) -> float:
        """Seconds to wait: never less than the server asked for, and never all at once."""
        if not error.delay:  # none, or one that is over: the pace is ours to find
            return pause(attempt, self._config.retry_base, self._jitter.random())
        if error.delay > self._config.max_wait:
            raise QuotaSpent(self._too_long(error, error.delay))
        return error.delay + 0.05 + 0.2 * self._jitter.random()

    def _too_long(self, error: RetryLater, seconds: float) -> str:
        return (
            f"{error}. Kaggle asks to wait {seconds:.0f} s, longer than KAGGLE_MAX_WAIT "
            f"({self._config.max_wait:.0f} s): run the same command again after that"
        )

    def _hold(self, family: str, until: float) -> None:
        engine = self._crawler.engine
        if engine is not None and isinstance(engine.scheduler, KaggleScheduler):
            engine.scheduler.hold(family, until)


def _decoded(response: TextResponse) -> Any:
    """The reply's JSON value (Scrapy keeps it, so that the callback has it for free), or None."""
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _server_time(response: Response) -> Any:
    """The server's own clock, which a Retry-After date is set by; None when it is not told."""
    try:
        return parsedate_to_datetime((response.headers.get("Date") or b"").decode("latin-1"))
    except (TypeError, ValueError, OverflowError):
        return None
