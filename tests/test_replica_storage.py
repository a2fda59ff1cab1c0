"""Signed URLs, and the objects behind them."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import google_crc32c
import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World
from tests.replica_client import bearer, call, fetch, named


@pytest.fixture(scope="module")
def shared() -> Iterator[Replica]:
    with Replica(World(seed=1)) as replica:
        yield replica


@pytest.fixture
def replica(shared: Replica) -> Replica:
    shared.reset_stats()
    return shared


@pytest.fixture
def dataset(replica: Replica) -> DatasetTruth:
    return next(d for d in replica.world.public() if len(d.files) >= 4)


def _signed(replica: Replica, dataset: DatasetTruth, name: str | None = None) -> str:
    body = {**named(dataset.ref), **({"fileName": name} if name else {})}
    answer = call(replica, "DownloadDataset", body)
    assert answer.status == 302
    return answer.headers["Location"]


def test_the_archive_holds_every_file_and_its_hashes_are_right(
    replica: Replica, dataset: DatasetTruth
) -> None:
    url = _signed(replica, dataset)
    assert urlsplit(url).hostname == "127.0.0.1"
    answer = fetch(url)
    assert answer.status == 200
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert {i.filename: archive.read(i) for i in archive.infolist()} == {
            file.name: file.content() for file in dataset.files
        }
    crc32c, md5 = answer.headers["x-goog-hash"].split(",")
    checksum = google_crc32c.value(answer.body).to_bytes(4, "big")
    assert crc32c == "crc32c=" + base64.b64encode(checksum).decode()
    digest = hashlib.md5(answer.body, usedforsecurity=False).digest()
    assert md5 == "md5=" + base64.b64encode(digest).decode()
    assert answer.headers["Accept-Ranges"] == "bytes"
    modified = parsedate_to_datetime(answer.headers["Last-Modified"])
    assert modified == dataset.last_updated.replace(microsecond=0)
    assert replica.stats()["storage"] == {"GET 200": 1}
    assert replica.stats()["delivered"]["storage"] == 1


@pytest.mark.parametrize("method", ["DownloadDataset", "DownloadDatasetRaw"])
def test_every_file_comes_by_its_name(replica: Replica, method: str) -> None:
    for dataset in replica.world.public()[:40]:
        for file in dataset.files:
            answer = call(replica, method, {**named(dataset.ref), "fileName": file.name})
            assert fetch(answer.headers["Location"]).body == file.content()


@pytest.mark.parametrize("name", ["no.csv", "../data.csv", "../../etc/passwd", "/etc/passwd", "."])
def test_only_files_of_the_dataset_are_served(
    replica: Replica, dataset: DatasetTruth, name: str
) -> None:
    answer = call(replica, "DownloadDataset", {**named(dataset.ref), "fileName": name})
    assert answer.status == 404
    assert "Location" not in answer.headers


def test_only_versions_there_are_can_be_asked_for(replica: Replica, dataset: DatasetTruth) -> None:
    body: dict[str, object] = {**named(dataset.ref), "datasetVersionNumber": dataset.version}
    assert call(replica, "DownloadDataset", body).status == 302
    body["datasetVersionNumber"] = dataset.version + 1
    assert call(replica, "DownloadDataset", body).status == 404


def test_a_changed_url_is_refused(replica: Replica, dataset: DatasetTruth) -> None:
    url = _signed(replica, dataset, dataset.files[0].name)
    base, _, query = url.partition("?")
    other = _signed(replica, replica.world.public()[1]).partition("?")[0]
    changed = (
        base,
        f"{other}?{query}",
        f"{base}/../x?{query}",
        url.replace("X-Goog-Expires=259200", "X-Goog-Expires=999999"),
        url.replace("X-Goog-Signature=", "X-Goog-Signature=0"),
        f"{url}&more=1",
    )
    for wrong in changed:
        answer = fetch(wrong)
        assert answer.status == 403
        assert b"<Code>SignatureDoesNotMatch</Code>" in answer.body
    assert fetch(url).status == 200


def test_urls_expire() -> None:
    with Replica(World(), url_expires=0) as replica:
        answer = fetch(_signed(replica, replica.world.public()[0]))
        assert answer.status == 403
        assert answer.headers.get_content_type() == "application/xml"
        assert b"<Code>ExpiredToken</Code>" in answer.body
        assert replica.stats()["storage"] == {"GET 403": 1}


def test_credentials_are_not_wanted_there(replica: Replica, dataset: DatasetTruth) -> None:
    assert fetch(_signed(replica, dataset), headers=bearer(replica)).status == 400
    assert replica.stats()["leaked_authorization"] == 1


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=100-", 100, None),
        ("bytes=-5", -5, None),
        ("bytes=50-99999999", 50, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_ranges(
    replica: Replica, dataset: DatasetTruth, asked: str, start: int, end: int | None
) -> None:
    file = dataset.files[0]
    answer = fetch(_signed(replica, dataset, file.name), headers={"Range": asked})
    assert answer.status == 206
    assert answer.body == file.content()[start:end]
    first = range(file.size)[start]
    last = first + len(answer.body) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{file.size}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,4-5", "bytes=5-1", "lines=0-1", "bytes=-", "bytes=x-"]
)
def test_what_is_no_single_range_gets_the_whole(
    replica: Replica, dataset: DatasetTruth, asked: str
) -> None:
    file = dataset.files[0]
    answer = fetch(_signed(replica, dataset, file.name), headers={"Range": asked})
    assert (answer.status, answer.body) == (200, file.content())


def test_a_range_past_the_end(replica: Replica, dataset: DatasetTruth) -> None:
    file = dataset.files[0]
    url = _signed(replica, dataset, file.name)
    for asked in (f"bytes={file.size}-", "bytes=-0"):
        answer = fetch(url, headers={"Range": asked})
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{file.size}"


def test_if_range(replica: Replica, dataset: DatasetTruth) -> None:
    url = _signed(replica, dataset)
    whole = fetch(url)
    for validator in (whole.headers["ETag"], whole.headers["Last-Modified"]):
        answer = fetch(url, headers={"Range": "bytes=5-", "If-Range": validator})
        assert (answer.status, answer.body) == (206, whole.body[5:])
    for validator in ('"other"', "Mon, 01 Jan 1990 00:00:00 GMT"):
        answer = fetch(url, headers={"Range": "bytes=5-", "If-Range": validator})
        assert (answer.status, answer.body) == (200, whole.body)


def test_head_and_other_methods(replica: Replica, dataset: DatasetTruth) -> None:
    url = _signed(replica, dataset)
    whole = fetch(url)
    head = fetch(url, "HEAD")
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "ETag", "x-goog-hash", "Last-Modified", "Content-Type"):
        assert head.headers[name] == whole.headers[name]
    assert fetch(url, "PUT").status == 405


def test_an_empty_file(replica: Replica) -> None:
    dataset = next(d for d in replica.world.public() if d.file("empty.txt"))
    url = _signed(replica, dataset, "empty.txt")
    answer = fetch(url)
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "0", b"")
    assert fetch(url, headers={"Range": "bytes=0-"}).status == 416
