"""`scrapy ledger seed-files`: what the Halite seed reads of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.state.ledger import Ledger, Outcome
from tests.state.ledgers import KAGGLE, contents, stored

Ask = Callable[..., tuple[int, str, str]]
NAMES = ("episode_priority_map.txt", "team_priority_map.txt", "episode_downloads.txt")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def ask(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Ask:
    """Run ``scrapy ledger`` with this workspace, beside it; its code, and what it said."""
    settings = get_project_settings()
    monkeypatch.chdir(workspace.parent)

    def run(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            execute(["scrapy", "ledger", *args, "-s", f"WORKSPACE={workspace}"], settings=settings)
        output, errors = capsys.readouterr()
        return int(ended.value.code or 0), output, errors

    return run


def episode(number: int, score: float | None, *, had: bool = False) -> Outcome:
    """One whose replay was had, or not."""
    replay = {"path": f"replay/halite/{number}.json.gz"} if had else None
    record = {"competition": "halite", "episode_id": number, "score": score, "replay": replay}
    verdict, reason = ("stored", "") if had else ("skipped", "below_watermark")
    return Outcome(f"halite/{number}", "", verdict, reason, "s", 1, json.dumps(record))


def unit(
    kind: str, number: int, rank: int | None, *, listed: bool, team: int | None = None
) -> Outcome:
    record = {"kind": kind, "id": number, "rank": rank, "listed": listed, "team": team}
    reason = "listed" if listed else "team_watermark"
    key = f"halite/{kind}/{number}"
    return Outcome(key, "", "skipped", reason, "s", 1, json.dumps(record))


def fill(workspace: Path, source: str = KAGGLE) -> None:
    with closing(Ledger(workspace / "ledger.sqlite", source, "episodes")) as ledger:
        ledger.apply(
            [
                episode(101, 900.5),
                episode(102, 1250.25, had=True),
                episode(103, 1300),
                episode(104, None),
                episode(105, 1200.0),
                episode(9, 700.0, had=True),
                unit("team", 5118174, 120, listed=True),
                unit("team", 7, 3, listed=False),
                unit("team", 8, None, listed=False),
                unit("team", 70, 1, listed=False),
                unit("submission", 106, 2, listed=False),
                Outcome(
                    *("halite/start", "", "skipped", "listed", "s", 1),
                    json.dumps({"teams": [[80, 9, 1200.0, 115], [81, None, None, 116], [71, 4]]}),
                ),
                # of one team, of which one was listed
                unit("submission", 111, 4, listed=False, team=71),
                unit("submission", 112, None, listed=True, team=71),
                unit("submission", 113, 5, listed=False, team=72),
                unit("submission", 114, None, listed=False, team=72),
                # of another competition, whose name begins alike
                stored("halite-2/107", 1, record='{"episode_id": 107, "score": 1.0}'),
            ]
        )
        ledger.walked("all", 1, ["halite/108"], whole=False)


def synchronize_disk(filepath: str, data: Any, overwrite: bool = False) -> Any:
    """As the seed's notebook reads and writes its files."""
    if isinstance(data, set):
        if not overwrite:
            with open(filepath) as f:  # noqa: PTH123
                data.update([int(x) for x in f.readlines()])
        with open(filepath, "w+") as f:  # noqa: PTH123
            for x in data:
                f.write(f"{x}\n")
    elif isinstance(data, dict):
        if not overwrite:
            with open(filepath) as f:  # noqa: PTH123
                data.update(json.load(f))
        with open(filepath, "w") as f:  # noqa: PTH123
            json.dump(data, f)
    return data


def test_the_seed_reads_what_is_known(ask: Ask, workspace: Path) -> None:
    fill(workspace)
    before = contents(workspace / "ledger.sqlite")
    code, output, errors = ask("seed-files", "halite")
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        "4 episodes to fetch in scraper_metadata/episode_priority_map.txt",
        "4 teams to list in scraper_metadata/team_priority_map.txt",
        "2 episodes that are had in scraper_metadata/episode_downloads.txt",
        "left out: 1 team to list without a rank",
        "left out: 1 episode without a record",
    ]
    folder = workspace.parent / "scraper_metadata"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    episodes, teams, downloads = (str(folder / name) for name in NAMES)
    assert (folder / NAMES[2]).read_text() == "9\n102\n"
    for _ in range(2):  # what the seed has written it reads again
        had = synchronize_disk(downloads, set())
        assert had == {9, 102}
        priorities = synchronize_disk(episodes, {})
        assert priorities == {"103": 1300, "105": 1200.0, "101": 900.5, "104": 0.0}
        assert synchronize_disk(teams, {}) == {"70": 1, "7": 3, "72": 5, "80": 9}
    # and takes the best first, as its queue does
    assert sorted(priorities, key=priorities.get, reverse=True) == list(priorities)
    assert contents(workspace / "ledger.sqlite") == before


def test_into_another_folder_whose_files_are_replaced(ask: Ask, workspace: Path) -> None:
    fill(workspace)
    folder = workspace.parent / "a" / "b"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_text("another's")
    assert ask("seed-files", "halite-2", "--to", "a/b")[0] == 0
    assert [(folder / name).read_text() for name in NAMES] == ['{"107": 1.0}', "{}", ""]
    assert len(list(folder.iterdir())) == len(NAMES)


def test_what_cannot_be_written_ends_it_and_leaves_what_was(ask: Ask, workspace: Path) -> None:
    fill(workspace)
    folder = workspace.parent / "there"
    (folder / NAMES[0]).mkdir(parents=True)
    code, output, errors = ask("seed-files", "halite", "--to", "there")
    assert (code, output) == (1, "")
    assert errors.startswith("scrapy ledger: there cannot be written to (")
    assert errors.rstrip().endswith("is no file): name another folder with --to")
    (workspace.parent / "file").write_text("")
    code, _, errors = ask("seed-files", "halite", "--to", "file")
    assert (code, (workspace.parent / "file").read_text()) == (1, "")
    assert "File exists" in errors


@pytest.mark.parametrize("name", ["connectx", "hal*", "Halite", "halite/team", "h[a]lite"])
def test_a_competition_that_is_not_there(ask: Ask, workspace: Path, name: str) -> None:
    fill(workspace)
    code, output, errors = ask("seed-files", name)
    assert (code, output) == (2, "")
    has = "it has those of halite, halite-2"
    assert errors == f"scrapy ledger: the ledger has no episodes of {name}: {has}\n"
    assert not (workspace.parent / "scraper_metadata").exists()


def test_a_ledger_without_episodes(ask: Ask, workspace: Path) -> None:
    with closing(Ledger(workspace / "ledger.sqlite", KAGGLE, "datasets")) as ledger:
        ledger.apply([stored("halite/1", 1)])
    code, _, errors = ask("seed-files", "halite")
    assert code == 2
    assert "no episodes of halite: `scrapy crawl episodes` brings them" in errors


def test_two_sources_are_never_mixed(ask: Ask, workspace: Path) -> None:
    fill(workspace)
    with closing(Ledger(workspace / "ledger.sqlite", "loopback", "episodes")) as ledger:
        ledger.apply([stored("halite/1", 1, record='{"episode_id": 1, "score": 5.0}')])
    code, _, errors = ask("seed-files", "halite")
    both = f"{KAGGLE} and loopback: name one with --source"
    assert (code, errors) == (2, f"scrapy ledger: the ledger has halite from {both}\n")
    assert ask("seed-files", "halite", "--source", "loopback")[0] == 0
    path = workspace.parent / "scraper_metadata" / NAMES[0]
    assert json.loads(path.read_text()) == {"1": 5.0}


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("seed-files",), "name one competition, such as: scrapy ledger seed-files halite"),
        (("seed-files", "a", "b"), "name one competition"),
        (("seed-files", "a", "--verdict", "stored"), "--verdict is not for seed-files"),
        (("seed-files", "a", "--json"), "--json is for the counts"),
        (("list", "--to", "x"), "--to is for seed-files"),
    ],
)
def test_usage(ask: Ask, args: tuple[str, ...], why: str) -> None:
    code, _, errors = ask(*args)
    assert code == 2
    assert why in errors
