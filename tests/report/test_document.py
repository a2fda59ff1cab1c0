"""The JSON: every field that is documented is there, of the type that it is said to have."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from parsel import Selector

from kagglecrawl import __version__
from kagglecrawl.commands.crawl import exit_code
from kagglecrawl.kaggle.auth import account_of
from kagglecrawl.rates import Rate, quotas_of
from kagglecrawl.report import shape
from kagglecrawl.report.page import page
from kagglecrawl.state.quotas import Quotas
from kagglecrawl.state.transfers import Meter, UnderWay
from tests.report.made import METADATA, MadeRun


def wrong(value: Any, kind: Any, place: str = "") -> Iterator[str]:
    """Where a value is not of a type: too little, too much, or another."""
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        if not isinstance(value, dict) or value.keys() != hints.keys():
            yield f"{place}: {value!r} does not have the fields {sorted(hints)}"
            return
        for name, each in hints.items():
            yield from wrong(value[name], each, f"{place}.{name}")
    elif get_origin(kind) is list:
        if not isinstance(value, list):
            yield f"{place}: {value!r} is no list"
            return
        (each,) = get_args(kind)
        for at, part in enumerate(value):
            yield from wrong(part, each, f"{place}[{at}]")
    elif get_origin(kind) is dict:
        if not isinstance(value, dict):
            yield f"{place}: {value!r} is no object"
            return
        for name, part in value.items():
            yield from wrong(name, str, f"{place} name")
            yield from wrong(part, get_args(kind)[1], f"{place}.{name}")
    elif isinstance(kind, types.UnionType):
        if all(list(wrong(value, each)) for each in get_args(kind)):
            yield f"{place}: {value!r} is no {kind}"
    elif kind is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            yield f"{place}: {value!r} is no number"
    elif type(value) is not kind:
        yield f"{place}: {value!r} is no {kind}"


def busy(tmp_path: Path) -> MadeRun:
    """A run with something of everything."""
    run = MadeRun(
        tmp_path,
        {"search": "tea", "_job": "7"},
        KAGGLE_QUOTAS="api=2/second, 60/minute, 100/day; download=",
    )
    run.settle(stored=6, skipped=2, failed=1, pending=3)
    run.at(
        20,
        requests=11,
        requests__GetDatasetMetadata=9,
        requests__DownloadDataset=2,
        replies__200=8,
        replies__503=3,
        retries__server_error=2,
        retried_after__503=2,
        given_up__server_error=1,
        throttled=1,
        held_back=1,
        transfers__again__cut=1,
    )
    run.under_way["a/b"] = UnderWay("a/b", Meter(received=100, position=90, size=400))
    run.answer(METADATA, 1.0, "a/b")
    run.download("a/c", 1.0, b'{"transfer": {"files": 1, "bytes": 5}}')
    for name, by in {"files_stored": 1, "bytes_stored": 5, "files_left_out/ratio": 2}.items():
        run.spider.accounts.note(name, by)
    return run


@pytest.mark.parametrize("reason", [None, "finished", "shutdown", "kaggle_quota"])
def test_every_field_is_there_and_of_its_type(tmp_path: Path, reason: str | None) -> None:
    report = busy(tmp_path).report(reason)
    assert list(wrong(report, shape.Report)) == []
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_check_of_types_can_fail() -> None:
    assert list(wrong({"reason": "a", "words": "b"}, shape.Reason))
    assert list(wrong({"reason": "a", "words": "b", "count": True}, shape.Reason))
    assert list(wrong(None, list[int] | str))
    assert not list(wrong(None, float | None))


def test_a_run_that_has_done_nothing_is_told_as_well(tmp_path: Path) -> None:
    report = MadeRun(tmp_path).report("kaggle_credentials")
    assert list(wrong(report, shape.Report)) == []
    assert report["series"]["records"] == []
    assert report["counts"]["balanced"]
    assert report["requests"]["per_record"] is None
    assert report["run"]["exit_code"] == 5


def test_what_was_run(tmp_path: Path) -> None:
    report = busy(tmp_path).report()
    run = report["run"]
    assert (report["format"], report["version"]) == (1, __version__)
    assert run["spider"] == "datasets"
    assert run["arguments"] == {"search": "tea"}, "what begins with _ is scrapyd's"
    assert run["api_url"] == "https://api.kaggle.com"
    assert (run["job"], run["ended"], run["reason"], run["exit_code"]) == (False, None, None, None)
    assert run["seconds"] == 20
    assert datetime.fromisoformat(run["started"]).timestamp() == 1_800_000_000


@pytest.mark.parametrize(
    "reason", ["finished", "shutdown", "kaggle_quota", "kaggle_credentials", "kaggle_failed"]
)
def test_the_exit_code_is_that_of_the_command(tmp_path: Path, reason: str) -> None:
    run = MadeRun(tmp_path)
    ended = run.report(reason)["run"]
    assert ended["exit_code"] == exit_code(run.stats)
    assert ended["reason"] == reason
    assert ended["ended"] is not None
    assert len(ended["meaning"]) > 10


def test_the_sum_is_that_of_the_accounts(tmp_path: Path) -> None:
    run = busy(tmp_path)
    counts = run.report()["counts"]
    names = ("discovered", "stored", "skipped", "failed", "pending")
    assert [counts[name] for name in names] == [12, 6, 2, 1, 3]  # type: ignore[literal-required]
    assert counts["balanced"]
    assert counts["skipped_by_reason"] == [
        {"reason": "usability", "words": "usability below the minimum", "count": 2}
    ]
    run.scheduler.balanced = False
    assert not run.report("finished")["counts"]["balanced"]


def test_requests(tmp_path: Path) -> None:
    requests = busy(tmp_path).report()["requests"]
    assert requests["by_method"] == {"GetDatasetMetadata": 9, "DownloadDataset": 2}
    assert (requests["sent"], requests["per_record"]) == (11, round(11 / 6, 3))
    assert requests["answers_by_status"] == {"200": 8, "503": 3}
    assert (requests["retries"], requests["retries_by_status"]) == (2, {"503": 2})
    assert requests["retries_by_reason"][0]["words"] == "Kaggle failed"
    assert [row["count"] for row in requests["given_up_by_reason"]] == [1]
    assert (requests["throttled"], requests["held_back"]) == (1, 1)


def test_quotas(tmp_path: Path) -> None:
    run = busy(tmp_path)
    config = run.spider.config
    rates = {"api": (Rate(100, 86_400),)}
    quotas = Quotas(config.quota_file, account_of(config.api_url), rates)
    for _ in range(30):
        quotas.take("api")
    quotas.close()
    api, download = run.report()["quotas"]
    assert (api["family"], api["sent"]) == ("api", 9)
    assert (api["paces"], api["per_second"]) == (["2/second", "60/minute"], 1)
    (budget,) = api["budgets"]
    assert (budget["rate"], budget["used"], budget["left"]) == ("100/day", 30, 70)
    assert budget["free_again"] is not None
    assert (download["sent"], download["per_second"], download["paces"]) == (2, None, [])


def test_a_budget_that_families_share(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    shared = quotas_of("api+download=2/second, 100/day")
    run.spider.config = replace(run.spider.config, quotas=shared)
    run.settle(stored=5, pending=5)
    run.at(10, requests__ListDatasets=4, requests__DownloadDataset=5)
    both = next(each for each in run.report()["quotas"] if each["family"] == "api+download")
    assert (both["sent"], both["per_second"]) == (9, 2)
    assert [budget["rate"] for budget in both["budgets"]] == ["100/day"]
    shown = Selector(page(run.report()))
    titles = shown.css("h3::text").getall()
    assert "Calls of the API and downloads begun" in titles
    bars = shown.css("#t-rate-api-download ~ rect.bar title::text").getall()
    assert bars
    assert all(text.endswith(": 0.90 a second") for text in bars)


def test_a_file_of_quotas_that_cannot_be_read_costs_no_report(tmp_path: Path) -> None:
    run = busy(tmp_path)
    run.spider.config.quota_file.write_text("not a database, and long enough to be looked at")
    api, _ = run.report()["quotas"]
    assert (api["paces"], api["budgets"]) == (["2/second", "60/minute"], [])


def test_how_long_it_will_take(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, {"pages": "1"})
    run.settle(stored=6, skipped=4, pending=2)
    run.at(30)
    eta = run.report()["eta"]
    assert (eta["seconds"], eta["limited_by"]) == (30, "records")
    assert eta["at"] is not None
    assert run.report("shutdown")["eta"]["at"] is None
    run.spider.accounts.note("bytes_expected", 5000)
    run.spider.accounts.note("bytes_settled", 1000)
    run.under_way["a/b"] = UnderWay("a/b", Meter(received=300, position=1000, size=2000))
    eta = run.report()["eta"]
    assert (eta["seconds"], eta["limited_by"]) == (300, "bytes")


def test_a_list_without_a_known_end(tmp_path: Path) -> None:
    run = MadeRun(tmp_path)
    run.settle(stored=10)
    run.at(30)
    assert "if there are 10,000 rows" in run.report()["eta"]["text"]
    assert run.report("finished")["eta"]["seconds"] == 0
    run.spider.accounts.note("ended/last")
    assert run.report()["eta"]["seconds"] == 0


def test_nothing_that_is_secret_is_in_it(tmp_path: Path) -> None:
    run = MadeRun(tmp_path, {"search": "https://a.example/?sig=hunter2"})
    run.spider.stopped_because = (
        "It leads to https://me:hunter2@b.example/x?X-Goog-Signature=hunter2"
    )
    run.stats.set_value("kaggle/retries/https://c.example/?token=hunter2", 1)
    run.settle(pending=1)
    run.spider.accounts.skip("owner/0", "token=hunter2")
    text = json.dumps(run.report("kaggle_failed"))
    assert "b.example" in text
    assert "hunter2" not in text
