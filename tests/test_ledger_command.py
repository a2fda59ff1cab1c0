"""`scrapy ledger`: what it counts, lists and exports, what it refuses, and that it is no burden."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.commands import ledger as command
from kagglecrawl.commands.ledger_export import FIELDS, export
from kagglecrawl.state.ledger import Ledger
from kagglecrawl.state.ledger_look import Look, Wanted
from tests.conftest import ROOT, Run, clean_env
from tests.state.ledgers import DAY, KAGGLE, START, failed, fill, manifest, record, stored

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workspace" / "ledger.sqlite"


@pytest.fixture
def ask(path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run ``scrapy ledger`` here; its code, and what it said."""

    def run(*args: str) -> tuple[int, str, str]:
        given = ["scrapy", "ledger", *args, "-s", f"WORKSPACE={path.parent}"]
        with pytest.raises(SystemExit) as ended:
            execute(given, settings=get_project_settings())
        output, errors = capsys.readouterr()
        return int(ended.value.code or 0), output, errors

    return run


@pytest.fixture
def filled(path: Path) -> Path:
    fill(path)
    return path


# -- counts ----------------------------------------------------------------------------------------


def test_the_counts_in_words(ask: Ask, filled: Path) -> None:
    code, output, errors = ask()
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        f"Ledger {filled}",
        "datasets from https://api.kaggle.com: 5 resources, 5 versions",
        "  stored 1",
        "  skipped 1: odd_word",
        "  failed 1: forbidden to this account",
        "  failed 1: deleted, renamed or private",
        "  1 of which no more is known than that a list had them",
        "  1 gone from a list that had them",
        "  1 gone, since they were not found when they were asked for",
        "  2 files, 12 B",
        "models from loopback: 1 resource, 1 version",
        "  stored 1",
    ]


def test_the_counts_for_programs(ask: Ask, filled: Path) -> None:
    datasets, models = json.loads(ask("--json")[1])
    assert datasets == {
        "source": KAGGLE,
        "spider": "datasets",
        "resources": 5,
        "versions": 5,
        "records": 2,
        "stored": 1,
        "skipped": {"odd_word": 1},
        "failed": {"forbidden": 1, "not_found": 1},
        "pending": 0,
        "listed_only": 1,
        "not_listed": 1,
        "deleted": 1,
        "files": 2,
        "bytes": 12,
    }
    assert (models["spider"], models["stored"]) == ("models", 1)


# -- list and keys ---------------------------------------------------------------------------------


def test_the_list(ask: Ask, filled: Path) -> None:
    code, output, _ = ask("list", "--all-versions")
    assert code == 0
    assert [line.split() for line in output.splitlines()] == [
        ["a/a", "1", "stored", "-", "2", "12", "2026-01-02T00:00:00+00:00", "-"],
        ["a/a", "2", "failed", "forbidden", "0", "0", "2026-01-03T00:00:00+00:00", "-"],
        ["b/b", "1", "skipped", "odd_word", "0", "0", "2026-01-04T00:00:00+00:00", "-"],
        ["c/c", "1", "failed", "not_found", "0", "0", "2026-01-05T00:00:00+00:00", "deleted"],
        ["d/d", "1", "stored", "-", "0", "0", "2026-01-06T00:00:00+00:00", "not_listed"],
        ["e/e", "-", "-", "-", "0", "0", "-", "-"],
        ["m/m", "-", "stored", "-", "0", "0", "2026-01-02T00:00:00+00:00", "-"],
    ]
    assert ask("list")[1].splitlines() == output.splitlines()[1:]


@pytest.mark.parametrize(
    ("args", "keys"),
    [
        ((), "a/a b/b c/c d/d e/e m/m"),
        (("--all-versions",), "a/a b/b c/c d/d e/e m/m"),
        (("--spider", "datasets", "--verdict", "stored"), "d/d"),
        (("--verdict", "stored", "--all-versions"), "a/a d/d m/m"),
        (("--source", "loopback"), "m/m"),
        (("--verdict", "skipped", "--reason", "odd_word"), "b/b"),
        (("--gone", "any"), "c/c d/d"),
        (("--gone", "not_listed"), "d/d"),
        (("--gone", "deleted"), "c/c"),
        (("--key", "[b-d]/*"), "b/b c/c d/d"),
        (("--since", "2026-01-03"), "a/a b/b c/c d/d"),
        (("--since", "2026-01-05", "--until", "2026-01-05"), "c/c"),
        (("--until", "2026-01-04T00:00:00"), "a/a m/m"),
        (("--until", "2026-01-04T01:00:00+01:00"), "a/a m/m"),
        (("--since", "2026-01-05", "--verdict", "skipped"), ""),
    ],
)
def test_what_is_wanted(ask: Ask, filled: Path, args: tuple[str, ...], keys: str) -> None:
    code, output, errors = ask("keys", *args)
    nothing = "" if keys else "scrapy ledger: there is nothing of the kind\n"
    assert (code, errors) == (0, nothing)
    assert output.split() == keys.split()
    assert {line.split()[0] for line in ask("list", *args)[1].splitlines()} == set(keys.split())


# -- export ----------------------------------------------------------------------------------------


def test_every_format_says_the_same(ask: Ask, filled: Path, tmp_path: Path) -> None:
    def exported(suffix: str, *args: str) -> str:
        file = tmp_path / f"out{suffix}"
        code, output, errors = ask("export", str(file), *args)
        assert (code, output, errors) == (0, f"6 rows in {file}\n", "")
        return file.read_text(encoding="utf-8")

    rows = [json.loads(line) for line in ask("export", "-")[1].splitlines()]
    assert rows == json.loads(exported(".json"))
    assert rows == [json.loads(line) for line in exported(".jsonl").splitlines()]
    assert all(tuple(row) == FIELDS for row in rows)
    (stored_one,) = (row for row in rows if row["key"] == "d/d")
    assert stored_one["record"] == {"Ref": "d/d", "Title": "T", "Version": 1, "Download": None}
    assert (stored_one["gone"], stored_one["gone_since"]) == (
        "not_listed",
        "2026-01-07T00:00:00+00:00",
    )
    assert rows[-1]["record"] == {"slug": "m"}
    for row in rows:
        del row["record"]
    assert rows == json.loads(exported(".json", "--no-records"))
    table = list(csv.DictReader(exported(".CSV").splitlines()))
    assert table == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]


def test_a_record_has_what_came_of_its_files(ask: Ask, filled: Path) -> None:
    args = ("--key", "a/a", "--all-versions", "--verdict", "stored")
    row = json.loads(ask("export", "-", *args)[1])
    assert (row["files"], row["bytes"], row["folder"]) == (2, 12, "output/a_a")
    assert row["record"]["Download"] == json.loads(manifest("output/a_a", 2, 12))


def test_an_empty_ledger_is_exported_too(ask: Ask, path: Path, tmp_path: Path) -> None:
    with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
        ledger.walked("all", START, ["a/a"], whole=True)
    for suffix, text in ((".json", "[]\n"), (".jsonl", ""), (".csv", ",".join(FIELDS[:-1]))):
        file = tmp_path / f"out{suffix}"
        assert ask("export", str(file), "--verdict", "stored")[1] == f"0 rows in {file}\n"
        assert file.read_text(encoding="utf-8").strip("\r").strip() == text.strip()


def test_what_a_spreadsheet_would_run_is_defused(ask: Ask, path: Path, tmp_path: Path) -> None:
    words = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a=1")
    with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
        ledger.apply(failed(f"o/{number}", 1, word) for number, word in enumerate(words))
    ask("export", str(tmp_path / "out.csv"))
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row["reason"] for row in csv.DictReader(file)] == [
            *(f"'{word}" for word in words[:-1]),
            "a=1",
        ]


def test_no_terminal_obeys_a_name(ask: Ask, path: Path) -> None:
    name = "a/\x1b[31mred\x9b\x7f\r\n\tend"
    with closing(Ledger(path, KAGGLE, f"data{name}")) as ledger:
        ledger.apply([stored(name, 1, record=json.dumps({"x": name}), version=name)])
        ledger.apply([failed(f"{name}2", 1, name)])
    for args in ((), ("--json",), ("list",), ("keys",), ("export", "-")):
        code, output, _ = ask(*args)
        assert code == 0
        assert "red" in output
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", output)
    assert len(ask("list")[1].splitlines()) == 2
    row = json.loads(ask("export", "-")[1].splitlines()[0])
    assert row["key"] == row["record"]["x"] == name


def test_half_of_a_surrogate_pair(ask: Ask, path: Path, tmp_path: Path) -> None:
    with closing(Ledger(path, KAGGLE, "models")) as ledger:
        ledger.apply([stored("o/s", 1, record='{"x": "\\ud83d"}')])
    assert ask("export", str(tmp_path / "out.jsonl"))[0] == 0
    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert json.loads(text)["record"] == {"x": "\ud83d"}


def test_a_file_is_replaced_when_the_new_one_is_whole(
    ask: Ask, filled: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "real.jsonl").write_text("before")
    (here / "link.jsonl").symlink_to("real.jsonl")
    with closing(sqlite3.connect(filled)) as file:
        file.execute("UPDATE version SET record = '[1]' WHERE record LIKE '%slug%'")
        file.commit()
        code, output, errors = ask("export", str(here / "link.jsonl"))
        assert (code, output) == (2, "")
        assert "what it has of m/m is no JSON object): restore it from a copy, or" in errors
        assert (here / "real.jsonl").read_text() == "before"
        file.execute("UPDATE version SET record = '{}' WHERE record = '[1]'")
        file.commit()
    assert ask("export", str(here / "link.jsonl"))[0] == 0
    assert (here / "link.jsonl").is_symlink()
    assert (here / "real.jsonl").read_text().count("\n") == 6
    (here / "folder.csv").mkdir()
    for name in ("folder.csv", "none/out.csv"):
        code, output, errors = ask("export", str(here / name))
        assert (code, output, errors.count("\n")) == (1, "", 1)
        assert re.search(r"cannot be written \(.*\): name another place for it", errors)
    assert {each.name for each in here.iterdir()} == {"real.jsonl", "link.jsonl", "folder.csv"}


def test_rows_stream(path: Path, tmp_path: Path) -> None:
    """Neither the exporter nor SQLite has more than a few at a time."""
    long = record("o/s", content="x" * 2000)
    with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
        ledger.apply(stored(f"o/{n}", n + 1, record=long) for n in range(4000))
    asked: set[str] = set()
    with Look(path) as look:
        look._file.set_trace_callback(asked.add)
        for wanted in (Wanted(verdict="stored"), Wanted(verdict="stored", all_versions=True)):
            next(look.rows(wanted, records=True))
        look._file.set_trace_callback(None)
        for suffix in (".json", ".csv"):
            tracemalloc.start()
            rows = look.rows(Wanted(verdict="stored"), records=suffix == ".json")
            assert export(tmp_path / f"out{suffix}", rows, records=suffix == ".json") == 4000
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak < 1_000_000
        plans = {
            query: [str(step[3]) for step in look._file.execute(f"EXPLAIN QUERY PLAN {query}")]
            for query in asked
        }
    assert (tmp_path / "out.json").stat().st_size > 8_000_000
    (of_all,) = (plan for query, plan in plans.items() if "FROM resource" in query)
    assert of_all == ["SCAN resource USING INDEX sqlite_autoindex_resource_1"]
    of_each = [plan for query, plan in plans.items() if "FROM version" in query]
    assert len(of_each) == 2
    assert all("SEARCH version USING INDEX" in " ".join(plan) for plan in of_each)


# -- beside crawls ---------------------------------------------------------------------------------


def test_it_shows_one_moment_while_others_write(filled: Path) -> None:
    with Look(filled) as look, closing(Ledger(filled, KAGGLE, "datasets")) as ledger:
        rows = look.rows(Wanted())
        seen = [next(rows).key]
        ledger.apply([stored("z/z", START), failed("b/b", START + 9 * DAY)])

        def more() -> Iterator[Any]:
            yield stored("y/y", START)
            with Look(filled) as other:
                keys = list(other.keys(Wanted()))
                assert ("z/z" in keys, "y/y" in keys) == (True, False), "what is committed"
            yield stored("x/x", START)

        ledger.apply(more())
        seen += [row.key for row in rows]
        assert seen == ["a/a", "b/b", "c/c", "d/d", "e/e", "m/m"]
        assert [row.reason for row in look.rows(Wanted(key="b/b"))] == ["odd_word"]
    with Look(filled) as look:
        assert {"x/x", "y/y", "z/z"} <= set(look.keys(Wanted()))


def test_it_changes_nothing(ask: Ask, filled: Path) -> None:
    before = filled.read_bytes()
    for args in ((), ("list",), ("keys",), ("export", "-")):
        assert ask(*args)[0] == 0
    assert filled.read_bytes() == before


def test_a_folder_that_cannot_be_written(
    ask: Ask, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite cannot make its files beside it then; root, who can, is stood in for."""
    connect = sqlite3.connect
    uris: list[str] = []

    def refuse(file: str, **options: Any) -> Any:
        uris.append(file)
        if "immutable" not in file:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(file, **options)

    monkeypatch.setattr(sqlite3, "connect", refuse)
    assert ask("keys", "--spider", "models")[:2] == (0, "m/m\n")
    assert len(uris) == 2


# -- what is refused -------------------------------------------------------------------------------


def spoilt(statement: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
            ledger.apply([stored("o/s", 1)])
        with closing(sqlite3.connect(path)) as file:
            file.execute(statement)
            file.commit()

    return spoil


def damaged(path: Path) -> None:
    spoilt("PRAGMA user_version = 2")(path)
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 20_000)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.parent.rmdir(), "no ledger at {}: it is made by the first crawl"),
        (lambda path: path.touch(), "no ledger at {}: it is made by the first crawl"),
        (lambda path: path.mkdir(), "the ledger {} cannot be used (it is no file): set KAGGLE_"),
        (lambda path: path.symlink_to("x"), "the ledger {} cannot be used (it is a symbolic link)"),
        (lambda path: path.write_bytes(b"x" * 5000), "(file is not a database): restore it from"),
        (spoilt("PRAGMA application_id = 1"), "(it is another program's): set KAGGLE_LEDGER to"),
        (spoilt("PRAGMA user_version = 7"), "a newer kagglecrawl made it: format 7, and this one"),
        (spoilt("DROP TABLE version"), "no such table: version): restore it from a copy, or move"),
        (spoilt("UPDATE version SET since = 1e300"), "the ledger has 1e+300 for a time: restore"),
        (damaged, "malformed): restore it from a copy, or move it away to begin a new one"),
    ],
)
def test_what_is_no_ledger_is_told_in_one_sentence(
    ask: Ask, path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    path.parent.mkdir()
    spoil(path)
    for args in (("list",), ("export", "-")):
        code, output, errors = ask(*args)
        assert (code, output, errors.count("\n")) == (2, "", 1)
        assert errors.startswith("scrapy ledger: ")
        assert words.format(path) in errors


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("show",), "show is not known: write list, keys, export FILE or seed-files COMPETITION"),
        (("list", "a"), "a is too much: see `scrapy ledger -h`"),
        (("export",), "name one file to export to, or - for the terminal"),
        (("export", "a.csv", "b.csv"), "name one file to export to"),
        (("export", "rows"), "rows says no format: name a file in .csv, .json, .jsonl"),
        (("--jsno",), "option --jsno is not known: see `scrapy ledger -h`"),
        (("--json", "list"), "--json is for the counts: `scrapy ledger export -` prints JSON"),
        (("--all-versions",), "--all-versions is for list, keys and export: name one"),
        (("--no-records", "list"), "--no-records is for export: leave it out"),
        (("list", "--verdict", "done"), "--verdict done is not known: write one of stored, skip"),
        (("list", "--gone", "yes"), "--gone yes is not known: write one of not_listed, deleted"),
        (("list", "--since", "1 May"), "--since 1 May is no date: write 2026-01-31"),
        (("list", "--until", "9999-12-31"), "--until 9999-12-31 is no date: write 2026-01-31"),
        (("list", "--since", "2026-02-02", "--until", "2026-02-01"), "--since is later than"),
        (("keys", "--spider", "kernels"), "has nothing of spider kernels: it has datasets, models"),
        (("keys", "--source", "x"), "has nothing of source x: it has https://api.kaggle.com, loop"),
        (("list", "-s", "KAGGLE_API_URL=x"), "KAGGLE_API_URL=x is not an http or https address"),
    ],
)
def test_wrong_usage(ask: Ask, filled: Path, args: tuple[str, ...], words: str) -> None:
    code, output, errors = ask(*args)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("scrapy ledger: ")
    assert words in errors


# -- as a process ----------------------------------------------------------------------------------


def test_the_help_documents_every_field(scrapy: Run) -> None:
    helped = scrapy("ledger", "-h")
    assert helped.code == 0
    table = (command.__doc__ or "").split("=\nfield ")[1].partition("=\n")[2].partition("\n\n")[0]
    names = [line[:21].strip() for line in table.splitlines() if line[:1] not in {" ", "="}]
    fields = [name for name in re.split(r",?\s+", " ".join(names)) if name]
    assert sorted(fields) == sorted(FIELDS)
    assert "\nstored_at             when its record was made" in helped.log


def test_a_reader_that_has_enough(path: Path, tmp_path: Path) -> None:
    with closing(Ledger(path, KAGGLE, "datasets")) as ledger:
        ledger.apply(stored(f"o/{n}", n + 1) for n in range(3000))
    with subprocess.Popen(
        [sys.executable, "-m", "scrapy", "ledger", "list", "-s", f"WORKSPACE={path.parent}"],
        cwd=ROOT,
        env=clean_env(tmp_path, PYTHONIOENCODING="ascii"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"o/0 ")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
