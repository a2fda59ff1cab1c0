"""`datasets.DatasetApiService`: lists, metadata, files and downloads of datasets."""

import base64
import binascii
import json
from typing import Any, TypeVar

from kagglesdk.datasets.types.dataset_api_service import (
    ApiCategory,
    ApiDataset,
    ApiDatasetFile,
    ApiDownloadDatasetRawRequest,
    ApiDownloadDatasetRequest,
    ApiGetDatasetMetadataRequest,
    ApiGetDatasetMetadataResponse,
    ApiGetDatasetRequest,
    ApiListDatasetFilesRequest,
    ApiListDatasetFilesResponse,
    ApiListDatasetsRequest,
    ApiListDatasetsResponse,
)
from kagglesdk.datasets.types.dataset_types import (
    DatasetCollaborator,
    DatasetInfo,
    DatasetSettingsFile,
    DatasetSettingsFileColumn,
    SettingsLicense,
)
from kagglesdk.users.types.users_enums import CollaboratorType

from kagglecrawl.replica.listing import query_text
from kagglecrawl.replica.rpc import Method, Site
from kagglecrawl.replica.truth import DatasetTruth, FileTruth, Tag
from kagglecrawl.replica.wire import Refusal, Reply, dump, encode, wire_time

SERVICE = "datasets.DatasetApiService"
PAGE_SIZE = 20
"""Rows of a page where `pageSize` does not count, or is not given (kaggle-facts 0.3)."""
ROW_CAP = 10_000
"""Positions from here on are never listed by page; the answer is 200 and empty (0.4)."""

T = TypeVar("T")


def _list_datasets(site: Site, request: ApiListDatasetsRequest) -> Reply:
    rows = site.listings.rows(request)
    reply = ApiListDatasetsResponse()
    if site.behaviour.paging == "token" and not request.page:
        query = query_text(request)
        chosen, token = _token_page(site, rows, query, request.page_token, request.page_size)
        reply.next_page_token = token
    elif request.page_token:
        raise Refusal(400, "Invalid page token.")
    else:
        page = min(_page(request), ROW_CAP)  # far beyond any list already
        start = (page - 1) * PAGE_SIZE
        if len(rows) <= ROW_CAP:  # else rows would move past the cap, and be missed
            start -= site.shift(page)
        chosen = rows[:ROW_CAP][start : start + PAGE_SIZE]
    reply.datasets = [_row(dataset) for dataset in chosen]
    return encode(reply)


def _page(request: ApiListDatasetsRequest) -> int:
    page: int = request.page or 1
    if page < 1:
        raise Refusal(400, "Field 'page' must be positive.")
    return page


def _list_key(request: ApiListDatasetsRequest) -> str:
    if request.page_token:
        return f"token={request.page_token}{query_text(request)}"
    return f"page={request.page or 1}{query_text(request)}"


def _token_page(
    site: Site, rows: list[T], query: str, token: str | None, size: int | None
) -> tuple[list[T], str]:
    """A page of rows from where the token points, and the token of the next one, or ''."""
    start = _read_token(token, query) if token else 0
    size = size or PAGE_SIZE
    if size < 0:
        raise Refusal(400, "Field 'pageSize' must be positive.")
    end = start + min(size, site.behaviour.max_page_size)
    return rows[start:end], _make_token(end, query) if end < len(rows) else ""


def _make_token(start: int, query: str) -> str:
    return base64.urlsafe_b64encode(dump([start, query])).decode()


def _read_token(token: str, query: str) -> int:
    try:
        start, of_query = json.loads(base64.b64decode(token, b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise Refusal(400, "Invalid page token.") from None
    if of_query != query or type(start) is not int or start < 0:
        raise Refusal(400, "Invalid page token.")
    return start


def _row(dataset: DatasetTruth) -> ApiDataset:
    """A row as lists have it: no description, files or versions (kaggle-facts 2.2)."""
    row = ApiDataset()
    row.id = dataset.id
    row.ref = dataset.ref
    row.title = dataset.title
    row.subtitle = dataset.subtitle
    row.creator_name = row.owner_name = dataset.owner.title()
    row.creator_url = row.owner_ref = dataset.owner
    row.url = f"https://www.kaggle.com/datasets/{dataset.ref}"
    row.thumbnail_image_url = f"https://storage.googleapis.com/kaggle-datasets-images/{dataset.id}"
    row.total_bytes = dataset.total_bytes
    row.last_updated = wire_time(dataset.last_updated)
    row.download_count = dataset.downloads
    row.vote_count = dataset.votes
    row.view_count = dataset.views
    row.kernel_count = dataset.notebooks
    row.topic_count = dataset.topics
    row.usability_rating = dataset.usability
    row.license_name = dataset.licence.listed
    row.current_version_number = dataset.version
    row.tags = [_category(tag) for tag in dataset.tags]
    return row


def _category(tag: Tag) -> ApiCategory:
    category = ApiCategory()
    category.ref = tag.slug
    category.name = tag.name
    category.description = tag.description
    category.full_path = tag.full_path
    category.competition_count = tag.id % 7
    category.dataset_count = tag.id % 1000
    category.script_count = tag.id % 5000
    category.total_count = tag.id % 7 + tag.id % 1000 + tag.id % 5000
    return category


def _readable(site: Site, owner: str, slug: str, version: int | None = None) -> DatasetTruth:
    dataset = site.world.get(owner, slug)
    if dataset is None or dataset.state == "deleted" or (version or 1) > dataset.version:
        raise Refusal(404, f"Not found: dataset {owner}/{slug}")
    if dataset.state == "forbidden":
        raise Refusal(403, "Permission 'datasets.get' was denied")
    return dataset.at(version or dataset.version)


def _get_dataset(site: Site, request: ApiGetDatasetRequest) -> Reply:
    return encode(_row(_readable(site, request.owner_slug, request.dataset_slug)))


def _get_metadata(site: Site, request: ApiGetDatasetMetadataRequest) -> Reply:
    dataset = _readable(site, request.owner_slug, request.dataset_slug)
    info = DatasetInfo()
    info.dataset_id = dataset.id
    info.dataset_slug = dataset.slug
    info.owner_user = dataset.owner
    info.usability_rating = dataset.usability
    info.total_views = dataset.views
    info.total_votes = dataset.votes
    info.total_downloads = dataset.downloads
    info.title = dataset.title
    info.subtitle = dataset.subtitle
    info.description = dataset.description
    info.keywords = [tag.name for tag in dataset.tags]
    info.licenses = [_named(SettingsLicense(), dataset.licence.name)]
    info.collaborators = [_collaborator(*each) for each in dataset.collaborators]
    info.data = [_settings_file(file) for file in dataset.files[: site.behaviour.metadata_files]]
    info.expected_update_frequency = "never"
    reply = ApiGetDatasetMetadataResponse()
    reply.info = info
    return encode(reply)


def _named(thing: Any, name: str) -> Any:
    thing.name = name
    return thing


def _collaborator(user: str, role: str) -> DatasetCollaborator:
    collaborator = DatasetCollaborator()
    collaborator.username = user
    collaborator.role = CollaboratorType[role]
    return collaborator


def _settings_file(file: FileTruth) -> DatasetSettingsFile:
    described: DatasetSettingsFile = _named(DatasetSettingsFile(), file.name)
    described.total_bytes = file.size
    if file.name.endswith(".csv"):
        names = ("id", "name", "value", "comment")
        described.columns = [_named(DatasetSettingsFileColumn(), name) for name in names]
    return described


def _list_files(site: Site, request: ApiListDatasetFilesRequest) -> Reply:
    dataset = _readable(
        site, request.owner_slug, request.dataset_slug, request.dataset_version_number
    )
    reply = ApiListDatasetFilesResponse()
    files, token = _token_page(
        site, list(dataset.files), dataset.ref, request.page_token, request.page_size
    )
    reply.next_page_token = token
    reply.dataset_files = [_listed_file(dataset, file) for file in files]
    return encode(reply)


def _listed_file(dataset: DatasetTruth, file: FileTruth) -> ApiDatasetFile:
    listed: ApiDatasetFile = _named(ApiDatasetFile(), file.name)
    listed.total_bytes = file.size
    listed.creation_date = wire_time(dataset.last_updated)
    return listed


def _download(
    site: Site, request: ApiDownloadDatasetRequest | ApiDownloadDatasetRawRequest
) -> Reply:
    """302 to a signed URL: the archive, or with `fileName` the file as it is."""
    dataset = _readable(
        site, request.owner_slug, request.dataset_slug, request.dataset_version_number
    )
    if dataset.state == "gated":
        raise Refusal(403, f"You must accept the rules of dataset {dataset.ref} to download it")
    name = request.file_name
    if name and dataset.file(name) is None:
        raise Refusal(404, f"Not found: file {name} of dataset {dataset.ref}")
    location = site.signer.sign(dataset, name or None)
    return Reply(302, b"", "text/html; charset=utf-8", {"Location": location})


def _ref_key(request: Any) -> str:
    return f"{request.owner_slug}/{request.dataset_slug}"


def _file_key(request: Any) -> str:
    return "/".join(filter(None, (_ref_key(request), request.file_name)))


METHODS = (
    Method(
        SERVICE, "ListDatasets", ApiListDatasetsRequest, _list_datasets, _list_key, anonymous=True
    ),
    Method(SERVICE, "GetDataset", ApiGetDatasetRequest, _get_dataset, _ref_key),
    Method(SERVICE, "GetDatasetMetadata", ApiGetDatasetMetadataRequest, _get_metadata, _ref_key),
    Method(SERVICE, "ListDatasetFiles", ApiListDatasetFilesRequest, _list_files, _ref_key),
    *(
        Method(
            SERVICE,
            name,
            request_class,
            _download,
            _file_key,
            family="download",
            anonymous=True,
            stable=False,  # its URL carries the time
        )
        for name, request_class in (
            ("DownloadDataset", ApiDownloadDatasetRequest),
            ("DownloadDatasetRaw", ApiDownloadDatasetRawRequest),
        )
    ),
)
