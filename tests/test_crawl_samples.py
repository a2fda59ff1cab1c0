"""``scrapy crawl datasets`` over real files, which the replica publishes from a folder."""

from __future__ import annotations

import json
from pathlib import Path

from kagglecrawl.replica.folder import publish
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import Run, by_ref


def test_real_tables_published_from_a_folder(crawl: Run, samples: Path) -> None:
    folder = samples / "meta_kaggle"
    (published,) = publish([f"{folder}=kaggle/meta-kaggle"])
    with Replica(World(scale=None, extra=(published,))) as replica:
        done = crawl(replica)
    (row,) = done.rows
    files = {str(f.relative_to(folder)): f.stat().st_size for f in folder.rglob("*") if f.is_file()}
    assert row["Ref"] == "kaggle/meta-kaggle"
    assert {each["name"]: each["size"] for each in row["File Explorer"]} == files
    assert row["DatasetSize"] == sum(files.values())


def test_real_metadata_files_of_three_shapes(crawl: Run, samples: Path, tmp_path: Path) -> None:
    folders = []
    for path in sorted((samples / "metadata" / "datasets").glob("*.json")):
        folder = tmp_path / path.stem
        folder.mkdir()
        (folder / "dataset-metadata.json").write_bytes(path.read_bytes())
        (folder / "data.csv").write_text("a\n1\n", encoding="utf-8")
        folders.append(folder)
    published = publish([str(folder) for folder in folders])
    with Replica(World(scale=None, extra=tuple(published))) as replica:
        done = crawl(replica)
    rows = by_ref(done.rows)
    assert len(rows) == len(folders) == 5
    for folder in folders:
        real = json.loads((folder / "dataset-metadata.json").read_text(encoding="utf-8"))
        row = rows[real["id"]]
        assert row["Title"] == real["title"]
        assert [each["name"] for each in row["Licenses"]] == [x["name"] for x in real["licenses"]]
        assert row["Tags"] == real.get("keywords", [])
        assert row["Content"] == real.get("description", ""), "Markdown stays as it is"
        assert row["usabilityRating"] == real.get("usabilityRating", 1.0)
