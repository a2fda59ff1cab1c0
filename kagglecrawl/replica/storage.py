"""Google Storage as downloads meet it: signed URLs that expire, and the objects behind them."""

import base64
import hashlib
import hmac
import io
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Lock
from typing import BinaryIO
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
        self.base_url = ""
        """`http://host:port`, known once the server listens."""

    def sign(self, dataset: DatasetTruth, file_name: str | None) -> str:
        """The URL of the archive, or of one file."""
        name = f"files/{file_name}" if file_name else "archive.zip"
        path = quote(f"{PREFIX}{dataset.id}/{dataset.version}/{name}")
        day = datetime.now(UTC)
        query = {
            "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
            "X-Goog-Credential": f"replica@kaggle/{day:%Y%m%d}/auto/storage/goog4_request",
            "X-Goog-Date": day.strftime(_DATE),
            "X-Goog-Expires": str(self._expires),
            "X-Goog-SignedHeaders": "host",
        }
        query["X-Goog-Signature"] = self._signature(path, query)
        return f"{self.base_url}{path}?{urlencode(query)}"

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        text = path + "?" + urlencode(sorted(query.items()))
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

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
        signed = datetime.strptime(given["X-Goog-Date"], _DATE).replace(tzinfo=UTC)
        if datetime.now(UTC) >= signed + timedelta(seconds=int(given["X-Goog-Expires"])):
            return xml_error(403, "ExpiredToken", "The provided token has expired.")
        return None


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

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every answer about the object (kaggle-facts 1.4)."""
        crc32c, md5 = (base64.b64encode(each).decode() for each in (self.crc32c, self.md5))
        return {
            "ETag": self.etag,
            "Last-Modified": format_datetime(self.last_modified, usegmt=True),
            "Accept-Ranges": "bytes",
            "x-goog-hash": f"crc32c={crc32c},md5={md5}",
        }

    def range(self, headers: Mapping[str, str]) -> tuple[int, int] | None:
        """Start and end (exclusive) of the bytes that a request's headers ask for; None is all.

        One range is served; several, or none that is well formed, get the whole (RFC 9110 14.2),
        as does an `If-Range` that names another object. Raises ValueError for one past the end.
        """
        validator = headers.get("If-Range")
        if validator not in {None, self.etag, self.headers["Last-Modified"]}:
            return None
        unit, _, spec = headers.get("Range", "").partition("=")
        first, dash, last = spec.strip().partition("-")
        if unit != "bytes" or not dash or not (first + last).isdecimal():
            return None
        if not first:
            start, end = max(self.size - int(last), 0), self.size
        else:
            start, end = int(first), min(int(last) + 1, self.size) if last else self.size
        if last and first and int(last) < start:
            return None
        if start >= end:
            raise ValueError(spec)
        return start, end


class Storage:
    """The objects of datasets, each made once; a bounded number of those in memory is kept.

    Archives of generated files are stored, not deflated: what deflate makes of the same bytes
    differs between builds of zlib, and a world is to be the same everywhere. Folders are deflated.
    """

    _KEPT = 64

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str | None], Blob] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = Lock()

    def close(self) -> None:
        """Remove the archives made on disk."""
        if self._folder is not None:
            self._folder.cleanup()

    def blob(self, dataset: DatasetTruth, file: FileTruth | None) -> Blob:
        """The archive, or the file. May take long for files on disk: call it from a thread."""
        key = (dataset.id, file.name if file else None)
        with self._lock:
            blob = self._kept.pop(key, None) or self._make(dataset, file)
            self._kept[key] = blob
            if len(self._kept) > self._KEPT:
                del self._kept[next(iter(self._kept))]
        return blob

    def _make(self, dataset: DatasetTruth, file: FileTruth | None) -> Blob:
        source: bytes | Path
        if file is not None:
            source = file.path or file.content()
        elif any(each.path for each in dataset.files):
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="kagglecrawl-replica-")
            source = Path(self._folder.name, f"{dataset.id}.zip")
            if not source.exists():
                _write_archive(source, dataset, zipfile.ZIP_DEFLATED)
        else:
            memory = io.BytesIO()
            _write_archive(memory, dataset, zipfile.ZIP_STORED)
            source = memory.getvalue()
        return _describe(source, dataset.last_updated)


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


def _describe(source: bytes | Path, last_modified: datetime) -> Blob:
    md5 = hashlib.md5(usedforsecurity=False)
    crc32c: int = 0
    size = 0
    with open_source(source) as content:
        while chunk := content.read(CHUNK):
            md5.update(chunk)
            crc32c = google_crc32c.extend(crc32c, chunk)
            size += len(chunk)
    return Blob(source, size, md5.digest(), crc32c.to_bytes(4, "big"), last_modified)


def open_source(source: bytes | Path) -> BinaryIO:
    """Open bytes or a file for reading."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
