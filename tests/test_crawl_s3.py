"""``scrapy crawl datasets -s S3_URI=…`` into real stores: what is in the bucket, and on disk."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World, published
from tests import file_crawls
from tests.conftest import Crawl, Run, by_ref, clean_env, page_row
from tests.file_crawls import (
    FILES,
    crawling,
    folder_of,
    wait_until,
    with_files,
    without_files,
)
from tests.killing.shapes import workspace
from tests.stores import Store, rclone
from tests.transfer.archives import STORED, Entry, entry, tarred, zipped

PREFIX = "harvest/2026"
PART = 8 << 20
DICE = random.Random(6)
LARGE = DICE.randbytes(2 * PART + 12_345)
FILES_OF_TAR = {"a.csv": b"x,y\n1,2\n", "deep/er/ünï +%.txt": b"text " * 70_000, "none": b""}


def objects_of(datasets: Iterable[DatasetTruth], head: str) -> dict[str, bytes]:
    """The objects of these datasets, all of whose files are to be had."""
    return {
        f"{head}dataset/{folder_of(each)}/{file.name}": file.content()
        for each in datasets
        for file in each.files
    }


def to(store: Store, *args: str) -> tuple[str, ...]:
    return (*FILES, "-s", f"S3_URI={store.uri(PREFIX)}", *args)


def files_on_disk(root: Path) -> dict[str, int]:
    """What a crawl has left of files: nothing, but for what is the crawl's own."""
    own = {"ledger.sqlite", "report.json", "report.html"}
    return {
        path.relative_to(root).as_posix(): path.stat().st_size
        for path in workspace(root).rglob("*")
        if path.is_file() and path.name not in own
    }


def in_store(dataset: DatasetTruth, uri: str) -> dict[str, object]:
    row = with_files(dataset)
    return {**row, "Download": {**row["Download"], "folder": f"{uri}/dataset/{folder_of(dataset)}"}}


def keys_in(store: Store, prefix: str) -> list[str]:
    """The first keys below a prefix."""
    found = store.client().list_objects_v2(Bucket=store.bucket, Prefix=prefix)
    return [each["Key"] for each in found.get("Contents", ())]


def uploads_of(store: Store) -> list[str]:
    """Keys of multipart uploads that nobody has ended."""
    found = store.client().list_multipart_uploads(Bucket=store.bucket)
    return [each["Key"] for each in found.get("Uploads", ())]


def test_everything_is_in_the_bucket_and_nothing_on_disk(
    crawl: Run, tmp_path: Path, s3_store: Store
) -> None:
    world = World(seed=3, gated=True)
    with Replica(world) as replica:
        done = crawl(replica, *to(s3_store), env=s3_store.environment())
        assert done.code == 0, done.log
        listed = [each for each in world.datasets if each.usability >= 0.8]
        whole = [each for each in listed if each.state == "public"]
        uri = s3_store.uri(f"{PREFIX}/datasets")
        expected = {each.ref: in_store(each, uri) for each in whole}
        expected |= {
            each.ref: without_files(each, "forbidden") for each in listed if each.state == "gated"
        }
        assert by_ref(done.rows) == expected
        objects = s3_store.objects()
        pages = {key: value for key, value in objects.items() if "/meta_data/" in key}
        files = {key: value for key, value in objects.items() if key not in pages}
        assert files == objects_of(whole, f"{PREFIX}/datasets/")
        rows = [json.loads(line) for text in pages.values() for line in text.splitlines()]
        assert {row["Ref"]: row for row in rows} == {
            ref: page_row(row) for ref, row in expected.items()
        }
        assert files_on_disk(tmp_path) == {}
        assert done.stat("kaggle/s3/puts") >= len(files)
        before = replica.stats()["requests"]
        again = crawl(replica, *to(s3_store), env=s3_store.environment())
        assert again.code == 0, again.log
        asked = replica.stats()["requests"]
        assert asked["DownloadDataset"] == before["DownloadDataset"]
    assert by_ref(again.rows) == expected
    assert again.stat("kaggle/s3/puts") <= len(pages)
    assert s3_store.objects() == objects


def large_world() -> World:
    """One of each kind of archive, with members of several parts."""
    files = {"large.bin": LARGE, "small.txt": b"small", "folder/b.csv": b"1,2\n" * 5_000}
    parts = [entry(name, data) for name, data in FILES_OF_TAR.items()]
    stored = zipped(*(Entry(name, data, STORED) for name, data in files.items()))
    return World(
        scale=None,
        extra=(
            published("me/deflated", files=files),
            published("me/stored", stored, files),
            published("me/tar", tarred(*parts), FILES_OF_TAR, name="archive.tar.gz"),
            published("me/empty", files={}),
        ),
    )


def test_large_members_and_every_kind_of_archive(
    crawl: Run, tmp_path: Path, s3_store: Store
) -> None:
    world = large_world()
    with Replica(world) as replica:
        done = crawl(replica, *to(s3_store), env=s3_store.environment())
    assert done.code == 0, done.log
    files = {key: value for key, value in s3_store.objects().items() if "meta_data" not in key}
    assert files == objects_of(world.datasets, f"{PREFIX}/datasets/")
    assert files_on_disk(tmp_path) == {}
    assert done.stat("kaggle/s3/parts") == 2 * 3
    assert uploads_of(s3_store) == []


def test_a_zip_without_parts_passes_through_the_disk_and_says_so(
    crawl: Run, tmp_path: Path, weed_store: Store
) -> None:
    world = World(scale=None, extra=(published("me/set", files={"a.csv": b"x" * 5_000_000}),))
    faults = Faults.script([Rule(Fault("no_ranges"), "storage")])
    with Replica(world, faults=faults) as replica:
        done = crawl(replica, *to(weed_store), env=weed_store.environment())
        assert done.code == 0, done.log
        assert "The archive of me/set comes without parts: kept on disk meanwhile" in done.log
        assert files_on_disk(tmp_path) == {}
        less = (*to(weed_store), "-s", "S3_SPOOL_MAX=1000", "-a", "refresh=true")
        refused = crawl(replica, *less, env=weed_store.environment())
    assert refused.code == 1
    assert "raise S3_SPOOL_MAX" in refused.log
    files = {key: value for key, value in weed_store.objects().items() if "meta_data" not in key}
    assert files == objects_of(world.datasets, f"{PREFIX}/datasets/")
    assert files_on_disk(tmp_path) == {}


def test_a_new_version_is_merged_into_the_folder_of_the_old_one(
    crawl: Run, weed_store: Store
) -> None:
    old = published("me/set", files={"a.csv": b"old", "gone.csv": b"gone"}, version=1)
    new = published("me/set", files={"a.csv": b"new", "more.csv": b"more"}, version=2)
    other = published("me/set-2", files={"a.csv": b"another's"})
    for first in (old, new):
        world = World(scale=None, extra=(first, other))
        with Replica(world) as replica:
            done = crawl(replica, *to(weed_store), env=weed_store.environment())
        assert done.code == 0, done.log
    files = {key: value for key, value in weed_store.objects().items() if "meta_data" not in key}
    expected = objects_of([old, other], f"{PREFIX}/datasets/")
    assert files == expected | objects_of([new], f"{PREFIX}/datasets/"), "as on disk"


def test_what_was_removed_from_the_bucket_is_put_again(crawl: Run, s3_store: Store) -> None:
    world = World(scale=None, extra=(published("me/a", files={"a": b"1", "b": b"2"}),))
    client = s3_store.client()
    key = f"{PREFIX}/datasets/dataset/me_a/b"
    with Replica(world) as replica:
        crawl(replica, *to(s3_store), env=s3_store.environment())
        objects = s3_store.objects()
        client.delete_object(Bucket=s3_store.bucket, Key=key)
        assert crawl(replica, *to(s3_store), env=s3_store.environment()).code == 0
        assert s3_store.objects() == objects
        client.put_object(Bucket=s3_store.bucket, Key=key, Body=b"3")
        assert crawl(replica, *to(s3_store), env=s3_store.environment()).code == 0
    assert s3_store.objects() == objects


def test_the_seeds_cloud_json_and_keys(crawl: Run, tmp_path: Path, weed_store: Store) -> None:
    world = World(scale=None, extra=(published("me/set", files={"a.csv": b"x"}),))
    cloud = tmp_path / "cloud.json"
    fields = {
        "ACCESS_KEY": weed_store.access_key,
        "SECRET_KEY": weed_store.secret_key,
        "ENDPOINT_URL": weed_store.endpoint,
        "BUCKET_NAME": weed_store.bucket,
        "OSS_PREFIX": "kaggle_data",
    }
    cloud.write_text(json.dumps(fields))
    with Replica(world) as replica:
        done = crawl(replica, *FILES, "-s", f"CLOUD_CONFIG={cloud}")
    assert done.code == 0, done.log
    assert set(weed_store.objects()) == {
        "kaggle_data/dataset/me_set/a.csv",
        "kaggle_data/meta_data/page_1.jsonl",
    }


@pytest.mark.parametrize("delete", [False, True], ids=["kept", "deleted"])
def test_what_kagglehub_fetches_goes_on_to_the_store(
    crawl: Run, tmp_path: Path, weed_store: Store, delete: bool
) -> None:
    world = large_world()
    official = ("-s", "KAGGLE_TRANSPORT=official", "-s", f"S3_DELETE_LOCAL={delete}")
    with Replica(world) as replica:
        done = crawl(replica, *to(weed_store, *official), env=weed_store.environment())
    assert done.code == 0, done.log
    files = {key: value for key, value in weed_store.objects().items() if "meta_data" not in key}
    assert files == objects_of(world.datasets, f"{PREFIX}/datasets/")
    assert bool(files_on_disk(tmp_path)) is not delete


SECRETS = ("AKIATESTSTORES", "a/secret+of=the-tests", "Signature=", "X-Amz-")


def test_no_secret_is_told(crawl: Run, tmp_path: Path, weed_store: Store) -> None:
    world = large_world()
    job = tmp_path / "job"
    options = to(weed_store, "-s", f"JOBDIR={job}", "-s", "LOG_LEVEL=DEBUG")
    with Replica(world) as replica:
        done = crawl(replica, *options, env=weed_store.environment())
    assert done.code == 0, done.log
    told = [done.log.encode()]
    told += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [secret for secret in SECRETS for text in told if secret.encode() in text]


def refused(done: Crawl, code: int = 2) -> str:
    assert done.code == code, done.log
    assert "Traceback" not in done.log
    return done.sentence


def test_a_store_that_cannot_be_used_ends_it_before_kaggle_is_asked(
    crawl: Run, tmp_path: Path, weed_store: Store
) -> None:
    env = weed_store.environment()
    missing = tmp_path / "cloud.json"
    with Replica(World(scale=None)) as replica:
        cases = [
            (env, f"S3_URI=s3://{weed_store.bucket}x/y", "S3_URI"),
            (env, "S3_URI=http://bucket/x", "S3_URI"),
            (env, f"CLOUD_CONFIG={missing}", "CLOUD_CONFIG"),
            ({**env, "AWS_SECRET_ACCESS_KEY": "wrong"}, f"S3_URI={weed_store.uri()}", "S3_URI"),
            ({**env, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "S3_URI=s3://b", "S3_URI"),
            ({**env, "AWS_ENDPOINT_URL": "http://10.0.0.1:9"}, "S3_URI=s3://b", "https"),
            (env, "S3_CONCURRENT_UPLOADS=0", "S3_CONCURRENT_UPLOADS"),
            (env, "S3_READ_BACK=perhaps", "S3_READ_BACK"),
            (env, "S3_URL=s3://b", "did you mean S3_URI?"),
        ]
        for environment, setting, said in cases:
            sentence = refused(crawl(replica, *FILES, "-s", setting, env=environment))
            assert said in sentence, sentence
            assert len(sentence.splitlines()) <= 2, sentence
        keys = ("-s", "AWS_SECRET_ACCESS_KEY=shown", "-s", f"S3_URI={weed_store.uri()}")
        sentence = refused(crawl(replica, *FILES, *keys, env=env))
        assert "command line" in sentence
        assert "shown" not in sentence
        assert replica.stats()["requests"] == {}


def test_only_what_was_sent_is_deleted(crawl: Run, tmp_path: Path, weed_store: Store) -> None:
    world = World(scale=None, extra=(published("me/set", files={"a.csv": b"x", "d/b.csv": b"y"}),))
    official = ("-s", "KAGGLE_TRANSPORT=official", "-s", "S3_DELETE_LOCAL=True")
    mine = workspace(tmp_path) / "output/datasets/dataset/me_set/d/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("never sent")
    with Replica(world) as replica:
        done = crawl(replica, *to(weed_store, *official), env=weed_store.environment())
    assert done.code == 0, done.log
    assert [path for path in mine.parent.parent.rglob("*") if path.is_file()] == [mine]
    assert done.stat("kaggle/s3/deleted_local") == 2


def test_a_store_that_goes_away_is_waited_for_and_kaggle_not_asked(tmp_path: Path) -> None:
    sets = tuple(published(f"me/set-{n}", files={"a.csv": b"%d" % n}) for n in range(40))
    with rclone() as store, Replica(World(scale=None, extra=sets)) as replica:
        options = (
            *("-o", str(tmp_path / "rows.jsonl"), "-s", f"S3_URI={store.uri()}"),
            *("-s", f"JOBDIR={tmp_path / 'job'}", "-s", "KAGGLE_MAX_WAIT=2"),
            *("-s", "KAGGLE_CONCURRENT_TRANSFERS=1"),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(file_crawls, "clean_env", partial(_with, store.environment()))
            with crawling(replica, tmp_path, *options) as process:
                wait_until(lambda: len(keys_in(store, "datasets/dataset/")) > 2)
                os.kill(store.process, signal.SIGKILL)
                process.wait(60)
        asked = sum(replica.stats()["requests"]["DownloadDataset"].values())
    log = (tmp_path / "log.txt").read_text()
    assert process.returncode == 3, log
    assert "It stopped before its end: the store cannot be reached." in log
    stored = int(re.findall(r"(\d+) stored", log)[-1])
    assert stored <= asked <= stored + 3, "one that was under way, and hardly more"


def _with(more: dict[str, str], home: Path, **others: str) -> dict[str, str]:
    return clean_env(home, **{**others, **more})
