"""Objects in a bucket, compared with the ledger: by listing them, or by reading them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from kagglecrawl.kaggle.errors import Away, KaggleError, RetryLater, StopCrawl
from kagglecrawl.s3.abilities import Abilities
from kagglecrawl.s3.bucket import Bucket, Entry
from kagglecrawl.s3.client import connect
from kagglecrawl.s3.crew import Crew
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import StoreFailed
from kagglecrawl.state.ledger_look import KeptFile, Shelf
from kagglecrawl.verify.faults import CHANGED, CHECKSUM, MISSING, SIZE, UNREAD
from kagglecrawl.verify.resource import Check, Place

#: Nothing is written here, so nothing needs to be known of how that would be proved.
_READING = Abilities(
    put_etag="",
    multipart_etag="",
    lists_etag=False,
    checksum="",
    checks_md5=False,
    conditional=False,
    multipart=False,
    lists_uploads=False,
    lists_parts=False,
)
#: How often a read that breaks off is begun again.
_READS = 3
_OTHER_ETAG = "the store gives another ETag for it, so it was stored anew (--read-back reads it)"


@dataclass(frozen=True)
class _Found:
    """What has come of one object; no ``kind``: it is right."""

    kind: str = ""
    what: str = ""
    expected: int | str | None = None
    found: int | str | None = None
    reason: str = ""
    by_size: bool = False
    read: int = 0


class Objects(Place):
    """One bucket, looked at by several threads. All methods raise ``StoreRefused``, ``StoreAway``
    and ``StoreFailed`` if it cannot be listed.

    ``crew`` sends what is asked of single objects.
    """

    def __init__(self, destination: Destination, bucket: Bucket, crew: Crew) -> None:
        self._destination = destination
        self._bucket = bucket
        self._crew = crew

    @classmethod
    def at(cls, destination: Destination, crew: Crew, requests: int) -> Objects:
        """For so many requests at once."""
        client = connect(destination, uploads=requests)
        return cls(destination, Bucket(client, destination, _READING), crew)

    def compare(self, check: Check) -> None:
        """By size and ETag as a listing has them, or by reading all of it. What a listing has not,
        or has otherwise, is asked for: it may be late."""
        prefix = f"{self._destination.key_of(check.kept.folder)}/"
        nothing = True
        for page in self._bucket.list(prefix):
            nothing = nothing and not page
            pending: list[tuple[KeptFile, Future[_Found]]] = []
            for entry in page:
                name = entry.key.removeprefix(prefix)
                if not name or name.endswith("/"):
                    continue  # what some stores have in place of a folder
                if file := check.names.take(name):
                    self._compare(check, file, entry, pending)
                elif check.names.find(name) is None:
                    check.not_named(name)
            _settle(check, pending)
        for files in check.names.left():
            if nothing and self._bucket.head(prefix + files[0].name) is None:
                check.whole(MISSING)
                return
            nothing = False
            asked = [(file, self._ask(check, file, prefix + file.name)) for file in files]
            _settle(check, asked)

    def _compare(
        self,
        check: Check,
        file: KeptFile,
        entry: Entry,
        pending: list[tuple[KeptFile, Future[_Found]]],
    ) -> None:
        """What the listing does not settle is pending."""
        if check.read_back or entry.size != file.size or file.etag not in {"", entry.etag}:
            pending.append((file, self._ask(check, file, entry.key)))
        else:
            check.right(file, by_size=not file.etag)

    def _ask(self, check: Check, file: KeptFile, key: str) -> Future[_Found]:
        look = self._read_back if check.read_back else self._head
        return self._crew.submit(1, partial(_of_object, partial(look, check, file, key)))

    def _head(self, check: Check, file: KeptFile, key: str) -> _Found:
        entry = self._bucket.head(key)
        if entry is None:
            return _Found(MISSING)
        if entry.size != file.size:
            return _Found(CHANGED, SIZE, file.size, entry.size)
        if not file.etag or not entry.etag:
            return _Found(by_size=True)
        if entry.etag != file.etag:
            return _Found(CHANGED, CHECKSUM, file.etag, entry.etag, _OTHER_ETAG)
        return _Found()

    def _read_back(self, check: Check, file: KeptFile, key: str) -> _Found:
        found = self._head(check, file, key)
        if found.kind == MISSING or found.what == SIZE:
            return found
        for attempt in range(1, _READS + 1):
            digest, size = sha256(), 0
            try:
                for piece in self._bucket.read(key):
                    digest.update(piece)
                    size += len(piece)
                    check.progress(len(piece))
            except RetryLater as error:
                if attempt == _READS or isinstance(error, Away):
                    raise
                continue
            break
        if size != file.size:
            return _Found(CHANGED, SIZE, file.size, size, read=size)
        if digest.digest() != file.sha256:
            return _Found(CHANGED, CHECKSUM, file.sha256.hex(), digest.hexdigest(), read=size)
        return _Found(read=size)

    def unowned(self, root: str, shelf: Shelf) -> Iterator[str]:
        """By a listing of folders alone."""
        prefix = f"{self._destination.key_of(root)}/"
        for keys in self._directly_in(prefix):
            for key in keys:
                uri = self._destination.uri_of(key)
                if key != prefix and not (key.endswith("/") and shelf.has_folder(uri[:-1])):
                    yield uri

    def _directly_in(self, prefix: str) -> Iterator[list[str]]:
        """The keys with this prefix, a page at a time; those with a further slash as far as
        that."""
        what = f"listing the folders in {prefix!a}"
        asked = {"Prefix": prefix, "Delimiter": "/"}
        while True:
            page = self._bucket.call("list_objects_v2", what, **asked)
            yield [
                *(each["Prefix"] for each in page.get("CommonPrefixes", ())),
                *(each["Key"] for each in page.get("Contents", ())),
            ]
            if not page.get("IsTruncated"):
                return
            token = page.get("NextContinuationToken")
            if not token or token == asked.get("ContinuationToken"):
                raise StoreFailed(f"{what}: the store does not go on", cause="bad_reply")
            asked["ContinuationToken"] = token


def _of_object(look: Callable[[], _Found]) -> _Found:
    """What it finds; a failure that is this object's alone says no more than that."""
    try:
        return look()
    except (Away, StopCrawl):
        raise
    except KaggleError as error:
        return _Found(MISSING) if error.slug == "store_lost" else _Found(UNREAD, reason=str(error))


def _settle(check: Check, pending: Sequence[tuple[KeptFile, Future[_Found]]]) -> None:
    for file, future in pending:
        found = future.result()
        check.counts.read += found.read
        if found.kind:
            check.wrong(
                found.kind, file.name, found.what, found.expected, found.found, found.reason
            )
        else:
            check.right(file, by_size=found.by_size)
