"""Clean HTML to Markdown: markdownify 1.2.3, with each change and its reason."""

import re
from collections.abc import Callable
from functools import lru_cache
from html import unescape
from textwrap import indent
from typing import Any

from bs4.element import NavigableString, PageElement, Tag
from markdownify import MarkdownConverter

from kagglecrawl.pipelines.links import absolute
from kagglecrawl.pipelines.markup import BLOCKS, ELEMENTS, VOID

_PARAGRAPHS = re.compile(r"(\n[ \t]*+\n\s*+)")
# What would be read as HTML, or as a character reference, when the Markdown is read again.
_READ_AS_HTML = re.compile(
    rf"<(?=/?(?:{'|'.join(sorted(ELEMENTS))})[\s/>]|!--)|&(?=#?\w{{1,32}};)", re.I
)
_MAX_COLUMNS = 50  # colspan="1000" in every cell would multiply a page by a thousand
_SCHEME = re.compile(r"https?://|mailto:")
_SCRIPT = re.compile(r"(?:java|vb)script:", re.I)
_EXPONENT = re.compile(r"[-+−]?(?:\d+(?:\.\d+)?|[a-zA-Z])")


class _Tag(Tag):
    def find_parent(self, name: Any = None, *args: Any, **kwargs: Any) -> Any:
        """markdownify asks every tag for a <pre> above it; bs4 builds a filter each time."""
        if type(name) is not str or args or kwargs:
            return super().find_parent(name, *args, **kwargs)
        parent = self.parent
        while parent is not None and parent.name != name:
            parent = parent.parent
        return parent


def convert_all(fragments: list[str], base_url: str = "") -> list[str]:
    """Convert clean fragments of HTML, as `regions` writes them.

    Relative links become absolute if there is a `base_url`.
    """
    converter = _converter(base_url)
    return [
        converter.process_tag(tree_of(fragment), parent_tags=set()).strip("\n") if fragment else ""
        for fragment in fragments
    ]


_PIECE = re.compile(r"([^<]*+)<(/?)([a-z0-9]++)([^>]*+)>|([^<]++)\Z")
_ATTRIBUTE = re.compile(r' ([a-z]+)="([^"]*+)"')


def tree_of(html: str) -> Tag:
    """The elements of clean HTML, as BeautifulSoup would parse them, in a third of the time.

    Elements nest properly, and attributes have quotes and no ``>`` or ``<``. End tags of nothing
    are ignored.
    """
    root = _Tag(name="region")
    element: Tag = root
    last: PageElement = root
    for before, slash, name, attributes, rest in _PIECE.findall(html):
        if text := before or rest:
            string = NavigableString(unescape(text))
            string.setup(element, last)
            element.contents.append(string)
            last = string
        if slash:
            if element.name == name and element.parent is not None:
                element = element.parent
        elif name:
            pairs = {key: unescape(value) for key, value in _ATTRIBUTE.findall(attributes)}
            tag = _Tag(name=name, attrs=pairs, parent=element, previous=last)
            element.contents.append(tag)
            last = tag
            element = element if name in VOID else tag
    tables = root.find_all("table") if html.count("<table") > 1 else []
    for table in tables:
        if table.find("table"):  # Markdown has no table in a table: the outer one is layout
            cells = table.find_all(["tr", "td", "th"])
            for each in [table, *(cell for cell in cells if cell.find_parent("table") is table)]:
                each.name = "div"
    return root


def _is_break(element: PageElement | None) -> bool:
    return isinstance(element, Tag) and element.name == "br"


def _beside(element: PageElement, step: str) -> PageElement | None:
    """The next or previous sibling that is not blank space."""
    sibling: PageElement | None = getattr(element, step)
    while sibling is not None and not isinstance(sibling, Tag) and not str(sibling).strip():
        sibling = getattr(sibling, step)
    return sibling


def _outside(mark: str, text: str) -> str:
    """`text` between marks that touch it, blank space left outside: "** a**" is no emphasis."""
    core = text.strip()
    if not core:
        return text
    at = text.index(core)
    return f"{text[:at]}{mark}{core}{mark}{text[at + len(core) :]}"


def _emphasis(mark: str, names: frozenset[str]) -> Callable[..., str]:
    def convert(self: "_Converter", el: Tag, text: str, parent_tags: set[str]) -> str:
        # Nested in its like it says nothing; a list or a table in it cannot be marked.
        if "_noformat" in parent_tags or names & parent_tags:
            return text
        if any(isinstance(each, Tag) and each.name in _UNMARKED for each in el.descendants):
            return text
        return "".join(_outside(mark, each) for each in _PARAGRAPHS.split(text))

    return convert


_UNMARKED = BLOCKS - {"p"}
_BOLD, _ITALIC = frozenset({"b", "strong"}), frozenset({"i", "em"})
_STRUCK = frozenset({"s", "del", "strike"})


class _Converter(MarkdownConverter):
    """markdownify 1.2.3 with Kaggle's needs.

    Its stubs leave out most of the methods that its README says to override.
    """

    convert_b = convert_strong = _emphasis("**", _BOLD)
    convert_i = convert_em = _emphasis("*", _ITALIC)
    convert_s = convert_del = convert_strike = _emphasis("~~", _STRUCK)

    def _address(self, value: Any) -> str:
        url = str(value or "").strip()
        return absolute(url, self.options["base_url"]) if url else ""  # type: ignore[attr-defined]

    def escape(self, text: str, parent_tags: set[str]) -> str:
        """Keep characters as they are, but what was no tag must not become one."""
        return _READ_AS_HTML.sub(lambda it: "&lt;" if it[0] == "<" else "&amp;", text)

    def process_text(self, el: PageElement, parent_tags: set[str]) -> str:
        """No blank space beside a line break, no line break in code."""
        text: str = super().process_text(el, parent_tags=parent_tags)  # type: ignore[misc]
        if "pre" in parent_tags:
            return text
        if _is_break(el.previous_sibling):
            text = text.lstrip()
        if _is_break(el.next_sibling):
            text = text.rstrip()
        return text.replace("\n", " ") if "_noformat" in parent_tags else text

    def convert_a(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Encode what would end the link; `<url>` only where Markdown reads it as a link."""
        href = self._address(el.get("href"))
        label = " ".join(text.split())
        if "_noformat" in parent_tags or not label or not href or _SCRIPT.match(href):
            return text
        if label == href and _SCHEME.match(href):
            link = f"<{href}>"
        else:
            title = " ".join(str(el.get("title") or "").replace('"', r"\"").split())
            target = f'{_url(href)} "{title}"' if title else _url(href)
            link = f"[{label}]({target})"
        return text[: len(text) - len(text.lstrip())] + link + text[len(text.rstrip()) :]

    def convert_img(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Keep images in headings and cells too."""
        src = _url(self._address(el.get("src")))
        return f"![{' '.join(str(el.get('alt') or '').split())}]({src})" if src else ""

    def convert_iframe(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Keep the address of what is shown: videos and documents."""
        source = el if el.get("src") else el.find("source", src=True)
        src = self._address(source.get("src")) if isinstance(source, Tag) else ""
        src = _url(f"https:{src}" if src.startswith("//") else src)
        return (f"<{src}>" if _SCHEME.match(src) else f"[{src}]({src})") if src else text

    convert_video = convert_audio = convert_embed = convert_iframe

    def convert_sup(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """`10<sup>-3</sup>` is not 10-3."""
        return f"^{text}" if _EXPONENT.fullmatch(text) else text

    def convert_br(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """One breaks the line, two or more the paragraph."""
        if "pre" in parent_tags:
            return "\n"
        if parent_tags & {"_inline", "a"}:
            return " "
        if _is_break(_beside(el, "next_sibling")):
            return ""
        return "\n\n" if _is_break(_beside(el, "previous_sibling")) else "  \n"

    def convert_code(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """A code span ends with its line."""
        if "_noformat" in parent_tags or el.find("pre"):
            return text
        lines = text.split("\n")
        if len(lines) == 1:
            return _code_span(text)
        return "  \n".join(_code_span(line.strip()) for line in lines if line.strip())

    convert_kbd = convert_samp = convert_tt = convert_code

    def convert_pre(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """A fence longer than any in the code, with the language that the class names."""
        if "_inline" in parent_tags:
            return _code_span(" ".join(text.split()))
        if "pre" in parent_tags or not text.strip():
            return text
        code = re.sub(r"\A(?:[ \t]*\n)+", "", text.replace("\r\n", "\n")).rstrip()
        longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
        fence = "`" * max(3, longest + 1)
        classes = [
            c for each in [el, *el.find_all("code")] for c in str(each.get("class") or "").split()
        ]
        languages = [c.partition("-")[2] for c in classes if c.startswith(("language-", "lang-"))]
        return f"\n\n{fence}{''.join(languages[:1])}\n{code}\n{fence}\n\n"

    def convert_blockquote(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """With a blank line before it."""
        quoted: str = super().convert_blockquote(el, text, parent_tags)  # type: ignore[misc]
        return quoted if "_inline" in parent_tags else f"\n{quoted}"

    def convert_hN(self, n: int, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Not an empty heading."""
        heading: str = super().convert_hN(n, el, text, parent_tags)  # type: ignore[misc]
        return heading if text.strip() else ""

    def convert_ul(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Text that follows a list in an item does not join its last line."""
        text = text.strip("\n")
        return f"\n{text}\n\n" if "li" in parent_tags else f"\n\n{text}\n\n"

    convert_ol = convert_ul

    def convert_li(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """Count as we go: to look back at every item is quadratic."""
        parent, bullet = el.parent, "* "
        if parent is not None and parent.name == "ol":
            start = str(parent.get("start") or 1)
            number = int(start) if start.isdecimal() and len(start) < 10 else 1
            parent["start"] = str(number + 1)
            bullet = f"{number}. "
        text = text.strip()
        return bullet + indent(text, " " * len(bullet))[len(bullet) :] + "\n" if text else "\n"

    def convert_td(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """A cell is one line without bars."""
        span = str(el.get("colspan") or 1)
        columns = min(int(span), _MAX_COLUMNS) if span.isdecimal() and len(span) < 5 else 1
        text = re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))
        return f" {text} |" + "  |" * (columns - 1)

    convert_th = convert_td

    def convert_tr(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """One line; the table adds the delimiters."""
        return f"|{text.strip(chr(10))}\n" if text.strip() else ""

    def convert_table(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        """The first row is the header, whatever it is made of: Markdown has no table without."""
        lines = [line for line in text.split("\n") if line.strip()]
        rows = [line for line in lines if line.startswith("|")]
        if not rows or "_inline" in parent_tags:
            return f"\n\n{text.strip()}\n\n"
        widths = [len(re.findall(r"(?<!\\)\|", row)) - 1 for row in rows]
        rows[0] += "  |" * (max(widths) - widths[0])
        rows.insert(1, "| " + " | ".join(["---"] * max(widths)) + " |")
        caption = " ".join(line for line in lines if not line.startswith("|"))
        return "\n\n" + "\n\n".join(filter(None, [caption, "\n".join(rows)])) + "\n\n"


def _code_span(code: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if longest else ""
    return _outside(ticks, code) if not pad else f"{ticks} {code.strip()} {ticks}"


def _url(url: str) -> str:
    url = re.sub(r"\s+", "%20", url.strip()).replace("<", "%3C").replace(">", "%3E")
    if url.count("(") != url.count(")"):
        url = url.replace("(", "%28").replace(")", "%29")
    return url


@lru_cache(maxsize=16)
def _converter(base_url: str) -> Any:
    make: Any = _Converter  # its stubs know no options of our own
    return make(heading_style="atx", bullets="*", base_url=base_url)
