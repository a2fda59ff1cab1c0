"""Folders published as datasets."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.replica.folder import METADATA, publish
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.replica_client import call, fetch, named, refs

FLAT = {
    "id": "ada/flat-set",
    "id_no": 7,
    "title": "Flat Set",
    "subtitle": "One of 1.5",
    "description": "## About\n\n&gt; quoted",
    "usabilityRating": 0.8235294117647058,
    "keywords": ["football", "europe"],
    "licenses": [{"name": "CC0-1.0"}],
}
TWINS = {
    "id": "ada/twin-set",
    "titleNullable": "Twin Set",
    "subtitleNullable": "One of 1.6",
    "descriptionNullable": "Text",
    "usabilityRatingNullable": 0.75,
    "hasTitle": True,
    "keywords": ["video games"],
    "licenses": [{"nameNullable": "copyright-authors", "hasName": True}],
}
UPLOAD = {
    "id": "ada/upload-set",
    "title": "Upload Set",
    "licenses": [{"name": "GPL-2.0"}],
    "resources": [{"path": "a.csv", "description": "All of it"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "My Set"
    (root / "sub dir").mkdir(parents=True)
    (root / "a.csv").write_text("x\n1\n")
    (root / "sub dir" / "ñ.txt").write_text("hello\n" * 1000)
    (root / ".hidden").write_text("no")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("no")
    os.utime(root / "a.csv", (1_600_000_000, 1_600_000_000))
    os.utime(root / "sub dir" / "ñ.txt", (1_700_000_000, 1_700_000_000))
    return root


def _described(folder: Path, info: object) -> Any:
    (folder / METADATA).write_text(json.dumps(info))
    (dataset,) = publish([str(folder)])
    return dataset


def test_a_bare_folder(folder: Path) -> None:
    (dataset,) = publish([str(folder)])
    assert (dataset.ref, dataset.title) == ("replica/my-set", "My Set")
    assert (dataset.usability, dataset.version, dataset.licence.name) == (1.0, 1, "unknown")
    assert [file.name for file in dataset.files] == ["a.csv", "sub dir/ñ.txt"]
    assert dataset.files[0].content() == b"x\n1\n"
    assert dataset.last_updated.timestamp() == 1_700_000_000
    assert publish([f"{folder}=some/other-1"])[0].ref == "some/other-1"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("info", "title", "usability", "licence", "listed"),
    [
        (FLAT, "Flat Set", 0.8235294117647058, "CC0-1.0", "CC0: Public Domain"),
        (TWINS, "Twin Set", 0.75, "copyright-authors", "Data files © Original Authors"),
        (UPLOAD, "Upload Set", 1.0, "GPL-2.0", "GPL 2"),
    ],
)
def test_the_shapes_of_metadata(
    folder: Path,
    info: dict[str, Any],
    title: str,
    usability: float,
    licence: str,
    listed: str,
    wrapped: bool,
) -> None:
    dataset = _described(folder, {"info": info} if wrapped else info)
    assert (dataset.ref, dataset.title) == (info["id"], title)
    assert dataset.usability == usability
    assert (dataset.licence.name, dataset.licence.listed) == (licence, listed)
    assert dataset.subtitle == info.get("subtitle", info.get("subtitleNullable", ""))
    assert dataset.description == info.get("description", info.get("descriptionNullable", ""))
    assert dataset.content_markdown == dataset.description
    assert [tag.name for tag in dataset.tags] == info.get("keywords", [])
    assert METADATA not in [file.name for file in dataset.files]


def test_metadata_of_the_official_cli_names_no_id(folder: Path) -> None:
    info = {"ownerUser": "ada", "datasetSlug": "by-cli", "title": "By CLI", "usabilityRating": 0.5}
    assert _described(folder, {"info": info}).ref == "ada/by-cli"


def test_links_that_lead_outside_are_not_published(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("secret")
    (folder / "out.txt").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path / "elsewhere")
    (folder / "in.csv").symlink_to(folder / "a.csv")
    (folder / "dangling").symlink_to(folder / "gone")
    (dataset,) = publish([str(folder)])
    assert [file.name for file in dataset.files] == ["a.csv", "in.csv", "sub dir/ñ.txt"]


def test_a_published_folder_is_listed_described_and_downloaded(folder: Path) -> None:
    dataset = _described(folder, FLAT)
    with Replica(World(scale=None, extra=(dataset,))) as replica:
        assert refs(call(replica, "ListDatasets")) == ["ada/flat-set"]
        info = call(replica, "GetDatasetMetadata", named(dataset.ref)).json["info"]
        assert info["description"] == FLAT["description"]
        assert info["keywords"] == FLAT["keywords"]
        url = call(replica, "DownloadDataset", named(dataset.ref)).headers["Location"]
        archive = fetch(url)
        assert fetch(url, headers={"Range": "bytes=10-"}).body == archive.body[10:]
        with zipfile.ZipFile(io.BytesIO(archive.body)) as opened:
            assert opened.namelist() == ["a.csv", "sub dir/ñ.txt"]
            assert opened.read("sub dir/ñ.txt") == b"hello\n" * 1000
            assert opened.infolist()[1].compress_type == zipfile.ZIP_DEFLATED
        for name in ("a.csv", "sub dir/ñ.txt"):
            body = {**named(dataset.ref), "fileName": name}
            located = call(replica, "DownloadDataset", body).headers["Location"]
            assert fetch(located).body == (folder / name).read_bytes()
        for name in (METADATA, ".hidden", "../secret.txt"):
            body = {**named(dataset.ref), "fileName": name}
            assert call(replica, "DownloadDataset", body).status == 404


def test_what_is_made_on_disk_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder.parent / "made"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    (dataset,) = publish([str(folder)])
    with Replica(World(scale=None, extra=(dataset,))) as replica:
        fetch(call(replica, "DownloadDataset", named(dataset.ref)).headers["Location"])
        assert list(made.rglob("*.zip"))
    assert list(made.iterdir()) == []


def test_mistakes_are_told_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for specs, message in (
        ([str(tmp_path / "none")], "Cannot read the folder"),
        ([str(file)], "Cannot read the folder"),
        (["=a/b"], "Not a folder"),
        ([f"{folder}=ab"], "Not an owner/slug"),
        ([f"{folder}=a/b/c"], "Not an owner/slug"),
        ([f"{folder}=../b"], "Not an owner/slug"),
        ([str(folder), str(folder)], "Two folders"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            publish(specs)
        assert "\n" not in str(caught.value)
    for text in ("{", "[]", "\x00"):
        (folder / METADATA).write_text(text)
        with pytest.raises(ValueError, match=METADATA):
            publish([str(folder)])


@pytest.mark.parametrize("value", [None, "high", [], True])
def test_metadata_of_wrong_types_is_lived_with(folder: Path, value: object) -> None:
    names = ("title", "description", "usabilityRating", "keywords", "licenses")
    dataset = _described(folder, dict.fromkeys(names, value))
    assert dataset.title == (value if value == "high" else "My Set")
    assert dataset.usability == 1.0
    assert dataset.tags == ()
    assert dataset.licence.name == "unknown"


def test_real_metadata(tmp_path: Path) -> None:
    samples = os.environ.get("KAGGLECRAWL_SAMPLES")
    if not samples:
        pytest.skip("KAGGLECRAWL_SAMPLES is not set")
    paths = sorted(Path(samples, "metadata", "datasets").glob("*.json"))
    assert paths
    for path in paths:
        info = json.loads(path.read_text(encoding="utf-8"))
        dataset = _described(tmp_path, info)
        assert dataset.ref == info["id"]
        assert dataset.title == info["title"]
        assert dataset.licence.name == info["licenses"][0]["name"]
        assert dataset.description == info.get("description", "")
        assert dataset.usability == info.get("usabilityRating", 1.0)
        assert [tag.name for tag in dataset.tags] == info.get("keywords", [])
