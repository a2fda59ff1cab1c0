"""Crawls that follow another, and want files: those that are there are not fetched again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World, published
from tests.conftest import NO_FILES, QUICK, ROOT, Run, by_ref, clean_env
from tests.file_crawls import DATASETS, FILES, rows_of, with_files
from tests.killing.look import MINIMUM, Truth
from tests.killing.shapes import Shape, workspace
from tests.repeated import (
    CHANGED_ONLY,
    DOWNLOAD,
    METADATA,
    NO_RETRIES,
    REFRESH,
    asked,
    replica_of,
    two,
)


def test_a_new_version_and_an_edit(crawl: Run, tmp_path: Path) -> None:
    one, other = two()
    with replica_of(one, other) as replica:
        assert crawl(replica, *FILES).code == 0
        asked(replica)
        edited = published("b/two", files={"other.csv": b"c\n3\n"}, usability=0.94)
        newer, _ = two(2, **{"data.csv": b"a,b\n3,4\n"})
        replica.move(World(scale=None, extra=(newer, edited)))
        done = crawl(replica, *FILES)
        assert done.code == 0, done.log
        assert asked(replica) == {
            METADATA: {"a/one": 1, "b/two": 1},
            DOWNLOAD: {"a/one": 1},
        }, "the files of the same version are there"
        assert by_ref(done.rows) == rows_of([newer, edited])
        folder = workspace(tmp_path) / DATASETS / "a_one"
        assert (folder / "data.csv").read_bytes() == b"a,b\n3,4\n"
        crawl(replica, *FILES)
        assert asked(replica) == {}


def test_files_are_wanted_later_and_then_not(crawl: Run) -> None:
    with replica_of() as replica:
        bare = crawl(replica)
        asked(replica)
        whole = crawl(replica, *FILES)
        assert asked(replica) == {DOWNLOAD: {"a/one": 1, "b/two": 1}}, "the records are known"
        assert by_ref(whole.rows) == rows_of(two())
        again = crawl(replica)
        assert asked(replica) == {}
        assert by_ref(again.rows) == by_ref(bare.rows)
        crawl(replica, *FILES)
        assert asked(replica) == {}, "a crawl without files forgets none"


def test_other_files_are_wanted(crawl: Run, tmp_path: Path) -> None:
    with replica_of() as replica:
        crawl(replica, *FILES, "-a", "only=more.csv")
        folder = workspace(tmp_path) / DATASETS / "a_one"
        assert {path.name for path in folder.iterdir()} == {"more.csv"}
        asked(replica)
        done = crawl(replica, *FILES)
        assert asked(replica) == {DOWNLOAD: {"a/one": 1, "b/two": 1}}
        assert {path.name for path in folder.iterdir()} == {"data.csv", "more.csv"}
        assert by_ref(done.rows) == rows_of(two())


@pytest.mark.parametrize("harm", ["removed", "cut", "all"])
def test_files_that_are_gone_are_had_again(crawl: Run, tmp_path: Path, harm: str) -> None:
    with replica_of() as replica:
        first = crawl(replica, *FILES)
        asked(replica)
        folder = workspace(tmp_path) / DATASETS / "a_one"
        match harm:
            case "removed":
                (folder / "more.csv").unlink()
            case "cut":
                (folder / "data.csv").write_bytes(b"a,b\n")
            case "all":
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()
        again = crawl(replica, *FILES, *CHANGED_ONLY)
        assert asked(replica) == {DOWNLOAD: {"a/one": 1}}, "its record is known"
        assert by_ref(again.rows) == {"a/one": with_files(two()[0])}
        assert "Files of 1 dataset were not at their place any more" in again.log
        assert (folder / "data.csv").read_bytes() == two()[0].files[0].content()
        crawl(replica, *FILES)
        assert asked(replica) == {}
    assert len(first.rows) == 2


def test_forbidden_files_stay_forbidden_until_a_refresh(crawl: Run) -> None:
    gated = published("a/gated", files={"data.csv": b"a\n"}, state="gated")
    with replica_of(gated) as replica:
        first = crawl(replica, *FILES)
        assert first.code == 0, first.log
        asked(replica)
        again = crawl(replica, *FILES)
        assert asked(replica) == {}
        assert again.rows == first.rows
        assert again.rows[0]["Download"]["reason"] == "forbidden"
        free = published("a/gated", files={"data.csv": b"a\n"})
        replica.move(World(scale=None, extra=(free,)))
        done = crawl(replica, *FILES, *REFRESH)
        assert done.rows == [with_files(free)]


def test_a_folder_of_another_crawl_is_no_merge(crawl: Run, tmp_path: Path) -> None:
    first = published("a_b/c", files={"one.csv": b"1\n"})
    second = published("a/b_c", files={"two.csv": b"2\n"})
    with replica_of(first, second) as replica:
        assert crawl(replica, *FILES, "-a", "refs=a_b/c").code == 0
        done = crawl(replica, *FILES, "-a", "refs=a/b_c")
        assert done.code == 1
        assert done.stat("kaggle/datasets/failed/name_collision") == 1
        assert "another dataset has its folder" in done.log
        folder = workspace(tmp_path) / DATASETS / "a_b_c"
        assert [path.name for path in folder.iterdir()] == ["one.csv"]


def test_a_download_that_fails_costs_no_record(crawl: Run) -> None:
    """What was had of a dataset is not asked for again, when its files are."""
    rule = Rule(Fault("status", 500), DOWNLOAD)
    faults = Faults.script([rule])
    with replica_of(faults=faults) as replica:
        broken = crawl(replica, *FILES, *NO_RETRIES)
        assert broken.code == 1
        assert broken.rows == []
        assert "Run it again: what failed for now is asked for again" in broken.log
        asked(replica)
        faults.repair(rule)
        done = crawl(replica, *FILES, *CHANGED_ONLY)
        assert done.code == 0, done.log
        assert asked(replica) == {DOWNLOAD: {"a/one": 1, "b/two": 1}}
        assert by_ref(done.rows) == rows_of(two())


def test_records_outlive_a_day_whose_budget_is_spent(
    crawl: Run, scrapy: Run, tmp_path: Path
) -> None:
    """Without a job as well: what was had is not asked for again on the next day."""
    with replica_of() as replica:
        spent = crawl(replica, *FILES, "-s", "KAGGLE_QUOTAS=api=100/day; download=1/day")
        assert spent.code == 4, spent.log
        assert len(spent.rows) == 1
        assert "asks only for what was not had" in spent.log
        told = scrapy("ledger", "-s", f"WORKSPACE={workspace(tmp_path)}").log
        assert "1 of which the files are still to come" in told
        asked(replica)
        done = crawl(replica, *FILES, "-s", "KAGGLE_QUOTAS=")
        assert done.code == 0, done.log
        assert sum(sum(keys.values()) for keys in asked(replica).values()) == 1
        assert by_ref(done.rows) == rows_of(two())


def test_a_version_that_is_withdrawn(crawl: Run, tmp_path: Path) -> None:
    """Files of the same names and sizes, but those of another version."""
    old = published("a/one", files={"data.csv": b"1" * 50})
    new = published("a/one", files={"data.csv": b"2" * 50}, version=2)
    place = workspace(tmp_path) / DATASETS / "a_one" / "data.csv"
    for world in (old, new):
        with replica_of(world) as replica:
            crawl(replica, *FILES)
    assert place.read_bytes() == b"2" * 50
    with replica_of(old) as replica:
        done = crawl(replica, *FILES)
        assert asked(replica) == {DOWNLOAD: {"a/one": 1}}
    assert place.read_bytes() == b"1" * 50
    assert done.rows == [with_files(old)]


def test_many_files_are_looked_at_aside(crawl: Run, tmp_path: Path) -> None:
    many = published("a/many", files={f"{number}.txt": b"x" for number in range(2_500)})
    with replica_of(many) as replica:
        first = crawl(replica, *FILES)
        asked(replica)
        again = crawl(replica, *FILES)
        assert asked(replica) == {}
        assert again.rows == first.rows
        (workspace(tmp_path) / DATASETS / "a_many" / "1234.txt").unlink()
        done = crawl(replica, *FILES)
        assert done.code == 0, done.log
        assert asked(replica) == {DOWNLOAD: {"a/many": 1}}


def test_four_crawls_of_one_workspace_at_once(tmp_path: Path) -> None:
    """They share pages, files and the ledger, and none stops another."""
    world = World(seed=3)
    with Replica(world) as replica:
        crawls = []
        for number in range(4):
            args = ("-O", str(tmp_path / f"{number}.jsonl"))
            crawls.append(start(replica, tmp_path, *args))
        for process in crawls:
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, said
        asked(replica)
        process = start(replica, tmp_path, "-O", str(tmp_path / "last.jsonl"))
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert asked(replica) == {}
    feeds = [
        by_ref([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
        for path in tmp_path.glob("*.jsonl")
    ]
    assert len(feeds) == 5
    assert all(feed == feeds[0] for feed in feeds)
    assert len(feeds[0]) == len(world.public(MINIMUM))
    assert not Truth(world, Shape("any")).of_pages(tmp_path, ended=True)


def start(replica: Replica, home: Path, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "scrapy", "crawl", "datasets", *QUICK, *NO_FILES, *args),
            *("-s", f"WORKSPACE={workspace(home)}"),
        ],
        cwd=ROOT,
        env=clean_env(home, **replica.crawler_env()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
