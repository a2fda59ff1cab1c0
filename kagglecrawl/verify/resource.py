"""One resource's files, compared: what is the same for a folder of the workspace and of a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from kagglecrawl.state.ledger_look import Kept, KeptFile, Shelf
from kagglecrawl.verify.faults import EXTRA, Counts, Fault, Findings
from kagglecrawl.verify.names import Named, Names

#: Faults of a resource that are kept back until it is known that no crawl has replaced its files
#: meanwhile, and how often one is looked at anew for that.
_KEPT_BACK = 1000
_ATTEMPTS = 3


class Replaced(Exception):
    """A crawl has replaced the files of this resource since."""


class Place(ABC):
    """Where files are. ``folder`` and what is returned are as ``Kept.folder``: a path below the
    workspace, or a URI."""

    @abstractmethod
    def compare(self, check: Check) -> None:
        """Compare every file that is there, and that should be."""

    @abstractmethod
    def unowned(self, root: str, shelf: Shelf) -> Iterator[str]:
        """What is directly in this folder of resources' folders and belongs to none of them;
        folders end in a slash."""


class Check:
    """The look at one resource."""

    def __init__(
        self,
        shelf: Shelf,
        kept: Kept,
        findings: Findings,
        *,
        read_back: bool,
        names: Named | None = None,
    ) -> None:
        """``names`` are the files that should be there, if not those that the ledger's table of
        files has."""
        self.kept = kept
        self.read_back = read_back
        self.names = Names(shelf, kept.number) if names is None else names
        self.counts = Counts(resources=1)
        self._shelf = shelf
        self._findings = findings
        self._faults: list[Fault] = []
        self.told = False

    def right(self, file: KeptFile, *, by_size: bool = False) -> None:
        """A file is as it should be; ``by_size``, as far as its size tells."""
        self.counts.files += 1
        self.counts.bytes += file.size
        self.counts.size_only += by_size
        self.counts.in_store += self.kept.folder.startswith("s3://")
        self._findings.progress(files=1)

    def wrong(
        self,
        kind: str,
        name: str,
        what: str = "",
        expected: int | str | None = None,
        found: int | str | None = None,
        reason: str = "",
    ) -> None:
        """A file is not as it should be."""
        where = f"{self.kept.folder}/{name}"
        self._add(Fault(kind, where, self.whose(name), what, expected, found, reason=reason))

    def whose(self, name: str) -> Kept:
        """The resource whose file that is."""
        return self.kept

    def whole(self, kind: str, reason: str = "") -> None:
        """The whole folder is missing, or could not be read."""
        if self.kept.files:
            where = f"{self.kept.folder}/"
            self._add(Fault(kind, where, self.kept, files=self.kept.files, reason=reason))

    def not_named(self, name: str) -> None:
        """A file that this version has not."""
        if self._shelf.of_another_version(self.kept, name):
            self.counts.earlier += 1
        else:
            self.wrong(EXTRA, name)

    def progress(self, read: int) -> None:
        """So many bytes were read; for whoever is waiting, and by any thread."""
        self._findings.progress(read=read)

    def end(self) -> None:
        """All was compared; raises ``Replaced``."""
        self._tell()
        self._findings.count(self.counts)

    def _add(self, fault: Fault) -> None:
        self._findings.progress(files=fault.files)
        self._faults.append(fault)
        if len(self._faults) >= _KEPT_BACK:
            self._tell()

    def replaced(self) -> bool:
        """Has a crawl replaced the files since?"""
        return self._shelf.now(self.kept) != self.kept

    def _tell(self) -> None:
        if self._faults and self.replaced():
            raise Replaced
        for fault in self._faults:
            self._findings.add(fault)
            self.told = True
        self._faults.clear()


def verify(shelf: Shelf, kept: Kept, place: Place, findings: Findings, *, read_back: bool) -> None:
    """Compare the files of a resource. A crawl may replace them meanwhile: then they are compared
    again with what the ledger has now."""
    now: Kept | None = kept
    for _ in range(_ATTEMPTS):
        if now is None:
            return
        if now.overwritten:
            findings.count(Counts(overwritten=1))
            return
        if now.folder.startswith("s3://") != kept.folder.startswith("s3://"):
            break  # they have gone elsewhere: the next time
        check = Check(shelf, now, findings, read_back=read_back)
        try:
            place.compare(check)
            check.end()
        except Replaced:
            if check.told:
                break  # else the same would be told twice
            now = shelf.now(kept)
            continue
        return
    findings.count(Counts(unsettled=1))
