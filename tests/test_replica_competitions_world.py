"""Competitions of a world: made from the seed, of every kind, moving on, and as tables."""

import csv
import hashlib
import io
import zipfile
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from kagglecrawl.replica.boards import Board
from kagglecrawl.replica.contest_moves import ContestMoves
from kagglecrawl.replica.contests import CompetitionTruth
from kagglecrawl.replica.meta import COMPETITIONS
from kagglecrawl.replica.scales import CONTESTS
from kagglecrawl.replica.world import World

WORLD = World(scale=None, competition_count=60)
KINDS = [each.name for each in fields(ContestMoves)]
GOLDEN = "ec636c4a0ef00e63f5bb6407d0cd67cb22ab398cff3a7ee3db09abde9fd08451"


def _digest(world: World) -> str:
    """Of all that is served of the competitions."""
    digest = hashlib.sha256()
    for each in world.competitions:
        digest.update(each.board.csv)
        digest.update(repr([each.slug, each.answer, each.pages, each.state]).encode())
    assert world.meta_kaggle is not None
    for file in world.meta_kaggle.files:
        digest.update(file.content())
    return digest.hexdigest()


def _rows(board: Board) -> list[dict[str, str]]:
    """The rows of a board's file, its columns' names without blanks."""
    text = board.csv.decode("utf-8-sig")
    head, _, rest = text.partition("\n")
    clean = head.strip().replace(", ", ",")
    return list(csv.DictReader(io.StringIO(f"{clean}\n{rest}", newline="")))


def _table(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_a_seed_makes_the_same_competitions_everywhere() -> None:
    assert _digest(WORLD.moved_on(2)) == GOLDEN
    assert World(scale=None, competition_count=60, moved=2).competitions[8].board.csv == (
        WORLD.moved_on().moved_on().competitions[8].board.csv
    )
    other = World(seed=2, scale=None, competition_count=60)
    assert {c.slug for c in other.competitions}.isdisjoint({c.slug for c in WORLD.competitions})


def test_there_are_as_many_as_asked_for() -> None:
    for scale, count in CONTESTS.items():
        found = World(scale=scale).competitions
        assert len({each.slug for each in found}) == len({each.id for each in found}) == count
    assert World(scale=None).competitions == ()
    assert World(scale=None).get("kaggle", "meta-kaggle") is None
    assert len(World(scale="small", competition_count=12).competitions) == 12


def test_a_world_has_of_everything() -> None:
    found = WORLD.competitions
    playing = [each for each in found if each.answer == "board"]
    assert {each.answer for each in found} == {"board", "empty", 401, 403, 404}
    assert {each.board.header for each in playing} == {"modern", "old", "oldest"}
    assert {(each.has_leaderboard, each.answer == "board") for each in found} == {
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    }
    sizes = {len(each.board.teams) for each in playing}
    assert min(sizes) == 0
    assert 2_900 <= max(sizes) < 3_000
    started = [each for each in found if each.category == "Getting Started"]
    assert {each.deadline.year for each in started} == {2030}
    assert {each.is_max for each in found} == {True, False, None}
    assert {(each.open, each.finished) for each in found} == {
        (True, False),
        (False, True),
        (False, False),
    }
    assert 1 < sum(not each.overview for each in found) < 12
    assert any(each.description is None for each in found)
    assert any(each.evaluation is None for each in found)
    assert any(not each.dataset_description for each in found)
    sections = [s for c in found for s in (c.description, c.evaluation, c.data) if s]
    assert {each.shape for each in sections} == {"markdown", "html", "mixed"}
    assert {(s.shape, s.markdown is None) for s in sections if s.shape != "mixed"} == {
        (shape, known) for shape in ("markdown", "html") for known in (True, False)
    }
    texts = "\n".join(each.source for each in sections)
    for trait in ("<!--", "<table>", "<pre>", "```", "|---|", "$$", "](/c/", 'src="//', "\r\n\t"):
        assert trait in texts, trait


def test_every_section_has_words_of_its_own() -> None:
    for contest in WORLD.competitions:
        for section in (contest.description, contest.evaluation):
            if section is None:
                continue
            assert section.source in contest.texts.overview
            for word in section.words:
                assert contest.texts.overview.count(word) == 1


def test_ranks_follow_from_scores_and_dates() -> None:
    for contest in WORLD.competitions:
        board = contest.board
        order = [
            (Decimal(each.score) * (-1 if board.is_max else 1), each.moment)
            for each in board.standings
        ]
        assert order == sorted(order)
        assert [each.rank for each in board.standings] == list(range(1, len(order) + 1))
        assert len({moment for _, moment in order}) == len(order)
        assert len({team.id for team in board.teams}) == len(order) == contest.teams
        assert max((t.last for t in board.teams), default=datetime.min) < datetime(2026, 1, 5)


def test_a_modern_board_has_a_row_for_each_team() -> None:
    boards = [c.board for c in WORLD.competitions if c.board.header == "modern"]
    shuffled = 0
    for board in boards:
        assert board.derived == ()
        rows = _rows(board)
        by_rank = sorted(rows, key=lambda row: int(row["Rank"]))
        shuffled += by_rank != rows
        assert [
            (r["TeamName"], r["Score"], int(r["SubmissionCount"]), int(r["TeamId"]))
            for r in by_rank
        ] == [(s.team, s.score, s.submissions, s.team_id) for s in board.standings]
    assert 0 < shuffled < len(boards)
    names = {team.name for board in boards for team in board.teams}
    assert any("\n" in name for name in names)
    assert {"Smith, Jones & Co", 'The "Best" Team', "焼たらこ", "nan"} <= names


def test_an_older_board_has_a_row_for_each_improvement() -> None:
    boards = [c.board for c in WORLD.competitions if c.board.header != "modern"]
    orders = set()
    for board in boards:
        assert board.derived == ("Rank", "SubmissionCount")
        orders.add(board.order)
        rows = _rows(board)
        assert set(rows[0]) == {"TeamId", "TeamName", "SubmissionDate", "Score"}
        by_team: dict[str, list[Decimal]] = {}
        date = "%m/%d/%Y %I:%M:%S %p" if board.header == "oldest" else "%Y-%m-%d %H:%M:%S"
        rows.sort(key=lambda row: datetime.strptime(row["SubmissionDate"], date))
        for row in rows:
            by_team.setdefault(row["TeamId"], []).append(Decimal(row["Score"]))
        for scores in by_team.values():
            assert scores == sorted(set(scores), reverse=not board.is_max)
        assert {str(s.team_id): s.submissions for s in board.standings} == {
            team: len(scores) for team, scores in by_team.items()
        }
        assert board.directed == any(len(scores) > 1 for scores in by_team.values())
    assert {each.directed for each in boards} == {True, False}
    assert len(orders) > 1


def test_scores_come_in_every_shape() -> None:
    scores = {s.score for c in WORLD.competitions for s in c.board.standings}
    assert {"1.00000", "0.50000", "0", "1e-10"} <= scores
    assert any(score.startswith("-0.") for score in scores)
    assert any(len(score) == 20 and score.isdecimal() for score in scores)
    assert any(score.endswith("0") and "." in score for score in scores)


# -- moving on -------------------------------------------------------------------------------------


def test_the_difference_tells_what_has_moved() -> None:
    later = WORLD.moved_on()
    moves = WORLD.contest_difference(later)
    assert moves
    assert all(getattr(moves, kind) for kind in KINDS)
    touched = {each.slug for kind in KINDS for each in getattr(moves, kind)}
    for contest in later.competitions:
        before = WORLD.competition(contest.slug)
        if contest.slug not in touched:
            assert before is contest
    for closed in moves.closed:
        before = WORLD.competition(closed.slug)
        assert before is not None
        assert (before.open, before.finished) == (True, False)
        assert (closed.open, closed.finished) == (False, True)
        assert closed.board.csv != before.board.csv
    for scored in moves.scored:
        before = WORLD.competition(scored.slug)
        assert before is not None
        assert scored.board.csv != before.board.csv
        assert scored.teams == len(scored.board.teams) > before.teams
        assert scored.open
    for edited in moves.edited:
        before = WORLD.competition(edited.slug)
        assert before is not None
        assert before.overview != edited.overview
        assert edited.description is not None
        assert edited.description.source in edited.overview
        assert edited.description.source in {page.content for page in edited.pages}
        assert edited.evaluation == before.evaluation
    (new,) = moves.new
    assert WORLD.competition(new.slug) is None
    assert (new.open, new.in_meta, new.board.standings) == (True, True, ())
    assert not WORLD.contest_difference(WORLD)
    assert WORLD.moved_on().datasets == WORLD.datasets == ()


def test_something_moves_in_a_tiny_world_for_weeks() -> None:
    world = World(scale=None, competition_count=12)
    for _ in range(4):
        later = world.moved_on()
        moves = world.contest_difference(later)
        assert moves.new
        assert moves.scored
        assert moves.edited
        world = later


# -- tables ----------------------------------------------------------------------------------------


def _in_row(contest: CompetitionTruth) -> tuple[str, ...]:
    return (
        contest.slug,
        contest.title,
        contest.subtitle,
        str(contest.has_leaderboard),
        f"{contest.deadline:%m/%d/%Y %H:%M:%S}",
        str(contest.verified),
        "" if contest.is_max is None else str(contest.is_max),
    )


@pytest.mark.parametrize("schema", ["2025", "2022"])
@pytest.mark.parametrize("quoted", [True, False])
def test_tables_hold_what_is_true(schema: str, quoted: bool, tmp_path: Path) -> None:
    world = World(scale=None, competition_count=24, meta_quoted=quoted)
    world.write_meta_kaggle(tmp_path, schema=schema)  # type: ignore[arg-type]
    data = (tmp_path / "Competitions.csv").read_bytes()
    assert data.startswith(b'"Id","Slug",' if quoted else b"Id,Slug,")
    rows = _table(data)
    assert tuple(rows[0]) == COMPETITIONS[schema]  # type: ignore[index]
    columns = ("Slug", "Title", "Subtitle", "HasLeaderboard", "DeadlineDate")
    more = ("FinalLeaderboardHasBeenVerified", "EvaluationAlgorithmIsMax")
    known = world.meta_competitions()
    assert [tuple(row[name] for name in (*columns, *more)) for row in rows] == [
        _in_row(each) for each in known
    ]
    if schema == "2025":
        assert [(row["Overview"], row["DatasetDescription"]) for row in rows] == [
            (each.overview, each.dataset_description) for each in known
        ]
        assert "\r\n\t<!-- Begin" in rows[0]["Rules"]
    else:
        assert not {"Overview", "Rules", "DatasetDescription"} & rows[0].keys()
    assert (tmp_path / "KernelVotes.csv").read_bytes() == b""
    teams = _table((tmp_path / "Teams.csv").read_bytes())
    submissions = _table((tmp_path / "Submissions.csv").read_bytes())
    assert {row["CompetitionId"] for row in teams} <= {row["Id"] for row in rows}
    assert {row["TeamId"] for row in submissions} <= {row["Id"] for row in teams}
    best = {row["Id"]: row["PublicScoreFullPrecision"] for row in submissions}
    ranked = {
        (row["CompetitionId"], row["TeamName"], row["PublicLeaderboardRank"]): row for row in teams
    }
    contest = known[8]
    for standing in contest.board.standings:
        row = ranked[str(contest.id), standing.team, str(standing.rank)]
        assert best[row["PublicLeaderboardSubmissionId"]] == standing.score
    tags = {row["Id"] for row in _table((tmp_path / "Tags.csv").read_bytes())}
    used = _table((tmp_path / "CompetitionTags.csv").read_bytes())
    assert used
    assert {row["TagId"] for row in used} <= tags


def test_tables_may_be_zipped_and_are_replaced(tmp_path: Path) -> None:
    world = World(scale=None, competition_count=6)
    world.write_meta_kaggle(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    plain = {path.name: path.read_bytes() for path in folder.iterdir()}
    world.write_meta_kaggle(folder, zipped=True)
    zipped = {}
    for path in folder.iterdir():
        with zipfile.ZipFile(path) as archive:
            (name,) = archive.namelist()
            assert path.name == f"{name}.zip"
            zipped[name] = archive.read(name)
    assert zipped == plain
    world.write_meta_kaggle(folder)
    assert {path.name for path in folder.iterdir()} == set(plain)
