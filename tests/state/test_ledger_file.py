"""The ledger's file: several processes, one that is killed, and what is no ledger."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kagglecrawl.state.ledger import Ledger, LedgerBusy, LedgerRefused
from tests.conftest import ROOT
from tests.state.ledgers import KAGGLE, WRITE, contents, digest, manifest, stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workspace" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger(path, KAGGLE, "datasets")) as made:
        yield made


# -- processes -------------------------------------------------------------------------------------


def test_processes_share(path: Path) -> None:
    """Four of them make it and write the same at once: as if one had."""
    running = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(path), "15"], cwd=ROOT) for _ in range(4)
    ]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    alone = path.with_name("alone.sqlite")
    subprocess.run([sys.executable, "-c", WRITE, str(alone), "15"], cwd=ROOT, check=True)
    ours = ("SELECT key, first_seen, last_listed FROM resource", "SELECT version, at FROM version")
    found = []
    for each in (path, alone):
        with closing(sqlite3.connect(each)) as file:
            found.append([sorted(file.execute(query)) for query in ours])
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert found[0] == found[1]
    assert len(found[0][0]) == 15 * 7


_HALF = """
import sys
from pathlib import Path
from kagglecrawl.state.ledger import Ledger, Outcome

def files():
    for number in range(50_000):
        yield f"{number}.csv", 1, bytes(32), ""
    print("half", flush=True)
    sys.stdin.read()

def outcomes():
    for number in range(200):
        yield Outcome(f"new/{number}", "1", "stored", "", "s", 1, "{}")
    manifest = '{"folder": "f", "files": 1, "bytes": 1}'
    yield Outcome("old/0", "1", "stored", "", "s", 9, "{}", "", manifest, files())

Ledger(Path(sys.argv[1]), "loopback", "datasets").apply(outcomes())
"""


def test_a_kill_in_the_middle_leaves_all_or_nothing(path: Path) -> None:
    """And while another process writes, what is there can be read, and nothing be written."""
    with closing(Ledger(path, "loopback", "datasets")) as ledger:
        kept = manifest("f", 1, 1)
        ledger.apply([stored("old/0", 1, manifest=kept, files=[("old.csv", 1, digest("old"), "")])])
        before = contents(path)
        with subprocess.Popen(
            [sys.executable, "-c", _HALF, str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"half\n"
            assert [name for name, *_ in ledger.files("old/0", "1")] == ["old.csv"]
            with pytest.raises(LedgerBusy, match=r"another process holds it\): try again"):
                ledger.apply([stored("b/b", 1)])
            with closing(Ledger(path, "loopback", "datasets")) as other:
                other.check()
                assert other.known("old/0", "1") is not None
            process.send_signal(signal.SIGKILL)
        assert contents(path) == before
        ledger.apply([stored("b/b", 1)])
        assert len(contents(path)["resource"]) == 2


# -- the file --------------------------------------------------------------------------------------


def test_it_is_its_owners_alone(ledger: Ledger, path: Path) -> None:
    ledger.apply([stored("o/s", 1)])
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_it_may_be_removed_while_it_is_open(ledger: Ledger, path: Path) -> None:
    ledger.apply([stored("o/s", 1)])
    path.unlink()
    assert ledger.known("o/s", "1") is None
    assert not path.exists()
    ledger.apply([stored("p/s", 1)])
    assert ledger.known("p/s", "1") is not None
    shutil.rmtree(path.parent)
    ledger.apply([stored("q/s", 1)])
    assert [row[3] for row in contents(path)["resource"]] == ["q/s"]
    path.rename(path.with_name("old"))
    with closing(Ledger(path, KAGGLE, "datasets")) as other:
        other.apply([stored("r/s", 1)])
    assert ledger.known("q/s", "1") is None
    assert ledger.known("r/s", "1") is not None


def test_an_empty_file_gets_its_tables(ledger: Ledger, path: Path) -> None:
    """A process was killed when it had just made it."""
    path.parent.mkdir()
    path.touch()
    ledger.check()
    ledger.apply([stored("o/s", 1)])
    assert ledger.known("o/s", "1") is not None


def other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE resource (x)")


def altered(statement: str) -> Callable[[Path], None]:
    def alter(path: Path) -> None:
        with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
            ledger.apply([stored("o/s", 1)])
        with closing(sqlite3.connect(path)) as file:
            file.execute(statement)

    return alter


def damaged(path: Path) -> None:
    """Its first page is whole."""
    altered("PRAGMA user_version = 2")(path)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


def link(path: Path) -> None:
    other_program(path.with_name("other"))
    path.symlink_to(path.with_name("other"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_program, r"\(it is another program's\): set KAGGLE_LEDGER to another place"),
        (altered("PRAGMA user_version = 3"), r"a newer kagglecrawl made it: format 3, and"),
        (altered("PRAGMA user_version = 0"), r"an older kagglecrawl made it: format 0, and"),
        (
            altered("DROP TABLE resource"),
            r"no such table: .*resource\): restore it from a copy, or",
        ),
        (damaged, r"malformed\): restore it from a copy, or move it away to begin a new one"),
        (lambda path: path.write_bytes(b"hello" * 500), r"not a database\): restore it"),
        (lambda path: path.mkdir(), r"\(it is no file\): set KAGGLE_LEDGER"),
        (link, r"\(it is a symbolic link\): set KAGGLE_LEDGER"),
        (lambda path: path.symlink_to("nowhere"), r"\(it is a symbolic link\)"),
    ],
)
def test_what_is_no_ledger_is_left_alone(
    ledger: Ledger, path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    path.parent.mkdir()
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    for use in (
        lambda: ledger.known("o/s", "1"),
        lambda: ledger.apply([stored("p/s", 1)]),
        lambda: ledger.walked("all", 1, ["o/s"], whole=True),
    ):
        with pytest.raises(LedgerRefused, match=words):
            use()
    assert before is None or path.read_bytes() == before


def test_check_makes_nothing_and_says_what_would_fail(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, words in (
        ("file/a/ledger.sqlite", r"/file is no folder\): set KAGGLE_LEDGER to another place"),
        ("dangling", r"it is a symbolic link"),
    ):
        path = tmp_path / place
        if place == "dangling":
            path.symlink_to("nowhere")
        with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
            for use in (ledger.check, lambda: ledger.apply([stored("o/s", 1)])):
                with pytest.raises(LedgerRefused):
                    use()
            with pytest.raises(LedgerRefused, match=words):
                ledger.check()
    with closing(Ledger(tmp_path / "a/b/ledger.sqlite", KAGGLE, "datasets")) as ledger:
        ledger.check()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_place_that_cannot_be_written(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root, who may write everywhere, is stood in for."""
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(LedgerRefused, match=r"cannot be written\): set KAGGLE_LEDGER to another"):
        ledger.check()
    assert not path.parent.exists()


def test_a_full_disk(ledger: Ledger, path: Path) -> None:
    """What did not fit is not there, and what follows fits again."""
    ledger.apply([stored("o/s", 1)])
    assert ledger._file is not None
    (pages,) = ledger._file.execute("PRAGMA page_count").fetchone()
    ledger._file.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(LedgerRefused, match=r"is full\): make room on its disk"):
        ledger.apply(stored(f"p/{number}", 1, record="x" * 900) for number in range(100))
    assert [row[3] for row in contents(path)["resource"]] == ["o/s"]
    ledger._file.execute("PRAGMA max_page_count = 1000000")
    ledger.apply([stored("p/s", 1)])
    assert ledger.known("p/s", "1") is not None
