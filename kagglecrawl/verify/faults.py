"""What can be wrong with files that are stored, and how many are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.ledger_look import Kept
from kagglecrawl.units import amount

#: What may be found of a file, or of a whole folder.
MISSING, CHANGED, EXTRA, UNREAD = "missing", "changed", "extra", "unread"
#: And in what it has changed: its size (bytes), its checksum (SHA-256 where the file was read,
#: else the ETag that the store gives), or its kind: it is no file any more.
SIZE, CHECKSUM, KIND = "size", "checksum", "kind"
#: Of ``EXTRA``: a folder that belongs to no resource of the ledger.
UNOWNED = "unowned"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    ``where`` is a path below the workspace or a URI; it ends in a slash for a whole folder, of
    which ``files`` counts the files if they are known. ``expected`` and ``found`` are sizes in
    bytes or checksums, as ``what`` says. ``resource`` is whose files they are, if anybody's.
    """

    kind: str
    where: str
    resource: Kept | None = None
    what: str = ""
    expected: int | str | None = None
    found: int | str | None = None
    files: int = 1
    reason: str = ""

    def as_object(self) -> dict[str, Any]:
        """For programs; what says nothing is left out."""
        whose = self.resource
        given = {
            "fault": self.kind,
            "what": self.what,
            "spider": whose.spider if whose else "",
            "source": whose.source if whose else "",
            "key": whose.key if whose else "",
            "version": whose.version if whose else "",
            "where": self.where,
            "files": self.files if self.where.endswith("/") else None,
            "expected": self.expected,
            "found": self.found,
            "reason": self.reason,
        }
        return {name: value for name, value in given.items() if value not in {None, ""}}

    def as_text(self) -> str:
        """For people: one line."""
        return f"{self.kind:<8} {_shown(self.where)}{self._detail()}"

    def _detail(self) -> str:
        whole = self.where.endswith("/")
        match self.kind, self.what:
            case "changed", "size":
                return f": {self.found:,} bytes, and {self.expected:,} were stored"
            case "changed", "kind":
                return ": it is no file"
            case "changed", _ if self.reason:
                return f": {_line(self.reason)}"
            case "changed", _:
                return ": the same size, and other contents"
            case "extra", "unowned":
                return ": the ledger has no files of anybody there"
            case "missing", _ if whole:
                return f": all of it, {self.files:,} file{'' if self.files == 1 else 's'}"
        return f": {_line(self.reason)}" if self.reason else ""


@dataclass
class Counts:
    """What was looked at. ``bytes`` are those that the ledger has of the files that are right."""

    resources: int = 0
    files: int = 0
    bytes: int = 0
    #: Of the files that are right, those in a store.
    in_store: int = 0
    #: Bytes that were read.
    read: int = 0
    #: Of the files that are right, those of which the size alone could be compared.
    size_only: int = 0
    #: Files of earlier versions, which nobody has removed, and which count as nothing wrong.
    earlier: int = 0
    #: Resources whose files others have overwritten since, and those whose files a crawl replaced
    #: again and again while they were looked at.
    overwritten: int = 0
    unsettled: int = 0
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add what another has counted."""
        for name, value in vars(other).items():
            if name == "faults":
                self.faults.update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def _how(self) -> str:
        """Where they are, and what was compared."""
        where = [f"{self.in_store:,} in stores"] if self.in_store else []
        read = [f"{amount(self.read)} read"] if self.read else []
        return f" ({', '.join([*where, *read])})" if where or read else ""

    def as_object(self) -> dict[str, Any]:
        """For programs."""
        kinds = {kind: self.faults[kind] for kind in (MISSING, CHANGED, EXTRA, UNREAD)}
        return {**{k: v for k, v in vars(self).items() if k != "faults"}, **kinds}

    def as_text(self) -> str:
        """For people: one line."""
        kinds = [f"{self.faults[kind]:,} {kind}" for kind in (MISSING, CHANGED, EXTRA)]
        parts = [
            f"{_many(self.resources, 'resource')}: {_many(self.files, 'file')} right, "
            f"{amount(self.bytes)}" + self._how(),
            *kinds,
        ]
        for count, words in (
            (self.faults[UNREAD], "could not be read"),
            (self.size_only, "compared by size alone"),
            (self.earlier, "of earlier versions"),
            (self.overwritten, "resources overwritten by others since"),
            (self.unsettled, "resources replaced by a crawl meanwhile"),
        ):
            if count:
                parts.append(f"{count:,} {words}")
        return "; ".join(parts)


class Findings:
    """What is found, by several threads; ``tell`` is called with one fault at a time."""

    def __init__(self, tell: Callable[[Fault], None]) -> None:
        self._tell = tell
        self._lock = Lock()
        self.counts = Counts()
        #: Files that were looked at so far, right or not, and bytes that were read.
        self.looked = self.read = 0

    def close(self) -> None:
        """Tell no more: threads may still be looking."""
        with self._lock:
            self._tell = lambda _: None

    def add(self, fault: Fault) -> None:
        """One more thing that is wrong."""
        with self._lock:
            self.counts.faults[fault.kind] += fault.files
            self._tell(fault)

    def count(self, counts: Counts) -> None:
        """A resource is done."""
        with self._lock:
            self.counts.add(counts)

    def progress(self, files: int = 0, read: int = 0) -> None:
        """So many more files were looked at, and bytes were read."""
        with self._lock:
            self.looked += files
            self.read += read


def _shown(name: str) -> str:
    """A name as it is, but for what a terminal would obey or not show. It may hold what looks like
    a password or a query, and is none."""
    if name.isprintable():
        return name
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in name
    )


def _line(text: str) -> str:
    return " ".join(clean(text).split())


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
