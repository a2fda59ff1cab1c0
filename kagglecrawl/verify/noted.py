"""Files that records name one by one: the replays and logs of episodes, with size and SHA-256.

The ledger has no table of them, as it has of a dataset's files. So what is in one folder is looked
at together, as if it were of one resource; of each file about 400 bytes are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from kagglecrawl.state.ledger_each import Entry
from kagglecrawl.state.ledger_look import Kept, KeptFile, Shelf
from kagglecrawl.verify.faults import EXTRA, Findings
from kagglecrawl.verify.names import BLOCK
from kagglecrawl.verify.resource import Check

#: The resource whose records name files, below its folder.
RESOURCE = "episodes"
#: What a crawl that is writing a file calls it.
_UNDER_WAY = ".incomplete"


class Noted(NamedTuple):
    """One such file, and whose it is; ``at`` is when that was noted."""

    file: KeptFile
    source: str
    key: str
    version: str
    at: float
    wanted: bool


@dataclass
class Folder:
    """A folder of such files, by name: those ``wanted`` are compared, the others only known."""

    where: str
    files: dict[str, Noted] = field(default_factory=dict)
    #: Whose files are meant; who has some in two folders is counted in one.
    resources: int = 0

    def add(self, noted: Noted) -> None:
        """One more; of those from several sources the newest is there."""
        there = self.files.get(noted.file.name)
        if there is None or there.at <= noted.at:
            self.files[noted.file.name] = noted

    # -- as ``Names`` -----------------------------------------------------------------------------

    def find(self, name: str) -> KeptFile | None:
        """The file of this name."""
        noted = self.files.get(name)
        return noted.file if noted else None

    def take(self, name: str) -> KeptFile | None:
        """The same, and it is not among those that are left any more; None for one that was taken
        before, is not known, or is not wanted."""
        noted = self.files.get(name)
        if noted is None or not noted.wanted:
            return None
        self.files[name] = noted._replace(wanted=False)
        return noted.file

    def left(self) -> Iterator[list[KeptFile]]:
        """Those that are wanted and were not taken, a block at a time."""
        left = [each.file for each in self.files.values() if each.wanted]
        for at in range(0, len(left), BLOCK):
            yield left[at : at + BLOCK]


def folders(shelf: Shelf, root: str, is_wanted: Callable[[str], bool]) -> list[Folder]:
    """The folders in which a resource of a wanted key has files; ``root`` is the spider's folder,
    as ``Kept.folder``. Raises ``LedgerRefused``."""
    found: dict[str, Folder] = {}
    for source, entry in shelf.each(RESOURCE):
        wanted, counted = is_wanted(entry.key), False
        for path, size, digest in _named(entry):
            first, second, name = (*path.split("/", 2), "", "")[:3]
            if name:
                where = f"{root}/{first}/{second}"
                file = KeptFile(name, size, digest, "")
                noted = Noted(file, source, entry.key, entry.version, entry.at, wanted)
                folder = found.setdefault(where, Folder(where))
                folder.add(noted)
                folder.resources += wanted and not counted
                counted = True
    return [each for each in found.values() if any(noted.wanted for noted in each.files.values())]


def _named(entry: Entry) -> Iterator[tuple[str, int, bytes]]:
    """Path, size and SHA-256 of the files that a record says were had."""
    record = entry.record or {}
    for each in (record.get("replay"), *(record.get("logs") or ())):
        if isinstance(each, dict) and not each.get("reason"):
            try:
                yield str(each["path"]), int(each["bytes"]), bytes.fromhex(each["sha256"])
            except (KeyError, TypeError, ValueError):
                continue  # of another release


class NotedCheck(Check):
    """The look at such a folder. What a crawl replaces meanwhile may be told as a fault."""

    def __init__(
        self, shelf: Shelf, folder: Folder, findings: Findings, *, read_back: bool, extras: bool
    ) -> None:
        """``extras``: say what nobody has named."""
        wanted = [each.file for each in folder.files.values() if each.wanted]
        size = sum(file.size for file in wanted)
        kept = Kept("", RESOURCE, "", "", 0, 0.0, len(wanted), size, False, folder.where)
        super().__init__(shelf, kept, findings, read_back=read_back, names=folder)
        self.counts.resources = folder.resources
        self._folder = folder
        self._extras = extras

    def whose(self, name: str) -> Kept:
        """The episode that has named it."""
        noted = self._folder.files.get(name)
        if noted is None:
            return self.kept
        return replace(self.kept, source=noted.source, key=noted.key, version=noted.version)

    def not_named(self, name: str) -> None:
        """A file that no record names."""
        last = name.rpartition("/")[2]
        if self._extras and not (last.startswith(".") and last.endswith(_UNDER_WAY)):
            self.wrong(EXTRA, name)

    def replaced(self) -> bool:
        """That is not known here."""
        return False
