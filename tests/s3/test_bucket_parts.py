"""Objects in parts, over a store in memory: what counts, what is not believed, what is gone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError

from kagglecrawl.s3.abilities import Abilities
from kagglecrawl.s3.bucket import PUT_MOST, Bucket, Part, Receipt, UploadGone, part_size
from kagglecrawl.s3.errors import Unproved
from tests.s3.memory import BLIND, Memory, bucket, md5, refusal

URL = "http://127.0.0.1:1/"


def sent(store: Bucket, key: str, *pieces: bytes) -> tuple[str, list[Part]]:
    upload = store.begin(key)
    parts = [store.put_part(key, upload, n, piece) for n, piece in enumerate(pieces, start=1)]
    return upload, parts


def completed(store: Bucket, *pieces: bytes) -> Receipt:
    upload, parts = sent(store, "big", *pieces)
    whole = b"".join(pieces)
    return store.complete(
        "big", upload, parts, md5=md5(whole), sha256=hashlib.sha256(whole).digest()
    )


@pytest.mark.parametrize("kind", ["parts", "whole"])
def test_an_object_in_parts_has_the_etag_that_it_should(kind: str) -> None:
    whole = (lambda etags, data: md5(data).hex()) if kind == "whole" else None
    memory = Memory(whole=whole)
    abilities = Abilities("md5", kind, True, lists_parts=True, lists_uploads=True)
    store = bucket(memory, abilities)
    receipt = completed(store, b"one", b"two")
    assert memory.objects["big"] == (b"onetwo", receipt.etag)
    expected = (
        md5(b"onetwo").hex() if kind == "whole" else f"{md5(md5(b'one') + md5(b'two')).hex()}-2"
    )
    assert receipt == Receipt(6, expected)
    assert store.tally["parts"] == 2


def lose(number: int) -> Callable[[Memory, dict[str, Any]], Any]:
    """Complete without a part, and say nothing of it."""

    def complete(memory: Memory, asked: dict[str, Any]) -> Any:
        named = asked["MultipartUpload"]["Parts"]
        left = {"Parts": [one for one in named if one["PartNumber"] != number]}
        return memory._complete_multipart_upload(asked["Key"], asked["UploadId"], left)

    return complete


def swap(memory: Memory, asked: dict[str, Any]) -> Any:
    named = {"Parts": asked["MultipartUpload"]["Parts"][::-1]}
    return memory._complete_multipart_upload(asked["Key"], asked["UploadId"], named)


def nothing(memory: Memory, asked: dict[str, Any]) -> Any:
    return {"ETag": '"whatever"'}


@pytest.mark.parametrize(
    ("turn", "slug"),
    [
        (lose(2), "store_truncated"),
        (swap, "store_damaged"),
        (nothing, "store_lost"),
        (refusal("InvalidPart"), "store_lost"),
        (refusal("EntityTooSmall"), "store_lost"),
    ],
)
def test_an_object_of_other_parts_is_not_believed(turn: Any, slug: str) -> None:
    memory = Memory()
    store = bucket(memory)
    memory.turns["complete_multipart_upload"].append(turn)
    with pytest.raises(Unproved) as caught:
        completed(store, b"one", b"two")
    assert caught.value.slug == slug
    assert not memory.open, "the upload is left"


def test_a_part_that_came_damaged_is_sent_again() -> None:
    memory = Memory()
    store = bucket(memory)
    memory.turns["upload_part"].append({"ETag": '"00"'})
    completed(store, b"one", b"two")
    assert memory.objects["big"][0] == b"onetwo"
    assert store.tally.retries == {"damaged": 1}


def test_an_answer_that_was_lost_is_looked_for() -> None:
    memory = Memory()
    store = bucket(memory)

    def lost(there: Memory, asked: dict[str, Any]) -> Any:
        there._complete_multipart_upload(**asked)
        raise ConnectionClosedError(endpoint_url=URL)

    memory.turns["complete_multipart_upload"].append(lost)
    assert completed(store, b"one", b"two").size == 6


def test_an_upload_that_is_gone() -> None:
    memory = Memory()
    store = bucket(memory)
    upload, parts = sent(store, "big", b"one")
    store.abort("big", upload)
    store.abort("big", upload)
    assert store.parts("big", upload) is None
    with pytest.raises(UploadGone):
        store.put_part("big", upload, 2, b"two")
    store.put("big", b"other")
    with pytest.raises(UploadGone):
        store.complete("big", upload, parts, md5=md5(b"one"), sha256=None)


def test_a_part_that_cannot_be_replaced_ends_the_upload() -> None:
    memory = Memory()
    store = bucket(memory)
    upload, _ = sent(store, "big", b"one")
    memory.turns["upload_part"].append(refusal("NotImplemented", 501))
    with pytest.raises(UploadGone):
        store.put_part("big", upload, 1, b"two")
    assert not memory.open


def test_parts_are_those_that_count() -> None:
    memory = Memory()
    store = bucket(memory)
    upload, parts = sent(store, "big", b"one", b"two", b"three")
    listed = memory._list_parts("big", upload)["Parts"]
    older = {**listed[1], "ETag": '"00"'}
    pages: list[Any] = [
        {"Parts": [listed[2], older], "IsTruncated": True, "NextPartNumberMarker": 2},
        {"Parts": [listed[1], listed[0], listed[0]], "IsTruncated": False},
    ]
    memory.turns["list_parts"].extend(pages)
    assert store.parts("big", upload) == [parts[0], parts[2]]
    assert bucket(memory, BLIND).parts("big", upload) is None


def test_uploads_below_a_prefix() -> None:
    memory = Memory()
    store = bucket(memory)
    ours = [(key, store.begin(key)) for key in ("a/1", "a/2", "b/1")]
    assert list(store.uploads("a/")) == ours[:2]
    memory.turns["list_multipart_uploads"].extend(
        [
            {
                "Uploads": [{"Key": "a/1", "UploadId": "1"}],
                "IsTruncated": True,
                "NextKeyMarker": "a/1",
                "NextUploadIdMarker": "1",
            },
            {"Uploads": [{"Key": "a/1", "UploadId": "2"}], "IsTruncated": False},
        ]
    )
    assert list(store.uploads("a/")) == [("a/1", "1"), ("a/1", "2")]
    memory.turns["list_multipart_uploads"].append(refusal("NoSuchUpload", 404))
    assert not list(store.uploads("a/"))
    assert not list(bucket(memory, BLIND).uploads("a/"))


def test_parts_are_never_too_many() -> None:
    for size in (1, PUT_MOST, 10_000 * PUT_MOST, 10_000 * PUT_MOST + 1, 5 << 40):
        assert part_size(size) >= PUT_MOST
        assert -(-size // part_size(size)) <= 10_000
    assert part_size(10_000 * PUT_MOST) == PUT_MOST
