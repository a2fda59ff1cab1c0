"""``scrapy crawl datasets`` with the files of the datasets: what is on disk then, and what it costs
Kaggle."""

from __future__ import annotations

import json
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World, published
from tests.conftest import Crawl, Run, by_ref, page_row
from tests.file_crawls import (
    DATASETS,
    FILES,
    folder_of,
    print_of,
    rows_of,
    tree,
    tree_of,
    trees_of,
    with_files,
)
from tests.killing.look import MINIMUM, Truth
from tests.killing.shapes import Shape, workspace

BY_PAGE, BY_TOKEN = Behaviour(), Behaviour(paging="token")
#: Archives up to this size come with one request to storage.
SMALL = 1 << 20
SEED_FIELDS = [
    "Ref",
    "Title",
    "lastUpdated",
    "DatasetSize",
    "usabilityRating",
    "File Explorer",
    "Licenses",
    "Tags",
    "Content",
]


def files_in(folder: Path) -> dict[str, str]:
    """Everything that lies where the datasets' files go, of a crawl by the fixture."""
    return tree(workspace(folder) / DATASETS)


def pages_in(folder: Path) -> list[dict[str, Any]]:
    """All rows of the page files."""
    paths = (workspace(folder) / "output/datasets/meta_data").iterdir()
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def assert_balanced(done: Crawl, **counts: int) -> None:
    found = done.stats("kaggle/datasets/")
    assert found["discovered"] == sum(
        found.get(verdict, 0) for verdict in ("stored", "skipped", "failed", "pending")
    )
    assert {name: found.get(name, 0) for name in counts} == counts


@pytest.mark.parametrize("behaviour", [BY_PAGE, BY_TOKEN], ids=["by page", "by token"])
def test_every_file_for_the_least_requests(
    crawl: Run, tmp_path: Path, behaviour: Behaviour
) -> None:
    world = World(seed=3, gated=True)
    with Replica(world, behaviour=behaviour) as replica:
        done = crawl(replica, *FILES)
        stats = replica.stats()
    assert done.code == 0, done.log
    wanted, had = world.public(MINIMUM), world.downloadable(MINIMUM)
    assert len(wanted) > len(had) > 100
    assert by_ref(done.rows) == rows_of(wanted)
    assert files_in(tmp_path) == trees_of(had)
    # page files are the seeds': their fields in their order, and no other
    truth = Truth(world, Shape("any"))
    assert not truth.of_pages(tmp_path, ended=True)
    assert {tuple(row) for row in pages_in(tmp_path)} == {tuple(SEED_FIELDS)}
    # what it costs: one call a list page, and two a dataset
    usable = [each for each in world.datasets if each.usability >= MINIMUM]
    asked = stats["requests_by_key"]
    assert asked.keys() == {"ListDatasets", "GetDatasetMetadata", "DownloadDataset"}
    assert asked["GetDatasetMetadata"] == {each.ref: 1 for each in usable}
    assert asked["DownloadDataset"] == {each.ref: 1 for each in wanted}
    assert set(asked["ListDatasets"].values()) == {1}
    assert len(asked["ListDatasets"]) == (2 if behaviour is BY_TOKEN else 12 + 1)
    assert stats["storage_ranges"].keys() == {each.archive_key for each in had}
    large = {key for key, ranges in stats["storage_ranges"].items() if len(ranges) > 1}
    assert large <= {each.archive_key for each in had if each.total_bytes > SMALL}
    # what is told
    gated = len(wanted) - len(had)
    assert_balanced(done, discovered=240, stored=len(wanted), failed=0, pending=0)
    assert f"without files {gated}: forbidden to this account" in done.log
    assert f"  {sum(len(each.files) for each in had)} files, " in done.log
    assert done.stat("kaggle/transfers/written") == sum(each.total_bytes for each in had)
    assert done.stat("kaggle/transfers/received") == sum(stats["storage_bytes"].values())
    assert stats["leaked_authorization"] == 0


@pytest.mark.parametrize(
    ("faults", "behaviour", "seed"),
    [
        (Faults.mild, BY_PAGE, 1),
        (Faults.mild, BY_TOKEN, 2),
        (Faults.harsh, BY_PAGE, 1),
        (Faults.harsh, BY_TOKEN, 2),
        (Faults.harsh, BY_PAGE, 8),
    ],
)
def test_a_kaggle_with_troubles_costs_no_byte(
    crawl: Run,
    tmp_path: Path,
    faults: Callable[[int, float], Faults],
    behaviour: Behaviour,
    seed: int,
) -> None:
    world = World(seed=seed, gated=True)
    with Replica(world, faults=faults(seed, 0.3), behaviour=behaviour) as replica:
        done = crawl(replica, *FILES)
        stats = replica.stats()
    assert done.code == 0, done.log
    assert by_ref(done.rows) == rows_of(world.public(MINIMUM))
    assert files_in(tmp_path) == trees_of(world.downloadable(MINIMUM)), "and nothing else"
    paged = {row["Ref"]: row for row in pages_in(tmp_path)}
    assert paged == {row["Ref"]: page_row(row) for row in done.rows}
    assert_balanced(done, discovered=240, stored=len(done.rows), failed=0, pending=0)
    # an address is asked for again where its bytes were wrong as a whole, and that is rare
    again = Counter(stats["delivered_by_key"]["DownloadDataset"].values())
    assert again.keys() <= {1, 2}
    assert again[2] <= 5
    assert stats["requests_by_key"]["DownloadDataset"].keys() == {
        each.ref for each in world.public(MINIMUM)
    }
    assert "ListDatasetFiles" not in stats["requests"]
    if faults == Faults.harsh:
        assert sum(stats["faults"].values()) > 20
        assert done.stats("kaggle/transfers/again/")


def test_the_archives_directory_names_the_files_where_the_metadata_does_not(
    crawl: Run, tmp_path: Path
) -> None:
    world = World(seed=1, gated=True)
    with Replica(world, behaviour=Behaviour(metadata_files=2)) as replica:
        done = crawl(replica, *FILES, "-a", "pages=1-6")
        asked = replica.stats()["requests_by_key"]
    assert done.code == 0, done.log
    rows, truth = by_ref(done.rows), rows_of(world.public(MINIMUM))
    assert rows == {ref: truth[ref] for ref in rows}
    assert sum(len(row["File Explorer"]) > 2 for row in rows.values()) > 30
    assert files_in(tmp_path) == trees_of(
        each for each in world.downloadable(MINIMUM) if each.ref in rows
    )
    # where there is no archive to be had, Kaggle has to be asked
    gated = {each.ref for each in world.public() if each.state == "gated"}
    assert set(asked.get("ListDatasetFiles", ())) <= gated


def test_a_dataset_of_more_files_than_the_metadata_names(crawl: Run, tmp_path: Path) -> None:
    """Kaggle's metadata is said to stop at 200 (Behaviour's default)."""
    world = World(seed=1, scale="medium")
    many = world.datasets[5]
    assert len(many.files) == 251
    with Replica(world) as replica:
        done = crawl(replica, *FILES, "-a", f"refs={many.ref}")
        stats = replica.stats()
    assert done.rows == [with_files(many)]
    assert files_in(tmp_path) == trees_of([many])
    assert set(stats["requests"]) == {"GetDataset", "GetDatasetMetadata", "DownloadDataset"}
    assert stats["storage_ranges"] == {many.archive_key: [f"bytes=-{SMALL}"]}


# -- some of the files, or none --------------------------------------------------------------------


def chosen(dataset: DatasetTruth, *globs: str) -> dict[str, bytes]:
    """By pathlib's idea of a glob, which is the same for those without ``**``."""
    paths = {file.name: PurePosixPath(file.name) for file in dataset.files}
    return {
        file.name: file.content()
        for file in dataset.files
        if any(paths[file.name].match(glob) for glob in globs)
    }


def test_only_the_files_that_were_asked_for(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=1)
    with Replica(world) as replica:
        done = crawl(replica, *FILES, "-a", "pages=1-4", "-a", "only=*.csv,images/th*")
    assert done.code == 0, done.log
    rows = by_ref(done.rows)
    expected: dict[str, str] = {}
    for dataset in world.downloadable(MINIMUM):
        if dataset.ref not in rows:
            continue
        some = chosen(dataset, "*.csv", "images/th*")
        if some:
            expected |= {folder_of(dataset): "folder", **tree_of(some, folder_of(dataset))}
        download = rows[dataset.ref].pop("Download")
        left_out = len(dataset.files) - len(some)
        assert (download["files"], download["leftOut"]) == (
            len(some),
            {"only": left_out} if left_out else {},
        )
        assert download["bytes"] == sum(map(len, some.values()))
        whole = with_files(dataset)
        del whole["Download"]
        assert rows[dataset.ref] == whole, "the record names all files"
    assert files_in(tmp_path) == expected
    assert any("only" in line and "left out" in line for line in done.log.splitlines())


def test_no_file_that_is_larger_than_wanted(crawl: Run, tmp_path: Path) -> None:
    files = {"small.bin": b"s" * 999, "just.bin": b"j" * 1000, "large.bin": b"l" * 1001}
    sets = (published("me/set", files=files), published("me/large", files={"a": b"a" * 1001}))
    with Replica(World(scale=None, extra=sets)) as replica:
        done = crawl(replica, *FILES, "-a", "max_bytes=1000")
        again = crawl(replica, *FILES, "-a", "max_bytes=0")
    assert (done.code, again.code) == (0, 0), done.log
    rows = by_ref(done.rows)
    del files["large.bin"]
    assert files_in(tmp_path) == tree_of(files, "me_set"), "no folder for no files"
    rows = by_ref(done.rows)
    assert rows["me/set"]["Download"]["leftOut"] == {"max_bytes": 1}
    assert rows["me/set"]["Download"]["bytes"] == 1999
    assert rows["me/large"]["Download"]["files"] == 0
    assert "left out 2: larger than max_bytes" in done.log
    assert {row["Download"]["files"] for row in again.rows} == {0}


def test_what_is_not_wanted_is_not_fetched(crawl: Run, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(6_000_000)
    files = {"a.csv": b"1\n", "first.bin": noise, "b.csv": b"2\n", "second.bin": noise[::-1]}
    made = tmp_path / "made.zip"
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    dataset = published("me/set", made, files)
    with Replica(World(scale=None, extra=(dataset,))) as replica:
        done = crawl(replica, *FILES, "-a", "only=*.csv")
    assert done.code == 0, done.log
    wanted = {name: data for name, data in files.items() if name.endswith(".csv")}
    assert files_in(tmp_path) == tree_of(wanted, "me_set")
    assert done.stat("kaggle/transfers/received") < 3_000_000, "of more than 12 MB"


def test_nothing_is_asked_of_storage_without_download(crawl: Run, tmp_path: Path) -> None:
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-a", "download=false", "-a", "sample=5")
        stats = replica.stats()
    assert [row["Download"] for row in done.rows] == [None] * 5
    assert stats["storage"] == {}
    assert "DownloadDataset" not in stats["requests"]
    assert not (workspace(tmp_path) / DATASETS).exists()


def test_a_sample_has_the_files_of_its_own_alone(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=1, gated=True)
    with Replica(world) as replica:
        done = crawl(replica, *FILES, "-a", "sample=12")
        asked = replica.stats()["requests_by_key"]["DownloadDataset"]
    assert done.code == 0, done.log
    rows = by_ref(done.rows)
    assert len(rows) == 12
    assert asked == dict.fromkeys(rows, 1)
    had = [each for each in world.downloadable() if each.ref in rows]
    assert files_in(tmp_path) == trees_of(had)


# -- what cannot be had ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "fault", "reason"),
    [
        ("DownloadDataset", Fault("status", status=500), "server_error"),
        ("storage", Fault("status", status=500), "server_error"),
        ("storage", Fault("damaged", at=100), "damaged"),
        ("storage", Fault("status", status=404), "storage_refused"),
    ],
)
def test_no_row_and_no_file_of_what_always_fails(
    crawl: Run, tmp_path: Path, method: str, fault: Fault, reason: str
) -> None:
    world = World(seed=1)
    bad = world.downloadable(MINIMUM)[10]
    key = bad.archive_key if method == "storage" else bad.ref
    rules = [Rule(fault, method=method, key=key)]
    with Replica(world, faults=Faults.script(rules)) as replica:
        done = crawl(replica, *FILES, "-s", "KAGGLE_MAX_ATTEMPTS=2", "-s", "KAGGLE_RETRY_BASE=0")
    assert done.code == 1
    others = [each for each in world.downloadable(MINIMUM) if each is not bad]
    assert by_ref(done.rows) == rows_of(others)
    assert files_in(tmp_path) == trees_of(others)
    assert_balanced(done, failed=1, pending=0, **{f"failed/{reason}": 1})


def test_two_datasets_of_one_folder_are_no_merge(crawl: Run, tmp_path: Path) -> None:
    sets = [published(ref, files={ref.replace("/", "-"): b"x"}) for ref in ("a_b/c", "a/b_c")]
    with Replica(World(scale=None, extra=tuple(sets))) as replica:
        done = crawl(replica, *FILES)
    assert done.code == 1
    (row,) = done.rows
    assert files_in(tmp_path) == {
        "a_b_c": "folder",
        f"a_b_c/{row['Ref'].replace('/', '-')}": print_of(b"x"),
    }
    assert_balanced(done, stored=1, failed=1, **{"failed/name_collision": 1})
    assert "another dataset has its folder" in done.log


def test_a_dataset_without_files(crawl: Run, tmp_path: Path) -> None:
    empty = published("me/empty", files={})
    with Replica(World(scale=None, extra=(empty,))) as replica:
        done = crawl(replica, *FILES)
    assert done.code == 0, done.log
    row = with_files(empty)
    row["Download"]["folder"] = ""
    assert done.rows == [row]
    assert files_in(tmp_path) == {}
