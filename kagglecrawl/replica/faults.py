"""Scripted trouble: which requests get it follows from the seed, the request and its arrival.

What comes first is the plan of a request key (method and canonical body, or a storage path): at
most three faults, one per arrival, then clean answers for ever. Those of an object in storage have
clean answers between them, since one download may take many ranges of it.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.storage import Span
from kagglecrawl.replica.wire import HTML, JSON, Reply, dump, error

Kind = Literal[
    "status",
    "html",
    "damaged",
    "error_in_200",
    "message_in_200",
    "redirect",
    "cut",
    "reset",
    "drip",
    "trickle",
    "expired",
    "changed",
    "wrong_hash",
    "no_hash",
    "md5_only",
    "crc32c_only",
    "no_ranges",
    "wrong_start",
    "wrong_total",
    "wrong_length",
]
STORAGE = "storage"
"""The name that downloads from storage go by, beside the methods."""

OF_STORAGE = frozenset(
    {
        "trickle",
        "expired",
        "changed",
        "wrong_hash",
        "no_hash",
        "md5_only",
        "crc32c_only",
        "no_ranges",
        "wrong_start",
        "wrong_total",
        "wrong_length",
    }
)
"""Kinds that calls do not meet."""
INSTEAD = frozenset({"status", "html", "redirect", "expired", "error_in_200", "message_in_200"})
"""Kinds that put another answer in the place of the object."""

_HTML_PAGE = b"<!DOCTYPE html><html><body><h1>We will be back in a moment</h1></body></html>"
_ODD_ROLES = {"WRITER": 2, "READER": "reader"}  # by number, and as the REST twin writes them
_NULLABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "ListDatasets": (
        "datasets",
        ("subtitle", "description", "tags", "licenseName", "usabilityRating"),
    ),
    "ListCompetitions": ("competitions", ("reward", "tags", "organizationName", "userRank")),
}
"""Where a list's rows are, and what of them may be null."""
_DATES = {"lastUpdated", "creationDate", "deadline", "enabledDate", "dateCreated", "submissionDate"}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with an answer.

    Of calls and of storage alike:

    - `status`: an error with `status`, and Retry-After if `retry_after` (seconds) is given
    - `html`: a page with status 200 in place of JSON
    - `damaged`: JSON that does not parse; from storage or with `at`, one wrong byte, at its length
    - `redirect`: `status` (301 if none is given) to `location`, where `{url}` stands for the
      address asked for; without a location, the header is missing
    - `cut`: Content-Length promises more than comes
    - `reset`: the connection breaks before any answer
    - `drip`: the right answer, spread over `seconds`

    Of calls alone:

    - `error_in_200`: `{"code": status}` with status 200
    - `message_in_200`: `errorMessage` in place of what is deleted or forbidden

    Of storage alone, and of GET there:

    - `trickle`: under a right head, one byte every `seconds`, and the last one never
    - `expired`: the URL is dead from now on, with `status` (400 if none is given); a new one works
    - `changed`: from now on the object is another one, of this `content`
    - `wrong_hash`, `no_hash`, `md5_only`, `crc32c_only`: what `x-goog-hash` says or leaves out
    - `no_ranges`: the whole, with 200, whatever the Range
    - `wrong_start`: a range that begins `by` bytes later than the one asked for, and says so
    - `wrong_total`: a Content-Range whose total is `by` too large
    - `wrong_length`: Content-Length, and the end and total of Content-Range, are `by` too large,
      and the connection closes where the object ends; with a negative one, they are too small

    Where an answer from storage goes wrong: at the byte `at` of the object; or `after` so many
    bytes of the body; or at the share `part` (0 to 1) of it. Otherwise `cut` ends in the middle,
    and `damaged` is the first byte. An answer without that byte, or that a fault cannot be shown
    in (`wrong_start` without a Range), does not meet the fault, and is no arrival of its rule.
    """

    kind: Kind
    status: int = 0
    retry_after: int | None = None
    location: str = ""
    seconds: float = 0.0
    at: int | None = None
    after: int | None = None
    part: float | None = None
    by: int = 16
    content: bytes | Path = field(default=b"", repr=False)

    @property
    def name(self) -> str:
        """The kind as statistics count it; an error is counted by its status."""
        return str(self.status) if self.kind == "status" else self.kind

    def place(self, span: Span) -> int:
        """At which byte of the object an answer of these bytes is damaged, or ends if cut."""
        if self.at is not None:
            return self.at
        if self.after is not None:
            return span.start + self.after
        part = (0.5 if self.kind == "cut" else 0.0) if self.part is None else self.part
        return span.start + min(int(part * span.length), max(span.length - 1, 0))

    def fits(self, span: Span | None) -> bool:
        """Whether it can be shown in an answer of these bytes; None is a range past the end."""
        if span is None:
            return self.kind in INSTEAD or self.kind in {"reset", "changed", "no_ranges"}
        match self.kind:
            case "cut" | "damaged":
                return span.start <= self.place(span) < span.stop
            case "no_ranges" | "wrong_total":
                return span.ranged
            case "wrong_start":
                return span.ranged and 0 <= span.start + self.by < span.stop
            case "wrong_length":
                return self.by > -span.length
        return True

    def apply(self, reply: Reply, url: str = "") -> Reply:
        """What is sent in place of the reply to a request for `url`.

        `cut`, `reset`, `drip` and what is of storage alone are up to the sender.
        """
        match self.kind:
            case "status":
                refusal = error(self.status, _TEXTS.get(self.status, "Scripted failure"))
                if self.retry_after is not None:
                    refusal.headers["Retry-After"] = str(self.retry_after)
                return refusal
            case "html":
                return Reply(200, _HTML_PAGE, HTML)
            case "damaged":
                return replace(reply, body=reply.body[: len(reply.body) // 2] + b'",]')
            case "error_in_200":
                return replace(error(self.status, "Internal error"), status=200)
            case "message_in_200":
                message = _MESSAGES.get(reply.status, _MESSAGES[404])
                return Reply(200, dump({"errorMessage": message}))
            case "redirect":
                location = self.location.replace("{url}", url)
                headers = {"Location": location} if location else {}
                return Reply(self.status or 301, b"", HTML, headers)
        return reply


_TEXTS = {404: "Not Found", 500: "Internal error", 502: "Bad gateway", 503: "Unavailable"}
_MESSAGES = {
    403: "403 - Forbidden - Permission 'datasets.get' was denied",
    404: "404 - Not Found - The requested dataset was not found",
}


@dataclass(frozen=True)
class Rule:
    """`fault` for the named arrivals (1 is the first; empty is every one) of what matches.

    `method` is a method's name, `storage`, or `*`; `key` is as in the statistics (`owner/slug`,
    `page=3`, `1005/1/archive.zip`), or `*`. Each different request counts its own arrivals; every
    GET of an object is the same request, whatever its URL's signature and its Range.

    `Rule(Fault("status", 500), "GetDatasetMetadata")` is a method that fails until it is repaired.
    """

    fault: Fault
    method: str = "*"
    key: str = "*"
    arrivals: tuple[int, ...] = ()


Plan = Callable[[str, str], Sequence[Fault | None]]


def _no_plan(method: str, request_key: str) -> Sequence[Fault | None]:
    return ()


@dataclass
class Faults:
    """The faults of one replica, and what has arrived so far.

    Make it by `none`, `mild`, `harsh` or `script`.
    """

    plan: Plan = _no_plan
    rules: Sequence[Rule] = ()
    odd: str | None = None
    """The seed of odd but legal rows, dates and lists that move; None for none."""
    _arrivals: Counter[object] = field(default_factory=Counter)
    _repaired: set[Rule] = field(default_factory=set)

    @classmethod
    def none(cls) -> "Faults":
        """Nothing goes wrong."""
        return cls()

    @classmethod
    def mild(cls, seed: int = 1, drip_seconds: float = 2.0) -> "Faults":
        """About 3 % of the requests go wrong."""
        return cls(_Planner(f"mild {seed}", 0.023, drip_seconds))

    @classmethod
    def harsh(cls, seed: int = 1, drip_seconds: float = 2.0) -> "Faults":
        """About 20 % of the requests go wrong, and clean answers are odd in legal ways."""
        return cls(_Planner(f"harsh {seed}", 0.165, drip_seconds), odd=f"harsh {seed}")

    @classmethod
    def script(cls, rules: Sequence[Rule]) -> "Faults":
        """Just what the rules say; the first that matches counts."""
        return cls(rules=tuple(rules))

    def add(self, *rules: Rule) -> None:
        """Break something more, from the next request on; rules that are there come first."""
        self._repaired.difference_update(rules)
        self.rules = (*self.rules, *(rule for rule in rules if rule not in self.rules))

    def repair(self, *rules: Rule) -> None:
        """From the next request on these rules hold no more; without any, nothing goes wrong.

        What is odd but legal stays so.
        """
        self._repaired.update(rules or self.rules)
        if not rules:
            self.plan = _no_plan

    def decide(self, method: str, key: str, request_key: str, also: str = "") -> Fault | None:
        """Count an arrival; the fault that it meets, or None.

        `also` is another name by which rules may call the method.
        """
        names = {"*", method, also or method}
        return self._decide(
            method, key, request_key, lambda fault: fault.kind not in OF_STORAGE, names
        )

    def decide_object(self, key: str, span: Span | None) -> Fault | None:
        """Count a GET of an object for these bytes of it; the fault that it meets, or None."""
        names = {"*", STORAGE}
        return self._decide(STORAGE, key, key, lambda fault: fault.fits(span), names)

    def _decide(
        self,
        method: str,
        key: str,
        request_key: str,
        possible: Callable[[Fault], bool],
        names: set[str],
    ) -> Fault | None:
        for number, rule in enumerate(self.rules):
            named = rule.method in names and rule.key in {"*", key}
            if named and rule not in self._repaired and possible(rule.fault):
                arrival = self._arrive((number, method, request_key))
                if not rule.arrivals or arrival in rule.arrivals:
                    return rule.fault
        planned = self.plan(method, request_key)
        if not planned:
            return None
        arrival = self._arrive((method, request_key))
        fault = planned[arrival - 1] if arrival <= len(planned) else None
        return fault if fault and possible(fault) else None

    def _arrive(self, key: object) -> int:
        self._arrivals[key] += 1
        return self._arrivals[key]

    def refusal(self, method: str, request_key: str) -> Fault | None:
        """Whether what is deleted or forbidden says so by `errorMessage` inside a 200."""
        if self.odd and method == "GetDatasetMetadata" and Dice(self.odd, request_key).chance(0.5):
            return Fault("message_in_200")
        return None

    def shift(self, page: int) -> int:
        """By how many positions a page-mode list has moved down when this page is asked for.

        It grows by one to three after about every fourth page, whenever and however often a page
        is asked for: rows come again on the next page, none is ever missed.
        """
        if self.odd is None:
            return 0
        dice = Dice(self.odd, "shift")
        return sum(dice.between(1, 3) for _ in range(1, page) if dice.chance(0.25))

    def odden(self, method: str, reply: Reply) -> Reply:
        """The same answer with nulls in list rows, and dates and enums in other legal forms."""
        if self.odd is None or reply.status != 200 or reply.content_type != JSON:
            return reply
        value = json.loads(reply.body)
        rows, nullable = _NULLABLE.get(method, ("", ()))
        for row in value.get(rows, ()):
            dice = Dice(self.odd, "row", row["ref"])
            if dice.chance(0.15):
                row.update(dict.fromkeys(dice.sample(nullable, dice.between(1, 3))))
        return replace(reply, body=dump(self._oddened(value)))

    def _oddened(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._oddened(each) for each in value]
        if not isinstance(value, dict):
            return value
        for name, each in value.items():
            if name in _DATES:
                value[name] = self._odd_date(each)
            elif name == "role":
                value[name] = _ODD_ROLES.get(each, each)
            else:
                value[name] = self._oddened(each)
        return value

    def _odd_date(self, date: str) -> str:
        """The date with seven digits of a second; a whole second without a fraction."""
        whole, _, fraction = date.removesuffix("Z").partition(".")
        if not fraction.strip("0"):
            return f"{whole}Z"
        return f"{whole}.{fraction}0000Z" if Dice(self.odd, date).chance(0.5) else date


class _Planner:
    """Plans by the seed: what share of the keys meets trouble, and of which kinds."""

    def __init__(self, seed: str, share: float, drip_seconds: float) -> None:
        self._seed = seed
        self._share = share
        self._drip = Fault("drip", seconds=drip_seconds)

    def __call__(self, method: str, request_key: str) -> Sequence[Fault | None]:
        dice = Dice(self._seed, method, request_key)
        plan: list[Fault] = []
        chance = self._share
        while dice.chance(chance):
            plan += self._draw(dice, method)
            chance = 0.2
        if method != STORAGE:
            return plan[:3]
        spread: list[Fault | None] = []
        for fault in plan[:3]:
            clean = 0 if dice.chance(0.6) else dice.between(1, 3)
            spread += [*[None] * clean, fault]
        return spread

    def _draw(self, dice: Dice, method: str) -> list[Fault]:
        if dice.chance(0.02):
            return [self._drip]
        if method == STORAGE:
            part = dice.unit()
            return [
                dice.pick(
                    (Fault("cut", part=part), Fault("damaged", part=part), Fault("status", 503))
                )
            ]
        if dice.chance(0.2):
            wait = 1 if dice.chance(0.05) else 0
            return [Fault("status", 429, retry_after=wait)] * dice.between(1, 3)
        choices = [
            Fault("status", 500),
            Fault("status", 502),
            Fault("status", 503),
            Fault("status", 503, retry_after=dice.below(2)),
            Fault("cut"),
            Fault("reset"),
            Fault("damaged"),
            Fault("html"),
            Fault("error_in_200", 500),
        ]
        if method == "ListDatasets":
            choices.append(Fault("status", 404))
        return [dice.pick(choices)]
