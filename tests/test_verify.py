"""`scrapy verify` of a workspace: what is missing, changed or extra, and whose files are meant."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.commands import verify as command
from kagglecrawl.state.ledger import Ledger
from kagglecrawl.state.ledger_look import Kept, Shelf
from kagglecrawl.verify.faults import Fault, Findings
from kagglecrawl.verify.resource import Check, verify
from kagglecrawl.verify.workspace import Workspace
from tests.conftest import ROOT, clean_env
from tests.state.ledgers import KAGGLE, contents, manifest, stored

Ask = Callable[..., tuple[int, str, str]]
ROOT_FOLDER = "output/datasets/dataset"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def ask(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run ``scrapy verify`` here; its code, and what it said."""

    def run(*args: str) -> tuple[int, str, str]:
        given = ["scrapy", "verify", *args, "-s", f"WORKSPACE={workspace}"]
        with pytest.raises(SystemExit) as ended:
            execute(given, settings=get_project_settings())
        output, errors = capsys.readouterr()
        return int(ended.value.code or 0), output, errors

    return run


def store(
    workspace: Path,
    key: str,
    files: dict[str, bytes],
    *,
    at: float = 1,
    version: str = "1",
    whose: tuple[str, str] = (KAGGLE, "datasets"),
    folder: str = "",
) -> Path:
    """Files on the disk and in the ledger, as a crawl leaves them; returns their folder."""
    folder = folder or f"{ROOT_FOLDER}/{key.replace('/', '_')}"
    for name, content in files.items():
        path = workspace / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    note(workspace, key, files, at, version, whose, folder)
    return workspace / folder


def note(
    workspace: Path,
    key: str,
    files: dict[str, bytes],
    at: float,
    version: str,
    whose: tuple[str, str],
    folder: str,
) -> None:
    kept = manifest(folder, len(files), sum(map(len, files.values())))
    rows = [(name, len(content), sha256(content).digest(), "") for name, content in files.items()]
    with closing(Ledger(workspace / "ledger.sqlite", *whose)) as ledger:
        ledger.apply([stored(key, at, version=version, manifest=kept, files=rows, seen=at)])


def objects(output: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The faults of --json, by where they are, and the summary."""
    *faults, last = map(json.loads, output.splitlines())
    return sorted(faults, key=lambda each: str(each["where"])), last["summary"]


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--read-back",)])
def test_all_is_there(ask: Ask, workspace: Path, options: tuple[str, ...]) -> None:
    """Names with all that a name may hold, an empty file, two spiders, and a crawl's own staging
    folder beside them."""
    names = {"a b/ü+%2F&.csv": b"1,2", "e\u0301.txt": b"", "é.txt": b"x", "data/.hidden": b"h"}
    store(workspace, "o/s", names)
    store(workspace, "m/m", {"m": b"mm"}, whose=("loopback", "models"), folder="output/models/m_m")
    (workspace / ROOT_FOLDER / ".p_q.1234.incomplete").mkdir()
    before = contents(workspace / "ledger.sqlite")
    code, output, errors = ask(*options)
    by_size = "" if options else "; 5 compared by size alone"
    read = " (7 B read)" if options else ""
    line = f"2 resources: 5 files right, 7 B{read}; 0 missing; 0 changed; 0 extra{by_size}\n"
    assert (code, output, errors) == (0, line, "")
    assert contents(workspace / "ledger.sqlite") == before


def test_what_is_wrong(ask: Ask, workspace: Path) -> None:
    files = {"a.csv": b"aa", "b/c.csv": b"cc", "d": b"dd", "e": b"ee", "f": b"ff"}
    folder = store(workspace, "o/s", files)
    gone = store(workspace, "p/gone", {"1": b"1", "2": b"22"})
    store(workspace, "q/fine", {"x": b"x"})
    (gone / "1").unlink()
    (gone / "2").unlink()
    gone.rmdir()
    (folder / "a.csv").unlink()
    (folder / "b/c.csv").write_bytes(b"cCc")
    (folder / "d").write_bytes(b"DD")
    (folder / "e").unlink()
    (folder / "e").mkdir()
    (folder / "f").unlink()
    (folder / "f").symlink_to("d")
    (folder / "b/more\n.txt").write_bytes(b"")
    (workspace / ROOT_FOLDER / "stray_one").mkdir()
    (workspace / ROOT_FOLDER / "stray.txt").write_bytes(b"")
    code, output, errors = ask("--json", "--read-back")
    assert (code, errors) == (1, "")
    faults, summary = objects(output)
    at = f"{ROOT_FOLDER}/o_s"

    def fault(kind: str, where: str, key: str = "o/s", **more: Any) -> dict[str, Any]:
        whose = {"spider": "datasets", "source": KAGGLE, "key": key, "version": "1"}
        return {"fault": kind, **whose, "where": where, **more}

    sums = {"expected": sha256(b"dd").hexdigest(), "found": sha256(b"DD").hexdigest()}
    nobodys = {"fault": "extra", "what": "unowned"}
    assert faults == [
        fault("missing", f"{at}/a.csv"),
        fault("changed", f"{at}/b/c.csv", what="size", expected=2, found=3),
        fault("extra", f"{at}/b/more\n.txt"),
        fault("changed", f"{at}/d", what="checksum", **sums),
        fault("changed", f"{at}/e", what="kind"),
        fault("changed", f"{at}/f", what="kind"),
        fault("missing", f"{ROOT_FOLDER}/p_gone/", "p/gone", files=2),
        {**nobodys, "where": f"{ROOT_FOLDER}/stray.txt"},
        {**nobodys, "where": f"{ROOT_FOLDER}/stray_one/", "files": 1},
    ]
    counts = {"missing": 3, "changed": 4, "extra": 3, "unread": 0}
    assert {name: summary[name] for name in counts} == counts
    right = {"resources": 3, "files": 1, "bytes": 1, "read": 3}
    assert {name: summary[name] for name in right} == right
    code, output, errors = ask()
    assert (code, errors) == (1, "")
    lines = output.splitlines()
    assert f"missing  {ROOT_FOLDER}/p_gone/: all of it, 2 files" in lines
    assert f"changed  {at}/b/c.csv: 3 bytes, and 2 were stored" in lines
    assert f"extra    {at}/b/more\\n.txt" in lines
    assert f"extra    {ROOT_FOLDER}/stray_one/: the ledger has no files of anybody there" in lines
    assert not any(f"{at}/d" in line for line in lines)  # its size is right
    assert lines[-1] == (
        "3 resources: 2 files right, 3 B; 3 missing; 3 changed; 3 extra; 2 compared by size alone"
    )


def test_a_name_that_is_no_text(ask: Ask, workspace: Path) -> None:
    folder = store(workspace, "o/s", {"a": b"a"})
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch()
    except OSError:
        pytest.skip("this disk has no such names")
    code, output, _ = ask()
    assert (code, output.splitlines()[0]) == (1, f"extra    {ROOT_FOLDER}/o_s/\\udcff")


def test_many_faults_are_many_lines_for_programs_alone(
    ask: Ask, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SHOWN", 3)
    files = {f"{number:04}": b"x" for number in range(2_345)}
    folder = store(workspace, "o/s", files)
    for name in list(files)[::2]:
        (folder / name).unlink()
    code, output, _ = ask()
    lines = output.splitlines()
    assert (code, len(lines), lines[3]) == (1, 5, "… and 1,170 more: --json prints all of them")
    faults, summary = objects(ask("--json")[1])
    assert [Path(each["where"]).name for each in faults] == list(files)[::2]
    assert (summary["missing"], summary["files"]) == (1_173, 1_172)


def test_what_cannot_be_read_is_told(
    ask: Ask, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root, who may read everything, is stood in for."""
    store(workspace, "o/s", {"a": b"a", "b": b"b"})
    plain = os.lstat

    def lstat(path: Any, **more: Any) -> os.stat_result:
        if str(path).endswith("o_s/a"):
            raise PermissionError(13, "Permission denied")
        return plain(path, **more)

    monkeypatch.setattr(os, "lstat", lstat)
    code, output, _ = ask()
    assert (code, output.splitlines()[0]) == (
        1,
        f"unread   {ROOT_FOLDER}/o_s/a: Permission denied",
    )


# -- whose files -----------------------------------------------------------------------------------


def test_files_of_an_earlier_version_are_no_fault(ask: Ask, workspace: Path) -> None:
    """A folder is merged with. What neither version has is extra."""
    folder = store(workspace, "o/s", {"old.csv": b"1", "both.csv": b"1"})
    store(workspace, "o/s", {"both.csv": b"22"}, at=2, version="2")
    line = "1 resource: 1 file right, 2 B; 0 missing; 0 changed; 0 extra; "
    assert ask() == (0, f"{line}1 compared by size alone; 1 of earlier versions\n", "")
    (folder / "own.csv").touch()
    assert ask()[0] == 1


def test_files_that_others_have_overwritten_are_passed_over(ask: Ask, workspace: Path) -> None:
    """The same folder, from another source; and one whose files went elsewhere with a version."""
    store(workspace, "o/s", {"a": b"1"}, whose=("loopback", "datasets"))
    store(workspace, "o/s", {"a": b"22"}, at=2)
    old = store(workspace, "p/s", {"a": b"1"}, folder=f"{ROOT_FOLDER}/p_old")
    store(workspace, "p/s", {"a": b"1"}, at=2, version="2")
    code, output, _ = ask("--json")
    faults, summary = objects(output)
    assert (code, faults, summary["overwritten"], summary["files"]) == (0, [], 1, 2)
    assert old.is_dir()


def test_what_is_meant(ask: Ask, workspace: Path) -> None:
    """With keys nothing is said of what belongs to nobody."""
    for key in ("a/one", "a/two", "b/one"):
        (store(workspace, key, {"x": b"x"}) / "x").unlink()
    store(workspace, "m/m", {"m": b""}, whose=(KAGGLE, "models"), folder="output/models/m_m")
    (workspace / ROOT_FOLDER / "stray").mkdir()

    def found(*args: str) -> tuple[int, int, int, int]:
        code, output, _ = ask("--json", *args)
        faults, summary = objects(output)
        assert len(faults) == summary["missing"] + summary["extra"]
        return code, summary["resources"], summary["missing"], summary["extra"]

    assert found() == (1, 4, 3, 1)
    assert found("a/*") == (1, 2, 2, 0)
    assert found("a/one", "b/one", "c/*") == (1, 2, 2, 0)
    assert found("--spider", "models") == (0, 1, 0, 0)
    code, output, errors = ask("--spider", "models", "a/one")
    words = r"scrapy verify: the ledger \S+ has no files of --spider models a/one: see `scrapy led"
    assert (code, output) == (2, "")
    assert re.match(words, errors)


def test_a_crawl_that_replaces_the_files_meanwhile(workspace: Path) -> None:
    """They are compared with what the ledger has then; when that goes on and on, it is said."""
    for times, unsettled in ((1, 0), (9, 1)):
        whose, folder = (KAGGLE, "datasets"), f"{ROOT_FOLDER}/o_{times}"
        store(workspace, f"o/{times}", {"a": b"1"}, folder=folder)
        left = list(range(2, 2 + times))

        class Busy(Workspace):
            def compare(self, check: Check) -> None:
                if left:  # noqa: B023
                    at = left.pop(0)  # noqa: B023
                    content = b"x" * at
                    (workspace / folder / "a").write_bytes(content)  # noqa: B023
                    note(workspace, f"o/{times}", {"a": content}, at, "1", whose, folder)  # noqa: B023
                super().compare(check)

        faults: list[Fault] = []
        findings = Findings(faults.append)
        with Shelf(workspace / "ledger.sqlite") as shelf:
            (kept,) = (each for each in shelf.kept() if each.key == f"o/{times}")
            verify(shelf, kept, Busy(workspace), findings, read_back=True)
        assert (faults, findings.counts.unsettled) == ([], unsettled)
        assert findings.counts.files == 1 - unsettled


def test_what_was_told_of_a_resource_that_is_replaced_is_not_told_again(workspace: Path) -> None:
    """A million faults are not kept back, so some may be out when a crawl comes."""
    whose, folder, told = (KAGGLE, "datasets"), f"{ROOT_FOLDER}/o_s", 1_000
    store(workspace, "o/s", {"a": b"1"})

    class Busy(Workspace):
        def compare(self, check: Check) -> None:
            for number in range(told):
                check.wrong("missing", str(number))
            note(workspace, "o/s", {"a": b"2"}, 2, "1", whose, folder)
            check.wrong("missing", "another")

    faults: list[Fault] = []
    findings = Findings(faults.append)
    with Shelf(workspace / "ledger.sqlite") as shelf:
        (kept,) = shelf.kept()
        verify(shelf, kept, Busy(workspace), findings, read_back=False)
    assert (len(faults), findings.counts.unsettled) == (told, 1)


# -- the command -----------------------------------------------------------------------------------


def test_nothing_is_stored(ask: Ask, workspace: Path) -> None:
    code, output, errors = ask()
    assert (code, output) == (2, "")
    assert errors.endswith("ledger.sqlite yet: a crawl makes one\n")
    with closing(Ledger(workspace / "ledger.sqlite", KAGGLE, "datasets")) as ledger:
        ledger.apply([stored("o/s", 1), stored("p/s", 1, manifest=manifest("", 0))])
    line = "0 resources: 0 files right, 0 B; 0 missing; 0 changed; 0 extra\n"
    assert ask() == (0, line, "")


def test_wrong_usage(ask: Ask, workspace: Path) -> None:
    store(workspace, "o/s", {"a": b"a"})
    words = "scrapy verify: option --what is not known: see `scrapy verify -h`\n"
    assert ask("--what") == (2, "", words)
    (workspace / "ledger.sqlite").write_bytes(b"hello" * 500)
    code, _, errors = ask()
    assert code == 2
    assert "not a database): restore it from a copy" in errors


def test_ctrl_c(ask: Ask, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store(workspace, "o/s", {"a": b"a"})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kagglecrawl.verify.run.Look._wait", interrupted)
    assert ask() == (3, "", "")


def test_a_reader_that_has_enough(workspace: Path) -> None:
    folder = store(workspace, "o/s", {f"{number}" * 50: b"" for number in range(3_000)})
    for path in list(folder.iterdir()):
        path.unlink()
    (folder / "x").touch()
    arguments = ["-m", "scrapy", "verify", "--json", "-s", f"WORKSPACE={workspace}"]
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=clean_env(workspace),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["fault"] == "missing"
        process.stdout.close()
        assert process.stderr.read() == b""


def test_memory_stays_the_same(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file a byte or two, and no name; beside a few blocks of them."""
    monkeypatch.setattr("kagglecrawl.verify.names.BLOCK", 100)
    count, folder = 15_000, f"{ROOT_FOLDER}/o_s"
    (workspace / folder).mkdir(parents=True)
    kept = manifest(folder, count, 0)
    with closing(Ledger(workspace / "ledger.sqlite", KAGGLE, "datasets")) as ledger:
        rows = ((f"{number:0200}", 0, bytes(32), "") for number in range(count))
        ledger.apply([stored("o/s", 1, manifest=kept, files=rows)])
    findings = Findings(lambda _: None)
    with Shelf(workspace / "ledger.sqlite") as shelf:
        (of_resource,) = shelf.kept()
        assert isinstance(of_resource, Kept)
        tracemalloc.start()
        try:
            verify(shelf, of_resource, Workspace(workspace), findings, read_back=False)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert findings.counts.faults == {"missing": count}
    assert peak < 1_500_000  # their names alone are 3 MB
