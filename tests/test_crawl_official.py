"""Our records equal what the unmodified official CLI tells of the same datasets."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path

from kagglecrawl.pipelines.markdown import to_markdown
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import Run, by_ref
from tests.official import kaggle_cli


def test_our_records_equal_the_clis(crawl: Run, tmp_path: Path) -> None:
    with Replica(World(seed=7)) as replica:
        done = crawl(replica, "-a", "pages=1", "-a", "sort_by=votes")
        listed = kaggle_cli(replica, "datasets", "list", "--csv", "--sort-by", "votes").stdout
        rows = {row["ref"]: row for row in csv.DictReader(listed.splitlines())}
        ours = by_ref(done.rows)
        described, filed = {}, {}
        for ref in list(ours)[:2]:
            folder = tmp_path / ref.replace("/", "_")
            kaggle_cli(replica, "datasets", "metadata", ref, "-p", str(folder))
            content = (folder / "dataset-metadata.json").read_text(encoding="utf-8")
            described[ref] = json.loads(content)["info"]
            files = kaggle_cli(replica, "datasets", "files", ref, "--csv").stdout
            filed[ref] = [(x["name"], int(x["size"])) for x in csv.DictReader(files.splitlines())]
    assert len(ours) > 5
    for ref, record in ours.items():
        row = rows[ref]
        assert record["Title"] == row["title"]
        assert record["DatasetSize"] == int(row["size"])
        assert record["usabilityRating"] == float(row["usabilityRating"])
        theirs = datetime.fromisoformat(row["lastUpdated"])
        assert datetime.fromisoformat(record["lastUpdated"]).replace(tzinfo=None) == theirs
    for ref, info in described.items():
        assert ours[ref]["Licenses"] == info["licenses"]
        assert ours[ref]["Tags"] == info["keywords"]
        assert ours[ref]["Content"] == to_markdown(info["description"])
        files_of_ours = [(file["name"], file["size"]) for file in ours[ref]["File Explorer"]]
        assert files_of_ours == filed[ref] == [(x["name"], x["totalBytes"]) for x in info["data"]]
