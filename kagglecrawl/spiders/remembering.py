"""What a spider does with what the ledger has: it asks for what is new, and tells the rest anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import quote

from scrapy import Request, Spider
from scrapy.exceptions import CloseSpider
from scrapy.http import Response
from twisted.python.failure import Failure

from kagglecrawl.arguments import Arguments
from kagglecrawl.items import record_of
from kagglecrawl.kaggle.errors import OF_ANSWERS, OF_FILES, PERMANENT, StopCrawl
from kagglecrawl.state import leases
from kagglecrawl.state.accounts import UNCHANGED, Accounts
from kagglecrawl.state.ledger import Known, Ledger, LedgerRefused
from kagglecrawl.state.store import Verdict

Output = Iterator[Any]

#: Children of a page go before the next page, and what has been begun goes before what has not.
CHILD_PRIORITY = 10
NEXT_STEP_PRIORITY = 20
#: What the ledger has is no request of Kaggle's: it passes the queue and the pipelines as one.
LEDGER_SLOT = "ledger"
_OF_LEDGER = {
    "download_slot": LEDGER_SLOT,
    "autothrottle_dont_adjust_delay": True,
    "dont_cache": True,
}


class Remembering(Spider):
    """The part of ``KaggleSpider`` that knows the ledger."""

    item_class: ClassVar[type]
    args: Arguments
    #: The scheduler gives them when it opens.
    accounts: Accounts
    ledger: Ledger
    #: Why the crawl was stopped before its end, in one sentence; empty if it was not.
    stopped_because = ""

    def failed(self, failure: Failure) -> Output:
        """The errback of every request."""
        raise NotImplementedError

    def unless_known(
        self, key: str, version: str, signature: str, row: Any, then: str, anew: Request
    ) -> Request | None:
        """``anew``, which asks for this version of a resource, if it has to be asked for. (The
        accounts were told of version and signature: ``describe``.)

        Where the ledger has a record for ``signature`` (a checksum of what its list row says), it
        is a request that never leaves this machine instead, and the method named ``then`` gets
        key, ``row`` and the record, or None if that is gone by then. What Kaggle has refused for
        good is settled without a request: None.
        """
        known = None if self.refresh else self.ledger.known(key, version)
        if known is None:
            return anew
        if known.signature == signature:
            if self._for_good(known):
                self.refused_before(key, known.verdict, known.reason)
                return None
            if known.reason in OF_ANSWERS and not known.fresh:
                return anew  # whatever there was before: it was asked for again, in vain
        if known.record_signature == signature and known.gone != "deleted":
            return self.recall(then, key, version, row)
        return anew

    def recall(self, then: str, key: str, version: str, row: Any) -> Request:
        """A request that asks nobody: the method named ``then`` gets key, ``row`` and the record
        that the ledger has of this version, or None."""
        lease = leases.current()
        begun = lease is not None and lease.key == key
        return Request(
            f"data:,{then}/{quote(key, safe='/')}",
            callback=self.recalled,
            errback=self.failed,
            priority=NEXT_STEP_PRIORITY if begun else CHILD_PRIORITY,
            meta={"key": key, **_OF_LEDGER},
            cb_kwargs={"then": then, "key": key, "version": version, "row": row},
        )

    def keep_record(self, key: str, row: Any) -> None:
        """Files are to come, or have failed: the ``record`` in the ``row`` of their request need
        not be asked for again, if that is not ``incomplete``."""
        if isinstance(row, dict) and "record" in row and not row.get("incomplete"):
            record = {name: value for name, value in row["record"].items() if name != "download"}
            self.accounts.keep(key, json.dumps(record, ensure_ascii=False))

    def _for_good(self, known: Known) -> bool:
        """Would asking again change nothing? What is true of its files says nothing of a record."""
        if known.reason in OF_FILES:
            return self.wants_files and known.record_signature is None
        return known.reason in PERMANENT

    def refused_before(self, key: str, verdict: str, reason: str) -> None:
        """Settle a resource that Kaggle has refused for good, as the ledger has it."""
        self.accounts.note("refused_before")
        settle = self.accounts.fail if verdict == Verdict.FAILED else self.accounts.skip
        settle(key, reason)

    @property
    def refresh(self) -> bool:
        """Is everything to be asked for again?"""
        return bool(getattr(self.args, "refresh", False))

    @property
    def changed_only(self) -> bool:
        """Is only that wanted which the ledger does not have?"""
        return bool(getattr(self.args, "changed_only", False))

    @property
    def wants_files(self) -> bool:
        """Are files wanted, and not records alone?"""
        return bool(getattr(self.args, "download", False))

    @property
    def choice(self) -> str:
        """Which files of a resource are wanted, for the ledger to compare."""
        return ""

    @property
    def listing(self) -> str | None:
        """The list that is walked from its first row, for the ledger: crawls of the same list have
        the same text, and ``WHOLE_LIST`` is the one that nothing narrows. None if none is."""
        return None

    def kept(self, item: Any) -> tuple[str | None, str | None]:
        """What the ledger keeps of an item: its record, and what has come of its files, as JSON."""
        if not isinstance(item, self.item_class):
            return None, None  # a pipeline has made something else of it
        download = getattr(item, "download", None)
        manifest = None if download is None else json.dumps(download, ensure_ascii=False)
        return json.dumps(record_of(item), ensure_ascii=False), manifest

    async def recalled(
        self, response: Response, then: str, key: str, version: str, row: Any
    ) -> AsyncIterator[Any]:
        """What the ledger has of a resource, to the method that was named for it."""
        with self.remembering():
            record = self.ledger.record(key, version)
            names = {field.name for field in dataclasses.fields(self.item_class)} - {"download"}
            if record is not None and record.keys() != names:
                record = None  # of a release whose records had other fields
            async for output in getattr(self, then)(key, row, record):
                yield output

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """A ledger that cannot be read any more ends the crawl, or a store that refuses; its
        request is the next run's."""
        try:
            yield
        except (LedgerRefused, StopCrawl) as error:
            why = str(error)
            self.stopped_because = self.stopped_because or why[:1].upper() + why[1:]
            raise CloseSpider(getattr(error, "reason", "kaggle_failed")) from None

    def again(self, key: str, version: str, item: Any) -> Output:
        """What the ledger has of a resource: its item, or, where only changes are wanted, nothing
        (unless its row has not got to its place then)."""
        known = self.ledger.known(key, version) if self.changed_only else None
        if known is not None and known.written:
            self.accounts.skip(key, UNCHANGED)
        else:
            self.accounts.unchanged(key)
            yield item
