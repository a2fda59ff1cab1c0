"""How a crawl ends: what is under way has a moment to come to its end, and then no more."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sized

from scrapy.crawler import Crawler
from scrapy.utils.asyncio import CallLaterResult, call_later

from kagglecrawl.state import internals
from kagglecrawl.state.accounts import Accounts
from kagglecrawl.state.leases import Interrupted

logger = logging.getLogger(__name__)

#: A signal of ours: the spider closes, and what is under way is given up now.
interrupted = object()
#: Another: the process was asked to end, and something still hangs; all that can be is safe.
left_behind = object()
#: Seconds from the moment the spider begins to close until what is under way is given up, and until
#: the process ends whatever hangs. A person who pressed Ctrl-C waits no longer than 5.
GRACE = 1.5
PATIENCE = 4.0


class Closing:
    """The end of one crawl. ``leases`` are the requests under way; ``accounts`` know when they are
    given up, and ``commit`` is called when the process is about to end all the same."""

    def __init__(
        self,
        crawler: Crawler,
        leases: Sized,
        accounts: Accounts,
        commit: Callable[[], None],
    ) -> None:
        self._crawler = crawler
        self._leases = leases
        self._accounts = accounts
        self._commit = commit
        self._timers: list[CallLaterResult] = []

    def begin(self) -> None:
        """Nothing more is handed out."""
        assert self._crawler.engine is not None
        self._give_up_queued()
        self._timers.append(call_later(GRACE, self._interrupt))
        if not self._crawler.engine.running:  # stopped from outside: Ctrl-C, SIGTERM
            self._timers.append(call_later(PATIENCE, self._leave))

    def end(self) -> None:
        """It has come to its end."""
        for timer in self._timers:
            timer.cancel()

    def _give_up_queued(self) -> None:
        assert self._crawler.engine is not None
        internals.fail_queued(self._crawler.engine, Interrupted)

    def _interrupt(self) -> None:
        self._give_up_queued()
        self._accounts.ending = True
        self._crawler.signals.send_catch_log(interrupted)

    def _leave(self) -> None:
        """Something hangs. What is acknowledged is safe; what is not is done by the next run."""
        logger.warning("%d requests do not come to an end: left as they are", len(self._leases))
        self._commit()
        self._crawler.signals.send_catch_log(left_behind)
