"""One object on its way to a store, piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial

from kagglecrawl.kaggle.errors import Damaged, KaggleError, Unusable
from kagglecrawl.s3.bucket import PUT_MOST, Bucket, Part, Receipt, UploadGone, part_size
from kagglecrawl.s3.crew import Crew
from kagglecrawl.s3.errors import StoreFailed


class Upload:
    """One object on its way, of a size that is known: in one PUT if that is small enough, else in
    parts of a multipart upload.

    ``pool`` sums up what is sent, where the store wants a sum of the whole. ``upload`` is that of
    another run, or empty; ``note`` is told its id before the first part is sent, and ``sent`` the
    bytes of each part.
    """

    def __init__(
        self,
        bucket: Bucket,
        crew: Crew,
        key: str,
        size: int,
        upload: str,
        note: Callable[[str], None],
        sent: Callable[[int], None],
        pool: Executor,
    ) -> None:
        self._bucket = bucket
        self._crew = crew
        self._key = key
        self._upload = upload
        self._note = note
        self._told = sent
        self._pool = pool
        #: The sum of the part before, under way.
        self._summing: Future[None] | None = None
        self._whole = size <= PUT_MOST
        self._part_size = PUT_MOST if self._whole else part_size(size)
        self._buffer = bytearray()
        self._parts: list[Future[Part]] = []
        self._there: dict[int, Part] = {}
        self._begun = False
        whole_md5 = not self._whole and bucket.abilities.multipart_etag == "whole"
        self._md5 = hashlib.md5(usedforsecurity=False) if whole_md5 else None

    def write(self, data: bytes) -> None:
        """The next bytes."""
        view = memoryview(data)
        while view:
            room = self._part_size - len(self._buffer)
            if not room:
                raise Damaged(f"{self._key!a} has more bytes than it should")
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == self._part_size and not self._whole:
                self._send()

    def end(self, sha256: bytes) -> Future[Receipt]:
        """These were all of them; what the store says of it."""
        if self._whole:
            data = self._buffer
            self._told(len(data))
            put = partial(self._bucket.put, self._key, data, sha256=sha256)
            return self._crew.submit(len(data), put)
        if self._buffer:
            self._send()
        self._wait_for_sum()
        md5 = self._md5.digest() if self._md5 else None
        return self._crew.submit(0, partial(self._complete, md5, sha256))

    def wait(self) -> None:
        """Until none of its parts is on its way: they must not come after another run's."""
        for part in self._parts:
            with suppress(Exception):
                part.result()

    def abort(self) -> None:
        """It is not to be had."""
        self.wait()
        if self._upload:
            with suppress(KaggleError):  # it is ended when the folder is looked at next
                self._bucket.abort(self._key, self._upload)
            self._note("")

    def _send(self) -> None:
        self._begin()
        for part in self._parts:
            if part.done() and (error := part.exception()):
                raise error
        data, self._buffer = self._buffer, bytearray()
        if self._md5:
            self._wait_for_sum()
            self._summing = self._pool.submit(self._md5.update, data)
        send = partial(self._send_part, len(self._parts) + 1, data)
        self._parts.append(self._crew.submit(len(data), send))
        self._told(len(data))

    def _wait_for_sum(self) -> None:
        if self._summing is not None:
            self._summing.result()

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        if not self._bucket.abilities.multipart:
            raise Unusable(
                f"{self._key!a} is too large for one request, and the store has no multipart "
                "uploads: leave such files out (max_bytes), or take another store",
                "store_refused",
            )
        there = self._bucket.parts(self._key, self._upload) if self._upload else None
        if there is None:
            self._upload = self._bucket.begin(self._key)
            self._note(self._upload)
        else:
            self._there = {part.number: part for part in there}

    def _send_part(self, number: int, data: bytearray) -> Part:
        there = self._there.get(number)
        if there is not None:
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if (there.size, there.etag) == (len(data), md5):
                self._bucket.tally.count("parts_kept")
                return there
        try:
            return self._bucket.put_part(self._key, self._upload, number, memoryview(data))
        except UploadGone:
            raise self._gone() from None

    def _complete(self, md5: bytes | None, sha256: bytes) -> Receipt:
        self.wait()
        parts = [part.result() for part in self._parts]
        try:
            return self._bucket.complete(self._key, self._upload, parts, md5=md5, sha256=sha256)
        except UploadGone:
            raise self._gone() from None

    def _gone(self) -> StoreFailed:
        return StoreFailed(f"the upload of {self._key!a} was ended by somebody else")
