"""Where the files of the ledger are: the workspace, and the buckets that it names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from scrapy.settings import BaseSettings

from kagglecrawl.config import SettingError, destination_of
from kagglecrawl.s3.crew import Crew
from kagglecrawl.s3.destination import Destination
from kagglecrawl.state.ledger_look import LedgerRefused
from kagglecrawl.verify.resource import Place
from kagglecrawl.verify.run import AT_ONCE
from kagglecrawl.verify.workspace import Workspace

if TYPE_CHECKING:
    from kagglecrawl.verify.store import Objects


class Places:
    """The place of each folder; buckets are opened when the first of theirs is asked for.

    ``destination`` is the store of the settings, if they name one: its endpoint and credentials are
    used for every bucket. Without it they come from where boto3 finds them.
    """

    def __init__(
        self,
        settings: BaseSettings,
        destination: Destination | None,
        workspace: Path,
        requests: int,
    ) -> None:
        self._settings = settings
        self._destination = destination
        self._workspace = Workspace(workspace)
        self._requests = requests
        self._crew = Crew(requests, 4 * requests)
        self._buckets: dict[str, Objects] = {}
        self._lock = Lock()

    def of(self, folder: str) -> Place:
        """Where this folder is; raises ``SettingError`` and ``LedgerRefused``."""
        if not folder.startswith("s3://"):
            return self._workspace
        bucket = folder.removeprefix("s3://").partition("/")[0]
        with self._lock:
            if bucket not in self._buckets:
                self._buckets[bucket] = self._open(bucket)
            return self._buckets[bucket]

    def close(self) -> None:
        """Send nothing more."""
        self._crew.close()

    def _open(self, bucket: str) -> Objects:
        # boto3 takes a third of a second to import: only who has files in a store waits for it
        from kagglecrawl.verify.store import Objects

        return Objects.at(self._of_bucket(bucket), self._crew, self._requests + AT_ONCE)

    def _of_bucket(self, bucket: str) -> Destination:
        if self._destination is not None:
            if self._destination.bucket == bucket:
                return self._destination
            return replace(self._destination, bucket=bucket, prefix="")
        settings = self._settings.copy()
        settings.set("S3_URI", f"s3://{bucket}", priority="cmdline")
        try:
            found = destination_of(settings)
        except SettingError as error:
            raise LedgerRefused(
                f"the ledger names the bucket {bucket}, which cannot be used: {error}"
            ) from None
        assert found is not None
        return found
