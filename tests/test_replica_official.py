"""The unmodified kaggle CLI and kagglehub find in the replica what is true of its world."""

import csv
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World, published
from tests.official import kaggle_cli, official_json


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    with Replica(World(seed=1)) as replica:
        yield replica


@pytest.fixture(scope="module")
def dataset(replica: Replica) -> DatasetTruth:
    return next(d for d in replica.world.public(0.8) if len(d.files) >= 5 and d.description)


def _same_files(folder: Path, dataset: DatasetTruth) -> None:
    for file in dataset.files:
        assert (folder / file.name).read_bytes() == file.content()


def test_the_cli_lists(replica: Replica) -> None:
    args = ("datasets", "list", "--csv", "--sort-by", "votes", "--page", "2")
    rows = list(csv.DictReader(kaggle_cli(replica, *args).stdout.splitlines()))
    expected = sorted(replica.world.datasets, key=lambda d: (d.votes, d.id), reverse=True)[20:40]
    assert [row["ref"] for row in rows] == [d.ref for d in expected]
    assert [row["title"] for row in rows] == [d.title for d in expected]
    assert [int(row["size"]) for row in rows] == [d.total_bytes for d in expected]
    assert [float(row["usabilityRating"] or 0) for row in rows] == [d.usability for d in expected]
    key = "page=2&sortBy=DATASET_SORT_BY_VOTES"
    assert replica.stats()["delivered_by_key"]["ListDatasets"] == {key: 1}


def test_the_cli_lists_files(replica: Replica, dataset: DatasetTruth) -> None:
    output = kaggle_cli(replica, "datasets", "files", dataset.ref, "--csv").stdout
    rows = csv.DictReader(output.splitlines())
    assert [(row["name"], int(row["size"])) for row in rows] == [
        (file.name, file.size) for file in dataset.files
    ]


def test_the_cli_describes(replica: Replica, dataset: DatasetTruth, tmp_path: Path) -> None:
    kaggle_cli(replica, "datasets", "metadata", dataset.ref, "-p", str(tmp_path))
    text = (tmp_path / "dataset-metadata.json").read_text(encoding="utf-8")
    info = json.loads(text)["info"]
    assert (info["title"], info["description"]) == (dataset.title, dataset.description)
    assert info["licenses"] == [{"name": dataset.licence.name}]
    assert info["keywords"] == [tag.name for tag in dataset.tags]


def test_the_cli_downloads(replica: Replica, dataset: DatasetTruth, tmp_path: Path) -> None:
    kaggle_cli(replica, "datasets", "download", dataset.ref, "--unzip", "-p", str(tmp_path))
    _same_files(tmp_path, dataset)
    assert replica.stats()["leaked_authorization"] == 0


def _by_kagglehub(replica: Replica, ref: str, folder: Path) -> object:
    code = (
        "import json, kagglehub\n"
        f"path = kagglehub.dataset_download({ref!r}, output_dir={str(folder)!r})\n"
        "print(json.dumps(path))"
    )
    return official_json(replica, code)


def test_kagglehub_downloads(replica: Replica, dataset: DatasetTruth, tmp_path: Path) -> None:
    assert _by_kagglehub(replica, dataset.ref, tmp_path) == str(tmp_path)
    _same_files(tmp_path, dataset)
    assert replica.stats()["leaked_authorization"] == 0


GIVEN = {"a.csv": b"x\n1\n", "sub dir/ñ.txt": b"hello\n" * 1_000, "empty.txt": b""}


def _given(name: str, target: Path) -> Path:
    """A zip or tar.gz of GIVEN on disk."""
    if name.endswith(".zip"):
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in GIVEN.items():
                archive.writestr(path, data)
        return target
    with tarfile.open(target, "w:gz") as archive_of_tape:
        for path, data in GIVEN.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive_of_tape.addfile(member, io.BytesIO(data))
    return target


def _tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the markers that kagglehub leaves there."""
    files = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
    return {name: f.read_bytes() for name, f in files.items() if not name.startswith(".")}


@pytest.mark.parametrize(
    ("client", "name"),
    [("cli", "archive.zip"), ("kagglehub", "archive.zip"), ("kagglehub", "archive.tar.gz")],
)
def test_given_archives_are_downloaded(client: str, name: str, tmp_path: Path) -> None:
    path = _given(name, tmp_path / "made")
    dataset = published("me/set", path, GIVEN, name=name)
    target = tmp_path / "target"
    with Replica(World(scale=None, extra=(dataset,))) as replica:
        if client == "cli":
            kaggle_cli(replica, "datasets", "download", "me/set", "--unzip", "-p", str(target))
        else:
            _by_kagglehub(replica, "me/set", target)
        stats = replica.stats()
    assert _tree(target) == GIVEN
    assert stats["requests_by_key"]["DownloadDataset"] == {"me/set": 1}
    assert stats["storage_bytes"] == {dataset.archive_key: path.stat().st_size}
    assert stats["storage_ranges"] == {dataset.archive_key: [""]}
    assert stats["leaked_authorization"] == 0


def test_kagglesdk_reads_every_kind_of_answer(replica: Replica) -> None:
    by_state = {d.state: d for d in replica.world.datasets}
    refs = [by_state[state].ref for state in ("public", "deleted", "forbidden")]
    code = f"""
import json, requests
from kagglesdk import KaggleClient
from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetMetadataRequest
found = []
for ref in {refs!r}:
    request = ApiGetDatasetMetadataRequest()
    request.owner_slug, request.dataset_slug = ref.split("/")
    with KaggleClient() as client:
        try:
            reply = client.datasets.dataset_api_client.get_dataset_metadata(request)
            found.append(reply.info.dataset_id)
        except requests.HTTPError as error:
            found.append(error.response.status_code)
print(json.dumps(found))
"""
    assert official_json(replica, code) == [by_state["public"].id, 404, 403]


def test_a_failing_client_is_an_error(replica: Replica) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        official_json(replica, "raise SystemExit(3)")
