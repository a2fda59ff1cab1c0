"""A row counts as stored when it is in the feed, and not before."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import Run, record


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_no_success(crawl: Run) -> None:
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-a", "sample=3", "-o", "/dev/full:jsonl")
    assert done.code == 1, done.log
    assert "A feed cannot be written (No space left on device)" in done.log
    assert done.stat("kaggle/datasets/stored") == 0


def test_a_feed_that_cannot_be_opened_stops_the_crawl(crawl: Run, tmp_path: Path) -> None:
    feed = "ftp://me:hunter2@127.0.0.1:1/rows.jsonl"
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-a", "sample=3", "-o", feed)
    assert done.code == 1, done.log
    assert "hunter2" not in done.log


def test_a_folder_in_the_feeds_way_stops_the_crawl(crawl: Run, tmp_path: Path) -> None:
    """A name that only the crawl knows cannot be checked before it."""
    (tmp_path / "datasets.jsonl").mkdir()
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-o", f"{tmp_path}/%(name)s.jsonl", "-s", "DOWNLOAD_DELAY=0.1")
        asked = sum(replica.stats()["requests"]["GetDatasetMetadata"].values())
    assert done.code == 1, done.log
    assert f"A feed cannot be written ({tmp_path}/datasets.jsonl: Is a directory)" in done.log
    assert done.stat("kaggle/datasets/stored") == 0
    assert asked < len(replica.world.public(0.8)), "it stops before it spends more requests"


def test_a_crawl_that_stores_nothing_leaves_yesterdays_rows(crawl: Run, tmp_path: Path) -> None:
    feed = tmp_path / "out.jsonl"
    feed.write_text('{"Ref": "yesterday/rows"}\n', encoding="utf-8")
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, env={"KAGGLE_API_TOKEN": "KGAT_wrong"})
    assert done.code == 5
    assert [row["Ref"] for row in done.rows] == ["yesterday/rows"]


def test_lists_in_csv_are_json(crawl: Run, tmp_path: Path) -> None:
    feed = tmp_path / "rows.csv"
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-a", "sample=4", "-O", str(feed))
        truth = {dataset.ref: record(dataset) for dataset in replica.world.public()}
    assert done.code == 0, done.log
    with feed.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        right = truth[row["Ref"]]
        for name in ("File Explorer", "Licenses", "Tags"):
            assert json.loads(row[name]) == right[name]
        assert row["Content"] == right["Content"]


def test_half_of_a_surrogate_pair_does_not_cost_the_row(crawl: Run, tmp_path: Path) -> None:
    from kagglecrawl.replica.folder import publish

    folder = tmp_path / "odd"
    folder.mkdir()
    text = '{"id": "me/odd", "title": "half \\ud83d pair", "description": "and \\udc00 here"}'
    (folder / "dataset-metadata.json").write_text(text, encoding="utf-8")
    with Replica(World(scale=None, extra=publish([str(folder)]))) as replica:
        done = crawl(replica)
    assert done.code == 0, done.log
    (row,) = done.rows
    assert (row["Title"], row["Content"]) == ("half ? pair", "and ? here")
