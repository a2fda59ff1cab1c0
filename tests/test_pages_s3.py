"""Page files as objects of a store."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, cast

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from kagglecrawl.s3 import pages
from kagglecrawl.s3.bucket import Bucket, Entry, Part, UploadGone
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.errors import StoreFailed
from kagglecrawl.s3.opened import open_bucket
from kagglecrawl.s3.pages import Ended, PageObjects
from tests.conftest import Run, page_row, record
from tests.stores import Store

FOLDER = "harvest/datasets/meta_data"


class FakeBucket:
    """What PageObjects asks of one."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.proved: set[str] = set()
        self.open: dict[str, list[bytes]] = {}
        self.sums: tuple[bytes, bytes] = (b"", b"")
        self.fails: dict[str, Exception] = {}
        self.aborted: list[tuple[str, str]] = []
        self.pause: Callable[[float], None] = lambda _: None

    def pausing(self, pause: Callable[[float], None]) -> Self:
        self.pause = pause
        return self

    def prove(self, key: str, receipt: object, sha256: bytes) -> None:
        assert sha256 == hashlib.sha256(self.kept[key]).digest()
        self.proved.add(key)

    def put(self, key: str, data: bytes, content_type: str = "") -> None:
        self.kept[key], self.types[key] = data, content_type

    def begin(self, key: str) -> str:
        self.open[key] = []
        return f"upload of {key}"

    def put_part(self, key: str, upload: str, number: int, data: bytes) -> Part:
        assert upload == f"upload of {key}"
        if number == 3 and "part" in self.fails:
            raise self.fails["part"]
        self.open[key].append(data)
        assert len(self.open[key]) == number
        return Part(number, len(data), "etag")

    def complete(
        self, key: str, upload: str, parts: Sequence[Part], *, md5: bytes, sha256: bytes
    ) -> None:
        if "complete" in self.fails:
            raise self.fails["complete"]
        assert [part.size for part in parts] == [len(data) for data in self.open[key]]
        self.kept[key], self.sums = b"".join(self.open.pop(key)), (md5, sha256)

    def abort(self, key: str, upload: str) -> None:
        self.aborted.append((key, upload))

    def list(self, prefix: str) -> Iterator[list[Entry]]:
        for key in sorted(self.kept):
            if key.startswith(prefix):
                yield [Entry(key, len(self.kept[key]), "etag")]

    def uploads(self, prefix: str) -> Iterator[tuple[str, str]]:
        return ((key, f"upload of {key}") for key in self.open if key.startswith(prefix))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> FakeBucket:
    monkeypatch.setattr(pages, "PUT_MOST", 10)
    return FakeBucket()


@pytest.fixture
def there(bucket: FakeBucket) -> PageObjects:
    return PageObjects(lambda: cast(Bucket, bucket), FOLDER)


@pytest.mark.parametrize("content", [b"", b"row\n", b"0123456789"])
def test_a_page_is_one_put(there: PageObjects, bucket: FakeBucket, content: bytes) -> None:
    there.write(7, iter([content[:3], content[3:]]))
    assert bucket.kept == {f"{FOLDER}/page_7.jsonl": content}
    assert bucket.types == {f"{FOLDER}/page_7.jsonl": "application/jsonl"}
    assert bucket.proved == bucket.kept.keys()
    assert not bucket.open


@pytest.mark.parametrize("size", [11, 20, 25, 100])
@pytest.mark.parametrize("piece", [1, 7, 10, 99, 200])
def test_a_large_one_goes_in_parts(
    there: PageObjects, bucket: FakeBucket, size: int, piece: int
) -> None:
    content = bytes(range(size))
    there.write(1, (content[at : at + piece] for at in range(0, size, piece)))
    assert bucket.kept == {f"{FOLDER}/page_1.jsonl": content}
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    assert bucket.sums == (md5, hashlib.sha256(content).digest())
    assert bucket.aborted == []


def test_a_part_that_fails_leaves_no_upload(there: PageObjects, bucket: FakeBucket) -> None:
    key = f"{FOLDER}/page_1.jsonl"
    bucket.fails["part"] = StoreFailed("503")
    with pytest.raises(StoreFailed, match="503"):
        there.write(1, [bytes(40)])
    assert bucket.aborted == [(key, f"upload of {key}")]
    assert not bucket.kept


def test_an_upload_that_is_gone_is_made_anew_later(there: PageObjects, bucket: FakeBucket) -> None:
    bucket.fails["complete"] = UploadGone()
    with pytest.raises(StoreFailed, match=r"lost the upload of .*/page_1\.jsonl"):
        there.write(1, [bytes(40)])


def test_those_of_this_list_are_there(there: PageObjects, bucket: FakeBucket) -> None:
    names = ["page_2.jsonl", "page_10.jsonl", "page_0.jsonl", "page_3.json", "x_page_4.jsonl"]
    names += ["search=coffee/page_5.jsonl", "page_6.jsonl/page_7.jsonl"]
    bucket.kept = {f"{FOLDER}/{name}": b"" for name in names}
    bucket.kept[f"{FOLDER}_2/page_8.jsonl"] = b""
    bucket.open = {f"{FOLDER}/{name}": [] for name in ("page_9.jsonl", "search=x/page_1.jsonl")}
    assert there.present() == {2, 10}
    key = f"{FOLDER}/page_9.jsonl"
    assert bucket.aborted == [(key, f"upload of {key}")]


def test_a_stop_ends_its_waits(there: PageObjects, bucket: FakeBucket) -> None:
    there.write(1, [b"x"])
    bucket.pause(0)
    waits: list[Any] = []

    def wait() -> None:
        with pytest.raises(Ended):
            bucket.pause(1000)
        waits.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    there.close()
    thread.join(10)
    assert waits


# -- a real store ----------------------------------------------------------------------------------


@pytest.fixture(params=["weed_store", "rclone_store"])
def real(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def test_pages_of_a_real_store(real: Store, tmp_path: Path) -> None:
    destination = Destination.of_uri(
        real.uri("harvest"),
        endpoint=real.endpoint,
        region=real.region,
        access_key=real.access_key,
        secret_key=real.secret_key,
    )
    bucket = open_bucket(destination, uploads=4, read_back=False)
    there = PageObjects(lambda: bucket, FOLDER)
    assert there.present() == set()
    large = bytes(range(256)) * (9 << 12)  # 9 MiB
    there.write(1, [b"row\n"])
    there.write(12, iter([large[: 5 << 20], large[5 << 20 :]]))
    there.write(1, [b"newer\n"])
    begun = bucket.begin(f"{FOLDER}/page_3.jsonl")
    narrowed = PageObjects(lambda: bucket, f"{FOLDER}/search=coffee, tea")
    narrowed.write(4, [b"row\n"])
    assert there.present() == {1, 12}
    assert narrowed.present() == {4}
    if bucket.uploads(FOLDER + "/"):
        assert begun not in {upload for _, upload in bucket.uploads(f"{FOLDER}/")}
    bucket.abort(f"{FOLDER}/page_3.jsonl", begun)
    assert real.objects() == {
        f"{FOLDER}/page_1.jsonl": b"newer\n",
        f"{FOLDER}/page_12.jsonl": large,
        f"{FOLDER}/search=coffee, tea/page_4.jsonl": b"row\n",
    }
    bucket.delete(real.objects())


# -- a crawl ---------------------------------------------------------------------------------------


def pages_of(world: World) -> dict[str, list[Any]]:
    """The page files that a right crawler writes, by their names."""
    from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest

    from kagglecrawl.replica.listing import listing

    listed = [each.ref for each in listing(world, ApiListDatasetsRequest())]
    wanted = {each.ref: page_row(record(each)) for each in world.public(0.8)}
    return {
        f"page_{number + 1}.jsonl": [
            wanted[ref] for ref in listed[20 * number : 20 * number + 20] if ref in wanted
        ]
        for number in range(-(-len(listed) // 20))
    }


def pages_in(store: Store) -> dict[str, list[Any]]:
    found = store.objects("harvest/datasets/meta_data/")
    return {
        Path(key).name: [json.loads(line) for line in content.decode().split("\n")[:-1]]
        for key, content in found.items()
    }


def test_a_crawl_puts_its_pages_and_the_next_run_what_is_missing(
    crawl: Run, weed_store: Store, tmp_path: Path
) -> None:
    world = World(seed=3)
    to_store = ("-s", f"S3_URI={weed_store.uri('harvest')}", "-s", f"JOBDIR={tmp_path / 'job'}")
    env = weed_store.environment()
    with Replica(world) as replica:
        done = crawl(replica, *to_store, env=env)
        assert done.code == 0, done.log
        right = pages_of(world)
        assert pages_in(weed_store) == right
        assert done.stat("kaggle/pages_written") == len(right)
        assert not (tmp_path / "workspace" / "output").exists()
        lost = "harvest/datasets/meta_data/page_3.jsonl"
        weed_store.client().delete_object(Bucket=weed_store.bucket, Key=lost)
        again = crawl(replica, *to_store, env=env)
    assert again.code == 0, again.log
    assert (again.stat("kaggle/pages_written"), again.stat("kaggle/requests")) == (1, 0)
    assert pages_in(weed_store) == right
    assert weed_store.secret_key not in done.log + again.log
