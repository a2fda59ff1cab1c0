"""An archive that has to be whole before it can be unpacked: fetched to disk, and read from there.

Another run goes on behind what is there, and nothing of it counts before the whole has the checksum
that storage gives.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Self

from kagglecrawl.kaggle.errors import Damaged
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.disk import DiskGuard, unwritable
from kagglecrawl.transfer.source import PIECE
from kagglecrawl.transfer.stream import Source, Stream

#: Bytes after which the disk is looked at again.
_LOOK_EVERY = 64 << 20


def fetch(source: Source, path: Path, guard: DiskGuard, key: str, *, go_on: bool) -> None:
    """Have the object as a file. ``go_on``: what is there already is its beginning.

    Raises ``Damaged`` (the file is gone then), ``NoSpace``, and what the source raises.
    """
    try:
        with path.open("ab" if go_on else "wb") as file:
            have = file.tell() if file.tell() <= max(0, source.size) else 0
            file.truncate(have)
            guard.reserve(key, max(0, source.size - have))
            _receive(Stream(source, 0, 0), source, path, file, guard, key)
            file.flush()
            os.fsync(file.fileno())
    except Damaged:
        path.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise unwritable(error) from None


def _receive(
    stream: Stream, source: Source, path: Path, file: BinaryIO, guard: DiskGuard, key: str
) -> None:
    with path.open("rb") as known:
        while data := known.read(PIECE):
            stream.known(data)
    source.seek(stream.at)
    looked_at = stream.at
    while data := stream.take(PIECE):
        file.write(data)
        source.meter.written += len(data)
        guard.spend(key, len(data))
        if stream.at - looked_at >= _LOOK_EVERY:
            guard.check()
            looked_at = stream.at
    stream.check()


class LocalSource:
    """An archive on disk, as a source."""

    def __init__(self, path: Path, validator: str, meter: Meter) -> None:
        self.meter = meter
        self.position = 0
        self.stop_at: int | None = None
        self.validator = validator
        self.size = path.stat().st_size
        self.crc32c: int | None = None
        self.md5: bytes | None = None
        self._file = path.open("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def tail(self, length: int) -> bytes:
        """Its last bytes."""
        self.seek(max(0, self.size - length))
        return self._file.read(length)

    def seek(self, position: int) -> None:
        """Read on from here."""
        self.position = position
        self._file.seek(position)

    def read(self, limit: int = PIECE) -> bytes:
        """At most so many bytes; none at the end."""
        data = self._file.read(min(limit, PIECE))
        self.position += len(data)
        return data

    def distrust(self) -> None:
        """Nothing is remembered."""
