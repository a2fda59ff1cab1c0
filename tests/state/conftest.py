"""A store of either kind, and callbacks that have said nothing yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kagglecrawl.state.store import FILE, Store
from tests.state.helpers import notes
from tests.state.stand import Clock, Stand


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    notes.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / FILE


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    """Both kinds of store do the same."""
    made = Store.in_memory() if request.param == "memory" else Store.create(path)
    with closing(made):
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of ``state/``."""
    made = Clock()
    made.install(monkeypatch)
    return made


@pytest.fixture(params=[True, False], ids=["job", "memory"])
def stand(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Stand:
    """A crawl with a job directory, and one without."""
    return Stand(tmp_path, job=request.param)
