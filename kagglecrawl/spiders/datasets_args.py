"""What ``scrapy crawl datasets`` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kagglecrawl import arguments
from kagglecrawl.arguments import ArgumentError, CrawlArguments, PageRange, argument
from kagglecrawl.kaggle.refs import DatasetRef

# Words for kagglesdk 0.1.37's enums (datasets/types/dataset_enums.py).
_SORT_BY = {
    word: f"DATASET_SORT_BY_{word.upper()}"
    for word in (
        "hottest",
        "votes",
        "updated",
        "active",
        "published",
        "relevance",
        "usability",
        "download_count",
        "notebook_count",
    )
}
_FILE_TYPE = {
    word: f"DATASET_FILE_TYPE_GROUP_{word.upper()}"
    for word in ("all", "csv", "sqlite", "json", "big_query", "parquet")
}
_LICENSE = {
    word: f"DATASET_LICENSE_GROUP_{word.upper()}" for word in ("all", "cc", "gpl", "odb", "other")
}
GROUP_USER = "DATASET_SELECTION_GROUP_USER"
#: Arguments that do not change which rows a list has.
NOT_OF_LISTS = (
    "sample",
    "min_usability",
    "download",
    "only",
    "max_bytes",
    "changed_only",
    "refresh",
)
#: Those that change which datasets it has.
NARROWING = ("search", "user", "tags", "file_type", "license", "min_size", "max_size")


def _choice(words: dict[str, str], help_text: str) -> Any:
    return argument(None, arguments.one_of(words), "word", help_text, ", ".join(words))


@dataclass(frozen=True)
class DatasetsArguments(CrawlArguments):
    """Arguments of ``scrapy crawl datasets``."""

    pages: PageRange | None = argument(
        None,
        arguments.pages,
        "page or range",
        "Which pages of the list, 20 rows each: 5, 3-7, or 3- for all from page 3. "
        "A page is the same rows whatever page size Kaggle grants.",
    )
    sample: int | None = argument(
        None, arguments.count, "number", "Exactly so many items, the first that can be had."
    )
    min_usability: float | None = argument(
        None,
        arguments.rating,
        "0 to 1",
        "Skip datasets rated below this; default: the setting KAGGLE_MIN_USABILITY (0.8), "
        "and 0 with refs.",
    )
    search: str | None = argument(None, arguments.line, "text", "Kaggle's search words.")
    user: str | None = argument(
        None, arguments.line, "name", "Only this user's or organisation's datasets."
    )
    tags: tuple[str, ...] | None = argument(
        None, arguments.listed(arguments.line), "list", "Only datasets with these tag ids."
    )
    sort_by: str | None = _choice(_SORT_BY, "The list's order; default: Kaggle's own, hottest.")
    file_type: str | None = _choice(_FILE_TYPE, "Only datasets with files of this type.")
    license: str | None = _choice(_LICENSE, "Only datasets under this group of licences.")
    min_size: int | None = argument(
        None, arguments.size, "bytes", "Only datasets of at least this size: 500000, 20MB, 1.5GB."
    )
    max_size: int | None = argument(
        None, arguments.size, "bytes", "Only datasets of at most this size."
    )
    download: bool = argument(
        True,
        arguments.yes_or_no,
        "true or false",
        "Have the files as well, in WORKSPACE/output/datasets/dataset/<owner>_<slug>/; a row is "
        "written when all of a dataset's are there.",
    )
    only: tuple[str, ...] | None = argument(
        None,
        arguments.listed(arguments.glob),
        "globs, or a file with one to a line",
        "Only files that match one of these: *.csv,data/*.json. * stands for any characters, / "
        "among them; a glob without / is compared with a file's name, without its folders.",
    )
    max_bytes: int | None = argument(
        None, arguments.size, "bytes", "Leave out files that are larger than this: 500MB."
    )
    refs: tuple[DatasetRef, ...] | None = argument(
        None,
        arguments.listed(DatasetRef.parse),
        "list or file",
        "Exactly these datasets, however rated: owner/slug,owner/slug, or a file with one a line.",
    )

    def check(self) -> None:
        """Refuse what cannot go together."""
        super().check()
        listing = set(self.given()) - {"refs", *NOT_OF_LISTS}
        if not self.download and (self.only or self.max_bytes is not None):
            raise ArgumentError(
                "argument only or max_bytes says which files are wanted, and download=false that "
                "none are: leave one of the two out"
            )
        if self.refs and listing:
            raise ArgumentError(
                f"argument refs asks for exactly these datasets, so {min(listing)} "
                "cannot go with it: leave one of the two out"
            )
        if self.min_size and self.max_size and self.min_size > self.max_size:
            raise ArgumentError("argument min_size is larger than max_size: nothing could match")
