"""The project's rules, as tests: who imports whom, what an import may do, what a file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from scrapy.settings import default_settings

from kagglecrawl import settings as project
from tests.conftest import ROOT, clean_env

PACKAGE = ROOT / "kagglecrawl"
LONGEST_FILE = 450
REPLICA_COMMAND = PACKAGE / "commands/replica.py"


def of_replica(path: Path) -> bool:
    return path.is_relative_to(PACKAGE / "replica")


def python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


SOURCES = python_files(PACKAGE)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere in it, with full names."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- who imports whom ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_the_crawler_and_the_replica_do_not_know_each_other(path: Path) -> None:
    modules = set(imported(path))
    if of_replica(path):
        ours = {each for each in modules if below(each, "kagglecrawl")}
        assert {each for each in ours if not below(each, "kagglecrawl.replica")} <= {"kagglecrawl"}
    elif path != REPLICA_COMMAND:
        assert not {each for each in modules if below(each, "kagglecrawl.replica")}
        assert "kagglecrawl.replica" not in path.read_text(encoding="utf-8"), "not by name either"


@pytest.mark.parametrize("path", python_files(PACKAGE / "kaggle"), ids=relative)
def test_the_wire_protocol_stands_alone(path: Path) -> None:
    """Of ours it knows itself, of Scrapy ``Request``."""
    for module in imported(path):
        if below(module, "kagglecrawl"):
            assert below(module, "kagglecrawl.kaggle"), module
        if below(module, "scrapy"):
            assert module in {"scrapy", "scrapy.Request"}, module


@pytest.mark.parametrize("path", python_files(PACKAGE / "state"), ids=relative)
def test_the_scheduler_and_the_accounts_know_no_resource(path: Path) -> None:
    allowed = tuple(
        f"kagglecrawl.{name}" for name in ("state", "kaggle", "config", "checks", "rates", "units")
    )
    ours = {module for module in imported(path) if below(module, "kagglecrawl")}
    assert not {module for module in ours if not any(below(module, each) for each in allowed)}


@pytest.mark.parametrize("path", python_files(PACKAGE / "pipelines"), ids=relative)
def test_a_pipeline_knows_neither_the_scheduler_nor_a_spider(path: Path) -> None:
    others = ("kagglecrawl.state", "kagglecrawl.spiders", "kagglecrawl.transport")
    assert not [each for each in imported(path) if any(below(each, name) for name in others)]


@pytest.mark.parametrize("path", python_files(PACKAGE / "metakaggle"), ids=relative)
def test_tables_are_read_whoever_asks(path: Path) -> None:
    allowed = tuple(f"kagglecrawl.{name}" for name in ("metakaggle", "kaggle", "units"))
    ours = {module for module in imported(path) if below(module, "kagglecrawl")}
    assert not {module for module in ours if not any(below(module, each) for each in allowed)}


SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|PRAGMA|CREATE (TABLE|INDEX))\b")


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_sql_has_one_place(path: Path) -> None:
    if path in {
        PACKAGE / f"state/{name}.py"
        for name in (
            *("database", "store", "transfer_store", "outcome_store", "gather_store"),
            "quotas",
            *("ledger", "ledger_each", "ledger_file", "ledger_look"),
        )
    }:
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not SQL.match(node.value), node.value


#: Whoever reads these runs what is in them.
RUNS = ("pickle", "marshal", "shelve", "dill", "queuelib")


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_is_kept_in_a_form_that_runs(path: Path) -> None:
    assert not [each for each in imported(path) if any(below(each, name) for name in RUNS)]


@pytest.mark.parametrize("path", python_files(PACKAGE / "transfer"), ids=relative)
def test_bytes_move_whatever_they_are_of(path: Path) -> None:
    """A transfer knows the job and the transport, but neither what is crawled nor who is told."""
    others = ("spiders", "pipelines", "items", "commands", "extensions", "doctor", "middlewares")
    ours = [each for each in imported(path) if below(each, "kagglecrawl")]
    assert not [each for each in ours if any(below(each, f"kagglecrawl.{o}") for o in others)]


#: What an archive holds is read from bytes that somebody else has, and judged without a disk.
PURE = [PACKAGE / f"transfer/{name}.py" for name in ("members", "zips", "tars", "hosts")]
REACHING_OUT = ("os", "io", "pathlib", "shutil", "socket", "threading", "tempfile", "asyncio")


@pytest.mark.parametrize("path", PURE, ids=relative)
def test_archives_are_read_without_a_disk_or_a_network(path: Path) -> None:
    modules = list(imported(path))
    assert not [each for each in modules if any(below(each, name) for name in REACHING_OUT)]
    allowed = ("kagglecrawl.kaggle", "kagglecrawl.transfer.members")
    ours = [each for each in modules if below(each, "kagglecrawl")]
    assert not [each for each in ours if not any(below(each, name) for name in allowed)]


#: What waits for a network while everything else stands still, or goes around the scheduler.
BLOCKING = ("requests", "urllib3", "urllib.request", "http.client", "kaggle", "kagglehub")
#: In a thread of its own, for which blocking is no harm.
READ_STORAGE = {PACKAGE / f"transfer/{name}.py" for name in ("session", "source")}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_only_the_transport_reaches_for_another_http_client(path: Path) -> None:
    if path.is_relative_to(PACKAGE / "transport") or path in READ_STORAGE:
        return
    found = [each for each in imported(path) if any(below(each, name) for name in BLOCKING)]
    assert not found


@pytest.mark.parametrize(
    "path",
    [*python_files(PACKAGE / "spiders"), *python_files(PACKAGE / "pipelines")],
    ids=relative,
)
def test_nothing_goes_around_the_scheduler_or_sleeps(path: Path) -> None:
    calls = {ast.unparse(node.func) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)}
    forbidden = re.compile(r"(^|\.)(download|download_async|sleep|urlopen|Popen)$|subprocess\.")
    assert not {call for call in calls if forbidden.search(call)}


# -- what an import does ---------------------------------------------------------------------------

IMPORT_ALL = """
import importlib, os, pkgutil, socket, subprocess, sys, threading

def refuse(*args, **kwargs):
    raise AssertionError("an import reached out")

for name in ("connect", "connect_ex", "bind", "listen"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse
subprocess.Popen.__init__ = os.fork = os.system = refuse

import kagglecrawl
names = [each.name for each in pkgutil.walk_packages(kagglecrawl.__path__, "kagglecrawl.")]
for name in names:
    importlib.import_module(name)
assert threading.active_count() == 1, threading.enumerate()
for name in ("kaggle", "playwright", "scrapy_playwright", "kagglehub"):
    assert name not in sys.modules, f"{name} is heavy or logs in when it is imported"
print(len(names))
"""


def test_importing_everything_starts_nothing(tmp_path: Path) -> None:
    """Without a network, in an empty home folder that cannot be written."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir(mode=0o555)
    here.mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error::ResourceWarning", "-c", IMPORT_ALL],
        env=clean_env(home, PYTHONPATH=str(ROOT)),
        cwd=here,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(SOURCES) - 1
    assert not [*home.iterdir(), *here.iterdir()]


# -- settings --------------------------------------------------------------------------------------

NAMES = [name for name in vars(project) if name.isupper()]
OURS = [name for name in NAMES if not hasattr(default_settings, name)]


def test_our_settings_can_be_told_from_scrapys() -> None:
    """What Scrapy does not know begins with KAGGLE_ or S3_, or is a slip of the pen."""
    rest = {name for name in OURS if not name.startswith(("KAGGLE_", "S3_"))}
    assert rest == {"WORKSPACE", "WORKSPACE_MIN_FREE", "CLOUD_CONFIG", "OUTPUT_PREFIX"}


@pytest.mark.parametrize("name", OURS)
def test_a_setting_of_ours_is_read_and_explained(name: str) -> None:
    read = {
        node.value
        for path in SOURCES
        if path.name != "settings.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert name in read, "nobody reads it"
    lines = (PACKAGE / "settings.py").read_text(encoding="utf-8").splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith(f"{name} ="))
    assert lines[at - 1].startswith("#"), "no comment says what it is"
    assert len(lines[at - 1].split()) > 3


def test_a_setting_of_ours_that_is_read_exists() -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    read = re.findall(r"settings(?:\.get\w*\(|\[)\s*\"((?:KAGGLE|S3)_\w+)\"", texts)
    assert read
    assert set(read) <= set(OURS)


def test_what_we_change_differs_from_scrapys_default() -> None:
    """Else it is not a difference; what is named on purpose is listed here."""
    on_purpose = {"CONCURRENT_REQUESTS_PER_DOMAIN", "ROBOTSTXT_OBEY"}
    same = {
        name
        for name in NAMES
        if hasattr(default_settings, name)
        and getattr(default_settings, name) == getattr(project, name)
    }
    assert same <= on_purpose


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path))


WRITTEN = [
    *SOURCES,
    *python_files(ROOT / "tests"),
    *python_files(ROOT / "benchmarks"),
]


@pytest.mark.parametrize("path", WRITTEN, ids=relative)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def tracked() -> list[Path]:
    """The text files that belong to the project: git's view, or all of them without git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        folders = [PACKAGE, ROOT / "tests", ROOT / "docs", ROOT / "benchmarks"]
        paths = [path for folder in folders for path in folder.rglob("*")]
        paths += ROOT.iterdir()
    return [path for path in paths if path.is_file() and path.suffix != ".pyc"]


ABSOLUTE = re.compile(r"(?<![\w.:/<{}%~*])(/\w[\w.-]*/[\w./-]*\w)")
#: Folders that every machine has.
SYSTEM = ("/bin/", "/dev/", "/etc/", "/proc/", "/sys/", "/usr/", "/tmp/", "/var/", "/opt/")


def test_no_file_names_a_place_on_this_machine() -> None:
    found = []
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace")
        for place in {ROOT, Path.home()}:
            if len(place.parts) > 2 and str(place) in text:
                found.append((relative(path), str(place)))
        for match in set(ABSOLUTE.findall(text)):
            if not match.startswith(SYSTEM) and Path(match).exists():
                found.append((relative(path), match))
    assert not found
