"""Batches of tables that kagglehub fetches from a replica: what is asked for, and what is kept."""

from __future__ import annotations

import asyncio
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import published
from kagglecrawl.state.closing import interrupted
from kagglecrawl.state.leases import Interrupted
from kagglecrawl.transport.child import Child
from kagglecrawl.transport.hub import REF
from tests.official_transport.conftest import eventually, workers
from tests.transport_tables.bench import (
    CONTENT,
    LARGE,
    SMALL,
    Bench,
    expected,
    hub,
    world,
)


def test_the_newest_version_is_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(bench: Bench) -> None:
        assert await bench.all() == expected()
        response = await bench.get()
        assert (response.version, response.changed) == ("1819", False)
        assert bench.sent() == {"GetDataset": 1, "DownloadDataset": 1}
        # another table is of the same version, without a question
        tags = await bench.get("Tags")
        assert (tags.version, [row.cells["Id"] for row in tags.batch.rows]) == ("1819", ["1"])
        assert bench.sent() == {"GetDataset": 1, "DownloadDataset": 2}

    async def cached(bench: Bench) -> None:
        assert await bench.all() == expected()
        assert bench.sent() == {"GetDataset": 1}

    async def pinned(bench: Bench) -> None:
        monkeypatch.delattr(Child, "start")  # not even a process
        assert await bench.all(version="1819") == expected()
        assert bench.sent() == {}

    with Replica(world()) as replica:
        for use in (fetch, cached, pinned):
            hub(use, replica, tmp_path)
        assert replica.stats()["requests"] == {
            "GetDataset": {"200": 2},
            "DownloadDataset": {"302": 2},
        }
    # nothing of a replica's gets among what is Kaggle's
    assert [each.name for each in tmp_path.iterdir()] == ["work"]


def test_a_version_that_is_gone_gives_way_to_the_newest(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        response = await bench.get(version="9999", stamp="1-1", offset=10)
        assert (response.version, response.changed) == ("1819", True)
        assert response.batch.rows[0].cells == expected()[0]
        await bench.get(version="9999", stamp="1-1", offset=10)
        assert bench.sent() == {"GetDataset": 1, "DownloadDataset": 2}

    with Replica(world()) as replica:
        hub(use, replica, tmp_path)


def test_what_is_kaggles_is_where_kagglehub_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cache(api_url: str) -> Path:
        bench = Bench(tmp_path / "work", KAGGLE_API_URL=api_url)
        return bench.handler._hub.cache.relative_to(tmp_path)

    assert cache("https://api.kaggle.com") == Path(".cache/kagglehub")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "elsewhere"))
    assert cache("https://api.kaggle.com") == Path("elsewhere")
    assert cache("http://127.0.0.1:9/api") == Path("work/kagglehub-loopback")


def test_one_that_storage_has_zipped(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        response = await bench.get("Tags", columns=["Id", "Name"])
        assert [row.cells for row in response.batch.rows] == [{"Id": "1", "Name": "a"}]
        assert response.table.path.read_bytes() == SMALL
        assert [each.name for each in response.table.path.parent.iterdir()] == ["Tags.csv"]

    with Replica(world(), behaviour=Behaviour(zipped_files=True)) as replica:
        hub(use, replica, tmp_path)


def test_a_zip_under_the_name_of_the_table(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Competitions.csv", CONTENT)
    zipped = published(REF, files={"Competitions.csv": packed.getvalue()}, version=2)

    async def use(bench: Bench) -> None:
        assert await bench.all() == expected()
        assert await bench.all(version="2") == expected()
        assert bench.sent() == {"GetDataset": 1, "DownloadDataset": 1}

    with Replica(world(zipped)) as replica:
        hub(use, replica, tmp_path)


@pytest.mark.parametrize("hashes", ["md5_only", "crc32c_only"])
def test_a_download_that_was_given_up_is_gone_on_with(tmp_path: Path, hashes: Any) -> None:
    large = published(REF, files={"Competitions.csv": LARGE}, version=3)
    slow = Rule(Fault("drip", seconds=600), method="storage", arrivals=(1,))
    kind = Rule(Fault(hashes), method="storage", arrivals=(2, 3, 4))
    partial = tmp_path / "work/kagglehub-loopback/datasets" / REF / "versions/3/Competitions.csv"

    async def given_up(bench: Bench) -> None:
        task = asyncio.create_task(bench.get())
        await eventually(lambda: bool(replica.stats()["storage"]))
        bench.signals.send_catch_log(interrupted)
        with pytest.raises(Interrupted):
            await task
        assert workers() == []
        with pytest.raises(Interrupted):
            await bench.get()
        # what a download that got further would have left
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(LARGE[: 5 << 20])

    async def again(bench: Bench) -> None:
        response = await bench.get()
        assert response.table.path == partial
        assert partial.read_bytes() == LARGE
        received = bench.stats.get_value("kaggle/meta_kaggle/received")
        assert received == len(LARGE) - (5 << 20)

    with Replica(world(large), faults=Faults.script([slow, kind])) as replica:
        hub(given_up, replica, tmp_path)
        hub(again, replica, tmp_path)
        assert replica.stats()["storage"].get("GET 206") == 1


def test_what_was_there_is_proved_with_the_rest(tmp_path: Path) -> None:
    """Where there is no MD5, kagglehub would take anything of the right size."""
    kept = tmp_path / "work/kagglehub-loopback/datasets" / REF / "versions/1819"
    kept.mkdir(parents=True)
    (kept / "Competitions.csv").write_bytes(b"?" * len(CONTENT))
    # half unpacked by one that was killed
    (kept / "Tags.csv").write_bytes(b"?")
    (kept / "Tags.csv.zip").write_bytes(b"PK")

    async def use(bench: Bench) -> None:
        assert await bench.all() == expected()
        assert bench.stats.get_value("kaggle/retries/damaged") == 1
        tags = await bench.get("Tags")
        assert tags.table.path.read_bytes() == SMALL

    rule = Rule(Fault("crc32c_only"), method="storage", arrivals=(1, 2, 3, 4))
    with Replica(world(), faults=Faults.script([rule])) as replica:
        hub(use, replica, tmp_path, KAGGLE_MAX_ATTEMPTS=2)


def test_two_crawls_at_once_fetch_it_once(tmp_path: Path) -> None:
    large = published(REF, files={"Competitions.csv": LARGE}, version=3)

    async def use(bench: Bench) -> None:
        other = Bench(tmp_path / "work", KAGGLE_API_URL=replica.api_url)
        found = await asyncio.gather(bench.get(), other.get())
        assert {each.version for each in found} == {"3"}
        assert found[0].table.path.read_bytes() == LARGE

    slow = Rule(Fault("drip", seconds=0.5), method="storage", arrivals=(1,))
    with Replica(world(large), faults=Faults.script([slow])) as replica:
        hub(use, replica, tmp_path)
        assert replica.stats()["requests"] == {
            "GetDataset": {"200": 2},
            "DownloadDataset": {"302": 1},
        }
