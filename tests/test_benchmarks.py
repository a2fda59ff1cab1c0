"""The benchmark's machinery in a tiny configuration; no timing is judged here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks import report, scheduler
from benchmarks.__main__ import main
from benchmarks.contenders import Bench, Run
from benchmarks.processes import BenchmarkError, ReplicaProcess, Usage, clean_env, measure
from benchmarks.report import Result

TINY = (
    *("--scale", "small", "--pages", "2", "--repeats", "1"),
    *("--cli-calls", "1", "--own-pages", "1", "--rounds", "1"),
)


def run_of(calls: int, cpu: float) -> Run:
    return Run(calls, Usage(seconds=2 * cpu, cpu=cpu))


def test_it_prints_every_contender_and_the_calls_that_the_replica_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(TINY) == 0, "without --strict a missed bar is no error"
    printed = capsys.readouterr().out
    calls = {}
    for line in printed.splitlines():
        name, *cells = re.split(r"  +", line)
        calls[name] = cells[:1]
    # two pages of 20 rows and a metadata call a row; the rest make metadata calls alone
    assert calls["kagglecrawl"] == ["42"]
    assert calls["kagglecrawl, no Markdown pipeline"] == ["42"]
    assert calls["Scrapy, bare spider"] == ["42"]
    assert calls["Scrapy, bare spider that stores"] == ["42"]
    assert calls["KaggleApi, 16 threads"] == ["40"]
    assert calls["kaggle CLI, one process a call"] == ["1"]
    assert "at its own pace (AutoThrottle, DOWNLOAD_DELAY): 21 calls in " in printed
    assert "Replica, 240 small replies: " in printed
    assert "not judged: too few calls" in printed
    assert ", scrapy 2." in printed


def test_a_contender_that_makes_other_calls_is_an_error(tmp_path: Path) -> None:
    with ReplicaProcess("small", tmp_path) as replica:
        bench = Bench(replica, tmp_path)
        # the world has 12 pages
        with pytest.raises(BenchmarkError, match=r"was to call .*13.* but the replica saw"):
            bench.bare(13)
        assert replica.requests() == {"ListDatasets": 13, "GetDatasetMetadata": 240}
        replica.reset()
        assert replica.requests() == {}


def test_start_up_is_taken_off_and_ratios_are_of_the_same_repeat() -> None:
    ours = Result("us", [run_of(120, 4.0), run_of(120, 6.0)], [run_of(10, 0.5), run_of(10, 0.7)])
    base = Result("base", [run_of(120, 2.6), run_of(120, 2.6)], [run_of(10, 0.4)])
    assert ours.net() == pytest.approx([3.4 / 110, 5.4 / 110])
    assert ours.rates() == pytest.approx([110 / 6.8, 110 / 10.8])
    assert ours.gross() == pytest.approx([4 / 120, 6 / 120])
    assert report.ratios(ours, base) == pytest.approx([3.4 / 2.2, 5.4 / 2.2])
    assert report.judge(report.ratios(ours, base)) == (False, "2.00: FAIL")
    assert report.judge([1.1, 1.3, 1.9]) == (True, "1.30: PASS")


def test_too_few_calls_say_nothing() -> None:
    ours = Result("us", [run_of(40, 4.0)], [run_of(20, 0.5)])
    assert ours.net() == ours.rates() == report.ratios(ours, ours) == []
    assert not report.judge([])[0]
    line = report.table([ours], ours).splitlines()[1]
    assert line.split() == ["us", "40", "-", "-", "100.00", "-"]


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict",), 1)])
def test_a_missed_bar_is_an_error_if_strict(
    monkeypatch: pytest.MonkeyPatch, strict: tuple[str, ...], code: int
) -> None:
    monkeypatch.setattr("benchmarks.__main__._run", lambda bench, opts: False)
    assert main([*TINY, *strict]) == code


def test_a_process_is_measured_with_its_children(tmp_path: Path) -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}], check=True)"
    command = [sys.executable, "-c", parent]
    used = measure(command, folder=tmp_path, env=clean_env(tmp_path), timeout=60)
    assert used.cpu > 0.29, "the child says itself that it has used so much"


def test_a_process_that_fails_or_hangs_is_an_error(tmp_path: Path) -> None:
    env = clean_env(tmp_path)
    code = "print('why'); raise SystemExit(3)"
    with pytest.raises(BenchmarkError, match=r"ended with 3:\nwhy"):
        measure([sys.executable, "-c", code], folder=tmp_path, env=env, timeout=30)
    with pytest.raises(BenchmarkError, match="ended with -9"):
        measure(["sleep", "60"], folder=tmp_path, env=env, timeout=0.2)


def test_nothing_of_the_users_own_is_measured_or_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("KAGGLE_KEY", "SCRAPY_SETTINGS_MODULE", "https_proxy", "PYTHONPROFILEIMPORTTIME"):
        monkeypatch.setenv(name, "x")
    env = clean_env(tmp_path, KAGGLE_API_URL="http://localhost")
    assert "x" not in env.values()
    assert (env["KAGGLE_API_URL"], env["HOME"]) == ("http://localhost", str(tmp_path))


def test_the_schedulers_are_compared_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert scheduler.main(["--scale", "small", "--pages", "3", "--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    for name in ("Scrapy's, in memory", "Scrapy's, with JOBDIR", "kagglecrawl's, with JOBDIR"):
        assert re.search(rf"^{re.escape(name)} +[-\d,]+ requests/s", printed, re.MULTILINE), printed
    assert re.search(r"^Bar: .*: (passed|MISSED)|[-\d.]+, (passed|MISSED)$", printed, re.MULTILINE)
