"""What ``scrapy doctor`` does: examines the set-up, asks the API, tells, and saves."""

from __future__ import annotations

from datetime import UTC, datetime

from scrapy.crawler import CrawlerProcessBase
from scrapy.settings import BaseSettings

from kagglecrawl import findings
from kagglecrawl.commands.crawl import (
    COMPLETE,
    CREDENTIALS,
    FAILED,
    QUOTA,
    STOPPED,
    USAGE,
)
from kagglecrawl.config import KaggleConfig
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
from kagglecrawl.units import duration

#: Scrapy's finish reason where nothing may be sent for longer than KAGGLE_MAX_WAIT.
SPENT = "kaggle_quota"


class Console:
    """One run of it."""

    def __init__(self, settings: BaseSettings, crawler_process: CrawlerProcessBase) -> None:
        self._settings = settings
        self._crawler_process = crawler_process

    def run(self, *, save: bool) -> int:
        """Examine, ask, tell and save; returns the exit code."""
        setup = examine(self._settings)
        print("Set-up\n" + text.checks(setup.checks) + "\n")
        if setup.config is None or setup.credentials is None:
            print("Nothing was asked: correct what is wrong first.")
            return USAGE
        spider = self._ask(setup.config)
        if spider is None:
            return FAILED
        if spider.evidence.throttled or any(a.status for a in spider.evidence.answers.values()):
            print(text.table(spider.evidence) + "\n")
        code, sentences = _outcome(spider)
        if not setup.passed:
            sentences.append("The set-up has something wrong: see above.")
            code = code or FAILED
        if sentences:
            print(text.paragraph(sentences) + "\n")
        saved = self._learn(spider, setup.config, save=save)
        return code if saved else code or FAILED

    def _ask(self, config: KaggleConfig) -> DoctorSpider | None:
        """Send the probes; None if Scrapy could not even begin."""
        official = config.transport == "official"
        sentences = [
            f"Probing {config.api_url}: {planned(official=official)} requests planned,",
            f"{LIMIT} at most with those that are repeated.",
        ]
        if official:
            sentences.append(f"The official package signs in by up to {SIGN_IN} of these.")
        print(text.paragraph(sentences), flush=True)
        crawler = self._crawler_process.create_crawler(DoctorSpider)
        self._crawler_process.crawl(crawler)
        self._crawler_process.start()
        if self._crawler_process.bootstrap_failed:
            return None
        assert isinstance(crawler.spider, DoctorSpider)
        done = "given to the official package" if official else "sent"
        # one at a time: the one that a spent quota has kept back was not sent
        count = crawler.spider.asked - (crawler.spider.finish_reason == SPENT)
        print(f"{plural(count, 'request')} {done}.\n")
        return crawler.spider

    def _learn(self, spider: DoctorSpider, config: KaggleConfig, *, save: bool) -> bool:
        """Say what follows for the crawler, and save it; False if it should be and cannot."""
        if not lessons.answered(spider.evidence):
            print("Nothing was saved: no list was answered.")
            return True
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        report = lessons.learn(spider.evidence, findings.load(config), now)
        print(text.paragraph(["What the crawler does by this:", *lessons.consequences(report)]))
        if not save:
            print("Nothing was saved, as --no-save asks.")
            return True
        try:
            findings.save(config, report)
        except OSError as error:
            print(f"It cannot be saved to {config.findings}: {error.strerror}.")
            return False
        print(f"Saved to {config.findings}.")
        return True


def _outcome(spider: DoctorSpider) -> tuple[int, list[str]]:
    """The exit code, and what there is to say of the probing as a whole."""
    evidence, ended = spider.evidence, spider.ended_because
    if spider.finish_reason == SPENT:
        return QUOTA, [f"{spider.stopped_because}. What is unknown above was not probed."]
    if spider.finish_reason == "kaggle_job":  # the file of the quotas, say
        return USAGE, [f"{spider.stopped_because}."]
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
    return f"Kaggle asks to wait {duration(error.delay)}"


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
