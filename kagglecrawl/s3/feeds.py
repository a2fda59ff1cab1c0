"""A feed at ``s3://`` counts as stored when the store has its bytes, and not when it says so.

Scrapy's storage, with its settings (``AWS_…``, ``FEED_STORAGE_S3_ACL``). What was uploaded is
looked at: its size, and its ETag, which is the MD5 of the bytes; where it is something else, the
object is read back. An upload that did not arrive whole is made again.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import closing
from typing import IO, Any, NamedTuple

from scrapy.extensions import feedexport

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.s3.errors import Unproved

logger = logging.getLogger(__name__)

_PIECE = 1 << 20
#: boto3 uploads in parts of so many bytes, if there is as much (its ``TransferConfig``).
_PART = 8 << 20
_GONE = {"404", "NoSuchKey", "NotFound"}


class _Sums(NamedTuple):
    """What identifies a file's bytes; ``etags`` are what a store may call them by."""

    size: int
    sha256: bytes
    etags: frozenset[str]


class S3FeedStorage(feedexport.S3FeedStorage):
    """Scrapy's, with proof. (The name is its as well: it is in the stats.)"""

    def _store_in_thread(self, file: IO[bytes]) -> None:
        with file:
            file.flush()
            sums = _sums(file)
            for attempt in range(1, Unproved.most_attempts + 1):
                # its own handle, which boto3 closes
                with open(file.name, "rb") as again:  # noqa: PTH123
                    super()._store_in_thread(again)
                try:
                    self._prove(sums)
                except Unproved as error:
                    if attempt == Unproved.most_attempts:
                        raise
                    logger.info("A feed is uploaded again: %s", error)
                else:
                    return

    def _prove(self, sums: _Sums) -> None:
        """Raise ``Unproved`` if the object is not these bytes, as far as the store tells."""
        from botocore.exceptions import ClientError

        of, name = {"Bucket": self.bucketname, "Key": self.keyname}, self.keyname
        try:
            head = self.s3_client.head_object(**of)
            size, etag = int(head["ContentLength"]), str(head.get("ETag", "")).strip('"')
            if size != sums.size:
                raise Unproved(
                    f"the store has {size} bytes of {name}, which are {sums.size}",
                    "store_truncated",
                )
            if etag not in sums.etags and self._read(of) != sums.sha256:
                raise Unproved(f"the store has other bytes of {name} than it got", "store_damaged")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _GONE:
                raise Unproved(
                    f"the store took {name}, and does not have it", "store_lost"
                ) from None
            raise OSError(clean(str(error))) from None

    def _read(self, of: dict[str, Any]) -> bytes:
        """The SHA-256 of what is there."""
        found = hashlib.sha256()
        with closing(self.s3_client.get_object(**of)["Body"]) as body:
            for piece in body.iter_chunks(_PIECE):
                found.update(piece)
        return found.digest()


def _sums(file: IO[bytes]) -> _Sums:
    file.seek(0)
    whole, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    parts: list[bytes] = []
    size = 0
    while piece := file.read(_PART):
        size += len(piece)
        whole.update(piece)
        sha256.update(piece)
        parts.append(hashlib.md5(piece, usedforsecurity=False).digest())
    of_parts = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    etags = frozenset({whole.hexdigest(), f"{of_parts}-{len(parts)}"})
    return _Sums(size, sha256.digest(), etags)
