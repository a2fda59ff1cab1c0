"""Where files are collected, and how they get to their place."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from kagglecrawl.kaggle.errors import Unusable
from kagglecrawl.kaggle.names import UnsafeName
from kagglecrawl.transfer import staging as module
from kagglecrawl.transfer.staging import Staging
from tests.transfer.bench import files_in


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    made = Staging(tmp_path / "dataset" / "me_set", "0a1b2c3d")
    made.prepare()
    return made


def put(staging: Staging, name: str, data: bytes = b"new") -> None:
    with staging.open(staging.path(name)) as file:
        file.write(data)


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["me_set", "m", "é" * 127, "x" * 255, "a.b", ".", "[a]*?"])
def test_the_names_beside_it_fit_and_are_its_own(tmp_path: Path, name: str) -> None:
    made = Staging(tmp_path / name, "0a1b2c3d")
    beside = {made.folder, made.archive, made.scratch}
    assert len(beside) == 3
    for each in beside:
        assert each.parent == made.target.parent
        assert each.name.startswith(".")
        assert len(each.name.encode()) <= 255
    made.prepare()
    put(made, "a.csv")
    assert (made.folder / "a.csv").read_bytes() == b"new"


def test_long_names_that_begin_alike_do_not_share_a_folder(tmp_path: Path) -> None:
    one, two = (Staging(tmp_path / ("x" * 240 + end), "0a1b2c3d") for end in "ab")
    assert not {one.folder, one.archive, one.scratch} & {two.folder, two.archive, two.scratch}


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "", "a//b", "C:a", "a\0b", "..", "con"])
def test_no_name_leads_out(staging: Staging, name: str) -> None:
    with pytest.raises(UnsafeName):
        staging.path(name)


def test_leftovers_are_this_targets_and_of_another_crawl(tmp_path: Path) -> None:
    here = tmp_path / "dataset"
    mine = Staging(here / "me_set", "0a1b2c3d")
    mine.prepare()
    mine.archive.touch()
    theirs = Staging(here / "me_set", "ffffffff")
    theirs.prepare()
    theirs.archive.touch()
    theirs.scratch.mkdir()
    for other in ("me_set.v2", "me_set2", "me", "you_set"):  # these are under way
        Staging(here / other, "0a1b2c3d").prepare()
    (here / "me_set").mkdir()
    (here / ".me_set.txt").touch()
    (here / ".me_set.notes.incomplete").touch()
    assert set(mine.leftovers()) == {theirs.folder, theirs.archive, theirs.scratch}


def test_leftovers_of_names_that_are_patterns(tmp_path: Path) -> None:
    Staging(tmp_path / "a_b", "ffffffff").prepare()
    assert Staging(tmp_path / "[a]_*", "0a1b2c3d").leftovers() == []
    assert Staging(tmp_path / "nowhere" / "a_b", "0a1b2c3d").leftovers() == []


# -- writing ---------------------------------------------------------------------------------------


def test_a_file_is_written_anew_or_gone_on_with(staging: Staging) -> None:
    path = staging.path("a/b.csv")
    put(staging, "a/b.csv", b"0123456789")
    with staging.open(path, keep=4) as file:
        file.write(b"ab")
    assert path.read_bytes() == b"0123ab"
    with staging.open(path, keep=0) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


def test_files_have_the_users_usual_rights(staging: Staging) -> None:
    put(staging, "a/b.csv")
    usual = staging.folder / "usual"
    usual.touch()
    assert stat.S_IMODE(staging.path("a/b.csv").stat().st_mode) == stat.S_IMODE(
        usual.stat().st_mode
    )


@pytest.mark.parametrize("where", ["a.csv", "data/a.csv"])
def test_nothing_is_written_through_a_link(staging: Staging, tmp_path: Path, where: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.csv").write_bytes(b"precious")
    link = staging.folder / where.split("/")[0]
    link.symlink_to(outside if "/" in where else outside / "a.csv")
    with pytest.raises(OSError, match=r"link|exists"):
        put(staging, where)
    assert files_in(outside) == {"a.csv": b"precious"}


def test_nothing_is_written_through_a_link_to_nowhere(staging: Staging, tmp_path: Path) -> None:
    staging.path("a.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="link"):
        put(staging, "a.csv")
    assert not (tmp_path / "nowhere").exists()


def test_what_is_made_safe(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file, and each folder whose entries are new."""
    synced: list[Path] = []
    monkeypatch.setattr(module, "_sync", synced.append)
    monkeypatch.setattr(module, "_MANY", 1_000)
    put(staging, "a/b/c.csv")
    staging.sync()
    folder = staging.folder
    assert {folder / "a/b/c.csv", folder / "a/b", folder / "a", folder} <= set(synced)
    synced.clear()
    staging.sync()
    assert synced == []
    put(staging, "a/b/d.csv")
    staging.sync()
    assert {folder / "a/b/d.csv", folder / "a/b"} <= set(synced)


def test_many_files_are_made_safe_at_once(
    staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    whole: list[Path] = []

    def one(path: Path) -> None:
        assert path.exists() or path.name == "5.csv"
        synced.append(path)
        os.close(os.open(path, os.O_RDONLY))

    def disk(folder: Path) -> bool:
        whole.append(folder)
        return len(whole) == 1

    monkeypatch.setattr(module, "_sync", one)
    monkeypatch.setattr(module, "_sync_disk", disk)
    for _ in range(2):
        for number in range(30):
            put(staging, f"{number}.csv")
        staging.path("5.csv").unlink()  # left out since
        staging.sync()
        assert bool(synced) == (len(whole) == 2)
    assert len(whole) == 2
    assert {path.name for path in synced} >= {f"{number}.csv" for number in range(30)}


def test_the_systems_call_works_where_there_is_one(staging: Staging) -> None:
    assert module._sync_disk(staging.folder) is (module._SYNCFS is not None)


def test_does_the_disk_tell_names_apart(staging: Staging) -> None:
    (staging.folder / "a").touch()
    (staging.folder / "A").touch()
    apart = len(list(staging.folder.iterdir())) == 2
    assert staging.exact() == apart
    assert {each.name for each in staging.folder.iterdir()} <= {"a", "A"}


# -- to their place --------------------------------------------------------------------------------


def test_a_new_folder_gets_its_name_in_one_step(staging: Staging) -> None:
    put(staging, "a/b.csv")
    staging.archive.touch()
    number = staging.folder.stat().st_ino
    staging.publish()
    assert files_in(staging.target) == {"a/b.csv": b"new"}
    assert staging.target.stat().st_ino == number
    assert [each.name for each in staging.target.parent.iterdir()] == ["me_set"]
    staging.publish()  # a kill has forgotten that
    assert files_in(staging.target) == {"a/b.csv": b"new"}


def test_a_folder_that_is_there_is_merged_with(staging: Staging) -> None:
    target = staging.target
    (target / "data" / "deep").mkdir(parents=True)
    (target / "data" / "old.csv").write_bytes(b"old")
    (target / "data" / "both.csv").write_bytes(b"old")
    (target / "other").mkdir()
    for name in ("data/both.csv", "data/deep/new.csv", "new/a.csv", "b.csv"):
        put(staging, name)
    staging.make_folder(staging.path("empty/"))
    staging.publish()
    assert files_in(target) == {
        "b.csv": b"new",
        "data/both.csv": b"new",
        "data/deep/new.csv": b"new",
        "data/old.csv": b"old",
        "empty/": b"",
        "new/a.csv": b"new",
        "other/": b"",
    }
    assert [each.name for each in target.parent.iterdir()] == ["me_set"]


@pytest.mark.parametrize("after", range(6))
def test_a_merge_that_was_killed_is_gone_on_with(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    names = ["a.csv", "data/b.csv", "data/deep/c.csv", "z.csv"]
    staging.target.mkdir()
    for name in names:
        put(staging, name, name.encode())
    calls = 0
    replace = Path.replace

    class Killed(BaseException):
        pass

    def killed(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    if after < len(names):
        with pytest.raises(Killed):
            staging.publish()
    monkeypatch.undo()
    again = Staging(staging.target, "0a1b2c3d")
    again.prepare()
    for name in names:
        assert again.has(name, len(name), sha256(name.encode()).digest())
    again.publish()
    assert files_in(again.target) == {name: name.encode() for name in names}


@pytest.mark.parametrize(
    ("there", "new"),
    [
        ("file data", "data/a.csv"),
        ("folder a.csv", "a.csv"),
        ("link data", "data/a.csv"),
        ("file", "a.csv"),
        ("link to nowhere", "a.csv"),
    ],
)
def test_something_else_in_their_place(
    staging: Staging, tmp_path: Path, there: str, new: str
) -> None:
    """It fails this resource, and not the disk: others can be stored."""
    target, outside = staging.target, tmp_path / "outside"
    outside.mkdir()
    kind, *name = there.split()
    place = target / name[0] if len(name) == 1 else target
    place.parent.mkdir(exist_ok=True)
    if kind == "file":
        place.write_bytes(b"precious")
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(outside if len(name) == 1 else outside / "nowhere")
    put(staging, new)
    before = files_in(target.parent)
    with pytest.raises(Unusable) as caught:
        staging.publish()
    assert str(place) in str(caught.value)
    assert ".incomplete" not in str(caught.value)
    assert list(outside.iterdir()) == []
    assert files_in(target.parent) == before


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(
    staging: Staging, tmp_path: Path
) -> None:
    outside = tmp_path / "precious"
    outside.write_bytes(b"precious")
    staging.target.mkdir()
    (staging.target / "a.csv").symlink_to(outside)
    put(staging, "a.csv")
    staging.publish()
    assert outside.read_bytes() == b"precious"
    assert files_in(staging.target) == {"a.csv": b"new"}
    assert not (staging.target / "a.csv").is_symlink()


# -- is it still there? ----------------------------------------------------------------------------

NEW = sha256(b"new").digest()


def linked(staging: Staging) -> None:
    elsewhere = staging.folder.parent / "elsewhere"
    elsewhere.write_bytes(b"new")
    staging.path("a.csv").symlink_to(elsewhere)


def placed(staging: Staging, data: bytes) -> None:
    staging.target.mkdir()
    (staging.target / "a.csv").write_bytes(data)


@pytest.mark.parametrize(
    ("make", "there"),
    [
        (lambda s: None, False),
        (lambda s: put(s, "a.csv"), True),
        (lambda s: put(s, "a.csv", b"newer"), False),
        (lambda s: put(s, "a.csv", b""), False),
        (lambda s: put(s, "a.csv/b"), False),
        (linked, False),
        (lambda s: placed(s, b"new"), True),
        (lambda s: placed(s, b"old"), False),
        (lambda s: placed(s, b"newer"), False),
        (lambda s: s.target.write_bytes(b"a file"), False),
    ],
)
def test_is_a_file_there(staging: Staging, make: Callable[[Staging], None], there: bool) -> None:
    make(staging)
    assert staging.has("a.csv", 3, NEW) is there


def test_is_a_folder_there(staging: Staging) -> None:
    assert not staging.has("a/", 0, b"")
    staging.path("a").symlink_to(staging.folder.parent)
    assert not staging.has("a/", 0, b"")
    staging.path("a").unlink()
    staging.path("a").write_bytes(b"")
    assert not staging.has("a/", 0, b"")
    staging.path("a").unlink()
    staging.make_folder(staging.path("a/"))
    assert staging.has("a/", 0, b"")
    staging.publish()
    assert staging.has("a/", 0, b"")


def test_forgotten(staging: Staging) -> None:
    put(staging, "a/b.csv")
    staging.archive.touch()
    staging.scratch.mkdir()
    (staging.scratch / "c").touch()
    staging.forget_if_empty()
    assert staging.folder.exists()
    staging.remove()
    assert list(staging.target.parent.iterdir()) == []
    staging.remove()
    staging.forget_if_empty()
    staging.prepare()
    put(staging, "a/b.csv")  # its folder is made again
    staging.sync()
    staging.publish()
    assert files_in(staging.target) == {"a/b.csv": b"new"}
