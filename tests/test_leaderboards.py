"""Leaderboards as DownloadLeaderboard brings them, of all ages and in all states."""

from __future__ import annotations

import csv
import io
import json
import random
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle import leaderboards
from kagglecrawl.kaggle.leaderboards import Board, NoBoard, read_board

BOM = "\ufeff"
MODERN = "Rank,TeamId,TeamName,LastSubmissionDate,Score,SubmissionCount,TeamMemberUserNames"
OLDER = "TeamId,TeamName,SubmissionDate,Score"


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", how) as archive:
        for name, content in members:
            # not of today: the same names of tests in all processes
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=how)
    return packed.getvalue()


def table(header: str, *rows: str, newline: str = "\n", bom: str = BOM) -> bytes:
    return (bom + newline.join((header, *rows)) + newline).encode()


def slug_of(content: bytes, *, is_max: bool | None = None) -> str:
    with pytest.raises(NoBoard) as raised:
        read_board(content, is_max=is_max)
    assert str(raised.value).endswith(".")
    return raised.value.slug


def names(board: Board) -> list[str]:
    return [entry["Team"] for entry in board.top]


# -- what the file says ----------------------------------------------------------------------------


def test_a_modern_board_is_read_by_rank_and_kept_as_it_came() -> None:
    content = table(
        MODERN,
        '3,33,"C, d","2025-04-07 20:04:25",0.5,3,c',
        '1,11,"A ""x"" 🐝","2025-04-05 02:02:37",1.00000,1,"a,b"',
        '0,99,All Perish,"2014-06-24 14:02:20",0.62200,1,bench',
        '2,22,"two\r\nlines",,0.75,12,b',
        newline="\r\n",
    )
    for sent in (content, zipped(("titanic-publicleaderboard-2025.csv", content))):
        board = read_board(sent, most=2)
        assert board.top == [
            {"Rank": 1, "Team": 'A "x" 🐝', "Score": 1.0, "SubmissionCount": 1},
            {"Rank": 2, "Team": "two\r\nlines", "Score": 0.75, "SubmissionCount": 12},
        ]
        assert (board.teams, board.derived, board.unread) == (3, (), 0), "a benchmark is no team"
        assert board.csv == content
    assert names(read_board(content))[2:] == ["C, d"]
    board = read_board(content, most=0)
    assert (board.top, board.teams) == ([], 3)


def test_the_hundred_best_of_many_in_any_order() -> None:
    ranks = list(range(1, 5001))
    random.Random(1).shuffle(ranks)
    board = read_board(table(MODERN, *(f"{n},{n},T{n},,0.1,{n % 7},x" for n in ranks)))
    assert [entry["Rank"] for entry in board.top] == list(range(1, 101))
    assert [entry["SubmissionCount"] for entry in board.top] == [n % 7 for n in range(1, 101)]
    assert names(board) == [f"T{n}" for n in range(1, 101)]
    assert board.teams == 5000


@pytest.mark.parametrize(
    ("text", "score"),
    [
        *(("0.859230", 0.85923), ("1.00000", 1.0), ("554.7", 554.7), ("-3", -3), ("17", 17)),
        *(("1e3", 1000.0), (" 0.5 ", 0.5), (".5", 0.5), ("-0.1", -0.1), ("9" * 30, int("9" * 30))),
        *(("", None), (" ", None), ("NaN", "NaN"), ("Infinity", "Infinity"), ("1e400", "1e400")),
        *(("0.12345678901234567890", "0.12345678901234567890"), ("1_000", "1_000")),
        *(("1e-400", "1e-400"), ("0,5", "0,5"), ("٣", "٣"), ("9" * 101, "9" * 101)),
    ],
)
def test_scores_are_exact_and_json_stays_valid(text: str, score: object) -> None:
    board = read_board(table(MODERN, f'1,1,A,,"{text}",1,a'))
    found = board.top[0]["Score"]
    assert (found, type(found)) == (score, type(score))
    json.dumps(board.top, allow_nan=False)


@given(st.decimals(allow_nan=True, allow_infinity=True) | st.floats().map(repr) | st.integers())
def test_every_number_is_exact_or_a_text(number: object) -> None:
    score = read_board(table(MODERN, f"1,1,A,,{number},1,a")).top[0]["Score"]
    if isinstance(score, str):
        assert score == str(number)
    else:
        assert Decimal(repr(score)) == Decimal(str(number))


def test_columns_are_found_by_their_names() -> None:
    content = table('Submission Count, "team name",SCORE , rank', '7, "A, b",0.5, 1', bom=BOM + BOM)
    assert tuple(read_board(content).top[0].values()) == (1, "A, b", 0.5, 7)
    # a name may begin with a blank, where the header has none
    assert names(read_board(table(MODERN, "1,1, A,,0.5,1,a"))) == [" A"]


def test_a_board_that_names_teams_by_id_alone() -> None:
    board = read_board(table("Rank,TeamId,Score", "2,77,1", "1,78,2"))
    assert names(board) == ["78", "77"]
    assert board.derived == ("SubmissionCount",)


def test_bytes_that_are_no_utf_8_do_not_spoil_the_others() -> None:
    content = table(MODERN, "1,1,Jos\u00e9,,1,1,a", "2,2,JOS,,1,1,b").replace(b"JOS", b"Jos\xe9")
    assert names(read_board(content)) == ["José", "José"]
    json.dumps(read_board(content).top, ensure_ascii=False).encode()


def test_rows_of_another_width_are_left_out_and_counted() -> None:
    board = read_board(table(MODERN, "1,1,A,,1,1,a", "2,2,B,c,,1,1,b", "3,3,C", "", "4,,,,1,1,a"))
    assert (names(board), board.teams, board.unread) == (["A"], 1, 3)
    assert slug_of(table(MODERN, "1,1,A", "2,2,B")) == "bad_leaderboard"


def test_rows_without_a_rank_are_not_ranked() -> None:
    rows = (",1,A,,3,1,a", "0,2,B,,2,1,b", "-1,3,C,,1,1,c", "x,4,D,,1,1,d", "5.0,5,E,,1,2.0,e")
    board = read_board(table(MODERN, *rows))
    assert (names(board), board.teams, board.top[0]["Rank"]) == (["E"], 1, 5)
    assert board.top[0]["SubmissionCount"] == 2


def test_ranks_without_counts() -> None:
    rows = ("2,2,B,0.8", "1,1,A,0.9", "2,2,B,0.8", "3,3,C,0.1", "9,1,A,0.1")
    board = read_board(table("Rank,TeamId,TeamName,Score", *rows))
    found = [tuple(entry.values()) for entry in board.top]
    assert found == [(1, "A", 0.9, 2), (2, "B", 0.8, 2), (3, "C", 0.1, 1)]
    assert (board.teams, board.derived) == (3, ("SubmissionCount",))


# -- what is derived -------------------------------------------------------------------------------

#: Two teams that get better, one that was sooner with the best score, one row without a score.
ROWS = [
    ("7", "Late", "2020-06-15 19:03:31", "{}"),
    ("5", "First", "2020-06-15 20:24:06", "{}"),
    ("5", "First", "2020-06-15 19:54:06", "{}"),
    ("6", "Sooner", "2020-06-15 19:03:30", "{}"),
    ("8", "None", "2020-06-15 19:03:30", ""),
    ("5", "First", "2020-06-16 20:15:24", "{}"),
]


def older(scores: list[str], *, american: bool = False) -> bytes:
    left = iter(scores)
    rows = []
    for team, name, date, score in ROWS:
        if american:
            day, _, clock = date.partition(" ")
            year, month, of_month = day.split("-")
            hour, _, rest = clock.partition(":")
            date = f"{int(month)}/{int(of_month)}/{year} {int(hour) % 12}:{rest} PM"
        rows.append(f"{team},{name},{date},{score and next(left)}")
    return table(OLDER.replace(",", ", ") if american else OLDER, *rows)


@pytest.mark.parametrize("american", [False, True])
@pytest.mark.parametrize("is_max", [None, True])
def test_an_older_board_is_ranked_by_its_rows(is_max: bool | None, american: bool) -> None:
    content = older(["0.7", "0.65", "0.6", "0.70", "0.9"], american=american)
    board = read_board(content, is_max=is_max)
    assert [tuple(entry.values()) for entry in board.top] == [
        (1, "First", 0.9, 3),
        (2, "Sooner", 0.7, 1),
        (3, "Late", 0.7, 1),
    ]
    assert (board.teams, board.derived) == (3, ("Rank", "SubmissionCount"))
    assert board.csv == content


@pytest.mark.parametrize("is_max", [None, False])
def test_low_scores_may_be_the_better_ones(is_max: bool | None) -> None:
    # as numbers 9.5 is below 10, as texts it is not
    board = read_board(older(["10", "11", "12", "10.0", "9.5"]), is_max=is_max)
    assert [(entry["Team"], entry["Score"]) for entry in board.top] == [
        ("First", 9.5),
        ("Sooner", 10.0),
        ("Late", 10),
    ]


def test_what_is_said_counts_more_than_what_the_rows_show() -> None:
    board = read_board(older(["10", "11", "12", "10", "9.5"]), is_max=True)
    assert (board.top[0]["Team"], board.top[0]["Score"]) == ("First", 12)


def test_a_board_that_shows_no_direction_is_no_ranking() -> None:
    rows = ("1,A,2020-06-15 19:03:31,0.3", "2,B,2020-06-15 19:03:32,0.2")
    assert slug_of(table(OLDER, *rows)) == "unordered_leaderboard"
    assert names(read_board(table(OLDER, *rows), is_max=False)) == ["B", "A"]
    up_and_down = [f"{n % 20},T,2020-06-{1 + n // 20:02} 00:00:00,{n // 20}" for n in range(40)]
    mixed = [row.replace(",1", ",-1") if n % 2 else row for n, row in enumerate(up_and_down)]
    assert slug_of(table(OLDER, *mixed)) == "unordered_leaderboard"
    assert slug_of(table(OLDER, *reversed(mixed))) == "unordered_leaderboard"
    # where all are alike, nothing is to be told
    alike = read_board(table(OLDER, "1,A,2020-06-15 19:03:31,1.0", "2,B,2020-06-14 01:01:01,1"))
    assert names(alike) == ["B", "A"]


def test_a_few_odd_teams_do_not_hide_the_direction() -> None:
    rows = [
        f"{team},T{team},2020-06-{day:02} 00:00:00,{day if team else -day}"
        for team in range(20)
        for day in (2, 1)
    ]
    assert names(read_board(table(OLDER, *rows)))[0] == "T1"


def test_an_older_board_that_has_the_counts() -> None:
    rows = ("1,A,2020-06-15 19:03:31,0.3,4", "1,A,2020-06-16 19:03:31,0.4,5")
    board = read_board(table(f"{OLDER},SubmissionCount", *rows))
    assert board.top == [{"Rank": 1, "Team": "A", "Score": 0.4, "SubmissionCount": 5}]
    assert board.derived == ("Rank",)


@pytest.mark.parametrize(
    ("sooner", "later"),
    [
        ("9/17/2011 12:33:33 AM", "9/17/2011 5:33:33 AM"),
        ("9/17/2011 11:00:00 AM", "9/17/2011 12:00:00 PM"),
        ("9/17/2011", "10/1/2011"),
        ("2020-06-15T19:03:31.5Z", "2020-06-15 19:03:32"),
        ("2020-06-15T19:03:31+02:00", "2020-06-15 18:00:00"),
        ("2020-06-15", "13/13/2020"),
        ("9999-12-31", ""),
    ],
)
def test_of_equal_scores_the_earlier_is_first(sooner: str, later: str) -> None:
    rows = (f"1,Later,{later},0.3", f"2,Sooner,{sooner},0.30")
    assert names(read_board(table(OLDER, *rows), is_max=True)) == ["Sooner", "Later"]


# -- what is no leaderboard ------------------------------------------------------------------------


def test_a_header_alone_is_a_board_without_teams() -> None:
    for header in (MODERN, OLDER):
        board = read_board(zipped(("a.csv", table(header))))
        assert (board.top, board.teams) == ([], 0)


@pytest.mark.parametrize(
    "content",
    [b"", b"\r\n", BOM.encode(), zipped(), zipped(("a.csv", b"")), zipped(("folder/", b""))],
)
def test_nothing_is_an_empty_leaderboard(content: bytes) -> None:
    assert slug_of(content) == "empty_leaderboard"


GOOD = zipped(("a.csv", table(MODERN, *(f"{n},{n},T,,1,1,a" for n in range(1, 200)))))


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html></html>",
        b'\xef\xbb\xbf\n<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>',
        b'{"code": 404, "message": "secret"}',
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        table("Id,Name", "1,A"),
        table("TeamId,TeamName", "1,A"),
        table("Score,Date", "1,2"),
        GOOD[:-30],
        GOOD[:100],
        zipped(("a.csv", b"<html>")),
        table(MODERN, '1,1,"A,,1,1,a', *(f"{n},{n},T,,1,1,a" for n in range(2, 9))),
        table(MODERN, '1,1,"A', "x" * 200_000),
    ],
)
def test_what_is_no_leaderboard_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(NoBoard, match=r"^What was sent is no leaderboard: ") as raised:
        read_board(content)
    assert raised.value.slug == "bad_leaderboard"
    assert "secret" not in str(raised.value)


def test_damaged_bytes_are_found_by_their_crc() -> None:
    content = table(MODERN, "1,1,Ann,,1,1,a")
    stored = zipped(("a.csv", content), how=zipfile.ZIP_STORED)
    assert names(read_board(stored)) == ["Ann"]
    with pytest.raises(NoBoard, match="its zip is damaged"):
        read_board(stored.replace(b"Ann", b"Bob"))


def test_an_encrypted_zip_is_refused() -> None:
    packed = bytearray(GOOD)
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(NoBoard, match="its zip is encrypted"):
        read_board(bytes(packed))


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboards, "MOST_BYTES", 1 << 20)
    large = table(MODERN, "1,1,A,,1,1,a") + bytes(1 << 20)
    for content in (zipped(("a.csv", large)), large):
        with pytest.raises(NoBoard, match="more than 1 MiB"):
            read_board(content)


def test_of_several_members_the_public_csv_is_taken() -> None:
    def one(name: str) -> tuple[str, bytes]:
        return name, table(MODERN, f"1,1,{name},,1,1,a")

    for members, taken in (
        (("readme.txt", "x.csv"), "x.csv"),
        (("x-private.csv", "x-PublicLeaderboard-2025.CSV"), "x-PublicLeaderboard-2025.CSV"),
        (("__MACOSX/x-public.csv", "x.csv"), "x.csv"),
        (("board",), "board"),
    ):
        assert names(read_board(zipped(*map(one, members)))) == [taken]


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=6), st.booleans())
def test_damage_is_never_anything_else_than_no_board(at: int, put: bytes, cut: bool) -> None:
    content = GOOD[:at] + put + (b"" if cut else GOOD[at + len(put) :])
    try:
        board = read_board(content)
    except NoBoard:
        return
    assert board.teams == 199, "what its CRC proves is whole"


CELLS = st.text(st.sampled_from(' ,"\r\n\t\0Aé🐝١0123456789.-+/:eTZ'), max_size=12)


@given(
    st.sampled_from([MODERN, OLDER, "Rank,Score", "TeamName,Score"]),
    st.lists(st.lists(CELLS, min_size=1, max_size=8), max_size=8),
    st.sampled_from([None, True, False]),
)
def test_any_cells_make_a_board_or_none(
    header: str, rows: list[list[str]], is_max: bool | None
) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header.split(","))
    writer.writerows(rows)
    for content in (text.getvalue(), text.getvalue().replace('"', "")):
        try:
            board = read_board(content.encode(), is_max=is_max)
        except NoBoard:
            continue
        ranks = [entry["Rank"] for entry in board.top]
        assert ranks == sorted(ranks)
        assert len(ranks) <= board.teams
        json.dumps(board.top, allow_nan=False, ensure_ascii=False).encode()


# -- real ones -------------------------------------------------------------------------------------


def test_real_boards(samples: Path) -> None:
    folder = samples / "metadata" / "leaderboards"
    halite = read_board((folder / "halite-publicleaderboard_2020.csv").read_bytes())
    assert halite == read_board((folder / "publicleaderboarddata.zip").read_bytes())
    assert (halite.teams, halite.derived) == (1133, ("Rank", "SubmissionCount"))
    assert halite.top[0]["Team"] == "Tom Van de Wiele"
    assert sum(entry["SubmissionCount"] for entry in read_board(halite.csv, most=2000).top) == 4434
    credit = read_board((folder / "GiveMeSomeCredit_public_leaderboard_2011.csv").read_bytes())
    assert credit.teams == 1075
    assert credit.top[0] == {"Rank": 1, "Team": "vsu", "Score": 0.863904, "SubmissionCount": 7}
    titanic = read_board((folder / "titanic-publicleaderboard_2025.csv").read_bytes())
    assert (titanic.teams, titanic.derived) == (3210, ()), "but for a benchmark, of rank 0"
    assert tuple(titanic.top[1].values()) == (12, "Marwan Yasser Hassan", 1.0, 13)
    scores_alone = (folder / "titanic-publicleaderboard_2020.csv").read_bytes()
    assert slug_of(scores_alone) == "unordered_leaderboard", "a row a team shows no direction"
    assert read_board(scores_alone, is_max=True).teams == 22258


def test_real_boards_of_others(samples: Path) -> None:
    paths = sorted((samples / "metadata" / "leaderboards" / "mledojo").glob("*.csv"))
    assert len(paths) == 10
    for path in paths:
        content = path.read_bytes()
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        board = read_board(content)
        assert board.teams == len(rows)
        assert [str(entry["Score"]) for entry in board.top] == [
            row["score"] for row in rows[:100]
        ], path.name
