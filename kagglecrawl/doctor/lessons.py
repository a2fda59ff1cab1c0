"""What the crawler is to do by what was found: the report that it loads, and that in words.

Only what an answer shows goes in; what it leaves open keeps what an earlier run has shown.
"""

from __future__ import annotations

from kagglecrawl import findings
from kagglecrawl.doctor.probes import OTHER_LISTS, Comparison, Evidence, comparisons, page_rows
from kagglecrawl.doctor.questions import more_rows, slice_differs, token_works
from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.paging import PAGE_ROWS, Findings

_DATASETS = rpc.LIST_DATASETS


def learn(evidence: Evidence, before: findings.Report, checked: str) -> findings.Report:
    """What is known now of the API; ``before`` is what was known of the same address, ``checked``
    the time in ISO 8601."""
    lists = dict(before.lists)
    lists[_DATASETS.name] = _merged(_datasets(evidence), before.of(_DATASETS.name))
    for row in OTHER_LISTS:
        answer = evidence.good(row.call.method)
        if answer is not None and answer.token:
            lists[row.call.name] = Findings(tokens=True, page_size=len(answer.rows) or None)
    return findings.Report(
        before.api_url,
        checked=checked,
        lists=lists,
        metadata_files=_metadata_files(comparisons(evidence), before.metadata_files),
    )


def answered(evidence: Evidence) -> bool:
    """True if a list was had, so that there is something to save."""
    calls = {row.call.method for row in OTHER_LISTS}
    return any(evidence.good(name) is not None for name in ("list", "page", *calls))


def _datasets(evidence: Evidence) -> Findings:
    first = evidence.good("list")
    span = page_rows(evidence)
    if first is None:
        return Findings(page_rows=span)
    if not first.token:
        return Findings(tokens=False if more_rows(evidence) else None, page_rows=span)
    works = token_works(evidence)
    if not works:
        return Findings(tokens=works, page_rows=span)
    # rows are filtered after paging, so the fuller of two pages with a next one says more
    second = evidence.good("token")
    full = [answer for answer in (first, second) if answer is not None and answer.token]
    size = max(len(answer.rows) for answer in full)
    # where some lists have none, every list has to be tried
    tokens = None if slice_differs(evidence) else True
    return Findings(tokens, page_size=size or None, page_rows=span)


def _merged(now: Findings, before: Findings) -> Findings:
    span = now.page_rows or before.page_rows
    if now.tokens is None and now.page_size is None:
        return Findings(before.tokens, before.page_size, span)
    return Findings(now.tokens, now.page_size, span)


def _metadata_files(found: list[Comparison], before: int | None) -> int | None:
    """The most files that GetDatasetMetadata names; see ``findings.Report``.

    Where it named different numbers and fewer than there are, the smallest: from that many on
    the crawler looks again. Complete lists of files end an earlier limit that they exceed.
    """
    truncated = [each.named for each in found if each.truncated]
    if some := [named for named in truncated if named]:
        return min(some)
    complete = max((each.named for each in found if each.complete), default=0)
    if truncated and not complete:
        return 0
    return None if before is not None and complete > before else before


def consequences(report: findings.Report) -> list[str]:
    """What the crawler does differently by this report, a sentence each."""
    lists = report.of(_DATASETS.name)
    sentences = []
    if lists.tokens:
        size = min(_DATASETS.best_page_size, lists.page_size or _DATASETS.best_page_size)
        sentences.append(
            f"It walks the list of datasets by token, {size} rows a request; a list without a "
            "token is over, so no request is spent on asking for its next page."
        )
    elif lists.tokens is False:
        sentences.append(
            "It walks the list of datasets by page number from the start, "
            f"{lists.page_rows or PAGE_ROWS} rows a request."
        )
    elif lists.page_size:
        sentences.append(
            f"It asks for {lists.page_size} rows of a list of datasets, and goes on by token where "
            "it is given one and by page number where not."
        )
    if report.metadata_files:
        sentences.append(
            "It asks ListDatasetFiles for every dataset whose metadata names "
            f"{report.metadata_files} files or more."
        )
    elif report.metadata_files == 0:
        sentences.append(
            "It asks ListDatasetFiles for every dataset that has files, as metadata names none."
        )
    return sentences or ["Nothing: what it assumes has not been shown to be wrong."]
