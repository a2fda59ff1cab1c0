"""Archives that mean harm, each the files of a dataset, in whole crawls: what is refused and why,
and that nothing else is touched."""

from __future__ import annotations

import bz2
import re
import struct
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World
from tests.transfer.archives import (
    BZIP2,
    GOOD,
    STORED,
    Case,
    Entry,
    entry,
    header,
    pax,
    tarred,
    zipped,
)
from tests.transfer.crawling import (
    FOR_EVER,
    INNOCENT,
    MEMORY,
    Aftermath,
    Sandbox,
    hostile,
    once,
    slug,
    with_innocents,
)
from tests.transfer.tar_cases import TARS
from tests.transfer.zip_cases import ZIPS, one

#: Bytes of a bomb: one that is held in memory at once is more than a crawl may take.
BOMB = 96 << 20
MIB = 1 << 20
#: More than a path may have on Linux; and so deep that what walks through it by recursion fails.
LONG = "/".join(["folder" * 40] * 18)
DEEP = "d/" * 1500


@dataclass(frozen=True)
class Attack:
    """An archive, and why its dataset fails, if it does."""

    case: Case
    kind: str
    reason: str = ""

    @property
    def ref(self) -> str:
        return f"{self.kind}/{slug(self.case.name)}"

    @property
    def dataset(self) -> DatasetTruth:
        name = "archive.tar.gz" if self.kind.startswith("tar") else "archive.zip"
        return hostile(self.ref, self.case.data, name=name)


def attacks(kind: str, cases: list[Case], reasons: dict[str, str]) -> list[Attack]:
    """Those that need no argument of the crawl."""
    usual = Case("usual", b"").choice
    return [
        Attack(case, kind, reasons.get(case.name, "bad_archive" if case.refused else ""))
        for case in cases
        if case.choice == usual
    ]


def tar_of(name: str, reason: str, *bad: str) -> Case:
    """A tar with members of these names between two that are good."""
    parts = [
        pax({"path": name}) + (entry("x", b"", b"5") if name.endswith("/") else entry("x"))
        for name in bad
    ]
    members = (("first", ""), *((each, reason) for each in bad), ("last", ""))
    data = tarred(entry("first"), *parts, entry("last"))
    return Case(name, data, members, {"first": GOOD, "last": GOOD})


def refused(name: str, data: bytes, words: str) -> Case:
    return Case(name, data, refused=words)


@cache
def deflated(head: bytes, size: int) -> bytes:
    """What begins so and goes on with zeros, never held in memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    begun = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    # depends on nothing before it, so it can be repeated, which is quicker than packing it again
    piece = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return begun + piece * (size // MIB) + packer.flush()


@cache
def bzipped(size: int) -> bytes:
    """So many zeros."""
    packer = bz2.BZ2Compressor()
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()])


@cache
def checksum(head: bytes, size: int) -> int:
    """The CRC-32 of what begins so and goes on with zeros."""
    crc32 = zlib.crc32(head)
    for _ in range(size // MIB):
        crc32 = zlib.crc32(bytes(MIB), crc32)
    return crc32


def endless(name: str, size: int, *, bzip2: bool = False, said: int | None = None) -> Entry:
    """A member of so many zeros; ``said`` is what the directory says."""
    packed, method = (bzipped(size), BZIP2) if bzip2 else (deflated(b"", size), 8)
    return Entry(name, b"", method, stored=packed, size=said or size, crc32=checksum(b"", size))


def gzip_of_zeros(head: bytes, size: int) -> bytes:
    """What begins so and goes on with zeros, in gzip."""
    end = struct.pack("<II", checksum(head, size), len(head) + size)
    return b"\x1f\x8b\x08\0\0\0\0\0\2\xff" + deflated(head, size) + end


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


_TWO = zipped(Entry("a.csv"), Entry("b.csv"))
_INSIDE = zipped(Entry("of-zip.csv"), prefix=tarred(entry("of-tar.csv")))
_SAME_PLACE = [Entry(f"again{number}", offset=0) for number in range(300)]

MORE_ZIPS = [
    one(
        "paths too long for any disk",
        "unsafe_path",
        Entry(f"{LONG}/evil.csv"),
        Entry(f"{LONG}/", b""),
    ),
    one("folders too deep", "unsafe_path", Entry(f"{DEEP}evil.csv"), Entry(DEEP, b"")),
    one("a name of 64 KiB", "unsafe_path", Entry("n" * 65535)),
    Case(
        "300 members in one place",
        zipped(Entry("a.csv"), *_SAME_PLACE, Entry("z.csv")),
        (("a.csv", ""), *((each.raw.decode(), "overlap") for each in _SAME_PLACE), ("z.csv", "")),
        {"a.csv": GOOD, "z.csv": GOOD},
    ),
    Case(
        "a header that goes on past the end",
        patched(_TWO, _TWO.index(b"PK\3\4", 4) + 28, b"\xff\xff"),
        (("a.csv", ""), ("b.csv", "header_mismatch")),
        {"a.csv": GOOD},
    ),
    Case("a zip behind a tar", _INSIDE, (("of-zip.csv", ""),), {"of-zip.csv": GOOD}),
    Case("a tar", tarred(entry("a.csv")), (("a.csv", ""),), {"a.csv": GOOD}),
    Case(
        "names that the crawl has use for itself",
        zipped(Entry(".probe-\u00e9"), Entry(".incomplete"), Entry("x.archive.incomplete")),
        ((".probe-\u00e9", ""), (".incomplete", ""), ("x.archive.incomplete", "")),
        dict.fromkeys((".probe-\u00e9", ".incomplete", "x.archive.incomplete"), GOOD),
    ),
    refused("one byte", b"P", "no end record"),
    refused("another kind of archive", b"7z\xbc\xaf\x27\x1c" + bytes(99), "no end record"),
    refused("many small bombs", zipped(*(Entry(f"{n}", bytes(MIB)) for n in range(40))), "times"),
]
MORE_TARS = [
    tar_of("paths too long for any disk", "unsafe_path", f"{LONG}/evil.csv", f"{LONG}/evil/"),
    tar_of("folders too deep", "unsafe_path", f"{DEEP}evil.csv"),
    Case("a zip", zipped(Entry("a.csv")), (("a.csv", ""),), {"a.csv": GOOD}),
    refused("gzip of nothing but its head", b"\x1f\x8b", "cut off"),
]
ATTACKS = [
    *attacks("zip", [*ZIPS, *MORE_ZIPS], {"many small bombs": "ratio"}),
    *attacks("tar", [*TARS, *MORE_TARS], {"a larger file than there is": "ratio"}),
]
_HEAD = entry("first") + header(b"bomb", BOMB)
BOMBS = [
    Attack(each, kind, "ratio" if each.refused else "")
    for kind, each in (
        ("zip", one("deflate", "ratio", endless("bomb", BOMB))),
        ("zip", one("deflate that lies", "size_mismatch", endless("bomb", BOMB, said=100))),
        ("zip", one("bzip2", "ratio", endless("bomb", BOMB, bzip2=True))),
        (
            "zip",
            one("bzip2 that lies", "size_mismatch", endless("bomb", BOMB, bzip2=True, said=100)),
        ),
        ("tar", refused("a large file", gzip_of_zeros(_HEAD, BOMB + MIB), "times its size")),
        ("tar", Case("zeros behind its end", gzip_of_zeros(bytes(1024), BOMB))),
        ("tar", refused("an endless name", gzip_of_zeros(header(b"L", BOMB, b"L"), BOMB), "tar")),
    )
]
BOMBS[-1] = replace(BOMBS[-1], reason="bad_archive")


def crawl(chosen: list[Attack], root: Path, *args: str) -> Aftermath:
    world = World(scale=None, extra=with_innocents([each.dataset for each in chosen]))
    with Replica(world) as replica:
        return Sandbox(root).crawl(replica, *args)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    return once(tmp_path_factory, "hostile archives", partial(crawl, ATTACKS))


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    return once(tmp_path_factory, "bombs", partial(crawl, BOMBS))


def look(attack: Attack, found: Aftermath) -> None:
    """It came to what the case says: its files, its members, its row or its verdict."""
    case, ref = attack.case, attack.ref
    if attack.reason:
        assert found.verdicts[ref] == ("failed", attack.reason)
        assert found.files[ref] is None
        assert ref not in found.downloads
        sentences = [line for line in found.log.splitlines() if f"Failed {ref}: " in line]
        assert len(sentences) == 1
        if attack.reason == "bad_archive":
            assert case.refused in sentences[0]
        return
    assert found.verdicts[ref] == ("stored", "")
    assert (found.files[ref] or {}) == case.files
    named = [(name.encode("utf-8", "backslashreplace").decode(), why) for name, why in case.members]
    assert found.members.get(ref, []) == named
    download = found.downloads[ref]
    assert download["leftOut"] == Counter(reason for _, reason in case.members if reason)
    assert download["bytes"] == sum(map(len, case.files.values()))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.ref)
def test_an_archive(archives: Aftermath, attack: Attack) -> None:
    look(attack, archives)


@pytest.mark.parametrize("attack", BOMBS, ids=lambda attack: attack.ref)
def test_a_bomb(bombs: Aftermath, attack: Attack) -> None:
    look(attack, bombs)


@pytest.mark.parametrize("name", ["archives", "bombs"])
def test_the_crawl_goes_on_and_touches_nothing(name: str, request: pytest.FixtureRequest) -> None:
    found: Aftermath = request.getfixturevalue(name)
    chosen = {"archives": ATTACKS, "bombs": BOMBS}[name]
    failed = [each.reason for each in chosen if each.reason]
    assert set(failed) <= FOR_EVER
    assert found.faults() == []
    assert found.leftovers == []
    assert found.code == 1
    assert found.stats("kaggle/datasets/failed/") == Counter(failed)
    assert found.stat("kaggle/datasets/stored") == len(chosen) - len(failed) + len(INNOCENT)
    assert found.asked["requests"]["DownloadDataset"] == {"302": len(chosen) + len(INNOCENT)}


def test_bombs_cost_no_disk_either(bombs: Aftermath) -> None:
    """What is refused by what its archive says of it is not even begun."""
    honest = sum(each.ref in {"zip/deflate", "zip/bzip2", "tar/a-large-file"} for each in BOMBS)
    assert honest == 3
    assert bombs.stat("kaggle/transfers/written") < 16 * MIB
    assert bombs.peak < MEMORY


def test_members_alone_fail_no_crawl(tmp_path: Path) -> None:
    """Where all that is refused is members, everything was had that can be: exit code 0."""
    chosen = [each for each in ATTACKS if not each.reason and each.case.name != "empty"][:20]
    assert any(reason for each in chosen for _, reason in each.case.members)
    found = crawl(chosen, tmp_path)
    assert (found.code, found.faults(), found.leftovers) == (0, [], [])


def test_arguments_that_leave_members_out(tmp_path: Path) -> None:
    big = Entry("a/big.csv", GOOD * 9)
    entries = (Entry("a/b.csv"), Entry("a/b.txt"), Entry("../c.csv"), Entry("d/", b""), big)
    members = tuple(zip([each.raw.decode() for each in entries], _WHY, strict=True))
    parts = [entry(each.name, each.data, b"5" if each.name == "d/" else b"0") for each in entries]
    chosen = [
        Attack(Case("some", data, members, {"a/b.csv": GOOD}), kind)
        for kind, data in (("zip", zipped(*entries)), ("tar", tarred(*parts)))
    ]
    found = crawl(chosen, tmp_path, "-a", "only=*.csv", "-a", f"max_bytes={len(GOOD)}")
    for each in chosen:
        look(each, found)
    assert found.code == 0
    assert found.harm == []


_WHY = ("", "only", "unsafe_path", "only", "max_bytes")


# -- what is there already -------------------------------------------------------------------------

_MEMBERS = {"first.csv": GOOD, "sub/evil.csv": GOOD}
_ARCHIVE = zipped(Entry("first.csv"), Entry("sub/evil.csv", method=STORED))


def test_places_that_are_taken(tmp_path: Path) -> None:
    """Of an earlier version, or planted: it is never followed, and never ends the crawl."""
    box = Sandbox(tmp_path / "box")
    outside = box.root / "outside"
    outside.mkdir()
    (outside / "evil.csv").write_bytes(b"somebody's own\n")

    def folder(name: str) -> Path:
        made = box.folder(f"planted/{name}")
        made.mkdir()
        return made

    (folder("link-to-a-folder") / "sub").symlink_to(outside)
    below = folder("link-to-a-file") / "sub"
    below.mkdir()
    (below / "evil.csv").symlink_to(outside / "evil.csv")
    (folder("link-to-nowhere") / "first.csv").symlink_to(box.root / "nowhere")
    (folder("file-for-a-folder") / "sub").write_bytes(b"a file once")
    (folder("folder-for-a-file") / "first.csv").mkdir()
    (folder("earlier-version") / "first.csv").write_bytes(b"older")
    box.folder("planted/a-file").write_bytes(b"no folder")
    box.folder("planted/all-to-nowhere").symlink_to(box.root / "nowhere")
    stored = {"link-to-a-file", "link-to-nowhere", "earlier-version"}
    taken = {"link-to-a-folder", "file-for-a-folder", "folder-for-a-file", "a-file"}
    taken.add("all-to-nowhere")
    refs = [f"planted/{name}" for name in sorted(stored | taken)]
    world = World(
        scale=None,
        extra=with_innocents(
            [*(hostile(ref, _ARCHIVE) for ref in refs), *(hostile(ref, _ARCHIVE) for ref in _ALIKE)]
        ),
    )
    with Replica(world) as replica:
        found = box.crawl(replica)
        _are_refused(found, box, stored, taken)
        for name in taken:
            box.folder(f"planted/{name}").rename(tmp_path / name)
        later = box.crawl(replica)
    assert later.faults() == []
    assert later.leftovers == []
    for name in taken:
        assert later.verdicts[f"planted/{name}"] == ("stored", ""), name
        assert later.files[f"planted/{name}"] == _MEMBERS, name


#: Different datasets that would have the same folder.
_ALIKE = ("one_and/other", "one/and_other")


def _are_refused(found: Aftermath, box: Sandbox, stored: set[str], taken: set[str]) -> None:
    assert found.faults() == []
    assert found.code == 1
    for name in stored:
        assert found.verdicts[f"planted/{name}"] == ("stored", ""), name
        assert found.files[f"planted/{name}"] == _MEMBERS, name
    for name in taken:
        assert found.verdicts[f"planted/{name}"] == ("failed", "place_taken"), name
    assert (box.folder("planted/link-to-a-folder") / "sub").is_symlink()
    assert (box.folder("planted/file-for-a-folder") / "sub").read_bytes() == b"a file once"
    assert box.folder("planted/a-file").read_bytes() == b"no folder"
    # What was had is kept with the job, for when the place is free.
    kept = {re.sub(r"^\.planted_(.+)\.\w+\.incomplete$", r"\1", each) for each in found.leftovers}
    assert kept == taken
    # One of the two has the folder, and the other does not get into it.
    verdicts = sorted(found.verdicts[ref] for ref in _ALIKE)
    assert verdicts == [("failed", "name_collision"), ("stored", "")]
    assert found.files[_ALIKE[0]] == _MEMBERS
