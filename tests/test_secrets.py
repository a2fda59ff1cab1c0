"""No secret in any log, feed, stat, job directory or saved finding of a whole crawl."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import Run
from tests.file_crawls import LOG, PATIENCE, crawling, wait_until
from tests.killing.look import MINIMUM

AWS = "wJalrXUtnFEMI-not-a-key"
#: Whoever has one of these can fetch the file: of the replica's addresses, and of the tests' own.
SIGNED = re.compile(rb"X-Goog-(Signature|Credential)|/storage/datasets/[^\s\"']*\?|hunter2")


def everything_written(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("transport", ["scrapy", "official"])
def test_a_whole_crawl_keeps_the_token_to_itself(
    crawl: Run, tmp_path: Path, transport: str
) -> None:
    # the official client does not ask again by itself, and crashes on integer enums: milder
    faults = Faults.harsh(1, drip_seconds=0.3) if transport == "scrapy" else Faults.mild(1, 0.3)
    feed = str(tmp_path / "out.jsonl")
    with Replica(World(seed=1), faults=faults) as replica:
        done = crawl(
            replica,
            *("-L", "DEBUG", "-s", f"JOBDIR={tmp_path / 'job'}", "-o", feed, "-a", "pages=1-8"),
            *("-a", "download=true"),
            *("-s", f"KAGGLE_TRANSPORT={transport}", "-s", "STATS_DUMP=True"),
            env={"AWS_SECRET_ACCESS_KEY": AWS, "AWS_ACCESS_KEY_ID": AWS},
        )
        token = replica.token
    assert len(done.rows) > 60, done.log
    assert done.log.count("Crawled (200)") > 60, "the log is as talkative as it gets"
    written = everything_written(tmp_path)
    assert b'"Ref"' in written
    for secret in (token, AWS, "Bearer ", "X-Goog-Signature"):
        assert secret not in done.log
        assert secret.encode() not in written


def test_a_key_stays_out_of_an_interrupted_job(crawl: Run, tmp_path: Path) -> None:
    with Replica(World(seed=1)) as replica:
        env = {
            "KAGGLE_API_TOKEN": "",
            "KAGGLE_USERNAME": replica.username,
            "KAGGLE_KEY": replica.key,
        }
        done = crawl(
            replica,
            *("-L", "DEBUG", "-s", f"JOBDIR={tmp_path / 'job'}"),
            *("-o", str(tmp_path / "out.jsonl")),
            *("-s", "CLOSESPIDER_ITEMCOUNT=10", "-s", "CONCURRENT_REQUESTS=2"),
            env=env,
        )
        pair = base64.b64encode(f"{replica.username}:{replica.key}".encode()).decode()
    assert done.stat("kaggle/datasets/pending") > 0, done.log
    written = everything_written(tmp_path / "job")
    assert b"GetDatasetMetadata" in written, "what is pending is in the job directory"
    for secret in (replica.key, pair, "Authorization"):
        assert secret not in done.log
        assert secret.encode() not in written


#: What may go wrong with a download, and by whom: the API's answer, or storage's.
TROUBLES = [
    ("DownloadDataset", Fault("redirect", location="https://else.example/a.zip?sig=hunter2")),
    ("DownloadDataset", Fault("redirect", location="https://me:hunter2@storage.googleapis.com/a")),
    ("DownloadDataset", Fault("redirect", location="file:///etc/passwd?sig=hunter2")),
    ("storage", Fault("redirect", location="https://else.example/a.zip?sig=hunter2")),
    ("storage", Fault("redirect", location="//[hunter2")),
    ("storage", Fault("status", status=403)),
    ("storage", Fault("status", status=500)),
    ("storage", Fault("html")),
    ("storage", Fault("reset")),
    ("storage", Fault("expired", status=400)),
    ("storage", Fault("wrong_hash")),
    ("storage", Fault("damaged", at=50)),
    ("storage", Fault("wrong_start", by=1)),
    ("storage", Fault("cut", after=40)),
]


def test_no_signed_address_is_ever_written_whatever_goes_wrong(tmp_path: Path) -> None:
    world = World(seed=1)
    stuck, *troubled = world.downloadable(MINIMUM)[: len(TROUBLES) + 1]
    rules = [Rule(Fault("trickle", seconds=60), "storage", stuck.archive_key, arrivals=(1,))]
    for dataset, (method, fault) in zip(troubled, TROUBLES, strict=True):
        key = dataset.archive_key if method == "storage" else dataset.ref
        rules.append(Rule(fault, method, key))
    options = {
        "JOBDIR": tmp_path / "job",
        "LOG_LEVEL": "DEBUG",
        "STATS_DUMP": True,
        "KAGGLE_STALL_TIMEOUT": 1.5,
        "KAGGLE_MAX_ATTEMPTS": 2,
        "KAGGLE_RETRY_BASE": 0.001,
    }
    settings = [f"-s{name}={value}" for name, value in options.items()]
    feed = ("-o", str(tmp_path / "out.jsonl"))
    with (
        Replica(world, faults=Faults.script(rules)) as replica,
        crawling(replica, tmp_path, *feed, *settings) as process,
    ):
        wait_until(lambda: replica.stats()["faults"].get("trickle", 0) > 0)
        during = everything_written(tmp_path)
        assert process.poll() is None, "a download was under way"
        code = process.wait(PATIENCE)
        met = replica.stats()["faults"]
    after = everything_written(tmp_path)
    assert set(met) == {fault.name for _, fault in TROUBLES} | {"trickle"}
    assert code == 1, (tmp_path / LOG).read_text(encoding="utf-8")
    assert b"DownloadDataset" in during, "what is asked for is in the job directory"
    for written in (during, after):
        assert not SIGNED.findall(written)
    rows = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert f'"{stuck.ref}"' in rows, "it was begun again where it was"
