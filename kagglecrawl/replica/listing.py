"""Which datasets a ListDatasets request chooses, and in what order."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest

from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World

SMALL, LARGE = 10_000, 100_000
"""Bounds of the size groups, in bytes. Kaggle's are not published and its CLI has given them up."""

_ORDERS: dict[str, Callable[[DatasetTruth], Any]] = {
    "HOTTEST": lambda dataset: dataset.hotness,
    "VOTES": lambda dataset: dataset.votes,
    "UPDATED": lambda dataset: dataset.last_updated,
    "ACTIVE": lambda dataset: (dataset.topics, dataset.last_updated),
    "PUBLISHED": lambda dataset: dataset.id,
    "RELEVANCE": lambda dataset: -len(dataset.title),
    "LAST_VIEWED": lambda dataset: dataset.hotness,
    "USABILITY": lambda dataset: dataset.usability,
    "DOWNLOAD_COUNT": lambda dataset: dataset.downloads,
    "NOTEBOOK_COUNT": lambda dataset: dataset.notebooks,
}
_FILE_TYPES = {"CSV": ".csv", "SQLITE": ".sqlite", "JSON": ".json", "PARQUET": ".parquet"}


def listing(world: World, request: ApiListDatasetsRequest) -> list[DatasetTruth]:
    """All datasets that the request asks for, highest first, equals by descending id.

    Deleted and forbidden ones are listed too. Nobody has uploaded, viewed or bookmarked anything,
    so personal groups and `viewed` give no rows.
    """
    order = _ORDERS[request.sort_by.name.removeprefix("DATASET_SORT_BY_")]
    chosen = [dataset for dataset in world.datasets if _wanted(dataset, request)]
    return sorted(chosen, key=lambda dataset: (order(dataset), dataset.id), reverse=True)


def query_text(request: Any) -> str:
    """What of a request chooses and orders the rows, as text; '' is Kaggle's default list."""
    values = request.to_dict()
    for name in ("page", "pageToken", "pageSize"):
        values.pop(name, None)
    # The CLI 2.2.4 sends `search`, `tagIds` and `user` even when they are empty.
    return "".join(f"&{name}={values[name]}" for name in sorted(values) if values[name])


class Listings:
    """The lists of a world; the latest few queries are kept, for a list is asked for by pages."""

    _KEPT = 64

    def __init__(self, world: World) -> None:
        self._world = world
        self._kept: dict[str, list[DatasetTruth]] = {}

    def rows(self, request: ApiListDatasetsRequest) -> list[DatasetTruth]:
        """What `listing` gives; not to be changed by the caller."""
        query = query_text(request)
        rows = self._kept.pop(query, None) or listing(self._world, request)
        self._kept[query] = rows
        if len(self._kept) > self._KEPT:
            del self._kept[next(iter(self._kept))]
        return rows


def _wanted(dataset: DatasetTruth, request: ApiListDatasetsRequest) -> bool:
    group = request.group.name.removeprefix("DATASET_SELECTION_GROUP_")
    if group not in {"PUBLIC", "USER", "ALL"} or request.viewed.value:
        return False
    if (request.user or group == "USER") and dataset.owner != request.user:
        return False
    if request.search and request.search.lower() not in dataset.title.lower():
        return False
    if request.tag_ids:
        ids = {str(tag.id) for tag in dataset.tags}
        if not ids.issuperset(request.tag_ids.replace(" ", "").split(",")):
            return False
    size = dataset.total_bytes
    if not (request.min_size or 0) <= size <= (request.max_size or size):
        return False
    return (
        request.size.name.removeprefix("DATASET_SIZE_GROUP_") in {"ALL", _size_group(size)}
        and request.license.name.removeprefix("DATASET_LICENSE_GROUP_")
        in {"ALL", dataset.licence.group}
        and _has_file_type(dataset, request.file_type.name)
    )


def _size_group(size: int) -> str:
    return "SMALL" if size < SMALL else "MEDIUM" if size < LARGE else "LARGE"


def _has_file_type(dataset: DatasetTruth, group: str) -> bool:
    wanted = group.removeprefix("DATASET_FILE_TYPE_GROUP_")
    if wanted == "ALL":
        return True
    suffix = _FILE_TYPES.get(wanted)
    return any(PurePosixPath(file.name).suffix == suffix for file in dataset.files)
