"""Plots as inline SVG. Coordinates are shares of whatever width there is, and texts have the size
of the page's: so a plot is as readable on a phone as on a large screen, and no script draws it.

pygal and plotly were weighed and left; docs/architecture.md says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from kagglecrawl.report.markup import Node, node, percent

#: The most bars of a plot: narrower ones cannot be told apart on a phone.
MOST_BARS = 120
#: The most moments that are named below a plot.
_TICKS = 6
#: By so much of the plot bars without a gap overlap, lest a line shows between them.
_SEAM = 0.0005
_DAY = 86_400
_STEPS = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10_800, 21_600, 43_200),
    *(days * _DAY for days in (1, 2, 3, 4, 7, 14, 28, 56)),
)


@dataclass(frozen=True)
class Slots:
    """The bars of a plot over time: each ``width`` seconds from ``start`` on, the last one shorter
    or longer; ``seconds`` is all of it."""

    start: datetime
    width: float
    seconds: float
    count: int

    @classmethod
    def of(cls, start: datetime, width: float, seconds: float, given: int) -> Slots:
        """As many slots as fit, each of one or several of the ``given`` ones of this width."""
        seconds = max(seconds, 0.001)
        width *= max(1, math.ceil(given / MOST_BARS))
        # half a slot at the end would show a rate that is none
        number = max(1, int(seconds / width + 0.5))
        return cls(start, width, seconds, number)

    def span(self, slot: int) -> tuple[float, float]:
        """From when until when a slot goes, in seconds of the run."""
        last = slot == self.count - 1
        return slot * self.width, self.seconds if last else (slot + 1) * self.width

    def length(self, slot: int) -> float:
        """Seconds of a slot."""
        start, end = self.span(slot)
        return end - start

    def sums(self, values: Sequence[float], width: float) -> list[float]:
        """Values of slots of ``width`` seconds, as those of these slots."""
        return [sum(part) for part in self._parts(values, width)]

    def highest(self, values: Sequence[float], width: float) -> list[float]:
        """The same for levels."""
        return [max(part, default=0.0) for part in self._parts(values, width)]

    def _parts(self, values: Sequence[float], width: float) -> Iterator[Sequence[float]]:
        each = round(self.width / width)
        for slot in range(self.count):
            end = None if slot == self.count - 1 else (slot + 1) * each
            yield values[slot * each : end]

    def when(self, slot: int) -> str:
        """From when until when, for people."""
        start, end = (self.start + timedelta(seconds=s) for s in self.span(slot))
        clock = "%H:%M:%S" if self.width < 60 else "%H:%M"
        day = f"{start:%Y-%m-%d} " if self.seconds > _DAY / 2 else ""
        return f"{day}{start:{clock}} to {end:{clock}}"


@dataclass(frozen=True)
class Line:
    """A level to compare with: at ``value`` throughout, or at ``values`` slot by slot (0: none)."""

    kind: str
    words: str
    value: float = 0.0
    values: Sequence[float] = field(default=())


@dataclass(frozen=True)
class Bars:
    """A plot over time: one bar a slot. ``told`` says a value in words, ``axis`` shortly;
    ``shaded`` is the share of each slot that was held."""

    #: A word, unlike those of the other plots of a page.
    name: str
    title: str
    #: What it shows, for those who cannot see it.
    words: str
    values: Sequence[float]
    told: Callable[[int], str]
    axis: Callable[[float], str]
    kind: str = "main"
    lines: Sequence[Line] = ()
    shaded: Sequence[float] = ()


def over_time(slots: Slots, plot: Bars) -> Node:
    """The plot. It has a title and a description for those who hear it, and a text for each bar."""
    levels = [line.value for line in plot.lines] + [
        max(line.values, default=0) for line in plot.lines
    ]
    top = nice_top(max(*plot.values, *levels, 0.0) * (1.08 if any(levels) else 1.0))
    svg = _svg(plot)
    for slot, share in enumerate(plot.shaded):
        if share > 0:
            x, width = _place(slots, slot)
            shade = min(share, 1.0) * width + _SEAM
            svg.append(
                node("rect", class_="held", x=percent(x), width=percent(shade), height="100%")
            )
    for level in _levels(top):
        y = percent(1 - level / top)
        svg.append(node("line", class_="grid", x2="100%", y1=y, y2=y))
    gap = 0.15 if slots.count <= 60 else 0.0
    for slot, value in enumerate(plot.values):
        x, width = _place(slots, slot)
        share = value / top
        bar = node("rect", node("title", f"{slots.when(slot)}: {plot.told(slot)}"), class_="bar")
        bar.set("x", percent(x + width * gap / 2))
        bar.set("width", percent(width * (1 - gap) + (0 if gap else _SEAM)))
        bar.set("y", percent(1 - share))
        bar.set("height", percent(share))
        svg.append(bar)
    for line in plot.lines:
        svg.extend(_line(slots, line, top))
    for level in _levels(top):
        label = plot.axis(level)
        svg.append(node("text", label, class_="level", y=percent(1 - level / top), dy="-4"))
    svg.append(node("line", class_="floor", x2="100%", y1="100%", y2="100%"))
    svg.extend(_ticks(slots))
    return svg


@dataclass(frozen=True)
class Dots:
    """A plot over a count that rises: a dot for each of ``points`` (count and value), ``joined`` by
    a line or not. ``most`` is where the count ends, ``unit`` is what it counts."""

    name: str
    title: str
    words: str
    points: Sequence[tuple[float, float]]
    told: Callable[[int], str]
    axis: Callable[[float], str]
    unit: str
    most: float
    kind: str = "main"
    joined: bool = False
    #: The lowest and the highest of what a dot is the mean of.
    spreads: Sequence[tuple[float, float]] = ()
    #: Does the axis begin at 0, or near the lowest value?
    from_zero: bool = False


def over_count(plot: Dots) -> Node:
    """The plot, with the same texts as one over time."""
    values = [value for _, value in plot.points] + [end for pair in plot.spreads for end in pair]
    levels = nice_levels([*values, 0.0] if plot.from_zero else values)
    low, high = levels[0], levels[-1]
    svg = _svg(plot)
    for level in levels[1:]:
        y = percent(_height(level, low, high))
        svg.append(node("line", class_="grid", x2="100%", y1=y, y2=y))
    for level in levels[1:] if plot.from_zero else levels:
        y = percent(_height(level, low, high))
        svg.append(node("text", plot.axis(level), class_="level", y=y, dy="-4"))
    places = [
        (percent(count / plot.most), percent(_height(value, low, high)))
        for count, value in plot.points
    ]
    for (x, _), pair in zip(places, plot.spreads, strict=False):
        y1, y2 = (percent(_height(end, low, high)) for end in pair)
        svg.append(node("line", class_="spread", x1=x, x2=x, y1=y1, y2=y2))
    for (x1, y1), (x2, y2) in pairwise(places) if plot.joined else ():
        svg.append(node("line", class_="joint", x1=x1, x2=x2, y1=y1, y2=y2))
    for at, (x, y) in enumerate(places):
        r = "2" if plot.joined else "3"
        svg.append(node("circle", node("title", plot.told(at)), class_="bar", cx=x, cy=y, r=r))
    svg.append(node("line", class_="floor", x2="100%", y1="100%", y2="100%"))
    step = max(1.0, nice_top(plot.most / _TICKS))
    for number in range(1, int(plot.most / step + 1e-9) + 1):
        text = f"{number * step:,.6g}" + (f" {plot.unit}" if number == 1 else "")
        svg.append(_tick(text, number * step / plot.most, odd=number % 2 == 0))
    return svg


def _height(value: float, low: float, high: float) -> float:
    """Where a value is, as a share from the top."""
    return (high - value) / (high - low)


def nice_levels(values: Sequence[float]) -> list[float]:
    """Round numbers as far from one another, two to five, the first and the last around all of
    these."""
    low, high = min(values), max(values)
    least = ((high - low) or abs(high) / 50 or 1.0) / 3
    scale = 10.0 ** math.floor(math.log10(least))
    step = next(n * scale for n in (1, 2, 5, 10) if n * scale >= least * 0.999_999)
    bottom, top = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [number * step for number in range(bottom, max(top, bottom + 1) + 1)]


def across(share: float, kind: str, *more: tuple[float, str]) -> Node:
    """A bar that lies: shares of 1 one behind the other, each with its kind."""
    svg = node("svg", class_="across", aria_hidden="true")
    at = 0.0
    for part, what in ((share, kind), *more):
        svg.append(node("rect", class_=what, x=percent(at), width=percent(part), height="100%"))
        at += part
    return svg


def nice_top(highest: float) -> float:
    """A round number that is not below this one: 1, 2, 3, 4, 5 or 8 times a power of ten."""
    if highest <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(highest))
    return next(n * scale for n in (1, 2, 3, 4, 5, 8, 10, 20) if n * scale >= highest * 0.999_999)


def _svg(plot: Bars | Dots) -> Node:
    return node(
        "svg",
        node("title", plot.title, id=f"t-{plot.name}"),
        node("desc", plot.words, id=f"d-{plot.name}"),
        class_=f"plot {plot.kind}",
        role="img",
        tabindex="0",
        aria_labelledby=f"t-{plot.name}",
        aria_describedby=f"d-{plot.name}",
    )


def _levels(top: float) -> list[float]:
    """Two lines above the floor."""
    return [top / 2, top]


def _place(slots: Slots, slot: int) -> tuple[float, float]:
    """Where a slot begins, and its width, as shares."""
    start, end = slots.span(slot)
    return start / slots.seconds, (end - start) / slots.seconds


def _line(slots: Slots, line: Line, top: float) -> Iterator[Node]:
    if line.value:
        y = percent(1 - line.value / top)
        yield node("line", node("title", line.words), class_=line.kind, x2="100%", y1=y, y2=y)
    for slot, value in enumerate(line.values):
        if value:
            x, width = _place(slots, slot)
            y = percent(1 - value / top)
            yield node("line", class_=line.kind, x1=percent(x), x2=percent(x + width), y1=y, y2=y)


def _ticks(slots: Slots) -> Iterator[Node]:
    step = next((each for each in _STEPS if slots.seconds / each <= _TICKS), _STEPS[-1])
    offset = slots.start.utcoffset() or timedelta()
    local = slots.start.timestamp() + offset.total_seconds()
    at = math.ceil(local / step) * step - local
    day = slots.start.date()
    number = 0
    while at <= slots.seconds:
        moment = slots.start + timedelta(seconds=at)
        text = f"{moment:%H:%M:%S}" if step < 60 else f"{moment:%H:%M}"
        if moment.date() != day or step >= _DAY:
            text, day = f"{moment:%d %b}", moment.date()
        yield _tick(text, at / slots.seconds, odd=number % 2 > 0)
        at += step
        number += 1


def _tick(text: str, share: float, *, odd: bool) -> Node:
    """A text below the plot; one that is ``odd`` is left out where there is little room."""
    anchor = "start" if share < 0.06 else "end" if share > 0.94 else "middle"
    kind = "tick odd" if odd else "tick"
    return node("text", text, class_=kind, x=percent(share), y="100%", dy="18", text_anchor=anchor)
