"""The table of Kaggle's calls, and how a row of it becomes a ``scrapy.Request``.

Every official call is ``POST {KAGGLE_API_URL}/v1/{service}/{method}`` with a JSON body
(verified: kagglesdk 0.1.37, ``KaggleHttpClient._get_request_url``). The body is built with
kagglesdk's own request class, so that field names and enums are Kaggle's.

A new resource is a few rows in this table.
"""

from __future__ import annotations

import enum
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any, Literal

from scrapy import Request

#: Bytes of a call's answer that is a file: it is held in memory.
LARGEST_FILE = 256 << 20
_DATASETS = "kagglesdk.datasets.types.dataset_api_service"

#: Statuses are judged in one place (errors.py), and Kaggle's API is never followed elsewhere.
_META: dict[str, Any] = {
    "handle_httpstatus_all": True,
    "dont_redirect": True,
    "dont_retry": True,
}


@dataclass(frozen=True)
class Rpc:
    """One of Kaggle's methods.

    ``kind`` says what a refusal means: of a ``list`` it stops the crawl, of one ``item`` it
    skips that item. ``rows`` is the field of the reply that holds the rows of a list (absent when
    there are none), ``needs`` the name and type of one without which a reply is none.
    ``best_page_size`` is the most rows it is worth asking for in one reply. The answer of a
    ``file`` is no JSON but a small file: at once, or where a redirect leads. What a ``part`` gives
    is some of a record, which is told without it where Kaggle refuses it.
    """

    service: str
    method: str
    request_class: str
    kind: Literal["list", "item"]
    family: Literal["api", "download"] = "api"
    rows: str = ""
    needs: tuple[str, type] | None = None
    best_page_size: int = 200
    module: str = _DATASETS
    file: bool = False
    part: bool = False

    @property
    def name(self) -> str:
        """Its key in ``TABLE``, in logs and in stats: ``service/method``."""
        return f"{self.service}/{self.method}"

    @cached_property
    def _fields(self) -> Mapping[str, Any]:
        return {each.field_name: each for each in getattr(self._module, self.request_class)._fields}

    @cached_property
    def _module(self) -> ModuleType:
        return importlib.import_module(self.module)

    def is_reply(self, payload: Mapping[str, Any]) -> bool:
        """Does this JSON object have the shape of this method's reply?"""
        if self.rows and not isinstance(payload.get(self.rows) or [], list):
            return False
        if self.rows and payload and not payload.keys() & self._reply_fields:
            return False  # {} is a page without rows; {"status": "ok"} is something else
        return self.needs is None or isinstance(payload.get(self.needs[0]), self.needs[1])

    @cached_property
    def _reply_fields(self) -> set[str]:
        name = self.request_class.replace("Request", "Response")
        return {field.json_name for field in getattr(self._module, name)._fields}

    def body(self, **fields: Any) -> dict[str, Any]:
        """The JSON body for these fields, as kagglesdk would send it (defaults left out).

        Names are kagglesdk's (``owner_slug``); an enum may be given as its member's name.
        Raises ``ValueError`` for a field, a type or an enum name that Kaggle does not have.
        """
        body: dict[str, Any] = {}
        for name, value in fields.items():
            if value is None:
                continue
            field = self._fields.get(name)
            if field is None:
                raise ValueError(f"{self.name} has no field {name!r}")
            kind = field.field_type
            if issubclass(kind, enum.Enum):
                if not isinstance(value, str) or value not in kind.__members__:
                    raise ValueError(f"{self.name}: {name}={value!r} is not a {kind.__name__}")
                if kind[value] != field.default_value:
                    body[field.json_name] = value
                continue
            if type(value) is not kind:
                raise ValueError(f"{self.name}: {name}={value!r} is not of type {kind.__name__}")
            if value != field.default_value:
                body[field.json_name] = value
        return body

    def request(self, api_url: str, *, meta: Mapping[str, Any], **kwargs: Any) -> Request:
        """A request for this call; ``fields`` among ``kwargs`` becomes the body, the rest is
        handed to ``scrapy.Request``. It carries no credentials: they are added when it is sent.
        """
        fields = kwargs.pop("fields")
        if self.file:
            meta = {"download_maxsize": LARGEST_FILE, **meta}
        return Request(
            f"{api_url}/v1/{self.name}",
            method="POST",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=json.dumps(self.body(**fields)).encode(),
            meta={**_META, **meta, "rpc": self.name},
            **kwargs,
        )


LIST_DATASETS = Rpc(
    "datasets.DatasetApiService", "ListDatasets", "ApiListDatasetsRequest", "list", rows="datasets"
)
GET_DATASET = Rpc(
    "datasets.DatasetApiService", "GetDataset", "ApiGetDatasetRequest", "item", needs=("ref", str)
)
GET_DATASET_METADATA = Rpc(
    "datasets.DatasetApiService",
    "GetDatasetMetadata",
    "ApiGetDatasetMetadataRequest",
    "item",
    needs=("info", dict),
)
#: Its rows belong to one dataset, so a refusal says something of that dataset alone.
LIST_DATASET_FILES = Rpc(
    "datasets.DatasetApiService",
    "ListDatasetFiles",
    "ApiListDatasetFilesRequest",
    "item",
    rows="datasetFiles",
)
#: Answered with a redirect to a signed URL, which is a secret; what its callback gets instead is
#: what has come of the files (transfer/transfers.py).
DOWNLOAD_DATASET = Rpc(
    "datasets.DatasetApiService",
    "DownloadDataset",
    "ApiDownloadDatasetRequest",
    "item",
    family="download",
    needs=("transfer", dict),
)

_COMPETITIONS = "kagglesdk.competitions.types.competition_api_service"

LIST_COMPETITIONS = Rpc(
    "competitions.CompetitionApiService",
    "ListCompetitions",
    "ApiListCompetitionsRequest",
    "list",
    rows="competitions",
    module=_COMPETITIONS,
)
GET_COMPETITION = Rpc(
    "competitions.CompetitionApiService",
    "GetCompetition",
    "ApiGetCompetitionRequest",
    "item",
    needs=("ref", str),
    module=_COMPETITIONS,
)
LIST_COMPETITION_PAGES = Rpc(
    "competitions.CompetitionApiService",
    "ListCompetitionPages",
    "ApiListCompetitionPagesRequest",
    "item",
    rows="pages",
    module=_COMPETITIONS,
    part=True,
)
#: The whole board, as a zip with one CSV (verified: a real file, kaggle-facts 2.1). Whether it
#: comes at once or by a redirect is unknown; kagglesdk 0.1.37 follows one.
DOWNLOAD_LEADERBOARD = Rpc(
    "competitions.CompetitionApiService",
    "DownloadLeaderboard",
    "ApiDownloadLeaderboardRequest",
    "item",
    family="download",
    module=_COMPETITIONS,
    file=True,
    part=True,
)

# -- Asked by `scrapy doctor` alone, until their resources have spiders ----------------------------

LIST_KERNELS = Rpc(
    "kernels.KernelsApiService",
    "ListKernels",
    "ApiListKernelsRequest",
    "list",
    rows="kernels",
    module="kagglesdk.kernels.types.kernels_api_service",
)
LIST_MODELS = Rpc(
    "models.ModelApiService",
    "ListModels",
    "ApiListModelsRequest",
    "list",
    rows="models",
    best_page_size=100,
    module="kagglesdk.models.types.model_api_service",
)
LIST_ENTITIES = Rpc(
    "search.SearchApiService",
    "ListEntities",
    "ListEntitiesRequest",
    "list",
    rows="documents",
    module="kagglesdk.search.types.search_api_service",
)

TABLE: dict[str, Rpc] = {
    row.name: row
    for row in (
        LIST_DATASETS,
        GET_DATASET,
        GET_DATASET_METADATA,
        LIST_DATASET_FILES,
        DOWNLOAD_DATASET,
        LIST_COMPETITIONS,
        GET_COMPETITION,
        LIST_COMPETITION_PAGES,
        DOWNLOAD_LEADERBOARD,
        LIST_KERNELS,
        LIST_MODELS,
        LIST_ENTITIES,
    )
}
