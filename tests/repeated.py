"""Crawls that follow another, against one replica: what they are started with, and looked at by."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from kagglecrawl.replica.faults import Faults
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World, published
from kagglecrawl.state.ledger import Ledger
from tests.killing.shapes import workspace

CHANGED_ONLY = ("-a", "changed_only=true")
REFRESH = ("-a", "refresh=true")
NO_RETRIES = ("-s", "KAGGLE_MAX_ATTEMPTS=1")
METADATA, DOWNLOAD, LIST = "GetDatasetMetadata", "DownloadDataset", "ListDatasets"


def ledger_of(tmp_path: Path) -> Ledger:
    return Ledger(workspace(tmp_path) / "ledger.sqlite", "loopback", "datasets")


def gone_of(tmp_path: Path) -> dict[str, str]:
    """What the ledger has of resources that are gone."""
    with closing(sqlite3.connect(workspace(tmp_path) / "ledger.sqlite")) as file:
        return dict(file.execute("SELECT key, gone FROM resource WHERE gone <> ''"))


def pages_of(tmp_path: Path) -> dict[str, bytes]:
    folder = workspace(tmp_path) / "output/datasets/meta_data"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def asked(replica: Replica) -> dict[str, dict[str, int]]:
    """What the replica was asked for since it was last looked at, by method and key."""
    found: dict[str, dict[str, int]] = replica.stats()["requests_by_key"]
    replica.reset_stats()
    return {method: keys for method, keys in found.items() if method != LIST}


def once(datasets: Iterable[DatasetTruth]) -> dict[str, int]:
    return {each.ref: 1 for each in datasets}


def two(version: int = 1, **changed: bytes) -> tuple[DatasetTruth, ...]:
    """A world's datasets, of which ``a/one`` may have other files."""
    files = {"data.csv": b"a,b\n1,2\n" * 20, "more.csv": b"x\n", **changed}
    other = {"other.csv": b"c\n3\n"}
    return published("a/one", files=files, version=version), published("b/two", files=other)


@contextmanager
def replica_of(*datasets: DatasetTruth, faults: Faults | None = None) -> Iterator[Replica]:
    world = World(scale=None, extra=datasets or two())
    with Replica(world, faults=faults) as replica:
        yield replica
