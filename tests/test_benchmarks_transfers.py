"""The machinery of benchmarks/transfers.py with small objects; no timing is judged here."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import transfers
from benchmarks.processes import BenchmarkError
from benchmarks.transfer_contenders import Bench, Contender, Run
from benchmarks.transfer_objects import TINY, WORDS, Served, serving
from benchmarks.transfers import Result, judge, main, ratios

MEMBERS = 7


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("objects"), 100_000, MEMBERS) as served:
        yield served


@pytest.fixture
def bench(served: Served, tmp_path: Path) -> Bench:
    return Bench(served, tmp_path)


def test_it_prints_every_contender_for_every_object(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = ("--size", "1", "--members", str(MEMBERS), "--repeats", "1", "--folder", str(tmp_path))
    assert main(small) == 0, "without --strict a missed bar is no error"
    printed = capsys.readouterr().out
    names = ["kagglecrawl", "kagglehub", "kaggle CLI --unzip"]
    if shutil.which("curl"):
        names.append("curl, no unpacking")
        names += ["curl, then unzip"] if shutil.which("unzip") else []
    rows = re.findall(rf"^({'|'.join(names)})  ", printed, re.MULTILINE)
    assert rows == names * len(WORDS), printed
    bars = re.findall(r"^Bar, (.*): (?:PASS|FAIL)$", printed, re.MULTILINE)
    assert len(bars) == len(WORDS), "one of each object but the smallest, and one of memory"
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


def test_the_objects_are_what_they_are_said_to_be(served: Served) -> None:
    assert list(served.objects) == list(WORDS)
    stored, deflated = served.objects["stored"], served.objects["deflated"]
    assert stored.unpacked == deflated.unpacked == 100_000
    assert stored.archive.size > 100_000 > 2 * deflated.archive.size
    many = served.objects["many"]
    assert len(many.files) == MEMBERS
    assert {name.rpartition(".")[2] for name in many.files} == {"bin", "csv"}


def test_a_run_is_measured_and_its_files_looked_at(bench: Bench, served: Served) -> None:
    us, *_ = bench.contenders()
    many = served.objects["many"]
    assert bench.look(us, many) >= many.unpacked
    run = bench.run(us, many)
    assert run.safe >= run.seconds > 0 < run.cpu
    assert run.peak > 20e6, "no crawl takes less"


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("pass", "has no .*tiny.bin of 1000 bytes"),
        ("import pathlib; pathlib.Path('{0}/tiny.bin').write_bytes(bytes(999))", "has no "),
        ("import pathlib; pathlib.Path('{0}/tiny.bin').write_bytes(bytes(1000))", "wrong bytes in"),
        ("raise SystemExit('what went wrong')", "ended with 1:\nwhat went wrong"),
    ],
)
def test_who_has_not_the_files_is_not_measured(
    bench: Bench, served: Served, code: str, wrong: str
) -> None:
    lazy = Contender(
        "lazy",
        lambda _, place: [sys.executable, "-c", code.format(place)],
        {},
        lambda _: "",
    )
    with pytest.raises(BenchmarkError, match=wrong):
        bench.look(lazy, served.objects[TINY])


def test_the_memory_of_whoever_measures_is_not_counted(bench: Bench, served: Served) -> None:
    ballast = bytearray(b"x") * (300 << 20)
    write = "import pathlib, sys; pathlib.Path(sys.argv[1], 'tiny.bin').write_bytes(bytes(1000))"
    other = Contender(
        "other",
        lambda _, place: [
            sys.executable,
            "-c",
            f"{write}; bytearray(b'x') * (50 << 20)",
            str(place),
        ],
        {},
        lambda _: "",
    )
    assert 50 << 20 < bench.run(other, served.objects[TINY]).peak < len(ballast)


def result(name: str, *seconds: float, start: float = 1.0, peak: int = 10**8) -> Result:
    run = Run(seconds=start, safe=start, cpu=start, peak=peak)
    return Result(name, runs=[replace(run, seconds=each) for each in seconds], start=[run])


def test_ratios_are_of_the_same_repeat_and_the_start_can_be_taken_off() -> None:
    ours, hub = result("us", 4.0, 5.0, 2.0), result("hub", 2.0, 5.0, 4.0, start=0.5)
    assert ratios(ours, hub) == pytest.approx([0.5, 1.0, 2.0])
    assert ratios(ours, hub, net=True) == pytest.approx([1.5 / 3, 4.5 / 4, 3.5 / 1])
    assert ratios(result("us", 1.1), hub, net=True) == [], "it would be noise"


def test_every_object_and_the_memory_have_a_bar() -> None:
    fast, slow = result("us", 2.0), result("us", 2.5)
    hub = result("kagglehub", 2.0)
    small = result("us", 9.0)
    passed = judge({TINY: [small, hub], "stored": [fast, hub], "datasets": [slow, hub]})
    assert [each for each, _ in passed] == [True, False, True]
    assert [each for each, _ in judge({"many": [slow, hub]})] == [False, True]
    assert "0.80 (net 0.67): FAIL" in passed[1][1]
    large = result("us", 2.0, peak=151_000_000)
    assert [each for each, _ in judge({"stored": [large, hub]})] == [True, False]


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_a_missed_bar_is_an_error_if_strict(
    monkeypatch: pytest.MonkeyPatch, strict: tuple[str, ...], code: int
) -> None:
    monkeypatch.setattr(transfers, "_run", lambda folder, opts: False)
    assert main(strict) == code
