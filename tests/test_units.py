"""Bytes and times, as people are told them."""

from __future__ import annotations

import pytest

from kagglecrawl.units import amount, duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (7384, "2 h 03 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 kB"),
        (999_499, "999 kB"),
        (999_600, "1.0 MB"),
        (1_500_000, "1.5 MB"),
        (999_960_000, "1.0 GB"),
        (10**9, "1.0 GB"),
        (1.25e12, "1.2 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_amounts(size: float, shown: str) -> None:
    assert amount(size) == shown
