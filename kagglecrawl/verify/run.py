"""A whole look: every resource of the ledger that has files, several at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

from kagglecrawl.s3.crew import Crew
from kagglecrawl.state.ledger_look import Kept, Shelf
from kagglecrawl.verify.faults import EXTRA, UNOWNED, UNREAD, Fault, Findings
from kagglecrawl.verify.noted import RESOURCE, Folder, NotedCheck, folders
from kagglecrawl.verify.resource import Place, verify

#: Resources that are looked at at once, and that wait to be.
AT_ONCE = 4
_WAITING = 32
#: Seconds between two calls of ``tick``.
_TICK = 0.5


@dataclass(frozen=True)
class Wanted:
    """Which resources are meant: of one spider, or of all; those whose keys match one of the globs,
    or all."""

    spider: str = ""
    keys: Sequence[str] = ()

    def has(self, key: str) -> bool:
        """Is this one meant?"""
        return not self.keys or any(fnmatchcase(key, glob) for glob in self.keys)


class Look:
    """Compares what is meant; ``place_of`` gives the place of a folder, ``tick`` is called about
    twice a second."""

    def __init__(
        self,
        shelf: Shelf,
        place_of: Callable[[str], Place],
        findings: Findings,
        tick: Callable[[], None],
        *,
        read_back: bool,
        output: Callable[[str], str] | None = None,
    ) -> None:
        """``output`` gives a spider's folder, for files that records name; without it those are
        passed over."""
        self._output = output
        self._shelf = shelf
        self._place_of = place_of
        self._findings = findings
        self._tick = tick
        self._read_back = read_back
        self._ticked = time.monotonic()

    def run(self, wanted: Wanted) -> int:
        """How many resources were meant. Raises ``LedgerRefused``, what ``place_of`` raises, and
        the ``KaggleError`` of a store that cannot be used."""
        crew = Crew(AT_ONCE, _WAITING)
        under_way: deque[Future[None]] = deque()
        roots: set[str] = set()
        count = 0
        try:
            for kept in self._shelf.kept(wanted.spider):
                if not wanted.has(kept.key):
                    continue
                count += 1
                if root := _root(kept.folder):
                    roots.add(root)
                under_way.append(crew.submit(1, partial(self._verify, kept)))
                while len(under_way) >= _WAITING:
                    self._wait(under_way.popleft())
            for folder in self._noted(wanted):
                count += folder.resources
                under_way.append(crew.submit(1, partial(self._compare, folder, wanted)))
            while under_way:
                self._wait(under_way.popleft())
            if not wanted.keys:
                for root in sorted(roots):
                    self._wait(crew.submit(1, partial(self._unowned, root)))
        finally:
            crew.close()
        return count

    def _verify(self, kept: Kept) -> None:
        place = self._place_of(kept.folder)
        verify(self._shelf, kept, place, self._findings, read_back=self._read_back)

    def _noted(self, wanted: Wanted) -> list[Folder]:
        if self._output is None or wanted.spider not in {"", RESOURCE}:
            return []
        return folders(self._shelf, self._output(RESOURCE), wanted.has)

    def _compare(self, folder: Folder, wanted: Wanted) -> None:
        check = NotedCheck(
            self._shelf,
            folder,
            self._findings,
            read_back=self._read_back,
            extras=not wanted.keys,
        )
        self._place_of(folder.where).compare(check)
        check.end()

    def _unowned(self, root: str) -> None:
        try:
            for where in self._place_of(root).unowned(root, self._shelf):
                self._findings.add(Fault(EXTRA, where, what=UNOWNED))
        except OSError as error:
            self._findings.add(Fault(UNREAD, f"{root}/", reason=error.strerror or str(error)))

    def _wait(self, future: Future[None]) -> None:
        while True:
            if time.monotonic() - self._ticked >= _TICK:
                self._tick()
                self._ticked = time.monotonic()
            try:
                return future.result(timeout=_TICK)
            except NotYet:
                if future.done():  # it is the future's own
                    raise


def _root(folder: str) -> str:
    """The folder of resources' folders that this one is in; empty if it is in none of its own."""
    root = folder.rpartition("/")[0]
    if root.startswith("s3://"):
        return root if root.removeprefix("s3://").partition("/")[2] else ""
    return root
