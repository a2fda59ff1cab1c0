"""No secret in any log, feed, stat, job directory or saved finding of a whole crawl."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Faults
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import Run

AWS = "wJalrXUtnFEMI-not-a-key"


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
            *("-s", f"KAGGLE_TRANSPORT={transport}", "-s", f"AWS_SECRET_ACCESS_KEY={AWS}"),
            *("-s", f"AWS_ACCESS_KEY_ID={AWS}", "-s", "STATS_DUMP=True"),
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
