"""The simplest program that unpacks an archive with what is tested: into memory, all at once."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, field

from kagglecrawl.transfer import tars, zips
from kagglecrawl.transfer.members import BadMember, Choice, Member
from tests.transfer.archives import ALL


@dataclass
class Taken:
    """What came of an archive: name and reason of each member, and path and content of files."""

    members: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    _folders: set[str] = field(default_factory=set)

    def put(self, member: Member, content: bytes) -> None:
        """Raises ``BadMember`` if something is in the way."""
        name = member.name.removesuffix("/")
        above = {name[:at] for at, character in enumerate(name) if character == "/"}
        if name in self.files or above & self.files.keys():
            raise BadMember("collision", name)
        self._folders |= above
        if member.is_folder:
            self._folders.add(name)
        elif name in self._folders:
            raise BadMember("collision", name)
        else:
            self.files[name] = content


def listed(data: bytes, step: int = 50) -> list[Member]:
    """A zip's members, its directory given in pieces of so many bytes."""
    directory = zips.find_directory(data[-zips.TAIL :], len(data))
    reader = zips.DirectoryReader(directory)
    found = []
    for at in range(directory.start, directory.stop, step):
        found += reader.feed(data[at : min(at + step, directory.stop)])
    reader.close()
    return found


def content(data: bytes, member: Member, step: int = 1 << 20) -> bytes:
    """The bytes of a zip's member, proved; its data is given in pieces of so many bytes."""
    start = member.offset + zips.data_start(data[member.offset :][: zips.LOCAL_HEADER])
    zips.check_local_header(data[member.offset : start], member)
    packed = data[start : start + member.packed]
    inflater = zips.Inflater(member.method)
    found = bytearray()
    for at in range(0, len(packed), step):
        for piece in inflater.feed(packed[at : at + step]):
            assert 0 < len(piece) <= zips.PIECE
            found += piece
            if len(found) > member.size:
                raise BadMember("size_mismatch", "too many")
    whole = len(packed) == member.packed and inflater.finished and not inflater.unused
    if not whole or len(found) != member.size:
        raise BadMember("size_mismatch", "too few")
    if zlib.crc32(found) != member.crc32:
        raise BadMember("crc_mismatch", "others")
    return bytes(found)


def unzipped(data: bytes, choice: Choice = ALL) -> Taken:
    """What comes of a zip."""
    taken = Taken()
    members = listed(data)
    reasons = [""] * len(members)
    end = 0
    for member in sorted(members, key=lambda each: each.offset):
        reason = choice.why_not(member)
        try:
            if not reason:
                if member.offset < end:
                    raise BadMember("overlap", member.name)
                end = member.offset + zips.LOCAL_HEADER + member.packed
                taken.put(member, content(data, member))
        except BadMember as bad:
            reason = bad.reason
        reasons[member.number] = reason
    taken.members = list(zip([each.name for each in members], reasons, strict=True))
    return taken


def untarred(data: bytes, choice: Choice = ALL, step: int = 1 << 20) -> Taken:
    """What comes of a tar."""
    taken = Taken()
    for member, bytes_ in tars.members(io.BytesIO(data)):
        assert (bytes_ is None) == bool(member.fault or member.is_folder)
        reason = choice.why_not(member)
        if not reason:
            found = bytearray()
            while bytes_ and (piece := bytes_.read(step)):
                found += piece
            assert len(found) == member.size
            try:
                taken.put(member, bytes(found))
            except BadMember as bad:
                reason = bad.reason
        taken.members.append((member.name, reason))
    return taken
