"""The part of the page that says what a crawl of episodes has collected, and for how much."""

from __future__ import annotations

import math
from itertools import accumulate

from kagglecrawl.report.gains import together
from kagglecrawl.report.markup import Node, fill, node
from kagglecrawl.report.parts import figure, legend
from kagglecrawl.report.plots import MOST_BARS, Dots, over_count
from kagglecrawl.report.shape import Episodes, Gain


def episodes(found: Episodes | None) -> Node | None:
    """The section; None where nothing was asked for of episodes."""
    if found is None:
        return None
    section = node("section", node("h2", "Score and value of the replays"))
    if not found["gains"]:
        sent = f"This run has fetched no replay yet, with {_requests(found['requests'])}."
        return fill(section, node("p", sent, class_="note"))
    each = math.ceil(len(found["gains"]) / MOST_BARS)
    gains = [together(found["gains"][at : at + each]) for at in range(0, len(found["gains"]), each)]
    return fill(section, _scores(found, gains), _values(found, gains))


def _scores(found: Episodes, gains: list[Gain]) -> Node:
    """Score against episodes fetched: falls as the best are had."""
    ends = list(accumulate(gain["replays"] for gain in gains))
    # a dot is in the middle of the replays that it stands for
    places = [end - gain["replays"] / 2 for end, gain in zip(ends, gains, strict=True)]
    means = [gain["sum"] / gain["replays"] for gain in gains]
    several = any(gain["replays"] > 1 for gain in gains)
    low = min(gain["lowest"] for gain in gains)
    high = max(gain["highest"] for gain in gains)
    mean = found["sum"] / found["replays"]
    spread = f"scores from {low:,.0f} to {high:,.0f}, on average {mean:,.0f}"
    scores = f"score {high:,.0f}" if found["replays"] == 1 else spread
    words = f"{_many(found['replays'], 'replay')} fetched: {scores}."

    def told(at: int) -> str:
        gain = gains[at]
        if gain["replays"] == 1:
            return f"replay {ends[at]:,}: score {means[at]:,.1f}"
        first = ends[at] - gain["replays"] + 1
        spread = f"{gain['lowest']:,.1f} to {gain['highest']:,.1f}"
        return f"replays {first:,} to {ends[at]:,}: score {means[at]:,.1f} ({spread})"

    plot = Dots(
        name="scores",
        title="Score of each episode, in the order in which the replays were fetched",
        words=words,
        points=list(zip(places, means, strict=True)),
        told=told,
        axis=lambda level: f"score {level:,.6g}",
        unit="replay" if found["replays"] == 1 else "replays",
        most=found["replays"],
        spreads=[(gain["lowest"], gain["highest"]) for gain in gains] if several else [],
    )
    colours = [
        ("main", "mean score of neighbours"),
        ("unchanged", "from the lowest to the highest"),
    ]
    return figure(
        "Score against episodes fetched",
        words,
        over_count(plot),
        legend(colours) if several else None,
    )


def _values(found: Episodes, gains: list[Gain]) -> Node:
    """What a request has brought so far, of lists and of replays."""
    sums = list(accumulate(gain["sum"] for gain in gains))
    spent = [(gain["requests"], total) for gain, total in zip(gains, sums, strict=True)]
    if found["requests"] > spent[-1][0]:
        spent.append((found["requests"], sums[-1]))
    points = [(float(max(1, requests)), total / max(1, requests)) for requests, total in spent]
    words = (
        f"The scores of the replays add up to {found['sum']:,.0f}, for "
        f"{_requests(found['requests'])}: {points[-1][1]:,.1f} a request."
    )
    plot = Dots(
        name="value",
        title="Sum of the scores collected, divided by the requests made so far",
        words=words,
        points=points,
        told=lambda at: f"{_requests(int(points[at][0]))}: {points[at][1]:,.1f} a request",
        axis=lambda level: f"{level:,.6g} a request",
        unit="requests",
        most=points[-1][0],
        kind="second",
        joined=True,
        from_zero=True,
    )
    return figure("Value collected per request", words, over_count(plot))


def _requests(number: int) -> str:
    return f"{_many(number, 'request')} for episodes and replays"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
