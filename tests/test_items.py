"""Records: the seed's names and order, the schemas that ship, and the shapes they are read from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.items import (
    ITEMS,
    Dataset,
    File,
    License,
    feed_fields,
    files_of,
    schema,
    write_schemas,
)

SCHEMAS = Path(__file__).parent.parent / "docs/schemas"

#: The format of the seed's ``meta_data/page_<n>.jsonl``, in its order; ``Version`` and
#: ``Download`` are ours.
SEED = [
    "Ref",
    "Title",
    "lastUpdated",
    "DatasetSize",
    "usabilityRating",
    "File Explorer",
    "Licenses",
    "Tags",
    "Content",
    "Version",
    "Download",
]
ROW = {
    "ref": "owner/slug",
    "title": "A title",
    "lastUpdated": "2026-01-02T03:04:05.120Z",
    "totalBytes": 1234,
    "usabilityRating": 0.9375,
    "licenseName": "CC0: Public Domain",
    "tags": [{"ref": "a", "name": "animals", "fullPath": "subject > animals"}, {"ref": "b"}],
    "currentVersionNumber": 3,
    "description": None,
    "files": [],
}
INFO: dict[str, Any] = {
    "title": "A title",
    "description": "Some *text*",
    "keywords": ["video games", "simulations"],
    "licenses": [{"name": "CC0-1.0"}],
    "data": [{"name": "a.csv", "totalBytes": 1200}, {"name": "empty.txt"}],
}
FILES = [File(name="a.csv", size=1200), File(name="empty.txt", size=0)]


def dataset(row: dict[str, Any], info: dict[str, Any]) -> Dataset:
    return Dataset.from_api("owner/slug", row, info, FILES)


def test_the_feed_has_the_seeds_names_in_the_seeds_order() -> None:
    assert list(feed_fields(Dataset).values()) == SEED
    assert list(feed_fields(Dataset)) == [field.name for field in dataclasses.fields(Dataset)]


@pytest.mark.parametrize("resource", ITEMS)
def test_the_schema_that_ships_is_of_these_classes(resource: str) -> None:
    """If it is not, run `make schemas`."""
    shipped = json.loads((SCHEMAS / f"{resource}.schema.json").read_text(encoding="utf-8"))
    assert shipped == schema(ITEMS[resource])
    assert list(shipped["properties"]) == list(feed_fields(ITEMS[resource]).values())


def test_no_schema_is_left_over(tmp_path: Path) -> None:
    write_schemas(tmp_path / "new")
    written = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert written == {path.name: path.read_bytes() for path in SCHEMAS.iterdir()}


def test_the_schema_says_what_each_field_is() -> None:
    found = schema(Dataset)
    assert found["required"] == SEED, "every field is in every record"
    for name, each in found["properties"].items():
        assert each.get("description"), name
    assert found["properties"]["DatasetSize"]["type"] == "integer"
    assert found["properties"]["lastUpdated"]["format"] == "date-time"


def test_a_record_of_a_list_row_and_its_metadata() -> None:
    assert dataset(ROW, INFO) == Dataset(
        ref="owner/slug",
        title="A title",
        last_updated="2026-01-02T03:04:05.12Z",
        dataset_size=1234,
        usability_rating=0.9375,
        file_explorer=FILES,
        licenses=[License(name="CC0-1.0")],
        tags=["video games", "simulations"],
        content="Some *text*",
        version=3,
    )
    assert dataset(ROW, INFO).key == "owner/slug"


def test_the_row_serves_where_the_metadata_is_silent() -> None:
    found = dataset(ROW, {})
    assert found.licenses == [License(name="CC0: Public Domain")]
    assert found.tags == ["animals"], "a tag without a name is none"
    assert found.content == ""


def test_nothing_known_is_still_a_record() -> None:
    assert dataset({}, {}) == Dataset(
        ref="owner/slug",
        title="",
        last_updated="",
        dataset_size=0,
        usability_rating=0.0,
        file_explorer=FILES,
        licenses=[],
        tags=[],
        content="",
        version=None,
    )


# The shapes of dataset-metadata.json (real-data-quirks 13).
FLAT = {
    "title": "A title",
    "id": "owner/slug",
    "licenses": [{"name": "CC0-1.0"}],
    "keywords": ["cats", "dogs"],
    "description": "Text &gt; all",
}
TWINS = {
    "id": "owner/slug",
    "titleNullable": "A title",
    "hasTitle": True,
    "descriptionNullable": "Text &gt; all",
    "usabilityRatingNullable": 0.875,
    "licenses": [{"nameNullable": "CC0-1.0", "hasName": True}],
    "keywords": ["cats", "dogs"],
    "collaborators": [],
    "data": [],
}
UPLOAD = {
    **FLAT,
    "subtitle": "For the upload",
    "resources": [{"path": "a.csv", "description": "the file"}],
    "version": "1.1.0",
}


@pytest.mark.parametrize("info", [FLAT, TWINS, UPLOAD], ids=["flat", "twins", "upload"])
def test_the_three_shapes_of_metadata(info: dict[str, Any]) -> None:
    found = dataset({}, info)
    assert found.title == "A title"
    assert found.licenses == [License(name="CC0-1.0")]
    assert found.tags == ["cats", "dogs"]
    assert found.content == "Text &gt; all", "entities are the Markdown pipeline's"


@pytest.mark.parametrize(
    ("row", "info", "rating"),
    [
        ({"usabilityRating": 0.5}, {"usabilityRating": 0.9}, 0.5),
        ({"usabilityRating": None}, {"usabilityRating": 0.9}, 0.9),
        ({"usabilityRating": None}, TWINS, 0.875),
        ({"usabilityRatingNullable": 0.75}, {}, 0.75),
        ({"usabilityRating": None}, {}, None),  # unknown is not poor
        ({}, {}, 0.0),
    ],
)
def test_where_the_rating_comes_from(
    row: dict[str, Any], info: dict[str, Any], rating: float | None
) -> None:
    assert dataset(row, info).usability_rating == rating


@pytest.mark.parametrize("licenses", [None, [], [None], [{}], [{"name": ""}], "CC0-1.0"])
def test_licences_without_a_name_are_none(licenses: Any) -> None:
    assert dataset({}, {"licenses": licenses}).licenses == []


def test_files_of_either_reply() -> None:
    rows = [*INFO["data"], {"name": "big", "totalBytes": str(2**60 + 1)}, {"totalBytes": 5}]
    assert files_of(rows) == [*FILES, File(name="big", size=2**60 + 1)]
    assert files_of([{"name": "a", "totalBytes": -1}, {"nameNullable": "b"}]) == [
        File(name="a", size=0),
        File(name="b", size=0),
    ]


def test_a_size_is_never_below_the_schemas_minimum() -> None:
    found = dataset({"totalBytes": -1, "currentVersionNumber": -1}, {})
    assert found.dataset_size >= 0
    assert found.version is None
