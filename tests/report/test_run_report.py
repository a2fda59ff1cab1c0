"""The extension: it writes whole files or none, and changes nothing else."""

from __future__ import annotations

import json
import logging
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scrapy import Request, Spider, signals
from scrapy.http import Response
from scrapy.utils.test import get_crawler
from twisted.python.failure import Failure

from kagglecrawl.extensions import run_report as module
from kagglecrawl.extensions.run_report import RunReport
from kagglecrawl.report import shape
from kagglecrawl.report.collect import Collector
from kagglecrawl.state.closing import left_behind
from kagglecrawl.state.holds import Holds
from kagglecrawl.state.scheduler import KaggleScheduler
from kagglecrawl.state.store import Store
from tests.report.made import BEGAN, MadeRun
from tests.report.test_document import wrong
from tests.report.test_episodes import CALL, REPLAYS, episode

NAMES = {"report.json", "report.html"}


class Ticks:
    """Stands in for the loop: it looks when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running = False
        self.look: Any = None
        monkeypatch.setattr(module, "create_looping_call", self._create)
        monkeypatch.setattr(module, "AsyncioLoopingCall", Ticks)

    def _create(self, look: Any, spider: Any) -> Ticks:
        self.look = lambda: look(spider)
        return self

    def start(self, interval: float, now: bool = True) -> None:
        assert (interval, now) == (1.0, False)
        self.running = True

    def stop(self) -> None:
        self.running = False


class Stage:
    """An extension with a run that is made by hand."""

    def __init__(self, folder: Path, ticks: Ticks, *, refused: bool = False) -> None:
        self.run = MadeRun(folder / "workspace", EXTENSIONS={}, EXTENSIONS_BASE={})
        self.workspace = folder / "workspace"
        self.ticks = ticks
        self.crawler = self.run.crawler
        scheduler = KaggleScheduler(self.crawler)
        if not refused:
            scheduler.holds = Holds(self.crawler, Store.in_memory())
            scheduler.transfers = cast(Any, SimpleNamespace(under_way={}))
        self.crawler.engine = cast(Any, SimpleNamespace(scheduler=scheduler))
        self.crawler.spider = self.run.spider
        self.extension = RunReport.from_crawler(self.crawler)

    def send(self, signal: object, **given: Any) -> None:
        found = self.crawler.signals.send_catch_log(signal, **given)
        assert not [result for _, result in found if isinstance(result, Exception) or result]

    def open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        collector = partial(
            Collector, clock=lambda: self.run.seconds, now=lambda: BEGAN + self.run.seconds
        )
        monkeypatch.setattr(module, "Collector", collector)
        self.send(signals.spider_opened, spider=self.run.spider)

    def close(self, reason: str = "finished") -> None:
        self.run.stats.set_value("finish_reason", reason)
        self.send(signals.spider_closed, spider=self.run.spider, reason=reason)

    def written(self) -> Any:
        return json.loads((self.workspace / "report.json").read_text(encoding="utf-8"))

    def names(self) -> set[str]:
        found = self.workspace.iterdir() if self.workspace.exists() else ()
        return {path.name for path in found}


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    return Ticks(monkeypatch)


@pytest.fixture
def stage(tmp_path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> Stage:
    made = Stage(tmp_path, ticks)
    made.open(monkeypatch)
    return made


def test_once_a_minute_and_at_the_end(stage: Stage) -> None:
    writes = []
    for second in range(1, 130):
        stage.run.seconds = second
        stage.ticks.look()
        if stage.names():
            writes.append(second)
            assert stage.names() == NAMES
            assert stage.written()["run"]["ended"] is None
            for name in NAMES:
                (stage.workspace / name).unlink()
    assert writes == [5, 65, 125]
    stage.run.stats.set_value("kaggle/requests/ListDatasets", 3)
    stage.close("shutdown")
    assert not stage.ticks.running
    assert stage.names() == NAMES
    report = stage.written()
    assert list(wrong(report, shape.Report)) == []
    assert (report["run"]["reason"], report["run"]["exit_code"]) == ("shutdown", 3)
    assert sum(report["series"]["requests"]["api"]) == 3, "what came since the last look as well"
    assert "<!doctype html>" in (stage.workspace / "report.html").read_text(encoding="utf-8")


def test_replays_that_pass_are_counted(stage: Stage) -> None:
    response = Response("https://example.org/1", request=Request("data:,", meta={"rpc": CALL}))
    stage.run.stats.set_value(f"kaggle/requests/{REPLAYS}", 4)
    failure = cast(Any, Failure)(ValueError())  # of its last log, say
    failure.request = response.request
    for answer, item in (
        (response, episode(1200.0)),
        (response, episode(900.0, had=False)),
        (failure, episode(1300.0)),
        (None, episode(1.0)),
    ):
        stage.send(signals.item_scraped, item=item, response=answer, spider=stage.run.spider)
    stage.close()
    episodes = stage.written()["episodes"]
    assert (episodes["replays"], episodes["requests"], episodes["sum"]) == (2, 4, 2500)
    assert not stage.run.stats.get_value("kaggle/report/faults", 0)


def test_a_run_that_did_nothing_leaves_the_report_of_one_that_did(stage: Stage) -> None:
    """But for one that has written its own meanwhile."""
    stage.workspace.mkdir(parents=True)
    (stage.workspace / "report.json").write_text('"of another"')
    stage.run.stats.set_value("kaggle/requests", 0)
    stage.run.spider.accounts.stored_before = stage.run.spider.accounts.count("stored")
    stage.close()
    assert stage.written() == "of another"
    stage.extension._write(stage.run.spider, None)
    stage.extension._closed(stage.run.spider, "finished")
    assert stage.written()["run"]["reason"] == "finished"


def test_a_fault_of_the_page_ends_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(report: object) -> str:
        raise KeyError("a fault")

    monkeypatch.setattr(module, "page", broken)
    for second in range(1, 200):
        stage.run.seconds = second
        stage.ticks.look()
    assert stage.names() == set(), "neither is new without the other"
    assert stage.run.stats.get_value("kaggle/report/faults") > 1
    assert [record.getMessage() for record in caplog.records] == [
        "The report of this run is not right, the crawl is"
    ]
    monkeypatch.undo()
    stage.close()
    assert stage.names() >= NAMES


def test_what_hangs_at_the_end_is_told_as_well(stage: Stage) -> None:
    stage.send(left_behind)
    assert stage.written()["run"]["reason"] == "shutdown"


def test_a_run_that_was_refused_its_job_leaves_the_report_of_another(
    tmp_path: Path, ticks: Ticks
) -> None:
    stage = Stage(tmp_path, ticks, refused=True)
    stage.send(signals.spider_opened, spider=stage.run.spider)
    stage.close("kaggle_job")
    assert stage.names() == set()


def test_one_that_was_refused_late_does_too(stage: Stage) -> None:
    stage.close("kaggle_job")
    assert stage.names() == set()


def test_other_spiders_have_none(tmp_path: Path, ticks: Ticks) -> None:
    settings = {"WORKSPACE": str(tmp_path / "workspace"), "EXTENSIONS_BASE": {}}
    crawler = get_crawler(Spider, settings_dict=settings)
    extension = RunReport.from_crawler(crawler)
    spider = Spider(name="other")
    for signal, more in ((signals.spider_opened, {}), (signals.spider_closed, {"reason": "x"})):
        found = crawler.signals.send_catch_log(signal, spider=spider, **more)
        assert [result for _, result in found] == [None]
    assert ticks.look is None, extension
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_cannot_be_written_is_told_once(
    stage: Stage, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A folder has the place of the file: for root, a folder without rights is no hindrance."""
    (stage.workspace / name / "in the way").mkdir(parents=True)
    for second in (5, 65, 125):
        stage.run.seconds = second
        stage.ticks.look()
    stage.close()
    (said,) = [each for each in caplog.records if each.name == module.__name__]
    assert said.levelno == logging.WARNING
    assert "cannot be written" in said.getMessage()
    assert str(stage.workspace) in said.getMessage()
    assert not [each for each in stage.names() if each.endswith(".tmp")]
    assert stage.run.stats.get_value("finish_reason") == "finished"


def test_a_disk_without_room_keeps_the_report_that_there_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run.seconds = 5
    stage.ticks.look()
    before = {name: (stage.workspace / name).read_bytes() for name in NAMES}
    write = Path.write_bytes

    def half(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    stage.close()
    assert stage.names() == NAMES
    assert {name: (stage.workspace / name).read_bytes() for name in NAMES} == before


def test_two_crawls_of_a_workspace_do_not_write_one_file(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writes beside under a name of its own."""
    seen = []
    replace = Path.replace

    def noted(path: Path, target: Path) -> Path:
        seen.append(path.name)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    stage.close()
    assert len(seen) == 2
    assert all(str(os.getpid()) in name for name in seen)


def test_what_killed_processes_have_left_is_swept_away_when_nobody_can_be_writing_it(
    tmp_path: Path, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, ticks)
    stage.workspace.mkdir()
    old, new = (stage.workspace / f".report.json.{pid}.tmp" for pid in (1, 2))
    for path in (old, new):
        path.write_text("{", encoding="utf-8")
    os.utime(old, (1, 1))
    stage.open(monkeypatch)
    assert stage.names() == {new.name}
