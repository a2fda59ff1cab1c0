"""A transfer on its own, on a disk that nobody waits for."""

from __future__ import annotations

from pathlib import Path

import pytest

from kagglecrawl.transfer import staging
from tests.transfer.bench import Bench


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made safe: no test cuts the power."""
    monkeypatch.setattr(staging, "_sync", lambda _: None)
    monkeypatch.setattr(staging, "_sync_disk", lambda _: True)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A job without anything in it."""
    return Bench(tmp_path / "workspace")
