"""Objects of one bucket, each with a receipt: what the store says that it has.

A receipt counts if the store has computed what is compared: the MD5 in an ETag, or a Content-MD5
that it has checked. Where a store does neither, the object is read back.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Any

from kagglecrawl.kaggle.errors import RetryLater
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.s3.abilities import Abilities
from kagglecrawl.s3.calls import Calls, Missing, UploadGone
from kagglecrawl.s3.client import answered, translated
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import KeyRefused, StoreFailed, Unproved
from kagglecrawl.s3.receipts import (
    PUT_MOST,
    Entry,
    Part,
    Receipt,
    body_of,
    etag_of,
    fits,
    part_size,
)

__all__ = ["PUT_MOST", "Bucket", "Entry", "Part", "Receipt", "UploadGone", "part_size"]

_MOST_LISTED = 1000
_PIECE = 1 << 20

#: How often a store is asked for what it must have: what it says may be old.
_LOOKS = 4

#: What is said by a store that has no DeleteObjects.
_NO_DELETE_OBJECTS = {"NotImplemented", "MethodNotAllowed", "MalformedXML", "InvalidRequest"}
#: What rclone says to a part that it has had with other bytes.
_NOT_REPLACED = {"NotImplemented"}
_PARTS_WRONG = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall"}


class Bucket(Calls):
    """The bucket of a destination, used by several threads.

    Every method raises ``StoreFailed`` (after a few tries), ``StoreAway``, ``StoreRefused``,
    ``KeyRefused`` or ``Unproved``.
    """

    def __init__(
        self,
        client: Any,
        destination: Destination,
        abilities: Abilities,
        *,
        read_back: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(client, destination.bucket, pause)
        self.destination = destination
        self.abilities = abilities
        self._reads_back = read_back
        self._deletes_many = True
        self._address = clean(str(client.meta.endpoint_url))

    def describe(self) -> str:
        """Where it is and what it can do: one line for people."""
        return f"{self.destination.uri} at {self._address}: {self.abilities.describe()}"

    def put(
        self,
        key: str,
        data: bytes | bytearray | memoryview,
        content_type: str = "",
        *,
        sha256: bytes | None = None,
    ) -> Receipt:
        """Put an object of at most ``PUT_MOST`` bytes; ``sha256`` is theirs, if it is known.

        Bytes that came to the store as others are put again, twice.
        """
        body = body_of(data)
        md5 = hashlib.md5(body, usedforsecurity=False)
        asked: dict[str, Any] = {"Key": key, "Body": body, **self._checked(md5.digest())}
        if content_type:
            asked["ContentType"] = content_type

        def put() -> Receipt:
            try:
                answer = self.call("put_object", f"putting {key!a}", **asked)
            except StoreFailed as error:
                raise self._explained(key, error) from None
            etag = etag_of(answer)
            if self.abilities.proof == "etag" and etag != md5.hexdigest():
                raise Unproved(f"the store has other bytes of {key!a}", "store_damaged")
            receipt = Receipt(len(body), etag)
            if self._reads_back or self.abilities.proof == "read_back":
                self._read_back(key, len(body), sha256 or hashlib.sha256(body).digest())
            return receipt

        receipt = self.until_right(put)
        self.tally.count("puts")
        self.tally.count("bytes", len(body))
        return receipt

    def begin(self, key: str) -> str:
        """Begin a multipart upload: its id."""
        what = f"beginning an upload of {key!a}"
        answer = self.call("create_multipart_upload", what, Key=key)
        upload = str(answer.get("UploadId") or "")
        if not upload:
            raise StoreFailed(f"{what}: the store gives no id", cause="bad_reply")
        return upload

    def put_part(
        self, key: str, upload: str, number: int, data: bytes | bytearray | memoryview
    ) -> Part:
        """Send a part (from 1 on); another one of this number is replaced.

        Raises ``UploadGone`` too, also where the store cannot replace a part (rclone has written
        its bytes already): then the upload is aborted.
        """
        body = body_of(data)
        md5 = hashlib.md5(body, usedforsecurity=False)
        what = f"sending part {number} of {key!a}"
        asked: dict[str, Any] = {"Key": key, "UploadId": upload, "PartNumber": number, "Body": body}
        asked.update(self._checked(md5.digest()))

        def send() -> Part:
            try:
                answer = self.of_upload("upload_part", what, wrong=_NOT_REPLACED, **asked)
            except Unproved as error:
                if error.slug != "store_lost":
                    raise
                self.abort(key, upload)
                raise UploadGone(f"{what}: the store does not replace it") from None
            etag = etag_of(answer)
            if self.abilities.proof == "etag" and etag != md5.hexdigest():
                raise Unproved(f"{what}: the store has other bytes", "store_damaged")
            return Part(number, len(body), etag)

        part = self.until_right(send)
        self.tally.count("parts")
        self.tally.count("bytes", len(body))
        return part

    def complete(
        self,
        key: str,
        upload: str,
        parts: Sequence[Part],
        *,
        md5: bytes | None,
        sha256: bytes | None,
    ) -> Receipt:
        """Make one object of the parts, and see that it is the right one.

        ``md5`` of the whole is needed where ``abilities.multipart_etag`` is ``whole``, ``sha256``
        where an object is read back. Raises ``UploadGone`` too. An upload whose parts do not add
        up is aborted before ``Unproved`` is raised.
        """
        size = sum(part.size for part in parts)
        expected = self._whole_etag(parts, md5)
        named = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        what = f"ending the upload of {key!a}"
        asked: dict[str, Any] = {
            "Key": key,
            "UploadId": upload,
            "MultipartUpload": {"Parts": named},
        }
        try:
            self.of_upload("complete_multipart_upload", what, wrong=_PARTS_WRONG, **asked)
        except UploadGone:
            # It may be that the answer was lost, and the object is there.
            entry = self.head(key)
            known = bool(expected) or sha256 is not None
            if not known or entry is None or not fits(entry, Receipt(size, expected)):
                raise
        except Unproved:
            self.abort(key, upload)
            raise
        try:
            entry = self._look(key, Receipt(size, expected))
            if self._reads_back or not (expected or self.abilities.proof == "checksum"):
                self._read_back(key, size, sha256)
        except Unproved:
            self.abort(key, upload)
            raise
        return Receipt(size, entry.etag)

    def abort(self, key: str, upload: str) -> None:
        """End an upload, and have its parts removed; one that is gone is no matter."""
        try:
            what = f"aborting an upload of {key!a}"
            self.of_upload("abort_multipart_upload", what, Key=key, UploadId=upload)
        except UploadGone:
            pass

    def parts(self, key: str, upload: str) -> list[Part] | None:
        """The parts that the store has, in order; None if it does not know the upload, or has no
        list of parts."""
        if not self.abilities.lists_parts:
            return None
        found: dict[int, set[Part]] = {}
        asked: dict[str, Any] = {"Key": key, "UploadId": upload}
        while True:
            try:
                answer = self.of_upload("list_parts", f"listing the parts of {key!a}", **asked)
            except UploadGone:
                return None
            self.tally.count("lists")
            for one in answer.get("Parts", ()):
                part = Part(int(one["PartNumber"]), int(one["Size"]), etag_of(one))
                found.setdefault(part.number, set()).add(part)
            marker = answer.get("NextPartNumberMarker")
            if not answer.get("IsTruncated") or marker in {None, asked.get("PartNumberMarker")}:
                # SeaweedFS lists all that was ever sent under a number: which one counts?
                return [same.pop() for _, same in sorted(found.items()) if len(same) == 1]
            asked["PartNumberMarker"] = marker

    def uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Key and id of the uploads below a prefix that are not ended; none where the store has no
        list of them."""
        if not self.abilities.lists_uploads:
            return
        asked: dict[str, Any] = {"Prefix": prefix}
        while True:
            what = f"listing the uploads below {prefix!a}"
            try:
                answer = self.of_upload("list_multipart_uploads", what, **asked)
            except UploadGone:  # how rclone says that there are none
                return
            self.tally.count("lists")
            for one in answer.get("Uploads", ()):
                if one["Key"].startswith(prefix):
                    yield one["Key"], one["UploadId"]
            following = (answer.get("NextKeyMarker"), answer.get("NextUploadIdMarker"))
            before = (asked.get("KeyMarker"), asked.get("UploadIdMarker"))
            if not answer.get("IsTruncated") or not following[0] or following == before:
                return
            asked["KeyMarker"] = following[0]
            if following[1]:
                asked["UploadIdMarker"] = following[1]

    def list(self, prefix: str) -> Iterator[list[Entry]]:
        """All objects whose keys begin so, a page of at most 1000 at a time."""
        asked: dict[str, Any] = {"Prefix": prefix, "MaxKeys": _MOST_LISTED}
        what = f"listing {prefix!a}"
        while True:
            answer = self.call("list_objects_v2", what, **asked)
            self.tally.count("lists")
            found = (
                Entry(one["Key"], int(one["Size"]), etag_of(one))
                for one in answer.get("Contents", ())
            )
            # some have an entry for each folder
            page = [entry for entry in found if not (entry.key.endswith("/") and not entry.size)]
            if page:
                yield page
            if not answer.get("IsTruncated"):
                return
            token = answer.get("NextContinuationToken")
            if not token or token == asked.get("ContinuationToken"):
                raise StoreFailed(f"{what}: the store does not go on", cause="bad_reply")
            asked["ContinuationToken"] = token

    def head(self, key: str) -> Entry | None:
        """What the store says of one object; None if it has it not."""
        try:
            answer = self.call("head_object", f"asking for {key!a}", Key=key)
        except Unproved:
            return None
        finally:
            self.tally.count("heads")
        return Entry(key, int(answer["ContentLength"]), etag_of(answer))

    def agrees(self, entry: Entry, receipt: Receipt) -> bool:
        """Is what a list says what the receipt says, as far as lists tell?"""
        told = receipt if self.abilities.lists_etag else Receipt(receipt.size, "")
        return fits(entry, told)

    def prove(self, key: str, receipt: Receipt, sha256: bytes | None) -> None:
        """See that the store has the object; what it says may be old, so it is asked a few times.

        It is read back where that was asked for, or the receipt has no ETag.
        """
        self._look(key, receipt)
        if sha256 is not None and (self._reads_back or not receipt.etag):
            self._read_back(key, receipt.size, sha256)

    def read(self, key: str) -> Iterator[bytes]:
        """An object's bytes, at most 1 MiB at a time. What breaks off is not gone on with."""
        what = f"reading {key!a}"
        answer = self.call("get_object", what, Key=key)
        self.tally.count("reads")
        size, got = int(answer["ContentLength"]), 0
        with answer["Body"] as body:
            while True:
                try:
                    piece = body.read(_PIECE)
                except Exception as error:
                    raise translated(error, what) from None
                if not piece:
                    break
                got += len(piece)
                yield piece
        if got != size:
            raise StoreFailed(f"{what}: {got} of {size} bytes came", cause="cut")

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is gone is no matter."""
        remaining = iter(keys)
        while batch := list(islice(remaining, _MOST_LISTED)):
            if not self._delete_many(batch):
                for key in batch:
                    self.call("delete_object", f"removing {key!a}", Key=key)
            self.tally.count("deletes", len(batch))

    def _delete_many(self, keys: Sequence[str]) -> bool:
        """False where the store has no such call."""
        if not self._deletes_many or len(keys) == 1:
            return False
        named = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        what = f"removing {len(keys)} objects"
        try:
            answer = self.call("delete_objects", what, none=_NO_DELETE_OBJECTS, Delete=named)
        except Missing:
            self._deletes_many = False
            return False
        for error in answer.get("Errors", ()):
            told = str(error.get("Code") or ""), 400, str(error.get("Message") or "")
            raise answered(*told, f"removing {error.get('Key', '')!a}")
        return True

    def _explained(self, key: str, error: StoreFailed) -> StoreFailed | KeyRefused:
        """A store whose folders are real ones fails where it should refuse: at a key below an
        object, and at an object where there are keys below."""
        if error.cause != "server_error":
            return error
        look = self.once()
        parents = accumulate(key.split("/")[:-1], "{}/{}".format)
        try:
            beside = next((parent for parent in parents if look.head(parent)), "")
            if not beside and next(look.list(f"{key}/"), None):
                beside = f"{key}/"
        except RetryLater:
            return error
        return KeyRefused(f"the store cannot have {key!a} beside {beside!a}") if beside else error

    def _checked(self, md5: bytes) -> dict[str, str]:
        """What has the store check the bytes, where its answer would not tell."""
        if self.abilities.proof != "checksum":
            return {}
        return {"ContentMD5": base64.b64encode(md5).decode()}

    def _whole_etag(self, parts: Sequence[Part], md5: bytes | None) -> str:
        kind = self.abilities.multipart_etag
        if kind == "parts":
            digests = b"".join(bytes.fromhex(part.etag) for part in parts)
            whole = hashlib.md5(digests, usedforsecurity=False).hexdigest()
            return f"{whole}-{len(parts)}"
        return md5.hex() if kind == "whole" and md5 is not None else ""

    def _look(self, key: str, receipt: Receipt) -> Entry:
        """What the store says of an object, once it says what it should."""

        def look() -> Entry:
            entry = self.head(key)
            if entry is None:
                raise Unproved(f"the store does not have {key!a}", "store_lost")
            if entry.size != receipt.size:
                raise Unproved(
                    f"the store has {entry.size} bytes of {key!a} where it was given "
                    f"{receipt.size}",
                    "store_truncated",
                )
            if not fits(entry, receipt):
                raise Unproved(f"the store has other bytes of {key!a}", "store_damaged")
            return entry

        return self.until_right(look, tries=_LOOKS, reason="stale")

    def _read_back(self, key: str, size: int, sha256: bytes | None) -> None:
        """Compare every byte; a read that broke off is begun again."""
        if sha256 is None:
            raise ValueError(f"{key!a} is to be read back, and its SHA-256 is not known")

        def read() -> tuple[int, bytes]:
            digest, got = hashlib.sha256(), 0
            for piece in self.once().read(key):
                digest.update(piece)
                got += len(piece)
            return got, digest.digest()

        got, found = self.retried(read, f"reading {key!a} back")
        if got != size:
            raise Unproved(f"the store gives {got} of {size} bytes of {key!a}", "store_truncated")
        if found != sha256:
            raise Unproved(f"the store gives other bytes of {key!a}", "store_damaged")
