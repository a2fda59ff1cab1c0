"""What a competition says of itself: pages as its hosts wrote them, and Meta Kaggle's Overview.

Pages are Markdown, HTML or both. Every section holds words of its own that stand in no other one,
so that a test can tell whether a section is whole, and nothing but that section.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Literal

from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.prose import Block, Span, line

Shape = Literal["markdown", "html", "mixed"]
Form = Literal["markdown", "bare", "html"]
"""How an Overview is put together: `# Overview` and `##` headings, `##` headings alone, or HTML."""

_CODE = """```python
# Evaluation
score = 1 - loss  # <b>not HTML</b>
```"""
_TABLE = "| id | prediction |\n|---|---|\n| 1 | 0.5 |"
_MATH = (
    "$$\\textrm{RMSE} = \\sqrt{\\frac{1}{n} \\sum_{i=1}^n (y_i - \\hat{y}_i)^2}$$",
    "The weight is $w_{i,j}^{*}$ and costs 5\\$.",
)
_HTML_TABLE = (
    "<table><thead><tr><th>id</th><th>prediction</th></tr></thead>"
    "<tbody><tr><td>1</td><td>0.5 &amp; more</td></tr></tbody></table>"
)
_PRE = "<pre>id,prediction<br />1,0.5<br />2,0.25<br />...</pre>"
_SMALL = "<p><sub><em>Icons by <a href='/someone'>someone</a></em></sub></p>"
_OPEN = "<div><p>This div is never closed.</p>"
_INNER = ("Submission File", "Acknowledgements", "Goal", "Metric", "Background")


@dataclass(frozen=True)
class Section:
    """A page's text as its hosts wrote it.

    `markdown` is what a right crawler stores of it, where that is beyond doubt; else None. `words`
    must be in what is stored, and `absent` (of comments) must not.
    """

    source: str
    shape: Shape
    markdown: str | None
    words: tuple[str, ...]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A page as ListCompetitionPages has it."""

    name: str
    content: str
    mime_type: str
    title: str
    published: bool = True


@dataclass(frozen=True)
class Texts:
    """All texts of a competition. Of a section that it does not have there is None."""

    description: Section | None
    evaluation: Section | None
    data: Section | None
    """The page `data-description`."""
    pages: tuple[Page, ...]
    """What ListCompetitionPages answers, in its order; unpublished ones are told by no call."""
    overview: str
    """Meta Kaggle's column of the name; what a competition that lacks it would have there."""
    rules: str

    @property
    def dataset_description(self) -> str:
        """Meta Kaggle's column of the name."""
        return f"# Dataset Description\n\n{self.data.source}" if self.data else ""


def write(
    key: tuple[object, ...],
    number: int,
    slug: str,
    *,
    description: bool = True,
    evaluation: bool = True,
    data: bool = True,
    pages: bool = True,
) -> Texts:
    """The texts of the competition of this number: what it lacks, if anything, is told."""
    dice = Dice("pages", *key)
    form: Form = dice.pick(("markdown",) * 7 + ("bare",) + ("html",) * 2)

    def section(letter: str, title: str) -> Section:
        shape: Shape = dice.pick(("markdown",) * 5 + ("html",) * 3 + ("mixed",) * 2)
        return _section(dice, "html" if form == "html" else shape, f"{letter}{number}", title, slug)

    about = section("d", "Description") if description else None
    metric = section("e", "Evaluation") if evaluation else None
    files = section("f", "Dataset Description") if data else None
    rest = [(name, section("r", name)) for name in ("Timeline", "Prizes") if dice.chance(0.6)]
    told = [("Description", about), ("Evaluation", metric), *rest]
    parts = [(name, each) for name, each in told if each is not None]
    rules = (
        "# Competition Rules\n\n\r\n\t<!-- Begin Base Rules -->\r\n"
        f"<p>One account per participant (w{number}rules).</p>\r\n\t<!-- End -->"
    )
    return Texts(
        about,
        metric,
        files,
        tuple(_pages(dice, parts, files, rules)) if pages else (),
        _overview(form, parts),
        rules,
    )


def _overview(form: Form, parts: list[tuple[str, Section]]) -> str:
    if form == "html":
        pages = [f"<h2>{name}</h2>\n{each.source}" for name, each in parts]
        return "\n".join(["<h1>Overview</h1>", *pages])
    pages = [f"## {name}\n\n{each.source}" for name, each in parts]
    return "\n\n".join([*(["# Overview"] if form == "markdown" else []), *pages])


def _pages(
    dice: Dice, parts: list[tuple[str, Section]], data: Section | None, rules: str
) -> Iterator[Page]:
    """Names as they have been seen: small ones, and capitalised ones beside them."""
    capitals = dice.chance(0.4)
    named = [(name if capitals else name.lower(), name, each) for name, each in parts]
    last = [("data-description", "Dataset Description", data)] if data else []
    for name, title, each in [*last, *named] if dice.chance(0.3) else [*named, *last]:
        kind = "text/html" if each.shape == "html" else "text/markdown"
        yield Page(name, each.source, "" if dice.chance(0.1) else kind, title)
    yield Page("foundational-rules" if capitals else "rules", rules, "text/html", "Rules")
    if dice.chance(0.2):
        yield Page("draft", "Not to be told.", "text/markdown", "Draft", published=False)


def _section(dice: Dice, shape: Shape, mark: str, title: str, slug: str) -> Section:
    words = (f"{mark}first", f"{mark}inner", f"{mark}last")
    first, inner, last = (_paragraph(dice, word) for word in words)
    lines = tuple(line(dice, breaks=False) for _ in range(dice.between(2, 4)))
    items = Block("ul", lines)
    heading = Block(dice.pick(("h2", "h3")), ((Span(dice.pick(_INNER)),),))
    blocks = [first, items, heading, inner, last] if dice.chance(0.8) else [first, inner, last]
    match shape:
        case "markdown":
            return _markdown(dice, blocks, words, title, slug)
        case "html":
            return _html(dice, blocks, words, mark, slug)
    return _mixed(dice, blocks, words, mark, slug)


def _paragraph(dice: Dice, word: str) -> Block:
    return Block("p", ((*line(dice, breaks=False), Span(f" See {word} there.")),))


def _markdown(
    dice: Dice, blocks: list[Block], words: tuple[str, ...], title: str, slug: str
) -> Section:
    texts = [block.markdown("-") for block in blocks]
    extras = [_CODE, _TABLE, *_MATH]
    for extra in dice.sample(extras, dice.below(3)):
        texts.insert(dice.between(1, len(texts) - 1), extra)
    if dice.chance(0.15) and title != "Evaluation":
        texts.insert(1, "### Evaluation")  # a heading inside a page, with the name of another page
    plain = True
    if dice.chance(0.2):
        texts.insert(1, f"Get [the data](/c/{slug}/data) and ![a logo](//example.org/{slug}.png).")
        plain = False
    if dice.chance(0.1):
        texts.insert(0, f"## {title}")  # the page begins with its own title
        plain = False
    source = "\n\n".join(texts)
    return Section(source, "markdown", source if plain else None, words)


def _html(dice: Dice, blocks: list[Block], words: tuple[str, ...], mark: str, slug: str) -> Section:
    texts = [block.html() for block in blocks]
    if dice.chance(0.4):
        markdown = "\n\n".join(block.markdown("*") for block in blocks)
        return Section("\n".join(texts), "html", markdown, words)
    hidden = f"{mark}hidden"
    links = f'<p><a href="/c/{slug}/data">Data</a> <img src="//example.org/{slug}.png" alt=""></p>'
    extras = [_HTML_TABLE, _PRE, _SMALL, links, f"<!-- {hidden} -->"]
    for extra in dice.sample(extras, dice.between(1, 3)):
        texts.insert(dice.between(1, len(texts) - 1), extra)
    return Section("\n".join(texts), "html", None, words, (hidden,))


def _mixed(
    dice: Dice, blocks: list[Block], words: tuple[str, ...], mark: str, slug: str
) -> Section:
    hidden = f"{mark}hidden"
    extras = [
        _HTML_TABLE,
        _PRE,
        _SMALL,
        _TABLE,
        _OPEN,
        f"\r\n\t<!-- {escape(hidden)} -->\r\n",
        f'<h2>Submission File</h2>\n<p>Like <a href="../{slug}/data">this</a>.</p>',
        "A stray end.</h5>",
    ]
    texts = [block.html() if dice.chance(0.4) else block.markdown("-") for block in blocks]
    for extra in dice.sample(extras, dice.between(1, 3)):
        texts.insert(dice.between(1, len(texts) - 1), extra)
    return Section("\n\n".join(texts), "mixed", None, words, (hidden,))


def revised(texts: Texts, number: int) -> Texts:
    """The texts with another description; the rest stays, and so do those that have none."""
    old = texts.description
    if old is None:
        return texts
    source = f"Update {number}: what was said here is **no longer** so.\n\n{old.source}"
    markdown = None
    if old.shape == "markdown" and old.markdown is not None:
        markdown = source
    shape: Shape = "markdown" if old.shape == "markdown" else "mixed"
    new = Section(source, shape, markdown, old.words, old.absent)
    pages = tuple(
        Page(p.name, source, p.mime_type, p.title) if p.title == "Description" else p
        for p in texts.pages
    )
    overview = texts.overview.replace(old.source, source, 1)
    return Texts(new, texts.evaluation, texts.data, pages, overview, texts.rules)
