"""Requests there and back: what is kept, what is refused, and that no secret is told."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy import FormRequest, Request, Spider
from scrapy.downloadermiddlewares.httpproxy import HttpProxyMiddleware
from scrapy.http import JsonRequest, Response, XmlRpcRequest
from scrapy.utils.test import get_crawler

from kagglecrawl.kaggle import rpc
from kagglecrawl.state.codec import NotSerializable, decode, encode


class Named(Spider):
    """A spider with methods to name."""

    name = "named"

    def parse(self, response: Response) -> None:
        """Public."""

    def other(self, response: Response) -> None:
        """Another."""

    def failed(self, failure: object) -> None:
        """An errback."""

    def _private(self, response: Response) -> None:
        """Ours all the same."""

    posing = staticmethod(lambda response: None)


class Paged(Request):
    """A kind of request of a project's own."""

    attributes = (*Request.attributes, "page")

    def __init__(self, *args: Any, page: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.page = page


SPIDER = Named()
ATTRIBUTES = sorted({*Request.attributes} - {"callback", "errback", "headers"})


def there_and_back(request: Request) -> Request:
    data = encode(request, SPIDER)
    data.encode()  # what SQLite does with it
    return decode(data, Named())  # as the next run's spider


def same(one: Request, other: Request) -> None:
    assert type(one) is type(other)
    for name in ATTRIBUTES:
        assert getattr(one, name) == getattr(other, name), name
    for name in ("callback", "errback"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert (mine and mine.__name__) == (theirs and theirs.__name__)
        assert theirs is None or isinstance(theirs.__self__, Named)
    assert one.headers.to_string() == other.headers.to_string()


# -- there and back --------------------------------------------------------------------------------

URL = "https://h/a?b=1#c"
EVERY: dict[str, dict[str, Any]] = {
    "nothing": {},
    "callback": {"callback": SPIDER.other},
    "private callback": {"callback": SPIDER._private},
    "errback": {"errback": SPIDER.failed, "callback": SPIDER.parse},
    "method": {"method": "PUT"},
    "headers": {"headers": {"Accept": ["a/b", "c/d"], "X-Odd": "é", "X-Bytes": b"\xff"}},
    "text": {"body": "Grüße 🎉\x00\n"},
    "bytes": {"body": b"\xff\xfe\x00 not a text"},
    "cookies": {"cookies": {"a": "1", "b": "ü"}},
    "list of cookies": {"cookies": [{"name": "a", "value": "1", "domain": "h", "path": "/"}]},
    "meta": {"meta": {"key": "a/b", "deep": {"x": [1, 2.5, None, True, "é"]}, "proxy": None}},
    "proxy": {"meta": {"proxy": "http://127.0.0.1:3128"}},
    "arguments": {"cb_kwargs": {"row": {"title": "x"}, "n": None}},
    "flags": {"flags": ["one", "two"]},
    "priority": {"priority": -7},
    "filter": {"dont_filter": True},
    "encoding": {"encoding": "latin-1", "body": "é", "headers": {"X": "é"}},
    "bytes in another encoding": {"encoding": "latin-1", "body": "é".encode()},
    "bytes that are no text there": {"encoding": "ascii", "body": "é".encode()},
}


@pytest.mark.parametrize("name", EVERY)
def test_every_field(name: str) -> None:
    request = Request(URL, **EVERY[name])
    same(request, there_and_back(request))


def test_all_fields_at_once() -> None:
    fields = {"callback", "errback", "method", "headers", "body", "cookies", "meta", "encoding"}
    fields |= {"url", "cb_kwargs", "flags", "priority", "dont_filter"}
    assert set(Request.attributes) == fields, "Scrapy has a new one: is it kept?"
    merged = {k: v for name in EVERY if "bytes" not in name for k, v in EVERY[name].items()}
    request = Request(URL, **merged)
    same(request, there_and_back(request))


@pytest.mark.parametrize(
    "request_",
    [
        FormRequest(URL, formdata={"a": ["1", "é"], "b": "2"}, callback=SPIDER.parse),
        FormRequest(URL, formdata={"a": "1"}, method="GET"),
        JsonRequest(URL, data={"a": [1, None]}, dumps_kwargs={"indent": 2}),
        JsonRequest(URL, data=[], method="PUT", priority=3),
        JsonRequest(URL),
        XmlRpcRequest(URL, params=(1, "é"), methodname="call"),
        Paged(URL, page=7),
        rpc.LIST_DATASETS.request("https://k", fields={"search": "x"}, meta={"family": "api"}),
    ],
    ids=lambda request: type(request).__name__,
)
def test_every_kind(request_: Request) -> None:
    again = there_and_back(request_)
    same(request_, again)
    for name in ("dumps_kwargs", "page"):
        assert getattr(again, name, None) == getattr(request_, name, None)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(), each, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4), st.binary(max_size=60))
def test_whatever_kaggle_says(row: dict[str, Any], body: bytes) -> None:
    """A row of a list waits in its request's arguments until it is asked for."""
    request = Request(URL, method="POST", body=body, cb_kwargs={"row": row})
    again = there_and_back(request)
    assert (again.cb_kwargs, again.body) == (request.cb_kwargs, body)


@pytest.mark.parametrize("text", [r'"half \ud83d of a pair"', r'{"\udc00": ["\udfff"]}'])
def test_half_of_a_surrogate_pair(text: str) -> None:
    """As JSON may hold, and SQLite may not."""
    row = json.loads(text)
    assert there_and_back(Request(URL, cb_kwargs={"row": row})).cb_kwargs == {"row": row}


def test_nothing_is_written_that_goes_without_saying() -> None:
    assert json.loads(encode(Request(URL), SPIDER)) == {"url": URL}


@pytest.mark.parametrize(
    "value", [(1, 2), {"deep": [(1,)]}, {1: "a"}, {"deep": [{2020: "a"}]}, {None: 1}, {True: 1}]
)
def test_what_json_would_change_is_not_changed_unseen(value: Any) -> None:
    """Kept as it is or refused; never something else after a restart than before it."""
    for request in (Request(URL, cb_kwargs={"x": value}), Request(URL, meta={"x": value})):
        try:
            again = there_and_back(request)
        except NotSerializable:
            continue
        assert (again.cb_kwargs or again.meta) == (request.cb_kwargs or request.meta)


# -- refused ---------------------------------------------------------------------------------------

SECRET = "hunter2-S3CR3T"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"headers": {"Authorization": f"Bearer {SECRET}"}}, "Authorization is a secret"),
        ({"headers": {"aUTHORIZATION": SECRET}}, "Authorization is a secret"),
        ({"meta": {"proxy": f"http://me:{SECRET}@p:3128"}}, "set HTTPS_PROXY"),
        ({"url": f"https://me:{SECRET}@h/a"}, "secret"),
    ],
)
def test_a_secret_is_refused_and_not_repeated(given: dict[str, Any], words: str) -> None:
    request = Request(**{"url": f"https://h/path?X-Amz-Signature={SECRET}", **given})
    with pytest.raises(NotSerializable) as refused:
        encode(request, SPIDER)
    assert words in str(refused.value)
    assert SECRET not in repr(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def posing(response: Response) -> None:
    """Not a method at all, though it is called like one."""


posing.__name__ = "parse"


class Other(Spider):
    name = "other"

    def parse(self, response: Response) -> None:
        """Of another spider."""


@pytest.mark.parametrize(
    "callback",
    [
        lambda response: None,
        functools.partial(SPIDER.parse),
        posing,
        SPIDER.posing,
        Other().parse,
        Named().parse,
        print,
    ],
    ids=["lambda", "partial", "function", "static", "another spider", "its twin", "builtin"],
)
@pytest.mark.parametrize("role", ["callback", "errback"])
def test_what_has_no_name_in_the_spider_is_refused(callback: Any, role: str) -> None:
    request = Request(URL)
    setattr(request, role, callback)
    with pytest.raises(NotSerializable, match=re.escape("GET https://h/a: ")) as refused:
        encode(request, SPIDER)
    assert "no method of the spider named" in str(refused.value)


def test_a_method_under_the_name_of_another_is_not_taken_for_it() -> None:
    class Decorated(Named):
        @functools.wraps(Named.parse)
        def wrapped(self, response: Response) -> None:
            """Says that it is ``parse``."""

    spider = Decorated()
    callback: Any = spider.wrapped
    try:
        again: Any = decode(encode(Request(URL, callback=callback), spider), spider).callback
    except NotSerializable:
        return
    assert again == callback


@pytest.mark.parametrize(
    "given",
    [
        {"cb_kwargs": {"response": Response(URL)}},
        {"meta": {"found": {1, 2}}},
        {"cookies": {"a": b"bytes"}},
        {"meta": {b"key": 1}},
    ],
)
def test_what_is_no_json_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(NotSerializable, match="GET https://h/a: "):
        encode(Request(URL, **given), SPIDER)


def test_what_has_no_end_is_refused() -> None:
    circle: dict[str, Any] = {}
    circle["circle"] = circle
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (circle, deep):
        with pytest.raises(NotSerializable):
            encode(Request(URL, cb_kwargs={"x": value}), SPIDER)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('{"url": "https://h/a", "callback": "gone"}', "named has no method gone"),
        ('{"url": "https://h/a", "errback": "gone"}', "named has no method gone"),
        ('{"url": "https://h/a", "class": "nowhere.at.all.Request"}', "nowhere"),
        ('{"url": "https://h/a", "class": "scrapy.http.Gone"}', "Gone"),
        ('{"url": "https://h/a", "class": "os.system"}', ""),
        ('{"url": "https://h/a", "callback": "name"}', "callable"),
        ('{"url": "no address"}', "scheme"),
        ('{"url": "https://h/a", "unknown": 1}', "unknown"),
        ('{"method": "GET"}', "url"),
        ('{"url": "https://h', ""),
        ("[]", ""),
        ("", ""),
    ],
)
def test_a_request_that_cannot_be_made_again_says_why(data: str, words: str) -> None:
    with pytest.raises((ValueError, TypeError)) as refused:
        decode(data, SPIDER)
    assert words in str(refused.value)


def test_damaged_data_is_a_value_error_or_a_request() -> None:
    """Whatever is left of a file that was damaged: the scheduler goes on with the next one."""
    whole = encode(
        JsonRequest(
            URL, data={"a": 1}, headers={"X": "1"}, callback=SPIDER.parse, meta={"key": "a/b"}
        ),
        SPIDER,
    )
    generator = random.Random(3)
    for _ in range(2000):
        text = list(whole)
        for _ in range(generator.randint(1, 4)):
            text[generator.randrange(len(text))] = generator.choice('{}[]":,0x \\')
        with contextlib.suppress(ValueError, TypeError):
            assert isinstance(decode("".join(text), SPIDER), Request)


def test_nothing_runs_that_is_no_request(tmp_path: Path) -> None:
    """A file that somebody else has written into is read, not obeyed."""
    made = tmp_path / "made"
    data = {"class": "subprocess.getoutput", "cmd": f"touch {made}"}
    with pytest.raises((ValueError, TypeError)):
        decode(json.dumps(data), SPIDER)
    assert not made.exists()


# -- a proxy ---------------------------------------------------------------------------------------


def test_the_password_of_a_proxy_is_added_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not written; with the address alone, the request would be refused by the proxy."""
    monkeypatch.setenv("https_proxy", "http://me:hunter2@one:3128")
    proxy = HttpProxyMiddleware.from_crawler(get_crawler())
    request = Request("https://h/a")
    proxy.process_request(request)
    sent = request.headers["Proxy-Authorization"]
    assert sent is not None
    data = encode(request, SPIDER)
    assert "hunter2" not in data
    assert sent.decode().split()[1] not in data
    again = decode(data, SPIDER)
    proxy.process_request(again)
    assert (again.meta["proxy"], again.headers["Proxy-Authorization"]) == ("http://one:3128", sent)


def test_no_proxy_stays_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the replica, which is on this machine."""
    monkeypatch.setenv("https_proxy", "http://one:3128")
    again = there_and_back(Request("https://h/a", meta={"proxy": None}))
    HttpProxyMiddleware.from_crawler(get_crawler()).process_request(again)
    assert again.meta["proxy"] is None
