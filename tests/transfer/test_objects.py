"""Members on their way to real stores: what is there, what is sent again, and what never counts."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import Damaged, Unusable
from kagglecrawl.s3.bucket import PUT_MOST, Bucket
from kagglecrawl.s3.crew import Crew
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import Unproved
from kagglecrawl.s3.opened import open_bucket
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer.members import Choice
from kagglecrawl.transfer.objects import StoreFolder, all_listed
from kagglecrawl.transfer.source import Stopped
from kagglecrawl.transfer.unpack import Unpacking
from tests.file_crawls import wait_until
from tests.stores import Store
from tests.transfer.archives import DEFLATED, GOOD, STORED, Entry, entry, tarred, zipped
from tests.transfer.bench import Bench, Killed
from tests.transfer.stand import Object, Storage, never, remote
from tests.transfer.tar_cases import TARS
from tests.transfer.unzipping import MIXED_FILES, MIXED_ZIP, many

HEAD = "harvest/dataset/me_set"
DICE = random.Random(61)
LARGE = DICE.randbytes(3 * PUT_MOST + 4_321)
SMALL = {f"{n}.csv": DICE.randbytes(1_000) for n in range(20)}
LARGE_FILES = {"a.csv": GOOD, "large.bin": LARGE, "z.csv": GOOD * 2}


@dataclass
class StoreBench(Bench):
    """The same, of which the members go to a bucket."""

    bucket: Bucket = field(init=False)
    crew: Crew = field(init=False)
    target: Store = field(init=False)
    may_remove: bool = True

    def to(self, target: Store) -> None:
        self.target = target
        destination = Destination.of_uri(
            target.uri(),
            endpoint=target.endpoint,
            region=target.region,
            access_key=target.access_key,
            secret_key=target.secret_key,
        )
        self.bucket = open_bucket(destination, uploads=4, read_back=False)
        self.crew = Crew(4, 32 << 20)

    @property
    def folder(self) -> StoreFolder:
        """As another run would have it."""
        archive = self.staging.archive
        folder = StoreFolder(self.bucket, self.crew, HEAD, self.notes, archive, 1 << 30)
        folder.may_remove = self.may_remove
        return folder

    def run(
        self,
        storage: Storage,
        choice: Choice | None = None,
        *,
        renew: Callable[[], str] = never,
        stop: threading.Event | None = None,
        publish: bool = True,
    ) -> Meter:
        folder = self.folder
        folder.look()
        with remote(storage, renew=renew, stop=stop) as source:
            Unpacking(source, folder, choice or Choice(), self.notes, self.guard).run()
        if publish:
            folder.publish()
        return source.meter

    def files(self) -> dict[str, bytes]:
        """What is in the bucket."""
        return {
            key.removeprefix(f"{HEAD}/"): data for key, data in self.target.objects(HEAD).items()
        }

    def sent(self) -> int:
        """Objects and parts that were sent so far."""
        return self.bucket.tally["puts"] + self.bucket.tally["parts"]

    def uploads(self) -> list[str]:
        return [key for key, _ in self.bucket.uploads("")]


@pytest.fixture
def to_store(tmp_path: Path, s3_store: Store) -> Iterator[StoreBench]:
    yield from _bench(tmp_path, s3_store)


@pytest.fixture
def to_weed(tmp_path: Path, weed_store: Store) -> Iterator[StoreBench]:
    yield from _bench(tmp_path, weed_store)


def _bench(workspace: Path, store: Store) -> Iterator[StoreBench]:
    bench = StoreBench(workspace)
    bench.to(store)
    yield bench
    bench.crew.close()
    assert not list(workspace.rglob("*")), "nothing is on disk"


def zip_of(files: dict[str, bytes], method: int = STORED) -> bytes:
    return zipped(*(Entry(name, data, method) for name, data in files.items()))


def test_a_zip_is_objects(to_store: StoreBench) -> None:
    with Storage(MIXED_ZIP) as storage:
        to_store.run(storage)
    assert to_store.files() == MIXED_FILES
    assert all(row.etag for row in to_store.rows() if not row.name.endswith("/"))


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_a_large_member_goes_in_parts(to_store: StoreBench, method: int) -> None:
    with Storage(zip_of(LARGE_FILES, method)) as storage:
        meter = to_store.run(storage)
    assert to_store.files() == LARGE_FILES
    assert to_store.bucket.tally["parts"] == 4
    assert meter.written == sum(map(len, LARGE_FILES.values()))
    assert to_store.uploads() == []


def test_good_and_hostile_tars_pass_through(tmp_path: Path, weed_store: Store) -> None:
    for case in TARS:
        if case.data[:2] != b"\x1f\x8b" or case.clashing:
            continue
        bench = StoreBench(tmp_path)
        bench.to(weed_store)
        with Storage(case.data) as storage:
            if case.refused:
                with pytest.raises(Unusable):
                    bench.run(storage, case.choice)
            else:
                bench.run(storage, case.choice)
        files = {} if case.refused else case.files
        assert bench.files() == files, f"{case.name}: what was put before that is removed"
        bench.bucket.delete(f"{HEAD}/{name}" for name in files)
        bench.crew.close()


def test_a_killed_run_sends_no_part_again(to_store: StoreBench) -> None:
    put_part = to_store.bucket.put_part

    def dying(key: str, upload: str, number: int, data: object) -> object:
        if number == 3:
            wait_until(lambda: to_store.bucket.tally["parts"] >= 2)
            raise Killed
        return put_part(key, upload, number, data)  # type: ignore[arg-type]

    with Storage(zip_of(LARGE_FILES)) as storage, pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_store.bucket, "put_part", dying)
        with pytest.raises(Killed):
            to_store.run(storage)
    to_store.killed()
    assert to_store.uploads() == [f"{HEAD}/large.bin"]
    before = to_store.bucket.tally["parts"]
    assert before >= 2
    with Storage(zip_of(LARGE_FILES)) as storage:
        to_store.run(storage)
    assert to_store.files() == LARGE_FILES
    assert to_store.bucket.tally["parts"] == 4
    assert to_store.bucket.tally["parts_kept"] == before
    assert to_store.uploads() == []


@pytest.mark.parametrize("at", range(2, 14, 3))
def test_killed_while_it_notes_things(to_weed: StoreBench, at: int) -> None:
    files = {**SMALL, "deep/large.bin": LARGE}
    left = at

    def killing(_: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Killed

    to_weed.noting = killing
    with Storage(zip_of(files)) as storage:
        with pytest.raises(Killed):
            to_weed.run(storage)
        to_weed.killed()
        to_weed.noting = lambda _: None
        to_weed.run(storage)
    assert to_weed.files() == files
    assert to_weed.uploads() == []


def test_a_tar_is_read_again_and_nothing_of_it_sent_twice(to_weed: StoreBench) -> None:
    tar = tarred(*(entry(name, data) for name, data in {**SMALL, "l.bin": LARGE}.items()))
    stop = threading.Event()
    to_weed.noting = lambda what: stop.set() if what == "uploading" else None
    with Storage(tar) as storage:
        with pytest.raises(Stopped):
            to_weed.run(storage, stop=stop)
        to_weed.noting = lambda _: None
        noted = len(to_weed.rows())
        sent = to_weed.sent()
        assert noted > 0
        to_weed.run(storage)
    assert to_weed.files() == {**SMALL, "l.bin": LARGE}
    assert to_weed.sent() - sent <= len(SMALL) - noted + 4
    assert to_weed.uploads() == []


def test_a_bad_member_leaves_no_object_and_no_upload(to_store: StoreBench) -> None:
    good = {"a.csv": GOOD, "z.csv": GOOD * 2}
    bad = [Entry("bad.csv", GOOD, crc32=1), Entry("bad.bin", LARGE, STORED, crc32=2)]
    archive = zipped(Entry("a.csv", GOOD), *bad, Entry("z.csv", GOOD * 2))
    with Storage(archive) as storage:
        to_store.run(storage)
    assert to_store.members() == {
        "a.csv": "done",
        "bad.csv": "crc_mismatch",
        "bad.bin": "crc_mismatch",
        "z.csv": "done",
    }
    assert to_store.files() == good
    assert to_store.uploads() == []


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("first", ["a", "a/b.csv"])
def test_a_file_where_a_folder_is(to_store: StoreBench, form: str, first: str) -> None:
    names = [first, *({"a", "a/b.csv"} - {first}), "other.csv"]
    if form == "zip":
        archive = zipped(*(Entry(name, name.encode()) for name in names))
    else:
        archive = tarred(*(entry(name, name.encode()) for name in names))
    with Storage(archive) as storage:
        to_store.run(storage)
    left = "a/b.csv" if form == "zip" or first == "a" else "a"
    assert to_store.members()[left] == "collision"
    assert to_store.files() == {name: name.encode() for name in names if name != left}


def test_another_object_takes_the_place_of_the_one_before(to_weed: StoreBench) -> None:
    new = {"0.csv": b"new", "more.csv": GOOD}
    with Storage(zip_of(SMALL)) as storage:
        to_weed.run(storage, publish=False)
        storage.object = Object(zip_of(new))
        to_weed.run(storage)
    assert to_weed.files() == new


def test_what_is_somebody_elses_stays_but_for_uploads_that_were_left(to_store: StoreBench) -> None:
    client, name = to_store.target.client(), to_store.target.bucket
    alien, beside = f"{HEAD}/old/file.csv", f"{HEAD}-2/a.csv"
    for key in (alien, beside):
        client.put_object(Bucket=name, Key=key, Body=b"x")
    client.create_multipart_upload(Bucket=name, Key=f"{HEAD}/left.bin")
    client.create_multipart_upload(Bucket=name, Key=f"{HEAD}-2/left.bin")
    with Storage(zip_of(SMALL)) as storage:
        to_store.run(storage)
    assert to_store.files() == {**SMALL, "old/file.csv": b"x", f"{HEAD}-2/a.csv": b"x"}
    assert to_store.uploads() == [f"{HEAD}-2/left.bin"]


@pytest.mark.parametrize("spoil", ["gone", "other", "shorter"])
def test_what_the_store_has_lost_is_sent_again(to_store: StoreBench, spoil: str) -> None:
    client, name = to_store.target.client(), to_store.target.bucket
    key = f"{HEAD}/3.csv"
    with Storage(zip_of(SMALL)) as storage:
        to_store.run(storage, publish=False)
        if spoil == "gone":
            client.delete_object(Bucket=name, Key=key)
        else:
            body = bytes(1_000) if spoil == "other" else SMALL["3.csv"][:-1]
            client.put_object(Bucket=name, Key=key, Body=body)
        with pytest.raises(Unproved) as caught:
            to_store.folder.publish()
        told = {"gone": "store_lost", "other": "store_damaged", "shorter": "store_truncated"}
        assert caught.value.slug == told[spoil]
        assert to_store.members()["3.csv"] == "open"
        sent = to_store.sent()
        to_store.run(storage)
    assert to_store.sent() == sent + 1
    assert to_store.files() == SMALL


def test_many_members(to_weed: StoreBench) -> None:
    files = many(2_500)
    with Storage(zip_of(files)) as storage:
        to_weed.run(storage)
    rows = [(row.name, row.size, row.sha256 or b"", row.etag) for row in to_weed.rows()]
    uri = to_weed.target.uri(HEAD)
    assert len(rows) == len(files)
    assert all_listed(to_weed.bucket, uri, rows)
    assert all_listed(to_weed.bucket, uri, rows[1:]), "one more is there"
    other = (rows[1][0], rows[1][1], b"", "0" * 32)
    assert not all_listed(to_weed.bucket, uri, [rows[0], other, *rows[2:]])
    assert not all_listed(to_weed.bucket, uri, [*rows, ("more.csv", 1, b"", "0" * 32)])


def test_a_name_that_a_tar_has_twice_is_not_sent_again(to_weed: StoreBench) -> None:
    tar = tarred(entry("a.csv", b"first"), entry("a.csv", b"second"), entry("z.csv", GOOD))
    with Storage(tar) as storage:
        to_weed.run(storage, publish=False)
        to_weed.job.missing(to_weed.number, [0])
        to_weed.run(storage)
    assert to_weed.files() == {"a.csv": b"first", "z.csv": GOOD}


def test_what_is_not_gone_on_with_can_be_ended(to_weed: StoreBench) -> None:
    stop, folder = threading.Event(), to_weed.folder
    to_weed.noting = lambda what: stop.set() if what == "uploading" else None
    with (
        Storage(zip_of(LARGE_FILES)) as storage,
        remote(storage, stop=stop) as source,
        pytest.raises(Stopped),
    ):
        Unpacking(source, folder, Choice(), to_weed.notes, to_weed.guard).run()
    assert to_weed.uploads() == [f"{HEAD}/large.bin"]
    folder.abandon()
    assert to_weed.uploads() == []


def test_what_an_earlier_crawl_has_stored_is_not_removed(to_weed: StoreBench) -> None:
    archive = zip_of({**SMALL, "large.bin": LARGE})
    with Storage(archive) as storage:
        to_weed.run(storage)
    to_weed.job.begin_anew(to_weed.number, "", 0)  # another crawl, that asks for it again
    to_weed.may_remove = False
    with Storage(archive) as storage:
        storage.script = lambda asked: storage.object.damaged(asked, len(archive) // 2)
        with pytest.raises(Damaged):
            to_weed.run(storage)
    assert to_weed.files() == {**SMALL, "large.bin": LARGE}
    assert to_weed.uploads() == []
