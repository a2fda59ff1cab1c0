"""Which members are wanted, and why the others are not."""

from __future__ import annotations

import pytest

from kagglecrawl.kaggle.names import folded
from kagglecrawl.transfer.members import RATIO_FROM, BadMember, Choice, Member, shown


def member(
    name: str = "a.csv", size: int = 10, packed: int | None = None, fault: str = ""
) -> Member:
    return Member(0, name, size, size if packed is None else packed, 0, 0, 0, fault)


def test_what_ends_in_a_slash_is_a_folder() -> None:
    assert member("a/").is_folder
    assert not member("a").is_folder


@pytest.mark.parametrize("name", ["a.csv", "a/b.csv", "a/", "a/b/", "été/数据.csv", ".hidden"])
def test_all_is_wanted_that_can_be_stored(name: str) -> None:
    assert Choice().why_not(member(name)) == ""


@pytest.mark.parametrize("name", ["../a", "/a", "a//", "/", "", "a\\b", "a/../b", "C:/a", "\udcff"])
def test_a_path_that_is_not_safe(name: str) -> None:
    assert Choice().why_not(member(name)) == "unsafe_path"


@pytest.mark.parametrize(
    ("glob", "names", "others"),
    [
        ("*.csv", ["a.csv", "x/y/a.csv"], ["a.csv.gz", "a.CSV", "x.csv/a"]),
        ("a.csv", ["a.csv", "x/a.csv"], ["aa.csv", "a.csv/b"]),
        ("x/*.csv", ["x/a.csv", "x/y/a.csv"], ["a.csv", "w/x/a.csv", "x"]),
        ("*/a.csv", ["x/a.csv", "x/y/a.csv"], ["a.csv"]),
        ("[ab]?.csv", ["a1.csv", "x/b2.csv"], ["c1.csv", "a.csv"]),
        ("x/", [], ["x/", "x/a", "x"]),
    ],
)
def test_globs(glob: str, names: list[str], others: list[str]) -> None:
    choice = Choice(only=(glob,))
    assert [choice.why_not(member(name)) for name in names] == [""] * len(names)
    assert [choice.why_not(member(name)) for name in others] == ["only"] * len(others)


def test_one_of_several_globs_is_enough() -> None:
    choice = Choice(only=("*.txt", "b.csv"))
    found = [choice.why_not(member(name)) for name in ("a.csv", "b.csv", "c.txt")]
    assert found == ["only", "", ""]


def test_a_folder_alone_matches_no_glob() -> None:
    assert Choice(only=("*",)).why_not(member("a/", 0)) == "only"
    assert Choice(only=("*",)).why_not(member("a/b", 0)) == ""


def test_the_largest_size() -> None:
    choice = Choice(max_bytes=10)
    assert [choice.why_not(member(size=size)) for size in (0, 10, 11)] == ["", "", "max_bytes"]
    assert Choice(max_bytes=0).why_not(member(size=1)) == "max_bytes"


def test_the_largest_ratio() -> None:
    size = 2_000_000
    assert size > RATIO_FROM
    assert Choice().why_not(member(size=size, packed=10_000)) == ""
    assert Choice().why_not(member(size=size, packed=9_999)) == "ratio"
    assert Choice(max_ratio=1e6).why_not(member(size=size, packed=2)) == ""
    assert Choice(max_ratio=1e6).why_not(member(size=size, packed=1)) == "ratio"
    assert Choice().why_not(member(size=RATIO_FROM, packed=1)) == ""
    assert Choice().why_not(member(size=RATIO_FROM + 1, packed=1)) == "ratio"


def test_the_first_reason_counts() -> None:
    choice = Choice(only=("*.csv",), max_bytes=RATIO_FROM)
    size = RATIO_FROM + 1
    found = [
        choice.why_not(member("../a", size, 1, "link")),
        choice.why_not(member("../a", size, 1)),
        choice.why_not(member("a", size, 1)),
        choice.why_not(member("a.csv", size, 1)),
        Choice().why_not(member("a.csv", size, 1)),
    ]
    assert found == ["link", "unsafe_path", "only", "max_bytes", "ratio"]


def test_a_bad_member_has_a_word_and_a_sentence() -> None:
    bad = BadMember("damaged", "Its data is damaged.")
    assert (bad.reason, str(bad)) == ("damaged", "Its data is damaged.")


def test_a_name_is_shown_in_a_line() -> None:
    assert shown("a\nb é\udcff") == r"'a\nb \xe9\udcff'"
    assert shown("x" * 81) == f"'{'x' * 80}'..."


def test_names_that_some_file_system_takes_for_one() -> None:
    alike = ["Caf\u00e9/STRASSE", "cafe\u0301/straße", "CAFE\u0301/Strasse"]
    assert len({folded(name) for name in alike}) == 1
    assert folded("cafe") != folded("caf\u00e9")
