"""Feeds that are local files of a job: nothing lost, nothing twice, nobody else's rows touched."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.state.feeds import ExportError, FeedRefused
from tests.feed_runs import FORMATS, OLD, Row, Run, Unexportable, numbers

each_format = pytest.mark.parametrize(("name", "options"), FORMATS, ids=[n for n, _ in FORMATS])
each_mode = pytest.mark.parametrize("overwrite", [False, True], ids=["-o", "-O"])


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "job"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody cuts the power here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


# -- what was committed is there, once, and nothing else ------------------------------------------


@each_format
@each_mode
def test_what_was_not_committed_did_not_happen(
    tmp_path: Path, job: Path, name: str, options: dict[str, Any], overwrite: bool
) -> None:
    feeds = {str(tmp_path / name): {**options, "overwrite": overwrite}}
    first = Run(job, feeds).add(1, 2).commit().add(3).flush()
    assert numbers(tmp_path / name) == [1, 2, 3]
    first.kill()
    second = Run(job, feeds)
    assert numbers(tmp_path / name) == [1, 2], "cut when the job goes on"
    assert second.add(3, 4).end()
    assert numbers(tmp_path / name) == [1, 2, 3, 4]


@pytest.mark.parametrize("spelling", ["path", "file", "relative", "pathlib"])
def test_every_way_to_name_a_local_file(
    tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    file = tmp_path / "deep" / "er" / "rows #1.jsonl"
    monkeypatch.chdir(tmp_path)
    names: dict[str, str | Path] = {
        "path": str(file),
        "file": f"file://{tmp_path}/deep/er/rows%20%231.jsonl",
        "relative": "deep/er/rows #1.jsonl",
        "pathlib": file,
    }
    feeds: dict[Any, dict[str, Any]] = {names[spelling]: {}}
    run = Run(job, feeds).add(1)
    assert not file.parent.exists(), "only a row makes it"
    assert run.end(finished=False)
    assert Run(job, feeds).add(2).end()
    assert numbers(file) == [1, 2]
    assert oct(file.stat().st_mode & 0o777) == oct(0o666 & ~_umask())


def test_a_name_is_filled_in_once(tmp_path: Path, job: Path) -> None:
    feeds = {f"{tmp_path}/%(name)s_%(time)s_%(batch_time)s.jsonl": {"format": "jsonlines"}}
    for number in range(3):
        assert Run(job, feeds).add(number).end(finished=False)
    (file,) = tmp_path.glob("*.jsonl")
    assert file.name.startswith("rows_20")
    assert numbers(file) == [0, 1, 2]


def test_a_relative_name_is_the_same_job_in_its_own_folder_alone(
    tmp_path: Path, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Run(job, {"rows.jsonl": {}}).add(1).end(finished=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(FeedRefused, match="other feeds"):
        Run(job, {"rows.jsonl": {}})
    Run(job, {str(tmp_path / "rows.jsonl"): {}}).add(2).end()
    assert numbers(tmp_path / "rows.jsonl") == [1, 2]


# -- what is there before --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_append_goes_behind_what_is_there(tmp_path: Path, job: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(OLD[name])
    run = Run(job, {str(file): {}}).add(1).flush()
    run.kill()
    Run(job, {str(file): {}}).kill()
    assert file.read_bytes() == OLD[name], "never cut below what was there"
    Run(job, {str(file): {}}).add(1).end(finished=False)
    Run(job, {str(file): {}}).add(2).end()
    assert file.read_bytes().startswith(OLD[name])
    assert numbers(file) == [-1, 1, 2]


def test_overwrite_waits_for_the_first_row(tmp_path: Path, job: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(OLD["rows.jsonl"])
    feeds = {str(file): {"overwrite": True}}
    assert Run(job, feeds).end(finished=False)
    Run(job, feeds).add(7).kill()
    assert Run(job, feeds).end(finished=True)
    assert file.read_bytes() == OLD["rows.jsonl"], "a crawl that stores nothing leaves it"
    Run(job, feeds).add(1).flush().kill()
    Run(job, feeds).kill()
    assert file.read_bytes() == b"", "rows of no commit do not stay in place of the old ones"
    assert Run(job, feeds).add(1).end()
    assert numbers(file) == [1]


def test_a_job_goes_on_as_it_began(tmp_path: Path, job: Path) -> None:
    """Whether with -O or with -o is said when it begins."""
    file, other = tmp_path / "rows.jsonl", tmp_path / "other.jsonl"
    file.write_bytes(OLD["rows.jsonl"])
    other.write_bytes(OLD["rows.jsonl"])
    for number, overwrite in enumerate([True, False, True]):
        feeds = {str(file): {"overwrite": overwrite}, str(other): {"overwrite": not overwrite}}
        run = Run(job, feeds)
        assert (run.add(number) if number else run).end(finished=False)
    assert numbers(file) == [1, 2]
    assert numbers(other) == [-1, 1, 2]


@each_mode
def test_an_empty_file_is_stored_if_one_is_wanted(
    tmp_path: Path, job: Path, overwrite: bool
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(OLD["rows.jsonl"])
    new = tmp_path / "new.csv"
    feeds = {str(file): {"overwrite": overwrite}, str(new): {}}
    assert Run(job, feeds, FEED_STORE_EMPTY=True).end(finished=False)
    assert not new.exists(), "there may still be rows"
    assert Run(job, feeds, FEED_STORE_EMPTY=True).end()
    assert file.read_bytes() == (b"" if overwrite else OLD["rows.jsonl"])
    assert new.read_bytes() == b""


def test_a_byte_order_mark_comes_once(tmp_path: Path, job: Path) -> None:
    file = tmp_path / "rows.csv"
    for number in range(2):
        Run(job, {str(file): {"encoding": "utf-16"}}).add(number).end(finished=False)
    assert file.read_bytes().decode("utf-16") == "n,text\r\n0,täxt\r\n1,täxt\r\n"


def test_columns_that_nobody_set_stay_those_of_the_first_row(tmp_path: Path, job: Path) -> None:
    file = tmp_path / "rows.csv"
    for item in ({"a": 1, "b": 2}, {"b": 3, "a": 4, "c": 5}, {"c": 6, "b": 7}):
        run = Run(job, {str(file): {}})
        run.feeds.add([item])
        run.end(finished=False)
    assert file.read_text() == "a,b\n1,2\n4,3\n,7\n"


# -- what cannot be gone on with -------------------------------------------------------------------


def grown(file: Path) -> None:
    with file.open("ab") as out:
        out.write(b'{"n": 66}\n')


def changed(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"n": 2', b'"n": 7'))


def link(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: os.truncate(file, 10), ["is shorter (10 bytes)", "put it back"]),
        (lambda file: file.unlink(), ["is gone", "put it back"]),
        (changed, ["was changed since", "put it back"]),
        (grown, ["has 10 bytes at its end that are not of this job", "take them out"]),
        (link, ["is a link to nowhere", "remove it"]),
        (folder, ["is a folder", "name a file"]),
    ],
)
def test_a_file_that_is_not_as_the_job_left_it(
    tmp_path: Path, job: Path, spoil: Callable[[Path], None], words: list[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    Run(job, {str(file): {}}).add(1, 2).end(finished=False)
    spoil(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(FeedRefused) as refused:
        Run(job, {str(file): {}})
    assert str(refused.value).startswith(f"the feed {file} ")
    assert all(word in str(refused.value) for word in words)
    assert (file.read_bytes() if file.is_file() else None) == before


def test_a_file_of_the_users_that_is_gone(tmp_path: Path, job: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(OLD["rows.jsonl"])
    Run(job, {str(file): {}}).kill()
    file.unlink()
    with pytest.raises(FeedRefused, match="is gone"):
        Run(job, {str(file): {}})


def test_a_file_that_never_had_rows_may_go(tmp_path: Path, job: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.touch()
    Run(job, {str(file): {}}).end(finished=False)
    file.unlink()
    assert Run(job, {str(file): {}}).add(1).end()
    assert numbers(file) == [1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_cannot_be_written(tmp_path: Path, job: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.touch(mode=0o400)
    with pytest.raises(FeedRefused, match="cannot be read and written"):
        Run(job, {str(file): {}})


@pytest.mark.parametrize(
    ("uri", "options", "settings", "words"),
    [
        ("a.json", {}, {}, "json, which a job cannot go on with: use jsonlines or csv"),
        ("a.xml", {}, {}, "xml, which a job cannot go on with"),
        ("a.parquet", {}, {}, r"no known format \(parquet\): use one of csv, .*jsonlines"),
        ("gopher://a/b.csv", {}, {}, r"not known \(gopher:\)"),
        ("s3://[/b.csv", {}, {}, "is no address"),
        ("broken://a.csv", {}, {}, "cannot be stored: missing a library"),
        ("ftp:///a.csv", {}, {}, "cannot be stored: .*without a hostname"),
        ("a.csv", {"batch_item_count": 5}, {}, r"one name for all of them: put %\(batch_id\)d"),
        ("a.csv", {"item_export_kwargs": {"no": 1}}, {}, "options in FEEDS that do not work.*no"),
        ("a.csv", {"postprocessing": ["no.such.Plugin"]}, {}, "options in FEEDS that do not work"),
        ("%(wrong)s.csv", {}, {}, "cannot be filled in .*wrong"),
        ("a.csv", {}, {"FEED_URI": "b.csv"}, "FEED_URI is not read any more"),
        ("notes.txt/a.csv", {}, {}, "is a file, not a folder"),
    ],
)
def test_feeds_that_cannot_be(
    tmp_path: Path,
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    options: dict[str, Any],
    settings: dict[str, Any],
    words: str,
) -> None:
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FeedRefused, match=words):
        Run(job, {uri: options}, **settings)


def test_two_feeds_are_not_one_file(tmp_path: Path, job: Path) -> None:
    with pytest.raises(FeedRefused, match="two feeds are the same file"):
        Run(job, {f"{tmp_path}/a.csv": {}, f"file://{tmp_path}/a.csv": {}})
    with pytest.raises(FeedRefused, match="the same feed twice"):
        Run(job, {f"{tmp_path}/a.csv": {}, tmp_path / "./a.csv": {}})


def test_other_feeds_are_another_job(tmp_path: Path, job: Path) -> None:
    Run(job, {f"{tmp_path}/a.csv": {}}).end(finished=False)
    with pytest.raises(FeedRefused, match=r"other feeds \(.*/a.csv, now .*/a.csv, .*/b.csv\)"):
        Run(job, {f"{tmp_path}/a.csv": {}, f"{tmp_path}/b.csv": {}})


# -- rows that cannot be exported ------------------------------------------------------------------


@each_format
def test_a_request_whose_rows_cannot_be_exported_leaves_nothing(
    tmp_path: Path, job: Path, name: str, options: dict[str, Any]
) -> None:
    """Into none of the feeds, and not in a batch that it would have begun."""
    feeds = {
        str(tmp_path / "first.csv"): {},
        str(tmp_path / name): options,
        str(tmp_path / "b%(batch_id)d.csv"): {"batch_item_count": 2},
    }
    bad = [Row(66), Row(67), Row(68, Unexportable())]
    run = Run(job, feeds)
    for good in (1, 2, 3):
        with pytest.raises(ExportError) as failed:
            run.feeds.add(bad)
        assert isinstance(failed.value.__cause__, (ValueError, TypeError))
        assert "hunter2" not in str(failed.value)
        run.add(good)
    assert run.end()
    for file in (tmp_path / "first.csv", tmp_path / name):
        assert numbers(file) == [1, 2, 3]
    assert [numbers(tmp_path / f"b{n}.csv") for n in (1, 2)] == [[1, 2], [3]]
    assert len(list(tmp_path.glob("b*.csv"))) == 2


def test_filters(tmp_path: Path, job: Path) -> None:
    class Even:
        def __init__(self, options: dict[str, Any]) -> None:
            self.remainder = options["remainder"]

        def accepts(self, item: Row) -> bool:
            return bool(item.n % 2 == self.remainder)

    feeds: dict[Any, dict[str, Any]] = {
        str(tmp_path / "even.jsonl"): {"item_filter": Even, "remainder": 0},
        str(tmp_path / "rows.jsonl"): {"item_classes": [Row]},
        str(tmp_path / "other.jsonl"): {"item_classes": ["tests.feed_runs.Run"]},
    }
    assert Run(job, feeds).add(1, 2).add(3, 4).end()
    assert numbers(tmp_path / "even.jsonl") == [2, 4]
    assert numbers(tmp_path / "rows.jsonl") == [1, 2, 3, 4]
    assert not (tmp_path / "other.jsonl").exists()


# -- a disk that is full, and other programs -------------------------------------------------------


@each_format
def test_a_full_disk_costs_the_rows_that_did_not_fit(
    tmp_path: Path,
    job: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: dict[str, Any],
) -> None:
    feeds = {str(tmp_path / "other.csv"): {}, str(tmp_path / name): options}
    run = Run(job, feeds).add(1).commit().add(2, 3)
    written: list[int] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        written.append(len(data))
        if len(written) == 3:  # the second feed's rest
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[: len(data) // 2] if len(written) == 2 else data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left on device") as full:
            run.flush()
    assert full.value.filename == str(tmp_path / name)
    run.give_up()
    for file in ("other.csv", name):
        assert numbers(tmp_path / file) == [1], "cut back to whole rows at once"
    assert not run.close(finished=False, clean=False)
    assert Run(job, feeds).add(2, 3).end()
    for file in ("other.csv", name):
        assert numbers(tmp_path / file) == [1, 2, 3]


def test_a_commit_that_fails_is_no_commit(tmp_path: Path, job: Path) -> None:
    feeds = {str(tmp_path / "rows.csv"): {}, str(tmp_path / "new.csv"): {"item_classes": [Row]}}
    run = Run(job, feeds).add(1, 2).flush().give_up()
    assert not run.close(finished=False, clean=False)
    assert (tmp_path / "rows.csv").read_bytes() == b""
    assert Run(job, feeds).add(1, 2, 3).end()
    assert numbers(tmp_path / "rows.csv") == numbers(tmp_path / "new.csv") == [1, 2, 3]


@pytest.mark.parametrize("spoil", [grown, lambda file: os.truncate(file, 3), Path.unlink])
def test_another_program_in_the_same_file(
    tmp_path: Path, job: Path, spoil: Callable[[Path], None]
) -> None:
    file = tmp_path / "rows.jsonl"
    run = Run(job, {str(file): {}}).add(1).commit()
    spoil(file)
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(OSError, match=r"another program has changed it|was moved or deleted"):
        run.add(2).flush()
    run.give_up().close(finished=False, clean=False)
    assert (file.read_bytes() if file.exists() else None) == before, "nothing of it is touched"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
