"""Settings of the site: where it is, what may be sent there, and how its replays are stored."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kagglecrawl.config import POLITE, SettingError
from kagglecrawl.rates import Rate
from tests.test_config import config

HERE = "http://127.0.0.1:8080"


def test_the_site_is_kaggles_own() -> None:
    found = config()
    assert found.web_url == "https://www.kaggle.com"
    assert found.content_url == "https://www.kaggleusercontent.com"
    assert found.replay_compression == "gzip"


@pytest.mark.parametrize("api", [f"{HERE}/api", f"{HERE}/", HERE])
def test_beside_an_api_on_this_machine_it_is_there_too(api: str) -> None:
    """Nobody who tries things with a replica means the real site."""
    found = config(KAGGLE_API_URL=api)
    assert found.web_url == found.content_url == HERE
    named = config(KAGGLE_API_URL=api, KAGGLE_WEB_URL="https://site.example/")
    assert (named.web_url, named.content_url) == ("https://site.example", HERE)


@pytest.mark.parametrize("name", ["KAGGLE_WEB_URL", "KAGGLE_CONTENT_URL"])
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("www.kaggle.com", "not an http or https address"),
        ("http://www.kaggle.com", "in clear: use https, or a server on this machine"),
        ("https://me:SECRET@www.kaggle.com", "user name"),
        ("https://www.kaggle.com/?token=SECRET", "query"),
        ("https://[bad", "not an address: write https://www.kaggle"),
    ],
)
def test_an_address_that_cannot_be_used(name: str, url: str, words: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}") as caught:
        config(**{name: url})
    assert words in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", ["brotli", "gz", "zst", "none"])
def test_how_replays_are_not_stored(word: str) -> None:
    wanted = f"KAGGLE_REPLAY_COMPRESSION={word} is not known: use gzip or zstd"
    with pytest.raises(SettingError, match=re.escape(wanted)):
        config(KAGGLE_REPLAY_COMPRESSION=word)
    assert config(KAGGLE_REPLAY_COMPRESSION=" ZSTD ").replay_compression == "zstd"


def test_what_is_polite() -> None:
    polite = config().quotas
    assert polite["episodes"] == (Rate(10, 60), Rate(1000, 86_400))
    assert polite["replay"] == (Rate(60, 60),)
    assert polite == POLITE
    given = config(KAGGLE_QUOTAS="episodes=1/second; replay=").quotas
    assert given == {**POLITE, "episodes": (Rate(1, 1),), "replay": ()}


@pytest.mark.parametrize(
    ("settings", "families"),
    [
        ({}, set()),
        ({"KAGGLE_WEB_URL": "https://www.kaggle.com"}, {"episodes", "replay"}),
        ({"KAGGLE_CONTENT_URL": "https://www.kaggleusercontent.com"}, {"episodes", "replay"}),
    ],
)
def test_nobody_is_polite_to_this_machine_alone(
    settings: dict[str, Any], families: set[str]
) -> None:
    assert config(KAGGLE_API_URL=HERE, **settings).quotas.keys() == families


def test_a_family_that_is_not_known() -> None:
    with pytest.raises(SettingError, match="use api, download, episodes or replay"):
        config(KAGGLE_QUOTAS="episode=1/day")
