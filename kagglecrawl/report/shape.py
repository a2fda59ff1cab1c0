"""``WORKSPACE/report.json``, field by field; a program may rely on it.

``format`` is 1. It changes when a field changes its meaning or goes; new fields may come. Times are
ISO 8601 in UTC, durations are seconds, sizes bytes. Null stands for what is not known or not so.
Texts that came over the wire hold no query of an address, no password and no control characters;
they may hold anything else, HTML among it.
"""

from __future__ import annotations

from typing import TypedDict

FORMAT = 1


class Reason(TypedDict):
    """How often something happened, and why."""

    #: A word, as in the stats and in the job.
    reason: str
    #: The same for people.
    words: str
    count: int


class Run(TypedDict):
    """What was run, and how it ended."""

    spider: str
    #: As they were given on the command line.
    arguments: dict[str, str]
    api_url: str
    #: Where its files go: a folder of the workspace, or of a store (``s3://bucket/key``).
    files_in: str
    #: Is it a job (JOBDIR), with which the same command goes on?
    job: bool
    started: str
    #: Null while it runs; one that was killed has none either.
    ended: str | None
    seconds: float
    #: Scrapy's finish reason, and the exit code of ``scrapy crawl``.
    reason: str | None
    exit_code: int | None
    #: What that means, in words.
    meaning: str
    #: Why it was stopped, in one sentence; empty if it was not.
    stopped_because: str


class Counts(TypedDict):
    """Resources, over all runs of a job: discovered is the sum of the four after it."""

    discovered: int
    stored: int
    skipped: int
    failed: int
    pending: int
    #: Is the sum right?
    balanced: bool
    #: How many were found to be as the ledger has them, and were not asked for.
    unchanged: int
    #: How many of the stored this run has stored.
    stored_now: int
    skipped_by_reason: list[Reason]
    failed_by_reason: list[Reason]
    #: Pages of lists that were given up.
    lists_failed: int
    #: A list ended at row 10,000, which is Kaggle's cap.
    capped: bool


class Requests(TypedDict):
    """Calls of the API that this run has sent."""

    sent: int
    by_method: dict[str, int]
    #: Sent for each record that this run has stored.
    per_record: float | None
    #: Answers by HTTP status; one that never came has none, and a finished download is one of 200.
    answers_by_status: dict[str, int]
    #: Sent again, by why, and by the status that was answered.
    retries: int
    retries_by_reason: list[Reason]
    retries_by_status: dict[str, int]
    given_up_by_reason: list[Reason]
    #: Answers that asked to wait (429).
    throttled: int
    #: Requests that were handed out and held back, as a Retry-After had come meanwhile.
    held_back: int


class Budget(TypedDict):
    """A rate of an hour or a day: it may be spent at once."""

    rate: str
    used: int
    left: int
    #: When the first of those used is free again.
    free_again: str | None


class Quota(TypedDict):
    """What may be sent of one family of requests, or of several together (``api+download``), and
    what this run has sent."""

    family: str
    #: The paces of KAGGLE_QUOTAS, and the slowest of them in requests a second.
    paces: list[str]
    per_second: float | None
    sent: int
    #: Seconds between two requests that 429s have taught.
    learnt_interval: float | None
    #: How long this run was held back (Kaggle asked to wait, or nobody was there), and until when
    #: it is.
    held_seconds: float
    held_until: str | None
    budgets: list[Budget]


class Files(TypedDict):
    """Files of the job, and bytes that this run has received from storage."""

    files: int
    bytes: int
    left_out: list[Reason]
    #: Records that have none.
    without_files: list[Reason]
    #: Competitions whose leaderboard, or whose pages, could not be had.
    without_leaderboard: list[Reason]
    without_pages: list[Reason]
    received: int
    #: What was asked of storage again, by why.
    again: list[Reason]


class Download(TypedDict):
    """A download that this run has finished: what is on disk, and how long its request took."""

    key: str
    files: int
    bytes: int
    seconds: float


class UnderWay(TypedDict):
    """One that has not ended: how far it is in its archive; size is 0 until that is known."""

    key: str
    position: int
    size: int
    seconds: float


class Answer(TypedDict):
    """A call of the API and its answer; key is the resource that it was for."""

    method: str
    key: str | None
    bytes: int
    seconds: float


class Eta(TypedDict):
    """When what is pending will be done, if it goes on as it went."""

    #: Null: that cannot be told.
    seconds: float | None
    at: str | None
    #: What takes longest: records, bytes or budget; null where nothing is pending or known.
    limited_by: str | None
    #: Where nobody knows how long the list is: for so many rows.
    if_rows: int | None
    #: In words.
    text: str


class Times(TypedDict):
    """What happened when: lists with a number for each slot of ``width`` seconds."""

    width: float
    #: Records that were stored, bytes that came from storage, and requests sent again.
    records: list[float]
    bytes: list[float]
    retries: list[float]
    #: By family: requests sent, seconds held back, and the longest interval that 429s had
    #: taught by then (0: none).
    requests: dict[str, list[float]]
    held: dict[str, list[float]]
    interval: dict[str, list[float]]


class Gain(TypedDict):
    """Replays that came one after another: one, or neighbours that are counted as one."""

    replays: int
    #: Sent by this run up to the last of them, of the families episodes and replay.
    requests: int
    #: Of their scores, each the mean of its agents'; and the lowest and the highest of them.
    sum: float
    lowest: float
    highest: float


class Episodes(TypedDict):
    """What this run has collected of episodes: replays that it has fetched, the requests of the
    families episodes and replay that it has sent, and the sum of the replays' scores."""

    replays: int
    requests: int
    sum: float
    #: In the order in which they came, at most 500.
    gains: list[Gain]


class Report(TypedDict):
    """The whole."""

    format: int
    #: Of kagglecrawl.
    version: str
    #: When this was written: once a minute while it runs, and when it ends.
    written: str
    run: Run
    counts: Counts
    requests: Requests
    quotas: list[Quota]
    files: Files
    largest_downloads: list[Download]
    slowest_downloads: list[Download]
    downloads_under_way: list[UnderWay]
    slowest_requests: list[Answer]
    eta: Eta
    #: Null where nothing was asked for of episodes.
    episodes: Episodes | None
    series: Times
