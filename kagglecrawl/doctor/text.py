"""How what was found is printed: plain text, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from kagglecrawl.doctor.checks import Check
from kagglecrawl.doctor.probes import Evidence
from kagglecrawl.doctor.questions import QUESTIONS

WIDTH = 100
_HEADINGS = ("probe", "assumed", "found", "verdict")
_COLUMNS = (35, 24, 25, 10)
_GAP = "  "


def checks(done: Iterable[Check]) -> str:
    """A line or more for each check of the set-up."""
    lines = []
    for check in done:
        head = f"  {'ok' if check.passed else 'WRONG':<7}{check.topic:<17}"
        lines += textwrap.wrap(
            check.text,
            WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def table(evidence: Evidence) -> str:
    """Every question with its answer."""
    rows = [_HEADINGS, tuple("-" * width for width in _COLUMNS)]
    for question in QUESTIONS:
        found, verdict = question.read(evidence)
        rows.append((question.topic, question.assumed, found, verdict))
    return "\n".join(line for row in rows for line in _lines(row))


def _lines(cells: Sequence[str]) -> Iterable[str]:
    wrapped = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
        for cell, width in zip(cells, _COLUMNS, strict=True)
    ]
    for number in range(max(map(len, wrapped))):
        parts = [
            f"{(part[number] if number < len(part) else ''):<{width}}"
            for part, width in zip(wrapped, _COLUMNS, strict=True)
        ]
        yield _GAP.join(parts).rstrip()


def paragraph(sentences: Iterable[str]) -> str:
    """Sentences as one paragraph."""
    return textwrap.fill(" ".join(sentences), WIDTH, break_on_hyphens=False, break_long_words=False)
