"""The bucket against SeaweedFS and rclone: what is put is there, and is read back equal."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from kagglecrawl.s3.abilities import probe
from kagglecrawl.s3.bucket import PUT_MOST, Bucket, Entry, Receipt, UploadGone
from kagglecrawl.s3.client import connect
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import KeyRefused, StoreRefused, Unproved
from tests.stores import Store, rclone, weed

#: Names that need care in a URL, in XML, in a file system.
NAMES = [
    "plain.csv",
    "with space",
    "plus+and&amp;",
    "per%20cent%",
    "ünïcödé/日本 語.txt",
    "it's (1) = [2], {3}; ~!@#$^",
    "e\u0301 composed otherwise",
    "deep/" * 20 + "x",
    "ü" * 127,
]


def place(store: Store) -> Destination:
    return Destination.of_uri(
        store.uri("top/datasets"),
        endpoint=store.endpoint,
        region=store.region,
        access_key=store.access_key,
        secret_key=store.secret_key,
    )


@pytest.fixture
def bucket(s3_store: Store) -> Iterator[Bucket]:
    there = place(s3_store)
    client = connect(there, uploads=4)
    yield Bucket(client, there, probe(client, there))
    client.close()


def listed(bucket: Bucket, prefix: str) -> dict[str, Entry]:
    return {entry.key: entry for page in bucket.list(prefix) for entry in page}


def test_names_of_all_kinds(bucket: Bucket, s3_store: Store) -> None:
    receipts = {}
    for name in NAMES:
        key = bucket.destination.key("x", name)
        receipts[key] = bucket.put(key, name.encode())
        bucket.prove(key, receipts[key], hashlib.sha256(name.encode()).digest())
    found = listed(bucket, bucket.destination.key("x") + "/")
    assert {key: (entry.size, entry.etag) for key, entry in found.items()} == receipts
    head = bucket.destination.key("x") + "/"
    assert s3_store.objects() == {head + name: name.encode() for name in NAMES}
    bucket.delete(receipts)
    assert not s3_store.objects()


def test_empty_overwritten_and_gone(bucket: Bucket) -> None:
    key = bucket.destination.key("x")
    assert bucket.put(key, b"") == Receipt(0, hashlib.md5(b"").hexdigest())
    bucket.prove(key, Receipt(0, hashlib.md5(b"").hexdigest()), None)
    assert list(bucket.read(key)) == []
    receipt = bucket.put(key, b"new", "text/csv")
    assert bucket.head(key) == Entry(key, *receipt)
    assert b"".join(bucket.read(key)) == b"new"
    bucket.delete([key, f"{key}-never-there"])
    assert bucket.head(key) is None
    with pytest.raises(Unproved) as caught:
        list(bucket.read(key))
    assert caught.value.slug == "store_lost"


@pytest.mark.parametrize("read_back", [False, True])
def test_parts_from_several_threads(s3_store: Store, read_back: bool) -> None:
    there = place(s3_store)
    client = connect(there, uploads=4)
    bucket = Bucket(client, there, probe(client, there), read_back=read_back)
    key = there.key("large")
    pieces = [os.urandom(PUT_MOST), os.urandom(PUT_MOST), b"the last is smaller"]
    upload = bucket.begin(key)
    assert list(bucket.uploads(there.key("l"))) == [(key, upload)]
    assert not list(bucket.uploads(there.key("other")))
    with ThreadPoolExecutor(3) as threads:
        sent = [
            threads.submit(bucket.put_part, key, upload, number, memoryview(bytearray(piece)))
            for number, piece in reversed(list(enumerate(pieces, start=1)))
        ]
    parts = sorted(one.result() for one in sent)
    assert bucket.put_part(key, upload, 3, pieces[2]) == parts[2], "sent again, as after a cut"
    assert bucket.parts(key, upload) == parts
    whole = b"".join(pieces)
    sums = {"md5": hashlib.md5(whole).digest(), "sha256": hashlib.sha256(whole).digest()}
    receipt = bucket.complete(key, upload, parts, **sums)
    assert listed(bucket, key)[key] == Entry(key, *receipt)
    # an answer that was lost: the same once more
    assert bucket.complete(key, upload, parts, **sums) == receipt
    assert not list(bucket.uploads(""))
    assert s3_store.read(key) == whole
    assert bucket.tally["parts"] == 4
    client.close()


def test_another_part_of_the_same_number(bucket: Bucket) -> None:
    key = bucket.destination.key("x")
    upload = bucket.begin(key)
    first = bucket.put_part(key, upload, 1, b"one")
    try:
        second = bucket.put_part(key, upload, 1, b"two")
    except UploadGone:  # rclone has written the first one
        assert not list(bucket.uploads(key))
        return
    assert bucket.parts(key, upload) in ([second], []), "which of them counts is not known"
    assert second != first
    bucket.complete(key, upload, [second], md5=hashlib.md5(b"two").digest(), sha256=None)
    assert b"".join(bucket.read(key)) == b"two"


def test_uploads_that_are_gone_or_do_not_add_up(bucket: Bucket) -> None:
    key = bucket.destination.key("x")
    upload = bucket.begin(key)
    part = bucket.put_part(key, upload, 1, b"one")
    wrong = part._replace(etag="0" * 32)
    with pytest.raises(Unproved):
        bucket.complete(key, upload, [wrong], md5=bytes(16), sha256=None)
    assert not list(bucket.uploads(key))
    assert bucket.head(key) is None
    bucket.abort(key, upload)
    assert bucket.parts(key, upload) is None
    with pytest.raises(UploadGone):
        bucket.put_part(key, upload, 1, b"one")
    with pytest.raises(UploadGone):
        bucket.complete(key, upload, [part], md5=hashlib.md5(b"one").digest(), sha256=None)


def test_credentials_and_buckets_that_are_wrong(s3_store: Store) -> None:
    there = place(s3_store)
    for wrong, said in (
        (replace(there, bucket="no-such-bucket-here"), "does not exist"),
        (replace(there, access_key="AKIANOBODY"), "does not know the access key"),
        (replace(there, secret_key="wrong"), "does not fit"),
    ):
        client = connect(wrong, uploads=1)
        with pytest.raises(StoreRefused, match=said) as caught:
            probe(client, wrong)
        client.close()
        for secret in (there.secret_key, wrong.secret_key, wrong.access_key):
            assert secret is not None
            assert secret not in str(caught.value)


def test_more_than_one_page(weed_store: Store) -> None:
    there = place(weed_store)
    client = connect(there, uploads=8)
    bucket = Bucket(client, there, probe(client, there))
    keys = [there.key("many", f"{number:04}") for number in range(1003)]
    with ThreadPoolExecutor(8) as threads:
        put = threads.map(lambda key: bucket.put(key, b"x"), keys)
        receipts = dict(zip(keys, put, strict=True))
    pages = list(bucket.list(there.key("many") + "/"))
    assert [len(page) for page in pages] == [1000, 3]
    found = {entry.key: Receipt(entry.size, entry.etag) for page in pages for entry in page}
    assert found == receipts
    bucket.delete(keys)
    assert not weed_store.objects()
    client.close()


def test_a_key_below_an_object(rclone_store: Store) -> None:
    there = place(rclone_store)
    client = connect(there, uploads=1)
    bucket = Bucket(client, there, probe(client, there), pause=lambda seconds: None)
    bucket.put(there.key("a"), b"1")
    with pytest.raises(KeyRefused, match="beside 'top/datasets/a'"):
        bucket.put(there.key("a/b"), b"2")
    client.close()


@pytest.mark.parametrize("start", [weed, rclone])
def test_a_server_of_ones_own_ends(start: Callable[[], AbstractContextManager[Store]]) -> None:
    with start() as store:
        store.client().put_object(Bucket=store.bucket, Key="x", Body=b"1")
        assert store.objects() == {"x": b"1"}
        assert store.folder.is_dir()
        os.kill(store.process, 0)
    assert not store.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(store.process, 0)
