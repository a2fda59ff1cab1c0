"""Batches of tables in a folder of the user's."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import pytest

from kagglecrawl.metakaggle.table import TableRefused
from tests.transport_tables.bench import (
    CONTENT,
    ROWS,
    Bench,
    expected,
    run,
    written,
)


@pytest.mark.parametrize("zipped", [False, True])
def test_batches_are_a_chain(tmp_path: Path, zipped: bool) -> None:
    if zipped:
        with zipfile.ZipFile(tmp_path / "Competitions.csv.zip", "w") as archive:
            archive.writestr("Competitions.csv", CONTENT)
    else:
        (tmp_path / "Competitions.csv").write_bytes(CONTENT)

    async def use(bench: Bench) -> None:
        assert await bench.all() == expected()
        assert await bench.all(keep="wanted") == expected()[::2]
        assert threading.get_ident() not in bench.threads
        assert bench.threads
        first = await bench.get()
        assert (first.status, first.body, first.version, first.changed) == (200, b"", "", False)
        assert first.table.name == "Competitions"
        assert first.batch.read == len(first.batch.rows) < 5000
        assert first.request is not None

    bench = run(use, tmp_path / "work", tmp_path)
    assert (tmp_path / "work/meta_kaggle").exists() == zipped
    assert bench.sent() == {}


def test_a_file_that_has_changed_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "Competitions.csv"

    async def use(bench: Bench) -> None:
        path.write_bytes(CONTENT)
        first = await bench.get()
        stamp, offset = first.table.stamp, first.batch.next
        second = await bench.get(offset=offset, stamp=stamp)
        assert not second.changed
        assert second.batch.rows[0].offset == offset
        path.write_bytes(written(ROWS[:2]))
        third = await bench.get(offset=offset, stamp=stamp)
        assert third.changed
        assert [row.cells for row in third.batch.rows] == expected(ROWS[:2])
        assert third.table.stamp != stamp

    run(use, tmp_path / "work", tmp_path)


def test_what_is_no_table(tmp_path: Path) -> None:
    async def use(bench: Bench) -> None:
        with pytest.raises(TableRefused, match=r"Competitions"):
            await bench.get()
        (tmp_path / "Competitions.csv").write_bytes(b"")
        empty = await bench.get()
        assert (empty.batch.rows, empty.batch.next, empty.table.columns) == ([], None, ())
        with pytest.raises(ValueError, match="no table of Meta Kaggle"):
            await bench.get("../Competitions")

    run(use, tmp_path / "work", tmp_path)
