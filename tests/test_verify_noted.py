"""`scrapy verify` of what records name: replays and logs, on the disk and in a bucket."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.s3.crew import Crew
from kagglecrawl.s3.destination import Destination
from kagglecrawl.state.ledger import Ledger, Outcome
from kagglecrawl.state.ledger_look import Shelf
from kagglecrawl.verify.faults import Fault, Findings
from kagglecrawl.verify.noted import folders
from kagglecrawl.verify.run import Look, Wanted
from kagglecrawl.verify.store import Objects
from tests.state.ledgers import KAGGLE, contents
from tests.test_verify_store import Bucket

Ask = Callable[..., tuple[int, list[dict[str, Any]], dict[str, Any]]]
OUTPUT = "output/episodes"
REPLAYS = f"{OUTPUT}/replay/halite"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def ask(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run ``scrapy verify --json`` here; its code, the faults by place, and the summary."""

    def run(*args: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
        given = ["scrapy", "verify", "--json", *args, "-s", f"WORKSPACE={workspace}"]
        with pytest.raises(SystemExit) as ended:
            execute(given, settings=get_project_settings())
        output, errors = capsys.readouterr()
        assert errors == ""
        *faults, last = map(json.loads, output.splitlines())
        faults.sort(key=lambda each: str(each["where"]))
        return int(ended.value.code or 0), faults, last["summary"]

    return run


def path_of(number: int, competition: str = "halite") -> str:
    return f"replay/{competition}/{number}.json.gz"


def named(path: str, content: bytes, reason: str = "") -> dict[str, Any]:
    digest = sha256(content).hexdigest()
    return {"path": path, "bytes": len(content), "sha256": digest, "reason": reason}


def outcome(
    number: int, replay: Any, logs: Any = None, competition: str = "halite", at: float = 1
) -> Outcome:
    record = {"competition": competition, "episode_id": number, "replay": replay, "logs": logs}
    text = json.dumps(record)
    return Outcome(f"{competition}/{number}", "", "stored", "", f"s{at}", at, text)


def store(workspace: Path, *outcomes: Outcome, source: str = KAGGLE) -> None:
    with closing(Ledger(workspace / "ledger.sqlite", source, "episodes")) as ledger:
        ledger.apply(outcomes)


def put(workspace: Path, path: str, content: bytes) -> None:
    place = workspace / OUTPUT / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)


def fill(workspace: Path) -> None:
    """Four replays of two competitions, a log, and episodes without any."""
    log = named("logs/halite/1/0.json", b"[]")
    for number in (1, 2, 3):
        put(workspace, path_of(number), b"replay %d" % number)
    put(workspace, path_of(4, "lux"), b"replay 4")
    put(workspace, "logs/halite/1/0.json", b"[]")
    store(
        workspace,
        outcome(1, named(path_of(1), b"replay 1"), [log, named("", b"", "not_found")]),
        outcome(2, named(path_of(2), b"replay 2")),
        outcome(3, named(path_of(3), b"replay 3")),
        outcome(4, named(path_of(4, "lux"), b"replay 4"), competition="lux"),
        outcome(5, named("", b"", "not_found")),
        outcome(6, None),
        Outcome("halite/team/7", "", "skipped", "listed", "s", 1, '{"kind": "team"}'),
        # of another release, or nobody's
        outcome(8, {"path": "replay/halite/8", "bytes": "x", "sha256": "", "reason": ""}),
        outcome(9, {"path": "9.json.gz", "bytes": 1, "sha256": "00", "reason": ""}),
    )


@pytest.mark.parametrize("options", [(), ("--read-back",), ("--spider", "episodes")])
def test_all_is_there(ask: Ask, workspace: Path, options: tuple[str, ...]) -> None:
    """With what a crawl is just writing beside them."""
    fill(workspace)
    put(workspace, "replay/halite/.12-34.incomplete", b"rep")
    before = contents(workspace / "ledger.sqlite")
    code, faults, summary = ask(*options)
    assert (code, faults) == (0, [])
    assert (summary["resources"], summary["files"], summary["bytes"]) == (4, 5, 34)
    read = options == ("--read-back",)
    assert (summary["read"], summary["size_only"]) == ((34, 0) if read else (0, 5))
    assert contents(workspace / "ledger.sqlite") == before


def test_what_is_wrong(ask: Ask, workspace: Path) -> None:
    fill(workspace)
    (workspace / REPLAYS / "1.json.gz").unlink()
    put(workspace, path_of(2), b"replay 2 and more")
    put(workspace, path_of(3), b"REPLAY 3")
    put(workspace, "replay/halite/77.json.gz", b"nobody's")
    (workspace / OUTPUT / path_of(4, "lux")).unlink()
    (workspace / OUTPUT / "replay/lux").rmdir()
    code, faults, summary = ask("--read-back")
    whose = {"spider": "episodes", "source": KAGGLE}
    sizes = {"fault": "changed", "what": "size", "expected": 8, "found": 17}
    sums = {"expected": sha256(b"replay 3").hexdigest(), "found": sha256(b"REPLAY 3").hexdigest()}
    assert faults == [
        {"fault": "missing", **whose, "key": "halite/1", "where": f"{REPLAYS}/1.json.gz"},
        {**sizes, **whose, "key": "halite/2", "where": f"{REPLAYS}/2.json.gz"},
        {
            "fault": "changed",
            "what": "checksum",
            **whose,
            "key": "halite/3",
            "where": f"{REPLAYS}/3.json.gz",
            **sums,
        },
        {"fault": "extra", "spider": "episodes", "where": f"{REPLAYS}/77.json.gz"},
        {
            "fault": "missing",
            "spider": "episodes",
            "where": f"{OUTPUT}/replay/lux/",
            "files": 1,
        },
    ]
    assert (code, summary["missing"], summary["changed"], summary["extra"]) == (1, 2, 2, 1)
    assert summary["files"] == 1, "the log"


def test_those_that_are_named_alone(ask: Ask, workspace: Path) -> None:
    """Of the others nothing is said, nor of what nobody has named."""
    fill(workspace)
    put(workspace, "replay/halite/77.json.gz", b"nobody's")
    for number in (2, 3):
        (workspace / REPLAYS / f"{number}.json.gz").unlink()
    code, faults, summary = ask("halite/2", "halite/1")
    assert (code, [each["key"] for each in faults]) == (1, ["halite/2"])
    assert (summary["resources"], summary["files"], summary["missing"]) == (2, 2, 1)
    code, faults, _ = ask("lux/*")
    assert (code, faults) == (0, [])


def test_of_two_sources_the_newest_has_the_file(ask: Ask, workspace: Path) -> None:
    put(workspace, path_of(1), b"new")
    put(workspace, path_of(2), b"other")
    store(workspace, outcome(1, named(path_of(1), b"older"), at=1))
    store(workspace, outcome(1, named(path_of(1), b"new"), at=2), source="loopback")
    store(workspace, outcome(2, named(path_of(2), b"other"), at=3), source="loopback")
    assert ask()[:2] == (0, [])


def test_in_a_bucket(workspace: Path) -> None:
    """By a listing of the folder; what that does not settle is asked for."""
    store(workspace, *(outcome(n, named(path_of(n), b"replay %d" % n)) for n in range(1, 8)))
    objects = {f"in/episodes/{path_of(n)}": b"replay %d" % n for n in range(1, 8)}
    del objects[f"in/episodes/{path_of(1)}"]
    objects[f"in/episodes/{path_of(2)}"] = b"more than it was"
    objects[f"in/episodes/{path_of(3)}"] = b"REPLAY 3"
    for read_back, expected in ((False, "12"), (True, "123")):
        faults: list[Fault] = []
        findings, crew, bucket = Findings(faults.append), Crew(2, 4), Bucket(objects)
        place = Objects(Destination("bucket", "in"), bucket, crew)  # type: ignore[arg-type]
        try:
            with Shelf(workspace / "ledger.sqlite") as shelf:
                look = Look(
                    *(shelf, lambda _: place, findings, lambda: None),  # noqa: B023
                    read_back=read_back,
                    output="s3://bucket/in/{}".format,
                )
                assert look.run(Wanted()) == 7
        finally:
            crew.close()
        faults.sort(key=lambda each: each.where)
        root = "s3://bucket/in/episodes"
        assert [each.where for each in faults] == [f"{root}/{path_of(int(n))}" for n in expected]
        assert [each.kind for each in faults] == ["missing", "changed", "changed"][: len(faults)]
        assert findings.counts.in_store == findings.counts.files == 7 - len(faults)
        if not read_back:
            assert len(bucket.asked) == 2, "a HEAD for what the listing lacks or has otherwise"


def test_a_hundred_thousand_would_fit(workspace: Path) -> None:
    number = 5000
    store(workspace, *(outcome(n, named(path_of(n), b"r"), at=n) for n in range(number)))
    with Shelf(workspace / "ledger.sqlite") as shelf:
        tracemalloc.start()
        try:
            (folder,) = folders(shelf, OUTPUT, lambda key: True)
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert len(folder.files) == folder.resources == number
    assert held < 700 * number
