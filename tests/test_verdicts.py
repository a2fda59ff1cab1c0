"""What becomes of a request that goes wrong: failed with its reason, never done; and the next run
of the job makes good what it can."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from kagglecrawl.state.store import FILE, Store
from tests import warm
from tests.conftest import ROOT, Run, by_ref, clean_env, record
from tests.killing.look import MINIMUM, of_store
from tests.killing.site import Answer, Site

BOTH = ["child", "one"]


@dataclass
class Seen:
    """What a run leaves: names in the feed, verdict and reason of each resource, the requests that
    failed, how many are open; and its log."""

    rows: list[str]
    verdicts: dict[str, str]
    failed: list[tuple[str | None, str]]
    open: int
    log: str


Start = Callable[..., Seen]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Run the plain spider of killing/faulty.py, in the same job each time."""

    def run(site: Site | str, fault: str = "", path: str = "/one", told: str = "") -> Seen:
        url = site if isinstance(site, str) else site.url
        feed, job = tmp_path / "out.jsonl", tmp_path / "job"
        code, log = warm.run(
            *("scrapy", "crawl", "faulty"),
            *("-a", f"url={url}", "-a", f"fault={fault}", "-a", f"path={path}"),
            *("-s", "SPIDER_MODULES=tests.killing.faulty", "-s", f"JOBDIR={job}"),
            *("-o", str(feed)),
            cwd=ROOT,
            env=clean_env(tmp_path, FAULT=told),
        )
        assert code == 0, log
        assert not of_store(job)
        lines = feed.read_text(encoding="utf-8").splitlines() if feed.exists() else []
        with closing(Store.look(job / FILE)) as store:
            known = {key: store.known(key) for key in BOTH}
            return Seen(
                rows=sorted(json.loads(line)["name"] for line in lines),
                verdicts={
                    key: f"{each.verdict} {each.reason}".strip()
                    for key, each in known.items()
                    if each is not None
                },
                failed=list(store.failed_requests()),
                open=store.open_requests(),
                log=log,
            )

    return run


def assert_well(seen: Seen) -> None:
    assert (seen.rows, seen.verdicts) == (BOTH, dict.fromkeys(BOTH, "stored")), seen.log
    assert (seen.failed, seen.open) == ([], 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raises", "callback_RuntimeError"),
        ("raises_at_once", "callback_RuntimeError"),
        ("raises_asynchronously", "callback_RuntimeError"),
        ("raises_as_coroutine", "callback_RuntimeError"),
        ("hushed", "callback_RuntimeError"),
        ("yields_nothing", "nothing_came_of_it"),
        ("ignored", "IgnoreRequest"),
        ("bad input", "KeyError"),
        ("bad output", "callback_KeyError"),
        ("half output", "no_verdict"),
        ("bad pipeline", "pipeline_ValueError"),
    ],
)
def test_what_goes_wrong_fails_and_nothing_of_it_counts(
    start: Start, fault: str, reason: str
) -> None:
    with Site() as site:
        broken = start(site, fault)
        mended = start(site)
    assert (broken.rows, broken.verdicts) == ([], {"one": f"failed {reason}"}), broken.log
    assert (broken.failed, broken.open) == ([("one", reason)], 0)
    assert_well(mended)
    assert site.asked["/child"] == 1, "a request that came of what failed was not made"


def test_a_row_that_cannot_be_written_fails(start: Start) -> None:
    with Site() as site:
        broken = start(site, told="export:one")
        mended = start(site)
    assert (broken.rows, broken.verdicts) == ([], {"one": "failed feed_OverflowError"}), broken.log
    assert_well(mended)


@pytest.mark.parametrize(
    ("fault", "answer", "reason"),
    [
        ("", (404, "gone"), "HttpError_404"),  # Scrapy's HttpErrorMiddleware hushes it up
        ("", (503, "busy"), "HttpError_503"),  # after Scrapy's own retries
        ("errs", (404, "gone"), "callback_RuntimeError"),
    ],
)
def test_an_error_that_nobody_handles_fails(
    start: Start, fault: str, answer: Answer, reason: str
) -> None:
    with Site({"/one": [answer]}) as site:
        broken = start(site, fault)
        site.script.clear()
        mended = start(site)
    assert (broken.rows, broken.verdicts) == ([], {"one": f"failed {reason}"}), broken.log
    assert_well(mended)


def test_a_refused_connection_fails(start: Start) -> None:
    port = free_port()
    broken = start(f"http://127.0.0.1:{port}")
    with Site(port=port) as site:
        mended = start(site)
    assert broken.failed == [("one", "DownloadConnectionRefusedError")], broken.log
    assert broken.rows == []
    assert_well(mended)


def test_an_error_that_an_errback_handles_is_done(start: Start) -> None:
    with Site({"/one": [(404, "gone")]}) as site:
        assert_well(start(site, "recovers"))


def test_what_a_pipeline_drops_is_skipped_and_what_led_from_it_is_made(start: Start) -> None:
    with Site() as site:
        seen = start(site, "dropped")
    assert (seen.rows, seen.failed) == (["child"], [])
    assert seen.verdicts == {"one": "skipped dropped", "child": "stored"}


def test_a_stop_in_a_callback_leaves_its_request_to_the_next_run(start: Start) -> None:
    with Site() as site:
        stopped = start(site, "closes")
        mended = start(site)
    assert (stopped.rows, stopped.failed, stopped.open) == ([], [], 1), stopped.log
    assert_well(mended)
    assert site.asked == {"/one": 2, "/child": 1}


@pytest.mark.parametrize(
    ("fault", "path", "script", "asked"),
    [
        ("asynchronously", "/one", {}, {"/one": 1}),
        ("as_coroutine", "/one", {}, {"/one": 1}),
        ("", "/from", {"/from": [(302, "/one")]}, {"/from": 1, "/one": 1}),
        ("", "/one", {"/one": [(503, "busy"), (200, "ok")]}, {"/one": 2}),
        ("asks_again", "/one", {"/one": [(200, "first"), (200, "ok")]}, {"/one": 2}),
        ("asks_the_same_again", "/one", {"/one": [(200, "first"), (200, "ok")]}, {"/one": 2}),
        ("retries", "/one", {"/one": [(200, "first"), (200, "ok")]}, {"/one": 2}),
        ("once more", "/one", {}, {"/one": 1, "/two": 1}),
        ("doubles", "/one", {}, {"/one": 1}),
    ],
)
def test_it_counts_once_whatever_way_it_took(
    start: Start, fault: str, path: str, script: dict[str, list[Answer]], asked: dict[str, int]
) -> None:
    with Site(script) as site:
        assert_well(start(site, fault, path))
    assert site.asked == {**asked, "/child": 1}


# -- the project's own spider ---------------------------------------------------------------------

PIPELINES = {
    "kagglecrawl.pipelines.markdown.MarkdownPipeline": 400,
    "tests.killing.faulty.DatasetsPipe": 500,
}
FAULTY = (
    *("-s", "SPIDER_MODULES=tests.killing.faulty"),
    *("-s", f"ITEM_PIPELINES={json.dumps(PIPELINES)}"),
    *("-s", 'FEED_EXPORTERS={"jsonl": "tests.killing.faulty.Exports"}'),
)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("callback", "callback_RuntimeError"),
        ("pipeline", "pipeline_ValueError"),
        ("export", "feed_OverflowError"),
    ],
)
def test_one_dataset_that_goes_wrong(crawl: Run, tmp_path: Path, part: str, reason: str) -> None:
    world = World(seed=3)
    right = {dataset.ref: record(dataset) for dataset in world.public(MINIMUM)}
    bad = sorted(right)[7]
    job = (*FAULTY, "-s", f"JOBDIR={tmp_path / 'job'}", "-o", str(tmp_path / "out.jsonl"))
    with Replica(world) as replica:
        broken = crawl(replica, *job, env={"FAULT": f"{part}:{bad}"})
        replica.reset_stats()
        mended = crawl(replica, *job)
        requests = replica.stats()["requests"]
    assert broken.code == 1
    assert f"failed 1: {reason}" in broken.log, broken.log
    assert by_ref(broken.rows) == {ref: row for ref, row in right.items() if ref != bad}
    assert mended.code == 0, mended.log
    assert by_ref(mended.rows) == right
    assert requests == {"GetDatasetMetadata": {"200": 1}}, "nothing else is asked for again"


def test_a_kaggle_that_is_not_there_loses_nothing(crawl: Run, tmp_path: Path) -> None:
    world, port = World(seed=3), free_port()
    there = Replica(world, port=port)
    job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-o", str(tmp_path / "out.jsonl"))
    away = crawl(there, *job)
    with there as replica:
        done = crawl(replica, *job)
    assert away.code == 1
    assert "the connection was refused" in away.log
    assert away.rows == []
    assert done.code == 0, done.log
    assert by_ref(done.rows) == {each.ref: record(each) for each in world.public(MINIMUM)}


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
