"""Our own settings: read, checked, and refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scrapy import Request
from scrapy.settings import Settings

from kagglecrawl import findings
from kagglecrawl import settings as project
from kagglecrawl.config import KaggleConfig, SettingError, default_api_url
from kagglecrawl.kaggle.auth import Credentials
from kagglecrawl.kaggle.paging import Findings

API = "https://api.kaggle.com"


def config(**more: Any) -> KaggleConfig:
    """From the project's settings, with these over them."""
    settings = Settings()
    settings.setmodule(project)
    settings.setdict({"KAGGLE_API_URL": API, **more}, priority="cmdline")
    return KaggleConfig.from_settings(settings)


def test_the_projects_own_settings_are_right() -> None:
    found = config()
    assert (found.api_url, found.transport, found.min_usability) == (API, "scrapy", 0.8)
    assert found.findings == Path("local_workspace/doctor.json")


def test_text_from_the_command_line_is_read() -> None:
    found = config(
        KAGGLE_MAX_ATTEMPTS="3",
        KAGGLE_MAX_WAIT="60.5",
        KAGGLE_RETRY_BASE="0",
        KAGGLE_MIN_USABILITY="0.5",
        KAGGLE_TRANSPORT=" Official ",
        WORKSPACE="here",
    )
    assert (found.max_attempts, found.max_wait, found.retry_base) == (3, 60.5, 0.0)
    assert (found.min_usability, found.transport) == (0.5, "official")
    assert (found.workspace, found.findings) == (Path("here"), Path("here/doctor.json"))
    assert config(KAGGLE_FINDINGS="f.json").findings == Path("f.json")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("KAGGLE_MAX_ATTEMPTS", ["0", "-1", "1.5", "many", "", None, "nan", "inf", "1001"]),
        ("KAGGLE_MAX_WAIT", ["-1", "soon", "nan", "inf", str(31 * 86_400)]),
        ("KAGGLE_RETRY_BASE", ["-0.1", "x", "nan", 3601]),
        ("KAGGLE_MIN_USABILITY", ["-0.1", "1.1", "80", "nan", "high"]),
        ("KAGGLE_TRANSPORT", ["cli", "kagglehub", "scrapy official"]),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_it(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(SettingError, match=f"{name}=") as caught:
            config(**{name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        (API, API),
        (f"{API}/", API),
        (f"{API}///", API),
        (f" {API}\n", API),
        ("HTTPS://API.Kaggle.com", API),
        ("https://api.kaggle.com:443", "https://api.kaggle.com:443"),
        ("http://localhost:7777/api", "http://localhost:7777/api"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://staging.kaggle.com/api", "https://staging.kaggle.com/api"),
    ],
)
def test_an_address(url: str, read: str) -> None:
    assert config(KAGGLE_API_URL=url).api_url == read


@pytest.mark.parametrize(
    "url",
    [
        API,
        f" {API}\t",
        "HTTPS://API.KAGGLE.COM/",
        "https://api.kaggle.com:443",
        "https://b\u00fccher.example/\u00fc b|c",
        "https://h.example/a%20b/%e2%82%ac",
        "https://h.example/a/../b",
        "https://h.example:/x",
        "http://LOCALHOST:7777/api",
        "http://[::1]:80/api",
    ],
)
def test_calls_to_an_address_that_is_accepted_carry_the_credentials(url: str) -> None:
    """Scrapy spells addresses in its own way: a difference would make the crawl anonymous."""
    api_url = config(KAGGLE_API_URL=url).api_url
    request = Request(f"{api_url}/v1/datasets.DatasetApiService/ListDatasets", method="POST")
    assert Credentials("x", "Bearer y").header_for(request.url, api_url) == "Bearer y"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "not an http or https address"),
        (None, "not an http or https address"),
        ("api.kaggle.com", "not an http or https address"),
        ("ftp://api.kaggle.com", "not an http or https address"),
        ("https://", "not an http or https address"),
        ("https:///v1", "not an http or https address"),
        ("KAGGLE_API_ENVIRONMENT=MARS", "KAGGLE_API_ENVIRONMENT=MARS"),
        ("http://api.kaggle.com", "in clear"),
        ("http://10.0.0.1:8080", "in clear"),
        ("http://localhost.evil.org", "in clear"),
        ("https://[bad", "not an address"),
        ("https://api.kaggle.com:port", "not an address"),
        ("https://api.kaggle.com:99999", "not an address"),
        ("https://me:SECRET@api.kaggle.com", "user name"),
        ("https://api.kaggle.com/?token=SECRET", "query"),
        ("https://api.kaggle.com#SECRET", "fragment"),
        ("https://api.kaggle.com?", "query"),
        ("https://api.kaggle.com#", "fragment"),
    ],
)
def test_an_address_that_cannot_be_used(url: str | None, words: str) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        config(KAGGLE_API_URL=url)
    assert "KAGGLE_API_URL" in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, API),
        ({"KAGGLE_API_ENVIRONMENT": ""}, API),
        ({"KAGGLE_API_ENVIRONMENT": "PROD"}, API),
        ({"KAGGLE_API_ENVIRONMENT": "LOCALHOST"}, "http://localhost/api"),
        ({"KAGGLE_API_ENVIRONMENT": "TEST"}, "http://localhost:7777/api"),
        ({"KAGGLE_API_ENVIRONMENT": "QA"}, "https://qa.kaggle.com/api"),
        (
            {"KAGGLE_API_URL": "http://localhost:1", "KAGGLE_API_ENVIRONMENT": "QA"},
            "http://localhost:1",
        ),
    ],
)
def test_the_address_by_the_environment(environ: dict[str, str], url: str) -> None:
    assert default_api_url(environ) == url
    assert config(KAGGLE_API_URL=default_api_url(environ)).api_url == url


@pytest.mark.parametrize("name", ["LOCALHOST", "STAGING", "ADMIN", "QA", "PROD", "TEST"])
def test_the_environments_are_kagglesdks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", name)
    endpoint = kaggle_env.get_endpoint(kaggle_env.get_env())
    expected = endpoint if name == "PROD" else f"{endpoint}/api"
    assert default_api_url({"KAGGLE_API_ENVIRONMENT": name}) == expected


# -- findings --------------------------------------------------------------------------------------

LIST = "datasets.DatasetApiService/ListDatasets"
Log = Callable[[], str]


def test_findings_are_kept_and_read_again(tmp_path: Path) -> None:
    here = config(KAGGLE_FINDINGS=str(tmp_path / "deep/doctor.json"))
    report = findings.Report(API, "2026-11-21T12:00:00Z", {LIST: Findings(True, 200, 20)}, 200)
    findings.save(here, report)
    assert findings.load(here) == report
    assert findings.load(here).of(LIST) == Findings(True, 200, 20)
    assert findings.load(here).of("other") == Findings()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["doctor.json"]
    assert here.findings.stat().st_mode & 0o077 == 0


def test_findings_of_another_address_are_not_used(tmp_path: Path) -> None:
    path = str(tmp_path / "doctor.json")
    findings.save(config(KAGGLE_FINDINGS=path), findings.Report(API, metadata_files=5))
    other = config(KAGGLE_FINDINGS=path, KAGGLE_API_URL="http://localhost:1")
    assert findings.load(other) == findings.Report("http://localhost:1")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        f'{{"api_url": "{API}", "lists": []}}',
        f'{{"api_url": "{API}", "lists": {{"{LIST}": [1]}}, "metadata_files": "many"}}',
        f'{{"api_url": "{API}", "lists": {{"{LIST}": '
        '{"tokens": "yes", "page_size": 0, "page_rows": true}}, "metadata_files": true}',
    ],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, content: str) -> None:
    here = config(KAGGLE_FINDINGS=str(tmp_path / "doctor.json"))
    here.findings.write_text(content, encoding="utf-8")
    found = findings.load(here)
    assert found.of(LIST) == Findings()
    assert found.metadata_files is None
    assert findings.load(config(KAGGLE_FINDINGS=str(tmp_path / "none.json"))).lists == {}
