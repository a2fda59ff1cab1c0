"""Markdown fragments a second, beside bare markdownify: ``python -m benchmarks.markdown``.

Fragments as Kaggle has them: pages in HTML, pages in Markdown, and Markdown with HTML inside, made
from a seed. ``to_markdown``, with a base for relative links, and ``markdownify.markdownify``
convert the same ones in turn, in one process and one thread; each repeat gives a ratio of what ran
side by side, by CPU time. Bar: the median ratio is at least 0.9, of all and of each kind.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from markdownify import markdownify

from benchmarks.report import surroundings, verdict
from kagglecrawl.pipelines.markdown import to_markdown

#: Our fragments a second must be at least so many times markdownify's.
BAR = 0.9
_SITE = "https://www.kaggle.com/"
_WORDS = tuple(
    word
    for line in (
        "the of each and model data submission score test train image label file row is predicted",
        "evaluated for on between area under curve we you should contain header format team",
    )
    for word in line.split()
)


@dataclass(frozen=True)
class Kind:
    """Fragments of one sort, and the seconds that each contender took for all, repeat by repeat."""

    name: str
    fragments: Sequence[str]
    ours: list[float]
    bare: list[float]

    def rates(self, seconds: Sequence[float]) -> float:
        """Fragments a second, the median of the repeats."""
        return len(self.fragments) / median(seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it and print it; 1 if a bar is missed and ``--strict`` is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.markdown", description=__doc__)
    parser.add_argument("--fragments", type=int, default=300, help="of each kind (default: 300)")
    parser.add_argument("--repeats", type=int, default=7, help="(default: 7)")
    parser.add_argument("--seed", type=int, default=1, help="of the fragments (default: 1)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a bar is missed")
    opts = parser.parse_args(argv)
    print(f"{surroundings()}, markdownify {importlib.metadata.version('markdownify')}", flush=True)
    kinds = [
        Kind(name, list(_fragments(make, opts.fragments, opts.seed)), [], [])
        for name, make in (("HTML", html), ("mixed", mixed), ("Markdown", markdown))
    ]
    for repeat in range(opts.repeats):
        for kind in kinds:
            turns: list[tuple[list[float], Callable[[str], str]]]
            turns = [(kind.ours, partial(to_markdown, base_url=_SITE)), (kind.bare, markdownify)]
            for seconds, convert in turns if repeat % 2 else reversed(turns):
                seconds.append(_time(convert, kind.fragments))
    for kind in kinds:
        size = sum(map(len, kind.fragments)) / len(kind.fragments) / 1000
        print(
            f"{kind.name}, {size:.1f} KB each: {kind.rates(kind.ours):,.0f} fragments/s, "
            f"markdownify {kind.rates(kind.bare):,.0f}: {_range(ratios([kind]))} times"
        )
    bars = {"all": ratios(kinds), **{kind.name: ratios([kind]) for kind in kinds}}
    for name, values in bars.items():
        passed = median(values) >= BAR
        print(f"Bar, {name}, at least {BAR} times markdownify: {_range(values)}: {verdict(passed)}")
    missed = [name for name, values in bars.items() if median(values) < BAR]
    return 1 if missed and opts.strict else 0


def ratios(kinds: Sequence[Kind]) -> list[float]:
    """How many times as many fragments a second we convert, repeat by repeat."""
    ours = [sum(seconds) for seconds in zip(*(kind.ours for kind in kinds), strict=True)]
    bare = [sum(seconds) for seconds in zip(*(kind.bare for kind in kinds), strict=True)]
    return [its / our for our, its in zip(ours, bare, strict=True)]


def _time(convert: Callable[[str], str], fragments: Sequence[str]) -> float:
    began = time.process_time()
    for fragment in fragments:
        convert(fragment)
    return time.process_time() - began


def _range(values: Sequence[float]) -> str:
    return f"{median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


# -- fragments -------------------------------------------------------------------------------------


def _fragments(make: Callable[[random.Random], str], count: int, seed: int) -> Iterator[str]:
    dice = random.Random(seed)
    return (make(dice) for _ in range(count))


def _words(dice: random.Random, most: int) -> str:
    return " ".join(dice.choices(_WORDS, k=dice.randint(max(1, most // 3), most)))


def html(dice: random.Random) -> str:
    """A page as they were written until 2017 or so: paragraphs, some headings, lists and code."""
    return "\n".join(_html_block(dice) for _ in range(dice.randint(3, 20)))


def _html_block(dice: random.Random) -> str:
    kind = dice.random()
    if kind < 0.1:
        return f"<h2>{_words(dice, 4).title()}</h2>"
    if kind < 0.2:
        items = "".join(f"<li>{_html_words(dice, 20)}</li>\n" for _ in range(dice.randint(2, 8)))
        return f"<ul>\n{items}</ul>"
    if kind < 0.27:
        rows = [",".join(_words(dice, 3).split()) for _ in range(6)]
        return f"<pre>{'<br />'.join(rows)}</pre>"
    if kind < 0.32:
        rows = [f"<td>{_words(dice, 3)}</td><td>{dice.random():.3f}</td>" for _ in range(5)]
        return f"<table><tbody><tr>{'</tr><tr>'.join(rows)}</tr></tbody></table>"
    if kind < 0.37:
        return f'<p><img src="https://example.com/{dice.randint(1, 99)}.png" alt="plot" /></p>'
    return f"<p>{' '.join(_html_words(dice, 25) for _ in range(dice.randint(1, 4)))}</p>"


def _html_words(dice: random.Random, most: int) -> str:
    words = _words(dice, most)
    mark = dice.random()
    if mark < 0.15:
        return f'{words} <a href="/wiki/{mark:.3f}">{_words(dice, 3)}</a>.'
    if mark < 0.3:
        return f"{words} <strong>{_words(dice, 3)}</strong> &amp; {_words(dice, 5)}."
    if mark < 0.4:
        return f"{words} <em>{_words(dice, 3)}</em>,<br />{_words(dice, 8)}."
    return f"{words}."


def markdown(dice: random.Random) -> str:
    """A page as they are written now."""
    return "\n\n".join(_markdown_block(dice) for _ in range(dice.randint(3, 20)))


def _markdown_block(dice: random.Random) -> str:
    kind = dice.random()
    if kind < 0.15:
        return f"### {_words(dice, 4).title()}"
    if kind < 0.3:
        return "\n".join(f"- {_words(dice, 20)}" for _ in range(dice.randint(2, 8)))
    if kind < 0.37:
        return "```\n" + "\n".join(",".join(_words(dice, 3).split()) for _ in range(6)) + "\n```"
    if kind < 0.45:
        return f"$$\n\\sum_{{i=1}}^n x_i<a_{{{dice.randint(1, 9)}}}\n$$"
    link = f"[{_words(dice, 3)}](/c/{kind:.3f}/data)"
    return (
        f"{_words(dice, 40)} **{_words(dice, 3)}** {link} with `<b>` as <id>. {_words(dice, 40)}."
    )


def mixed(dice: random.Random) -> str:
    """Markdown with some HTML inside, as Meta Kaggle's columns have it."""
    blocks = [
        _html_block(dice) if dice.random() < 0.3 else _markdown_block(dice)
        for _ in range(dice.randint(3, 20))
    ]
    return "\n\n".join(["# Dataset Description", "<!-- generated -->", *blocks])


if __name__ == "__main__":
    sys.exit(main())
