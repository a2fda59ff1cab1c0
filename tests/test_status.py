"""`scrapy status`: what it says of a job in each state."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scrapy.settings import Settings

from kagglecrawl.commands import status as command
from kagglecrawl.commands.status import examine
from kagglecrawl.commands.status_words import _duration
from kagglecrawl.kaggle.auth import account_of
from kagglecrawl.rates import quotas_of
from kagglecrawl.state.holds import repeated
from kagglecrawl.state.job import Identity, Job
from kagglecrawl.state.quotas import Quotas
from kagglecrawl.state.store import FILE, FeedFile, State, Store
from tests.status_jobs import (
    COUNTS,
    DEFAULT_FEED,
    DONE,
    FACTS,
    KILLED,
    NOW,
    ROWS,
    WORKSPACE,
    fill,
    look,
    make,
    one_request,
    told,
    with_requests,
)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return tmp_path / "job"


# -- in words --------------------------------------------------------------------------------------


def test_a_stopped_job(job: Path) -> None:
    holds = json.dumps({"api": NOW + 330, "download": NOW + 30, "web": NOW - 1})
    remote = FeedFile("s3://b/x.csv", 1, "s3://b/x.csv", 0, 9_001, 139)
    facts = {"reason": "kaggle_quota", "holds": holds}
    feeds = json.dumps({DEFAULT_FEED: "jsonlines", "s3://b/x.csv": "csv"})
    counts = {**COUNTS, "lists_failed": 1}
    make(job, {**facts, "feeds": feeds}, counts, feeds=(ROWS, remote), more=with_requests)
    assert told(job) == (
        "Job in jobs/1: datasets with pages=1-12, from https://api.kaggle.com, "
        "since 2026-01-02 14:05:10 UTC.\n"
        "Stopped: there is more to do. The quota was spent.\n"
        "datasets: 240 discovered = 139 stored + 40 skipped + 1 failed + 60 pending\n"
        "  skipped 37: usability below the minimum\n"
        "  skipped 2: deleted, renamed or private\n"
        "  skipped 1: some_new_reason\n"
        "  failed 1: Kaggle failed every time\n"
        "  1 page of lists was given up: what is on it is missing.\n"
        "  62 requests pending, 3 of them for a later time\n"
        "  Kaggle asks to wait: nothing of quota 'api' is sent before 2026-01-02 15:05:30 UTC.\n"
        "  150 API requests sent, 3 of them asked again\n"
        "  20 records a minute in the last run; what is pending takes about 3 min at that rate\n"
        "  9 of 12 pages written\n"
        f"  feed {WORKSPACE}/output/datasets/datasets_x.jsonl: 139 rows, 120,304 bytes\n"
        "  feed s3://b/x.csv: 139 rows, 9,001 bytes, still only in the job directory\n"
        "Next: run the same command again after 2026-01-02 15:05:30 UTC to go on:\n"
        f"  scrapy crawl datasets -a pages=1-12 -o s3://b/x.csv -s JOBDIR={job}"
    )


def test_a_complete_job(job: Path) -> None:
    make(job, {"reason": "finished", "arguments": "{}", "run": "1"}, {**DONE, "ended/cap": 1})
    assert told(job) == (
        "Job in jobs/1: datasets, from https://api.kaggle.com, since 2026-01-02 14:05:10 UTC.\n"
        "Complete.\n"
        "datasets: 240 discovered = 200 stored + 40 skipped + 0 failed + 0 pending\n"
        "  skipped 40: usability below the minimum\n"
        "  The list ended at row 10,000: Kaggle's cap, not its end. Crawl the rest in slices.\n"
        "  203 API requests sent\n"
        "  50 records a minute in the last run\n"
        "Next: nothing: it is complete; name another JOBDIR to begin anew."
    )


def test_a_killed_job(job: Path) -> None:
    """Its last run ended when it wrote last, which may be to the log beside the file."""
    make(job, KILLED)
    (job / f"{FILE}-wal").touch()
    os.utime(job / FILE, (NOW - 1000, NOW - 1000))
    os.utime(job / f"{FILE}-wal", (NOW - 100, NOW - 100))
    text = told(job)
    assert "\nKilled: its process is gone. Nothing is lost.\n" in text
    assert "\n  78 records a minute in the last run; what is pending takes about 46 s at" in text
    assert "\nNext: run the same command again to go on:\n  scrapy crawl datasets -a " in text


@pytest.mark.parametrize(
    ("reason", "said", "do"),
    [
        ("shutdown", "It was interrupted.", "Next: run the same command again to go on"),
        ("closespider_itemcount", "A limit that was set (CLOSESPIDER_…) was reached.", "Next: run"),
        (
            "kaggle_credentials",
            "Kaggle wants credentials, or refused those that it was given.",
            "Next: see what `scrapy doctor` finds, then run the same command again to go on",
        ),
        ("something_else", "It ended early (something_else).", "Next: run the same"),
    ],
)
def test_it_says_why_a_job_has_stopped(job: Path, reason: str, said: str, do: str) -> None:
    make(job, {"reason": reason})
    text = told(job)
    assert f"\nStopped: there is more to do. {said}\n" in text
    assert f"\n{do}" in text


def test_a_job_that_has_not_begun(job: Path) -> None:
    identity = Identity("datasets", {}, FACTS["api_url"], WORKSPACE, {DEFAULT_FEED: "jsonlines"})
    Job.take(job, identity).leave()
    assert look(job)["state"] == "stopped"
    assert "\nNot begun: it has asked for nothing yet.\n" in told(job)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(59.6, "60 s"), (89.0, "89 s"), (90.0, "2 min"), (5_999.0, "1 h 40 min"), (61.0, "61 s")],
)
def test_durations(seconds: float, words: str) -> None:
    assert _duration(seconds) == words


# -- which state it is in --------------------------------------------------------------------------


def test_a_running_job_is_known_by_its_lock(job: Path) -> None:
    identity = Identity("datasets", {}, FACTS["api_url"], WORKSPACE, {})
    running = Job.take(job, identity)
    fill(running.store, KILLED, COUNTS)
    running.store.commit()
    seen, text = look(job), told(job)
    running.leave()
    assert (seen["state"], seen["pid"], seen["command"]) == ("running", os.getpid(), None)
    assert (seen["run_ended"], seen["reason"]) == (None, None)
    assert f"\nRunning: process {os.getpid()}, run 2, since 2026-01-02 14:57:50 UTC.\n" in text
    # until now, 130 seconds after its beginning
    assert "\n  18 records a minute in the present run; what is pending takes about 3 min" in text
    assert text.endswith(f"one Ctrl-C or `kill {os.getpid()}` stops it cleanly.")
    assert look(job)["state"] == "killed", "the lock is free, and the end was not noted"


def test_a_run_that_begins_meanwhile_was_not_killed(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(job, KILLED)
    answers = iter([None, 4711])
    monkeypatch.setattr(command, "lock_holder", lambda folder: next(answers))
    assert (look(job)["state"], next(answers, "asked twice")) == ("running", "asked twice")


def test_a_process_that_is_not_known_yet(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(job)
    monkeypatch.setattr(command, "lock_holder", lambda folder: -1)
    assert (look(job)["state"], look(job)["pid"]) == ("running", None)
    assert "kill" not in told(job)


def failed_request(reason: str) -> Callable[[Store], object]:
    def fail(store: Store) -> None:
        number = store.add_request(b"failed", State.LEASED, "api", 0, 1, "a/b", "{}")
        assert number is not None
        store.fail(number, reason)

    return fail


def test_what_would_fail_again_is_not_asked_for(job: Path) -> None:
    counts = {**DONE, "stored": DONE["stored"] - 1, "failed": 1, "failed/bad_archive": 1}
    make(job, {"reason": "finished"}, counts, more=failed_request("bad_archive"))
    assert look(job)["failed_for_good"] is True
    assert "Next: nothing: what failed would fail again; `-a refresh=true` asks" in told(job)


@pytest.mark.parametrize(
    ("counts", "feeds", "more"),
    [
        ({"stored": -1, "failed": 1, "failed/bad_reply": 1}, (), failed_request("bad_reply")),
        ({"stored": -1, "pending": 1}, (), None),
        ({"lists_failed": 1}, (), None),
        ({}, (FeedFile("s3://b/x", 1, "s3://b/x", 0, 90, 2, stored=80),), None),
        ({}, (FeedFile("/a/%(batch_id)d", 1, "/a/1", 0, 90, 2, closed=True),), None),
        ({}, (), one_request),
    ],
    ids=["failed", "pending", "list", "remote feed", "batch", "request"],
)
def test_a_job_that_ended_with_something_missing(
    job: Path,
    counts: dict[str, int],
    feeds: tuple[FeedFile, ...],
    more: Callable[[Store], object] | None,
) -> None:
    changed = {name: DONE.get(name, 0) + counts.get(name, 0) for name in DONE | counts}
    make(job, {"reason": "finished"}, changed, feeds=feeds, more=more or (lambda store: None))
    text = told(job)
    assert look(job)["state"] == "incomplete"
    assert "\nEnded with something missing.\n" in text
    assert "\nNext: run the same command again to ask for what is missing:\n" in text


def test_a_feed_that_could_not_be_stored(job: Path) -> None:
    """Scrapy's reason is then another; it is the end of the job unless requests are left."""
    feed = FeedFile("s3://b/x", 1, "s3://b/x", 0, 90, 2)
    make(job, {"reason": "feeds_not_stored"}, DONE, feeds=(feed,))
    assert look(job)["state"] == "incomplete"
    with_more = job.parent / "other"
    make(with_more, {"reason": "feeds_not_stored"}, DONE, feeds=(feed,), more=one_request)
    assert "\nStopped: there is more to do. A feed could not be stored.\n" in told(with_more)


def test_feeds_that_are_at_their_place(job: Path) -> None:
    """What a file held before the job is not the job's, also of a batch."""
    feeds = (
        FeedFile("/a/own.jsonl", 1, "/a/own.jsonl", 1000, 1090, 2),
        FeedFile("/a/%(batch_id)d", 1, "/a/1", 1000, 90, 2, closed=True, stored=90),
        FeedFile("file:///a/b", 1, "file:///a/b", 0, 90, 2),
        FeedFile("s3://b/x", 1, "s3://b/x", 0, 90, 2, stored=90),
    )
    make(job, {"reason": "finished"}, DONE, feeds=feeds)
    seen = look(job)
    assert [feed["bytes"] for feed in seen["feeds"]] == [90] * 4
    assert not any(feed["only_in_job_directory"] for feed in seen["feeds"])
    assert seen["state"] == "complete"


def test_a_sum_that_is_wrong(job: Path) -> None:
    make(job, {"reason": "finished"}, {**DONE, "discovered": 241})
    text = told(job)
    assert look(job)["state"] == "incomplete"
    assert "\n  The sum is wrong. This is a fault of kagglecrawl's: please report it.\n" in text
    assert "\nNext: name another JOBDIR to begin anew:\n" in text


@pytest.mark.parametrize(
    "facts",
    [
        {"run_ended": str(NOW - 130)},  # at once
        {"run_ended": str(NOW - 500)},  # the clock was put back
        {"run_stored": "139"},
        {"run_started": "", "run_ended": ""},
    ],
)
def test_no_rate_without_a_ground_for_it(job: Path, facts: dict[str, str]) -> None:
    make(job, facts)
    seen = look(job)
    assert (seen["records_per_minute"], seen["seconds_left"]) == (None, None)
    assert "records a minute" not in told(job)


# -- the command that goes on ----------------------------------------------------------------------


def test_the_command_makes_it_the_same_job(tmp_path: Path) -> None:
    job = tmp_path / "my jobs"
    arguments = json.dumps({"search": "it's two words", "_job": "17"})
    feeds = {DEFAULT_FEED: "jsonlines", "/a/b c.jsonl": "jsonl", "/a/x": "csv", "stdout:": "csv"}
    make(job, {"arguments": arguments, "feeds": json.dumps(feeds)})
    seen = look(job, KAGGLE_API_URL="http://127.0.0.1:8765/api", WORKSPACE="elsewhere")
    assert shlex.split(str(seen["command"])) == [
        *("scrapy", "crawl", "datasets", "-a", "search=it's two words"),
        *("-o", "/a/b c.jsonl:jsonl"[:-6], "-o", "/a/x:csv", "-o", "-:csv"),
        *("-s", "KAGGLE_API_URL=https://api.kaggle.com", "-s", f"WORKSPACE={WORKSPACE}"),
        *("-s", f"JOBDIR={job}"),
    ]
    assert seen["arguments"] == {"search": "it's two words"}


def test_what_is_so_by_itself_here_is_left_out(job: Path) -> None:
    make(job, {"feeds": json.dumps({"/a/x.csv": "csv", "/a/y.csv": "csv"})})
    seen = look(job, FEEDS='{"/a/x.csv": {"format": "csv"}}')
    expected = f"scrapy crawl datasets -a pages=1-12 -o /a/y.csv -s JOBDIR={job}"
    assert seen["command"] == expected


def given(**settings: Any) -> dict[str, str]:
    """A job whose last run was given these."""
    project = Settings()
    project.setmodule("kagglecrawl.settings", priority="project")
    project.update(settings)
    return {"repeated": json.dumps(repeated(project))}


def test_how_fast_it_may_go_is_repeated_if_it_is_not_so_by_itself(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quotas = {"api": "1/second", "api+download": "3600/day"}
    file = tmp_path / "my quotas.sqlite"
    make(job, given(KAGGLE_QUOTAS=quotas, KAGGLE_QUOTA_SPENT="wait", KAGGLE_QUOTA_FILE=file.name))
    begins = "scrapy crawl datasets -a pages=1-12"
    words = shlex.split(str(look(job)["command"]).removeprefix(begins))
    assert words == [
        *("-s", 'KAGGLE_QUOTAS={"api": "1/second", "api+download": "3600/day"}'),
        *("-s", "KAGGLE_QUOTA_SPENT=wait"),
        *("-s", f"KAGGLE_QUOTA_FILE={file}"),
        *("-s", f"JOBDIR={job}"),
    ]
    here = look(job, KAGGLE_QUOTA_SPENT="wait", KAGGLE_QUOTA_FILE=str(file))
    assert "SPENT" not in str(here["command"])
    assert "FILE" not in str(here["command"])
    make(other := tmp_path / "other", given())
    assert " -s KAGGLE_QUOTAS= " in str(look(other, KAGGLE_QUOTAS="api=5/second")["command"])
    assert str(look(other)["command"]) == f"{begins} -s JOBDIR={other}"


def test_the_quotas_are_those_of_the_job(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that families share, and whatever is set where one looks."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_nobody")
    path = tmp_path / "quotas.sqlite"
    facts = given(KAGGLE_QUOTAS="api+download=3/day; download=", KAGGLE_QUOTA_FILE=str(path))
    make(job, {"reason": "kaggle_quota", **facts})
    account = account_of(str(FACTS["api_url"]))
    with closing(Quotas(path, account, quotas_of("api+download=3/day"), lambda: NOW)) as quotas:
        taken = [quotas.take(family) for family in ("api", "download", "download", "api")]
    assert taken == [0.0, 0.0, 0.0, NOW + 86_401]
    monkeypatch.setattr(Quotas.__init__, "__defaults__", (lambda: NOW,))
    seen = look(job, KAGGLE_QUOTAS="api=100/day")
    again = "2026-01-03T15:00:01+00:00"
    shared = {"rate": "3/day", "used": 3, "left": 0, "free_again": again}
    assert seen["quotas"]["api+download"]["budgets"] == [shared]
    assert [seen["quotas"][family]["next"] for family in ("api", "download")] == [again, again]
    text = told(job)
    assert (
        "\n  quota 'api+download': 0 left of 3/day, the next one 2026-01-03 15:00:01 UTC\n" in text
    )
    assert "Next: run the same command again after 2026-01-03 15:00:01 UTC to go on:" in text
    settings = Settings()
    settings.setmodule("kagglecrawl.settings", priority="project")
    settings.set("KAGGLE_QUOTAS", "api+download=9/day", priority="cmdline")
    assert examine(job, settings, NOW)["quotas"]["api+download"]["budgets"][0]["left"] == 6


def test_it_looks_whatever_the_settings_are(job: Path) -> None:
    make(job)
    goes_on = str(look(job, KAGGLE_API_URL="no address")["command"])
    assert f" -s KAGGLE_API_URL={FACTS['api_url']} " in goes_on
    assert goes_on.endswith(f" -s JOBDIR={job}")


def test_secrets_are_not_shown(job: Path) -> None:
    signed = "https://h.example/x?X-Goog-Signature=HUSH"
    facts = {
        "arguments": json.dumps({"refs": signed}),
        "feeds": json.dumps({"s3://AKIA:HUSH@bucket/x": "csv"}),
        "api_url": "https://me:HUSH@api.kaggle.com",
    }
    feed = FeedFile("s3://AKIA:HUSH@bucket/x", 1, "s3://AKIA:HUSH@bucket/x", 0, 9, 1)
    make(job, facts, feeds=(feed,))
    text = told(job)
    assert "HUSH" not in text + json.dumps(look(job))
    assert "s3://***@bucket/x" in text
    assert text.endswith("(*** and … stand for what is not shown.)")
