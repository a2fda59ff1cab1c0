"""What is true of a dataset, whatever the wire makes of it: the side that tests compare with."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, NamedTuple, Protocol

from kagglecrawl.replica.dice import Dice

State = Literal["public", "gated", "deleted", "forbidden"]

_WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbour",
    "island",
    "juniper",
    "kelp",
    "lagoon",
    "meadow",
    "north",
    "orchard",
    "pebble",
    "quarry",
    "river",
    "summit",
    "tundra",
    "upland",
    "valley",
    "willow",
    "yonder",
    "zephyr",
]


@dataclass(frozen=True)
class Tag:
    """A tag. Rows of lists carry it whole, metadata only its name; `tagIds` filters by `id`."""

    id: int
    slug: str
    name: str
    full_path: str
    description: str


@dataclass(frozen=True)
class Licence:
    """A licence as metadata names it (`CC0-1.0`) and as lists show it (`CC0: Public Domain`)."""

    name: str
    listed: str
    group: Literal["CC", "GPL", "ODB", "OTHER"]


class FileTruth(Protocol):
    """A file of a dataset."""

    @property
    def name(self) -> str:
        """Its path inside the dataset, with `/`."""
        ...

    @property
    def size(self) -> int:
        """Its length in bytes."""
        ...

    @property
    def path(self) -> Path | None:
        """Where the file lies on disk, if it does."""
        ...

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        ...

    def content(self) -> bytes:
        """The whole content."""
        ...


@dataclass(frozen=True)
class GeneratedFile:
    """A file whose content follows from its seed, name and size, and is made when asked for."""

    seed: str
    name: str
    size: int
    path: None = None

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        return io.BytesIO(self.content())

    def content(self) -> bytes:
        """The whole content: valid CSV, JSON or text by the name's suffix, else binary noise."""
        suffix = PurePosixPath(self.name).suffix
        dice = Dice(self.seed, self.name)
        if suffix == ".csv":
            return _lines(dice, self.size, "id,name,value,comment", _csv_row)
        if suffix in {".txt", ".md"}:
            return _lines(dice, self.size, "# Notes", _sentence)
        if suffix == ".json":
            return _json(dice, self.size)
        return hashlib.shake_256(f"{self.seed}\0{self.name}".encode()).digest(self.size)


def _csv_row(dice: Dice, number: int) -> str:
    value = dice.between(-99999, 99999) / 100
    return f'{number},{dice.pick(_WORDS)},{value},"{dice.pick(_WORDS)}, çñü"'


def _sentence(dice: Dice, number: int) -> str:
    return f"{number}. " + " ".join(dice.pick(_WORDS) for _ in range(dice.between(4, 12)))


def _lines(dice: Dice, size: int, head: str, row: Callable[[Dice, int], str]) -> bytes:
    """Lines of exactly `size` bytes together; what no whole line fills, the last one is padded."""
    if size == 0:
        return b""
    lines = [head.encode()]
    length = len(lines[0]) + 1
    while True:
        line = row(dice, len(lines)).encode()
        if length + len(line) + 1 > size:
            break
        lines.append(line)
        length += len(line) + 1
    return b"\n".join(lines) + b" " * (size - length) + b"\n"


def _json(dice: Dice, size: int) -> bytes:
    rows: list[dict[str, object]] = []
    text = b"[]"
    while True:
        rows.append({"id": len(rows), "name": dice.pick(_WORDS), "on": dice.chance(0.5)})
        longer = json.dumps(rows).encode()
        if len(longer) > size:
            return text + b" " * (size - len(text))
        text = longer


@dataclass(frozen=True)
class GivenFile:
    """A file whose content somebody has given."""

    name: str
    data: bytes = field(repr=False)
    path: None = None

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.data)

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        return io.BytesIO(self.data)

    def content(self) -> bytes:
        """The whole content."""
        return self.data


@dataclass(frozen=True)
class Archive:
    """An object that stands for a dataset's archive, whatever is in it.

    `source` is its bytes, or a file on disk, which is read when it is asked for and never loaded
    whole. `name` is the last part of its address: `archive.zip`, `archive.tar.gz`.
    """

    source: bytes | Path = field(repr=False)
    name: str = "archive.zip"

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f"Not a name for an archive: {self.name!r}.")


class Prose(NamedTuple):
    """A description as served, and the Markdown that a right crawler stores for it."""

    description: str
    content_markdown: str


@dataclass(frozen=True, eq=False)
class DatasetTruth:
    """A dataset. Times are UTC, sizes bytes, usability 0 to 1.

    `deleted` and `forbidden` ones are still listed; GetDataset, GetDatasetMetadata, the file list
    and downloads answer 404 and 403 for them. A `gated` one is read like a public one, and its
    downloads answer 403: its rules wait to be accepted.

    `files` is what the metadata and the lists tell of. `archive` is what a download of everything
    leads to; None is a zip of the files.
    """

    id: int
    owner: str
    slug: str
    title: str
    subtitle: str
    usability: float
    last_updated: datetime
    version: int
    licence: Licence
    tags: tuple[Tag, ...]
    files: tuple[FileTruth, ...]
    state: State = "public"
    hotness: float = 0.0
    votes: int = 0
    downloads: int = 0
    views: int = 0
    notebooks: int = 0
    topics: int = 0
    collaborators: tuple[tuple[str, str], ...] = ()
    """(user, role); roles are kagglesdk's CollaboratorType names."""
    archive: Archive | None = None
    write: Callable[[], Prose] = field(default=lambda: Prose("", ""), repr=False)
    """Makes the description; called once, when it is first asked for."""
    older: "DatasetTruth | None" = field(default=None, repr=False)
    """What it was at the version before, where the world has moved on since."""

    @property
    def ref(self) -> str:
        """`owner/slug`, what the rest of Kaggle calls the dataset by."""
        return f"{self.owner}/{self.slug}"

    def at(self, version: int) -> "DatasetTruth":
        """What it was at this version; at the nearest one that is known, if that is not."""
        found = self
        while found.version > version and found.older is not None:
            found = found.older
        return found

    @property
    def archive_name(self) -> str:
        """The last part of the archive's address in storage."""
        return self.archive.name if self.archive else "archive.zip"

    @property
    def archive_key(self) -> str:
        """What statistics and fault scripts call the archive by: `1005/1/archive.zip`."""
        return f"{self.id}/{self.version}/{self.archive_name}"

    @cached_property
    def total_bytes(self) -> int:
        """The sizes of all files together, in bytes."""
        return sum(file.size for file in self.files)

    @cached_property
    def prose(self) -> Prose:
        """The description in both forms."""
        return self.write()

    @property
    def description(self) -> str:
        """The description as the wire has it: Markdown, HTML or empty."""
        return self.prose.description

    @property
    def content_markdown(self) -> str:
        """The description as a right crawler stores it."""
        return self.prose.content_markdown

    @cached_property
    def _files_by_name(self) -> dict[str, FileTruth]:
        return {file.name: file for file in self.files}

    def file(self, name: str) -> FileTruth | None:
        """The file of exactly this name, or None."""
        return self._files_by_name.get(name)
