"""``scrapy status JOBDIR``: what a job has done so far, and what to do next.

It changes nothing, works whether the job runs or not, and needs neither credentials nor a network.

==== ===========================================================================
code meaning
==== ===========================================================================
0    it was looked at, whatever was found
2    wrong usage: no job directory, no job in it, or one that cannot be read
==== ===========================================================================

With --json it prints one object. Times are ISO 8601 in UTC, null where there is none:

===================== ==========================================================
field                 what it is
===================== ==========================================================
state                 running, stopped (there is more to do), killed,
                      incomplete (ended with something missing) or complete
pid                   the process that runs it, or null
spider, arguments     what it crawls; arguments is an object of texts
api_url, workspace    from where, and to where
created               when the job began
run                   number of the last or present run, from 1; 0: none yet
run_started           when that run began
run_ended             when it ended, or for a killed one the last time it wrote
reason                Scrapy's finish reason of that run; null unless it ended
discovered, stored,   resources: discovered is the sum of the others
skipped, failed,
pending
balanced              whether it is; if not, please report it
skipped_by_reason,    objects: how many by reason, the largest first
failed_by_reason
lists_failed          pages of lists that were given up
capped                whether a list ended at row 10,000, which is Kaggle's cap
requests_sent         requests sent to the API, in all runs
requests_repeated     how many of these were asked again
requests_pending      requests that are still to be made
requests_waiting      how many of these wait for a later time
held_until            object: quota family to when it may be asked again
files, bytes          files that are stored, and their size together
files_left_out        object: how many were left out, by reason
transfers             list of objects: key, position and size in bytes of the
                      downloads that have begun and are not done (the 20
                      largest)
pages_listed          pages of the list of which rows are known
pages_written         how many of these have their file
records_per_minute    of the last or present run, or null
seconds_left          for what is pending, at that rate, or null
feeds                 list of objects: uri, rows and bytes that are written for
                      good, only_in_job_directory
next                  what to do now, in words
command               the command that goes on with the job, or null
===================== ==========================================================
"""

from __future__ import annotations

import argparse
import json
import shlex
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scrapy.commands import ScrapyCommand, ScrapyHelpFormatter
from scrapy.exceptions import UsageError
from scrapy.settings import BaseSettings

from kagglecrawl.commands.again import command
from kagglecrawl.commands.crawl import USAGE
from kagglecrawl.extensions.report import REASONS
from kagglecrawl.kaggle.paging import End
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.job import lock_holder
from kagglecrawl.state.store import FILE, FeedFile, NotOurs, Store, Verdict
from kagglecrawl.units import amount

#: The object that --json prints; the table above names its fields.
Status = dict[str, Any]

#: In the order in which a sum names them.
_SUM = (Verdict.STORED, Verdict.SKIPPED, Verdict.FAILED, Verdict.PENDING)
_NAME_IT = "name the folder that was given with -s JOBDIR="
_ANEW = "name another JOBDIR to begin anew"
#: Why a run stopped before its end, by Scrapy's finish reason.
_WHY = {
    "shutdown": "It was interrupted.",
    "cancelled": "It was cancelled.",
    "kaggle_quota": "The quota was spent.",
    "kaggle_unreachable": "The API could not be reached.",
    "kaggle_misconfigured": "The address was not the API's.",
    "kaggle_no_space": "The disk of WORKSPACE had no room left.",
    "feeds_not_stored": "A feed could not be stored.",
    "kaggle_credentials": "Kaggle wants credentials, or refused those that it was given.",
}
#: How many downloads are looked at, and shown.
_TRANSFERS, _SHOWN = 20, 3
#: What to do first after these, since going on at once would stop again.
_FIRST = dict.fromkeys(
    ("kaggle_unreachable", "kaggle_misconfigured", "kaggle_credentials"),
    "see what `scrapy doctor` finds, then ",
)
_FIRST["kaggle_no_space"] = "make room on the disk of WORKSPACE, then "


class Unreadable(Exception):
    """There is no job to look at; the text says why and what to do."""


class _HelpFormatter(ScrapyHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Leaves the lines of a table as they are."""


class Command(ScrapyCommand):
    """The command."""

    requires_project = True
    requires_crawler_process = False
    default_settings = {"LOG_ENABLED": False}

    def short_desc(self) -> str:
        """One line for the list of commands."""
        return "Say how far the job in a job directory is"

    def long_desc(self) -> str:
        """What the help says first."""
        return "Says what the job in JOBDIR has done so far, and what to do next. Changes nothing."

    def syntax(self) -> str:
        """What follows the command's name."""
        return "[options] JOBDIR"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """One more than Scrapy's, and the tables above."""
        super().add_options(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.formatter_class = _HelpFormatter
        parser.epilog = (__doc__ or "").partition("network.\n\n")[2]

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Refuse what is not known, in one sentence."""
        try:
            super().process_options(args, opts)
            assert self.settings is not None
            if options := [arg for arg in args if arg.startswith("-")]:
                raise UsageError(f"option {options[0]} is not known: see `scrapy status -h`")
            if not args and self.settings.get("JOBDIR"):
                args.append(str(self.settings["JOBDIR"]))
            if len(args) != 1:
                raise UsageError("name one job directory: scrapy status JOBDIR")
        except UsageError as error:
            _refuse(str(error))
            sys.exit(USAGE)

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Look, and tell."""
        assert self.settings is not None
        try:
            status = examine(Path(args[0]), self.settings, time.time())
        except Unreadable as error:
            _refuse(str(error))
            self.exitcode = USAGE
            return
        shown = json.dumps(status, indent=1) if opts.json else as_text(status, args[0])
        print(shown.encode(errors="backslashreplace").decode())


def _refuse(text: str) -> None:
    print("scrapy status:", " ".join(clean(text).split()), file=sys.stderr)


# -- looking ---------------------------------------------------------------------------------------


def examine(folder: Path, settings: BaseSettings, now: float) -> Status:
    """The status of the job in a folder, at ``now`` (seconds since the epoch).

    ``settings`` are those that a crawl started here would have. Raises ``Unreadable``.
    """
    _check(folder)
    try:
        pid = lock_holder(folder)
        with closing(Store.look(folder / FILE)) as store:
            if not store.get("created"):
                raise Unreadable(f"the job in {folder} has not begun: start the crawl again")
            # Asked again, since a run that has begun meanwhile is not one that was killed.
            return _status(store, pid or lock_holder(folder), folder, settings, now)
    except NotOurs as error:
        raise Unreadable(f"{error}: {_NAME_IT}") from None
    except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
        raise Unreadable(
            f"{folder / FILE} cannot be read ({error}): restore it from a copy, or {_ANEW}"
        ) from None


def _check(folder: Path) -> None:
    try:
        if not folder.exists():
            raise Unreadable(f"{folder} does not exist: {_NAME_IT}")
        if not folder.is_dir():
            raise Unreadable(f"{folder} is a file, not a folder: {_NAME_IT}")
        if not (folder / FILE).exists():
            raise Unreadable(f"there is no job in {folder} (no {FILE}): {_NAME_IT}")
        (folder / FILE).open("rb").close()
    except OSError as error:
        raise Unreadable(f"{folder} cannot be read ({error.strerror}): check who owns it") from None


def _status(
    store: Store, pid: int | None, folder: Path, settings: BaseSettings, now: float
) -> Status:
    started, ended = _seconds(store, "run_started"), _seconds(store, "run_ended")
    if ended is None and pid is None:
        ended = _last_written(folder)
    over = pid is None and store.get("clean") == "1"
    pages = store.pages()
    holds = {name: float(until) for name, until in _object(store, "holds").items()}
    arguments = {k: v for k, v in _object(store, "arguments").items() if not k.startswith("_")}
    status: Status = {
        "state": "running" if pid else "stopped" if over else "killed",
        "pid": pid if pid and pid > 0 else None,
        "spider": clean(store.get("spider") or ""),
        "arguments": {name: clean(str(value)) for name, value in arguments.items()},
        "api_url": clean(store.get("api_url") or ""),
        "workspace": clean(store.get("workspace") or ""),
        "created": store.get("created"),
        "run": int(store.get("run") or 0),
        "run_started": _moment(started) if started else None,
        "run_ended": _moment(ended) if started and ended else None,
        "reason": store.get("reason") if over else None,
        "discovered": store.count("discovered"),
        **{verdict.value: store.count(verdict) for verdict in _SUM},
        "balanced": store.count("discovered") == sum(map(store.count, _SUM)),
        "skipped_by_reason": store.counts("skipped/"),
        "failed_by_reason": store.counts("failed/"),
        "lists_failed": store.count("lists_failed"),
        "capped": store.count(f"ended/{End.CAP}") > 0,
        "requests_sent": store.count("requests"),
        "requests_repeated": sum(store.counts("retries/").values()),
        "requests_pending": store.open_requests(),
        "requests_waiting": store.waiting_requests(now),
        "held_until": {clean(name): _moment(at) for name, at in holds.items() if at > now},
        "files": store.count("files_stored"),
        "bytes": store.count("bytes_stored"),
        "files_left_out": store.counts("files_left_out/"),
        "transfers": [
            {"key": clean(key), "position": position, "size": size}
            for key, position, size in store.unfinished_transfers(_TRANSFERS)
        ],
        "pages_listed": len(pages),
        "pages_written": sum(written for _, written in pages),
        **_pace(store, started, ended or now),
        "feeds": [_feed(feed) for feed in store.feeds()],
        "next": "",
        "command": None,
    }
    if status["reason"] == "finished" or (
        status["reason"] == "feeds_not_stored" and not status["requests_pending"]
    ):
        status["state"] = "incomplete" if _is_missing_something(status) else "complete"
    status["next"] = _next(status)
    if status["state"] not in {"running", "complete"}:
        status["command"] = command(
            status, _object(store, "feeds"), _object(store, "settings"), folder, settings
        )
    return status


def _is_missing_something(status: Status) -> bool:
    left = ("failed", "pending", "lists_failed", "requests_pending")
    return (
        not status["balanced"]
        or any(status[name] for name in left)
        or any(feed["only_in_job_directory"] for feed in status["feeds"])
    )


def _feed(feed: FeedFile) -> dict[str, Any]:
    local = "://" not in feed.uri or feed.uri.startswith("file:")
    # Others than these are collected in the job directory (state/feeds.py).
    direct = local and "%(batch_" not in feed.template
    return {
        "uri": clean(feed.uri),
        "rows": feed.items,
        "bytes": feed.offset - feed.base if direct else feed.offset,
        "only_in_job_directory": not direct and feed.stored < feed.offset,
    }


def _pace(store: Store, started: float | None, until: float) -> dict[str, float | None]:
    """What the last run, or the present one, had done until then, for each minute of it."""
    records = store.count("stored") - int(store.get("run_stored") or 0)
    if started is None or until - started < 1 or records <= 0:
        return {"records_per_minute": None, "seconds_left": None}
    each = (until - started) / records
    # what files will take, records do not tell
    left = 0.0 if store.unfinished_transfers(1) else store.count("pending") * each
    return {"records_per_minute": round(60 / each, 1), "seconds_left": round(left, 1) or None}


def _last_written(folder: Path) -> float:
    """When a killed run wrote last: what it had committed may be in the log beside the file."""
    files = (folder / FILE, folder / f"{FILE}-wal")
    return max(path.stat().st_mtime for path in files if path.exists())


def _object(store: Store, name: str) -> dict[str, Any]:
    value = json.loads(store.get(name) or "{}")
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no JSON object")
    return value


def _seconds(store: Store, name: str) -> float | None:
    text = store.get(name)
    return float(text) if text else None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


# -- what to do next -------------------------------------------------------------------------------


def _next(status: Status) -> str:
    if status["state"] == "running":
        stop = f" or `kill {status['pid']}`" if status["pid"] else ""
        return f"nothing: it is running; one Ctrl-C{stop} stops it cleanly"
    if status["state"] == "complete":
        return f"nothing: it is complete; {_ANEW}"
    incomplete = status["state"] == "incomplete"
    if incomplete and not status["balanced"] and not status["requests_pending"]:
        return _ANEW
    after = f" after {_shown(max(held))}" if (held := status["held_until"].values()) else ""
    aim = "ask for what is missing" if incomplete else "go on"
    return f"{_FIRST.get(status['reason'], '')}run the same command again{after} to {aim}"


# -- telling ---------------------------------------------------------------------------------------


def as_text(status: Status, folder: str) -> str:
    """The status in plain words, a line for each thing that there is to say."""
    given = shlex.join(f"{name}={value}" for name, value in status["arguments"].items())
    what = f"{status['spider']} with {given}" if given else status["spider"]
    since = f"from {status['api_url']}, since {_shown(status['created'])}"
    sums = " + ".join(f"{status[verdict]} {verdict}" for verdict in _SUM)
    lines = [
        f"Job in {clean(folder)}: {what}, {since}.",
        _state(status),
        f"{status['spider']}: {status['discovered']} discovered = {sums}",
        *(f"  {line}" for line in (*_accounts(status), *_requests(status), *_output(status))),
        f"Next: {status['next']}{':' if status['command'] else '.'}",
    ]
    if again := status["command"]:
        lines.append(f"  {again}")
        if "***" in again or "…" in again:
            lines.append("  (*** and … stand for what is not shown.)")
    return "\n".join(lines)


def _state(status: Status) -> str:
    match status["state"]:
        case "running":
            process = f"process {status['pid']}" if status["pid"] else "a process that begins"
            since = f", run {status['run']}, since {_shown(status['run_started'])}"
            return f"Running: {process}{since if status['run_started'] else ''}."
        case "stopped" if not status["run"]:
            return "Not begun: it has asked for nothing yet."
        case "stopped":
            reason = status["reason"] or "unknown"
            why = _WHY.get(reason, f"It ended early ({reason}).")
            if reason.startswith("closespider_"):
                why = "A limit that was set (CLOSESPIDER_…) was reached."
            return f"Stopped: there is more to do. {why}"
        case "killed":
            return "Killed: its process is gone. Nothing is lost."
        case "incomplete":
            return "Ended with something missing."
    return "Complete."


def _accounts(status: Status) -> Iterator[str]:
    if not status["balanced"]:
        yield "The sum is wrong. This is a fault of kagglecrawl's: please report it."
    for verdict in ("skipped", "failed"):
        for slug, count in status[f"{verdict}_by_reason"].items():
            yield f"{verdict} {count}: {REASONS.get(slug, clean(slug))}"
    if failed := status["lists_failed"]:
        were = "page of lists was" if failed == 1 else "pages of lists were"
        yield f"{failed} {were} given up: what is on {'it' if failed == 1 else 'them'} is missing."
    if status["capped"]:
        yield "The list ended at row 10,000: Kaggle's cap, not its end. Crawl the rest in slices."


def _requests(status: Status) -> Iterator[str]:
    if pending := status["requests_pending"]:
        waiting = status["requests_waiting"]
        of_them = f", {waiting} of them for a later time" if waiting else ""
        yield f"{_many(pending, 'request')} pending{of_them}"
    if held := status["held_until"]:
        family, until = max(held.items(), key=lambda pair: pair[1])
        yield f"Kaggle asks to wait: nothing of quota {family!r} is sent before {_shown(until)}."
    again = status["requests_repeated"]
    asked_again = f", {again} of them asked again" if again else ""
    yield f"{_many(status['requests_sent'], 'API request')} sent{asked_again}"
    if rate := status["records_per_minute"]:
        run = "last" if status["run_ended"] else "present"
        left = status["seconds_left"]
        rest = f"; what is pending takes about {_duration(left)} at that rate" if left else ""
        yield f"{rate:.0f} records a minute in the {run} run{rest}"


def _output(status: Status) -> Iterator[str]:
    if files := status["files"]:
        yield f"{_many(files, 'file')}, {amount(status['bytes'])}"
    for slug, count in status["files_left_out"].items():
        yield f"left out {count}: {REASONS.get(slug, clean(slug))}"
    for each in status["transfers"][:_SHOWN]:
        of = f"{amount(each['position'])} of {amount(each['size'])}" if each["size"] else "begun"
        yield f"download of {each['key']}: {of}"
    if (more := len(status["transfers"]) - _SHOWN) > 0:
        yield f"and {_many(more, 'download')} more"
    if listed := status["pages_listed"]:
        yield f"{status['pages_written']} of {_many(listed, 'page')} written"
    for feed in status["feeds"]:
        only = ", still only in the job directory" if feed["only_in_job_directory"] else ""
        yield f"feed {feed['uri']}: {_many(feed['rows'], 'row')}, {feed['bytes']:,} bytes{only}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _shown(moment: str | None) -> str:
    """A time in UTC, for people."""
    return f"{moment[:10]} {moment[11:19]} UTC" if moment else "an unknown time"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
