"""What benchmarks/s3.py brings to a store: datasets, and a replica that serves them.

Run as ``python -m benchmarks.s3_objects FOLDER SIZE MEMBERS CASE…`` it makes them, serves them,
says on its stdout where, and ends with its stdin. It is a process of its own, so that neither its
CPU nor its memory is anybody else's.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, clean_env
from benchmarks.transfer_kills import parts
from tests.transfer.victim_archive import Made, Part, make_tar, make_zip

#: The cases in words. Each is one dataset, but the first one, which tells what starting costs.
WORDS = {
    "tiny": "one file of 1 kB",
    "many": "a zip of many small files, half of them deflated",
    "stored": "a zip of one large file, stored",
    "deflated": "a zip of one large file, deflated",
    "tar": "a tar.gz of few large files and many small ones",
    "mix": "a zip of large and small files, stored and deflated",
}
TINY = "tiny"
#: Members in one folder of the archive of many.
_IN_A_FOLDER = 100
#: Bytes of such a member.
_SMALL = (10_000, 30_000)


@dataclass(frozen=True)
class Object:
    """A dataset: bytes of its archive, and of each file the size and the SHA-256 by its name."""

    case: str
    packed: int
    files: dict[str, tuple[int, str]]

    @property
    def ref(self) -> str:
        return f"bench/{self.case}"


@dataclass(frozen=True)
class Served:
    """A replica that serves the objects, and the variables that point clients to it."""

    crawler_env: dict[str, str]
    official_env: dict[str, str]
    objects: dict[str, Object]


@contextmanager
def serving(folder: Path, size: int, members: int, cases: Sequence[str]) -> Iterator[Served]:
    """Make the objects in ``folder`` and serve them for the ``with`` block.

    The large file that is stored has ``size`` bytes, the deflated one half of that, and what has
    several a quarter. Raises ``BenchmarkError`` if that cannot be done.
    """
    command = [sys.executable, "-m", "benchmarks.s3_objects", str(folder), str(size), str(members)]
    with subprocess.Popen(
        [*command, *cases],
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
            about = json.loads(line)
            truth = json.loads((folder / "truth.json").read_text("utf-8"))
            objects = {
                each["case"]: Object(
                    each["case"],
                    each["packed"],
                    {name: (size, digest) for name, (size, digest) in each["files"].items()},
                )
                for each in truth
            }
            yield Served(about["crawler_env"], about["env"], objects)
        finally:
            process.kill()  # it has nothing to tidy up


# -- in the process of its own --------------------------------------------------------------------


def make(folder: Path, size: int, members: int, case: str) -> Made:
    """The archive of one case, and what it must unpack to."""
    path = folder / f"{case}.zip"
    match case:
        case "many":
            dice = random.Random(1)
            return make_zip(path, [_small(dice, number) for number in range(members)])
        case "stored":
            return make_zip(path, [Part("large.bin", size, stored=True, dense=True)])
        case "deflated":
            return make_zip(path, [Part("table.csv", size // 2)])
        case "tar":
            dice = random.Random(2)
            large = [Part(f"large {n}.npy", size // 20, dense=True) for n in range(4)]
            small = [_small(dice, number) for number in range(members // 20)]
            return make_tar(folder / f"{case}.tar.gz", [*large, *small])
        case "mix":
            # no empty file: aws s3 cp waits a minute after it (a fault of its botocore, 1.43.62)
            found = [part for part in parts(size // 4) if part.size]
            return make_zip(path, found, fill=size // 4)
    return make_zip(path, [Part("tiny.bin", 1000, stored=True, dense=True)])


def _small(dice: random.Random, number: int) -> Part:
    name, size = f"{number // _IN_A_FOLDER:03}/{number:05}", dice.randrange(*_SMALL)
    if number % 2:
        return Part(f"{name}.csv", size)
    return Part(f"{name}.bin", size, stored=True, dense=True)


def serve(folder: Path, size: int, members: int, cases: Sequence[str]) -> None:
    """Make them and serve them until stdin ends."""
    from kagglecrawl.replica.server import Replica
    from kagglecrawl.replica.world import World, published

    datasets, truth = [], []
    for case in cases:
        made = make(folder, size, members, case)
        found = Object(case, made.size, made.files)
        name = "archive.tar.gz" if case == "tar" else "archive.zip"
        datasets.append(published(found.ref, made.path, name=name))
        truth.append(asdict(found))
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    with Replica(World(scale=None, extra=tuple(datasets))) as replica:
        for dataset in datasets:
            replica.prepare(dataset)
        about = {"crawler_env": replica.crawler_env(), "env": replica.env()}
        print(json.dumps(about), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
