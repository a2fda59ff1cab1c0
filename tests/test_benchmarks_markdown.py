"""The machinery of benchmarks/markdown.py with few fragments; no timing is judged here."""

from __future__ import annotations

import random
import re

import pytest

from benchmarks import markdown as bench
from kagglecrawl.pipelines.markdown import to_markdown

TINY = ("--fragments", "2", "--repeats", "1")
NAMES = ["HTML", "mixed", "Markdown"]


def test_it_prints_both_contenders_for_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(TINY) == 0, "without --strict a missed bar is no error"
    printed = capsys.readouterr().out
    assert ", markdownify 1." in printed
    line = r"^(\w+), [\d.]+ KB each: [\d,]+ fragments/s, markdownify [\d,]+: [\d.]+ \[.*\] times$"
    assert re.findall(line, printed, re.MULTILINE) == NAMES
    bars = re.findall(r"^Bar, (\w+), .*: (?:PASS|FAIL)$", printed, re.MULTILINE)
    assert bars == ["all", *NAMES]


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_a_missed_bar_is_an_error_if_strict(
    strict: tuple[str, ...],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bench, "BAR", 1e9)
    assert bench.main((*TINY, *strict)) == code
    assert capsys.readouterr().out.count("FAIL") == 4


def test_ratios_are_of_the_same_repeat_and_of_all_kinds_together() -> None:
    quick = bench.Kind("quick", ["x"] * 10, ours=[1.0, 2.0], bare=[2.0, 2.0])
    slow = bench.Kind("slow", ["x"] * 10, ours=[9.0, 8.0], bare=[8.0, 3.0])
    assert bench.ratios([quick]) == [2.0, 1.0]
    assert bench.ratios([quick, slow]) == [1.0, 0.5]
    assert quick.rates(quick.bare) == 5.0


def test_the_fragments_are_what_they_are_said_to_be() -> None:
    dice = random.Random(3)
    for _ in range(20):
        markdown, html, mixed = bench.markdown(dice), bench.html(dice), bench.mixed(dice)
        assert to_markdown(markdown) is markdown
        assert html.startswith("<")
        assert not re.search(r"</?(p|ul|li|table|h2|pre|strong|br)\b", to_markdown(html))
        assert to_markdown(mixed).startswith("# Dataset Description")
        assert "<!--" not in to_markdown(mixed)
    assert bench.html(random.Random(1)) == bench.html(random.Random(1)), "made from a seed"
