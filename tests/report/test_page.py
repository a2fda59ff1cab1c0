"""The page: the same as the JSON, and whatever a name holds is text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from parsel import Selector

from kagglecrawl.report.markup import node, written
from kagglecrawl.report.page import page
from kagglecrawl.report.plots import MOST_BARS, Bars, Slots, nice_top, over_time
from kagglecrawl.report.style import POLICY, SCRIPT, STYLE, checksum
from tests.report.made import MadeRun
from tests.report.test_document import busy

HOSTILE = "\"'><script>window.hit = 1</script><img src=https://evil.example onerror=hit=1>&amp;"


def texts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a text in a JSON value: what holds it, and its name there."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in parts:
        if isinstance(part, dict | list):
            yield from texts(part)
        elif isinstance(part, str):
            yield value, name


def hostile(tmp_path: Path, reason: str | None = "shutdown") -> Any:
    """A report all of whose texts are hostile, but for moments, rates and families."""
    report: Any = busy(tmp_path).report(reason)
    moment = re.compile(r"\d{4}-\d\d-\d\dT")
    for holder, name in list(texts(report)):
        if holder[name] and not moment.match(holder[name]) and name not in {"rate", "family"}:
            holder[name] += HOSTILE
    for table in (report["requests"]["by_method"], report["run"]["arguments"]):
        table[HOSTILE] = table.pop(next(iter(table)))
    return report


@pytest.mark.parametrize("reason", [None, "shutdown"])
def test_no_text_becomes_a_tag(tmp_path: Path, reason: str | None) -> None:
    plain = Selector(page(busy(tmp_path).report(reason)))
    shown = Selector(page(hostile(tmp_path, reason)))
    tags = [each.root.tag for each in plain.css("*")]
    assert [each.root.tag for each in shown.css("*")] == tags
    attributes = {name for each in shown.css("*") for name in each.attrib}
    assert not [name for name in attributes if name.startswith("on") or name in {"src", "href"}]
    assert shown.css("script::text").getall() == [SCRIPT]
    assert HOSTILE in "".join(shown.css("body *::text").getall()), "it is shown as it is"


def test_nothing_may_be_loaded_and_only_our_own_lines_run(tmp_path: Path) -> None:
    text = page(busy(tmp_path).report())
    shown = Selector(text)
    (policy,) = shown.css("meta[http-equiv=Content-Security-Policy]::attr(content)").getall()
    assert policy == POLICY
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind, own in (("style", STYLE), ("script", SCRIPT)):
        assert shown.css(f"{kind}::text").getall() == [own]
        assert f"{kind}-src {checksum(own)};" in policy
    before = shown.css("head > *")
    assert [each.root.tag for each in before[:2]] == ["meta", "meta"], "before whatever it is for"
    assert not shown.css("[style], link, img, iframe, object, base, form")
    assert not re.search(r"url\(|@import", STYLE)


def test_the_page_of_a_run_that_goes_on_loads_itself_again(tmp_path: Path) -> None:
    run = busy(tmp_path)
    going, ended = Selector(page(run.report())), Selector(page(run.report("finished")))
    assert going.css("meta[http-equiv=refresh]::attr(content)").getall() == ["60"]
    assert going.css("#stale::attr(data-written)").get() == run.report()["written"]
    assert not ended.css("meta[http-equiv=refresh], #stale")


def test_what_there_is_none_of_is_said_in_words(tmp_path: Path) -> None:
    shown = Selector(page(MadeRun(tmp_path).report("kaggle_unreachable")))
    assert not shown.css("svg, table")
    words = " ".join(shown.css("p::text").getall())
    for each in (
        "Nothing has been discovered.",
        "No request was sent.",
        "This run has stored no record yet.",
        "No bytes have come from storage in this run.",
        "Nothing had to be sent again.",
        "No request was answered well.",
        "This run has finished no download.",
    ):
        assert each in words


def test_a_sum_that_is_wrong_is_told(tmp_path: Path) -> None:
    run = busy(tmp_path)
    assert "The sum is wrong" not in page(run.report())
    run.scheduler.balanced = False
    assert "The sum is wrong" in page(run.report())


def test_half_a_surrogate_pair_is_no_end(tmp_path: Path) -> None:
    run = busy(tmp_path)
    run.answer("datasets.DatasetApiService/GetDatasetMetadata", 9, "a/\ud83d")
    assert "a/\\ud83d" in page(run.report())


@pytest.mark.parametrize("name", ["class_", "http_equiv", "aria_hidden"])
def test_names_of_attributes(name: str) -> None:
    assert f"{name.rstrip('_').replace('_', '-')}=" in written(node("p", **{name: "x"}))


# -- plots -----------------------------------------------------------------------------------------

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("width", "seconds", "given", "bars", "last"),
    [
        (1.0, 0.4, 1, 1, 0.4),
        (1.0, 10.0, 10, 10, 1.0),
        (1.0, 10.2, 11, 10, 1.2),  # a fifth of a second would show a rate that is none
        (1.0, 10.7, 11, 11, 0.7),
        (1.0, 250.0, 250, 83, 4.0),
        (2048.0, 600 * 2048.0, 600, MOST_BARS, 5 * 2048.0),
    ],
)
def test_bars_are_as_many_as_can_be_seen(
    width: float, seconds: float, given: int, bars: int, last: float
) -> None:
    slots = Slots.of(START, width, seconds, given)
    assert slots.count == bars
    assert slots.length(slots.count - 1) == pytest.approx(last)
    assert sum(map(slots.length, range(slots.count))) == pytest.approx(seconds)
    values = [float(at) for at in range(given)]
    sums = slots.sums(values, width)
    assert (len(sums), sum(sums)) == (bars, sum(values))
    assert max(slots.highest(values, width)) == max(values)
    assert slots.sums([], width) == [0] * bars


def test_a_plot_has_its_bars_their_words_and_its_own(tmp_path: Path) -> None:
    slots = Slots.of(START, 1.0, 4.0, 4)
    plot = Bars("n", "Title", "Words", [0, 1, 2, 4], str, str, shaded=[0, 0.5, 1, 0])
    svg = Selector(written(over_time(slots, plot)))
    bars = svg.css("rect.bar")
    assert [each.attrib["height"] for each in bars] == ["0.00%", "25.00%", "50.00%", "100.00%"]
    assert bars[3].css("title::text").get() == "12:00:03 to 12:00:04: 3"
    assert [each.attrib["width"] for each in svg.css("rect.held")] == ["12.55%", "25.05%"]
    assert svg.css("svg::attr(aria-labelledby)").get() == svg.css("title::attr(id)").get()
    assert svg.css("desc::text").get() == "Words"


@pytest.mark.parametrize("seconds", [0.5, 3, 59, 3600, 86_400, 20 * 86_400, 400 * 86_400])
def test_a_few_moments_are_named(seconds: float) -> None:
    slots = Slots.of(START, 1.0, seconds, 10)
    svg = Selector(written(over_time(slots, Bars("n", "", "", [1.0], str, str))))
    named = svg.css("text.tick::text").getall()
    assert 1 <= len(named) <= 8
    assert not [text for text, after in pairwise(named) if text == after]


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (0.03, 0.03), (1, 1), (1.01, 2), (6, 8), (9, 10), (7e9, 8e9)]
)
def test_round_numbers(highest: float, top: float) -> None:
    assert nice_top(highest) == pytest.approx(top)
