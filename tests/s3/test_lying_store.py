"""The store that lies does lie: what a plain boto3 client is told, and what is there."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, FlexibleChecksumError

from tests.s3.lying_lies import EVERY, KINDS
from tests.s3.lying_store import LyingStore
from tests.stores import Store

_PART = 8 << 20  # boto3's own
SMALL = random.Random(1).randbytes(2000)
#: Goes in three parts.
LARGE = random.Random(2).randbytes(2 * _PART + 1000)
KEY = "there/a b+ä%.bin"
Head = tuple[int, str]
#: What the store behind has no part in is looked at with one of them.
one = pytest.mark.parametrize("s3_store", ["rclone"], indirect=True)


class Client:
    """A plain boto3 client that tries once, and whom the proxy need not believe."""

    def __init__(self, store: Store, lying: LyingStore) -> None:
        self.bucket = store.bucket
        self.url = f"{lying.endpoint}/{store.bucket}/"
        config = Config(
            s3={"addressing_style": "path"},
            proxies={},
            retries={"total_max_attempts": 1},
            read_timeout=5,
            response_checksum_validation="when_required",
        )
        self.s3 = boto3.client(
            "s3",
            endpoint_url=lying.endpoint,
            aws_access_key_id="AKIANOBODY",
            aws_secret_access_key="nothing",
            region_name=store.region,
            config=config,
        )

    def upload(self, data: bytes, key: str = KEY) -> None:
        """As everybody does: one PUT, or parts."""
        if len(data) < _PART:
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=data)
        else:
            self.s3.upload_fileobj(io.BytesIO(data), self.bucket, key)

    def head(self, key: str = KEY) -> Head | None:
        try:
            found = self.s3.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            return None
        return found["ContentLength"], found["ETag"].strip('"')

    def listed(self, prefix: str = "there/") -> dict[str, Head]:
        found = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        entries = found.get("Contents", ())
        assert found["KeyCount"] == len(entries)
        return {each["Key"]: (each["Size"], each["ETag"].strip('"')) for each in entries}

    def get(self, key: str = KEY) -> bytes:
        return bytes(self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def uploads(self) -> list[Any]:
        try:
            found = self.s3.list_multipart_uploads(Bucket=self.bucket, Prefix="there/")
        except self.s3.exceptions.NoSuchUpload:  # so rclone says where there are none
            return []
        return list(found.get("Uploads", ()))


@pytest.fixture
def lying(s3_store: Store) -> Iterator[LyingStore]:
    with LyingStore(
        s3_store.endpoint, s3_store.access_key, s3_store.secret_key, region=s3_store.region
    ) as lying:
        yield lying


@pytest.fixture
def client(s3_store: Store, lying: LyingStore) -> Iterator[Client]:
    client = Client(s3_store, lying)
    yield client
    lying.behave()
    pages = client.s3.get_paginator("list_objects_v2").paginate(Bucket=client.bucket)
    for entry in [entry for page in pages for entry in page.get("Contents", ())]:
        client.s3.delete_object(Bucket=client.bucket, Key=entry["Key"])
    client.s3.close()


def there(store: Store, key: str = KEY) -> bytes | None:
    """What the real store has."""
    return store.objects().get(key)


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "put", "parts"])
def test_without_lies_it_is_the_store_behind_it(
    s3_store: Store, client: Client, lying: LyingStore, data: bytes
) -> None:
    client.upload(data)
    assert there(s3_store) == data == client.get()
    real = s3_store.client().head_object(Bucket=s3_store.bucket, Key=KEY)
    assert client.head() == (len(data), real["ETag"].strip('"'))
    assert client.listed() == {KEY: client.head()}
    assert client.uploads() == []
    assert lying.asked["part"] == (3 if data is LARGE else 0)
    assert not lying.told
    client.s3.delete_objects(Bucket=client.bucket, Delete={"Objects": [{"Key": KEY}]})
    assert client.head() is None


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["put", "parts"])
@pytest.mark.parametrize("kind", ["flip", "truncate", "lose_part", "lose_object"])
def test_boto3_says_that_all_is_well_where_it_is_not(
    s3_store: Store, client: Client, lying: LyingStore, kind: str, data: bytes
) -> None:
    lie = lying.tell(kind, "there/*", times=1)
    client.upload(data)
    if kind == "lose_part" and data is SMALL:
        assert lie.told == 0
        return
    assert lying.told == {kind: 1}
    found = there(s3_store)
    head = client.head()
    if kind == "lose_object":
        assert found is None
        assert head is None
        assert client.uploads() == [], "nothing is left of it"
        return
    assert found is not None
    assert head is not None
    client.upload(data, "there/right")
    right = client.head("there/right")
    assert right is not None
    assert head[1] != right[1], "who looks at its ETag sees it"
    assert head[0] == len(found)
    missing = {"flip": 0, "truncate": len(data) // 8, "lose_part": _PART}[kind]
    if kind == "truncate" and data is LARGE:
        assert len(data) - len(found) in {_PART // 8, 1000 // 8}, "one of its parts"
    elif kind == "lose_part":
        assert len(data) - len(found) in {_PART, 1000}
    else:
        assert len(data) - len(found) == missing
    if kind == "flip":
        assert sum(a != b for a, b in zip(data, found, strict=True)) == 1


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["put", "parts"])
@pytest.mark.parametrize("kind", ["echo", "echo_short"])
def test_an_echo_is_not_to_be_told_from_the_truth_by_its_etag(
    s3_store: Store, client: Client, lying: LyingStore, kind: str, data: bytes
) -> None:
    client.upload(data, "there/right")
    right = client.head("there/right")
    assert right is not None
    lying.tell(kind, KEY, times=1)
    client.upload(data)
    found, head = there(s3_store), client.head()
    assert found is not None
    assert head is not None
    assert found != data
    assert head == (len(found), right[1]) == client.listed()[KEY]
    assert client.get() == found
    assert (len(found) < len(data)) == (kind == "echo_short")
    lying.behave()
    behaved = client.head()
    assert behaved is not None
    assert behaved[1] != right[1] == client.listed()["there/right"][1]
    assert behaved == client.listed()[KEY]


def test_an_echo_repeats_the_checksum_that_it_was_sent(client: Client, lying: LyingStore) -> None:
    lying.tell("echo", KEY)
    told = client.s3.put_object(
        Bucket=client.bucket, Key=KEY, Body=SMALL, ChecksumAlgorithm="CRC32"
    )
    found = client.s3.head_object(Bucket=client.bucket, Key=KEY, ChecksumMode="ENABLED")
    assert told["ChecksumCRC32"] == found["ChecksumCRC32"]
    got = client.s3.get_object(Bucket=client.bucket, Key=KEY, ChecksumMode="ENABLED")
    with pytest.raises(FlexibleChecksumError):  # only who reads it back sees it
        got["Body"].read()


@one
def test_what_is_written_again_is_no_echo_any_more(
    s3_store: Store, client: Client, lying: LyingStore
) -> None:
    lying.tell("echo", KEY, times=1)
    client.upload(SMALL)
    client.upload(SMALL[1:])
    head = client.head()
    assert there(s3_store) == SMALL[1:]
    client.upload(SMALL[1:], "there/right")
    assert head == client.head("there/right")


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["put", "parts"])
def test_a_200_may_be_an_error(
    s3_store: Store, client: Client, lying: LyingStore, data: bytes
) -> None:
    lie = lying.tell("ok_error", KEY)
    if data is LARGE:
        lie.operations = {"complete"}
    with pytest.raises(ClientError, match="InternalError"):
        client.upload(data)
    assert lie.told == 1
    assert there(s3_store) is None
    raw = requests.put(client.url + KEY, data=SMALL, timeout=5) if data is SMALL else None
    assert raw is None or (raw.status_code == 200 and b"<Error>" in raw.content)


@one
def test_stale_answers_are_of_what_was_there_before(
    s3_store: Store, client: Client, lying: LyingStore
) -> None:
    lie = lying.tell("stale", KEY, times=3)
    client.upload(SMALL)
    assert client.head() is None
    assert client.listed() == {}
    with pytest.raises(client.s3.exceptions.NoSuchKey):
        client.get()
    first = client.head()
    assert first is not None
    assert first[0] == len(SMALL)
    client.upload(LARGE)
    assert client.get() == SMALL
    assert client.head() == first
    assert client.listed() == {KEY: first}
    assert client.get() == LARGE == there(s3_store)
    assert lie.told == 6
    client.upload(SMALL, "there/another")
    assert client.head("there/another") is not None


@one
@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("fail", 503, "SlowDown"),
        ("deny", 403, "AccessDenied"),
        ("full", 507, "XMinioStorageFull"),
        ("quota", 403, "QuotaExceeded"),
    ],
)
def test_refusals(
    s3_store: Store, client: Client, lying: LyingStore, kind: str, status: int, code: str
) -> None:
    lie = lying.tell(kind, "there/*", after=1)
    client.upload(SMALL)
    for data in (SMALL, LARGE):
        with pytest.raises(ClientError) as caught:
            client.upload(data, "there/another")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert caught.value.response["Error"]["Code"] == code
    assert lie.told == 2
    assert list(s3_store.objects()) == [KEY]
    lie.status, lie.code = 500, "InternalError"
    with pytest.raises(ClientError, match="InternalError"):
        client.upload(SMALL)
    client.upload(SMALL, "elsewhere")


@one
@pytest.mark.parametrize("kind", ["cut_body", "cut_before", "cut_after"])
@pytest.mark.parametrize("operation", ["put", "part", "complete"])
def test_cuts(
    s3_store: Store, client: Client, lying: LyingStore, kind: str, operation: str
) -> None:
    if operation not in KINDS[kind]:
        return
    lying.tell(kind, KEY, times=1, operations=[operation])
    data = SMALL if operation == "put" else LARGE
    with pytest.raises(ConnectionClosedError):
        client.upload(data)
    assert lying.told == {kind: 1}
    done = kind == "cut_after" and operation != "part"
    assert there(s3_store) == (data if done else None), "a lost answer, or nothing was done"


@one
def test_a_get_that_is_cut(client: Client, lying: LyingStore) -> None:
    client.upload(SMALL)
    lying.tell("cut_body", times=1, operations=["get"])
    body = client.s3.get_object(Bucket=client.bucket, Key=KEY)["Body"]
    with pytest.raises(Exception, match=r"IncompleteRead|bytes read"):
        body.read()
    assert client.get() == SMALL


@one
def test_slow_answers_drip(s3_store: Store, client: Client, lying: LyingStore) -> None:
    lying.tell("slow", times=2, seconds=0.2)
    client.upload(SMALL)
    assert client.get() == SMALL == there(s3_store)
    assert lying.told == {"slow": 2}
    lying.behave()
    lying.tell("slow", seconds=60, operations=["put"])
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.put(client.url + "there/late", data=SMALL, timeout=0.3)
    assert there(s3_store, "there/late") == SMALL, "it is done at once"


@one
def test_who_is_lied_to_and_how_often(client: Client, lying: LyingStore) -> None:
    first = lying.tell("fail", "*.csv", times=2, after=1, operations=["put"])
    second = lying.tell("deny", "*/a.*", times=1)
    for told in ("AccessDenied", "SlowDown", "SlowDown"):
        with pytest.raises(ClientError, match=told):
            client.upload(SMALL, "there/a.csv")
    client.upload(SMALL, "there/a.csv")
    assert (first.told, second.told) == (2, 1)
    assert lying.told == {"fail": 2, "deny": 1}
    lying.behave()
    assert not lying.told
    with pytest.raises(AssertionError, match="is no lie about"):
        lying.tell("lose_part", operations=["put"])


def test_every_lie_is_about_something_known() -> None:
    assert frozenset().union(*KINDS.values()) == EVERY
