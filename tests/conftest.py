"""Whole crawls against a replica, each in a process of its own, as a user would start them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from tests import warm

#: Real S3 stores, for those who ask for one.
pytest_plugins = ["tests.stores"]

ROOT = Path(__file__).parent.parent
# how long an example takes is the machine's affair
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
#: Fast for a server on this machine; everything else as the project has it.
QUICK = (
    "-s",
    "DOWNLOAD_DELAY=0",
    "-s",
    "AUTOTHROTTLE_ENABLED=False",
    "-s",
    "KAGGLE_RETRY_BASE=0.02",
)
#: Crawls that are not about files leave them where they are; a later ``download=true`` counts.
NO_FILES = ("-a", "download=false")


def clean_env(home: Path, **more: str) -> dict[str, str]:
    """This process's environment with nothing of Kaggle's, of AWS's or of a proxy's in it."""
    names = re.compile(r"KAGGLE|AWS_|PROXY|SCRAPY|XDG_", re.IGNORECASE)
    env = {name: value for name, value in os.environ.items() if not names.search(name)}
    return {**env, "HOME": str(home), "COLUMNS": "200", **more}


@dataclass
class Crawl:
    """What came of a command."""

    code: int
    log: str
    rows: list[dict[str, Any]]
    """The feed's records, when the command ended."""

    def stat(self, name: str) -> int:
        """A number from the stats dump at the end of the log; 0 if it is not there."""
        found = re.findall(rf"'{re.escape(name)}': (\d+)", self.log)
        return int(found[-1]) if found else 0

    def stats(self, head: str) -> dict[str, int]:
        """Every number in the stats dump whose name begins so."""
        found = re.findall(rf"'{re.escape(head)}([^']*)': (\d+)", self.log)
        return {name: int(value) for name, value in found}

    @property
    def sentence(self) -> str:
        """What the command said, when it said one thing only."""
        return self.log.strip()


Run = Callable[..., Crawl]


@pytest.fixture
def scrapy(tmp_path: Path) -> Run:
    """Run ``scrapy …`` in the project, with nothing of Kaggle's configured but ``env``."""

    def run(*args: str, env: dict[str, str] | None = None, timeout: float = 120) -> Crawl:
        given = clean_env(tmp_path, **(env or {}))
        code, log = warm.run("scrapy", *args, cwd=ROOT, env=given, timeout=timeout)
        feed = tmp_path / "out.jsonl"
        # not splitlines, which takes U+2028 in a text for the end of a line
        lines = feed.read_text(encoding="utf-8").split("\n") if feed.exists() else []
        rows = [json.loads(line) for line in lines if line]
        return Crawl(code, log, rows)

    return run


@pytest.fixture
def crawl(scrapy: Run, tmp_path: Path) -> Run:
    """Crawl a replica's datasets into a feed, without their files, with stats in the log."""

    def run(replica: Replica | None, *args: str, env: dict[str, str] | None = None) -> Crawl:
        given = {**(replica.crawler_env() if replica else {}), **(env or {})}
        standard = ("-s", "STATS_DUMP=True", "-s", f"WORKSPACE={tmp_path / 'workspace'}")
        feed = () if {"-o", "-O"} & set(args) else ("-O", str(tmp_path / "out.jsonl"))
        options = (*feed, *QUICK, *NO_FILES, *standard, *args)
        return scrapy("crawl", "datasets", *options, env=given)

    return run


@pytest.fixture
def samples() -> Path:
    """The folder of real data, where there is one."""
    folder = os.environ.get("KAGGLECRAWL_SAMPLES")
    if not folder:
        pytest.skip("KAGGLECRAWL_SAMPLES names no folder of real samples")
    return Path(folder)


def record(dataset: DatasetTruth) -> dict[str, Any]:
    """The row that a right crawler writes for a dataset of the replica's world, without files."""
    moment = dataset.last_updated
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return {
        "Ref": dataset.ref,
        "Title": dataset.title,
        "lastUpdated": f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z",
        "DatasetSize": dataset.total_bytes,
        "usabilityRating": dataset.usability,
        "File Explorer": [{"name": file.name, "size": file.size} for file in dataset.files],
        "Licenses": [{"name": dataset.licence.name}],
        "Tags": [tag.name for tag in dataset.tags],
        "Content": dataset.content_markdown,
        "Version": dataset.version,
        "Download": None,
    }


def page_row(row: dict[str, Any]) -> dict[str, Any]:
    """A feed's row as it is in a page file: the seeds' fields and no other."""
    return {name: value for name, value in row.items() if name not in {"Version", "Download"}}


def by_ref(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows by their Ref; fails on a doubled one."""
    found = {row["Ref"]: row for row in rows}
    assert len(found) == len(rows), "a dataset is in the feed twice"
    return found
