"""The closing summary, in plain words, and the check that the accounts are balanced.

The numbers are stats as well; ``kaggle/summary`` holds the text and ``kaggle/complete`` says
whether everything that was asked for was had.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Self

from scrapy import signals
from scrapy.crawler import Crawler
from scrapy.statscollectors import StatsCollector

from kagglecrawl.kaggle.paging import End
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.state.plan import BEYOND_BUDGET
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.store import Verdict
from kagglecrawl.units import amount

logger = logging.getLogger(__name__)

#: Words for the reasons of skips and failures; any other reason speaks for itself.
#: What a record may be without, in the counts of a job: ``without_<part>/<reason>``.
PARTS = ("files", "leaderboard", "pages")
REASONS = {
    "usability": "usability below the minimum",
    "usability_unknown": "Kaggle gives no usability rating",
    "beyond_sample": "not needed for the sample",
    "unchanged": "as the ledger has it",
    "not_found": "deleted, renamed or private",
    "forbidden": "forbidden to this account",
    "refused": "refused by Kaggle",
    "damaged": "its files are not as their checksums say",
    "bad_archive": "its archive cannot be read",
    "archive": "kagglehub cannot unpack its archive",
    "unreadable": "kagglehub cannot read the answer",
    "redirect_refused": "its download leads elsewhere than to Kaggle's storage",
    "storage_refused": "storage refuses its download",
    "name_collision": "another dataset has its folder",
    "place_taken": "something else is where its files are to be",
    "too_large": "its files are larger than the disk of WORKSPACE",
    "unsafe_name": "its name cannot be that of a folder",
    "only": "not asked for by only",
    "max_bytes": "larger than max_bytes",
    "ratio": "packed more densely than KAGGLE_MAX_RATIO allows",
    "unsafe_path": "path that leads elsewhere, or that some disk cannot have",
    "link": "a link",
    "special_file": "neither a file nor a folder",
    "encrypted": "encrypted",
    "method": "compressed in a way that is not known",
    "overlap": "overlaps another",
    "collision": "another has its place",
    "crc_mismatch": "other bytes than its checksum says",
    "size_mismatch": "other size than its archive says",
    "header_mismatch": "other header than its archive's directory says",
    "unauthorized": "Kaggle answers 401, and knows who asks",
    "empty_leaderboard": "its file is empty",
    "bad_leaderboard": "its file cannot be read",
    "unordered_leaderboard": "its file has neither ranks nor an order",
    "listed": "teams and submissions whose episodes were listed, which are no records themselves",
    "below_watermark": "episodes with a lower mean score than episode_watermark",
    "no_score": "games without a score, as validation games are",
    "beyond_budget": "not asked for: request_budget was spent first",
    "beyond_share": "teams and submissions that were not listed: discovery_share was spent first",
    "team_watermark": "teams of a rank beyond team_watermark",
    "not_finished": "games that are not over yet",
    "never_started": "games that were never played",
    "no_place": "no place that was asked gives any replays",
    "credentials": "the official API refuses the credentials",
    "no_source": "nothing that lists its episodes answers",
    "bad_replay": "what came is no replay of that game",
    "not_in_meta_kaggle": "not in Meta Kaggle's table (with source=api Kaggle is asked itself)",
    "unreadable_ref": "list row without a readable ref",
    "nothing_came_of_it": "its answer led to nothing, a fault of kagglecrawl's",
    "no_verdict": "its callback came to no end",
    "not_serializable": "its request cannot be kept in JOBDIR",
    "unreadable_request": "its request in JOBDIR cannot be read",
    "server_error": "Kaggle failed every time",
    "bad_reply": "unreadable answer every time",
    "no_reply": "no whole answer every time",
    "store_failed": "the store failed every time",
    "store_away": "the store could not be reached",
    "store_lost": "the store has not kept what it was sent",
    "store_truncated": "the store has kept a part of what it was sent",
    "store_damaged": "the store has kept other bytes than it was sent",
    "no_receipt": "the store's receipts do not cover all of its files",
    "store_refused": "the store cannot have an object of this key",
}
#: What ended the run early, by Scrapy's finish reason.
_ENDINGS = {
    "finished": "",
    "shutdown": "It was interrupted.",
    "cancelled": "It was cancelled.",
    "memusage_exceeded": "It stopped before its end: it takes more memory than MEMUSAGE_LIMIT_MB.",
    "kaggle_quota": "It stopped before its end: the quota is spent.",
    "kaggle_unreachable": "It stopped before its end: the API cannot be reached.",
    "kaggle_misconfigured": "It stopped before its end: the address is not the API's.",
    "kaggle_table": "It stopped before its end: a table of Meta Kaggle cannot be had, or read.",
    "kaggle_no_space": "It stopped before its end: the disk has no room.",
    "s3_unreachable": "It stopped before its end: the store cannot be reached.",
    "s3_refused": "It stopped before its end: the store refuses what it is sent.",
    "kaggle_failed": "It stopped before its end.",
    "kaggle_job": "Nothing was done.",
    "kaggle_credentials": "It stopped before its end, for want of credentials that Kaggle accepts.",
}


#: What a run that was stopped, and is no job, has been good for.
ANEW = "The same command begins a new feed, and asks only for what was not had (JOBDIR goes on)."


class Report:
    """Says at the close what came of the crawl."""

    def __init__(self, crawler: Crawler) -> None:
        assert crawler.stats is not None
        self._stats: StatsCollector = crawler.stats
        self._crawler = crawler
        crawler.signals.connect(self._closed, signals.spider_closed)

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """As Scrapy builds it."""
        return cls(crawler)

    def _closed(self, spider: object, reason: str) -> None:
        if not isinstance(spider, KaggleSpider):
            return
        scheduler = self._crawler.engine.scheduler if self._crawler.engine else None
        assert isinstance(scheduler, KaggleScheduler)
        balanced, accounts = scheduler.balanced, spider.accounts
        lost = accounts.count("failed") + accounts.count("lists_failed") + accounts.pending
        self._stats.set_value(
            "kaggle/complete", reason == "finished" and balanced and scheduler.stored and not lost
        )
        summary = "\n".join(self._lines(spider, reason, balanced, scheduler.stored))
        self._stats.set_value("kaggle/summary", summary)
        logger.info("%s", summary)
        if spider.stopped_because:
            logger.error("%s", spider.stopped_because)

    def _lines(self, spider: KaggleSpider, reason: str, balanced: bool, whole: bool) -> list[str]:
        accounts = spider.accounts
        stored, pending = accounts.count("stored"), accounts.pending
        lines = [
            f"{spider.name}: {accounts.count('discovered')} discovered = {stored} stored + "
            f"{accounts.count('skipped')} skipped + {accounts.count('failed')} failed + "
            f"{pending} pending"
        ]
        if unchanged := accounts.count("unchanged"):
            lines.append(f"  stored {unchanged}: as the ledger has it")
        if not balanced:
            lines.append("  The sum is wrong. This is a fault of kagglecrawl's: please report it.")
        for verdict in ("skipped", "failed"):
            for slug, count in accounts.reasons(verdict).items():
                lines.append(f"  {verdict} {count}: {REASONS.get(slug, slug)}")
        lines += [f"  {line}" for line in self._files(spider)]
        lines.append(f"  {self._requests(spider)}")
        lines += [f"  {sentence}" for sentence in self._remarks(spider, reason, whole)]
        return lines

    def _files(self, spider: KaggleSpider) -> Iterator[str]:
        """Of all runs of the job."""
        accounts, config = spider.accounts, spider.config
        where = f" in {config.output(spider.resource)}" if config.destination else ""
        if files := accounts.count("files_stored"):
            were = "1 file" if files == 1 else f"{files:,} files"
            yield f"{were}, {amount(accounts.count('bytes_stored'))}{where}"
        for slug, count in accounts.counts("files_left_out/").items():
            yield f"left out {count}: {REASONS.get(slug, slug)}"
        for part in PARTS:
            for slug, count in accounts.counts(f"without_{part}/").items():
                yield f"without {part} {count}: {REASONS.get(slug, slug)}"

    def _did_anything(self, spider: KaggleSpider) -> bool:
        """Was there something left to do, in this run?"""
        accounts = spider.accounts
        return bool(self._sent() or accounts.count("stored") > accounts.stored_before)

    def _requests(self, spider: KaggleSpider) -> str:
        """Of this run alone."""
        accounts = spider.accounts
        stored = accounts.count("stored") - accounts.stored_before
        stored -= accounts.count("unchanged") - accounts.unchanged_before
        sent = self._sent()
        again = sum(
            value
            for name, value in self._stats.get_stats().items()
            if name.startswith("kaggle/retries/")
        )
        text = f"{sent} API request{'' if sent == 1 else 's'}"
        if again:
            text += f", {again} of them asked again"
        if stored:
            text += f"; {sent / stored:.2f} per record"
        seconds = self._stats.get_value("elapsed_time_seconds", 0)
        if seconds and stored:
            text += f"; {seconds:.0f} s, {60 * stored / seconds:.0f} records a minute"
        return text

    def _sent(self) -> int:
        return int(self._stats.get_value("kaggle/requests", 0))

    def _remarks(self, spider: KaggleSpider, reason: str, whole: bool) -> list[str]:
        limit = "It stopped at a limit that was set (CLOSESPIDER_…)."
        unknown = f"It stopped before its end ({reason})."
        ending = _ENDINGS.get(reason, limit if reason.startswith("closespider_") else unknown)
        remarks = [ending]
        in_job = bool(spider.settings.get("JOBDIR"))
        if reason == "kaggle_job":
            pass  # why, and what to do, is said in its own sentence
        elif reason != "finished" and in_job:
            remarks.append("Run the same command again to go on.")
        elif reason != "finished" and spider.changed_only:
            remarks.append(
                "What it has written counts as had: keep its feed, the next crawl writes the rest."
            )
        elif reason != "finished":
            remarks.append(ANEW)
        missing = self._stats.get_value("kaggle/pages_missing", 0)
        if missing and reason == "finished":
            files = "1 page file is" if missing == 1 else f"{missing} page files are"
            remarks.append(f"{files} not in the store: run it again.")
        if failed := spider.accounts.count("lists_failed"):
            were = "page of lists was" if failed == 1 else "pages of lists were"
            remarks.append(f"{failed} {were} given up: what is on them is missing.")
        if refused := spider.accounts.count("refused_before"):
            were, it = ("1 was", "it") if refused == 1 else (f"{refused} were", "them")
            remarks.append(
                f"{were} not asked for again, since Kaggle has refused {it} before: "
                "-a refresh=true asks."
            )
        if other := spider.accounts.count("files_elsewhere"):
            remarks.append(
                f"The files of {_counted(other, spider)} were in another place, "
                "so they were asked for again."
            )
        if gone := spider.accounts.count("files_gone"):
            of = _counted(gone, spider)
            remarks.append(
                f"Files of {of} were not at their place any more, so they were asked for."
            )
        if missing := self._stats.get_value("kaggle/ledger/not_listed"):
            remarks.append(
                f"{missing} that the list had before are not on it any more; nothing of theirs was "
                "removed: `scrapy ledger keys --gone not_listed` names them."
            )
        if spider.accounts.count(f"{Verdict.SKIPPED}/{BEYOND_BUDGET}") and reason == "finished":
            whose = " (with another JOBDIR, or none)" if in_job else ""
            remarks.append(
                f"request_budget is spent: another crawl{whose} goes on with what is left."
            )
        if spider.accounts.count(f"ended/{End.CAP}"):
            remarks.append(
                "The list ended at row 10,000: Kaggle's cap, not its end. Crawl the rest in slices."
            )
        if reason == "finished" and in_job and (failed or spider.accounts.count("failed")):
            again = "Run the same command again to try what failed once more."
            never = (
                "What failed would fail again, so it is not asked for until its list row changes: "
                "`-a refresh=true` with another JOBDIR asks all the same."
            )
            remarks.append(again if spider.accounts.retryable() else never)
        if reason == "finished" and not in_job and (failed or spider.accounts.retryable()):
            remarks.append("Run it again: what failed for now is asked for again, and no more.")
        if self._stats.get_value("kaggle/complete") and in_job and not self._did_anything(spider):
            remarks.append(
                "The job is complete: nothing was left to do. Name another JOBDIR to crawl anew."
            )
        stored = spider.accounts.count("stored")
        if not whole:
            return [remark for remark in remarks if remark]  # the counts are of what is safe
        if reason == "finished" and spider.sample and stored < spider.sample:
            remarks.append(f"Only {stored} of the {spider.sample} asked for could be had.")
        if reason == "finished" and not failed and not spider.accounts.count("discovered"):
            remarks.append("Nothing matches: the list is empty.")
        return [remark for remark in remarks if remark]


def _counted(number: int, spider: KaggleSpider) -> str:
    """So many of what the spider crawls: ``1 dataset``."""
    return f"{number} {spider.resource if number != 1 else spider.resource.removesuffix('s')}"
