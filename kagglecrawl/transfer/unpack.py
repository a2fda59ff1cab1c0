"""From an object in storage to files at their place: what it is, and who unpacks it.

A zip is unpacked as it passes (unzip.py). A tar.gz cannot be entered in its middle: on its way to
disk it is fetched first (spool.py) and then unpacked, and to a store it is unpacked as it passes
(untar.py). A zip of which storage gives no parts is fetched first as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from kagglecrawl.kaggle.errors import Damaged, Unusable
from kagglecrawl.state.store import TransferRow
from kagglecrawl.transfer import zips
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.members import BadArchive, Choice
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.place import Place
from kagglecrawl.transfer.source import Changed, Remote
from kagglecrawl.transfer.spool import LocalSource, fetch
from kagglecrawl.transfer.untar import Forward, Readable, Untar
from kagglecrawl.transfer.unzip import Unzip
from kagglecrawl.units import amount

logger = logging.getLogger(__name__)

#: Times that an archive is begun anew because it is damaged or has changed.
_ATTEMPTS = 3
_GZIP = b"\x1f\x8b"


class Unpacking:
    """One transfer, in its own thread."""

    def __init__(
        self, remote: Remote, place: Place, choice: Choice, notes: Notes, guard: DiskGuard
    ) -> None:
        self._remote = remote
        self._place = place
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
                self._place.prepare()
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
                self._forget()
                if attempt == _ATTEMPTS:
                    raise Unusable(f"the archive cannot be read: {error}", "bad_archive") from None
            except Damaged:
                self._forget()
                raise

    def _forget(self) -> None:
        self._remote.forget()
        self._place.remove()
        self._notes.begin_anew("", 0)

    def _run(self) -> None:
        tail = self._remote.tail(zips.TAIL)
        known, remote = self._notes.known(), self._remote
        same = (known.validator, known.size) == (remote.validator, remote.size)
        if not (same and remote.validator):
            self._place.remove()
            self._place.prepare()
            self._notes.begin_anew(remote.validator, remote.size)
        of_tar = same and known.directory < 0 and (known.listed or self._place.takes_streams)
        if of_tar and self._place.all_there(self._notes) and self._is_had(known):
            return  # its files were on their way to their place
        if remote.ranged and self._is_zip(tail):
            Unzip(remote, self._place, self._choice, self._notes, self._guard).run(tail)
        elif self._place.takes_streams and self._head(tail) == _GZIP:
            self._stream()
        else:
            self._spool(go_on=same and remote.ranged)

    def _is_had(self, known: TransferRow) -> bool:
        """Is everything of it at its place, or left out?"""
        return known.listed and not self._notes.wanted(1)

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

    # -- what cannot be entered in its middle -----------------------------------------------------

    def _stream(self) -> None:
        """A tar straight to its place; what storage says of the whole is compared at its end."""
        source = Forward(self._remote)
        try:
            self._untar(source, source.check)
        except BadArchive:
            source.check()  # was it damaged on the way?
            raise

    def _spool(self, *, go_on: bool) -> None:
        """From a file on disk, which stays until all of it is at its place."""
        path, remote = self._place.archive, self._remote
        most = self._place.most_spooled
        if most is not None and remote.size > most:
            raise Unusable(
                f"its archive of {amount(remote.size)} would have to be kept on disk meanwhile, "
                f"and {amount(most)} are allowed: raise S3_SPOOL_MAX",
                "too_large",
            )
        why = "cannot be read as it comes" if remote.ranged else "comes without parts"
        logger.info("The archive of %s %s: kept on disk meanwhile", self._notes.key, why)
        if not remote.ranged:
            remote.meter.count("no_ranges")
        path.parent.mkdir(parents=True, exist_ok=True)
        fetch(remote, path, self._guard, self._notes.key, go_on=go_on)
        with LocalSource(path, remote.validator, remote.meter) as source:
            if source.read(len(_GZIP)) == _GZIP:
                source.seek(0)
                # from its beginning, also when an earlier run has done a part: it costs no network
                self._notes.begin_anew(source.validator, source.size)
                self._untar(source)
            else:
                tail = source.tail(zips.TAIL)
                Unzip(source, self._place, self._choice, self._notes, self._guard).run(tail)

    def _untar(self, source: Readable, check: Callable[[], None] = lambda: None) -> None:
        place, meter = self._place, self._remote.meter
        try:
            Untar(place, self._choice, self._notes, self._guard, meter).run(source, check)
        except Unusable:  # it would fill any disk
            self._forget()
            raise
