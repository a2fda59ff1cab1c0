"""Files that somebody else has unpacked: looked at, noted with the job, and kept or removed.

With KAGGLE_TRANSPORT=official kagglehub fetches and unpacks; what it has put into the folder
is held to the same rules as an archive's members.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kagglecrawl.state.transfers import Done, Meter
from kagglecrawl.transfer.disk import DiskGuard, unwritable
from kagglecrawl.transfer.members import Choice, Member, shown
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.receiver import BATCH, listed
from kagglecrawl.transfer.source import PIECE
from kagglecrawl.transfer.staging import Staging, remove_tree

logger = logging.getLogger(__name__)

#: What kagglehub verifies is the archive; it has no checksum of single files.
_NO_CRC = 0
#: For folders: what is wanted may be in them, whatever the globs say.
_ANY = Choice()


def adopt(staging: Staging, choice: Choice, notes: Notes, guard: DiskGuard, meter: Meter) -> None:
    """Note every file of the staging folder, and remove what is not wanted.

    Raises ``NoSpace`` if the disk is full or fails.
    """
    try:
        _adopt(staging, choice, notes, guard, meter)
    except OSError as error:
        raise unwritable(error) from None


def _adopt(staging: Staging, choice: Choice, notes: Notes, guard: DiskGuard, meter: Meter) -> None:
    notes.begin_anew("", 0)
    digests: list[Done] = []
    for number, path in enumerate(_entries(staging.folder)):
        member = _member(number, path, staging.folder)
        reason = (_ANY if member.is_folder else choice).why_not(member)
        notes.note([listed(member, reason)], exact=True)
        if reason:
            logger.info("Left out %s (%s)", shown(member.name), reason)
            _remove(path)
            continue
        digests.append(Done(number, member.size, _sha256(path, meter)))
        staging.written(path)
        meter.files += 1
        if len(digests) >= BATCH:
            guard.check()
            staging.sync()
            notes.done(digests, [], 0, -1)
            digests = []
    staging.sync()
    notes.done(digests, [], 0, -1)
    notes.listed(-1)
    if choice.only:
        _remove_empty_folders(staging.folder)


def _entries(folder: Path) -> Iterator[Path]:
    """Everything below a folder in a fixed order, folders before what is in them; links are not
    followed."""
    for each in sorted(folder.iterdir()):
        yield each
        if each.is_dir() and not each.is_symlink():
            yield from _entries(each)


def _member(number: int, path: Path, root: Path) -> Member:
    found = path.lstat()
    fault = ""
    if stat.S_ISLNK(found.st_mode):
        fault = "link"
    elif not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        fault = "special_file"
    folder = stat.S_ISDIR(found.st_mode)
    size = 0 if folder else found.st_size
    name = path.relative_to(root).as_posix() + ("/" if folder else "")
    return Member(number, name, size, size, _NO_CRC, 0, 0, fault)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink()


def _sha256(path: Path, meter: Meter) -> bytes:
    digest = hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            while data := file.read(PIECE):
                digest.update(data)
                meter.written += len(data)
    return digest.digest()


def _remove_empty_folders(root: Path) -> None:
    """Folders whose files were all left out; the root stays."""
    for name, _, _ in os.walk(root, topdown=False):
        folder = Path(name)
        if folder != root and not any(folder.iterdir()):
            folder.rmdir()
