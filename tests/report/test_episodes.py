"""What a run has collected of episodes: counted as it comes, and shown."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from parsel import Selector
from scrapy import Request

from kagglecrawl.items import Episode, Replay
from kagglecrawl.kaggle import rpc
from kagglecrawl.report import shape
from kagglecrawl.report.gains import Gains
from kagglecrawl.report.markup import written
from kagglecrawl.report.page import page
from kagglecrawl.report.plots import MOST_BARS, Dots, nice_levels, over_count
from tests.report.made import MadeRun
from tests.report.test_document import busy, wrong


def method_of(family: str) -> str:
    """A call of this family."""
    return next(call.method for call in rpc.TABLE.values() if call.family == family)


LISTS, REPLAYS = method_of("episodes"), method_of("replay")
CALL = next(name for name, call in rpc.TABLE.items() if call.family == "replay")


REPLAY = Replay(
    path="replay/halite/1.json.gz",
    bytes=1,
    sha256="",
    rawBytes=1,
    rawSha256="",
    steps=1,
    statuses=[],
    rewards=[],
    source="web",
)


def episode(score: float | None, *, had: bool = True) -> Episode:
    replay = REPLAY if had else None
    return Episode("halite", 18011, 1, "public", "completed", "", "", score, [], replay)


class EpisodeRun(MadeRun):
    """A run that crawls episodes; nothing else moves in it."""

    def spend(self, lists: int, replays: int) -> None:
        """It has sent so many requests so far."""
        self.stats.set_value(f"kaggle/requests/{LISTS}", lists)
        self.stats.set_value(f"kaggle/requests/{REPLAYS}", replays)
        self.stats.set_value("kaggle/requests/ListDatasets", 100)

    def fetch(self, score: float | None, *, had: bool = True, call: str = CALL) -> None:
        meta = {"rpc": call} if call else {"key": "halite/1"}
        self.collector.scraped(episode(score, had=had), Request("data:,", meta=meta))

    @property
    def episodes(self) -> Any:
        report = self.report()
        assert list(wrong(report, shape.Report)) == []
        assert json.loads(json.dumps(report, allow_nan=False)) == report
        return report["episodes"]


@pytest.fixture
def run(tmp_path: Path) -> EpisodeRun:
    return EpisodeRun(tmp_path)


# -- counting --------------------------------------------------------------------------------------


def test_each_replay_with_what_was_spent_until_then(run: EpisodeRun) -> None:
    run.spend(2, 1)
    run.fetch(1200.0)
    run.spend(3, 3)
    run.fetch(None)
    run.spend(4, 3)
    assert run.episodes == {
        "replays": 2,
        "requests": 7,
        "sum": 1200,
        "gains": [
            {"replays": 1, "requests": 3, "sum": 1200, "lowest": 1200, "highest": 1200},
            {"replays": 1, "requests": 6, "sum": 0, "lowest": 0, "highest": 0},
        ],
    }


def test_what_was_not_fetched_now_is_nothing(run: EpisodeRun) -> None:
    run.spend(2, 1)
    run.fetch(1200.0, had=False)
    run.fetch(1200.0, call="")  # as the ledger has it
    run.collector.scraped(episode(1200.0), None)
    run.collector.scraped({"replay": {}, "score": 1.0}, Request("data:,"))
    assert run.episodes == {"replays": 0, "requests": 3, "sum": 0, "gains": []}


def test_other_spiders_have_none(run: EpisodeRun, tmp_path: Path) -> None:
    run.stats.set_value("kaggle/requests/ListDatasets", 100)
    assert run.episodes is None
    assert "replay" not in page(busy(tmp_path).report("finished"))


@pytest.mark.parametrize("number", [1, 8, 9, 16, 17, 100, 1000])
def test_however_many_there_are_nothing_is_lost(number: int) -> None:
    dice = random.Random(number)
    scores = [dice.uniform(600, 1300) for _ in range(number)]
    gains = Gains(most=8)
    for at, score in enumerate(scores):
        gains.add(score, 2 * at + 1)
        assert len(gains.rows()) <= 8
    rows, at = gains.rows(), 0
    for row in rows:
        part = scores[at : at + row["replays"]]
        at += row["replays"]
        assert row["sum"] == pytest.approx(sum(part), abs=0.001)
        assert (row["lowest"], row["highest"]) == pytest.approx((min(part), max(part)), abs=0.001)
        assert row["requests"] == 2 * at - 1
    assert at == number
    assert len({row["replays"] for row in rows[:-1]}) <= 1, "all but the last stand for as many"
    assert len(rows) > 4 or number < 8


# -- the page --------------------------------------------------------------------------------------


def test_both_plots_say_what_the_numbers_do(run: EpisodeRun) -> None:
    for at, score in enumerate((1300.0, 1250.0, 1100.0)):
        run.spend(4 + at, 1 + at)
        run.fetch(score)
    run.spend(7, 3)
    shown = Selector(page(run.report()))
    scores, value = shown.css("svg[aria-labelledby=t-scores], svg[aria-labelledby=t-value]")
    assert scores.css("circle title::text").getall() == [
        "replay 1: score 1,300.0",
        "replay 2: score 1,250.0",
        "replay 3: score 1,100.0",
    ]
    assert scores.css("circle::attr(cy)").getall() == ["0.00%", "25.00%", "100.00%"]
    assert scores.css("circle::attr(cx)").getall() == ["16.67%", "50.00%", "83.33%"]
    assert scores.css("text.tick::text").getall() == ["1 replays", "2", "3"]
    assert scores.css("text.level::text").getall() == ["score 1,100", "score 1,200", "score 1,300"]
    assert value.css("circle title::text").getall() == [
        "5 requests for episodes and replays: 260.0 a request",
        "7 requests for episodes and replays: 364.3 a request",
        "9 requests for episodes and replays: 405.6 a request",
        "10 requests for episodes and replays: 365.0 a request",
    ]
    assert len(value.css("line.joint")) == 3
    words = shown.css("figcaption::text").getall()
    assert "3 replays fetched: scores from 1,100 to 1,300, on average 1,217." in words
    spent = "10 requests for episodes and replays: 365.0 a request."
    assert f"The scores of the replays add up to 3,650, for {spent}" in words


def test_without_a_replay_it_says_so(run: EpisodeRun) -> None:
    run.spend(3, 0)
    shown = Selector(page(run.report("shutdown")))
    assert not shown.css("circle")
    expected = "This run has fetched no replay yet, with 3 requests for episodes and replays."
    assert expected in shown.css("p.note::text").getall()


def test_many_are_shown_as_so_many_as_can_be_told_apart(run: EpisodeRun) -> None:
    for at in range(1000):
        run.spend(1, at + 1)
        run.fetch(1000.0 + at % 7)
    shown = Selector(page(run.report()))
    scores, value = shown.css("svg[aria-labelledby=t-scores], svg[aria-labelledby=t-value]")
    dots = scores.css("circle title::text").getall()
    assert MOST_BARS / 2 < len(dots) <= MOST_BARS
    assert dots[-1].startswith("replays ")
    assert " to 1,000: score 1,00" in dots[-1]
    assert len(scores.css("line.spread")) == len(dots) == len(value.css("circle"))


def test_one_of_no_score_is_shown(run: EpisodeRun) -> None:
    run.spend(0, 1)
    run.fetch(None)
    assert "1 replay fetched: score 0." in page(run.report())


def test_a_plot_over_a_count() -> None:
    plot = Dots("n", "Title", "Words", [(5.0, 2.0), (10.0, 4.0)], str, str, "sent", 10.0)
    svg = Selector(written(over_count(plot)))
    assert svg.css("desc::text").get() == "Words"
    assert not svg.css("line.joint, line.spread")
    assert svg.css("text.tick::text").getall() == ["2 sent", "4", "6", "8", "10"]


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0.0], [0, 0.5]),
        ([1200.0], [1200, 1210]),
        ([1147.0, 1329.0], [1100, 1200, 1300, 1400]),
        ([0.0, 917.0], [0, 500, 1000]),
        ([1100.0, 1100.3], [1100, 1100.1, 1100.2, 1100.3]),
        ([-5.0, 7.0], [-5, 0, 5, 10]),
    ],
)
def test_round_levels(values: list[float], levels: list[float]) -> None:
    assert nice_levels(values) == pytest.approx(levels)
