"""Files in the workspace, compared with the ledger."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from kagglecrawl.state.ledger_look import KeptFile, Shelf
from kagglecrawl.verify.faults import CHANGED, CHECKSUM, KIND, MISSING, SIZE, UNREAD
from kagglecrawl.verify.resource import Check, Place

_PIECE = 1 << 20
#: How the folder is called in which a crawl collects files that are still to come.
_UNDER_WAY = ".incomplete"


class Workspace(Place):
    """The folders below the workspace."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    def compare(self, check: Check) -> None:
        """By size, or by reading all of it."""
        folder = self._folder / check.kept.folder
        try:
            with os.scandir(folder):
                pass
        except (FileNotFoundError, NotADirectoryError):
            check.whole(MISSING)
            return
        except OSError as error:
            check.whole(UNREAD, error.strerror or str(error))
            return
        for files in check.names.left():
            for file in files:
                self._compare(check, f"{folder}/{file.name}", file)
        for name in _walk(check, folder, ""):
            if check.names.find(name) is None:
                check.not_named(name)

    def _compare(self, check: Check, path: str, file: KeptFile) -> None:
        try:
            found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode):
                check.wrong(CHANGED, file.name, KIND)
            elif found.st_size != file.size:
                check.wrong(CHANGED, file.name, SIZE, file.size, found.st_size)
            elif not check.read_back:
                check.right(file, by_size=True)
            elif (digest := _sha256(check, path)) != file.sha256:
                check.wrong(CHANGED, file.name, CHECKSUM, file.sha256.hex(), digest.hex())
            else:
                check.right(file)
        except (FileNotFoundError, NotADirectoryError):
            check.wrong(MISSING, file.name)
        except OSError as error:
            check.wrong(UNREAD, file.name, reason=error.strerror or str(error))

    def unowned(self, root: str, shelf: Shelf) -> Iterator[str]:
        """But what crawls are still collecting."""
        try:
            with os.scandir(self._folder / root) as entries:
                for entry in entries:
                    if entry.name.startswith(".") and entry.name.endswith(_UNDER_WAY):
                        continue
                    path = f"{root}/{entry.name}"
                    if not entry.is_dir():
                        yield path
                    elif not shelf.has_folder(path):
                        yield f"{path}/"
        except (FileNotFoundError, NotADirectoryError):
            return


def _sha256(check: Check, path: str) -> bytes:
    digest = sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (a million paths are dear)
        while data := file.read(_PIECE):
            digest.update(data)
            check.progress(len(data))
            check.counts.read += len(data)
    return digest.digest()


def _walk(check: Check, folder: Path, below: str) -> Iterator[str]:
    """The names of all files below a folder, and of all else that is no folder; links are not
    followed."""
    try:
        with os.scandir(folder / below) as entries:
            for entry in entries:
                name = f"{below}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(check, folder, f"{name}/")
                else:
                    yield name
    except FileNotFoundError:
        return  # it was there a moment ago
    except OSError as error:
        check.wrong(UNREAD, below, reason=error.strerror or str(error))
