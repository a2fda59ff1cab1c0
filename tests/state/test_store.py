"""The job's file: what lasts and what does not, and whose file it is."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from kagglecrawl.state.store import APPLICATION_ID, FILE, NotOurs, State, Store
from tests.conftest import ROOT, clean_env
from tests.state.helpers import add, state_of


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- what lasts ------------------------------------------------------------------------------------


def test_nothing_lasts_without_a_commit(path: Path) -> None:
    with closing(Store.create(path)) as store:
        add(store, "kept")
        store.add_count("stored")
        store.put("run", "1")
        store.commit()
        add(store, "lost")
        store.add_count("stored", 5)
        store.put("run", "2")
        store.discover("a/b", 1, 0)
    with closing(Store.open(path)) as again:
        assert state_of(again, "kept") is State.PENDING
        assert again.find(b"lost") is None
        assert (again.count("stored"), again.get("run"), again.known("a/b")) == (1, "1", None)


def test_a_rollback_takes_back_everything_and_goes_on(store: Store) -> None:
    store.add_count("stored", 2)
    number = add(store, "a")
    store.commit()
    store.finish(number)
    store.add_count("stored")
    store.add_count("failed")
    store.rollback()
    assert state_of(store, "a") is State.PENDING
    assert store.counts() == {"stored": 2}
    store.add_count("stored")
    store.commit()
    store.rollback()
    assert store.counts() == {"stored": 3}


KILLED = """
import os, signal, sys
from pathlib import Path
from kagglecrawl.state.store import State, Store

store = Store.create(Path(sys.argv[1]))
for number in range(2000):
    store.add_request(b"%d" % number, State.PENDING, "api", 0, 1, None, "x" * 500)
    store.add_count("added")
    if number == 999:
        store.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_last_commit(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], cwd=ROOT, env=clean_env(tmp_path), check=False
    )
    assert done.returncode == -signal.SIGKILL
    for read in (Store.look, Store.open):
        with closing(read(path)) as store:
            assert store.open_requests() == store.count("added") == 1000
    with closing(Store.open(path)) as store:
        database = store._db
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_store_that_was_closed_between_two_commits_can_be_copied(
    path: Path, tmp_path: Path
) -> None:
    """What stands in the log beside the file is part of it."""
    copies = tmp_path / "copies"
    copies.mkdir()
    with closing(Store.create(path)) as store:
        add(store, "a")
        store.commit()
        add(store, "b")
        for each in path.parent.glob(f"{FILE}*"):
            shutil.copy(each, copies)
    with closing(Store.open(copies / FILE)) as copy:
        assert state_of(copy, "a") is State.PENDING
        assert copy.find(b"b") is None


# -- the file --------------------------------------------------------------------------------------


def test_it_is_its_owners_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(Store.create(path)) as store:
            add(store, "a")
            store.commit()
            with closing(Store.look(path)):
                files = {each.name: mode(each) for each in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert set(files) == {FILE, f"{FILE}-wal", f"{FILE}-shm"}
    assert set(files.values()) == {0o600}


def test_what_a_kill_left_of_a_new_one_is_no_hindrance(path: Path) -> None:
    for name in (f"{FILE}.incomplete", f"{FILE}.incomplete-journal"):
        (path.parent / name).write_bytes(b"half")
    with closing(Store.create(path)) as store:
        add(store, "a")
        store.commit()
    assert [each.name for each in path.parent.iterdir()] == [FILE]


def test_it_has_no_name_until_it_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Store.create(path)
    assert not path.exists()


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript("CREATE TABLE job (name, value); CREATE TABLE cookies (x)")


def of_a_newer_version(path: Path) -> None:
    Store.create(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")


def ours_without_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 4")


def cut(path: Path, size: Callable[[int], int]) -> None:
    with closing(Store.create(path)) as store:
        for number in range(200):
            add(store, f"{number}")
            store.discover(f"key/{number}", 1, number)
        store.commit()
    with path.open("r+b") as file:
        file.truncate(size(path.stat().st_size))


WRONG: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "text": (
        lambda path: path.write_text("my notes\n" * 1000),
        sqlite3.DatabaseError,
        "not a database",
    ),
    "empty": (lambda path: path.touch(), NotOurs, "no job file of kagglecrawl's"),
    "another program's": (of_another_program, NotOurs, "no job file of kagglecrawl's"),
    "a newer one's": (of_a_newer_version, NotOurs, "newer kagglecrawl (format 99"),
    "without tables": (ours_without_tables, sqlite3.DatabaseError, "no such table"),
    "cut to half": (lambda path: cut(path, lambda n: n // 2), sqlite3.DatabaseError, "malformed"),
    "cut to 100 bytes": (lambda path: cut(path, lambda _: 100), sqlite3.DatabaseError, "malformed"),
    "cut to nothing": (lambda path: cut(path, lambda _: 0), NotOurs, "no job file"),
    "a folder": (lambda path: path.mkdir(), sqlite3.OperationalError, " "),
    "nothing": (lambda _: None, sqlite3.OperationalError, "unable to open"),
}


@pytest.mark.parametrize("read", [Store.open, Store.look], ids=["open", "look"])
@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_none_of_ours_is_refused_and_left_alone(
    path: Path, name: str, read: Callable[[Path], Store]
) -> None:
    make, error, words = WRONG[name]
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(error, match=re.escape(words)):
        read(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    beside = {each for each in path.parent.iterdir() if each != path}
    assert beside <= {path.with_name(f"{FILE}-wal"), path.with_name(f"{FILE}-shm")}
    assert all(mode(each) == 0o600 for each in beside)


def test_looking_sees_the_last_commit_and_disturbs_nobody(path: Path) -> None:
    with closing(Store.create(path)) as store:
        add(store, "a")
        store.commit()
        add(store, "b")
        with closing(Store.look(path)) as seen:
            assert state_of(seen, "a") is State.PENDING
            assert seen.find(b"b") is None
            store.commit()
            assert seen.find(b"b") is None, "as of one moment"
        with closing(Store.look(path)) as seen:
            assert state_of(seen, "b") is State.PENDING
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                seen.put("x", "y")


def test_a_folder_that_cannot_be_written_can_be_looked_at(path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    with closing(Store.create(path)) as store:
        add(store, "a")
        store.commit()
    path.parent.chmod(0o500)
    try:
        with closing(Store.look(path)) as seen:
            assert state_of(seen, "a") is State.PENDING
    finally:
        path.parent.chmod(0o700)


def test_two_cannot_write_at_once(path: Path) -> None:
    with closing(Store.create(path)), pytest.raises(sqlite3.OperationalError, match="locked"):
        Store.open(path)
