"""``scrapy …`` in a process that kills itself while it has files in its hands:
``python -m tests.transfer.victim crawl datasets …``.

As tests/killing/victim.py, whose points it has as well, with ``KILL_AT=merging:3``; those below are
of transfers. ``COMMIT_EVERY`` is as there.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any, BinaryIO

from scrapy import cmdline
from urllib3.connection import HTTPConnection

from kagglecrawl.state import commits, transfers
from kagglecrawl.transfer import unpack
from kagglecrawl.transfer.files import Files
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.staging import Staging
from kagglecrawl.transfer.stream import Stream
from kagglecrawl.transfer.untar import Untar
from tests.killing import victim as crawl

#: Bytes of one file after which the point "deep" is passed.
DEEP = 6 << 20
#: What a crawl leaves unread in its socket; else storage could send a small archive at a stroke.
RECEIVE_BUFFER = 1 << 16

POINTS = {
    "begun": "a transfer is noted as begun, nothing is on disk",
    "listing": "a part of the archive's directory is noted",
    "listed": "all of the directory is noted",
    "taken": "some bytes have come",
    "writing": "half of some bytes is written to a file",
    "deep": f"{DEEP >> 20} MiB of one file are written",
    "syncing": "members are written, not safe on disk",
    "synced": "members are safe on disk, not noted",
    "noted": "members are noted",
    "spooled": "an archive is on disk as a whole",
    "unpacking": "a part of that is unpacked",
    "whole": "all files are there, beside their place",
    "placed": "the folder has its name, and nobody knows",
    "merging": "a part of the files is in a folder that was there",
    "merged": "all of them are, and the folder beside it is still there",
    "published": "all files are at their place, the job does not know",
    "finished": "the job knows",
}


def _around_writes() -> None:
    write = Files.write

    def writing(self: Files, file: BinaryIO, data: bytes) -> None:
        if crawl._due("writing"):
            write(self, file, data[: len(data) // 2])
            crawl._die()
        write(self, file, data)
        if file.tell() >= DEEP:
            crawl._pass("deep")

    Files.write = writing  # type: ignore[method-assign]


def _around_places() -> None:
    rename, replace = Path.rename, Path.replace

    def renaming(self: Path, target: Any) -> Path:
        renamed = rename(self, target)
        if self.name.endswith(".incomplete"):
            crawl._pass("placed")
        return renamed

    def replacing(self: Path, target: Any) -> Path:
        replaced = replace(self, target)
        if any(each.name.endswith(".incomplete") for each in self.parents):
            crawl._pass("merging")
        return replaced

    Path.rename = renaming  # type: ignore[assignment, method-assign]
    Path.replace = replacing  # type: ignore[assignment, method-assign]


def _arm() -> None:
    crawl._arm()
    _around_writes()
    _around_places()
    crawl._around(transfers.Transfers, "begin", after="begun")
    crawl._around(Notes, "note", after="listing")
    crawl._around(Notes, "listed", after="listed")
    crawl._around(Stream, "take", after="taken")
    crawl._around(Staging, "make_safe", before="syncing", after="synced")
    crawl._around(Notes, "done", after="noted")
    crawl._around(unpack, "fetch", after="spooled")
    crawl._around(Untar, "_take", after="unpacking")
    crawl._around(Staging, "publish", before="whole", after="published")
    crawl._around(Staging, "_merge", after="merged")
    crawl._around(transfers.Transfers, "finish", after="finished")


if __name__ == "__main__":
    commits.EVERY = float(os.environ.get("COMMIT_EVERY", commits.EVERY))
    narrow = (socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    HTTPConnection.default_socket_options = [*HTTPConnection.default_socket_options, narrow]
    _arm()
    cmdline.execute(["scrapy", *sys.argv[1:]])
