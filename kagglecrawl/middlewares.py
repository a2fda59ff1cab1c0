"""Downloader middleware: every answer of Kaggle's is judged once, here.

Stats: ``kaggle/replies/<status>``, ``kaggle/held_back`` (not sent, as a Retry-After runs),
``kaggle/retries/<reason>`` (asked again), ``kaggle/retried_after/<status>`` (the same, by the
answer), ``kaggle/throttled`` (429), ``kaggle/away`` (nobody there), ``kaggle/given_up/<reason>``,
``kaggle/given_up/at_once`` (at the first attempt, as those before it were in vain).
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Self

from scrapy import Request
from scrapy.core.downloader.handlers.http11 import TunnelError
from scrapy.crawler import Crawler
from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
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
    TOO_LARGE,
    Away,
    NoReply,
    RetryLater,
    Throttled,
    Unreachable,
    Unusable,
    judge,
    parse_retry_after,
)
from kagglecrawl.state.holds import DOWNLOADS, Held
from kagglecrawl.state.scheduler import KaggleScheduler

logger = logging.getLogger(__name__)

_NO_REPLY: dict[type[Exception], tuple[type[NoReply], str]] = {
    CannotResolveHostError: (Away, "its host name cannot be resolved"),
    DownloadConnectionRefusedError: (Away, "the connection was refused"),
    DownloadTimeoutError: (NoReply, "no whole answer in time"),
    ResponseDataLossError: (NoReply, "the answer was cut short"),
    DownloadFailedError: (NoReply, "the connection broke"),
    TunnelError: (NoReply, "the proxy does not let it through"),
}
_SETTINGS = {"api": "KAGGLE_API_URL", "web": "KAGGLE_WEB_URL", "content": "KAGGLE_CONTENT_URL"}
_LONGEST_PAUSE = 60.0
#: Waits from so many seconds on are told in the log, once for all requests that wait.
_WORTH_TELLING = 2.0
#: Seconds after which one that was held back is looked at again.
_SOON = 1.0
_NOTHING = {
    DOWNLOADS: "No download is begun",
    "episodes": "No list of episodes is fetched",
    "replay": "No replay is fetched",
}
_ALL_ELSE = "Nothing else of the kind is sent"
_PROXY_SECRET = b"Proxy-Authorization"
#: Attempts without a single answer after which the address is taken to be wrong.
_ATTEMPTS_IN_THE_DARK = 3
#: Requests of a method in a row that were given up, from which on each is asked for once, until one
#: is answered well: an endpoint that is down must not take the quota of a day.
_IN_VAIN = 3


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
        #: Who has answered anything in this run (``Rpc.where``).
        self._answered: set[str] = set()
        self._told_until = 0.0
        self._proven: set[str] = set()
        #: By method, how many requests in a row were given up, without a good answer between them.
        self._in_vain: Counter[str] = Counter()
        self._jitter = random.Random()  # noqa: S311  (spreads retries; not a secret)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy builds it."""
        return cls(crawler)

    # Read when Kaggle is first asked: `scrapy shell` and `parse` work without either.

    @cached_property
    def _config(self) -> KaggleConfig:
        return KaggleConfig.from_settings(self._crawler.settings)

    @cached_property
    def _known(self) -> bool:
        return not find_credentials().anonymous

    def process_response(self, request: Request, response: Response) -> Response | Request:
        """Pass a good reply on; raise what any other means (it reaches the errback)."""
        if "rpc" not in request.meta:
            return response
        name = request.meta["rpc"]
        call = rpc.TABLE[name]
        self._answered.add(call.where)
        self._stats.inc_value(f"kaggle/replies/{response.status}")
        if not isinstance(response, TextResponse):
            response = response.replace(cls=TextResponse, encoding="utf-8")
        after = (response.headers.get("Retry-After") or b"").decode("latin-1")
        try:
            judge(
                call,
                response.status,
                _decoded(response),
                response.body,
                wait=parse_retry_after(after, _server_time(response)) if after else None,
                location=(response.headers.get("Location") or b"").decode("latin-1"),
                known=self._known,
                proven=name in self._proven,
                reached=any(rpc.TABLE[each].where == call.where for each in self._proven),
            )
        except RetryLater as error:
            again = self._again(request, error)
            self._stats.inc_value(f"kaggle/retried_after/{response.status}")
            return again
        self._proven.add(name)
        self._in_vain.pop(name, None)
        if (scheduler := self._scheduler) is not None:
            scheduler.holds.went_well(request.meta.get("family", ""))
        return response

    def process_exception(self, request: Request, exception: Exception) -> Request | None:
        """Ask again when it was not sent, or no whole answer came."""
        if "rpc" not in request.meta:
            return None
        if isinstance(exception, Held):
            self._stats.inc_value("kaggle/held_back")
            # its family is held for as long as it must be; a quota may be raised before that
            return _later(request, {"not_before": min(exception.until, time.time() + _SOON)})
        call = rpc.TABLE[request.meta["rpc"]]
        if isinstance(exception, RetryLater):  # a transfer's, or a replay's
            if call.replay and not isinstance(exception, NoReply):
                self._answered.add(call.where)
            return self._again(request, exception)
        if call.file and isinstance(exception, DownloadCancelledError):
            raise Unusable(f"{call.method}: its file is too large", TOO_LARGE)
        for kind, (error, words) in _NO_REPLY.items():
            if isinstance(exception, kind):
                address = call.address(self._config)
                return self._again(request, error(f"{call.method} at {address}: {words}"))
        return None

    def _again(self, request: Request, error: RetryLater) -> Request:
        """The request to send later; raises when that is over."""
        attempt: int = 1 if error.got_on else request.meta.get("attempt", 1)
        where = rpc.TABLE[request.meta["rpc"]].where
        answered = where in self._answered
        # what the content network has, others have as well: nobody waits for it
        if isinstance(error, Throttled) or (
            isinstance(error, Away) and answered and where != "content"
        ):
            wait, changes = self._wait_with_all(request, error)
        else:
            in_the_dark = not answered and attempt >= _ATTEMPTS_IN_THE_DARK
            if in_the_dark and where == "api":
                raise Unreachable(f"{error}. {_check_network(where)}")
            alike = {} if error.got_on else dict(request.meta.get("alike", {}))
            alike[error.slug] = alike.get(error.slug, 0) + 1
            name = request.meta["rpc"]
            most = attempt if in_the_dark else self._config.max_attempts
            if self._in_vain[name] >= _IN_VAIN and most > 1 and not error.got_on:
                most = 1
                self._stats.inc_value("kaggle/given_up/at_once")
            if attempt >= most or alike[error.slug] >= error.most_attempts:
                self._in_vain[name] += 1
                self._stats.inc_value(f"kaggle/given_up/{error.slug}")
                raise error
            wait = self._wait_of(error, attempt)
            changes = {"attempt": attempt + 1, "alike": alike}
        self._stats.inc_value(f"kaggle/retries/{error.slug}")
        return _later(request, {**changes, "not_before": time.time() + wait})

    def _wait_with_all(self, request: Request, error: RetryLater) -> tuple[float, dict[str, Any]]:
        """What is no fault of this request holds its whole family, and costs no attempt.

        Short waits of one request that add up to more than KAGGLE_MAX_WAIT become a long one, at
        which the scheduler ends the crawl when nothing else is left to do.
        """
        family = request.meta.get("family", "")
        throttled = isinstance(error, Throttled)
        times: int = request.meta.get("waits", 0) + 1
        wait = self._wait_of(error, times)
        waited: float = request.meta.get("waited", 0.0) + wait
        limit = f"longer than KAGGLE_MAX_WAIT ({self._config.max_wait:.0f} s)"
        if waited > self._config.max_wait and not throttled:
            where = rpc.TABLE[request.meta["rpc"]].where
            raise Unreachable(f"{error}, for {limit}. {_check_network(where)}")
        if wait <= self._config.max_wait < waited and self._config.quota_spent == "stop":
            # like one long wait: others go on, and if there are none the scheduler ends the crawl
            logger.info("%s. The waits for this request add up to %.0f s, %s", error, waited, limit)
            wait, waited, times = self._config.max_wait + 1, 0.0, 0
        if throttled and (scheduler := self._scheduler) is not None:
            scheduler.holds.pushed_back(family)
        self._stats.inc_value(f"kaggle/{error.slug}")
        if wait >= _WORTH_TELLING and self._told_until < time.time():
            self._told_until = time.time() + wait
            what = _NOTHING.get(family, _ALL_ELSE)
            logger.info("%s. %s for %.0f s", error, what, wait)
        self._hold(family, time.time() + wait)
        return wait, {"waits": times, "waited": waited}

    def _wait_of(self, error: RetryLater, attempt: int) -> float:
        """Seconds to wait: never less than the server asked for, and never all at once."""
        if not error.delay:  # none, or one that is over: the pace is ours to find
            return pause(attempt, self._config.retry_base, self._jitter.random())
        if error.delay > self._config.max_wait and not isinstance(error, Throttled):
            raise error  # one failing resource is no spent quota
        return error.delay + 0.05 + 0.2 * self._jitter.random()

    def _hold(self, family: str, until: float) -> None:
        if (scheduler := self._scheduler) is not None:
            scheduler.hold(family, until)

    @property
    def _scheduler(self) -> KaggleScheduler | None:
        scheduler = self._crawler.engine.scheduler if self._crawler.engine else None
        return scheduler if isinstance(scheduler, KaggleScheduler) else None


def _check_network(where: str) -> str:
    return f"Check the network and {_SETTINGS[where]}, then run it again"


def _later(request: Request, changes: dict[str, Any]) -> Request:
    """A copy to be sent later, without what HttpProxyMiddleware has put on it: a queue may keep it,
    and a proxy's password is a secret. The middleware does it again."""
    headers = {name: value for name, value in request.headers.items() if name != _PROXY_SECRET}
    meta = {**request.meta, **changes}
    if meta.get("_auth_proxy"):
        del meta["_auth_proxy"], meta["proxy"]
    return request.replace(headers=headers, meta=meta, dont_filter=True)


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
