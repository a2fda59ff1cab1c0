"""Crawls that follow another: what the ledger has is not asked for, and what is new is had."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World, published
from tests.conftest import Run, by_ref
from tests.file_crawls import DATASETS, FILES, folder_of, rows_of, tree, with_files
from tests.killing.look import MINIMUM
from tests.killing.shapes import workspace
from tests.repeated import (
    CHANGED_ONLY,
    DOWNLOAD,
    METADATA,
    NO_RETRIES,
    REFRESH,
    asked,
    gone_of,
    ledger_of,
    once,
    pages_of,
    replica_of,
    two,
)

# -- the same world again, and one that has moved on -----------------------------------------------


def test_again_and_again(crawl: Run, tmp_path: Path) -> None:
    """The same crawl makes only list requests, and writes the same; then the difference alone."""
    world = World(seed=3, gated=True)
    with Replica(world) as replica:
        first = crawl(replica, *FILES)
        assert first.code == 0, first.log
        pages, files = pages_of(tmp_path), tree(workspace(tmp_path) / DATASETS)
        asked(replica)

        same = crawl(replica, *FILES)
        assert same.code == 0, same.log
        stats = replica.stats()
        assert asked(replica) == {}, "only lists"
        assert not stats["storage"], "and no file"
        assert by_ref(same.rows) == by_ref(first.rows)
        assert len(same.rows) == len(world.public(MINIMUM))
        assert pages_of(tmp_path) == pages
        assert tree(workspace(tmp_path) / DATASETS) == files
        assert same.stat("kaggle/datasets/stored") == len(first.rows)
        assert f"stored {len(first.rows)}: as the ledger has it" in same.log

        later = world.moved_on()
        moves = world.difference(later)
        replica.move(later)
        third = crawl(replica, *FILES)
        assert third.code == 0, third.log
        wanted = {each.ref for each in later.public(MINIMUM)}
        new, changed, edited = (
            [each for each in found if each.usability >= MINIMUM]
            for found in (moves.new, moves.changed, moves.edited)
        )
        assert new, "else this test shows nothing"
        assert changed
        assert moves.removed
        seen = asked(replica)
        # a row that says something else now; and one that was below the minimum before
        before = {each.ref for each in world.public(MINIMUM)}
        raised = [each for each in edited if each.ref not in before]
        assert seen[METADATA] == once([*new, *changed, *edited])
        files_of = [*new, *changed, *raised]
        assert seen[DOWNLOAD] == once([each for each in files_of if each.ref in wanted])
        right = rows_of(later.public(MINIMUM))
        for each in moves.edited_unseen:  # nothing in the list tells of it
            if each.ref in right and each.ref in before:
                right[each.ref] = by_ref(first.rows)[each.ref]
        assert by_ref(third.rows) == right
        # nothing of ours was removed
        after = tree(workspace(tmp_path) / DATASETS)
        assert after.keys() >= files.keys()
        for each in moves.removed:
            own = {name: what for name, what in files.items() if name.startswith(folder_of(each))}
            assert own.items() <= after.items()
        gone = gone_of(tmp_path)
        assert {each.ref for each in moves.removed} == {
            ref for ref, why in gone.items() if why == "not_listed"
        }
        assert f"{len(moves.removed)} that the list had before are not on it any more" in third.log


def test_only_what_has_changed(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=5)
    with Replica(world) as replica:
        first = crawl(replica)
        pages = pages_of(tmp_path)
        none = crawl(replica, *CHANGED_ONLY)
        assert none.code == 0, none.log
        assert none.rows == [], "and not what an earlier crawl has left there"
        assert none.stat("kaggle/datasets/skipped/unchanged") == len(first.rows)
        asked(replica)
        later = world.moved_on(2)
        replica.move(later)
        changed = crawl(replica, *CHANGED_ONLY)
        assert changed.code == 0, changed.log
        moves = world.difference(later)
        usable = {each.ref for each in later.public(MINIMUM)}
        differ = {each.ref for found in (moves.new, moves.changed, moves.edited) for each in found}
        assert {row["Ref"] for row in changed.rows} == differ & usable
        assert asked(replica)[METADATA].keys() >= differ & usable
        assert pages_of(tmp_path) == pages, "page files are of whole pages"
        assert changed.stat("kaggle/pages_written") == 0
        # and what was not written is known all the same
        crawl(replica)
        assert asked(replica) == {}


def test_refresh_asks_for_all_of_it(crawl: Run) -> None:
    world = World(seed=6)
    with Replica(world) as replica:
        first = crawl(replica)
        usable = [each for each in world.datasets if each.usability >= MINIMUM]
        assert asked(replica)[METADATA] == once(usable)
        crawl(replica)
        assert asked(replica) == {}, "what Kaggle has refused for good is not asked for again"
        again = crawl(replica, *REFRESH)
        assert asked(replica)[METADATA] == once(usable)
        assert by_ref(again.rows) == by_ref(first.rows)


# -- what fails ------------------------------------------------------------------------------------


def test_an_endpoint_that_always_fails_and_is_repaired(crawl: Run) -> None:
    world = World(seed=4)
    failing = Rule(Fault("status", 500), METADATA)
    faults = Faults.script([failing])
    with Replica(world, faults=faults) as replica:
        usable = [each for each in world.datasets if each.usability >= MINIMUM]
        broken = crawl(replica, "-s", "KAGGLE_MAX_ATTEMPTS=2", "-a", "pages=1-2")
        assert broken.code == 1, broken.log
        assert broken.rows == []
        failed = broken.stat("kaggle/datasets/failed/server_error")
        assert failed == broken.stat("kaggle/datasets/failed") > 10
        assert broken.stat("kaggle/datasets/pending") == 0
        assert f"failed {failed}: Kaggle failed every time" in broken.log
        asked(replica)
        faults.repair(failing)
        whole = crawl(replica)
        assert whole.code == 0, whole.log
        assert asked(replica)[METADATA] == once(usable), "what failed for now is asked for again"
        assert {row["Ref"] for row in whole.rows} == {each.ref for each in world.public(MINIMUM)}


def test_a_failure_takes_nothing_away(crawl: Run, tmp_path: Path) -> None:
    """A record that is there stays in the ledger when asking for it again has failed."""
    rule = Rule(Fault("status", 500), METADATA, "a/one")
    faults = Faults.none()
    with replica_of(faults=faults) as replica:
        first = crawl(replica)
        faults.add(rule)
        broken = crawl(replica, *REFRESH, *NO_RETRIES)
        assert broken.code == 1
        assert [row["Ref"] for row in broken.rows] == ["b/two"]
        asked(replica)
        with closing(ledger_of(tmp_path)) as ledger:
            assert ledger.record("a/one", "1") is not None
        faults.repair(rule)
        after = crawl(replica)
        assert after.code == 0, after.log
        assert asked(replica) == {METADATA: {"a/one": 1}}, "what failed for now is asked for again"
        assert by_ref(after.rows) == by_ref(first.rows)
        crawl(replica)
        assert asked(replica) == {}


def test_what_will_not_be_better_is_not_asked_for_again(crawl: Run, tmp_path: Path) -> None:
    """A damaged archive is one for as long as the version is the same."""
    files = {"data.csv": b"a\n" * 50}
    bad = published("a/bad", b"this is no archive" * 20, files)
    with replica_of(bad) as replica:
        job = ("-s", f"JOBDIR={tmp_path / 'job'}")
        first = crawl(replica, *FILES, *job)
        assert first.code == 1
        assert first.stat("kaggle/datasets/failed/bad_archive") == 1
        asked(replica)
        again = crawl(replica, *FILES, *job)
        assert asked(replica) == {}, "nor by the same job"
        assert again.code == 1
        another = crawl(replica, *FILES)
        assert asked(replica) == {}
        assert another.code == 1
        assert another.stat("kaggle/datasets/failed/bad_archive") == 1
        assert "1 was not asked for again, since Kaggle has refused it before" in another.log
        mended = published("a/bad", files=files, version=2)
        replica.move(World(scale=None, extra=(mended,)))
        done = crawl(replica, *FILES)
        assert done.code == 0, done.log
        assert done.rows == [with_files(mended)]


def test_only_its_own_404_makes_it_deleted(crawl: Run, tmp_path: Path) -> None:
    one, other = two()
    with replica_of(one, other) as replica:
        crawl(replica)
        replica.move(World(scale=None, extra=(other,)))
        crawl(replica, "-a", "pages=1")
        assert gone_of(tmp_path) == {}, "a part of the list tells nothing of the rest"
        crawl(replica)
        assert gone_of(tmp_path) == {"a/one": "not_listed"}
        done = crawl(replica, "-a", "refs=a/one")
        assert done.stat("kaggle/datasets/skipped/not_found") == 1
        assert gone_of(tmp_path) == {"a/one": "deleted"}
        crawl(replica)
        assert gone_of(tmp_path) == {"a/one": "deleted"}
        with closing(ledger_of(tmp_path)) as ledger:
            record = ledger.record("a/one", "1")
        assert record is not None, "nothing of ours is removed"
        assert record["title"] == one.title
        replica.move(World(scale=None, extra=(one, other)))
        asked(replica)
        back = crawl(replica)
        assert asked(replica) == {METADATA: {"a/one": 1}}, "a list that has it proves nothing"
        assert len(back.rows) == 2
        assert gone_of(tmp_path) == {}


def test_what_was_found_deleted_is_not_told_again(crawl: Run, tmp_path: Path) -> None:
    """Kaggle's list may have it all the same."""
    listed = replace(two()[0], state="deleted")
    with replica_of() as replica:
        crawl(replica)
        replica.move(World(scale=None, extra=(listed, two()[1])))
        crawl(replica, *REFRESH)
        assert gone_of(tmp_path) == {"a/one": "deleted"}
        asked(replica)
        again = crawl(replica)
        assert asked(replica) == {}
        assert [row["Ref"] for row in again.rows] == ["b/two"]
        assert again.stat("kaggle/datasets/skipped/not_found") == 1


def test_files_that_cannot_be_had_are_no_reason_to_lose_a_record(crawl: Run) -> None:
    bad = published("a/bad", b"this is no archive" * 20, {"data.csv": b"a\n" * 50})
    with replica_of(bad) as replica:
        assert crawl(replica, *FILES).code == 1
        bare = crawl(replica)
        assert bare.code == 0, bare.log
        assert len(bare.rows) == 1
        asked(replica)
        again = crawl(replica, *FILES)
        assert again.code == 1
        assert asked(replica) == {}, "nor are they asked for again, now that the record is known"
        assert again.stat("kaggle/datasets/failed/bad_archive") == 1
        assert crawl(replica).rows == bare.rows
        assert asked(replica) == {}


# -- arguments -------------------------------------------------------------------------------------


def test_a_sample_is_as_large_from_the_ledger(crawl: Run) -> None:
    world = World(seed=7)
    with Replica(world) as replica:
        crawl(replica)
        asked(replica)
        done = crawl(replica, "-a", "sample=7")
        assert done.code == 0, done.log
        assert len(by_ref(done.rows)) == 7
        assert asked(replica) == {}


def test_refs_cost_one_call_each(crawl: Run) -> None:
    with replica_of() as replica:
        first = crawl(replica, *FILES)
        asked(replica)
        done = crawl(replica, *FILES, "-a", "refs=a/one,b/two")
        assert asked(replica) == {"GetDataset": {"a/one": 1, "b/two": 1}}
        assert by_ref(done.rows) == by_ref(first.rows)


def test_a_lower_minimum_asks_for_what_was_left_out(crawl: Run) -> None:
    world = World(seed=8)
    with Replica(world) as replica:
        first = crawl(replica, "-a", "pages=1-3")
        asked(replica)
        done = crawl(replica, "-a", "pages=1-3", "-a", "min_usability=0")
        below = Counter(asked(replica)[METADATA])
        assert below.keys().isdisjoint({row["Ref"] for row in first.rows})
        assert len(below) > 10
        assert by_ref(done.rows).items() >= by_ref(first.rows).items()


def test_both_at_once_are_refused(scrapy: Run) -> None:
    done = scrapy("crawl", "datasets", *CHANGED_ONLY, *REFRESH)
    assert done.code == 2
    assert "argument refresh asks for everything again, and changed_only leaves out" in done.log


# -- jobs, and a ledger that is in trouble ---------------------------------------------------------


def test_two_jobs_share_what_they_had(crawl: Run, tmp_path: Path) -> None:
    world = World(seed=9)
    with Replica(world) as replica:
        first = crawl(replica, "-s", f"JOBDIR={tmp_path / 'one'}", "-s", "CLOSESPIDER_ITEMCOUNT=30")
        assert first.code == 3
        stored = {row["Ref"] for row in first.rows}
        asked(replica)
        job = ("-s", f"JOBDIR={tmp_path / 'two'}", "-O", str(tmp_path / "two.jsonl"))
        done = crawl(replica, *job)
        assert done.code == 0, done.log
        seen = asked(replica)[METADATA]
        assert seen.keys().isdisjoint(stored)
        lines = (tmp_path / "two.jsonl").read_text(encoding="utf-8").splitlines()
        rows = by_ref([json.loads(line) for line in lines])
        assert rows.keys() == {each.ref for each in world.public(MINIMUM)}


def test_a_ledger_that_is_none_is_refused_before_anything(crawl: Run, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no ledger" * 100)
    with replica_of() as replica:
        done = crawl(replica, "-s", f"KAGGLE_LEDGER={path}")
        assert replica.stats()["requests"] == {}
    assert done.code == 2
    assert str(path) in done.log
    assert "Traceback" not in done.log
    assert path.read_bytes() == b"this is no ledger" * 100


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE version SET record = 'no JSON'",
        "UPDATE version SET record = '[1]'",
        """UPDATE version SET record = '{"ref": "a/one"}'""",
        "UPDATE version SET manifest = 'no JSON'",
        "UPDATE version SET manifest = '{}'",
        "DELETE FROM file",
    ],
)
def test_what_is_kept_and_cannot_be_used_is_asked_for(
    crawl: Run, tmp_path: Path, harm: str
) -> None:
    with replica_of() as replica:
        first = crawl(replica, *FILES)
        with closing(sqlite3.connect(workspace(tmp_path) / "ledger.sqlite")) as file, file:
            file.execute(harm)
        asked(replica)
        again = crawl(replica, *FILES)
        assert again.code == 0, again.log
        assert by_ref(again.rows) == by_ref(first.rows)
        assert asked(replica), "it was"
        crawl(replica, *FILES)
        assert asked(replica) == {}


def test_a_ledger_that_is_lost_on_the_way_ends_the_crawl_in_words(
    crawl: Run, tmp_path: Path
) -> None:
    with replica_of() as replica:
        crawl(replica)
        path = workspace(tmp_path) / "ledger.sqlite"
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            done = crawl(replica)
    assert done.code == 1, done.log
    assert str(path) in done.log
    assert "Traceback" not in done.log


def test_a_row_that_has_not_got_to_its_place_is_a_change(crawl: Run, tmp_path: Path) -> None:
    with replica_of() as replica:
        lost = crawl(replica, "-o", "ftp://127.0.0.1:1/rows.jsonl:jsonlines")
        assert lost.code == 1, lost.log
        asked(replica)
        done = crawl(replica, *CHANGED_ONLY)
        assert done.code == 0, done.log
        assert by_ref(done.rows).keys() == {"a/one", "b/two"}
        assert asked(replica) == {}, "and it is known"
        none = crawl(replica, *CHANGED_ONLY)
        assert none.stat("kaggle/datasets/skipped/unchanged") == 2


def test_a_run_that_was_stopped_says_what_counts_as_had(crawl: Run) -> None:
    with Replica(World(seed=2)) as replica:
        done = crawl(replica, *CHANGED_ONLY, "-s", "CLOSESPIDER_ITEMCOUNT=5")
    assert done.code == 3
    assert "What it has written counts as had: keep its feed" in done.log
    assert "begins anew" not in done.log


def test_another_process_holds_the_ledger(crawl: Run, tmp_path: Path) -> None:
    """What it cannot be told waits in the job, and the same command brings it."""
    world = World(seed=2)
    job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-o", str(tmp_path / "rows.jsonl"))
    with Replica(world) as replica:
        assert crawl(replica, "-a", "sample=1").code == 0
        with closing(sqlite3.connect(workspace(tmp_path) / "ledger.sqlite")) as other:
            other.execute("BEGIN IMMEDIATE")
            done = crawl(replica, *job, "-s", "CLOSESPIDER_ITEMCOUNT=20")
            other.execute("ROLLBACK")
        assert done.code == 3, done.log
        assert "Another process holds" in done.log
        assert done.stat("kaggle/ledger/left") > 20
        lines = (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        stored = {json.loads(line)["Ref"] for line in lines}
        again = crawl(replica, *job)
        assert again.code == 0, again.log
        asked(replica)
        crawl(replica)
        assert asked(replica) == {}, "the ledger has all of it"
    assert stored <= {each.ref for each in world.public(MINIMUM)}


def test_when_something_was_first_found_so(crawl: Run, scrapy: Run, tmp_path: Path) -> None:
    """What a later crawl only meets again is not news."""
    with replica_of() as replica:
        crawl(replica)
        time.sleep(1.1)  # times are shown in seconds
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        replica.move(World(scale=None, extra=(two()[0], published("a/new", files={"x": b"x"}))))
        crawl(replica)
    place = ("-s", f"WORKSPACE={workspace(tmp_path)}")
    assert scrapy("ledger", "keys", "--since", moment, *place).log.split() == ["a/new"]
    crawled = scrapy("ledger", "list", "--gone", "not_listed", *place).log
    assert crawled.split()[:3] == ["b/two", "1", "stored"]
