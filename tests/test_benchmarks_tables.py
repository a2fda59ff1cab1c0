"""The machinery of benchmarks/tables.py, small; no timing is judged here."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from benchmarks import tables, tables_crawl
from benchmarks.processes import BenchmarkError
from benchmarks.tables import Run
from benchmarks.tables_crawl import Crawl, Faults, Start, look
from benchmarks.tables_made import COLUMNS, Made, make

#: Of which exactly one of a hundred is wanted.
ROWS = 5000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made"), ROWS)


def test_the_table_is_what_it_is_said_to_be(made: Made) -> None:
    with made.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [int(row["Id"]) for row in rows] == list(range(1, ROWS + 1))
    assert {tuple(row) for row in rows} == {COLUMNS}
    assert len(COLUMNS) == 48
    days = [datetime.strptime(row["EnabledDate"], "%m/%d/%Y %H:%M:%S").date() for row in rows]
    wanted = [n + 1 for n, day in enumerate(days) if day >= made.since]
    assert wanted == list(made.wanted())
    assert len(wanted) == ROWS // 100
    assert wanted != sorted(wanted, key=lambda n: days[n - 1])
    assert made.size == made.path.stat().st_size > 600 * ROWS, "3 GB for five million"
    pages = [row["Overview"] for row in rows]
    assert max(map(len, pages)) > 10 * min(map(len, pages))
    assert all("\n\n## Evaluation\n\n" in page for page in pages)
    assert any("\r\n" in page and '"' in page for page in pages)


def test_ours_and_the_csv_module_find_what_is_wanted(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()
    results = tables.select(made, tmp_path, no_folder, 1)
    assert list(results) == ["ours", "csv"]
    assert "pandas and polars are left out" in capsys.readouterr().out
    for (run,) in results.values():
        assert run.seconds > 0
        assert run.peak > 5e6
    # a contender that finds other rows than are wanted is not measured
    with pytest.raises(BenchmarkError, match=r"ours looked at 5000 rows and found 50, not 2000 "):
        tables.select(replace(made, rows=2000), tmp_path, no_folder, 1)


def test_contenders_that_find_other_cells_are_not_measured(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "environment", lambda packages, folder: "python")
    monkeypatch.setattr(
        tables, "_select", lambda who, *_: Run(1.0, 1.0, 1, 7 if who == "polars" else 8)
    )
    with pytest.raises(BenchmarkError, match=r"not all .* 'polars': \{7\}"):
        tables.select(made, tmp_path, tmp_path, 1)


def test_ratios_are_of_the_same_repeat(made: Made) -> None:
    def runs(*seconds: float) -> list[Run]:
        return [Run(each, each, 50 << 20, 1) for each in seconds]

    heads, ours, other = tables.table(
        replace(made, rows=1000, size=10**7), {"ours": runs(4, 2), "polars": runs(1, 1)}
    ).splitlines()
    assert heads.split()[:3] == ["rows/s", "MB/s", "seconds"]
    assert re.split(r"  +", ours)[1:] == [
        *("333", "3", "3.0 [2.0-4.0]", "3.0", "50", "1.00 [1.00-1.00]")
    ]
    assert other.endswith("  3.00 [2.00-4.00]")


# -- crawls ----------------------------------------------------------------------------------------


@pytest.fixture
def crawl(made: Made, tmp_path: Path) -> Crawl:
    return Crawl(tmp_path / "crawl", made)


def write(crawl: Crawl, ids: Sequence[int], title: str = "") -> None:
    rows = (json.dumps({"CompetitionID": each, "Title": title}) + "\n" for each in ids)
    crawl.feed.write_text("".join(rows))


def test_a_feed_is_looked_at_closely(made: Made, crawl: Crawl) -> None:
    wanted = list(made.wanted())
    write(crawl, wanted)
    right = crawl.rows()
    assert not look(crawl, made)
    assert not look(crawl, made, right)
    write(crawl, [*wanted[1:], wanted[3], 7])
    faults = look(crawl, made, right)
    assert faults == Faults(lost=wanted[:1], doubled=[wanted[3]], others=[7], wrong=[])
    assert faults
    assert str(faults).startswith(f"rows lost 1 ({wanted[0]} …), doubled 1 (")
    write(crawl, wanted, "another")
    assert len(look(crawl, made, right).wrong) == len(wanted)
    crawl.feed.write_text(crawl.feed.read_text() + '{"CompetitionID": 1')
    with pytest.raises(BenchmarkError, match=r"row 51 of .* is no record"):
        look(crawl, made)


def test_faults_and_too_much_memory_miss_the_bars(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Start(killed=False, seconds=1.0, cpu=1.0, peak=tables.MEMORY_BAR - 1, feed=1)
    none = Faults([], [], [], [])
    assert tables.judge("A", [start, start], none, made)
    assert not tables.judge("B", [start, replace(start, peak=tables.MEMORY_BAR)], none, made)
    assert not tables.judge("C", [start], replace(none, lost=[5]), made)
    good, large, lost = capsys.readouterr().out.splitlines()
    assert good.startswith("A: 2.0 s (2,500 rows of the table a second), 2.0 s of CPU, at most 300")
    assert good.endswith(": PASS")
    assert large.endswith(": FAIL")
    assert lost.endswith("rows lost 1 (5 …), doubled 0, others 0, wrong 0: FAIL")


def test_a_crawl_that_fails_is_told(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl = Crawl(tmp_path / "crawl", made)
    monkeypatch.setattr(crawl, "_command", lambda: ["sh", "-c", "echo why; exit 3"])
    with pytest.raises(BenchmarkError, match=r"ended with 3:\nwhy"):
        crawl.start()


def test_a_crawl_is_killed_and_gone_on_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(tables_crawl, "_LATER", 0.0)
    command = Crawl._command
    slow = '{"metakaggle": {"delay": 0.3, "concurrency": 1}}'  # so that the kill finds it at work
    monkeypatch.setattr(
        Crawl, "_command", lambda self: [*command(self), "-s", f"DOWNLOAD_SLOTS={slow}"]
    )
    small = ("--rows", str(ROWS), "--repeats", "0", "--kills", "1", "--seed", "1")
    assert tables.main(small) == 0, capsys.readouterr()
    printed = capsys.readouterr().out
    assert f"A table of {ROWS:,} rows" in printed
    nothing = "rows lost 0, doubled 0, others 0, wrong 0: PASS"
    assert re.search(rf"^A crawl of it: .*{nothing}$", printed, re.MULTILINE), printed
    assert re.search(rf"^The same, 1 of 1 kills in time: .*{nothing}$", printed, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_of_a_failure_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail(crawl: Crawl, kill_at: int | None = None, later: float = 0.0) -> Start:
        raise BenchmarkError("why")

    monkeypatch.setattr(Crawl, "start", fail)
    assert tables.main(("--rows", "100", "--repeats", "0")) == 1
    printed = capsys.readouterr()
    assert printed.err == "benchmarks: why\n"
    (folder,) = tmp_path.iterdir()
    assert printed.out.endswith(f"What is left is in {folder}.\n")
    assert [path.name for path in folder.iterdir()] == ["alone"], "the table is not kept"
    assert tables.main(("--rows", str(10**12))) == 1
    assert "name another place by TMPDIR, or use --rows" in capsys.readouterr().err
