"""A store in memory, with boto3's methods: for what no store here does, and for failures."""

from __future__ import annotations

import base64
import hashlib
import io
from collections import defaultdict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from kagglecrawl.s3.abilities import Abilities
from kagglecrawl.s3.bucket import Bucket
from kagglecrawl.s3.destination import Destination

#: All that there is; as with SSE-KMS; and a store that tells nothing.
ALL = Abilities("md5", "parts", True, "crc32", True, True, True, True, True)
KMS = Abilities(checks_md5=True, multipart=True, lists_parts=True)
BLIND = Abilities(multipart=True)

#: What comes in place of the store's own answer: an error, an answer, or a function of both.
Turn = Exception | dict[str, Any] | Callable[["Memory", dict[str, Any]], Any] | None


def refusal(code: str, status: int = 400, message: str = "no") -> ClientError:
    """S3's error, as boto3 raises it."""
    answer = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "Something")


class Memory:
    """Objects in a dict.

    ``etag`` makes a PUT's ETag of the bytes; ``whole`` that of an object made of the ETags of its
    parts and its bytes. ``turns`` has, by method, what happens at the next calls in its place.
    """

    def __init__(
        self,
        *,
        etag: Callable[[bytes], str] = lambda data: md5(data).hex(),
        whole: Callable[[list[str], bytes], str] | None = None,
        checks_md5: bool = True,
    ) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.sent: dict[tuple[str, int], tuple[bytes, str]] = {}
        self.open: dict[str, str] = {}
        self.turns: dict[str, deque[Turn]] = defaultdict(deque)
        self.calls: list[str] = []
        self._etag = etag
        self._whole = whole or of_parts
        self._checks_md5 = checks_md5

        self.meta = SimpleNamespace(endpoint_url="http://127.0.0.1:1")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(type(self), f"_{name}")

        def call(**asked: Any) -> Any:
            self.calls.append(name)
            assert asked.pop("Bucket") == "bucket"
            turn = self.turns[name].popleft() if self.turns[name] else None
            if isinstance(turn, Exception):
                raise turn
            if isinstance(turn, dict):
                return turn
            return turn(self, asked) if turn else method(self, **asked)

        return call

    def _check(self, data: bytes, given: str | None) -> None:
        if given and self._checks_md5 and base64.b64decode(given) != md5(data):
            raise refusal("BadDigest")

    def _put_object(self, Key: str, Body: bytes, **more: Any) -> dict[str, Any]:
        self._check(Body, more.get("ContentMD5"))
        self.objects[Key] = bytes(Body), self._etag(bytes(Body))
        return {"ETag": f'"{self.objects[Key][1]}"'}

    def _head_object(self, Key: str, **more: Any) -> dict[str, Any]:
        if Key not in self.objects:
            raise refusal("404", 404)
        data, etag = self.objects[Key]
        return {"ContentLength": len(data), "ETag": f'"{etag}"'}

    def _get_object(self, Key: str) -> dict[str, Any]:
        if Key not in self.objects:
            raise refusal("NoSuchKey", 404)
        data, _ = self.objects[Key]
        return {"ContentLength": len(data), "Body": StreamingBody(io.BytesIO(data), len(data))}

    def _delete_object(self, Key: str) -> dict[str, Any]:
        self.objects.pop(Key, None)
        return {}

    def _delete_objects(self, Delete: Any) -> dict[str, Any]:
        for one in Delete["Objects"]:
            self.objects.pop(one["Key"], None)
        return {}

    def _list_objects_v2(self, Prefix: str, **more: Any) -> dict[str, Any]:
        found = [
            {"Key": key, "Size": len(data), "ETag": f'"{etag}"'}
            for key, (data, etag) in sorted(self.objects.items())
            if key.startswith(Prefix)
        ]
        return {"Contents": found, "IsTruncated": False}

    def _create_multipart_upload(self, Key: str) -> dict[str, Any]:
        upload = f"upload-{len(self.calls)}"
        self.open[upload] = Key
        return {"UploadId": upload}

    def _known(self, upload: str) -> None:
        if upload not in self.open:
            raise refusal("NoSuchUpload", 404)

    def _upload_part(
        self,
        Key: str,
        UploadId: str,
        PartNumber: int,
        Body: bytes,
        **more: Any,
    ) -> dict[str, Any]:
        self._known(UploadId)
        self._check(Body, more.get("ContentMD5"))
        self.sent[UploadId, PartNumber] = bytes(Body), self._etag(bytes(Body))
        return {"ETag": f'"{self.sent[UploadId, PartNumber][1]}"'}

    def _list_multipart_uploads(self, **asked: Any) -> dict[str, Any]:
        found = [{"Key": key, "UploadId": upload} for upload, key in self.open.items()]
        return {"Uploads": found, "IsTruncated": False}

    def _list_parts(self, Key: str, UploadId: str, **more: Any) -> dict[str, Any]:
        self._known(UploadId)
        found = [
            {"PartNumber": number, "Size": len(data), "ETag": f'"{etag}"'}
            for (upload, number), (data, etag) in self.sent.items()
            if upload == UploadId
        ]
        return {"Parts": found, "IsTruncated": False}

    def _complete_multipart_upload(
        self,
        Key: str,
        UploadId: str,
        MultipartUpload: Any,
    ) -> dict[str, Any]:
        self._known(UploadId)
        parts = [self.sent.get((UploadId, one["PartNumber"])) for one in MultipartUpload["Parts"]]
        known = [part for part in parts if part]
        if len(known) != len(parts):
            raise refusal("InvalidPart")
        data = b"".join(part[0] for part in known)
        del self.open[UploadId]
        self.objects[Key] = data, self._whole([part[1] for part in known], data)
        return {"ETag": f'"{self.objects[Key][1]}"'}

    def _abort_multipart_upload(self, Key: str, UploadId: str) -> dict[str, Any]:
        self._known(UploadId)
        del self.open[UploadId]
        return {}


def md5(data: bytes) -> bytes:
    """Its MD5."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def of_parts(etags: list[str], data: bytes) -> str:
    """S3's ETag of an object that came in parts."""
    return f"{md5(b''.join(map(bytes.fromhex, etags))).hex()}-{len(etags)}"


def bucket(
    memory: Memory,
    abilities: Abilities = ALL,
    *,
    read_back: bool = False,
    pause: Callable[[float], None] = lambda seconds: None,
) -> Bucket:
    """The bucket of a store in memory; it does not wait."""
    return Bucket(memory, Destination("bucket"), abilities, read_back=read_back, pause=pause)


def random_etag(data: bytes) -> str:
    """An ETag that tells nothing."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def damaging(memory: Memory, asked: dict[str, Any]) -> Any:
    """What is kept is not what came, and the answer says so."""
    body = bytes([asked["Body"][0] ^ 1]) + asked["Body"][1:]
    return memory._put_object(asked["Key"], body)
