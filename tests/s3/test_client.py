"""boto3's client against a server that answers as no real store here does, and what errors mean."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions as of_boto

from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.s3.abilities import Abilities, probe
from kagglecrawl.s3.bucket import Bucket
from kagglecrawl.s3.client import connect, translated
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import (
    RequestRefused,
    StoreAway,
    StoreFailed,
    StoreRefused,
    Unproved,
)
from tests.s3.memory import refusal

SECRET = "sEcReT/of+mine"
ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>m</Message></Error>"
ETAGS = Abilities("md5", "parts", True, multipart=True)


@dataclass
class Site:
    """A server that gives each of its answers (status, body, bytes that its Content-Length is too
    large by) once, and the last one for ever; it notes the requests."""

    place: Destination = field(default_factory=lambda: Destination("bucket"))
    client: Any = None
    answers: list[tuple[int, bytes, int]] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def gives(self, status: int, body: bytes, more: int = 0) -> Bucket:
        """From now on this; the bucket there."""
        self.answers[:] = [(status, body, more)]
        self.seen.clear()
        return Bucket(self.client, self.place, ETAGS, pause=lambda seconds: None)

    def probed(self, **change: Any) -> Abilities:
        """What a look at it finds."""
        place = replace(self.place, **change)
        return probe(self.client, place, pause=lambda seconds: None)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    found = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.seen.append((self.command, self.path, dict(self.headers), body))
            left = found.answers
            status, content, more = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) + more))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            self.close_connection = True

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        endpoint = f"http://127.0.0.1:{httpd.server_port}"
        found.place = Destination("bucket", "", endpoint, "r-1", "AKIAME", SECRET, "token")
        found.client = connect(found.place, uploads=2)
        yield found
        found.client.close()
        httpd.shutdown()
        thread.join()


def test_bytes_go_as_they_are_with_no_checksum_that_could_be_echoed(site: Site) -> None:
    bucket = site.gives(200, b"")
    for data in (b"bytes", bytearray(b"bytes"), memoryview(b"a bytes")[2:]):
        with pytest.raises(Unproved):  # there is no ETag: each is sent three times
            bucket.put("a b+%/ü", data)
    method, path, headers, _ = site.seen[0]
    assert (method, path) == ("PUT", "/bucket/a%20b%2B%25/%C3%BC")
    assert [one[3] for one in site.seen] == [b"bytes"] * 9
    names = {name.lower() for name in headers}
    assert not names & {"content-md5", "expect", "content-encoding", "x-amz-trailer"}
    assert not [name for name in names if name.startswith("x-amz-checksum")]
    assert headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
    assert "kagglecrawl/" in headers["User-Agent"]
    assert "/r-1/s3/" in headers["Authorization"]


@pytest.mark.parametrize(
    "body", [ERROR % b"InternalError", ERROR % b"SlowDown", ERROR % b"Other", b"<Half"]
)
def test_a_200_that_holds_an_error_is_one(site: Site, body: bytes) -> None:
    bucket = site.gives(200, body)
    with pytest.raises(StoreFailed):
        bucket.put("x", b"1")
    puts = [one for one in site.seen if one[0] == "PUT"]
    assert len(puts) == 5, "boto3 must not try again by itself"
    with pytest.raises(StoreFailed):
        bucket.complete("x", "id", [], md5=None, sha256=None)
    assert len([one for one in site.seen if one[0] == "POST"]) == 5


def test_a_read_that_is_cut_short(site: Site) -> None:
    bucket = site.gives(200, b"12345", 5)
    with pytest.raises(StoreFailed) as caught:
        list(bucket.read("x"))
    assert caught.value.cause == "cut"


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html/>"), (404, b"<html/>"), (405, b""), (200, b"")]
)
def test_no_s3(site: Site, status: int, body: bytes) -> None:
    site.gives(status, body)
    with pytest.raises(StoreRefused, match=r"check the endpoint|is it an S3 store") as caught:
        site.probed()
    assert str(caught.value).startswith("S3_URI (s3://bucket at http://127.0.0.1:")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, b"NoSuchBucket", "create it"),
        (403, b"AccessDenied", "what the credentials may do"),
        (403, b"InvalidAccessKeyId", "check the credentials"),
        (403, b"SignatureDoesNotMatch", "check the credentials"),
        (400, b"ExpiredToken", "get new credentials"),
        (403, b"RequestTimeTooSkewed", "set the clock"),
        (400, b"IllegalLocationConstraintException", "set AWS_REGION"),
        (403, b"SecondLevelDomainForbidden", "addressing_style"),
        (507, b"InsufficientStorage", "no more room"),
        (501, b"NotImplemented", "is it an S3 store"),
        (401, b"Unauthorized", "other credentials"),
    ],
)
def test_refusals_say_what_to_do(site: Site, status: int, code: bytes, said: str) -> None:
    body = ERROR.replace(b">m<", f">{SECRET} https://me:pw@h/?X-Amz-Signature=abc<".encode())
    site.gives(status, body % code)
    with pytest.raises(StoreRefused, match=said) as caught:
        site.probed(seeds_layout=True)
    text = str(caught.value)
    assert "CLOUD_CONFIG (s3://bucket at http://127.0.0.1:" in text
    assert code.decode() in text
    for secret in (SECRET, "AKIAME", "abc", "pw"):
        assert secret not in text
    assert caught.value.__cause__ is None
    assert caught.value.reason == "s3_refused"


def test_nobody_there() -> None:
    there = Destination("bucket", "", "http://127.0.0.1:1", "r", "AKIAME", SECRET)
    with pytest.raises(StoreAway, match=r"S3_URI .* nobody answers"):
        probe(connect(there, uploads=1), there, pause=lambda seconds: None)


def test_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    there = Destination("bucket", "", "http://127.0.0.1:1")
    with pytest.raises(StoreRefused, match="set AWS_ACCESS_KEY_ID"):
        probe(connect(there, uploads=1), there)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreRefused, match="check AWS_PROFILE"):
        connect(there, uploads=1)


def test_a_profile_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile mine]\nregion = eu-1\nendpoint_url = http://s3.example.com\n"
        "aws_access_key_id = AKIAMINE\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StoreRefused, match="not encrypted"):
        connect(Destination("bucket"), uploads=1)
    config.write_text(config.read_text().replace("http:", "https:"))
    client = connect(Destination("bucket"), uploads=1)
    assert client.meta.endpoint_url == "https://s3.example.com"
    assert client.meta.region_name == "eu-1"
    monkeypatch.setenv("AWS_REGION", "us-2")
    assert connect(Destination("bucket"), uploads=1).meta.region_name == "us-2"


def test_an_endpoint_made_https_is_told(caplog: pytest.LogCaptureFixture) -> None:
    there = Destination.of_uri(
        "s3://bucket", endpoint="http://oss.example.com", access_key="AKIAME", secret_key=SECRET
    )
    with caplog.at_level("INFO", "kagglecrawl.s3.client"):
        client = connect(there, uploads=1)
    assert client.meta.endpoint_url == "https://oss.example.com"
    assert "used by https, not http: https://oss.example.com" in caplog.text
    assert SECRET not in caplog.text


def test_boto3_is_not_imported_before_a_store_is_used() -> None:
    modules = "bucket, kagglecrawl.s3.opened, kagglecrawl.s3.crew"
    code = f"import sys, kagglecrawl.s3.{modules}; sys.exit('botocore' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_aws_itself_has_the_bucket_in_the_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    there = Destination("bucket", "", None, "eu-west-1", "AKIAME", SECRET)
    url = connect(there, uploads=1).generate_presigned_url(
        "get_object", Params={"Bucket": "bucket", "Key": "x"}
    )
    assert url.startswith("https://bucket.s3.")


URL = f"https://me:{SECRET}@host/x?X-Amz-Signature={SECRET}"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (of_boto.EndpointConnectionError(endpoint_url=URL), StoreAway),
        (of_boto.ConnectTimeoutError(endpoint_url=URL), StoreAway),
        (of_boto.ProxyConnectionError(proxy_url=URL), StoreAway),
        (of_boto.ReadTimeoutError(endpoint_url=URL), StoreFailed),
        (of_boto.ConnectionClosedError(endpoint_url=URL), StoreFailed),
        (of_boto.HTTPClientError(error=URL), StoreFailed),
        (of_boto.ResponseStreamingError(error=URL), StoreFailed),
        (of_boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreFailed),
        (of_boto.SSLError(endpoint_url=URL, error="certificate"), StoreRefused),
        (of_boto.NoCredentialsError(), StoreRefused),
        (of_boto.PartialCredentialsError(provider="env", cred_var="x"), StoreRefused),
        (of_boto.ParamValidationError(report=URL), RequestRefused),
        (of_boto.InvalidRegionError(region_name="x y"), StoreRefused),
        (refusal("NoSuchKey", 404), Unproved),
        (refusal("BadDigest", 400), Unproved),
        (refusal("InternalError", 500, URL), StoreFailed),
        (refusal("EntityTooLarge", 400, URL), RequestRefused),
        (refusal("429", 429), StoreFailed),
    ],
)
def test_every_error_has_its_kind_and_no_secret(error: Exception, kind: type[KaggleError]) -> None:
    found = translated(error, "putting 'x'")
    assert type(found) is kind
    assert str(found).startswith("putting 'x': ")
    assert SECRET not in str(found)
    assert "\n" not in str(found)


def test_other_errors_are_not_taken_for_the_stores() -> None:
    with pytest.raises(ZeroDivisionError):
        translated(ZeroDivisionError(), "putting")
