"""Descriptions made of blocks, rendered to Markdown or to HTML.

One rendered to Markdown is to be stored as it is, byte for byte. One rendered to HTML keeps to
headings, paragraphs, strong, em, links, lists and `<br>`, for which the right Markdown is beyond
doubt: ATX headings, `**`, `*`, `[text](url)`, `* item`, `1. item`, blocks one blank line apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.truth import Prose

_NOUNS = [
    "station readings",
    "survey answers",
    "satellite tiles",
    "price quotes",
    "bird calls",
    "match results",
    "recipes",
    "road counts",
    "river levels",
    "library loans",
    "sensor_logs",
    "naïve baselines",
    "données ouvertes",
    "气象数据",
    "данные",
    "R&D budgets",
    "column_name values",
    "école records",
    "🌍 regions",
]
_VERBS = ["cover", "describe", "come from", "were cleaned with", "follow", "extend", "replace"]
_TAILS = [
    "every district since 1987",
    "the public archive",
    "a script of ours",
    "the 2nd edition",
    "hourly and daily steps",
    "three sources",
    "the field notes of volunteers",
    "ISO 8601 dates (UTC)",
]
_HEADINGS = [
    "Context",
    "Content",
    "Acknowledgements",
    "Inspiration",
    "Columns",
    "How it was made",
    "Méthode",
    "Known gaps",
    "数据说明",
]

_CODE = """```python
import pandas as pd

df = pd.read_csv("data.csv")  # <b>not HTML</b>
print(df[df.value > 3].head())
```"""
_TABLE = """| column | type | unit |
|---|---|---|
| id | int | |
| value_max | float | km/h |"""
_RAW = (
    "&gt; Quoted as the site stores it, with an entity.",
    "Values satisfy a < b and c > d; see <https://example.org/notes>.",
    "Prices in \\$, hard break here  \nand the line goes on.",
    "Read `<div>` literally, and *do not* strip __this__ or ~~that~~.",
)


@dataclass(frozen=True)
class Span:
    """A piece of a line: plain text, or with a mark around it (`strong`, `em`, `link`, `break`)."""

    text: str
    mark: str = ""
    url: str = ""

    def markdown(self) -> str:
        """The span in Markdown."""
        match self.mark:
            case "strong":
                return f"**{self.text}**"
            case "em":
                return f"*{self.text}*"
            case "link":
                return f"[{self.text}]({self.url})"
            case "break":
                return "  \n"
        return self.text

    def html(self) -> str:
        """The span in HTML."""
        text = escape(self.text, quote=False)
        match self.mark:
            case "strong" | "em":
                return f"<{self.mark}>{text}</{self.mark}>"
            case "link":
                return f'<a href="{escape(self.url)}">{text}</a>'
            case "break":
                return "<br>"
        return text


Line = tuple[Span, ...]


@dataclass(frozen=True)
class Block:
    """A block: `h2`, `h3`, `p`, `ul` or `ol`, with its lines (one, but for lists)."""

    tag: str
    lines: tuple[Line, ...]

    def markdown(self, bullet: str) -> str:
        """The block in Markdown."""
        texts = ["".join(span.markdown() for span in line) for line in self.lines]
        match self.tag:
            case "ul":
                return "\n".join(f"{bullet} {text}" for text in texts)
            case "ol":
                return "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1))
            case "p":
                return texts[0]
        return "#" * int(self.tag[1]) + f" {texts[0]}"

    def html(self) -> str:
        """The block in HTML."""
        texts = ["".join(span.html() for span in line) for line in self.lines]
        if self.tag in {"ul", "ol"}:
            items = "".join(f"<li>{text}</li>" for text in texts)
            return f"<{self.tag}>{items}</{self.tag}>"
        return f"<{self.tag}>{texts[0]}</{self.tag}>"


def write(*key: object) -> Prose:
    """Write the description that belongs to the key: 8 % empty, 10 % HTML, the rest Markdown.

    Real descriptions are Markdown by far; none of 19 real ones that were looked at is HTML."""
    dice = Dice("prose", *key)
    form = dice.unit()
    if form < 0.08:
        return Prose("", "")
    blocks = list(_blocks(dice, long=dice.chance(0.04)))
    if form < 0.18:
        between = dice.pick(("\n", "", "\n\n"))
        return Prose(
            between.join(block.html() for block in blocks),
            "\n\n".join(block.markdown("*") for block in blocks),
        )
    bullet = dice.pick("-*+")
    texts = [block.markdown(bullet) for block in blocks]
    for extra in dice.sample((_CODE, _TABLE, *_RAW), dice.below(4)):
        texts.insert(dice.between(1, len(texts)), extra)
    text = "\n\n".join(texts) + dice.pick(("", "", "\n"))
    return Prose(text, text)


def _blocks(dice: Dice, long: bool) -> Iterable[Block]:
    for _ in range(dice.between(40, 80) if long else dice.between(1, 4)):
        yield Block(dice.pick(("h2", "h3")), ((Span(dice.pick(_HEADINGS)),),))
        for _ in range(dice.between(1, 2)):
            yield Block("p", (line(dice, breaks=True),))
        # Only one list after the paragraphs: two in a row of the same kind merge in Markdown.
        if dice.chance(0.5):
            count = dice.between(2, 5)
            lines = tuple(line(dice, breaks=False) for _ in range(count))
            yield Block(dice.pick(("ul", "ol")), lines)


def line(dice: Dice, breaks: bool) -> Line:
    """A sentence, which with `breaks` may have a hard break and another one after it."""
    noun = dice.pick(_NOUNS)
    spans = [Span("The "), Span(noun, dice.pick(("", "", "strong", "em"))), Span(" ")]
    spans.append(Span(dice.pick(_VERBS)))
    spans.append(Span(" "))
    tail = dice.pick(_TAILS)
    if dice.chance(0.3):
        url = f"https://example.org/{dice.pick(('a', 'b', 'c'))}/{dice.below(1000)}"
        spans.append(Span(tail, "link", url))
    else:
        spans.append(Span(tail))
    spans.append(Span("."))
    if breaks and dice.chance(0.2):
        spans += [Span("", "break"), Span(f"See also {dice.pick(_TAILS)}.")]
    return tuple(spans)
