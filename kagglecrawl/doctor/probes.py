"""The probes: one request each, in the order in which they are sent.

A probe says which call it makes and chooses its fields by what has been answered before; where it
has none it is not sent. What the answers mean is read in questions.py and lessons.py.

The unknowns are those of kaggle-facts 9. A list of a new resource is one row in ``OTHER_LISTS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kagglecrawl.items import files_of
from kagglecrawl.kaggle import lenient, rpc, web
from kagglecrawl.kaggle.errors import CredentialsNeeded, KaggleError
from kagglecrawl.kaggle.paging import CAP_ROWS, PAGE_ROWS
from kagglecrawl.kaggle.refs import DatasetRef
from kagglecrawl.kaggle.rpc import Rpc
from kagglecrawl.kaggle.simulations import SIMULATIONS

#: Requests in all, every retry among them (kaggle-facts 9).
LIMIT = 20
#: Of these, what the official package may spend on signing in: IntrospectToken, twice when the
#: token is refused (verified: kaggle 2.2.4).
SIGN_IN = 2
#: How many datasets have their two lists of files compared, at most.
COMPARISONS = 3

#: A filter that leaves more than a page of datasets.
_CSV = "DATASET_FILE_TYPE_GROUP_CSV"
#: What no dataset is called: the owner is Kaggle itself.
_NOTHING = {"owner_slug": "kaggle", "dataset_slug": "kagglecrawl-doctor-no-such-dataset"}


@dataclass(frozen=True)
class Answer:
    """What came of one probe. ``status`` is 0, and ``error`` says why, when nothing came.

    ``error`` is what the crawler would make of the answer (errors.py); None is a good reply.
    ``location`` is where a redirect leads; its query may be a signature. ``content`` is a file.
    """

    call: Rpc
    status: int = 0
    reply: Mapping[str, Any] = field(default_factory=dict, repr=False)
    error: KaggleError | None = None
    location: str = field(default="", repr=False)
    content: bytes = field(default=b"", repr=False)

    @property
    def good(self) -> bool:
        """True for a reply that the crawler would work with."""
        return self.error is None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of a good list reply."""
        return lenient.rows(self.reply, self.call.rows) if self.good else []

    @property
    def token(self) -> str:
        """The token of the page after this one; empty if there is none."""
        return lenient.text(self.reply, "nextPageToken") if self.good else ""

    @property
    def refs(self) -> set[str]:
        """What the rows of a list are about."""
        return {ref_of(row) for row in self.rows}


def ref_of(row: Mapping[str, Any]) -> str:
    """What a row of a list is about: its ref, else its address."""
    return lenient.text(row, "ref") or lenient.text(row, "url")


@dataclass
class Evidence:
    """Everything that was answered. ``source`` says where credentials were found, ``throttled``
    holds the Retry-After of each 429 in seconds (None: it had none)."""

    source: str
    known: bool
    official: bool = False
    answers: dict[str, Answer] = field(default_factory=dict)
    throttled: list[float | None] = field(default_factory=list)

    def get(self, name: str) -> Answer | None:
        """The answer to a probe; None if it was not sent."""
        return self.answers.get(name)

    def good(self, name: str) -> Answer | None:
        """The answer to a probe if it was a good one."""
        answer = self.answers.get(name)
        return answer if answer is not None and answer.good else None

    def wants_credentials(self, name: str) -> bool:
        """True if this was refused because nobody in particular had asked."""
        answer = self.answers.get(name)
        return answer is not None and isinstance(answer.error, CredentialsNeeded)


@dataclass(frozen=True)
class Comparison:
    """The files of one dataset: ``named`` by GetDatasetMetadata, ``listed`` on the first page of
    ListDatasetFiles, ``more`` if that has a next page; ``missing`` are listed and not named."""

    ref: str
    named: int
    listed: int
    more: bool
    missing: int

    @property
    def truncated(self) -> bool:
        """GetDatasetMetadata certainly names fewer files than there are."""
        return self.named < self.listed + self.more

    @property
    def complete(self) -> bool:
        """GetDatasetMetadata certainly names them all."""
        return not self.truncated and not self.more and not self.missing


def comparisons(evidence: Evidence) -> list[Comparison]:
    """Of every dataset for which both calls were answered."""
    found = []
    for number, ref in enumerate(_candidates(evidence)[:COMPARISONS], start=1):
        metadata = evidence.good(f"metadata {number}")
        files = evidence.good(f"files {number}")
        if metadata is None or files is None:
            continue
        named = {file["name"] for file in files_of(lenient.rows(info_of(metadata), "data"))}
        listed = {file["name"] for file in files_of(files.rows)}
        more = bool(files.token)
        found.append(Comparison(str(ref), len(named), len(listed), more, len(listed - named)))
    return found


def info_of(metadata: Answer) -> Mapping[str, Any]:
    """What GetDatasetMetadata says of the dataset, with or without ``info`` around it."""
    info = lenient.pick(metadata.reply, "info")
    return info if isinstance(info, dict) else metadata.reply


def page_rows(evidence: Evidence) -> int | None:
    """The rows of a page when ``page`` is set; None if that cannot be told.

    A page may be short, as rows are filtered after paging, so fewer than 20 tell nothing.
    """
    page = evidence.good("page")
    return len(page.rows) if page is not None and len(page.rows) >= PAGE_ROWS else None


def cap_page(evidence: Evidence) -> int:
    """The first page beyond row 10,000."""
    return CAP_ROWS // (page_rows(evidence) or PAGE_ROWS) + 1


# -- the choice of fields --------------------------------------------------------------------------

Fields = Callable[[Evidence], "dict[str, Any] | None"]


@dataclass(frozen=True)
class Probe:
    """One request. ``fields`` are kagglesdk's names and values, or None: it is not sent.

    A status among ``final`` is an answer; any other failure that may pass is asked again.
    """

    name: str
    call: Rpc
    fields: Fields
    final: frozenset[int] = frozenset()


def _always(**fields: Any) -> Fields:
    return lambda evidence: fields


def _next_page(evidence: Evidence) -> dict[str, Any] | None:
    first = evidence.get("list")
    if first is None or not first.token:
        return None
    return {"page_size": rpc.LIST_DATASETS.best_page_size, "page_token": first.token}


def _beyond_the_cap(evidence: Evidence) -> dict[str, Any]:
    return {"page": cap_page(evidence), "page_size": rpc.LIST_DATASETS.best_page_size}


def _candidates(evidence: Evidence) -> list[DatasetRef]:
    """Datasets to look at closely: the largest, as it may have the most files; the first; then
    by size. How many files there are no list row says."""
    first = evidence.get("list")
    rows = first.rows if first else []
    by_size = sorted(rows, key=lambda row: -lenient.integer(row, "totalBytes"))
    found: dict[DatasetRef, None] = {}
    for row in (*by_size[:1], *rows[:1], *by_size):
        try:
            found.setdefault(DatasetRef.parse(ref_of(row)))
        except ValueError:
            continue
    return list(found)


def _of(ref: DatasetRef) -> dict[str, str]:
    return {"owner_slug": ref.owner, "dataset_slug": ref.slug}


def _metadata(number: int) -> Fields:
    def fields(evidence: Evidence) -> dict[str, Any] | None:
        candidates = _candidates(evidence)
        # one that names none may be an exception, so others are looked at
        settled = any(each.truncated and each.named for each in comparisons(evidence))
        if settled or evidence.wants_credentials("metadata 1") or len(candidates) < number:
            return None
        return _of(candidates[number - 1])

    return fields


def _files(number: int) -> Fields:
    def fields(evidence: Evidence) -> dict[str, Any] | None:
        name = f"metadata {number}"
        # refused for want of credentials: whether this one is as well is worth knowing
        if evidence.good(name) is None and not evidence.wants_credentials(name):
            return None
        size = rpc.LIST_DATASET_FILES.best_page_size
        return {**_of(_candidates(evidence)[number - 1]), "page_size": size}

    return fields


def _download(evidence: Evidence) -> dict[str, Any] | None:
    candidates = _candidates(evidence)
    if evidence.official or not candidates:  # the official package follows the redirect
        return None
    read = [number for number in range(COMPARISONS) if evidence.good(f"metadata {number + 1}")]
    return _of(candidates[read[0]] if read else candidates[0])


def _leaderboard(evidence: Evidence) -> dict[str, Any] | None:
    competitions = evidence.get(rpc.LIST_COMPETITIONS.method)
    # a ref may be a whole address (reported 2026-10-01, kaggle-facts 2.1)
    refs = competitions.refs if competitions else set()
    names = sorted({ref.rstrip("/").rpartition("/")[2] for ref in refs} - {""})
    if not names:
        return None
    return {"competition_name": names[0]}


def _halite(evidence: Evidence) -> dict[str, Any] | None:
    return None if evidence.official else {"competition_id": SIMULATIONS["halite"].number}


# -- what is asked ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class OtherList:
    """A list of another resource: does it honour the page size, and does it give tokens?

    ``rows`` of a full page and ``mark`` (V, R or U) are what is assumed; ``carries`` are fields
    that its rows are assumed to have.
    """

    call: Rpc
    rows: int
    mark: str
    carries: tuple[str, ...] = ()
    fields: Fields | None = None

    @property
    def probe(self) -> Probe:
        """Its request. A 404 says that the method is not there."""
        fields = self.fields or _always(page_size=self.call.best_page_size)
        return Probe(self.call.method, self.call, fields, final=frozenset({404}))


OTHER_LISTS = (
    OtherList(rpc.LIST_COMPETITIONS, 200, "U"),
    OtherList(
        rpc.LIST_KERNELS,
        200,
        "U",
        carries=("language", "kernelType"),
        fields=_always(group="EVERYONE", page_size=rpc.LIST_KERNELS.best_page_size),
    ),
    OtherList(rpc.LIST_MODELS, 50, "R", carries=("description", "instances")),
    OtherList(rpc.LIST_ENTITIES, 200, "U"),
)

PROBES: tuple[Probe, ...] = (
    Probe("list", rpc.LIST_DATASETS, _always(page_size=rpc.LIST_DATASETS.best_page_size)),
    Probe("token", rpc.LIST_DATASETS, _next_page),
    Probe("page", rpc.LIST_DATASETS, _always(page=2, page_size=rpc.LIST_DATASETS.best_page_size)),
    Probe("cap", rpc.LIST_DATASETS, _beyond_the_cap),
    Probe("slice", rpc.LIST_DATASETS, _always(file_type=_CSV, page_size=PAGE_ROWS)),
    *(
        probe
        for number in range(1, COMPARISONS + 1)
        for probe in (
            Probe(f"metadata {number}", rpc.GET_DATASET_METADATA, _metadata(number)),
            Probe(f"files {number}", rpc.LIST_DATASET_FILES, _files(number)),
        )
    ),
    # bytes in place of a redirect are an answer as well, and one that need not come twice
    Probe("download", rpc.DOWNLOAD_DATASET, _download, final=frozenset({200})),
    Probe("absent", rpc.GET_DATASET_METADATA, _always(**_NOTHING)),
    *(each.probe for each in OTHER_LISTS),
    Probe("board", rpc.DOWNLOAD_LEADERBOARD, _leaderboard),  # of one that a list has
    # where episodes are looked for first; a refusal is the answer
    Probe("episodes", web.WEB_LEADERBOARD, _halite, final=frozenset({400, 404})),
)


def planned(*, official: bool) -> int:
    """How many requests the probes are, at most, if each is answered at once."""
    return len(PROBES) - 2 * official  # which asks neither for the download nor the site
