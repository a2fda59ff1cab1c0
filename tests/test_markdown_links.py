"""Relative links become absolute, formulas stay, and clean HTML is read as BeautifulSoup does."""

from dataclasses import dataclass, field

import pytest
from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from hypothesis import given
from hypothesis import strategies as st
from scrapy.utils.test import get_crawler

from kagglecrawl.pipelines.converter import tree_of
from kagglecrawl.pipelines.markdown import MarkdownPipeline, to_markdown
from kagglecrawl.pipelines.markup import scan
from kagglecrawl.pipelines.regions import regions

PAGE = "https://k.io/c/t/"


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ('<a href="/c/titanic/data">x</a>', "[x](https://k.io/c/titanic/data)"),
        ('<a href="data">x</a>', "[x](https://k.io/c/t/data)"),
        ('<a href=" ../x?a=1#b ">x</a>', "[x](https://k.io/c/x?a=1#b)"),
        ("<a href='//h.io/x'>x</a>", "[x](https://h.io/x)"),
        ('<a href="/a b(c">x</a>', "[x](https://k.io/a%20b%28c)"),
        ('<img src="a.png" alt="i">', "![i](https://k.io/c/t/a.png)"),
        ('<iframe src="/embed/x"></iframe>', "<https://k.io/embed/x>"),
        ("<p>see [x](/y)</p>", "see [x](https://k.io/y)"),
        ("[x](/y) and ![x](/y 't')", "[x](https://k.io/y) and ![x](https://k.io/y 't')"),
        ("[x](../k)[y]( ?a=1 )", "[x](https://k.io/c/k)[y]( https://k.io/c/t/?a=1 )"),
        ("[x](</a b>)", "[x](<https://k.io/a b>)"),
        ("[x](/a_(b))", "[x](https://k.io/a_(b))"),
        ("![plot](plot.png)", "![plot](https://k.io/c/t/plot.png)"),
        ("[![i](/i)](/l)", "[![i](https://k.io/i)](https://k.io/l)"),
        ('[r]: /y "t"\n[s]: <../z>\r\n', '[r]: https://k.io/y "t"\n[s]: <https://k.io/c/z>\r\n'),
    ],
)
def test_relative_links_become_absolute(text: str, markdown: str) -> None:
    assert to_markdown(text, PAGE) == markdown
    assert to_markdown(markdown, PAGE) == markdown


@pytest.mark.parametrize(
    "text",
    [
        "[x](#evaluation) [x](https://h/x) [x](mailto:a@b.c) [x](www.kaggle.com) [x]() <https://h>",
        "`[x](/y)` and ``[x](/y) ` ![x](y)``",
        "```\n[x](/y)\n![x](y)\n[r]: /y\n```\n\n    [x](/y)\n",
        "\\](/y) $P[x](y)$ f[x](0.5) [data](data) ](/y",
        "[^1]: /y\n[c]: and/or not\n[x](//[y)\n[x](/y z)",
    ],
)
def test_what_is_no_relative_link_stays(text: str) -> None:
    assert to_markdown(text, PAGE) is text


@pytest.mark.parametrize("html", ['<a href="#a">x</a>', '<a href="www.kaggle.com">x</a>'])
def test_anchors_and_bare_hosts_of_html_stay(html: str) -> None:
    assert to_markdown(html, PAGE) == to_markdown(html)


@pytest.mark.parametrize("script", ["javascript:x()", "JavaScript:x()", " vbscript:x"])
def test_a_script_is_no_link(script: str) -> None:
    assert to_markdown(f'<a href="{script}">x</a>', PAGE) == "x"


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        (
            r"<p>$a_b \times \frac{1}{2}$ and \(x^{i}_{j}\)</p><p>$$\sum_i \\ x_i * y_i$$</p>",
            "$a_b \\times \\frac{1}{2}$ and \\(x^{i}_{j}\\)\n\n$$\\sum_i \\\\ x_i * y_i$$",
        ),
        ("<p>\\[ a \\\\ b \\]</p>\n\n$$\nx\n\ny\n$$", "\\[ a \\\\ b \\]\n\n$$\nx\n\ny\n$$"),
        ('<b>x</b> <span class="math-tex">\\(x_{a}\\)</span>', "**x** \\(x_{a}\\)"),
        ("<p>$a &lt; b$, $a<b$ &amp; $c&gt;d$</p>", "$a < b$, $a<b$ & $c>d$"),
        # what MathJax has made of a page
        (
            '<p>a <span class="MathJax_Preview">x</span><span class="MathJax"><b>𝑥</b>2'
            '</span><script type="math/tex" id="m">x^2 < y_i</script> b</p>',
            "a $x^2 < y_i$ b",
        ),
        (
            'a\n\n<div class="MathJax_Display"><span class="MathJax">q</span></div>'
            '<script type="math/tex; mode=display">\n\\sum x\n</script>',
            "a\n\n$$\\sum x$$",
        ),
        ('<span class="MathJax">x</span><script>y</script>', "x"),
    ],
)
def test_formulas_stay(html: str, markdown: str) -> None:
    assert to_markdown(html) == markdown
    assert to_markdown(markdown) == markdown


_WORDS = """
    <div> </div> <p> </p> <b> </b> <ul> <li> </li> </ul> <table> <tr> <td> </td> </tr> </table>
    <pre> </pre> <code> </code> <br> <hr> ` ``` ~~~ $ a &lt; &amp; &quot; <script> </script>
    [x](/y) ![x](y) [r]: /y [x]( ../z /y ) <a\thref="/u"> </a> <img\tsrc=x\talt='">'> <wbr>
    <script\ttype="math/tex"> <span\tclass="MathJax"> </span>
"""
_PIECES = [
    *(word.replace("\t", " ") for word in _WORDS.split()),
    *("\n", "\n\n", " ", "    ", "\r\n", "\n## H\n\n", "b < c", '<pre class="language-r">'),
]
_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=25).map("".join)


@given(_TEXTS)
def test_a_second_conversion_with_a_base_changes_nothing(text: str) -> None:
    once = to_markdown(text, PAGE)
    assert to_markdown(once, PAGE) == once


def _shape(tag: Tag) -> list[object]:
    """Names, attributes and texts, runs of blank space as one."""
    shape: list[object] = []
    for each in tag.children:
        if isinstance(each, Tag):
            values = {
                key: " ".join(value) if isinstance(value, list) else value
                for key, value in each.attrs.items()
            }
            shape.append((each.name, values, _shape(each)))
        elif isinstance(each, NavigableString):
            shape.append(" ".join(each.split()))
    return shape


@given(_TEXTS)
def test_clean_html_is_read_as_beautiful_soup_reads_it(text: str) -> None:
    for region in regions(text, scan(text), []):
        if region.html.count("<table") < 2:  # a table around another becomes <div>
            ours, theirs = tree_of(region.html), BeautifulSoup(region.html, "html.parser")
            assert _shape(ours) == _shape(theirs)
            assert len(list(ours.descendants)) == len(list(theirs.descendants))


@pytest.mark.parametrize(
    "piece",
    [
        *("](", "![", "[x](/y)", "](a(", "](/a(b)", "\n[a]: ", "[a", "`](/y)", "](</", "](/y\n"),
        *('<script type="math/tex">', '<span class="MathJax">', "<a href=/x>x</a>", "![](", "](/"),
    ],
)
def test_hostile_links_are_read(piece: str) -> None:
    result = to_markdown(piece * (60_000 // len(piece)) + "\n\n[end](/end)", PAGE)
    assert result.endswith("(https://k.io/end)")


@dataclass
class Page:
    content: str = field(metadata={"markdown": PAGE})
    rules: str = field(metadata={"markdown": True})


def test_the_pipeline_takes_the_base_from_the_field() -> None:
    pipeline = MarkdownPipeline.from_crawler(get_crawler())
    item = Page(content='[x](/y) <img src="z">', rules="[x](/y)")
    assert pipeline.process_item(item) == Page(
        content="[x](https://k.io/y) ![](https://k.io/c/t/z)",
        rules="[x](/y)",
    )
