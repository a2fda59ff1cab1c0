"""Datasets: list → usability → metadata → a record in the seed's final format."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scrapy import Request

from kagglecrawl import arguments
from kagglecrawl.arguments import ArgumentError, Arguments, PageRange, argument
from kagglecrawl.items import Dataset, File, files_of, no_download
from kagglecrawl.kaggle import lenient, rpc
from kagglecrawl.kaggle.names import UnsafeName, folder_name, safe_name
from kagglecrawl.kaggle.refs import DatasetRef
from kagglecrawl.pipelines.usability import BELOW, usable
from kagglecrawl.spiders.base import KaggleSpider, Output

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
_GROUP_USER = "DATASET_SELECTION_GROUP_USER"


def _choice(words: dict[str, str], help_text: str) -> Any:
    return argument(None, arguments.one_of(words), "word", help_text, ", ".join(words))


@dataclass(frozen=True)
class DatasetsArguments(Arguments):
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
        listing = set(self.given()) - {"refs", *_NOT_OF_LISTS}
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


class DatasetsSpider(KaggleSpider):
    """``scrapy crawl datasets``: one request per list page, two per dataset: its metadata, and its
    files."""

    name = "datasets"
    item_class = Dataset
    args_class = DatasetsArguments
    args: DatasetsArguments

    _looked_in_vain = 0

    async def start(self) -> AsyncIterator[Any]:
        """The list, or GetDataset for each of ``refs``: its reply is what a list row is."""
        if not self.args.refs:
            yield self._list()
            return
        for ref in self.args.refs:
            self.accounts.discover(str(ref))
            yield self.fetch(rpc.GET_DATASET, "described", str(ref), **_of(ref))

    def _list(self) -> Request:
        args = self.args
        return self.rows(
            rpc.LIST_DATASETS,
            each="dataset",
            pages=args.pages,
            paged=True,
            search=args.search,
            user=args.user,
            group=_GROUP_USER if args.user else None,  # as the CLI does for --user
            tag_ids=",".join(args.tags) if args.tags else None,
            sort_by=args.sort_by,
            file_type=args.file_type,
            license=args.license,
            min_size=args.min_size,
            max_size=args.max_size,
        )

    def dataset(self, row: dict[str, Any], position: int | None) -> list[Request] | None:
        """A row of the list: ask for its metadata if it is worth it. None: it was seen before."""
        text = lenient.text(row, "ref") or lenient.text(row, "url")
        try:
            ref = DatasetRef.parse(text)
        except ValueError:
            return self._unreadable(text, position)
        if not self.accounts.discover(str(ref), position):
            return None
        return self._worthwhile(ref, row)

    def described(self, key: str, _: Any, reply: dict[str, Any]) -> Output:
        """GetDataset's reply, for one of ``refs``."""
        yield from self._worthwhile(DatasetRef.parse(key), reply)

    def metadata(self, key: str, row: dict[str, Any], reply: dict[str, Any]) -> Output:
        """GetDatasetMetadata's reply: a record, if it names the files."""
        info: dict[str, Any] = reply["info"]
        files = files_of(lenient.rows(info, "data"))
        incomplete = self._needs_file_list(files, lenient.integer(row, "totalBytes"))
        record = asdict(Dataset.from_api(key, row, info, files))
        if not usable(record["usability_rating"], self.min_usability):
            yield Dataset(**record)  # its row told nothing: the pipeline drops it, without files
        elif self.args.download:
            yield from self._download(key, record, incomplete)
        elif incomplete:
            yield self._files_request(key, {"record": record, "files": []})
        else:
            yield Dataset(**record)

    def downloaded(self, key: str, so_far: dict[str, Any], reply: dict[str, Any]) -> Output:
        """The files are there. The archive's directory names all of them, which saves a request."""
        record, transfer = so_far["record"], reply["transfer"]
        if "listing" in transfer:
            files = [File(name=name, size=size) for name, size in transfer["listing"]]
            self._looked(len(files) > len(record["file_explorer"]))
            record["file_explorer"] = files
        for reason, count in transfer["leftOut"].items():
            self.accounts.note(f"files_left_out/{reason}", count)
        self.accounts.note("files_stored", transfer["files"])
        self.accounts.note("bytes_stored", transfer["bytes"])
        self.accounts.note("bytes_settled", record["dataset_size"])
        record["download"] = {name: transfer[name] for name in _OF_DOWNLOAD} | {"reason": ""}
        yield Dataset(**record)

    def not_downloaded(self, key: str, so_far: dict[str, Any], reason: str) -> Output:
        """Kaggle forbids the files: the record is kept, and says so."""
        self.accounts.note(f"without_files/{reason}")
        record = so_far["record"]
        self.accounts.note("bytes_settled", record["dataset_size"])
        record["download"] = no_download(reason)
        if so_far["incomplete"]:
            yield self._files_request(key, {"record": record, "files": []})
        else:
            yield Dataset(**record)

    def _download(self, key: str, record: dict[str, Any], incomplete: bool) -> Output:
        ref = DatasetRef.parse(key)
        try:
            folder = folder_name(ref.owner, ref.slug)
        except UnsafeName as error:
            self.logger.warning("Failed %s: %s", key, error)
            self.accounts.fail(key, "unsafe_name")
            return
        self.accounts.note("bytes_expected", record["dataset_size"])
        yield self.fetch(
            rpc.DOWNLOAD_DATASET,
            "downloaded",
            key,
            {"record": record, "incomplete": incomplete},
            otherwise="not_downloaded",
            sink={
                "folder": f"output/{self.name}/dataset/{folder}",
                "only": list(self.args.only or ()),
                "max_bytes": self.args.max_bytes,
                "known": -1 if incomplete else len(record["file_explorer"]),
            },
            dataset_version_number=record["version"],
            **_of(ref),
        )

    def files(self, key: str, so_far: dict[str, Any], reply: dict[str, Any]) -> Output:
        """A page of ListDatasetFiles: more of it, or the record."""
        page = files_of(lenient.rows(reply, rpc.LIST_DATASET_FILES.rows))
        known = {file["name"] for file in so_far["files"]}
        fresh = [file for file in page if file["name"] not in known]
        files = [*so_far["files"], *fresh]
        token = lenient.text(reply, "nextPageToken")
        if token and fresh:
            yield self._files_request(key, {**so_far, "files": files, "token": token})
        else:
            record = so_far["record"]
            self._looked(len(files) > len(record["file_explorer"]))
            yield Dataset(**{**record, "file_explorer": files})

    @property
    def page_folder(self) -> Path | None:
        """``meta_data/`` for Kaggle's own list; for one that was narrowed or put in another order a
        folder of its own in there, named after the arguments, since its pages hold other rows."""
        if self.args.refs:
            return None
        folder = self.config.workspace.absolute() / "output" / self.name / "meta_data"
        narrowed = [
            f"{name}={self.given[name]}"
            for name in self.args.given()
            if name not in {"pages", "refs", *_NOT_OF_LISTS}
        ]
        if not narrowed:
            return folder
        name = quote(",".join(sorted(narrowed)), safe="=, ")
        if len(name) > _LONGEST_FOLDER:
            name = f"{name[:_LONGEST_FOLDER]}-{sha256(name.encode()).hexdigest()[:12]}"
        return folder / safe_name(name)

    # -- decisions --------------------------------------------------------------------------------

    @property
    def min_usability(self) -> float:
        """The argument; else 0 for ``refs``, and the setting for a list."""
        if self.args.min_usability is not None:
            return self.args.min_usability
        return 0.0 if self.args.refs else self.config.min_usability

    def _worthwhile(self, ref: DatasetRef, row: dict[str, Any]) -> list[Request]:
        if usable(lenient.rating(row, "usabilityRating"), self.min_usability) is False:
            self.accounts.skip(str(ref), BELOW)
            return []
        kept = {name: row[name] for name in row if name.removesuffix("Nullable") in _KEPT}
        return [self.fetch(rpc.GET_DATASET_METADATA, "metadata", str(ref), kept, **_of(ref))]

    def _unreadable(self, text: str, position: int | None) -> list[Request] | None:
        key = f"unreadable:{text[:200]}"
        if not self.accounts.discover(key, position):
            return None
        self.logger.warning("A row of the list has no readable ref: %.200r", text)
        self.accounts.fail(key, "unreadable_ref")
        return []

    def _needs_file_list(self, files: list[File], size: int) -> bool:
        """Does the metadata name fewer files than there are, as far as one can tell?

        Files that are smaller together than the dataset are a reason to look, until looking has
        found nothing new a few times: what Kaggle's sizes mean exactly is not documented.
        """
        limit = self.found.metadata_files
        if (not files and size > 0) or (limit is not None and len(files) >= limit > 0):
            return True
        too_small = sum(file["size"] for file in files) < size
        return too_small and self._looked_in_vain < _LOOKS_IN_VAIN

    def _looked(self, found_more: bool) -> None:
        self._looked_in_vain = 0 if found_more else self._looked_in_vain + 1

    def _files_request(self, key: str, so_far: dict[str, Any]) -> Request:
        return self.fetch(
            rpc.LIST_DATASET_FILES,
            "files",
            key,
            so_far,
            again=True,
            page_size=rpc.LIST_DATASET_FILES.best_page_size,
            page_token=so_far.get("token"),
            **_of(DatasetRef.parse(key)),
        )


#: Arguments that do not change which rows a list has.
_NOT_OF_LISTS = ("sample", "min_usability", "download", "only", "max_bytes")
#: What a record keeps of a transfer.
_OF_DOWNLOAD = ("folder", "files", "bytes", "leftOut")
#: Characters of a folder's name that are taken from the arguments.
_LONGEST_FOLDER = 100
#: How often in a row ListDatasetFiles may name no more files than the metadata.
_LOOKS_IN_VAIN = 3
#: What a list row is kept for; the rest need not wait in a queue.
_KEPT = (
    "title",
    "lastUpdated",
    "totalBytes",
    "usabilityRating",
    "licenseName",
    "tags",
    "currentVersionNumber",
)


def _of(ref: DatasetRef) -> dict[str, Any]:
    return {"owner_slug": ref.owner, "dataset_slug": ref.slug}
