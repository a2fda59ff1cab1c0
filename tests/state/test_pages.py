"""A page file is whole, or it is not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scrapy import Spider

from kagglecrawl.state.pages import PageFiles, pages_of, sync_folder

LINES = [f"{line}\n".encode() for line in ('{"Ref": "a/b"}', '{"Title": "Grüße \u2028 🎉"}')]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_rows_are_lines_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "meta_data"
    pages = PageFiles(folder)
    assert pages.present() == set()
    assert not folder.exists(), "looking makes nothing"
    pages.write(7, LINES)
    pages.write(10, iter([]))
    assert (folder / "page_7.jsonl").read_bytes() == b"".join(LINES)
    assert (folder / "page_10.jsonl").read_bytes() == b""
    assert pages.present() == {7, 10}
    pages.write(7, [b"shorter\n"])
    assert (folder / "page_7.jsonl").read_bytes() == b"shorter\n"
    assert names(folder) == {"page_7.jsonl", "page_10.jsonl"}


def test_it_is_safe_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    replace, fsync = Path.replace, os.fsync

    def synced(descriptor: int) -> None:
        kind = "folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "file"  # noqa: PTH112
        steps.append(kind)
        fsync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        steps.append(f"{path.name} to {target.name}")
        assert path.read_bytes() == b"row\n"
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    PageFiles(tmp_path).write(1, [b"row\n"])
    beside = f".page_1.{os.getpid()}.jsonl.incomplete"
    assert steps == ["file", f"{beside} to page_1.jsonl", "folder"]


def lines_that_fail() -> Any:
    yield b"first\n"
    raise OSError(errno.ENOSPC, "No space left on device")


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_page_that_cannot_be_written_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    pages = PageFiles(tmp_path)
    pages.write(1, [b"before\n"])
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    if step == "rename":
        monkeypatch.setattr(Path, "replace", no_space)
    for number in (1, 2):
        with pytest.raises(OSError, match="No space left"):
            pages.write(number, lines_that_fail() if step == "write" else [b"after\n"])
    assert names(tmp_path) == {"page_1.jsonl"}
    assert (tmp_path / "page_1.jsonl").read_bytes() == b"before\n"


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = ["page_2.jsonl", "page_01.jsonl", "page_0.jsonl", "page_3.json", "notes.txt", ".hidden"]
    kept += ["my page_4.jsonl", "page_5.jsonl.bak", ".page_x.jsonl.incomplete"]
    kept += [f".page_2.{os.getppid()}.jsonl.incomplete"]  # of a crawl that is running
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    own, dead = os.getpid(), ended.pid
    for name in [*kept, f".page_2.{own}.jsonl.incomplete", f".page_12.{dead}.jsonl.incomplete"]:
        (tmp_path / name).write_text("x")
    assert PageFiles(tmp_path).present() == {2}
    assert names(tmp_path) == set(kept)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: folder.write_text("a file"),
        lambda folder: (folder / "page_1.jsonl").mkdir(parents=True),
    ],
)
def test_something_in_its_way(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder = tmp_path / "pages"
    spoil(folder)
    with pytest.raises(OSError):  # noqa: PT011  (a kind for each system)
        PageFiles(folder).write(1, [b"row\n"])


def test_a_folder_can_be_made_safe(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "nowhere")


def test_a_spider_says_where_its_pages_are(tmp_path: Path) -> None:
    def spider(**given: Any) -> Spider:
        return cast(Spider, SimpleNamespace(**given))

    assert pages_of(spider()) is None
    assert pages_of(spider(page_folder=None)) is None
    pages = pages_of(spider(page_folder=tmp_path))
    assert pages is not None
    assert not pages.aside
    pages.write(1, [b"row\n"])
    assert names(tmp_path) == {"page_1.jsonl"}
    assert pages_of(spider(page_folder=tmp_path, page_store=None)) is not None
    elsewhere = PageFiles(tmp_path)
    assert pages_of(spider(page_folder=tmp_path, page_store=elsewhere)) is elsewhere
