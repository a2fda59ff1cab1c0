"""Google Storage as downloads meet it: signed URLs that expire, and the objects behind them."""

import base64
import hashlib
import hmac
import io
import itertools
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

import google_crc32c

from kagglecrawl.replica.truth import DatasetTruth, FileTruth
from kagglecrawl.replica.wire import Reply

PREFIX = "/storage/datasets/"
EXPIRES = 259_200
"""Seconds that Kaggle's signed URLs hold: three days (kaggle-facts 1.4)."""

CHUNK = 1 << 20
"""Bytes read and sent at a time."""
_DATE = "%Y%m%dT%H%M%SZ"
_MEMBER_DATE = (2020, 1, 1, 0, 0, 0)


def xml_error(status: int, code: str, message: str) -> Reply:
    """An error as Google Storage writes it."""
    body = (
        "<?xml version='1.0' encoding='UTF-8'?>"
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Reply(status, body.encode(), "application/xml; charset=UTF-8")


class Signer:
    """Makes and checks the query of a signed URL, shaped as GOOG4 URLs are."""

    def __init__(self, seed: object, expires: int = EXPIRES) -> None:
        self._key = hashlib.sha256(f"signer\0{seed}".encode()).digest()
        self._expires = expires
        self._serial = itertools.count(1)
        self._ended: dict[str, int] = {}
        self.base_url = ""
        """`http://host:port`, known once the server listens."""

    def sign(self, dataset: DatasetTruth, file_name: str | None) -> str:
        """The URL of the archive, or of one file; no two are the same."""
        name = f"files/{file_name}" if file_name else dataset.archive_name
        path = quote(f"{PREFIX}{dataset.id}/{dataset.version}/{name}")
        day = datetime.now(UTC)
        signer = f"replica-{next(self._serial)}@kaggle"
        query = {
            "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
            "X-Goog-Credential": f"{signer}/{day:%Y%m%d}/auto/storage/goog4_request",
            "X-Goog-Date": day.strftime(_DATE),
            "X-Goog-Expires": str(self._expires),
            "X-Goog-SignedHeaders": "host",
        }
        query["X-Goog-Signature"] = self._signature(path, query)
        return f"{self.base_url}{path}?{urlencode(query)}"

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        text = path + "?" + urlencode(sorted(query.items()))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def end(self, query: Mapping[str, str], status: int) -> Reply:
        """Let a good URL be expired from now on; the error, of that status, that it gets."""
        self._ended[query["X-Goog-Signature"]] = status
        return _expired(status)

    def refuse(self, path: str, query: Mapping[str, str]) -> Reply | None:
        """The error for a URL that is not signed by us, or no longer; None if it is good.

        `path` as it stands in the URL, percent-encoded.
        """
        given = dict(query)
        signature = given.pop("X-Goog-Signature", "")
        right = self._signature(path, given)
        if not hmac.compare_digest(signature.encode(errors="replace"), right.encode()):
            message = "Access denied. The request signature we calculated does not match."
            return xml_error(403, "SignatureDoesNotMatch", message)
        if signature in self._ended:
            return _expired(self._ended[signature])
        signed = datetime.strptime(given["X-Goog-Date"], _DATE).replace(tzinfo=UTC)
        if datetime.now(UTC) >= signed + timedelta(seconds=int(given["X-Goog-Expires"])):
            return _expired(403)
        return None


def _expired(status: int) -> Reply:
    return xml_error(status, "ExpiredToken", "The provided token has expired.")


@dataclass(frozen=True)
class Span:
    """The bytes of an object that an answer holds: from `start` up to `stop`, of `size` in all."""

    start: int
    stop: int
    size: int
    ranged: bool
    """Whether they were asked for as a range (206), or the whole is sent (200)."""

    @property
    def length(self) -> int:
        """How many bytes they are."""
        return self.stop - self.start


@dataclass(frozen=True)
class Blob:
    """A stored object: bytes in memory, or a file on disk."""

    source: bytes | Path
    size: int
    md5: bytes
    crc32c: bytes
    last_modified: datetime

    @property
    def etag(self) -> str:
        """The strong validator, in its quotes."""
        return f'"{self.md5.hex()}"'

    def headers(self, hashes: str | None = None) -> dict[str, str]:
        """The headers of every answer about the object (kaggle-facts 1.4).

        `hashes` may be the kind of a fault that says otherwise of `x-goog-hash`.
        """
        headers = {
            "ETag": self.etag,
            "Last-Modified": self.modified,
            "Accept-Ranges": "bytes",
        }
        known = {"crc32c": self.crc32c, "md5": self.md5}
        if hashes == "wrong_hash":
            known = {name: bytes([value[0] ^ 1]) + value[1:] for name, value in known.items()}
        told = [
            f"{name}={base64.b64encode(value).decode()}"
            for name, value in known.items()
            if hashes not in {"no_hash", "md5_only", "crc32c_only"} or hashes == f"{name}_only"
        ]
        return {**headers, "x-goog-hash": ",".join(told)} if told else headers

    @property
    def modified(self) -> str:
        """The date of the object, as its header has it."""
        return format_datetime(self.last_modified, usegmt=True)

    @property
    def whole(self) -> Span:
        """All its bytes."""
        return Span(0, self.size, self.size, ranged=False)

    def range(self, headers: Mapping[str, str]) -> Span:
        """The bytes that a request's headers ask for.

        One range is served; several, or none that is well formed, get the whole (RFC 9110 14.2),
        as does an `If-Range` that names another object. Raises ValueError for one past the end.
        """
        validator = headers.get("If-Range")
        if validator not in {None, self.etag, self.modified}:
            return self.whole
        unit, _, spec = headers.get("Range", "").partition("=")
        first, dash, last = spec.strip().partition("-")
        if unit != "bytes" or not dash or not (first + last).isdecimal():
            return self.whole
        if not first:
            start, end = max(self.size - int(last), 0), self.size
        else:
            start, end = int(first), min(int(last) + 1, self.size) if last else self.size
        if last and first and int(last) < start:
            return self.whole
        if start >= end:
            raise ValueError(spec)
        return Span(start, end, self.size, ranged=True)


class Storage:
    """The objects of datasets, each made once; a bounded number of those in memory is kept.

    Archives of generated files are stored, not deflated: what deflate makes of the same bytes
    differs between builds of zlib, and a world is to be the same everywhere. Folders are deflated.
    A file on disk is hashed once, and again when it has changed; that takes seconds for gigabytes.
    """

    _KEPT = 64

    def __init__(self) -> None:
        self._kept: dict[str, Blob] = {}
        self._changed: dict[str, bytes | Path] = {}
        self._hashed: dict[tuple[Path, int, int], _Hashes] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = Lock()
        self._making: defaultdict[str, Lock] = defaultdict(Lock)

    def close(self) -> None:
        """Remove the archives made on disk."""
        if self._folder is not None:
            self._folder.cleanup()

    def change(self, key: str, content: bytes | Path) -> None:
        """Put another object in the place of the one of this key (`1005/1/archive.zip`)."""
        with self._lock:
            self._changed[key] = content
            self._kept.pop(key, None)

    def blob(self, dataset: DatasetTruth, file: FileTruth | None) -> Blob:
        """The archive, or the file. May take long for files on disk: call it from a thread."""
        name = f"{dataset.id}/{dataset.version}/files/{file.name}" if file else dataset.archive_key
        with self._lock:
            making = self._making[name]
        with making:  # of one object; others are made meanwhile
            with self._lock:
                blob = self._kept.pop(name, None)
                changed = self._changed.get(name)
            if blob is None:
                source = self._source(dataset, file) if changed is None else changed
                # What has changed has done so later.
                later = timedelta(hours=0 if changed is None else 1)
                blob = self._describe(source, dataset.last_updated + later)
            with self._lock:
                if isinstance(blob.source, bytes) and self._changed.get(name) is changed:
                    self._kept[name] = blob
                if len(self._kept) > self._KEPT:
                    del self._kept[next(iter(self._kept))]
        return blob

    def _source(self, dataset: DatasetTruth, file: FileTruth | None) -> bytes | Path:
        if file is not None:
            return file.path or file.content()
        if dataset.archive is not None:
            return dataset.archive.source
        if any(each.path for each in dataset.files):
            with self._lock:
                if self._folder is None:
                    self._folder = tempfile.TemporaryDirectory(prefix="kagglecrawl-replica-")
            made = Path(self._folder.name, f"{dataset.id}-{dataset.version}.zip")
            if not made.exists():
                _write_archive(made, dataset, zipfile.ZIP_DEFLATED)
            return made
        memory = io.BytesIO()
        _write_archive(memory, dataset, zipfile.ZIP_STORED)
        return memory.getvalue()

    def _describe(self, source: bytes | Path, last_modified: datetime) -> Blob:
        if isinstance(source, bytes):
            return Blob(source, len(source), *_hash(source), last_modified)
        status = source.stat()
        state = (source, status.st_size, status.st_mtime_ns)
        if state not in self._hashed:
            self._hashed[state] = _hash(source)
        return Blob(source, status.st_size, *self._hashed[state], last_modified)


def _write_archive(target: Path | BinaryIO, dataset: DatasetTruth, method: int) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for file in dataset.files:
            member = zipfile.ZipInfo(file.name, _MEMBER_DATE)
            member.compress_type = method
            member.external_attr = 0o644 << 16
            member.create_system = 3  # else it would be the system's that runs this
            member.file_size = file.size  # above 2 GiB the header needs to know beforehand
            with file.open() as content, archive.open(member, "w") as stream:
                while chunk := content.read(CHUNK):
                    stream.write(chunk)


class _Hashes(NamedTuple):
    md5: bytes
    crc32c: bytes


def _hash(source: bytes | Path) -> _Hashes:
    md5 = hashlib.md5(usedforsecurity=False)
    crc32c: int = 0
    with open_source(source) as content:
        while chunk := content.read(CHUNK):
            md5.update(chunk)
            crc32c = google_crc32c.extend(crc32c, chunk)
    return _Hashes(md5.digest(), crc32c.to_bytes(4, "big"))


def open_source(source: bytes | Path) -> BinaryIO:
    """Open bytes or a file for reading."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
