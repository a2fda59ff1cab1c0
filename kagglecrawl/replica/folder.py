"""Real folders published as datasets."""

import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from kagglecrawl.replica.made import LICENCES, TAGS, slugify
from kagglecrawl.replica.truth import DatasetTruth, Licence, Prose, Tag

METADATA = "dataset-metadata.json"
_FIRST_ID = 900_000
_REF = re.compile(r"([\w-]+)/([\w-]+)", re.ASCII)


@dataclass(frozen=True)
class DiskFile:
    """A file below a published folder."""

    name: str
    size: int
    path: Path

    def open(self) -> BinaryIO:
        """Open the content for reading."""
        return self.path.open("rb")

    def content(self) -> bytes:
        """The whole content."""
        return self.path.read_bytes()


def publish(specs: Sequence[str]) -> tuple[DatasetTruth, ...]:
    """Make datasets of `DIR` or `DIR=owner/slug` each; ids follow the order given.

    Raises ValueError, one sentence, for a folder that cannot be read, a bad reference, metadata
    that is not JSON, or two folders of one reference.
    """
    found: dict[str, DatasetTruth] = {}
    for number, spec in enumerate(specs):
        dataset = _publish(spec, _FIRST_ID + number)
        if dataset.ref in found:
            raise ValueError(f"Two folders would be published as {dataset.ref}.")
        found[dataset.ref] = dataset
    return tuple(found.values())


def _publish(spec: str, dataset_id: int) -> DatasetTruth:
    if not spec.partition("=")[0]:
        raise ValueError(f"Not a folder: {spec!r}.")
    name, _, ref = (spec, "", "") if Path(spec).is_dir() else spec.partition("=")
    root = Path(name).resolve()
    try:
        entries = list(root.iterdir())
    except OSError as failure:
        raise ValueError(f"Cannot read the folder {name!r}: {failure.strerror}.") from None
    info = _metadata(root) if root / METADATA in entries else {}
    ref = ref or _ref(info) or f"replica/{slugify(root.name) or 'folder'}"
    matched = _REF.fullmatch(ref)
    if matched is None:
        raise ValueError(f"Not an owner/slug: {ref!r} (for the folder {name!r}).")
    files = tuple(sorted(_files(root), key=lambda file: file.name))
    newest = max((file.path.stat().st_mtime for file in files), default=root.stat().st_mtime)
    description = _text(info, "description")
    return DatasetTruth(
        id=dataset_id,
        owner=matched[1],
        slug=matched[2],
        title=_text(info, "title") or root.name,
        subtitle=_text(info, "subtitle"),
        usability=_usability(info),
        last_updated=datetime.fromtimestamp(int(newest), UTC),
        version=1,
        licence=_licence(info),
        tags=tuple(_tag(str(keyword)) for keyword in _list(info, "keywords")),
        files=files,
        write=lambda: Prose(description, description),
    )


def _metadata(root: Path) -> dict[str, Any]:
    """The `dataset-metadata.json` of a folder, out of its `info` wrapper if it has one.

    kaggle 1.5 writes it flat, 1.6 with twins (`titleNullable`, `hasTitle`), 2.2 as `info`; people
    write the upload form (real samples of each, real-data-quirks 13).
    """
    try:
        value = json.loads((root / METADATA).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as failure:
        raise ValueError(f"Cannot read {METADATA} of {str(root)!r}: {failure}.") from None
    if isinstance(value, dict) and isinstance(value.get("info"), dict):
        value = {**value, **value["info"]}
    if not isinstance(value, dict):
        raise ValueError(f"{METADATA} of {str(root)!r} is not a JSON object.")
    return value


def _text(info: dict[str, Any], name: str) -> str:
    value = info.get(name) or info.get(f"{name}Nullable")
    return value if isinstance(value, str) else ""


def _list(info: dict[str, Any], name: str) -> list[Any]:
    value = info.get(name)
    return value if isinstance(value, list) else []


def _ref(info: dict[str, Any]) -> str:
    """`id`; where the official client leaves it out, the owner and the slug."""
    owner, slug = _text(info, "ownerUser"), _text(info, "datasetSlug")
    return _text(info, "id") or (f"{owner}/{slug}" if owner and slug else "")


def _usability(info: dict[str, Any]) -> float:
    """As the metadata rates it; 1.0 where it does not, so that a crawl takes it."""
    value = info.get("usabilityRating", info.get("usabilityRatingNullable"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1.0
    return float(value)


def _licence(info: dict[str, Any]) -> Licence:
    named = [each for each in _list(info, "licenses") if isinstance(each, dict)]
    name = _text(named[0], "name") if named else ""
    name = name or "unknown"
    known = {licence.name: licence for licence in LICENCES}
    return known.get(name, Licence(name, name, "OTHER"))


def _tag(name: str) -> Tag:
    known = {tag.name: tag for tag in TAGS}
    slug = slugify(name)
    made_up = Tag(20_000 + zlib.crc32(name.encode()) % 10_000, slug, name, name, "")
    return known.get(name, made_up)


def _files(root: Path) -> Iterator[DiskFile]:
    """All regular files below the folder; no hidden ones, and no links that lead out of it."""
    for path in root.rglob("*"):
        name = path.relative_to(root)
        hidden = any(part.startswith(".") for part in name.parts)
        if hidden or name == Path(METADATA) or not path.is_file():
            continue
        if path.resolve().is_relative_to(root):
            yield DiskFile(name.as_posix(), path.stat().st_size, path)
