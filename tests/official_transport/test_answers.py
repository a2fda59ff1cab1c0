"""What arrives through ``KAGGLE_TRANSPORT=official``, for whom, and from where."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from kagglesdk.kaggle_client import KaggleClient
from scrapy.exceptions import (
    DownloadConnectionRefusedError,
    DownloadFailedError,
    ResponseDataLossError,
)

from kagglecrawl.config import SettingError
from kagglecrawl.kaggle import rpc
from kagglecrawl.kaggle.auth import find_credentials
from kagglecrawl.kaggle.errors import (
    BadReply,
    CredentialsNeeded,
    CredentialsRefused,
    Forbidden,
    NotFound,
    Refused,
    ServerFailed,
    Throttled,
)
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.transport import failures, official, worker
from kagglecrawl.transport.official import OfficialTransport, check_official
from tests.official_transport.conftest import (
    PUBLIC,
    WORLD,
    Caller,
    run,
)

# -- answers --------------------------------------------------------------------------------------


def test_answers_are_those_of_the_api(token: str) -> None:
    states = {dataset.state: dataset for dataset in WORLD.datasets}

    async def use(caller: Caller) -> None:
        lists = [caller.request(rpc.LIST_DATASETS, page=page) for page in range(1, 13)]
        replies = await asyncio.gather(*map(caller.transport.send, lists))
        refs = [row["ref"] for reply in replies for row in json.loads(reply.body)["datasets"]]
        assert sorted(refs) == sorted(dataset.ref for dataset in WORLD.datasets)
        assert all(request.meta["download_latency"] > 0 for request in lists)

        info = (await caller.judged())["info"]
        assert (info["title"], info["description"]) == (PUBLIC.title, PUBLIC.description)
        files = [
            (each["name"], each["totalBytes"]) for each in info["data"] if each.get("totalBytes")
        ]
        assert files == [(file.name, file.size) for file in PUBLIC.files if file.size]
        with pytest.raises(NotFound, match=states["deleted"].slug):
            await caller.judged(states["deleted"])
        with pytest.raises(Forbidden, match="denied"):
            await caller.judged(states["forbidden"])

    with Replica(WORLD) as replica:
        run(replica.api_url, use)
        stats = replica.stats()
    assert stats["requests"] == {
        "IntrospectToken": {"200": 1},
        "ListDatasets": {"200": 12},
        "GetDatasetMetadata": {"200": 1, "404": 1, "403": 1},
    }
    assert set(stats["auth"]) == {"bearer"}


FAULTS: list[tuple[Fault, type[Exception]]] = [
    (Fault("status", 429, retry_after=2), Throttled),
    (Fault("status", 503), ServerFailed),
    (Fault("error_in_200", 500), ServerFailed),
    (Fault("html"), BadReply),
    (Fault("damaged"), BadReply),
    (Fault("cut"), ResponseDataLossError),
    (Fault("reset"), DownloadFailedError),
]


def test_every_failure_arrives_in_our_terms(token: str) -> None:
    async def use(caller: Caller) -> None:
        for fault, expected in FAULTS:
            with pytest.raises(expected) as caught:
                await caller.judged()
            if isinstance(caught.value, Throttled):
                assert caught.value.delay == fault.retry_after
        assert (await caller.judged())["info"]["title"] == PUBLIC.title

    rules = [Rule(fault, method="GetDatasetMetadata", arrivals=(1,)) for fault, _ in FAULTS]
    with Replica(WORLD, faults=Faults.script(rules)) as replica:
        run(replica.api_url, use)


def test_what_kagglesdk_cannot_read_is_refused_with_the_reason(token: str) -> None:
    odd = next(d for d in WORLD.public(0) if any(role == "WRITER" for _, role in d.collaborators))

    async def use(caller: Caller) -> None:
        with pytest.raises(Refused, match=r"cannot read the answer \(AttributeError: 'int' object"):
            await caller.judged(odd)

    with Replica(WORLD, faults=Faults(odd="enums as integers")) as replica:
        run(replica.api_url, use)


def test_nothing_listens(token: str) -> None:
    async def use(caller: Caller) -> None:
        with pytest.raises(DownloadConnectionRefusedError):
            await caller.metadata()

    with socket.socket() as taken:  # bound, so nobody else's; but it does not listen
        taken.bind(("127.0.0.1", 0))
        run(f"http://127.0.0.1:{taken.getsockname()[1]}/api", use)


def test_kinds_of_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(requests.RequestException) as caught:
            requests.get(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.05)
        assert failures.no_answer(caught.value)["error"] == "timeout"
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(requests.RequestException) as caught:
        requests.get("http://api.kaggle.invalid", timeout=5)
    assert failures.no_answer(caught.value) == {"error": "unknown_host", "text": "ConnectionError"}


@pytest.mark.parametrize(
    "call", [call for call in rpc.TABLE.values() if call.where == "api"], ids=lambda call: call.name
)
def test_every_call_of_the_table_is_found_in_kagglesdk(call: rpc.Rpc) -> None:
    method = worker.find_method(KaggleClient(), call.service, call.method)
    assert method.__annotations__["request"].__name__ == call.request_class


@pytest.mark.parametrize("service", ["datasets.NoService", "nothing.DatasetApiService"])
def test_an_unknown_call_says_so(service: str) -> None:
    with pytest.raises(LookupError, match=f"no {service}/ListDatasets"):
        worker.find_method(KaggleClient(), service, "ListDatasets")


# -- who we are -----------------------------------------------------------------------------------


def test_nobody_is_told_so_in_one_sentence(tmp_path: Path) -> None:
    async def use(caller: Caller) -> None:
        with pytest.raises(
            CredentialsNeeded, match=r"^KAGGLE_TRANSPORT=official needs credentials:"
        ):
            await caller.metadata()

    with Replica(WORLD) as replica:
        run(replica.api_url, use)
        assert replica.stats()["requests"] == {}
    assert list(tmp_path.iterdir()) == [], "the package made its configuration folder"


def test_a_username_and_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", Replica.username)
    monkeypatch.setenv("KAGGLE_KEY", Replica.key)

    async def use(caller: Caller) -> None:
        await caller.judged()

    with Replica(WORLD) as replica:
        run(replica.api_url, use)
        assert replica.stats()["auth"] == {"basic": 1}


def test_credentials_that_are_not_accepted(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def passed_over(caller: Caller) -> None:
        with pytest.raises(CredentialsRefused, match="not accept the credentials from KAGGLE_API"):
            await caller.metadata()

    async def refused(caller: Caller) -> None:
        with pytest.raises(CredentialsRefused, match="answered 401"):
            await caller.judged()

    not_found = Rule(Fault("status", 404), method="IntrospectToken")
    with Replica(WORLD, faults=Faults.script([not_found])) as replica:
        run(replica.api_url, passed_over)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_wrong")
    with Replica(WORLD) as replica:
        run(replica.api_url, refused)


def test_signing_in_is_tried_again_with_the_next_call(token: str) -> None:
    async def use(caller: Caller) -> None:
        for expected in (ServerFailed, BadReply):
            with pytest.raises(expected):
                await caller.judged()
        await caller.judged()

    # importing the package meets the first fault, and passes over it
    faults = [Fault("status", 500), Fault("status", 503), Fault("html")]
    rules = [Rule(fault, method="IntrospectToken", arrivals=(1,)) for fault in faults]
    with Replica(WORLD, faults=Faults.script(rules)) as replica:
        run(replica.api_url, use)


# -- where it can be sent -------------------------------------------------------------------------

LOCAL = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST"}


@pytest.mark.parametrize(
    ("api_url", "environment"),
    [
        ("https://api.kaggle.com", {}),
        ("http://localhost/api", LOCAL | dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost")),
        (
            "http://127.0.0.1:8765/api",
            LOCAL
            | dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:8765")
            | dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
        ),
    ],
)
def test_the_environment_points_the_package_at_the_api(
    api_url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "STAGING")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    made = official.environment_of("kaggle", official._address(api_url))
    ours = re.compile(r"KAGGLE_API_ENVIRONMENT|.*PROXY", re.IGNORECASE)
    assert {name: value for name, value in made.items() if ours.fullmatch(name)} == {
        "HTTPS_PROXY": "http://proxy.invalid",
        **environment,
    }


@pytest.mark.parametrize(
    "api_url",
    [
        "https://qa.kaggle.com/api",
        "https://api.kaggle.com/api",
        "http://127.0.0.1:8765",
        "https://127.0.0.1:8765/api",
        "http://example.com/api",
    ],
)
def test_other_addresses_are_refused(api_url: str, token: str) -> None:
    with pytest.raises(SettingError, match=f"cannot call KAGGLE_API_URL={api_url}: "):
        check_official(api_url)
    with pytest.raises(SettingError):
        OfficialTransport(api_url, find_credentials())


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SettingError, match="does not work on Windows"):
        check_official("https://api.kaggle.com")
