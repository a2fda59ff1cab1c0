"""``scrapy crawl``: Scrapy's own, with everything checked before a crawler exists, and an exit
code that says how it ended.

==== ==========================================================================================
code meaning
==== ==========================================================================================
0    complete: everything that was asked for is stored, or skipped with its reason
1    failed: something is missing (named in the summary), or the crawl broke
2    wrong usage: an argument, a setting or credentials that cannot be used; nothing was done
3    stopped before its end: Ctrl-C, SIGTERM, or a limit of CLOSESPIDER_…
4    stopped before its end: Kaggle asks to wait longer than KAGGLE_MAX_WAIT
5    stopped before its end: Kaggle refuses the credentials, or wants some
==== ==========================================================================================
"""

from __future__ import annotations

import argparse
import difflib
import gc
import os
import sys

from scrapy import Spider
from scrapy.commands.crawl import Command as ScrapyCrawl
from scrapy.crawler import Crawler
from scrapy.exceptions import UsageError
from scrapy.settings import BaseSettings
from scrapy.spiderloader import get_spider_loader
from scrapy.statscollectors import StatsCollector
from scrapy.utils.misc import load_object

from kagglecrawl.arguments import ArgumentError
from kagglecrawl.checks import check_folders, check_types, job_dir_of
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.extensions.report import ANEW
from kagglecrawl.kaggle.auth import CredentialsError, find_credentials
from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.spiders.base import KaggleSpider
from kagglecrawl.state import internals
from kagglecrawl.state.closing import left_behind
from kagglecrawl.state.job import Identity, Job, JobRefused
from kagglecrawl.state.scheduler import KaggleScheduler

COMPLETE, FAILED, USAGE, STOPPED, QUOTA, CREDENTIALS = range(6)
_BY_REASON = {
    "shutdown": STOPPED,
    "cancelled": STOPPED,
    "kaggle_quota": QUOTA,
    "kaggle_credentials": CREDENTIALS,
    "kaggle_job": USAGE,
    "memusage_exceeded": STOPPED,
    "kaggle_no_space": STOPPED,
    "s3_refused": STOPPED,
    "s3_unreachable": STOPPED,
}


def exit_code(stats: StatsCollector) -> int:
    """The exit code for a crawl that ended with these stats."""
    reason = str(stats.get_value("finish_reason", ""))
    if not reason or reason.startswith("closespider_"):  # none after a second Ctrl-C
        return STOPPED
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    return COMPLETE if stats.get_value("kaggle/complete") else FAILED


def unstored_feeds(stats: StatsCollector) -> int:
    """How many feeds could not be stored when the crawl ended."""
    head = "feedexport/failed_count/"
    return sum(count for name, count in stats.get_stats().items() if name.startswith(head))


class Command(ScrapyCrawl):
    """The command."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """One more than Scrapy's."""
        super().add_options(parser)
        parser.add_argument(
            "--help-args", action="store_true", help="show the spider's arguments and exit"
        )

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Check everything; what is wrong ends the command here, in one sentence."""
        try:
            super().process_options(args, opts)
            spider_class = self._spider_class(args)
            if opts.help_args:
                print(_help_args(spider_class))
                sys.exit(COMPLETE)
            if issubclass(spider_class, KaggleSpider):
                self._check(spider_class, opts)
        except UsageError as error:
            print("scrapy crawl:", " ".join(str(error).split()), file=sys.stderr)
            sys.exit(USAGE)
        except KeyboardInterrupt:
            print("scrapy crawl: interrupted before it began", file=sys.stderr)
            os._exit(STOPPED)  # nothing is to be waited for, such as a store that is frozen

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Crawl, and set the exit code."""
        assert self.crawler_process is not None
        spider_class = self.crawler_process.spider_loader.load(args[0])
        crawler = self._crawl(spider_class, opts.spargs)
        if self.crawler_process.bootstrap_failed:
            self.exitcode = FAILED
            return
        assert crawler.stats is not None
        if not issubclass(spider_class, KaggleSpider):
            if crawler.stats.get_value("finish_reason") in {"kaggle_job", "kaggle_failed"}:
                self.exitcode = exit_code(crawler.stats)
            return
        self.exitcode = exit_code(crawler.stats)
        self._say_unless_logged(crawler)
        if crawler.stats.get_value("finish_reason") is None:
            self._say_cut_off()
        if count := unstored_feeds(crawler.stats):
            feeds = "A feed" if count == 1 else f"{count} feeds"
            print(
                f"{feeds} could not be stored, so its rows are not where they should be: "
                "the log says why.",
                file=sys.stderr,
            )

    def _say_cut_off(self) -> None:
        """A second Ctrl-C, or something that hung at the first."""
        assert self.settings is not None
        if job_dir_of(self.settings):
            rest = "Nothing is lost: run the same command again to go on."
        else:
            rest = ANEW
        print(f"It was ended at once. {rest}", file=sys.stderr)

    def _crawl(self, spider_class: type[Spider], arguments: dict[str, str]) -> Crawler:
        assert self.crawler_process is not None
        # Not by Scrapy's own method, which warns that its exporter of feeds is off.
        crawler = self.crawler_process.create_crawler(spider_class)
        crawler.signals.connect(internals.stop_reactor, left_behind)
        self.crawler_process.crawl(crawler, **arguments)
        # What is loaded by now stays for good: the collector need not look through it again and
        # again (an eighth of the CPU of a call, measured by `make bench`).
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        self.crawler_process.start()
        gc.freeze()  # it all ends now: nothing is looked through a last time
        return crawler

    # -- checks -----------------------------------------------------------------------------------

    def _spider_class(self, args: list[str]) -> type[Spider]:
        assert self.settings is not None
        loader = get_spider_loader(self.settings)
        names = ", ".join(sorted(loader.list()))
        if options := [arg for arg in args if arg.startswith("-")]:
            raise UsageError(f"option {options[0]} is not known: see `scrapy crawl -h`")
        if len(args) != 1:
            raise UsageError(f"name one spider to run; there are: {names}")
        if args[0] not in loader.list():
            near = difflib.get_close_matches(args[0], loader.list(), n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {names}"
            raise UsageError(f"there is no spider {args[0]}: {hint}")
        return loader.load(args[0])

    def _check(self, spider_class: type[KaggleSpider], opts: argparse.Namespace) -> None:
        assert self.settings is not None
        try:
            args = spider_class.args_class.parse(opts.spargs)
            if getattr(args, "changed_only", False):
                # where nothing has changed, -O must not leave the changes of another day
                self.settings.set("FEED_STORE_EMPTY", True, priority="spider")
            check_types(self.settings)
            # not issubclass, which Scrapy's schedulers answer by the names of methods
            if KaggleScheduler not in load_object(self.settings["SCHEDULER"]).__mro__:
                raise SettingError(
                    f"SCHEDULER={self.settings['SCHEDULER']} would keep no accounts of what is "
                    "crawled: leave it as the project has it"
                )
            config = KaggleConfig.from_settings(self.settings)
            credentials = find_credentials()
            if config.transport == "official":
                from kagglecrawl.transport.official import check_official

                check_official(config.api_url)
            spider_class.check(args, config)
            check_folders(self.settings)
            _check_store(config)
            _warn_of_feeds(self.settings)
            if folder := job_dir_of(self.settings):
                given = spider_class.args_class.settled(opts.spargs)
                settings = self.settings.copy()
                spider_class.update_settings(settings)
                Job.check(folder, Identity.of(spider_class.name, given, settings))
        except (ArgumentError, SettingError, CredentialsError, JobRefused) as error:
            raise UsageError(str(error)) from None
        if credentials.anonymous:
            print(
                "No Kaggle credentials were found, so Kaggle is asked anonymously; what it then "
                "refuses ends the crawl. Set KAGGLE_API_TOKEN to a token from kaggle.com/settings.",
                file=sys.stderr,
            )

    def _say_unless_logged(self, crawler: Crawler) -> None:
        """The summary is in the log; say it on the terminal too when the log is elsewhere."""
        assert self.settings is not None
        assert crawler.stats is not None
        logged_here = (
            self.settings.getbool("LOG_ENABLED")
            and not self.settings.get("LOG_FILE")
            and str(self.settings.get("LOG_LEVEL")).upper() in {"DEBUG", "INFO"}
        )
        if logged_here:
            return
        print(crawler.stats.get_value("kaggle/summary", ""), file=sys.stderr)
        if stopped := getattr(crawler.spider, "stopped_because", ""):
            print(stopped, file=sys.stderr)


def _check_store(config: KaggleConfig) -> None:
    """Is the store there, and can it be written? Raises ``SettingError``."""
    try:
        bucket = config.bucket()
    except KaggleError as error:
        raise SettingError(str(error)) from None
    if bucket is not None:
        print(bucket.describe(), file=sys.stderr)


def _warn_of_feeds(settings: BaseSettings) -> None:
    """Nothing can be appended to an object."""
    for uri, options in settings.getdict("FEEDS").items():
        if str(uri).startswith("s3://") and not options.get("overwrite"):
            print(
                f"The feed {clean(str(uri))} is stored whole when the crawl ends: what is there "
                "under this name now is replaced.",
                file=sys.stderr,
            )


def _help_args(spider_class: type[Spider]) -> str:
    declared = getattr(spider_class, "args_class", None)
    body = declared.describe() if declared else "  none declared"
    return f"Arguments of `scrapy crawl {spider_class.name}`:\n{body}"
