"""What crawls with files must leave: their rows, and a folder for each dataset."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from tests import warm
from tests.conftest import QUICK, ROOT, clean_env, record
from tests.warm import Process

Row = dict[str, Any]
#: Below the workspace; in it is a folder for each dataset.
DATASETS = "output/datasets/dataset"
FILES = ("-a", "download=true")


def folder_of(dataset: DatasetTruth) -> str:
    return f"{dataset.owner}_{dataset.slug}"


def with_files(dataset: DatasetTruth) -> Row:
    """The row of a dataset all of whose files are there."""
    download = {
        "folder": f"{DATASETS}/{folder_of(dataset)}",
        "files": len(dataset.files),
        "bytes": dataset.total_bytes,
        "leftOut": {},
        "reason": "",
    }
    return {**record(dataset), "Download": download}


def without_files(dataset: DatasetTruth, reason: str) -> Row:
    """The row of a dataset whose files cannot be had."""
    download = {"folder": "", "files": 0, "bytes": 0, "leftOut": {}, "reason": reason}
    return {**record(dataset), "Download": download}


def rows_of(datasets: Iterable[DatasetTruth]) -> dict[str, Row]:
    """The rows of these by ref, whether their files can be had or not."""
    return {
        each.ref: without_files(each, "forbidden") if each.state == "gated" else with_files(each)
        for each in datasets
    }


def tree(root: Path) -> dict[str, str]:
    """Everything below a folder, by its path: a file by its size and hash, a folder as such."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = "link"
        else:
            found[name] = "folder" if path.is_dir() else print_of(path.read_bytes())
    return found


def tree_of(files: Mapping[str, bytes], root: str = "") -> dict[str, str]:
    """What ``tree`` says of these files, and of the folders that they need; a name that ends in a
    slash is that of a folder."""
    found = {}
    for name, content in files.items():
        path = Path(root, name)
        found[path.as_posix()] = "folder" if name.endswith("/") else print_of(content)
        for parent in path.parents:
            found[parent.as_posix()] = "folder"
    found.pop(".", None)
    return found


def trees_of(datasets: Iterable[DatasetTruth]) -> dict[str, str]:
    """The folder with the folders of these datasets, all of whose files are there."""
    found: dict[str, str] = {}
    for each in datasets:
        files = {file.name: file.content() for file in each.files}
        found |= {folder_of(each): "folder"} | tree_of(files, folder_of(each))
    return found


def print_of(content: bytes) -> str:
    return f"{len(content)} bytes {hashlib.sha256(content).hexdigest()[:16]}"


# -- crawls that are watched while they run --------------------------------------------------------

#: Seconds for what must happen; far more than it takes.
PATIENCE = 60
LOG = "log.txt"


@contextmanager
def crawling(replica: Replica, home: Path, *args: str) -> Iterator[Process]:
    """A crawl with files whose log goes to a file in ``home``, behind what is there."""
    options = (*QUICK, *FILES, "-s", f"WORKSPACE={home / 'workspace'}", *args)
    with (home / LOG).open("ab") as log:
        env = clean_env(home, **replica.crawler_env())
        process = warm.start("scrapy", "crawl", "datasets", *options, cwd=ROOT, env=env, output=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
