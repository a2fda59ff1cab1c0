"""What is crawled, and into which feed: each kind of feed knows how to be asked for and read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kagglecrawl.replica.rpc import Behaviour

Row = dict[str, Any]
#: A feed that was there before the job.
BEFORE = '{"Ref": "before/the-job"}\n'


def rows_of(lines: bytes) -> list[Row]:
    """Of JSON lines; what comes after the last line break is left out."""
    return [json.loads(line) for line in lines[: lines.rfind(b"\n") + 1].splitlines()]


class Feed:
    """One file of JSON lines, appended to what is there."""

    name = "out.jsonl"
    batched = False

    def options(self, folder: Path) -> list[str]:
        """What a crawl is started with, each time."""
        return ["-o", str(folder / self.name)]

    def prepare(self, folder: Path) -> None:
        """Before the first start."""
        (folder / self.name).write_text(BEFORE, encoding="utf-8")

    def rows(self, folder: Path) -> list[Row]:
        """All of its rows, when the job has ended."""
        content = (folder / self.name).read_bytes()
        assert content.startswith(BEFORE.encode()), "what was there before the job is gone"
        assert content.endswith(b"\n"), "its last row is not whole"
        return rows_of(content)[1:]

    def rows_so_far(self, folder: Path) -> list[Row]:
        """The whole rows that are there while the job goes on, as far as they can be read."""
        return rows_of((folder / self.name).read_bytes())[1:]


class Overwritten(Feed):
    """One file of JSON lines, in place of what is there; ``-O`` is given at every start."""

    def options(self, folder: Path) -> list[str]:
        return ["-O", str(folder / self.name)]

    def rows(self, folder: Path) -> list[Row]:
        content = (folder / self.name).read_bytes()
        assert content.endswith(b"\n"), "its last row is not whole"
        return rows_of(content)

    def rows_so_far(self, folder: Path) -> list[Row]:
        content = (folder / self.name).read_bytes()
        return [] if content == BEFORE.encode() else rows_of(content)


class Unnamed(Feed):
    """The feed that a crawl has when nobody names one."""

    def options(self, folder: Path) -> list[str]:
        return []

    def prepare(self, folder: Path) -> None:
        pass

    def rows(self, folder: Path) -> list[Row]:
        (found,) = self._files(folder)
        content = found.read_bytes()
        assert content.endswith(b"\n"), "its last row is not whole"
        return rows_of(content)

    def rows_so_far(self, folder: Path) -> list[Row]:
        return [row for file in self._files(folder) for row in rows_of(file.read_bytes())]

    def _files(self, folder: Path) -> list[Path]:
        return list((workspace(folder) / "output" / "datasets").glob("datasets_*.jsonl"))


class Gzip(Feed):
    """JSON lines, compressed by Scrapy's plugin."""

    name = "out.jsonl.gz"

    def options(self, folder: Path) -> list[str]:
        plugin = "scrapy.extensions.postprocessing.GzipPlugin"
        feeds = {str(folder / self.name): {"format": "jsonlines", "postprocessing": [plugin]}}
        return ["-s", f"FEEDS={json.dumps(feeds)}"]

    def prepare(self, folder: Path) -> None:
        pass

    def rows(self, folder: Path) -> list[Row]:
        return rows_of(gzip.decompress((folder / self.name).read_bytes()))

    def rows_so_far(self, folder: Path) -> list[Row]:
        file, lines = folder / self.name, bytearray()
        if file.exists():
            try:
                with gzip.open(file) as unpacked:
                    while data := unpacked.read(1024):
                        lines += data
            except EOFError:
                pass  # half of a write
        return rows_of(bytes(lines))


class Csv(Feed):
    """CSV, whose head must be there once."""

    name = "out.csv"

    def prepare(self, folder: Path) -> None:
        pass

    def rows(self, folder: Path) -> list[Row]:
        text = (folder / self.name).read_bytes().decode()
        return [_uncelled(row) for row in csv.DictReader(io.StringIO(text, newline=""))]

    def rows_so_far(self, folder: Path) -> list[Row]:
        return []  # a half row cannot be told from a whole one


class Batches(Feed):
    """Files of so many rows each."""

    name = "part-%(batch_id)d.jsonl"
    batched = True
    size = 25

    def options(self, folder: Path) -> list[str]:
        return [
            *("-o", str(folder / "parts" / self.name)),
            *("-s", f"FEED_EXPORT_BATCH_ITEM_COUNT={self.size}"),
        ]

    def prepare(self, folder: Path) -> None:
        pass

    def rows(self, folder: Path) -> list[Row]:
        found = {self._number(file): file for file in (folder / "parts").iterdir()}
        assert sorted(found) == list(range(1, len(found) + 1)), "a batch is missing"
        parts = [rows_of(found[number].read_bytes()) for number in sorted(found)]
        assert all(len(part) == self.size for part in parts[:-1]), "a batch is not full"
        assert 0 < len(parts[-1]) <= self.size
        return [row for part in parts for row in part]

    def rows_so_far(self, folder: Path) -> list[Row]:
        files = (folder / "parts").glob("part-*.jsonl")
        return [row for file in files for row in rows_of(file.read_bytes())]

    def _number(self, file: Path) -> int:
        match = re.fullmatch(r"part-(\d+)\.jsonl", file.name)
        assert match, f"{file.name} is no batch"
        return int(match[1])


@dataclass(frozen=True)
class Shape:
    """A crawl: its feed, its arguments, the list pages that it walks (all, or from and to), how
    many rows it wants (0: all), and how the replica pages."""

    name: str
    feed: Feed = field(default_factory=Feed)
    pages: tuple[int, int] | None = None
    sample: int = 0
    paging: str = "page"

    @property
    def behaviour(self) -> Behaviour:
        """The replica's."""
        return Behaviour(paging="token" if self.paging == "token" else "page")

    def options(self, folder: Path) -> list[str]:
        """What the crawl is started with, each time."""
        options = self.feed.options(folder)
        if self.pages:
            options += ["-a", f"pages={self.pages[0]}-{self.pages[1]}"]
        if self.sample:
            options += ["-a", f"sample={self.sample}"]
        return options


SHAPES = (
    Shape("jsonlines"),
    Shape("by token", paging="token"),
    Shape("overwritten", Overwritten(), paging="token"),
    Shape("gzip", Gzip()),
    Shape("csv", Csv(), paging="token"),
    Shape("batches", Batches()),
    Shape("sample", sample=40, paging="token"),
    Shape("pages", Unnamed(), pages=(2, 6)),
)


def workspace(folder: Path) -> Path:
    """The setting WORKSPACE of a job's crawls."""
    return folder / "workspace"


def _uncelled(cells: dict[str, str]) -> Row:
    """A row of CSV as it was; lists are JSON in their cells."""
    row: Row = dict(cells)
    for name in ("File Explorer", "Licenses", "Tags", "DatasetSize", "usabilityRating", "Version"):
        row[name] = json.loads(cells[name])
    row["Download"] = json.loads(cells["Download"] or "null")
    return row
