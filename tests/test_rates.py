"""Rates and quotas as they are written."""

from __future__ import annotations

import re

import pytest

from kagglecrawl.rates import Rate, families_of, quotas_of, rates_of


def test_rates() -> None:
    assert rates_of("") == rates_of("  ") == ()
    assert rates_of("2/second") == (Rate(2, 1),)
    assert rates_of(" 60 / minute , 1000/day,3/hour") == (
        Rate(60, 60),
        Rate(1000, 86_400),
        Rate(3, 3_600),
    )
    assert [str(rate) for rate in rates_of("60/minute,1000/day")] == ["60/minute", "1000/day"]


@pytest.mark.parametrize(
    "text", ["2", "2/week", "0/second", "-1/second", "1.5/second", "/day", "2/second/day", "many"]
)
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate: write 2/second, 60/minute or 1000/day"):
        rates_of(f"5/second,{text}")


def test_quotas() -> None:
    both = {"api": (Rate(2, 1), Rate(1000, 86_400)), "download": ()}
    assert quotas_of("api=2/second, 1000/day; download=") == both
    assert quotas_of({"api": "2/second,1000/day", "download": ""}) == both
    assert quotas_of("") == quotas_of({}) == quotas_of(" ") == {}
    assert quotas_of("api=1/day;") == {"api": (Rate(1, 86_400),)}


def test_rates_that_families_share() -> None:
    both = {"api+download": (Rate(1, 1), Rate(3600, 86_400)), "api": (Rate(2, 1),)}
    assert quotas_of("api+download=1/second, 3600/day; api=2/second") == both
    assert quotas_of(" download + api = 1/second,3600/day;api=2/second") == both
    assert quotas_of({"download+api": "1/second, 3600/day", "api": "2/second"}) == both
    assert quotas_of("api+download=") == {"api+download": ()}
    assert families_of("api+download") == ("api", "download")
    assert families_of("api") == ("api",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("api+api=1/day", "'api+api' names a family twice"),
        ("api+=1/day", "'api+' is no family: write api, download or api+download"),
        ("+=1/day", "'+' is no family"),
        ("api download=1/day", "'api download' is no family"),
        ({"api+": "1/day"}, "'api+' is no family"),
        ("api+download=1/day; download+api=2/day", "'api+download' is named twice"),
        ({"api+download": "1/day", "download+api": "2/day"}, "'api+download' is named twice"),
        ("api=1/day; api=2/day", "'api' is named twice: write its rates with a comma"),
    ],
)
def test_what_nobody_shares(given: str | dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        quotas_of(given)


@pytest.mark.parametrize("text", ["2/second", "api", "=1/day", "api=1/day download=2/day", ";"])
def test_what_are_no_quotas(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no (quota|rate)"):
        quotas_of(text)
