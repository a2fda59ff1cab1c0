"""One file of a dataset in kagglehub's own cache, by the unmodified kagglehub, in a child process.

kagglehub goes on with what a killed download has left, and marks what is whole. What it does not
look at is looked at here (verified: kagglehub 1.0.2): whether what came is the object that storage
has, where no MD5 is given, or where a download was gone on with; whether a web page came in place
of it; and whether another process writes the same file.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import google_crc32c
import requests
from requests.adapters import HTTPAdapter

from kagglecrawl.transport.failures import Message, disk, failed, name_of, page_in_place_of

_CHUNK = 1 << 20
_LOCK = ".kagglecrawl.lock"
_DOWNLOAD = "DownloadDataset"
_HASHES: dict[str, Callable[[], Any]] = {
    "crc32c": google_crc32c.Checksum,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}


@dataclass
class _Object:
    """What storage says of the object that it sends: its name, size in bytes, and checksums."""

    name: str = ""
    size: int | None = None
    checksums: dict[str, str] = field(default_factory=dict)
    #: Was there any such answer, and did it come from storage, not from the API itself?
    seen: bool = False
    stored: bool = False

    def read(self, response: requests.Response, *, stored: bool) -> None:
        """Note what the head of an answer says."""
        headers = response.headers
        self.seen, self.stored = True, stored
        self.size, self.checksums = None, {}
        self.name = unquote(urlsplit(response.url or "").path).rpartition("/")[2]
        if "Content-Encoding" in headers:  # size and checksums are of other bytes than ours
            return
        whole = re.fullmatch(r"bytes .*/(\d+)", headers.get("Content-Range", ""))
        length = whole[1] if whole else headers.get("Content-Length", "")
        if length.isdecimal():
            self.size = int(length)
        for part in headers.get("x-goog-hash", "").split(","):
            kind, _, value = part.strip().partition("=")
            if kind in _HASHES:
                self.checksums[kind] = value


class Fetching:
    """Have a file in the cache: ``handle`` is ``owner/slug`` or ``owner/slug/versions/1``.

    ``sending`` is told the name of each call of the API before it goes out.
    """

    def __init__(self, handle: str, path: str, cache: Path, sending: Callable[[str], None]) -> None:
        self._handle = handle
        self._path = path
        self._cache = cache
        self._sending = sending
        self._object = _Object()
        #: Pieces of the file that were read to compare them, so far.
        self.checked = 0

    @property
    def folder(self) -> Path:
        """Where kagglehub keeps what it has of this dataset."""
        owner, slug = self._handle.split("/")[:2]
        return self._cache / "datasets" / owner / slug

    def run(self) -> Message:
        """The answer: ``{"path", "fetched"}``, with ``size`` (bytes) where it was fetched, or what
        stands for a failure."""
        import kagglehub

        os.environ["KAGGLEHUB_CACHE"] = str(self._cache)
        try:
            with self._alone(), self._watched():
                self._remove_half_unpacked()
                try:
                    found = Path(kagglehub.dataset_download(self._handle, path=self._path))
                except Exception as error:
                    bad = isinstance(error, zipfile.BadZipFile | zlib.error | EOFError)
                    word = "damaged" if bad else "unreadable"
                    return failed(error) or {"error": word, "text": name_of(error)}
                return self._judged(found)
        except OSError as error:
            return disk(error)

    def _judged(self, found: Path) -> Message:
        """What kagglehub takes for the file, if it is one; else it is removed."""
        if not self._object.seen:
            return {"path": str(found), "fetched": False}
        if found.stat().st_size or not self._object.stored:
            page = page_in_place_of(found)
            if page is not None:
                found.unlink()
                return page
        if not self._is_whole(found):
            found.unlink()
            return {"error": "damaged", "text": "not what storage has"}
        return {"path": str(found), "fetched": True, "size": found.stat().st_size}

    def _is_whole(self, found: Path) -> bool:
        """Is it what storage has? One that kagglehub has unpacked was proved by its zip."""
        if self._object.name == f"{found.name}.zip" and not zipfile.is_zipfile(found):
            return True
        if self._object.size not in {None, found.stat().st_size}:
            return False
        for kind, make in _HASHES.items():
            if kind in self._object.checksums:
                return self._digest(found, make()) == self._object.checksums[kind]
        return True

    def _digest(self, found: Path, checksum: Any) -> str:
        with found.open("rb") as file:
            while piece := file.read(_CHUNK):
                checksum.update(piece)
                self.checked += 1
        return base64.b64encode(checksum.digest()).decode()

    def _remove_half_unpacked(self) -> None:
        """kagglehub would take half of a file that it was unpacking for half of a download."""
        for zipped in self.folder.glob(f"versions/*/{self._path}.zip"):
            marker = self.folder / ".complete" / zipped.parent.name / f"{self._path}.complete"
            if not marker.exists():
                zipped.unlink()
                zipped.with_suffix("").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process of ours at a time: kagglehub would let two write into one file."""
        import fcntl

        self._cache.mkdir(parents=True, exist_ok=True)
        with (self._cache / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Meanwhile note what kagglehub sends, and what storage says."""
        original = HTTPAdapter.send

        def send(
            adapter: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **kwargs: Any
        ) -> requests.Response:
            method = urlsplit(request.url or "").path.rpartition("/")[2]
            if request.method == "POST":
                self._sending(method)
            response = original(adapter, request, *args, **kwargs)
            if request.method == "GET" and response.status_code in {200, 206}:
                self._object.read(response, stored=True)
            elif method == _DOWNLOAD and response.status_code == 200:
                self._object.read(response, stored=False)
            return response

        HTTPAdapter.send = send  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            HTTPAdapter.send = original  # type: ignore[method-assign]
