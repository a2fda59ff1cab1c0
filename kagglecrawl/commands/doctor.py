"""``scrapy doctor``: checks the set-up, probes the API, and saves what the crawler can use.

==== ==========================================================================================
code meaning
==== ==========================================================================================
0    fine: what a crawl needs is there; what differs from the assumptions is in the table
1    something does not work: it is named
2    wrong usage: an option, a setting or credentials that cannot be used; nothing was asked
3    stopped by Ctrl-C or SIGTERM
4    Kaggle asks to wait: what was found until then is told and saved
5    Kaggle refuses the credentials, or wants some for what a crawl needs
==== ==========================================================================================
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError

from kagglecrawl import findings
from kagglecrawl.checks import check_types
from kagglecrawl.commands.crawl import (
    COMPLETE,
    CREDENTIALS,
    FAILED,
    QUOTA,
    STOPPED,
    USAGE,
)
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.doctor import lessons, text
from kagglecrawl.doctor.checks import examine
from kagglecrawl.doctor.probes import LIMIT, SIGN_IN, Evidence, planned
from kagglecrawl.doctor.questions import anonymous_access
from kagglecrawl.doctor.spider import DoctorSpider, LimitReached
from kagglecrawl.doctor.verdicts import plural, shape
from kagglecrawl.kaggle.errors import (
    CredentialsNeeded,
    CredentialsRefused,
    NoReply,
    Throttled,
)


class Command(ScrapyCommand):
    """The command."""

    requires_project = True

    def short_desc(self) -> str:
        """One line for the list of commands."""
        return "Check the set-up and probe Kaggle's API"

    def long_desc(self) -> str:
        """What the help says."""
        return (
            f"Checks the set-up, asks the API at most {LIMIT} requests, prints what was found "
            "against what is assumed, and saves what the crawler can use."
        )

    def syntax(self) -> str:
        """What follows the command's name."""
        return "[options]"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """One more than Scrapy's."""
        super().add_options(parser)
        parser.add_argument("--no-save", action="store_true", help="print only, and save nothing")

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Refuse what is not known, in one sentence."""
        assert self.settings is not None
        # the table says it all; priority 30 is below what is given with -L
        self.settings.set("LOG_LEVEL", "WARNING", priority="spider")
        try:
            super().process_options(args, opts)
            if args:
                raise UsageError(f"{args[0]} is not known: see `scrapy doctor -h`")
            check_types(self.settings)
        except (UsageError, SettingError) as error:
            print("scrapy doctor:", error, file=sys.stderr)
            sys.exit(USAGE)

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Examine, ask, tell, save, and set the exit code."""
        assert self.settings is not None
        setup = examine(self.settings)
        print("Set-up\n" + text.checks(setup.checks) + "\n")
        if setup.config is None or setup.credentials is None:
            print("Nothing was asked: correct what is wrong first.")
            self.exitcode = USAGE
            return
        spider = self._ask(setup.config)
        if spider is None:
            self.exitcode = FAILED
            return
        if spider.evidence.throttled or any(a.status for a in spider.evidence.answers.values()):
            print(text.table(spider.evidence) + "\n")
        self.exitcode, sentences = _outcome(spider)
        if not setup.passed:
            sentences.append("The set-up has something wrong: see above.")
            self.exitcode = self.exitcode or FAILED
        if sentences:
            print(text.paragraph(sentences) + "\n")
        self._learn(spider, setup.config, save=not opts.no_save)

    def _ask(self, config: KaggleConfig) -> DoctorSpider | None:
        """Send the probes; None if Scrapy could not even begin."""
        assert self.crawler_process is not None
        official = config.transport == "official"
        sentences = [
            f"Probing {config.api_url}: {planned(official=official)} requests planned,",
            f"{LIMIT} at most with those that are repeated.",
        ]
        if official:
            sentences.append(f"The official package signs in by up to {SIGN_IN} of these.")
        print(text.paragraph(sentences), flush=True)
        crawler = self.crawler_process.create_crawler(DoctorSpider)
        self.crawler_process.crawl(crawler)
        self.crawler_process.start()
        if self.crawler_process.bootstrap_failed:
            return None
        assert isinstance(crawler.spider, DoctorSpider)
        done = "given to the official package" if official else "sent"
        print(f"{plural(crawler.spider.asked, 'request')} {done}.\n")
        return crawler.spider

    def _learn(self, spider: DoctorSpider, config: KaggleConfig, *, save: bool) -> None:
        """Say what follows for the crawler, and save it."""
        if not lessons.answered(spider.evidence):
            print("Nothing was saved: no list was answered.")
            return
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        report = lessons.learn(spider.evidence, findings.load(config), now)
        print(text.paragraph(["What the crawler does by this:", *lessons.consequences(report)]))
        if not save:
            print("Nothing was saved, as --no-save asks.")
            return
        try:
            findings.save(config, report)
        except OSError as error:
            print(f"It cannot be saved to {config.findings}: {error.strerror}.")
            self.exitcode = self.exitcode or FAILED
        else:
            print(f"Saved to {config.findings}.")


def _outcome(spider: DoctorSpider) -> tuple[int, list[str]]:
    """The exit code, and what there is to say of the probing as a whole."""
    evidence, ended = spider.evidence, spider.ended_because
    if spider.finish_reason != "finished":
        return STOPPED, ["It was stopped: what is unknown above was not probed."]
    assert spider.crawler.stats is not None
    if spider.crawler.stats.get_value("spider_exceptions/count"):
        return FAILED, ["kagglecrawl failed on an answer, see the log: please report it."]
    if isinstance(ended, Throttled):
        return QUOTA, [
            f"{ended}. {_wait_asked(ended)}: what is unknown above was not probed, "
            "run it again after that."
        ]
    if isinstance(ended, CredentialsRefused | CredentialsNeeded):
        return CREDENTIALS, [_credentials(evidence) or f"{ended}."]
    if isinstance(ended, NoReply):
        return FAILED, [f"{ended}. Check the network and KAGGLE_API_URL, then run it again."]
    if isinstance(ended, LimitReached):
        return COMPLETE if evidence.good("list") else FAILED, [f"{ended}."]
    if ended is not None:
        return FAILED, [f"{ended}."]
    if not evidence.known:
        return _anonymous(evidence)
    read = [name for name in evidence.answers if name.startswith("metadata ")]
    if read and not any(evidence.good(name) for name in read):
        return FAILED, [f"No metadata could be had: {evidence.answers[read[-1]].error}."]
    return COMPLETE, []


def _credentials(evidence: Evidence) -> str:
    """What to say of credentials that Kaggle refused; nothing if it was not Kaggle's refusal."""
    answer = evidence.get("list")
    if answer is None or not answer.status:
        return ""
    return (
        f"Kaggle refuses the credentials from {evidence.source} ({shape(answer)}): create a token "
        "on kaggle.com/settings and set KAGGLE_API_TOKEN."
    )


def _wait_asked(error: Throttled) -> str:
    if error.delay is None:
        return "Kaggle does not say how long to wait"
    return f"Kaggle asks to wait {error.delay:.0f} s"


def _anonymous(evidence: Evidence) -> tuple[int, list[str]]:
    answered, refused = (", ".join(methods) for methods in anonymous_access(evidence))
    sentences = [f"Asked anonymously, Kaggle answers {answered or 'nothing'}."]
    if refused:
        sentences.append(
            f"It refuses {refused}: for these create a token on kaggle.com/settings and set "
            "KAGGLE_API_TOKEN."
        )
    read = any(evidence.good(name) for name in evidence.answers if name.startswith("metadata "))
    return COMPLETE if evidence.good("list") and read else CREDENTIALS, sentences
