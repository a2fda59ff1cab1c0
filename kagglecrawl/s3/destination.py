"""Where the store is: bucket, prefix, endpoint and credentials, and the keys below it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from kagglecrawl.kaggle.auth import is_loopback
from kagglecrawl.kaggle.names import UnsafeName, check_path

_MAX_KEY_BYTES = 1024
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_SCHEME = "s3://"
#: The fields of the seeds' cloud.json.
_FIELDS = ("ACCESS_KEY", "SECRET_KEY", "ENDPOINT_URL", "BUCKET_NAME")


@dataclass(frozen=True)
class Destination:
    """A bucket, and a prefix in it. What is None is found by boto3: in the environment, profiles.

    Its repr holds no secret.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    seeds_layout: bool = False
    """It comes from the seeds' cloud.json, and its keys are theirs."""
    made_https: bool = False
    """The endpoint was given as http, without a port, and is used by https."""

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``, without endpoint and secrets."""
        return f"{_SCHEME}{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def identity(self) -> str:
        """The same text for the same place: the URI, and where the endpoint is."""
        if self.endpoint is None:
            return self.uri
        parts = urlsplit(self.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"{self.uri} at {parts.hostname}:{port}{parts.path}"

    @property
    def setting(self) -> str:
        """The setting that it comes from."""
        return "CLOUD_CONFIG" if self.seeds_layout else "S3_URI"

    def uri_of(self, key: str) -> str:
        """The URI of an object, or of all keys below one."""
        return f"{_SCHEME}{self.bucket}/{key}"

    def key_of(self, uri: str) -> str:
        """The key in a URI; ``ValueError`` if it is in another bucket."""
        head = f"{_SCHEME}{self.bucket}/"
        if not uri.startswith(head):
            raise ValueError(f"{uri!a} is not in the bucket {self.bucket}")
        return uri[len(head) :]

    def key(self, *parts: str) -> str:
        """A key below the prefix: each part is a path that ``check_path`` has nothing against.

        Raises ``UnsafeName``, also if the key has more than 1024 bytes.
        """
        for part in parts:
            check_path(part)
        key = "/".join((self.prefix, *parts) if self.prefix else parts)
        size = len(key.encode())
        if size > _MAX_KEY_BYTES:
            raise UnsafeName(
                f"The key {key[:80]!a}... is refused: it is {size} bytes long, "
                f"and {_MAX_KEY_BYTES} are allowed."
            )
        return key

    @classmethod
    def of_uri(
        cls,
        uri: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read ``s3://bucket[/prefix]``. What is empty counts as not given; the endpoint is then
        that of the environment.

        Raises ``ValueError`` with one sentence that holds nothing secret.
        """
        if not uri.startswith(_SCHEME):
            raise ValueError("it is no URI of S3: write s3://bucket or s3://bucket/prefix")
        bucket, _, prefix = uri.removeprefix(_SCHEME).partition("/")
        if "@" in bucket or ":" in bucket:
            raise ValueError(
                "it holds more than a bucket before its prefix: give credentials and endpoint in "
                "the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL)"
            )
        if bool(access_key) != bool(secret_key):
            given = "AWS_ACCESS_KEY_ID" if access_key else "AWS_SECRET_ACCESS_KEY"
            missing = "AWS_SECRET_ACCESS_KEY" if access_key else "AWS_ACCESS_KEY_ID"
            raise ValueError(f"the setting {given} is there but {missing} is not: set both")
        endpoint = endpoint or _endpoint_of(os.environ if environ is None else environ)
        address, made_https = _checked_endpoint(endpoint) if endpoint else (None, False)
        return cls(
            bucket=_checked_bucket(bucket),
            prefix=_checked_prefix(prefix),
            endpoint=address,
            region=region or None,
            access_key=access_key or None,
            secret_key=secret_key or None,
            session_token=session_token or None,
            made_https=made_https,
        )

    @classmethod
    def of_cloud_config(cls, path: Path) -> Self:
        """Read the seeds' ``cloud.json``.

        Raises ``ValueError`` with one sentence that names the file and the field, never a value.
        """
        data = _read(path)
        for name in _FIELDS:
            if not isinstance(data.get(name), str) or not data[name].strip():
                raise ValueError(f"{path} has no {name}: it needs {', '.join(_FIELDS)}")
        prefix = data.get("OSS_PREFIX") or ""
        if not isinstance(prefix, str):
            raise ValueError(f"OSS_PREFIX in {path} is no text")
        region = data.get("REGION")
        try:
            address, made_https = _checked_endpoint(data["ENDPOINT_URL"])
            return cls(
                bucket=_checked_name(data["BUCKET_NAME"].strip()),
                prefix=_checked_prefix(prefix.strip()),
                endpoint=address,
                region=region if isinstance(region, str) and region else None,
                access_key=data["ACCESS_KEY"].strip(),
                secret_key=data["SECRET_KEY"].strip(),
                seeds_layout=True,
                made_https=made_https,
            )
        except ValueError as error:
            raise ValueError(f"in {path}, {error}") from None


def check_endpoint(endpoint: str) -> None:
    """Raise ``ValueError`` with one sentence if what is sent there could be read on its way."""
    parts = urlsplit(endpoint)
    if parts.scheme != "https" and not is_loopback(endpoint):
        raise ValueError(
            f"the endpoint http://{parts.netloc.rpartition('@')[2]} is not encrypted: use https, "
            "or a tunnel from this machine (ssh -L)"
        )


def _endpoint_of(environ: Mapping[str, str]) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None


def _checked_endpoint(given: str) -> tuple[str, bool]:
    """The endpoint without a slash at its end, and was it made https?"""
    endpoint = given.strip()
    if "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    endpoint = endpoint.rstrip("/")
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in {"http", "https"} or re.search(r"\s", endpoint):
        raise ValueError("the endpoint is no address: write it as https://host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("the endpoint holds more than an address: write it as https://host")
    made_https = parts.scheme == "http" and port is None and not is_loopback(endpoint)
    if made_https:
        endpoint = f"https{endpoint[len('http') :]}"
    check_endpoint(endpoint)
    return endpoint, made_https


def _checked_bucket(bucket: str) -> str:
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"{bucket[:80]!a} is no name of a bucket: write s3://bucket/prefix")
    return bucket


def _checked_name(bucket: str) -> str:
    if not _BUCKET.fullmatch(bucket):  # not shown: it may be another field's value
        raise ValueError("BUCKET_NAME is no name of a bucket")
    return bucket


def _checked_prefix(given: str) -> str:
    prefix = given.strip("/")
    try:
        if prefix:
            check_path(prefix)
    except UnsafeName as error:
        raise ValueError(f"the prefix cannot be used: {error}") from None
    return prefix


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{path} is not JSON") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a JSON object")
    return data
