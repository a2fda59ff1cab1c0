"""Archives as large as one likes, made on disk, and what is to come of them."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import zipfile
from binascii import hexlify
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

_CHUNK = 1 << 20
_DATE = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Part:
    """A member to be made: ``size`` bytes, unpacked. One that is ``dense`` does not get smaller by
    packing, others get half as large; ``stored`` is not packed at all."""

    name: str
    size: int
    stored: bool = False
    dense: bool = False


@dataclass(frozen=True)
class Lies:
    """Where a member is in the archive: its first byte, and that behind its last."""

    name: str
    start: int
    stop: int
    stored: bool


@dataclass
class Made:
    """An archive on disk; of each file the size and the SHA-256, the folders, and, of a zip, where
    its members are."""

    path: Path
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    members: list[Lies] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of the archive."""
        return self.path.stat().st_size

    @property
    def unpacked(self) -> int:
        """Bytes of all files."""
        return sum(size for size, _ in self.files.values())

    def differences(
        self, folder: Path, beside: Mapping[str, bytes] = MappingProxyType({})
    ) -> list[str]:
        """What is not as it should be below this folder: files, their bytes, folders. ``beside`` is
        what was there before; the archive's files take the place of those."""
        before = {name: (len(data), sha256_of(data)) for name, data in beside.items()}
        wanted, found = {**before, **self.files}, []
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_dir():
                continue
            size, digest = wanted.pop(name, (-1, ""))
            if size < 0:
                found.append(f"{name} is not of the archive")
            elif (size, digest) != (path.stat().st_size, sha256(path)):
                found.append(f"{name} has other bytes")
        found += [f"{name} is missing" for name in wanted]
        return found + [
            f"{name} is no folder" for name in self.folders if not (folder / name).is_dir()
        ]

    def member_at(self, position: int) -> Lies | None:
        """The member in which this byte of the archive is; those before the first one and behind
        the last have none."""
        return next((each for each in self.members if each.start <= position < each.stop), None)


def sha256(path: Path) -> str:
    """The checksum of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(data: bytes) -> str:
    """The checksum of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def make_zip(path: Path, parts: Sequence[Part], *, fill: int = 0, seed: int = 1) -> Made:
    """A zip of these members; with ``fill``, of one more, which makes it that large (in bytes)."""
    made = Made(path)
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        for part in parts:
            _add(archive, made, part, seed)
        left = fill - file.tell()
        if left > 0:
            _add(archive, made, Part("rest.bin", left, stored=True, dense=True), seed)
    return made


def _add(archive: zipfile.ZipFile, made: Made, part: Part, seed: int) -> None:
    member = zipfile.ZipInfo(part.name, _DATE)
    member.file_size = part.size
    member.compress_type = zipfile.ZIP_STORED if part.stored else zipfile.ZIP_DEFLATED
    member.external_attr = (0o40755 if part.name.endswith("/") else 0o100644) << 16
    member.create_system = 3
    assert archive.fp is not None
    start = archive.fp.tell()
    if part.name.endswith("/"):
        archive.writestr(member, b"")
        made.folders.add(part.name.rstrip("/"))
    else:
        member._compresslevel = 1  # type: ignore[attr-defined]  # cheap to make
        digest = hashlib.sha256()
        with archive.open(member, "w") as target:
            for data in content(part, seed):
                digest.update(data)
                target.write(data)
        made.files[part.name] = (part.size, digest.hexdigest())
    made.members.append(Lies(part.name, start, archive.fp.tell(), part.stored))


def make_tar(path: Path, parts: Sequence[Part], *, fill: int = 0, seed: int = 1) -> Made:
    """A tar.gz of these members; with ``fill``, of one more, which makes it about that large."""
    made = Made(path)
    with (
        path.open("wb") as file,
        tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive,
    ):
        for part in parts:
            _add_to_tar(archive, made, part, seed)
        left = fill - file.tell()
        if left > 0:
            _add_to_tar(archive, made, Part("rest.bin", left, dense=True), seed)
    return made


def _add_to_tar(archive: tarfile.TarFile, made: Made, part: Part, seed: int) -> None:
    member = tarfile.TarInfo(part.name.rstrip("/"))
    if part.name.endswith("/"):
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
        made.folders.add(member.name)
        return
    member.size = part.size
    source = _Reader(content(part, seed))
    archive.addfile(member, source)
    made.files[part.name] = (part.size, source.digest.hexdigest())


def content(part: Part, seed: int) -> Iterator[bytes]:
    """What a member holds, piece by piece."""
    dice = random.Random(f"{seed} {part.name}")
    left = part.size
    while left > 0:
        count = min(left, _CHUNK)
        data = dice.randbytes(count)
        yield data if part.dense else hexlify(data, b"\n", 30)[:count]
        left -= count


class _Reader(io.RawIOBase):
    """Pieces, read as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while 0 <= len(self._rest) < size and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        self.digest.update(data)
        return data
