"""Members of an archive on their way to a store, with no copy on disk.

Small ones go in one PUT each, large ones in parts of a multipart upload, several requests at once.
A member is noted with the job when the store has answered with the right checksum of it. When all
of them are there, the store is asked for its list of them: what that says counts.

Another run sends no part again that the store has; to know what is in it, it reads the member from
its first byte.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kagglecrawl.kaggle.errors import RetryLater
from kagglecrawl.s3.bucket import Bucket, Entry, Receipt
from kagglecrawl.s3.crew import Crew
from kagglecrawl.s3.errors import KeyRefused
from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import COLLISION, Meter
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.members import BadMember
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.proof import Proof
from kagglecrawl.transfer.receiver import BATCH, Receipts, Receiver, Refused
from kagglecrawl.transfer.upload import Upload

logger = logging.getLogger(__name__)

_FOLDERS_KEPT = 100_000


class StoreFolder:
    """The folder of one resource in a store: all keys below it are the resource's.

    ``archive`` is where an archive is kept that cannot be read as it comes, of at most
    ``most_spooled`` bytes.
    """

    takes_streams = True

    def __init__(
        self,
        bucket: Bucket,
        crew: Crew,
        key: str,
        notes: Notes,
        archive: Path,
        most_spooled: int | None,
    ) -> None:
        self._bucket = bucket
        self._crew = crew
        self._head = f"{key}/"
        self._notes = notes
        self.archive = archive
        self.most_spooled = most_spooled
        #: Names that were put, which the job does not know yet.
        self.not_noted: set[str] = set()
        #: Was it empty before this process has put something?
        self.may_remove = False
        #: Uploads that are not over, by their key.
        self.open: dict[str, str] = {}

    def key(self, name: str) -> str:
        """The key of a member."""
        return self._head + name

    def prepare(self) -> None:
        """There is nothing to be made."""

    def look(self) -> bool:
        """See that the store answers, and end the uploads below it that nobody goes on with: those
        of killed processes. Is nothing there?"""
        empty = next(self._bucket.list(self._head), None) is None
        self._end_uploads()
        return empty

    def abandon(self) -> None:
        """End the uploads of this run, which no other will go on with."""
        for key, upload in list(self.open.items()):
            if upload:
                self._bucket.abort(key, upload)

    def _end_uploads(self) -> None:
        ours = {upload for _, _, upload in self._notes.uploads()}
        for key, upload in self._bucket.uploads(self._head):
            if upload not in ours:
                logger.info("Ended an upload of %s that was left", key)
                self._bucket.abort(key, upload)

    def remove(self) -> None:
        """End the uploads, and remove what was put, if nothing was there before: else it may have
        taken the place of what an earlier crawl has stored, which is better than nothing."""
        for _, name, upload in self._notes.uploads():
            self._bucket.abort(self.key(name), upload)
        self.archive.unlink(missing_ok=True)
        if not self.may_remove:
            return
        self._bucket.delete(self.key(name) for name in self.not_noted)
        self.not_noted.clear()
        after = 0
        while rows := self._notes.stored(after, BATCH):
            after = rows[-1].number + 1
            self._bucket.delete(self.key(row.name) for row in rows if row.etag)

    def exact(self) -> bool:
        """A store compares keys byte by byte."""
        return True

    def all_there(self, notes: Notes) -> bool:
        """Does the store list all that was noted, as it was put?"""
        missing = [row.number for row in self._not_listed()]
        if missing:
            notes.missing(missing)
        return not missing

    def kept(self, row: MemberRow) -> int:
        """None of a member's bytes can be read before all of them are there."""
        return 0

    def read_kept(self, row: MemberRow, kept: int) -> Iterator[bytes]:
        """None."""
        return iter(())

    def receiver(self, notes: Notes, guard: DiskGuard, meter: Meter) -> Objects:
        """What puts members into it."""
        return Objects(self, self._bucket, self._crew, notes, guard, meter)

    def publish(self) -> None:
        """See that the store has all that was put. What else is below this key stays: it is an
        earlier version's, or somebody's.

        Raises ``Unproved`` where it has not: what is missing is noted as such.
        """
        self._end_uploads()
        failure: RetryLater | None = None
        missing = []
        for row in self._not_listed():
            try:
                self._bucket.prove(self.key(row.name), Receipt(row.size, row.etag), row.sha256)
            except RetryLater as error:
                failure = error
                missing.append(row.number)
        if failure is not None:
            self._notes.missing(missing)
            self._notes.done([], [], 0, -1)  # what is to be sent again is anywhere in the archive
            raise failure
        self.archive.unlink(missing_ok=True)

    def _not_listed(self) -> Iterator[MemberRow]:
        """The members that were noted and are not in the store's list as they were put."""
        seen = bytearray()
        for entries in self._bucket.list(self._head):
            self._look(entries, seen)
        after = 0
        while rows := self._notes.stored(after, BATCH):
            after = rows[-1].number + 1
            for row in rows:
                known = row.number < len(seen) and seen[row.number]
                if not known and not row.name.endswith("/"):
                    yield row

    def _look(self, entries: Sequence[Entry], seen: bytearray) -> None:
        """Mark the numbers of members that are listed as they should be."""
        rows = self._notes.named([entry.key.removeprefix(self._head) for entry in entries])
        for entry in entries:
            row = rows.get(entry.key.removeprefix(self._head))
            if row is None or row.sha256 is None:
                continue
            if self._bucket.agrees(entry, Receipt(row.size, row.etag)):
                seen.extend(bytes(max(0, row.number + 1 - len(seen))))
                seen[row.number] = 1


def all_listed(bucket: Bucket, uri: str, files: Iterable[tuple[str, int, bytes, str]]) -> bool:
    """Does the store list these files (name, size, SHA-256, ETag) below a URI, as they were put?

    False also where it cannot tell just now, which is logged; raises ``StopCrawl`` where it refuses
    to. It takes about 100 bytes of memory for each file.
    """
    head = f"{bucket.destination.key_of(uri)}/"
    missing = {_digest(bucket, name, size, etag) for name, size, _, etag in files}
    try:
        for entries in bucket.list(head):
            missing.difference_update(
                _digest(bucket, entry.key.removeprefix(head), entry.size, entry.etag)
                for entry in entries
            )
    except RetryLater as error:
        logger.warning("The files in %s are asked for again: %s", uri, error)
        return False
    return not missing


def _digest(bucket: Bucket, name: str, size: int, etag: str) -> int:
    text = f"{name}\0{size}\0{etag if bucket.abilities.lists_etag else ''}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=12).digest())


class _Sent(NamedTuple):
    """Members that are on their way."""

    under_way: list[tuple[int, str, Future[Receipt]]]

    def done(self) -> bool:
        return all(sent.done() for _, _, sent in self.under_way)

    def result(self) -> Receipts:
        receipts: dict[int, str | Refused] = {}
        for number, name, sent in self.under_way:
            try:
                receipts[number] = sent.result().etag
            except KeyRefused as error:
                receipts[number] = Refused(name, BadMember(error.slug, str(error)))
        return receipts


def _parents(name: str) -> list[str]:
    return [name[:at] for at, letter in enumerate(name) if letter == "/"]


class Objects(Receiver):
    """Puts members into a store, and notes them with the job when the store has them."""

    settles_before_large = False  # others are on their way meanwhile

    def __init__(
        self,
        folder: StoreFolder,
        bucket: Bucket,
        crew: Crew,
        notes: Notes,
        guard: DiskGuard,
        meter: Meter,
    ) -> None:
        super().__init__(notes, guard, meter)
        self._folder = folder
        self._bucket = bucket
        self._crew = crew
        self._uploads = {number: upload for number, _, upload in notes.uploads()}
        self._under_way: list[tuple[int, str, Future[Receipt]]] = []
        #: All that is on its way, noted or not.
        self._sending: set[Future[Receipt]] = set()
        #: Folders of members that were seen.
        self._folders: set[str] = set()

    def reserve(self, size: int) -> None:
        """Nothing of it comes to this disk."""

    def put(self, number: int, name: str, content: bytes | memoryview, sha256: bytes) -> None:
        """A whole object in one request."""
        self._check_place(number, name)
        data = bytearray(content)  # a view would keep all that is around it
        put = partial(self._bucket.put, self._folder.key(name), data, sha256=sha256)
        self._go(number, name, self._crew.submit(len(data), put))
        self._sent(len(data))
        self.done(number, len(data), sha256)

    @contextmanager
    def writing(
        self, row: MemberRow, proof: Proof, kept: int = 0
    ) -> Iterator[Callable[[bytes], None]]:
        """Into a buffer, and from there to the store part by part."""
        assert not kept
        self._check_place(row.number, row.name)
        upload = Upload(
            self._bucket,
            self._crew,
            self._folder.key(row.name),
            row.size,
            self._uploads.pop(row.number, ""),
            partial(self._note_upload, row),
            self._sent,
            self.pool,
        )
        try:
            yield upload.write
            self._go(row.number, row.name, upload.end(proof.sha256))
        except BadMember:
            upload.abort()
            raise
        except BaseException:
            upload.wait()
            raise
        self.done(row.number, proof.size, proof.sha256)

    def _note_upload(self, row: MemberRow, upload: str) -> None:
        self._folder.open[self._folder.key(row.name)] = upload
        self._notes.uploading(row.number, upload)

    def had(self, name: str) -> None:
        """Its folders are not to be those of files."""
        self._folders.update(_parents(name))

    def _check_place(self, number: int, name: str) -> None:
        """Is a file where a folder is, or the reverse? A store may bear that, but one that keeps
        its objects as files loses some, or fails for ever (rclone, measured). Of a tar the first
        one stays, in every run; of a zip the file."""
        if name in self._folders:
            raise BadMember(COLLISION, "a folder of other files has its place")
        parents = _parents(name)
        new = [parent for parent in parents if parent not in self._folders]
        if not new:
            return
        files = [each for each in self._notes.named(new).values() if not each.reason]
        if any(each.number < number or not self.in_order for each in files):
            raise BadMember(COLLISION, "a file is where its folder would be")
        if len(self._folders) > _FOLDERS_KEPT:
            self._folders.clear()
        self._folders.update(parents)

    def folder(self, name: str) -> None:
        """A store has none."""

    def discard(self, name: str) -> None:
        """It has not been put."""

    def end(self) -> None:
        """Wait for what is on its way: it must not come after what another attempt puts."""
        super().end()
        for sent in list(self._sending):
            with suppress(Exception):
                sent.result()

    def _go(self, number: int, name: str, sent: Future[Receipt]) -> None:
        self._folder.not_noted.add(name)
        self._under_way.append((number, name, sent))
        self._sending.add(sent)
        sent.add_done_callback(self._sending.discard)

    def _note(self) -> None:
        flush = self._flushing
        super()._note()
        if flush is not None and isinstance(flush.safe, _Sent):
            for _, name, _ in flush.safe.under_way:
                self._folder.not_noted.discard(name)
                self._folder.open.pop(self._folder.key(name), None)

    def _sent(self, count: int) -> None:
        self._meter.written += count
        self._bytes += count
        if self._flushing is not None and self._flushing.safe.done():
            self._note()

    def _make_safe(self) -> _Sent:
        sent, self._under_way = _Sent(self._under_way), []
        return sent
