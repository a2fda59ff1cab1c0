"""Crawls into a store that are killed again and again: what the bucket holds in the end."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World, published
from tests.conftest import QUICK, ROOT, by_ref, clean_env
from tests.file_crawls import FILES, PATIENCE
from tests.stores import Store
from tests.test_crawl_s3 import PREFIX, files_on_disk, in_store, objects_of, uploads_of
from tests.transfer.archives import STORED, Entry, entry, tarred, zipped

_DICE = random.Random(66)
SMALL = {f"folder/{n}.csv": _DICE.randbytes(5_000) for n in range(60)}
FILES_OF = {**SMALL, "large.bin": _DICE.randbytes((30 << 20) + 7)}
KILLS = 6


def world() -> World:
    stored = zipped(*(Entry(name, data, STORED) for name, data in FILES_OF.items()))
    tar = tarred(*(entry(name, data) for name, data in FILES_OF.items()))
    return World(
        scale=None,
        extra=(
            published("me/deflated", files=FILES_OF),
            published("me/stored", stored, FILES_OF),
            published("me/tar", tar, FILES_OF, name="archive.tar.gz"),
            published("me/small", files=SMALL),
        ),
    )


def bytes_there(store: Store) -> int:
    """How much the store has, parts of uploads as well."""
    client, bucket = store.client(), store.bucket
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    size = sum(int(each["Size"]) for page in pages for each in page.get("Contents", ()))
    for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
        of = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        try:
            size += sum(int(part["Size"]) for part in client.list_parts(**of).get("Parts", ()))
        except client.exceptions.ClientError:
            continue  # it has just ended
    return size


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_moments(tmp_path: Path, weed_store: Store, seed: int) -> None:
    dice, made = random.Random(seed), world()
    whole = objects_of(made.datasets, f"{PREFIX}/datasets/")
    total = sum(map(len, whole.values()))
    moments = sorted(dice.randrange(1, total) for _ in range(KILLS))
    feed, job = tmp_path / "rows.jsonl", tmp_path / "job"
    options = (
        *("scrapy", "crawl", "datasets", "-o", str(feed), *QUICK, *FILES),
        *("-s", f"JOBDIR={job}", "-s", f"S3_URI={weed_store.uri(PREFIX)}"),
        *("-s", f"WORKSPACE={tmp_path / 'workspace'}", "-s", "S3_CONCURRENT_UPLOADS=2"),
    )
    logs = []
    with Replica(made) as replica:
        env = clean_env(tmp_path, **replica.crawler_env(), **weed_store.environment())
        while True:
            moment = moments.pop(0) if moments else None
            with (tmp_path / "log").open("w+") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", *options], cwd=ROOT, env=env, stdout=log, stderr=log
                )
                deadline = time.monotonic() + PATIENCE
                while process.poll() is None:
                    assert time.monotonic() < deadline
                    if moment is not None and bytes_there(weed_store) >= moment:
                        process.kill()
                    time.sleep(dice.random() / 100)
                log.seek(0)
                logs.append(log.read())
            if process.returncode == 0:
                break
            assert process.returncode == -9, logs[-1]
            job_files = sum(path.stat().st_size for path in job.rglob("*"))
            assert job_files < 10 << 20
    objects = weed_store.objects()
    assert {key: objects[key] for key in objects if "meta_data" not in key} == whole
    assert uploads_of(weed_store) == []
    uri = weed_store.uri(f"{PREFIX}/datasets")
    rows = [json.loads(line) for line in feed.read_text().splitlines()]
    assert by_ref(rows) == {each.ref: in_store(each, uri) for each in made.datasets}
    page = objects[f"{PREFIX}/datasets/meta_data/page_1.jsonl"].decode().splitlines()
    assert len(page) == len(made.datasets)
    assert files_on_disk(tmp_path) == {}
    assert len(logs) > 2, "it was never killed"
