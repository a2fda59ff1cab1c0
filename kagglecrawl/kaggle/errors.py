"""What an answer of Kaggle's means, decided here and nowhere else.

The classes are named by what the caller should do::

    KaggleError
    ├── RetryLater            ask again; nothing is lost yet
    │   ├── Throttled         429: wait as long as it says, costs no attempt
    │   ├── ServerFailed      5xx, 408, a list's passing 404
    │   ├── BadReply          200 with HTML or broken JSON in place of the answer
    │   │   └── BadPage       the same of the site's, which does so for good as well
    │   ├── Damaged           files whose bytes do not agree with their checksum
    │   └── NoReply           cut, timed out
    │       └── Away          connection refused, unknown host: as with 429, nobody is asked
    ├── Unusable              what came is not what was asked for: this one has failed for now
    ├── SkipResource          this one cannot be had; the crawl goes on
    │   ├── NotFound
    │   ├── Forbidden
    │   └── Refused           any other answer that asking again will not change
    └── StopCrawl             nothing can be had until somebody does something
        ├── CredentialsRefused
        ├── CredentialsNeeded
        ├── Unreachable
        ├── NoSpace
        └── Misconfigured
"""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.kaggle.rpc import Rpc


class KaggleError(Exception):
    """Base of all. ``slug`` names it in stats, ``str()`` is for people."""

    slug = "error"


class RetryLater(KaggleError):
    """Ask again, after ``delay`` seconds when that is given, but no more than ``most_attempts``
    times, whatever the settings allow."""

    most_attempts: float = math.inf
    #: A part was had before it broke off: what comes next is a first attempt at the rest.
    got_on = False

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = delay


class Throttled(RetryLater):
    """Kaggle's 429: too many requests. ``delay`` is its Retry-After, in seconds."""

    slug = "throttled"


class ServerFailed(RetryLater):
    """A failure on Kaggle's side that passes."""

    slug = "server_error"


class BadReply(RetryLater):
    """An answer that is not what was asked for: HTML, half of a JSON text."""

    slug = "bad_reply"


class BadPage(BadReply):
    """A page of the site's in place of an answer. It gives one also for what is no more."""

    most_attempts = 3


class Damaged(RetryLater):
    """Bytes that do not agree with their checksum. Each attempt fetches them all again, so there
    are few."""

    slug = "damaged"
    most_attempts = 3


class NoReply(RetryLater):
    """No whole answer arrived."""

    slug = "no_reply"


class Away(NoReply):
    """Nobody is at the address, or the network is away: true of every request alike."""

    slug = "away"


class Unusable(KaggleError):
    """What came is not what was asked for, and asking again would bring the same: the resource
    fails in this run, for this reason, a word."""

    def __init__(self, message: str, slug: str) -> None:
        super().__init__(message)
        self.slug = slug


class SkipResource(KaggleError):
    """This resource cannot be had now, however often one asks."""


class NotFound(SkipResource):
    """Deleted, renamed or private: Kaggle does not say which."""

    slug = "not_found"


class Forbidden(SkipResource):
    """Private, gated, or rules not accepted. They are never accepted for the user."""

    slug = "forbidden"


class Refused(SkipResource):
    """Refused for a reason of its own, given in the text."""

    slug = "refused"


class StopCrawl(KaggleError):
    """Going on makes no sense; ``reason`` becomes Scrapy's finish reason."""

    reason = "kaggle_failed"


class CredentialsRefused(StopCrawl):
    """Kaggle does not accept the credentials."""

    reason = "kaggle_credentials"


class CredentialsNeeded(StopCrawl):
    """Kaggle answers this only to somebody it knows."""

    reason = "kaggle_credentials"


class Unreachable(StopCrawl):
    """No answer at all from the API's address."""

    reason = "kaggle_unreachable"


class NoSpace(StopCrawl):
    """The disk of the workspace is full, or about to be."""

    reason = "kaggle_no_space"


class Misconfigured(StopCrawl):
    """The address answers, but not as Kaggle's API does."""

    reason = "kaggle_misconfigured"


#: A 401 for one resource, though the same credentials are good for others (reported of private and
#: renamed ones, kaggle-facts 1.2).
UNAUTHORIZED = "unauthorized"
#: Reasons of skips and failures that asking again for the same version would not change; every
#: other failure may pass.
PERMANENT = frozenset({"not_found", "forbidden", "refused", "bad_archive", "unsafe_name"})
#: Failures of an answer: the next attempt may bring another.
OF_ANSWERS = frozenset({ServerFailed.slug, BadReply.slug, NoReply.slug})
#: Those of the permanent ones that are about a resource's files: its record can be had.
OF_FILES = frozenset({"bad_archive", "unsafe_name"})
#: Of what is more than can be held.
TOO_LARGE = "too_large"
_GET_ONE = (
    "create a token on kaggle.com/settings and set KAGGLE_API_TOKEN, "
    "or run `scrapy doctor` to see what is found"
)
_MESSAGE_LENGTH = 200
#: A year, in seconds: more than that is no time to add to another.
_LONGEST_WAIT = 366 * 86400.0
#: Words of an ``errorMessage`` inside a 200, by what they mean (verified field, kagglesdk 0.1.37;
#: its texts are not documented, so what is not recognised stays a refusal with its own text).
_ABSENT = re.compile(r"\b404\b|not.?found|does not exist|deleted", re.IGNORECASE)
_DENIED = re.compile(r"\b403\b|forbidden|permission|not allowed|access denied", re.IGNORECASE)
_BUSY = re.compile(r"\b429\b|too many requests|rate limit|quota", re.IGNORECASE)
_FAILING = re.compile(r"\b50\d\b|internal|unavailable|try again|time.?out|temporar", re.IGNORECASE)
#: Status names of Google's error model, where an error has no code.
_CODES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def judge(
    rpc: Rpc,
    status: int,
    reply: Any,
    body: bytes,
    *,
    wait: float | None = None,
    location: str = "",
    known: bool,
    proven: bool = False,
    reached: bool = False,
) -> dict[str, Any]:
    """Return the reply's JSON object, or raise what the answer means.

    ``reply`` is the decoded ``body`` (None where that is no JSON), ``wait`` the seconds of its
    Retry-After, ``location`` that header, ``known`` whether credentials were sent, ``proven``
    whether this method has answered well before (so that the address and the account are right),
    ``reached`` whether any has (so that the address is).
    The file of an Rpc that gives one is the ``body``, and the result is empty; a zip that is not
    whole is ``Damaged``.

    What is no call of the official API never stops the crawl: others are there to be asked.

    Error shapes (kaggle-facts 1.3): ``{"code", "message"}`` even with status 200 (verified),
    ``{"error": {"code", "message"}}`` (reported 2026-02), ``errorMessage`` inside a 200
    (verified), HTML (reported).
    """
    payload = reply if isinstance(reply, dict) else None
    code, message = _error_in(payload) if payload is not None else (0, "")
    if 200 <= status < 300 and not code:
        if payload is None and rpc.file and not _is_page(body):
            _check_file(rpc, body)
            return {}
        bad = BadReply if rpc.where == "api" else BadPage
        if payload is None:
            raise bad(f"{rpc.method} answered {status} with {_what(reply, body)}")
        if said := payload.get("errorMessage") or _unsuccessful(payload):
            _refused_inside(rpc, str(said), wait)
        if payload.get("error") or not rpc.is_reply(payload):
            raise bad(f"{rpc.method} answered {status} with JSON of another shape")
        return payload
    code = code or status
    where = f"{rpc.method} answered {code}" + (f": {message}" if message else "")
    if 300 <= status < 400:
        where += f", a redirect to {_host(location)}"
        if rpc.where != "api":
            raise Refused(where)
        raise Misconfigured(f"{where}: check KAGGLE_API_URL")
    if code == 429:
        raise Throttled(where, wait)
    if code >= 500 or code == 408:
        raise ServerFailed(where, wait)
    if rpc.where != "api":
        raise _of_site(code)(where)
    if code == 401 or (code == 403 and not known and not proven):
        if known:
            raise CredentialsRefused(f"{where}. Kaggle refused the credentials: {_GET_ONE}")
        raise CredentialsNeeded(f"{where}. It wants credentials: {_GET_ONE}")
    if rpc.kind == "list":
        if code == 404 and (payload is not None or proven):
            # "random 404s mid-iteration of datasets/list" (reported, kaggle-facts 1.3)
            raise ServerFailed(where)
        if code == 403:
            raise CredentialsRefused(f"{where}. This list is closed to you: {_GET_ONE}")
        raise Misconfigured(f"{where}: check the arguments, and KAGGLE_API_URL")
    spared = proven or (rpc.part and (reached or rpc.replay))  # elsewhere it may be had
    if code == 404 and payload is None and not spared:
        raise Misconfigured(f"{where} with {_what(reply, body)}: check KAGGLE_API_URL")
    if code == 404:
        raise NotFound(where)
    if code == 403:
        raise Forbidden(where)
    raise Refused(where)


def _of_site(code: int) -> type[SkipResource]:
    """What the site means that has no such thing, or does not let it be had."""
    if code in {404, 410}:
        return NotFound
    return Forbidden if code in {401, 403} else Refused


def parse_retry_after(value: str, now: datetime | None = None) -> float | None:
    """Seconds to wait by a ``Retry-After`` header, in either form (RFC 9110, 10.2.3).

    Never negative; None when there is none or it cannot be read.
    """
    value = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return min(float(value), _LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    seconds = (_aware(moment) - _aware(now or datetime.now(UTC))).total_seconds()
    return min(max(0.0, seconds), _LONGEST_WAIT)


def _aware(moment: datetime) -> datetime:
    # email.utils reads a zone of "-0000" as no zone
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _refused_inside(rpc: Rpc, said: str, wait: float | None) -> NoReturn:
    text = f"{rpc.method} answered: {_one_line(said)}"
    # in this order, since a text may quote a slug such as fortune-500
    if _ABSENT.search(said):
        raise NotFound(text)
    if _DENIED.search(said):
        raise Forbidden(text)
    if _BUSY.search(said):
        raise Throttled(text, wait)
    if _FAILING.search(said):
        raise ServerFailed(text, wait)
    raise Refused(text)


def _unsuccessful(payload: dict[str, Any]) -> str:
    """Why not, by a reply of the kind of 2020; empty for any other."""
    if payload.get("wasSuccessful") is not False:
        return ""
    errors = payload.get("errors")
    said = errors if isinstance(errors, list) else [errors]
    return "; ".join(str(each) for each in said if each) or "it was not successful"


def _error_in(payload: dict[str, Any]) -> tuple[int, str]:
    error = payload.get("error")
    holder = error if isinstance(error, dict) else payload
    code = holder.get("code", _CODES.get(str(holder.get("status"))))
    if isinstance(code, str) and re.fullmatch(r"\d{3}", code):
        code = int(code)
    if isinstance(code, bool) or not isinstance(code, int) or not 400 <= code < 600:
        return 0, ""
    return code, _one_line(str(holder.get("message") or ""))


def _one_line(text: str) -> str:
    line = " ".join(clean(text[: 10 * _MESSAGE_LENGTH]).split())
    return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 1] + "…"


def _what(reply: Any, body: bytes) -> str:
    head = body.lstrip()[:1]
    if reply is not None:
        return "JSON of another shape"
    if not head:
        return "nothing in place of JSON"
    if head == b"<":
        return "a web page in place of JSON"
    return "a damaged text in place of JSON"


def _check_file(rpc: Rpc, body: bytes) -> None:
    """A zip tells by itself whether it has come as it was sent."""
    if not body.startswith(b"PK"):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError):
        wrong = "it"
    except (NotImplementedError, RuntimeError, OverflowError, MemoryError, ValueError):
        return  # encrypted, say: whole, as far as one can tell
    if wrong is not None:
        raise Damaged(f"{rpc.method} answered with a zip that is damaged")


def _is_page(body: bytes) -> bool:
    """Is this a web page, in place of a file?"""
    return body[:1000].lstrip().lower().startswith((b"<!doctype", b"<html"))


def _host(location: str) -> str:
    try:
        return urlsplit(location).hostname or "elsewhere"
    except ValueError:
        return "elsewhere"
