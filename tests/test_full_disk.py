"""A disk that is full, or a file that may not grow, stops a job with one sentence; with room again
the same command goes on, and every row is there once."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import NO_FILES, QUICK, ROOT, Run, by_ref, clean_env, page_row, record
from tests.file_crawls import DATASETS, FILES, rows_of, tree, trees_of
from tests.killing.look import MINIMUM

#: The job, the feed, or the page files are on the small disk.
ON_IT = ("job", "feed", "workspace")
#: A disk has less room than each of them needs.
SIZE = 256 * 1024
WORLD = World(seed=1, scale="medium")
ARGUMENTS = (*NO_FILES, "-a", "pages=1-40")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few hundred kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if sys.platform != "linux" or not mount or subprocess.run(command, check=False).returncode:
        pytest.skip("only root on Linux can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def start(
    replica: Replica, home: Path, places: dict[str, Path], limit: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "scrapy", "crawl", "datasets", *QUICK, *ARGUMENTS),
            *("-s", f"JOBDIR={places['job']}", "-s", f"WORKSPACE={places['workspace']}"),
            *("-o", str(places["feed"] / "rows.jsonl")),
        ],
        cwd=ROOT,
        env=clean_env(home, **replica.crawler_env()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=limit,
        timeout=120,
        check=False,
    )


def stored(places: dict[str, Path]) -> tuple[dict[str, Any], list[Any]]:
    """What is in the feed, by Ref, and the rows of the page files."""
    feed = places["feed"] / "rows.jsonl"
    rows = [json.loads(line) for line in feed.read_text(encoding="utf-8").splitlines()]
    pages = places["workspace"].glob("output/datasets/meta_data/*")
    files = [path.read_text(encoding="utf-8") for path in pages]
    return by_ref(rows), [json.loads(line) for text in files for line in text.splitlines()]


def assert_whole(places: dict[str, Path]) -> None:
    rows, paged = stored(places)
    listed = {each.ref: record(each) for each in WORLD.public(0.8)}
    assert rows.items() <= listed.items()
    assert len(rows) > 100
    of_pages = [page_row(row) for row in rows.values()]
    by_page = {row["Ref"]: row for row in paged}
    assert len(by_page) == len(paged) == len(rows)
    for row in of_pages:
        assert by_page[row["Ref"]] == row


@pytest.mark.parametrize("on_it", ON_IT)
def test_a_full_disk(disk: Path, tmp_path: Path, on_it: str) -> None:
    places = {name: (disk if name == on_it else tmp_path) / name for name in ON_IT}
    with Replica(WORLD) as replica:
        full = start(replica, tmp_path, places)
        assert full.returncode == (3 if on_it == "workspace" else 1), full.stdout
        assert full.stdout.count("so the crawl stops; what was stored is kept") == 1, full.stdout
        assert "Traceback" not in full.stdout
        # the feed is not there yet where the disk was full at once
        before = stored(places)[0] if (places["feed"] / "rows.jsonl").exists() else {}
        resize(disk, 50_000_000)
        done = start(replica, tmp_path, places)
    assert done.returncode == 0, done.stdout
    assert_whole(places)
    assert before.items() <= stored(places)[0].items()


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """Whichever of them is too large first."""
    places = {name: tmp_path / name for name in ON_IT}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE, SIZE))

    with Replica(WORLD) as replica:
        full = start(replica, tmp_path, places, limit)
        assert full.returncode == 1, full.stdout
        assert full.stdout.count("so the crawl stops; what was stored is kept") == 1, full.stdout
        assert "Traceback" not in full.stdout
        done = start(replica, tmp_path, places)
    assert done.returncode == 0, done.stdout
    assert_whole(places)


# -- with files ------------------------------------------------------------------------------------

#: Some 6 MB of files.
SMALL = World(seed=1, gated=True)
MB = 1_000_000
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("min_free", [0, MB])
@pytest.mark.parametrize("job", [True, False], ids=["job", "no job"])
def test_no_room_for_files(
    crawl: Run, disk: Path, tmp_path: Path, min_free: int, job: bool
) -> None:
    """The crawl stops before that, or at it where nothing is to stay free; with room it goes on."""
    resize(disk, 2 * MB + min_free)
    workspace = disk / "workspace"
    options = [*FILES, "-s", f"WORKSPACE={workspace}", "-s", f"WORKSPACE_MIN_FREE={min_free}"]
    if job:
        options += ["-s", f"JOBDIR={tmp_path / 'job'}", "-o", str(tmp_path / "out.jsonl")]
    with Replica(SMALL) as replica:
        full = crawl(replica, *options)
        assert full.code == 3, full.log
        assert "Traceback" not in full.log
        errors = [line for line in full.log.splitlines() if " ERROR: " in line]
        # whoever meets it first: a transfer, a page file or the ledger
        told = [line for line in errors if "WORKSPACE" in line or "so the crawl stops" in line]
        assert len(told) == 1, full.log
        free = shutil.disk_usage(disk).free
        assert free >= min_free - 64 * PAGE, "page files may still be written"
        rows = by_ref(full.rows)
        assert len(rows) > 10
        had = [each for each in SMALL.downloadable(MINIMUM) if each.ref in rows]
        found, expected = tree(workspace / DATASETS), trees_of(had)
        assert expected.items() <= found.items(), "every row has its files"
        if not job:
            assert not [name for name in found if name.startswith(".")]
        resize(disk, 50 * MB)
        replica.reset_stats()
        done = crawl(replica, *options)
        again = replica.stats()["requests_by_key"]["DownloadDataset"]
    assert done.code == 0, done.log
    assert by_ref(done.rows) == rows_of(SMALL.public(MINIMUM))
    assert tree(workspace / DATASETS) == trees_of(SMALL.downloadable(MINIMUM))
    assert not job or not set(again) & set(rows)
