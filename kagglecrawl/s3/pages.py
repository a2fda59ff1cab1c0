"""Page files as objects: ``<folder>/page_<n>.jsonl`` and the like, each with its receipt.

Methods take as long as the store does, and are called in threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from kagglecrawl.kaggle.paging import PageShape
from kagglecrawl.s3.bucket import PUT_MOST, Bucket, UploadGone
from kagglecrawl.s3.errors import StoreFailed

_TYPE = "application/jsonl"


class Ended(Exception):
    """The crawl ends, so the store is not waited for."""


class PageObjects:
    """The page files of one list, below one key. ``bucket`` is called when it is first needed."""

    aside = True

    def __init__(
        self,
        bucket: Callable[[], Bucket | None],
        folder: str,
        shape: PageShape = PageShape(),  # noqa: B008 (frozen)
    ) -> None:
        self._bucket = bucket
        self._folder = folder
        self._shape = shape
        self._sizes: dict[int, int] = {}
        self._closed = threading.Event()

    def write(self, number: int, pieces: Iterable[bytes]) -> None:
        """Put or replace a page. Raises what ``Bucket.put`` raises."""
        bucket = self._opened()
        key = f"{self._folder}/{self._shape.name_of(number)}"
        blocks = _blocks(pieces, PUT_MOST)
        first, second = next(blocks, b""), next(blocks, None)
        if second is None:
            bucket.prove(key, bucket.put(key, first, _TYPE), hashlib.sha256(first).digest())
        else:
            _put_large(bucket, key, chain((first, second), blocks))

    def present(self) -> set[int]:
        """The numbers of the pages that are there; aborts uploads of pages that were not ended."""
        bucket, folder = self._opened(), f"{self._folder}/"
        self._sizes = {
            number: entry.size
            for page in bucket.list(folder)
            for entry in page
            if (number := self._shape.number_of(entry.key.removeprefix(folder)))
        }
        for key, upload in list(bucket.uploads(folder)):
            if self._shape.number_of(key.removeprefix(folder)):
                bucket.abort(key, upload)
        return set(self._sizes)

    def size(self, number: int) -> int:
        """Bytes of a page when ``present`` was called last; 0 if it was not there."""
        return self._sizes.get(number, 0)

    def close(self) -> None:
        """End every wait."""
        self._closed.set()

    def _opened(self) -> Bucket:
        bucket = self._bucket()
        assert bucket is not None  # else there would be nothing of this kind
        return bucket.pausing(self._pause)

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise Ended("the crawl ends")


def _put_large(bucket: Bucket, key: str, blocks: Iterable[bytes]) -> None:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    upload, parts = bucket.begin(key), []
    try:
        for number, block in enumerate(blocks, start=1):
            md5.update(block)
            sha256.update(block)
            parts.append(bucket.put_part(key, upload, number, block))
        bucket.complete(key, upload, parts, md5=md5.digest(), sha256=sha256.digest())
    except UploadGone:
        raise StoreFailed(f"the store has lost the upload of {key}") from None
    except BaseException:
        with contextlib.suppress(Exception):
            bucket.abort(key, upload)
        raise


def _blocks(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes, ``size`` of them at a time; the last has fewer."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(memoryview(held)[:size])
            del held[:size]
    if held:
        yield bytes(held)
