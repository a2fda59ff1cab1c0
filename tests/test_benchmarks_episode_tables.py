"""The machinery of benchmarks/episode_tables.py, small; no timing is judged here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import episode_tables
from benchmarks.episode_tables import Run
from benchmarks.episode_tables_made import WANTED, make
from benchmarks.processes import BenchmarkError
from kagglecrawl.metakaggle.table import Table
from tests.episode_tables import join

ROWS = 3000


def rows(folder: Path, name: str) -> list[list[str]]:
    return [cells for _, _, cells, _ in Table.open(name, folder / f"{name}.csv").records()]


def test_the_tables_are_what_they_are_said_to_be_and_a_crawl_finds_it(tmp_path: Path) -> None:
    made = make(tmp_path / "tables", ROWS)
    episodes, agents = rows(made.folder, "Episodes"), rows(made.folder, "EpisodeAgents")
    assert (len(episodes), len(agents)) == (made.episodes, made.agents) == (ROWS, ROWS * 5 // 2)
    right = join(episodes, agents, WANTED, made.watermark)
    assert len(right.best) == made.above > ROWS // 20
    assert right.below == made.wanted - made.above
    assert made.wanted == ROWS * 3 // 20
    places = [at for at, cells in enumerate(agents) if cells[1] == str(right.best[0].id)]
    assert min(places) + 100 < max(places), "they do not lie together"
    run = episode_tables.crawl(made, tmp_path / "crawl")
    assert run.phases.keys() == {"Episodes", "EpisodeAgents", "weighed", "handed on"}
    assert run.peak > 20e6
    assert run.job > 0
    lines = episode_tables.table(made, 2.0, replace(run, cpu=6.0)).splitlines()
    assert lines[2].split()[-3:] == ["6.0", "1,750", "3.00"]


def test_what_is_found_must_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(command: list[str], **_: object) -> None:
        (tmp_path / "crawl/result.json").write_text(
            '{"handed": 1, "agents": 2, "ordered": true, "least": 1200, "phases": {}}'
        )

    made = make(tmp_path / "tables", 100)
    monkeypatch.setattr(episode_tables, "measure", measure)
    with pytest.raises(BenchmarkError, match="should have come, best first"):
        episode_tables.crawl(made, tmp_path / "crawl")


@pytest.mark.parametrize(("peak", "fewer", "passed"), [(299, 290, 1), (301, 290, 0), (200, 170, 0)])
def test_bars(peak: int, fewer: int, passed: int, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(1.0, 1.0, peak * 10**6, 1, {})
    assert episode_tables.judge(replace(run, peak=fewer * 10**6), run) == bool(passed)
    assert capsys.readouterr().out.endswith("PASS\n" if passed else "FAIL\n")
