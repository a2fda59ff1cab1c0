"""Cuts a competition's Overview into its pages, and gives those that records have.

Kaggle's Overview is a title and pages, one after the other, each below its name as a heading:
``# Overview``, ``## Description``, ``## Evaluation``, ``## Timeline``. A page's own text is
Markdown, HTML or both, and has headings too, of any level, some with the name of a page.

* Only headings with the name of a page end one. Others (``## Submission File``, ``# Goal``)
  belong to the page that they are in: a section has rather too much than too little.
* Pages have the level of the shallowest heading named Description or Evaluation below the title;
  without a title, of the first. A deeper heading of such a name belongs to its page.
* Headings of HTML count only where those of Markdown do not name both sections.
* A section that has no heading at that level is what stands under the first of its name at
  another. A Description without any is what stands above the first page, often nothing.
"""

from __future__ import annotations

import re
from html import unescape
from typing import NamedTuple

from kagglecrawl.pipelines.markdown import to_markdown
from kagglecrawl.pipelines.markup import scan
from kagglecrawl.pipelines.regions import bound_lines, regions


class Sections(NamedTuple):
    """Two pages as Markdown, without their headings; "" where there is none."""

    description: str
    evaluation: str


def sections(overview: str, base_url: str = "") -> Sections:
    """Return the Description and the Evaluation of an Overview, which may be Markdown or HTML.

    Relative links become absolute if ``base_url`` is given. Time is linear in the text.
    """
    pages = _Pages(overview)
    if not pages.complete:
        converted = _Pages(to_markdown(overview, base_url))
        if converted.complete or not pages.named:
            pages = converted
    description, evaluation = pages.section("description"), pages.section("evaluation")
    return Sections(
        _trimmed(to_markdown(pages.above() if description is None else description, base_url)),
        _trimmed(to_markdown(evaluation or "", base_url)),
    )


#: Names of pages that real competitions have. Acknowledgements, Background, Data and Submission
#: File are not among them: they are headings within pages at least as often.
_PAGES = frozenset(
    {
        *("description", "evaluation", "timeline", "prizes", "citation", "getting started"),
        *("code requirements", "kernels requirements", "tutorial", "tutorials"),
        *("faq", "frequently asked questions", "judges", "tracks and awards"),
        *("rules", "competition rules", "foundational rules"),
        *("dataset description", "data description"),
        *("submission requirements", "bonus prize", "bonus prizes"),
    }
)
#: Titles like Overview, of texts that follow one in some files.
_TITLES = frozenset({"data", "dataset description", "rules", "competition rules"})
_LONGEST_NAME = 200  # characters
_FEW_WORDS = 5

_ATX = re.compile(r" {0,3}(#{1,6})(?!#)([ \t]*)(.*)", re.S)
_NO_PARAGRAPH = re.compile(r" {4}|[ \t]*(?:\t|[>|]|[-*+][ \t]|\d+[.)][ \t])")
_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-+)[ \t\r]*")
_TAG = re.compile(r"<[^<>]*>")
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()]*\)")
_NO_WORD = re.compile(r"[\W_]+")
_BLANK_LINES = re.compile(r"\A(?:[ \t\r]*+\n)++")


class _Heading(NamedTuple):
    start: int
    """Where its line begins, and where the text after it does (characters)."""
    stop: int
    level: int
    name: str
    """Lower-case words: ``**Evaluation** :##`` is "evaluation"."""


def _trimmed(text: str) -> str:
    """Without blank space around it; a block of code that comes first keeps its indentation."""
    text = _BLANK_LINES.sub("", text).rstrip()
    return text if text.startswith(("    ", "\t")) else text.lstrip()


def _is_page(name: str) -> bool:
    """Is it a page's name: one of those, or "About TensorFlow"?"""
    return name in _PAGES or name.startswith("about ")


class _Pages:
    """A text with its headings of Markdown, and the level of those that begin pages."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._headings = _headings(text)
        self._title = 0
        self._level = 0
        self.named = [each for each in self._headings if each.name in Sections._fields]
        """Headings named like a section, of any level."""
        self._find_level()
        if not any(each.name == "evaluation" for each in self.named):
            self._rename()
        levels = [self._level_of(name) for name in Sections._fields]
        self.complete = None not in levels
        """Are there headings for both?"""

    def section(self, name: str) -> str | None:
        """What stands under all headings of the name; None if there is no such heading."""
        level = self._level_of(name)
        if level is None:
            return None
        parts: list[str] = []
        start: int | None = None
        for each in self._headings:
            if start is None:
                start = each.stop if (each.name, each.level) == (name, level) else None
            elif each.name != name and (
                self._ends(each, level)
                # A section that is a part of a page: the next part begins.
                or each.level < level > self._level
            ):
                parts.append(_trimmed(self._text[start : each.start]))
                start = None
        if start is not None:
            parts.append(_trimmed(self._text[start:]))
        return "\n\n".join(filter(None, parts))

    def above(self) -> str:
        """What stands above the first page, without the title."""
        start, stop = 0, len(self._text)
        for each in self._headings:
            if each.name == "overview" and not self._text[start : each.start].strip():
                start = each.stop
            elif self._ends(each, self._level or 6):
                stop = each.start
                break
        return _trimmed(self._text[start:stop])

    def _find_level(self) -> None:
        if self._headings and self._headings[0].name == "overview":
            title = self._headings[0].level
            below = [each.level for each in self.named if each.level > title]
            if below:
                self._title, self._level = title, min(below)
                return
        if self.named:
            self._level = self.named[0].level

    def _rename(self) -> None:
        """Pages like "Supervised ML Evaluation" are the Evaluation where no other is."""
        for index, each in enumerate(self._headings):
            words = each.name.split()
            if each.level == self._level and "evaluation" in words and len(words) <= _FEW_WORDS:
                self._headings[index] = each._replace(name="evaluation")
                self.named.append(self._headings[index])

    def _level_of(self, name: str) -> int | None:
        """The level of the headings that begin a section."""
        levels = [each.level for each in self.named if each.name == name]
        if self._level in levels:
            return self._level
        for each in self.named:
            if each.name == name and each.level > self._title:
                return each.level
            if name == "description" and each.level == self._level:
                return None  # one within the Evaluation describes something else
        return None

    def _ends(self, heading: _Heading, level: int) -> bool:
        """Does a page begin, below which no page of the level goes on?"""
        if heading.level < self._level and heading.name in _TITLES:
            return True
        return self._title < heading.level <= level and _is_page(heading.name)


def _headings(text: str) -> list[_Heading]:
    """The headings that are Markdown in a text, in order: ``## A``, and ``A`` above dashes."""
    found: list[_Heading] = []
    hidden = _hidden(text)
    index = start = 0
    above, above_start = "", 0  # the line before, if it begins a paragraph
    for row in text.split("\n"):
        stop = start + len(row)
        while index < len(hidden) and hidden[index][1] <= start:
            index += 1
        atx, underline = _ATX.fullmatch(row), _UNDERLINE.fullmatch(row)
        if index < len(hidden) and hidden[index][0] <= start:
            above = ""
        elif atx and (atx[2] or not atx[3].strip() or _is_page(_name(atx[3]))):
            found.append(_Heading(start, stop, len(atx[1]), _name(atx[3])))
            above = ""
        elif above.strip() and underline:
            found.append(_Heading(above_start, stop, 1 if underline[1] else 2, _name(above)))
            above = ""
        elif above or _NO_PARAGRAPH.match(row):
            above = "" if not row.strip() else "\n"
        else:
            above, above_start = row.strip(), start
        start = stop + 1
    return found


def _hidden(text: str) -> list[tuple[int, int]]:
    """Where code and HTML are, in which no heading is Markdown."""
    markup = scan(text)
    # A fence that never ends was forgotten: it does not hide the next page.
    fences = [
        (each.start, each.end) for each in markup.tokens if each.kind == "fence" and each.until
    ]
    html = regions(text, markup, bound_lines(text)) if markup.holds_html() else ()
    return sorted([*fences, *((each.start, each.stop) for each in html)])


def _name(text: str) -> str:
    if len(text) > _LONGEST_NAME:
        return ""
    text = unescape(_LINK.sub(r"\1", _TAG.sub("", text))).replace("&", " and ")
    return _NO_WORD.sub(" ", text).strip().lower()
