"""Identities that parse, print and give their address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle.names import safe_name
from kagglecrawl.kaggle.refs import DatasetRef

REF = DatasetRef("zillow", "zecon-2")


@pytest.mark.parametrize(
    "text",
    [
        "zillow/zecon-2",
        " zillow/zecon-2 \n",
        "/zillow/zecon-2",
        "zillow/zecon-2/",
        "https://www.kaggle.com/datasets/zillow/zecon-2",
        "https://www.kaggle.com/datasets/zillow/zecon-2/",
        "https://www.kaggle.com/datasets/zillow/zecon-2?select=a.csv#top",
        "https://www.kaggle.com/datasets/zillow/zecon-2/versions/3",
        "https://www.kaggle.com/zillow/zecon-2",
        "https://www.kaggle.com/d/zillow/zecon-2",
        "http://kaggle.com/datasets/zillow/zecon-2",
    ],
)
def test_every_way_to_write_one(text: str) -> None:
    assert DatasetRef.parse(text) == REF
    assert str(DatasetRef.parse(text)) == "zillow/zecon-2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "zillow",
        "zillow/",
        "/zecon-2",
        "a/b/c",
        "a//b",
        "a/..",
        "../b",
        "./b",
        "a/b c",
        "a b/c",
        "a/b\\c",
        "a/b\x00",
        "a/b\nc",
        "a/é",
        "a/%2e%2e",
        "a/b?c",
        "a/-b",
        "a/" + "b" * 300,
        "a" * 300 + "/b",
        "https://www.kaggle.com/datasets/zillow",
        "https://www.kaggle.com/datasets/",
        "https://www.kaggle.com",
        "https://www.kaggle.com/competitions/titanic",
        "https://www.kaggle.com/code/zillow",
        "https://www.kaggle.com/code/zillow/notebook",
        "https://www.kaggle.com/models/google/gemma",
        "https://evil.org/datasets/zillow/zecon-2",
        "https://evil.org/zillow/zecon-2",
        "https://www.kaggle.com.evil.org/datasets/zillow/zecon-2",
        "https://www.kaggle.com@evil.org/datasets/zillow/zecon-2",
        "https://[bad/a/b",
        "://a/b",
    ],
)
def test_what_is_not_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"\A(?!.*Invalid IPv6).+"):
        DatasetRef.parse(text)


def test_the_name_of_a_file_is_not_one() -> None:
    """`-a refs=lists/refs.txt` with a mistyped name must not become a dataset that is missing."""
    with pytest.raises(ValueError, match="not a dataset"):
        DatasetRef.parse("lists/refs.txt")


@given(st.text(max_size=80) | st.text("ab/.-_:?#%\\ ", max_size=30))
def test_whatever_parses_is_safe_everywhere_and_parses_again(text: str) -> None:
    try:
        ref = DatasetRef.parse(text)
    except ValueError:
        return
    assert safe_name(ref.owner) == ref.owner
    assert safe_name(ref.slug) == ref.slug
    assert DatasetRef.parse(str(ref)) == DatasetRef.parse(ref.url) == ref


def test_they_are_values() -> None:
    assert len({REF, DatasetRef("zillow", "zecon-2")}) == 1
    assert sorted([REF, DatasetRef("a", "z")]) == [DatasetRef("a", "z"), REF]
    assert REF.url == "https://www.kaggle.com/datasets/zillow/zecon-2"
