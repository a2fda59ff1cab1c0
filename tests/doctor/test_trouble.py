"""``scrapy doctor`` where something is in its way."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kagglecrawl.doctor.probes import LIMIT
from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.quotas import Quotas
from kagglecrawl.replica.rpc import Behaviour
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import QUICK, ROOT, Run, clean_env
from tests.doctor.conftest import (
    AGREES,
    COMPLETE,
    CREDENTIALS,
    DATASETS,
    FAILED,
    PAGE,
    QUOTA,
    STOPPED,
    TOKEN,
    TOKENS,
    UNKNOWN,
    USAGE,
    WRONG,
    Doctor,
    fits,
    saved,
    sent,
    table,
    total,
)

# -- trouble ---------------------------------------------------------------------------------------


def test_a_harsh_kaggle_gets_no_more_than_twenty_requests(doctor: Doctor) -> None:
    faults = Faults.harsh(1, drip_seconds=0.2)
    with Replica(World(seed=1), faults=faults, behaviour=TOKENS) as replica:
        done = doctor(replica)
        requests = total(replica)
    assert requests == sent(done) == LIMIT, "this script is hard enough to reach it"
    assert done.code == COMPLETE, done.log
    assert table(done)[TOKEN] == ("given; next page: 100 new rows", AGREES)
    assert "The limit of 20 requests is reached" in done.log


def test_a_short_wait_is_obeyed(doctor: Doctor) -> None:
    wait = Fault("status", status=429, retry_after=1)
    rule = Rule(wait, method="ListDatasets", key="page=2", arrivals=(1,))
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        done = doctor(replica)
        stats = replica.stats()
    assert done.code == COMPLETE, done.log
    assert stats["requests"]["ListDatasets"]["429"] == 1
    assert stats["retry_after_violations"] == 0
    facts = table(done)
    assert facts["Error: 429's Retry-After"] == ("1 s", AGREES)
    assert facts[PAGE] == ("20 rows, no token", AGREES), "it was asked again"


def test_a_long_wait_ends_the_probing_with_what_was_found(doctor: Doctor, workspace: Path) -> None:
    with Replica(World(seed=1), quotas=Quotas("api=3/day")) as replica:
        done = doctor(replica)
        requests = total(replica)
        again = doctor(replica, "--no-save")
        assert total(replica) == requests, "nobody asks while that runs"
        assert replica.stats()["retry_after_violations"] == 0
    assert done.code == again.code == QUOTA
    assert "Kaggle asks to wait" in again.log
    assert requests == 4
    facts = table(done)
    assert facts[PAGE] == ("20 rows, no token", AGREES)
    assert facts["ListDatasets, CSV only, pageSize 20"] == ("not answered (429)", UNKNOWN)
    assert facts["GetDatasetMetadata carries"] == ("not probed", UNKNOWN)
    assert facts["Error: 429's Retry-After"] == ("86400 s", AGREES)
    assert "Kaggle asks to wait 24 h 00 min" in " ".join(done.log.split())
    assert saved(workspace)["lists"][DATASETS]["tokens"] is False


def test_its_requests_count_in_the_quotas(doctor: Doctor) -> None:
    """Those of the official package, which signs in, as well."""
    quotas = ("-s", "KAGGLE_QUOTAS=api=6/day; api+download=11/day")
    with Replica(World(seed=1)) as replica:
        official = doctor(replica, *quotas, "-s", "KAGGLE_TRANSPORT=official")
        assert replica.stats()["requests"]["IntrospectToken"] == {"200": 1}
        assert total(replica) == 6
        more = doctor(replica, "-s", "KAGGLE_QUOTAS=api=9/day")
        assert total(replica) == 9
        none = doctor(replica, "-s", "KAGGLE_QUOTAS=api=9/day")
        assert total(replica) == 9
    assert [done.code for done in (official, more, none)] == [QUOTA] * 3, official.log
    said = " ".join(more.log.split())
    assert "3 requests sent." in said
    assert "KAGGLE_QUOTAS is spent for" in said
    assert "What is unknown above was not probed." in said


def test_quotas_that_cannot_be_kept_ask_nobody(doctor: Doctor, workspace: Path) -> None:
    workspace.mkdir()
    path = workspace / "quotas.sqlite"
    path.write_bytes(b"no database" * 100)
    with Replica(World(seed=1)) as replica:
        options = ("-s", f"KAGGLE_QUOTA_FILE={path}", "-s", "KAGGLE_QUOTAS=api=9/day")
        done = doctor(replica, *options)
        assert total(replica) == 0
    assert done.code == USAGE, done.log
    assert "set KAGGLE_QUOTA_FILE to another place" in " ".join(done.log.split())
    assert "Traceback" not in done.log


def test_nobody_there_is_one_sentence(doctor: Doctor, workspace: Path) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        done = doctor(None, env={"KAGGLE_API_URL": url})
    assert done.code == FAILED
    assert "Traceback" not in done.log
    assert "the connection was refused. Check the network and KAGGLE_API_URL" in " ".join(
        done.log.split()
    )
    assert "verdict" not in done.log, "no table of nothing"
    assert not workspace.exists()


def test_an_address_that_is_not_the_api(doctor: Doctor, workspace: Path) -> None:
    with Replica(World(seed=1)) as replica:
        done = doctor(replica, env={"KAGGLE_API_URL": f"{replica.url}/elsewhere"})
        assert total(replica) == sent(done) == 1
    assert done.code == FAILED
    assert "check the arguments, and KAGGLE_API_URL" in " ".join(done.log.split())
    assert not workspace.exists()


def test_closed_metadata_is_something_that_does_not_work(doctor: Doctor) -> None:
    rule = Rule(Fault("status", status=403), method="GetDatasetMetadata")
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        done = doctor(replica)
    assert done.code == FAILED
    assert "No metadata could be had" in done.log
    assert table(done)["GetDatasetMetadata carries"] == ("refused (403)", UNKNOWN)


def test_findings_outlive_a_run_that_learns_nothing(doctor: Doctor, workspace: Path) -> None:
    with Replica(World(seed=1), behaviour=Behaviour(metadata_files=2)) as replica:
        doctor(replica)
        before = saved(workspace)
        refused = doctor(replica, env={"KAGGLE_API_TOKEN": WRONG})
        assert saved(workspace) == before
        anonymous = doctor(replica, env={"KAGGLE_API_TOKEN": ""})
        assert saved(workspace) == before, "it could not see the metadata"
        printed = doctor(replica, "--no-save", "-s", f"KAGGLE_FINDINGS={workspace}/other.json")
    assert [refused.code, anonymous.code, printed.code] == [CREDENTIALS, CREDENTIALS, COMPLETE]
    assert "Nothing was saved, as --no-save asks." in printed.log
    assert [file.name for file in workspace.iterdir()] == ["doctor-loopback.json"]


def test_a_file_that_cannot_be_replaced(doctor: Doctor, workspace: Path) -> None:
    workspace.mkdir()
    with Replica(World(seed=1)) as replica:
        done = doctor(replica, "-s", f"KAGGLE_FINDINGS={workspace}")
    assert done.code == FAILED
    assert "WRONG" not in done.log
    assert f"It cannot be saved to {workspace}" in done.log


def test_it_can_be_stopped(workspace: Path, tmp_path: Path) -> None:
    rule = Rule(Fault("status", status=429, retry_after=20), key="page=2")
    with Replica(World(seed=1), faults=Faults.script([rule])) as replica:
        args = ["doctor", *QUICK, "-s", f"WORKSPACE={workspace}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "scrapy", *args],
            cwd=ROOT,
            env=clean_env(tmp_path, **replica.crawler_env()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with ending(process):
            while "429" not in replica.stats()["requests"].get("ListDatasets", {}):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
                assert process.returncode is None
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=20)
    assert process.returncode == STOPPED, output
    assert "It was stopped" in output
    assert "Traceback" not in output


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever happens, the process does not outlive the block."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_official_transport_is_asked_the_same(doctor: Doctor, workspace: Path) -> None:
    with Replica(World(seed=1), behaviour=TOKENS) as replica:
        done = doctor(replica, "-s", "KAGGLE_TRANSPORT=official")
        requests, agents = total(replica), replica.stats()["user_agents"]
        moved = replica.stats()["requests"]
    assert done.code == COMPLETE, done.log
    assert sent(done) <= requests <= LIMIT
    assert not any(agent.startswith("kagglecrawl") for agent in agents)
    assert "DownloadDataset" not in moved, "it would follow the redirect"
    facts = table(done)
    assert facts["DownloadDataset"] == ("not probed: the official package follows it", UNKNOWN)
    assert facts[TOKEN] == ("given; next page: 100 new rows", AGREES)
    assert saved(workspace)["lists"][DATASETS]["page_size"] == 100


# -- set-up ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (["--fast"], {}, "scrapy doctor: --fast is not known"),
        (["-s", "DOWNLOAD_DELAY=fast"], {}, "scrapy doctor: DOWNLOAD_DELAY=fast is wrong"),
        ([], {"KAGGLE_API_TOKEN": "KG AT"}, "WRONG  credentials      the token from KAGGLE_API_T"),
        ([], {"KAGGLE_API_URL": "http://k.example"}, "WRONG  settings         KAGGLE_API_URL=http"),
        (
            ["-s", "KAGGLE_TRANSPORT=official"],
            {"KAGGLE_API_URL": "https://k.example"},
            "WRONG  settings         KAGGLE_TRANSPORT=official cannot call",
        ),
    ],
)
def test_wrong_usage_asks_nobody(
    scrapy: Run, args: list[str], env: dict[str, str], words: str
) -> None:
    done = scrapy("doctor", *args, env=env)
    assert done.code == USAGE
    assert words in done.log
    assert "Traceback" not in done.log
    assert "Probing" not in done.log
    assert fits(done)


def test_a_workspace_that_cannot_be_written(doctor: Doctor, workspace: Path) -> None:
    workspace.write_text("precious", encoding="utf-8")
    with Replica(World(seed=1)) as replica:
        done = doctor(replica)
    assert done.code == FAILED
    assert "WRONG  WORKSPACE" in done.log
    assert "It cannot be saved to" in done.log
    assert table(done)[PAGE][1] == AGREES, "the API is probed nevertheless"
    assert workspace.read_text(encoding="utf-8") == "precious"
