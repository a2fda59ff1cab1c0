"""Episodes and their agents in Meta Kaggle's tables, joined on the job's disk."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scrapy.settings import Settings

from kagglecrawl import settings as project
from kagglecrawl.metakaggle.ids import Ids
from tests.episode_tables import (
    AGENTS,
    EPISODES,
    Games,
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


# -- the join --------------------------------------------------------------------------------------


def test_agents_find_their_episodes_and_the_best_come_first(tmp_path: Path) -> None:
    episodes = [episode(3, kind=4), episode(7, 2), episode(5), episode(9), episode(11), episode(13)]
    agents = [
        *(agent(1, 5, 0, "1000.5", 1), agent(2, 9, 1, "1300", 2), agent(3, 7, 0, "2000")),
        *(agent(4, 5, 1, "1200.25", 3), agent(5, 9, 0, "", 4), agent(6, 404, 0, "3000")),
        *(agent(7, 11, 0, "1100"), agent(8, 11, 1, "1099.9"), agent(9, 13, 0, "1100")),
    ]
    write_both(tmp_path / "meta", episodes, agents)
    stand = Walk(tmp_path, number=1, watermark=1100)
    stand.run()
    first, second, third = stand.handed()
    assert (first.id, second.id, third.id) == (9, 5, 13)
    assert (first.priority, second.priority, third.priority) == (1300.0, 1100.375, 1100.0)
    assert asdict(second) == {
        "id": 5,
        "competition_id": 1,
        "type": "public",
        "state": "",
        "create_time": "2020-01-03T21:08:01Z",
        "end_time": "2020-01-03T21:08:03Z",
        "agents": [
            {
                "index": index,
                "submissionId": submission,
                "teamId": None,
                "teamName": "",
                "reward": 1.0,
                "state": "complete",
                "initialScore": 600.0,
                "initialConfidence": 150.5,
                "updatedScore": score,
                "updatedConfidence": 140.25,
            }
            for index, submission, score in ((0, 901, 1000.5), (1, 903, 1200.25))
        ],
    }
    assert [each["updatedScore"] for each in first.agents] == [None, 1300.0]
    counts = {"episodes": 5, "below_watermark": 2, "listed": 3}
    assert {name: stand.noted(name) for name in counts} == counts
    assert {name: stand.stat(f"kaggle/meta/{name}") for name in counts} == counts
    assert stand.games.over == 1
    assert stand.left() == 0, "the job's file keeps nothing of it"


def test_episodes_without_agents_are_there_where_none_need_have_a_score(tmp_path: Path) -> None:
    write_both(tmp_path / "meta", [episode(1), episode(2)], [agent(1, 2, 0, "5")])
    for watermark, ids in ((0, [2, 1]), (0.1, [2]), (-1, [2, 1])):
        stand = Walk(tmp_path, job=False, number=1, watermark=watermark)
        stand.run()
        assert [row.id for row in stand.handed()] == ids
        assert [row.agents for row in stand.handed()][1:] in ([[]], [])


@pytest.mark.parametrize(("most", "ids"), [(4, [9, 8, 7, 6]), (3, [9, 8, 7]), (0, []), (12, None)])
def test_only_the_best_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, ids: list[int] | None
) -> None:
    in_small_steps(monkeypatch)
    numbers = range(1, 10)
    write_both(
        tmp_path / "meta",
        [episode(each) for each in numbers],
        [agent(each, each, 0, 100 * each) for each in numbers],
    )
    stand = Walk(tmp_path, number=1, watermark=150, most=most)
    stand.run()
    assert [row.id for row in stand.handed()] == ([*range(9, 1, -1)] if ids is None else ids)
    assert max((len(rows) for rows in stand.games.handed), default=0) <= 3
    assert stand.noted("below_watermark") == 1
    assert stand.noted("beyond_most") == max(0, 8 - most)
    assert stand.left() == 0
    assert stand.games.over == 1


def test_odd_rows_count_and_are_passed_over(tmp_path: Path) -> None:
    episodes = [
        *(episode("x"), episode("0"), episode("-4"), episode(1, "1.0", kind=7), episode(2, "")),
        *([*episode(3), "one more"], episode(4)[:3], episode(" 5 "), episode(6, "２")),
        *(episode("8\t"), [*episode(9)[:1], "1\t1", *episode(9)[2:]], episode(1, kind=4)),
    ]
    agents = [
        *(
            agent(1, 1, "", "5"),
            agent("", 1, 0, "5"),
            agent(2, "?", 0, "5"),
            agent(3, "1.0", 0, ""),
        ),
        *(agent(4, 5, 1, "nan"), agent(5, 5, 0, "1,5"), [*agent(6, 5, 2, "7"), ""]),
        *(agent(7, "9" * 40, 2, "7"), agent(8, 5, "3.0", " 8e0 ")),
    ]
    write_both(tmp_path / "meta", episodes, agents)
    stand = Walk(tmp_path, number=1)
    stand.run()
    five, one, eight = stand.handed()
    assert (five.id, one.id, eight.id) == (5, 1, 8)
    assert one.type == "validation", "the later row counts"
    assert [each["updatedScore"] for each in five.agents] == [None, None, 8.0]
    assert [each["index"] for each in five.agents] == [0, 1, 3]
    assert stand.noted("unread/Episodes") == stand.stat("kaggle/meta/unread/Episodes") == 7
    assert stand.noted("unread/EpisodeAgents") == 5


def test_no_episode_of_it_means_that_the_agents_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "meta", "Episodes", EPISODES, [episode(1, 2)])
    stand = Walk(tmp_path, number=1)
    stand.run()
    assert (stand.games.handed, stand.games.over) == ([], 1)


@pytest.mark.parametrize("column", ["EpisodeId", "UpdatedScore"])
def test_a_table_without_a_column_that_it_needs_is_refused(tmp_path: Path, column: str) -> None:
    write(tmp_path / "meta", "Episodes", EPISODES, [episode(1)])
    at = AGENTS.index(column)
    write(tmp_path / "meta", "EpisodeAgents", [*AGENTS[:at], *AGENTS[at + 1 :]], [])
    stand = Walk(tmp_path, number=1)
    stand.begin()
    while not stand.games.stopped_because and stand.step():
        pass
    assert f"EpisodeAgents.csv has no column {column}" in stand.games.stopped_because


_IDS = st.sampled_from(["1", "2", "3", "4", "70000", "5.0", "x", "", "-1"])
_SCORES = st.one_of(st.just(""), st.floats(0, 2000).map(lambda score: f"{score:.6f}"))
_EPISODE = st.builds(episode, _IDS, st.sampled_from(["1", "1.0", "2", "11", ""]), st.integers(0, 5))
_AGENT = st.builds(
    agent, st.integers(1, 9), _IDS, st.sampled_from(["0", "1", "2", "3", "x"]), _SCORES
)
_SHORT = st.integers(3, 4).flatmap(lambda most: _EPISODE.map(lambda row: row[:most]))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    episodes=st.lists(st.one_of(_EPISODE, _EPISODE, _SHORT), max_size=12),
    agents=st.lists(_AGENT, max_size=24),
    watermark=st.sampled_from([0.0, 0.5, 700.0, 1500.0]),
    rows=st.integers(1, 5),
)
def test_it_is_the_join_by_dicts(
    tmp_path_factory: pytest.TempPathFactory,
    episodes: list[list[str]],
    agents: list[list[str]],
    watermark: float,
    rows: int,
) -> None:
    folder = tmp_path_factory.mktemp("join")
    write_both(folder / "meta", episodes, agents)
    right = join(episodes, agents, 1, watermark)
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_small_steps(monkeypatch, rows)
        stand = Walk(folder, job=False, number=1, watermark=watermark)
        stand.run()
    assert stand.handed() == right.best
    assert stand.noted("below_watermark") == right.below
    if right.best or right.below:
        unread = tuple(stand.noted(f"unread/{name}") for name in ("Episodes", "EpisodeAgents"))
        assert unread == right.unread


# -- which competition -----------------------------------------------------------------------------


def test_a_competition_whose_number_is_not_known_is_looked_for(tmp_path: Path) -> None:
    contests = [["1", "halite"], ["22", " Lux-AI-2021 "], ["3", "rps"]]
    write(tmp_path / "meta", "Competitions", ("Id", "Slug"), contests)
    write_both(tmp_path / "meta", [episode(5, 22), episode(6, 1)], [])
    stand = Walk(tmp_path, slug="lux-ai-2021")
    stand.begin()
    assert stand.step()
    stand.commit()
    stand.kill()
    again = Walk(tmp_path, slug="lux-ai-2021")
    again.run()
    assert [(row.id, row.competition_id) for row in again.handed()] == [(5, 22)]
    with pytest.raises(ValueError, match="gathers the episodes of competition 22"):
        again.games.episode_tables(1)


def test_one_that_is_not_there_ends_the_crawl(tmp_path: Path) -> None:
    write(tmp_path / "meta", "Competitions", ("Id", "Slug"), [["1", "halite"], ["x", "lux"]])
    stand = Walk(tmp_path, slug="lux")
    stand.begin()
    assert stand.step()
    assert stand.games.stopped_because.startswith("Meta Kaggle's Competitions.csv has no compet")
    assert stand.scheduler.has_pending_requests(), "another run looks again"


def test_real_rows(samples: Path, tmp_path: Path) -> None:
    meta = samples / "meta_kaggle" / "recon2025"
    stand = Walk(tmp_path, number=17592, meta_kaggle=meta)
    stand.run()
    assert [(row.id, row.type, row.create_time, row.agents) for row in stand.handed()] == [
        (17217, "validation", "2020-01-03T21:08:01Z", []),
        (17222, "validation", "2020-01-03T21:31:27Z", []),
        (17227, "validation", "2020-01-03T21:53:54Z", []),
    ]
    folder = tmp_path / "meta"
    write(folder, "Episodes", EPISODES, [episode(18141, 17592), episode(18132, 17592)])
    (folder / "EpisodeAgents.csv").write_bytes((meta / "EpisodeAgents.csv").read_bytes())
    stand = Walk(tmp_path, job=False, number=17592)
    stand.run()
    two, one = stand.handed()
    assert (two.id, two.priority) == (18141, (691.092550 + 438.911054) / 2)
    assert two.agents[1] == {
        "index": 1,
        "submissionId": 14032599,
        "teamId": None,
        "teamName": "",
        "reward": 0.0,
        "state": "complete",
        "initialScore": 482.014238,
        "initialConfidence": 136.476612,
        "updatedScore": 438.911054,
        "updatedConfidence": 130.658373,
    }
    assert (one.id, one.priority) == (18132, 501.504209)


# -- ids -------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 300_000) | st.integers(0, 1 << 62)), st.integers(0, 300_000))
def test_ids_are_a_set(numbers: set[int], other: int) -> None:
    ids = Ids([*numbers, *numbers])
    assert len(ids) == len(numbers)
    assert all(each in ids for each in numbers)
    assert all((each in ids) == (each in numbers) for each in (other, other + 1, other ^ 8, -other))


def test_nothing_waits_between_two_stretches_of_a_table() -> None:
    """AutoThrottle would have each of them wait as long as the first one."""
    chosen = Settings({"WORKSPACE": "w", "DOWNLOAD_DELAY": 3.0, "CONCURRENT_REQUESTS": 8})
    chosen.setmodule(project, priority="default")
    Games.update_settings(chosen)
    assert chosen.getdict("DOWNLOAD_SLOTS")["metakaggle"] == {"delay": 0, "concurrency": 8}
