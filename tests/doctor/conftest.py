"""Run ``scrapy doctor``, and read its table again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kagglecrawl.config import KaggleConfig
from kagglecrawl.doctor.verdicts import Verdict
from kagglecrawl.kaggle import rpc
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from tests.conftest import QUICK, Crawl, Run

COMPLETE, FAILED, USAGE, STOPPED, QUOTA, CREDENTIALS = range(6)
TOKENS = Behaviour(paging="token", max_page_size=100)
AGREES, DIFFERS, UNKNOWN = Verdict.AGREES, Verdict.DIFFERS, Verdict.UNKNOWN
WRONG = "KGAT_wrong_token_zzz"
DATASETS = rpc.LIST_DATASETS.name

ROWS = "ListDatasets, no page, pageSize 200"
TOKEN = "… its nextPageToken"
PAGE = "ListDatasets, page 2, pageSize 200"
FILES = "… how many of the files"

Doctor = Callable[..., Crawl]


def config_of(workspace: Path, api_url: str) -> KaggleConfig:
    return KaggleConfig(
        api_url, "scrapy", 8, 900, 0.5, 0.8, workspace, workspace / "doctor-loopback.json"
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def doctor(scrapy: Run, workspace: Path) -> Doctor:
    """Run the command against a replica, or against nobody."""

    def run(replica: Replica | None, *args: str, env: dict[str, str] | None = None) -> Crawl:
        given = {**(replica.crawler_env() if replica else {}), **(env or {})}
        return scrapy("doctor", *QUICK, "-s", f"WORKSPACE={workspace}", *args, env=given)

    return run


def table(done: Crawl) -> dict[str, tuple[str, str]]:
    """Found and verdict by topic, put together again from the wrapped cells."""
    lines = done.log.splitlines()
    (rule,) = (line for line in lines if re.fullmatch(r"-+( +-+){3}", line))
    starts = [match.start() for match in re.finditer(r"-+", rule)]
    rows: list[list[str]] = []
    for line in lines[lines.index(rule) + 1 :]:
        if not line:
            break
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        if cells[3]:  # the verdict is on the first line of a row
            rows.append(cells)
        else:
            rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
    return {topic: (found, verdict) for topic, _, found, verdict in rows}


def saved(workspace: Path) -> dict[str, Any]:
    """What was saved, without the time."""
    content: dict[str, Any] = json.loads(
        (workspace / "doctor-loopback.json").read_text(encoding="utf-8")
    )
    assert re.fullmatch(r"\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z", content.pop("checked"))
    return content


def total(replica: Replica) -> int:
    return sum(sum(by.values()) for by in replica.stats()["requests"].values())


def sent(done: Crawl) -> int:
    (count,) = re.findall(
        r"^(\d+) requests? (?:sent|given to the official package)\.$", done.log, re.MULTILINE
    )
    return int(count)


def fits(done: Crawl) -> bool:
    """Every line but that of a path, which has the length that it has."""
    lines = (line for line in done.log.splitlines() if not line.startswith("Saved to "))
    return all(len(line) <= 100 for line in lines)
