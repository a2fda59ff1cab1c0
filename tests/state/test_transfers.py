"""What a job knows of files: every note, what lasts of it, and jobs of before there were any."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from kagglecrawl.kaggle.names import NameCollision
from kagglecrawl.state.database import VERSION
from kagglecrawl.state.store import NotOurs, Store
from kagglecrawl.state.transfers import COLLISION, Done, Listed, Meter, Transfers, UnderWay
from tests.state.helpers import add

KEY = "me/set"
FOLDER = "output/datasets/dataset/me_set"
SHA = sha256(b"").digest()
LARGEST = 2**63 - 1


class Job(Transfers):
    """Which tells how often it was written."""

    def __init__(self, store: Store) -> None:
        self.open = self.told = 0
        super().__init__(store, self._guarded, self._tell, store.commit)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def _tell(self) -> None:
        self.told += 1


@pytest.fixture
def job(store: Store) -> Job:
    return Job(store)


@pytest.fixture
def number(job: Job) -> int:
    return job.begin(KEY, FOLDER).number


def member(number: int, name: str, size: int = 1, *, offset: int = -1, reason: str = "") -> Listed:
    return Listed(number, name, size, size, 5, 8, number if offset < 0 else offset, reason)


# -- transfers -------------------------------------------------------------------------------------


def test_one_is_begun_once(job: Job) -> None:
    first = job.begin(KEY, FOLDER)
    assert (first.key, first.folder, first.validator, first.size) == (KEY, FOLDER, "", 0)
    assert (first.position, first.crc32c, first.listed, first.finished) == (0, 0, False, False)
    assert len(first.token) == 8
    assert int(first.token, 16) >= 0
    assert job.begin(KEY, FOLDER) == first == job.of(KEY)
    assert job.of("me/other") is None


def test_tokens_differ(job: Job) -> None:
    assert len({job.begin(f"me/set{n}", f"{FOLDER}{n}").token for n in range(50)}) == 50


@pytest.mark.parametrize(
    "folder",
    [
        FOLDER,
        FOLDER.upper(),
        FOLDER.replace("me_set", "Me_Set"),
        FOLDER.replace("me_set", "me_\u017fet"),
    ],
)
def test_a_folder_has_one_owner_whatever_the_disk_tells_apart(job: Job, folder: str) -> None:
    job.begin(KEY, FOLDER)
    with pytest.raises(NameCollision, match="me/set"):
        job.begin("me_set/other", folder)
    assert job.of("me_set/other") is None


def test_composed_and_not(job: Job) -> None:
    job.begin("a/é", "d/a_é")
    with pytest.raises(NameCollision):
        job.begin("a/e\u0301", "d/a_e\u0301")


def test_begun_anew(job: Job, number: int) -> None:
    job.begin_anew(number, '"one"', 100)
    job.note(number, [member(0, "a.csv")], exact=True)
    job.listed(number, 17)
    job.done(number, [Done(0, 1, SHA)], 50, 99)
    job.finish(number)
    row = job.of(KEY)
    assert row is not None
    assert (row.validator, row.size, row.position, row.crc32c) == ('"one"', 100, 50, 99)
    assert (row.directory, row.listed, row.finished) == (17, True, True)
    job.begin_anew(number, '"two"', LARGEST)
    row = job.of(KEY)
    assert row is not None
    assert (row.validator, row.size, row.position, row.crc32c) == ('"two"', LARGEST, 0, 0)
    assert (row.listed, row.finished) == (False, False)
    assert job.tally(number).files == 0
    assert job.every(number) == []
    assert job.note(number, [member(0, "a.csv")], exact=True) == [0]


# -- members ---------------------------------------------------------------------------------------


def test_members_are_had_in_the_order_of_their_offset(job: Job, number: int) -> None:
    members = [member(n, f"{n}.csv", offset=offset) for n, offset in enumerate((30, 10, 20, 10, 0))]
    assert job.note(number, members, exact=True) == [0, 1, 2, 3, 4]
    assert [row.number for row in job.wanted(number, 10)] == [4, 1, 3, 2, 0]
    assert [row.number for row in job.wanted(number, 2)] == [4, 1]
    job.done(number, [Done(4, 1, SHA), Done(3, 1, SHA)], 1, 1)
    job.done(number, [], 1, 1, [(2, "crc_mismatch")])
    assert [row.number for row in job.wanted(number, 10)] == [1, 0]
    assert [row.number for row in job.stored(number, 0, 10)] == [3, 4]
    assert [row.number for row in job.stored(number, 4, 10)] == [4]
    assert [row.number for row in job.stored(number, 0, 1)] == [3]
    assert [name for name, _ in job.every(number)] == [f"{n}.csv" for n in range(5)]
    job.missing(number, [4])
    assert [row.number for row in job.wanted(number, 10)] == [4, 1, 0]


def test_a_member_is_kept_as_it_is(job: Job, number: int) -> None:
    listed = Listed(7, "été/数据 '\".csv", LARGEST, LARGEST - 1, 2**32 - 1, 12, LARGEST - 2, "")
    job.note(number, [listed], exact=True)
    (row,) = job.wanted(number, 1)
    assert (row.number, row.name, row.size, row.packed) == (7, listed.name, LARGEST, LARGEST - 1)
    assert (row.crc32, row.method, row.offset) == (2**32 - 1, 12, LARGEST - 2)
    assert (row.reason, row.sha256) == ("", None)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("\udcff.csv", "\\udcff.csv"), ("a\0b", "a\0b"), ("\ud800", "\\ud800"), ("", "")],
)
def test_names_that_no_text_can_hold(job: Job, number: int, name: str, kept: str) -> None:
    assert job.note(number, [member(0, name, reason="unsafe_path")], exact=False) == []
    assert job.every(number) == [(kept, 1)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("a.csv", "a.csv", "exact"),
        ("a.csv", "A.csv", "folded"),
        ("é.csv", "e\u0301.csv", "folded"),
        ("straße", "STRASSE", "folded"),
        ("a/b.csv", "A/b.csv", "folded"),
        ("a.csv", "b.csv", ""),
        ("a/", "a/", ""),
        ("a/", "a", ""),
    ],
)
def test_two_members_never_share_a_place(
    job: Job, number: int, one: str, other: str, same: str
) -> None:
    for exact in (True, False):
        job.begin_anew(number, "", 0)
        taken = job.note(number, [member(0, one), member(1, other)], exact=exact)
        refused = same == "exact" or (same == "folded" and not exact)
        assert taken == ([0] if refused else [0, 1])
        assert job.tally(number).left_out == ({COLLISION: 1} if refused else {})


def test_one_that_is_left_out_has_no_place(job: Job, number: int) -> None:
    """What is refused for itself is no reason to refuse another one."""
    assert job.note(
        number, [member(0, "a.csv", reason="encrypted"), member(1, "a.csv")], exact=True
    ) == [1]
    assert job.tally(number).left_out == {"encrypted": 1}


def test_of_two_transfers_neither_knows_of_the_other(job: Job, number: int) -> None:
    other = job.begin("me/other", "elsewhere").number
    for each in (number, other):
        assert job.note(each, [member(0, "a.csv", 5)], exact=True) == [0]
    job.done(number, [Done(0, 5, SHA)], 9, 9)
    assert (job.tally(number).files, job.tally(other).files) == (1, 0)
    job.begin_anew(other, "", 0)
    assert job.tally(number).files == 1
    job.done(number, [], 1, 1, [(0, "crc_mismatch")])
    row = job.of("me/other")
    assert row is not None
    assert row.position == 0


def test_a_directory_that_is_noted_twice_is_noted_once(job: Job, number: int) -> None:
    members = [member(0, "a.csv"), member(1, "A.csv"), member(2, "b.csv", reason="link")]
    first = job.note(number, members, exact=False)
    job.note(number, members, exact=False)
    assert first == [0]
    assert len(job.every(number)) == 3
    assert job.tally(number).left_out == {COLLISION: 1, "link": 1}


def test_sizes(job: Job, number: int) -> None:
    members = [member(0, "a.csv", 5), member(1, "b.csv", 7), member(2, "c/", 0)]
    job.note(number, [*members, member(3, "d", 100, reason="only")], exact=True)
    assert job.size_wanted(number) == 12
    job.done(number, [Done(0, 6, SHA), Done(2, 0, SHA)], 1, 1)  # 6: as it turned out
    assert job.size_wanted(number) == 7
    tally = job.tally(number)
    assert (tally.files, tally.size, tally.left_out) == (1, 6, {"only": 1})
    assert job.every(number) == [("a.csv", 6), ("b.csv", 7), ("d", 100)]
    job.missing(number, [0])
    assert job.size_wanted(number) == 13


def test_folders_are_no_files(job: Job, number: int) -> None:
    job.note(number, [member(0, "a/"), member(1, "a/%"), member(2, "_/")], exact=True)
    job.done(number, [Done(n, 0, SHA) for n in range(3)], 1, 1)
    assert job.every(number) == [("a/%", 0)]
    assert job.tally(number).files == 1


def test_left_out_after_it_was_done(job: Job, number: int) -> None:
    job.note(number, [member(0, "a.csv")], exact=True)
    job.done(number, [Done(0, 1, SHA)], 1, 1)
    job.done(number, [], 1, 1, [(0, "crc_mismatch")])
    assert job.tally(number).files == 0
    assert job.stored(number, 0, 10) == job.wanted(number, 10) == []
    assert job.note(number, [member(1, "a.csv")], exact=True) == [1]  # its place is free


# -- what lasts ------------------------------------------------------------------------------------


def test_everything_that_is_written_is_guarded_and_told(job: Job, number: int) -> None:
    writes: list[Callable[[], object]] = [
        lambda: job.begin("me/new", "new"),
        lambda: job.begin_anew(number, "", 0),
        lambda: job.note(number, [member(0, "a.csv")], exact=True),
        lambda: job.listed(number, 1),
        lambda: job.done(number, [Done(0, 1, SHA)], 1, 1),
        lambda: job.missing(number, [0]),
        lambda: job.done(number, [], 1, 1, [(0, "x")]),
        lambda: job.finish(number),
    ]
    for write in writes:
        before = job.told
        write()
        assert job.told > before
        assert job.open == 0
    told = job.told
    job.of(KEY), job.wanted(number, 1), job.stored(number, 0, 1), job.every(number)
    job.size_wanted(number), job.tally(number), job.begin(KEY, FOLDER)
    assert job.told == told


def test_what_lasts(path: Path) -> None:
    with closing(Store.create(path)) as store:
        job = Job(store)
        number = job.begin(KEY, FOLDER).number
        job.note(number, [member(0, "a.csv"), member(1, "b.csv")], exact=True)
        job.done(number, [Done(0, 1, SHA)], 10, 20)  # what is on disk is known from now on
        job.missing(number, [0])
        job.finish(number)
    with closing(Store.open(path)) as store:
        job = Job(store)
        row = job.of(KEY)
        assert row is not None
        assert (row.position, row.crc32c, row.finished) == (10, 20, False)
        assert [each.number for each in job.wanted(row.number, 5)] == [1]
    with closing(Store.look(path)) as store:
        assert Job(store).of(KEY) == row


def test_a_rollback_takes_back_what_was_noted(store: Store) -> None:
    job = Job(store)
    number = job.begin(KEY, FOLDER).number
    job.commit()
    job.note(number, [member(0, "a.csv")], exact=True)
    store.rollback()
    assert job.wanted(number, 1) == []
    assert job.note(number, [member(0, "a.csv")], exact=True) == [0]


def test_a_folder_that_a_kill_leaves_is_known_to_be_this_jobs(store: Store) -> None:
    row = Job(store).begin(KEY, FOLDER)
    store.rollback()
    assert Job(store).begin(KEY, FOLDER).token == row.token


def test_the_wanted_are_found_without_a_look_at_all(job: Job, number: int, store: Store) -> None:
    plan = store._db.execute(
        "EXPLAIN QUERY PLAN SELECT number FROM member WHERE transfer = ? AND reason = '' "
        "AND sha256 IS NULL ORDER BY offset, number LIMIT ?",
        (number, 5),
    ).fetchall()
    assert "member_wanted" in plan[0][3]
    assert not any("TEMP B-TREE" in row[3] for row in plan)


# -- in a store -----------------------------------------------------------------------------------


def test_a_receipt_lasts_until_the_member_is_missing(job: Job, number: int) -> None:
    job.note(number, [member(n, f"{n}.csv") for n in range(3)], exact=True)
    assert {row.etag for row in job.wanted(number, 9)} == {""}
    job.done(number, [Done(0, 1, SHA, "a-1"), Done(1, 1, SHA, "b"), Done(2, 1, SHA)], 1, 1)
    assert [row.etag for row in job.stored(number, 0, 9)] == ["a-1", "b", ""]
    job.missing(number, [0])
    job.done(number, [], 1, 1, [(1, "crc_mismatch")])
    assert [row.etag for row in job.stored(number, 0, 9)] == [""]
    assert [row.etag for row in job.wanted(number, 9)] == [""]


def test_uploads_are_known_after_a_kill(path: Path) -> None:
    """Each from the moment when it is noted; and no more when it is over, however it is."""
    with closing(Store.create(path)) as store:
        job = Job(store)
        number = job.begin(KEY, FOLDER).number
        job.note(number, [member(n, f"{n}.bin") for n in range(6)], exact=True)
        job.commit()
        for n in (4, 2, 0, 3):
            job.uploading(number, n, f"id {n}")
    with closing(Store.open(path)) as store:
        job = Job(store)
        assert job.uploads(number) == [(n, f"{n}.bin", f"id {n}") for n in (0, 2, 3, 4)]
        job.uploading(number, 2, "another")
        job.uploading(number, 0, "")
        job.done(number, [Done(3, 1, SHA, "e")], 1, 1)
        assert job.uploads(number) == [(2, "2.bin", "another"), (4, "4.bin", "id 4")]
        job.done(number, [], 1, 1, [(4, "crc_mismatch")])  # it is still to be aborted
        assert len(job.uploads(number)) == 2
        other = job.begin("me/other", f"{FOLDER}2").number
        assert job.uploads(other) == []


@pytest.mark.parametrize("exact", [True, False])
def test_members_are_found_by_their_exact_names(job: Job, number: int, exact: bool) -> None:
    names = ["Data/A.csv", "e\u0301.txt", *(f"{n:04}" for n in range(2_000)), "out", "folder/"]
    reasons = {"out": "not_wanted"}
    members = [member(n, name, reason=reasons.get(name, "")) for n, name in enumerate(names)]
    job.note(number, members, exact=exact)
    job.note(job.begin("me/other", f"{FOLDER}2").number, [member(0, "other")], exact=exact)
    job.done(number, [Done(0, 1, SHA, "tag")], 1, 1)
    assert job.named(number, []) == {}
    found = job.named(number, ["Data/A.csv", "data/a.csv", "é.txt", "out", "folder/", "other"])
    assert [(*each[:2], each.etag) for each in found.values()] == [(0, "Data/A.csv", "tag")]
    assert list(job.named(number, ["e\u0301.txt"])) == ["e\u0301.txt"]
    many = [f"{n:04}" for n in range(500, 1_500)]
    assert sorted(job.named(number, many)) == many


# -- jobs of other versions -----------------------------------------------------------------------


@pytest.mark.parametrize(("by", "words"), [(-1, "older"), (1, "newer")])
def test_a_job_of_another_version_is_refused_and_left_as_it_is(
    path: Path, by: int, words: str
) -> None:
    """What was begun without files must not end with files for some of its rows."""
    with closing(Store.create(path)) as store:
        add(store, "kept")
        store.commit()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + by}")
    before = path.read_bytes()
    for way in (Store.open, Store.look):
        with pytest.raises(NotOurs, match=words) as caught:
            way(path)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before


# -- what is told of those under way ---------------------------------------------------------------


def test_meters(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    under_way = UnderWay(KEY, began=now)
    assert (under_way.left, under_way.rate) == (0, 0.0)
    under_way.meter.size, under_way.meter.position = 1_000, 400
    under_way.meter.received = 500
    assert under_way.left == 600
    assert under_way.rate == 0.0  # too early to tell
    now = 110.0
    assert under_way.rate == 50.0
    under_way.meter.position = 2_000  # it was told a wrong size
    assert under_way.left == 0
    meter = Meter()
    meter.count("cut")
    meter.count("cut")
    assert meter.again == {"cut": 2}
    assert Meter().again == {}
