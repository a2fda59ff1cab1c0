"""``scrapy ledger``: what the crawls into a workspace have had, and what became of it.

It changes nothing of the ledger, works while crawls write it, and needs neither credentials nor a
network.

================ ===============================================================
command          what it does
================ ===============================================================
ledger           counts, by spider and source; --json for programs
ledger list      a line for each resource version: key, version, verdict,
                 reason, files, bytes, time of the outcome, and whether it is
                 gone; - where there is nothing
ledger keys      the keys alone, which is what -a refs=FILE (or slugs) takes
ledger export F  all of it into a file, by its suffix .csv, .json (an array) or
                 .jsonl; - prints JSON lines. An existing file is replaced when
                 the new one is whole
ledger           what it has of the episodes of competition C as the Halite
  seed-files C   seed's text files, in the folder --to: the priorities of the
                 episodes that are not had (episode_priority_map.txt), the ranks
                 of the teams that are not listed (team_priority_map.txt), and
                 the episodes that are had (episode_downloads.txt). Such files
                 that are there are replaced
================ ===============================================================

list, keys and export take the newest version of each resource, or all with
--all-versions. Their options leave out what is not meant; dates are in UTC,
--until has the whole day if it names one.

An exported row has these fields. Times are ISO 8601 in UTC, null (in CSV empty)
where there is none:

===================== ==========================================================
field                 what it is
===================== ==========================================================
source                from where: an address, or loopback for any server on this
                      machine
spider, key           what it is
version               which version, as a text; null where Kaggle told none, or
                      no more is known than that a list had it
verdict, reason       the newest outcome: stored, skipped, failed, or pending (its
                      record is there, its files are not); a word
at                    when that was first found so; --since and --until mean this
gone                  not_listed (a list that had it was walked to its end, and
                      had it no more), deleted (Kaggle has answered 404 for it:
                      deleted, renamed or private), or null
gone_since            since when
first_seen, last_seen when a crawl met it
last_listed           when a list last had it
stored_at             when its record was made, which a later failure leaves
choice                which files were wanted: all, or only=…; max_bytes=…
files, bytes          what was stored of them
folder                where they are, below the workspace; in a store a URI
record                the record as in a feed; not in CSV, nor with --no-records
===================== ==========================================================

==== ===========================================================================
code meaning
==== ===========================================================================
0    done
1    the file to export to could not be written
2    wrong usage, no ledger yet, or one that cannot be read
3    interrupted
==== ===========================================================================
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError

from kagglecrawl.commands.crawl import FAILED, STOPPED, USAGE
from kagglecrawl.commands.ledger_export import export, line, moment
from kagglecrawl.commands.ledger_seed import FOLDER, gather, told
from kagglecrawl.commands.tables import TableHelpFormatter
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.extensions.report import REASONS
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.ledger_look import LedgerRefused, Look, Row, Sums, Wanted
from kagglecrawl.units import amount

_VERDICTS = ("stored", "skipped", "failed", "pending")
_GONE = ("not_listed", "deleted", "any")
_SUFFIXES = (".csv", ".json", ".jsonl")
#: Options that say what is wanted.
_FILTERS = ("spider", "source", "verdict", "reason", "gone", "key", "since", "until")


class Command(ScrapyCommand):
    """The command."""

    requires_project = True
    requires_crawler_process = False
    default_settings = {"LOG_ENABLED": False}

    def short_desc(self) -> str:
        """One line for the list of commands."""
        return "Show what all crawls into the workspace have had"

    def long_desc(self) -> str:
        """What the help says first."""
        return "Shows the ledger: what the crawls into WORKSPACE have had, and what became of it."

    def syntax(self) -> str:
        """What follows the command's name."""
        return "[options] [list | keys | export FILE | seed-files COMPETITION]"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Which rows are meant, and how they are shown."""
        super().add_options(parser)
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")
        group = parser.add_argument_group("Of list, keys and export")
        group.add_argument("--spider", metavar="NAME", default="")
        group.add_argument("--source", metavar="S", default="", help="from there alone")
        group.add_argument("--verdict", metavar="V", default="", help=", ".join(_VERDICTS))
        group.add_argument("--reason", metavar="WORD", default="", help="skipped or failed for it")
        group.add_argument("--gone", metavar="HOW", default="", help=", ".join(_GONE))
        group.add_argument("--key", metavar="GLOB", default="", help="such as 'owner/*'")
        group.add_argument("--since", metavar="DATE", default="", help="outcomes from then on")
        group.add_argument("--until", metavar="DATE", default="", help="outcomes until then")
        group.add_argument("--all-versions", action="store_true", help="not the newest alone")
        group.add_argument("--no-records", action="store_true", help="export without records")
        group = parser.add_argument_group("Of seed-files (with --source)")
        group.add_argument("--to", metavar="DIR", default="", help=f"folder, else {FOLDER}")
        parser.formatter_class = TableHelpFormatter
        parser.epilog = (__doc__ or "").partition("network.\n\n")[2]

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Refuse what cannot be meant, in one sentence."""
        try:
            super().process_options(args, opts)
            assert self.settings is not None
            opts.path = KaggleConfig.from_settings(self.settings).ledger
            opts.wanted = _checked(args, opts)
        except (UsageError, SettingError) as error:
            _say(str(error))
            sys.exit(USAGE)

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Look, and tell."""
        try:
            with Look(opts.path) as look:
                self.exitcode = _tell(look, args, opts)
            sys.stdout.flush()
        except LedgerRefused as error:
            _say(str(error))
            self.exitcode = USAGE
        except BrokenPipeError:
            # Whoever read has enough; what is left in the buffer goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            self.exitcode = STOPPED


def _say(text: str) -> None:
    print("scrapy ledger:", " ".join(clean(text).split()), file=sys.stderr)


# -- what is asked for -----------------------------------------------------------------------------


def _checked(args: list[str], opts: argparse.Namespace) -> Wanted:
    """What is wanted; raises ``UsageError``."""
    if options := [arg for arg in args if arg.startswith("-") and arg != "-"]:
        raise UsageError(f"option {options[0]} is not known: see `scrapy ledger -h`")
    action = args[0] if args else ""
    if action not in {"", "list", "keys", "export", "seed-files"}:
        raise UsageError(
            f"{action} is not known: write list, keys, export FILE or seed-files COMPETITION, "
            "or nothing"
        )
    if action == "export":
        if len(args) != 2:
            raise UsageError("name one file to export to, or - for the terminal")
        if args[1] != "-" and Path(args[1]).suffix.lower() not in _SUFFIXES:
            raise UsageError(f"{args[1]} says no format: name a file in {', '.join(_SUFFIXES)}")
    elif action == "seed-files":
        if len(args) != 2:
            raise UsageError("name one competition, such as: scrapy ledger seed-files halite")
    elif len(args) > 1:
        raise UsageError(f"{args[1]} is too much: see `scrapy ledger -h`")
    if opts.to and action != "seed-files":
        raise UsageError("--to is for seed-files: leave it out")
    given = [name for name in (*_FILTERS, "all_versions", "no_records") if getattr(opts, name)]
    if given and not action:
        raise UsageError(f"--{given[0].replace('_', '-')} is for list, keys and export: name one")
    if action == "seed-files" and (more := [name for name in given if name != "source"]):
        raise UsageError(f"--{more[0].replace('_', '-')} is not for seed-files: leave it out")
    if opts.json and action:
        raise UsageError("--json is for the counts: `scrapy ledger export -` prints JSON lines")
    if opts.no_records and action != "export":
        raise UsageError("--no-records is for export: leave it out")
    for name, words in (("verdict", _VERDICTS), ("gone", _GONE)):
        if (word := getattr(opts, name)) and word not in words:
            raise UsageError(f"--{name} {word} is not known: write one of {', '.join(words)}")
    since, until = _time(opts.since, "since"), _time(opts.until, "until", whole_day=True)
    if since is not None and until is not None and since >= until:
        raise UsageError("--since is later than --until, so nothing could be meant: turn them")
    return Wanted(
        spider=opts.spider,
        source=opts.source,
        verdict=opts.verdict,
        reason=opts.reason,
        gone=opts.gone,
        key=opts.key,
        since=since,
        until=until,
        all_versions=opts.all_versions,
    )


def _time(text: str, name: str, *, whole_day: bool = False) -> float | None:
    """An ISO date or time, in UTC unless it says otherwise, in seconds since the epoch; with
    ``whole_day`` a date is the end of its day."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            found = found.replace(tzinfo=UTC)
        is_date = len(text) <= len("2026-01-02")
        return (found + timedelta(days=1 if whole_day and is_date else 0)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"--{name} {text} is no date: write 2026-01-31") from None


# -- telling ---------------------------------------------------------------------------------------


def _tell(look: Look, args: list[str], opts: argparse.Namespace) -> int:
    """Do what was asked for; returns the exit code."""
    for name, there in zip(("source", "spider"), zip(*look.whose(), strict=True), strict=False):
        if (word := getattr(opts, name)) and word not in there:
            has = ", ".join(sorted(set(there)))
            raise LedgerRefused(
                f"the ledger {opts.path} has nothing of {name} {word}: it has {has}"
            )
    match args:
        case []:
            sums = look.sums()
            for text in [_as_json(sums)] if opts.json else _as_text(sums, opts.path):
                _print(text)
        case ["list"]:
            _print_all(map(_columns, look.rows(opts.wanted)))
        case ["keys"]:
            _print_all(map(_safe, look.keys(opts.wanted)))
        case ["seed-files", competition]:
            return _seed_files(look, competition, opts)
        case [_, "-"]:
            records = not opts.no_records
            rows = look.rows(opts.wanted, records=records)
            _print_all(line(row, records=records) for row in rows)
        case [_, name]:
            return _export(look, name, opts)
    return 0


def _print_all(lines: Iterable[str]) -> None:
    nothing = True
    for nothing, text in zip(repeat(False), lines, strict=False):  # noqa: B007
        _print(text)
    if nothing:
        _say("there is nothing of the kind")


def _export(look: Look, name: str, opts: argparse.Namespace) -> int:
    records = not opts.no_records and Path(name).suffix.lower() != ".csv"
    try:
        count = export(Path(name), look.rows(opts.wanted, records=records), records=records)
    except OSError as error:
        _say(f"{name} cannot be written ({error.strerror or error}): name another place for it")
        return FAILED
    _print(f"{_many(count, 'row')} in {_safe(name)}")
    return 0


def _seed_files(look: Look, competition: str, opts: argparse.Namespace) -> int:
    folder = Path(opts.to or FOLDER)
    seed = gather(look, competition, opts.source)
    try:
        seed.write(folder)
    except OSError as error:
        why = error.strerror or error
        _say(f"{folder} cannot be written to ({why}): name another folder with --to")
        return FAILED
    for text in told(seed, folder):
        _print(_safe(text))
    return 0


def _as_json(sums: list[Sums]) -> str:
    return json.dumps([asdict(each) for each in sums], indent=1)


def _as_text(sums: list[Sums], path: Path) -> Iterator[str]:
    yield _safe(f"Ledger {path}{'' if sums else ': nothing yet'}")
    for each in sums:
        what = f"{_many(each.resources, 'resource')}, {_many(each.versions, 'version')}"
        yield _safe(f"{each.spider} from {each.source}: {what}")
        yield f"  stored {each.stored:,}"
        for verdict, counts in (("skipped", each.skipped), ("failed", each.failed)):
            for reason, count in counts.items():
                yield _safe(f"  {verdict} {count:,}: {REASONS.get(reason, reason)}", head="  ")
        if each.pending:
            yield f"  {each.pending:,} of which the files are still to come"
        if each.listed_only:
            yield f"  {each.listed_only:,} of which no more is known than that a list had them"
        if each.not_listed:
            yield f"  {each.not_listed:,} gone from a list that had them"
        if each.deleted:
            yield f"  {each.deleted:,} gone, since they were not found when they were asked for"
        if each.files:
            yield f"  {_many(each.files, 'file')}, {amount(each.bytes)}"


def _columns(row: Row) -> str:
    columns = (
        f"{_safe(row.key) or '-':<50}",
        f"{_safe(row.version or '') or '-':>4}",
        f"{_safe(row.verdict) or '-':<7}",
        f"{_safe(row.reason) or '-':<18}",
        f"{row.files:>7}",
        f"{row.bytes:>13}",
        f"{moment(row.at) or '-':<25}",
        _safe(row.gone) or "-",
    )
    return "  ".join(columns)


def _safe(text: str, head: str = "") -> str:
    """On one line, without what a terminal would obey."""
    return head + " ".join(clean(text).split())


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="backslashreplace").decode(encoding))


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
