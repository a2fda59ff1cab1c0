"""Finds the HTML in a text that may be Markdown, HTML, or both, and makes it well-formed.

Kaggle's long texts are Markdown, HTML, or Markdown with HTML inside, written by hand: `<div>`
never closed, `</h5>` never opened, `<placeholder>` that was never meant as HTML. `regions` gives
the stretches that are HTML, in order, each with clean HTML that any parser reads in one way.
What is not in a region is Markdown. The rules, after CommonMark's section 4.6:

* Containers (`<div>`, `<center>`) are transparent. What follows one on the same or the next line
  is HTML up to the next blank line; after a blank line Markdown begins again.
* Other elements are one region with their content. Without an end tag they end where HTML says
  so (`<li>` before the next `<li>`) or at the first blank line; a heading of Markdown after a
  blank line ends everything, so that no page swallows the next one.

Every pass takes time linear in the text, and nothing recurses.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape, unescape
from itertools import islice

from kagglecrawl.pipelines.markup import BLOCKS, CONTAINERS, INLINE, Markup, Token

MAX_DEPTH = 64
"""Elements nested deeper than this keep their text and lose their tags (elements)."""

_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_TABLE = frozenset({"table", "thead", "tbody", "tfoot", "tr", "td", "th", "caption"})
_ROWS = frozenset({"ul", "ol", "dl", "table", "thead", "tbody", "tfoot", "tr"})
# What a start tag ends when HTML lets the end tag be left out: (these, looked for up to those).
_IMPLIED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "li": (frozenset({"li"}), frozenset({"ul", "ol", "table"})),
    **dict.fromkeys(("dt", "dd"), (frozenset({"dt", "dd"}), frozenset({"dl", "table"}))),
    **dict.fromkeys(("td", "th"), (frozenset({"td", "th"}), frozenset({"tr", "table"}))),
    "tr": (frozenset({"tr", "caption"}), frozenset({"table"})),
    **dict.fromkeys(
        ("thead", "tbody", "tfoot"),
        (frozenset({"thead", "tbody", "tfoot", "tr", "caption"}), frozenset({"table"})),
    ),
    "a": (frozenset({"a"}), CONTAINERS | BLOCKS),
}
_PARAGRAPH = frozenset({"p"})
_LINES = _PARAGRAPH | _HEADINGS

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]")
_DELIMITERS = re.compile(r"[ \t>]*+(?=.*\|)\|?(?:[ \t]*+:?-++:?[ \t]*+\|?)++[ \t\r]*+$")
_ATTRIBUTE = re.compile(r"""([a-z]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.I)
_KEPT_ATTRIBUTES = frozenset({"alt", "class", "colspan", "href", "src", "start", "title"})
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.I)


@dataclass(slots=True)
class Region:
    """A stretch `text[start:stop]` that is HTML, with its well-formed `html` ("" for nothing)."""

    start: int
    stop: int
    html: str
    block: bool
    """Whether it stands as blocks of its own, apart from the text around it."""
    breaks: int = 0
    """For a run of `<br>`: how many."""
    inside: bool = False
    """Whether a container is open around it: indentation then means nothing."""
    bound: bool = False
    """Whether it is in a line of `bound`."""


def bound_lines(text: str) -> list[tuple[int, int]]:
    """The lines of Markdown that a line break would end: headings and rows of tables."""
    bound: list[tuple[int, int]] = []
    start, previous, in_table = 0, (0, 0), False
    for row in text.split("\n"):
        line = (start, start + len(row))
        start = line[1] + 1
        if (in_table and row.strip()) or _HEADING.match(row):
            bound.append(line)
        elif "|" in row and "-" in row and _DELIMITERS.match(row):
            bound.extend((previous, line) if bound[-1:] != [previous] else (line,))
            in_table = True
            continue
        in_table = in_table and bool(row.strip())
        previous = line
    return bound


def regions(text: str, markup: Markup, bound: list[tuple[int, int]]) -> Iterator[Region]:
    """Yield the HTML in `text`, in order, without overlap.

    `markup` is what `scan` has read of it, and is used up. `bound` are sorted stretches (lines)
    that no region may leave: headings and table rows of Markdown. A start tag whose element would
    leave its line is a region by itself, without text.
    """
    tokens = markup.tokens
    _pair(tokens, len(text))
    _drop_rendered(tokens)
    index, depth = 0, 0
    starts = [start for start, _ in bound]
    while index < len(tokens):
        token = tokens[index]
        line = bisect_right(starts, token.start) - 1
        line_end = bound[line][1] if line >= 0 and token.start < bound[line][1] else None
        is_block = token.name in CONTAINERS or token.name in BLOCKS or token.name == "hr"
        region = Region(token.start, token.end, "", is_block, inside=depth > 0)
        region.bound = line_end is not None
        if token.kind in {"span", "fence", "blank"}:
            depth = 0 if token.detail == "#" and token.kind == "blank" else depth
            index += 1
            continue
        if token.name in CONTAINERS and token.kind == "close":
            depth = max(0, depth - 1)
        elif token.name in CONTAINERS and token.kind == "open":
            if line_end is None and not token.airy:
                region.stop, depth = _flow_end(tokens, index, depth, len(text))
                region.html = _render(text, tokens, index, region.stop, flow=True)
            else:
                depth += 1
        elif token.name == "br":
            index, region.stop, region.breaks = _breaks(text, tokens, index)
        elif token.kind == "void":
            region.html = _start_tag(token)
        elif token.kind == "math":
            region.html = escape(token.detail, quote=False)
        elif token.until is not None and (line_end is None or token.until <= line_end):
            region.stop = token.until
            region.html = _render(text, tokens, index, region.stop, flow=False)
            region.block = is_block or _holds_block(tokens, index, region.stop)
        yield region
        index += 1
        while index < len(tokens) and tokens[index].start < region.stop:
            index += 1


# --- elements ---------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    token: Token
    inline: bool
    blank: int | None = None
    """The first blank line in the element itself: its end, if no end tag comes."""


def _pair(tokens: list[Token], text_end: int) -> None:
    """Give every start tag the end of its element; elements then nest properly."""
    stack: list[_Open] = []

    def end_without_tag(here: int) -> None:
        element = stack.pop()
        if not element.inline:
            element.token.until = here if element.blank is None else element.blank
        if stack and stack[-1].blank is None:
            stack[-1].blank = element.blank

    def height(names: frozenset[str], scope: frozenset[str]) -> int:
        """How many open elements a tag ends with the nearest of `names`; 0 if none in scope."""
        for count in range(1, min(len(stack), MAX_DEPTH) + 1):
            name = stack[-count].token.name
            if name in names:
                return count
            if name in scope:
                return 0
        return 0

    for token in tokens:
        if token.kind == "blank":
            while stack and (stack[-1].inline or token.detail):
                end_without_tag(token.start)
            if stack and stack[-1].blank is None:
                stack[-1].blank = token.start
        elif token.kind == "close":
            names = _HEADINGS if token.name in _HEADINGS else frozenset({token.name})
            scope = frozenset[str]() if token.name in _TABLE else frozenset({"table", "td", "th"})
            if token.name in INLINE:
                scope = CONTAINERS | BLOCKS
            count = height(names, scope)
            for _ in range(count - 1):
                end_without_tag(token.start)
            if count:
                stack.pop().token.until = token.end
        elif token.kind == "open":
            inline = token.name in INLINE
            if not inline:
                ended = _LINES if token.name in _LINES else _PARAGRAPH
                for _ in range(height(ended, (CONTAINERS | BLOCKS) - ended)):
                    end_without_tag(token.start)
            if token.name in _IMPLIED:
                for _ in range(height(*_IMPLIED[token.name])):
                    end_without_tag(token.start)
            if stack and stack[-1].token.name in _ROWS:
                stack[-1].blank = None  # a blank line between two items is not the list's end
            if not (token.airy and token.name == "p"):
                stack.append(_Open(token, inline))
    while stack:
        end_without_tag(text_end)


def _drop_rendered(tokens: list[Token]) -> None:
    """Leave out formulas as MathJax shows them, where their sources are there too."""
    if any(token.kind == "math" for token in tokens):
        for token in tokens:
            if token.kind == "open" and token.until is not None and "MathJax" in token.detail:
                token.kind, token.end, token.until, token.name = "drop", token.until, None, "script"


def _flow_end(tokens: list[Token], index: int, depth: int, text_end: int) -> tuple[int, int]:
    """Where the HTML that a container begins ends, and how many containers are open there."""
    outside, skip = depth, 0
    for token in islice(tokens, index, None):
        if token.start < skip:
            continue
        if token.kind == "blank":
            return token.start, depth
        if token.name in CONTAINERS:
            depth += 1 if token.kind == "open" else -1
            if depth <= outside:
                return token.end, depth
        elif token.kind == "open" and token.until is not None:
            skip = token.until
    return text_end, depth


def _breaks(text: str, tokens: list[Token], index: int) -> tuple[int, int, int]:
    """The run of `<br>` that begins at `index`: its last index, its end, its length."""
    first = index
    while index + 1 < len(tokens):
        following = tokens[index + 1]
        if following.name != "br" or text[tokens[index].end : following.start].strip():
            break
        index += 1
    return index, tokens[index].end, index - first + 1


def _holds_block(tokens: list[Token], index: int, stop: int) -> bool:
    while index < len(tokens) and tokens[index].start < stop:
        name = tokens[index].name
        if name in BLOCKS or name in CONTAINERS or name == "hr":
            return True
        index += 1
    return False


# --- clean HTML -----------------------------------------------------------------------------


def _render(text: str, tokens: list[Token], index: int, stop: int, *, flow: bool) -> str:
    """Well-formed HTML for `text[tokens[index].start:stop]`; `flow` if a container begins it."""
    parts: list[str] = ["<div>"] if flow else []
    stack: list[tuple[str, int]] = []
    position = tokens[index].start
    while index < len(tokens) and tokens[index].start < stop:
        token = tokens[index]
        if token.end <= position:  # in something that is left out
            index += 1
            continue
        if position < token.start:
            parts.append(_text(text[position : token.start]))
        position = token.end
        index += 1
        # An end tag ends its element after itself, anything else before itself.
        ended = token.end if token.kind == "close" else token.start
        while stack and stack[-1][1] <= ended:
            parts.append(f"</{stack.pop()[0]}>")
        if token.kind == "fence":
            parts.append(_fence(text[token.start : token.end], token.detail))
        elif token.kind == "math":
            parts.append(escape(token.detail, quote=False))
        elif token.kind == "span":
            parts.append(f"<code>{escape(' '.join(token.detail.split()), quote=False)}</code>")
        elif token.kind == "blank":
            parts.append("<br><br>" if stack and stack[-1][0] in {"blockquote", "div"} else "\n")
        elif token.kind == "void":
            parts.append(_start_tag(token))
        elif token.name in CONTAINERS and not stack:
            if not parts[-1].endswith("<div>"):
                parts.append("</div><div>")
        elif token.kind == "open" and token.until is not None and len(stack) < MAX_DEPTH:
            parts.append(_start_tag(token))
            stack.append((_element(token), token.until))
    parts.append(_text(text[position:stop]))
    parts.extend(f"</{name}>" for name, _ in reversed(stack))
    return "".join(parts) + ("</div>" if flow else "")


def _element(token: Token) -> str:
    return "div" if token.name in CONTAINERS else token.name


def _start_tag(token: Token) -> str:
    attributes = "".join(
        f' {name.lower()}="{escape(_decoded(double or single or bare))}"'
        for name, double, single, bare in _ATTRIBUTE.findall(token.detail)
        if name.lower() in _KEPT_ATTRIBUTES
    )
    return f"<{_element(token)}{attributes}>"


def _text(source: str) -> str:
    # A no-break space says nothing in Markdown and hides from every search for a space.
    return escape(_decoded(source).replace("\xa0", " ").replace("\r\n", "\n"), quote=False)


def _decoded(source: str) -> str:
    # Only references with their semicolon: "?a=1&copy=2" is not a copyright sign.
    return _ENTITY.sub(lambda entity: unescape(entity[0]), source)


def _fence(source: str, info: str) -> str:
    lines = source.split("\n")
    closed = len(lines) > 1 and not lines[-1].strip(" \t\r>`~")
    code = "\n".join(lines[1 : -1 if closed else None])
    language = f' class="language-{escape(info.split()[0])}"' if info else ""
    return f"<pre{language}>\n{escape(code, quote=False)}\n</pre>"
