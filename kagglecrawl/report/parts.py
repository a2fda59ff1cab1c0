"""What a page is made of: figures, legends, tables, and moments in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from kagglecrawl.report.eta import about
from kagglecrawl.report.markup import Node, Part, fill, node
from kagglecrawl.report.plots import across
from kagglecrawl.report.shape import Reason
from kagglecrawl.units import amount

#: The share of a bar that can still be seen.
_THINNEST = 0.005


def figure(title: str, caption: str, *parts: Part) -> Node:
    """Parts under a title, which may be empty, and a caption."""
    made = node("figure", node("h3", title) if title else None, node("figcaption", caption))
    return fill(made, *parts)


def legend(entries: Iterable[tuple[str, str]]) -> Node:
    """What the colours of a plot stand for: kind and words of each."""
    made = node("ul", class_="legend")
    for kind, words in entries:
        if kind in {"limit", "learnt"}:
            mark = node("line", class_=kind, x2="100%", y1="50%", y2="50%")
        else:
            mark = node("rect", class_="stored" if kind == "main" else kind)
            mark.attrib |= {"width": "100%", "height": "100%"}
        made.append(node("li", node("svg", mark, aria_hidden="true"), words))
    return made


def counted(reasons: Iterable[Reason]) -> list[tuple[str, int]]:
    """Words and number of each reason."""
    return [(row["words"], row["count"]) for row in reasons]


def bar_table(title: str, rows: Iterable[tuple[str, int]], kind: str) -> Node | None:
    """A table with a bar for each number; none without rows."""
    rows = list(rows)
    if not rows:
        return None
    most = max(number for _, number in rows) or 1
    body = node("tbody")
    for words, number in rows:
        bar = node("td", across(max(number / most, _THINNEST), kind), class_="line")
        body.append(node("tr", node("th", words, scope="row"), cell(number), bar))
    return node("table", node("caption", title), body)


def table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], words: int, name: str
) -> Node:
    """A table with the id ``name``; the first ``words`` columns hold words, the others numbers."""
    kinds = [None if at < words else "n" for at in range(len(head))]
    columns = (
        node("th", text, scope="col", class_=kind) for text, kind in zip(head, kinds, strict=True)
    )
    body = node("tbody")
    for row in rows:
        cells = (node("td", text, class_=kind) for text, kind in zip(row, kinds, strict=True))
        body.append(node("tr", *cells))
    caption = node("caption", title) if title else None
    made = node("table", caption, node("thead", node("tr", *columns)), body, id=name)
    return node("div", made, class_="wide")


def cell(number: int) -> Node:
    """A number in a table."""
    return node("td", f"{number:,}", class_="n")


def progress(position: int, size: int) -> str:
    """How far a download is in its archive."""
    return f"{100 * position // size}% of {amount(size)}" if size else "waits for storage"


def spent(seconds: float) -> str:
    """How long something took, shortly."""
    if seconds < 0.995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else about(seconds)


def when(moment: str | None) -> str:
    """A moment for people, by the clock of the machine that crawls."""
    if moment is None:
        return ""
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M %Z}"
