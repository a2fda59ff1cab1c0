"""Zips that are damaged, on the way or in storage: nothing wrong is kept, nothing right lost."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import Damaged, RetryLater, Unusable
from kagglecrawl.transfer import zips
from kagglecrawl.transfer.members import Choice
from tests.transfer.archives import GOOD, STORED, Entry, zipped
from tests.transfer.bench import Bench
from tests.transfer.stand import Asked, Object, Reply, Storage, each_in_turn, told_of
from tests.transfer.unzipping import (
    BIG,
    MIXED_FILES,
    MIXED_ZIP,
    TWO,
    TWO_ZIP,
    archive_of,
    many,
    run_until_it_is_there,
)

pytestmark = pytest.mark.usefixtures("quick_disk")


# -- checksums -------------------------------------------------------------------------------------

TRUE = Object(MIXED_ZIP)


@pytest.mark.parametrize("hashes", [("crc32c", "md5"), ("crc32c",), ("md5",)])
def test_nothing_is_kept_of_what_storage_says_is_something_else(
    bench: Bench, hashes: tuple[str, ...]
) -> None:
    other = Object(MIXED_ZIP + b"x", hashes=hashes)
    with Storage(MIXED_ZIP) as storage:
        storage.script = lambda asked: told_of(other, storage.object.answer(asked))
        with pytest.raises(Damaged):
            bench.run(storage)
    assert bench.files() == {}
    assert bench.members() == {}
    assert (bench.row.validator, bench.row.listed) == ("", False)


@pytest.mark.parametrize("hashes", [("crc32c", "md5"), ("crc32c",), ("md5",), ()])
def test_what_storage_may_say(bench: Bench, hashes: tuple[str, ...]) -> None:
    with Storage(Object(MIXED_ZIP, hashes=hashes)) as storage:
        bench.run(storage)
    assert bench.files() == {**MIXED_FILES}


@pytest.mark.parametrize("etag", ['"one"', 'W/"one"', None])
def test_what_there_may_be_to_know_it_by(bench: Bench, etag: str | None) -> None:
    """Without anything, another run begins anew."""
    thing = Object(MIXED_ZIP, etag, None)
    with Storage(thing) as storage:
        bench.run(storage)
        assert bench.files() == MIXED_FILES
        received = bench.run(storage).received
    assert bench.files() == MIXED_FILES
    assert (received >= len(MIXED_ZIP)) is (etag != '"one"') or len(MIXED_ZIP) < zips.TAIL


# -- damage ----------------------------------------------------------------------------------------


def test_any_one_byte_that_is_damaged_on_the_way_once(tmp_path: Path) -> None:
    """Whichever it is: in the end everything is there, and nothing is left out."""
    for at in range(len(TWO_ZIP)):
        bench = Bench(tmp_path / f"{at}")
        with Storage(TWO_ZIP) as storage:
            storage.script = each_in_turn(lambda asked, at=at: storage.object.damaged(asked, at))  # type: ignore[misc]
            run_until_it_is_there(bench, storage)
        assert bench.files() == TWO, at
        assert bench.listing() == [(name, "") for name in TWO], at
        assert bench.proved()


def test_any_one_byte_that_is_damaged_when_it_is_read_again(tmp_path: Path) -> None:
    """The first answer is bad somewhere, and then the second one is elsewhere."""
    dice = random.Random(5)
    for number in range(100):
        bench = Bench(tmp_path / f"{number}")
        spots = [dice.randrange(len(TWO_ZIP)) for _ in range(4)]
        with Storage(TWO_ZIP) as storage:

            def script(asked: Asked) -> Reply | None:
                if asked.number > len(spots):  # noqa: B023
                    return None
                return storage.object.damaged(asked, spots[asked.number - 1])  # noqa: B023

            storage.script = script
            run_until_it_is_there(bench, storage)
        assert bench.files() == TWO, spots
        assert bench.listing() == [(name, "") for name in TWO], spots


@pytest.mark.parametrize("hashes", [("crc32c",), ("md5",)])
def test_the_directory_before_the_tail_is_damaged_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: tuple[str, ...]
) -> None:
    """It is read twice, and what was listed is what has to be proved."""
    monkeypatch.setattr(zips, "TAIL", 66_000)
    files = many(400)
    archive = archive_of(files)
    start = archive.index(b"PK\1\2")
    entry = 46 + len(next(iter(files)))
    assert archive.startswith(b"PK\1\2", start + 7 * entry)
    wanted = dict(list(files.items())[:10])
    for field in (0, 9, 10, 16, 20, 24, 28, 30, 40, 42, 46, 57, 58, 110):
        bench = Bench(tmp_path / f"{field}")
        with Storage(Object(archive, hashes=hashes)) as storage:

            def script(asked: Asked) -> Reply | None:
                at = start + 7 * entry + field  # noqa: B023
                return storage.object.damaged(asked, at) if asked.number == 2 else None

            storage.script = script
            run_until_it_is_there(bench, storage, Choice(only=("0000*",)))
        assert bench.files() == wanted, field
        assert Counter(reason for _, reason in bench.listing()) == {"": 10, "only": 390}, field


def test_a_directory_that_cannot_be_proved_is_read_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With ``only``, the checksum of the whole tells nothing."""
    monkeypatch.setattr(zips, "TAIL", 66_000)
    files = many(400)
    archive = archive_of(files | {"z.bin": BIG})
    at = archive.index(b"PK\1\2") + 7 * (46 + len(next(iter(files)))) + 46 + 7
    assert archive[at : at + 5] == b"00007"
    with Storage(archive) as storage:
        storage.script = each_in_turn(
            lambda _: None, lambda asked: storage.object.damaged(asked, at)
        )
        run_until_it_is_there(bench, storage, Choice(only=("0000*",)))
    assert bench.files() == dict(list(files.items())[:10])


def test_any_one_byte_that_is_wrong_in_storage(tmp_path: Path) -> None:
    """Storage says what the object should be, so nothing of it is taken."""
    thing = Object(TWO_ZIP)
    for at in range(0, len(TWO_ZIP), 3):
        bench = Bench(tmp_path / f"{at}")
        with Storage(TWO_ZIP) as storage:
            storage.script = lambda asked, at=at: thing.damaged(asked, at)
            with pytest.raises((Damaged, Unusable)):
                bench.run(storage)
        assert bench.files() == {}


def test_any_one_byte_that_was_wrong_from_the_beginning(tmp_path: Path) -> None:
    """The archive is so: what is unpacked is right all the same, the rest has a reason."""
    outcomes: Counter[str] = Counter()
    for at in range(len(TWO_ZIP)):
        bench = Bench(tmp_path / f"{at}")
        wrong = TWO_ZIP[:at] + bytes([TWO_ZIP[at] ^ 1]) + TWO_ZIP[at + 1 :]
        with Storage(wrong) as storage:
            try:
                bench.run(storage)
            except Unusable as error:
                outcomes[error.slug] += 1
                continue
        assert set(bench.files().values()) <= set(TWO.values())
        assert bench.proved()
        assert "open" not in bench.members().values()
        outcomes.update(reason for _, reason in bench.listing())
    assert {"bad_archive", "crc_mismatch", "header_mismatch"} <= outcomes.keys()
    assert "storage_refused" not in outcomes
    assert outcomes[""] > len(TWO_ZIP)


def test_bad_members_do_not_cost_three_reads_each(bench: Bench) -> None:
    bad = [Entry(f"{n}.csv", BIG[: 5_000 + n], STORED, crc32=n) for n in range(200)]
    with Storage(zipped(Entry("first.csv"), *bad, Entry("last.csv"))) as storage:
        bench.run(storage)
        assert len(storage.asked) < 20
    assert bench.files() == {"first.csv": GOOD, "last.csv": GOOD}
    assert Counter(bench.members().values()) == {"done": 2, "crc_mismatch": 200}


def test_a_good_member_among_bad_ones_on_a_bad_line(bench: Bench) -> None:
    """Once members are believed to be bad, one that was damaged on the way is one of them; then the
    checksum of the whole must tell, also when it was given up since."""
    bad = [Entry(f"{n}.bad", BIG[: 5_000 + n], STORED, crc32=n) for n in range(10)]
    lost = Entry("lost.bin", BIG, STORED, local_sign=b"PK\0\0")
    archive = zipped(*bad, Entry("good.csv", BIG[:9_000], STORED), lost, Entry("last.csv"))
    at = archive.index(b"good.csv") + 500
    with Storage(archive) as storage:
        hit: list[int] = []

        def script(asked: Asked) -> Reply | None:
            start, stop = storage.object.span(asked) or (0, 0)
            if start <= at < stop and not hit:
                hit.append(1)
                return storage.object.damaged(asked, at)
            return None

        storage.script = script
        for _ in range(4):
            try:
                bench.run(storage)
                break
            except RetryLater:
                pass
    assert bench.files() == {"good.csv": BIG[:9_000], "last.csv": GOOD}
