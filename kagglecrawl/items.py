"""What an item is: one dataclass per resource, with its key, its version and its export names.

Fields are snake_case; ``export`` in a field's metadata is the name that the seeds' format gives
it in feeds (``feed_fields``). itemadapter derives the JSON Schemas in ``docs/schemas`` from these
classes: ``make schemas`` writes them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from itemadapter import ItemAdapter

from kagglecrawl import item_parts
from kagglecrawl.item_parts import (
    Board,
    Download,
    File,
    License,
    Log,
    Replay,
    download_of,
    no_download,
    no_log,
)
from kagglecrawl.kaggle import lenient
from kagglecrawl.kaggle.episodes import EPISODE_STATES, EPISODE_TYPES, Agent, EpisodeRow
from kagglecrawl.kaggle.leaderboards import Entry

__all__ = [
    "ITEMS",
    "SITE",
    "Agent",
    "Board",
    "Competition",
    "Dataset",
    "Download",
    "Episode",
    "File",
    "License",
    "Log",
    "Replay",
    "download_of",
    "feed_fields",
    "files_of",
    "no_download",
    "no_log",
    "page_row",
    "record_of",
    "schema",
    "signature",
    "write_schemas",
]

#: What relative addresses on Kaggle's pages are relative to.
SITE = "https://www.kaggle.com/"
#: What a field holds where nothing is said.
_NOTHING: tuple[Any, ...] = (None, "", [], {})


def _field(export: str, description: str, **schema: Any) -> Any:
    """``export`` is the field's name in feeds and page files; one without is in neither."""
    markdown = schema.pop("markdown", False)
    page = schema.pop("page", True) and bool(export)
    default = {"default": schema.pop("default")} if "default" in schema else {}
    return dataclasses.field(
        **default,
        metadata={
            "export": export,
            "markdown": markdown,
            "page": page,
            "json_schema_extra": {"description": description, **schema},
        },
    )


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of such a value, or of null."""
    return {**schema, "type": [schema["type"], "null"]}


@dataclasses.dataclass
class Dataset:
    """A dataset of Kaggle's: what its list row and its metadata say."""

    ref: str = _field("Ref", "Identity: owner/slug.")
    title: str = _field("Title", "Title for people.")
    last_updated: str = _field(
        "lastUpdated", "Time of the current version, ISO 8601 in UTC.", format="date-time"
    )
    dataset_size: int = _field(
        "DatasetSize", "Size in bytes, as Kaggle's list gives it.", minimum=0
    )
    usability_rating: float | None = _field(
        "usabilityRating", "Kaggle's usability rating.", minimum=0, maximum=1
    )
    file_explorer: list[File] = _field(
        "File Explorer", "Every file's name and size.", items=item_parts.FILE
    )
    licenses: list[License] = _field(
        "Licenses", "Licences, by Kaggle's names.", items=item_parts.LICENSE
    )
    tags: list[str] = _field("Tags", "Tags (Kaggle's keywords).")
    content: str = _field("Content", "Description, as Markdown.", markdown=True)
    version: int | None = _field("Version", "Number of the current version.", minimum=1, page=False)
    download: Download | None = _field(
        "Download",
        "What has come of its files; null where they were not asked for.",
        page=False,
        default=None,
        **item_parts.DOWNLOAD,
    )

    @property
    def key(self) -> str:
        """What the resource is counted by."""
        return self.ref

    @classmethod
    def from_api(
        cls, ref: str, row: Mapping[str, Any], metadata: Mapping[str, Any], files: list[File]
    ) -> Self:
        """From a row of ListDatasets (or GetDataset's reply) and GetDatasetMetadata's ``info``.

        The three shapes of ``dataset-metadata.json`` are read as well (real-data-quirks 13).
        """
        rating = lenient.rating(row, "usabilityRating")
        if rating is None:
            rating = lenient.number(metadata, "usabilityRating")
        return cls(
            ref=ref,
            title=lenient.text(row, "title") or lenient.text(metadata, "title"),
            last_updated=lenient.timestamp(row, "lastUpdated"),
            dataset_size=max(0, lenient.integer(row, "totalBytes")),
            usability_rating=rating,
            file_explorer=files,
            licenses=_licenses(row, metadata),
            tags=_tags(row, metadata),
            content=lenient.text(metadata, "description"),
            version=max(0, lenient.integer(row, "currentVersionNumber")) or None,
        )


def files_of(rows: list[dict[str, Any]]) -> list[File]:
    """Files from the ``data`` of GetDatasetMetadata or the rows of ListDatasetFiles."""
    named = ((lenient.text(row, "name"), lenient.integer(row, "totalBytes")) for row in rows)
    return [File(name=name, size=max(0, size)) for name, size in named if name]


def _licenses(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[License]:
    names = [lenient.text(each, "name") for each in lenient.rows(metadata, "licenses")]
    return [License(name=name) for name in names or [lenient.text(row, "licenseName")] if name]


def _tags(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[str]:
    if keywords := lenient.texts(metadata, "keywords"):
        return keywords
    return [name for each in lenient.rows(row, "tags") if (name := lenient.text(each, "name"))]


@dataclasses.dataclass
class Competition:
    """A competition of Kaggle's: its row of Meta Kaggle, or its pages, and its leaderboard."""

    competition_id: int = _field("CompetitionID", "Kaggle's number of it.", minimum=1)
    title: str = _field("Title", "Title for people.")
    sub_title: str = _field("SubTitle", "Subtitle for people.")
    slug: str = _field("Slug", "Identity: its name in addresses.")
    has_leaderboard: bool | None = _field(
        "HasLeaderboard", "What Meta Kaggle says; by the API: is there one? null: not known."
    )
    dataset_description: str = _field(
        "DatasetDescription", "Description of its data, as Markdown.", markdown=SITE
    )
    description: str = _field("Description", "Its page of that name, as Markdown.", markdown=SITE)
    evaluation: str = _field("Evaluation", "Its page of that name, as Markdown.", markdown=SITE)
    leaderboard_top100: list[Entry] = _field(
        "LeaderboardTop100",
        "The first hundred teams of the leaderboard, by rank.",
        items=item_parts.ENTRY,
    )
    board: Board | None = _field("", "What has come of the leaderboard.", default=None)

    @property
    def key(self) -> str:
        """What the resource is counted by."""
        return self.slug


@dataclasses.dataclass
class Episode:
    """A game of a simulation competition: what the lists say of it, its replay and its logs."""

    competition: str = _field("Competition", "The competition's name in addresses.")
    competition_id: int | None = _field("CompetitionId", "Kaggle's number of it.", minimum=1)
    episode_id: int = _field("EpisodeId", "Identity: Kaggle's number of the game.", minimum=1)
    type: str = _field("Type", "What it is for; empty: not known.", enum=["", *EPISODE_TYPES])
    state: str = _field("State", "What became of it; empty: not known.", enum=["", *EPISODE_STATES])
    create_time: str = _field("CreateTime", "When it was made: ISO 8601 in UTC; empty: not known.")
    end_time: str = _field("EndTime", "When it ended, likewise; empty: it has not.")
    score: float | None = _field(
        "Score", "Mean rating of its agents after it, by which the best come first."
    )
    agents: list[Agent] = _field("Agents", "Who played, by place.", items=item_parts.AGENT)
    replay: Replay | None = _field(
        "Replay",
        "What has come of its replay; null where it was not asked for.",
        default=None,
        **_or_null(item_parts.REPLAY),
    )
    logs: list[Log] | None = _field(
        "Logs",
        "What has come of its agents' logs; null where they were not asked for.",
        default=None,
        **_or_null({"type": "array", "items": item_parts.LOG}),
    )

    @property
    def key(self) -> str:
        """What the resource is counted by."""
        return f"{self.competition}/{self.episode_id}"

    @classmethod
    def of(cls, competition: str, row: EpisodeRow) -> Self:
        """From a row of a listing or of Meta Kaggle's tables, of that competition."""
        return cls(
            competition=competition,
            competition_id=row.competition_id,
            episode_id=row.id,
            type=row.type,
            state=row.state,
            create_time=row.create_time,
            end_time=row.end_time,
            score=row.score,
            agents=row.agents,
        )


#: Every item class, by the name of its resource.
ITEMS: dict[str, type] = {"datasets": Dataset, "competitions": Competition, "episodes": Episode}


def feed_fields(item_class: type) -> dict[str, str]:
    """Scrapy's ``FEED_EXPORT_FIELDS`` for an item class: its fields to the seeds' names."""
    return {
        field.name: field.metadata["export"]
        for field in dataclasses.fields(item_class)
        if field.metadata["export"]
    }


def record_of(item: Any) -> dict[str, Any]:
    """An item as the ledger keeps it: all but what has come of its files, which it keeps apart."""
    # not by ItemAdapter, which copies each of half a million files
    names = [field.name for field in dataclasses.fields(item)]
    return {name: getattr(item, name) for name in names if name != "download"}


def signature(item: Any) -> str:
    """A checksum of an item that was read off a list row: of two rows with the same, neither says
    anything else. A field that a later release adds, and the row does not fill, does not count."""
    said = {name: value for name, value in record_of(item).items() if value not in _NOTHING}
    text = json.dumps(said, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def page_row(item_class: type, item: Any) -> dict[str, Any]:
    """An item, or what a pipeline has made of it, as a row of its page file: the seeds' fields
    exactly, under their names. Raises ``KeyError`` if one is not there."""
    adapter = ItemAdapter(item)
    return {
        field.metadata["export"]: adapter[field.name]
        for field in dataclasses.fields(item_class)
        if field.metadata["page"]
    }


def schema(item_class: type) -> dict[str, Any]:
    """The JSON Schema of an item class's feed rows, under the names that the feed uses."""
    derived = ItemAdapter.get_json_schema(item_class)
    names = feed_fields(item_class)
    derived["properties"] = {names[key]: derived["properties"][key] for key in names}
    derived["required"] = list(derived["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **derived}


def write_schemas(folder: Path) -> None:
    """Write one ``<resource>.schema.json`` per item class into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for resource, item_class in ITEMS.items():
        content = json.dumps(schema(item_class), indent=2, ensure_ascii=False) + "\n"
        (folder / f"{resource}.schema.json").write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
