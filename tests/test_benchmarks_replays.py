"""The machinery of benchmarks/replays.py with small replays; no timing is judged here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import replays as bench

TINY = ("--repeats", "1", "--small", "0.01", "--large", "0.02", "--huge", "0.04")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_STEPS", 4)


def test_it_prints_every_replay_and_the_memory(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    own = tmp_path / "own.json"
    own.write_bytes(b"".join(bench.made(0.01, 3, 5)))
    assert bench.main((*TINY, str(own))) == 0, "without --strict a missed bar is no error"
    printed = capsys.readouterr().out
    found = re.findall(r"^(.*), (\d+) steps: .*: (?:PASS|FAIL)$", printed, re.MULTILINE)
    sizes = ("0.01 MB", "0.02 MB")
    made = [(f"{size}{how}", "4") for size in sizes for how in ("", " in a string")]
    assert found == [(str(own), "5"), *made]
    assert re.findall(r"^(gzip|zstd): [\d.]+ times less", printed, re.MULTILINE) == ["gzip", "zstd"]
    assert re.search(r"^Peak .* for 0.02 MB, [\d.]+ MB for 0.04 MB; .*: PASS$", printed, re.M)


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_a_missed_bar_is_an_error_if_strict(
    strict: tuple[str, ...],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench, "BAR", 0.0)
    monkeypatch.setattr(bench, "_memory", lambda opts: True)
    assert bench.main((*TINY, *strict)) == code
    assert capsys.readouterr().out.count("FAIL") == 4


def test_what_is_no_replay_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.html"
    path.write_text("<html>", encoding="ascii")
    assert bench.main((*TINY, str(path))) == 1
    assert capsys.readouterr().err.startswith("benchmarks: Expecting value")


def test_the_replays_are_what_they_are_said_to_be() -> None:
    text = b"".join(bench.made(0.5, 1, 20))
    assert text == b"".join(bench.made(0.5, 1, 20)), "made from a seed"
    shape = json.loads(text)
    assert len(shape["steps"]) == 20
    assert {len(step) for step in shape["steps"]} == {4}
    assert 0.9 < len(text) / 1e6 / 0.5 < 1.3
