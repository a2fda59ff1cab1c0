"""Datasets: list → usability → metadata → a record in the seed's final format."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import asdict
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from scrapy import Request

from kagglecrawl.config import KaggleConfig
from kagglecrawl.items import Dataset, Download, File, download_of, files_of, no_download, signature
from kagglecrawl.kaggle import lenient, rpc
from kagglecrawl.kaggle.names import UnsafeName, folder_name, safe_name
from kagglecrawl.kaggle.refs import DatasetRef
from kagglecrawl.pipelines.usability import BELOW, usable
from kagglecrawl.spiders.base import KaggleSpider, Output
from kagglecrawl.spiders.datasets_args import GROUP_USER, NARROWING, NOT_OF_LISTS, DatasetsArguments
from kagglecrawl.state.accounts import UNREADABLE
from kagglecrawl.state.ledger import WHOLE_LIST, Ledger
from kagglecrawl.state.store import Verdict
from kagglecrawl.transfer.disk import all_there, aside
from kagglecrawl.transfer.objects import all_listed


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
            group=GROUP_USER if args.user else None,  # as the CLI does for --user
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
        elif self.wants_files:
            yield from self._with_files(key, record, incomplete)
        elif incomplete:
            yield self._files_request(key, {"record": record, "files": []})
        else:
            yield Dataset(**record)

    async def known(
        self, key: str, row: dict[str, Any], record: dict[str, Any] | None
    ) -> AsyncIterator[Any]:
        """The record that the ledger has of a dataset, whose row says what it said then."""
        if record is None:  # it is gone, or an older release's
            yield self._metadata_request(key, row)
            return
        manifest = None
        if not usable(record["usability_rating"], self.min_usability):
            yield Dataset(**record)  # the pipeline drops it
            return
        if self.wants_files:
            manifest = await self._files_had(key, record["version"])
            if manifest is None:
                for request in self._download(key, record, incomplete=False):
                    yield request
                return
        self._note_left_out(manifest or no_download(""))
        known = Dataset(**{**record, "download": manifest})
        for item in self.again(key, str(record["version"] or ""), known):
            yield item

    def _with_files(self, key: str, record: dict[str, Any], incomplete: bool) -> Output:
        """A new record, of a version whose files may be there already."""
        version = str(record["version"] or "")
        known = self.ledger.known(key, version) if version and not self.refresh else None
        so_far: dict[str, Any] = {"record": record, "incomplete": incomplete}
        if known is None or known.manifest is None:
            self.keep_record(key, so_far)
            yield from self._download(key, record, incomplete)
        else:
            yield self.recall("edited", key, version, so_far)

    async def edited(
        self, key: str, so_far: dict[str, Any], before: dict[str, Any] | None
    ) -> AsyncIterator[Any]:
        """A new record of a version of which the ledger has files."""
        record = so_far["record"]
        manifest = await self._files_had(key, record["version"])
        outputs: Output
        if manifest is None:
            self.keep_record(key, so_far)
            outputs = self._download(key, **so_far)
        elif manifest["reason"]:
            self.accounts.note("bytes_expected", record["dataset_size"])
            outputs = self.not_downloaded(key, so_far, manifest["reason"])
        else:
            self._note_left_out(manifest)
            if before is not None:  # it names all that is in the archive
                record["file_explorer"] = before["file_explorer"]
            outputs = iter([Dataset(**{**record, "download": manifest})])
        for output in outputs:
            yield output

    async def _files_had(self, key: str, version: int | None) -> Download | None:
        """What has come of this version's files, if they need not be asked for: all that are wanted
        are at their place, or Kaggle has forbidden them."""
        known = None if self.refresh else self.ledger.known(key, str(version or ""))
        manifest = download_of(known.manifest) if known else None
        if known is None or manifest is None:
            return None
        if not version and known.files_signature != known.record_signature:
            return None  # of another version, whatever it was called
        if manifest["reason"]:
            return manifest
        if known.choice != self.choice:
            return None
        if manifest["files"] and manifest["folder"] != self._place(folder_of(key)):
            self.accounts.note("files_elsewhere")
            return None
        folder, count = self.config.workspace.absolute() / manifest["folder"], manifest["files"]
        bucket = self.bucket

        def look(ledger: Ledger) -> bool:
            files = ledger.files(key, known.version)
            if bucket is not None:
                return all_listed(bucket, manifest["folder"], files)
            return all_there(folder, ((name, size) for name, size, *_ in files), count)

        def look_aside() -> bool:
            with closing(self.ledger.another()) as ledger:
                return look(ledger)

        there = not known.overwritten
        if there and count:
            far = bucket is not None or count > _MANY_FILES
            there = await aside(look_aside) if far else look(self.ledger)
        if not there:
            self.accounts.note("files_gone")
        return manifest if there else None

    def _note_left_out(self, download: Download) -> None:
        for reason, count in download["leftOut"].items():
            self.accounts.note(f"files_left_out/{reason}", count)
        if download["reason"]:
            self.accounts.note(f"without_files/{download['reason']}")

    def downloaded(self, key: str, so_far: dict[str, Any], reply: dict[str, Any]) -> Output:
        """The files are there. The archive's directory names all of them, which saves a request."""
        record, transfer = so_far["record"], reply["transfer"]
        if "listing" in transfer:
            files = [File(name=name, size=size) for name, size in transfer["listing"]]
            self._looked(len(files) > len(record["file_explorer"]))
            record["file_explorer"] = files
        self.accounts.note("files_stored", transfer["files"])
        self.accounts.note("bytes_stored", transfer["bytes"])
        self.accounts.note("bytes_settled", record["dataset_size"])
        record["download"] = {name: transfer[name] for name in _OF_DOWNLOAD} | {"reason": ""}
        self._note_left_out(record["download"])
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
        known = None
        if record["version"] and not self.refresh:
            known = self.ledger.known(key, str(record["version"]))
        if known is not None and known.files_refused:
            self.refused_before(key, Verdict.FAILED, known.files_refused)
            return
        try:
            folder = folder_of(key)
        except UnsafeName as error:
            self.logger.warning("Failed %s: %s", key, error)
            self.accounts.fail(key, "unsafe_name")
            return
        place, in_store = self._place(folder), self.bucket is not None
        holder = self.ledger.holder(place, key)
        if holder is not None and (in_store or (self.config.workspace / place).is_dir()):
            self.logger.warning("Failed %s: %s has files of %s", key, place, holder)
            self.accounts.fail(key, "name_collision")
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
                **({"store": place} if in_store else {}),
                "only": list(self.args.only or ()),
                "max_bytes": self.args.max_bytes,
                "known": -1 if incomplete else len(record["file_explorer"]),
            },
            dataset_version_number=record["version"],
            **_of(DatasetRef.parse(key)),
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

    def _place(self, folder: str) -> str:
        """Where a dataset's files are: below the workspace, or a URI of the store."""
        return f"{self.config.output(self.name)}/dataset/{folder}"

    @property
    def page_place(self) -> str | None:
        """``meta_data`` for Kaggle's own list; for one that was narrowed or put in another order a
        folder of its own in there, named after the arguments, since its pages hold other rows."""
        if self.args.refs or self.changed_only:
            return None
        folder = "meta_data"
        narrowed = [
            f"{name}={self.given[name]}"
            for name in self.args.given()
            if name not in {"pages", "refs", *NOT_OF_LISTS}
        ]
        if not narrowed:
            return folder
        name = quote(",".join(sorted(narrowed)), safe="=, ")
        if len(name) > _LONGEST_FOLDER:
            name = f"{name[:_LONGEST_FOLDER]}-{sha256(name.encode()).hexdigest()[:12]}"
        return f"{folder}/{safe_name(name)}"

    # -- decisions --------------------------------------------------------------------------------

    @property
    def choice(self) -> str:
        """What decides which files are had."""
        wishes = {
            "only": ",".join(sorted(self.args.only or ())),
            "max_bytes": self.args.max_bytes,
            "max_ratio": self.config.max_ratio if self.config.max_ratio != _RATIO else None,
        }
        said = [f"{name}={wish}" for name, wish in wishes.items() if wish not in {None, ""}]
        return "; ".join(said) or "all"

    @property
    def listing(self) -> str | None:
        """What narrows the list; its order does not matter."""
        pages = self.args.pages
        if self.args.refs or (pages is not None and (pages.first, pages.last) != (1, 0)):
            return None
        given = self.args.given()
        narrowed = {name: given[name] for name in sorted(given) if name in NARROWING}
        return json.dumps(narrowed) if narrowed else WHOLE_LIST

    @property
    def min_usability(self) -> float:
        """The argument; else 0 for ``refs``, and the setting for a list."""
        if self.args.min_usability is not None:
            return self.args.min_usability
        return 0.0 if self.args.refs else self.config.min_usability

    def _worthwhile(self, ref: DatasetRef, row: dict[str, Any]) -> list[Request]:
        key, head = str(ref), Dataset.from_api(str(ref), row, {}, [])
        version, said = str(head.version or ""), signature(head)
        self.accounts.describe(key, version, said)
        if usable(lenient.rating(row, "usabilityRating"), self.min_usability) is False:
            self.accounts.skip(key, BELOW)
            return []
        kept = {name: row[name] for name in row if name.removesuffix("Nullable") in _KEPT}
        anew = self._metadata_request(key, kept)
        if not (head.version or head.last_updated):  # nothing would tell that it has changed
            return [anew]
        request = self.unless_known(key, version, said, kept, "known", anew)
        return [] if request is None else [request]

    def _metadata_request(self, key: str, row: dict[str, Any]) -> Request:
        of = _of(DatasetRef.parse(key))
        return self.fetch(rpc.GET_DATASET_METADATA, "metadata", key, row, **of)

    def _unreadable(self, text: str, position: int | None) -> list[Request] | None:
        key = f"unreadable:{text[:200]}"
        if not self.accounts.discover(key, position):
            return None
        self.logger.warning("A row of the list has no readable ref: %.200r", text)
        self.accounts.fail(key, UNREADABLE)
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


#: What a record keeps of a transfer.
_OF_DOWNLOAD = ("folder", "files", "bytes", "leftOut")
#: More files than this are not looked at in the reactor's thread: it may take seconds.
_MANY_FILES = 2_000
#: The usual KAGGLE_MAX_RATIO.
_RATIO = KaggleConfig.max_ratio
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


def folder_of(key: str) -> str:
    """The folder of a dataset's files; raises ``UnsafeName``."""
    ref = DatasetRef.parse(key)
    return folder_name(ref.owner, ref.slug)


def _of(ref: DatasetRef) -> dict[str, Any]:
    return {"owner_slug": ref.owner, "dataset_slug": ref.slug}
