"""A plain HTTP client for the replica's tests: it follows, repeats and hides nothing."""

import base64
import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from kagglecrawl.replica.server import Replica

DATASETS = "datasets.DatasetApiService"


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body, dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def bearer(replica: Replica) -> dict[str, str]:
    return {"Authorization": f"Bearer {replica.token}"}


def basic(name: str, key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{key}".encode()).decode()}


def call(
    replica: Replica,
    method: str,
    body: object = None,
    *,
    service: str = DATASETS,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Call a method of the API, with the right token unless headers are given."""
    raw = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    headers = bearer(replica) if headers is None else headers
    return fetch(f"{replica.api_url}/v1/{service}/{method}", "POST", raw, headers)


def refs(answer: Answer) -> list[str]:
    """The references of a list's rows."""
    return [row["ref"] for row in answer.json.get("datasets", [])]


def signed(replica: Replica, ref: str) -> str:
    """A signed URL of a dataset's archive."""
    answer = call(replica, "DownloadDataset", named(ref))
    assert answer.status == 302, answer.body
    return answer.headers["Location"]


def named(ref: str) -> dict[str, str]:
    """The fields of a request that name a dataset."""
    owner, slug = ref.split("/")
    return {"ownerSlug": owner, "datasetSlug": slug}
