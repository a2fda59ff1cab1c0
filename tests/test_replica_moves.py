"""A replica's world moves on: what changes, comes and goes, and what is served meanwhile."""

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest

from kagglecrawl.replica.folder import publish
from kagglecrawl.replica.listing import listing
from kagglecrawl.replica.moves import Moves
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.storage import Storage
from kagglecrawl.replica.truth import DatasetTruth
from kagglecrawl.replica.world import World, published
from tests.official import official_json
from tests.replica_client import Answer, call, fetch, named, refs, signed

KINDS = [each.name for each in fields(Moves)]
GOLDEN = "ddd81b8f996ee6d8d336e0806146e3748bcb5ced96fc26e84e0a740e39bccd35"


def _state(world: World) -> list[tuple[object, ...]]:
    """All that can be told of a world's datasets, but for what is in their files."""
    return [
        (
            *(getattr(d, name) for name in ("id", "ref", "title", "usability", "state", "version")),
            *(d.last_updated, d.tags, d.files, d.votes, d.downloads, d.views, d.hotness),
            d.description,
        )
        for d in (*world.datasets, *world.removed)
    ]


def _given(count: int) -> World:
    files = {"a.csv": b"x\n1\n", "b/c.txt": b"hello\n" * 100}
    return World(scale=None, extra=tuple(published(f"me/s{n}", files=files) for n in range(count)))


def _zipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def _contents(dataset: DatasetTruth) -> dict[str, bytes]:
    return {file.name: file.content() for file in dataset.files}


@pytest.fixture(scope="module")
def before() -> World:
    return World(seed=1)


@pytest.fixture(scope="module")
def after(before: World) -> World:
    return before.moved_on()


@pytest.fixture(scope="module")
def moves(before: World, after: World) -> Moves:
    return before.difference(after)


# -- the worlds ------------------------------------------------------------------------------------


def test_a_move_is_the_same_everywhere_and_composes(before: World, after: World) -> None:
    twice = _state(after.moved_on())
    assert twice == _state(before.moved_on(2)) == _state(World(seed=1, moved=2))
    assert twice == _state(World(seed=1, moved=1).moved_on())
    assert twice != _state(after) != _state(before)
    assert before.moved_on(0).datasets == before.datasets
    assert before.moved_on(2).moved == 2
    digest = hashlib.sha256(repr([(*s[:6], str(s[6]), s[7:]) for s in twice]).encode())
    assert digest.hexdigest() == GOLDEN


def test_moves_follow_from_the_seed(before: World, moves: Moves) -> None:
    other = World(seed=2, scale=None, extra=before.datasets)
    found = {d.ref for d in other.difference(other.moved_on()).changed}
    assert found != {d.ref for d in moves.changed}


def test_every_kind_happens_as_often_as_said(before: World, moves: Moves) -> None:
    readable = len(before.public())
    shares = {kind: len(getattr(moves, kind)) / readable for kind in KINDS}
    expected = {"new": 3, "changed": 10, "edited": 3, "edited_unseen": 1, "removed": 3}
    assert {kind: round(100 * share) for kind, share in shares.items()} == expected
    for kind in KINDS:
        assert any(d.usability >= 0.8 for d in getattr(moves, kind)), kind
    every = [d.ref for kind in KINDS for d in getattr(moves, kind)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("count", [20, 21, 33])
def test_of_twenty_datasets_each_kind_meets_one(count: int) -> None:
    world = _given(count)
    for _ in range(5):
        later = world.moved_on()
        moves = world.difference(later)
        assert all(getattr(moves, kind) for kind in KINDS)
        assert {*later.datasets} >= {*moves.new, *moves.changed, *moves.edited}
        assert moves.new[0].usability >= 0.8
        world = later


def test_an_empty_world_stays_empty_and_the_same_world_has_no_difference(before: World) -> None:
    empty = World(scale=None)
    assert empty.moved_on(3).datasets == ()
    assert not before.difference(before)
    assert not before.difference(World(seed=1))


def test_a_negative_move_is_refused(before: World) -> None:
    with pytest.raises(ValueError, match="does not move back"):
        before.moved_on(-1)


def test_what_a_kind_of_move_means(before: World, after: World, moves: Moves) -> None:
    for new in moves.changed:
        old = before.get(new.owner, new.slug)
        assert old is not None
        assert (new.id, new.version, new.older and new.older.version) == (
            old.id,
            old.version + 1,
            old.version,
        )
        assert timedelta() < new.last_updated - max(d.last_updated for d in before.datasets)
        assert _contents(new) != _contents(old)
        assert all(len(file.content()) == file.size for file in new.files)
        assert len({file.name.casefold() for file in new.files}) == len(new.files) > 0
    for new in (*moves.edited, *moves.edited_unseen):
        old = before.get(new.owner, new.slug)
        assert old is not None
        assert (new.version, new.last_updated, new.files) == (
            old.version,
            old.last_updated,
            old.files,
        )
        row = (new.title, new.tags, new.usability) == (old.title, old.tags, old.usability)
        assert row == (new in moves.edited_unseen) == (new.description != old.description)
    for new in moves.new:
        assert before.by_id(new.id) is None
        assert (new.version, new.state) == (1, "public")
    for old in moves.removed:
        assert after.get(old.owner, old.slug) is None
        gone = after.by_id(old.id)
        assert gone is not None
        assert (gone.ref, gone.state) == (old.ref, "deleted")


def test_of_changed_datasets_some_look_as_before_and_some_have_more_or_fewer_files() -> None:
    world = World(seed=1, scale="medium")
    moves = world.difference(world.moved_on())
    kinds: set[str] = set()
    for new in moves.changed:
        assert new.older is not None
        names, before = ({f.name for f in d.files} for d in (new, new.older))
        kinds |= {"more"} if names - before else set()
        kinds |= {"fewer"} if before - names else set()
        sizes, before_sizes = ([(f.name, f.size) for f in d.files] for d in (new, new.older))
        kinds |= {"alike"} if sizes == before_sizes else set()
    assert kinds == {"more", "fewer", "alike"}


def test_the_world_around_goes_on(before: World, after: World, moves: Moves) -> None:
    """Counts of votes and downloads grow everywhere, and are no difference."""
    touched = {d.ref for kind in KINDS for d in getattr(moves, kind)}
    same = [(before.get(d.owner, d.slug), d) for d in after.datasets if d.ref not in touched]
    assert all(old and old.votes <= new.votes and old.views <= new.views for old, new in same)
    assert any(old and old.downloads < new.downloads for old, new in same)
    assert any(d.state == "forbidden" for d in after.datasets)


def test_given_archives_and_folders_move_too(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "c.csv", "d.csv"):  # some stay on disk, and so does the archive
        (tmp_path / name).write_bytes(b"a\n1\n")
    extra = [*publish([f"{tmp_path}=me/folder"])]
    extra += [published(f"me/s{n}", b"no archive", name="x.tar.gz") for n in range(19)]
    world = World(scale=None, extra=tuple(extra))
    storage = Storage()
    try:
        for _ in range(30):  # until each has met it
            later = world.moved_on()
            for new in world.difference(later).changed:
                assert new.older is not None
                blobs = [storage.blob(each, None) for each in (new.older, new)]
                assert blobs[0].etag != blobs[1].etag
                source = blobs[1].source
                data = source if isinstance(source, bytes) else source.read_bytes()
                assert _zipped(data) == _contents(new)
            world = later
    finally:
        storage.close()
    folder = world.get("me", "folder") or world.by_id(extra[0].id)
    assert folder is not None
    assert folder.version > 1
    assert folder.at(1).files == extra[0].files
    assert (tmp_path / "a.csv").read_bytes() == b"a\n1\n"


# -- served ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(before: World, after: World) -> Iterator[Replica]:
    with Replica(before) as replica:
        replica.move(after)
        yield replica


def _rows(replica: Replica) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for page in range(1, 100):
        found = call(replica, "ListDatasets", {"page": page}).json.get("datasets", [])
        if not found:
            break
        rows |= {row["ref"]: row for row in found}
    return rows


def test_the_list_is_that_of_the_later_world(shared: Replica, after: World) -> None:
    rows = _rows(shared)
    assert rows.keys() == {d.ref for d in after.datasets}
    for dataset in after.datasets:
        row = rows[dataset.ref]
        assert row["currentVersionNumber"] == dataset.version
        assert row["title"] == dataset.title
        assert row["totalBytes"] == dataset.total_bytes
        assert row.get("usabilityRating", 0.0) == dataset.usability
        assert [tag["name"] for tag in row.get("tags", ())] == [tag.name for tag in dataset.tags]


def test_metadata_files_and_downloads_are_those_of_the_later_world(
    shared: Replica, moves: Moves
) -> None:
    for dataset in (*moves.new, *moves.changed, *moves.edited, *moves.edited_unseen):
        info = call(shared, "GetDatasetMetadata", named(dataset.ref)).json["info"]
        assert (info["title"], info.get("description", "")) == (dataset.title, dataset.description)
        assert [(f["name"], f.get("totalBytes", 0)) for f in info["data"]] == [
            (f.name, f.size) for f in dataset.files
        ]
        listed = call(shared, "ListDatasetFiles", named(dataset.ref)).json["datasetFiles"]
        assert [f["name"] for f in listed] == [f.name for f in dataset.files]
        url = signed(shared, dataset.ref)
        assert f"/{dataset.id}/{dataset.version}/" in url
        assert _zipped(fetch(url).body) == _contents(dataset)


@pytest.mark.parametrize(
    "method",
    ["GetDataset", "GetDatasetMetadata", "ListDatasetFiles", "DownloadDataset"],
)
def test_what_is_removed_is_not_found(shared: Replica, moves: Moves, method: str) -> None:
    assert {call(shared, method, named(d.ref)).status for d in moves.removed} == {404}


def test_older_versions_can_still_be_had(shared: Replica, moves: Moves) -> None:
    dataset = next(d for d in moves.changed if d.older and d.files != d.older.files)
    assert dataset.older is not None
    body = {**named(dataset.ref), "datasetVersionNumber": dataset.older.version}
    old = fetch(call(shared, "DownloadDataset", body).headers["Location"])
    assert _zipped(old.body) == _contents(dataset.older)
    listed = call(shared, "ListDatasetFiles", body).json["datasetFiles"]
    assert [f["totalBytes"] for f in listed] == [f.size for f in dataset.older.files]
    body["datasetVersionNumber"] = dataset.version + 1
    assert call(shared, "DownloadDataset", body).status == 404


def test_kagglehub_finds_the_new_version(shared: Replica, moves: Moves) -> None:
    dataset = moves.changed[0]
    code = f"""
import json, kagglehub, pathlib
path = pathlib.Path(kagglehub.dataset_download({dataset.ref!r}))
files = [file for file in path.rglob("*") if file.is_file()]
found = {{file.relative_to(path).as_posix(): file.read_bytes().hex() for file in files}}
print(json.dumps([path.name, found]))
"""
    expected = {name: data.hex() for name, data in _contents(dataset).items()}
    assert official_json(shared, code) == [str(dataset.version), expected]


# -- while it is served ----------------------------------------------------------------------------


def test_an_address_leads_to_the_same_bytes_for_ever(before: World, after: World) -> None:
    moves = before.difference(after)
    new, gone = moves.changed[0], moves.removed[0]
    with Replica(before) as replica:
        old_url, gone_url = signed(replica, new.ref), signed(replica, gone.ref)
        old, old_gone = fetch(old_url), fetch(gone_url).body
        replica.move(after)
        assert replica.world is after
        new_url = signed(replica, new.ref)
        assert new_url.partition("?")[0] != old_url.partition("?")[0]
        again, fresh = fetch(old_url), fetch(new_url)
        assert (again.body, again.headers["ETag"]) == (old.body, old.headers["ETag"])
        assert fresh.headers["ETag"] != old.headers["ETag"]
        assert fresh.headers["x-goog-hash"] != old.headers["x-goog-hash"]
        resumed = {"Range": "bytes=10-", "If-Range": old.headers["ETag"]}
        part, whole = (fetch(url, headers=resumed) for url in (old_url, new_url))
        assert (part.status, part.body) == (206, old.body[10:])
        assert (whole.status, whole.body) == (200, fresh.body)  # never a part of another version
        assert fetch(gone_url).body == old_gone
        replica.move(before)
        assert signed(replica, new.ref).partition("?")[0] == old_url.partition("?")[0]
        assert fetch(new_url).status == 404


def test_a_token_means_a_position_in_the_list_as_it_is(before: World, after: World) -> None:
    with Replica(before, behaviour=Behaviour(paging="token")) as replica:
        first = call(replica, "ListDatasets", {"pageSize": 100})
        replica.move(after)
        token = {"pageSize": 100, "pageToken": first.json["nextPageToken"]}
        second = call(replica, "ListDatasets", token)
        assert replica.stats()["requests"]["ListDatasets"] == {"200": 2}  # counted on
    request = ApiListDatasetsRequest()
    assert refs(first) == [d.ref for d in listing(before, request)[:100]]
    assert refs(second) == [d.ref for d in listing(after, request)[100:200]]
    assert refs(second) != [d.ref for d in listing(before, request)[100:200]]


def test_a_version_with_other_files_is_refused() -> None:
    one, other = (
        World(scale=None, extra=(published("me/s", files={"a": x}),)) for x in (b"1", b"2")
    )
    with Replica(one) as replica:
        with pytest.raises(ValueError, match="Version 1 of me/s would have other files"):
            replica.move(other)
        assert replica.world is one


def test_requests_during_moves_get_one_world_or_the_other(before: World) -> None:
    worlds = [before]
    for _ in range(25):
        worlds.append(worlds[-1].moved_on())
    chosen = max(worlds[-1].public(), key=lambda d: d.version - d.at(0).version)
    assert chosen.version > chosen.at(0).version + 3
    answers: list[tuple[Answer, Answer]] = []
    failures: list[BaseException] = []
    with Replica(before) as replica:
        ended = threading.Event()

        def ask() -> None:
            try:
                while not ended.is_set():
                    metadata = call(replica, "GetDatasetMetadata", named(chosen.ref))
                    answers.append((metadata, fetch(signed(replica, chosen.ref))))
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        served = []
        for world in worlds:
            replica.move(world)
            served.append(call(replica, "GetDataset", named(chosen.ref)).json)
            enough = len(answers) + len(threads) + 1  # of which one was asked for since
            while len(answers) < enough and not failures:
                time.sleep(0.001)
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures
    truths = [truth for world in worlds if (truth := world.get(chosen.owner, chosen.slug))]
    assert [row["currentVersionNumber"] for row in served] == [truth.version for truth in truths]
    told = [[(f.name, f.size) for f in truth.files] for truth in truths]
    held = [_contents(truth) for truth in truths]
    assert (
        len({archive.headers["ETag"] for _, archive in answers})
        == 1 + chosen.version - chosen.at(0).version
    )
    for metadata, archive in answers:
        assert [(f["name"], f.get("totalBytes", 0)) for f in metadata.json["info"]["data"]] in told
        assert _zipped(archive.body) in held
