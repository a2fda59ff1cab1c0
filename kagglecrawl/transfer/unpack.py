"""From an object in storage to files in a staging folder: what it is, and who unpacks it.

A zip is unpacked as it passes (unzip.py). A tar.gz cannot be entered in its middle, so it is
fetched first (spool.py) and then unpacked, as is a zip of which storage gives no parts.
"""

from __future__ import annotations

import hashlib
import logging

from kagglecrawl.kaggle.errors import Damaged, Unusable
from kagglecrawl.transfer import tars, zips
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.files import Files, all_there, listed, too_dense
from kagglecrawl.transfer.members import CHOSEN, RATIO_FROM, BadArchive, BadMember, Choice, Member
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.source import PIECE, Changed, Remote
from kagglecrawl.transfer.spool import LocalSource, fetch
from kagglecrawl.transfer.staging import Staging
from kagglecrawl.transfer.unzip import Unzip

logger = logging.getLogger(__name__)

#: Times that an archive is begun anew because it is damaged or has changed.
_ATTEMPTS = 3
_GZIP = b"\x1f\x8b"


class Unpacking:
    """One transfer, in its own thread."""

    def __init__(
        self, remote: Remote, staging: Staging, choice: Choice, notes: Notes, guard: DiskGuard
    ) -> None:
        self._remote = remote
        self._staging = staging
        self._choice = choice
        self._notes = notes
        self._guard = guard

    def run(self) -> None:
        """Have every member that is wanted on disk.

        Raises ``Unusable`` if this is no archive that can be read, ``Damaged`` if its bytes are not
        those that storage says, ``NoSpace``, ``Stopped``, and what ``Remote`` raises.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._staging.prepare()
                self._run()
                return
            except Changed:
                # a member that is done may be of the object that was there before
                self._remote.meter.count("changed")
                self._forget()
                if attempt == _ATTEMPTS:
                    raise Damaged("the archive changes while it is read") from None
            except BadArchive as error:
                self._remote.meter.count("damaged_archive")
                self._remote.forget()
                self._notes.begin_anew("", 0)
                if attempt == _ATTEMPTS:
                    self._forget()
                    raise Unusable(f"the archive cannot be read: {error}", "bad_archive") from None
            except Damaged:
                self._forget()
                raise

    def _forget(self) -> None:
        self._remote.forget()
        self._staging.remove()
        self._notes.begin_anew("", 0)

    def _run(self) -> None:
        tail = self._remote.tail(zips.TAIL)
        known, remote = self._notes.known(), self._remote
        same = (known.validator, known.size) == (remote.validator, remote.size)
        if not (same and remote.validator):
            self._staging.remove()
            self._staging.prepare()
            self._notes.begin_anew(remote.validator, remote.size)
        of_tar = same and known.listed and known.directory < 0
        if of_tar and all_there(self._staging, self._notes) and not self._notes.wanted(1):
            return  # its files were on their way to their place
        if remote.ranged and self._is_zip(tail):
            Unzip(remote, self._staging, self._choice, self._notes, self._guard).run(tail)
            return
        self._spool(go_on=same and remote.ranged)

    def _is_zip(self, tail: bytes) -> bool:
        try:
            zips.find_directory(tail, self._remote.size)
        except BadArchive:
            if self._head(tail).startswith(_GZIP):
                return False
            raise
        return True

    def _head(self, tail: bytes) -> bytes:
        if len(tail) == self._remote.size:
            return tail[:2]
        self._remote.seek(0)
        self._remote.stop_at = len(_GZIP)
        try:
            head = b""
            while len(head) < len(_GZIP) and (data := self._remote.read(len(_GZIP) - len(head))):
                head += data
            return head
        finally:
            self._remote.stop_at = None

    # -- from a file on disk ----------------------------------------------------------------------

    def _spool(self, *, go_on: bool) -> None:
        path, remote = self._staging.archive, self._remote
        if not remote.ranged:
            logger.info("Storage gives no parts of %s: fetched whole", self._staging.target.name)
            remote.meter.count("no_ranges")
        fetch(remote, path, self._guard, self._notes.key, go_on=go_on)
        with LocalSource(path, remote.validator, remote.meter) as source:
            if source.read(len(_GZIP)) == _GZIP:
                source.seek(0)
                self._untar(source)
            else:
                tail = source.tail(zips.TAIL)
                Unzip(source, self._staging, self._choice, self._notes, self._guard).run(tail)
        # the archive stays until its files are at their place: see Staging.publish

    def _untar(self, source: LocalSource) -> None:
        """From its beginning, also when an earlier run has done a part: it costs no network."""
        self._notes.begin_anew(source.validator, source.size)
        files = Files(self._staging, self._notes, self._guard, source.meter)
        most = max(RATIO_FROM, self._choice.max_ratio * source.size)
        try:
            self._take_all(files, source, most)
        finally:
            files.end()
        self._notes.listed(-1)

    def _take_all(self, files: Files, source: LocalSource, most: float) -> None:
        exact = self._staging.exact()
        for member, content in tars.members(source):
            if member.offset + member.size > most:  # headers count as well
                self._forget()
                raise too_dense(self._choice)
            reason = self._choice.why_not(member)
            if reason not in CHOSEN:
                files.tell(member.name, f"it is refused ({reason})")
            if self._notes.note([listed(member, reason)], exact=exact):
                self._take(files, member, content)
            files.pause(source.position, -1, following=0)
        files.flush(source.position, -1)

    def _take(self, files: Files, member: Member, content: tars.Data | None) -> None:
        sha256, size = hashlib.sha256(), 0
        path = self._staging.path(member.name)
        try:
            if content is None:
                files.make_folder(path)
            else:
                with files.open(path) as file:
                    while data := content.read(PIECE):
                        sha256.update(data)
                        size += len(data)
                        files.write(file, data)
        except BadMember as bad:
            files.refuse(member.number, path, member.size, bad)
        else:
            files.done(member.number, size, sha256.digest())
