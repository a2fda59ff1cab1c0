"""How an answer is put into words, and into a verdict on what was assumed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from kagglecrawl.doctor.probes import Answer
from kagglecrawl.kaggle import lenient
from kagglecrawl.kaggle.errors import CredentialsNeeded


class Verdict(StrEnum):
    """Does what was found agree with what is assumed?"""

    AGREES = "as assumed"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


#: What was found, in words, and what it says of the assumption.
Reading = tuple[str, Verdict]
NOT_PROBED: Reading = ("not probed", Verdict.UNKNOWN)


def agrees(text: str, yes: bool) -> Reading:
    """What was found, and that it is as assumed or that it is not."""
    return text, Verdict.AGREES if yes else Verdict.DIFFERS


def no_answer(answer: Answer | None) -> Reading:
    """For a probe without a good reply: what came in its place, which decides nothing."""
    if answer is None:
        return NOT_PROBED
    if answer.status == 0:
        return "no answer", Verdict.UNKNOWN
    refused = isinstance(answer.error, CredentialsNeeded) or answer.status in {401, 403}
    word = "refused" if refused else "not answered"
    return f"{word} ({answer.status})", Verdict.UNKNOWN


def shape(answer: Answer) -> str:
    """Status and field names of an error, such as ``404 {code, message}``."""
    names = [
        f"{_word(name)}: {_names(each)}" if isinstance(each, dict) else _word(name)
        for name, each in list(answer.reply.items())[:4]
    ]
    return f"{answer.status} {{{', '.join(names)}}}" if names else f"{answer.status} without JSON"


def _names(fields: Mapping[str, Any]) -> str:
    return f"{{{', '.join(_word(name) for name in list(fields)[:4])}}}"


def _word(name: str) -> str:
    return re.sub(r"\W", "?", name)[:20]


def plural(count: int, noun: str) -> str:
    """A count with its noun: ``no rows``, ``1 row``, ``20 rows``."""
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def carried(rows: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> Reading:
    """Which fields some row holds; ``names`` gives the fields, and the words for them."""
    rows = list(rows)
    if not rows:
        return "no rows to look at", Verdict.UNKNOWN
    missing = [
        word
        for name, word in names.items()
        if all(lenient.pick(row, name) in (None, "", []) for row in rows)
    ]
    if not missing:
        return agrees("all of these" if len(names) > 2 else "both", True)
    return agrees(f"all but {', '.join(missing)}" if len(missing) < len(names) else "none", False)
