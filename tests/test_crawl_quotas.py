"""Whole crawls under quotas: within the rates, over restarts, beside other processes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import budget
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import NO_FILES, Run


def answers(replica: Replica) -> Counter[str]:
    """How many requests the replica has answered, by status."""
    found: Counter[str] = Counter()
    for counts in replica.stats()["requests"].values():
        found.update(counts)
    return found


def test_a_rate_that_is_known_is_kept(crawl: Run) -> None:
    """The server counts as we do: what it refuses is next to nothing, and all of it comes."""
    world = World(seed=1)
    with Replica(world, quotas=Quotas("api=40/second")) as replica:
        done = crawl(replica, "-s", "KAGGLE_QUOTAS=api=40/second", *NO_FILES)
        found, stats = answers(replica), replica.stats()
    assert done.code == 0, done.log
    assert done.stat("kaggle/datasets/discovered") == 240
    assert found["429"] <= 0.02 * found.total()
    assert stats["retry_after_violations"] == 0


def test_a_rate_that_is_not_known_is_learnt(crawl: Run, tmp_path: Path) -> None:
    """Kaggle pushes back again and again: requests get further apart, and stay so."""
    quotas = ("-s", f"KAGGLE_QUOTA_FILE={tmp_path / 'quotas.sqlite'}")
    with Replica(World(seed=1), quotas=Quotas("api=15/second")) as replica:
        first = crawl(replica, *quotas, *NO_FILES, "-a", "sample=40")
        before = answers(replica)["429"]
        second = crawl(replica, *quotas, *NO_FILES, "-a", "sample=40")
        stats = replica.stats()
        after = answers(replica)["429"] - before
    assert (first.code, second.code) == (0, 0), first.log + second.log
    assert len(first.rows) == len(second.rows) == 40
    assert stats["retry_after_violations"] == 0
    assert "Kaggle pushes back" in first.log
    assert after < before


def test_a_budget_that_is_spent_ends_the_crawl_and_the_next_one_knows(
    crawl: Run, tmp_path: Path
) -> None:
    job = ("-s", f"JOBDIR={tmp_path / 'job'}", "-s", "KAGGLE_QUOTAS=api=50/day", *NO_FILES)
    with Replica(World(seed=1)) as replica:
        first = crawl(replica, *job)
        assert answers(replica).total() == 50
        again = crawl(replica, *job)
        assert answers(replica).total() == 50
        more = ("-s", "KAGGLE_QUOTAS=api=80/day")
        third = crawl(replica, *job, *more)
        assert answers(replica).total() == 80
    assert [first.code, again.code, third.code] == [4, 4, 4], first.log
    assert "KAGGLE_QUOTAS is spent for " in first.log
    assert "KAGGLE_QUOTA_SPENT=wait" in first.log
    for done in (first, again, third):
        counts = done.stats("kaggle/datasets/")
        kinds = ("stored", "skipped", "failed", "pending")
        assert counts["discovered"] == sum(counts.get(kind, 0) for kind in kinds)
        assert counts.get("failed", 0) == 0
    assert not first.stats("kaggle/throttled")


def test_processes_that_are_killed_share_a_budget(capsys: pytest.CaptureFixture[str]) -> None:
    """Four at once, again and again: never more than there is, and but for what was on its way at
    a kill all of it."""
    tiny = ["--budget", "200", "--processes", "4", "--rounds", "3", "--rate", "0"]
    assert budget.main(tiny) == 0
    printed = capsys.readouterr().out
    found = re.search(r"^12 starts: (\d+) of 200 requests", printed, re.MULTILINE)
    assert found is not None, printed
    assert 190 <= int(found[1]) <= 200, printed
    assert "Round 3: ended with 4, 4, 4, 4 " in printed


def test_families_share_a_rate_and_the_official_package_counts(crawl: Run) -> None:
    """Its signing in is a request like any other."""
    shared = ("-s", "KAGGLE_QUOTAS=api+download=30/day", "-a", "download=true")
    with Replica(World(seed=1)) as replica:
        first = crawl(replica, *shared, "-a", "sample=4")
        done = crawl(replica, *shared, "-s", "KAGGLE_TRANSPORT=official")
        requests = replica.stats()["requests"]
        assert answers(replica).total() == 30
    assert (first.code, done.code) == (0, 4), first.log + done.log
    assert requests["IntrospectToken"] == {"200": 1}
    assert done.stat("kaggle/requests/IntrospectToken") == 1
    assert requests["DownloadDataset"].get("302", 0) > 4


def test_another_process_keeps_to_what_kaggle_has_asked_of_this_one(
    crawl: Run, tmp_path: Path
) -> None:
    rule = Rule(Fault("status", status=429, retry_after=4000), arrivals=(1,))
    shared = ("-s", f"KAGGLE_QUOTA_FILE={tmp_path / 'quotas.sqlite'}", *NO_FILES)
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        first = crawl(replica, *shared, "-s", f"WORKSPACE={tmp_path / 'one'}")
        other = crawl(replica, *shared, "-s", f"WORKSPACE={tmp_path / 'two'}")
        assert answers(replica).total() == 1
    assert (first.code, other.code) == (4, 4), other.log
    assert "Kaggle asks to wait" in other.log


@pytest.mark.parametrize("spent", ["stop", "wait"])
def test_a_long_retry_after_ends_the_crawl_or_is_waited_for(crawl: Run, spent: str) -> None:
    world = World(seed=1)
    refs = [dataset.ref for dataset in world.public()[:10]]
    refused = Fault("status", status=429, retry_after=2)
    rule = Rule(refused, method="GetDatasetMetadata", key=refs[4], arrivals=(1,))
    with Replica(world, faults=Faults.script([rule])) as replica:
        done = crawl(
            replica,
            *(*NO_FILES, "-a", f"refs={','.join(refs)}", "-s", "KAGGLE_MAX_WAIT=1"),
            *("-s", f"KAGGLE_QUOTA_SPENT={spent}"),
        )
        stats = replica.stats()
    assert stats["retry_after_violations"] == 0
    assert done.code == (4 if spent == "stop" else 0), done.log
    if spent == "wait":
        assert len(done.rows) == 10
    else:
        assert len(done.rows) < 10
        assert "Kaggle asks to wait" in done.log


def test_while_one_family_is_held_the_others_go_on(crawl: Run) -> None:
    """Every record is had, and no file, since downloads are held; then the crawl ends."""
    rule = Rule(Fault("status", status=429, retry_after=4000), method="DownloadDataset")
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        done = crawl(replica, "-a", "pages=1-3", "-a", "download=true")
        requests = replica.stats()["requests"]
    assert done.code == 4, done.log
    assert requests["DownloadDataset"].keys() == {"429"}
    assert requests["DownloadDataset"]["429"] <= 2
    wanted = 60 - done.stat("kaggle/datasets/skipped")
    assert sum(requests["GetDatasetMetadata"].values()) >= wanted > 0
    assert done.stat("kaggle/datasets/pending") == wanted


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("KAGGLE_QUOTAS=api=fast", "'fast' is no rate: write 2/second"),
        ("KAGGLE_QUOTAS=2/second", "is no quota: write api=2/second"),
        ("KAGGLE_QUOTAS=apis=2/second", "the family 'apis', which is not known: use api"),
        ("KAGGLE_QUOTAS=api+x=2/second", "the family 'x', which is not known: use api"),
        ("KAGGLE_QUOTAS=api+api=2/second", "'api+api' names a family twice"),
        ('KAGGLE_QUOTAS={"api": 5}', "KAGGLE_QUOTAS="),
        ("KAGGLE_QUOTA_SPENT=sleep", "use stop or wait"),
    ],
)
def test_wrong_settings_are_one_sentence(crawl: Run, setting: str, words: str) -> None:
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-s", setting)
        assert answers(replica).total() == 0
    assert done.code == 2
    assert words in done.log
    assert "Traceback" not in done.log


def test_a_file_of_quotas_that_cannot_be_used(crawl: Run, tmp_path: Path) -> None:
    path = tmp_path / "quotas.sqlite"
    path.write_bytes(b"no database" * 100)
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, "-s", f"KAGGLE_QUOTA_FILE={path}", "-s", "KAGGLE_QUOTAS=api=9/day")
        assert answers(replica).total() == 0
    assert done.code == 2, done.log
    assert "set KAGGLE_QUOTA_FILE to another place" in done.log
    assert path.read_bytes() == b"no database" * 100


def test_nothing_of_the_credentials_is_in_the_file(crawl: Run, tmp_path: Path) -> None:
    path = tmp_path / "quotas.sqlite"
    with Replica(World(seed=1)) as replica:
        env = replica.crawler_env()
        crawl(
            replica,
            *(*NO_FILES, "-a", "sample=2", "-s", f"KAGGLE_QUOTA_FILE={path}"),
            *("-s", "KAGGLE_QUOTAS=api=900/day"),
        )
    content = b"".join(each.read_bytes() for each in tmp_path.glob("quotas.sqlite*"))
    assert b"api" in content
    secrets = [value for name, value in env.items() if "TOKEN" in name or "KEY" in name]
    assert secrets
    assert not [value for value in secrets if value.encode() in content]


def test_a_sample_ends_too_when_what_it_needs_is_held(crawl: Run) -> None:
    """The rest of the list is pending, and not to be asked for: the sample is full."""
    rule = Rule(Fault("status", status=429, retry_after=4000), method="DownloadDataset")
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        done = crawl(replica, "-a", "sample=3", "-a", "download=true")
    assert done.code == 4, done.log


def test_short_waits_of_one_family_do_not_end_the_others(crawl: Run) -> None:
    rule = Rule(Fault("status", status=429, retry_after=1), method="DownloadDataset")
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        done = crawl(
            replica,
            *("-a", "pages=1-3", "-a", "download=true", "-s", "KAGGLE_MAX_WAIT=1"),
            *("-s", "KAGGLE_QUOTAS=api=20/second"),
        )
        requests = replica.stats()["requests"]
    assert done.code == 4, done.log
    wanted = 60 - done.stat("kaggle/datasets/skipped")
    assert sum(requests["GetDatasetMetadata"].values()) >= wanted


@pytest.mark.parametrize("fault", [Fault("status", status=500), None])
def test_neither_a_pace_nor_a_retry_is_a_spent_quota(crawl: Run, fault: Fault | None) -> None:
    """However short the longest wait may be."""
    rules = [Rule(fault, method="GetDatasetMetadata", arrivals=(1,))] if fault else []
    with Replica(World(seed=1), faults=Faults.script(rules)) as replica:
        done = crawl(
            replica,
            *("-a", "sample=3", "-s", "KAGGLE_MAX_WAIT=0", "-s", "KAGGLE_RETRY_BASE=0.5"),
            *("-s", "KAGGLE_QUOTAS=api=10/second"),
        )
    assert done.code == 0, done.log
    assert len(done.rows) == 3
