"""Spider arguments: declared once, with type, default and help, in one dataclass per spider.

``scrapy crawl <spider> --help-args`` prints the declaration; a wrong argument ends the command
in one sentence before anything is requested.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class ArgumentError(ValueError):
    """A spider argument is wrong; the text names it and the next step."""


def argument(
    default: Any, read: Callable[[str], Any], kind: str, help_text: str, choices: str = ""
) -> Any:
    """Declare one argument: how its text is read, what kind of thing it is, and its help."""
    metadata = {"read": read, "kind": kind, "help": help_text, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Base of the per-spider declarations."""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Self:
        """Read the texts of ``-a name=value``.

        Names that begin with ``_`` are accepted and left alone (scrapyd sends ``_job``).
        Raises ``ArgumentError``.
        """
        known = {field.name: field for field in cls.declared()}
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name.startswith("_"):
                continue
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
                raise ArgumentError(f"argument {name} is not known: {hint}")
            if not isinstance(text, str):
                values[name] = text
                continue
            try:
                values[name] = known[name].metadata["read"](text.strip())
            except ValueError as error:
                shown = text if text.isprintable() else repr(text)
                shown = shown if len(shown) <= 60 else shown[:59] + "…"
                raise ArgumentError(f"argument {name}={shown}: {error}") from None
        result = cls(**values)
        result.check()
        return result

    @classmethod
    def settled(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The same texts, which were parsed, but that folders are absolute: so they mean the same
        wherever the command is given again."""
        folders = {each.name for each in cls.declared() if each.metadata["kind"] == "folder"}
        return {
            name: str(Path(str(text).strip()).expanduser().absolute()) if name in folders else text
            for name, text in given.items()
        }

    def check(self) -> None:
        """Refuse arguments that exclude each other; raises ``ArgumentError``."""

    def given(self) -> dict[str, Any]:
        """The arguments that differ from their defaults."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    @classmethod
    def declared(cls) -> list[dataclasses.Field[Any]]:
        """The spider's own first, then those of every spider."""
        return sorted(
            dataclasses.fields(cls), key=lambda each: each.name not in cls.__annotations__
        )

    @classmethod
    def describe(cls) -> str:
        """The declaration as a table for people."""
        lines = []
        for field in cls.declared():
            default = "" if field.default in (None, "", (), False) else f"; default {field.default}"
            lines.append(f"  -a {field.name}=…  ({field.metadata['kind']}{default})")
            lines.append(f"      {field.metadata['help']}")
            if field.metadata["choices"]:
                lines.append(f"      One of: {field.metadata['choices']}")
        return "\n".join(lines)


def yes_or_no(text: str) -> bool:
    """true or false, in the usual spellings."""
    word = text.lower()
    if word in {"true", "yes", "1", "on"}:
        return True
    if word in {"false", "no", "0", "off"}:
        return False
    raise ValueError("write true or false")


@dataclasses.dataclass(frozen=True)
class CrawlArguments(Arguments):
    """Arguments of every spider whose records the ledger keeps."""

    changed_only: bool = argument(
        False,
        yes_or_no,
        "true or false",
        "Write only what is new, or not as the ledger has it; no page files.",
    )
    refresh: bool = argument(
        False,
        yes_or_no,
        "true or false",
        "Ask for everything again, whatever the ledger has, and whatever Kaggle refused before.",
    )

    def check(self) -> None:
        """Refuse both at once."""
        if self.changed_only and self.refresh:
            raise ArgumentError(
                "argument refresh asks for everything again, and changed_only leaves out what the "
                "ledger has: leave one of the two out"
            )


@dataclasses.dataclass(frozen=True)
class PageRange:
    """Pages ``first`` to ``last`` of a list, 20 rows each, counted from 1; last 0 is the end."""

    first: int = 1
    last: int = 0

    def __str__(self) -> str:
        if self.first == self.last:
            return str(self.first)
        return f"{self.first}-{self.last or ''}"


def pages(text: str) -> PageRange:
    """``5`` is page 5, ``3-7`` pages 3 to 7, ``3-`` from page 3 to the end."""
    match = re.fullmatch(r"(\d{1,6})(-(\d{1,6})?)?", text)
    if match:
        first = int(match[1])
        last = int(match[3]) if match[3] else 0 if match[2] else first
        if first >= 1 and (last >= first or (not last and match[2] == "-")):
            return PageRange(first, last)
    raise ValueError("write a page (5) or a range of pages (3-7, or 3- for all from 3), from 1 up")


def count(text: str) -> int:
    """A whole number from 1 up."""
    if not re.fullmatch(r"\d{1,12}", text) or int(text) < 1:
        raise ValueError("write a whole number from 1 up")
    return int(text)


def rating(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ValueError("write a number from 0 to 1")
    return value


def size(text: str) -> int:
    """Bytes, with an optional unit: 500000, 500KB, 1.5GB, 2GiB."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,3})?)\s*([A-Za-z]{0,3})", text)
    if not match or match[2].upper() not in _UNITS:
        raise ValueError("write bytes (500000) or a number with KB, MB, GB, TB, KiB, MiB, GiB, TiB")
    return int(Decimal(match[1]) * _UNITS[match[2].upper()])


def day(text: str) -> str:
    """A day, as ISO 8601 has it."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("write a day as 2024-01-31") from None


def folder(text: str) -> Path:
    """A folder that is there."""
    path = Path()
    try:
        path = Path(text).expanduser()
        there = bool(text) and path.is_dir()
    except (OSError, ValueError, RuntimeError):
        there = False
    if not there:
        what = "it is a file" if path.is_file() else "there is no such folder"
        raise ValueError(f"{what}: write the path of a folder")
    return path.absolute()


def line(text: str) -> str:
    """One line of text, not empty."""
    if not text or not text.isprintable():
        raise ValueError("write one line of text")
    return text


def glob(text: str) -> str:
    """A glob for the path of a file in an archive."""
    if not text or not text.isprintable() or text.startswith("/") or ".." in text.split("/"):
        raise ValueError(
            f"{text[:40]!r} can match no file: write a glob for paths below the root, such as "
            "*.csv or data/*.json"
        )
    return text


def one_of(choices: Mapping[str, Any]) -> Callable[[str], Any]:
    """A reader of one of these words, whatever their case, ``-`` and ``_`` being the same."""

    def read(text: str) -> Any:
        word = text.lower().replace("-", "_")
        if word not in choices:
            near = difflib.get_close_matches(word, choices, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(choices)}"
            raise ValueError(hint)
        return choices[word]

    return read


def listed(item: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """A reader of a comma-separated list, or of a file with one to a line (``#`` begins a
    comment); repetitions are left out."""

    def read(text: str) -> tuple[Any, ...]:
        try:
            is_file = Path(text).is_file()
        except (OSError, ValueError):
            is_file = False
        if is_file:
            try:
                content = Path(text).read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                raise ValueError(f"cannot read this file: {reason}") from None
            words = [each.split("#", 1)[0].strip() for each in content.splitlines()]
        else:
            words = [each.strip() for each in text.split(",")]
        found = tuple(dict.fromkeys(item(word) for word in words if word))
        if not found:
            raise ValueError("it is empty: write a comma-separated list, or a file with one a line")
        return found

    return read
