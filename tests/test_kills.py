"""Nothing lost, nothing twice: crawls that are killed again and again, wherever it hurts."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest

from benchmarks import kills
from kagglecrawl.replica.faults import Fault, Rule
from kagglecrawl.replica.faults import Faults as Trouble
from kagglecrawl.replica.listing import listing
from kagglecrawl.replica.world import World
from tests.killing.look import MINIMUM, Faults, Truth
from tests.killing.points import POINTS
from tests.killing.shapes import SHAPES, Shape, workspace
from tests.killing.trial import Job, Kill

#: Where each job is killed, one start after the other. A point that is not reached fails the test,
#: so that those that need much to be left to do come first.
PLANS = {
    "jsonlines": ["job half", "waiting", "page half", "committed", "ledger told", "reopened"],
    "by token": ["listing", "retry", "page whole", "ledger untold", "feeds open", "list noted"],
    "overwritten": ["job named", "feed write", "outside", "ledger untold", "closed"],
    "gzip": ["job whole", "feed write", "fetched", "run begun", "feed write"],
    "csv": ["pipeline", "held", "flushed", "stored"],
    "batches": ["place half", "placed", "feed write", "page renamed", "placed"],
    "sample": ["job begun", "feed write", "committed"],
    "pages": ["outside", "pipeline", "page whole"],
}
#: The latest passes of a point in crawls that are short.
MOST = {"sample": 2, "pages": 10}
#: Seconds between two commits, so that there are many of them in a small crawl.
EVERY = 0.02
#: Requests that may have to be made again after a kill: eight are under way, and a few come to
#: their end in EVERY seconds. About 10 were seen; with commits every 0.15 s it is 31 in a job, and
#: without any all that was done before.
AGAIN = 25


def test_every_point_has_its_kill_and_there_are_enough() -> None:
    planned = [point for plan in PLANS.values() for point in plan]
    assert set(planned) == POINTS.keys()
    assert len(planned) >= 20
    assert PLANS.keys() == {shape.name for shape in SHAPES}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_kills_cost_no_row_and_double_none(shape: Shape, tmp_path: Path) -> None:
    dice = random.Random(shape.name)
    most = MOST.get(shape.name, 1000)
    plan = [Kill.draw(dice, point, min(most, POINTS[point].passes)) for point in PLANS[shape.name]]
    with Job(shape, tmp_path, 1, World(seed=1), EVERY) as job:
        for kill in plan:
            outcome = job.start(kill)
            assert outcome.killed, f"{kill} was not reached:\n{outcome.log}"
            assert not (faults := job.look()), f"after {kill}: {faults}\n{outcome.log}"
        last = job.start()
        assert not (faults := job.look_at_end(last)), f"at the end: {faults}\n{last.log}"
        made = job.requests()
        after = job.start()
        assert not (faults := job.look_at_end(after)), f"after the end: {faults}\n{after.log}"
        assert job.requests() == made, "a job that has ended asks for nothing"
        needed = job.needed()
    assert made <= needed + AGAIN * len(plan)


def test_a_kill_does_not_shorten_a_retry_after(tmp_path: Path) -> None:
    """From the moment at which it is known; an answer that a kill overtakes is not."""
    world = World(seed=1)
    ref = world.public(MINIMUM)[40].ref
    rule = Rule(Fault("status", 429, retry_after=3), "GetDatasetMetadata", ref, arrivals=(1,))
    with Job(
        *(Shape("jsonlines"), tmp_path, 1, world), trouble=Trouble.script([rule])
    ) as job:  # at the project's own pace of commits
        assert job.start(Kill("held")).killed
        last = job.start()
        assert not (faults := job.look_at_end(last)), f"{faults}\n{last.log}"
        assert job.replica.stats()["retry_after_violations"] == 0


def test_a_sample_goes_on_with_what_was_begun(tmp_path: Path) -> None:
    """One of the list's first has failed, and after the kill it is tried again; but there are as
    many begun as are wanted, and those go first."""
    world, shape = World(seed=1), Shape("sample", sample=3)
    order = listing(world, ApiListDatasetsRequest())
    first, *others = [each.ref for each in order if each.usability >= MINIMUM][:4]
    rules = [Rule(Fault("status", 500), "GetDatasetMetadata", first, arrivals=(1,))]
    rules += [
        Rule(Fault("drip", seconds=60), "GetDatasetMetadata", ref, arrivals=(1,)) for ref in others
    ]
    with Job(
        *(shape, tmp_path, 1, world, EVERY),
        trouble=Trouble.script(rules),
        options=("-s", "KAGGLE_MAX_ATTEMPTS=1"),
    ) as job:
        assert job.start(Kill("outside", passes=5, pause=0.5)).killed
        last = job.start()
        assert not (faults := job.look_at_end(last)), f"{faults}\n{last.log}"


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    truth = Truth(World(seed=1), Shape("pages", pages=(2, 3)))
    rows = list(truth.right.values())
    assert not truth.of_rows(rows, ended=True)
    wrong = [*rows[2:], rows[2], {**rows[1], "Title": "another"}]
    faults = truth.of_rows(wrong, ended=True)
    assert faults.lost == [rows[0]["Ref"]]
    assert faults.doubled == [rows[2]["Ref"]]
    assert faults.wrong == [rows[1]["Ref"]]
    folder = workspace(tmp_path) / "output" / "datasets" / "meta_data"
    folder.mkdir(parents=True)
    (folder / "page_2.jsonl").write_text('{"Ref": "a/b"}\n', encoding="utf-8")
    (folder / ".page_3.jsonl.incomplete").touch()
    assert truth.of_pages(tmp_path, ended=False).pages == ["page_2.jsonl is wrong"]
    assert sorted(truth.of_pages(tmp_path, ended=True).pages) == [
        ".page_3.jsonl.incomplete is left over",
        "page_2.jsonl is wrong",
        "page_3.jsonl is missing",
    ]


SMALL = ("--scale", "small", "--jobs", "1", "--seed", "3")


def test_the_benchmark_counts_its_kills(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert kills.main([*SMALL, "--kills", "2"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^ +2  in \d+ starts of [12] jobs$", printed, re.MULTILINE), printed
    assert "rows lost 0, doubled 0, wrong 0; page files wrong 0" in printed
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_fails_when_a_row_is_lost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Job, "look", lambda job, ended=False: Faults(lost=["a/b"] * ended))
    assert kills.main([*SMALL, "--kills", "1"]) == 1
    printed = capsys.readouterr().out
    assert "rows lost 1, doubled 0" in printed
    assert str(tmp_path) in printed, "it says where to look"
