"""The report as one JSON object; shape.py says what each field is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime

from scrapy.statscollectors import StatsCollector

from kagglecrawl import __version__
from kagglecrawl.commands.crawl import exit_code
from kagglecrawl.extensions.report import REASONS
from kagglecrawl.kaggle.auth import CredentialsError, account_of
from kagglecrawl.kaggle.paging import CAP_ROWS, End
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.rates import families_of
from kagglecrawl.report import shape
from kagglecrawl.report.collect import SHOWN, Collector, family_of, shown_key
from kagglecrawl.report.eta import Spent, Way, eta
from kagglecrawl.report.gains import FAMILIES
from kagglecrawl.report.series import Series
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.state.quotas import LONGEST_PACE, Left, Quotas, QuotasRefused
from kagglecrawl.state.scheduler import KaggleScheduler

#: Words for why a request is sent again; other reasons have theirs in REASONS.
_RETRIES = {
    "throttled": "Kaggle asked to wait (429)",
    "away": "nobody was there",
    "server_error": "Kaggle failed",
    "bad_reply": "unreadable answer",
    "no_reply": "no whole answer",
    "damaged": "the bytes were not as their checksum says",
}
#: And why something is asked of storage again.
_AGAIN = {
    "url_renewed": "its address had expired",
    "changed": "it changed meanwhile",
    "damaged_archive": "other bytes than its checksum says",
    "damaged_member": "a file is not as its archive's directory says",
    "no_ranges": "storage gives it only whole",
    "stalled": "hardly any bytes came",
    "cut": "the answer was cut short",
    "timeout": "no answer came in time",
    "broken": "the connection broke",
    "tls": "the connection was not secure",
    "server_error": "storage failed",
}
_MEANINGS = {
    0: "Complete: everything that was asked for is stored, or skipped with its reason.",
    1: "Failed: something is missing, or the crawl broke. Run it again.",
    2: "Wrong usage: nothing was done.",
    3: "Stopped before its end.",
    4: "Stopped before its end: Kaggle asks to wait, or a budget is spent. Run it again after "
    "that.",
    5: "Stopped before its end: Kaggle refuses the credentials, or wants some.",
}
_RUNNING = "Under way when this was written."


def document(
    spider: KaggleSpider,
    scheduler: KaggleScheduler,
    stats: StatsCollector,
    collector: Collector,
    reason: str | None = None,
) -> shape.Report:
    """What is known now. ``reason`` is the finish reason of a run that has ended."""
    now = time.time()
    quotas = [
        _quota(left, spider, scheduler, stats, collector, now)
        for left in _left(spider, scheduler, stats)
    ]
    return shape.Report(
        format=shape.FORMAT,
        version=__version__,
        written=_moment(now),
        run=_run(spider, stats, collector, reason, now),
        counts=_counts(spider, scheduler),
        requests=_requests(spider, stats),
        quotas=quotas,
        files=_files(spider, scheduler, stats, collector),
        largest_downloads=collector.largest.rows(),
        slowest_downloads=collector.slowest.rows(),
        downloads_under_way=[] if reason else _under_way(scheduler),
        slowest_requests=collector.answers.rows(),
        eta=_eta(spider, scheduler, collector, quotas, now, reason),
        episodes=_episodes(collector),
        series=_times(collector.series),
    )


def _run(
    spider: KaggleSpider,
    stats: StatsCollector,
    collector: Collector,
    reason: str | None,
    now: float,
) -> shape.Run:
    code = None if reason is None else exit_code(stats)
    return shape.Run(
        spider=clean(spider.name),
        arguments={
            clean(name): clean(str(value))
            for name, value in spider.given.items()
            if not name.startswith("_")
        },
        api_url=clean(spider.config.api_url),
        files_in=clean(spider.config.output(spider.resource)),
        job=bool(spider.settings.get("JOBDIR")),
        started=_moment(collector.started),
        ended=None if reason is None else _moment(now),
        seconds=round(collector.seconds, 3),
        reason=None if reason is None else clean(reason),
        exit_code=code,
        meaning=_RUNNING if code is None else _MEANINGS[code],
        stopped_because=clean(spider.stopped_because),
    )


def _counts(spider: KaggleSpider, scheduler: KaggleScheduler) -> shape.Counts:
    accounts = spider.accounts
    found = {
        name: accounts.count(name)
        for name in ("discovered", "stored", "skipped", "failed", "pending")
    }
    return shape.Counts(
        discovered=found["discovered"],
        stored=found["stored"],
        skipped=found["skipped"],
        failed=found["failed"],
        pending=found["pending"],
        balanced=scheduler.balanced and found["discovered"] * 2 == sum(found.values()),
        unchanged=accounts.count("unchanged"),
        stored_now=found["stored"] - accounts.stored_before,
        skipped_by_reason=_reasons(accounts.reasons("skipped")),
        failed_by_reason=_reasons(accounts.reasons("failed")),
        lists_failed=accounts.count("lists_failed"),
        capped=accounts.count(f"ended/{End.CAP}") > 0,
    )


def _requests(spider: KaggleSpider, stats: StatsCollector) -> shape.Requests:
    sent = int(stats.get_value("kaggle/requests", 0))
    stored = spider.accounts.count("stored") - spider.accounts.stored_before
    retries = _counted(stats, "kaggle/retries/")
    return shape.Requests(
        sent=sent,
        by_method=_counted(stats, "kaggle/requests/"),
        per_record=round(sent / stored, 3) if stored else None,
        answers_by_status=_counted(stats, "kaggle/replies/"),
        retries=sum(retries.values()),
        retries_by_reason=_reasons(retries, _RETRIES),
        retries_by_status=_counted(stats, "kaggle/retried_after/"),
        given_up_by_reason=_reasons(_counted(stats, "kaggle/given_up/")),
        throttled=stats.get_value("kaggle/throttled", 0),
        held_back=stats.get_value("kaggle/held_back", 0),
    )


def _files(
    spider: KaggleSpider, scheduler: KaggleScheduler, stats: StatsCollector, collector: Collector
) -> shape.Files:
    accounts = spider.accounts
    return shape.Files(
        files=accounts.count("files_stored"),
        bytes=accounts.count("bytes_stored"),
        left_out=_reasons(accounts.counts("files_left_out/")),
        without_files=_reasons(accounts.counts("without_files/")),
        without_leaderboard=_reasons(accounts.counts("without_leaderboard/")),
        without_pages=_reasons(accounts.counts("without_pages/")),
        received=collector.received(scheduler.transfers.under_way),
        again=_reasons(_counted(stats, "kaggle/transfers/again/"), _AGAIN),
    )


def _episodes(collector: Collector) -> shape.Episodes | None:
    gains, requests = collector.gains.rows(), collector.spent_on_episodes()
    if not requests:
        return None
    return shape.Episodes(
        replays=sum(gain["replays"] for gain in gains),
        requests=requests,
        sum=round(sum(gain["sum"] for gain in gains), 3),
        gains=gains,
    )


def _under_way(scheduler: KaggleScheduler) -> list[shape.UnderWay]:
    """The largest of those that are running."""
    transfers = scheduler.transfers.under_way.values()
    rows = [
        shape.UnderWay(
            key=shown_key(each.key),
            position=each.meter.position,
            size=each.meter.size,
            seconds=round(each.seconds, 3),
        )
        for each in transfers
    ]
    return sorted(rows, key=lambda row: -row["size"])[:SHOWN]


# -- quotas ----------------------------------------------------------------------------------------


def _left(spider: KaggleSpider, scheduler: KaggleScheduler, stats: StatsCollector) -> list[Left]:
    """What the file of quotas tells of each family; where it cannot, what the settings do."""
    config = spider.config
    sent = set(map(family_of, _counted(stats, "kaggle/requests/")))
    names = sent | {name for name in config.quotas if _concerns(name, spider)}
    found: dict[str, Left] = {}
    try:
        account = scheduler.holds.account() or account_of(config.api_url)
        with closing(Quotas(config.quota_file, account, config.quotas)) as quotas:
            found = {left.name: left for left in quotas.left()}
    except (QuotasRefused, CredentialsError):
        pass
    return [
        found.get(name) or Left(name, 0.0, 0.0, 0.0, ())
        for name in sorted(names | {name for name in found if _concerns(name, spider)})
    ]


def _concerns(name: str, spider: KaggleSpider) -> bool:
    """May a crawl of this spider send any of these families?"""
    return spider.resource == "episodes" or not set(families_of(name)) <= FAMILIES


def _quota(
    left: Left,
    spider: KaggleSpider,
    scheduler: KaggleScheduler,
    stats: StatsCollector,
    collector: Collector,
    now: float,
) -> shape.Quota:
    paces = [r for r in spider.config.quotas.get(left.name, ()) if r.seconds <= LONGEST_PACE]
    sent = _counted(stats, "kaggle/requests/")
    held = max(left.held, scheduler.holds.until.get(left.name, 0.0))
    learnt = stats.get_value(f"kaggle/quotas/interval/{left.name}", left.learnt)
    return shape.Quota(
        family=clean(left.name),
        paces=[str(rate) for rate in paces],
        per_second=min((round(r.count / r.seconds, 6) for r in paces), default=None),
        sent=sum(n for method, n in sent.items() if family_of(method) in families_of(left.name)),
        learnt_interval=round(learnt, 3) or None,
        held_seconds=round(collector.series.total(f"held/{left.name}"), 1),
        held_until=_moment(held) if held > now else None,
        budgets=[
            shape.Budget(
                rate=str(rate),
                used=used,
                left=max(0, rate.count - used),
                free_again=_moment(again) if used else None,
            )
            for rate, used, again in left.used
        ],
    )


# -- how long --------------------------------------------------------------------------------------


def _eta(
    spider: KaggleSpider,
    scheduler: KaggleScheduler,
    collector: Collector,
    quotas: list[shape.Quota],
    now: float,
    reason: str | None,
) -> shape.Eta:
    accounts = spider.accounts
    done = accounts.count("discovered") - accounts.pending
    before, wanted, guessed = collector.done_before, spider.expected, False
    if spider.sample:
        done, before = accounts.count("stored"), accounts.stored_before
        wanted = spider.sample
    elif accounts.counts("ended/"):
        wanted = accounts.count("discovered")
    elif wanted is None:
        wanted, guessed = CAP_ROWS, True
    if reason == "finished" and not accounts.pending:
        wanted = done  # there were fewer than there could have been
    under_way = scheduler.transfers.under_way
    bytes_left = accounts.count("bytes_expected") - accounts.count("bytes_settled")
    bytes_left -= sum(each.meter.position for each in under_way.values())
    way = Way(
        seconds=collector.seconds,
        before=before,
        done=done,
        wanted=wanted,
        guessed=guessed,
        bytes_left=max(0, bytes_left),
        bytes_per_second=collector.received(under_way) / max(1.0, collector.seconds),
    )
    found = eta(way, _budgets(spider, quotas, now))
    if found["seconds"] and reason is None:
        found["at"] = _moment(now + found["seconds"])
    return found


def _budgets(spider: KaggleSpider, quotas: list[shape.Quota], now: float) -> list[Spent]:
    rates = {str(rate): rate for each in spider.config.quotas.values() for rate in each}
    return [
        Spent(
            rates[budget["rate"]],
            budget["used"],
            max(0.0, datetime.fromisoformat(budget["free_again"]).timestamp() - now)
            if budget["free_again"]
            else 0.0,
            quota["sent"],
        )
        for quota in quotas
        for budget in quota["budgets"]
    ]


# -- parts -----------------------------------------------------------------------------------------


def _times(series: Series) -> shape.Times:
    def of(head: str) -> dict[str, list[float]]:
        return {name: _rounded(series.values(f"{head}/{name}")) for name in series.below(head)}

    return shape.Times(
        width=series.width,
        records=_rounded(series.values("records")),
        bytes=_rounded(series.values("bytes")),
        retries=_rounded(series.values("retries")),
        requests=of("requests"),
        held=of("held"),
        interval=of("interval"),
    )


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


def _counted(stats: StatsCollector, head: str) -> dict[str, int]:
    """The stats whose names begin so, by the rest of the name, the largest first."""
    found = {
        clean(name.removeprefix(head)): int(value)
        for name, value in stats.get_stats().items()
        if name.startswith(head)
    }
    return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))


def _reasons(
    counts: Mapping[str, int], words: Mapping[str, str] | None = None
) -> list[shape.Reason]:
    known = {**REASONS, **(words or {})}
    return [
        shape.Reason(reason=clean(slug), words=clean(known.get(slug, slug)), count=number)
        for slug, number in counts.items()
        if number
    ]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
