"""Page files: ``page_<n>.jsonl``, the rows of one page of a list, whole or absent.

A page is 20 rows of the list, counted from 1, whatever page size Kaggle grants, or all of them in
one file (``PageShape``); rows are in the list's order. A file on disk is written beside, made safe
and renamed; in a store it is an object (kagglecrawl/s3/pages.py), which takes longer and may fail
for now (page_queue.py).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from scrapy import Spider

from kagglecrawl.kaggle.paging import PageShape


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

    def size(self, number: int) -> int:
        """Bytes of a page that was there when ``present`` was called last, or has been written
        since; 0 if it was not there."""

    def close(self) -> None:
        """No more waits: what is under way ends soon, done or not."""


def pages_of(spider: Spider) -> Pages | None:
    """Where the spider wants its pages, if it has any: its ``page_store``, or ``page_folder``."""
    pages: Pages | None = getattr(spider, "page_store", None)
    folder: Path | None = getattr(spider, "page_folder", None)
    return pages or (None if folder is None else PageFiles(folder, shape_of(spider)))


def shape_of(spider: Spider) -> PageShape:
    """How many rows of its list are a page, and what its files are called."""
    shape: PageShape = getattr(spider, "page_shape", PageShape())
    return shape


class PageFiles:
    """The page files of one list, in one folder."""

    aside = False

    def __init__(self, folder: Path, shape: PageShape = PageShape()) -> None:  # noqa: B008 (frozen)
        self._folder = folder
        self._shape = shape

    def write(self, number: int, pieces: Iterable[bytes]) -> None:
        """Write or replace a page; raises ``OSError``, and the page is as it was."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / self._shape.name_of(number)
        beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}.incomplete")
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
            if number := self._shape.number_of(path.name):
                found.add(number)
            begun = re.fullmatch(r"\.(.+)\.(\d+)(\.\w+)\.incomplete", path.name)
            ours = begun is not None and self._shape.number_of(begun[1] + begun[3])
            if begun and ours and not _runs(int(begun[2])):
                path.unlink(missing_ok=True)
        return found

    def size(self, number: int) -> int:
        """Bytes of a page; 0 if it is not there."""
        try:
            return (self._folder / self._shape.name_of(number)).stat().st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Nothing waits here."""


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
