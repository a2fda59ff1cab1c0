"""What the ledger is told of, and what it tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of one resource version.

    ``verdict`` is stored, skipped, failed, or pending where files are still to come. ``at`` is in
    seconds since the epoch. ``record`` is JSON (of one that has failed as well, if its files alone
    could not be had); None: what is kept of it stays.
    ``manifest`` is ``items.Download`` as JSON, ``choice`` says which files were wanted, and
    ``files`` has name, size in bytes, SHA-256 and, of one in a store, ETag of each; it is read
    once, and not into memory.
    Without a manifest no files were asked for, and what is kept of them stays.
    """

    key: str
    version: str
    verdict: str
    reason: str
    signature: str
    at: float
    record: str | None = None
    choice: str = ""
    manifest: str | None = None
    files: Iterable[tuple[str, int, bytes, str]] = ()
    #: Is its row at its place in all feeds?
    written: bool = True
    #: When a list had this version (seconds since the epoch), 0 if none had: of two versions that
    #: seen later is the newer one, whichever was asked for later.
    seen: float = 0.0


@dataclass(frozen=True)
class Known:
    """What the ledger has of one resource version: its newest verdict, and apart from that what is
    stored of it.

    ``record_signature`` is None where there is no record; ``fresh`` says that it is as new as the
    verdict, ``written`` that a row with it is at its place in the feeds of a crawl. Where later
    files of another version have come to the same folder, these are ``overwritten``.
    ``files_refused`` is why the files cannot be had for good, if that is known. ``gone`` is of the
    resource: '', not_listed or deleted.
    """

    version: str
    verdict: str
    reason: str
    signature: str
    at: float
    record_signature: str | None
    fresh: bool
    written: bool
    choice: str
    manifest: str | None
    files_signature: str | None
    overwritten: bool
    files_refused: str
    gone: str


@dataclass(frozen=True)
class Walk:
    """What a walk of a list has told: its rows, how many of them had not been listed any more, and
    how many others are not listed any more now."""

    listed: int
    back: int
    missing: int
