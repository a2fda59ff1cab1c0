"""What `scrapy doctor` found of the API, kept in a small file for the spiders to use.

::

    {"api_url": "https://api.kaggle.com", "checked": "2026-11-21T12:00:00Z",
     "lists": {"datasets.DatasetApiService/ListDatasets":
               {"tokens": true, "page_size": 200, "page_rows": 20}},
     "metadata_files": 200}

Findings of another address are not used. What was not found is absent, and unknown.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from typing import Any

from kagglecrawl.config import KaggleConfig
from kagglecrawl.kaggle.paging import Findings

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Report:
    """Findings of one address. ``metadata_files``: the most files GetDatasetMetadata names in its
    ``data`` (0: none at all; None: no limit was seen)."""

    api_url: str
    checked: str = ""
    lists: dict[str, Findings] = dataclasses.field(default_factory=dict)
    metadata_files: int | None = None

    def of(self, name: str) -> Findings:
        """What is known of this list; unknown where nothing is."""
        return self.lists.get(name, Findings())


def load(config: KaggleConfig) -> Report:
    """The findings for ``config.api_url``; unknown where there is no file, or one of no use."""
    nothing = Report(config.api_url)
    try:
        data = json.loads(config.findings.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return nothing
    except (OSError, ValueError) as error:
        logger.warning(
            "%s cannot be read (%s), so the crawl begins without it: run `scrapy doctor` again",
            config.findings,
            type(error).__name__,
        )
        return nothing
    if not isinstance(data, dict) or data.get("api_url") != config.api_url:
        return nothing
    lists = data.get("lists")
    report = Report(
        config.api_url,
        checked=str(data.get("checked", "")),
        lists={
            str(name): Findings(
                tokens=tokens if isinstance(tokens := found.get("tokens"), bool) else None,
                page_size=_positive(found.get("page_size")),
                page_rows=_positive(found.get("page_rows")),
            )
            for name, found in (lists.items() if isinstance(lists, dict) else ())
            if isinstance(found, dict)
        },
        metadata_files=limit if _is_int(limit := data.get("metadata_files")) else None,
    )
    logger.info("Using what `scrapy doctor` found on %s (%s)", report.checked, config.findings)
    return report


def save(config: KaggleConfig, report: Report) -> None:
    """Write the findings, whole or not at all; raises ``OSError``."""
    config.findings.parent.mkdir(parents=True, exist_ok=True)
    beside = config.findings.with_name(f"{config.findings.name}.incomplete")
    beside.unlink(missing_ok=True)  # one left behind may have another mode
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor)
        json.dump(dataclasses.asdict(report), file, indent=2)
        file.write("\n")
    beside.replace(config.findings)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive(value: Any) -> int | None:
    return value if _is_int(value) and value > 0 else None
