"""Tars in gzip, good ones and hostile ones, and what is to become of each of their members."""

from __future__ import annotations

import gzip

from kagglecrawl.transfer.members import Choice
from tests.transfer.archives import (
    GOOD,
    RAW_SLIPS,
    SLIPS,
    TAR_END,
    Case,
    entry,
    header,
    padded,
    pax,
    tarred,
)


def _tar_slips() -> Case:
    parts = [entry("good.csv")]
    for name in [*SLIPS, "evil\0.csv"]:
        folder = name.endswith("/")
        parts += [
            pax({"path": name}),
            entry("x", b"" if folder else GOOD, b"5" if folder else b"0"),
        ]
    parts += [entry(name) for name in [*RAW_SLIPS, b"/root.csv", b".//root.csv", b""]]
    names = [*SLIPS, "evil\0.csv", *(raw.decode("utf-8", "surrogateescape") for raw in RAW_SLIPS)]
    bad = tuple((name, "unsafe_path") for name in [*names, "/root.csv", "/root.csv", ""])
    return Case("slips", tarred(*parts), (("good.csv", ""), *bad), {"good.csv": GOOD})


def _tar_of(name: str, reason: str, *parts: bytes, names: tuple[str, ...]) -> Case:
    """These are refused for this reason, and the one before and the one behind are not."""
    members = (("first", ""), *((each, reason) for each in names), ("last", ""))
    data = tarred(entry("first"), *parts, entry("last"))
    return Case(name, data, members, {"first": GOOD, "last": GOOD})


_LONG = "folder/" * 20 + "file.csv"
_TAR = entry("a.csv") + entry("d", b"", b"5") + entry("d/b.csv")
_GZ = tarred(_TAR)
_SPARSE_MAP = header(b"map", len(GOOD), b"S", magic=b"ustar  \0", tail=bytes(137) + b"\1")
_PACKED_TAR = gzip.compress(_TAR, mtime=0)

TARS: list[Case] = [
    Case(
        "plain",
        _GZ,
        (("a.csv", ""), ("d/", ""), ("d/b.csv", "")),
        {"a.csv": GOOD, "d/b.csv": GOOD},
    ),
    Case("empty", tarred()),
    Case(
        "several gzips, and padding",
        gzip.compress(entry("a")[:700])
        + gzip.compress(entry("a")[700:] + TAR_END)
        + bytes(200_000),
        (("a", ""),),
        {"a": GOOD},
    ),
    Case(
        "of a folder itself",
        tarred(entry("./", b"", b"5"), entry("./a"), entry("././d/", b"", b"5"), entry("./d/b")),
        (("a", ""), ("d/", ""), ("d/b", "")),
        {"a": GOOD, "d/b": GOOD},
    ),
    Case(
        "long names",
        tarred(
            header(b"file.csv", len(GOOD), prefix=b"folder/" * 19 + b"folder") + padded(GOOD),
            entry("././@LongLink", f"g{_LONG}\0".encode(), b"L") + entry("cut"),
            pax({"path": f"p{_LONG}", "mtime": "1.5"}) + entry("cut"),
        ),
        ((_LONG, ""), (f"g{_LONG}", ""), (f"p{_LONG}", "")),
        {_LONG: GOOD, f"g{_LONG}": GOOD, f"p{_LONG}": GOOD},
    ),
    Case(
        "sizes in other ways",
        tarred(
            header(b"binary", size_field=b"\x80" + len(GOOD).to_bytes(11, "big")) + padded(GOOD),
            pax({"size": str(len(GOOD))}) + header(b"pax") + padded(GOOD),
            header(b"blanks", size_field=b"      %o \0  " % len(GOOD)) + padded(GOOD),
            pax({"comment": "for all"}, b"g") + header(b"none"),
        ),
        (("binary", ""), ("pax", ""), ("blanks", ""), ("none", "")),
        {"binary": GOOD, "pax": GOOD, "blanks": GOOD, "none": b""},
    ),
    Case(
        "as the first tars were, and GNU's",
        tarred(
            header(b"d/", kind=b"\0", magic=b""),
            entry("d/a", kind=b"\0"),
            entry("c", kind=b"7"),
            header(b"e", 1 << 30, b"5"),  # no data follows, whatever it says
            header(b"time", magic=b"ustar  \0", tail=b"14712345670\0"),
        ),
        (("d/", ""), ("d/a", ""), ("c", ""), ("e/", ""), ("time", "")),
        {"d/a": GOOD, "c": GOOD, "time": b""},
    ),
    _tar_slips(),
    _tar_of(
        "links",
        "link",
        entry("symbolic", b"", b"2"),
        header(b"hard", 1 << 30, b"1"),  # no data follows, whatever it says
        entry("././@LongLink", b"/etc/passwd\0", b"K") + entry("long", b"", b"2"),
        names=("symbolic", "hard", "long"),
    ),
    _tar_of(
        "special files",
        "special_file",
        *(header(kind, 1 << 30, kind) for kind in (b"3", b"4", b"6")),
        *(entry(kind, GOOD, kind) for kind in (b"D", b"M", b"V", b"Z")),
        _SPARSE_MAP + bytes(504) + b"\1" + bytes(7) + bytes(512) + padded(GOOD),
        pax({"GNU.sparse.major": "1", "GNU.sparse.name": "holes"}) + entry("GNUSparseFile.1/holes"),
        entry("bytes/", GOOD),
        names=(*"346DMVZ", "map", "holes", "bytes/"),
    ),
    Case(
        "one name twice",
        tarred(entry("a"), entry("a", b"other"), entry("b"), entry("b/c"), entry("d")),
        (("a", ""), ("a", "collision"), ("b", ""), ("b/c", "collision"), ("d", "")),
        {"a": GOOD, "b": GOOD, "d": GOOD},
    ),
    Case(
        "some too large, some not asked for",
        tarred(entry("big.csv", GOOD * 9), entry("a.txt"), entry("a.csv")),
        (("big.csv", "max_bytes"), ("a.txt", "only"), ("a.csv", "")),
        {"a.csv": GOOD},
        choice=Choice(only=("*.csv",), max_bytes=len(GOOD)),
    ),
    *(
        Case(name, data, refused=words)
        for name, data, words in (
            ("something else in gzip", gzip.compress(b"x,y\n" * 999), "no tar archive"),
            ("nothing in gzip", gzip.compress(b""), "without the mark of its end"),
            ("gzip cut off", _GZ[:-20], "gzip is cut off"),
            ("gzip cut off in its checksum", _GZ[:-8], "gzip is cut off"),
            ("gzip cut off at its last byte", _GZ[:-1], "gzip is cut off"),
            ("gzip's checksum", _GZ[:-8] + b"\0" * 4 + _GZ[-4:], "gzip is damaged"),
            ("gzip's length", _GZ[:-4] + b"\1\0\0\0", "gzip is damaged"),
            ("gzip's bytes", _GZ[:20] + b"\xff" * 9 + _GZ[29:], "gzip is damaged"),
            ("something behind the gzip", _GZ + b"more", "gzip is damaged"),
            ("something behind its padding", _GZ + bytes(200_000) + b"more", "gzip is damaged"),
            ("no mark of the end", _PACKED_TAR, "without the mark of its end"),
            ("cut off in a header", tarred(_TAR[:-900], ends=b""), "cut off"),
            ("cut off in a file", tarred(_TAR[:-300], ends=b""), "within a file"),
            ("a larger file than there is", tarred(header(b"a", 1 << 32)), "within a file"),
            ("another archive behind its end", tarred(_TAR + TAR_END + _TAR), "behind its end"),
            ("a header without a checksum", tarred(_TAR, b"damage".ljust(512)), "at byte 2560"),
            ("a size of letters", tarred(header(b"a", size_field=b"quite large.")), "no tar"),
            ("a size below 0", tarred(header(b"a", size_field=b"\xff" * 12)), "no tar"),
            ("a size past all", tarred(header(b"a", size_field=b"\x80" + b"\1" * 11)), "no tar"),
            ("pax: a size below 0", tarred(pax({"size": "-512"}), _TAR), "at byte 1024"),
            ("pax: no length", tarred(entry("p", b"path=a\n", b"x"), _TAR), "no tar"),
            ("pax: length 0", tarred(entry("p", b"0 path=a\n", b"x"), _TAR), "no tar"),
            ("pax: past its end", tarred(entry("p", b"99 path=a\n", b"x"), _TAR), "no tar"),
            ("pax: no value", tarred(entry("p", b"7 path\n", b"x"), _TAR), "no tar"),
            ("pax: no end of line", tarred(entry("p", b"9 path=ab", b"x"), _TAR), "no tar"),
            ("pax: too large", tarred(entry("p", bytes(1 << 20), b"x"), _TAR), "headers of more"),
            ("long names without end", tarred(entry("L", b"a", b"L") * 1025), "headers of more"),
            ("a name of nothing", tarred(entry("L", b"a", b"L")), "where a member should begin"),
        )
    ),
]
