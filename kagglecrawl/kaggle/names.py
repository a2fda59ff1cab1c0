"""Names from the wire, before they become a path component or part of an S3 key.

A name is either kept exactly as it is or refused with a reason: a name that is quietly changed
can no longer be traced back to what Kaggle calls it, and two names can be changed into one.
What is refused is what one of the usual places to store a file (Linux, macOS, Windows, S3)
cannot hold, would read as something else, or would show as something else.
"""

import re
import unicodedata
from pathlib import PurePosixPath

MAX_NAME_BYTES = 255
"""Longest name in bytes of UTF-8: the limit of ext4, XFS and APFS for one component."""

MAX_PATH_BYTES = 1024
"""Longest path in bytes of UTF-8: S3's limit for a key, and well below that of a file system."""

MAX_DEPTH = 100
"""Most components of a path: far more than anybody needs, far fewer than what walks them bears."""

_FORBIDDEN = frozenset('/\\<>:"|?*')

# Windows reserves these with any extension ("NUL.tar.gz") and with spaces before it ("NUL .txt"),
# and reads superscript digits as digits: learn.microsoft.com, "Naming Files, Paths, Namespaces".
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\..*)?", re.I)

_PLAIN = re.compile(r"\w(?:[\w .()+=,@#&-]{0,250}[\w)])?", re.ASCII)

# Paths of such names alone, none of them a device's: one look where each name would take two.
_PLAIN_PATH = re.compile(
    "{0}(?:/{0})*".format(
        r"(?!(?i:CON|PRN|AUX|NUL|(?:COM|LPT)[0-9]) *(?:[./]|\Z))" + _PLAIN.pattern
    ),
    re.ASCII,
)

# Control characters, line and paragraph separators, surrogates, and the characters that show
# a name in another order than it has (Unicode's Bidi_Control).
_REFUSED_CATEGORIES = {
    "Cc": "a control character",
    "Cs": "a lone surrogate",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# The other format characters cannot be seen; a joiner inside a word is a letter's shape in
# Persian, Hindi and in emoji, so these two stay.
_JOINERS = frozenset("\u200c\u200d")


class UnsafeName(ValueError):
    """A name that must not become a path or a key; the message is one sentence saying why."""


class NameCollision(ValueError):
    """Two different things would be stored under one path; the message names both."""


def safe_name(name: str) -> str:
    """Return `name` unchanged if it is safe as one component of a path.

    Unicode is kept, composed or not (NFC and NFD are both accepted: see `Collisions`).

    Raises:
        UnsafeName: if it is empty, `.` or `..`, reserved on Windows, longer than
            `MAX_NAME_BYTES` in UTF-8, begins or ends with a space, ends with a dot, or holds
            a separator, one of `<>:"|?*`, a control, format or bidirectional character, or a
            lone surrogate.
    """
    reason = _fault(name)
    if reason is not None:
        # ascii() so that the sentence can be logged whatever the name holds; cut, since the name
        # may be refused for its length.
        shown = ascii(name) if len(name) <= 80 else f"{name[:80]!a}..."
        raise UnsafeName(f"The name {shown} is refused: {reason}.")
    return name


def folder_name(owner: str, slug: str) -> str:
    """Return `<owner>_<slug>`, the folder of one dataset or kernel in the output.

    Two refs can give one folder (`a_b/c` and `a/b_c`): claim it in `Collisions`.

    Raises:
        UnsafeName: if `owner`, `slug` or the two together are not a safe name.
    """
    return safe_name(f"{safe_name(owner)}_{safe_name(slug)}")


def safe_path(relative: str) -> PurePosixPath:
    """Return the name of a file with its folders (`data/train/a.csv`) as a relative path.

    The separator is `/`, as in a zip archive and in Kaggle's file lists.

    Raises:
        UnsafeName: if the path is absolute (also with a drive letter), longer than
            `MAX_PATH_BYTES` or deeper than `MAX_DEPTH`, if a component is empty
            (`a//b`, `a/`), or if a component is not a safe name.
    """
    check_path(relative)
    return PurePosixPath(relative)


def check_path(relative: str) -> None:
    """Raise what `safe_path` raises, which takes much longer to make the path."""
    plain = len(relative) <= MAX_PATH_BYTES and _PLAIN_PATH.fullmatch(relative)
    if plain and relative.count("/") < MAX_DEPTH:
        return  # as nearly all are
    if len(relative.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES:
        raise UnsafeName(
            f"The path {relative[:80]!a}... is refused: it is longer than {MAX_PATH_BYTES} bytes."
        )
    if relative.count("/") >= MAX_DEPTH:
        raise UnsafeName(
            f"The path {relative[:80]!a}... is refused: it is more than {MAX_DEPTH} folders deep."
        )
    if relative.startswith("/"):
        raise UnsafeName(f"The path {relative[:80]!a} is refused: it is absolute.")
    for component in relative.split("/"):
        safe_name(component)


class Collisions:
    """Who owns which path: two things that differ never share one.

    Paths are compared as the least exact file system compares them: without regard to case
    (Windows, macOS) and to how an accented letter is composed (macOS).
    """

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def claim(self, path: str | PurePosixPath, identity: str) -> None:
        """Give `path` to `identity`, the original ref or name; the same one may claim it again.

        Raises:
            NameCollision: if another identity has claimed an equal path before.
        """
        owner = self._owners.setdefault(folded(str(path)), identity)
        if owner != identity:
            raise NameCollision(
                f"{identity!a} and {owner!a} would both be stored as {str(path)!a}."
            )


def folded(path: str) -> str:
    """Return what is the same for all paths that some file system holds to be one.

    Without regard to case and to how an accented letter is composed. It is for comparing alone:
    not to be shown, and not always a safe path.
    """
    # Folding can undo normalisation and the reverse (Unicode 3.13, canonical caseless matching).
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def _fault(name: str) -> str | None:
    if _PLAIN.fullmatch(name) and not _DEVICE.fullmatch(name):
        return None  # as nearly all are
    if not name:
        return "it is empty"
    if name in {".", ".."}:
        return "it means a folder itself or the one above"
    for character in name:
        if character in _FORBIDDEN:
            return f"it holds {character!a}, which is a separator or reserved on Windows"
        if character in _BIDI:
            return f"it holds {character!a}, which changes the direction of the text"
        category = unicodedata.category(character)
        if category in _REFUSED_CATEGORIES:
            return f"it holds {character!a}, {_REFUSED_CATEGORIES[category]}"
        if category == "Cf" and character not in _JOINERS:
            return f"it holds {character!a}, an invisible format character"
    if name[0].isspace() or name[-1].isspace():
        return "it begins or ends with a space"
    if name.endswith("."):
        return "it ends with a dot, which Windows drops"
    if _DEVICE.fullmatch(name):
        return "it is the name of a device on Windows"
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        return f"it is {size} bytes long in UTF-8, and {MAX_NAME_BYTES} are allowed"
    return None
