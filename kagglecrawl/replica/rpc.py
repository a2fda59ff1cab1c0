"""What a method of the replica is. One resource is one module with a tuple of these."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kagglesdk.kaggle_object import KaggleObject

from kagglecrawl.replica.listing import Listings
from kagglecrawl.replica.storage import Signer, Storage
from kagglecrawl.replica.wire import Reply
from kagglecrawl.replica.world import World

Family = Literal["api", "download", "episodes", "replay"]
Place = Literal["web", "cdn", "api"]


@dataclass(frozen=True)
class Behaviour:
    """What real Kaggle does is unknown here, so it is a switch (kaggle-facts 0.3, 9.1, 9.4)."""

    paging: Literal["page", "token"] = "page"
    """`page`: lists have 20 rows whatever `pageSize` says, and no token. `token`: a request
    without `page` gets `pageSize` rows and a `nextPageToken` until the end."""
    max_page_size: int = 200
    """The most rows in one reply where `pageSize` counts."""
    metadata_files: int | None = None
    """How many files GetDatasetMetadata names; None is all of them."""
    leaderboard: Literal["zip", "redirect"] = "zip"
    """Whether DownloadLeaderboard answers with the zip itself, or with 302 to storage."""
    episodes: Literal["2026", "2020"] = "2026"
    """Which generation of the site's EpisodeService answers (see `episode_service`)."""
    replays: tuple[Place, ...] = ("web", "cdn", "api")
    """Which places serve replays: the site, its content network, the official API (GetEpisodeReplay
    and its REST twin). All others answer 404."""
    episode_files: Literal["file", "redirect"] = "file"
    """Whether GetEpisodeReplay and GetEpisodeAgentLogs answer with the file itself, or with 302 to
    storage."""
    zipped_files: bool = False
    """Whether a single file of a dataset is stored as `NAME.zip` (reported, kaggle-facts 5)."""


@dataclass(frozen=True)
class Site:
    """What a handler answers from."""

    world: World
    listings: Listings
    behaviour: Behaviour
    signer: Signer
    storage: Storage
    shift: Callable[[int], int]
    """By how many positions a page-mode list has moved down at a page (see Faults.shift)."""


@dataclass(frozen=True)
class Method:
    """A remote procedure: `POST …/v1/{service}/{name}`.

    `key` names what a request asks for (`owner/slug`, `page=3`) in statistics and fault scripts.
    `handle` may raise Refusal. `stable` answers depend on nothing but the request, and are kept.
    """

    service: str
    name: str
    request: type[KaggleObject]
    handle: Callable[[Site, Any], Reply]
    key: Callable[[Any], str]
    family: Family = "api"
    anonymous: bool = False
    without_credentials: Literal[401, 403] = 403
    """What it answers to nobody, if it is not `anonymous` (reported, kaggle-facts 1.2)."""
    stable: bool = True
