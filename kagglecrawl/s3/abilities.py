"""What a store can do, found out by trying: the words of its manual are not asked."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.s3.calls import Calls
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import KeyRefused, RequestRefused, StoreFailed, StoreRefused, Unproved
from kagglecrawl.s3.receipts import etag_of

#: Seconds before a store is asked again for what it must have.
_WAITS = (0.2, 0.5, 1.0)
_CONTENT = b"kagglecrawl looks what this store can do; this object is removed at once.\n"
_OTHER = b"other bytes"
#: What the names of its objects begin with, and the age from which on they are another's that is
#: over.
_PROBE = ".kagglecrawl-probe-"
_LEFT = timedelta(seconds=30)


@dataclass(frozen=True)
class Abilities:
    """What was found out about a store."""

    put_etag: str = ""
    """``md5``: a PUT's ETag is the MD5 that the store computed; empty if it is something else."""
    multipart_etag: str = ""
    """Of an object that came in parts: ``parts`` (MD5 of the parts' MD5s, and their number),
    ``whole`` (MD5 of the object), or empty."""
    lists_etag: bool = False
    """A list gives the same ETags as HEAD."""
    checksum: str = ""
    """``crc32``: a wrong x-amz-checksum-crc32 is refused, and HEAD gives the right one."""
    checks_md5: bool = False
    """A wrong Content-MD5 is refused."""
    conditional: bool = False
    """``If-None-Match: *`` keeps an object that is there."""
    multipart: bool = False
    lists_uploads: bool = False
    lists_parts: bool = False
    reads: bool = False
    """An object can be read by these credentials."""

    @property
    def proof(self) -> str:
        """How an object is proved here: ``etag``; ``checksum`` (a Content-MD5 that the store has
        checked); or ``read_back``."""
        if self.put_etag == "md5":
            return "etag"
        return "checksum" if self.checks_md5 else "read_back"

    def describe(self) -> str:
        """One line for people."""
        proofs = {
            "etag": "objects are proved by the MD5 that the store computes",
            "checksum": "objects are proved by a Content-MD5 that the store checks",
            "read_back": "objects are proved by reading them back",
        }
        can = {
            "multipart uploads": self.multipart,
            "lists of uploads": self.lists_uploads,
            "lists of parts": self.lists_parts,
            "checksums": bool(self.checksum),
            "conditional writes": self.conditional,
        }
        there = ", ".join(name for name, known in can.items() if known) or "nothing more"
        lacking = ", ".join(name for name, known in can.items() if not known)
        return f"{proofs[self.proof]}; it has {there}" + (f", but no {lacking}" if lacking else "")


def probe(
    client: Any, destination: Destination, *, pause: Callable[[float], None] = time.sleep
) -> Abilities:
    """Try what a store can do, with objects below the prefix that are removed again: about 16
    requests.

    Raises ``StoreRefused``, ``StoreAway`` or ``StoreFailed`` with one sentence that names the
    setting.
    """
    head = f"{destination.prefix}/" if destination.prefix else ""
    key = f"{head}{_PROBE}{secrets.token_hex(8)}"
    trial = _Trial(client, destination, key, pause)
    try:
        found = trial.run()
        trial.sweep(f"{head}{_PROBE}")
        return found
    except KaggleError:
        trial.tidy()
        raise


class _Trial:
    def __init__(
        self, client: Any, destination: Destination, key: str, pause: Callable[[float], None]
    ) -> None:
        self._calls = Calls(client, destination.bucket, pause)
        self._pause = pause
        address = clean(str(client.meta.endpoint_url))
        given = ", which was given as http" if destination.made_https else ""
        self._setting = f"{destination.setting} ({destination.uri} at {address}{given})"
        self._key = key
        self._parted = f"{key}-parts"
        self._wrong = f"{key}-wrong"
        self._written: set[str] = set()
        self._upload = ""
        #: By the store's clock.
        self._put_at: datetime | None = None

    def run(self) -> Abilities:
        self._written.add(self._key)
        answer = self._needed("put_object", "an object cannot be put", Key=self._key, Body=_CONTENT)
        etag = etag_of(answer)
        if not etag:
            raise StoreRefused(
                f"{self._setting}: what answers there takes an object and gives no ETag, so it is "
                "no S3 store: check the endpoint"
            )
        what = "an object that was put is not there"
        there = self._needed("head_object", what, Key=self._key)
        self._put_at = there.get("LastModified")
        content = self._read()
        if there.get("ContentLength") != len(_CONTENT):
            raise StoreRefused(
                f"{self._setting}: what answers there does not keep an object as it was put: "
                "check the endpoint"
            )
        found = self._of_parts()
        etags = self._listed()
        heads = {self._key: etag_of(there), self._parted: found.pop("etag")}
        self._needed(
            "delete_object", f"an object cannot be removed, so {self._key} stays", Key=self._key
        )
        self._written.discard(self._key)
        return Abilities(
            put_etag="md5" if etag == _md5(_CONTENT).hex() == etag_of(there) else "",
            lists_etag=all(etags.get(key) == etag for key, etag in heads.items() if etag),
            checks_md5=self._refuses(ContentMD5=_b64(_md5(_OTHER))),
            checksum="crc32" if self._checks_crc32() else "",
            conditional=self._keeps(),
            reads=content == _CONTENT,
            **found,
        )

    def _read(self) -> bytes:
        """What was put, if it can be read."""

        def read() -> bytes:
            answer = self._calls.call("get_object", self._setting, Key=self._key)
            with answer["Body"] as body:
                return bytes(body.read())

        try:
            return self._calls.retried(read, f"{self._setting}: an object cannot be read")
        except KaggleError:
            return b""

    def sweep(self, head: str) -> None:
        """Remove all of it, and what crawls have left that were killed at this place."""
        self.tidy()
        if self._put_at is None:
            return
        before = self._put_at - _LEFT
        listed = self._tried("list_objects_v2", Prefix=head) or {}
        for one in listed.get("Contents", ()):
            if one.get("LastModified", before) < before:
                self._tried("delete_object", Key=one["Key"])
        begun = self._tried("list_multipart_uploads", Prefix=head) or {}
        for one in begun.get("Uploads", ()):
            if one["Key"].startswith(head) and one.get("Initiated", before) < before:
                asked = {"Key": one["Key"], "UploadId": one["UploadId"]}
                self._tried("abort_multipart_upload", **asked)

    def tidy(self) -> None:
        """Remove all of it, as far as that can be done."""
        if self._upload:
            with contextlib.suppress(KaggleError):
                self._tried("abort_multipart_upload", Key=self._parted, UploadId=self._upload)
        for key in sorted(self._written):
            with contextlib.suppress(KaggleError):
                self._tried("delete_object", Key=key)

    def _listed(self) -> dict[str, str]:
        """The ETags of what was put, by key; a list may be a moment late."""
        for seconds in (*_WAITS, 0.0):
            what = "its objects cannot be listed"
            answer = self._needed("list_objects_v2", what, Prefix=self._key)
            etags = {one["Key"]: etag_of(one) for one in answer.get("Contents", ())}
            if self._written <= etags.keys():
                return etags
            self._pause(seconds)
        if self._key in etags:
            return etags
        raise StoreRefused(
            f"{self._setting}: the store does not list an object that it has: check the "
            "endpoint, and what the credentials may do in this bucket"
        )

    def _of_parts(self) -> dict[str, Any]:
        """What there is of multipart uploads, and the ETag of an object made so."""
        nothing = {"multipart": False, "etag": ""}
        begun = self._tried("create_multipart_upload", Key=self._parted)
        self._upload = str((begun or {}).get("UploadId") or "")
        if not self._upload:
            return nothing
        asked = {"Key": self._parted, "UploadId": self._upload}
        part = self._tried("upload_part", **asked, PartNumber=1, Body=_CONTENT)
        if part is None:
            return nothing
        uploads = self._tried("list_multipart_uploads", Prefix=self._parted) or {}
        parts = self._tried("list_parts", **asked) or {}
        named = {"Parts": [{"PartNumber": 1, "ETag": part.get("ETag", "")}]}
        if self._tried("complete_multipart_upload", **asked, MultipartUpload=named) is None:
            return nothing
        self._written.add(self._parted)
        upload, self._upload = self._upload, ""
        there = self._tried("head_object", Key=self._parted) or {}
        if there.get("ContentLength") != len(_CONTENT):
            return nothing
        digest = _md5(_CONTENT)
        kinds = {f"{_md5(digest).hex()}-1": "parts", digest.hex(): "whole"}
        ids = {one.get("UploadId") for one in uploads.get("Uploads", ())}
        sizes = [one.get("Size") for one in parts.get("Parts", ())]
        # part ETags that are no MD5 prove nothing of an object made of them
        plain = etag_of(part) == digest.hex()
        return {
            "multipart": True,
            "lists_uploads": upload in ids,
            "lists_parts": sizes == [len(_CONTENT)],
            "multipart_etag": kinds.get(etag_of(there), "") if plain else "",
            "etag": etag_of(there),
        }

    def _checks_crc32(self) -> bool:
        if not self._refuses(ChecksumCRC32=_b64(_crc32(_OTHER))):
            return False
        right = _b64(_crc32(_CONTENT))
        asked = {"Key": self._wrong, "Body": _CONTENT, "ChecksumCRC32": right}
        if self._tried("put_object", **asked) is None:
            return False
        there = self._tried("head_object", Key=self._wrong, ChecksumMode="ENABLED") or {}
        return bool(there.get("ChecksumCRC32") == right)

    def _refuses(self, **more: str) -> bool:
        """Is an object refused for this?"""
        self._written.add(self._wrong)
        asked: dict[str, Any] = {"Key": self._wrong, "Body": _CONTENT, **more}
        try:
            self._calls.call("put_object", self._setting, **asked)
        except (Unproved, KeyRefused, RequestRefused):
            return True
        except (StoreRefused, StoreFailed) as error:
            self._passed_over(error)
        return False

    def _keeps(self) -> bool:
        """Is an object that is there kept from being replaced, where that is asked for?"""
        self._tried("put_object", Key=self._wrong, Body=_CONTENT)
        return self._refuses(IfNoneMatch="*")

    def _needed(self, name: str, what: str, **asked: Any) -> Any:
        """What a crawl cannot do without: a refusal is the setting's fault."""
        said = f"{self._setting}: {what}"
        for seconds in (*_WAITS, None):
            try:
                return self._calls.call(name, said, **asked)
            except (Unproved, KeyRefused, RequestRefused) as error:
                if seconds is None or not isinstance(error, Unproved):
                    raise StoreRefused(
                        f"{error}: check the endpoint, the bucket and the prefix"
                    ) from None
                self._pause(seconds)
        raise AssertionError("unreachable")

    def _tried(self, name: str, **asked: Any) -> Any:
        """What the store answers; None where it refuses."""
        try:
            return self._calls.call(name, f"{self._setting}: it cannot be looked at", **asked)
        except (Unproved, KeyRefused, RequestRefused):
            return None
        except (StoreRefused, StoreFailed) as error:
            self._passed_over(error)
            return None

    def _passed_over(self, error: StoreRefused | StoreFailed) -> None:
        """What the store cannot do is an answer as well; a failure that passes ends the probe."""
        if isinstance(error, StoreFailed) and error.cause != "server_error":
            raise error


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _crc32(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
