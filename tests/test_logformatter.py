"""What the log shows, and what it must not."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import Request, Spider
from scrapy.http import Response
from scrapy.utils.test import get_crawler
from twisted.python.failure import Failure

from kagglecrawl.items import Dataset
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.logformatter import QuietLogFormatter, clean_setting
from kagglecrawl.pipelines import SkipItem

SIGNED = "https://storage.googleapis.com/a.zip?X-Goog-Signature=HUSH&X-Goog-Expires=9"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nothing to hide", "nothing to hide"),
        ("https://api.kaggle.com/v1/x", "https://api.kaggle.com/v1/x"),
        ("https://h/a?x=HUSH", "https://h/a?…"),
        ("HTTPS://h/a?x=HUSH", "HTTPS://h/a?…"),
        ("<GET https://h/a?x=HUSH> (referer: None)", "<GET https://h/a?…> (referer: None)"),
        ("https://me:HUSH@h/a", "https://***@h/a"),
        ("s3://AKIA:SEC/RET@bucket/key", "s3://***@bucket/key"),
        ("https://me:SE@CRET@h/a?HUSH", "https://***@h/a?…"),
        ("postgres://me:HUSH@h:5432/db", "postgres://***@h:5432/db"),
        ("ftp://h/a and gs://b/c?HUSH", "ftp://h/a and gs://b/c?…"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "https://h/a#access_token=HUSH",
        "https:\\/\\/h\\/a?sig=HUSH",
        "('https://h/a?sig=HUSH', 5)",
        '{"url": "https://h/a?a=b&sig=HUSH"}',
        "https://h/a?user=me@x.org&sign=HUSH",
        "https://h/a?b='c'&sig=HUSH",
        "h.example/a.zip?X-Goog-Signature=HUSH",
        "https://h/a?x=1\thttps://h/b?sig=HUSH",
        "https://me:a'HUSH@h/a",
    ],
)
def test_clean_leaves_no_secret(text: str) -> None:
    assert "HUSH" not in clean(text)


@given(st.text(max_size=200) | st.text("ht:/?#@&=. '\"\\\n", max_size=60))
def test_clean_changes_nothing_twice_and_leaves_no_control_character(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert "\x1b" not in once


@given(st.text("abc/:@.?#=&%'\"", max_size=40))
def test_whatever_follows_a_question_mark_is_gone(tail: str) -> None:
    assert "HUSH" not in clean(f"see https://h/a?{tail}HUSH now")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("AWS_SECRET_ACCESS_KEY", "HUSH", "***"),
        ("AWS_ACCESS_KEY_ID", "HUSH", "***"),
        ("AWS_SESSION_TOKEN", "HUSH", "***"),
        ("MAIL_PASS" + "WORD", 12345678, "***"),
        ("KAGGLE_API_TOKEN", "HUSH", "***"),
        ("HTTP_PROXY", "http://me:HUSH@h", "***"),
        ("AWS_SECRET_ACCESS_KEY", None, None),
        ("AWS_ACCESS_KEY_ID", "", ""),
        ("HTTPPROXY_AUTH_ENABLED", True, True),
        ("CONCURRENT_REQUESTS", 8, 8),
        ("KAGGLE_API_URL", "https://me:HUSH@h", "https://***@h"),
        ("BOT_NAME", "kagglecrawl", "kagglecrawl"),
        ("FEEDS", {"s3://A:HUSH@b/k": {"format": "csv"}}, {"s3://***@b/k": {"format": "csv"}}),
        ("X", {"password": "HUSH", "n": 5}, {"password": "***", "n": 5}),
        ("X", {"y": {"token": "HUSH"}}, {"y": {"token": "***"}}),
    ],
)
def test_clean_setting(name: str, value: Any, shown: Any) -> None:
    assert clean_setting(name, value) == shown


@pytest.mark.parametrize("kind", [list, tuple, set])
def test_clean_setting_looks_into_collections(kind: type) -> None:
    assert "HUSH" not in str(clean_setting("X", kind(["s3://A:HUSH@b", "https://h/?HUSH"])))


# -- messages --------------------------------------------------------------------------------------

ITEM = Dataset("a/b", "HUSH title", "", 0, 0.9, [], [], [], "HUSH text", None)
REQUEST = Request(SIGNED, headers={"Authorization": "Bearer HUSH"})


def shown(result: Any) -> str:
    """As logging would write it."""
    return f"{result['msg'] % result['args']}"


@pytest.fixture
def spider() -> Spider:
    """One that knows its crawler, as every running one does."""
    return Spider.from_crawler(get_crawler(), name="x")


def test_messages_name_items_and_clean_addresses(
    spider: Spider, caplog: pytest.LogCaptureFixture
) -> None:
    formatter = QuietLogFormatter()
    caplog.set_level(logging.DEBUG, logger="scrapy.core.engine")
    response = Response(SIGNED, status=200, request=REQUEST)
    failure = Failure(ValueError("no"))  # type: ignore[no-untyped-call]
    skipped = SkipItem("usability", f"poor: {SIGNED}")
    messages = [
        formatter.crawled(REQUEST, response, spider),
        formatter.scraped(ITEM, response, spider),
        formatter.dropped(ITEM, skipped, response, spider),
        formatter.item_error(ITEM, ValueError("no"), response, spider),
        formatter.spider_error(failure, REQUEST, response, spider),
        formatter.download_error(failure, REQUEST, spider),
        formatter.download_error(failure, REQUEST, spider, f"cannot reach {SIGNED}"),
    ]
    for message in messages:
        assert "HUSH" not in shown(message)
    assert shown(messages[0]).startswith("Crawled (200) <GET https://storage.googleapis.com/a.zip?")
    assert shown(messages[1]) == "Scraped Dataset a/b"
    assert shown(messages[2]).startswith("Dropped Dataset a/b: poor: https://storage")
    assert shown(messages[3]) == "Error processing Dataset a/b"


def test_a_line_that_nobody_would_see_is_not_made(
    spider: Spider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="scrapy.core.engine")
    response = Response(SIGNED, request=REQUEST)
    assert QuietLogFormatter().crawled(REQUEST, response, spider) is None


def test_an_item_of_another_kind_is_named_by_its_class(spider: Spider) -> None:
    message = QuietLogFormatter().scraped({"secret": "HUSH"}, None, spider)
    assert shown(message) == "Scraped dict"


# -- the settings that Scrapy prints ---------------------------------------------------------------


def test_the_record_of_overridden_settings_is_cleaned(caplog: pytest.LogCaptureFixture) -> None:
    """Scrapy's own record, made by its own code: the filter must know it."""
    given_settings = {
        "ADDONS": {"kagglecrawl.logformatter.RedactSettings": 0},
        "AWS_SECRET_ACCESS_KEY": "HUSH",
        "AWS_ENDPOINT_URL": "https://me:HUSH@h",
        "CONCURRENT_ITEMS": 7,
    }
    with caplog.at_level(logging.INFO, logger="scrapy.crawler"):
        get_crawler(settings_dict=given_settings)
    told = [each for each in caplog.messages if "Overridden settings" in each]
    assert len(told) == 1
    assert "HUSH" not in caplog.text
    assert "'AWS_SECRET_ACCESS_KEY': '***'" in told[0]
    assert "'AWS_ENDPOINT_URL': 'https://***@h'" in told[0]
    assert "'CONCURRENT_ITEMS': 7" in told[0]


def test_the_filter_is_that_of_the_last_crawler_alone() -> None:
    addons = {"kagglecrawl.logformatter.RedactSettings": 0}
    for _ in range(3):
        get_crawler(settings_dict={"ADDONS": addons})
    filters = [type(each).__name__ for each in logging.getLogger("scrapy.crawler").filters]
    assert filters.count("_OverriddenSettings") == 1


@pytest.fixture(autouse=True)
def _filters() -> Any:
    """Take away what the add-on installed."""
    logger = logging.getLogger("scrapy.crawler")
    before = list(logger.filters)
    yield
    logger.filters[:] = before
