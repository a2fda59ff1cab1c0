"""The oracle: the unmodified kaggle CLI and kagglehub make the same trees of files as we do."""

from __future__ import annotations

import io
import random
import shutil
import tarfile
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World, published
from tests.conftest import Run, by_ref
from tests.file_crawls import DATASETS, FILES, folder_of, tree, tree_of, trees_of
from tests.killing.look import MINIMUM
from tests.killing.shapes import workspace
from tests.official import official_json

NOISE = random.Random(7).randbytes(70_000)
TEXT = b"id,name\n" + b"1,amber\n" * 9_000
NAMED = {
    "plain.csv": TEXT,
    "données brutes.csv": b"1",
    "日本語/フォルダ/表.csv": b"2",
    "🌋 lava & ash (copy) #2 100%.txt": b"3",
    unicodedata.normalize("NFC", "café.txt"): b"composed",
    unicodedata.normalize("NFD", "café.txt"): b"decomposed",
    ".hidden": b"4",
    "no suffix": b"5",
}
NESTED = {"a/b/c/d/e/f/g.txt": b"deep", "a/b/c.txt": b"half", "empty folder/": b"", "a/b/": b""}
#: Only a file system that knows case has room for them all.
CASES = {"Data.csv": b"1", "data.csv": b"2", "DATA.CSV": b"3", "A/x.txt": b"4", "a/X.txt": b"5"}
LONG = {f"{'folder ' * 5}{number}/{'x' * 150}.txt": b"%d" % number for number in range(3)}


class Unseekable(io.RawIOBase):
    """Where an archive can only be written from its beginning to its end."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self._file.write(data)


def zipped(
    files: dict[str, bytes],
    method: int = zipfile.ZIP_DEFLATED,
    *,
    zip64: bool = False,
    streamed: bool = False,
    comment: bytes = b"",
) -> bytes:
    made = io.BytesIO()
    target: Any = Unseekable(made) if streamed else made
    with zipfile.ZipFile(target, "w", method) as archive:
        archive.comment = comment
        for name, data in files.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_STORED if name.endswith("/") else method
            with archive.open(member, "w", force_zip64=zip64) as file:
                file.write(data)
    return made.getvalue()


def tarred(files: dict[str, bytes], form: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if name.endswith("/"):
                member.type = tarfile.DIRTYPE
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


#: What each archive holds, and the archive.
ZIPS: dict[str, tuple[dict[str, bytes], bytes]] = {
    "names": (NAMED, zipped(NAMED)),
    "nested": (NESTED, zipped(NESTED)),
    "cases": (CASES, zipped(CASES)),
    "long-names": (LONG, zipped(LONG)),
    "nothing": ({}, zipped({})),
    "empty-files": ({"a": b"", "b/c": b""}, zipped({"a": b"", "b/c": b""})),
    "stored": (
        {"n.bin": NOISE, "t": TEXT},
        zipped({"n.bin": NOISE, "t": TEXT}, zipfile.ZIP_STORED),
    ),
    "bzip2": ({"n.bin": NOISE, "t": TEXT}, zipped({"n.bin": NOISE, "t": TEXT}, zipfile.ZIP_BZIP2)),
    "zip64": ({"n.bin": NOISE, "t": TEXT}, zipped({"n.bin": NOISE, "t": TEXT}, zip64=True)),
    "streamed": (NAMED, zipped(NAMED, streamed=True)),
    "streamed-stored": (NAMED, zipped(NAMED, zipfile.ZIP_STORED, streamed=True, zip64=True)),
    "comment": ({"a": b"1"}, zipped({"a": b"1"}, comment=b"A comment. " * 99)),
}
TARS: dict[str, tuple[dict[str, bytes], bytes]] = {
    f"tar-{form}": (files, tarred(files, number))
    for form, number in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT))
    for files in [{**NAMED, **NESTED, **LONG, "n.bin": NOISE, "empty": b""}]
}

BY_KAGGLEHUB = """
import json, kagglehub
for ref, folder in {work!r}:
    kagglehub.dataset_download(ref, output_dir=folder)
print(json.dumps("done"))
"""
BY_CLI = """
import json, sys
from kaggle.cli import main
for ref, folder in {work!r}:
    sys.argv = ["kaggle", "datasets", "download", ref, "--unzip", "-p", folder]
    main()
print(json.dumps("done"))
"""


@pytest.mark.parametrize("transport", ["scrapy", "official"])
def test_the_official_clients_make_the_same_trees(
    crawl: Run, tmp_path: Path, transport: str
) -> None:
    probe = tmp_path / "probe"
    probe.touch()
    if (tmp_path / "PROBE").exists():
        pytest.skip("this file system knows no case, so clients differ in whose file is kept")
    given = [published(f"me/{name}", data, files) for name, (files, data) in ZIPS.items()]
    given += [
        published(f"me/{name}", data, files, name="archive.tar.gz")
        for name, (files, data) in TARS.items()
    ]
    generated = World(seed=8).downloadable(MINIMUM)
    # a handful, among them the largest and one with an empty file
    some = sorted(generated, key=lambda each: each.total_bytes)[-1:] + generated[:3]
    some += [each for each in generated if any(not file.size for file in each.files)][:1]
    world = World(scale=None, extra=tuple(given + some))
    clients = {"cli": BY_CLI, "kagglehub": BY_KAGGLEHUB} if transport == "scrapy" else {}
    with Replica(world) as replica:
        done = crawl(replica, *FILES, "-s", f"KAGGLE_TRANSPORT={transport}")
        for client, code in clients.items():
            refs = [
                each.ref for each in world.datasets if client != "cli" or "/tar-" not in each.ref
            ]
            work = [(ref, str(tmp_path / client / ref.replace("/", "_"))) for ref in refs]
            assert official_json(replica, code.format(work=work)) == "done"
    assert done.code == 0, done.log
    assert set(by_ref(done.rows)) == {each.ref for each in world.datasets}
    assert not [row for row in done.rows if row["Download"]["leftOut"]]
    for client in clients:
        for each in world.datasets:
            theirs = tmp_path / client / folder_of(each)
            if theirs.is_dir():
                shutil.rmtree(theirs / ".complete", ignore_errors=True)  # kagglehub's own
                ours = workspace(tmp_path) / DATASETS / folder_of(each)
                assert tree(ours) == tree(theirs), f"{each.ref} by {client}"
    # and that is what there is
    contents = {name: files for name, (files, _) in {**ZIPS, **TARS}.items()}
    expected = trees_of(some)
    for name, files in contents.items():
        expected |= tree_of(files, f"me_{name}")
    assert tree(workspace(tmp_path) / DATASETS) == expected
