"""Where the members of a resource go: a folder of the workspace, or of a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.receiver import Receiver


class Place(Protocol):
    """One folder, for one transfer. Its methods are called in the transfer's thread."""

    @property
    def archive(self) -> Path:
        """Where an archive is kept that has to be whole before it can be unpacked."""

    @property
    def most_spooled(self) -> int | None:
        """Bytes that such an archive may have; None: as many as there is room for."""

    @property
    def takes_streams(self) -> bool:
        """Is an archive that can be read forward alone unpacked as it comes? What it holds may then
        be at its place before all of it has been proved."""

    def prepare(self) -> None:
        """Be ready to take members; what an earlier run has left stays."""

    def remove(self) -> object:
        """Nothing of what was taken counts, or stays."""

    def exact(self) -> bool:
        """Are names told apart there that differ in case or composition alone?"""

    def all_there(self, notes: Notes) -> bool:
        """Is all that an earlier run has noted there, and as it was? What is not is noted as
        missing."""

    def kept(self, row: MemberRow) -> int:
        """How many bytes of a member an earlier run has left there, that can be read again."""

    def read_kept(self, row: MemberRow, kept: int) -> Iterator[bytes]:
        """These bytes."""

    def receiver(self, notes: Notes, guard: DiskGuard, meter: Meter) -> Receiver:
        """What takes members to it."""

    def publish(self) -> None:
        """All is there that should be: let it count."""
