"""Rates and quotas as they are written."""

from __future__ import annotations

import pytest

from kagglecrawl.rates import Rate, quotas_of, rates_of


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


@pytest.mark.parametrize("text", ["2/second", "api", "=1/day", "api=1/day download=2/day", ";"])
def test_what_are_no_quotas(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no (quota|rate)"):
        quotas_of(text)
