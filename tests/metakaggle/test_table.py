"""Tables of Meta Kaggle: by batches of any size exactly the rows that one csv.reader gives."""

from __future__ import annotations

import csv
import io
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kagglecrawl.metakaggle import table as tables
from kagglecrawl.metakaggle.table import Batch, Row, Table, TableRefused

Write = Callable[[bytes], Table]
IN_TMP_PATH = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(content: bytes) -> Table:
        path = tmp_path / "Things.csv"
        path.write_bytes(content)
        return Table.open("Things", path)

    return make


@pytest.fixture(autouse=True)
def field_limit() -> Iterator[None]:
    """The limit of the csv module is the whole process's."""
    before = csv.field_size_limit()
    yield
    csv.field_size_limit(before)


def read(table: Table, columns: tuple[str, ...], offset: int = 0, **limits: Any) -> list[Row]:
    """All rows, batch by batch."""
    rows: list[Row] = []
    at: int | None = offset
    while at is not None:
        batch = table.batch(at, columns, None, **limits)
        assert batch.read == len(batch.rows)
        rows += batch.rows
        at = batch.next
    return rows


def test_a_file_that_ends_within_a_record_is_refused_there(tmp_path: Path) -> None:
    path = tmp_path / "Things.csv"
    path.write_text("Id,Title,Text\n1,a,b\n2,c")
    table = Table.open("Things", path)
    batch = table.batch(0, COLUMNS, None)
    assert [row.cells["Id"] for row in batch.rows] == ["1"]
    assert batch.next == path.read_text().index("2,c")
    with pytest.raises(TableRefused, match="the file ends"):
        table.batch(batch.next, COLUMNS, None)
    path.write_text("Id,Title,Text\n1,a,b\n2,c\n")  # a short one, but whole
    rows = Table.open("Things", path).batch(0, COLUMNS, None).rows
    assert [row.broken for row in rows] == ["", "cells"]


# -- what csv.reader gives -------------------------------------------------------------------------

CELLS = st.text(st.sampled_from('a1 ,"\r\n\t\0\x0c\x1c\x85\u2028é😀\ufeff\ufffd'), max_size=8)
COLUMNS = ("Id", "Title", "Text")


@IN_TMP_PATH
@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=12),
    quoting=st.sampled_from((csv.QUOTE_ALL, csv.QUOTE_MINIMAL)),
    end=st.sampled_from(("\n", "\r\n", "\r")),
    bom=st.booleans(),
    cut=st.booleans(),
    block=st.integers(1, 40),
    most=st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 20)),
)
def test_batches_give_what_one_reader_gives(
    tmp_path: Path,
    rows: list[list[str]],
    quoting: Literal[0, 1],
    end: str,
    bom: bool,
    cut: bool,
    block: int,
    most: tuple[int, int, int],
) -> None:
    path = tmp_path / "Things.csv"
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        csv.writer(file, quoting=quoting, lineterminator=end).writerows([COLUMNS, *rows])
    if cut:  # the last line's end
        path.write_bytes(path.read_bytes().removesuffix(end.encode()))
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *expected = filter(None, csv.reader(file))
    assume(not cut or not expected or len(expected[-1]) >= len(COLUMNS))  # else half a record
    with patch.multiple(tables, _FIRST_BLOCK=block, _BLOCK=block):
        table = Table.open("Things", path)
        limits = dict(zip(("most_bytes", "most_rows", "most_text"), most, strict=True))
        found = read(table, COLUMNS, **limits)
        again = [table.batch(row.offset, COLUMNS, None, most_rows=1).rows for row in found]
        spans = [(begin, stop) for begin, stop, *_ in table.records()]
    assert list(table.columns) == header
    padded = [[*each, "", ""][:3] for each in expected]
    assert [list(row.cells.values()) for row in found] == padded
    assert [row.broken for row in found] == ["" if len(x) == 3 else "cells" for x in expected]
    assert [[row] for row in found] == again, "a record can be read from where it begins"
    assert [row.offset for row in found] == [begin for begin, _ in spans]
    content = path.read_bytes()
    for begin, stop in spans:
        piece = content[begin:stop].decode()
        assert [*filter(None, csv.reader(io.StringIO(piece, newline="")))]
        assert stop == len(content) or piece.endswith(("\r", "\n"))
        assert content[stop - 1 : stop + 1] != b"\r\n", "the end of its line is part of it"


@IN_TMP_PATH
@given(
    lines=st.lists(
        st.binary(max_size=6).filter(lambda line: not set(line) & set(b'"\r\n')), max_size=8
    ),
    block=st.integers(1, 20),
)
def test_whatever_bytes_a_line_has_the_next_one_is_not_harmed(
    tmp_path: Path, lines: list[bytes], block: int
) -> None:
    path = tmp_path / "Things.csv"
    path.write_bytes(b"Id\n" + b"".join(b"%s\nok\n" % line for line in lines))
    with patch.multiple(tables, _FIRST_BLOCK=block, _BLOCK=block):
        rows = read(Table.open("Things", path), ("Id",))
    expected = []
    for line in lines:
        text = line.decode(errors="replace")
        broken = "" if text.encode() == line else "encoding"
        if line:
            expected.append((text.partition(",")[0], "cells" if "," in text else broken))
        expected.append(("ok", ""))
    assert [(row.cells["Id"], row.broken) for row in rows] == expected


# -- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\r\n\n"])
def test_an_empty_file_has_no_columns_and_no_rows(write: Write, content: bytes) -> None:
    table = write(content)
    assert table.columns == ()
    assert table.batch(0, ("Id",), None) == Batch([], 0, None)


def test_a_header_with_a_bom_blanks_and_a_column_twice(write: Write) -> None:
    table = write(b'\xef\xbb\xbf"Id", Title ,Id\r\n1,one,2\r\n')
    assert table.columns == ("Id", "Title", "Id")
    (row,) = read(table, ("Title", "Id"))
    assert row == Row(table.start, {"Title": "one", "Id": "1"}, "")


def test_columns_are_taken_by_name_and_absent_ones_are_empty(write: Write) -> None:
    table = write(b"C,B,A\n3,2,1\n")
    assert [*read(table, ("A", "Overview", "C"))[0].cells.items()] == [
        ("A", "1"),
        ("Overview", ""),
        ("C", "3"),
    ]
    assert read(table, ("B",))[0].cells == {"B": "2"}
    assert read(table, ())[0].cells == {}


def test_a_surplus_cell_is_none_of_an_absent_column(write: Write) -> None:
    (row,) = read(write(b"A,B\n1,2,3\n"), ("B", "Absent"))
    assert row == Row(4, {"B": "2", "Absent": ""}, "cells")


@pytest.mark.parametrize("content", ["Id,Título\n1,2\n".encode("utf-16"), b"PK\3\4\0\0"])
def test_what_is_no_text_is_refused(write: Write, content: bytes) -> None:
    with pytest.raises(TableRefused, match=r"Things\.csv is no CSV file in UTF-8: download"):
        write(content)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableRefused, match="cannot be read: No such file or directory"):
        Table.open("Things", tmp_path / "Things.csv")
    with pytest.raises(TableRefused, match="is no file"):
        Table.open("Things", tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TableRefused, match="is no file"):
        Table.open("Things", tmp_path / "pipe")


# -- limits ----------------------------------------------------------------------------------------

HUNDRED = b"Id,Text\n" + b"".join(b"%d,text\n" % n for n in range(10, 100))


def test_keep_chooses_and_sees_the_columns_asked_for(write: Write) -> None:
    seen: list[dict[str, str]] = []

    def keep(cells: dict[str, str]) -> bool:
        seen.append(cells)
        return cells["Id"].endswith("7")

    batch = write(HUNDRED).batch(0, ("Id",), keep)
    assert [row.cells["Id"] for row in batch.rows] == [f"{n}7" for n in range(1, 10)]
    assert (batch.read, batch.next) == (90, None)
    assert seen == [{"Id": str(n)} for n in range(10, 100)]


def test_keep_may_see_one_cell_alone(write: Write) -> None:
    table = write(b"Id,Of,Of\n1,a,b\n2,b,a\n3\n4,b\n")
    for key, cells, ids in (
        ("Of", "ab", "124"),
        ("Of", "b", "24"),
        ("Of", "", "3"),
        ("No", "", "1234"),
    ):
        seen: list[str] = []

        def keep(cell: str, cells: str = cells, seen: list[str] = seen) -> bool:
            seen.append(cell)
            return cell in {*cells} or cell == cells

        batch = table.batch(0, ("Id",), keep, key=key)
        assert "".join(row.cells["Id"] for row in batch.rows) == ids
        assert seen == (["a", "b", "", "b"] if key == "Of" else [""] * 4)
        assert batch.read == 4


def test_a_batch_ends_at_the_first_limit_that_it_meets(write: Write) -> None:
    table = write(HUNDRED)
    assert table.batch(0, ("Id",), None, most_rows=5).next == 8 + 5 * 8
    assert table.batch(0, ("Id",), None, most_bytes=33).next == 8 + 5 * 8
    assert table.batch(0, ("Id",), None, most_bytes=40).next == 8 + 5 * 8
    assert table.batch(0, ("Id",), None, most_text=9).next == 8 + 5 * 8
    none_kept = table.batch(0, ("Id",), lambda cells: False, most_rows=1, most_text=1)
    assert none_kept == Batch([], 90, None)
    last = table.batch(8 + 89 * 8, ("Id",), None, most_rows=1)
    assert last.next is None, "nothing follows"


def test_the_end_of_the_file_is_a_place_to_go_on(write: Write) -> None:
    table = write(HUNDRED)
    assert table.batch(table.size, ("Id",), None) == Batch([], 0, None)


@pytest.mark.parametrize("offset", [1, 12, 10**9])
def test_an_offset_at_which_nothing_begins_is_refused(write: Write, offset: int) -> None:
    with pytest.raises(TableRefused, match=f"no record .* begins at byte {offset:,}"):
        write(HUNDRED).batch(offset, ("Id",), None)


def test_another_file_under_the_name_is_noticed(write: Write) -> None:
    table = write(HUNDRED)
    again = write(HUNDRED + b"1,2\n")
    assert again.stamp != table.stamp
    with pytest.raises(TableRefused, match="was changed while it was read"):
        table.batch(0, ("Id",), None)

    def grow(cells: dict[str, str]) -> bool:
        with again.path.open("ab") as file:
            file.write(b"3,4\n")
        return True

    with pytest.raises(TableRefused, match="was changed while it was read"):
        again.batch(0, ("Id",), grow)
    with pytest.raises(TableRefused, match="was changed while it was read"):
        Table.open("Things", again.path).batch(0, ("Id",), grow, most_rows=1)


# -- what never ends -------------------------------------------------------------------------------


def test_an_open_quote_is_refused_after_what_comes_before_it(write: Write) -> None:
    table = write(b'Id,Text\n1,one\n2,"two\n3,three\n')
    first = table.batch(0, ("Id",), None)
    assert [row.cells["Id"] for row in first.rows] == ["1"]
    assert first.next == 14
    with pytest.raises(TableRefused, match=r"byte 14 of .* has no end .* download it again"):
        table.batch(14, ("Id",), None)


@pytest.mark.parametrize("filling", [b"x" * 99, b"x\n" * 50], ids=["one line", "lines"])
def test_a_quote_that_never_ends_does_not_swallow_the_file(write: Write, filling: bytes) -> None:
    with patch.multiple(tables, LONGEST_RECORD=1 << 20, _BLOCK=1 << 16):
        csv.field_size_limit(1 << 10)
        table = write(b'Id,Text\n1,one\n2,"' + filling * 300_000)
        assert table.batch(0, ("Id",), None).next == 14
        tracemalloc.start()
        with pytest.raises(TableRefused, match="byte 14 of"):
            table.batch(14, ("Id",), None)
        assert tracemalloc.get_traced_memory()[1] < 12 << 20, "of 30 MB that it might have read"
        tracemalloc.stop()


def test_cells_of_megabytes_are_read(write: Write) -> None:
    text = 'é, "quoted"\r\n' * 200_000
    quoted = text.replace('"', '""')
    table = write(f'Id,Text\n1,"{quoted}"\n2,"{quoted}"\n3,x\n'.encode())
    batch = table.batch(0, ("Id", "Text"), None, most_text=1)
    assert batch.rows[0].cells == {"Id": "1", "Text": text}
    assert batch.next is not None
    assert [row.cells["Id"] for row in read(table, ("Id", "Text"), batch.next)] == ["2", "3"]


def test_memory_does_not_grow_with_the_file(write: Write) -> None:
    table = write(b"Id,Text\n" + b'"1","a text of no great length"\n' * 60_000)
    tracemalloc.start()
    batch = table.batch(0, ("Id",), lambda cells: False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batch.read == 60_000
    assert peak < 6 << 20


# -- real files ------------------------------------------------------------------------------------


def test_real_tables_are_read_as_csv_reads_them(samples: Path) -> None:
    folder = samples / "meta_kaggle"
    paths = [*folder.glob("*.csv"), *folder.glob("recon2025/*.csv")]
    assert paths
    csv.field_size_limit(1 << 24)
    for path in paths:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *expected = filter(None, csv.reader(file))
        table = Table.open(path.stem, path)
        assert list(table.columns) == header
        rows = read(table, tuple(header), most_rows=7)
        assert [list(row.cells.values()) for row in rows] == expected
        assert {row.broken for row in rows} <= {""}
