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
from pathlib import Path
from typing import Any

from scrapy import Spider
from scrapy.commands.crawl import Command as ScrapyCrawl
from scrapy.crawler import Crawler
from scrapy.exceptions import UsageError
from scrapy.settings import SETTINGS_PRIORITIES, BaseSettings, default_settings
from scrapy.spiderloader import get_spider_loader
from scrapy.statscollectors import StatsCollector
from w3lib.url import file_uri_to_path

from kagglecrawl.arguments import ArgumentError
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.kaggle.auth import CredentialsError, find_credentials
from kagglecrawl.spiders.base import KaggleSpider

COMPLETE, FAILED, USAGE, STOPPED, QUOTA, CREDENTIALS = range(6)
_BY_REASON = {
    "shutdown": STOPPED,
    "cancelled": STOPPED,
    "kaggle_quota": QUOTA,
    "kaggle_credentials": CREDENTIALS,
}


def exit_code(stats: StatsCollector) -> int:
    """The exit code for a crawl that ended with these stats."""
    reason = str(stats.get_value("finish_reason", ""))
    if reason.startswith("closespider_"):
        return STOPPED
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    return COMPLETE if stats.get_value("kaggle/complete") else FAILED


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

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Crawl, and set the exit code."""
        assert self.crawler_process is not None
        spider_class = self.crawler_process.spider_loader.load(args[0])
        if not issubclass(spider_class, KaggleSpider):
            super().run(args, opts)
            return
        crawler = self._crawl(spider_class, opts.spargs)
        if self.crawler_process.bootstrap_failed:
            self.exitcode = FAILED
            return
        assert crawler.stats is not None
        self.exitcode = exit_code(crawler.stats)
        self._say_unless_logged(crawler)

    def _crawl(self, spider_class: type[Spider], arguments: dict[str, str]) -> Crawler:
        assert self.crawler_process is not None
        crawler = self._create_crawler(spider_class)
        self.crawler_process.crawl(crawler, **arguments)
        # What is loaded by now stays for good: the collector need not look through it again and
        # again (an eighth of the CPU of a call, measured by `make bench`).
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        self.crawler_process.start()
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
            spider_class.args_class.parse(opts.spargs)
            check_types(self.settings)
            config = KaggleConfig.from_settings(self.settings)
            credentials = find_credentials()
            if config.transport == "official":
                from kagglecrawl.transport.official import check_official

                check_official(config.api_url)
        except (ArgumentError, SettingError, CredentialsError) as error:
            raise UsageError(str(error)) from None
        _check_folders(self.settings, spider_class)
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


def _help_args(spider_class: type[Spider]) -> str:
    declared = getattr(spider_class, "args_class", None)
    body = declared.describe() if declared else "  none declared"
    return f"Arguments of `scrapy crawl {spider_class.name}`:\n{body}"


def check_types(settings: BaseSettings) -> None:
    """Refuse numbers that are none, where Scrapy would fail with a traceback later."""
    for name, default in vars(default_settings).items():
        priority = settings.getpriority(name) if name.isupper() else None
        if priority is None or priority < SETTINGS_PRIORITIES["project"]:
            continue
        value, kind = settings.get(name), type(default)
        if kind is int and name.endswith(("_DELAY", "_TIMEOUT", "_INTERVAL")):
            kind = float  # seconds, though the default is a whole number
        reader: Any = {bool: settings.getbool, int: settings.getint, float: settings.getfloat}.get(
            kind
        )
        try:
            if reader and reader(name) < 0 and name.startswith(("CONCURRENT", "DOWNLOAD", "AUTO")):
                raise ValueError
        except (ValueError, TypeError):
            words = {
                bool: "True or False",
                int: "a whole number from 0 up",
                float: "a number from 0 up",
            }
            raise SettingError(f"{name}={value} is wrong: write {words[kind]}") from None


def _check_folders(settings: BaseSettings, spider_class: type[KaggleSpider]) -> None:
    """Every folder that will be written to can be made and written; nothing is created."""
    if jobdir := job_dir_of(settings):
        _writable(jobdir, f"JOBDIR={jobdir}")
    feeds = settings.getdict("FEEDS")
    if not feeds:
        workspace = KaggleConfig.from_settings(settings).workspace
        _writable(workspace, f"WORKSPACE={workspace}")
    for uri in feeds:
        path = _local_path(str(uri))
        if path is not None and "%(" not in str(path):
            if path.is_dir():
                raise UsageError(f"the feed {uri} is a folder: name a file")
            _writable(path.parent, f"the feed {uri}")
            if path.exists() and not os.access(path, os.W_OK):
                raise UsageError(f"the feed {uri} cannot be written: check who owns it")


def job_dir_of(settings: BaseSettings) -> Path | None:
    """The job directory, or None; Scrapy's own reader would create it."""
    value = settings.get("JOBDIR")
    return Path(value) if value else None


def _local_path(uri: str) -> Path | None:
    if uri.startswith("file:"):
        return Path(file_uri_to_path(uri))
    return None if "://" in uri or uri in {"-", "stdout:"} else Path(uri)


def _writable(folder: Path, what: str) -> None:
    """The folder, or the nearest one above it that exists, is a folder and can be written."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise UsageError(f"{what}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{what}: {there} cannot be written: check who owns it")
