"""Storage that lies, breaks where it is told to, and answers what nobody asked for."""

import base64
import hashlib
import http.client
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import google_crc32c
import pytest

from kagglecrawl.replica.faults import OF_STORAGE, STORAGE, Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.storage import Span
from kagglecrawl.replica.world import World, published
from tests.replica_client import Answer, call, fetch, named, signed

REF = "me/set"
DATA = bytes(range(256)) * 1_000
SIZE = len(DATA)


@pytest.fixture(params=["memory", "disk"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> bytes | Path:
    if request.param == "memory":
        return DATA
    path = tmp_path / "archive"
    path.write_bytes(DATA)
    return path


def lying(source: bytes | Path, *faults: Fault, arrivals: Sequence[int] = (1,)) -> Replica:
    """A replica with one archive, which meets these faults one after the other."""
    rules = [Rule(fault, STORAGE, arrivals=tuple(arrivals)) for fault in faults]
    world = World(scale=None, extra=(published(REF, source),))
    return Replica(world, faults=Faults.script(rules))


def part(url: str, spec: str, **headers: str) -> Answer:
    return fetch(url, headers={"Range": spec, **headers})


def partial(url: str, spec: str | None = None) -> bytes:
    """What comes of an answer that ends too early."""
    with pytest.raises(http.client.IncompleteRead) as caught:
        fetch(url, headers={"Range": spec} if spec else {})
    return caught.value.partial


def wrong_at(body: bytes, right: bytes) -> list[int]:
    assert len(body) == len(right)
    return [at for at, (one, other) in enumerate(zip(body, right, strict=True)) if one != other]


@pytest.mark.parametrize("at", [0, 1, 70_000, SIZE - 1])
def test_one_byte_is_damaged_wherever_it_is_asked_for(source: bytes | Path, at: int) -> None:
    with lying(source, Fault("damaged", at=at), arrivals=()) as replica:
        url = signed(replica, REF)
        assert wrong_at(fetch(url).body, DATA) == [at]
        first = max(at - 10, 0)
        assert wrong_at(part(url, f"bytes={first}-{at}").body, DATA[first : at + 1]) == [at - first]
        beside = range(at + 1, min(at + 50, SIZE)) or range(at - 50, at)
        body = part(url, f"bytes={beside.start}-{beside.stop - 1}").body
        assert body == DATA[beside.start : beside.stop]
        stats = replica.stats()
        assert stats["faults"] == {"damaged": 2}
        assert stats["delivered"]["storage"] == 1


def test_only_answers_that_hold_the_byte_are_arrivals() -> None:
    with lying(DATA, Fault("damaged", at=5_000)) as replica:
        url = signed(replica, REF)
        assert part(url, "bytes=-1000").body == DATA[-1_000:]
        assert part(url, "bytes=5001-6000").body == DATA[5_001:6_001]
        assert part(url, "bytes=0-4999").body == DATA[:5_000]
        assert part(url, f"bytes={SIZE}-").status == 416
        assert replica.stats()["faults"] == {}
        assert wrong_at(fetch(url).body, DATA) == [5_000]
        assert fetch(url).body == DATA


def test_cuts(source: bytes | Path) -> None:
    faults = (
        Fault("cut", after=100),
        Fault("cut", after=0),
        Fault("cut", at=150_000),
        Fault("cut", part=0.9),
        Fault("cut"),
    )
    with lying(source, *faults) as replica:
        url = signed(replica, REF)
        ends = [100, 0, 150_000, int(SIZE * 0.9), SIZE // 2]
        assert [partial(url) for _ in faults[:-1]] == [DATA[:end] for end in ends[:-1]]
        assert partial(url, "bytes=0-9999") == DATA[:5_000]
        stats = replica.stats()
        assert stats["faults"] == {"cut": 5}
        assert stats["storage_bytes"] == {
            replica.world.datasets[0].archive_key: sum(ends[:-1]) + 5_000
        }
        assert stats["delivered"] == {"DownloadDataset": 1}
        assert fetch(url).body == DATA


def test_answers_that_end_before_the_cut_are_whole() -> None:
    with lying(DATA, Fault("cut", after=100), Fault("cut", at=5_000), arrivals=()) as replica:
        url = signed(replica, REF)
        assert part(url, "bytes=10-109").body == DATA[10:110]
        assert part(url, "bytes=5001-5100").body == DATA[5_001:5_101]
        assert replica.stats()["faults"] == {}
        assert partial(url, "bytes=4950-5020") == DATA[4_950:5_000]


def hashes(answer: Answer) -> dict[str, bytes]:
    header = answer.headers.get("x-goog-hash", "")
    pairs = (each.split("=", 1) for each in header.split(",") if each)
    return {name: base64.b64decode(value) for name, value in pairs}


def test_what_is_said_of_hashes(source: bytes | Path) -> None:
    faults = [Fault("wrong_hash"), Fault("no_hash"), Fault("md5_only"), Fault("crc32c_only")]
    right = {
        "md5": hashlib.md5(DATA, usedforsecurity=False).digest(),
        "crc32c": google_crc32c.value(DATA).to_bytes(4, "big"),
    }
    with lying(source, *faults) as replica:
        url = signed(replica, REF)
        answers = [fetch(url) for _ in range(5)]
        assert [answer.body for answer in answers] == [DATA] * 5
        wrong, none, md5, crc32c, clean = map(hashes, answers)
        assert wrong.keys() == right.keys()
        assert all(wrong[name] != right[name] for name in right)
        assert [len(wrong[name]) for name in right] == [16, 4]
        assert "x-goog-hash" not in answers[1].headers
        assert none == {}
        assert md5 == {"md5": right["md5"]}
        assert crc32c == {"crc32c": right["crc32c"]}
        assert clean == right
        assert len({answer.headers["ETag"] for answer in answers}) == 1
        assert replica.stats()["delivered"]["storage"] == 4, "the wrong one does not count"


def test_storage_without_ranges(source: bytes | Path) -> None:
    with lying(source, Fault("no_ranges"), arrivals=()) as replica:
        url = signed(replica, REF)
        for spec in ("bytes=5-", "bytes=-5", "bytes=0-0", f"bytes={SIZE}-"):
            answer = part(url, spec)
            assert (answer.status, answer.body) == (200, DATA)
            assert "Content-Range" not in answer.headers
        assert fetch(url).body == DATA
        stats = replica.stats()
        assert stats["faults"] == {"no_ranges": 4}, "where no range is asked for nothing is wrong"
        assert stats["storage"] == {"GET 200": 5}


def test_lengths_that_lie(source: bytes | Path) -> None:
    faults = (
        Fault("wrong_length", by=1),
        Fault("wrong_length", by=5_000_000),
        Fault("wrong_length", by=-7),
    )
    with lying(source, *faults) as replica:
        url = signed(replica, REF)
        assert partial(url) == DATA
        assert partial(url, "bytes=10-") == DATA[10:]
        short = part(url, "bytes=10-")
        assert short.body == DATA[10:-7]
        assert short.headers["Content-Range"] == f"bytes 10-{SIZE - 8}/{SIZE - 7}"
        stats = replica.stats()
        assert stats["faults"] == {"wrong_length": 3}
        sent = SIZE + (SIZE - 10) + (SIZE - 17)
        assert stats["storage_bytes"] == {replica.world.datasets[0].archive_key: sent}
        assert "storage" not in replica.stats()["delivered"]
        assert fetch(url).body == DATA


def test_the_head_of_a_length_that_lies() -> None:
    with lying(DATA, Fault("wrong_length", by=3), arrivals=()) as replica:
        parts = urlsplit(signed(replica, REF))
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Range": "bytes=10-"})
        answer = connection.getresponse()
        assert answer.headers["Content-Length"] == str(SIZE - 10 + 3)
        assert answer.headers["Content-Range"] == f"bytes 10-{SIZE + 2}/{SIZE + 3}"
        answer.close()
        connection.close()


def test_ranges_that_are_not_those_asked_for(source: bytes | Path) -> None:
    faults = (
        Fault("wrong_start", by=100),
        Fault("wrong_start", by=-5),
        Fault("wrong_total", by=9),
    )
    with lying(source, *faults) as replica:
        url = signed(replica, REF)
        assert fetch(url).body == DATA, "the whole has no start to be wrong"
        for start, total in ((110, SIZE), (5, SIZE), (10, SIZE + 9)):
            answer = part(url, "bytes=10-999")
            assert (answer.status, answer.body) == (206, DATA[start:1_000])
            assert answer.headers["Content-Range"] == f"bytes {start}-999/{total}"
        assert replica.stats()["faults"] == {"wrong_start": 2, "wrong_total": 1}
        assert replica.stats()["delivered"]["storage"] == 1


@pytest.mark.parametrize("by", [100, -1])
def test_a_range_that_has_no_room_for_another_start(by: int) -> None:
    with lying(DATA, Fault("wrong_start", by=by), arrivals=()) as replica:
        assert part(signed(replica, REF), "bytes=0-99").body == DATA[:100]
        assert replica.stats()["faults"] == {}


def test_an_object_that_changes_in_the_middle(source: bytes | Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer"
    longer.write_bytes(DATA + b"more")
    faults = [Fault("changed", content=b"short"), Fault("changed", content=longer)]
    # Each rule counts what the ones before it have let pass.
    rules = [Rule(fault, STORAGE, arrivals=(2 + at,)) for at, fault in enumerate(faults)]
    world = World(scale=None, extra=(published(REF, source),))
    with Replica(world, faults=Faults.script(rules)) as replica:
        url = signed(replica, REF)
        first = fetch(url)
        assert first.body == DATA
        resumed = part(url, "bytes=4-", **{"If-Range": first.headers["ETag"]})
        assert (resumed.status, resumed.body) == (200, b"short"), "it is another object already"
        assert part(url, "bytes=1-", **{"If-Range": resumed.headers["ETag"]}).body == b"hort"
        third = fetch(signed(replica, REF))
        assert third.body == longer.read_bytes()
        assert part(url, "bytes=-4").body == b"more"
        assert len({a.headers["Last-Modified"] for a in (first, resumed, third)}) == 2
        assert replica.stats()["faults"] == {"changed": 2}


@pytest.mark.parametrize(("status", "expected"), [(0, 400), (403, 403)])
def test_a_url_that_is_dead_and_a_new_one_that_is_not(status: int, expected: int) -> None:
    with lying(DATA, Fault("expired", status=status), arrivals=(2,)) as replica:
        url = signed(replica, REF)
        assert part(url, "bytes=0-9").body == DATA[:10]
        for method in ("GET", "GET", "HEAD"):  # it stays dead, however often it is asked for
            answer = fetch(url, method)
            assert answer.status == expected
            assert method == "HEAD" or b"<Code>ExpiredToken</Code>" in answer.body
        renewed = signed(replica, REF)
        assert renewed != url
        assert fetch(renewed).body == DATA
        assert replica.stats()["faults"] == {"expired": 1}
        assert replica.stats()["storage"][f"GET {expected}"] == 2


def test_urls_that_are_always_dead() -> None:
    with lying(DATA, Fault("expired"), arrivals=()) as replica:
        assert {fetch(signed(replica, REF)).status for _ in range(3)} == {400}


def test_an_endless_drip_never_ends_but_is_left() -> None:
    with lying(b"abcd", Fault("trickle", seconds=0.01)) as replica:
        parts = urlsplit(signed(replica, REF))
        connection = http.client.HTTPConnection(parts.netloc, timeout=0.3)
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Length"]) == (200, "4")
        assert [answer.read(1) for _ in range(3)] == [b"a", b"b", b"c"]
        with pytest.raises(TimeoutError):
            answer.read(1)
        answer.close()
        connection.close()
        assert fetch(parts.geturl()).body == b"abcd"
        assert replica.stats()["delivered"]["storage"] == 1
        key = replica.world.datasets[0].archive_key
        assert replica.stats()["storage_bytes"] == {key: 3 + 4}


def test_a_replica_stops_while_an_answer_trickles() -> None:
    with lying(DATA, Fault("trickle", seconds=0.01)) as replica:
        parts = urlsplit(signed(replica, REF))
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        assert answer.read(2) == DATA[:2]
    answer.close()
    connection.close()


def test_a_drip_from_disk_is_right_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(DATA)
    with lying(path, Fault("drip", seconds=0.08)) as replica:
        url = signed(replica, REF)
        assert fetch(url).body == DATA
        assert replica.stats()["faults"] == {"drip": 1}


@pytest.mark.parametrize(
    "location",
    [
        "https://elsewhere.example/archive.zip?X-Goog-Signature=x",
        "http://storage.googleapis.com/x",
        "file:///etc/passwd",
        "//elsewhere.example/x",
    ],
)
def test_redirects_to_anywhere(location: str) -> None:
    fault = Fault("redirect", status=302, location=location)
    with lying(DATA, fault) as replica:
        answer = fetch(signed(replica, REF))
        assert (answer.status, answer.headers["Location"]) == (302, location)
    rules = [Rule(fault, "DownloadDataset", REF, arrivals=(1,))]
    world = World(scale=None, extra=(published(REF, DATA),))
    with Replica(world, faults=Faults.script(rules)) as replica:
        answer = call(replica, "DownloadDataset", named(REF))
        assert (answer.status, answer.headers["Location"]) == (302, location)
        assert fetch(signed(replica, REF)).body == DATA
        stats = replica.stats()
        assert stats["requests_by_key"] == {"DownloadDataset": {REF: 2}}
        assert stats["delivered_by_key"]["DownloadDataset"] == {REF: 1}


def test_redirects_in_circles_and_to_nowhere() -> None:
    circle = Fault("redirect", status=307, location="{url}")
    with lying(DATA, circle, Fault("redirect", status=302)) as replica:
        url = signed(replica, REF)
        answer = fetch(url)
        assert (answer.status, answer.headers["Location"]) == (307, url)
        nowhere = fetch(url)
        assert nowhere.status == 302
        assert "Location" not in nowhere.headers


def test_a_range_past_the_end_has_nothing_to_be_wrong() -> None:
    with lying(DATA, Fault("damaged"), Fault("wrong_hash"), arrivals=()) as replica:
        assert part(signed(replica, REF), f"bytes={SIZE}-").status == 416
        assert replica.stats()["faults"] == {}


def test_calls_do_not_meet_what_is_of_storage() -> None:
    for kind in sorted(OF_STORAGE):
        faults = Faults.script([Rule(Fault(kind))])  # type: ignore[arg-type]  # all are kinds
        assert faults.decide("ListDatasets", "page=1", "{}") is None
        assert faults.decide_object("1/1/archive.zip", Span(5, 90, 100, ranged=True)), kind


def test_harsh_trouble_reaches_every_range_of_a_download() -> None:
    span = Span(0, 1_000, 1_000, ranged=False)
    met: Counter[int] = Counter()
    places: dict[str, list[int]] = {"cut": [], "damaged": []}
    most = 0
    for number in range(4_000):
        faults = Faults.harsh(1)
        plan = [faults.decide_object(f"{number}/1/archive.zip", span) for _ in range(14)]
        found: list[tuple[int, Any]] = [(at, fault) for at, fault in enumerate(plan) if fault]
        most = max(most, len(found))
        met.update(at for at, _ in found)
        for _, fault in found:
            if fault.kind in places:
                places[fault.kind].append(fault.place(span))
    assert most == 3
    assert min(met[at] for at in range(5)) > 20, "not the first request alone"
    assert met[0] > met[1] > met[4], "though it most, for many take one request only"
    assert met[13] == 0, "it ends"
    for kind, found_at in places.items():
        assert min(found_at) < 50, kind
        assert max(found_at) > 950, kind
