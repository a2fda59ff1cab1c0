"""`scrapy verify` after a crawl into a bucket that somebody touches; and when it is stopped."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from scrapy.cmdline import execute
from scrapy.utils.project import get_project_settings

from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World, published
from tests.conftest import ROOT, Run, clean_env
from tests.file_crawls import FILES
from tests.stores import Store
from tests.test_verify_store import note

LARGE = random.Random(1).randbytes((8 << 20) + 5)


def test_a_crawl_into_a_store(
    crawl: Run,
    tmp_path: Path,
    s3_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Objects of one PUT and of several parts, all with ETags that a listing confirms."""
    files = {"large.bin": LARGE, "a b/ü+%.csv": b"1,2\n", "a b-c": b"", "Z": b"Z"}
    for name, value in s3_store.environment().items():
        monkeypatch.setenv(name, value)
    with Replica(World(scale=None, extra=(published("me/set", files=files),))) as replica:
        uri = s3_store.uri("in")
        done = crawl(replica, *FILES, "-s", f"S3_URI={uri}", env=s3_store.environment())
    assert done.code == 0, done.log

    def verify(*args: str) -> tuple[int, list[tuple[str, str]], dict[str, int]]:
        options = ["-s", f"WORKSPACE={tmp_path / 'workspace'}", "--json"]
        with pytest.raises(SystemExit) as ended:
            execute(["scrapy", "verify", *options, *args], settings=get_project_settings())
        *faults, last = map(json.loads, capsys.readouterr()[0].splitlines())
        found = [(each["fault"], each["where"]) for each in faults]
        return int(ended.value.code or 0), sorted(found), last["summary"]

    code, faults, counts = verify()
    assert (code, faults, counts["files"], counts["size_only"]) == (0, [], 4, 0)
    key, client = "in/datasets/dataset/me_set", s3_store.client()
    other = LARGE[:-1] + bytes([LARGE[-1] ^ 1])
    client.put_object(Bucket=s3_store.bucket, Key=f"{key}/large.bin", Body=other)
    client.put_object(Bucket=s3_store.bucket, Key=f"{key}/Z", Body=b"z")
    client.delete_object(Bucket=s3_store.bucket, Key=f"{key}/a b-c")
    wrong = [("changed", f"{uri}/datasets/dataset/me_set/{name}") for name in ("Z", "large.bin")]
    wrong.append(("missing", f"{uri}/datasets/dataset/me_set/a b-c"))
    assert verify()[:2] == (1, wrong)
    # the same bytes again, in one PUT where there were parts: only reading tells
    client.put_object(Bucket=s3_store.bucket, Key=f"{key}/large.bin", Body=LARGE)
    code, faults, counts = verify("--read-back")
    assert (code, faults) == (1, [wrong[0], wrong[2]])
    assert (counts["files"], counts["read"]) == (2, len(LARGE) + 5)


def test_ctrl_c_does_not_wait_for_a_store_that_does_not_answer(tmp_path: Path) -> None:
    path = tmp_path / "workspace/ledger.sqlite"
    note(path, "o/s", "s3://bucket/in/dataset/o_s", {"a.csv": b"a"})
    with socket.create_server(("127.0.0.1", 0)) as server:
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.getsockname()[1]}"}
        with subprocess.Popen(
            [sys.executable, "-m", "scrapy", "verify", "-s", f"WORKSPACE={path.parent}"],
            cwd=ROOT,
            env=clean_env(path.parent, **keys, **address),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            connection, _ = server.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                output, errors = process.communicate(timeout=30)  # a read may take 60
    assert (process.returncode, output, errors) == (3, b"", b"")
