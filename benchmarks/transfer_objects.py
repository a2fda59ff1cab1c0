"""What benchmarks/transfers.py has downloaded: archives, and a replica that serves them.

Run as ``python -m benchmarks.transfer_objects FOLDER SIZE MEMBERS`` it makes them, serves them,
says on its stdout where, and ends with its stdin. It is a process of its own, so that neither its
CPU nor its memory is anybody else's.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, BenchmarkError, clean_env

#: Of everything that is written at a time.
_PIECE = 1 << 20
#: Bytes of CSV that are repeated; far more than the 32 KiB that deflate looks back.
_PATTERN = 4 << 20
#: Members in one folder of the archive of many.
_IN_A_FOLDER = 100
#: Bytes of such a member.
_SMALL = (10_000, 30_000)

#: The objects by their slug, in words.
WORDS = {
    "tiny": "one file of 1 kB",
    "stored": "one file, stored",
    "deflated": "one CSV, deflated",
    "many": "small files, half of them deflated",
    "datasets": "such small files in each of four datasets",
}
#: Has a crawl of several, as crawls are: its start is paid once.
SEVERAL = "datasets"
_SEVERAL_OF = 4
#: Tells what starting costs.
TINY = "tiny"


@dataclass(frozen=True)
class Proof:
    """What a file must be."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Object:
    """A dataset, or several that are alike: the archive, and the files in that by their name."""

    slug: str
    refs: tuple[str, ...]
    archive: Proof
    files: dict[str, Proof]

    @property
    def packed(self) -> int:
        """Bytes of all the archives."""
        return self.archive.size * len(self.refs)

    @property
    def unpacked(self) -> int:
        """Bytes of all the files."""
        return sum(proof.size for proof in self.files.values()) * len(self.refs)


@dataclass(frozen=True)
class Served:
    """A replica that serves the objects, and the variables that point clients to it."""

    url: str
    crawler_env: dict[str, str]
    official_env: dict[str, str]
    objects: dict[str, Object]


@contextmanager
def serving(folder: Path, size: int, members: int) -> Iterator[Served]:
    """Make the objects in ``folder`` and serve them for the ``with`` block.

    Those of one file unpack to ``size`` bytes. Raises ``BenchmarkError`` if that cannot be done.
    """
    command = [sys.executable, "-m", "benchmarks.transfer_objects", str(folder)]
    with subprocess.Popen(
        [*command, str(size), str(members)],
        cwd=ROOT,
        env=clean_env(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C is for us; we end it
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise BenchmarkError(f"the replica ended with {process.wait()}")
            yield _read(json.loads(line), folder)
        finally:
            process.kill()  # it has nothing to tidy up


def _read(about: dict[str, Any], folder: Path) -> Served:
    objects = {}
    for slug, (archive, files) in json.loads((folder / "truth.json").read_text("utf-8")).items():
        proofs = {name: Proof(*proof) for name, proof in files.items()}
        objects[slug] = Object(slug, _refs(slug), Proof(*archive), proofs)
    return Served(about["url"], about["crawler_env"], about["env"], objects)


def _refs(slug: str) -> tuple[str, ...]:
    if slug != SEVERAL:
        return (f"bench/{slug}",)
    return tuple(f"bench/{slug}-{number}" for number in range(1, _SEVERAL_OF + 1))


# -- in the process of its own --------------------------------------------------------------------


class _Archive:
    """A zip that is written, and what is noted of its members."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, tuple[int, str]] = {}
        # the quickest level: it is reading them that is measured
        self._zip = zipfile.ZipFile(path, "w", compresslevel=1)

    def add(self, name: str, pieces: Iterator[bytes], size: int, *, deflated: bool) -> None:
        """A member of these pieces, ``size`` bytes in all."""
        info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
        info.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
        info.external_attr = 0o644 << 16
        info.file_size = size  # above 2 GiB the header needs to know beforehand
        sha256 = hashlib.sha256()
        with self._zip.open(info, "w") as member:
            for piece in pieces:
                member.write(piece)
                sha256.update(piece)
        self.files[name] = (size, sha256.hexdigest())

    def close(self) -> tuple[tuple[int, str], dict[str, tuple[int, str]]]:
        """What it is, and what its members are."""
        self._zip.close()
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return (self.path.stat().st_size, digest), self.files


def _noise(size: int) -> Iterator[bytes]:
    """Bytes that nobody can pack."""
    for at in range(0, size, _PIECE):
        yield os.urandom(min(_PIECE, size - at))


def _table(dice: random.Random, size: int) -> bytes:
    """So many bytes of CSV; they deflate to less than half."""
    lines = bytearray(b"id,day,station,temperature,humidity,pressure\n")
    number = 0
    while len(lines) < size:
        number += 1
        day, station = dice.randrange(1, 29), dice.choice(("north", "south", "harbour"))
        numbers = f"{dice.gauss(11, 8):.3f},{dice.random():.5f},{dice.gauss(1013, 9):.2f}"
        lines += f"{number},2024-05-{day:02},{station},{numbers}\n".encode()
    return bytes(lines[:size])


def _repeated(pattern: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, size, len(pattern)):
        yield pattern[: size - at]


def make(folder: Path, size: int, members: int) -> dict[str, Path]:
    """Make the archives, and ``truth.json`` with what they must unpack to; the archives by ref."""
    dice = random.Random(1)
    pattern = _table(dice, min(size, _PATTERN))
    archives = {slug: _Archive(folder / f"{slug}.zip") for slug in WORDS if slug != SEVERAL}
    archives[TINY].add("tiny.bin", _noise(1000), 1000, deflated=False)
    archives["stored"].add("stored.bin", _noise(size), size, deflated=False)
    archives["deflated"].add("table.csv", _repeated(pattern, size), size, deflated=True)
    for number in range(members):
        name, length = f"{number // _IN_A_FOLDER:03}/{number:05}", dice.randrange(*_SMALL)
        if number % 2:
            at = dice.randrange(max(1, len(pattern) - length))
            piece = pattern[at : at + length]
            archives["many"].add(f"{name}.csv", iter([piece]), len(piece), deflated=True)
        else:
            archives["many"].add(f"{name}.bin", _noise(length), length, deflated=False)
    truth = {slug: archive.close() for slug, archive in archives.items()}
    truth[SEVERAL], archives[SEVERAL] = truth["many"], archives["many"]
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return {ref: archive.path for slug, archive in archives.items() for ref in _refs(slug)}


def serve(folder: Path, size: int, members: int) -> None:
    """Make them and serve them until stdin ends."""
    from kagglecrawl.replica.server import Replica
    from kagglecrawl.replica.world import World, published

    datasets = [published(ref, path) for ref, path in make(folder, size, members).items()]
    with Replica(World(scale=None, extra=tuple(datasets))) as replica:
        for dataset in datasets:
            replica.prepare(dataset)
        about = {
            "url": replica.api_url,
            "crawler_env": replica.crawler_env(),
            "env": replica.env(),
        }
        print(json.dumps(about), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
