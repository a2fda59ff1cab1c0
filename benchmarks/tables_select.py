"""One selection from a large table, by one contender: `tables_select.py WHO TABLE SINCE RESULT`.

It stands alone, since pandas and polars live in an environment of their own. RESULT gets a line
with seconds, CPU seconds, rows that were looked at (0: it does not say) and characters of all
selected cells, and then the ids of the selected rows, one to a line.
"""

from __future__ import annotations

import csv
import importlib
import resource
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

#: Those from which the record of a competition is made, and the one by which it is selected.
WANTED = (
    *("Id", "Slug", "Title", "Subtitle", "EnabledDate", "DeadlineDate", "HasLeaderboard"),
    *("EvaluationAlgorithmIsMax", "Overview", "DatasetDescription"),
)
_FORMAT = "%m/%d/%Y %H:%M:%S"
#: Rows that pandas has in memory at once.
_CHUNK = 100_000
#: What a contender returns: rows looked at (0: unknown), characters selected, ids.
Found = tuple[int, int, list[str]]


def ours(path: Path, since: str) -> Found:
    """The batches that a crawl reads, without the crawl."""
    from kagglecrawl.metakaggle.cells import moment
    from kagglecrawl.metakaggle.table import Table

    table = Table.open("Competitions", path)
    read, characters, ids = 0, 0, []
    at: int | None = 0
    while at is not None:
        batch = table.batch(at, WANTED, lambda cells: moment(cells["EnabledDate"]) >= since)
        for row in batch.rows:
            characters += sum(map(len, row.cells.values()))
            ids.append(row.cells["Id"])
        read, at = read + batch.read, batch.next
    return read, characters, ids


def bare(path: Path, since: str) -> Found:
    """The csv module alone, with a comparison that costs next to nothing: what ours stands on."""
    csv.field_size_limit(1 << 24)
    day = since[:10]
    read, characters, ids = 0, 0, []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        places = [header.index(name) for name in WANTED]
        enabled = header.index("EnabledDate")
        for cells in reader:
            read += 1
            when = cells[enabled]
            if f"{when[6:10]}-{when[:2]}-{when[3:5]}" >= day:
                characters += sum(len(cells[place]) for place in places)
                ids.append(cells[0])
    return read, characters, ids


def with_pandas(path: Path, since: str) -> Found:
    """Chunks of the columns, all as text."""
    pandas: Any = importlib.import_module("pandas")
    day = datetime.fromisoformat(since).replace(tzinfo=None)
    read, characters, ids = 0, 0, []
    options = {"usecols": WANTED, "dtype": str, "keep_default_na": False, "chunksize": _CHUNK}
    with pandas.read_csv(path, **options) as chunks:
        for chunk in chunks:
            read += len(chunk)
            kept = chunk[pandas.to_datetime(chunk["EnabledDate"], format=_FORMAT) >= day]
            characters += sum(int(kept[name].str.len().sum()) for name in WANTED)
            ids += kept["Id"].tolist()
    return read, characters, ids


def with_polars(path: Path, since: str) -> Found:
    """A lazy scan, all as text, streamed."""
    polars: Any = importlib.import_module("polars")
    col, day = polars.col, datetime.fromisoformat(since).replace(tzinfo=None)
    rows = (
        polars.scan_csv(path, infer_schema=False)
        .select(WANTED)
        .filter(col("EnabledDate").str.to_datetime(_FORMAT) >= day)
        .collect(engine="streaming")
    )
    characters = sum(int(rows[name].str.len_chars().sum()) for name in WANTED)
    return 0, characters, rows["Id"].to_list()


CONTENDERS: dict[str, Callable[[Path, str], Found]] = {
    "ours": ours,
    "csv": bare,
    "pandas": with_pandas,
    "polars": with_polars,
}


def main(who: str, path: Path, since: str, result: Path) -> None:
    """Select, and write what came of it; ``since`` is a time, ``2023-07-21T00:00:00Z``."""
    if who in {"pandas", "polars"}:
        importlib.import_module(who)  # what that takes is not measured
    began, cpu = time.perf_counter(), _cpu()
    read, characters, ids = CONTENDERS[who](path, since)
    seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    result.write_text("\n".join((f"{seconds} {cpu} {read} {characters}", *ids)), encoding="ascii")


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
