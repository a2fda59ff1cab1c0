"""The table of Kaggle's calls: the official ones, and those of the site (web.py).

A new resource is a few rows in this table.
"""

from __future__ import annotations

from kagglecrawl.kaggle.call import LARGEST_FILE as LARGEST_FILE
from kagglecrawl.kaggle.call import REPLAY_SLOT as REPLAY_SLOT
from kagglecrawl.kaggle.call import Rpc as Rpc
from kagglecrawl.kaggle.web import WEB_CALLS

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

# -- Episodes of simulations (kaggle-facts 4); web.py has the calls of the site --------------------

LIST_TEAM_PUBLIC_SUBMISSIONS = Rpc(
    "competitions.CompetitionApiService",
    "ListTeamPublicSubmissions",
    "ApiListTeamPublicSubmissionsRequest",
    "item",
    family="episodes",
    rows="submissions",
    module=_COMPETITIONS,
    part=True,
)
#: All of them at once, without the agents' scores.
LIST_SUBMISSION_EPISODES = Rpc(
    "competitions.CompetitionApiService",
    "ListSubmissionEpisodes",
    "ApiListSubmissionEpisodesRequest",
    "item",
    family="episodes",
    rows="episodes",
    module=_COMPETITIONS,
    part=True,
)
GET_EPISODE_REPLAY = Rpc(
    "competitions.CompetitionApiService",
    "GetEpisodeReplay",
    "ApiGetEpisodeReplayRequest",
    "item",
    family="replay",
    needs=("replay", dict),
    module=_COMPETITIONS,
    part=True,
    replay=True,
)
#: What one agent has printed; an empty one is an answer. It is asked for once its replay is there,
#: and must not be left out for a budget of replays.
GET_EPISODE_AGENT_LOGS = Rpc(
    "competitions.CompetitionApiService",
    "GetEpisodeAgentLogs",
    "ApiGetEpisodeAgentLogsRequest",
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
        LIST_TEAM_PUBLIC_SUBMISSIONS,
        LIST_SUBMISSION_EPISODES,
        GET_EPISODE_REPLAY,
        GET_EPISODE_AGENT_LOGS,
        LIST_KERNELS,
        LIST_MODELS,
        LIST_ENTITIES,
        *WEB_CALLS,
    )
}
