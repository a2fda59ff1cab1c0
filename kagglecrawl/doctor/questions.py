"""The rows of the table: what is assumed of Kaggle, what was found, and whether they agree.

``assumed`` is what kaggle-facts says, with its mark: V verified, R reported, U unknown, so a guess.
A question that no answer decides is unknown, whatever else was answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from kagglecrawl.doctor.probes import (
    OTHER_LISTS,
    Answer,
    Evidence,
    OtherList,
    cap_page,
    comparisons,
    info_of,
)
from kagglecrawl.doctor.verdicts import (
    NOT_PROBED,
    Reading,
    Verdict,
    agrees,
    carried,
    no_answer,
    plural,
    shape,
)
from kagglecrawl.kaggle import lenient, rpc
from kagglecrawl.kaggle.episodes import read_web_leaderboard
from kagglecrawl.kaggle.errors import CredentialsNeeded, CredentialsRefused, NotFound
from kagglecrawl.kaggle.leaderboards import NoBoard, read_board
from kagglecrawl.kaggle.paging import PAGE_ROWS


@dataclass(frozen=True)
class Question:
    """One row of the table, before it is answered. ``read`` gives what was found."""

    topic: str
    assumed: str
    read: Callable[[Evidence], Reading]


# -- credentials -----------------------------------------------------------------------------------


def _credentials(evidence: Evidence) -> Reading:
    if not evidence.known:
        return "none found: asked anonymously", Verdict.UNKNOWN
    answers = evidence.answers.values()
    if any(answer.good for answer in answers):
        return agrees("accepted", True)
    refused = [answer for answer in answers if isinstance(answer.error, CredentialsRefused)]
    if not refused:
        return NOT_PROBED
    return agrees(f"refused: {shape(refused[0])}" if refused[0].status else "refused", False)


#: What nobody in particular can and cannot have (reported 2026, kaggle-facts 1.2).
_OPEN = {"ListDatasets", "DownloadDataset", "ListModels"}
_CLOSED = {"ListDatasetFiles", "ListCompetitions", "ListKernels"}


def anonymous_access(evidence: Evidence) -> tuple[list[str], list[str]]:
    """The methods that answer nobody in particular, and those that refuse to."""
    answered: dict[str, None] = {}
    refused: dict[str, None] = {}
    for answer in evidence.answers.values():
        if answer.call.where != "api":
            continue  # the site knows nobody in any case
        if answer.good or 300 <= answer.status < 400:
            answered.setdefault(answer.call.method)
        elif isinstance(answer.error, CredentialsNeeded):
            refused.setdefault(answer.call.method)
    return list(answered), [method for method in refused if method not in answered]


def _anonymous(evidence: Evidence) -> Reading:
    if evidence.known:
        return NOT_PROBED
    answered, refused = anonymous_access(evidence)
    if not answered and not refused:
        return NOT_PROBED
    text = f"answered: {', '.join(answered) or 'nothing'}; refused: {', '.join(refused) or 'none'}"
    return agrees(text, not _OPEN & set(refused) and not _CLOSED & set(answered))


# -- the list of datasets --------------------------------------------------------------------------


def _rows(evidence: Evidence) -> Reading:
    answer = evidence.good("list")
    if answer is None:
        return no_answer(evidence.get("list"))
    count = len(answer.rows)
    if count >= rpc.LIST_DATASETS.best_page_size:
        return agrees(plural(count, "row"), True)
    if answer.token or more_rows(evidence):
        return agrees(plural(count, "row"), False)
    return f"{plural(count, 'row')}: no more were found", Verdict.UNKNOWN


def more_rows(evidence: Evidence) -> bool:
    """True if there certainly are datasets beyond the first answer."""
    first, page = evidence.good("list"), evidence.good("page")
    return first is not None and page is not None and bool(page.refs - first.refs)


def token_works(evidence: Evidence) -> bool | None:
    """Did the token of the first answer lead to other rows? None if that cannot be told."""
    first, second = evidence.good("list"), evidence.get("token")
    if first is None or second is None:
        return None
    if not second.good:
        return False if second.status == 400 else None
    # no rows at all may be the end of the list
    return bool(second.refs - first.refs) if second.rows else None


def _token(evidence: Evidence) -> Reading:
    first = evidence.good("list")
    if first is None:
        return no_answer(evidence.get("list"))
    if not first.token:
        if more_rows(evidence):
            return agrees("none, though there are more rows", False)
        return "none: no more rows were found", Verdict.UNKNOWN
    works, second = token_works(evidence), evidence.get("token")
    if second is None or not second.good:
        if works is False and second is not None:
            return agrees(f"given, and refused: {shape(second)}", False)
        return f"given; next page {no_answer(second)[0]}", Verdict.UNKNOWN
    text = f"given; next page: {plural(len(second.refs - first.refs), 'new row')}"
    return (text, Verdict.UNKNOWN) if works is None else agrees(text, works)


def _page(evidence: Evidence) -> Reading:
    answer = evidence.good("page")
    if answer is None:
        return no_answer(evidence.get("page"))
    count = len(answer.rows)
    text = f"{plural(count, 'row')}, {'a' if answer.token else 'no'} token"
    if count < PAGE_ROWS and not answer.token:
        return f"{text}: a short page", Verdict.UNKNOWN
    return agrees(text, count == PAGE_ROWS and not answer.token)


def _cap(evidence: Evidence) -> Reading:
    answer = evidence.get("cap")
    if answer is None:
        return NOT_PROBED
    page = f"page {cap_page(evidence)}"
    if not answer.good:
        if 400 <= answer.status < 500 and answer.status not in {401, 403, 429}:
            return agrees(f"{page}: {shape(answer)}", False)
        return no_answer(answer)
    return agrees(f"{page}: {answer.status}, {plural(len(answer.rows), 'row')}", not answer.rows)


def slice_differs(evidence: Evidence) -> bool | None:
    """Has a filtered list no tokens where the whole one has? None if that cannot be told."""
    whole, part = evidence.good("list"), evidence.good("slice")
    if whole is None or part is None or len(part.rows) < PAGE_ROWS:
        return None
    return bool(whole.token) and not part.token


def _slice(evidence: Evidence) -> Reading:
    answer = evidence.good("slice")
    if answer is None:
        return no_answer(evidence.get("slice"))
    text = f"{plural(len(answer.rows), 'row')}, {'a' if answer.token else 'no'} token"
    differs = slice_differs(evidence)
    return (text, Verdict.UNKNOWN) if differs is None else agrees(text, not differs)


_ROW_FIELDS = {
    "usabilityRating": "usability",
    "tags": "tags",
    "licenseName": "licence",
    "totalBytes": "size",
    "currentVersionNumber": "version",
}


def _row_fields(evidence: Evidence) -> Reading:
    answer = evidence.good("list")
    return carried(answer.rows, _ROW_FIELDS) if answer else no_answer(evidence.get("list"))


def _description(evidence: Evidence) -> Reading:
    answer = evidence.good("list")
    if answer is None:
        return no_answer(evidence.get("list"))
    if not answer.rows:
        return "no rows to look at", Verdict.UNKNOWN
    count = sum(bool(lenient.text(row, "description")) for row in answer.rows)
    return agrees(f"in {count} of {len(answer.rows)} rows" if count else "none", not count)


# -- one dataset -----------------------------------------------------------------------------------


def _all_of(evidence: Evidence, name: str) -> list[Answer]:
    return [a for key, a in evidence.answers.items() if re.fullmatch(rf"{name} \d+", key)]


def _metadata(evidence: Evidence) -> Reading:
    answers = _all_of(evidence, "metadata")
    infos = [info_of(answer) for answer in answers if answer.good]
    if not infos:
        return no_answer(answers[-1] if answers else None)
    text, verdict = carried(infos, {"description": "text", "licenses": "licences", "data": "files"})
    # a dataset may well have no text
    return text, verdict if verdict is Verdict.AGREES else Verdict.UNKNOWN


def _named_files(evidence: Evidence) -> Reading:
    found = comparisons(evidence)
    if not found:
        answers = _all_of(evidence, "metadata") + _all_of(evidence, "files")
        return no_answer(next((answer for answer in answers if not answer.good), None))
    text = "; ".join(
        f"{each.named} of {each.listed}{' or more' if each.more else ''}" for each in found
    )
    if any(each.truncated for each in found):
        return agrees(text, False)
    if any(not each.complete for each in found):
        return f"{text}, under other names", Verdict.UNKNOWN
    return agrees(text, True)


def _listed_files(evidence: Evidence) -> Reading:
    answers = _all_of(evidence, "files")
    good = [answer for answer in answers if answer.good]
    if not good:
        return no_answer(answers[-1] if answers else None)
    most = max(good, key=lambda answer: len(answer.rows))
    count = len(most.rows)
    text = plural(count, "file")
    if most.token:
        return agrees(f"{text} and a token", count == rpc.LIST_DATASET_FILES.best_page_size)
    if count > PAGE_ROWS:
        return agrees(text, True)
    return f"{text}: too few to tell", Verdict.UNKNOWN


_SIGNATURE = re.compile(r"(.*[-_])?signature", re.IGNORECASE)


def _download(evidence: Evidence) -> Reading:
    answer = evidence.get("download")
    if evidence.official and answer is None:
        return "not probed: the official package follows it", Verdict.UNKNOWN
    if answer is None or not answer.status:
        return no_answer(answer)
    if 200 <= answer.status < 300:
        return agrees(f"{answer.status}, no redirect", False)
    if not 300 <= answer.status < 400:
        return no_answer(answer)
    parts = urlsplit(answer.location)
    signed = any(_SIGNATURE.fullmatch(name) for name, _ in parse_qsl(parts.query))
    host = parts.hostname or "nowhere"
    text = f"{answer.status} to {host}, {'signed' if signed else 'not signed'}"
    return agrees(text, answer.status == 302 and signed and host == "storage.googleapis.com")


def _board(evidence: Evidence) -> Reading:
    answer = evidence.get("board")
    if answer is None or not answer.good:
        return no_answer(answer)
    try:
        board = read_board(answer.content)
    except NoBoard as error:
        return error.slug.replace("_", " "), Verdict.UNKNOWN
    lacks = f", without {' and '.join(board.derived)}" if board.derived else ""
    return agrees(f"{plural(board.teams, 'team')}{lacks}", not lacks)


def _site(evidence: Evidence) -> Reading:
    answer = evidence.get("episodes")
    if answer is None or not answer.good:
        return no_answer(answer)
    teams = read_web_leaderboard(answer.reply)
    lists = sum(team.submission_id is not None for team in teams)
    return agrees(f"{plural(len(teams), 'team')}, {lists} with a submission", lists > 0)


# -- errors ----------------------------------------------------------------------------------------


def _absent(evidence: Evidence) -> Reading:
    answer = evidence.get("absent")
    if answer is None or not answer.status or evidence.wants_credentials("absent"):
        return no_answer(answer)
    return agrees(shape(answer), isinstance(answer.error, NotFound))


def _retry_after(evidence: Evidence) -> Reading:
    if not evidence.throttled:
        return "no 429 came", Verdict.UNKNOWN
    waits = [wait for wait in evidence.throttled if wait is not None]
    if len(waits) < len(evidence.throttled):
        return agrees("a 429 without it", False)
    return agrees(f"{', '.join(f'{wait:.0f}' for wait in waits)} s", True)


# -- other lists -----------------------------------------------------------------------------------


def _other_list(row: OtherList) -> Callable[[Evidence], Reading]:
    def read(evidence: Evidence) -> Reading:
        answer = evidence.get(row.call.method)
        if answer is None or not answer.good:
            return no_answer(answer)
        count = len(answer.rows)
        if answer.token:
            return agrees(f"{plural(count, 'row')}, a token", count == row.rows)
        # no token: this may be all there is
        return f"{plural(count, 'row')}, no token", Verdict.UNKNOWN

    return read


def _other_carried(row: OtherList) -> Callable[[Evidence], Reading]:
    def read(evidence: Evidence) -> Reading:
        answer = evidence.get(row.call.method)
        if answer is None or not answer.good:
            return no_answer(answer)
        return carried(answer.rows, {name: name for name in row.carries})

    return read


def _about(row: OtherList) -> Iterable[Question]:
    method, size = row.call.method, row.call.best_page_size
    yield Question(
        f"{method}, pageSize {size}", f"{row.rows} rows and a token ({row.mark})", _other_list(row)
    )
    if row.carries:
        yield Question(
            f"{method}: rows carry", f"{', '.join(row.carries)} ({row.mark})", _other_carried(row)
        )


_SIZE = rpc.LIST_DATASETS.best_page_size

QUESTIONS: tuple[Question, ...] = (
    Question("Credentials", "accepted", _credentials),
    Question(
        "What anonymous users get",
        "ListDatasets, DownloadDataset, ListModels; not files, kernels, competitions (R)",
        _anonymous,
    ),
    Question(f"ListDatasets, no page, pageSize {_SIZE}", f"{_SIZE} rows (U)", _rows),
    Question("… its nextPageToken", "one, and it works (U)", _token),
    Question(f"ListDatasets, page 2, pageSize {_SIZE}", f"{PAGE_ROWS} rows, no token (R)", _page),
    Question("ListDatasets, beyond row 10,000", "200 and no rows (R)", _cap),
    Question(
        f"ListDatasets, CSV only, pageSize {PAGE_ROWS}",
        "a token if the whole list has one (U)",
        _slice,
    ),
    Question("ListDatasets: rows carry", f"{', '.join(_ROW_FIELDS.values())} (V)", _row_fields),
    Question("ListDatasets: descriptions", "none (V)", _description),
    Question("GetDatasetMetadata carries", "text, licences, files (V)", _metadata),
    Question("… how many of the files", "all (U)", _named_files),
    Question(
        f"ListDatasetFiles, pageSize {rpc.LIST_DATASET_FILES.best_page_size}",
        f"honoured, up to {rpc.LIST_DATASET_FILES.best_page_size} (R)",
        _listed_files,
    ),
    Question("DownloadDataset", "302 to storage.googleapis.com, signed (R)", _download),
    Question("Error: no such dataset", "404 with code and message (R)", _absent),
    Question("Error: 429's Retry-After", "seconds or a date (R)", _retry_after),
    *(question for row in OTHER_LISTS for question in _about(row)),
    Question("DownloadLeaderboard", "the whole board, with Rank and SubmissionCount (V)", _board),
    Question("The site's own leaderboard (Halite)", "teams with their submissions (R)", _site),
)
