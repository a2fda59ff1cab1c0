"""The report as a page for people. It shows what is in the JSON, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from kagglecrawl.rates import families_of
from kagglecrawl.report.episodes import episodes
from kagglecrawl.report.eta import about
from kagglecrawl.report.markup import Node, fill, node, written
from kagglecrawl.report.parts import (
    bar_table,
    cell,
    counted,
    figure,
    legend,
    progress,
    spent,
    table,
    when,
)
from kagglecrawl.report.plots import Bars, Line, Slots, across, over_time
from kagglecrawl.report.shape import Budget, Counts, Quota, Report
from kagglecrawl.report.style import POLICY, SCRIPT, STYLE
from kagglecrawl.units import amount

#: Seconds after which the page of a run that goes on loads itself again.
_REFRESH = 60
_STATES = {
    None: ("Under way", "busy"),
    0: ("Complete", "good"),
    1: ("Failed", "bad"),
    2: ("Wrong usage", "bad"),
    3: ("Stopped", "warn"),
    4: ("Stopped: quota", "warn"),
    5: ("Stopped: credentials", "bad"),
}
_SUM = ("stored", "skipped", "failed", "pending")
#: What a pace is told in: the first in which it is 1 at least.
_PER = (("a minute", 60), ("an hour", 3600), ("a day", 86_400))
#: A limit that is so many times higher than anything sent would hide what was.
_FAR = 10
#: The share of the whole at which a part of the sum can be seen.
_SEEN = 0.006
_FAMILIES = {
    "api": "calls of the API",
    "download": "downloads begun",
    "episodes": "lists of episodes",
    "replay": "replays asked for",
}


def page(report: Report) -> str:
    """The whole page, as HTML."""
    run = report["run"]
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", http_equiv="Content-Security-Policy", content=POLICY),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("meta", name="referrer", content="no-referrer"),
        node("title", f"{_STATES[run['exit_code']][0]}: {run['spider']}, {when(run['started'])}"),
        node("style", STYLE),
    )
    if run["ended"] is None:
        head.append(node("meta", http_equiv="refresh", content=str(_REFRESH)))
    main = node("main", *_head(report), _sum(report), _tiles(report))
    times = report["series"]
    start = datetime.fromisoformat(run["started"]).astimezone()
    slots = Slots.of(start, times["width"], run["seconds"], len(times["records"]))
    fill(main, _quotas(report, slots), episodes(report["episodes"]))
    fill(main, _records(report, slots), _bytes(report, slots))
    fill(main, _retries(report, slots), _calls(report), _downloads(report), _what(report))
    footer = f"Written {when(report['written'])} by kagglecrawl {report['version']}. "
    main.append(node("footer", f"{footer}The same for programs is in report.json beside it."))
    body = node("body", main, node("div", id="tip", role="status", hidden=""))
    body.append(node("script", SCRIPT))
    return written(node("html", head, body, lang="en"))


# -- the head --------------------------------------------------------------------------------------


def _head(report: Report) -> Iterator[Node]:
    run = report["run"]
    words, kind = _STATES[run["exit_code"]]
    began = f"From {when(run['started'])}"
    until = f" to {when(run['ended'])}" if run["ended"] else ""
    yield node(
        "header",
        node("h1", f"{run['spider']} ", node("span", words, class_=f"state {kind}")),
        node("p", f"{began}{until}: {about(run['seconds'])}. {run['meaning']}", class_="soft"),
    )
    if run["stopped_because"]:
        yield node("p", run["stopped_because"], class_="alert")
    if run["ended"] is None:
        stale = node("p", "Nothing has been written here for ", node("span"), class_="alert")
        fill(stale, " minutes: the crawl was killed, or WORKSPACE cannot be written.")
        stale.attrib |= {"id": "stale", "hidden": "", "data-written": report["written"]}
        yield stale


def _sum(report: Report) -> Node:
    counts = report["counts"]
    parts = _parts(counts)
    said = node(
        "p",
        node("b", f"{counts['discovered']:,}", data_count="discovered"),
        " discovered",
        class_="sum",
    )
    numbers = [counts["stored"], counts["skipped"], counts["failed"], counts["pending"]]
    for sign, number, name in zip("=+++", numbers, _SUM, strict=True):
        fill(said, f" {sign} ", node("b", f"{number:,}", data_count=name), f" {name}")
    section = node("section", node("h2", "What came of it"), said)
    if not counts["balanced"]:
        wrong = "The sum is wrong. This is a fault of kagglecrawl's: please report it."
        section.append(node("p", wrong, class_="alert"))
    if not counts["discovered"]:
        return fill(section, node("p", "Nothing has been discovered.", class_="note"))
    seen = [
        (max(number / counts["discovered"], _SEEN), kind) for kind, _, number in parts if number
    ]
    whole = sum(share for share, _ in seen)
    shares = [(share / whole, kind) for share, kind in seen]
    total = across(*shares[0], *shares[1:])
    total.set("class", "across total")
    section.append(total)
    section.append(legend((kind, f"{text}: {n:,}") for kind, text, n in parts if n))
    if counts["capped"]:
        text = "The list ended at row 10,000: Kaggle's cap, not its end. Crawl the rest in slices."
        section.append(node("p", text, class_="note"))
    if lost := counts["lists_failed"]:
        text = f"Pages of lists that were given up, with what is on them: {lost:,}."
        section.append(node("p", text, class_="note"))
    tables = [
        bar_table("Skipped, by reason", counted(counts["skipped_by_reason"]), "skipped"),
        bar_table("Failed, by reason", counted(counts["failed_by_reason"]), "failed"),
    ]
    no = [("was skipped", counts["skipped"]), ("failed", counts["failed"])]
    nothing = ", and ".join(f"nothing {what}" for what, number in no if not number)
    section.append(node("div", *tables, class_="two reasons"))
    return fill(section, node("p", f"{nothing.capitalize()}.", class_="note") if nothing else None)


def _parts(counts: Counts) -> list[tuple[str, str, int]]:
    """Kind, words and number of each part of the sum; the unchanged are a part of the stored, as
    far as they were not skipped."""
    skipped = {row["reason"]: row["count"] for row in counts["skipped_by_reason"]}
    same = max(0, min(counts["stored"], counts["unchanged"] - skipped.get("unchanged", 0)))
    return [
        ("stored", "stored", counts["stored"] - same),
        ("unchanged", "stored, unchanged since an earlier crawl", same),
        ("skipped", "skipped", counts["skipped"]),
        ("failed", "failed", counts["failed"]),
        ("pending", "pending", counts["pending"]),
    ]


def _tiles(report: Report) -> Node:
    counts, requests, files = report["counts"], report["requests"], report["files"]
    seconds = report["run"]["seconds"]
    tiles = [("requests", f"{requests['sent']:,}", "API requests")]
    if requests["per_record"] is not None:
        tiles.append(("per-record", f"{requests['per_record']:.2f}", "requests per record"))
    if counts["stored_now"] and seconds:
        unit, each = next(
            u for u in _PER if counts["stored_now"] * u[1] >= seconds or u is _PER[-1]
        )
        tiles.append(("pace", f"{counts['stored_now'] * each / seconds:,.0f}", f"records {unit}"))
    if files["files"]:
        tiles.append(("files", f"{files['files']:,}", f"files, {amount(files['bytes'])}"))
    if files["received"]:
        tiles.append(("received", amount(files["received"]), "received from storage"))
    tiles.append(("retries", f"{requests['retries']:,}", "sent again"))
    eta = report["eta"]
    if eta["seconds"] != 0:
        left = "unknown" if eta["seconds"] is None else about(eta["seconds"])
        at = f", until {when(eta['at'])}" if eta["at"] else ""
        rows = f", if there are {eta['if_rows']:,} rows" if eta["if_rows"] else ""
        tiles.append(("eta", left, f"for the rest{at}{rows}"))
    made = [
        node("div", node("b", number), node("span", words), id=name)
        for name, number, words in tiles
    ]
    return node("div", *made, class_="tiles")


# -- plots -----------------------------------------------------------------------------------------


def _quotas(report: Report, slots: Slots) -> Node:
    section = node("section", node("h2", "Requests against the quota"))
    # families that share no pace but a budget are not shown a second time
    sent = [q for q in report["quotas"] if q["sent"] and ("+" not in q["family"] or q["paces"])]
    for quota in sent:
        section.append(_quota(report, quota, slots))
    if not sent:
        section.append(node("p", "No request was sent.", class_="note"))
    budgets = [(q["family"], b) for q in report["quotas"] for b in q["budgets"]]
    if budgets:
        section.append(_budgets(budgets))
    return section


def _quota(report: Report, quota: Quota, slots: Slots) -> Node:
    times, name = report["series"], quota["family"]
    width = times["width"]
    each = [slots.sums(times["requests"].get(one, []), width) for one in families_of(name)]
    numbers = [sum(slot) for slot in zip(*each, strict=True)]
    held = slots.sums(times["held"].get(name, []), width)
    learnt = slots.highest(times["interval"].get(name, []), width)
    rates = [number / slots.length(slot) for slot, number in enumerate(numbers)]
    words = [f"{quota['sent']:,} sent"]
    colours, lines = [("main", "sent a second")], []
    if limit := quota["per_second"]:
        words.append(f"at most {' and '.join(quota['paces'])}")
        if limit > _FAR * max(rates):
            words[-1] += ", far above this plot"
        else:
            lines.append(Line("limit", f"limit: {limit:g} a second", limit))
            colours.append(("limit", f"limit, {limit:g} a second"))
    else:
        words.append("no pace is set")
    if any(learnt):
        lines.append(Line("learnt", "learnt", values=[1 / each if each else 0 for each in learnt]))
        colours.append(("learnt", "pace that Kaggle's 429s have taught"))
    if quota["learnt_interval"]:
        words.append(f"now {quota['learnt_interval']:g} s apart, as Kaggle's 429s have taught")
    if any(held):
        words.append(f"held back for {about(quota['held_seconds'])}")
        colours.append(("held", "held back: Kaggle asked to wait, or was away"))
    if quota["held_until"]:
        words.append(f"held back until {when(quota['held_until'])}")

    def told(slot: int) -> str:
        waited = f", held back for {about(held[slot])}" if held[slot] >= 1 else ""
        return f"{rates[slot]:.2f} a second{waited}"

    title = _family(name)
    plot = Bars(
        name=f"rate-{name.replace('+', '-')}",
        title=f"{title}: sent a second, over time",
        words=f"{'; '.join(words)}.",
        values=rates,
        told=told,
        axis=lambda level: f"{level:g}/s",
        lines=lines,
        shaded=[each / slots.length(slot) for slot, each in enumerate(held)],
    )
    return figure(title, f"{'; '.join(words)}.", over_time(slots, plot), legend(colours))


def _family(name: str) -> str:
    text = " and ".join(_FAMILIES.get(each, each) for each in families_of(name))
    return text[:1].upper() + text[1:]


def _budgets(budgets: Iterable[tuple[str, Budget]]) -> Node:
    made = node("table", node("caption", "Budgets of any hour or day"), class_="budgets")
    head = node("tr", *(node("th", t, scope="col") for t in ("Budget", "Used", "Left", "")))
    fill(made, node("thead", head))
    body = node("tbody")
    for family, budget in budgets:
        whole = max(1, budget["used"] + budget["left"])
        free = budget["free_again"]
        again = f"; the first is free again at {when(free)}" if free else ""
        used = budget["used"] / whole
        line = across(used, "stored", (1 - used, "rest"))
        cells = (cell(budget["used"]), cell(budget["left"]), node("td", line, class_="line"))
        name = node("th", f"{_family(family)}: {budget['rate']}{again}", scope="row")
        body.append(node("tr", name, *cells))
    return node("figure", fill(made, body))


def _records(report: Report, slots: Slots) -> Node:
    numbers = slots.sums(report["series"]["records"], report["series"]["width"])
    section = node("section", node("h2", "Records over time"))
    if not any(numbers):
        return fill(section, node("p", "This run has stored no record yet.", class_="note"))
    per_minute = [60 * number / slots.length(slot) for slot, number in enumerate(numbers)]
    words = f"{report['counts']['stored_now']:,} stored by this run."
    plot = Bars(
        name="records",
        title="Records stored a minute, over time",
        words=words,
        values=per_minute,
        told=lambda slot: f"{numbers[slot]:,.0f} records",
        axis=lambda level: f"{level:,.6g} a minute",
        kind="second",
    )
    return fill(section, figure("", words, over_time(slots, plot)))


def _bytes(report: Report, slots: Slots) -> Node:
    times, files = report["series"], report["files"]
    numbers = slots.sums(times["bytes"], times["width"])
    section = node("section", node("h2", "Bytes over time"))
    if not any(numbers):
        text = "No bytes have come from storage in this run."
    else:
        text = f"{amount(files['received'])} from Kaggle's storage in this run."
        rates = [number / slots.length(slot) for slot, number in enumerate(numbers)]
        plot = Bars(
            name="bytes",
            title="Bytes received a second, over time",
            words=text,
            values=rates,
            told=lambda slot: f"{amount(numbers[slot])}, {amount(rates[slot])}/s",
            axis=lambda level: f"{amount(level)}/s",
            kind="third",
        )
        return fill(section, figure("", text, over_time(slots, plot)), *_files(report))
    return fill(section, node("p", text, class_="note"), *_files(report))


def _files(report: Report) -> Iterator[Node]:
    files = report["files"]
    tables = [
        bar_table("Files left out, by reason", counted(files["left_out"]), "skipped"),
        bar_table("Records without files, by reason", counted(files["without_files"]), "skipped"),
        bar_table(
            "Without leaderboard, by reason", counted(files["without_leaderboard"]), "skipped"
        ),
        bar_table("Without pages, by reason", counted(files["without_pages"]), "skipped"),
        bar_table("Asked of storage again, by reason", counted(files["again"]), "failed"),
    ]
    if any(table is not None for table in tables):
        yield node("div", *tables, class_="two")


def _retries(report: Report, slots: Slots) -> Node:
    requests, times = report["requests"], report["series"]
    numbers = slots.sums(times["retries"], times["width"])
    section = node("section", node("h2", "Answers and retries"))
    if requests["retries"] and any(numbers):
        words = f"{requests['retries']:,} requests were sent again."
        plot = Bars(
            name="retries",
            title="Requests sent again, over time",
            words=words,
            values=numbers,
            told=lambda slot: f"{numbers[slot]:,.0f} sent again",
            axis=lambda level: f"{level:,.6g}",
            kind="bad",
        )
        section.append(figure("", words, over_time(slots, plot)))
    else:
        section.append(node("p", "Nothing had to be sent again.", class_="note"))
    tables = [
        bar_table("Sent again, by reason", counted(requests["retries_by_reason"]), "failed"),
        bar_table("Sent again, by status", requests["retries_by_status"].items(), "failed"),
        bar_table("Given up, by reason", counted(requests["given_up_by_reason"]), "failed"),
        bar_table("Answers, by status", requests["answers_by_status"].items(), "stored"),
        bar_table("Requests, by method", requests["by_method"].items(), "stored"),
    ]
    return fill(section, node("div", *tables, class_="two"))


# -- tables ----------------------------------------------------------------------------------------


def _calls(report: Report) -> Node:
    section = node("section", node("h2", "Slowest requests"))
    rows = [
        (row["method"], row["key"] or "", spent(row["seconds"]), amount(row["bytes"]))
        for row in report["slowest_requests"]
    ]
    if not rows:
        return fill(section, node("p", "No request was answered well.", class_="note"))
    return fill(section, table("", ("Method", "For", "Time", "Size"), rows, 2, "slowest-requests"))


def _downloads(report: Report) -> Node:
    section = node("section", node("h2", "Downloads"))
    under_way = [
        (row["key"], progress(row["position"], row["size"]), about(row["seconds"]))
        for row in report["downloads_under_way"]
    ]
    if under_way:
        section.append(table("Under way", ("Dataset", "So far", "Time"), under_way, 1, "now"))
    largest, slowest = report["largest_downloads"], report["slowest_downloads"]
    for name, title, found in (("largest", "Largest", largest), ("slowest", "Slowest", slowest)):
        rows = [
            (row["key"], amount(row["bytes"]), f"{row['files']:,}", spent(row["seconds"]))
            for row in found
        ]
        if rows:
            head = ("Dataset", "Size", "Files", "Time")
            section.append(table(title, head, rows, 1, f"{name}-downloads"))
    if len(section) == 1:
        section.append(node("p", "This run has finished no download.", class_="note"))
    return section


def _what(report: Report) -> Node:
    run = report["run"]
    given = " ".join(f"{name}={value}" for name, value in run["arguments"].items())
    facts = {
        "Spider": run["spider"],
        "Arguments": given or "none",
        "Asked of": run["api_url"],
        "Files in": run["files_in"],
        "Job": "yes: the same command goes on" if run["job"] else "no: the same begins a new feed",
        "Finish reason": run["reason"] or "none yet",
        "Exit code": "none yet" if run["exit_code"] is None else str(run["exit_code"]),
        "What is left": report["eta"]["text"],
    }
    names = node("dl")
    for name, value in facts.items():
        fill(names, node("dt", name), node("dd", value))
    return node("section", node("h2", "What was run"), names)
