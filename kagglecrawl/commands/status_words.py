"""The status of a job in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from kagglecrawl.extensions.report import REASONS
from kagglecrawl.kaggle.redaction import clean
from kagglecrawl.state.holds import LISTINGS
from kagglecrawl.state.store import Verdict
from kagglecrawl.units import amount

Status = dict[str, Any]

#: How a next step begins that is none.
NOTHING = "nothing: "
#: What a discovered resource can be: the sum that must be right.
SUM = (Verdict.STORED, Verdict.SKIPPED, Verdict.FAILED, Verdict.PENDING)
ANEW = "name another JOBDIR to begin anew"

#: Why a run stopped before its end, by Scrapy's finish reason.
_WHY = {
    "shutdown": "It was interrupted.",
    "cancelled": "It was cancelled.",
    "kaggle_quota": "The quota was spent.",
    "kaggle_unreachable": "The API could not be reached.",
    "kaggle_misconfigured": "The address was not the API's.",
    "kaggle_table": "A table of Meta Kaggle could not be had, or read.",
    "kaggle_no_space": "The disk of WORKSPACE had no room left.",
    "s3_unreachable": "The store could not be reached.",
    "s3_refused": "The store refused what it was sent.",
    "feeds_not_stored": "A feed could not be stored.",
    "pages_not_stored": "Page files could not be put into the store.",
    "kaggle_credentials": "Kaggle wants credentials, or refused those that it was given.",
}
#: How many downloads are shown.
_SHOWN = 3
#: What to do first after these, since going on at once would stop again.
_FIRST = dict.fromkeys(
    ("kaggle_unreachable", "kaggle_misconfigured", "kaggle_credentials"),
    "see what `scrapy doctor` finds, then ",
)
_FIRST["kaggle_no_space"] = "make room on the disk of WORKSPACE, then "
_FIRST["s3_unreachable"] = "see that the store is there, then "
_FIRST["s3_refused"] = "see that the store takes what it is sent (the log says why), then "


# -- what to do next -------------------------------------------------------------------------------


def next_step(status: Status) -> str:
    """What to do now."""
    if status["state"] == "running":
        stop = f" or `kill {status['pid']}`" if status["pid"] else ""
        return f"nothing: it is running; one Ctrl-C{stop} stops it cleanly"
    if status["state"] == "complete":
        return f"nothing: it is complete; {ANEW}"
    incomplete = status["state"] == "incomplete"
    if incomplete and not status["balanced"] and not status["requests_pending"]:
        return ANEW
    others = ("pending", "lists_failed", "requests_pending")
    unstored = any(feed["only_in_job_directory"] for feed in status["feeds"])
    unstored = unstored or status["reason"] == "pages_not_stored"
    if (
        incomplete
        and status["failed_for_good"]
        and not unstored
        and not any(map(status.get, others))
    ):
        return f"nothing: what failed would fail again; `-a refresh=true` asks all the same; {ANEW}"
    quotas = [quota["next"] for quota in status["quotas"].values() if quota["next"]]
    when = [*status["held_until"].values(), *(quotas if status["reason"] == "kaggle_quota" else [])]
    after = f" after {_shown(max(when))}" if when else ""
    aim = "ask for what is missing" if incomplete else "go on"
    return f"{_FIRST.get(status['reason'], '')}run the same command again{after} to {aim}"


# -- telling ---------------------------------------------------------------------------------------


def as_text(status: Status, folder: str) -> str:
    """The status in plain words, a line for each thing that there is to say."""
    given = shlex.join(f"{name}={value}" for name, value in status["arguments"].items())
    what = f"{status['spider']} with {given}" if given else status["spider"]
    since = f"from {status['api_url']}, since {_shown(status['created'])}"
    sums = " + ".join(f"{status[verdict]} {verdict}" for verdict in SUM)
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
    for family, quota in status["quotas"].items():
        for budget in quota["budgets"]:
            if family == LISTINGS and not budget["used"]:
                continue  # the one budget that everybody has, whatever is crawled
            free = f", the next one {_shown(quota['next'])}" if not budget["left"] else ""
            yield f"quota {family!r}: {budget['left']} left of {budget['rate']}{free}"
        if seconds := quota["interval"]:
            yield f"quota {family!r}: Kaggle has pushed back, so requests are {seconds:g} s apart"
    again = status["requests_repeated"]
    asked_again = f", {again} of them asked again" if again else ""
    yield f"{_many(status['requests_sent'], 'API request')} sent{asked_again}"
    if rate := status["records_per_minute"]:
        run = "last" if status["run_ended"] else "present"
        left = status["seconds_left"]
        spent = any(quota["next"] for quota in status["quotas"].values())
        rest = ""
        if left and not spent:
            rest = f"; what is pending takes about {_duration(left)} at that rate"
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
