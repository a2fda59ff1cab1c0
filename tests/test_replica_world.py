"""The world: the same for everyone, and varied enough."""

import csv
import hashlib
import io
import json
import re
import zipfile

import markdownify
import pytest

from kagglecrawl.replica.dice import Dice
from kagglecrawl.replica.made import TAGS, slugify
from kagglecrawl.replica.scales import SCALES
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.storage import Storage
from kagglecrawl.replica.world import World
from tests.replica_client import call, named

GOLDEN_REPLIES = "8f081580abf627dd8ec9b6bf7f7aac63eaf95a90df10767ba63e2aa0050ee626"
GOLDEN_FILES = "443d0c44454ad38b207f27ce3d8d96b9e6d96278aa699b3adaa93b37a17689a9"


def test_replies_of_the_small_world_are_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    with Replica(World(seed=1)) as replica:
        for page in range(1, 14):
            digest.update(call(replica, "ListDatasets", {"page": page}).body)
        for dataset in replica.world.datasets:
            for method in ("GetDatasetMetadata", "ListDatasetFiles"):
                digest.update(call(replica, method, named(dataset.ref)).body)
    assert digest.hexdigest() == GOLDEN_REPLIES


def test_files_of_the_small_world_are_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    storage = Storage()
    for dataset in World(seed=1).datasets[:40]:
        blob = storage.blob(dataset, None)
        assert isinstance(blob.source, bytes)
        digest.update(blob.source)
    assert digest.hexdigest() == GOLDEN_FILES


def test_another_seed_is_another_world() -> None:
    one, two = World(seed=1), World(seed=2)
    assert {d.ref for d in one.datasets}.isdisjoint({d.ref for d in two.datasets})
    assert one.datasets[0].files[0].content() != two.datasets[0].files[0].content()


@pytest.mark.parametrize("scale", SCALES)
def test_a_world_has_of_everything(scale: str) -> None:
    world = World(seed=1, scale=scale)  # type: ignore[arg-type]
    datasets = world.datasets
    assert len(datasets) == SCALES[scale]  # type: ignore[index]
    assert len({d.ref for d in datasets}) == len({d.id for d in datasets}) == len(datasets)
    usable = sum(d.usability >= 0.8 for d in datasets) / len(datasets)
    assert 0.55 <= usable <= 0.65
    assert {0.0, 0.79, 0.7999, 0.8} <= {d.usability for d in datasets}
    assert {(d.state, d.usability >= 0.8) for d in datasets} == {
        (state, usable) for state in ("public", "deleted", "forbidden") for usable in (True, False)
    }
    gone = sum(d.state != "public" for d in datasets) / len(datasets)
    assert 0.04 <= gone <= 0.08
    counts = [len(d.files) for d in datasets]
    assert min(counts) == 1
    assert (max(counts) > 200) == (scale != "small")
    assert all(slugify(d.slug) == d.slug for d in datasets)


def test_files_are_what_their_names_say() -> None:
    world = World(seed=1)
    files = [file for dataset in world.datasets for file in dataset.files]
    assert all(len(file.content()) == file.size for file in files)
    by_suffix = {file.name.rpartition(".")[2]: file for file in files}
    rows = list(csv.reader(io.StringIO(by_suffix["csv"].content().decode())))
    assert {len(row) for row in rows} == {4}
    assert isinstance(json.loads(by_suffix["json"].content()), list)
    names = {file.name for file in files}
    assert any("/" in name for name in names)
    assert any(" " in name for name in names)
    assert any(not name.isascii() for name in names)
    assert any(file.size == 0 for file in files)
    assert any(file.size > 200_000 for file in files)
    for dataset in world.datasets:
        folded = {file.name.casefold() for file in dataset.files}
        assert len(folded) == len(dataset.files)


def test_an_archive_holds_the_files() -> None:
    dataset = World(seed=1).datasets[0]
    blob = Storage().blob(dataset, None)
    assert isinstance(blob.source, bytes)
    with zipfile.ZipFile(io.BytesIO(blob.source)) as archive:
        assert archive.namelist() == [file.name for file in dataset.files]
        assert all(archive.read(file.name) == file.content() for file in dataset.files)


def test_html_descriptions_mean_their_markdown() -> None:
    """An independent converter makes the same of them, but for the blank lines between blocks."""
    found = [d for d in World(seed=1).datasets if d.description.startswith("<")]
    assert len(found) > 15
    for dataset in found:
        converted = markdownify.markdownify(
            dataset.description, heading_style="ATX", escape_underscores=False
        )
        assert re.sub(r"\n{2,}", "\n\n", converted).strip() == dataset.content_markdown


def test_markdown_descriptions_stay_as_they_are() -> None:
    found = [d for d in World(seed=1).datasets if not d.description.startswith("<")]
    assert all(d.description == d.content_markdown for d in found)
    text = "\n".join(d.description for d in found)
    for piece in ("```python", "<b>not HTML</b>", "|---|", "&gt; ", "\n## ", "1. ", "\n- ", "\\$"):
        assert piece in text
    assert any(d.description == "" for d in found)
    assert any(len(d.description) > 5_000 for d in found)


def test_tags_have_ids_of_their_own() -> None:
    assert len({tag.id for tag in TAGS}) == len({tag.name for tag in TAGS}) == len(TAGS)


def test_dice_are_fair_enough_and_repeatable() -> None:
    assert [Dice("a", 1).below(6) for _ in range(3)] == [Dice("a", 1).below(6)] * 3
    dice = Dice("fair")
    rolls = [dice.between(1, 6) for _ in range(6_000)]
    assert set(rolls) == {1, 2, 3, 4, 5, 6}
    assert min(rolls.count(face) for face in range(1, 7)) > 900
    assert sorted(Dice("b").sample(range(10), 10)) == list(range(10))
