"""What a store can do: asserted of the real ones, and of others by a store in memory."""

from __future__ import annotations

from typing import Any

import pytest

from kagglecrawl.s3.abilities import Abilities, probe
from kagglecrawl.s3.client import connect
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import StoreFailed, StoreRefused
from tests.s3.memory import Memory, damaging, md5, random_etag, refusal
from tests.stores import Store

PLACE = Destination("bucket", "some/prefix")


def looked(memory: Memory) -> Abilities:
    return probe(memory, PLACE, pause=lambda seconds: None)


def probed(store: Store, prefix: str) -> Abilities:
    there = Destination.of_uri(
        store.uri(prefix),
        endpoint=store.endpoint,
        region=store.region,
        access_key=store.access_key,
        secret_key=store.secret_key,
    )
    client = connect(there, uploads=2)
    try:
        return probe(client, there)
    finally:
        client.close()


def left(store: Store) -> list[Any]:
    uploads = store.client().list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])
    return [*store.objects(), *uploads]


def test_seaweedfs(weed_store: Store) -> None:
    assert probed(weed_store, "a/b") == Abilities(
        put_etag="md5",
        multipart_etag="parts",
        lists_etag=True,
        checksum="crc32",
        checks_md5=True,
        conditional=True,
        multipart=True,
        lists_uploads=True,
        lists_parts=True,
        reads=True,
    )
    assert not left(weed_store)


def test_rclone(rclone_store: Store) -> None:
    found = probed(rclone_store, "")
    assert found == Abilities(
        put_etag="md5",
        multipart_etag="whole",
        lists_etag=True,
        checks_md5=True,
        multipart=True,
        lists_uploads=True,
        lists_parts=True,
        reads=True,
    )
    assert not rclone_store.objects()
    assert "proved by the MD5" in found.describe()
    assert "but no checksums, conditional writes" in found.describe()


def test_a_plain_store() -> None:
    memory = Memory()
    found = looked(memory)
    assert found == Abilities(
        put_etag="md5",
        multipart_etag="parts",
        lists_etag=True,
        checks_md5=True,
        multipart=True,
        lists_uploads=True,
        lists_parts=True,
        reads=True,
    )
    assert found.proof == "etag"
    assert not memory.objects
    assert not memory.open
    assert len(memory.calls) < 25


def test_etags_that_tell_nothing() -> None:
    memory = Memory(etag=random_etag, whole=lambda etags, data: f"{random_etag(data)}-1")
    found = looked(memory)
    assert (found.put_etag, found.multipart_etag, found.proof) == ("", "", "checksum")
    assert found.lists_etag
    memory = Memory(etag=random_etag, whole=lambda etags, data: "", checks_md5=False)
    found = looked(memory)
    assert found.proof == "read_back"
    assert "reading them back" in found.describe()


def test_etags_of_parts_that_are_no_md5_prove_no_whole() -> None:
    memory = Memory(whole=lambda etags, data: md5(data).hex())
    memory.turns["upload_part"].append(
        lambda there, asked: {**there._upload_part(**asked), "ETag": '"other"'}
    )
    assert looked(memory).multipart_etag == ""


def test_without_multipart() -> None:
    memory = Memory()
    memory.turns["create_multipart_upload"].append(refusal("NotImplemented", 501))
    found = looked(memory)
    assert not found.multipart
    assert found.proof == "etag"
    memory = Memory()
    memory.turns["upload_part"].append(refusal("NotImplemented", 501))
    assert not looked(memory).multipart
    assert not memory.open, "the upload is left"
    memory = Memory()
    memory.turns["list_parts"].append(refusal("NotImplemented", 501))
    memory.turns["list_multipart_uploads"].append(refusal("MethodNotAllowed", 405))
    found = looked(memory)
    assert (found.multipart, found.lists_parts, found.lists_uploads) == (True, False, False)


def test_one_failure_or_a_stale_answer_is_no_verdict() -> None:
    memory = Memory()
    for name in ("put_object", "head_object", "list_objects_v2", "complete_multipart_upload"):
        memory.turns[name].append(refusal("SlowDown", 503))
    memory.turns["head_object"].append(refusal("404", 404))
    memory.turns["list_objects_v2"].append({"Contents": []})
    assert looked(memory) == looked(Memory())


@pytest.mark.parametrize(
    ("name", "turns", "said"),
    [
        ("put_object", [refusal("AccessDenied", 403)], "cannot be put: the store denies access"),
        ("put_object", [refusal("NoSuchBucket", 404)], "create it"),
        ("put_object", [{}], "no S3 store"),
        ("head_object", [refusal("403", 403)], "is not there: the store denies access"),
        ("head_object", [refusal("404", 404)] * 4, "is not there"),
        ("head_object", [{"ContentLength": 3}], "does not keep an object"),
        ("list_objects_v2", [refusal("AccessDenied", 403)], "cannot be listed"),
        ("list_objects_v2", [{"Contents": []}] * 4, "does not list an object"),
        ("delete_object", [refusal("AccessDenied", 403)], "cannot be removed"),
    ],
)
def test_what_a_crawl_cannot_do_without(name: str, turns: list[Any], said: str) -> None:
    memory = Memory()
    memory.turns[name].extend(turns)
    with pytest.raises(StoreRefused, match=said) as caught:
        looked(memory)
    assert str(caught.value).startswith("S3_URI (s3://bucket/some/prefix at http://127.0.0.1:1): ")
    assert not memory.objects, "something is left"
    assert not memory.open


def test_a_store_that_fails_all_the_time() -> None:
    memory = Memory()
    memory.turns["put_object"].extend([refusal("SlowDown", 503)] * 5)
    with pytest.raises(StoreFailed, match="S3_URI"):
        looked(memory)


def test_a_store_that_damages_has_no_etags_to_trust() -> None:
    memory = Memory()
    memory.turns["put_object"].append(damaging)
    assert looked(memory).put_etag == ""


def test_what_fails_for_now_is_no_answer_but_what_always_fails_is() -> None:
    memory = Memory()
    memory.turns["create_multipart_upload"].extend([refusal("SlowDown", 503)] * 5)
    with pytest.raises(StoreFailed):
        looked(memory)
    assert not memory.objects
    memory.turns["create_multipart_upload"].extend([refusal("InternalError", 500)] * 5)
    assert not looked(memory).multipart
