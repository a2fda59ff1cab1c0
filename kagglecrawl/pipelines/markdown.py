"""Long texts become Markdown: HTML is converted by markdownify, Markdown stays as it is.

`regions` says which stretches of a text are HTML, `converter` converts them, and here they are
put back; every other byte is kept.
"""

import re
from textwrap import indent
from typing import Any, Self

from itemadapter import ItemAdapter
from scrapy.crawler import Crawler
from scrapy.statscollectors import StatsCollector

from kagglecrawl.pipelines.links import absolute_links
from kagglecrawl.pipelines.markup import Markup, scan
from kagglecrawl.pipelines.regions import Region, bound_lines, regions

# A converted text can hold HTML that was not HTML before (two halves of a tag that meet), so the
# conversion is repeated until nothing changes. Real texts need one round and one that finds
# nothing; a text made to need more has its tags defused.
_ROUNDS = 5


def to_markdown(text: str, base_url: str = "") -> str:
    """Return `text`, which may be Markdown, HTML or both, as Markdown.

    A text without HTML comes back as the same object. Otherwise what is not HTML keeps its
    bytes, except for blank space next to what was converted: blocks stand apart by one blank
    line. Comments, scripts and styles are removed; `<iframe>` and `<video>` become links.
    Converted text is not escaped (`a_b`, `2 * 3`, `$`), except that `&lt;` before the name of
    an element stays. Links and images that are relative become absolute if there is a `base_url`,
    the address of the page or site that the text is of.
    `to_markdown(to_markdown(x)) == to_markdown(x)`, and time is linear.
    """
    markup = None
    for _ in range(_ROUNDS):
        markup = scan(text) if _MAY_BE_HTML.search(text) else None
        if markup is None or not markup.holds_html():
            break
        converted = _convert(text, markup, base_url)
        if converted == text:
            break
        text = converted
    else:
        text, markup = text.replace("<", "&lt;"), None
    return absolute_links(text, base_url, markup) if base_url else text


class MarkdownPipeline:
    """Applies `to_markdown` to the fields declared with `field(metadata={"markdown": True})`.

    Instead of True it may be the text of a base URL: relative links then become absolute.
    Counts each field that holds text in `kaggle/markdown/converted` or
    `kaggle/markdown/unchanged`.
    """

    def __init__(self, stats: StatsCollector) -> None:
        self._stats = stats

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Take the crawler's stats."""
        assert crawler.stats is not None  # set before any component is made
        return cls(crawler.stats)

    def process_item(self, item: Any) -> Any:
        """Convert the declared fields of `item` in place; None and "" are left alone."""
        adapter = ItemAdapter(item)
        for name, base_url in _markdown_fields(type(item)).items():
            text = adapter.get(name)
            if not text:
                continue
            converted = to_markdown(text, base_url)
            if converted == text:
                self._stats.inc_value("kaggle/markdown/unchanged")
            else:
                adapter[name] = converted
                self._stats.inc_value("kaggle/markdown/converted")
        return item


_FIELDS: dict[type, dict[str, str]] = {}


def _markdown_fields(item_class: type) -> dict[str, str]:
    """The declared fields, each with its base URL; "" for none."""
    if item_class not in _FIELDS:
        names = ItemAdapter.get_field_names_from_class(item_class) or []
        metas = {name: ItemAdapter.get_field_meta_from_class(item_class, name) for name in names}
        bases = {name: meta.get("markdown") for name, meta in metas.items()}
        _FIELDS[item_class] = {
            name: base if isinstance(base, str) else "" for name, base in bases.items() if base
        }
    return _FIELDS[item_class]


# --- putting regions back -------------------------------------------------------------------

_MAY_BE_HTML = re.compile(r"<[a-zA-Z/!?]")
_REST_OF_LINE = re.compile(r"[ \t\r]*+(?:(?P<last>\n[ \t\r]*+(?:\n|\Z)|\Z)|\n)")
_IN_LIST = re.compile(r"[ \t>]*+(?:[-*+]|\d{1,9}[.)])[ \t]|[ \t]+\S|[ \t]*+>")
_MARKER = re.compile(r"[ \t]*(?:(?:>|[-*+]|\d{1,9}[.)])[ \t]+)+")


def _convert(text: str, markup: Markup, base_url: str) -> str:
    found = list(regions(text, markup, bound_lines(text)))
    if not found:
        return text
    # Here, since most texts hold no HTML, and what it loads is a tenth of the start of a crawl.
    from kagglecrawl.pipelines.converter import convert_all

    output, position, mixed = _Output(), 0, False
    converted = convert_all([region.html for region in found], base_url)
    for region, markdown in zip(found, converted, strict=True):
        between = text[position : region.start]
        mixed = mixed or bool(between.strip())
        output.text(between)
        position = _place(output, text, region, markdown)
    output.text(text[position:])
    mixed = mixed or bool(text[position:].strip())
    return output.joined() if mixed else output.joined().strip()


def _place(output: "_Output", text: str, region: Region, markdown: str) -> int:
    """Write a converted region; return where in `text` to go on."""
    rest = _REST_OF_LINE.match(text, region.stop)
    if region.bound:  # no line break may come into the line
        markdown = " ".join(markdown.split()) if region.block else markdown.replace("\n", " ")
        output.inline(" " if region.breaks else markdown)
    elif region.breaks:
        paragraph = region.breaks > 1 and not _IN_LIST.match(output.line())
        if paragraph or not output.line().strip() or (rest and rest["last"] is not None):
            output.block("")
        else:
            output.line_break()
            return rest.end() if rest else region.stop + _spaces(text, region.stop)
    elif region.block and _MARKER.fullmatch(output.line()):  # in an item or a quote it has begun
        margin = re.sub(r"[^>\s]", " ", output.line())
        lines = [margin + line if line else margin.rstrip() for line in markdown.split("\n")]
        output.inline("\n".join(lines)[len(margin) :])
    elif region.block:
        line = output.line()
        in_list = not region.inside and not line.strip() and _IN_LIST.match(output.last_line())
        output.block(indent(markdown, line) if in_list else markdown)
    elif markdown or output.line().strip() or not rest:
        output.inline(markdown)
    elif rest["last"] is not None or not output.line_before().strip():
        output.block("")  # nothing is left of a line between two paragraphs
    else:
        return rest.end()  # nothing is left of a line within a paragraph
    return region.stop


def _spaces(text: str, position: int) -> int:
    end = position
    while text[end : end + 1] in {" ", "\t"}:
        end += 1
    return end - position


class _Output:
    """Text, inline and block pieces, with one blank line on each side of a block."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._due = False  # a block has ended: a blank line comes before what follows

    def text(self, source: str) -> None:
        """Add what is not HTML."""
        if self._due:
            rest = source.lstrip()
            if not rest:
                return
            margin = source[: len(source) - len(rest)].rpartition("\n")
            self._separate()
            source = (margin[2] if margin[1] else "") + rest
        if source:
            self._parts.append(source)

    def inline(self, markdown: str) -> None:
        """Add what goes on in the line."""
        if markdown and self._due:
            self._separate()
        self._parts.append(markdown)

    def block(self, markdown: str) -> None:
        """Add what stands by itself; "" for the boundary alone."""
        self._strip()
        if markdown:
            self._separate()
            self._parts.append(markdown)
        self._due = True

    def line_break(self) -> None:
        """End the line, not the paragraph."""
        self._strip()
        self._parts.append("  \n")

    def line(self) -> str:
        """What the line holds so far (of a long one, its end)."""
        return "" if self._due else self._tail().rpartition("\n")[2]

    def line_before(self) -> str:
        """The line before this one; "" if it is blank or a block (of a long one, its end)."""
        lines = self._tail().rsplit("\n", 2)
        return "" if self._due or len(lines) < 2 else lines[-2]

    def last_line(self) -> str:
        """The last line that is not blank; "" after a block (of a long one, its end)."""
        return "" if self._due else self._tail().rstrip().rpartition("\n")[2]

    def joined(self) -> str:
        """All of it."""
        return "".join(self._parts)

    def _tail(self) -> str:
        # Enough to know an item by its marker; a bound keeps the whole linear.
        tail = ""
        for part in reversed(self._parts[-8:]):
            tail = part[-400:] + tail
            if len(tail) > 400:
                break
        return tail

    def _strip(self) -> None:
        while self._parts:
            self._parts[-1] = self._parts[-1].rstrip()
            if self._parts[-1]:
                return
            self._parts.pop()

    def _separate(self) -> None:
        if self._parts:
            self._parts.append("\n\n")
        self._due = False
