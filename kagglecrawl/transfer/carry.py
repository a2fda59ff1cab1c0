"""The store of a crawl, for its transfers: folders in it, and files of the workspace sent there."""

from __future__ import annotations

import logging
import threading
from functools import cached_property
from pathlib import Path

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.errors import Damaged
from kagglecrawl.s3.bucket import Bucket
from kagglecrawl.s3.crew import Crew
from kagglecrawl.s3.opened import open_bucket
from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.objects import StoreFolder
from kagglecrawl.transfer.proof import Proof
from kagglecrawl.transfer.receiver import BATCH, Receiver
from kagglecrawl.transfer.source import PIECE, Stopped
from kagglecrawl.transfer.staging import remove_tree

logger = logging.getLogger(__name__)

#: Bytes of parts that are on their way to the store, or wait for it, of all transfers together.
_UNDER_WAY = 32 << 20


class Stores:
    """What the transfers of a crawl need of its store, if it has one."""

    def __init__(self, config: KaggleConfig) -> None:
        self._config = config
        self._deleted = 0

    @cached_property
    def _bucket(self) -> Bucket:
        assert self._config.destination is not None
        return open_bucket(
            self._config.destination,
            uploads=self._config.uploads,
            read_back=self._config.read_back,
        )

    @cached_property
    def _crew(self) -> Crew:
        return Crew(self._config.uploads, _UNDER_WAY)

    def folder(
        self, uri: str, notes: Notes, archive: Path, stop: threading.Event
    ) -> StoreFolder | None:
        """The folder of one resource; None if there is no store. What it waits for ends when
        ``stop`` is set, with ``Stopped``."""
        destination = self._config.destination
        if destination is None:
            return None

        def pause(seconds: float) -> None:
            if stop.wait(seconds):
                raise Stopped

        bucket = self._bucket.pausing(pause)
        most = self._config.most_spooled
        return StoreFolder(bucket, self._crew, destination.key_of(uri), notes, archive, most)

    def carry(
        self, folder: Path, place: StoreFolder, notes: Notes, guard: DiskGuard, meter: Meter
    ) -> None:
        """Send every file of a folder that is noted and has no receipt.

        Raises ``Damaged`` where a file is not what was noted of it, and what the store raises.
        """
        receiver = place.receiver(notes, guard, meter)
        try:
            after = 0
            while rows := notes.stored(after, BATCH):
                after = rows[-1].number + 1
                for row in rows:
                    if not row.etag and not row.name.endswith("/"):
                        _send(receiver, row, folder / row.name)
                        receiver.pause(0, -1, following=0)
            receiver.flush(0, -1)
        finally:
            receiver.end()

    def clear(self, folder: Path) -> None:
        """The store has proved that it has what is in this folder: S3_DELETE_LOCAL."""
        if self._config.delete_local and folder.is_dir():
            remove_tree(folder)
            self._deleted += 1

    def counts(self) -> dict[str, int]:
        """What was asked of the store so far, by name."""
        if "_bucket" not in self.__dict__:
            return {}
        deleted = {"deleted_local": self._deleted} if self._deleted else {}
        return {**self._bucket.tally.counts(), **deleted}

    def close(self) -> None:
        """No more is sent."""
        if "_crew" in self.__dict__:
            self._crew.close()


def _send(receiver: Receiver, row: MemberRow, path: Path) -> None:
    proof = Proof(receiver.pool)
    with receiver.writing(row, proof) as write, path.open("rb") as file:
        while data := file.read(PIECE):
            proof.add(data)
            write(data)
        if proof.size != row.size or proof.sha256 != row.sha256:
            raise Damaged("a file in WORKSPACE is not what was fetched")
