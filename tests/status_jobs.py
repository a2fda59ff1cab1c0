"""Job directories in every state, to be looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from scrapy.settings import Settings

from kagglecrawl.commands.status import examine
from kagglecrawl.commands.status_words import Status, as_text
from kagglecrawl.state.store import FILE, FeedFile, State, Store

#: 2026-01-02 15:00:00 UTC.
NOW = 1_767_366_000.0
WORKSPACE = "/srv/workspace"
DEFAULT_FEED = f"{WORKSPACE}/output/%(name)s/%(name)s_%(time)s.jsonl"
FACTS = {
    "spider": "datasets",
    "arguments": '{"pages": "1-12"}',
    "api_url": "https://api.kaggle.com",
    "workspace": WORKSPACE,
    "feeds": json.dumps({DEFAULT_FEED: "jsonlines"}),
    "created": "2026-01-02T14:05:10+00:00",
    "run": "2",
    "run_started": str(NOW - 130),
    "run_ended": str(NOW - 10),
    "run_stored": "100",
    "clean": "1",
    "reason": "shutdown",
    "holds": "{}",
}
KILLED = {"clean": "0", "run_ended": ""}
COUNTS = {
    "discovered": 240,
    "stored": 139,
    "skipped": 40,
    "failed": 1,
    "pending": 60,
    "skipped/not_found": 2,
    "skipped/usability": 37,
    "skipped/some_new_reason": 1,
    "failed/server_error": 1,
    "requests": 150,
    "retries/throttled": 2,
    "retries/server_error": 1,
}
#: All of them done.
DONE = {"discovered": 240, "stored": 200, "skipped": 40, "skipped/usability": 40, "requests": 203}
ROWS = FeedFile(DEFAULT_FEED, 1, f"{WORKSPACE}/output/datasets/datasets_x.jsonl", 0, 120_304, 139)


def fill(
    store: Store,
    facts: Mapping[str, str],
    counts: Mapping[str, int],
    feeds: tuple[FeedFile, ...] = (),
) -> None:
    for name, value in {**FACTS, **facts}.items():
        store.put(name, value)
    for name, count in counts.items():
        store.add_count(name, count)
    for feed in feeds:
        store.put_feed(feed)


def make(
    job: Path,
    facts: Mapping[str, str] | None = None,
    counts: Mapping[str, int] = COUNTS,
    *,
    feeds: tuple[FeedFile, ...] = (),
    more: Callable[[Store], object] = lambda store: None,
) -> None:
    """A job directory, as after its last process."""
    job.mkdir()
    store = Store.create(job / FILE)
    fill(store, facts or {}, counts, feeds)
    more(store)
    store.commit()
    store.close()


def with_requests(store: Store) -> None:
    states = [*[State.PENDING] * 50, *[State.LEASED] * 8, *[State.WAITING] * 4]
    for number, state in enumerate([*states, State.DONE, State.FAILED]):
        due = NOW + 50 - 40 * (number % 3) if state is State.WAITING else 0
        store.add_request(None, state, "api", 0, 2, None, "{}", due=due)
    for number in range(1, 13):
        store.list_page(number, 20)
    for number in range(1, 10):
        store.page_written(number)


def one_request(store: Store) -> None:
    store.add_request(None, State.WAITING, "api", 0, 2, None, "{}", due=NOW)


def look(job: Path, **changed: str) -> Status:
    """What there is to say of the job, where the settings are the job's but for what is changed."""
    settings = Settings()
    settings.setmodule("kagglecrawl.settings", priority="project")
    settings.update({"KAGGLE_API_URL": FACTS["api_url"], "WORKSPACE": WORKSPACE, **changed})
    return examine(job, settings, NOW)


def told(job: Path) -> str:
    return as_text(look(job), "jobs/1")
