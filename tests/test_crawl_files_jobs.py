"""Crawls with files that are stopped, killed and gone on with, or that find files already there."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World, published
from tests.conftest import Run, by_ref
from tests.file_crawls import (
    DATASETS,
    FILES,
    LOG,
    PATIENCE,
    crawling,
    print_of,
    rows_of,
    tree,
    tree_of,
    trees_of,
    wait_until,
    with_files,
)
from tests.killing.look import MINIMUM, Truth, of_store
from tests.killing.shapes import Shape, workspace
from tests.killing.shapes import rows_of as rows_in
from tests.test_verdicts import FAULTY

TOKENS = Behaviour(paging="token")


def job(folder: Path) -> tuple[str, ...]:
    return ("-s", f"JOBDIR={folder / 'job'}", "-o", str(folder / "out.jsonl"))


def files_in(folder: Path) -> dict[str, str]:
    return tree(workspace(folder) / DATASETS)


def rows_so_far(folder: Path) -> set[str]:
    feed = folder / "out.jsonl"
    return {row["Ref"] for row in rows_in(feed.read_bytes())} if feed.exists() else set()


def assert_whole(folder: Path, world: World) -> None:
    """The feed, the page files, the job and the files, when the job has ended."""
    assert by_ref(rows_in((folder / "out.jsonl").read_bytes())) == rows_of(world.public(MINIMUM))
    assert files_in(folder) == trees_of(world.downloadable(MINIMUM))
    assert not Truth(world, Shape("any")).of_pages(folder, ended=True)
    assert not of_store(folder / "job")


def test_a_job_that_is_killed_fetches_nothing_twice_that_has_its_row(tmp_path: Path) -> None:
    world = World(seed=5, gated=True)
    with Replica(world, behaviour=TOKENS) as replica:
        for downloads in (10, 40, 50):
            done = rows_so_far(tmp_path)
            replica.reset_stats()
            with crawling(replica, tmp_path, *job(tmp_path)) as process:
                wait_until(lambda: given(replica) >= downloads)  # noqa: B023
                process.kill()
                process.wait()
            assert not asked(replica) & done
            # what has its final name is whole, whether there is a row or not
            whole, found = trees_of(world.downloadable(MINIMUM)), files_in(tmp_path)
            named = {name: each for name, each in found.items() if not name.startswith(".")}
            assert named.items() <= whole.items()
            top = {name for name in named if "/" not in name}
            assert {n: e for n, e in whole.items() if n.partition("/")[0] in top} == named
        done = rows_so_far(tmp_path)
        replica.reset_stats()
        with crawling(replica, tmp_path, *job(tmp_path)) as process:
            assert process.wait(PATIENCE) == 0, (tmp_path / LOG).read_text(encoding="utf-8")
        assert len(done) > 20
        assert not asked(replica) & done
        replica.reset_stats()
        with crawling(replica, tmp_path, *job(tmp_path)) as process:
            assert process.wait(PATIENCE) == 0
        assert replica.stats()["requests"] == {}, "a job that is complete asks for nothing"
    assert_whole(tmp_path, world)


def given(replica: Replica) -> int:
    """Downloads that were begun."""
    return int(replica.stats()["delivered"].get("DownloadDataset", 0))


def asked(replica: Replica) -> set[str]:
    return set(replica.stats()["requests_by_key"].get("DownloadDataset", ()))


def test_a_limit_ends_a_run_and_the_next_one_goes_on(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=2, gated=True)
    with Replica(world, behaviour=TOKENS) as replica:
        first = crawl(replica, *FILES, *job(tmp_path), "-s", "CLOSESPIDER_ITEMCOUNT=30")
        replica.reset_stats()
        second = crawl(replica, *FILES, *job(tmp_path))
        again = asked(replica)
    assert (first.code, second.code) == (3, 0), second.log
    assert len(first.rows) >= 30
    assert not again & set(by_ref(first.rows))
    assert_whole(tmp_path, world)
    counts = second.stats("kaggle/datasets/")
    assert counts["stored"] == len(second.rows)
    assert counts["discovered"] == counts["stored"] + counts["skipped"]
    had = world.downloadable(MINIMUM)
    assert f"  {sum(len(each.files) for each in had)} files, " in second.log, "of all runs"


def test_what_has_failed_is_had_by_the_next_run_for_one_call(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=2)
    bad = world.downloadable(MINIMUM)[3]
    rule = Rule(Fault("status", status=502), "storage", bad.archive_key, arrivals=(1, 2, 3, 4))
    with Replica(world, faults=Faults.script([rule])) as replica:
        broken = crawl(replica, *FILES, *job(tmp_path), "-s", "KAGGLE_MAX_ATTEMPTS=1")
        replica.reset_stats()
        mended = crawl(replica, *FILES, *job(tmp_path))
        requests = replica.stats()["requests_by_key"]
    assert (broken.code, mended.code) == (1, 0), mended.log
    assert broken.stats("kaggle/datasets/")["failed/server_error"] == 1
    assert requests == {"DownloadDataset": {bad.ref: 1}}
    assert_whole(tmp_path, world)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_crawl_without_a_job_leaves_nothing_half_done(
    tmp_path: Path, number: signal.Signals
) -> None:
    world = World(seed=2)
    slow = world.downloadable(MINIMUM)[2]
    rule = Rule(Fault("trickle", seconds=3600, part=0.5), "storage", slow.archive_key)
    with (
        Replica(world, faults=Faults.script([rule])) as replica,
        crawling(replica, tmp_path, "-O", str(tmp_path / "out.jsonl")) as process,
    ):
        # the other slot goes on meanwhile
        wait_until(lambda: replica.stats()["faults"].get("trickle", 0) > 0 and given(replica) > 20)
        process.send_signal(number)
        code = process.wait(PATIENCE)
    log = (tmp_path / LOG).read_text(encoding="utf-8")
    assert code == 3, log
    assert "Traceback" not in log
    rows = rows_so_far(tmp_path)
    assert slow.ref not in rows
    assert len(rows) > 10
    had = [each for each in world.downloadable(MINIMUM) if each.ref in rows]
    found, expected = files_in(tmp_path), trees_of(had)
    assert expected.items() <= found.items()
    # what was whole and got its name when the signal came may have no row
    rest = {name for name in found.keys() - expected.keys() if "/" not in name}
    assert len(rest) <= 2
    assert not [name for name in found if name.startswith(".")]


OLD = {"kept.csv": b"old\n", "changed.csv": b"old\n", "folder/kept.txt": b"old\n"}
NEW = {"changed.csv": b"new\n", "folder/new.txt": b"new\n", "new/deep/er.txt": b"new\n"}


def test_a_folder_that_is_there_gets_what_is_new_and_loses_nothing(
    crawl: Run, tmp_path: Path
) -> None:
    """A later version of the dataset; and what its user has put there."""
    for version, files in ((1, OLD), (2, NEW)):
        dataset = published("me/set", files=files, version=version)
        with Replica(World(scale=None, extra=(dataset,))) as replica:
            done = crawl(replica, *FILES)
        assert done.code == 0, done.log
        assert done.rows == [with_files(dataset)]
        mine = workspace(tmp_path) / DATASETS / "me_set" / "folder" / "my notes.txt"
        mine.write_bytes(b"mine")
    expected = {
        **tree_of({**OLD, **NEW}, "me_set"),
        "me_set/folder/my notes.txt": print_of(b"mine"),
    }
    assert files_in(tmp_path) == expected


def test_a_second_crawl_into_the_same_workspace(crawl: Run, tmp_path: Path) -> None:
    """Of some of the files first, then of all."""
    world = World(seed=1)
    refs = ("-a", f"refs={','.join(each.ref for each in world.downloadable(MINIMUM)[:15])}")
    with Replica(world) as replica:
        some = crawl(replica, *FILES, *refs, "-a", "only=*.csv")
        everything = crawl(replica, *FILES, *refs)
    assert (some.code, everything.code) == (0, 0), everything.log
    assert files_in(tmp_path) == trees_of(world.downloadable(MINIMUM)[:15])


def test_a_job_is_one_with_files_or_without(crawl: Run, tmp_path: Path) -> None:
    with Replica(World(seed=1)) as replica:
        first = crawl(replica, *FILES, *job(tmp_path), "-a", "pages=1")
        other = crawl(replica, *job(tmp_path), "-a", "pages=1")
    assert first.code == 0, first.log
    assert other.code == 2
    assert "download=false" in other.log


@pytest.mark.parametrize("most", [1, 3])
def test_slow_downloads_hold_up_no_calls(tmp_path: Path, most: int) -> None:
    """No more of them than were asked for are under way, and the rest of the crawl goes on."""
    world = World(seed=2)
    usable = [each for each in world.datasets if each.usability >= MINIMUM]
    stuck = Rule(Fault("trickle", seconds=3600), "storage")
    options = ("-s", f"KAGGLE_CONCURRENT_TRANSFERS={most}", "-o", str(tmp_path / "out.jsonl"))
    with (
        Replica(world, faults=Faults.script([stuck]), behaviour=TOKENS) as replica,
        crawling(replica, tmp_path, *options) as process,
    ):
        wait_until(
            lambda: (
                len(replica.stats()["requests_by_key"].get("GetDatasetMetadata", ())) == len(usable)
            )
        )
        wait_until(lambda: replica.stats()["faults"].get("trickle", 0) >= most)
        assert given(replica) == replica.stats()["faults"]["trickle"] == most
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 3, (tmp_path / LOG).read_text(encoding="utf-8")
    assert files_in(tmp_path) == {}


@pytest.mark.parametrize("part", ["pipeline", "export"])
def test_what_breaks_when_the_files_are_there_costs_no_second_download(
    crawl: Run, tmp_path: Path, part: str
) -> None:
    world = World(seed=3, gated=True)
    bad = world.downloadable(MINIMUM)[7]
    options = (*FAULTY, *FILES, *job(tmp_path))
    with Replica(world) as replica:
        broken = crawl(replica, *options, env={"FAULT": f"{part}:{bad.ref}"})
        replica.reset_stats()
        mended = crawl(replica, *options)
        stats = replica.stats()
    assert (broken.code, mended.code) == (1, 0), mended.log
    assert broken.stats("kaggle/datasets/")["failed"] == 1
    assert (stats["requests"], stats["storage"]) == ({}, {})
    assert_whole(tmp_path, world)
    had = world.downloadable(MINIMUM)
    assert f"  {sum(len(each.files) for each in had)} files, " in mended.log, "each counted once"


def test_a_download_may_take_longer_and_be_larger_than_any_answer(
    crawl: Run, tmp_path: Path
) -> None:
    """Scrapy's limits are for whole bodies."""
    files = {"a.bin": random.Random(1).randbytes(200_000)}
    dataset = published("me/set", files=files)
    rule = Rule(Fault("drip", seconds=2.5), "storage")
    limits = ("-s", "DOWNLOAD_TIMEOUT=1", "-s", "DOWNLOAD_MAXSIZE=50000")
    with Replica(World(scale=None, extra=(dataset,)), faults=Faults.script([rule])) as replica:
        done = crawl(replica, *FILES, *limits)
        ranges = replica.stats()["storage_ranges"]
    assert done.code == 0, done.log
    assert files_in(tmp_path) == tree_of(files, "me_set")
    assert [len(each) for each in ranges.values()] == [1]


def test_a_quota_of_downloads_costs_time_and_no_files(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=1, gated=True)
    with Replica(world, quotas=Quotas("download=20/second")) as replica:
        done = crawl(replica, *FILES, "-a", "pages=1-4")
        stats = replica.stats()
    assert done.code == 0, done.log
    rows, right = by_ref(done.rows), rows_of(world.public(MINIMUM))
    assert rows == {ref: right[ref] for ref in rows}
    assert len(rows) > 40
    had = [each for each in world.downloadable(MINIMUM) if each.ref in rows]
    assert files_in(tmp_path) == trees_of(had)
    assert done.stat("kaggle/throttled") > 0, "the quota was met"
    assert stats["retry_after_violations"] == 0
