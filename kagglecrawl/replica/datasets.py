"""`datasets.DatasetApiService`: lists, metadata, files and downloads of datasets."""

from typing import Any, TypeVar

from kagglesdk.competitions.types.competition_api_service import ApiCategory as OfCompetitions
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

from kagglecrawl.replica.paging import list_key, list_page, token_page
from kagglecrawl.replica.rpc import Method, Site
from kagglecrawl.replica.truth import DatasetTruth, FileTruth, Tag
from kagglecrawl.replica.wire import Refusal, Reply, encode, wire_time

SERVICE = "datasets.DatasetApiService"


def _list_datasets(site: Site, request: ApiListDatasetsRequest) -> Reply:
    reply = ApiListDatasetsResponse()
    chosen, reply.next_page_token = list_page(site, site.listings.rows(request), request)
    reply.datasets = [_row(dataset) for dataset in chosen]
    return encode(reply)


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
    row.tags = [category(ApiCategory, tag) for tag in dataset.tags]
    return row


C = TypeVar("C", ApiCategory, OfCompetitions)


def category(kind: type[C], tag: Tag) -> C:
    """A tag as rows of lists carry it; kagglesdk has a class of its own for each kind of list."""
    found = kind()
    found.ref = tag.slug
    found.name = tag.name
    found.description = tag.description
    found.full_path = tag.full_path
    found.competition_count = tag.id % 7
    found.dataset_count = tag.id % 1000
    found.script_count = tag.id % 5000
    found.total_count = tag.id % 7 + tag.id % 1000 + tag.id % 5000
    return found


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
    files, token = token_page(
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
    if name and site.behaviour.zipped_files:
        name += ".zip"
    location = site.signer.sign(dataset, name or None)
    return Reply(302, b"", "text/html; charset=utf-8", {"Location": location})


def _ref_key(request: Any) -> str:
    return f"{request.owner_slug}/{request.dataset_slug}"


def _file_key(request: Any) -> str:
    return "/".join(filter(None, (_ref_key(request), request.file_name)))


METHODS = (
    Method(
        SERVICE, "ListDatasets", ApiListDatasetsRequest, _list_datasets, list_key, anonymous=True
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
