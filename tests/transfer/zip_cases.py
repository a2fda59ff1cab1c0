"""Zips, good ones and hostile ones, and what is to become of each of their members."""

from __future__ import annotations

from kagglecrawl.transfer.members import Choice
from tests.transfer.archives import (
    ALL,
    BZIP2,
    GOOD,
    LINK,
    RAW_SLIPS,
    SLIPS,
    STORED,
    UTF8,
    Case,
    Entry,
    deflated,
    end,
    quoted_overlap,
    unicode_path,
    zipped,
)


def _zip_slips() -> Case:
    bad = [Entry(name, b"" if name.endswith("/") else GOOD) for name in [*SLIPS, "evil\0.csv", ""]]
    bad += [Entry(name, flags=UTF8) for name in RAW_SLIPS]
    bad += [Entry(b"fine.csv", extra=unicode_path(b"fine.csv", "../evil.csv"))]
    names = [
        *SLIPS,
        "evil\0.csv",
        "",
        *(raw.decode("utf-8", "surrogateescape") for raw in RAW_SLIPS),
    ]
    members = tuple((name, "unsafe_path") for name in [*names, "../evil.csv"])
    good = Entry("good.csv")
    return Case("slips", zipped(good, *bad), (("good.csv", ""), *members), {"good.csv": GOOD})


def one(name: str, reason: str, *bad: Entry, choice: Choice = ALL) -> Case:
    """These are refused for this reason, and the one before and the one behind are not."""
    data = zipped(Entry("first.csv"), *bad, Entry("last.csv", method=STORED))
    refused = tuple((entry.raw.decode(), reason) for entry in bad)
    members = (("first.csv", ""), *refused, ("last.csv", ""))
    return Case(name, data, members, {"first.csv": GOOD, "last.csv": GOOD}, choice=choice)


def _special(kind: int) -> Entry:
    return Entry(f"special{kind:o}", b"", mode=kind | 0o666)


LARGE = bytes(3 << 20)
_TRUE = deflated(GOOD)
_PLAIN = zipped(Entry("a.csv"), Entry("b.csv"))
_NESTED = zipped(Entry("../evil"), Entry("zeros", LARGE))
_OVERLAP, _FIRST = quoted_overlap(["one", "two", "three", "four"], GOOD)
_NAMES = ("été/数据.csv", "e\u0301.csv", "üé.csv", "ñ.csv", "q.csv", "👩\u200d👧.csv")
_LAST = _PLAIN[-22:]
_64 = zipped(Entry("a"), zip64=True)
_DAMAGED = b"PK\1\3".join(_PLAIN.rsplit(b"PK\1\2", 1))
_LACKING = zipped(Entry("a", size=0xFFFFFFFE)).replace(b"\xfe\xff\xff\xff", b"\xff" * 4)

ZIPS: list[Case] = [
    Case("plain", _PLAIN, (("a.csv", ""), ("b.csv", "")), {"a.csv": GOOD, "b.csv": GOOD}),
    Case("empty", zipped()),
    Case(
        "folders, an empty file, all methods",
        zipped(
            Entry("d/", b"", STORED, mode=0o40755),
            Entry("d/e/", b"", STORED, mode=0, system=0),
            Entry("d/none", b"", STORED),
            Entry("d/s", method=STORED),
            Entry("d/b", method=BZIP2),
        ),
        (("d/", ""), ("d/e/", ""), ("d/none", ""), ("d/s", ""), ("d/b", "")),
        {"d/none": b"", "d/s": GOOD, "d/b": GOOD},
    ),
    Case(
        "nested zip",
        zipped(Entry("inner.zip", _NESTED, STORED)),
        (("inner.zip", ""),),
        {"inner.zip": _NESTED},
    ),
    Case(
        "names of all kinds",
        zipped(
            Entry("été/数据.csv"),
            Entry("\u0065\u0301.csv"),
            Entry(b"\x81\x82.csv"),  # cp437
            Entry(b"p.csv", extra=unicode_path(b"p.csv", "ñ.csv")),
            Entry(b"q.csv", extra=unicode_path(b"q.csv", "ñ.csv", wrong=1)),
            Entry("👩\u200d👧.csv"),
        ),
        tuple((name, "") for name in _NAMES),
        dict.fromkeys(_NAMES, GOOD),
    ),
    Case("zip64", zipped(Entry("a"), zip64=True), (("a", ""),), {"a": GOOD}),
    Case("zip64, more", zipped(Entry("a"), zip64=True, more=b"?" * 9), (("a", ""),), {"a": GOOD}),
    Case("prefix", zipped(Entry("a"), prefix=b"#!/bin/sh\n" * 9), (("a", ""),), {"a": GOOD}),
    Case(
        "prefix, zip64",
        zipped(Entry("a"), prefix=b"MZ" * 99, zip64=True),
        (("a", ""),),
        {"a": GOOD},
    ),
    Case(
        "a comment with end records",
        zipped(Entry("a"), comment=b"see " + _LAST + b" and " + _LAST[:20] + b"\0\2"),
        (("a", ""),),
        {"a": GOOD},
    ),
    _zip_slips(),
    one(
        "links",
        "link",
        Entry("link", b"/etc/passwd", STORED, mode=LINK),
        Entry("up", b"..", mode=LINK, system=19),
        Entry("link/", b"", STORED, mode=LINK),
    ),
    Case(
        "a file below a link",
        zipped(Entry("link", b"/tmp", STORED, mode=LINK), Entry("link/evil.csv")),
        (("link", "link"), ("link/evil.csv", "")),
        {"link/evil.csv": GOOD},
    ),
    one(
        "special files",
        "special_file",
        *(_special(kind) for kind in (0o010000, 0o020000, 0o060000, 0o140000)),
        Entry("folder", b"", mode=0o040755),
        Entry("bytes/", GOOD),
    ),
    one(
        "encrypted",
        "encrypted",
        Entry("traditional", flags=1),
        Entry("strong", flags=1 << 6),
        Entry("masked", flags=1 << 13),
        Entry("aes", method=99, stored=GOOD, flags=1),
        Entry("elsewhere", flags=1, offset=1 << 20),
    ),
    one(
        "methods",
        "method",
        *(Entry(f"m{method}", method=method, stored=GOOD) for method in (1, 9, 14, 93, 99)),
        Entry("patch", flags=1 << 5),
    ),
    one(
        "lying sizes",
        "size_mismatch",
        Entry("more", size=len(GOOD) + 1),
        Entry("less", size=len(GOOD) - 1),
        Entry("stored", method=STORED, size=len(GOOD) - 1),
        Entry("cut", packed=len(_TRUE) - 1),
        Entry("behind", stored=_TRUE + b"and more"),
        Entry("bomb", LARGE, size=100),
        Entry("bzip2 bomb", LARGE, BZIP2, size=100),
    ),
    one(
        "lying checksums",
        "crc_mismatch",
        Entry("deflated", crc32=1),
        Entry("stored", method=STORED, crc32=1),
        Entry("empty", b"", STORED, crc32=1),
    ),
    one(
        "no such streams",
        "damaged",
        Entry("deflated", stored=b"\xff" * 20),
        Entry("bzip2", method=BZIP2, stored=b"BZh9" + b"\0" * 20),
    ),
    one(
        "other local headers",
        "header_mismatch",
        Entry("name", local_name=b"eman"),
        Entry("longer", local_name=b"longer than the directory says"),
        Entry("slip", local_name=b"../../evil"),
        Entry("method", local_method=STORED),
        Entry("encryption", local_flags=1),
        Entry("signature", local_sign=b"PK\1\2"),
    ),
    one(
        "behind the directory",
        "overlap",
        Entry("offset", offset=1 << 20),
        Entry("size", packed=1 << 20),
        Entry("far", offset=(1 << 63) - 100),
        Entry("wide", size=(1 << 63) - 1, packed=(1 << 63) - 1),
    ),
    Case(
        "quoted overlap",
        _OVERLAP,
        (("one", ""), ("two", "overlap"), ("three", "overlap"), ("four", "overlap")),
        {"one": _FIRST},
    ),
    one("bombs", "ratio", Entry("deflated", LARGE), Entry("bzip2", LARGE, BZIP2)),
    Case(
        "overlapping bombs",
        quoted_overlap(["one", "two", "three"], LARGE)[0],
        (("one", "ratio"), ("two", "ratio"), ("three", "ratio")),
    ),
    one("too large", "max_bytes", Entry("big", GOOD * 9), choice=Choice(max_bytes=len(GOOD))),
    Case(
        "only some",
        zipped(*(Entry(name) for name in ("a/b.csv", "a/b.txt", "c.csv")), Entry("a/", b"")),
        (("a/b.csv", ""), ("a/b.txt", "only"), ("c.csv", ""), ("a/", "only")),
        {"a/b.csv": GOOD, "c.csv": GOOD},
        choice=Choice(only=("*.csv",)),
    ),
    Case(
        "one name twice",
        zipped(Entry("a"), Entry("a", b"other"), Entry("b")),
        (("a", ""), ("a", "collision"), ("b", "")),
        {"a": GOOD, "b": GOOD},
    ),
    Case(
        "names that differ in case or composition",
        zipped(*(Entry(name, name.encode()) for name in ("A", "a", "\u00e9", "e\u0301"))),
        (("A", ""), ("a", ""), ("\u00e9", ""), ("e\u0301", "")),
        {name: name.encode() for name in ("A", "a", "\u00e9", "e\u0301")},
        clashing=(1, 3),
    ),
    Case(
        "a file where a folder is",
        zipped(Entry("a/b"), Entry("a"), Entry("c"), Entry("c/d"), Entry("e/", b""), Entry("e")),
        (
            ("a/b", ""),
            ("a", "collision"),
            ("c", ""),
            ("c/d", "collision"),
            ("e/", ""),
            ("e", "collision"),
        ),
        {"a/b": GOOD, "c": GOOD},
    ),
    *(
        Case(name, data, refused=words)
        for name, data, words in (
            ("nothing", b"", "no end record"),
            ("a page", b"<html>Please sign in</html>" * 9, "no end record"),
            ("cut off", _PLAIN[:-1], "no end record"),
            ("cut off in its middle", _PLAIN[:60], "no end record"),
            ("more behind its end", _PLAIN + b"\0", "no end record"),
            ("cut off in front", _PLAIN[9:], "cannot be where"),
            ("a directory before the archive", end(1, 99, 0), "cannot be where"),
            ("too many", zipped(Entry("a"), count=60000), "cannot hold 60000 members"),
            ("too many of zip64", zipped(Entry("a"), count=1 << 60, zip64=True), "cannot hold"),
            ("none, and yet a directory", zipped(Entry("a"), count=0), "cannot hold 0 members"),
            ("one too few", zipped(Entry("a"), Entry("b"), count=1), "more entries than the 1"),
            ("one too many", zipped(Entry("a" * 99), count=2), "says 2"),
            ("a directory of something else", _DAMAGED, "damaged at its entry 1"),
            ("two disks", bytes(99) + end(0, 0, 0, disk=1), "several disks"),
            ("another disk's end of zip64", _64[:-26] + b"\2" + _64[-25:], "several disks"),
            ("zip64 gone", _64[:-98] + _64[-42:], "missing or cut off"),
            ("zip64 of another length", _64[:-94] + b"\x2d" + _64[-93:], "missing or cut off"),
            ("two ends that differ", _64[:-14] + b"\2\0\2\0" + _64[-10:], "contradict"),
            ("zip64 elsewhere", _64[:-34] + b"\1" + _64[-33:], "cannot be where"),
            ("a size of zip64 that lacks", _LACKING, "lacks a size"),
            ("a size past all", zipped(Entry("a", size=1 << 63)), "no file can have"),
            ("an extra field cut off", zipped(Entry("a", extra=b"\1\0\xff\0?")), "extra field"),
        )
    ),
]
