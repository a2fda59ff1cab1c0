"""Files that somebody else has unpacked are held to the same rules."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import NoSpace
from kagglecrawl.state.transfers import Meter
from kagglecrawl.transfer import adopt as module
from kagglecrawl.transfer import staging
from kagglecrawl.transfer.adopt import adopt
from kagglecrawl.transfer.members import Choice
from tests.transfer.bench import Bench, files_in

TREE = {
    "a.csv": b"a",
    "b/": b"",
    "c/d/e.csv": b"eee",
    "c/f.json": b"ffffff",
    "c.csv": b"",
    "été/数据.csv": b"x" * 3_000_000,
}


pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "workspace")
    grow(made.staging.folder, TREE)
    return made


def grow(folder: Path, tree: dict[str, bytes]) -> None:
    for name, data in tree.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def take(bench: Bench, choice: Choice | None = None) -> Meter:
    meter = Meter()
    adopt(bench.staging, choice or Choice(), bench.notes, bench.guard, meter)
    return meter


def test_all_that_is_there_is_noted(bench: Bench) -> None:
    meter = take(bench)
    assert bench.files() == TREE
    assert bench.proved()
    files = {name: data for name, data in TREE.items() if not name.endswith("/")}
    tally = bench.job.tally(bench.number)
    assert (tally.files, tally.size) == (len(files), sum(map(len, files.values())))
    assert tally.left_out == {}
    assert dict(bench.job.every(bench.number)) == {n: len(data) for n, data in files.items()}
    assert bench.row.listed
    assert meter.written == tally.size


@pytest.mark.parametrize(
    ("choice", "left", "reason"),
    [
        (Choice(only=("*.json",)), {"c/f.json"}, "only"),
        (Choice(only=("nothing",)), set(), "only"),
        (Choice(only=("c/*.csv",)), {"c/d/e.csv"}, "only"),
        (Choice(max_bytes=6), {"a.csv", "b/", "c/d/e.csv", "c/f.json", "c.csv"}, "max_bytes"),
        (Choice(max_ratio=1), set(TREE), ""),
    ],
)
def test_what_is_not_wanted_is_removed(
    bench: Bench, choice: Choice, left: set[str], reason: str
) -> None:
    take(bench, choice)
    files = bench.files()
    assert {name: files[name] for name in files if name != "été/"} == {n: TREE[n] for n in left}
    assert set(bench.job.tally(bench.number).left_out) == ({reason} if reason else set())
    assert bench.proved()


@pytest.mark.parametrize(
    "name", ["con.csv", "e\u202ecsv.exe", "x ", "a\\b", "x.", "aux/fine.csv", "a:b", "e\nv"]
)
def test_names_that_are_refused(bench: Bench, name: str) -> None:
    grow(bench.staging.folder, {name: b"evil", "aux2/b.csv": b"fine"})
    take(bench)
    assert bench.files() == {**TREE, "aux2/b.csv": b"fine"}
    assert bench.job.tally(bench.number).left_out == {"unsafe_path": 1}


def test_names_that_are_no_unicode(bench: Bench) -> None:
    path = os.fsencode(bench.staging.folder) + b"/evil\xff.csv"
    try:
        with open(path, "wb") as file:  # noqa: PTH123  (bytes)
            file.write(b"x")
    except OSError:
        pytest.skip("this disk has no such names")
    take(bench)
    assert bench.files() == TREE
    assert bench.members()["evil\\udcff.csv"] == "unsafe_path"


def test_no_link_is_followed_and_nothing_outside_is_touched(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    grow(outside, {"precious.csv": b"precious"})
    folder = bench.staging.folder
    (folder / "file").symlink_to(outside / "precious.csv")
    (folder / "folder").symlink_to(outside)
    (folder / "c" / "up").symlink_to("../../../..")
    (folder / "nowhere").symlink_to("nowhere")
    (folder / "round").symlink_to("round")
    take(bench)
    assert bench.files() == TREE
    assert bench.job.tally(bench.number).left_out == {"link": 5}
    assert files_in(outside) == {"precious.csv": b"precious"}


def test_special_files_are_not_opened(bench: Bench) -> None:
    os.mkfifo(bench.staging.folder / "pipe")  # whoever opens it, waits
    take(bench)
    assert bench.files() == TREE
    assert bench.job.tally(bench.number).left_out == {"special_file": 1}


def test_folders_deeper_than_anybody_can_walk(bench: Bench) -> None:
    try:
        here = os.open(bench.staging.folder, os.O_RDONLY)
        for _ in range(1_050):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        take(bench)
        assert bench.job.tally(bench.number).left_out == {"unsafe_path": 1}
        assert TREE.items() <= bench.files().items()
        bench.staging.remove()
        assert not bench.staging.folder.exists()
    finally:
        if bench.staging.folder.exists():
            remove(bench.staging.folder)


def remove(folder: Path) -> None:
    """As ``rm -r``: pytest's own way does not get so deep."""
    found, open_ = [], [str(folder)]
    while open_:
        found.append(open_.pop())
        open_ += [each.path for each in os.scandir(found[-1]) if each.is_dir(follow_symlinks=False)]
    for each in reversed(found):
        for entry in os.scandir(each):
            if not entry.is_dir(follow_symlinks=False):
                Path(entry.path).unlink()
        Path(each).rmdir()


def test_what_an_earlier_run_had_noted_is_forgotten(bench: Bench) -> None:
    take(bench)
    (bench.staging.folder / "a.csv").unlink()
    (bench.staging.folder / "new.csv").write_bytes(b"new")
    take(bench)
    assert "a.csv" not in bench.members()
    assert bench.members()["new.csv"] == "done"


def test_many_are_noted_now_and_then(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(module, "BATCH", 3)
    monkeypatch.setattr(staging.Staging, "sync", lambda _: order.append("sync"))
    bench.noting = order.append
    take(bench)
    for at, word in enumerate(order):
        if word == "done":
            assert order[at - 1] == "sync"  # nothing is noted that is not safe
    assert order.count("done") >= 3
    assert order[-1] == "listed"


def full(_: Path, meter: Meter) -> bytes:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("what", [full, None])
def test_a_disk_that_fails(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, what: Callable[[Path, Meter], bytes] | None
) -> None:
    if what is not None:
        monkeypatch.setattr(module, "_sha256", what)
    else:
        bench.staging.remove()  # the folder is not there
    with pytest.raises(NoSpace, match="cannot be written"):
        take(bench)
    assert not bench.row.listed


def test_the_checksum_is_that_of_the_bytes(bench: Bench) -> None:
    take(bench)
    by_name = {row.name: row.sha256 for row in bench.rows()}
    for name, data in TREE.items():
        assert by_name[name] == sha256(data).digest()
