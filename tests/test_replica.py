"""The API over HTTP: what is accepted, listed, described, refused and counted."""

import ast
import http.client
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import kagglecrawl
from kagglecrawl.replica.made import TAGS
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.replica_client import Answer, basic, call, fetch, named, refs


@pytest.fixture(scope="module")
def shared() -> Iterator[Replica]:
    with Replica(World(seed=1)) as replica:
        yield replica


@pytest.fixture
def replica(shared: Replica) -> Replica:
    shared.reset_stats()
    return shared


@pytest.mark.parametrize(
    ("body", "named_field"),
    [
        ({"sort_by": "DATASET_SORT_BY_VOTES"}, "sort_by"),
        ({"page": "1"}, "page"),
        ({"page": True}, "page"),
        ({"page": 1.5}, "page"),
        ({"search": 3}, "search"),
        ({"sortBy": "VOTES"}, "sortBy"),
        ({"sortBy": 99}, "sortBy"),
        ({"sortBy": True}, "sortBy"),
        ({"sortBy": []}, "sortBy"),
        ({"page": -1}, "page"),
    ],
)
def test_what_kagglesdk_does_not_know_is_refused(
    replica: Replica, body: dict[str, object], named_field: str
) -> None:
    answer = call(replica, "ListDatasets", body)
    assert answer.status == answer.json["code"] == 400
    assert f"'{named_field}'" in answer.json["message"]
    assert replica.stats()["delivered"] == {}


@pytest.mark.parametrize(
    "body",
    [b"page=1", b"", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"search": "\\ud800"}'],
)
def test_a_body_that_is_no_json_object_is_refused(replica: Replica, body: bytes) -> None:
    assert call(replica, "ListDatasets", body).status == 400


def test_enums_by_number_and_nulls_are_accepted(replica: Replica) -> None:
    by_name = call(replica, "ListDatasets", {"sortBy": "DATASET_SORT_BY_USABILITY", "user": None})
    assert by_name.status == 200
    assert by_name.body == call(replica, "ListDatasets", {"sortBy": 7}).body


def test_both_prefixes_answer_and_unknown_things_do_not(replica: Replica) -> None:
    path = "v1/datasets.DatasetApiService/ListDatasets"
    one, two = (fetch(f"{replica.url}/{p}{path}", "POST", b"{}") for p in ("", "api/"))
    assert one.status == two.status == 200
    assert one.body == two.body
    unknown = call(replica, "InventDataset")
    assert (unknown.status, unknown.json["code"]) == (404, 404)
    assert fetch(f"{replica.url}/api/{path}").status == 404
    page = fetch(f"{replica.url}/datasets")
    assert page.status == 404
    assert page.headers.get_content_type() == "text/html"


def test_the_default_list_is_every_dataset_once_in_twenties(replica: Replica) -> None:
    pages = [
        refs(call(replica, "ListDatasets", {"page": n, "pageSize": 200})) for n in range(1, 13)
    ]
    assert [len(page) for page in pages] == [20] * 12
    listed = [ref for page in pages for ref in page]
    hottest = sorted(replica.world.datasets, key=lambda d: d.hotness, reverse=True)
    assert listed == [d.ref for d in hottest]
    past = call(replica, "ListDatasets", {"page": 13})
    assert (past.status, past.json) == (200, {})
    assert refs(call(replica, "ListDatasets")) == pages[0]


def test_a_row_is_like_a_real_one(replica: Replica) -> None:
    rows = [
        row
        for page in range(1, 13)
        for row in call(replica, "ListDatasets", {"page": page}).json["datasets"]
    ]
    for row in rows:
        dataset = replica.world.get(*row["ref"].split("/"))
        assert dataset is not None
        assert row["id"] == dataset.id
        assert row["title"] == dataset.title
        assert row.get("subtitle", "") == dataset.subtitle
        assert row["totalBytes"] == dataset.total_bytes == sum(f.size for f in dataset.files)
        assert row.get("usabilityRating", 0.0) == dataset.usability
        assert row["licenseName"] == dataset.licence.listed
        assert row["currentVersionNumber"] == dataset.version
        assert datetime.fromisoformat(row["lastUpdated"]) == dataset.last_updated
        assert [tag["name"] for tag in row.get("tags", ())] == [tag.name for tag in dataset.tags]
        assert row["ownerRef"] == dataset.owner
        assert not {"description", "files", "versions"} & row.keys()
    assert any("usabilityRating" not in row for row in rows)  # proto3 drops a zero


@pytest.mark.parametrize(
    ("sort_by", "field"),
    [
        ("VOTES", "voteCount"),
        ("UPDATED", "lastUpdated"),
        ("USABILITY", "usabilityRating"),
        ("DOWNLOAD_COUNT", "downloadCount"),
        ("NOTEBOOK_COUNT", "kernelCount"),
        ("PUBLISHED", "id"),
    ],
)
def test_lists_are_sorted_as_asked(replica: Replica, sort_by: str, field: str) -> None:
    rows = call(replica, "ListDatasets", {"sortBy": f"DATASET_SORT_BY_{sort_by}"}).json["datasets"]
    values = [row.get(field, 0) for row in rows]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1] or sort_by == "USABILITY"


def _all(replica: Replica, body: dict[str, Any]) -> set[str]:
    found: list[str] = []
    while page := refs(call(replica, "ListDatasets", {**body, "page": len(found) // 20 + 1})):
        found += page
    return set(found)


def test_filters_choose_rows(replica: Replica) -> None:
    datasets = replica.world.datasets
    owner = datasets[0].owner
    assert _all(replica, {"user": owner, "group": "DATASET_SELECTION_GROUP_USER"}) == {
        d.ref for d in datasets if d.owner == owner
    }
    assert _all(replica, {"search": "zÜrich"}) == {d.ref for d in datasets if "Zürich" in d.title}
    one, two = TAGS[0], TAGS[1]
    both = {d.ref for d in datasets if {one, two} <= set(d.tags)}
    assert both
    assert _all(replica, {"tagIds": f"{one.id},{two.id}"}) == both
    assert _all(replica, {"minSize": 5_000, "maxSize": 9_000}) == {
        d.ref for d in datasets if 5_000 <= d.total_bytes <= 9_000
    }
    assert _all(replica, {"fileType": "DATASET_FILE_TYPE_GROUP_PARQUET"}) == {
        d.ref for d in datasets if any(f.name.endswith(".parquet") for f in d.files)
    }
    assert _all(replica, {"license": "DATASET_LICENSE_GROUP_GPL"}) == {
        d.ref for d in datasets if d.licence.name == "GPL-2.0"
    }
    assert _all(replica, {"size": "DATASET_SIZE_GROUP_LARGE"}) == {
        d.ref for d in datasets if d.total_bytes >= 100_000
    }
    nothing: list[dict[str, Any]] = [
        {"group": "DATASET_SELECTION_GROUP_USER"},
        {"group": "DATASET_SELECTION_GROUP_MY"},
        {"viewed": "DATASET_VIEWED_GROUP_VIEWED"},
        {"fileType": "DATASET_FILE_TYPE_GROUP_BIG_QUERY"},
    ]
    assert [_all(replica, body) for body in nothing] == [set()] * 4


def test_lists_end_at_the_cap() -> None:
    with Replica(World(seed=1, scale="large")) as replica:
        assert len(refs(call(replica, "ListDatasets", {"page": 500}))) == 20
        assert call(replica, "ListDatasets", {"page": 501}).json == {}
        assert call(replica, "ListDatasets", {"page": 10**9}).json == {}


def test_lists_by_token() -> None:
    with Replica(World(seed=1), behaviour=Behaviour(paging="token")) as replica:
        first = call(replica, "ListDatasets", {"pageSize": 100})
        assert len(refs(first)) == 100
        token = first.json["nextPageToken"]
        second = call(replica, "ListDatasets", {"pageSize": 1_000, "pageToken": token})
        assert len(refs(second)) == 140
        assert "nextPageToken" not in second.json
        assert len({*refs(first), *refs(second)}) == 240
        assert len(refs(call(replica, "ListDatasets"))) == 20
        by_page = call(replica, "ListDatasets", {"page": 2, "pageSize": 100})
        assert refs(by_page) == refs(first)[20:40]
        assert "nextPageToken" not in by_page.json
        for bad in ("x", "WzEsMl0=", "é", token[:-4]):
            assert call(replica, "ListDatasets", {"pageToken": bad}).status == 400
        assert call(replica, "ListDatasets", {"pageToken": token, "search": "a"}).status == 400
        assert call(replica, "ListDatasets", {"pageSize": -1}).status == 400
        keys = replica.stats()["delivered_by_key"]["ListDatasets"]
        assert keys == {"page=1": 2, f"token={token}": 1, "page=2": 1}


def test_a_token_means_nothing_where_lists_page_by_number(replica: Replica) -> None:
    assert call(replica, "ListDatasets", {"pageToken": "abc"}).status == 400


def test_metadata_tells_the_truth(replica: Replica) -> None:
    for dataset in replica.world.datasets[:40]:
        answer = call(replica, "GetDatasetMetadata", named(dataset.ref))
        expected = {"public": 200, "deleted": 404, "forbidden": 403}[dataset.state]
        assert answer.status == expected
        if expected != 200:
            assert answer.json["code"] == expected
            continue
        info = answer.json["info"]
        assert info["datasetId"] == dataset.id
        assert info.get("description", "") == dataset.description
        assert info.get("keywords", []) == [tag.name for tag in dataset.tags]
        assert info["licenses"] == [{"name": dataset.licence.name}]
        files = [(f["name"], f.get("totalBytes", 0)) for f in info["data"]]
        assert files == [(f.name, f.size) for f in dataset.files]


@pytest.mark.parametrize("method", ["GetDataset", "ListDatasetFiles", "DownloadDataset"])
def test_what_is_gone_is_gone_for_every_method(replica: Replica, method: str) -> None:
    by_state = {d.state: d.ref for d in replica.world.datasets}
    assert call(replica, method, named(by_state["deleted"])).status == 404
    assert call(replica, method, named(by_state["forbidden"])).status == 403
    assert call(replica, method, named("no/such")).status == 404
    assert call(replica, method, named(by_state["public"])).status in {200, 302}
    assert set(_all(replica, {})) >= set(by_state.values())


@pytest.mark.parametrize(("count", "expected"), [(None, 251), (3, 3), (0, 0)])
def test_metadata_may_name_fewer_files(count: int | None, expected: int) -> None:
    behaviour = Behaviour(metadata_files=count)
    with Replica(World(seed=1, scale="medium"), behaviour=behaviour) as replica:
        many = next(d for d in replica.world.datasets if len(d.files) > 200)
        info = call(replica, "GetDatasetMetadata", named(many.ref)).json["info"]
        assert len(info.get("data", ())) == expected


def test_files_come_by_token() -> None:
    with Replica(World(seed=1, scale="medium")) as replica:
        many = next(d for d in replica.world.datasets if len(d.files) > 200)
        body: dict[str, object] = {**named(many.ref), "pageSize": 500}
        first = call(replica, "ListDatasetFiles", body).json
        body["pageToken"] = first["nextPageToken"]
        second = call(replica, "ListDatasetFiles", body).json
        assert [len(part["datasetFiles"]) for part in (first, second)] == [200, 51]
        assert "nextPageToken" not in second
        files = first["datasetFiles"] + second["datasetFiles"]
        assert [(f["name"], f["totalBytes"]) for f in files] == [
            (f.name, f.size) for f in many.files
        ]
        assert datetime.fromisoformat(files[0]["creationDate"]).tzinfo == UTC
        other = {**named(replica.world.datasets[0].ref), "pageToken": body["pageToken"]}
        assert call(replica, "ListDatasetFiles", other).status == 400


def test_who_may_ask_what(replica: Replica) -> None:
    ref = replica.world.public()[0].ref
    key = basic(replica.username, replica.key)
    assert call(replica, "GetDatasetMetadata", named(ref), headers=key).status == 200
    allowed = {"ListDatasets": 200, "DownloadDataset": 302, "DownloadDatasetRaw": 302}
    for method, status in allowed.items():
        body = {} if method == "ListDatasets" else named(ref)
        assert call(replica, method, body, headers={}).status == status
    for method in ("GetDatasetMetadata", "GetDataset", "ListDatasetFiles"):
        answer = call(replica, method, named(ref), headers={})
        assert (answer.status, answer.json["code"]) == (403, 403)
    bad = (
        {"Authorization": "Bearer KGAT_other"},
        {"Authorization": "Basic !"},
        {"Authorization": "Basic \u00e9"},
        {"Authorization": "Bearer \u00e9"},
        {"Authorization": "Digest x"},
        basic(replica.username, "wrong"),
        basic("someone", replica.key),
    )
    for headers in bad:
        answer = call(replica, "ListDatasets", headers=headers)
        assert answer.status == 401
        assert answer.json == {"error": {"code": 401, "message": "Unauthenticated"}}
    assert replica.stats()["auth"] == {"basic": 1, "anonymous": 6, "refused": 7}


def test_tokens_are_introspected(replica: Replica) -> None:
    def ask(token: str) -> Answer:
        body = {"token": token}
        return call(replica, "IntrospectToken", body, service="security.OAuthService")

    assert ask(replica.token).json["username"] == replica.username
    assert ask("KGAT_other").json == {}


def test_absolute_form_requests_are_answered_for_localhost_alone(replica: Replica) -> None:
    def ask(origin: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=10)
        try:
            url = f"{origin}/api/v1/datasets.DatasetApiService/ListDatasets"
            connection.request("POST", url, b"{}")
            return connection.getresponse().status
        finally:
            connection.close()

    assert ask("http://localhost") == ask(replica.url) == 200
    assert ask("http://localhost:9000") == ask("http://example.org") == 502


def test_it_listens_on_loopback_alone(replica: Replica) -> None:
    with socket.socket() as probe:  # another loopback address is another interface to the kernel
        probe.settimeout(5)
        assert probe.connect_ex(("127.0.0.2", replica.port)) != 0
        assert replica.url == f"http://127.0.0.1:{replica.port}"


def test_statistics(replica: Replica) -> None:
    ref = replica.world.public()[0].ref
    gone = next(d.ref for d in replica.world.datasets if d.state == "deleted")
    agent = {"User-Agent": "test/1", "Authorization": f"Bearer {replica.token}"}
    sent = len(call(replica, "GetDatasetMetadata", named(ref), headers=agent).body)
    sent += len(call(replica, "GetDatasetMetadata", named(gone), headers=agent).body)
    sent += len(call(replica, "ListDatasets", {"page": 3, "user": ""}, headers=agent).body)
    stats = replica.stats()
    assert stats == {
        "requests": {"GetDatasetMetadata": {"200": 1, "404": 1}, "ListDatasets": {"200": 1}},
        "requests_by_key": {
            "GetDatasetMetadata": {ref: 1, gone: 1},
            "ListDatasets": {"page=3": 1},
        },
        "delivered": {"GetDatasetMetadata": 1, "ListDatasets": 1},
        "delivered_by_key": {"GetDatasetMetadata": {ref: 1}, "ListDatasets": {"page=3": 1}},
        "faults": {},
        "auth": {"bearer": 3},
        "storage": {},
        "storage_bytes": {},
        "storage_ranges": {},
        "user_agents": {"test/1": 3},
        "bytes_sent": sent,
        "leaked_authorization": 0,
        "families": {
            "api": {"answers": 3, "429": 0, "under_way": 0, "violations": 0},
            "download": {"answers": 0, "429": 0, "under_way": 0, "violations": 0},
        },
        "retry_after_violations": 0,
        "violations_by_method": {},
    }
    assert fetch(f"{replica.url}/__stats").json == stats
    assert fetch(f"{replica.url}/__stats/reset", "POST").status == 200
    assert replica.stats()["requests"] == {}


def test_a_taken_port_is_an_error_and_a_stopped_replica_is_gone() -> None:
    with Replica() as first:
        second = Replica(port=first.port)
        with pytest.raises(OSError, match="address already in use"):
            second.start()
        second.stop()
        port = first.port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_replies_are_utf8_without_escapes(replica: Replica) -> None:
    text = call(replica, "ListDatasets", {"search": "Zürich"}).body.decode()
    assert "Zürich" in text
    assert json.loads(text)


def test_replica_and_crawler_know_nothing_of_each_other() -> None:
    package = Path(kagglecrawl.__file__).parent
    replica = package / "replica"
    for path in package.rglob("*.py"):
        imports = {
            name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
            )
            if name.startswith("kagglecrawl")
        }
        of_replica = {name for name in imports if name.startswith("kagglecrawl.replica")}
        if replica in path.parents:
            assert imports == of_replica, path
        elif path != package / "commands" / "replica.py":
            assert not of_replica, path
