"""`scrapy replica`: serving until told to stop, and running commands."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from kagglesdk.datasets.types.dataset_api_service import ApiListDatasetsRequest

from kagglecrawl.replica.listing import listing
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.replica_client import fetch

PROJECT = Path(__file__).parent.parent
SHOW = """
import json, os, sys, urllib.request
request = urllib.request.Request(
    os.environ["KAGGLE_API_URL"] + "/v1/datasets.DatasetApiService/ListDatasets", b"{}",
    {"Authorization": "Bearer " + os.environ["KAGGLE_API_TOKEN"]})
with urllib.request.urlopen(request) as reply:
    refs = [row["ref"] for row in json.load(reply)["datasets"]]
print(json.dumps({"argv": sys.argv[1:], "refs": refs, "env": dict(os.environ)}))
sys.exit(7)
"""


def _start(args: Sequence[str], **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scrapy", "replica", *args],
        cwd=PROJECT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(*args: str, **env: str) -> tuple[int, str, str]:
    with _start(args, **env) as process:
        output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_a_command_runs_against_a_replica_of_its_own() -> None:
    arguments = ["crawl", "x", "-O", "f", "-s", "A=1", "-a", "b=c", "--port", "1", "--", "-h"]
    code, output, errors = _run(
        "--seed=2",
        "--moved=3",
        "--",
        sys.executable,
        "-c",
        SHOW,
        *arguments,
        KAGGLE_API_TOKEN="real",
        KAGGLE_USERNAME="me",
        KAGGLE_KEY="secret",
        KAGGLE_CONFIG_DIR="/nonexistent",
        KAGGLE_API_ENVIRONMENT="PROD",
    )
    assert (code, errors) == (7, "")
    shown = json.loads(output)
    assert shown["argv"] == arguments
    world = World(seed=2, moved=3)
    assert shown["refs"] == [d.ref for d in listing(world, ApiListDatasetsRequest())[:20]]
    env = shown["env"]
    assert env["KAGGLE_API_TOKEN"] == Replica.token
    assert env["KAGGLE_API_ENVIRONMENT"] == "LOCALHOST"
    assert not {"KAGGLE_USERNAME", "KAGGLE_KEY"} & env.keys()
    assert not Path(env["KAGGLE_CONFIG_DIR"]).exists()  # it was empty, and is gone
    assert env["HTTP_PROXY"] in env["KAGGLE_API_URL"]


def test_scrapy_is_this_scrapy() -> None:
    code, output, _ = _run("--", "scrapy", "version", PATH="/usr/bin:/bin")
    assert code == 0
    assert output.startswith("Scrapy ")


def test_it_serves_until_told_to_stop(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n")
    options = ["--port", "0", "--folder", f"{tmp_path}=ada/set", "--quota", "api=2/day"]
    options += ["--fail", "ListDatasets:page=2=503", "--burst", "download=1:1:9"]
    with _start(options) as process:
        assert process.stdout is not None
        head = "".join(process.stdout.readline() for _ in range(7))
        found = re.search(r"http://127\.0\.0\.1:\d+", head)
        assert found is not None
        url = f"{found[0]}/api/v1/datasets.DatasetApiService/ListDatasets"
        answer = fetch(url, "POST", b"{}")
        assert [row["ref"] for row in answer.json["datasets"]] == ["ada/set"]
        assert fetch(url, "POST", b'{"page": 2}').status == 503
        assert fetch(url, "POST", b"{}").status == 429
        download = url.replace("ListDatasets", "DownloadDataset")
        body = b'{"ownerSlug": "ada", "datasetSlug": "set"}'
        assert [fetch(download, "POST", body).status for _ in range(2)] == [302, 429]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert f"export KAGGLE_API_URL={found[0]}/api KAGGLE_API_TOKEN={Replica.token}" in head
    assert "export KAGGLE_API_ENVIRONMENT=LOCALHOST" in head
    assert "Served 5 API requests: 2 DownloadDataset, 3 ListDatasets." in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command_once(number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\n"
        "seen = []\n"
        f"signal.signal({int(number)}, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.1)\n"
        "sys.exit(40 + len(seen))"
    )
    with _start(["--", sys.executable, "-c", code]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (41, "")


def test_mistakes_are_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scrapy.cmdline import execute

    monkeypatch.chdir(PROJECT)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for args, message in (
            (["--bogus"], "Not an option: '--bogus'"),
            (["scrapy", "crawl"], "goes after --"),
            (["--port", port], f"Cannot listen on port {port}: Address already in use"),
            (["--port", "70000"], "--port must be at most 65535"),
            (["--port", "-1"], "--port must be at least 0"),
            (["--metadata-files", "-1"], "--metadata-files must be at least 0"),
            (["--moved", "-1"], "--moved must be at least 0"),
            (["--burst", "api=5"], "Not a burst: 'api=5'"),
            (["--fail", "Get=500"], "Not a method to fail: 'Get'"),
            (["--fail", "GetDataset=200"], "Not a failure: 'GetDataset=200'"),
            (["--fail", "GetDataset"], "Not a failure: 'GetDataset'"),
            (["--scale", "huge"], "invalid choice: 'huge'"),
            (["--quota", "api=ten"], "Not a quota"),
            (["--folder", "/nonexistent"], "Cannot read the folder"),
            (["--", "/nonexistent/command"], "Cannot run '/nonexistent/command'"),
        ):
            with pytest.raises(SystemExit) as ended:
                execute(["scrapy", "replica", *args])
            assert ended.value.code == 2
            assert message in capsys.readouterr().err
