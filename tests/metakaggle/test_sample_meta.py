"""``scrapy sample-meta``: what it keeps, that rows still find each other, and what it refuses."""

from __future__ import annotations

import csv
import errno
import os
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.metakaggle.sample import PER_PARENT, Sampler
from kagglecrawl.metakaggle.table import Table

Ask = Callable[..., tuple[int, str, str]]
COMPETITIONS = 60


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run ``scrapy sample-meta`` here; its code, and what it said."""

    def run(*args: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            execute(["scrapy", "sample-meta", *map(str, args)], settings=get_project_settings())
        output, errors = capsys.readouterr()
        return int(ended.value.code or 0), output, errors

    return run


def write(folder: Path, name: str, *rows: tuple[object, ...]) -> None:
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A Meta Kaggle in which row 7 of each table belongs to row 7 of others, and so on."""
    folder = tmp_path / "large"
    folder.mkdir()
    ids = range(1, COMPETITIONS + 1)
    text = 'Two lines,\r\nand a "quote"'
    head = ("Id", "Slug", "ForumId", "Overview")
    write(folder, "Competitions", head, *((n, f"comp-{n}", f"{n + 500}.0", text) for n in ids))
    path = folder / "Competitions.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    write(
        folder,
        "Teams",
        ("Id", "CompetitionId", "TeamLeaderId", "PublicLeaderboardSubmissionId"),
        *(
            (n * 100 + k, n, 9000 + n, n * 1000 + k if k == 0 else "")
            for n in ids
            for k in range(30)
        ),
    )
    write(
        folder,
        "Submissions",
        ("Id", "SubmittedUserId", "TeamId"),
        *((n * 1000 + k, 9000 + n, n * 100 + k % 30) for n in ids for k in range(60)),
    )
    versions = [(n * 10 + k, n, f"Version {k}") for n in ids for k in range(10)]
    write(folder, "DatasetVersions", ("Id", "DatasetId", "Title"), *versions)
    write(
        folder,
        "Datasets",
        ("Id", "OwnerUserId", "CurrentDatasetVersionId", "ForumId"),
        *((n, 8000 + n, n * 10 + 9, "") for n in ids),
    )
    write(folder, "Forums", ("Id", "Title"), *((n + 500, text) for n in range(2000)))
    write(folder, "ForumTopics", ("Id", "ForumId"), *((n, n + 500) for n in range(2000)))
    write(folder, "Users", ("Id", "UserName"), *((n, f"user{n}") for n in range(7000, 10000)))
    write(folder, "Novelties", ("Id", "Text"), *((n, text) for n in range(300)))
    (folder / "KernelVotes.csv").touch()
    return folder


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8-sig", newline="") as file:
        return [*csv.DictReader(file)]


def ids(folder: Path, name: str, column: str = "Id") -> set[str]:
    return {row[column].removesuffix(".0") for row in rows(folder, name)} - {""}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- what is in it ---------------------------------------------------------------------------------


def test_rows_find_those_that_they_refer_to(ask: Ask, large: Path, tmp_path: Path) -> None:
    small = tmp_path / "new" / "small"
    code, output, _ = ask(large, small, "--rows", "5")
    assert code == 0
    for name in ("Competitions", "Datasets", "Novelties"):
        assert len(rows(small, name)) == 5
    assert ids(small, "Teams", "CompetitionId") == ids(small, "Competitions")
    assert len(rows(small, "Teams")) >= 5 * PER_PARENT, "and those with a submission on the board"
    assert ids(small, "Submissions", "TeamId") <= ids(small, "Teams")
    assert ids(small, "Teams", "PublicLeaderboardSubmissionId") <= ids(small, "Submissions")
    assert ids(small, "Datasets", "CurrentDatasetVersionId") <= ids(small, "DatasetVersions")
    assert ids(small, "DatasetVersions", "DatasetId") == ids(small, "Datasets")
    assert ids(small, "Forums") == ids(small, "Competitions", "ForumId")
    assert ids(small, "ForumTopics", "ForumId") == ids(small, "Forums")
    mentioned = [("Teams", "TeamLeaderId"), ("Submissions", "SubmittedUserId")]
    users = [ids(small, *each) for each in (*mentioned, ("Datasets", "OwnerUserId"))]
    assert ids(small, "Users") == set().union(*users)
    assert f"Competitions: 5 of {COMPETITIONS} rows\n" in output
    assert "KernelVotes: is empty\n" in output
    assert (small / "KernelVotes.csv").read_bytes() == b""


def test_no_more_than_ten_are_drawn_for_each(ask: Ask, large: Path, tmp_path: Path) -> None:
    ask(large, tmp_path / "small", "--rows", "5", "--tables", "Competitions,Teams")
    assert len(rows(tmp_path / "small", "Teams")) == 5 * PER_PARENT


def test_every_record_is_byte_for_byte_one_of_the_large_table(
    ask: Ask, large: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    ask(large, small)
    for path in small.glob("*.csv"):
        original = Table.open(path.stem, large / path.name)
        whole = (large / path.name).read_bytes()
        records = [whole[begin:end] for begin, end, *_ in original.records()]
        content = path.read_bytes()
        assert content.startswith(whole[: original.start])
        at = original.start
        for record in records:
            if content.startswith(record, at):
                at += len(record)
        assert at == len(content), "in the order of the large one"


def test_the_same_seed_gives_the_same_files(ask: Ask, large: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert ask(large, tmp_path / name, "--rows", "5", "--seed", str(seed))[0] == 0
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a["Competitions.csv"] != c["Competitions.csv"]


def test_every_row_has_the_same_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    write(source, "Competitions", ("Id",), *((n,) for n in range(20)))
    drawn: Counter[str] = Counter()
    for seed in range(120):
        sampler = Sampler(source, target, rows=5, seed=seed, slugs=(), tell=print)
        assert sampler.make("Competitions").rows == 5
        drawn.update(sampler.ids["Competitions"])
    assert len(drawn) == 20
    assert 15 < min(drawn.values()) <= max(drawn.values()) < 45, "30 of 120 are to be expected"


def test_competitions_that_are_asked_for_are_in_it(ask: Ask, large: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    args = ("--tables", "Teams,Competitions")
    ask(large, small, "--rows", "3", "--slugs", "comp-7, comp-60", *args)
    slugs = ids(small, "Competitions", "Slug")
    assert {"comp-7", "comp-60"} < slugs
    assert len(slugs) == 3
    assert sorted(contents(small)) == ["Competitions.csv", "Teams.csv"]
    ask(large, small, "--rows", "0", "--slugs", "comp-7", "--overwrite", *args)
    assert ids(small, "Competitions", "Slug") == {"comp-7"}
    assert ids(small, "Teams", "CompetitionId") == {"7"}


def test_zipped_tables_give_the_same_sample(ask: Ask, large: Path, tmp_path: Path) -> None:
    ask(large, tmp_path / "a")
    for path in [*large.glob("*.csv")]:
        with zipfile.ZipFile(large / f"{path.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
        path.unlink()
    before = contents(large)
    ask(large, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(large) == before


def test_a_table_whose_parents_are_not_made_is_drawn_from(
    ask: Ask, large: Path, tmp_path: Path
) -> None:
    ask(large, tmp_path / "small", "--tables", "Teams,Users", "--rows", "4")
    assert len(rows(tmp_path / "small", "Teams")) == 4
    assert ids(tmp_path / "small", "Users") == ids(tmp_path / "small", "Teams", "TeamLeaderId")


def test_broken_records_are_left_out_and_counted(ask: Ask, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "Tags.csv").write_bytes(b"Id,Name\n1,a\n2\n3,\xff\n4,d,e\n")
    code, output, errors = ask(source, tmp_path / "small")
    assert (code, output) == (0, "Tags: 2 of 4 rows, 2 broken ones left out\n")
    assert (tmp_path / "small" / "Tags.csv").read_bytes() == b"Id,Name\n1,a\n3,\xff\n"
    assert "has no Competitions, Datasets, Kernels" in errors


# -- what is refused -------------------------------------------------------------------------------


def test_a_slug_that_is_not_there_is_refused(ask: Ask, large: Path, tmp_path: Path) -> None:
    code, _, errors = ask(large, tmp_path / "small", "--slugs", "comp-1,comp-99")
    assert code == 2
    assert "has the slug comp-99: check --slugs" in errors
    assert contents(tmp_path / "small") == {}


def test_a_damaged_table_is_refused_and_none_is_half_written(
    ask: Ask, large: Path, tmp_path: Path
) -> None:
    with (large / "Datasets.csv").open("ab") as file:
        file.write(b'99,"open\n')
    code, output, errors = ask(large, tmp_path / "small")
    assert (code, output) == (2, f"Competitions: 20 of {COMPETITIONS} rows\n")
    assert "Meta Kaggle's table Datasets: the record at byte" in errors
    assert [*contents(tmp_path / "small")] == ["Competitions.csv"]


def test_what_is_there_stays_unless_told_otherwise(ask: Ask, large: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    (small / "Teams.csv").write_text("mine")
    code, _, errors = ask(large, small)
    assert code == 2
    assert f"{small} has Teams.csv already" in errors
    assert contents(small) == {"Teams.csv": b"mine"}
    assert ask(large, small, "--tables", "Users")[0] == 0, "another one does no harm"
    assert ask(large, small, "--overwrite")[0] == 0
    assert rows(small, "Teams")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "it takes two folders"),
        (["large"], "it takes two folders"),
        (["large", "small", "--nope"], "option --nope is not known"),
        (["large", "large/../large"], "is where Meta Kaggle is"),
        (["nowhere", "small"], "nowhere cannot be read: No such file or directory"),
        (["empty", "small"], "has no tables (Competitions.csv, …)"),
        (["large", "large/Teams.csv"], "is no folder"),
        (["large", "small", "--rows", "-1"], "--rows '-1' is not a whole number from 0 on"),
        (["large", "small", "--rows", "few"], "--rows 'few' is not a whole number from 0 on"),
        (["large", "small", "--seed", "x"], "--seed 'x' is not a whole number"),
        (["large", "small", "--tables", "Teams,Team"], "has no table Team; it has Competitions"),
        (["large", "small", "--tables", "Teams", "--slugs", "a"], "is not among the tables"),
    ],
)
def test_wrong_usage_is_said_in_one_sentence(
    ask: Ask, large: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], said: str
) -> None:
    monkeypatch.chdir(large.parent)
    Path("empty").mkdir()
    code, output, errors = ask(*args)
    assert (code, output) == (2, "")
    assert said in errors
    assert errors.count("\n") == 1
    assert errors.startswith("scrapy sample-meta: ")
    assert not Path("small").exists()


def test_a_folder_that_cannot_be_made_is_a_failure(ask: Ask, large: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, errors = ask(large, tmp_path / "file" / "small", "--tables", "Teams")
    assert code == 1
    assert "small cannot be written: Not a directory" in errors


@pytest.mark.parametrize(
    ("error", "expected", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "cannot be written: No space left"),
        (KeyboardInterrupt(), 3, ""),
    ],
)
def test_what_ends_in_the_middle_leaves_no_half_table(
    ask: Ask,
    large: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    expected: int,
    said: str,
) -> None:
    def end(*args: Any) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", end)
    code, _, errors = ask(large, tmp_path / "small", "--tables", "Teams")
    assert code == expected
    assert said in errors
    assert contents(tmp_path / "small") == {}
