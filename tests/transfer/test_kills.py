"""Files that are fetched by crawls that die: nothing is lost, and little is fetched again."""

from __future__ import annotations

import random
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import transfer_kills
from benchmarks.transfer_kills import Run, over_the_bars
from kagglecrawl.replica.faults import STORAGE, Fault, Faults, Rule
from tests.killing.trial import Kill
from tests.official_transport.conftest import alive, wait_until, workers
from tests.transfer.victim import POINTS
from tests.transfer.victim_archive import Lies, Made, Part, make_tar, make_zip
from tests.transfer.victim_trial import TAIL, Trial

MIB = 1 << 20
#: Small and large, packed and not, and more of them than are noted at once.
PARTS = [
    Part("empty folder/", 0),
    Part("empty.csv", 0),
    *(Part(f"rows/{n % 7}/part {n}.csv", 1_000 + 37 * n, stored=n % 5 == 0) for n in range(120)),
    *(Part(f"medium/{n}.npy", 2 * MIB, dense=True) for n in range(3)),
    Part("video.mp4", 12 * MIB, stored=True, dense=True),
    Part("large.csv", 9 * MIB),
    *(Part(f"größen/{n % 3}/{n}.txt", 200 + 91 * n) for n in range(120)),
]
#: Seconds between two commits, so that there are many of them in a short crawl.
EVERY = 0.02
#: To go on in the middle of a member its header is asked for, with all that may belong to it.
HEADER = (1 << 17) + 64


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_zip(tmp_path_factory.mktemp("zip") / "archive.zip", PARTS)


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_tar(tmp_path_factory.mktemp("tar") / "archive.tar.gz", PARTS)


def die(trial: Trial, kill: Kill) -> None:
    """Kill the crawl there, and see that nothing of what was there before is fetched again."""
    before = len(trial.sent.answers())
    outcome = trial.start(kill)
    assert outcome.killed, f"{kill} was not reached: {outcome}"
    assert trial.fetched_again(before) <= HEADER, f"{kill}: {trial.sent.answers()[before:]}"
    tokens = {name.removeprefix(".me_set.").split(".")[0] for name in trial.left_over()}
    assert len(tokens) <= 1, "what a run has begun is lost to the next one"
    assert len(trial.rows()) <= 1
    if trial.target.exists() and not trial.beside:
        assert trial.made.differences(trial.target) == [], "half a folder has the name of a whole"
    trial.keep()


def end(trial: Trial) -> None:
    """Let it come to its end."""
    before = len(trial.sent.answers())
    outcome = trial.start()
    assert not (wrong := trial.wrong_at_end(outcome)), f"{wrong}\n{outcome.log}"
    assert trial.fetched_again(before) <= HEADER, trial.sent.answers()[before:]


def nothing_is_left_to_do(trial: Trial) -> None:
    """After its end, the same command asks for nothing."""
    requests = trial.replica.stats()["requests"]
    outcome = trial.start()
    assert not (wrong := trial.wrong_at_end(outcome)), f"{wrong}\n{outcome.log}"
    assert trial.replica.stats()["requests"] == requests


def test_every_point_has_its_kill() -> None:
    planned = {point for plan in (ZIP, MERGED, TAR) for point, _ in plan}
    assert planned == POINTS.keys() | {"outside"}


#: Where a job is killed, start after start, and the latest pass at which it is.
ZIP = [
    ("begun", 1),
    ("listing", 1),
    ("listed", 1),
    ("taken", 60),
    ("outside", 4),
    ("syncing", 1),
    ("synced", 1),
    ("noted", 1),
    ("deep", 6),
    ("writing", 60),
    ("whole", 1),
    ("placed", 1),
    ("published", 1),
    ("finished", 1),
]
MERGED = [("deep", 1), ("merging", 200), ("merged", 1)]
TAR = [("taken", 15), ("outside", 4), ("spooled", 1), ("unpacking", 200), ("published", 1)]


def test_a_zip_is_gone_on_with(archive: Made, tmp_path: Path) -> None:
    dice = random.Random("zip")
    with Trial(archive, tmp_path, commit_every=EVERY) as trial:
        for point, most in ZIP:
            die(trial, Kill.draw(dice, point, most))
            if point == "noted":
                assert trial.known()[1], "what is noted is committed"
            if point == "deep":
                names = {row.name for row in trial.known()[1]}
                before = archive.files.keys() - names - {"video.mp4", "large.csv"}
                assert not [name for name in before if name.startswith(("rows", "medium"))]
        end(trial)
        nothing_is_left_to_do(trial)
        stats = trial.replica.stats()
    assert stats["leaked_authorization"] == 0
    # one for each start but the last ones, for which nothing was left to do
    assert stats["requests_by_key"]["DownloadDataset"] == {"me/set": len(ZIP)}


def test_a_merge_is_gone_on_with(archive: Made, tmp_path: Path) -> None:
    """Into a folder that is there: what else is in it stays."""
    beside = {"mine/notes.txt": b"mine", "video.mp4": b"old", "rows/0/part 0.csv": b"old"}
    dice = random.Random("merge")
    with Trial(archive, tmp_path, beside=beside, commit_every=EVERY) as trial:
        for point, most in MERGED:
            die(trial, Kill.draw(dice, point, most))
            assert (trial.target / "mine" / "notes.txt").read_bytes() == b"mine"
        end(trial)


def test_a_tar_is_gone_on_with(tarball: Made, tmp_path: Path) -> None:
    dice = random.Random("tar")
    with Trial(tarball, tmp_path, commit_every=EVERY) as trial:
        for point, most in TAR:
            die(trial, Kill.draw(dice, point, most))
        end(trial)


# -- asked to stop ---------------------------------------------------------------------------------

#: The first answer with members ends inside the second of those of 2 MiB, and the one that goes on
#: from there hangs for an hour: nothing may wait for it.
HANGS = Fault("drip", seconds=3600)
#: A MiB four times a second.
SLOW = Fault("drip", seconds=6)
PATIENT = ("-s", "KAGGLE_STALL_TIMEOUT=3600")


def hanging(archive: Made) -> Faults:
    cut = Fault("cut", at=member(archive, "medium/1.npy").start + MIB)
    return Faults.script([Rule(cut, STORAGE, arrivals=(1,)), Rule(HANGS, STORAGE, arrivals=(2,))])


def member(archive: Made, name: str) -> Lies:
    return next(each for each in archive.members if each.name == name)


def wait_for_bytes(trial: Trial, count: int) -> None:
    """Until storage has sent so many."""
    wait_until(lambda: sum(trial.replica.stats()["storage_bytes"].values()) >= count)


@pytest.mark.parametrize(
    ("number", "moves"),
    [(signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["Ctrl-C", "SIGTERM, and nothing comes"],
)
def test_one_signal_ends_it_and_what_is_there_is_kept(
    archive: Made, tmp_path: Path, number: signal.Signals, moves: bool
) -> None:
    trouble = Faults.script([Rule(SLOW, STORAGE, arrivals=(2,))]) if moves else hanging(archive)
    second = member(archive, "medium/1.npy").start
    with Trial(archive, tmp_path, trouble, PATIENT) as trial:
        with trial.running() as process:
            wait_for_bytes(trial, TAIL + second + (2 * MIB if moves else MIB))
            if not moves:
                wait_until(lambda: trial.replica.stats()["faults"].get("drip", 0) == 1)
            process.send_signal(number)
            outcome = trial.end(process)
        assert outcome.code == 3, outcome.log
        assert "Traceback" not in outcome.log
        assert "ERROR" not in outcome.log
        assert "Run the same command again to go on." in outcome.log
        names = {row.name for row in trial.known()[1]}
        assert "medium/0.npy" in names, "it was whole, and nobody noted it"
        trial.keep()
        end(trial)


def test_two_signals_end_it_at_once(archive: Made, tmp_path: Path) -> None:
    with Trial(archive, tmp_path, hanging(archive), PATIENT) as trial:
        with trial.running() as process:
            wait_until(lambda: trial.replica.stats()["faults"].get("drip", 0) == 1)
            process.send_signal(signal.SIGINT)
            before = until(process, "shutting down gracefully")
            process.send_signal(signal.SIGINT)
            outcome = trial.end(process, before)
        assert outcome.code == 3, outcome.log
        assert "Traceback" not in outcome.log
        trial.keep()
        end(trial)


def until(process: subprocess.Popen[str], words: str) -> str:
    """What it says up to these words."""
    assert process.stderr is not None
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


def test_without_a_job_nothing_is_left(archive: Made, tmp_path: Path) -> None:
    with Trial(archive, tmp_path, hanging(archive), PATIENT) as trial:
        with trial.running("-s", "JOBDIR=") as process:
            wait_until(lambda: trial.replica.stats()["faults"].get("drip", 0) == 1)
            process.send_signal(signal.SIGINT)
            outcome = trial.end(process)
        assert outcome.code == 3, outcome.log
        assert trial.left_over() == []
        assert not trial.target.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked up in /proc")
def test_kagglehub_is_stopped_with_the_crawl(archive: Made, tmp_path: Path) -> None:
    slow = Faults.script([Rule(HANGS, STORAGE, arrivals=(1,))])
    official = ("-s", "KAGGLE_TRANSPORT=official", *PATIENT)
    with Trial(archive, tmp_path, slow, official) as trial:
        with trial.running() as process:
            wait_until(lambda: trial.replica.stats()["faults"].get("drip", 0) == 1)
            children = workers(process.pid)
            process.send_signal(signal.SIGINT)
            outcome = trial.end(process)
        assert children
        assert not [child for child in children if alive(child)]
        assert outcome.code == 3, outcome.log
        assert "Traceback" not in outcome.log
        assert trial.left_over() == []
        assert not trial.target.exists()
        outcome = trial.start()
        assert not (wrong := trial.wrong_at_end(outcome)), f"{wrong}\n{outcome.log}"


def test_what_is_fetched_again_is_seen(archive: Made, tmp_path: Path) -> None:
    """Else the tests above could not fail."""
    trial = Trial(archive, tmp_path)
    video = member(archive, "video.mp4")
    trial.kept.add(0, video.start)
    trial.kept.add(video.start + 4 * MIB, video.start + 9 * MIB)
    trial.sent._answers += [[archive.size - MIB, MIB], [video.start - 10, MIB]]
    assert trial.fetched_again(0) == 10
    trial.sent._answers += [[video.start + 8 * MIB, 5 * MIB]]
    assert trial.fetched_again(0) == 10 + MIB
    assert trial.fetched_again(2) == MIB


# -- the benchmark, which does the same with 2 GiB -------------------------------------------------


def test_the_benchmark_comes_to_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert transfer_kills.main(["--size", "40MiB", "--kills", "1", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^ +\d +code 0 ", printed, re.MULTILINE), printed
    assert "All right." in printed
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_sees_what_is_over_a_bar(archive: Made, tmp_path: Path) -> None:
    large, video = member(archive, "large.csv"), member(archive, "video.mp4")

    def run(at: int, *, again: int = 0, peak: int = 100_000_000) -> Run:
        return Run(True, -9, 1.0, peak, [(0, at)], 0, tmp_path, again)

    def wrong(*runs: Run) -> list[str]:
        return over_the_bars(archive, runs, official=False)

    much = 66 * MIB
    assert wrong(run(10), run(20, again=65 * MIB)) == []
    assert wrong(run(10, peak=150_000_000)) == ["start 1 held 150 MB"]
    assert wrong(run(video.start + 1), run(video.stop, again=much)) == [
        "start 2 fetched 66.0 MiB again, and 65.0 are allowed"
    ]
    archive = replace(archive, members=[replace(large, stop=large.start + much)])
    assert wrong(run(large.start + 1), run(large.stop, again=much)) == []
    assert wrong(run(large.start - 1), run(large.stop, again=much)) != []
