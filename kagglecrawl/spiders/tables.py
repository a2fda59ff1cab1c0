"""Tables of Meta Kaggle, walked like lists: a chain of requests, each a stretch of the file.

What a stretch yields counts with its request, so kill and resume hold as for everything else; rows
stream, and memory stays flat. The file is read by transport/tables.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from scrapy import Request
from scrapy.http import Response
from scrapy.settings import BaseSettings
from twisted.python.failure import Failure

from kagglecrawl.arguments import Arguments
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.kaggle.paging import End
from kagglecrawl.metakaggle.folder import has_table
from kagglecrawl.metakaggle.table import TableRefused
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.state import leases
from kagglecrawl.transport.hub import NotInCache, check_hub
from kagglecrawl.transport.tables import TableResponse
from kagglecrawl.units import amount

_SLOT = "metakaggle"
_OF_TABLES = {
    "download_slot": _SLOT,
    "autothrottle_dont_adjust_delay": True,
    "dont_cache": True,
}

#: Seconds between two such lines of the log.
_TELL_EVERY = 10.0


class TableSpider(KaggleSpider):
    """A spider that reads tables of Meta Kaggle, among its other calls."""

    #: The tables that it reads.
    tables: ClassVar[tuple[str, ...]] = ()
    #: When it was last told how much of a table is read.
    _told = -math.inf

    @classmethod
    def update_settings(cls, settings: BaseSettings) -> None:
        """A table is no server, so nothing waits between two stretches."""
        super().update_settings(settings)
        own = {"delay": 0, "concurrency": settings.getint("CONCURRENT_REQUESTS")}
        slots = {_SLOT: own, **settings.getdict("DOWNLOAD_SLOTS")}
        settings.set("DOWNLOAD_SLOTS", slots, priority="spider")

    @classmethod
    def check(cls, args: Arguments, config: KaggleConfig) -> None:
        """If tables are what is read: are they there?"""
        if getattr(args, "source", "meta") == "meta":
            cls.check_tables(args, config)

    @classmethod
    def check_tables(cls, args: Arguments, config: KaggleConfig) -> None:
        """Are the tables in the user's folder, or can kagglehub fetch them?"""
        folder: Path | None = args.meta_kaggle  # type: ignore[attr-defined]
        if folder is None:
            check_hub(config.api_url)
        else:
            for name in cls.tables:
                with suppress(OSError):  # reading it will tell
                    if not has_table(folder, name):
                        raise SettingError(
                            f"meta_kaggle={folder} has no {name}.csv (nor that in a zip): name the "
                            "folder that has it, or leave meta_kaggle out to have it fetched"
                        )

    @property
    def meta_kaggle(self) -> Path | None:
        """The user's folder of Meta Kaggle; None: kagglehub fetches the tables that are read."""
        folder: Path | None = getattr(self.args, "meta_kaggle", None)
        return folder

    def table(
        self,
        name: str,
        each: str,
        columns: Sequence[str],
        *,
        needs: Sequence[str] = (),
        keep: str = "",
        key: str = "",
        before: str = "",
        then: str = "",
        most: int = 0,
    ) -> Request:
        """A request for a whole table; the method named ``each`` gets every ``Row`` of it once.

        A table without one of the columns that it ``needs`` ends the crawl; others of ``columns``
        may be absent. ``keep`` names a method that says of the cells whether a row is wanted; it is
        called in another thread, and with ``key``, a column, it gets that cell alone, which is
        quicker. The one named ``before`` is called in our thread before each stretch is read, in
        every run, so that ``keep`` has what it needs; the one named ``then`` when the table is
        over; both with nothing. ``most`` is how many rows that are wanted make a stretch,
        where they are small (0: as many as usual).
        """
        table = {
            "name": name,
            "columns": list(columns),
            "needs": list(needs),
            "keep": keep,
            "version": "",
            "stamp": "",
            **({"key": key} if key else {}),
            **({"before": before} if before else {}),
            **({"most": most} if most else {}),
        }
        return self._table_request(table, each, then, 0)

    def tabled(self, response: Response, each: str, then: str) -> Iterator[Any]:
        """A stretch of a table: its rows to ``each``, then the stretch after it."""
        assert isinstance(response, TableResponse)
        batch, name = response.batch, response.table.name
        stat = f"kaggle/tables/{name}"
        assert response.request is not None
        table = response.request.meta["table"]
        if lacks := set(table["needs"]) - set(response.table.columns):
            with self.remembering():
                step = f"put its {name}.csv there"
                if response.version:  # in kagglehub's cache
                    step = "delete it, and the same command fetches it again"
                raise TableRefused(
                    f"{response.table.path} has no column {min(lacks)}, so it is no table of Meta "
                    f"Kaggle's: {step}"
                )
        if response.changed:
            self.logger.warning(
                "%s has changed since this job began to read it: it is read again from its "
                "beginning, and rows that are known are passed over",
                response.table.path,
            )
            self._count(f"{stat}/changed")
        self._count(f"{stat}/rows", batch.read)
        self._count(f"{stat}/wanted", len(batch.rows))
        method = getattr(self, each)
        with self.remembering():
            for row in batch.rows:
                yield from method(row)
        if batch.next is not None:
            table = {**table, "version": response.version, "stamp": response.table.stamp}
            if time.monotonic() > self._told + _TELL_EVERY:
                self._told = time.monotonic()
                size = response.table.size
                self.logger.info("%s: %s of %s read", name, amount(batch.next), amount(size))
            yield self._table_request(table, each, then, batch.next)
            return
        self.list_ended(name, End.LAST)
        lease = leases.current()
        if lease is not None and self.page_shape.whole and self.page_place is not None:
            lease.covered = (0, self.page_shape.rows)
        if then:
            with self.remembering():
                yield from getattr(self, then)()

    def failed(self, failure: Failure) -> Iterator[Any]:
        """The errback: a table that is not in the cache any more is fetched."""
        if isinstance(failure.value, NotInCache):
            request: Request = failure.request  # type: ignore[attr-defined]
            offset = int(request.url.rpartition("=")[2])
            yield self._table_request(
                request.meta["table"], **request.cb_kwargs, offset=offset, fetch=True
            )
        else:
            yield from super().failed(failure)

    def _table_request(
        self, table: dict[str, Any], each: str, then: str, offset: int, *, fetch: bool = False
    ) -> Request:
        known = self.meta_kaggle is not None or (table["version"] and not fetch)
        return Request(
            f"metakaggle://tables/{table['name']}?offset={offset}",
            callback=self.tabled,
            errback=self.failed,
            dont_filter=True,
            # kagglehub asks Kaggle, before the first stretch is there
            meta={"table": table, "family": "" if known else "download", **_OF_TABLES},
            cb_kwargs={"each": each, "then": then},
        )
