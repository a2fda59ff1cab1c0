"""Who is compared: each makes the same calls against the same replica, in a process of its own."""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError, ReplicaProcess, Usage, clean_env, measure
from kagglecrawl import settings

#: Rows of a page of the list, and so calls of GetDatasetMetadata that one page leads to.
PAGE_ROWS = 20
#: Of the official client, each with a connection of its own.
_THREADS = 16
_TIMEOUT = 300
_SCRAPY = [sys.executable, "-m", "scrapy"]
_FAST = ("-s", "AUTOTHROTTLE_ENABLED=False", "-s", "DOWNLOAD_DELAY=0")
_QUIET = ("-s", "LOG_LEVEL=WARNING")
#: What the bare spider has in common with us, and Scrapy's defaults for the rest.
_BARE = {
    "CONCURRENT_REQUESTS": settings.CONCURRENT_REQUESTS,
    "CONCURRENT_REQUESTS_PER_DOMAIN": settings.CONCURRENT_REQUESTS_PER_DOMAIN,
    "CONCURRENT_ITEMS": settings.CONCURRENT_ITEMS,
    "ROBOTSTXT_OBEY": False,
    "TELNETCONSOLE_ENABLED": False,
    "REMOTE_CONTROL_ENABLED": False,
}


@dataclass(frozen=True)
class Run:
    """One process that made so many calls."""

    calls: int
    usage: Usage


@dataclass(frozen=True)
class Contender:
    """``run(pages)`` makes the calls of so many pages.

    ``start_up`` names the contender whose shortest runs tell what starting costs.
    """

    name: str
    run: Callable[[int], Run]
    start_up: str


@dataclass(frozen=True)
class Bench:
    """The replica, and a folder for whatever the contenders write."""

    replica: ReplicaProcess
    folder: Path

    def contenders(self) -> list[Contender]:
        """Ours, the bare spider that it is measured against, and the rest."""
        us, bare = "kagglecrawl", "Scrapy, bare spider"
        official = f"KaggleApi, {_THREADS} threads"
        return [
            Contender(us, self.us, us),
            Contender(bare, self.bare, bare),
            Contender("kagglecrawl, no Markdown pipeline", self._without_markdown, us),
            Contender("Scrapy, bare spider that stores", self._bare_stores, bare),
            Contender(official, self._official_threads, official),
        ]

    def cli(self, calls: int) -> Run:
        """The kaggle CLI: GetDatasetMetadata, a process for each call, one after the other."""
        command = [str(Path(sysconfig.get_path("scripts")) / "kaggle"), "datasets", "metadata"]
        runs = [
            self._counted([*command, ref], self._official_env(), self.folder, 0, 1)
            for ref in self.replica.readable[:calls]
        ]
        seconds, cpu = (sum(getattr(r.usage, each) for r in runs) for each in ("seconds", "cpu"))
        return Run(sum(r.calls for r in runs), Usage(seconds, cpu))

    def at_its_own_pace(self, pages: int) -> Run:
        """Our crawl with the project's AutoThrottle and DOWNLOAD_DELAY."""
        return self.us(pages, "-s", "AUTOTHROTTLE_ENABLED=True")

    def us(self, pages: int, *options: str) -> Run:
        """Our crawl of so many pages; without options as fast as it can."""
        feed = self.folder / "us.jsonl"
        command = [
            *(*_SCRAPY, "crawl", "datasets", "-a", "min_usability=0", "-a", f"pages=1-{pages}"),
            *("-O", str(feed), "-s", f"WORKSPACE={self.folder / 'workspace'}"),
            *("-a", "download=false", "-a", "refresh=true"),  # whatever a crawl before it had
            *(options or _FAST),
            *_QUIET,
        ]
        env = clean_env(self.folder, **self.replica.crawler_env)
        return self._counted(command, env, ROOT, pages, pages * PAGE_ROWS)

    def _without_markdown(self, pages: int) -> Run:
        """Descriptions as they come: what is left is what a crawl costs whatever it fetches."""
        pipelines = {
            path: order for path, order in settings.ITEM_PIPELINES.items() if "markdown" not in path
        }
        return self.us(pages, *_FAST, "-s", f"ITEM_PIPELINES={json.dumps(pipelines)}")

    def bare(self, pages: int, *options: str) -> Run:
        """The spider of ``bare_spider.py``, as fast as it can."""
        command = [
            *(*_SCRAPY, "runspider", str(ROOT / "benchmarks" / "bare_spider.py")),
            *("-a", f"pages={pages}", *options),
            *(word for name, value in _BARE.items() for word in ("-s", f"{name}={value}")),
            *_QUIET,
        ]
        # outside of the project, but able to import a part of it
        env = clean_env(self.folder, **self.replica.crawler_env, PYTHONPATH=str(ROOT))
        return self._counted(command, env, self.folder, pages, pages * PAGE_ROWS)

    def _bare_stores(self, pages: int) -> Run:
        return self.bare(pages, "-a", "store=1", "-O", str(self.folder / "bare.jsonl"))

    def _official_threads(self, pages: int) -> Run:
        refs = self.replica.refs[: pages * PAGE_ROWS]
        file = self.folder / "refs.txt"
        file.write_text("\n".join(refs), encoding="utf-8")
        script = [sys.executable, "-m", "benchmarks.official_threads"]
        command = [*script, str(_THREADS), str(file)]
        return self._counted(command, self._official_env(), ROOT, 0, len(refs))

    def _official_env(self) -> dict[str, str]:
        config = {"KAGGLE_CONFIG_DIR": str(self.folder / "kaggle")}
        return clean_env(self.folder, **self.replica.official_env, **config)

    def _counted(
        self, command: list[str], env: dict[str, str], folder: Path, lists: int, metadata: int
    ) -> Run:
        """Run it, and check by the replica's own count that it made the calls it was to make."""
        self.replica.reset()
        usage = measure(command, folder=folder, env=env, timeout=_TIMEOUT)
        made = self.replica.requests()
        made.pop("IntrospectToken", None)  # the kaggle package's, once a process
        expected = {"ListDatasets": lists, "GetDatasetMetadata": metadata}
        if made != {method: count for method, count in expected.items() if count}:
            raise BenchmarkError(f"{command} was to call {expected}, but the replica saw {made}")
        return Run(lists + metadata, usage)
