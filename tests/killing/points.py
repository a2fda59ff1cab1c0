"""The moments at which a crawl is killed.

Each is passed again and again, or once in a run; a kill is at its n-th pass. A kill counts only
if the process died of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class When(StrEnum):
    """Which runs of a job pass a point."""

    BEGIN = "the first"
    AGAIN = "all but the first"
    ANY = "any"
    END = "any, as it ends"
    BATCHES = "those of a feed in batches"


@dataclass(frozen=True)
class Point:
    """A moment: in words, which runs pass it, and the latest pass that a kill is drawn for, in a
    crawl of 150 resources and a commit every few of them."""

    words: str
    when: When
    passes: int = 1


POINTS = {
    "listing": Point("a list's callback, between two of what it yields", When.ANY, 50),
    "fetched": Point("a resource's callback, before and after its item", When.ANY, 50),
    "pipeline": Point("inside a pipeline", When.ANY, 40),
    "feed write": Point("a write to a feed, half of its bytes written", When.ANY, 3),
    "flushed": Point("feeds are written, the job's file is not committed", When.ANY, 3),
    "committed": Point("committed, no page file is written", When.ANY, 3),
    "page half": Point("a page file, half of its bytes written beside its place", When.ANY, 3),
    "page whole": Point("a page file is whole, and not renamed", When.ANY, 3),
    "page renamed": Point("a page file is at its place, and the job does not know", When.ANY, 3),
    "ledger untold": Point("all is committed, the ledger is not told", When.ANY, 3),
    "ledger told": Point("the ledger is told, and the job does not know", When.ANY, 3),
    "list noted": Point("the end: the ledger knows what was listed, the job goes on", When.END),
    "retry": Point("a request is put back to wait, not committed", When.ANY, 2),
    "held": Point("a Retry-After is known and holds all requests", When.ANY),
    "waiting": Point("committed, while requests wait for their time", When.ANY, 3),
    "job half": Point("a new job: its file is begun", When.BEGIN),
    "job whole": Point("a new job: its file is whole, and not renamed", When.BEGIN),
    "job named": Point("a new job: its file is there, and not whose it is", When.BEGIN),
    "job begun": Point("a new job: it is known whose it is, nothing more", When.BEGIN),
    "reopened": Point("a job is taken up again, nothing is changed", When.AGAIN),
    "feeds open": Point("feeds are cut to what is committed, nothing is noted", When.AGAIN),
    "run begun": Point("a run is noted as begun, no page file is looked at", When.AGAIN),
    "place half": Point("a full file is copied to its place, half of it", When.BATCHES, 2),
    "placed": Point("a full file is at its place, and the job does not know", When.BATCHES, 2),
    "stored": Point("the end: feeds are closed, not committed", When.END),
    "closed": Point("the end: all is committed, the job's file is open", When.END),
    "outside": Point("whenever: so many requests after its start", When.ANY, 40),
}
