"""What a job directory says of its job, so that no run goes on with what it cannot.

Scrapy's job directory resumes after a clean stop alone. ``JOBDIR/kagglecrawl.json`` (0600) records
whose job it is and how the last run ended::

    {"spider": "datasets", "arguments": {"pages": "1-5"}, "api_url": "https://api.kaggle.com",
     "state": "running", "missing": false, "pid": 4711}

``missing`` is true once something has failed in one of its runs. ``state`` is ``running`` while a
run goes on (and after it was killed), then ``stopped`` (there is more to do), ``complete``, or
``incomplete`` (it ended, and something is missing).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

State = Literal["running", "stopped", "complete", "incomplete"]
_FILE = "kagglecrawl.json"
_ANEW = "name another JOBDIR to begin anew"


class JobRefused(ValueError):
    """A run must not go on with this job; the text says why and what to do."""


class Job:
    """The record in one job directory."""

    def __init__(
        self, folder: Path, spider: str, arguments: Mapping[str, str], api_url: str
    ) -> None:
        self.folder = folder
        #: Has something failed in this run or in one before it?
        self.missing = False
        self._identity = {
            "spider": spider,
            # a scheduler's own, such as scrapyd's _job, differ from run to run
            "arguments": {k: v for k, v in arguments.items() if not k.startswith("_")},
            "api_url": api_url,
        }

    def check(self) -> None:
        """Raise ``JobRefused`` unless this is a new job, or one that was stopped cleanly."""
        if (record := self._read()) is None:
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise JobRefused(f"JOBDIR={self.folder} holds something else: {_ANEW}")
            return
        for name, ours in self._identity.items():
            if record.get(name) != ours:
                raise JobRefused(
                    f"JOBDIR={self.folder} is of a job with other {name} "
                    f"({_shown(record.get(name))}, now {_shown(ours)}): {_ANEW}"
                )
        match record.get("state"):
            case "stopped":
                self.missing = bool(record.get("missing"))
                return
            case "complete":
                raise JobRefused(f"JOBDIR={self.folder} is of a job that is complete: {_ANEW}")
            case "incomplete":
                raise JobRefused(
                    f"JOBDIR={self.folder} is of a job that ended with something missing, and "
                    f"would not ask for it again: {_ANEW}"
                )
        if _alive(record.get("pid")):
            raise JobRefused(f"JOBDIR={self.folder} is in use by process {record['pid']}")
        raise JobRefused(
            f"JOBDIR={self.folder} is of a job that was killed, and cannot go on without loss: "
            f"{_ANEW}"
        )

    def write(self, state: State) -> None:
        """Record the state, whole or not at all; raises ``OSError``."""
        record = {**self._identity, "state": state, "missing": self.missing, "pid": os.getpid()}
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = self.folder / f"{_FILE}.incomplete"
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor)
            json.dump(record, file, indent=1)
        beside.replace(self.folder / _FILE)

    def _read(self) -> dict[str, Any] | None:
        try:
            record = json.loads((self.folder / _FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError):
            record = None
        if not isinstance(record, dict):
            raise JobRefused(f"{self.folder / _FILE} cannot be read: {_ANEW}")
        return record


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items()) or "none"
    return str(value)


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0 or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
