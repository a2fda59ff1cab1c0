"""The unmodified kaggle CLI and kagglehub find in the replica what is true of competitions."""

import csv
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.official import kaggle_cli, official_json

WORLD = World(scale=None, competition_count=24)
CONTEST = WORLD.competitions[8]


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    with Replica(WORLD) as replica:
        yield replica


def _cli(replica: Replica, *args: str) -> list[dict[str, str]]:
    """The rows that `kaggle competitions ARGS --csv` prints, after its line of a token."""
    output = kaggle_cli(replica, "competitions", *args, "--csv").stdout
    if output.startswith("Next Page Token"):
        output = output.partition("\n")[2]
    return list(csv.DictReader(io.StringIO(output, newline="")))


def test_the_cli_lists_competitions(replica: Replica) -> None:
    rows = _cli(replica, "list", "--sort-by", "recentlyCreated", "--page", "2")
    public = WORLD.public_competitions()
    expected = sorted(public, key=lambda each: (each.enabled, each.id), reverse=True)[20:40]
    assert [row["ref"] for row in rows] == [each.ref for each in expected]
    assert [row["category"] for row in rows] == [each.category for each in expected]
    assert [int(row["teamCount"]) for row in rows] == [each.teams for each in expected]
    deadlines = [datetime.fromisoformat(row["deadline"]).replace(tzinfo=UTC) for row in rows]
    assert deadlines == [each.deadline for each in expected]


@pytest.mark.parametrize("behaviour", [Behaviour(), Behaviour(leaderboard="redirect")])
def test_the_cli_downloads_a_board(behaviour: Behaviour, tmp_path: Path) -> None:
    with Replica(WORLD, behaviour=behaviour) as replica:
        kaggle_cli(replica, "competitions", "leaderboard", CONTEST.slug, "-d", "-p", str(tmp_path))
        stats = replica.stats()
    with zipfile.ZipFile(tmp_path / f"{CONTEST.slug}.zip") as archive:
        (name,) = archive.namelist()
        assert archive.read(name) == CONTEST.board.csv
    assert stats["requests_by_key"]["DownloadLeaderboard"] == {CONTEST.slug: 1}
    assert stats["leaked_authorization"] == 0


def test_the_cli_shows_a_board(replica: Replica) -> None:
    rows = _cli(replica, "leaderboard", CONTEST.slug, "--show", "--page-size", "50")
    assert [(int(row["teamId"]), row["teamName"], row["score"]) for row in rows] == [
        (each.team_id, each.team, each.score) for each in CONTEST.board.standings[:50]
    ]
    assert [datetime.fromisoformat(row["submissionDate"]) for row in rows] == [
        each.moment for each in CONTEST.board.standings[:50]
    ]


def test_the_cli_tells_pages(replica: Replica) -> None:
    # `pages SLUG` is taken for a command by the CLI 2.2.4
    rows = _cli(replica, "pages", "list", "-c", CONTEST.slug, "--content")
    assert [row["name"] for row in rows] == [page.name for page in CONTEST.pages]
    # csv reads CR LF of a text as the CLI's print has written it
    assert [row["content"].split() for row in rows] == [
        page.content.split() for page in CONTEST.pages
    ]


@pytest.mark.parametrize("zipped", [False, True])
def test_kagglehub_gets_a_table_of_meta_kaggle(zipped: bool) -> None:
    code = """
import json, kagglehub
ref = "kaggle/meta-kaggle"
path = kagglehub.dataset_download(ref, path="Competitions.csv")
again = kagglehub.dataset_download(ref, path="Competitions.csv")
empty = kagglehub.dataset_download(ref, path="KernelVotes.csv")
with open(path, newline="", encoding="utf-8") as table, open(empty, "rb") as nothing:
    print(json.dumps([path, path == again, table.read(), len(nothing.read())]))
"""
    with Replica(WORLD, behaviour=Behaviour(zipped_files=zipped)) as replica:
        path, same, content, length = official_json(replica, code)
        stats = replica.stats()
    assert path.endswith("/kaggle/meta-kaggle/versions/1819/Competitions.csv")
    assert WORLD.meta_kaggle is not None
    file = WORLD.meta_kaggle.file("Competitions.csv")
    assert file is not None
    assert (same, content.encode(), length) == (True, file.content(), 0)
    asked = stats["requests_by_key"]
    assert asked["GetDataset"] == {"kaggle/meta-kaggle": 3}
    assert asked["DownloadDataset"] == {
        f"kaggle/meta-kaggle/{name}": 1 for name in ("Competitions.csv", "KernelVotes.csv")
    }
    assert stats["leaked_authorization"] == 0
