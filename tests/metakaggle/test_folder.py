"""Where a table is found, and that one out of a zip is there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kagglecrawl.metakaggle.folder import find_table, tables
from kagglecrawl.metakaggle.table import TableRefused

CONTENT = b"Id,Title\r\n" + b"".join(b"%d,Title %d\r\n" % (n, n * 7919) for n in range(9000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "meta-kaggle"
    made.mkdir()
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "cache"


def put(path: Path, content: bytes = CONTENT, member: str = "Competitions.csv") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("notes.txt", "not this one")
        archive.writestr(member, content)
    return path


def refusal(folder: Path, cache: Path, name: str = "Competitions") -> str:
    with pytest.raises(TableRefused) as caught:
        find_table(folder, name, cache)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def visible(cache: Path) -> list[Path]:
    """What is in the cache, but for the empty file that is locked."""
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_a_csv_file_is_taken_as_it_is(folder: Path, cache: Path) -> None:
    path = folder / "Competitions.csv"
    path.write_bytes(CONTENT)
    put(folder / "Competitions.csv.zip", b"Id\n")
    assert find_table(folder, "Competitions", cache) == path
    assert not cache.exists()


def test_an_empty_csv_file_is_one(folder: Path, cache: Path) -> None:
    (folder / "KernelVotes.csv").touch()
    assert find_table(folder, "KernelVotes", cache) == folder / "KernelVotes.csv"


@pytest.mark.parametrize("name", ["Competitions.csv.zip", "Competitions.zip", "Competitions.csv"])
@pytest.mark.parametrize("member", ["Competitions.csv", "meta/Competitions.csv"])
def test_a_zip_is_unpacked(folder: Path, cache: Path, name: str, member: str) -> None:
    put(folder / name, member=member)
    path = find_table(folder, "Competitions", cache)
    assert path.read_bytes() == CONTENT
    assert visible(cache) == [path]


def test_it_is_unpacked_once_and_again_when_the_zip_changes(folder: Path, cache: Path) -> None:
    zipped = put(folder / "Competitions.csv.zip")
    first = find_table(folder, "Competitions", cache)
    before = first.stat()
    os.utime(zipped)
    assert find_table(folder, "Competitions", cache) == first
    assert first.stat() == before
    put(zipped, CONTENT + b"1,x\r\n")
    second = find_table(folder, "Competitions", cache)
    assert second.read_bytes() == CONTENT + b"1,x\r\n"
    assert visible(cache) == [second], "the old one is gone"


def test_what_was_cut_short_in_the_cache_is_unpacked_again(folder: Path, cache: Path) -> None:
    put(folder / "Competitions.csv.zip")
    path = find_table(folder, "Competitions", cache)
    path.write_bytes(CONTENT[:100])
    assert find_table(folder, "Competitions", cache).read_bytes() == CONTENT


def test_two_folders_share_a_cache(folder: Path, cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    put(folder / "Competitions.csv.zip")
    put(other / "Competitions.csv.zip", b"Id\n1\n")
    paths = [find_table(each, "Competitions", cache) for each in (folder, other, folder)]
    assert [path.read_bytes() for path in paths] == [CONTENT, b"Id\n1\n", CONTENT]
    assert len(visible(cache)) == 2


def test_several_at_once_unpack_it_once(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "Competitions.csv.zip")
    copies: list[int] = []
    copy = shutil.copyfileobj

    def counted(*args: Any) -> None:
        copies.append(1)
        time.sleep(0.1)  # the others come meanwhile
        copy(*args)

    monkeypatch.setattr(shutil, "copyfileobj", counted)
    with ThreadPoolExecutor(6) as threads:
        found = [*threads.map(lambda _: find_table(folder, "Competitions", cache), range(6))]
    assert len(set(found)) == len(copies) == 1
    assert found[0].read_bytes() == CONTENT


def test_damage_leaves_nothing(folder: Path, cache: Path) -> None:
    path = put(folder / "Competitions.csv.zip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "is no zip that can be unpacked" in refusal(folder, cache)
    assert "download it again" in refusal(folder, cache)
    assert visible(cache) == []
    path.write_bytes(content[: len(content) // 2])
    assert "is no zip that can be unpacked (File is not a zip file)" in refusal(folder, cache)


def test_a_wrong_checksum_leaves_nothing(folder: Path, cache: Path) -> None:
    path = folder / "Competitions.csv.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("Competitions.csv", CONTENT)
    path.write_bytes(path.read_bytes().replace(b"Title 7919\r", b"Title 7918\r"))
    assert "Bad CRC-32" in refusal(folder, cache)
    assert visible(cache) == []


def test_an_encrypted_zip_is_refused(folder: Path, cache: Path) -> None:
    path = put(folder / "Competitions.csv.zip")
    content = bytearray(path.read_bytes())
    at = content.rfind(b"PK\1\2")
    content[at + 8] |= 1
    path.write_bytes(content)
    assert "encrypted" in refusal(folder, cache)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(folder: Path, cache: Path) -> None:
    put(folder / "Competitions.csv.zip", b"0" * (30 << 20))
    assert "would unpack" in refusal(folder, cache)
    assert "to 31.5 MB, which is absurd" in refusal(folder, cache)
    assert not cache.exists()


@pytest.mark.parametrize("members", [[], ["a/Competitions.csv", "Competitions.csv"]])
def test_a_zip_that_does_not_hold_one_is_refused(
    folder: Path, cache: Path, members: list[str]
) -> None:
    with zipfile.ZipFile(folder / "Competitions.csv.zip", "w") as archive:
        for each in members:
            archive.writestr(each, CONTENT)
    said = f"holds {len(members) or 'no'} files Competitions.csv, and should hold one"
    assert said in refusal(folder, cache)


def test_what_is_absent_is_named_with_what_to_do(folder: Path, cache: Path) -> None:
    (folder / "Competitions.csv").mkdir()
    text = refusal(folder, cache)
    assert f"the folder {folder} has no Competitions.csv and no Competitions.csv.zip" in text
    assert "kaggle.com/datasets/kaggle/meta-kaggle" in text
    assert "there is no folder" in refusal(folder / "nowhere", cache)
    assert "no table '../x'" in refusal(folder, cache, "../x")


class Usage(NamedTuple):
    free: int


def test_a_disk_without_room_is_said_before_anything_is_written(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "Competitions.csv.zip")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(len(CONTENT) - 1))
    text = refusal(folder, cache)
    assert "do not fit on this disk: make room, or unpack it yourself" in text
    assert visible(cache) == []


def test_a_disk_that_fills_up_leaves_nothing(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "Competitions.csv.zip")

    def full(source: Any, target: Any, length: int) -> None:
        target.write(source.read(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert f"cannot be unpacked into {cache}: No space left" in refusal(folder, cache)
    assert visible(cache) == []


def test_a_cache_that_cannot_be_made_is_said(folder: Path, tmp_path: Path) -> None:
    put(folder / "Competitions.csv.zip")
    (tmp_path / "file").touch()
    assert "cannot be unpacked into" in refusal(folder, tmp_path / "file" / "cache")


def test_the_tables_of_a_folder(folder: Path) -> None:
    for name in ("Teams.csv", "Teams.csv.zip", "Users.csv.zip", "archive.zip", "x.txt", "a.b.csv"):
        (folder / name).touch()
    assert tables(folder) == ["Teams", "Users"]
