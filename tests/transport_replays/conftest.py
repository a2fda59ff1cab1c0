"""Who asks for replays."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody whom the API knows, behind a proxy that is not there."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_5ecre7")
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
