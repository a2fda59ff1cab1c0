"""Page files: ``page_<n>.jsonl``, the rows of one page of a list, whole or absent.

A page is 20 rows of the list, counted from 1, whatever page size Kaggle grants; rows are in the
list's order. A file on disk is written beside, made safe and renamed; in a store it is an object
(kagglecrawl/s3/pages.py), which takes longer and may fail for now (page_queue.py).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from scrapy import Spider


class Pages(Protocol):
    """The page files of one list, wherever they are."""

    @property
    def aside(self) -> bool:
        """Does a method take long, or fail for now (``KaggleError``)? Then it is called in a
        thread, ``write`` several times at once, each for another page."""

    def write(self, number: int, pieces: Iterable[bytes]) -> None:
        """Write or replace a page; where it raises, the page is whole or as it was."""

    def present(self) -> set[int]:
        """The numbers of the pages that are there; removes what killed processes left of others."""

    def close(self) -> None:
        """No more waits: what is under way ends soon, done or not."""


def pages_of(spider: Spider) -> Pages | None:
    """Where the spider wants its pages, if it has any: its ``page_store``, or ``page_folder``."""
    pages: Pages | None = getattr(spider, "page_store", None)
    folder: Path | None = getattr(spider, "page_folder", None)
    return pages or (None if folder is None else PageFiles(folder))


class PageFiles:
    """The page files of one list, in one folder."""

    aside = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, number: int, pieces: Iterable[bytes]) -> None:
        """Write or replace a page; raises ``OSError``, and the page is as it was."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(number)
        beside = path.with_name(f".page_{number}.{os.getpid()}.jsonl.incomplete")
        try:
            with beside.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(self._folder)

    def present(self) -> set[int]:
        """The numbers of the pages that are there; removes what killed processes left of others."""
        found: set[int] = set()
        if not self._folder.is_dir():
            return found
        for path in self._folder.iterdir():
            if match := re.fullmatch(r"page_([1-9]\d*)\.jsonl", path.name):
                found.add(int(match[1]))
            begun = re.fullmatch(r"\.page_\d+\.(\d+)\.jsonl\.incomplete", path.name)
            if begun and not _runs(int(begun[1])):
                path.unlink(missing_ok=True)
        return found

    def close(self) -> None:
        """Nothing waits here."""

    def _path(self, number: int) -> Path:
        return self._folder / f"page_{number}.jsonl"


def _runs(process: int) -> bool:
    """Is there another process of this id, which may be writing a page here?"""
    if process == os.getpid():
        return False
    if sys.platform == "win32":
        return True  # asking would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # somebody else's
    return True


def sync_folder(folder: Path) -> None:
    """Make a folder's entries safe on disk: names of files that were made or renamed in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
