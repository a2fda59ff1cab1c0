"""What the log shows: short, and never a secret.

A signed URL is a secret: queries and user names are cut from every URL that is logged. Items are
named, not printed. Scrapy prints all overridden settings when it starts, keys of AWS among them:
those are replaced.
"""

from __future__ import annotations

import logging
import pprint
import re
from typing import Any

from scrapy import Request, Spider
from scrapy.http import Response
from scrapy.logformatter import LogFormatter, LogFormatterResult
from scrapy.settings import Settings, overridden_settings
from twisted.python.failure import Failure

from kagglecrawl.kaggle.errors import StopCrawl
from kagglecrawl.kaggle.redaction import clean

_SECRET_NAME = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|AUTH|PROXY", re.IGNORECASE)


def clean_setting(name: str, value: Any) -> Any:
    """A setting's value as it may be shown."""
    if _SECRET_NAME.search(name) and value and not isinstance(value, bool):
        return "***"
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): clean_setting(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [clean_setting("", each) for each in value]
    return value


class QuietLogFormatter(LogFormatter):
    """Scrapy's messages with URLs cleaned and items named by their key."""

    def crawled(  # type: ignore[override]  # Scrapy takes None for "no line"
        self, request: Request, response: Response, spider: Spider
    ) -> LogFormatterResult | None:
        """One line at DEBUG; not even made unless it would be shown."""
        if not logging.getLogger("scrapy.core.engine").isEnabledFor(logging.DEBUG):
            return None
        return _cleaned(super().crawled(request, response, spider), request=f"{request}")

    def scraped(
        self, item: Any, response: Response | Failure | None, spider: Spider
    ) -> LogFormatterResult:
        """The item's key."""
        return {"level": logging.DEBUG, "msg": "Scraped %(item)s", "args": {"item": _name(item)}}

    def dropped(
        self, item: Any, exception: BaseException, response: Any, spider: Spider
    ) -> LogFormatterResult:
        """The item's key and the reason."""
        result = super().dropped(item, exception, response, spider)
        args = {"item": _name(item), "exception": clean(str(exception))}
        return {"level": result["level"], "msg": "Dropped %(item)s: %(exception)s", "args": args}

    def item_error(
        self, item: Any, exception: BaseException, response: Any, spider: Spider
    ) -> LogFormatterResult:
        """The item's key; the traceback follows. Where the crawl ends for it, that says why."""
        args = {"item": _name(item)}
        level = logging.DEBUG if isinstance(exception, StopCrawl) else logging.ERROR
        return {"level": level, "msg": "Error processing %(item)s", "args": args}

    def spider_error(
        self, failure: Failure, request: Request, response: Any, spider: Spider
    ) -> LogFormatterResult:
        """The request; the traceback follows."""
        return _cleaned(super().spider_error(failure, request, response, spider))

    def download_error(
        self, failure: Failure, request: Request, spider: Spider, errmsg: str | None = None
    ) -> LogFormatterResult:
        """The request and what went wrong."""
        return _cleaned(super().download_error(failure, request, spider, errmsg))


def _name(item: Any) -> str:
    return f"{type(item).__name__} {getattr(item, 'key', '')}".strip()


def _cleaned(result: LogFormatterResult, **more: Any) -> LogFormatterResult:
    args = result["args"]
    if isinstance(args, dict):
        shown = {**args, **more}
        result["args"] = {
            name: clean(str(value)) if isinstance(value, str | Request) else value
            for name, value in shown.items()
        }
    return result


class _OverriddenSettings(logging.Filter):
    """Cleans the record in which Scrapy prints the settings of a crawl."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, dict) and "Overridden settings" in str(record.msg):
            overridden = dict(overridden_settings(self._settings))
            shown = {name: clean_setting(name, value) for name, value in overridden.items()}
            record.args = {"settings": pprint.pformat(shown)}
        return True


class _Addresses(logging.Filter):
    """Cleans records that name a feed, whose address may hold a password."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = clean(record.getMessage()), ()
        return True


#: At DEBUG these show keys, tokens and signatures.
_TALKATIVE = ("boto3", "botocore", "s3transfer")


class RedactSettings:
    """Scrapy add-on: installs the filters above before a crawl logs anything, and keeps what AWS's
    packages say of each request out of the log."""

    def update_settings(self, settings: Settings) -> None:
        """Called by Scrapy for every crawler."""
        _install(_OverriddenSettings(settings), "scrapy.crawler")
        _install(_Addresses(), "scrapy.extensions.feedexport")
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.INFO)


def _install(new: logging.Filter, name: str) -> None:
    """Add the filter to a logger, in place of one of its kind."""
    logger = logging.getLogger(name)
    for old in [each for each in logger.filters if type(each) is type(new)]:
        logger.removeFilter(old)
    logger.addFilter(new)
