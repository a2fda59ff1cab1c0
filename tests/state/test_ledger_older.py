"""Ledgers that an older kagglecrawl made: read as they are, and changed when they are written."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.state.ledger import Ledger, LedgerBusy
from kagglecrawl.state.ledger_look import KeptFile, Shelf
from tests.conftest import ROOT
from tests.state.ledgers import KAGGLE, WRITE, contents, digest, fill, make_older, manifest, stored


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "workspace" / "ledger.sqlite"
    fill(found)
    return found


@pytest.mark.parametrize("args", [(), ("list",), ("keys",), ("export", "-")])
def test_it_is_shown_and_left_as_it_is(
    path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
) -> None:
    """By ``scrapy ledger``."""

    def shown() -> str:
        given = ["scrapy", "ledger", *args, "-s", f"WORKSPACE={path.parent}"]
        with pytest.raises(SystemExit) as ended:
            execute(given, settings=get_project_settings())
        output, errors = capsys.readouterr()
        assert (ended.value.code or 0, errors) == (0, "")
        return output

    now = shown()
    assert now
    make_older(path)
    before = path.read_bytes()
    assert shown() == now
    assert path.read_bytes() == before


def test_its_files_have_no_etag(path: Path) -> None:
    """Also while a crawl brings it to this format."""
    make_older(path)
    before = path.read_bytes()
    with Shelf(path) as shelf:
        (kept,) = shelf.kept()
        files = shelf.files(kept.number, "", 9)
        assert files == [
            KeptFile("x.csv", 5, digest("x"), ""),
            KeptFile("y.csv", 7, digest("y"), ""),
        ]
        assert path.read_bytes() == before
        with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
            ledger.check()
        assert shelf.files(kept.number, "", 9) == files
        assert list(shelf.kept()) == [kept]


def rows_kept(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All of it, a file's row without what format 2 has of it."""
    found = contents(path)
    return {**found, "file": [row[:4] for row in found["file"]]}


def test_an_older_file_is_brought_to_this_format_when_it_is_opened(path: Path) -> None:
    make_older(path)
    before = contents(path)
    assert [len(row) for row in before["file"]] == [4, 4]
    with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
        ledger.check()
        assert rows_kept(path) == before
        names = [("x.csv", 5, digest("x"), ""), ("y.csv", 7, digest("y"), "")]
        assert list(ledger.files("a/a", "1")) == names
        kept = manifest("s3://b/a_a", 1, 9)
        new = [("z.csv", 9, digest("z"), "e-2")]
        ledger.apply([stored("a/a", 2e9, manifest=kept, files=new)])
        assert list(ledger.files("a/a", "1")) == new
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (2,)


def test_an_older_file_that_was_not_brought_to_it_in_whole_is_as_before(path: Path) -> None:
    """As after a kill between the two statements."""
    make_older(path)
    before = contents(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        file.execute("ALTER TABLE file ADD COLUMN etag TEXT NOT NULL DEFAULT ''")
        with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
            with pytest.raises(LedgerBusy):
                ledger.apply([stored("b/b", 1)])
            file.execute("ROLLBACK")
            assert contents(path) == before
            ledger.check()
        assert rows_kept(path) == before


def test_another_process_was_quicker(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at its format and the change."""
    before = contents(path)
    monkeypatch.setattr("kagglecrawl.state.ledger_file.check_ours", lambda *_: 1)
    with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
        ledger.check()
    assert contents(path) == before


def test_processes_bring_it_to_this_format_at_once(path: Path) -> None:
    make_older(path)
    running = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(path), "2"], cwd=ROOT) for _ in range(3)
    ]
    assert [process.wait(timeout=60) for process in running] == [0] * 3
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (2,)
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found = contents(path)
    assert [row[1:] for row in found["file"]] == [
        ("x.csv", 5, digest("x"), ""),
        ("y.csv", 7, digest("y"), ""),
    ]
    assert "o/0-0" in {row[3] for row in found["resource"]}
