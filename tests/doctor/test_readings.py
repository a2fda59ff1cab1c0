"""What the doctor makes of answers: readings, lessons and checks, without a server."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from scrapy.settings import BaseSettings
from scrapy.statscollectors import StatsCollector
from scrapy.utils.test import get_crawler

from kagglecrawl import findings
from kagglecrawl.doctor import checks, lessons, text
from kagglecrawl.doctor.console import _outcome
from kagglecrawl.doctor.probes import LIMIT, PROBES, Answer, Evidence, comparisons, planned
from kagglecrawl.doctor.questions import QUESTIONS
from kagglecrawl.doctor.spider import DoctorSpider
from kagglecrawl.doctor.verdicts import Verdict, shape
from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.errors import CredentialsNeeded, Forbidden, Misconfigured, NotFound
from kagglecrawl.kaggle.paging import Findings
from tests.doctor.conftest import AGREES, DATASETS, DIFFERS, FILES, TOKEN, UNKNOWN, config_of


def listing(first: int, count: int, token: str = "") -> Answer:
    rows = [{"ref": f"owner/d{number}", "totalBytes": 1} for number in range(first, first + count)]
    return Answer(rpc.LIST_DATASETS, 200, {"datasets": rows, "nextPageToken": token})


def compared(**named_and_listed: tuple[int, int]) -> Evidence:
    """Evidence of datasets whose metadata names so many of so many files."""
    evidence = known(list=listing(0, 3))
    for number, (named, listed) in enumerate(named_and_listed.values(), start=1):
        data = [{"name": f"f{each}"} for each in range(named)]
        files = [{"name": f"f{each}"} for each in range(min(listed, 200))]
        reply = {"datasetFiles": files, "nextPageToken": "more" if listed > 200 else ""}
        evidence.answers[f"metadata {number}"] = Answer(
            rpc.GET_DATASET_METADATA, 200, {"info": {"data": data}}
        )
        evidence.answers[f"files {number}"] = Answer(rpc.LIST_DATASET_FILES, 200, reply)
    return evidence


def known(**answers: Answer) -> Evidence:
    return Evidence("KAGGLE_API_TOKEN", True, answers=dict(answers))


def reading(topic: str, evidence: Evidence) -> tuple[str, Verdict]:
    (question,) = (each for each in QUESTIONS if each.topic == topic)
    return question.read(evidence)


def learned(evidence: Evidence, before: findings.Report | None = None) -> findings.Report:
    return lessons.learn(evidence, before or findings.Report("https://api.kaggle.com"), "now")


REFUSED = Answer(rpc.LIST_DATASETS, 400, {"code": 400}, Misconfigured("no"))

LISTS: dict[str, tuple[Evidence, tuple[str, str], Findings]] = {
    "a token that works": (
        known(list=listing(0, 50, "a"), token=listing(50, 60, "b"), page=listing(20, 20)),
        ("given; next page: 60 new rows", AGREES),
        Findings(True, 60, 20),
    ),
    "tokens of the whole list alone": (
        known(list=listing(0, 50, "a"), token=listing(50, 9), slice=listing(0, 20)),
        ("given; next page: 9 new rows", AGREES),
        Findings(None, 50),
    ),
    "a token that leads in a circle": (
        known(list=listing(0, 20, "a"), token=listing(0, 20, "a"), page=listing(20, 20)),
        ("given; next page: no new rows", DIFFERS),
        Findings(False, None, 20),
    ),
    "a token that is refused": (
        known(list=listing(0, 20, "a"), token=REFUSED, page=listing(20, 20)),
        ("given, and refused: 400 {code}", DIFFERS),
        Findings(False, None, 20),
    ),
    "a token at the very end": (
        known(list=listing(0, 20, "a"), token=listing(0, 0), page=listing(0, 0)),
        ("given; next page: no new rows", UNKNOWN),
        Findings(),
    ),
    "a token that nobody tried": (
        known(list=listing(0, 20, "a")),
        ("given; next page not probed", UNKNOWN),
        Findings(),
    ),
    "a page size honoured with page": (
        known(list=listing(0, 200), page=listing(200, 200)),
        ("none, though there are more rows", DIFFERS),
        Findings(False, None, 200),
    ),
    "a short list": (
        known(list=listing(0, 7), page=listing(0, 0)),
        ("none: no more rows were found", UNKNOWN),
        Findings(),
    ),
    "a short second page": (
        known(list=listing(0, 20), page=listing(20, 19)),
        ("none, though there are more rows", DIFFERS),
        Findings(False),
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_what_lists_teach(name: str) -> None:
    evidence, token, found = LISTS[name]
    assert reading(TOKEN, evidence) == token
    assert learned(evidence).of(DATASETS) == found


@pytest.mark.parametrize(
    ("evidence", "verdict", "limit"),
    [
        (compared(a=(5, 5), b=(2, 2)), AGREES, None),
        (compared(a=(200, 450)), DIFFERS, 200),
        (compared(a=(450, 450)), UNKNOWN, None),  # what the next pages hold was not asked
        (compared(a=(3, 3), b=(100, 150), c=(50, 60)), DIFFERS, 50),
        (compared(a=(0, 4), b=(0, 9)), DIFFERS, 0),
        (compared(a=(0, 4), b=(9, 9)), DIFFERS, None),  # an exception, which the crawler sees
        (known(list=listing(0, 3)), UNKNOWN, None),
    ],
)
def test_what_a_comparison_of_files_teaches(
    evidence: Evidence, verdict: Verdict, limit: int | None
) -> None:
    assert reading(FILES, evidence)[1] == verdict
    assert learned(evidence).metadata_files == limit


def test_other_names_are_not_the_same_files() -> None:
    evidence = compared(a=(2, 2))
    data = [{"name": "x"}, {"name": "y"}]
    evidence.answers["metadata 1"] = Answer(rpc.GET_DATASET_METADATA, 200, {"info": {"data": data}})
    assert not any(each.complete or each.truncated for each in comparisons(evidence))
    assert reading(FILES, evidence) == ("2 of 2, under other names", UNKNOWN)


def test_what_is_open_keeps_what_was_known() -> None:
    before = findings.Report(
        "https://api.kaggle.com",
        lists={DATASETS: Findings(True, 200, 20), "x/Other": Findings(True)},
        metadata_files=50,
    )
    after = learned(known(list=listing(0, 7)), before)
    assert (after.lists, after.metadata_files) == (before.lists, 50)
    assert learned(compared(a=(50, 50)), before).metadata_files == 50
    assert learned(compared(a=(51, 51)), before).metadata_files is None
    changed = learned(known(list=listing(0, 20), page=listing(20, 20)), before)
    assert changed.of(DATASETS) == Findings(False, None, 20)
    assert changed.of("x/Other") == Findings(True)
    mixed = known(list=listing(0, 50, "a"), token=listing(50, 50, "b"), slice=listing(0, 20))
    assert learned(mixed, before).of(DATASETS) == Findings(None, 50, 20)


def test_a_list_of_another_resource() -> None:
    rows = [{"ref": f"o/{n}", "description": "card", "instances": [{}]} for n in range(50)]
    reply = {"models": rows, "nextPageToken": "t"}
    evidence = known(ListModels=Answer(rpc.LIST_MODELS, 200, reply))
    assert reading("ListModels, pageSize 100", evidence) == ("50 rows, a token", AGREES)
    assert reading("ListModels: rows carry", evidence) == ("both", AGREES)
    assert learned(evidence).of(rpc.LIST_MODELS.name) == Findings(True, 50)
    assert lessons.answered(evidence)
    evidence.answers["ListModels"] = Answer(rpc.LIST_MODELS, 200, {"models": rows[:3]})
    assert reading("ListModels, pageSize 100", evidence) == ("3 rows, no token", UNKNOWN)
    assert rpc.LIST_MODELS.name not in learned(evidence).lists
    rows[0].clear()
    for row in rows[:3]:
        row.pop("instances", None)
    assert reading("ListModels: rows carry", evidence) == ("all but instances", DIFFERS)


def test_a_leaderboard_is_asked_for_by_the_competitions_own_name() -> None:
    (probe,) = (each for each in PROBES if each.name == "board")
    rows = [{"ref": "https://www.kaggle.com/competitions/titanic"}]
    evidence = known(ListCompetitions=Answer(rpc.LIST_COMPETITIONS, 200, {"competitions": rows}))
    assert probe.fields(evidence) == {"competition_name": "titanic"}
    assert probe.fields(known()) is None


def test_what_a_leaderboard_lacks() -> None:
    def told(content: bytes) -> tuple[str, Verdict]:
        answer = Answer(rpc.DOWNLOAD_LEADERBOARD, 200, content=content)
        return reading("DownloadLeaderboard", known(board=answer))

    assert told(b"Rank,TeamId,TeamName,Score,SubmissionCount\n1,5,A,0.5,3\n") == ("1 team", AGREES)
    lacks = "1 team, without SubmissionCount"
    assert told(b"Rank,TeamId,TeamName,Score\n1,5,A,0.5\n") == (lacks, DIFFERS)
    assert told(b"") == ("empty leaderboard", UNKNOWN)


def test_a_failure_of_our_own_is_not_a_success() -> None:
    spider = DoctorSpider()
    spider.evidence, spider.finish_reason = known(list=listing(0, 1)), "finished"
    spider.crawler = get_crawler(DoctorSpider)
    spider.crawler.stats = stats = StatsCollector(spider.crawler)
    assert _outcome(spider) == (0, [])
    stats.inc_value("spider_exceptions/count")
    code, (sentence,) = _outcome(spider)
    assert code == 1
    assert "please report it" in sentence


def test_redirects_are_told_without_their_query() -> None:
    def found(status: int, location: str) -> tuple[str, Verdict]:
        error = Misconfigured("redirect")
        answer = Answer(rpc.DOWNLOAD_DATASET, status, {}, error, location)
        assert "secret" not in repr(answer)
        return reading("DownloadDataset", known(download=answer))

    signed = "https://storage.googleapis.com/x.zip?X-Goog-Signature=secret"
    assert found(302, signed) == ("302 to storage.googleapis.com, signed", AGREES)
    assert found(302, "https://cdn.example/x?key=secret") == (
        "302 to cdn.example, not signed",
        DIFFERS,
    )
    assert found(200, "") == ("200, no redirect", DIFFERS)
    forbidden = Answer(rpc.DOWNLOAD_DATASET, 403, {}, Forbidden("no"))
    assert reading("DownloadDataset", known(download=forbidden)) == ("refused (403)", UNKNOWN)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"code": 404, "message": "x"}, "404 {code, message}"),
        ({"error": {"code": 404, "status": "NOT_FOUND"}}, "404 {error: {code, status}}"),
        ({}, "404 without JSON"),
        ({"a\x1b[31m": 1}, "404 {a??31m}"),
    ],
)
def test_shapes_of_errors(reply: dict[str, Any], words: str) -> None:
    answer = Answer(rpc.GET_DATASET_METADATA, 404, reply, NotFound("x"))
    assert shape(answer) == words
    assert reading("Error: no such dataset", known(absent=answer)) == (words, AGREES)


def test_an_error_inside_a_200_is_told_as_such() -> None:
    answer = Answer(rpc.GET_DATASET_METADATA, 200, {"errorMessage": "404"}, NotFound("x"))
    assert reading("Error: no such dataset", known(absent=answer)) == (
        "200 {errorMessage}",
        AGREES,
    )


def test_an_anonymous_user_with_more_than_is_assumed() -> None:
    needed = Answer(rpc.LIST_MODELS, 401, {}, CredentialsNeeded("no"))
    evidence = Evidence("anonymous", False, answers={"list": listing(0, 1), "ListModels": needed})
    assert reading("What anonymous users get", evidence) == (
        "answered: ListDatasets; refused: ListModels",
        DIFFERS,
    )


def test_with_no_answers_everything_is_unknown_and_fits() -> None:
    lines = text.table(known()).splitlines()
    assert max(map(len, lines)) <= text.WIDTH
    assert {question.read(known())[1] for question in QUESTIONS} == {UNKNOWN}
    assert not lessons.answered(known())
    assert lessons.consequences(learned(known())) == [
        "Nothing: what it assumes has not been shown to be wrong."
    ]


def test_the_plan_is_within_the_limit() -> None:
    assert len({probe.name for probe in PROBES}) == len(PROBES) == planned(official=False) <= LIMIT
    assert {probe.call.name for probe in PROBES} <= rpc.TABLE.keys()


def test_findings_replace_a_leftover_of_another_mode(tmp_path: Path) -> None:
    config = config_of(tmp_path, "https://api.kaggle.com")
    leftover = tmp_path / "doctor-loopback.json.incomplete"
    leftover.write_text("half", encoding="utf-8")
    leftover.chmod(0o644)
    report = findings.Report(config.api_url, "now", {DATASETS: Findings(True, 100, 20)}, 7)
    findings.save(config, report)
    assert findings.load(config) == report
    assert stat.S_IMODE(config.findings.stat().st_mode) == 0o600
    assert not leftover.exists()


# -- set-up ----------------------------------------------------------------------------------------


def test_packages_out_of_range_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [Requirement("scrapy>=99"), Requirement("no-such-package"), Requirement("kaggle>=2")]
    monkeypatch.setattr(checks, "requirements", lambda: wanted)
    done = checks.examine(BaseSettings({"TWISTED_REACTOR": "select"}))
    packages = [check for check in done.checks if check.topic.startswith("package")]
    assert [check.passed for check in packages] == [False, False, True]
    assert 'pip install "scrapy>=99"' in packages[0].text
    assert "no-such-package is not installed" in packages[1].text
    assert packages[2].text.startswith("kaggle 2.")
    assert not done.passed
    assert any("TWISTED_REACTOR=select" in each.text for each in done.checks if not each.passed)


def test_the_projects_requirements_are_read() -> None:
    named = {requirement.name for requirement in checks.requirements()}
    assert {"scrapy", "kaggle", "kagglesdk", "aiohttp"} <= named
