"""Description and Evaluation of an Overview: in Markdown, in HTML, and in any mix of both."""

import csv
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.pipelines.markdown import to_markdown
from kagglecrawl.pipelines.sections import Sections, sections

A, B = "Predict <b>it</b>.", "By *AUC*."
BOTH = Sections("Predict **it**.", "By *AUC*.")


@pytest.mark.parametrize(
    "overview",
    [
        f"# Overview\n\n## Description\n\n{A}\n\n## Evaluation\n\n{B}\n\n## Timeline\n\nMay",
        f"# Overview\r\n\r\n## Description\r\n\r\n{A}\r\n\r\n## Evaluation\r\n\r\n{B}\r\n",
        f"## Evaluation\n\n{B}\n\n## Prizes\n\n$1\n\n## Description\n\n{A}\n\n## Citation\n\nC",
        f"# Overview\n\n## **Description**\n{A}\n## EVALUATION: ##\n{B}\n##  Code Requirements\nC",
        f"# Overview\n\n## 📖 Description\n\n{A}\n\n## [Evaluation](#evaluation)\n\n{B}",
        f"##Description\n{A}\n##Evaluation\n{B}\n",
        f"# Overview\n## Overview\n### Description\n{A}\n### Evaluation\n{B}\n### Timeline\nT",
        f"Overview\n===\n\nDescription\n---\n{A}\n\n**Evaluation**\n----------\n{B}\n\nPrizes\n--\nP",
        f"# Overview\n\nHello\n\n## Rules\n\nR\n\n## Description\n\n{A}\n\n## Evaluation\n\n{B}",
        f"# Overview\n\n## Description\n\n{A}\n\n## Evaluation\n\n{B}\n\n# Data\n\n## Files",
        f"# Overview\n\n## Description\n\n{A}\n\n## About Us\n\n## Evaluation\n\n{B}\n\n## FAQ",
        f"# Overview\n\n## Description\n\n{A}\n\n## Supervised ML Evaluation\n\n{B}\n\n## Prizes",
        f"## Description\n\n{A}\n\n# Evaluation\n\n{B}\n\n# Timeline\n\nT",
        # HTML
        f"<h1>Overview</h1><h2>Description</h2><p>{A}</p><h2>Evaluation</h2><p>By <i>AUC</i>.</p>",
        f"<div><h5 class='x'>\nDescription</h5></div>\n<p>{A}</p>\n<div><h5>Evaluation</h5><div>"
        f"<p>By <em>AUC</em>.</p></div></div><h5>Prizes</h5>",
        # both
        f"## Description\n\n<p>{A}</p>\n\n## Evaluation\n\n<div><p>By <i>AUC</i>.</p>",
        f"# Overview\n\n## Description\n\n<p>{A}</p><h2>Evaluation</h2><p>By <em>AUC</em>.</p>",
        f"<h2>Description</h2>\n<p>{A}</p>\n\n## Evaluation\n\n{B}\n\n## Timeline",
        f"## <b>Description</b>\n\n{A}\n\n## Evaluation&nbsp;\n\n{B}",
    ],
)
def test_a_section_is_what_stands_below_its_heading(overview: str) -> None:
    assert sections(overview) == BOTH


@pytest.mark.parametrize(
    ("page", "markdown"),
    [
        # headings of HTML within a page, where those of pages are Markdown
        ("<p>a</p><h2>Evaluation</h2><p>b</p>", "a\n\n## Evaluation\n\nb"),
        ("<h1>Timeline</h1>\n<p>a</p>", "# Timeline\n\na"),
        (
            "a<h2>Submission File</h2>\n<pre>x<br />y</pre>",
            "a\n\n## Submission File\n\n```\nx\ny\n```",
        ),
        # deeper ones, and those that are no page's name
        ("a\n\n### Evaluation\n\nb\n\n#### Timeline\n\nc", None),
        ("## Goal\n\na\n\n## Submission File Format\n\nb\n\n# Metric\n\nc", None),
        ("a\n\n## Acknowledgements\n\nb\n\n# Background\n\nc", None),
        ("## Description\n\na", None),  # its own title once more
        ("# Timeline\n\nabove the level of pages, below a title", None),
        # no headings at all
        ("```python\n## Evaluation\n\n# Evaluation\n```\na", None),
        ("~~~\n## Evaluation\n~~~\n\n    ## Evaluation\n\na", None),
        ("- ## Evaluation\n- Evaluation\n---\n\n> ## Evaluation", None),
        ("one\ntwo\nEvaluation\n---\nthree", None),
        ("**Evaluation**\n\n`## Evaluation`\n\n| Evaluation |\n|---|\n| x |", None),
        ("<pre>\n\n## Evaluation\n\n</pre>", "```\n## Evaluation\n```"),
        ("a\n<!--\n\n## Evaluation\n\n-->\nb", "a\nb"),
        ("<table><tr><td>\n## Evaluation\n</td></tr></table>", "| ## Evaluation |\n| --- |"),
    ],
)
def test_what_is_within_a_page_stays_there(page: str, markdown: str | None) -> None:
    text = f"# Overview\n\n## Description\n\n{page}\n\n## Evaluation\n\n{B}\n\n## Timeline\n\nT"
    assert sections(text) == Sections(page if markdown is None else markdown, "By *AUC*.")


@pytest.mark.parametrize(
    ("overview", "description", "evaluation"),
    [
        ("", "", ""),
        ("# Overview", "", ""),
        ("# Overview\n\n## Description\n\n## Evaluation\n", "", ""),
        ("# Overview\n\n## Description\n\na\n\n## Timeline\n\nt", "a", ""),
        ("# Overview\n\n## Evaluation\n\nb\n\n## Timeline\n\nt", "", "b"),
        ("# Overview\n\n## Timeline\n\nt", "", ""),
        # no page at all: it is all the description that there is
        ("# Overview\n\na\n\n### Anything\n\n<p>b</p>", "a\n\n### Anything\n\nb", ""),
        ("<p>a</p><p>b</p>", "a\n\nb", ""),
        ("# Overview\n\n## Overview\n\na\n\n## Evaluation\n\nb", "a", "b"),
        # a description within the Evaluation is of something else
        ("## Evaluation\n\nb\n\n### Description\n\nc", "", "b\n\n### Description\n\nc"),
        ("## Evaluation\n\n<p>b</p><h3>Description</h3>c", "", "b\n\n### Description\n\nc"),
        ("# Overview\n\n## Evaluation\n\n<h2>Timeline</h2>b", "", "## Timeline\n\nb"),
        # an evaluation that is a part of the Description is given as both
        (
            "## Description\n\na\n\n### Evaluation\n\nb\n\n#### Format\n\nc\n\n### Citation\n\nd",
            "a\n\n### Evaluation\n\nb\n\n#### Format\n\nc\n\n### Citation\n\nd",
            "b\n\n#### Format\n\nc",
        ),
        (
            "## Description\n\na\n\n### Evaluation\n\nb\n\n## Background\n\nc",
            "a\n\n### Evaluation\n\nb\n\n## Background\n\nc",
            "b",
        ),
        # two pages of a name: nothing is lost
        ("## Evaluation\n\nb\n\n## Prizes\n\np\n\n## Evaluation\n\nc", "", "b\n\nc"),
        ("# Overview\n\n## Evaluation\n\n# Evaluation\n\nb", "", "# Evaluation\n\nb"),
        # what is never closed ends with its page
        ("## Description\n\n```\na\n\n## Evaluation\n\nb", "```\na", "b"),
        ("## Description\n\n<div><b>a\n\n## Evaluation\n\n<ul><li>b", "a", "* b"),
        ("## Description\n\n<!-- a\n\n## Evaluation\n\nb", "<!-- a", "b"),
        # a page that begins with code by indentation keeps it
        ("## Description\n\n    a\n    b\n\n## Evaluation\n\n   b", "    a\n    b", "b"),
    ],
)
def test_missing_and_doubled_pages(overview: str, description: str, evaluation: str) -> None:
    assert sections(overview) == Sections(description, evaluation)


def test_links_become_absolute_in_both() -> None:
    site = "https://www.kaggle.com/"
    text = '## Description\n\n<a href="/c/x">x</a> ![i](/i.png)\n\n## Evaluation\n\n[y](/y "t")'
    assert sections(text, site) == Sections(
        "[x](https://www.kaggle.com/c/x) ![i](https://www.kaggle.com/i.png)",
        '[y](https://www.kaggle.com/y "t")',
    )
    html = '<h2>Description</h2><a href="/c/x">x</a><h2>Evaluation</h2><img src="i.png">'
    assert sections(html, site) == Sections(
        "[x](https://www.kaggle.com/c/x)", "![](https://www.kaggle.com/i.png)"
    )


_PIECES = [
    *("# Overview\n\n", "## Description\n\n", "## Evaluation\n\n", "### Evaluation\n", "## Goal\n"),
    *("<h2>Evaluation</h2>", "<h2>Description</h2>\n", "Evaluation\n---\n", "\n\n## Prizes\n\n"),
    *(
        "<div>",
        "</div>",
        "<p>a</p>",
        "<pre>",
        "</pre>",
        "```\n",
        "    code\n",
        "\n",
        "b",
        "[x](/y)",
    ),
    *("<!--", "-->", "# Data\n", "- c\n", "<ul><li>", "\r\n", "   "),
]


@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join))
def test_sections_are_markdown(text: str) -> None:
    for each in sections(text):
        assert to_markdown(each) == each
        assert each == each.rstrip()


@given(
    st.lists(st.sampled_from(["a", "### Evaluation", "# Goal", "## Files", "    c"]), max_size=9)
)
def test_no_text_is_lost_between_two_pages(parts: list[str]) -> None:
    page = "\n\n".join(["first", *parts, "last"])
    text = f"# Overview\n\n## Description\n\n{page}\n\n## Evaluation\n\n{page}\n\n## Prizes\n\np"
    assert sections(text) == Sections(page, page)


@pytest.mark.parametrize(
    "piece",
    [
        *("## Evaluation\n\n", "### Description\n", "a\n---\n", "```\n", "<div>", "<pre>\n", "#"),
        *("# [[[((", "## Description\n\n# Data\n", "<h2>Evaluation</h2>", "\n \n", "&", "# <"),
    ],
)
def test_hostile_overviews_are_cut(piece: str) -> None:
    text = f"## Description\n\na\n\n## Evaluation\n\nb\n\n## Prizes\n\n{piece * 20_000}"
    assert sections(text).description.startswith("a")
    assert "b" in sections(text).evaluation


# --- real texts -----------------------------------------------------------------------------

SAMPLES = os.environ.get("KAGGLECRAWL_SAMPLES")
real = pytest.mark.skipif(SAMPLES is None, reason="KAGGLECRAWL_SAMPLES is not set")
#: Have no Evaluation.
_WITHOUT = {"ml2021spring-hw2"}


def _texts() -> dict[str, str]:
    folder = Path(SAMPLES or "")
    texts = {
        path.stem: path.read_bytes().decode("utf-8-sig")
        for path in sorted((folder / "html" / "competition_markdown").glob("*.md"))
    }
    table = folder / "meta_kaggle" / "DERIVED_Competitions_2025schema.csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        texts.update((f"row {row['Slug']}", row["Overview"]) for row in csv.DictReader(file))
    return texts


@real
def test_real_overviews_have_both_sections_and_no_more() -> None:
    texts = _texts()
    assert len(texts) > 50
    for name, text in texts.items():
        description, evaluation = sections(text)
        assert len(description) > 400, name
        assert bool(evaluation) == (name.removeprefix("row ") not in _WITHOUT), name
        for each in (description, evaluation):
            assert not re.search(r"^##? +\**(Timeline|Prizes|Citation|Data|Code)\b", each, re.M), (
                name
            )
            if "<" not in text:
                assert each in text, name


@real
def test_real_pages_in_html() -> None:
    folder = Path(SAMPLES or "", "html")
    text = (folder / "competition_html" / "random-acts-of-pizza_pages.md").read_text("utf-8")
    description, evaluation = sections(text)
    assert description.startswith("[Get started on this competition through Kaggle Scripts](http")
    assert description.endswith("(http://thenounproject.com/term/pizza/30194/)*")
    assert evaluation.startswith("Submissions are evaluated on [area under the ROC curve](http")
    assert "\n\n## Submission File\n\nFor each request" in evaluation
    assert evaluation.endswith("\nt3_lclka,0\n...\n...\n```")

    page = folder / "kaggle_pages" / "Eurovision2010_overview_rendered.html"
    description, evaluation = sections(page.read_text("utf-8"))
    assert description.endswith("as a modeler on the Kaggle website.")
    assert "Evaluation will be performed using the 'Absolute Error' method." in evaluation
    assert "Prizes" not in evaluation
