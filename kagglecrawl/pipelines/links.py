"""Relative links become absolute."""

from __future__ import annotations

import re
from bisect import bisect_right
from urllib.parse import urljoin

from kagglecrawl.pipelines.markup import Markup, scan

# An anchor stays, and so does what people write for an address: `www.kaggle.com`.
_COMPLETE = re.compile(r"[a-z][a-z0-9+.-]*:|#|www\.|\Z", re.I)
# `[x](y)` may as well be code or math, so that only what cannot be that is a relative link.
_RELATIVE = re.compile(r"\.{0,2}/|\?")
_DESTINATION = r"<[^<>\n]*+>|[^\s()<>]++(?:\([^\s()<>]*+\)[^\s()<>]*+)*+"
_LINKS = re.compile(
    rf"""
    (?P<image>!\[[^\[\]\n]*+\]\([ \t]*+)(?P<of_image>{_DESTINATION})(?=[ \t]*+[)"'\n])
  | (?<!\\)\]\([ \t]*+(?P<of_link>{_DESTINATION})(?=[ \t]*+[)"'\n])
  | ^[ ]{{0,3}}\[(?!\^)[^\[\]\n]++\]:[ \t]*+(?P<defined>{_DESTINATION})(?=[ \t\r]*+(?:$|["'(]))
    """,
    re.X | re.M,
)


def absolute(url: str, base_url: str) -> str:
    """Return `url` as one that needs no page; as it is without a base, or if it makes no sense."""
    if not base_url or _COMPLETE.match(url):
        return url
    try:
        return urljoin(base_url, url)
    except ValueError:  # "//[x"
        return url


def absolute_links(text: str, base_url: str, markup: Markup | None = None) -> str:
    """Return Markdown with absolute links, images and reference definitions, code as it is.

    Of links and definitions, relative are those that begin with `/`, `./`, `../` or `?`; of images
    all that have no scheme. `text` itself comes back if there is none. `markup` is what `scan` has
    read of it, if it has. Time is linear.
    """
    if "](" not in text and "]:" not in text:
        return text
    code: list[tuple[int, int]] | None = None
    parts: list[str] = []
    position = 0
    for match in _LINKS.finditer(text):
        group = match.lastgroup or ""
        start, stop = match.span(group)
        if text[start] == "<":
            start, stop = start + 1, stop - 1
        url = text[start:stop]
        if group != "of_image" and not _RELATIVE.match(url):
            continue
        if (whole := absolute(url, base_url)) == url:
            continue
        code = (markup or scan(text)).code() if code is None else code
        before = bisect_right(code, (match.start(), len(text))) - 1
        if before >= 0 and match.start() < code[before][1]:
            continue
        parts += [text[position:start], whole]
        position = stop
    return "".join([*parts, text[position:]]) if parts else text
