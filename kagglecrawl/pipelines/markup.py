"""Reads a text as tags, code and blank lines, as CommonMark sees them.

Code (fences, spans, indented blocks) holds no HTML, and `\\<` is no tag. Only the names that HTML
knows are tags; those that also serve as placeholders (`<label>`, `<title>`) count when they have
attributes or a partner. Time is linear in the text.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import Literal, NamedTuple


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


CONTAINERS = _names(
    "address article aside body button center details dialog div fieldset figcaption figure footer"
    " form header hgroup html legend main menu nav section summary"
)
BLOCKS = _names(
    "blockquote caption dd dl dt h1 h2 h3 h4 h5 h6 li ol p pre table tbody td tfoot th thead tr ul"
)
INLINE = _names(
    "a abbr acronym audio b bdi bdo big cite code del dfn em font i iframe ins kbd label mark"
    " meter nobr noscript object option output picture progress q rp rt ruby s samp select small"
    " span strike strong sub sup textarea time tt u var video"
)
VOID = _names("area base br col embed hr img input link meta param source track wbr")
OPAQUE = _names("colgroup head script style svg template")
"""Elements whose content is not text for a reader: removed whole."""
ELEMENTS = CONTAINERS | BLOCKS | INLINE | VOID | OPAQUE

_STRONG = _names(
    "b blockquote br center div em font h1 h2 h3 h4 h5 h6 hr li ol p span strong td th tr ul"
)
"""Names nobody uses as a placeholder: tags even when alone."""
_LETTERS = frozenset("iqsu")
"""Names whose lone end tag may be meant as it is: `</s>` ends a sentence of tokens."""
_BARE_ATTRIBUTES = re.compile(
    r"(?:\s|/|\b(?:allowfullscreen|async|checked|compact|controls|defer|disabled|hidden|noshade"
    r"|nowrap|open|reversed)\b)*",
    re.I,
)
# `++` and `*+` (possessive) so that a failing match gives up at once instead of in n steps.
_MARKUP = re.compile(
    r"""
    (?P<blank>\n(?:[ \t\r]*+\n)++)
  | ^[ \t>]*+(?:(?:[-*+]|\d{1,9}[.)])[ \t]++)*+(?P<fence>`{3,}+(?=[^`\n]*+$)|~{3,}+)(?P<info>.*)
  | \\[!-/:-@\[-`{-~]
  | (?P<ticks>`++)
  | (?P<comment><!--|<!doctype(?=[\s>])|<\?xml(?=\s))
  | <(?P<slash>/?)(?P<name>[a-z][a-z0-9]*+)(?=[\s/>])
     (?P<attributes>(?:[^<>"']|"[^"<]*+"|'[^'<]*+')*+|[^<>]*+)>
    """,
    re.X | re.M | re.I,
)
# What MathJax makes of a page keeps the sources of its formulas.
_FORMULA = re.compile(r"""\s*type\s*=\s*["']?math/tex(?P<display>;\s*mode=display)?""", re.I)
_TICKS = re.compile(r"`+")
_BLANK = re.compile(r"\n[ \t\r]*+\n")
_START_TAG = re.compile(r"<([a-z][a-z0-9]*)[\s/>]", re.I)
_END_TAG = re.compile(r"</([a-z][a-z0-9]*)\s*>", re.I)
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)(?=[\s/>])", re.I)
_HEADING_AFTER = re.compile(r"#{1,6} ")
# A block of code by indentation; one that begins with a tag is HTML laid out by hand.
_INDENT = r"(?: {4}| {0,3}\t)[ \t]*+"
_INDENTED = re.compile(
    rf"{_INDENT}(?!</?[a-z]|<!--)\S.*+(?:\n(?:[ \t\r]*+\n)*+{_INDENT}\S.*+)*+", re.I
)
_ITEM = re.compile(r"^[ \t>]*+(?:[-*+]|\d{1,9}[.)])[ \t]", re.M)

_Kind = Literal["open", "close", "void", "drop", "math", "span", "fence", "blank"]


@dataclass(slots=True)
class Token:
    """One of these at `text[start:end]`."""

    kind: _Kind
    start: int
    end: int
    name: str = ""
    detail: str = ""
    """Attributes of a tag, a formula, content of a code span, info string of a fence, "#" of a
    blank."""
    until: int | None = None
    """Where the element of a start tag ends; None if it has no end and is dropped.

    Of a fence: where it ends; None if nothing closes it.
    """
    airy: bool = False
    """A blank line follows: what comes next is Markdown."""


class Markup(NamedTuple):
    """What `scan` has read."""

    tokens: list[Token]
    """Tags, code and blank lines, in order; code and tags do not overlap."""
    indented: list[tuple[int, int]]
    """Where blocks of code by indentation begin and end, which hold no tokens."""

    def holds_html(self) -> bool:
        """Is there a tag, or a comment?"""
        return any(each.kind not in {"span", "fence", "blank"} for each in self.tokens)

    def code(self) -> list[tuple[int, int]]:
        """Where code is, in order: fences, spans and indented blocks."""
        code = [(each.start, each.end) for each in self.tokens if each.kind in {"span", "fence"}]
        return sorted(code + [each for each in self.indented if each[0] < each[1]])


def scan(text: str) -> Markup:
    """Read `text`."""
    opened = {name.lower() for name in _START_TAG.findall(text)}
    closed = {name.lower() for name in _END_TAG.findall(text)}
    find = _Finder(text)
    tokens: list[Token] = []
    depth = 0  # open containers and lists, in which indentation is not code
    in_block = False  # the last tag of a block or container began it
    in_list = False  # an indented line after a list item belongs to the item
    verbatim: str | None = None  # inside <pre> and <code>, only tags mean anything
    line = 0  # start of the paragraph
    position = _skip_indented(text, 0)
    indented = [(0, position)]
    while match := _MARKUP.search(text, position):
        start, position = match.span()
        if match["name"] is not None:
            token = _tag(match, opened, closed)
            if token is None:
                position = start + 1
                continue
            if token.name in BLOCKS or token.name in CONTAINERS:
                in_block = token.kind == "open"
            if token.name in OPAQUE:
                end = find.end_tag(token.name, position) if token.kind == "open" else None
                token.kind, token.end = "drop", position if end is None else end
                if end is not None and (formula := _FORMULA.match(token.detail)):
                    marks = "$$" if formula["display"] else "$"
                    source = text[position : text.rindex("<", position, end)].strip()
                    token.kind, token.detail = "math", f"{marks}{source}{marks}"
                position = token.end
            elif token.name in CONTAINERS or token.name in {"ul", "ol", "dl", "table"}:
                depth = max(0, depth + (1 if token.kind == "open" else -1))
            elif token.name in {"pre", "code", "samp", "kbd", "tt"}:
                if token.kind == "close" and token.name == verbatim:
                    verbatim = None
                elif token.kind == "open" and verbatim is None:
                    verbatim = token.name if find.is_closed(token.name, position) else None
            tokens.append(token)
        elif match["comment"] is not None:
            end = find.after("-->" if match["comment"] == "<!--" else ">", position)
            if end is not None:
                tokens.append(Token("drop", start, end))
                position = end
        elif verbatim is not None:
            position = start + 1 if match["ticks"] is None else position
        elif match["blank"] is not None:
            heading = _HEADING_AFTER.match(text, position) is not None
            depth = 0 if heading else depth
            if tokens and tokens[-1].kind == "open":
                tokens[-1].airy = not text[tokens[-1].end : start].strip()
            tokens.append(Token("blank", start, position, detail="#" if heading else ""))
            in_list = bool(_ITEM.search(text, line, start)) or (in_list and text[line] in " \t")
            line = position
            if depth == 0 and not in_list:
                position = _skip_indented(text, position)
                indented.append((line, position))
        elif match["fence"] is not None:
            end = find.fence_end(match["fence"], position)
            position = len(text) if end is None else end
            token = Token("fence", match.start("fence"), position, detail=match["info"].strip())
            token.until = end
            tokens.append(token)
        elif match["ticks"] is not None:
            end = find.span_end(start, len(match["ticks"]))
            if end is not None and not (in_block and _closes_first(text, start, end)):
                size = len(match["ticks"])
                tokens.append(Token("span", start, end, detail=text[start + size : end - size]))
                position = end
    return Markup(tokens, indented)


def _tag(match: re.Match[str], opened: set[str], closed: set[str]) -> Token | None:
    """The tag that was matched, or None if it is not HTML."""
    name, attributes = match["name"].lower(), match["attributes"]
    closing = bool(match["slash"])
    if name not in ELEMENTS:
        return None
    if "=" not in attributes and not _BARE_ATTRIBUTES.fullmatch(attributes):
        return None  # "<b and c>": prose
    if name not in _STRONG:
        if closing:  # a stray one is left over from HTML
            known = name in opened or name not in _LETTERS
        else:
            known = "=" in attributes or name in closed or (name == "table" and "tr" in opened)
        if not known:
            return None
    kind: _Kind = "void" if name in VOID else "close" if closing else "open"
    if kind == "void" and closing and name != "br":
        kind = "close"
    return Token(kind, *match.span(), name=name, detail=attributes)


class _Finder:
    """Searches for what closes something, each in one sweep over the text at most."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._absent: set[str] = set()
        self._runs: dict[int, list[int]] = {}
        for run in _TICKS.finditer(text):
            self._runs.setdefault(len(run[0]), []).append(run.start())
        self._blanks = [blank.start() for blank in _BLANK.finditer(text)]

    def after(self, closer: str, position: int) -> int | None:
        """Where the next `closer` ends."""
        if closer not in self._absent:
            found = self._text.find(closer, position)
            if found >= 0:
                return found + len(closer)
            self._absent.add(closer)
        return None

    def end_tag(self, name: str, position: int) -> int | None:
        """Where the next end tag of `name` ends."""
        if f"/{name}" not in self._absent:
            found = re.compile(rf"</{name}\s*+>", re.I).search(self._text, position)
            if found:
                return found.end()
            self._absent.add(f"/{name}")
        return None

    def is_closed(self, name: str, position: int) -> bool:
        """Whether an element of verbatim text just begun ends before the next of its kind."""
        if f"<{name}" in self._absent:
            return False
        found = re.compile(rf"<(/?){name}[\s>]", re.I).search(self._text, position)
        if found is None:
            self._absent.add(f"<{name}")
            return False
        return bool(found[1]) and (name == "pre" or not self._blank_in(position, found.start()))

    def fence_end(self, marks: str, position: int) -> int | None:
        """Where a fence ends: without a closing line, CommonMark lets it run to the end."""
        if marks not in self._absent:
            closing = re.compile(rf"^[ \t>]*+{marks[0]}{{{len(marks)},}}+[ \t\r]*+$", re.M)
            found = closing.search(self._text, position)
            if found:
                return found.end()
            self._absent.add(marks)
        return None

    def span_end(self, start: int, size: int) -> int | None:
        """Where the code span begun by `size` backticks ends: in the same paragraph, if at all."""
        runs = self._runs.get(size, [])
        index = bisect_left(runs, start + size)
        if index == len(runs) or self._blank_in(start, runs[index]):
            return None
        return runs[index] + size

    def _blank_in(self, start: int, end: int) -> bool:
        blank = bisect_left(self._blanks, start)
        return blank < len(self._blanks) and self._blanks[blank] < end


def _closes_first(text: str, start: int, end: int) -> bool:
    """Whether "code" inside HTML begins with the end of a block: "don`t</p><p>don`t"."""
    for tag in _TAG.finditer(text, start, end):
        if tag[2].lower() in BLOCKS or tag[2].lower() in CONTAINERS:
            return bool(tag[1]) and text[start:end].strip("` ").lower() != f"</{tag[2].lower()}>"
    return False


def _skip_indented(text: str, position: int) -> int:
    """The end of the code block that is indented by four columns at `position`, if there is one."""
    block = _INDENTED.match(text, position)
    return block.end() if block else position
