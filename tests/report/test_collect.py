"""What is counted while a run goes on: at looks, and at answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kagglecrawl.report.collect import SHOWN, Top
from kagglecrawl.state.transfers import Meter, UnderWay
from tests.report.made import BEGAN, DATASETS, METADATA, MadeRun


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path)


def test_requests_by_family_and_retries_as_they_come(run: MadeRun) -> None:
    run.at(1, requests__GetDatasetMetadata=3, requests__ListDatasets=1, retries__throttled=1)
    run.at(2, requests__GetDatasetMetadata=3, requests__DownloadDataset=2)
    run.at(3, requests__ListDatasets=4, retries__throttled=3, retries__no_reply=1)
    series = run.report()["series"]
    assert series["requests"] == {"api": [4, 0, 3], "download": [0, 2, 0]}
    assert series["retries"] == [1, 0, 3]


def test_records_of_this_run_alone(tmp_path: Path) -> None:
    earlier = MadeRun(tmp_path)
    earlier.settle(stored=5)
    run = MadeRun(tmp_path, accounts=earlier.spider.accounts)
    run.at(1)
    run.settle(stored=2)
    run.at(2)
    assert run.report()["series"]["records"] == [0, 2]
    assert run.report()["counts"]["stored"] == 7


def test_bytes_of_downloads_that_go_on_and_of_those_that_have_ended(run: MadeRun) -> None:
    run.under_way["a/b"] = UnderWay("a/b", Meter(received=100, position=90, size=400))
    run.at(1)
    run.under_way["a/b"].meter.received = 300
    run.at(2)
    del run.under_way["a/b"]
    run.at(3, transfers__received=450)
    assert run.report()["series"]["bytes"] == [100, 200, 150]
    assert run.report()["files"]["received"] == 450


def test_the_last_look_misses_nothing(run: MadeRun) -> None:
    run.at(1, requests__ListDatasets=1)
    run.at(1, requests__ListDatasets=2)
    assert run.report()["series"]["requests"] == {"api": [1]}
    run.at(1, last=True, requests__ListDatasets=2)
    assert sum(run.report()["series"]["requests"]["api"]) == 2


# -- holds -----------------------------------------------------------------------------------------


def held(run: MadeRun) -> list[float]:
    return run.report()["series"]["held"]["api"]


def test_seconds_that_a_retry_after_held(run: MadeRun) -> None:
    run.at(1)
    run.held["api"] = BEGAN + 4.5  # set somewhere between these two looks
    for second in (2, 3, 4, 5, 6):
        run.at(second)
    assert held(run) == pytest.approx([0, 0.5, 1, 1, 0.5, 0])
    assert run.report()["quotas"][0]["held_seconds"] == 3


def test_a_hold_that_was_made_longer_has_no_gap(run: MadeRun) -> None:
    run.at(1)
    run.held["api"] = BEGAN + 2.5
    run.at(2)
    run.held["api"] = BEGAN + 3.5
    run.at(3)
    run.at(4)
    assert held(run) == pytest.approx([0, 0.5, 1, 0.5])


def test_one_that_is_over_and_another(run: MadeRun) -> None:
    run.held["api"] = BEGAN + 0.75
    for second in (1, 2, 3):
        run.at(second)
    run.held["api"] = BEGAN + 3.75
    run.at(4)
    assert held(run) == pytest.approx([0.25, 0, 0, 0.25])


def test_a_clock_that_is_set_makes_no_hold_longer_than_the_run(run: MadeRun) -> None:
    run.held["api"] = BEGAN + 1e9
    run.at(1)
    run.held["api"] = BEGAN - 1e9
    run.at(2)
    assert sum(held(run)) <= 2


def test_an_interval_that_was_learnt(run: MadeRun) -> None:
    run.at(1)
    run.stats.set_value("kaggle/quotas/interval/api", 0.8)
    run.at(2)
    run.stats.set_value("kaggle/quotas/interval/api", 0.0)
    run.at(3)
    assert run.report()["series"]["interval"] == {"api": [0, 0.8, 0]}


# -- answers ---------------------------------------------------------------------------------------


def test_the_slowest_answers_and_nothing_of_their_addresses(run: MadeRun) -> None:
    for number in range(30):
        run.answer(METADATA, number / 10, f"owner/{number}", b"x" * number)
    run.answer(DATASETS, 7.5, None)
    run.answer(METADATA, None, "no/latency")
    slowest = run.report()["slowest_requests"]
    assert len(slowest) == SHOWN
    assert slowest[0] == {"method": "ListDatasets", "key": None, "bytes": 2, "seconds": 7.5}
    assert slowest[1]["key"] == "owner/29"
    assert slowest[1] == {**slowest[1], "method": "GetDatasetMetadata", "bytes": 29, "seconds": 2.9}
    assert [row["seconds"] for row in slowest] == sorted(
        (row["seconds"] for row in slowest), reverse=True
    )
    assert "hunter2" not in json.dumps(run.report())


def test_the_largest_and_the_slowest_downloads(run: MadeRun) -> None:
    run.at(100)
    for number in range(15):
        manifest = {"folder": "x", "files": number, "bytes": 100 - number, "leftOut": {}}
        run.download(f"a/{number}", number, json.dumps({"transfer": manifest}).encode())
    report = run.report()
    assert report["largest_downloads"][0] == {"key": "a/0", "files": 0, "bytes": 100, "seconds": 0}
    assert [row["key"] for row in report["slowest_downloads"]] == [
        f"a/{number}" for number in range(14, 4, -1)
    ]


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"transfer": 1}'])
def test_what_is_no_manifest_is_no_download(run: MadeRun, body: bytes) -> None:
    run.download("a/b", 1, body)
    assert run.report()["largest_downloads"] == []


def test_a_key_is_shown_without_secrets_and_not_at_any_length(run: MadeRun) -> None:
    run.answer(METADATA, 2, "https://me:hunter2@else.example/a?sig=hunter2")
    run.answer(METADATA, 1, f"unreadable:{'x' * 500}\x1b[31m")
    first, second = run.report()["slowest_requests"]
    assert first["key"] == "https://***@else.example/a?…"
    assert second["key"] is not None
    assert len(second["key"]) == 120
    assert second["key"].endswith("…")


def test_of_equal_ones_the_first() -> None:
    top: Top[str] = Top(2)
    for name in "abc":
        if top.wants(1):
            top.add(1, name)
    assert top.rows() == ["a", "b"]
    top.add(2, "d")
    assert top.rows() == ["d", "a"]
