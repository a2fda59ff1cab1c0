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
failed_for_good       nothing that has failed would be better at another attempt
held_until            object: quota family to when it may be asked again
quotas                object: quota family ("api+download" where families
                      share rates) to what is left of it for this account, by
                      the KAGGLE_QUOTAS of the last run: next (when a request
                      may be sent, null for now), interval (seconds that 429s
                      have taught, or null), budgets (a list of objects: rate,
                      used in it, left of it, and when the first of these is
                      free again)
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
import sqlite3
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scrapy.commands import ScrapyCommand
from scrapy.exceptions import UsageError
from scrapy.settings import SETTINGS_PRIORITIES, BaseSettings

from kagglecrawl.commands.again import command
from kagglecrawl.commands.crawl import USAGE
from kagglecrawl.commands.status_words import ANEW, NOTHING, SUM, Status, as_text, next_step
from kagglecrawl.commands.tables import TableHelpFormatter
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.kaggle.auth import CredentialsError, account_of
from kagglecrawl.kaggle.paging import End
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.job import lock_holder
from kagglecrawl.state.quotas import Quotas, QuotasRefused
from kagglecrawl.state.store import FILE, FeedFile, NotOurs, Store

_NAME_IT = "name the folder that was given with -s JOBDIR="
#: How many downloads are looked at.
_TRANSFERS = 20


class Unreadable(Exception):
    """There is no job to look at; the text says why and what to do."""


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
        parser.formatter_class = TableHelpFormatter
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
            f"{folder / FILE} cannot be read ({error}): restore it from a copy, or {ANEW}"
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
        **{verdict.value: store.count(verdict) for verdict in SUM},
        "balanced": store.count("discovered") == sum(map(store.count, SUM)),
        "skipped_by_reason": store.counts("skipped/"),
        "failed_by_reason": store.counts("failed/"),
        "lists_failed": store.count("lists_failed"),
        "capped": store.count(f"ended/{End.CAP}") > 0,
        "requests_sent": store.count("requests"),
        "requests_repeated": sum(store.counts("retries/").values()),
        "requests_pending": store.open_requests(),
        "requests_waiting": store.waiting_requests(now),
        "failed_for_good": store.count("failed") > 0 and not store.any_failed(),
        "held_until": {clean(name): _moment(at) for name, at in holds.items() if at > now},
        "quotas": _quotas(store, settings, now),
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
        status["reason"] in {"feeds_not_stored", "pages_not_stored"}
        and not status["requests_pending"]
    ):
        status["state"] = "incomplete" if _is_missing_something(status) else "complete"
    status["next"] = next_step(status)
    if not status["next"].startswith(NOTHING):
        feeds, decisive, repeat = (
            _object(store, name) for name in ("feeds", "settings", "repeated")
        )
        status["command"] = command(status, feeds, decisive, repeat, folder, settings)
    return status


def _quotas(store: Store, settings: BaseSettings, now: float) -> dict[str, Any]:
    """What is left of the job's quotas to whoever looks, at the API that it is of; nothing where
    that cannot be told, since a status needs neither settings nor credentials."""
    given = settings.copy()
    given.set("KAGGLE_API_URL", store.get("api_url"), priority=100)
    given.set("WORKSPACE", store.get("workspace"), priority=100)
    for name, value in _object(store, "repeated").items():  # unless another is given here
        given.set(name, value, priority=SETTINGS_PRIORITIES["cmdline"] - 1)
    try:
        config = KaggleConfig.from_settings(given)
        account = store.get("account") or account_of(config.api_url)  # the job's own, if it had one
        with closing(Quotas(config.quota_file, account, config.quotas)) as quotas:
            left = quotas.left()
    except (SettingError, CredentialsError, QuotasRefused):
        return {}
    return {
        clean(each.name): {
            "next": _moment(each.next) if each.next > now else None,
            "interval": round(each.learnt, 3) or None,
            "budgets": [
                {
                    "rate": str(rate),
                    "used": used,
                    "left": max(0, rate.count - used),
                    "free_again": _moment(again) if used else None,
                }
                for rate, used, again in each.used
            ],
        }
        for each in left
    }


def _is_missing_something(status: Status) -> bool:
    left = ("failed", "pending", "lists_failed", "requests_pending")
    return (
        not status["balanced"]
        or status["reason"] == "pages_not_stored"
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
