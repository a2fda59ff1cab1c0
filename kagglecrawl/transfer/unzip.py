"""A zip becomes files as its bytes pass, member by member, each proved; it is never kept.

Its directory is read first, then the object once from its beginning. Every member's size and CRC-32
must be its directory's, and the whole must have the checksum that storage gives for it. What has
been had is noted with the job, so another run goes on with the first member that is not done, and
in the middle of one that is not compressed.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

import google_crc32c

from kagglecrawl.kaggle.errors import Damaged
from kagglecrawl.state.store import MemberRow
from kagglecrawl.state.transfers import COLLISION, Listed
from kagglecrawl.transfer import small, zips
from kagglecrawl.transfer.disk import DiskGuard
from kagglecrawl.transfer.members import CHOSEN, RATIO_FROM, BadMember, Choice
from kagglecrawl.transfer.notes import Notes
from kagglecrawl.transfer.place import Place
from kagglecrawl.transfer.proof import Proof
from kagglecrawl.transfer.receiver import BATCH, SMALL, listed, member_of, too_dense
from kagglecrawl.transfer.source import PIECE, Changed
from kagglecrawl.transfer.stream import READ_THROUGH, Mark, Source, Stream

#: Times that a member is read before it is taken to be as it came.
ATTEMPTS = 3
#: When so many stay bad whenever they are read, the archive is taken to have them so.
_BELIEVED = 3
#: Bytes asked for to have a local header: its name and extra field are at most 64 KiB each.
_HEADER_SPAN = zips.LOCAL_HEADER + 2 * 0xFFFF


class Unzip:
    """Unpacks a zip from a source; goes on where another process has left it."""

    def __init__(
        self, source: Source, place: Place, choice: Choice, notes: Notes, guard: DiskGuard
    ) -> None:
        self._source = source
        self._place = place
        self._choice = choice
        self._notes = notes
        self._files = place.receiver(notes, guard, source.meter)
        #: Where its directory is, and whether it was read a second time.
        self._where = zips.Directory(0, 0, 0, 0)
        self._confirmed = False
        #: Members that stayed bad.
        self._bad = 0
        #: Where the last bad one begins.
        self._before_bad: Mark | None = None
        #: Was one left out that was read once?
        self._hasty = False
        #: The number of one that was read together with others, and was not as it should be.
        self._alone = -1
        #: How often that was so.
        self._doubtful = 0
        #: How far the object was read, and its checksum, when the last member ended.
        self._so_far = (0, 0)
        #: Where the last member that was read ends.
        self._end = 0

    def run(self, tail: bytes) -> None:
        """Unpack all that is wanted and not there. ``tail`` is the archive's last bytes.

        Raises ``BadArchive``, ``Damaged`` where the whole has another checksum than storage says,
        ``NoSpace``, and what the source raises.
        """
        directory = self._where = zips.find_directory(tail, self._source.size)
        whole = True
        if self._notes.known().listed:
            whole = self._place.all_there(self._notes)
        else:
            self._list(directory)
        known = self._notes.known()
        if whole:  # else what has to be had again would seem to overlap
            self._end = known.position
        stream = Stream(self._source, known.position, known.crc32c)
        self._so_far = (stream.at, stream.crc32c)
        self._reserve()
        try:
            self._members(stream)
        except (Changed, Damaged):
            raise
        except Exception:
            # it goes on later, here or in another process, with what has been had
            self._files.flush(*self._so_far)
            raise
        finally:
            self._files.end()
            self._source.stop_at = None
        if stream.proves and directory.start - stream.at <= READ_THROUGH:
            self._check(stream, directory)
        elif self._hasty:
            raise Damaged("members were damaged, and nothing proves that storage has them so")
        else:  # not all of it was wanted: what was listed must do
            self._doubt(stream)

    # -- the directory ----------------------------------------------------------------------------

    def _list(self, directory: zips.Directory) -> None:
        """Note the directory. Raises ``BadArchive``."""
        self._notes.begin_anew(self._source.validator, self._source.size)
        exact = self._place.exact()
        reader = zips.DirectoryReader(directory)
        crc32c, doubtful = 0, False
        left = directory.stop - directory.start
        members: list[Listed] = []
        for piece in self._end_of_archive(directory):
            crc32c = google_crc32c.extend(crc32c, piece)
            entries, left = piece[:left], max(0, left - len(piece))
            for each in reader.feed(entries):
                reason = self._choice.why_not(each)
                doubtful = doubtful or reason not in CHOSEN
                if reason not in CHOSEN:
                    self._files.tell(each.name, f"it is refused ({reason})")
                members.append(listed(each, reason))
            if len(members) >= BATCH:
                self._notes.note(members, exact=exact)
                members = []
        reader.close()
        self._notes.note(members, exact=exact)
        if doubtful:
            self._read_again(directory, crc32c)
        self._notes.listed(crc32c)

    def _end_of_archive(self, directory: zips.Directory) -> Iterator[bytes]:
        """The directory and what follows it, which says where it is."""
        self._source.seek(directory.start)
        while piece := self._source.read(PIECE):
            yield piece

    def _read_again(self, directory: zips.Directory, crc32c: int) -> None:
        """Before a member is refused: has the directory come as it is? Raises ``Changed``."""
        self._source.distrust()
        again = 0
        for piece in self._end_of_archive(directory):
            again = google_crc32c.extend(again, piece)
        if again != crc32c:
            raise Changed

    def _check(self, stream: Stream, directory: zips.Directory) -> None:
        """Read to the object's end: the whole must be as storage says, and its directory as it was
        when it was noted. Raises ``Damaged``."""
        self._reach(stream, directory.start)
        crc32c = 0
        while data := stream.take(PIECE):
            crc32c = google_crc32c.extend(crc32c, data)
        stream.check()
        if crc32c != self._notes.known().directory:
            raise Damaged("the archive's directory was damaged on the way")

    def _reserve(self) -> None:
        """Room on the disk. Raises ``NoSpace``, and ``Unusable`` for what would fill any."""
        needed = self._notes.size_wanted()
        if needed > max(RATIO_FROM, self._choice.max_ratio * self._source.size):
            raise too_dense(self._choice)
        kept = 0
        for row in self._notes.wanted(1):
            kept = self._place.kept(row)
        self._files.reserve(needed - kept)

    # -- members ----------------------------------------------------------------------------------

    def _members(self, stream: Stream) -> None:
        members: list[MemberRow] = []
        while members := self._notes.wanted(BATCH, members[-1] if members else None):
            stops, at = _stops(members), 0
            while at < len(members):
                self._source.stop_at = stops[at]
                self._files.pause(*self._so_far, following=members[at].packed)
                done = self._small(stream, members, at)
                if not done:
                    self._member(stream, members[at])
                self._so_far = (stream.at, stream.crc32c)
                at += done or 1
        self._files.flush(*self._so_far)
        if self._notes.wanted(1):  # a fault of ours must not pass for a whole dataset
            raise Damaged("members were neither had nor left out")

    def _small(self, stream: Stream, members: Sequence[MemberRow], first: int) -> int:
        """As many as can be read in one piece, from ``first`` on; how many there were. One that is
        not as it should be ends them, and is to be read alone."""
        last, row = small.together(members, first), members[first]
        if last == first or row.offset < self._end or row.number == self._alone:
            return 0
        if max(self._bad, self._doubtful) >= _BELIEVED:  # they would all be read twice
            return 0
        self._reach(stream, row.offset)
        before, start = stream.mark(), stream.at
        stops = [each.offset - start for each in members[first + 1 : last + 1]]
        data = bytearray()
        try:
            while len(data) < stops[-1] and (piece := stream.take(stops[-1] - len(data))):
                data += piece
        except Exception:  # what has come whole stays, whatever has happened to the rest
            whole = bisect_right(stops, len(data))
            self._put(memoryview(data), start, members[first : first + whole], stops)
            raise
        done = self._put(memoryview(data), start, members[first:last], stops)
        if done < last - first:
            self._source.meter.count("damaged_member")
            self._alone = members[first + done].number
            self._doubtful += 1
            stream.back(before)
        return done

    def _put(
        self, window: memoryview, start: int, members: Sequence[MemberRow], stops: Sequence[int]
    ) -> int:
        """How many of them are as they should be, and are files now."""
        for done, (row, stop) in enumerate(zip(members, stops, strict=False)):
            content = small.read(window, row.offset - start, stop, row)
            if content is None:
                return done
            try:
                self._files.put(row.number, row.name, content.data, content.sha256)
            except BadMember as bad:  # the disk's, and not its bytes'
                self._refuse(row, bad)
            self._end = start + content.stop
        return len(members)

    def _member(self, stream: Stream, row: MemberRow) -> None:
        """One member: on disk when this returns, or left out for a reason."""
        if row.offset < self._end:
            self._doubt(stream)
            self._refuse(row, BadMember("overlap", "it overlaps another member"))
            return
        hasty = self._bad >= _BELIEVED and stream.proves and self._choice.takes_all
        attempts = 1 if hasty else ATTEMPTS
        first = 2 if row.number == self._alone else 1
        attempts = max(first, attempts)
        for attempt in range(first, attempts + 1):
            self._reach(stream, row.offset)
            before = stream.mark()
            try:
                self._unpack(stream, row, first=attempt == 1)
            except BadMember as bad:
                self._hasty = self._hasty or hasty
                if bad.reason in {COLLISION, "unsafe_path"}:  # the disk's, and not its bytes'
                    self._refuse(row, bad)
                    break
                if attempt == attempts:
                    self._bad += 1
                    # Its bytes are read to their end, so the checksum of the whole will tell
                    # whether storage has them so.
                    self._pass_over(stream, row, before)
                    self._doubt(stream)
                    self._refuse(row, bad)
                    break
                self._source.meter.count("damaged_member")
                stream.back(before)
            else:
                self._end = stream.at
                break

    def _reach(self, stream: Stream, position: int) -> None:
        """Go on to this byte. Where a bad header has led past it, what was read is read again, so
        that the checksum of the whole is not given up."""
        mark = self._before_bad
        if mark is not None and mark[0] <= position < stream.at:
            stream.back(mark)
            while stream.at < position and stream.take(min(PIECE, position - stream.at)):
                pass
        else:
            stream.go(position)

    def _pass_over(self, stream: Stream, row: MemberRow, before: Mark) -> None:
        """Behind a bad member, as far as the directory says that it goes."""
        self._end = row.offset + zips.LOCAL_HEADER + row.packed
        self._before_bad = before
        while stream.at < self._end and stream.take(min(PIECE, self._end - stream.at)):
            pass

    def _doubt(self, stream: Stream) -> None:
        """A member contradicts the directory: is that as it was when it was noted? Once is enough.
        Raises ``Changed`` if it is not."""
        if not self._confirmed:
            self._read_again(self._where, self._notes.known().directory)
            self._source.seek(stream.at)
            self._confirmed = True

    def _refuse(self, row: MemberRow, bad: BadMember) -> None:
        self._files.refuse(row.number, row.name, row.size, bad)

    def _unpack(self, stream: Stream, row: MemberRow, *, first: bool) -> None:
        """Read a member from its header to its end, and prove it. Raises ``BadMember``.

        Only the ``first`` time what is there is gone on with, and the quickest inflater trusted.
        """
        kept = self._place.kept(row) if first else 0
        stop = self._source.stop_at
        if kept:
            self._source.stop_at = row.offset + _HEADER_SPAN
        try:
            header = stream.exactly(zips.LOCAL_HEADER)
            header += stream.exactly(zips.data_start(header) - len(header))
        finally:
            self._source.stop_at = stop
        zips.check_local_header(header, member_of(row))
        if row.name.endswith("/"):
            self._files.folder(row.name)
            self._files.done(row.number, 0, hashlib.sha256().digest())
            return
        proof = Proof(self._files.pool)
        inflater = zips.Inflater(row.method, quick=first)
        if kept:
            self._take_kept(stream, row, kept, proof)
        if row.size <= SMALL:
            content: list[bytes] = []
            self._inflate(stream, row, inflater, content.append, proof)
            self._files.put(row.number, row.name, b"".join(content), proof.sha256)
            return
        with self._files.writing(row, proof, kept) as write:
            self._inflate(stream, row, inflater, write, proof)

    def _inflate(
        self,
        stream: Stream,
        row: MemberRow,
        inflater: zips.Inflater,
        write: Callable[[bytes], None],
        proof: Proof,
    ) -> None:
        """All of the member's bytes are read, also when they turn out to be bad."""
        left = row.packed - proof.size
        bad: BadMember | None = None
        while left and (data := stream.take(min(PIECE, left))):
            left -= len(data)
            if bad is not None:
                continue
            try:
                for piece in inflater.feed(data):
                    if proof.size + len(piece) > row.size:
                        raise BadMember("size_mismatch", "it is larger than the directory says")
                    proof.add(piece)
                    write(piece)
            except BadMember as error:
                bad = error
        if bad is not None:
            raise bad
        ended = row.method == zips.STORED or (inflater.finished and not inflater.unused)
        if left or proof.size != row.size or not ended:
            raise BadMember("size_mismatch", "it is of another size than the directory says")
        if proof.crc32 != row.crc32:
            raise BadMember("crc_mismatch", "its bytes have another CRC-32 than the directory says")

    def _take_kept(self, stream: Stream, row: MemberRow, kept: int, proof: Proof) -> None:
        """Go on in the middle of a member."""
        for data in self._place.read_kept(row, kept):
            proof.add(data)
            stream.known(data)
        self._source.seek(stream.at)


def _stops(members: list[MemberRow]) -> list[int | None]:
    """For each member, the end of the last one that is worth the same request, if that is known."""
    stops: list[int | None] = [None] * len(members)
    for at in range(len(members) - 2, -1, -1):
        end = members[at].offset + members[at].packed + _HEADER_SPAN
        apart = members[at + 1].offset - end > READ_THROUGH
        stops[at] = end if apart else stops[at + 1]
    return stops
