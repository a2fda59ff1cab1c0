"""Episodes of Meta Kaggle in a job that is killed, or whose tables change meanwhile."""

from __future__ import annotations

import csv
import json
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from scrapy.exceptions import CloseSpider

from kagglecrawl.kaggle.episodes import EpisodeRow
from kagglecrawl.state.store import FILE
from tests.conftest import ROOT, clean_env
from tests.episode_tables import (
    AGENTS,
    Walk,
    agent,
    episode,
    in_small_steps,
    join,
    write,
    write_both,
)
from tests.state.stand import Clock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    made.install(monkeypatch)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_kills_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, seed: int
) -> None:
    """After any step, whether it was committed or not."""
    in_small_steps(monkeypatch)
    dice = random.Random(seed)
    numbers = dice.sample(range(1, 200_000), 25)
    episodes = [episode(each, dice.choice((1, 1, 2))) for each in numbers]
    agents = [
        agent(own, dice.choice(numbers), own % 4, f"{dice.uniform(600, 1500):.6f}")
        for own in range(1, 70)
    ]
    write_both(tmp_path / "meta", episodes, agents)
    right = join(episodes, agents, 1, 900)
    most = max(0, len(right.best) - dice.randrange(3))
    assert most
    kills = 0
    while True:
        stand = Walk(tmp_path, number=1, watermark=900, most=most)
        stand.begin()
        while (lives := dice.random() > 0.15 or kills > 12) and stand.step():
            if dice.random() < 0.5:
                stand.commit()
        if lives:
            break
        kills += 1
        stand.scheduler.feeds.flush()
        stand.kill()
    assert kills > 2, "else this test shows nothing"
    assert stand.left() == 0
    stand.close()
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = [json.loads(row["value"]) for row in csv.DictReader(file)]
    assert rows == [asdict(row) for row in right.best[:most]], "in their order, too"
    assert stand.noted("listed") == most
    assert stand.noted("below_watermark") == right.below
    assert stand.noted("beyond_most") == len(right.best) - most


def test_a_process_is_killed_and_another_goes_on(tmp_path: Path) -> None:
    """With the project's own handler, middlewares and commits."""
    dice = random.Random(1)
    numbers = dice.sample(range(1, 200_000), 30)
    episodes = [episode(each) for each in numbers]
    agents = [agent(own, dice.choice(numbers), own % 4, 600 + 7 * own) for own in range(60)]
    write_both(tmp_path / "meta", episodes, agents)
    feed, job = tmp_path / "out.jsonl", tmp_path / "job"
    command = [
        *(sys.executable, "-m", "tests.small_stretches", "crawl", "games", "-o", str(feed)),
        *("-s", "SPIDER_MODULES=tests.episode_tables", "-s", f"WORKSPACE={tmp_path / 'w'}"),
        *("-a", f"meta_kaggle={tmp_path / 'meta'}", "-a", "number=1", "-s", f"JOBDIR={job}"),
    ]
    words = {"cwd": ROOT, "env": clean_env(tmp_path), "stdout": subprocess.DEVNULL}
    process = subprocess.Popen(command, stderr=subprocess.STDOUT, **words)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 30
        while not gathered(job / FILE):
            assert process.poll() is None
            assert time.monotonic() < deadline, "nothing is gathered"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert not feed.exists() or not feed.read_text(), "it was killed before it was over"
    again = subprocess.run(command, stderr=subprocess.STDOUT, timeout=60, check=False, **words)  # type: ignore[call-overload]
    assert again.returncode == 0
    rows = [json.loads(json.loads(line)["value"]) for line in feed.read_text().splitlines()]
    assert rows == [asdict(row) for row in join(episodes, agents, 1, 0).best]


def gathered(path: Path) -> int:
    """How many episodes a job has by now."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db,
    ):
        return int(db.execute("SELECT count(*) FROM gathered").fetchone()[0])
    return 0


def test_a_table_that_has_changed_is_read_again_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_steps(monkeypatch)
    numbers = range(1, 9)
    episodes = [episode(each) for each in numbers]
    agents = [agent(each, each, 0, 100 * each) for each in numbers]
    write_both(tmp_path / "meta", episodes, agents)
    stand = Walk(tmp_path, number=1)
    stand.begin()
    for _ in range(5):  # the second stretch of the agents
        assert stand.step()
    agents[7][-1] = "5.5"
    write(tmp_path / "meta", "EpisodeAgents", AGENTS, [*agents, agent(9, 8, 1, "0.5")])
    while stand.step():
        pass
    assert [row.id for row in stand.handed()] == [7, 6, 5, 4, 3, 2, 1, 8]
    assert [each["updatedScore"] for each in stand.handed()[-1].agents] == [5.5, 0.5]
    assert stand.stat("kaggle/tables/EpisodeAgents/changed") == 1


def test_what_raises_is_handed_on_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_both(tmp_path / "meta", [episode(1)], [])
    stand = Walk(tmp_path, number=1)

    def stop(rows: list[EpisodeRow]) -> Any:
        raise CloseSpider("enough")

    monkeypatch.setattr(stand.games, "listed_by_meta", stop)
    stand.begin()
    for _ in range(4):
        assert stand.step()
    assert stand.left() == 1
    stand.commit()
    stand.kill()
    again = Walk(tmp_path, number=1)
    again.run()
    assert [row.id for row in again.handed()] == [1]
