"""Files through kagglehub: what arrives, what an answer in place of files means, and no secrets."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from scrapy.exceptions import DownloadFailedError, ResponseDataLossError

from kagglecrawl.kaggle.errors import (
    BadReply,
    CredentialsRefused,
    Forbidden,
    KaggleError,
    NotFound,
    ServerFailed,
    Throttled,
    Unusable,
)
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World, published
from kagglecrawl.transport import official
from kagglecrawl.transport.child import Child
from tests.official_transport.conftest import PUBLIC, WORLD, Caller, run, workers

SECRET = b"X-Goog-"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that nothing is to be written to, beside the folder that downloads go to."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    place = tmp_path / "work"
    place.mkdir()
    return place


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> bytearray:
    """All that the child processes write, to stdout or stderr."""
    kept = bytearray()
    received = Child.pipe_data_received

    def keep(self: Child, fd: int, data: bytes) -> None:
        kept.extend(data)
        received(self, fd, data)

    monkeypatch.setattr(Child, "pipe_data_received", keep)
    return kept


def zipped(files: Mapping[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return memory.getvalue()


def tarred(files: Mapping[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return memory.getvalue()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below the folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if not path.is_dir()
    }


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def truth(dataset: DatasetTruth) -> dict[str, bytes]:
    return {file.name: file.content() for file in dataset.files}


def storage(fault: Fault, *arrivals: int) -> Rule:
    return Rule(fault, method="storage", arrivals=arrivals)


# -- files ----------------------------------------------------------------------------------------

#: Names that kagglehub uses for itself where it is given an output_dir.
AWKWARD = {
    "1.archive": b"not the archive",
    "1.complete": b"not a marker",
    ".complete/datasets/odd/names/1/bundle.complete": b"nor this",
    "empty.txt": b"",
    "données/日本語 (1).csv": b"a,b\n",
}


def test_the_tree_is_the_datasets_and_nothing_else_is_written(
    token: str, folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(home / "cache"))
    monkeypatch.setenv("KAGGLE_LOGGING_ENABLED", "1")
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")  # as in a notebook of Kaggle's
    monkeypatch.setenv("KAGGLE_DATA_PROXY_URL", "http://127.0.0.1:9")
    odd = published("odd/names", files=AWKWARD)
    empty = published("odd/empty", files={})
    packed = published("odd/tar", tarred(AWKWARD), files=AWKWARD, name="archive.tar.gz")
    chosen = [*WORLD.downloadable()[:6], odd, empty, packed]

    async def use(caller: Caller) -> None:
        for dataset in chosen:
            into = await caller.download(dataset)
            assert tree(into) == truth(dataset), dataset.ref
        assert len(workers()) == 1, "one after the other needs one child"

    with Replica(World(seed=1, extra=(odd, empty, packed))) as replica:
        run(replica.api_url, use, folder)
        stats = replica.stats()
    assert entries(folder) == sorted(each.slug for each in chosen)
    assert entries(home) == []
    assert stats["requests"] == {"DownloadDataset": {"302": len(chosen)}}
    assert stats["leaked_authorization"] == 0
    (agent,) = stats["user_agents"]
    assert agent.startswith("kagglehub/")


def test_a_folder_that_is_there_and_empty_is_filled(token: str, folder: Path) -> None:
    async def use(caller: Caller) -> None:
        (folder / PUBLIC.slug).mkdir()
        assert tree(await caller.download(PUBLIC)) == truth(PUBLIC)

    with Replica(WORLD) as replica:
        run(replica.api_url, use, folder)


def test_the_version_is_the_one_asked_for(token: str, folder: Path) -> None:
    dataset = published("some/versions", files={"a.csv": b"1"}, version=7)

    async def use(caller: Caller) -> None:
        with pytest.raises(NotFound):
            await caller.download(dataset, version=8)
        await caller.download(dataset, version=7)
        assert replica.stats()["requests"] == {"DownloadDataset": {"302": 1, "404": 1}}
        (folder / dataset.slug).rename(folder / "seven")
        await caller.download(dataset, version=None)
        assert replica.stats()["requests"]["GetDataset"] == {"200": 1}
        assert tree(folder / dataset.slug) == tree(folder / "seven") == {"a.csv": b"1"}

    with Replica(World(scale=None, extra=(dataset,))) as replica:
        run(replica.api_url, use, folder)


def test_several_at_once_each_in_a_child_of_its_own(token: str, folder: Path) -> None:
    first, second, third = WORLD.downloadable()[:3]

    async def use(caller: Caller) -> None:
        told: list[int] = []
        trees = await asyncio.gather(*map(caller.download, (first, second)))
        assert [*map(tree, trees)] == [*map(truth, (first, second))]
        assert len(workers()) == 2
        await caller.download(third, told=told.append)
        assert told[-1] == third.total_bytes
        assert len(workers()) == 2

    with Replica(WORLD) as replica:
        run(replica.api_url, use, folder)


def test_the_bytes_so_far_are_told_and_only_a_stall_ends_a_download(
    token: str, folder: Path
) -> None:
    pieces = 8
    data = bytes(range(256)) * 4096 * pieces
    large = published("some/large", zipped_as_it_is(data), files={"a.bin": data})
    told: list[int] = []

    async def use(caller: Caller) -> None:
        assert tree(await caller.download(large, told=told.append)) == {"a.bin": data}

    # so slow that it takes longer than the longest time without news
    drip = storage(Fault("drip", seconds=4.5))
    with Replica(World(scale=None, extra=(large,)), faults=Faults.script([drip])) as replica:
        run(replica.api_url, use, folder, stall_timeout=3)
    growing = told[: told.index(max(told)) + 1]
    assert growing == sorted(set(growing)), "told when it changes"
    assert len(growing) > 2
    assert growing[0] < len(data) <= max(told)


def zipped_as_it_is(data: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("a.bin", data)
    return memory.getvalue()


# -- answers in place of files --------------------------------------------------------------------

OF_THE_API: list[tuple[Fault, type[KaggleError]]] = [
    (Fault("status", 503, retry_after=3), ServerFailed),
    (Fault("status", 401), CredentialsRefused),
    (Fault("error_in_200", 500), ServerFailed),
    (Fault("message_in_200"), NotFound),
    (Fault("html"), BadReply),
    (Fault("status", 429, retry_after=2), Throttled),
]


def test_answers_of_the_api_are_judged_as_for_any_call(
    token: str, folder: Path, said: bytearray
) -> None:
    states = {dataset.state: dataset for dataset in World(seed=1, gated=True).datasets}

    async def use(caller: Caller) -> None:
        with pytest.raises(NotFound, match=states["deleted"].slug):
            await caller.download(states["deleted"])
        with pytest.raises(Forbidden, match="must accept the rules"):
            await caller.download(states["gated"])
        for version in (None, 0):  # refused by GetDataset, and by DownloadDataset
            with pytest.raises(Forbidden, match="was denied"):
                await caller.download(states["forbidden"], version)
        for fault, expected in OF_THE_API:
            with pytest.raises(expected) as caught:
                await caller.download(PUBLIC)
            if fault.retry_after is not None:
                assert getattr(caught.value, "delay", None) == fault.retry_after

    about = {"method": "DownloadDataset", "key": PUBLIC.ref}
    rules = [Rule(fault, arrivals=(1,), **about) for fault, _ in OF_THE_API]
    with Replica(World(seed=1, gated=True), faults=Faults.script(rules)) as replica:
        run(replica.api_url, use, folder)
    assert SECRET not in said


OF_STORAGE: list[tuple[Fault, type[Exception], str]] = [
    (Fault("cut"), ResponseDataLossError, "ChunkedEncodingError"),
    (Fault("damaged"), ResponseDataLossError, "DataCorruptionError"),
    (Fault("wrong_hash"), ResponseDataLossError, "DataCorruptionError"),
    (Fault("reset"), DownloadFailedError, "ProxyError"),
    (Fault("status", 503, retry_after=4), ServerFailed, "answered 503"),
    (Fault("status", 403), DownloadFailedError, "storage answered 403"),
    (Fault("status", 404), DownloadFailedError, "storage answered 404"),
    (Fault("redirect", 302, location="{url}"), DownloadFailedError, "storage answered 302"),
    (Fault("redirect", 302, location="file:///etc/hostname"), DownloadFailedError, "InvalidSchema"),
    (Fault("html"), BadReply, "a web page"),
]


@pytest.mark.parametrize(("fault", "expected", "text"), OF_STORAGE)
def test_what_storage_does_is_never_taken_for_an_answer_of_the_api(
    token: str,
    folder: Path,
    said: bytearray,
    fault: Fault,
    expected: type[Exception],
    text: str,
) -> None:
    async def use(caller: Caller) -> None:
        with pytest.raises(expected, match=text) as caught:
            await caller.download(PUBLIC)
        if fault.retry_after is not None:
            assert getattr(caught.value, "delay", None) == fault.retry_after
        assert entries(folder) == []

    with Replica(WORLD, faults=Faults.script([storage(fault)])) as replica:
        run(replica.api_url, use, folder)
        assert replica.stats()["faults"]
    assert SECRET not in said


def test_after_a_cut_it_is_had_in_whole(token: str, folder: Path) -> None:
    async def use(caller: Caller) -> None:
        for _ in range(2):
            with pytest.raises(ResponseDataLossError):
                await caller.download(PUBLIC)
        assert tree(await caller.download(PUBLIC)) == truth(PUBLIC)

    rules = [storage(Fault("cut"), 1), storage(Fault("damaged"), 1)]
    with Replica(WORLD, faults=Faults.script(rules)) as replica:
        run(replica.api_url, use, folder)


UNPACKABLE = {
    "archive.zip": b"PK\x03\x04 and nothing that it announces",
    "cut.zip": zipped({"a.csv": b"1"})[14:],  # not at its date, which may look like a page
    "slip.tar.gz": tarred({"good.csv": b"1", "../../slip.csv": b"2"}),
    "json.zip": json.dumps({"files": []}).encode(),
}


@pytest.mark.parametrize("name", UNPACKABLE)
def test_an_archive_that_cannot_be_unpacked_is_asked_for_again_once(
    token: str, folder: Path, name: str
) -> None:
    dataset = published("some/archive", UNPACKABLE[name], name=name)

    async def use(caller: Caller) -> None:
        with pytest.raises(ResponseDataLossError):
            await caller.download(dataset)
        with pytest.raises(Unusable, match=r"cannot unpack it \(\w+\)\. Use ") as (caught):
            await caller.download(dataset)
        assert caught.value.slug == "archive"
        assert entries(folder) == []

    with Replica(World(scale=None, extra=(dataset,))) as replica:
        run(replica.api_url, use, folder)
    assert list(folder.parent.rglob("slip.csv")) == []


def test_a_wrong_byte_that_no_checksum_tells_of(token: str, folder: Path) -> None:
    """kagglehub knows md5 alone, and Kaggle's storage may leave it out."""
    dataset = published("some/crc", zipped(AWKWARD), files=AWKWARD)
    hidden = Fault("crc32c_only")
    damaged = zipped(AWKWARD)[:40] + b"!" + zipped(AWKWARD)[41:]
    broken = published("some/broken", damaged, files=AWKWARD)

    async def use(caller: Caller) -> None:
        assert tree(await caller.download(dataset)) == AWKWARD
        with pytest.raises(ResponseDataLossError, match="cannot unpack"):
            await caller.download(broken)

    with Replica(
        World(scale=None, extra=(dataset, broken)), faults=Faults.script([storage(hidden)])
    ) as replica:
        run(replica.api_url, use, folder)


# -- the disk -------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_an_oserror_with_its_number(token: str, folder: Path) -> None:
    async def use(caller: Caller) -> None:
        beside = folder / f"scratch-{PUBLIC.slug}" / "datasets" / PUBLIC.owner / PUBLIC.slug
        beside.mkdir(parents=True)
        (beside / f"{PUBLIC.version}.archive").symlink_to("/dev/full")
        with pytest.raises(OSError, match=PUBLIC.slug) as caught:
            await caller.download(PUBLIC)
        assert caught.value.errno == errno.ENOSPC
        assert entries(folder) == []
        assert tree(await caller.download(PUBLIC)) == truth(PUBLIC)

    with Replica(WORLD) as replica:
        run(replica.api_url, use, folder)


def test_a_folder_that_is_not_empty_is_left_as_it_is(token: str, folder: Path) -> None:
    async def use(caller: Caller) -> None:
        await caller.download(PUBLIC)
        (folder / PUBLIC.slug / "mine.txt").write_text("kept")
        with pytest.raises(OSError, match=PUBLIC.slug):
            await caller.download(PUBLIC)
        assert tree(folder / PUBLIC.slug) == {**truth(PUBLIC), "mine.txt": b"kept"}

    with Replica(WORLD) as replica:
        run(replica.api_url, use, folder)


# -- who we are -----------------------------------------------------------------------------------


def test_nobody_has_what_is_open_to_all(folder: Path) -> None:
    async def use(caller: Caller) -> None:
        assert tree(await caller.download(PUBLIC)) == truth(PUBLIC)
        into, scratch = folder / "b", folder / "scratch"
        response = await caller.transport.download(PUBLIC.ref, None, into, scratch)
        assert response is not None
        assert response.status == 403  # GetDataset wants somebody; judged, it is CredentialsNeeded

    with Replica(WORLD) as replica:
        run(replica.api_url, use, folder)
        assert replica.stats()["auth"] == {"anonymous": 2}


@pytest.mark.parametrize("place", [".kaggle", ".config/kaggle", "elsewhere"])
def test_kaggle_json_is_found_where_we_find_it(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (home / place).mkdir(parents=True)
    content = {"username": Replica.username, "key": Replica.key}
    (home / place / "kaggle.json").write_text(json.dumps(content))
    if place == "elsewhere":
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / place))

    async def use(caller: Caller) -> None:
        await caller.download(PUBLIC)

    with Replica(WORLD) as replica:
        run(replica.api_url, use, folder)
        assert replica.stats()["auth"] == {"basic": 1}


def test_wrong_credentials_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_wrong")

    async def use(caller: Caller) -> None:
        with pytest.raises(CredentialsRefused):
            await caller.download(PUBLIC)

    with Replica(WORLD) as replica:
        run(replica.api_url, use, folder)


@pytest.mark.parametrize("ref", ["../x", "a/b/versions/1", "a", "/a/b/..", ""])
def test_what_is_no_dataset_starts_nothing(ref: str, folder: Path) -> None:
    async def use(caller: Caller) -> None:
        with pytest.raises(ValueError, match="is not a dataset"):
            await caller.transport.download(ref, 1, folder / "a", folder / "b")
        assert workers() == []

    run("http://127.0.0.1:9/api", use)


def test_kagglehub_asks_the_same_address_as_kaggle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")  # in which it prints its token
    for api_url in ("https://api.kaggle.com", "http://127.0.0.1:8765/api", "http://localhost/api"):
        address = official._address(api_url)
        ours, theirs = (official.environment_of(name, address) for name in ("kagglehub", "kaggle"))
        names = ("KAGGLE_API_ENVIRONMENT", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy")
        assert [ours.get(name) for name in names] == [theirs.get(name) for name in names]
