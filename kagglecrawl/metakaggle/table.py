"""One table of Meta Kaggle, a CSV file of any size, read piece by piece.

A piece begins at a byte that the piece before has named, so that a crawl which
was killed goes on where it was. The csv module alone decides where a record
ends: it is given the lines of the file as a text file with ``newline=""`` has
them, and the bytes of the lines that it took are counted.
"""

from __future__ import annotations

import csv
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn, Self

from kagglecrawl.kaggle.errors import StopCrawl

#: Bytes of the longest record that is believed in. Cells of a few megabytes are known; what is
#: longer is a quote that never ends. The csv module takes four bytes for each character.
LONGEST_RECORD = 16 << 20
#: Bytes that are read at once, at first and at most: a small batch should not read much in vain.
_FIRST_BLOCK, _BLOCK = 64 << 10, 256 << 10
_BOM = b"\xef\xbb\xbf"
_ESCAPED = re.compile("[\udc80-\udcff]")


class TableRefused(StopCrawl):
    """A table that cannot be read; ``str()`` is one sentence for people."""

    reason = "kaggle_table"


class TableDamaged(TableRefused):
    """One that would be read if it had come whole."""


class Row(NamedTuple):
    """One record of a table."""

    offset: int
    """The byte at which it begins in the file."""
    cells: dict[str, str]
    """The columns asked for, in that order; ``""`` where the column or the cell is absent."""
    broken: str
    """``""``, or what is wrong: ``cells`` (another number of them than the header has, so they may
    stand under wrong names), ``encoding`` (not UTF-8; what could not be read is U+FFFD)."""


class Batch(NamedTuple):
    """Some records that follow each other."""

    rows: list[Row]
    """Those that were wanted, in the file's order."""
    read: int
    """How many records were looked at."""
    next: int | None
    """The byte at which the next record begins; None at the end of the file."""


#: A record as the csv module sees it, blank lines being none: the byte at which it begins, the byte
#: after its last one (its line's end is part of it), all its cells, and whether it is UTF-8.
Record = tuple[int, int, list[str], bool]


class _Endless(Exception):
    """A record with no end, or none within reason."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


class _Lines:
    """The lines of a file from a byte on, for the csv module. What can be done for a whole block of
    them is: most of what reading costs is what is done for each line."""

    def __init__(self, file: BinaryIO, at: int) -> None:
        self.file = file
        #: Where the record under way begins; kept by whoever reads records.
        self.begin = at
        #: How many lines there were before this block, and after which byte each one of it ends.
        self.before = 0
        self.ends: list[int] = [at]
        #: The lines that are not UTF-8, counted from one.
        self.illegible: deque[int] = deque()
        #: There are no more lines.
        self.ended = False
        file.seek(at)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(map(self._texts, self._blocks()))

    def _texts(self, lines: list[bytes]) -> Iterable[str]:
        """The lines of a block, which is the one under way from now on."""
        self.before += len(self.ends) - 1
        self.ends = [*accumulate(map(len, lines), initial=self.ends[-1])]
        try:
            return [*map(bytes.decode, lines)]
        except UnicodeDecodeError:
            texts = [line.decode(errors="surrogateescape") for line in lines]
        for number, text in enumerate(texts):
            if not text.isascii() and _ESCAPED.search(text):
                self.illegible.append(self.before + number + 1)
                texts[number] = lines[number].decode(errors="replace")
        return texts

    def _blocks(self) -> Iterator[list[bytes]]:
        rest, size = b"", _FIRST_BLOCK
        while block := self.file.read(size):
            # Of bytes, unlike of text, these are exactly CR, LF and CR LF.
            lines = (rest + block).splitlines(keepends=True)
            # Half a line; or a CR whose LF may come with the next block.
            rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
            if lines:
                yield lines
            if self.ends[-1] + len(rest) - self.begin > LONGEST_RECORD:
                raise _Endless(self.begin)
            size = min(size * 2, _BLOCK) if lines else size * 2
        if rest:
            yield rest.splitlines(keepends=True)
        self.ended = True


@dataclass(frozen=True)
class Table:
    """A table as it was when it was opened; its file is open only while it is read."""

    name: str
    """Kaggle's name of it, such as ``Competitions``."""
    path: Path
    """The CSV file."""
    columns: tuple[str, ...]
    """As the header names them, in its order, without blanks around them and without a BOM; none
    for an empty file. Of two columns of one name the first counts."""
    start: int
    """The byte at which the first record begins."""
    size: int
    """Bytes of the file."""
    stamp: str
    """The same for the same file; another one when it was replaced or written to."""

    @classmethod
    def open(cls, name: str, path: Path) -> Self:
        """Look at a table and read its header. Raises ``TableRefused``."""
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise TableRefused(f"Meta Kaggle's table {name}: {path} is no file")
            with path.open("rb", buffering=0) as file:
                bom = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
                with closing(_records(file, bom)) as records:
                    header = next(records, None)
        except OSError as error:
            _unreadable(name, path, error)
        except _Endless:
            raise TableDamaged(
                f"Meta Kaggle's table {name}: the first line of {path} has no end, so it is no CSV "
                "file: download it again"
            ) from None
        columns = tuple(cell.strip() for cell in header[2]) if header else ()
        if any("\0" in column for column in columns):
            raise TableDamaged(
                f"Meta Kaggle's table {name}: {path} is no CSV file in UTF-8: download it again"
            )
        start = header[1] if header else found.st_size
        return cls(name, path, columns, start, found.st_size, _stamp(found))

    def records(self, offset: int = 0) -> Generator[Record]:
        """Every record from the one at byte ``offset`` on (0: the first). Blocking. Raises
        ``TableRefused`` where the file cannot be read any further: it is away or has changed, no
        record begins there, or a quote never ends."""
        with self._opened(offset) as file:
            try:
                yield from _records(file, offset or self.start)
            except _Endless as error:
                raise self._without_end(error) from None

    def pieces(self, spans: Iterable[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes of the file from one byte up to another, as they are, for each span. Blocking.
        Raises ``TableRefused`` where the file is away or has changed."""
        with self._opened(0) as file:
            for begin, end in spans:
                file.seek(begin)
                while begin < end and (piece := file.read(end - begin)):
                    begin += len(piece)
                    yield piece

    def batch(
        self,
        offset: int,
        columns: Sequence[str],
        keep: Callable[[dict[str, str]], bool] | Callable[[str], bool] | None,
        *,
        key: str = "",
        most_bytes: int = 64 << 20,
        most_rows: int = 500,
        most_text: int = 1 << 20,
    ) -> Batch:
        """Read records from the one at byte ``offset`` on (0: the first), one at least, until
        ``most_bytes`` of the file were read, or ``most_rows`` kept, or ``most_text`` characters of
        them. ``keep`` is called with the cells of ``columns`` and tells which rows are wanted;
        None: all are. With ``key``, a column, it is called with that cell alone: where few rows are
        wanted that is twice as quick.

        Blocking, and meant for a thread. Raises ``TableRefused`` as ``records`` does; what comes
        before a record that has no end is handed out first.
        """
        take, names, width = self._taker(columns), tuple(columns), len(self.columns)
        by_cell: Any = keep if key else None
        by_row: Any = None if key else keep
        at = self.columns.index(key) if key in self.columns else width
        rows: list[Row] = []
        read = text = 0
        following: int | None = None
        begin = offset or self.start
        stop = begin + most_bytes
        with self._opened(offset) as file, closing(_records(file, begin)) as records:
            try:
                for begin, end, cells, legible in records:
                    read += 1
                    whole = len(cells) == width
                    if len(cells) < width and end == self.size and not self._ends_well():
                        raise _Endless(begin)
                    if not whole:
                        cells[width:] = [""] * (width - len(cells))
                    # What is absent is looked for behind the last column.
                    cells.append("")
                    if by_cell is None or by_cell(cells[at]):
                        row = dict(zip(names, take(cells), strict=False))
                        if by_row is None or by_row(row):
                            broken = "" if whole and legible else "encoding" if whole else "cells"
                            rows.append(Row(begin, row, broken))
                            text += sum(map(len, row.values()))
                    if end >= stop or len(rows) >= most_rows or text >= most_text:
                        following = end if end < self.size else None
                        break
            except _Endless as error:
                if error.offset == (offset or self.start):
                    raise self._without_end(error) from None
                following = error.offset
        return Batch(rows, read, following)

    def _taker(self, columns: Sequence[str]) -> Callable[[list[str]], tuple[str, ...]]:
        """What takes the cells of these columns out of a record, to which one has been added."""
        where = {name: at for at, name in reversed([*enumerate(self.columns)])}
        # Two more than wanted, which ``zip`` leaves out: of a single one itemgetter makes no tuple.
        return itemgetter(*(where.get(name, len(self.columns)) for name in columns), -1, -1)

    @contextmanager
    def _opened(self, offset: int) -> Iterator[BinaryIO]:
        """The file, in which a record begins at this byte, and which is the same at the end. Raises
        ``TableRefused``."""
        try:
            with self.path.open("rb", buffering=0) as file:
                self._check(file)
                if offset and not self._begins(file, offset):
                    raise TableRefused(
                        f"Meta Kaggle's table {self.name}: no record of {self.path} begins at byte "
                        f"{offset:,}, where the crawl should go on: begin it anew"
                    )
                yield file
                self._check(file)
        except OSError as error:
            _unreadable(self.name, self.path, error)

    def _check(self, file: BinaryIO) -> None:
        if _stamp(os.fstat(file.fileno())) != self.stamp:
            raise TableRefused(
                f"Meta Kaggle's table {self.name}: {self.path} was changed while it was read: run "
                "the same command again"
            )

    def _without_end(self, error: _Endless) -> TableDamaged:
        return TableDamaged(
            f"Meta Kaggle's table {self.name}: the record at byte {error.offset:,} of {self.path} "
            f"has no end (no closing quote within {LONGEST_RECORD >> 20} MiB, or the file ends "
            "before it), so the file is cut short or damaged: download it again"
        )

    def _ends_well(self) -> bool:
        """Is the end of the file that of a line?"""
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) in {b"\n", b"\r"}

    def _begins(self, file: BinaryIO, offset: int) -> bool:
        """A line begins at this byte (or the file ends there), so that a record may."""
        if offset == self.start or offset == self.size:
            return True
        if not self.start < offset < self.size:
            return False
        file.seek(offset - 1)
        return file.read(1) in {b"\n", b"\r"}


def _records(file: BinaryIO, offset: int) -> Generator[Record]:
    """Raises ``_Endless``."""
    # The limit is the process's; the records' own is no smaller.
    if csv.field_size_limit() < LONGEST_RECORD:
        csv.field_size_limit(LONGEST_RECORD)
    lines = _Lines(file, offset)
    reader = csv.reader(lines)
    try:
        for cells in reader:
            if lines.ended:
                # It asked for one more line, and there was none: a quote is still open.
                raise _Endless(lines.begin)
            begin, end = lines.begin, lines.ends[reader.line_num - lines.before]
            lines.begin = end
            legible = True
            while lines.illegible and lines.illegible[0] <= reader.line_num:
                legible = not lines.illegible.popleft()
            if cells:
                yield begin, end, cells, legible
    except csv.Error:
        # Of what is not strict, only a cell that is too long is an error.
        raise _Endless(lines.begin) from None


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def _unreadable(name: str, path: Path, error: OSError) -> NoReturn:
    raise TableRefused(
        f"Meta Kaggle's table {name}: {path} cannot be read: {error.strerror or error}"
    ) from None
