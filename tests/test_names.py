"""Names from the wire: kept as they are, or refused with a reason."""

import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle.names import (
    MAX_NAME_BYTES,
    MAX_PATH_BYTES,
    Collisions,
    NameCollision,
    UnsafeName,
    check_path,
    folder_name,
    safe_name,
    safe_path,
)


@pytest.mark.parametrize(
    "name",
    [
        "train.csv",
        ".gitignore",
        "...a",
        "a b (1) [x] {y} ~$%&#!.tar.gz",
        "données_été.csv",
        unicodedata.normalize("NFD", "été.csv"),
        "数据 集.csv",
        "می‌خواهم.txt",  # a zero-width non-joiner belongs to the spelling
        "👩‍👩‍👧.png",
        "console.txt",
        "com.txt",
        "COM10",
        "nullable.csv",
        "a" * MAX_NAME_BYTES,
    ],
)
def test_a_safe_name_is_kept_as_it_is(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "it is empty"),
        (".", "folder itself"),
        ("..", "folder itself"),
        ("a/b", "'/'"),
        ("a\\b", "separator"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x7f", "control character"),
        ("a\x85b", "control character"),
        ("a\u2028b", "line separator"),
        ("a\u2029b", "paragraph separator"),
        *((f"a{character}b", "reserved on Windows") for character in '<>:"|?*'),
        ("CON", "device"),
        ("nul.tar.gz", "device"),
        ("Com1.csv", "device"),
        ("LPT9", "device"),
        ("COM¹.txt", "device"),
        ("NUL .txt", "device"),
        ("conin$", "device"),
        (" a", "space"),
        ("a ", "space"),
        ("a\xa0", "space"),
        ("a.", "ends with a dot"),
        ("...", "ends with a dot"),
        ("a\ud800b", "lone surrogate"),
        ("a\u202egpj.exe", "direction"),
        ("a\u2067b", "direction"),
        ("\ufeffa.csv", "invisible"),
        ("a\u200bb", "invisible"),
        ("é" * 128, "256 bytes"),
    ],
)
def test_an_unsafe_name_is_refused_with_its_reason(name: str, reason: str) -> None:
    with pytest.raises(UnsafeName, match=reason) as caught:
        safe_name(name)
    message = str(caught.value)
    assert message.isascii()  # can be logged whatever the name holds
    assert "\n" not in message
    assert len(message) < 1100


def test_a_folder_is_owner_and_slug() -> None:
    assert folder_name("owner", "my-data_set") == "owner_my-data_set"


@pytest.mark.parametrize(
    ("owner", "slug"), [("", "a"), ("a", ""), ("..", "a"), ("a", "b/c"), ("a" * 200, "b" * 60)]
)
def test_a_folder_of_unsafe_parts_is_refused(owner: str, slug: str) -> None:
    with pytest.raises(UnsafeName):
        folder_name(owner, slug)


def test_a_path_keeps_its_folders() -> None:
    assert safe_path("data/train/a b.csv") == PurePosixPath("data", "train", "a b.csv")


@pytest.mark.parametrize(
    "relative",
    [
        *("", "/", "/etc/passwd", "//host/share", "C:/a", "c:a", "..", "a/../b", "a/./b", "a//b"),
        *("a/", "..\\a", "a/NUL/b.csv", "~/x/../y", "a/ /b"),
    ],
)
def test_a_path_that_leaves_its_root_is_refused(relative: str) -> None:
    with pytest.raises(UnsafeName):
        safe_path(relative)


def test_the_reason_of_an_absolute_path_says_so() -> None:
    with pytest.raises(UnsafeName, match="absolute"):
        safe_path("/etc/passwd")


_pieces = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["..", ".", "", "a", "CON", "x.csv", "é", "~", "C:", "\\", "a.", " "]),
)


@given(st.lists(_pieces, min_size=1, max_size=4).map("/".join))
def test_any_accepted_path_stays_inside_and_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, relative: str
) -> None:
    try:
        safe = safe_path(relative)
    except UnsafeName:
        return
    assert str(safe) == relative
    root = tmp_path_factory.mktemp("root")
    place = root.joinpath(safe)
    assert place.resolve().is_relative_to(root.resolve())
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"x")
    found = [path for path in root.rglob("*") if path.is_file()]
    assert [path.relative_to(root).as_posix() for path in found] == [relative]


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=20))
def test_letters_and_digits_of_any_script_are_kept(name: str) -> None:
    assert safe_name(f"x{name}") == f"x{name}"


def test_one_identity_may_claim_again_and_another_may_not() -> None:
    collisions = Collisions()
    collisions.claim(folder_name("a_b", "c"), "a_b/c")
    collisions.claim("a_b_c", "a_b/c")
    with pytest.raises(NameCollision, match=r"'a/b_c' and 'a_b/c'"):
        collisions.claim(folder_name("a", "b_c"), "a/b_c")
    collisions.claim("a_b_c", "a_b/c")  # the first owner stays


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Train.csv", "train.CSV"),
        ("straße", "STRASSE"),
        ("é", unicodedata.normalize("NFD", "É")),
        ("\u1fb3", "\u03b1\u0345"),  # folding decomposes the first
        ("Data/a.csv", "data/A.csv"),
    ],
)
def test_paths_that_some_file_system_holds_for_one_collide(one: str, other: str) -> None:
    collisions = Collisions()
    collisions.claim(PurePosixPath(one), "first")
    with pytest.raises(NameCollision):
        collisions.claim(PurePosixPath(other), "second")


def test_different_paths_do_not_collide() -> None:
    collisions = Collisions()
    for path in ["a", "a/b", "b", "a b", "e", "é"]:
        collisions.claim(path, path)


def test_a_name_on_disk_is_the_name_that_was_given(tmp_path: Path) -> None:
    for name in ["数据.csv", ".hidden", "a b (1).txt"]:
        (tmp_path / safe_name(name)).touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["数据.csv", ".hidden", "a b (1).txt"]
    )


_tricky = st.sampled_from(
    [*"Z9. /-(é¹\n$:", "CON", "nul", "com1", "LPT9", "COM", "aux", "..", "x" * 60, "x" * 250]
)


@given(st.lists(_tricky, min_size=1, max_size=8).map("".join))
def test_a_path_is_safe_when_each_of_its_names_is(path: str) -> None:
    """A plain path is looked at as a whole: that says the same."""

    def verdict(check: Callable[[], object]) -> bool:
        try:
            check()
        except UnsafeName:
            return False
        return True

    names = verdict(lambda: [safe_name(name) for name in path.split("/")])
    assert verdict(lambda: check_path(path)) == (names and len(path.encode()) <= MAX_PATH_BYTES)
