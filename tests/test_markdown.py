"""HTML becomes Markdown, Markdown stays: real shapes, hostile ones, and any mix of both."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scrapy.statscollectors import StatsCollector
from scrapy.utils.test import get_crawler

from kagglecrawl.pipelines.markdown import MarkdownPipeline, to_markdown

MARKDOWN = [
    "",
    "Plain text.",
    "# Title\r\n\r\nCR LF and `code`\r\n",
    "A *b* _c_ **d** a_b_c 5 * 3 \\$5 \\<div> \\`x\\`",
    "trailing  \nhard break\\\nand this",
    "&gt; quoted by entity &amp; &lt;b&gt;",
    "<https://kaggle.com> and <team@kaggle.com>",
    "a < b, c <= d, x<y and z>w, i <3 you",
    "<placeholder> <image id> (<case>/<case_day>/<scans>) <student_ID>_<x> </think>",
    "train/<label>/<title>.jpg from <source>, <time>, <i>.png and SELECT * FROM <table>",
    "if x <b and c> d",
    "A    <self>\nbaby    <self>",
    "```html\n<div>\n<p>x</p>\n```\n",
    "~~~\n<b>x</b>\n```\n<i>\n~~~\n",
    "- item\n  ```\n  <br>\n  ```\n> ```\n> <br>\n> ```\n",
    "```\nnever closed <p>x</p>\n",
    "Use `<b>x</b>`, ``a ` <br>`` and `</p>`.",
    "Text:\n\n    if a <b> c:\n        <br>\n\n    x <p>\n\nend",
    "| a | b |\n|---|:-:|\n| `<br>` | x \\| y |\n",
    "Math $a<b$ and $$x_{<i}$$",
    "<!-- never closed",
    "<p never closed",
    "\n\n\n leading and trailing \n\n\n",
]


@pytest.mark.parametrize("text", MARKDOWN)
def test_markdown_stays_as_it_is(text: str) -> None:
    assert to_markdown(text) is text


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<h1>H</h1><h2>I <b>j</b></h2>\n<h7>x</h7>", "# H\n\n## I **j**\n\n<h7>x</h7>"),
        ("<p>a <strong>b</strong> <em>c</em> <i>d</i></p>", "a **b** *c* *d*"),
        ("<p>one\n   two</p><p>three</p>", "one\ntwo\n\nthree"),
        ('<p><a href="https://x.y/a_b" title="T">t</a></p>', '[t](https://x.y/a_b "T")'),
        ('<a href="https://x.y">https://x.y</a>', "<https://x.y>"),
        ('<a href="www.x.y">www.x.y</a>', "[www.x.y](www.x.y)"),
        ('<a href="a b(c">t</a> <a name="n"></a>', "[t](a%20b%28c)"),
        ('<a href="javascript:x()">t</a>', "t"),
        ("<ul><li>a</li><li>b</li></ul>", "* a\n* b"),
        ("<ol><li>a</li><li>b</li></ol><p>c</p>", "1. a\n2. b\n\nc"),
        ('<ol start="3"><li>a<li>b</ol>', "3. a\n4. b"),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "* a\n  * b\n* c"),
        ("<ul><li>a<ul><li>b</li></ul>c</li></ul>", "* a\n  * b\n\n  c"),
        ("<ul>\n\n<li>a</li>\n\n<li><p>b</p><p>c</p></li>\n</ul>", "* a\n* b\n\n  c"),
        ("<p>a<br>b<br/>c</p>", "a  \nb  \nc"),
        ("<p>a<br><br />b</p>", "a\n\nb"),
        ("<blockquote><p>a</p><p>b</p></blockquote>c", "> a\n>\n> b\n\nc"),
        ("a<hr>b", "a\n\n---\n\nb"),
        ("<pre>a,b<br />1,2<br/>...</pre>", "```\na,b\n1,2\n...\n```"),
        ("<pre>\n\n  a\n\n\n  &lt;b&gt;\n</pre>", "```\n  a\n\n\n  <b>\n```"),
        ("<pre>\n```\nx\n```\n</pre>", "````\n```\nx\n```\n````"),
        ('<pre><code class="language-python">x = 1</code></pre>', "```python\nx = 1\n```"),
        ("<code>a_b</code> <kbd>x`y</kbd> <code> </code>", "`a_b` `` x`y ``"),
        ("<p><code>a<br>b</code></p>", "`a`  \n`b`"),
        ("<sub><em>small</em></sub>", "*small*"),
        ("<p>10<sup>-3</sup> m<sup>2</sup> 1<sup>st</sup></p>", "10^-3 m^2 1st"),
        ("<del>a</del> <strike>b</strike>", "~~a~~ ~~b~~"),
        ("<p>a<b> b </b>c<i>\nd</i></p>", "a **b** c\n*d*"),
        ("<b>a<br><br>b</b>", "**a**\n\n**b**"),
        ("<b><i></i></b>x<b><b>y</b></b>", "x**y**"),
        ('<img src="a b.png" alt="x\ny"> <img alt="no source">', "![x y](a%20b.png)"),
        ('<h2>A <img src="u"><br>b</h2><h3></h3>', "## A ![](u) b"),
        ('<iframe src="//www.youtube.com/embed/x"></iframe>', "<https://www.youtube.com/embed/x>"),
        ('<video controls><source src="v.mp4"></video>', "[v.mp4](v.mp4)"),
        ("a<script>if (x<1) '<p>'</script><style>p{}</style>b", "ab"),
        ("<p>a<!-- <b> -->b</p><!-- \n\n x -->", "ab"),
        ("<!DOCTYPE html><html><head><title>T</title></head><body>x</body></html>", "x"),
        (
            "<p>Tom &amp; Jerry&nbsp;&copy; ?a=1&copy=2</p><p>&nbsp;</p>",
            "Tom & Jerry © ?a=1&copy=2",
        ),
        ("<p>5 * 3 a_b [c] #1 $x$ \\d ~</p>", "5 * 3 a_b [c] #1 $x$ \\d ~"),
        ("<p>&lt;div&gt; &lt;id&gt; &amp;lt; 1 &lt; 2</p>", "&lt;div> <id> &amp;lt; 1 < 2"),
        ("<div>\n   <div>\n      deep\n      text</div>\n</div>", "deep\ntext"),
        ("<FONT color=red>x</FONT> <span style='a:b>c'>y</span>", "x y"),
        ("<dl><dt>T</dt><dd>D</dd></dl>", "T\n:   D"),
    ],
)
def test_html_becomes_markdown(html: str, markdown: str) -> None:
    assert to_markdown(html) == markdown


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        (
            "<table><thead><tr><th>A</th><th>B</th></tr></thead>"
            "<tbody><tr><td>1|2</td><td><p>x</p><p>y</p></td></tr></tbody></table>",
            "| A | B |\n| --- | --- |\n| 1\\|2 | x y |",
        ),
        (
            "<table><caption>C</caption><colgroup><col></colgroup><tr><td>a<td>b<tr><td>c</table>",
            "C\n\n| a | b |\n| --- | --- |\n| c |",
        ),
        (
            "<table><tr><td colspan=2>a</td></tr><tr><td>b</td><td>c</td></tr></table>",
            "| a |  |\n| --- | --- |\n| b | c |",
        ),
        (
            "<table><tr><td>p<table><tr><th>x</th></tr></table></td></tr></table>",
            "p\n\n| x |\n| --- |",
        ),
    ],
)
def test_tables(html: str, markdown: str) -> None:
    assert to_markdown(html) == markdown


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("# D\n\n<div><p>a</p><p>b &amp; c</p></div>", "# D\n\na\n\nb & c"),
        ("# R\n\n\r\n\t<!-- Begin Base Rules -->\r\n<h2>x</h2>\r\n", "# R\n\n## x"),
        ("### T</h5>\n###2. x \\$5", "### T\n###2. x \\$5"),
        ("a\r\n\r\n<p>x</p>\r\n\r\nb *c*\r\nd", "a\n\nx\n\nb *c*\r\nd"),
        ("text <b>b</b> &gt; <https://x.y> `<i>`", "text **b** &gt; <https://x.y> `<i>`"),
        (
            "x <b>a_b</b> and `<b>`\n\n\n\n    code <b>\n",
            "x **a_b** and `<b>`\n\n\n\n    code <b>\n",
        ),
        ("<label>a</label> <label>/<id>", "a /<id>"),
        ("one<br>two<br>\nthree<br>\n\nfour", "one  \ntwo  \nthree\n\nfour"),
        ("p\n\n<br>\n**Q**", "p\n\n**Q**"),
        ("a<br><br>b", "a\n\nb"),
        ("- a<br><br>b\n- c", "- a  \nb\n- c"),
        ("## A<br>b <b>c</b>\nd", "## A b **c**\nd"),
        (
            "| a | b |\n|---|---|\n| x<br>y | <ul><li>p</li><li>q</li></ul> |\n| <div> | </p> |",
            "| a | b |\n|---|---|\n| x y | * p * q |\n|  |  |",
        ),
        ("<center>\n\n| a | b |\n|---|---|\n\n</center>\n\n\nz", "| a | b |\n|---|---|\n\nz"),
        ("<div>\n\n## H\n\n- a\n  - b\n\n</div>", "## H\n\n- a\n  - b"),
        ("<p>\n\n**a** &gt; b\n\n</p>", "**a** &gt; b"),
        ("<p> \r\n\r\n**a**\r\n\r\n</p>", "**a**"),
        ("<div>&amp;\n\n&amp;</div>", "&\n\n&amp;"),
        ("<p>&amp;\n\n&gt;</p>", "&\n>"),
        (
            "<details>\n<summary>S</summary>\n\n```py\n<b>\n```\n\n</details>\nend",
            "S\n\n```py\n<b>\n```\n\nend",
        ),
        ("<ul><li>a\n```py\n<b>\n```\n</li></ul>", "* a\n\n  ```py\n  <b>\n  ```"),
        ("<p>see `<div>` and `a_b`</p>", "see `<div>` and `a_b`"),
        ("<p>don`t</p><p>won`t</p>", "don`t\n\nwon`t"),
        ("use `</p><p>` <b>x</b>", "use `</p><p>` **x**"),
        ("- a\n\n    <p>b</p>\n- c", "- a\n\n    b\n\n- c"),
        ("- <p>a</p>\n- <div>b<br><br>c</div>", "- a\n- b\n\n  c"),
        ("> <p>a</p>\n> b <i>c</i>", "> a\n> b *c*"),
        ("a\n<span>\nb\n\n<a name=x></a>\n\nc <u>d</u>", "a\nb\n\nc d"),
        ("a <p>b</p> c", "a\n\nb\n\nc"),
    ],
)
def test_html_inside_markdown(text: str, markdown: str) -> None:
    assert to_markdown(text) == markdown


@pytest.mark.parametrize(
    "unclosed",
    [
        *("<div>", "<div><div><b>", "<p>", "<ul><li>", "<table><tr><td>", "<blockquote>", "<h2>"),
        *("<b>", "<span>", "<a href=x>", "<center><p><i class=x>", "<ol><li><p>", "<li>"),
        *("<section id=x>", "<pre class=x>", "<code class=x>", "<dl id=x>", "<p><b>a</b><p>"),
    ],
)
@pytest.mark.parametrize("later", ["", "</div></p></ul></table></b></h2></a></blockquote>"])
def test_an_unclosed_element_does_not_swallow_the_next_page(unclosed: str, later: str) -> None:
    text = f"# Overview\n\n## Description\n\n{unclosed}text one\n\n## Evaluation\n\ntext two{later}"
    lines = to_markdown(text).split("\n")
    headings = [line for line in lines if line.startswith("#") and line != "## text one"]
    assert headings == ["# Overview", "## Description", "## Evaluation"]
    at = lines.index("## Evaluation")
    assert "text one" in "".join(lines[:at])
    assert lines[at - 1] == lines[at + 1] == ""
    assert "text two" in lines
    assert "<" not in "".join(lines)


@pytest.mark.parametrize("name", ["pre", "code"])
def test_verbatim_text_never_closed_does_not_swallow_the_next_page(name: str) -> None:
    text = f"## A\n\n<{name}>one\n\n## B\n\n<{name}>two &lt;b&gt;</{name}>"
    lines = to_markdown(text).split("\n")
    assert [line for line in lines if line.startswith("#")] == ["## A", "## B"]
    assert lines.index("## B") > 2
    assert "two <b>" in lines[-2:] or lines[-1] == "`two <b>`"


@pytest.mark.parametrize("depth", range(8))
def test_what_becomes_html_by_conversion_is_no_html_in_the_end(depth: int) -> None:
    hidden = "<u></u>"
    for _ in range(depth):  # each conversion uncovers one layer
        hidden = f"<{hidden}u><{hidden}/u>"
    result = to_markdown(f"<{hidden}b>x")
    assert "<b>" not in result
    assert result.endswith("x")
    assert to_markdown(result) == result


_WORDS = """
    <div> </div> <p> </p> <b> </b> <i> </i> <ul> <li> </li> </ul> <ol> </ol> <hr> </h5> <h2> </h2>
    <table> <tr> <td> </td> </tr> </table> <pre> </pre> <code> </code> <br> </a> <label> </label>
    <sup> </sup> <blockquote> </blockquote> <x> <script> </script> <!-- --> ` `` | \\ * _ < > /
    div> p> a &lt; &gt; &amp; &nbsp;
"""
_PIECES = [
    *_WORDS.split(),
    *("<a href='u'>", "<img src=x>", "<iframe src=q>", "```\n", "~~~\n", "\n", "\n\n", "\r\n", " "),
    *("    code\n", "\n\n## H\n\n", "- item\n", "> ", "| a | b |\n|---|---|\n", "b c", "1. ", "# "),
]


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join))
def test_a_second_conversion_changes_nothing(text: str) -> None:
    once = to_markdown(text)
    assert to_markdown(once) == once


@given(st.lists(st.sampled_from(MARKDOWN[1:15]), min_size=1, max_size=3), st.integers(0, 3))
def test_markdown_around_html_keeps_its_words(around: list[str], at: int) -> None:
    parts = [*around[:at], "<p>the <b>html</b></p>", *around[at:]]
    result = to_markdown("\n\n".join(parts))
    assert "the **html**" in result
    for part in around:
        assert part.strip() in result


HOSTILE = [
    "<", "<div>", "</div>", "<div>x", "<b>", "<i><b>", "<p>x", "<li>", "<ul><li>x", "<td>a", "<!--",
    "<table><tr><td>", "<blockquote>", "<pre>", "<code>x", "<script>", "`", "` ``", "<a href='",
    '<a href="x">t', "<br>", "x<br>\n", "\n \n", "    x\n\n", "| a |\n|---|\n", "```\n", "~~~\n<p>",
    "<h1>x\n\n", "<!-- -->", "\\", "&lt;", "<p>`x", "- <p>x</p>\n", "<td colspan=9999>", "\n    ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_texts_are_converted(piece: str) -> None:
    result = to_markdown(piece * (30_000 // len(piece)) + "<p>end</p>")
    assert "end" in result
    assert len(result) < 3_000_000


def test_a_hundred_thousand_unclosed_divs() -> None:
    assert to_markdown("<div>" * 100_000 + "text") == "text"


def test_a_megabyte_of_angle_brackets() -> None:
    text = "<" * 1_000_000
    assert to_markdown(text) is text


def test_deep_nesting_keeps_the_text() -> None:
    deep = 5_000
    for start, end in [("<blockquote>", "</blockquote>"), ("<ul><li>", "</li></ul>")]:
        assert "text" in to_markdown(start * deep + "text" + end * deep)


# --- the pipeline ---------------------------------------------------------------------------


@dataclass
class Page:
    title: str
    content: str | None = field(default=None, metadata={"markdown": True})
    rules: str = field(default="", metadata={"markdown": True})


def test_the_pipeline_converts_declared_fields_and_counts() -> None:
    crawler = get_crawler()
    crawler.stats = StatsCollector(crawler)
    pipeline = MarkdownPipeline.from_crawler(crawler)
    item = Page(title="<b>t</b>", content="<b>c</b>", rules="a < b")
    assert pipeline.process_item(item) is item
    assert item == Page(title="<b>t</b>", content="**c**", rules="a < b")
    assert pipeline.process_item(Page(title="", content=None)) == Page(title="")
    assert crawler.stats.get_value("kaggle/markdown/converted") == 1
    assert crawler.stats.get_value("kaggle/markdown/unchanged") == 1


# --- real texts -----------------------------------------------------------------------------

SAMPLES = os.environ.get("KAGGLECRAWL_SAMPLES")
real = pytest.mark.skipif(SAMPLES is None, reason="KAGGLECRAWL_SAMPLES is not set")
_LEFT = re.compile(r"</?(?:p|div|br|a|em|sub|h[1-6]|pre|center|img)[\s/>]", re.I)


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8-sig")


@real
def test_real_competition_pages_in_markdown_stay_as_they_are() -> None:
    paths = sorted(Path(SAMPLES or "", "html", "competition_markdown").glob("*.md"))
    assert len(paths) > 30
    for path in paths:
        text = _read(path)
        assert to_markdown(text) is text, path.name


@real
def test_real_forum_posts_change_only_where_they_hold_html() -> None:
    paths = sorted(Path(SAMPLES or "", "html", "forum_markdown").glob("*.md"))
    assert len(paths) > 10
    for path in paths:
        text = _read(path)
        result = to_markdown(text)
        assert not _LEFT.search(result), path.name
        kept = [line for line in text.splitlines() if "<" not in line and line.strip(" &nbsp;")]
        assert [line for line in result.splitlines() if line in set(kept)] == kept, path.name
        assert to_markdown(result) == result


@real
def test_a_real_competition_page_in_html() -> None:
    text = _read(Path(SAMPLES or "", "html", "competition_html", "random-acts-of-pizza_pages.md"))
    result = to_markdown(text)
    assert not _LEFT.search(result)
    assert [line for line in result.splitlines() if line.startswith("#")] == [
        "# Random Acts of Pizza",
        "## data-description",
        "## Data fields",
        "## Description",
        "## Evaluation",
        "## Submission File",
    ]
    assert "```\nrequest_id,requester_received_pizza\nt3_i8iy4,0\n" in result
    assert "[no free lunches](http://en.wikipedia.org/wiki/No_free_lunch_theorem)" in result
    assert '"giver_username_if_known": Reddit username' in result
    assert "\n\n\n" not in result


@real
def test_a_real_rendered_page() -> None:
    path = Path(SAMPLES or "", "html", "kaggle_pages", "Eurovision2010_overview_rendered.html")
    result = to_markdown(_read(path))
    assert not _LEFT.search(result)
    assert "\n\n##### Evaluation\n\n" in result
    assert "\n\n\n" not in result


@real
def test_real_dataset_descriptions_stay_as_they_are() -> None:
    seen = 0
    for path in sorted(Path(SAMPLES or "", "metadata", "datasets").glob("*.json")):
        metadata = json.loads(_read(path))
        text = metadata.get("info", metadata).get("description")
        if text:
            seen += 1
            assert to_markdown(text) is text, path.name
    assert seen >= 4
