"""Where the store is: what is accepted, and what is refused in one sentence without a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.kaggle.names import UnsafeName
from kagglecrawl.s3.destination import Destination

SECRET = "sEcReT/of+mine"
SEEDS = {
    "ACCESS_KEY": "AKIASEED",
    "SECRET_KEY": SECRET,
    "ENDPOINT_URL": "http://oss.example.com",
    "BUCKET_NAME": "harvest",
    "OSS_PREFIX": "kaggle/datasets",
}


def of(uri: str, **more: Any) -> Destination:
    return Destination.of_uri(uri, environ={}, **more)


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/a/b/", "bucket", "a/b"),
        ("s3://my.bucket-1/ä ö", "my.bucket-1", "ä ö"),
    ],
)
def test_uri(uri: str, bucket: str, prefix: str) -> None:
    found = of(uri)
    assert (found.bucket, found.prefix) == (bucket, prefix)
    assert found.uri == f"s3://{bucket}/{prefix}".rstrip("/")
    key = found.key("dataset/a_b", "x.csv")
    assert key == (f"{prefix}/" if prefix else "") + "dataset/a_b/x.csv"
    assert found.key_of(found.uri_of(key)) == key


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("", "write s3://bucket"),
        ("https://bucket", "write s3://bucket"),
        ("s3://", "no name of a bucket"),
        ("s3://b", "no name of a bucket"),
        ("s3://bücket", "no name of a bucket"),
        (f"s3://AKIA:{SECRET}@bucket/x", "in the environment"),
        ("s3://bucket/a//b", "the prefix cannot be used"),
        ("s3://bucket/../b", "the prefix cannot be used"),
        ("s3://bucket/a?b", "the prefix cannot be used"),
    ],
)
def test_uri_refused(uri: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        of(uri)
    assert SECRET not in str(caught.value)


def test_keys_are_paths_of_a_thousand_bytes() -> None:
    there = of("s3://bucket/prefix")
    for part in ("", "a//b", "../x", "a/..", "a:b"):
        with pytest.raises(UnsafeName):
            there.key("dataset", part)
    longest = "/".join(["k" * 200] * 5)
    assert len(there.key(longest, "x" * 12)) == 1024
    with pytest.raises(UnsafeName, match="1025 bytes"):
        there.key(longest, "x" * 13)
    with pytest.raises(ValueError, match="not in the bucket"):
        there.key_of("s3://bucket2/x")


@pytest.mark.parametrize(
    ("given", "endpoint", "made_https"),
    [
        ("https://s3.example.com", "https://s3.example.com", False),
        ("https://s3.example.com:9000/", "https://s3.example.com:9000", False),
        ("http://s3.example.com", "https://s3.example.com", True),
        ("s3.example.com", "https://s3.example.com", False),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000", False),
        ("http://localhost", "http://localhost", False),
    ],
)
def test_endpoint(given: str, endpoint: str, made_https: bool) -> None:
    found = of("s3://bucket", endpoint=given)
    assert (found.endpoint, found.made_https) == (endpoint, made_https)


@pytest.mark.parametrize(
    "given",
    [
        "http://s3.example.com:9000",
        "ftp://s3.example.com",
        f"https://me:{SECRET}@s3.example.com",
        f"https://s3.example.com/?token={SECRET}",
        "https://",
        "https://s3.example.com:port",
        "https://s3 example.com",
    ],
)
def test_endpoint_refused(given: str) -> None:
    with pytest.raises(ValueError, match="endpoint") as caught:
        of("s3://bucket", endpoint=given)
    assert SECRET not in str(caught.value)


def test_the_environment_names_the_endpoint() -> None:
    def found(**environ: str) -> str | None:
        return Destination.of_uri("s3://bucket", environ=environ).endpoint

    assert found() is None
    assert found(AWS_ENDPOINT_URL="https://a.example") == "https://a.example"
    both = {"AWS_ENDPOINT_URL": "https://a.example", "AWS_ENDPOINT_URL_S3": "https://b.example"}
    assert found(**both) == "https://b.example"
    assert found(**both, AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true") is None


def test_identity_is_that_of_the_place() -> None:
    def identity(uri: str, endpoint: str) -> str:
        return of(uri, endpoint=endpoint, access_key="A", secret_key=SECRET).identity

    same = identity("s3://bucket/a", "https://s3.example.com")
    assert same == identity("s3://bucket/a/", "https://s3.example.com:443/")
    assert same == identity("s3://bucket/a", "http://s3.example.com")
    assert same != identity("s3://bucket/a", "https://s3.example.com:444")
    assert same != identity("s3://bucket/b", "https://s3.example.com")
    assert SECRET not in same


def test_half_of_the_credentials_is_refused() -> None:
    for given in ({"access_key": "AKIA"}, {"secret_key": SECRET}):
        with pytest.raises(ValueError, match="set both") as caught:
            of("s3://bucket", **given)
        assert SECRET not in str(caught.value)


def test_cloud_config(tmp_path: Path) -> None:
    path = tmp_path / "cloud.json"
    path.write_text(json.dumps(SEEDS), encoding="utf-8")
    found = Destination.of_cloud_config(path)
    assert found.uri == "s3://harvest/kaggle/datasets"
    assert found.endpoint == "https://oss.example.com"
    assert found.made_https
    assert found.seeds_layout
    assert (found.access_key, found.secret_key) == ("AKIASEED", SECRET)
    assert SECRET not in repr(found)
    assert "AKIASEED" not in repr(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"BUCKET_NAME": None}, "has no BUCKET_NAME"),
        ({"SECRET_KEY": ""}, "has no SECRET_KEY"),
        ({"ACCESS_KEY": 5}, "has no ACCESS_KEY"),
        ({"ENDPOINT_URL": "http://oss.example.com:9000"}, "not encrypted"),
        ({"BUCKET_NAME": "no bucket"}, "no name of a bucket"),
        ({"OSS_PREFIX": 5}, "OSS_PREFIX"),
        ({"OSS_PREFIX": "a/../b"}, "prefix cannot be used"),
    ],
)
def test_cloud_config_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "cloud.json"
    path.write_text(json.dumps({**SEEDS, **change}), encoding="utf-8")
    with pytest.raises(ValueError, match=said) as caught:
        Destination.of_cloud_config(path)
    assert "cloud.json" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_cloud_config_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cloud.json"
    with pytest.raises(ValueError, match="there is no file"):
        Destination.of_cloud_config(path)
    with pytest.raises(ValueError, match="cannot be read"):
        Destination.of_cloud_config(tmp_path)
    path.write_text(f'{{"SECRET_KEY": "{SECRET}"', encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON") as caught:
        Destination.of_cloud_config(path)
    assert SECRET not in str(caught.value)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="not a JSON object"):
        Destination.of_cloud_config(path)
