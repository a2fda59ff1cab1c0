"""The account of every resource: discovered = stored + skipped + failed + pending, always.

The counts are kept one by one in the store, over all runs of the job, so that their sum can be
wrong and is checked. What a callback says counts when its request is acknowledged, and not before.
Stats, for a spider named ``datasets``: ``kaggle/datasets/discovered``, ``…/stored``, ``…/skipped``,
``…/failed``, ``…/pending``, ``…/skipped/<reason>``, ``…/failed/<reason>``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from kagglecrawl.kaggle.errors import PERMANENT
from kagglecrawl.kaggle.paging import PAGE_ROWS, End
from kagglecrawl.state.gather import Gathering
from kagglecrawl.state.leases import Found, Lease, Settled, current
from kagglecrawl.state.store import Store, Verdict

#: Skipped for this reason: there were enough without it. A page that lacks such a row is not whole.
BEYOND_SAMPLE = "beyond_sample"
#: Skipped for this one: it is as the ledger has it, and only what is not was asked for.
UNCHANGED = "unchanged"
#: Failed for this one: nobody says what there is; the spider looks again.
NO_SOURCE = "no_source"
#: Failed for this one: a row of a list from which no resource can be told.
UNREADABLE = "unreadable_ref"
#: What has one of these reasons says nothing of a resource, so the ledger is not told.
#: Failed for one of these: another time would bring the same.
_FOR_GOOD = PERMANENT | {UNREADABLE}
_NOT_OF_A_RESOURCE = {BEYOND_SAMPLE, UNCHANGED, UNREADABLE}


@dataclass(frozen=True)
class Exported:
    """A resource whose row is in the feeds: its line of the page file, and for the ledger its
    record and what has come of its files, as JSON; None where there is nothing of the kind."""

    key: str
    page_row: str | None = None
    record: str | None = None
    manifest: str | None = None
    unchanged: bool = False


class Accounts:
    """Who was discovered, and what became of them.

    ``page_row`` gives an item's line of the page file, ``kept`` what of it the ledger keeps (record
    and manifest as JSON, or None); ``sample`` is how many items are wanted.
    """

    def __init__(
        self,
        store: Store,
        resource: str,
        page_row: Callable[[Any], str] | None = None,
        sample: int | None = None,
        kept: Callable[[Any], tuple[str | None, str | None]] | None = None,
        page_size: int = PAGE_ROWS,
    ) -> None:
        self._store = store
        self.gathering = Gathering(store)
        self.resource = resource
        self._page_row = page_row
        self._kept = kept
        self._sample = sample
        #: Rows of the list to a page.
        self.page_size = page_size
        #: What earlier runs of the job have stored.
        self.stored_before = store.count("stored")
        self.unchanged_before = store.count(UNCHANGED)
        self._retryable: bool | None = None
        self._admitted = 0
        #: How many open leases have reserved, by their numbers.
        self._reserved: dict[int, int] = {}
        if sample:
            store.prepare_sample()
            self._admitted = store.admitted()
        #: Pages of which something has changed since they were last looked at.
        self.touched: set[int] = set()
        #: The crawl ends: what is under way is to be given up now.
        self.ending = False

    # -- what a spider says -----------------------------------------------------------------------

    def discover(self, key: str, position: int | None = None) -> bool:
        """Open an account; False if it is known. ``position`` is its row in the list, from 0."""
        lease = current()
        if lease is not None and key in lease.found:
            known = True
        else:
            known = self._store.known(key) is not None
        if known:
            self.note("seen_again")
        elif lease is None:
            self._found(Found(key, position))
        else:
            lease.found[key] = Found(key, position)
        return not known

    def describe(self, key: str, version: str, signature: str) -> None:
        """Which version of a resource was listed, and a checksum of what was said of it: by these
        the ledger will know it again."""
        lease = current()
        if lease is None:
            self._store.describe(key, version, signature, time.time())
        else:
            lease.described[key] = version, signature

    def keep(self, key: str, record: str) -> None:
        """The record, as JSON, of a resource of which the rest is still to come, or has failed: the
        ledger keeps it, so that another crawl need only ask for the rest."""
        if (lease := current()) is not None:
            lease.records[key] = record

    def unchanged(self, key: str) -> None:
        """The item that follows is what the ledger has of this resource."""
        if (lease := current()) is not None:
            lease.unchanged.add(key)

    def skip(self, key: str, reason: str) -> None:
        """Close an account: left out, for this reason, a word."""
        self._say(Settled(key, Verdict.SKIPPED, reason))

    def fail(self, key: str, reason: str) -> None:
        """Close an account: could not be had, for this reason, a word."""
        self._say(Settled(key, Verdict.FAILED, reason))

    def note(self, name: str, by: int = 1) -> None:
        """Add to a count of the job's."""
        lease = current()
        if lease is None:
            self._store.add_count(name, by)
        else:
            lease.counts[name] = lease.counts.get(name, 0) + by

    def _say(self, settled: Settled) -> None:
        lease = current()
        if lease is None:
            self._settle(settled)
        else:
            lease.settled[settled.key] = settled

    # -- what can be read -------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many accounts are open."""
        return self.count("pending")

    def count(self, name: str) -> int:
        """One of the counts: discovered, stored, skipped, failed, or any other."""
        return self._store.count(name)

    def reasons(self, verdict: str) -> dict[str, int]:
        """Counts by reason, the largest first."""
        return self._store.counts(f"{verdict}/")

    def counts(self, head: str = "") -> dict[str, int]:
        """All of them that begin so, by the rest of the name, the largest first."""
        return self._store.counts(head)

    def balanced(self) -> bool:
        """True when the sum is right, and each count is what a look at all resources finds."""
        tally = self._store.tally()
        ends = sum(self.count(verdict) for verdict in Verdict)
        return self.count("discovered") == ends and all(
            self.count(verdict) == tally.get(verdict, 0) for verdict in Verdict
        )

    def lacking(self) -> int:
        """How many resources could not be had this time, and may be another time."""
        reasons = self.reasons(Verdict.FAILED)
        return sum(count for why, count in reasons.items() if why not in _FOR_GOOD)

    def walked_whole(self) -> bool:
        """Has every list come to its end, and not to Kaggle's cap, with no page lost? (Whether it
        began at its first row, the spider knows.)"""
        ends = self.counts("ended/")
        return bool(ends) and ends.keys() == {End.LAST} and not self.count("lists_failed")

    def receipts(self, key: str, folder: str) -> tuple[int, int] | None:
        """How many of a resource's files are safe in this folder as far as the job knows, and
        their bytes; None if it has not fetched them there."""
        transfer = self._store.transfer(key)
        if transfer is None or transfer.folder != folder or not transfer.finished:
            return None
        return self._store.members_done(transfer.number)

    # -- a sample ---------------------------------------------------------------------------------

    def room(self) -> bool:
        """May work on one more resource begin?"""
        begun = self.count("stored") + self._admitted + sum(self._reserved.values())
        return self._sample is None or begun < self._sample

    def reserve(self, key: str) -> bool:
        """May a resource that the running callback has discovered have a place in the sample? Work
        on it counts as begun from now on, whenever its request is made: so the first that are
        found are the sample, and not the first that are had."""
        lease = current()
        if self._sample is None or lease is None:
            return True
        if room := self.room():
            lease.reserved.append(key)
            self._reserved[lease.number] = len(lease.reserved)
        return room

    def sated(self) -> bool:
        """Has the sample all that it wants?"""
        return self._sample is not None and self.count("stored") >= self._sample

    def begin(self, key: str) -> None:
        """Work on a resource begins."""
        if self._sample is not None and self._store.admit(key):
            self._admitted += 1

    # -- at the acknowledgement -------------------------------------------------------------------

    def is_closed(self, key: str) -> bool:
        """Has it been stored or skipped?"""
        known = self._store.known(key)
        return known is not None and known.verdict in {Verdict.STORED, Verdict.SKIPPED}

    def open_keys(self) -> list[str]:
        """The keys of all that have no verdict yet."""
        return self._store.open_keys()

    def has_failed(self, key: str) -> bool:
        """Is it known that it could not be had?"""
        known = self._store.known(key)
        return known is not None and known.verdict is Verdict.FAILED

    def is_open(self, key: str) -> bool:
        """Is it known, and has no verdict yet?"""
        known = self._store.known(key)
        return known is not None and known.verdict is Verdict.PENDING

    def missing_verdict(self, lease: Lease) -> bool:
        """Has the lease come to its end, and said nothing of the resource that it was for?"""
        key = lease.key
        return not (
            key is None
            or key in lease.settled
            or any(each == key for each, _ in lease.keyed_items())
            or any(child.meta.get("key") == key for child in lease.children)
            or self._has_verdict(key)
        )

    def apply(self, lease: Lease) -> None:
        """Everything that the lease says now counts."""
        self._reserved.pop(lease.number, None)
        if lease.error:
            self.broken(lease.key, lease.error, lease.records.get(lease.key or ""))
        for name, by in lease.counts.items():
            self._store.add_count(name, by)
        for found in lease.found.values():
            self._found(found)
        for key in lease.reserved:
            self.begin(key)
        for key, described in lease.described.items():
            self._store.describe(key, *described, time.time())
        for settled in lease.settled.values():
            self._settle(settled)
        if not lease.error and self._kept is not None:
            for key, record in lease.records.items():
                self._store.add_outcome(key, time.time(), record, None)
        if lease.covered is not None:
            self._cover(*lease.covered)
        if lease.gathered is not None:
            self._store.gather(lease.gathered)

    def exported(self, key: str, item: Any, *, unchanged: bool) -> Exported:
        """What is to be noted of an item whose row is exported. Raises whatever making it
        raises."""
        page_row = self._page_row(item) if self._page_row else None
        record, manifest = self._kept(item) if self._kept and not unchanged else (None, None)
        return Exported(key, page_row, record, manifest, unchanged)

    def store(self, rows: Iterable[Exported]) -> None:
        """These resources' rows are in the feeds."""
        for row in rows:
            self._settle(Settled(row.key, Verdict.STORED, ""), row)
            if row.unchanged:
                self._store.add_count(UNCHANGED)

    def retryable(self) -> bool:
        """Would another run of the job try again what has failed?"""
        if self._retryable is not None:
            return self._retryable
        return self._store.any_failed() or bool(self.count(f"{Verdict.FAILED}/{NO_SOURCE}"))

    def close(self) -> None:
        """Before the store is closed."""
        self._retryable = self.retryable()

    def broken(self, key: str | None, reason: str, record: str | None = None) -> None:
        """A request for this resource, or for none, has failed; its ``record`` may be known."""
        if key is None:
            self._store.add_count("lists_failed")
        else:
            self._settle(Settled(key, Verdict.FAILED, reason), Exported(key, record=record))

    def reopen(self, key: str | None) -> None:
        """What an earlier run has failed at is tried again."""
        if key is None:
            self._store.add_count("lists_failed", -1)
            return
        known = self._store.known(key)
        if known is not None and known.verdict is Verdict.FAILED:
            self._uncount(known.verdict, known.reason)
            self._store.add_count("pending")
            self._store.settle(key, Verdict.PENDING, "")
            self._touch(known.page)

    def close_open(self, verdict: Verdict, reason: str) -> None:
        """Give everything that is still open this verdict."""
        for key in self._store.open_keys():
            self._settle(Settled(key, verdict, reason))

    def _has_verdict(self, key: str) -> bool:
        known = self._store.known(key)
        return known is not None and known.verdict is not Verdict.PENDING

    def _found(self, found: Found) -> None:
        position = found.position
        page = None if position is None else position // self.page_size + 1
        if self._store.discover(found.key, page, position):
            self._store.add_count("discovered")
            self._store.add_count("pending")
            self._touch(page)
        else:
            self._store.add_count("seen_again")

    def _settle(self, settled: Settled, row: Exported | None = None) -> None:
        known = self._store.known(settled.key)
        if known is None:
            self._found(Found(settled.key, None))
        elif known.verdict not in {Verdict.PENDING, Verdict.FAILED}:
            return  # it has its verdict
        if known is not None and known.verdict is Verdict.FAILED:
            self._uncount(known.verdict, known.reason)
        else:
            self._store.add_count("pending", -1)
        if known is not None and known.admitted:
            self._admitted -= 1
        row = row or Exported(settled.key)
        self._store.settle(settled.key, settled.verdict, settled.reason, row.page_row)
        self._store.add_count(settled.verdict)
        if settled.reason:
            self._store.add_count(f"{settled.verdict}/{settled.reason}")
        if self._kept is not None and settled.reason not in _NOT_OF_A_RESOURCE:
            self._store.add_outcome(settled.key, time.time(), row.record, row.manifest)
        self._touch(known.page if known else None)

    def _uncount(self, verdict: Verdict, reason: str) -> None:
        self._store.add_count(verdict, -1)
        if reason:
            self._store.add_count(f"{verdict}/{reason}", -1)

    def _cover(self, start: int, stop: int) -> None:
        """Rows of the list from ``start`` up to ``stop`` have been seen."""
        while start < stop:
            page = start // self.page_size + 1
            end = min(stop, page * self.page_size)
            self._store.list_page(page, end - start)
            self.touched.add(page)
            start = end

    def _touch(self, page: int | None) -> None:
        if page is not None:
            self._store.touch_page(page)
            self.touched.add(page)


def begin_run(store: Store, accounts: Accounts) -> int:
    """Another run of a job, or its first: what had failed is open again. Returns its number."""
    run = int(store.get("run") or 0) + 1
    if run == 1:
        store.put("began", str(time.time()))
    for key, _ in list(store.failed_requests()):
        accounts.reopen(key)
    store.begin_run()
    facts = {
        "run": run,
        "run_started": time.time(),
        "run_stored": store.count("stored"),
        "run_ended": "",
        "clean": 0,
    }
    for name, value in facts.items():
        store.put(name, str(value))
    store.commit()
    return run
