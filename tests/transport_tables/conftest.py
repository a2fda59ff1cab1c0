"""Nobody's credentials but the replica's; and no process is left by any test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagglecrawl.replica.server import Replica
from tests.conftest import clean_env
from tests.official_transport.conftest import workers


@pytest.fixture(autouse=True)
def somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in set(os.environ) - set(clean_env(tmp_path)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_TOKEN", Replica.token)
    yield
    assert workers() == []
