"""Spider arguments: every one of them, right and wrong."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.arguments import ArgumentError, PageRange, size
from kagglecrawl.kaggle.refs import DatasetRef
from kagglecrawl.kaggle.rpc import LIST_DATASETS
from kagglecrawl.spiders.datasets_args import DatasetsArguments

NAMES = {
    "pages",
    "sample",
    "min_usability",
    "search",
    "user",
    "tags",
    "sort_by",
    "file_type",
    "license",
    "min_size",
    "max_size",
    "download",
    "changed_only",
    "refresh",
    "only",
    "max_bytes",
    "refs",
}


def parse(**given_: str) -> DatasetsArguments:
    return DatasetsArguments.parse(given_)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("pages", "5", PageRange(5, 5)),
        ("pages", "3-7", PageRange(3, 7)),
        ("pages", "3-", PageRange(3, 0)),
        ("pages", "1-1", PageRange(1, 1)),
        ("pages", " 2 ", PageRange(2, 2)),
        ("sample", "1", 1),
        ("sample", "250", 250),
        ("min_usability", "0", 0.0),
        ("min_usability", "0.8", 0.8),
        ("min_usability", "1", 1.0),
        ("search", " new york ", "new york"),
        ("search", "катаклизм", "катаклизм"),
        ("user", "zillow", "zillow"),
        ("tags", "1,2, 3,,1", ("1", "2", "3")),
        ("sort_by", "hottest", "DATASET_SORT_BY_HOTTEST"),
        ("sort_by", "Download-Count", "DATASET_SORT_BY_DOWNLOAD_COUNT"),
        ("file_type", "BIG_QUERY", "DATASET_FILE_TYPE_GROUP_BIG_QUERY"),
        ("license", "cc", "DATASET_LICENSE_GROUP_CC"),
        ("min_size", "500000", 500_000),
        ("min_size", "20MB", 20_000_000),
        ("max_size", "1.5 gb", 1_500_000_000),
        ("max_size", "2GiB", 2 * 2**30),
        ("download", "false", False),
        ("download", "No", False),
        ("download", "0", False),
        ("download", "OFF", False),
        ("only", "*.csv", ("*.csv",)),
        ("only", "*.csv, data/*.json,,*.csv", ("*.csv", "data/*.json")),
        ("max_bytes", "500MB", 500_000_000),
        ("max_bytes", "0", 0),
        ("refs", "a/b", (DatasetRef("a", "b"),)),
        (
            "refs",
            "a/b, https://www.kaggle.com/datasets/c/d,a/b",
            (DatasetRef("a", "b"), DatasetRef("c", "d")),
        ),
    ],
)
def test_what_is_right(name: str, text: str, value: Any) -> None:
    args = parse(**{name: text})
    assert getattr(args, name) == value
    assert args.given() == {name: value}


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("pages", ["", "0", "0-3", "7-3", "3-0", "-3", "a", "1.5", "1-2-3", "1,2", "1234567"]),
        ("sample", ["", "0", "-1", "1.5", "many", "1e3", "1" * 20]),
        ("min_usability", ["", "-0.1", "1.1", "80", "nan", "inf", "high", "0,8"]),
        ("search", ["", "  ", "a\nb", "a\x1bb"]),
        ("user", ["", "a\tb"]),
        ("tags", ["", ",", " , "]),
        ("sort_by", ["", "best", "hotest", "DATASET_SORT_BY_VOTES"]),
        ("file_type", ["xlsx", "csv,json"]),
        ("license", ["mit"]),
        ("min_size", ["", "big", "-5", "1.5.5", "5 XB", "MB", "5mb5", "1e6"]),
        ("max_size", ["1,5GB"]),
        ("download", ["", "perhaps", "2", "truefalse"]),
        ("only", ["", ",", "a\nb"]),
        ("max_bytes", ["", "all", "-1", "1e6"]),
        ("refs", ["", "a", "a/b/c", "a/b,c", "https://www.kaggle.com/competitions/titanic"]),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_it(name: str, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ArgumentError) as caught:
            parse(**{name: text})
        said = str(caught.value)
        assert said.startswith(f"argument {name}=")
        assert "\n" not in said.replace(text, "")
        assert len(said) < 300


def test_every_argument_was_tried() -> None:
    assert set(DatasetsArguments.__dataclass_fields__) == NAMES


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("sort_by", "hotest", "did you mean hottest?"),
        ("sort_by", "xyzzy", "use one of hottest, votes"),
        ("license", "gpl3", "did you mean gpl?"),
    ],
)
def test_a_near_word_is_offered(name: str, text: str, hint: str) -> None:
    with pytest.raises(ArgumentError, match=hint.replace("?", r"\?")):
        parse(**{name: text})


def test_an_argument_that_is_not_known() -> None:
    with pytest.raises(ArgumentError, match=r"argument page is not known: did you mean pages\?"):
        parse(page="5")
    with pytest.raises(ArgumentError, match="argument zzz is not known: there are: pages, sample"):
        parse(zzz="5")


def test_a_name_with_an_underscore_before_it_is_somebody_elses() -> None:
    """scrapyd sends ``_job``."""
    assert parse(_job="f00", _anything="x") == DatasetsArguments()


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(ArgumentError) as caught:
        parse(sample="9" * 5_000)
    assert len(str(caught.value)) < 200


def test_refs_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "refs.txt"
    path.write_text("\ufeff# mine\na/b  # the first\r\n\n c/d\na/b\n", encoding="utf-8")
    assert parse(refs=str(path)).refs == (DatasetRef("a", "b"), DatasetRef("c", "d"))


@pytest.mark.parametrize("content", [b"", b"# nothing\n\n", b"\xff\xfe\x00", b"a/b\nc\n"])
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "refs.txt"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match="argument refs="):
        parse(refs=str(path))


def test_a_file_that_is_not_there_is_no_dataset() -> None:
    with pytest.raises(ArgumentError, match=r"argument refs=lists/refs\.txt"):
        parse(refs="lists/refs.txt")


@pytest.mark.parametrize("text", ["true", "Yes", "1", "on"])
def test_files_are_wanted_as_they_are_when_nothing_is_said(text: str) -> None:
    assert parse(download=text) == parse()


@pytest.mark.parametrize("more", [{"only": "*.csv"}, {"max_bytes": "1MB"}, {"max_bytes": "0"}])
def test_no_files_are_not_chosen_from(more: dict[str, str]) -> None:
    with pytest.raises(ArgumentError, match="download=false that none are: leave one"):
        parse(download="false", **more)
    assert parse(download="true", **more).download


@pytest.mark.parametrize("more", ["pages", "search", "user", "tags", "sort_by", "min_size"])
def test_refs_go_with_no_list(more: str) -> None:
    text = {"pages": "1", "sort_by": "votes", "min_size": "5"}.get(more, "x")
    with pytest.raises(ArgumentError, match=f"refs asks for exactly these datasets, so {more}"):
        parse(refs="a/b", **{more: text})


def test_refs_go_with_what_is_not_of_the_list() -> None:
    args = parse(refs="a/b,c/d", sample="1", min_usability="0", only="*.csv", max_bytes="5MB")
    assert (args.sample, args.min_usability, args.only) == (1, 0.0, ("*.csv",))
    assert not parse(refs="a/b", download="false").download


def test_sizes_must_leave_something_between() -> None:
    with pytest.raises(ArgumentError, match="min_size is larger than max_size"):
        parse(min_size="2MB", max_size="1MB")
    assert parse(min_size="1MB", max_size="1MB").max_size == 1_000_000


@given(
    st.decimals(0, 10**9, places=3),
    st.sampled_from(["B", "KB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]),
)
def test_a_size_is_exact(number: Decimal, unit: str) -> None:
    factor = (1024 if "i" in unit else 1000) ** "BKMGT".index(unit[0])
    assert size(f"{number}{unit}") == int(number * factor)
    assert size(f"{number} {unit.lower()}") == int(number * factor)


@given(st.sampled_from(sorted(NAMES - {"refs", "tags"})), st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(name: str, text: str) -> None:
    with contextlib.suppress(ArgumentError):
        assert set(parse(**{name: text}).given()) <= {name}


@pytest.mark.parametrize("name", ["sort_by", "file_type", "license"])
def test_every_word_is_one_of_kaggles(name: str) -> None:
    choices = DatasetsArguments.__dataclass_fields__[name].metadata["choices"].split(", ")
    values = [getattr(parse(**{name: choice}), name) for choice in choices]
    assert len(set(values)) == len(choices)
    for value in values:
        LIST_DATASETS.body(**{name: value})  # raises for what kagglesdk does not know


def test_the_help_names_everything() -> None:
    described = DatasetsArguments.describe()
    for name, field in DatasetsArguments.__dataclass_fields__.items():
        assert f"-a {name}=…" in described
        assert field.metadata["help"] in described
        assert field.metadata["kind"] in described
    assert "One of: hottest, votes" in described
    assert "None" not in described


@pytest.mark.parametrize(
    ("pages", "text"),
    [(PageRange(), "1-"), (PageRange(5, 5), "5"), (PageRange(3, 7), "3-7"), (PageRange(3), "3-")],
)
def test_a_range_prints_as_it_is_written(pages: PageRange, text: str) -> None:
    assert str(pages) == text
    assert parse(pages=text).pages == pages
