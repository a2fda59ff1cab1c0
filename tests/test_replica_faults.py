"""Each kind of trouble, by script and by plan."""

import contextlib
import http.client
import json
import socket
import threading
from collections import Counter

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.replica_client import Answer, call, fetch, named, refs


def _scripted(*rules: Rule) -> Replica:
    return Replica(World(seed=1), faults=Faults.script(rules))


@pytest.mark.parametrize("status", [404, 500, 502, 503])
def test_errors(status: int) -> None:
    with _scripted(Rule(Fault("status", status, retry_after=3))) as replica:
        answer = call(replica, "ListDatasets")
        assert answer.status == answer.json["code"] == status
        assert answer.headers["Retry-After"] == "3"
        stats = replica.stats()
        assert stats["faults"] == {str(status): 1}
        assert stats["requests"] == {"ListDatasets": {str(status): 1}}
        assert stats["delivered"] == {}


def test_a_rule_means_its_method_key_and_arrivals() -> None:
    ref, other = (d.ref for d in World(seed=1).public()[:2])
    fault = Fault("status", 429, retry_after=2)
    with _scripted(Rule(fault, "GetDatasetMetadata", ref, arrivals=(2,))) as replica:
        answers = [call(replica, "GetDatasetMetadata", named(ref)) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 429, 200]
        assert answers[1].headers["Retry-After"] == "2"
        assert call(replica, "GetDatasetMetadata", named(other)).status == 200
        assert call(replica, "GetDataset", named(ref)).status == 200
        assert replica.stats()["delivered"] == {"GetDatasetMetadata": 3, "GetDataset": 1}


def test_a_method_fails_until_it_is_repaired() -> None:
    ref, other = (d.ref for d in World(seed=1).public()[:2])
    every = Rule(Fault("status", 500), "GetDatasetMetadata")
    one = Rule(Fault("status", 503), "DownloadDataset", other)

    def statuses() -> list[int]:
        return [
            call(replica, method, named(each)).status
            for method in ("GetDatasetMetadata", "DownloadDataset")
            for each in (ref, other)
        ]

    with _scripted(every) as replica:
        assert statuses() == statuses() == [500, 500, 302, 302]
        assert call(replica, "ListDatasets").status == 200
        replica.faults.add(one)
        assert statuses() == [500, 500, 302, 503]
        replica.faults.repair(every)
        assert statuses() == [200, 200, 302, 503]
        replica.faults.add(every)
        assert statuses() == [500, 500, 302, 503]
        assert fetch(f"{replica.url}/__faults/repair", "POST").status == 200
        assert statuses() == [200, 200, 302, 302]


def test_what_was_repaired_leaves_other_rules_as_far_as_they_were() -> None:
    first, second = (Rule(Fault("status", status), arrivals=(1, 2)) for status in (500, 502))
    with _scripted(first, second) as replica:
        found = [call(replica, "ListDatasets").status]
        replica.faults.repair(first)
        found += [call(replica, "ListDatasets").status for _ in range(3)]
        assert found == [500, 502, 502, 200]


def test_a_plan_is_repaired_too() -> None:
    with Replica(World(seed=1), faults=Faults.mild(1, drip_seconds=0.0)) as replica:
        replica.faults.repair()
        for page in range(1, 200):
            assert call(replica, "ListDatasets", {"page": page}).status == 200
        assert replica.stats()["faults"] == {}


def test_the_first_rule_that_matches_counts_and_others_follow() -> None:
    rules = (
        Rule(Fault("status", 500), arrivals=(1,)),
        Rule(Fault("status", 502), arrivals=(1,)),
    )
    with _scripted(*rules) as replica:
        assert [call(replica, "ListDatasets").status for _ in range(3)] == [500, 502, 200]


def test_html_and_errors_with_status_200() -> None:
    rules = (
        Rule(Fault("html"), arrivals=(1,)),
        Rule(Fault("error_in_200", 500), arrivals=(1,)),
        Rule(Fault("message_in_200"), arrivals=(1,)),
        Rule(Fault("damaged"), arrivals=(1,)),
    )
    with _scripted(*rules) as replica:
        page, hidden, message, damaged = (call(replica, "ListDatasets") for _ in range(4))
        assert {a.status for a in (page, hidden, message, damaged)} == {200}
        assert page.headers.get_content_type() == "text/html"
        assert hidden.json["code"] == 500
        assert "Not Found" in message.json["errorMessage"]
        with pytest.raises(json.JSONDecodeError):
            json.loads(damaged.body)
        assert replica.stats()["delivered"] == {}


def test_every_answer_a_redirect() -> None:
    fault = Fault("redirect", location="https://example.invalid/")
    with _scripted(Rule(fault)) as replica:
        answer = call(replica, "ListDatasets")
        assert (answer.status, answer.headers["Location"]) == (301, "https://example.invalid/")


def test_a_cut_answer() -> None:
    with _scripted(Rule(Fault("cut"), arrivals=(1,))) as replica:
        with pytest.raises(http.client.IncompleteRead) as caught:
            call(replica, "ListDatasets")
        whole = call(replica, "ListDatasets").body
        assert whole.startswith(caught.value.partial)
        assert len(caught.value.partial) == len(whole) // 2
        assert replica.stats()["delivered"] == {"ListDatasets": 1}
        ref = replica.world.public()[0].ref
        with pytest.raises(http.client.IncompleteRead):  # even where the body is empty
            call(replica, "DownloadDataset", named(ref))


def test_a_reset_connection() -> None:
    with _scripted(Rule(Fault("reset"), arrivals=(1,))) as replica:
        with pytest.raises(ConnectionError):
            call(replica, "ListDatasets")
        assert call(replica, "ListDatasets").status == 200
        assert replica.stats()["requests"] == {"ListDatasets": {"reset": 1, "200": 1}}


def test_a_slow_answer_is_right_in_the_end() -> None:
    with _scripted(Rule(Fault("drip", seconds=0.08), arrivals=(1,))) as replica:
        slow, quick = (call(replica, "ListDatasets").body for _ in range(2))
        assert slow == quick
        assert replica.stats()["delivered"] == {"ListDatasets": 2}


def test_a_replica_stops_while_answers_drip() -> None:
    with _scripted(Rule(Fault("drip", seconds=3600))) as replica:
        connection = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=10)
        connection.request("POST", "/v1/datasets.DatasetApiService/ListDatasets", b"{}")
        response = connection.getresponse()
        assert response.status == 200
    response.close()
    connection.close()


def test_a_client_that_leaves_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rule = Rule(Fault("drip", seconds=0.2), key="page=1")
    with _scripted(rule) as replica:
        for _ in range(5):
            connection = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=10)
            connection.request("POST", "/v1/datasets.DatasetApiService/ListDatasets", b"{}")
            connection.getresponse().close()
            connection.close()
        with socket.create_connection(("127.0.0.1", replica.port)) as half:
            head = b"POST /v1/datasets.DatasetApiService/ListDatasets HTTP/1.1\r\nHost: x\r\n"
            half.sendall(head + b"Content-Length: 100\r\n\r\n{")
        assert call(replica, "ListDatasets", {"page": 2}).status == 200
    assert caplog.records == []
    assert not [t for t in threading.enumerate() if t.name == "kagglecrawl-replica"]


def _signed(replica: Replica) -> str:
    dataset = next(d for d in replica.world.public() if d.total_bytes > 5_000)
    return call(replica, "DownloadDataset", named(dataset.ref)).headers["Location"]


@pytest.mark.parametrize("kind", ["damaged", "drip"])
def test_storage_that_damages_or_drips(kind: str) -> None:
    fault = Fault("damaged") if kind == "damaged" else Fault("drip", seconds=0.01)
    with _scripted(Rule(fault, "storage", arrivals=(1,))) as replica:
        url = _signed(replica)
        assert fetch(url, "HEAD").status == 200  # trouble is for transfers
        bad, good = fetch(url), fetch(url)
        assert bad.headers["Content-Length"] == good.headers["Content-Length"]
        assert bad.headers["x-goog-hash"] == good.headers["x-goog-hash"]
        assert (bad.body == good.body) == (kind == "drip")
        assert replica.stats()["delivered"]["storage"] == (2 if kind == "drip" else 1)


def test_storage_that_cuts_resets_and_refuses() -> None:
    dataset = next(d for d in World(seed=1).public() if d.total_bytes > 5_000)
    key = f"{dataset.id}/{dataset.version}/archive.zip"
    with _scripted(Rule(Fault("cut"), "storage", key, arrivals=(1,))) as replica:
        url = _signed(replica)
        with pytest.raises(http.client.IncompleteRead) as caught:
            fetch(url)
        whole = fetch(url).body
        assert caught.value.partial == whole[: len(whole) // 2]
        assert replica.stats()["delivered_by_key"]["storage"] == {key: 1}
    with _scripted(Rule(Fault("reset"), "storage")) as replica, pytest.raises(ConnectionError):
        fetch(_signed(replica))
    with _scripted(Rule(Fault("status", 503, retry_after=1), "storage")) as replica:
        answer = fetch(_signed(replica))
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert b"<Error><Code>" in answer.body
        assert replica.stats()["faults"] == {"503": 1}


@pytest.mark.parametrize(("level", "low", "high"), [("mild", 0.02, 0.04), ("harsh", 0.17, 0.23)])
def test_plans_are_repeatable_and_end(level: str, low: float, high: float) -> None:
    one, two, other = (getattr(Faults, level)(seed) for seed in (1, 1, 2))
    arrivals = [f"key {number}" for number in range(3_000)]

    def run(faults: Faults) -> list[list[str]]:
        plans = []
        for key in arrivals:
            plan: list[str] = []
            while fault := faults.decide("ListDatasets", "page=1", key):
                plan.append(fault.name)
            assert faults.decide("ListDatasets", "page=1", key) is None
            plans.append(plan)
        return plans

    plans = run(one)
    assert plans == run(two) != run(other)
    assert max(map(len, plans)) == 3
    faults = sum(map(len, plans))
    assert low < faults / (faults + len(arrivals)) < high
    kinds = Counter(kind for plan in plans for kind in plan)
    expected = {
        "404",
        "429",
        "500",
        "502",
        "503",
        "cut",
        "damaged",
        "error_in_200",
        "html",
        "reset",
    }
    assert expected - set(kinds) == set()


def _patiently(replica: Replica, method: str, body: dict[str, object]) -> Answer:
    """The first clean answer, at most the fourth."""
    before = sum(replica.stats()["faults"].values())
    for _ in range(4):
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            answer = call(replica, method, body)
        after = sum(replica.stats()["faults"].values())
        if after == before:
            return answer
        before = after
    raise AssertionError("more than three faults")


def test_a_harsh_list_moves_down_but_loses_nothing() -> None:
    with Replica(World(seed=1), faults=Faults.harsh(1, drip_seconds=0.0)) as replica:
        pages: list[list[str]] = []
        while not pages or pages[-1]:
            body: dict[str, object] = {"page": len(pages) + 1}
            pages.append(refs(_patiently(replica, "ListDatasets", body)))
        listed = [ref for page in pages for ref in page]
        assert set(listed) == {d.ref for d in replica.world.datasets}
        assert 240 < len(listed) <= 240 + 3 * len(pages)
        again = refs(_patiently(replica, "ListDatasets", {"page": 5}))
        assert again == pages[4]
        delivered = replica.stats()["delivered_by_key"]["ListDatasets"]
        assert delivered == {f"page={n + 1}": 1 + (n == 4) for n in range(len(pages))}


def test_harsh_rows_have_nulls_and_odd_dates_but_metadata_is_true() -> None:
    with Replica(World(seed=1), faults=Faults.harsh(1, drip_seconds=0.0)) as replica:
        rows = [
            row
            for page in range(1, 13)
            for row in _patiently(replica, "ListDatasets", {"page": page}).json["datasets"]
        ]
        for name in ("subtitle", "description", "tags", "licenseName", "usabilityRating"):
            assert any(name in row and row[name] is None for row in rows)
        digits = {len(row["lastUpdated"].partition(".")[2]) for row in rows}
        assert digits == {0, 4, 8}  # no fraction, .123Z, .1230000Z
        roles: set[object] = set()
        messages = 0
        for dataset in replica.world.datasets:
            if dataset.state == "public":
                answer = _patiently(replica, "GetDatasetMetadata", {**named(dataset.ref)})
                info = answer.json["info"]
                assert info.get("description", "") == dataset.description
                assert info.get("usabilityRating", 0.0) == dataset.usability
                roles |= {each["role"] for each in info.get("collaborators", ())}
                continue
            for _ in range(4):  # past the passing faults
                with contextlib.suppress(http.client.HTTPException, ConnectionError):
                    body = call(replica, "GetDatasetMetadata", named(dataset.ref)).body
                    messages += b'"errorMessage"' in body
        assert roles == {2, "reader"}
        assert messages > 8
        assert replica.stats()["faults"]["message_in_200"] == messages
