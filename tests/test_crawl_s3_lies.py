"""Whole crawls into stores that lie: nothing is claimed that is not there, and what the store has
done wrong is named, or mended; when it behaves, the same command completes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World, published
from tests.conftest import Crawl, Run, by_ref
from tests.file_crawls import FILES
from tests.s3.lying_store import LyingStore
from tests.stores import Store
from tests.test_crawl_s3 import PREFIX, files_on_disk, in_store, objects_of, uploads_of
from tests.transfer.archives import STORED, Entry, zipped

_DICE = random.Random(7)
#: Goes in one request, and in two parts.
SMALL, LARGE = _DICE.randbytes(3_000), _DICE.randbytes((8 << 20) + 70_000)
HEAD = f"{PREFIX}/datasets/"
PAGE = f"{HEAD}meta_data/page_1.jsonl"

#: What is done to `a.bin` of a dataset for ever (kind, its size, which operation), and the reason
#: with which the dataset then fails.
FOR_EVER = {
    "flipped": ("flip", SMALL, "put", "store_damaged"),
    "part-flipped": ("flip", LARGE, "part", "store_damaged"),
    "truncated": ("truncate", SMALL, "put", "store_damaged"),
    "part-lost": ("lose_part", LARGE, "part", "store_lost"),
    "lost": ("lose_object", SMALL, "put", "store_lost"),
    "upload-lost": ("lose_object", LARGE, "complete", "store_lost"),
    "not-ok": ("ok_error", LARGE, "complete", "store_failed"),
    "short": ("echo_short", SMALL, "put", "store_truncated"),
    "part-short": ("echo_short", LARGE, "part", "store_truncated"),
    "failing": ("fail", SMALL, "put", "store_failed"),
    "cut": ("cut_before", SMALL, "put", "store_failed"),
    "stale": ("stale", SMALL, "", "store_lost"),
}
#: What is done once or a few times, and is mended within one crawl.
FOR_NOW = {
    "flipped": ("flip", SMALL, 2),
    "part-flipped": ("flip", LARGE, 2),
    "part-truncated": ("truncate", LARGE, 1),
    "part-lost": ("lose_part", LARGE, 1),
    "lost": ("lose_object", SMALL, 1),
    "upload-lost": ("lose_object", LARGE, 1),
    "not-ok": ("ok_error", SMALL, 1),
    "short": ("echo_short", LARGE, 1),
    "failing": ("fail", LARGE, 3),
    "cut-in-the-body": ("cut_body", LARGE, 2),
    "cut-before": ("cut_before", LARGE, 2),
    "answers-lost": ("cut_after", SMALL, 2),
    "stale": ("stale", LARGE, 3),
    "slow": ("slow", LARGE, 3),
}


def dataset(slug: str, content: bytes) -> DatasetTruth:
    files = {"a.bin": content, "b.csv": b"1,2\n" * 100}
    if content is SMALL:
        return published(f"me/{slug}", files=files)  # deflated
    archive = zipped(*(Entry(name, data, STORED) for name, data in files.items()))
    return published(f"me/{slug}", archive, files)


def object_of(slug: str) -> str:
    """The key that is lied about."""
    return f"{HEAD}dataset/me_{slug}/a.bin"


@pytest.fixture
def lying(s3_store: Store) -> Iterator[LyingStore]:
    with LyingStore(
        s3_store.endpoint, s3_store.access_key, s3_store.secret_key, region=s3_store.region
    ) as lying:
        yield lying


class Job:
    """One command, run again and again with its job, to a store that lies."""

    def __init__(
        self, crawl: Run, root: Path, store: Store, lying: LyingStore, replica: Replica
    ) -> None:
        self._crawl = crawl
        self._root = root
        self._replica = replica
        self._env = {**store.environment(), "AWS_ENDPOINT_URL": lying.endpoint}
        self._store = store
        self.all = {each.ref: each for each in replica.world.datasets}

    def run(self, *options: str) -> Crawl:
        done = self._crawl(
            self._replica,
            *(*FILES, "-s", f"S3_URI={self._store.uri(PREFIX)}"),
            *("-s", f"JOBDIR={self._root / 'job'}", "-s", "KAGGLE_CONCURRENT_TRANSFERS=7"),
            *options,
            env=self._env,
        )
        assert "Traceback" not in done.log, done.log
        objects = self._store.objects()
        for ref, row in by_ref(done.rows).items():  # what a row says is there is there
            assert row == in_store(self.all[ref], self._store.uri(HEAD.rstrip("/"))), row
            wanted = objects_of([self.all[ref]], HEAD)
            assert {key: objects.get(key) for key in wanted} == wanted, f"{ref} is not there"
        return done

    def check_end(self, done: Crawl) -> None:
        """All is as it should be, and nothing else is there."""
        assert done.code == 0, done.log
        assert by_ref(done.rows).keys() == self.all.keys()
        objects = self._store.objects()
        assert len(objects.pop(PAGE).splitlines()) == len(self.all)
        assert objects == objects_of(self.all.values(), HEAD)
        assert uploads_of(self._store) == []
        assert files_on_disk(self._root) == {}


def test_what_a_store_does_wrong_for_ever_is_named_and_nothing_claimed(
    crawl: Run, tmp_path: Path, s3_store: Store, lying: LyingStore
) -> None:
    datasets = [dataset(slug, about[1]) for slug, about in FOR_EVER.items()]
    for slug, (kind, _, operation, _) in FOR_EVER.items():
        lying.tell(kind, object_of(slug), operations=[operation] if operation else ())
    world = World(scale=None, extra=(*datasets, dataset("right", LARGE)))
    with Replica(world) as replica:
        job = Job(crawl, tmp_path, s3_store, lying, replica)
        done = job.run("-s", "KAGGLE_MAX_ATTEMPTS=1")
        assert done.code == 1, done.log
        assert all(lie.told for lie in lying.lies), [lie for lie in lying.lies if not lie.told]
        assert list(by_ref(done.rows)) == ["me/right"]
        reasons: dict[str, int] = {}
        for slug, (*_, reason) in FOR_EVER.items():
            assert f"Failed me/{slug}: " in done.log
            reasons[reason] = reasons.get(reason, 0) + 1
        assert done.stats("kaggle/datasets/failed/") == reasons
        lying.behave()
        job.check_end(job.run())


def test_what_a_store_does_wrong_for_now_is_mended(
    crawl: Run, tmp_path: Path, s3_store: Store, lying: LyingStore
) -> None:
    datasets = [dataset(slug, about[1]) for slug, about in FOR_NOW.items()]
    for slug, (kind, _, times) in FOR_NOW.items():
        lying.tell(kind, object_of(slug), times=times, seconds=0.3)
    lying.tell("cut_after", object_of("right"), times=1, operations=["complete"])
    lying.tell("truncate", PAGE, times=4)
    world = World(scale=None, extra=(*datasets, dataset("right", LARGE)))
    with Replica(world) as replica:
        job = Job(crawl, tmp_path, s3_store, lying, replica)
        job.check_end(job.run())
        assert all(lie.told for lie in lying.lies), [lie for lie in lying.lies if not lie.told]


def test_damage_that_the_store_denies_is_seen_by_reading_back(
    crawl: Run, tmp_path: Path, weed_store: Store
) -> None:
    keys = weed_store.access_key, weed_store.secret_key
    world = World(scale=None, extra=(dataset("small", SMALL), dataset("large", LARGE)))
    with LyingStore(weed_store.endpoint, *keys) as lying, Replica(world) as replica:
        lying.tell("echo", "*/a.bin")
        job = Job(crawl, tmp_path, weed_store, lying, replica)
        done = job.run("-s", "S3_READ_BACK=True", "-s", "KAGGLE_MAX_ATTEMPTS=1")
        assert done.code == 1, done.log
        assert done.rows == []
        assert done.stats("kaggle/datasets/failed/") == {"store_damaged": 2}
        lying.behave()
        job.check_end(job.run("-s", "S3_READ_BACK=True"))


def test_a_store_that_refuses_ends_the_crawl_in_one_sentence(
    crawl: Run, tmp_path: Path, rclone_store: Store
) -> None:
    keys = rclone_store.access_key, rclone_store.secret_key
    slugs = ("one", "two", "three")
    world = World(scale=None, extra=tuple(dataset(slug, LARGE) for slug in slugs))
    with LyingStore(rclone_store.endpoint, *keys) as lying, Replica(world) as replica:
        job = Job(crawl, tmp_path, rclone_store, lying, replica)
        for kind, code, said in (
            ("deny", "AccessDenied", "denies access"),
            ("full", "XMinioStorageFull", "has no more room"),
            ("quota", "QuotaExceeded", "has no more room"),
        ):
            lie = lying.tell(kind, "*/dataset/*", after=1, operations=["put", "part", "complete"])
            done = job.run()
            assert done.code == 3, done.log
            assert lie.told
            sentences = [line for line in done.log.splitlines() if " ERROR: " in line]
            assert len(sentences) == 1, done.log
            assert code in sentences[0]
            assert said in sentences[0]
            assert "'finish_reason': 's3_refused'" in done.log
            lying.behave()
        job.check_end(job.run())


def test_nothing_local_is_deleted_that_the_store_has_not(
    crawl: Run, tmp_path: Path, rclone_store: Store
) -> None:
    keys = rclone_store.access_key, rclone_store.secret_key
    slugs = {"flipped": SMALL, "truncated": LARGE, "short": SMALL, "right": LARGE}
    world = World(scale=None, extra=tuple(dataset(*each) for each in slugs.items()))
    official = ("-s", "KAGGLE_TRANSPORT=official", "-s", "S3_DELETE_LOCAL=True")
    with LyingStore(rclone_store.endpoint, *keys) as lying, Replica(world) as replica:
        lying.tell("flip", object_of("flipped"))
        lying.tell("truncate", object_of("truncated"))
        lying.tell("echo_short", object_of("short"))
        job = Job(crawl, tmp_path, rclone_store, lying, replica)
        done = job.run(*official, "-s", "KAGGLE_MAX_ATTEMPTS=1")
        assert done.code == 1, done.log
        assert list(by_ref(done.rows)) == ["me/right"]
        left = files_on_disk(tmp_path)
        for slug, content in slugs.items():
            sizes = {Path(path).name: size for path, size in left.items() if f"me_{slug}" in path}
            assert sizes.get("a.bin") == (None if slug == "right" else len(content)), left
        lying.behave()
        job.check_end(job.run(*official))
