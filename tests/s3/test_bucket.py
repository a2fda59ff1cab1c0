"""Objects with receipts, over a store in memory: what is tried again, what is not believed."""

from __future__ import annotations

import hashlib
import threading
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import (
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from kagglecrawl.s3.bucket import Entry, Receipt
from kagglecrawl.s3.errors import KeyRefused, StoreAway, StoreFailed, StoreRefused, Unproved
from tests.s3.memory import BLIND, KMS, Memory, bucket, damaging, md5, random_etag, refusal

URL = "http://127.0.0.1:1/"


def echoing(memory: Memory, asked: dict[str, Any]) -> Any:
    """What is kept is not what came, and the answer says that it is."""
    damaging(memory, asked)
    return {"ETag": f'"{md5(asked["Body"]).hex()}"'}


def test_put_gives_what_a_list_will_say() -> None:
    memory = Memory()
    store = bucket(memory)
    receipt = store.put("a/b", memoryview(b"xyz")[1:], "text/plain")
    assert receipt == Receipt(2, md5(b"yz").hex())
    assert list(store.list("a/")) == [[Entry("a/b", *receipt)]]
    assert store.agrees(Entry("a/b", *receipt), receipt)
    assert not store.agrees(Entry("a/b", 2, "0" * 32), receipt)
    assert not store.agrees(Entry("a/b", 3, receipt.etag), receipt)
    assert store.tally.counts() == {"puts": 1, "bytes": 2, "lists": 1}


def test_a_bytearray_is_handed_over_without_a_copy() -> None:
    memory = Memory()
    store = bucket(memory)
    handed = []

    def look(_: Memory, asked: dict[str, Any]) -> Any:
        handed.append(asked["Body"])
        return {"ETag": f'"{md5(asked["Body"]).hex()}"'}

    data = bytearray(b"bytearray")
    memory.turns["put_object"].extend([look, look, look])
    for given in (data, memoryview(data), memoryview(data)[4:]):
        store.put("x", given)
    assert handed[0] is data
    assert handed[1] is data
    assert handed[2] == b"array"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (refusal("SlowDown", 503), "slow_down"),
        (refusal("InternalError", 500), "server_error"),
        (refusal("503", 503), "server_error"),
        (refusal("RequestTimeout", 400), "timed_out"),
        (ReadTimeoutError(endpoint_url=URL), "timed_out"),
        (ConnectionClosedError(endpoint_url=URL), "cut"),
        (refusal("OperationAborted", 409), "conflict"),
    ],
)
def test_what_passes_is_tried_again(error: Exception, reason: str) -> None:
    memory = Memory()
    pauses: list[float] = []
    store = bucket(memory, pause=pauses.append)
    memory.turns["put_object"].extend([error] * 4)
    assert store.put("x", b"1") == Receipt(1, md5(b"1").hex())
    assert store.tally.retries == {reason: 4}
    assert len(pauses) == 4
    assert all(0.7 < later / before < 4 for before, later in pairwise(pauses))
    memory.turns["put_object"].extend([error] * 5)
    with pytest.raises(StoreFailed) as caught:
        store.put("x", b"1")
    assert caught.value.slug == "store_failed"


def test_nobody_there_is_not_tried_for_long() -> None:
    memory = Memory()
    memory.turns["put_object"].extend([EndpointConnectionError(endpoint_url=URL)] * 3)
    store = bucket(memory)
    with pytest.raises(StoreAway):
        store.put("x", b"1")
    assert memory.calls == ["put_object"] * 3
    assert store.tally.retries == {"away": 2}


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, StoreRefused),
        ("Whatever", 403, StoreRefused),
        ("NoSuchBucket", 404, StoreRefused),
        ("QuotaExceeded", 403, StoreRefused),
        ("507", 507, StoreRefused),
        ("KeyTooLongError", 400, KeyRefused),
    ],
)
def test_what_does_not_pass_is_not_tried_again(
    code: str, status: int, kind: type[Exception]
) -> None:
    memory = Memory()
    memory.turns["put_object"].append(refusal(code, status))
    with pytest.raises(kind):
        bucket(memory).put("x", b"1")
    assert memory.calls == ["put_object"]


def test_damage_is_put_again_three_times_in_all() -> None:
    memory = Memory()
    store = bucket(memory)
    memory.turns["put_object"].extend([damaging, damaging])
    store.put("x", b"1")
    assert memory.objects["x"][0] == b"1"
    assert store.tally.retries == {"damaged": 2}
    memory.turns["put_object"].extend([damaging] * 3)
    with pytest.raises(Unproved) as caught:
        store.put("x", b"1")
    assert caught.value.slug == "store_damaged"
    assert caught.value.most_attempts == 3


def test_an_echo_is_seen_by_reading_back() -> None:
    memory = Memory()
    store = bucket(memory, read_back=True)
    memory.turns["put_object"].append(echoing)
    store.put("x", b"1", sha256=hashlib.sha256(b"1").digest())
    assert memory.objects["x"][0] == b"1"
    memory.turns["put_object"].extend([echoing] * 3)
    with pytest.raises(Unproved):
        store.put("x", b"1")
    # without it the answer is believed: the store has lied in all that it says
    memory.turns["put_object"].append(echoing)
    bucket(memory).put("x", b"1")


def test_a_store_whose_etags_tell_nothing_checks_content_md5() -> None:
    memory = Memory(etag=random_etag, whole=lambda etags, data: random_etag(data))
    store = bucket(memory, KMS)
    assert store.put("x", b"1").etag == random_etag(b"1")
    upload = store.begin("y")
    parts = [store.put_part("y", upload, number, b"part %d" % number) for number in (1, 2)]
    assert store.complete("y", upload, parts, md5=None, sha256=None).size == 12
    assert "get_object" not in memory.calls
    memory.turns["put_object"].extend([refusal("BadDigest")] * 3)
    with pytest.raises(Unproved) as caught:
        store.put("x", b"1")
    assert caught.value.slug == "store_damaged"


def test_a_store_that_checks_nothing_is_read_back() -> None:
    memory = Memory(etag=random_etag, whole=lambda etags, data: "", checks_md5=False)
    store = bucket(memory, BLIND)
    memory.turns["put_object"].append(damaging)
    store.put("x", b"1")
    assert memory.objects["x"][0] == b"1"
    upload = store.begin("y")
    parts = [store.put_part("y", upload, 1, b"12")]
    memory.sent[upload, 1] = (b"13", "")
    with pytest.raises(Unproved) as caught:
        store.complete("y", upload, parts, md5=None, sha256=hashlib.sha256(b"12").digest())
    assert caught.value.slug == "store_damaged"


def test_a_read_back_that_breaks_off_is_begun_again() -> None:
    memory = Memory()
    store = bucket(memory, read_back=True)

    class Broken:
        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *_: object) -> None: ...

        def read(self, _: int) -> bytes:
            raise ResponseStreamingError(error="cut")

    memory.turns["get_object"].append({"ContentLength": 1, "Body": Broken()})
    store.put("x", b"1")
    assert store.tally.retries == {"cut": 1}


def test_a_list_goes_on_and_does_not_go_in_circles() -> None:
    memory = Memory()
    store = bucket(memory)
    entry = {"Key": "a/x", "Size": 1, "ETag": '"00"'}
    folder = {"Key": "a/", "Size": 0, "ETag": '"00"'}
    more = {"IsTruncated": True, "NextContinuationToken": "t"}
    memory.turns["list_objects_v2"].extend(
        [
            {"Contents": [folder, entry], **more},
            {"Contents": [], "IsTruncated": False},
        ]
    )
    assert list(store.list("a/")) == [[Entry("a/x", 1, "00")]]
    memory.turns["list_objects_v2"].extend([{"Contents": [entry], **more}] * 2)
    with pytest.raises(StoreFailed):
        list(store.list("a/"))
    memory.turns["list_objects_v2"].append({"IsTruncated": True})
    with pytest.raises(StoreFailed):
        list(store.list("a/"))


def test_a_stale_answer_is_asked_for_again() -> None:
    memory = Memory()
    store = bucket(memory)
    receipt = store.put("x", b"new")
    memory.turns["head_object"].extend(
        [
            refusal("404", 404),
            {"ContentLength": 3, "ETag": '"00"'},
        ]
    )
    store.prove("x", receipt, None)
    assert store.tally.retries == {"stale": 2}
    cases = [({"ContentLength": 2, "ETag": "x"}, "truncated"), (refusal("404", 404), "lost")]
    for turn, slug in cases:
        memory.turns["head_object"].extend([turn] * 4)
        with pytest.raises(Unproved) as caught:
            store.prove("x", receipt, None)
        assert caught.value.slug == f"store_{slug}"


def test_prove_reads_back_where_that_is_the_proof() -> None:
    memory = Memory()
    receipt = bucket(memory).put("x", b"new")
    other = hashlib.sha256(b"old").digest()
    bucket(memory).prove("x", receipt, other)
    with pytest.raises(Unproved):
        bucket(memory, read_back=True).prove("x", receipt, other)
    with pytest.raises(Unproved):
        bucket(memory).prove("x", Receipt(3, ""), other)


def test_delete_in_batches_and_singly() -> None:
    memory = Memory()
    store = bucket(memory)
    keys = [f"k/{number}" for number in range(1003)]
    for key in keys:
        memory.objects[key] = b"", ""
    store.delete(keys)
    assert not memory.objects
    assert memory.calls == ["delete_objects"] * 2
    memory.calls.clear()
    memory.turns["delete_objects"].append(refusal("NotImplemented", 501))
    store.delete(keys[:2])
    store.delete(keys[2:4])
    assert memory.calls == ["delete_objects", *["delete_object"] * 4]
    memory.turns["delete_objects"].append({"Errors": [{"Key": "k/0", "Code": "AccessDenied"}]})
    with pytest.raises(StoreRefused):
        bucket(memory).delete(keys[:2])


def test_a_wait_can_be_ended() -> None:
    class Ended(Exception):
        pass

    def end(_: float) -> None:
        raise Ended

    memory = Memory()
    store = bucket(memory)
    memory.turns["put_object"].append(refusal("SlowDown", 503))
    with pytest.raises(Ended):
        store.pausing(end).put("x", b"1")
    assert store.tally.retries == {"slow_down": 1}, "they count together"


def test_a_key_that_cannot_be_beside_another() -> None:
    memory = Memory()
    store = bucket(memory)
    store.put("a/b", b"1")
    failing = [refusal("InternalError", 500)] * 5
    for key, beside in (("a/b/c/d", "a/b"), ("a", "a/")):
        memory.turns["put_object"].extend(failing)
        with pytest.raises(KeyRefused, match=f"beside '{beside}'"):
            store.put(key, b"2")
    memory.turns["put_object"].extend(failing)
    with pytest.raises(StoreFailed):
        store.put("c", b"2")


def test_several_threads_count_together() -> None:
    store = bucket(Memory())

    def count() -> None:
        for _ in range(2000):
            store.tally.count("x")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.tally["x"] == 8000
