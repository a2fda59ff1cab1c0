"""What an object is, and who unpacks it: tars, zips of servers without parts, and neither."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import Damaged, NoReply, Unusable
from kagglecrawl.transfer import zips
from kagglecrawl.transfer.members import Choice
from tests.transfer.archives import GOOD, STORED, Case, Entry, entry, tarred, zipped
from tests.transfer.bench import Bench, Killed, files_in
from tests.transfer.stand import Asked, Object, Reply, Storage
from tests.transfer.tar_cases import TARS

BIG = random.Random(9).randbytes(1_500_000)
TREE = {"a.csv": GOOD, "data/big.bin": BIG, "data/deep/c.csv": b"", "z.csv": GOOD}
TAR = tarred(*(entry(name, data) for name, data in TREE.items()))
ZIP = zipped(*(Entry(name, data, STORED) for name, data in TREE.items()))


pytestmark = pytest.mark.usefixtures("quick_disk")


# -- tars ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [case for case in TARS if case.data[:2] == b"\x1f\x8b"], ids=lambda case: case.name
)
def test_good_and_hostile_tars(bench: Bench, case: Case) -> None:
    with Storage(case.data) as storage:
        if case.refused:
            with pytest.raises(Unusable) as caught:
                bench.run(storage, case.choice)
            assert case.refused in str(caught.value) or caught.value.slug == "ratio"
            assert bench.files() == {}
            return
        bench.run(storage, case.choice)
        names = [name.encode("utf-8", "backslashreplace").decode() for name, _ in case.members]
        reasons = [reason for _, reason in case.members]
        if not bench.staging.exact():
            for number in case.clashing:
                reasons[number] = "collision"
        assert bench.listing() == list(zip(names, reasons, strict=True))
        files = {name: data for name, data in bench.files().items() if not name.endswith("/")}
        assert files == case.files
        assert bench.proved()


def test_a_tar_leaves_nothing_but_its_files(bench: Bench) -> None:
    with Storage(TAR) as storage:
        meter = bench.run(storage, publish=True)
    assert files_in(bench.staging.target.parent) == {
        f"me_set/{name}": data for name, data in TREE.items()
    }
    assert meter.files == len(TREE)
    assert bench.job.every(bench.number) == [(name, len(data)) for name, data in TREE.items()]


@pytest.mark.parametrize(
    ("choice", "wanted", "reason"),
    [
        (Choice(only=("a.*",)), {"a.csv"}, "only"),
        (Choice(max_bytes=100), {"a.csv", "data/deep/c.csv", "z.csv"}, "max_bytes"),
        (Choice(only=("nothing",)), set(), "only"),
    ],
)
def test_what_is_wanted_of_a_tar(
    bench: Bench, choice: Choice, wanted: set[str], reason: str
) -> None:
    with Storage(TAR) as storage:
        bench.run(storage, choice)
    assert bench.files() == {name: TREE[name] for name in wanted}
    assert bench.members() == {name: "done" if name in wanted else reason for name in TREE}


def test_a_tar_on_a_bad_line(bench: Bench) -> None:
    with Storage(TAR) as storage:
        storage.script = lambda asked: storage.object.cut(asked, 1_100_000)
        bench.run(storage)
    assert bench.files() == TREE


@pytest.mark.parametrize("hashes", [("crc32c",), ("md5",)])
def test_a_tar_that_was_damaged_on_the_way(bench: Bench, hashes: tuple[str, ...]) -> None:
    with Storage(Object(TAR, hashes=hashes)) as storage:
        storage.script = lambda asked: storage.object.damaged(asked, 1_000)
        with pytest.raises(Damaged):
            bench.run(storage)
        assert bench.files() == {}
        assert not bench.staging.archive.exists()
        storage.script = None
        bench.run(storage)
    assert bench.files() == TREE


def test_a_tar_that_was_damaged_on_the_way_and_nobody_knows_its_checksum(bench: Bench) -> None:
    """Its gzip tells: then it is fetched again, and not read again."""
    with Storage(Object(TAR, hashes=())) as storage:
        hit: list[int] = []

        def script(asked: Asked) -> Reply | None:
            first, stop = storage.object.span(asked) or (0, 0)
            if first <= 100_000 < stop and not hit:
                hit.append(1)
                return storage.object.damaged(asked, 100_000)
            return None

        storage.script = script
        bench.run(storage)
    assert bench.files() == TREE


@pytest.mark.parametrize(
    "data",
    [
        TAR[:-9],
        TAR[: len(TAR) // 2],
        gzip.compress(b"no tar at all" * 1_000, mtime=0),
        gzip.compress(b"", mtime=0),
        b"\x1f\x8b",
        b"\x1f\x8bno gzip either" + bytes(100_000),
        TAR + b"more",
    ],
    ids=["end", "half", "no tar", "nothing", "two bytes", "no gzip", "more"],
)
def test_a_tar_that_cannot_be_read(bench: Bench, data: bytes) -> None:
    with Storage(data) as storage:
        with pytest.raises(Unusable) as caught:
            bench.run(storage)
        assert caught.value.slug == "bad_archive"
        assert len(str(caught.value)) < 300
    assert files_in(bench.workspace) == {} or bench.files() == {}
    assert not bench.staging.archive.exists()


def test_a_tar_that_unpacks_to_more_than_anybody_has_room_for(bench: Bench) -> None:
    bomb = tarred(*(entry(f"{n}", bytes(1 << 20)) for n in range(12)))
    with Storage(bomb) as storage:
        with pytest.raises(Unusable) as caught:
            bench.run(storage)
        assert caught.value.slug == "ratio"
        assert files_in(bench.workspace) == {} or bench.files() == {}
        bench.run(storage, Choice(max_ratio=5_000))
    assert len(bench.files()) == 12


def test_a_tar_that_is_killed_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kagglecrawl.transfer.receiver._MOST_UNNOTED", 10)
    number, ended = 0, False
    while not ended:
        bench = Bench(tmp_path / f"{number}")
        bench.store.commit()
        count = 0

        def noting(_: str) -> None:
            nonlocal count
            if count % 3:
                bench.store.commit()  # noqa: B023
            if count == number:  # noqa: B023
                raise Killed
            count += 1

        bench.noting = noting
        with Storage(TAR) as storage:
            try:
                bench.run(storage, publish=True)
                ended = True
            except Killed:
                bench.killed()
            bench.noting = lambda _: None
            bench.run(storage, publish=True)
        assert files_in(bench.staging.target.parent) == {
            f"me_set/{name}": data for name, data in TREE.items()
        }
        assert set(bench.members().values()) == {"done"}
        number += 1
    assert number > 8


def test_a_tar_is_gone_on_with_where_it_was(bench: Bench) -> None:
    with Storage(TAR) as storage:
        dead = 3  # after the end, and the two bytes at the beginning

        def script(asked: Asked) -> Reply | None:
            if asked.number > dead:
                return []
            return storage.object.cut(asked, 400_000) if asked.number == dead else None

        storage.script = script
        with pytest.raises(NoReply):
            bench.run(storage)
        had = bench.staging.archive.stat().st_size
        assert had == 400_000
        storage.script = None
        meter = bench.run(storage)
        assert meter.received < len(TAR) - had + zips.TAIL + 10
    assert bench.files() == TREE


def test_nothing_is_fetched_again_of_what_is_at_its_place(bench: Bench) -> None:
    """A kill between that and the note of it."""
    for data in (TAR, ZIP):
        other = Bench(bench.workspace / f"{len(data)}")
        with Storage(data) as storage:
            other.run(storage, publish=True)
            received = other.run(storage, publish=True).received
            assert received <= zips.TAIL + 100
        assert files_in(other.staging.target) == TREE


def test_another_tar_in_its_place(bench: Bench) -> None:
    new = tarred(entry("new.csv", GOOD), entry("big.bin", BIG[::-1]))
    with Storage(TAR) as storage:
        bench.run(storage)
        assert bench.files() == TREE
        storage.object = Object(new, '"two"')
        bench.run(storage, publish=True)
    assert files_in(bench.staging.target.parent) == {
        "me_set/new.csv": GOOD,
        "me_set/big.bin": BIG[::-1],
    }


# -- zips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [ZIP, TAR], ids=["zip", "tar"])
def test_a_server_that_gives_no_parts(bench: Bench, data: bytes) -> None:
    with Storage(data, lambda _: storage.object.whole()) as storage:
        meter = bench.run(storage, publish=True)
        assert len(storage.asked) == 1
    assert meter.again == {"no_ranges": 1}
    assert files_in(bench.staging.target.parent) == {
        f"me_set/{name}": content for name, content in TREE.items()
    }


def test_a_server_that_gives_no_parts_and_breaks_off(bench: Bench) -> None:
    with Storage(ZIP) as storage:

        def script(asked: Asked) -> Reply:
            whole = b"".join(storage.object.whole())
            return [whole[:900_000]] if asked.number == 1 else [whole]

        storage.script = script
        bench.run(storage)
    assert bench.files() == TREE


def test_a_server_that_gives_no_parts_any_more(bench: Bench) -> None:
    with Storage(ZIP) as storage:
        storage.script = lambda asked: None if asked.number == 1 else storage.object.whole()
        bench.run(storage)
    assert bench.files() == TREE


def test_a_server_that_gives_parts_now_and_then(bench: Bench) -> None:
    with Storage(ZIP) as storage:
        storage.script = lambda asked: storage.object.whole() if asked.number % 2 else None
        bench.run(storage)
        bench.run(storage)
    assert bench.files() == TREE


# -- neither ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"PK",
        b"PK\x05\x06",
        b"<html><body>We will be back</body></html>",
        b"<html>" * 300_000,
        bytes(2_000_000),
        ZIP[:-1],
        ZIP[:-30],
        ZIP[: len(ZIP) // 2],
        ZIP + b"x",
        b"\x1f",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("parts", [True, False])
def test_what_is_no_archive(bench: Bench, data: bytes, parts: bool) -> None:
    with Storage(data) as storage:
        if not parts:
            storage.script = lambda _: storage.object.whole()
        with pytest.raises(Unusable) as caught:
            bench.run(storage)
        assert caught.value.slug == "bad_archive"
        assert len(storage.asked) <= 6
    assert bench.files() == {}
    assert not bench.staging.archive.exists()


def test_two_bytes_that_come_one_by_one(bench: Bench) -> None:
    """Also then a tar is known by them."""

    def slowly(asked: Asked) -> Reply:
        begin, body = storage.object.answer(asked)
        yield begin
        yield body[:1]
        storage.over.wait(0.02)
        yield body[1:]

    with Storage(TAR) as storage:
        storage.script = lambda asked: slowly(asked) if asked.range == "0-1" else None
        bench.run(storage)
    assert bench.files() == TREE


@pytest.mark.parametrize("trouble", ["cut", "damaged"])
def test_a_good_archive_after_a_bad_answer(bench: Bench, trouble: str) -> None:
    """The directory's place was damaged on the way: it is read again."""
    with Storage(ZIP) as storage:
        make: dict[str, Callable[[Asked], Reply]] = {
            "cut": lambda asked: storage.object.cut(asked, 3),
            "damaged": lambda asked: storage.object.damaged(asked, len(ZIP) - 22),
        }
        storage.script = lambda asked: make[trouble](asked) if asked.number == 1 else None
        bench.run(storage)
    assert bench.files() == TREE
