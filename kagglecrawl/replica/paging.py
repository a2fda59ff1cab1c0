"""Pages of lists, by number and by token, whatever the rows are."""

import base64
import binascii
import json
from typing import Any, Protocol, TypeVar

from kagglecrawl.replica.listing import query_text
from kagglecrawl.replica.rpc import Site
from kagglecrawl.replica.wire import Refusal, dump

PAGE_SIZE = 20
"""Rows of a page where `pageSize` does not count, or is not given (kaggle-facts 0.3)."""
ROW_CAP = 10_000
"""Positions from here on are never listed by page; the answer is 200 and empty (0.4)."""

T = TypeVar("T")


class Paged(Protocol):
    """A request for a list that pages both ways."""

    page: int
    page_token: str
    page_size: int


def list_page(site: Site, rows: list[T], request: Paged) -> tuple[list[T], str]:
    """The rows that the request asks for, and the token of the next page, or ''.

    Raises Refusal (400) for a page or a token that cannot be.
    """
    if site.behaviour.paging == "token" and not request.page:
        query = query_text(request)
        return token_page(site, rows, query, request.page_token, request.page_size)
    if request.page_token:
        raise Refusal(400, "Invalid page token.")
    page = min(_number(request), ROW_CAP)  # far beyond any list already
    start = (page - 1) * PAGE_SIZE
    if len(rows) <= ROW_CAP:  # else rows would move past the cap, and be missed
        start -= site.shift(page)
    return rows[:ROW_CAP][start : start + PAGE_SIZE], ""


def _number(request: Paged) -> int:
    page: int = request.page or 1
    if page < 1:
        raise Refusal(400, "Field 'page' must be positive.")
    return page


def list_key(request: Any) -> str:
    """What statistics and fault scripts call a request for a list by: `page=3&sortBy=…`."""
    query = query_text(request)
    if request.page_token:
        return f"token={request.page_token}{query}"
    return f"page={request.page or 1}{query}"


def token_page(
    site: Site, rows: list[T], query: str, token: str | None, size: int | None
) -> tuple[list[T], str]:
    """A page of rows from where the token points, and the token of the next one, or ''.

    Raises Refusal (400) for a token that is not of this query.
    """
    start = _read_token(token, query) if token else 0
    size = size or PAGE_SIZE
    if size < 0:
        raise Refusal(400, "Field 'pageSize' must be positive.")
    end = start + min(size, site.behaviour.max_page_size)
    return rows[start:end], _make_token(end, query) if end < len(rows) else ""


def _make_token(start: int, query: str) -> str:
    return base64.urlsafe_b64encode(dump([start, query])).decode()


def _read_token(token: str, query: str) -> int:
    try:
        start, of_query = json.loads(base64.b64decode(token, b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise Refusal(400, "Invalid page token.") from None
    if of_query != query or type(start) is not int or start < 0:
        raise Refusal(400, "Invalid page token.")
    return start
