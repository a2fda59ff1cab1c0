"""A feed at ``s3://`` is stored when the store has it, whatever the store says."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from scrapy import Spider
from scrapy.utils.test import get_crawler

from kagglecrawl.s3.errors import Unproved
from kagglecrawl.s3.feeds import S3FeedStorage
from tests.feed_runs import Run, numbers
from tests.stores import Store

OURS = {"s3": "kagglecrawl.s3.feeds.S3FeedStorage"}
URI = "s3://bucket/rows.jsonl"


class Client:
    """One that keeps what a lie makes of the bytes, and says that all is well."""

    def __init__(self, *lies: Any, etag: str = "") -> None:
        self.lies = list(lies)
        self.etag = etag
        self.kept: bytes | None = None
        self.puts = self.reads = 0

    def upload_fileobj(self, *, Bucket: str, Key: str, Fileobj: Any) -> None:
        assert (Bucket, Key) == ("bucket", "rows.jsonl")
        content = Fileobj.read()
        Fileobj.close()  # as boto3 does
        self.puts += 1
        lie = self.lies.pop(0) if self.lies else None
        self.kept = lie(content) if lie else content

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        if self.kept is None:
            raise ClientError({"Error": {"Code": "404", "Message": "Not Found"}}, "HeadObject")
        return {"ContentLength": len(self.kept), "ETag": self.etag or f'"{_md5(self.kept)}"'}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        self.reads += 1
        assert self.kept is not None
        return {"Body": Body(self.kept)}


class Body(io.BytesIO):
    """What botocore answers with."""

    def iter_chunks(self, size: int) -> Any:
        return iter(lambda: self.read(size), b"")


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def cut(content: bytes) -> bytes:
    return content[:-1]


def lost(_: bytes) -> None:
    return None


def store(client: Client, content: bytes = b"row\n") -> Any:
    """Store a feed; the file that it was collected in."""
    storage = S3FeedStorage(URI, "key", "secret", endpoint_url="http://127.0.0.1:1")
    storage.s3_client = client
    file = storage.open(Spider.from_crawler(get_crawler(Spider), "rows"))
    file.write(content)
    try:
        storage._store_in_thread(file)
    finally:
        assert file.closed
    return file


def test_what_the_store_calls_by_its_md5_is_not_read_back() -> None:
    client = Client()
    store(client)
    assert (client.kept, client.puts, client.reads) == (b"row\n", 1, 0)
    store(client, b"")
    assert (client.kept, client.puts, client.reads) == (b"", 2, 0)


def test_what_it_calls_by_something_else_is_read_back() -> None:
    client = Client(etag='"of-a-key-of-its-own"')
    store(client)
    assert (client.puts, client.reads) == (1, 1)
    echo = Client(flipped, flipped, flipped, etag='"of-a-key-of-its-own"')
    with pytest.raises(Unproved, match=r"other bytes of rows\.jsonl than it got"):
        store(echo)


@pytest.mark.parametrize("lie", [flipped, cut, lost])
def test_what_did_not_arrive_is_uploaded_again(lie: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "kagglecrawl")
    client = Client(lie, lie)
    store(client)
    assert (client.kept, client.puts) == (b"row\n", 3)
    assert caplog.text.count("A feed is uploaded again") == 2


@pytest.mark.parametrize(
    ("lie", "slug"),
    [(flipped, "store_damaged"), (cut, "store_truncated"), (lost, "store_lost")],
)
def test_what_never_arrives_is_said(lie: Any, slug: str) -> None:
    client = Client(*[lie] * 9)
    with pytest.raises(Unproved, match=r"rows\.jsonl") as raised:
        store(client)
    assert (raised.value.slug, client.puts) == (slug, 3)


@pytest.fixture(params=["weed_store", "rclone_store"])
def real(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def test_a_job_stores_its_feed_in_a_real_store(real: Store, tmp_path: Path) -> None:
    settings = {
        "FEED_STORAGES": OURS,
        "AWS_ACCESS_KEY_ID": real.access_key,
        "AWS_SECRET_ACCESS_KEY": real.secret_key,
        "AWS_ENDPOINT_URL": real.endpoint,
        "AWS_REGION_NAME": real.region,
    }
    run = Run(tmp_path / "job", {real.uri("a/rows.jsonl"): {"format": "jsonlines"}}, **settings)
    run.add(1, 2, 3)
    assert run.end()
    assert run.stat("success_count/S3FeedStorage") == 1
    assert numbers(real.read("a/rows.jsonl"), "rows.jsonl") == [1, 2, 3]
    real.client().delete_object(Bucket=real.bucket, Key="a/rows.jsonl")


def test_a_large_feed_is_proved_by_the_etag_of_its_parts(
    real: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3FeedStorage, "_read", lambda *_: pytest.fail("it need not be read"))
    keys = real.access_key, real.secret_key
    storage = S3FeedStorage(real.uri("large"), *keys, endpoint_url=real.endpoint)
    file = storage.open(Spider.from_crawler(get_crawler(Spider), "rows"))
    content = json.dumps(list(range(1_500_000))).encode()
    assert len(content) > 9 << 20
    file.write(content)
    storage._store_in_thread(file)
    assert real.read("large") == content
    real.client().delete_object(Bucket=real.bucket, Key="large")
