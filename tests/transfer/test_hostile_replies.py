"""Replies that mean harm, of the API and of storage, each to the download of a dataset, in a whole
crawl: what is made good, what fails and why, and that nothing else is touched or asked."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.faults import STORAGE, Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World
from tests.transfer import crawling
from tests.transfer.archives import GOOD, STORED, Entry, entry, tarred, zipped
from tests.transfer.crawling import FOR_EVER, INNOCENT, Aftermath, Lies, Sandbox, hostile, slug
from tests.transfer.stand import Asked, Object, Reply, Storage, head

FILES = {"a.csv": GOOD, "b.csv": GOOD * 9, "c.csv": GOOD}
SMALL = zipped(Entry("a.csv"), Entry("b.csv", FILES["b.csv"], STORED), Entry("c.csv"))
SIZE = len(SMALL)
DIRECTORY, END = SMALL.index(b"PK\1\2"), SMALL.index(b"PK\5\6")
#: Larger than what is asked for at first, so that it takes several requests.
NOISE = random.Random(1).randbytes(3 << 20)
LARGE_FILES = {"noise.bin": NOISE, "c.csv": GOOD}
LARGE = zipped(Entry("noise.bin", NOISE, STORED), Entry("c.csv"))
OTHER = zipped(Entry("other.bin", NOISE[::-1], STORED))
LARGE_TAR = tarred(entry("noise.bin", NOISE), entry("c.csv"))

#: Attempts at a request, and seconds without bytes that a transfer waits.
ATTEMPTS, STALL = 2, 0.5
#: Requests to storage that one download may come to: those of one place, of one archive, of all.
MOST_ASKED = 4 * 3 * ATTEMPTS
FIRST = (1,)
DOWNLOAD = "DownloadDataset"
RETRIED = {"damaged", "no_reply", "server_error", "bad_reply"}


@dataclass(frozen=True)
class Case:
    """What goes wrong with one dataset's download, and what is to come of it."""

    name: str
    reason: str = ""
    """Why the dataset fails; empty if all its files are had in the end."""
    faults: tuple[tuple[str, Fault, tuple[int, ...]], ...] = ()
    """Of the replica: method or storage, what, at which arrivals (none is all)."""
    answer: Callable[[Asked], Reply] | None = None
    """What another server on this machine answers, to which the download is redirected."""
    archive: bytes = SMALL
    files: dict[str, bytes] = field(default_factory=lambda: FILES)

    @property
    def ref(self) -> str:
        return f"reply/{slug(self.name)}"

    @property
    def dataset(self) -> DatasetTruth:
        return hostile(self.ref, self.archive)

    def rules(self, port: str) -> Iterator[Rule]:
        """For the replica; the other server is at ``port`` of this machine."""
        faults = self.faults
        if self.answer is not None:
            path = f"{slug(self.name)}?X-Goog-Signature=SECRET"
            faults = ((DOWNLOAD, _to(f"http://127.0.0.1:PORT/{path}"), ()),)
        for method, fault, arrivals in faults:
            key = self.dataset.archive_key if method == STORAGE else self.ref
            there = fault.location.replace("PORT", port)
            yield Rule(replace(fault, location=there), method, key, arrivals)


def _to(location: str) -> Fault:
    return Fault("redirect", status=302, location=location)


# -- where a download may lead ---------------------------------------------------------------------

#: Never followed. At PORT a server listens that must not be asked for it.
ELSEWHERE = [
    "https://elsewhere.example/archive.zip?X-Goog-Signature=SECRET",
    "http://storage.googleapis.com/archive.zip?SECRET",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    " file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "ftp://127.0.0.1:PORT/canary",
    "gopher://127.0.0.1:PORT/_canary",
    "data:application/zip;base64,UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==",
    "javascript:alert(1)",
    "ws://127.0.0.1:PORT/canary",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "https://SECRET:SECRET@storage.googleapis.com/x",
    "http://SECRET@127.0.0.1:PORT/canary",
    "http://127.0.0.1:PORT@elsewhere.example/x",
    "https://storage.googleapis.com\\@elsewhere.example/x",
    "//elsewhere.example/x",
    "http://127.0.0.1.elsewhere.example/x",
    "https://storage.googleapis.com.elsewhere.example/x",
    "https://storage.googleapis.com%00.elsewhere.example/x",
    "https://\u0455torage.googleapis.com/x",
    "https://storage.googleapis.com:8443/x",
    "https://storage.googleapis.com:99999/x",
    "https://storage.googleapis.com:port/x",
    "http://[::1/x",
    "http://[2001:db8::1]/x",
    "https://[2001:db8::1]/x",
    "http://[::ffff:127.0.0.1]:PORT/canary",
    "http://169.254.169.254/latest/meta-data/",
    "https:///x",
    "https:",
    "ht\ttps://elsewhere.example/x",
]
#: The same server under names that are not those of this machine.
ALIASES = ["2130706433", "0x7f.0.0.1", "127.1", "0.0.0.0", "127.0.0.1.", "[::ffff:127.0.0.1]"]


def _redirects() -> Iterator[Case]:
    locations = [*ELSEWHERE, *(f"http://{alias}:PORT/canary" for alias in ALIASES)]
    for number, location in enumerate(locations):
        for method, by in ((DOWNLOAD, "api"), (STORAGE, "storage")):
            shown = f"{number} {by} leads to {location[:40]}"
            yield Case(shown, "redirect_refused", ((method, _to(location), ()),))
    for number, location in enumerate(
        ("http://127.0.0.1:PORT/right", "http://localhost:PORT/right")
    ):
        yield Case(f"{number} api leads to this machine", "", ((DOWNLOAD, _to(location), ()),))
        yield Case(f"{number} storage leads to this machine", "", ((STORAGE, _to(location), ()),))
    # What is relative stays where it is, and is not there.
    for number, location in enumerate(("../../../etc/passwd", "\\\\elsewhere.example\\x", "///x")):
        yield Case(f"{number} relative", "storage_refused", ((DOWNLOAD, _to(location), ()),))
    nowhere = Fault("redirect", status=302)
    yield Case("api without a location", "redirect_refused", ((DOWNLOAD, nowhere, ()),))
    yield Case("storage without a location", "redirect_refused", ((STORAGE, nowhere, ()),))
    circle = Fault("redirect", status=307, location="{url}")
    yield Case("in circles", "redirect_refused", ((STORAGE, circle, ()),))
    not_modified = Fault("redirect", status=304)
    yield Case("not modified", "redirect_refused", ((DOWNLOAD, not_modified, ()),))


# -- storage that fails and lies -------------------------------------------------------------------

#: Bytes of every kind of place: in local headers, in data, in the directory, in the end record.
PLACES = {
    "signature": 0,
    "flags": 6,
    "extra length": 28,
    "name": 31,
    "deflated": 37,
    "stored": SMALL.index(GOOD) + 20,
    "second header": SMALL.index(b"PK\3\4", 4),
    "directory": DIRECTORY,
    "its method": DIRECTORY + 10,
    "its crc": DIRECTORY + 16,
    "its size": DIRECTORY + 24,
    "its attributes": DIRECTORY + 41,
    "its offset": DIRECTORY + 42,
    "its name": DIRECTORY + 46,
    "end": END + 1,
    "its count": END + 10,
    "its start": END + 16,
    "last byte": SIZE - 1,
}
#: Without a directory there is nothing to be proved wrong.
_NO_ARCHIVE = {"directory", "end", "its count", "last byte"}
_CUTS = (0, 1, 29, 40, DIRECTORY, DIRECTORY + 50, END, SIZE - 1)


def _storage(name: str, reason: str, fault: Fault, *arrivals: int, **more: Any) -> Case:
    return Case(name, reason, ((STORAGE, fault, arrivals),), **more)


_IN_ZIP: dict[str, Any] = {"archive": LARGE, "files": LARGE_FILES}
_IN_TAR: dict[str, Any] = {"archive": LARGE_TAR, "files": LARGE_FILES}


def _slow_troubles() -> Iterator[Case]:
    endless = Fault("trickle", seconds=0.02)
    yield _storage("an endless drip", "no_reply", endless)
    yield _storage("an endless drip, large", "no_reply", endless, **_IN_ZIP)
    yield _storage("a drip that ends", "", Fault("drip", seconds=0.8), 1)


def _troubles() -> Iterator[Case]:
    for place, at in PLACES.items():
        always = "bad_archive" if place in _NO_ARCHIVE else "damaged"
        yield _storage(f"damaged once: {place}", "", Fault("damaged", at=at), 1)
        yield _storage(f"damaged always: {place}", always, Fault("damaged", at=at))
    for at in _CUTS:
        yield _storage(f"cut once at {at}", "", Fault("cut", at=at), 1)
        yield _storage(f"cut always at {at}", "no_reply", Fault("cut", at=at))
    for name, archive in (("large", _IN_ZIP), ("tar", _IN_TAR)):
        middle = 2 << 20
        yield _storage(f"{name} damaged once", "", Fault("damaged", at=middle), 1, **archive)
        yield _storage(f"{name} damaged", "damaged", Fault("damaged", at=middle), **archive)
        yield _storage(f"{name} cut once", "", Fault("cut", at=middle), 1, **archive)
        yield _storage(f"{name} cut", "no_reply", Fault("cut", at=middle), **archive)
        yield _storage(f"{name} expires", "", Fault("expired"), 2, **archive)
        yield _storage(f"{name} without ranges", "", Fault("no_ranges"), **archive)
        yield _storage(f"{name} ranges go", "", Fault("no_ranges"), 2, 3, 4, 5, **archive)
    for kind in ("no_hash", "md5_only", "crc32c_only", "no_ranges"):
        yield _storage(f"{kind} once", "", Fault(kind), 1)
        yield _storage(f"{kind} always", "", Fault(kind))
    yield _storage("wrong hash once", "", Fault("wrong_hash"), 1)
    yield _storage("wrong hash", "damaged", Fault("wrong_hash"))
    damaged = Fault("damaged", at=50)
    for number, hashes in enumerate((Fault("md5_only"), Fault("no_hash")), 1):
        rules = ((STORAGE, hashes, FIRST), (STORAGE, damaged, (2, 3, 4)))
        yield Case(f"{number} damaged {hashes.kind}", "", rules)
    yield _storage("expires once", "", Fault("expired"), 1)
    yield _storage("expired always", "storage_refused", Fault("expired"))
    yield _storage("expired always, 403", "storage_refused", Fault("expired", status=403))
    for code in (400, 403, 404, 410, 418):
        yield _storage(f"{code} once", "", Fault("status", status=code), 1)
        yield _storage(f"{code} always", "storage_refused", Fault("status", status=code))
    for code in (408, 429, 500, 503):
        yield _storage(f"{code} once", "", Fault("status", status=code), 1)
        yield _storage(f"{code} always", "server_error", Fault("status", status=code))
    yield _storage("503, wait a second", "", Fault("status", status=503, retry_after=1), 1)
    yield _storage("reset once", "", Fault("reset"), 1)
    yield _storage("reset always", "no_reply", Fault("reset"))
    yield _storage("a page once", "", Fault("html"), 1)
    yield _storage("a page always", "bad_archive", Fault("html"))
    for name, content in (("other", OTHER), ("page", b"<html>"), ("none", b"")):
        reason = "" if name == "other" else "bad_archive"
        more = {"archive": LARGE, "files": {"other.bin": NOISE[::-1]}}
        yield _storage(f"becomes {name}", reason, Fault("changed", content=content), 2, **more)
    yield Case("an empty object", "bad_archive", archive=b"")
    for number, fault in enumerate(
        (
            *(Fault("wrong_start", by=by) for by in (5, -5)),
            *(Fault("wrong_total", by=by) for by in (9, 1 << 40)),
            *(Fault("wrong_length", by=by) for by in (9, -9, 1 << 40)),
        )
    ):
        yield _storage(f"{number} {fault.kind}", "storage_refused", fault, **_IN_ZIP)
    for name, reason, fault in (
        ("500", "server_error", Fault("status", status=500)),
        ("a page", "bad_reply", Fault("html")),
        ("a cut", "no_reply", Fault("cut")),
        ("a reset", "no_reply", Fault("reset")),
        ("an error in a 200", "server_error", Fault("error_in_200", status=500)),
    ):
        yield Case(f"api: {name} once", "", ((DOWNLOAD, fault, FIRST),))
        yield Case(f"api: {name}", reason, ((DOWNLOAD, fault, ()),))


# -- a server that says what no server says --------------------------------------------------------

_RIGHT = Object(SMALL)
_SERVER = Lies(_RIGHT, STALL)


def _slow_answers() -> Iterator[Case]:
    for name, begin, drop in (
        ("a head that drips", b"HTTP/1.1 206 -\r\nX-Drip: ", b"x"),
        ("100 now and then", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ):
        yield Case(name, "no_reply", answer=_SERVER.dripping(name, begin, drop))
    flood = [head(307, {"Location": "file:///x"}), *itertools.repeat(bytes(1 << 20), 200)]
    yield Case("a redirect with a large body", "redirect_refused", answer=_SERVER.raw(*flood))


def _answers() -> Iterator[Case]:
    nines = "9" * 5000
    for number, given in enumerate(
        (
            f"bytes 0-{nines}/{nines}9",
            f"bytes 0-{SIZE - 1}/{1 << 63}",
            f"bytes {(1 << 64) - SIZE}-{(1 << 64) - 1}/{1 << 64}",
            "who knows",
            f"items 0-{SIZE - 1}/{SIZE}",
            f"bytes */{SIZE}",
            f"bytes 0-{SIZE - 1}/*",
            f"bytes 9-1/{SIZE}",
            f"bytes 0-{SIZE}/{SIZE}",
            f"bytes -5-{SIZE - 1}/{SIZE}",
            None,
        )
    ):
        answer = _SERVER.part(Content_Range=given)
        yield Case(f"{number} content-range", "storage_refused", answer=answer)
    for number, length in enumerate((nines, str(1 << 64), "-1", "many", None)):
        answer = _SERVER.whole(SMALL, Content_Length=length)
        yield Case(f"{number} content-length", "storage_refused", answer=answer)
    chunks = b"%x\r\n%s\r\n" % (SIZE, SMALL)
    for number, body in enumerate((chunks + b"0\r\n\r\n", chunks, b"zz\r\n", b"f" * 99_999)):
        answer = _SERVER.whole(body, Transfer_Encoding="chunked")
        yield Case(f"{number} chunks without a length", "storage_refused", answer=answer)
    for code in (204, 205, 203, 101, 226, 600, 999):
        yield Case(f"{code}", "storage_refused", answer=_SERVER.status(code))
    for number, wait in enumerate(("9" * 400, "3600", "Fri, 31 Dec 9999 23:59:59 GMT", "-5")):
        answer = _SERVER.status(503, Retry_After=wait)
        yield Case(f"{number} to be asked later", "server_error", answer=answer)
    for name, *pieces in (
        ("no http", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("no head", SMALL),
        ("nothing",),
        ("a status of words", b"HTTP/1.1 fine thanks\r\n\r\n"),
        ("5,000 headers", head(206, {f"X-{number}": "x" for number in range(5000)})),
        ("a header of 200 KB", head(206, {"X": "x" * 200_000})),
    ):
        yield Case(name, "no_reply", answer=_SERVER.raw(*pieces))
    whole = head(200, {"Content-Length": str(SIZE), **_RIGHT.headers()})
    for number, end in enumerate((len("HTTP/1.1 2"), whole.index(b"Length"), whole.index(b"md5"))):
        yield Case(f"{number} a cut head", "no_reply", answer=_SERVER.raw(whole[:end]))
        yield Case(f"{number} a cut head once", answer=_SERVER.at_first(whole[:end]))
    yield Case("416 of none", "bad_archive", answer=_SERVER.status(416, Content_Range="bytes */0"))
    yield Case("416 of more", "damaged", answer=_SERVER.status(416, Content_Range="bytes */9"))
    # Oddities that change nothing.
    yield Case("says gzip", answer=_SERVER.part(Content_Encoding="gzip"))
    yield Case("a long etag", answer=_SERVER.part(ETag=f'"{"e" * 60_000}"'))
    yield Case("a folded etag", answer=_SERVER.part(ETag='"a\r\n b"'))
    yield Case("an etag of bytes", answer=_SERVER.part(ETag='"\xe9\xff\0"'))
    numbers = itertools.count()
    yield Case("new etags", answer=lambda asked: _SERVER.part(ETag=f'"{next(numbers)}"')(asked))
    yield Case("broken hashes", answer=_SERVER.part(x_goog_hash="crc32c=!!!!,md5=====,\xe9,crc32c"))
    yield Case("a header without a colon", answer=_SERVER.part(ETag='"a"\r\nno colon SECRET'))
    yield Case("more than it says", answer=lambda asked: [*_SERVER.part()(asked), bytes(9999)])


# -- the crawl -------------------------------------------------------------------------------------

#: What takes long begins first, so that it does not last longer than the rest.
CASES = [*_slow_answers(), *_slow_troubles(), *_redirects(), *_troubles(), *_answers()]
BY_PATH = {f"/{slug(case.name)}": case for case in CASES if case.answer}


def answered(asked: Asked) -> Reply | None:
    """By the other server: as the case says that the path is of."""
    case = BY_PATH.get(asked.path.partition("?")[0])
    return case.answer(asked) if case and case.answer else None


def crawl(chosen: list[Case], root: Path, **options: Any) -> Aftermath:
    _SERVER.over.clear()
    gated = replace(hostile("reply/gated", SMALL), state="gated")
    datasets = crawling.with_innocents([*(case.dataset for case in chosen), gated])
    with Storage(SMALL, answered) as other:
        port = other.address.rpartition(":")[2]
        rules = [rule for case in chosen for rule in case.rules(port)]
        world = World(scale=None, extra=datasets)
        with Replica(world, faults=Faults.script(rules)) as replica:
            try:
                found = Sandbox(root).crawl(replica, *_SETTINGS, **options)
            finally:
                _SERVER.over.set()
        found.asked["other"] = Counter(each.path.partition("?")[0] for each in other.asked)
        found.asked["ended"] = sorted(_SERVER.ended)
    return found


_SETTINGS = tuple(
    part
    for name, value in {
        "KAGGLE_MAX_ATTEMPTS": ATTEMPTS,
        "KAGGLE_STALL_TIMEOUT": STALL,
        "KAGGLE_CONCURRENT_TRANSFERS": 8,
    }.items()
    for part in ("-s", f"{name}={value}")
)


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    return crawling.once(tmp_path_factory, "hostile replies", partial(crawl, CASES))


@pytest.mark.parametrize("case", CASES, ids=lambda case: slug(case.name))
def test_a_reply(replies: Aftermath, case: Case) -> None:
    ref = case.ref
    if case.reason:
        assert replies.verdicts[ref] == ("failed", case.reason)
        assert replies.files[ref] is None
        assert ref not in replies.downloads
        assert len(re.findall(rf"Failed {ref}: .", replies.log)) == 1
    else:
        assert replies.verdicts[ref] == ("stored", "")
        assert replies.files[ref] == case.files
        assert replies.downloads[ref]["leftOut"] == {}
    stats = replies.asked
    asked = len(stats["storage_ranges"].get(case.dataset.archive_key, ()))
    assert asked + stats["other"][f"/{slug(case.name)}"] <= MOST_ASKED
    assert stats["requests_by_key"][DOWNLOAD][ref] <= 2 * ATTEMPTS


def test_there_are_many() -> None:
    names = [slug(case.name) for case in CASES]
    assert len(set(names)) == len(names)
    assert sum(1 for case in CASES if case.reason) > 50


def test_the_crawl_goes_on_and_touches_nothing(replies: Aftermath) -> None:
    failed = Counter(case.reason for case in CASES if case.reason)
    assert set(failed) <= FOR_EVER | RETRIED
    assert replies.faults() == []
    assert replies.code == 1
    assert replies.stats("kaggle/datasets/failed/") == failed
    stored = len(CASES) - failed.total() + len(INNOCENT) + 1  # the gated one, without files
    assert replies.stat("kaggle/datasets/stored") == stored
    assert replies.downloads["reply/gated"]["reason"] == "forbidden"
    assert replies.files["reply/gated"] is None


def test_only_what_may_be_gone_on_with_is_kept(replies: Aftermath) -> None:
    kept = {
        re.sub(r"^\.(.{,50}?)\.\w+(\.archive)?\.incomplete$", r"\1", x) for x in replies.leftovers
    }
    later = {case.ref.replace("/", "_")[:50] for case in CASES if case.reason in RETRIED}
    assert kept <= later
    assert any("large-cut" in name for name in kept), "else this shows nothing"


def test_nobody_is_asked_who_should_not_be(replies: Aftermath) -> None:
    assert set(replies.asked["other"]) == {*BY_PATH, "/right"}


def test_nobody_waits_for_what_does_not_come(replies: Aftermath) -> None:
    assert replies.asked["ended"] == []


def test_without_a_job_nothing_is_kept(tmp_path: Path) -> None:
    names = {"large cut", "tar cut", "large damaged", "500 always", "a page always", "in circles"}
    chosen = [case for case in CASES if case.name in names]
    assert len(chosen) == len(names)
    found = crawl(chosen, tmp_path, in_job=False)
    assert found.faults() == []
    assert found.leftovers == []
    assert (found.code, found.stat("kaggle/datasets/stored")) == (1, len(INNOCENT) + 1)
    assert found.stats("kaggle/datasets/failed/") == Counter(case.reason for case in chosen)
