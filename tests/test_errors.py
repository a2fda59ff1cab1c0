"""What an answer means: every shape that was verified or reported (kaggle-facts 1.3)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.errors import (
    BadReply,
    CredentialsNeeded,
    CredentialsRefused,
    Forbidden,
    KaggleError,
    Misconfigured,
    NotFound,
    Refused,
    RetryLater,
    ServerFailed,
    SkipResource,
    StopCrawl,
    Throttled,
    judge,
    parse_retry_after,
)

LIST, ITEM = rpc.LIST_DATASETS, rpc.GET_DATASET_METADATA
HTML = b"<!DOCTYPE html><html><title>Kaggle</title></html>"
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def flat(code: int, message: str = "no") -> bytes:
    """The verified shape."""
    return json.dumps({"code": code, "message": message}).encode()


def nested(code: int, message: str = "no") -> bytes:
    """The shape reported in 2026-02."""
    return json.dumps({"error": {"code": code, "message": message, "status": "X"}}).encode()


def judged(
    status: int,
    body: bytes,
    *,
    call: rpc.Rpc = ITEM,
    known: bool = True,
    wait: float | None = None,
    location: str = "",
) -> dict[str, Any]:
    """``judge``, given what a middleware would decode."""
    try:
        reply = json.loads(body)
    except ValueError:
        reply = None
    return judge(call, status, reply, body, wait=wait, location=location, known=known)


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (LIST, {}),  # proto3 leaves an empty list out
        (LIST, {"datasets": []}),
        (LIST, {"datasets": [{"ref": "a/b"}], "nextPageToken": "t", "code": 0}),
        (ITEM, {"info": {}}),
        (ITEM, {"info": {"title": "a"}, "errorMessage": ""}),
        (rpc.GET_DATASET, {"ref": "a/b", "title": "Error 404: not found"}),
        (rpc.LIST_DATASET_FILES, {}),
    ],
)
def test_a_good_reply_is_its_object(status: int, call: rpc.Rpc, reply: dict[str, Any]) -> None:
    assert judged(status, json.dumps(reply).encode(), call=call) == reply


@pytest.mark.parametrize("shape", [flat, nested])
@pytest.mark.parametrize("as_status", [True, False], ids=["status", "200"])
@pytest.mark.parametrize(
    ("code", "call", "known", "expected"),
    [
        (429, ITEM, True, Throttled),
        (429, LIST, False, Throttled),
        (500, ITEM, True, ServerFailed),
        (502, LIST, True, ServerFailed),
        (503, ITEM, False, ServerFailed),
        (504, LIST, True, ServerFailed),
        (408, ITEM, True, ServerFailed),
        (401, ITEM, True, CredentialsRefused),
        (401, LIST, True, CredentialsRefused),
        (401, ITEM, False, CredentialsNeeded),
        (401, LIST, False, CredentialsNeeded),
        (403, ITEM, True, Forbidden),
        (403, LIST, True, CredentialsRefused),
        (403, LIST, False, CredentialsNeeded),
        (404, ITEM, True, NotFound),
        (404, ITEM, False, NotFound),
        (404, LIST, True, ServerFailed),
        (400, ITEM, True, Refused),
        (409, ITEM, True, Refused),
        (400, LIST, True, Misconfigured),
    ],
)
def test_every_code_in_both_shapes_as_status_and_inside_a_200(
    shape: Any, as_status: bool, code: int, call: rpc.Rpc, known: bool, expected: type[KaggleError]
) -> None:
    body = shape(code, "Because I say so")
    with pytest.raises(KaggleError, match=f"{call.method} answered {code}: Because") as caught:
        judged(code if as_status else 200, body, call=call, known=known)
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (429, b"", Throttled),
        (429, HTML, Throttled),
        (500, HTML, ServerFailed),
        (502, b"Bad Gateway", ServerFailed),
        (401, b"", CredentialsRefused),
        (403, HTML, Forbidden),
    ],
)
def test_a_status_alone_is_enough(status: int, body: bytes, expected: type[KaggleError]) -> None:
    with pytest.raises(KaggleError) as caught:
        judged(status, body)
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (HTML, "a web page"),
        (b"\n  <html>", "a web page"),
        (b"", "nothing"),
        (b"  \n", "nothing"),
        (b'{"datasets": [{"ref": "a/b"', "a damaged text"),
        (b"[{", "a damaged text"),
        (b"hello", "a damaged text"),
        (b"\xff\xfe\x00", "a damaged text"),
        (b'"text"', "JSON of another shape"),
        # The REST twin answers lists with a bare array (reported, kaggle-facts 1.1).
        (b'[{"ref": "a/b"}]', "JSON of another shape"),
        (b'{"datasets": {"ref": "a/b"}, "info": []}', "JSON of another shape"),
    ],
)
@pytest.mark.parametrize("call", [LIST, ITEM])
def test_a_200_of_another_shape_is_asked_again(body: bytes, words: str, call: rpc.Rpc) -> None:
    with pytest.raises(BadReply, match=f"answered 200 with {words}"):
        judged(200, body, call=call)


@pytest.mark.parametrize(
    "reply",
    [
        {"error": "Unauthorized"},
        {"error": {"message": "Too many requests", "status": "RESOURCE_EXHAUSTED"}},
        {"code": "429", "message": "Too many requests"},
        {"error": {"code": "401", "message": "Unauthenticated"}},
    ],
)
@pytest.mark.parametrize("call", [LIST, ITEM])
def test_an_error_inside_a_200_is_never_an_empty_reply(
    reply: dict[str, Any], call: rpc.Rpc
) -> None:
    """A list would be over, and the crawl complete."""
    with pytest.raises(KaggleError):
        judged(200, json.dumps(reply).encode(), call=call)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Dataset not found", NotFound),
        ("404 - Not Found", NotFound),
        ("The dataset does not exist", NotFound),
        ("This dataset was deleted", NotFound),
        ("Permission 'datasets.get' was denied", Forbidden),
        ("403 Forbidden", Forbidden),
        ("You are not allowed to see this", Forbidden),
        ("Dataset me/fortune-500 not found", NotFound),
        ("Metadata is broken", Refused),
        ({"text": "odd"}, Refused),
    ],
)
def test_error_message_inside_a_200(said: Any, expected: type[KaggleError]) -> None:
    """A verified field of kagglesdk 0.1.37, whose texts are not documented."""
    body = json.dumps({"info": {}, "errorMessage": said}).encode()
    with pytest.raises(KaggleError) as caught:
        judged(200, body)
    assert type(caught.value) is expected


@pytest.mark.parametrize(
    "said", ["429 Too Many Requests", "Rate limit exceeded", "Internal error, please try again"]
)
def test_a_passing_trouble_said_in_words_is_not_a_skip(said: str) -> None:
    with pytest.raises(RetryLater):
        judged(200, json.dumps({"errorMessage": said}).encode())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_names_the_host_alone(status: int) -> None:
    with pytest.raises(Misconfigured, match=r"redirect to www\.kaggle\.com") as caught:
        judged(status, b"", location="https://www.kaggle.com/login?returnUrl=SECRET")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("location", ["", "/login", "https://[bad"])
def test_a_redirect_to_nowhere_is_still_a_sentence(location: str) -> None:
    with pytest.raises(Misconfigured):
        judged(302, b"", location=location)


def test_a_web_page_for_an_unknown_path_is_a_wrong_address() -> None:
    for call in (LIST, ITEM):
        with pytest.raises(Misconfigured, match="KAGGLE_API_URL"):
            judged(404, HTML, call=call)


def test_what_has_answered_well_before_is_not_misconfigured() -> None:
    """One odd answer in the middle of a crawl says nothing of the address or the account."""
    expected: list[tuple[rpc.Rpc, int, bool, type[KaggleError]]] = [
        (ITEM, 404, True, NotFound),
        (LIST, 404, True, ServerFailed),
        (ITEM, 403, False, Forbidden),
    ]
    for call, status, known, error in expected:
        with pytest.raises(error):
            judge(call, status, None, HTML, known=known, proven=True)


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_comes_along(status: int) -> None:
    with pytest.raises(RetryLater) as caught:
        judged(status, flat(status), wait=30.0)
    assert caught.value.delay == 30.0


def test_every_refusal_says_what_to_do() -> None:
    for code, known in [(401, True), (401, False)]:
        with pytest.raises(StopCrawl, match="KAGGLE_API_TOKEN"):
            judged(code, b"", known=known)


def test_every_class_has_a_name_of_its_own_for_the_stats() -> None:
    here = KaggleError.__module__
    classes = [*RetryLater.__subclasses__(), *SkipResource.__subclasses__()]
    classes = [each for each in classes if each.__module__ == here]
    assert len({each.slug for each in classes} | {KaggleError.slug}) == len(classes) + 1
    stops = [each for each in StopCrawl.__subclasses__() if each.__module__ == here]
    assert all(each.reason.startswith("kaggle_") for each in stops)


SIGNED = [
    "https://storage.googleapis.com/kaggle-data-sets/1/a.zip?X-Goog-Signature=SECRET&b=SECRET",
    "HTTPS://storage.googleapis.com/a.zip?X-Goog-Signature=SECRET",
    "gs://bucket/a.zip?sig=SECRET",
    "storage.googleapis.com/a.zip?X-Goog-Signature=SECRET",
    "(https://h/a?sig=SECRET)",
    "'https://h/a?x=1&sig=SECRET',",
    "https://me:SECRET@host/a",
]


@pytest.mark.parametrize("url", SIGNED)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500])
def test_no_secret_of_a_url_is_in_a_message(url: str, status: int) -> None:
    bodies = [flat(status, f"see {url} please"), nested(status, url), b'{"errorMessage":"%s"}']
    for body, call in [(body, call) for body in bodies for call in (LIST, ITEM)]:
        filled = body.replace(b"%s", url.encode())
        if status == 200 and b"errorMessage" not in filled:
            continue
        with pytest.raises(KaggleError) as caught:
            judged(status, filled, call=call, location=url)
        assert "SECRET" not in str(caught.value)


@given(st.text(max_size=600))
def test_a_message_is_one_short_line_whatever_the_server_says(said: str) -> None:
    for body in (flat(400, said), json.dumps({"errorMessage": f"x{said}"}).encode()):
        with pytest.raises(KaggleError) as caught:
            judged(200, body)
        text = str(caught.value)
        assert "\n" not in text
        assert "\r" not in text
        assert "\x1b" not in text, "a terminal would obey it"
        assert len(text) < 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        (" 30 ", 30.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=2), usegmt=True), 0.0),
        ("Sat, 21 Nov 2026 12:01:00 -0000", 60.0),
        ("Sat, 21 Nov 2026 14:01:00 +0200", 60.0),
        ("Saturday, 21-Nov-26 12:01:00 GMT", 60.0),
        ("Sat Nov 21 12:01:00 2026", 60.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("12 s", None),
        ("1e5", None),
        ("nan", None),
        ("inf", None),
        ("Sat, 99 Nov 2026 12:01:00 GMT", None),
        ("Sat, 21 Nov 99999999999999999999 12:01:00 GMT", None),
    ],
)
def test_retry_after_in_both_forms(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_a_date_is_measured_by_the_servers_clock() -> None:
    """Ours may be a day off; without the server's, ours is all there is."""
    until = format_datetime(NOW + timedelta(seconds=30), usegmt=True)
    assert parse_retry_after(until, NOW - timedelta(days=1)) == 30.0 + 86_400
    assert parse_retry_after(until, NOW + timedelta(days=1)) == 0.0
    far = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    assert 86_000 < (parse_retry_after(far) or 0) <= 86_400


def test_a_clock_without_a_zone_is_utc() -> None:
    """A ``Date`` header that ends in -0000 is read as a naive time by email.utils."""
    until = format_datetime(NOW + timedelta(seconds=30), usegmt=True)
    assert parse_retry_after(until, NOW.replace(tzinfo=None)) == 30.0


@given(st.text(max_size=60) | st.text("0123456789 :,+-GMTSatNov.", max_size=60))
def test_retry_after_never_raises_and_is_never_negative(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0
