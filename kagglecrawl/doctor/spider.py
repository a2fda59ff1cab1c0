"""Sends the probes one after the other, through the same handler as every crawl.

It stands outside of SPIDER_MODULES, so that ``scrapy list`` shows spiders for data alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from scrapy import Request, Spider
from scrapy.crawler import Crawler
from scrapy.exceptions import DownloadCancelledError
from scrapy.http import Response
from scrapy.settings import BaseSettings
from twisted.python.failure import Failure

from kagglecrawl.config import KaggleConfig
from kagglecrawl.doctor.probes import LIMIT, PROBES, SIGN_IN, Answer, Evidence, Probe
from kagglecrawl.kaggle.auth import find_credentials, is_loopback
from kagglecrawl.kaggle.errors import (
    CredentialsNeeded,
    KaggleError,
    NoReply,
    Refused,
    RetryLater,
    StopCrawl,
    Throttled,
)
from kagglecrawl.middlewares import KaggleReplyMiddleware, pause

#: The longest Retry-After that is waited out, in seconds; a longer one ends the probing.
SHORT_WAIT = 30.0
#: Seconds added to one, for two clocks.
_MARGIN = 0.05
#: Attempts at one probe.
_ATTEMPTS = 3
#: More bytes than any list has; a download that comes without a redirect is cut off there.
_MOST_BYTES = 16 * 1024 * 1024
_JUDGE = "kagglecrawl.middlewares.KaggleReplyMiddleware"


class LimitReached(KaggleError):
    """No request is left for the rest of the probes."""


class WitnessMiddleware(KaggleReplyMiddleware):
    """Judges answers as the crawler does, and passes all of them on, with ``meta["verdict"]``."""

    def process_response(self, request: Request, response: Response) -> Response | Request:
        """The response as it came."""
        try:
            return super().process_response(request, response)
        except KaggleError as error:
            request.meta["verdict"] = error
            return response

    def _again(self, request: Request, error: RetryLater) -> Request:
        if isinstance(error, Throttled) and error.delay:  # crawls of this account wait as well
            self._hold(request.meta["family"], time.time() + error.delay + _MARGIN)
        raise error  # whether to ask again is the spider's decision, which counts


class DoctorSpider(Spider):
    """Fills ``evidence``; ``ended_because`` says why not every probe was sent, if so, or
    ``stopped_because`` where the scheduler has ended it."""

    name = "doctor"
    #: Its requests say in ``meta`` which quota family they are of, as those of a crawl do.
    keeps_accounts = True
    custom_settings = {
        "AUTOTHROTTLE_ENABLED": False,
        "CONCURRENT_REQUESTS": 1,
        "DOWNLOAD_DELAY": 1.0,
        "DOWNLOAD_MAXSIZE": _MOST_BYTES,
        "DOWNLOAD_TIMEOUT": 30,
        "DOWNLOAD_WARNSIZE": 0,
        "FEEDS": {},
        "HTTPCACHE_ENABLED": False,
        "ITEM_PIPELINES": {},
        "JOBDIR": None,
    }

    config: KaggleConfig
    evidence: Evidence

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.asked = 0
        self.ended_because: KaggleError | None = None
        self.finish_reason = self.stopped_because = ""
        self._probes = iter(PROBES)

    @classmethod
    def update_settings(cls, settings: BaseSettings) -> None:
        """Put the witness in the judge's place."""
        super().update_settings(settings)
        middlewares = settings.getdict("DOWNLOADER_MIDDLEWARES")
        order = middlewares.get(_JUDGE)
        witness = f"{WitnessMiddleware.__module__}.{WitnessMiddleware.__name__}"
        settings.set(
            "DOWNLOADER_MIDDLEWARES",
            {**middlewares, _JUDGE: None, witness: order},
            priority="spider",
        )

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> Self:
        """As Scrapy builds it; settings and credentials were checked by the command."""
        spider = super().from_crawler(crawler, *args, **kwargs)
        spider.config = KaggleConfig.from_settings(crawler.settings)
        credentials = find_credentials()
        official = spider.config.transport == "official"
        spider.evidence = Evidence(credentials.source, not credentials.anonymous, official)
        return spider

    @property
    def limit(self) -> int:
        """How many requests may be sent from here."""
        return LIMIT - SIGN_IN if self.evidence.official else LIMIT

    async def start(self) -> AsyncIterator[Any]:
        """The first probe; each answer is followed by the next."""
        for request in self._next():
            yield request

    def closed(self, reason: str) -> None:
        """Called by Scrapy at the end, with its finish reason."""
        self.finish_reason = reason

    def answered(self, response: Response, probe: Probe) -> Iterator[Request]:
        """An answer, of whatever kind."""
        answer = Answer(
            probe.call,
            response.status,
            _json_object(response.body),
            response.meta.get("verdict"),
            (response.headers.get("Location") or b"").decode("latin-1"),
            response.body if probe.call.file else b"",
        )
        yield from self._take(answer, probe, response.meta["attempt"])

    def failed(self, failure: Failure) -> Iterator[Request]:
        """No answer: the connection, the official transport, or too many bytes."""
        request: Request = failure.request  # type: ignore[attr-defined]
        probe: Probe = request.cb_kwargs["probe"]
        error = failure.value
        if isinstance(error, DownloadCancelledError):
            error = Refused(f"{probe.call.name} sent more than {_MOST_BYTES} bytes")
        elif not isinstance(error, KaggleError):
            error = NoReply(f"{probe.call.name}: {type(error).__name__}")
        yield from self._take(Answer(probe.call, error=error), probe, request.meta["attempt"])

    def _take(self, answer: Answer, probe: Probe, attempt: int) -> Iterator[Request]:
        error = answer.error
        if isinstance(error, Throttled):
            self.evidence.throttled.append(error.delay)
            longest = min(SHORT_WAIT, self.config.max_wait)
            if attempt >= _ATTEMPTS or (error.delay or 0) > longest:
                self.evidence.answers[probe.name] = answer
                self.ended_because = error
                return
        if isinstance(error, RetryLater) and answer.status not in probe.final:
            wait = error.delay
            if wait is None:
                wait = pause(attempt, self.config.retry_base, 0.5)
            if attempt < _ATTEMPTS and wait <= SHORT_WAIT:
                yield from self._ask(probe, attempt + 1, wait)
                return
        self.evidence.answers[probe.name] = answer
        if self._pointless(answer, probe):
            self.ended_because = error
            return
        yield from self._next()

    def _pointless(self, answer: Answer, probe: Probe) -> bool:
        """True where no other probe can be answered either."""
        if answer.good:
            return False
        if not answer.status and isinstance(answer.error, StopCrawl):
            return True  # the official package, which nobody can use
        return probe is PROBES[0] and not isinstance(answer.error, CredentialsNeeded)

    def _next(self) -> Iterator[Request]:
        for probe in self._probes:
            if probe.fields(self.evidence) is not None:
                yield from self._ask(probe)
                return

    def _ask(self, probe: Probe, attempt: int = 1, wait: float = 0.0) -> Iterator[Request]:
        if self.asked >= self.limit:
            self.ended_because = LimitReached(
                f"The limit of {LIMIT} requests is reached: what is unknown above was not probed"
            )
            return
        self.asked += 1
        meta: dict[str, Any] = {"family": probe.call.family, "attempt": attempt}
        if wait:
            meta["not_before"] = time.time() + wait
        address = probe.call.address(self.config)
        if is_loopback(address):
            meta["proxy"] = None  # whatever HTTP_PROXY says
        yield probe.call.request(
            address,
            fields=probe.fields(self.evidence),
            meta=meta,
            callback=self.answered,
            errback=self.failed,
            cb_kwargs={"probe": probe},
            dont_filter=True,
        )


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
