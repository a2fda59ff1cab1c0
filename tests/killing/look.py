"""What is right of a job's feed, page files and own file; what is not is told as a text."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest

from kagglecrawl.items import Dataset, feed_fields
from kagglecrawl.kaggle.paging import PAGE_ROWS
from kagglecrawl.replica.listing import listing
from kagglecrawl.replica.world import World
from kagglecrawl.state.ledger import Ledger
from kagglecrawl.state.store import FILE, Store, Verdict
from tests.conftest import page_row, record
from tests.killing.shapes import Row, Shape, workspace

MINIMUM = 0.8


@dataclass
class Faults:
    """What is wrong: rows and pages by what identifies them, and everything else in words."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __str__(self) -> str:
        told = (f"{name}: {', '.join(found[:5])}" for name, found in vars(self).items() if found)
        return "; ".join(told)

    def add(self, more: Faults) -> None:
        """Put others to these."""
        for name, found in vars(self).items():
            found += getattr(more, name)


class Truth:
    """What a crawl of this shape must come to, in the replica's world."""

    def __init__(self, world: World, shape: Shape) -> None:
        ordered = [dataset.ref for dataset in listing(world, ApiListDatasetsRequest())]
        first, last = shape.pages or (1, -(-len(ordered) // PAGE_ROWS))
        right = {dataset.ref: record(dataset) for dataset in world.public(MINIMUM)}
        self._pages = {
            number: [right[ref] for ref in _slice(ordered, number) if ref in right]
            for number in range(first, last + 1)
        }
        self._sample = shape.sample
        self.right = {row["Ref"]: row for rows in self._pages.values() for row in rows}
        self.listed = sum(len(_slice(ordered, number)) for number in self._pages)
        usable = {dataset.ref for dataset in world.datasets if dataset.usability >= MINIMUM}
        #: Resources that are asked for.
        self.asked = sum(ref in usable for number in self._pages for ref in _slice(ordered, number))

    @property
    def pages(self) -> int:
        """Pages of the list."""
        return len(self._pages)

    @property
    def stored(self) -> int:
        """Rows at the end."""
        return self._sample or len(self.right)

    def of_rows(self, rows: Iterable[Row], *, ended: bool) -> Faults:
        """Is every row right and there once, and at the end, are all there?"""
        faults, seen = Faults(), set()
        for row in rows:
            ref = row["Ref"]
            if ref in seen:
                faults.doubled.append(ref)
            seen.add(ref)
            if row != self.right.get(ref):
                faults.wrong.append(ref)
        if ended and not self._sample:
            faults.lost = sorted(self.right.keys() - seen)
        elif ended and len(seen) != self._sample:
            faults.lost = [f"{self._sample - len(seen)} of the sample"]
        return faults

    def of_pages(self, folder: Path, *, ended: bool) -> Faults:
        """Is every page file that is there whole and right, and at the end, are all there?"""
        faults, there = Faults(), set()
        pages = workspace(folder) / "output" / "datasets" / "meta_data"
        for path in pages.iterdir() if pages.is_dir() else ():
            if path.suffix != ".jsonl":
                if ended or not path.name.endswith(".jsonl.incomplete"):
                    faults.pages.append(f"{path.name} is left over")
                continue
            there.add(number := int(path.stem.removeprefix("page_")))
            content = path.read_bytes()
            wanted = [page_row(row) for row in self._pages.get(number, [])]
            if _parsed(content) != wanted or content.endswith(b"\n") != bool(wanted):
                faults.pages.append(f"{path.name} is wrong")
        if ended and not self._sample:
            faults.pages += [
                f"page_{n}.jsonl is missing" for n in sorted(self._pages.keys() - there)
            ]
        return faults


def of_ledger(path: Path, rows: Iterable[Row], *, ended: bool) -> Faults:
    """Has the ledger the record of every row of a job that has ended, and of none that is wrong?"""
    faults = Faults()
    with closing(Ledger(path, "loopback", "datasets")) as ledger:
        for row in rows:
            record = ledger.record(row["Ref"], str(row["Version"]))
            if record is None and ended:
                faults.other.append(f"the ledger does not know {row['Ref']}")
            elif record is not None and record != _kept(row):
                faults.other.append(f"the ledger has another {row['Ref']}")
    return faults


def _kept(row: Row) -> Row:
    names = {export: name for name, export in feed_fields(Dataset).items()}
    return {names[export]: value for export, value in row.items() if export != "Download"}


def of_store(folder: Path) -> Faults:
    """Do the counts of the job's file, the resources and the rows of its feeds go together?

    A copy is looked at: what looks at a database may mend it.
    """
    faults = Faults()
    if not (folder / FILE).exists():
        return faults
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for path in folder.glob(f"{FILE}*"):
            shutil.copy(path, copy)
        with closing(Store.look(copy / FILE)) as store:
            tally = store.tally()
            counts = {verdict.value: store.count(verdict) for verdict in Verdict}
            written = sum(feed.items for feed in store.feeds())
            discovered = store.count("discovered")
    if {name: count for name, count in counts.items() if count} != tally:
        faults.other.append(f"the job counts {counts}, and its resources are {tally}")
    if discovered != sum(counts.values()):
        faults.other.append(f"{discovered} discovered is not the sum of {counts}")
    if written != counts["stored"]:
        faults.other.append(f"{counts['stored']} are stored, with {written} rows in feeds")
    return faults


def _slice(ordered: list[str], page: int) -> list[str]:
    return ordered[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]


def _parsed(content: bytes) -> list[Row] | None:
    try:
        return [json.loads(line) for line in content.splitlines()]
    except ValueError:
        return None
