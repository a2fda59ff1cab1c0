"""One transfer on its own: a job in memory, a workspace, and what its thread does, run in the
test's own thread."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kagglecrawl.state.store import MemberRow, Store, TransferRow
from kagglecrawl.state.transfers import Meter, Transfers
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.members import Choice
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.staging import Staging
from kagglecrawl.transfer.unpack import Unpacking
from tests.transfer.stand import Storage, never, remote

T = TypeVar("T")

KEY = "me/set"
FOLDER = "output/datasets/dataset/me_set"


class Killed(BaseException):
    """The process is gone."""


class Unlimited(DiskGuard):
    """A disk without an end, which says what it was asked for."""

    def __init__(self) -> None:
        super().__init__(Path("/"), 0)
        self.reserved: list[int] = []

    def reserve(self, key: str, size: int) -> None:
        """There is room."""
        self.reserved.append(size)

    def check(self, size: int = 0) -> None:
        """There is room."""


@dataclass
class Bench:
    """A job in memory, a workspace, and what becomes of one resource in them."""

    workspace: Path
    store: Store = field(default_factory=Store.in_memory)
    guard: DiskGuard = field(default_factory=Unlimited)
    #: Called with its name before each thing that the thread notes.
    noting: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.job = Transfers(self.store, _nothing, lambda: None, self.store.commit)
        row = self.job.begin(KEY, FOLDER)
        self.number = row.number
        self.staging = Staging(self.workspace / FOLDER, row.token)

    @property
    def notes(self) -> Notes:
        """As another run would have them."""
        return _Spied(self.job, self.number, KEY, self.noting)

    @property
    def row(self) -> TransferRow:
        """What the job knows."""
        found = self.job.of(KEY)
        assert found is not None
        return found

    def run(
        self,
        storage: Storage,
        choice: Choice | None = None,
        *,
        renew: Callable[[], str] = never,
        stop: threading.Event | None = None,
        publish: bool = False,
    ) -> Meter:
        """One run of the transfer, as in a process of its own; raises what it raises."""
        staging = Staging(self.staging.target, self.staging.folder.name.split(".")[-2])
        assert staging.folder == self.staging.folder
        with remote(storage, renew=renew, stop=stop) as source:
            Unpacking(source, staging, choice or Choice(), self.notes, self.guard).run()
        if publish:
            staging.publish()
        return source.meter

    def members(self) -> dict[str, str]:
        """Every member: ``done``, ``open``, or why it is left out."""
        rows = self.store._db.execute(
            "SELECT name, CASE WHEN reason <> '' THEN reason WHEN sha256 IS NULL THEN 'open' "
            "ELSE 'done' END FROM member ORDER BY number"
        )
        return dict(rows.fetchall())

    def listing(self) -> list[tuple[str, str]]:
        """Name and reason of every member, as the archive lists them; none may be open."""
        rows = self.store._db.execute(
            "SELECT name, CASE WHEN reason = '' AND sha256 IS NULL THEN 'open' ELSE reason END "
            "FROM member ORDER BY number"
        )
        return rows.fetchall()

    def seen(self, storage: Storage) -> None:
        """As an earlier run leaves it that came no further than this object's first answer."""
        with remote(storage) as source:
            source.tail(1)
            self.job.begin_anew(self.number, source.validator, source.size)
        self.staging.prepare()

    def killed(self) -> None:
        """Nothing lasts but what was committed."""
        self.store.rollback()

    def rows(self) -> list[MemberRow]:
        """Those that are done."""
        return self.job.stored(self.number, 0, 1_000_000)

    def files(self) -> dict[str, bytes]:
        """What was collected."""
        return files_in(self.staging.folder)

    def proved(self) -> bool:
        """Does every file's note tell what is on disk, here or at its place?"""
        return self._agree(files_in(self.staging.target) | self.files(), all_there=True)

    def agrees(self) -> bool:
        """The same, though some may be gone: what was removed is forgotten after that."""
        return self._agree(files_in(self.staging.target) | self.files(), all_there=False)

    def _agree(self, files: dict[str, bytes], *, all_there: bool) -> bool:
        noted = {row.name: row for row in self.rows() if not row.name.endswith("/")}
        return (not all_there or noted.keys() <= files.keys()) and all(
            hashlib.sha256(files[name]).digest() == row.sha256 and len(files[name]) == row.size
            for name, row in noted.items()
            if name in files
        )


class _Spied(Notes):
    def __init__(
        self,
        job: Transfers,
        number: int,
        key: str,
        noting: Callable[[str], None],
    ) -> None:
        def ask(what: Callable[[], T], /) -> T:
            noting(what.__qualname__.split(".")[1])
            return what()

        super().__init__(job, number, key, ask)


def _nothing() -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def files_in(folder: Path) -> dict[str, bytes]:
    """Path and content of every file below a folder, and where a link leads; a folder without any
    ends in ``/``."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = b"-> " + bytes(path.readlink())
        elif path.is_dir():
            if not any(path.iterdir()):
                found[f"{name}/"] = b""
        else:
            found[name] = path.read_bytes()
    return found
