"""`scrapy replica` with competitions: Meta Kaggle is written before it serves."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kagglecrawl.replica.world import World
from tests.conftest import ROOT, clean_env

#: What the command finds when it runs: the tables, and how a board comes.
SHOW = """
import http.client, json, os, sys, urllib.parse
address = urllib.parse.urlsplit(os.environ["KAGGLE_API_URL"])
connection = http.client.HTTPConnection(address.netloc)
connection.request(
    "POST", address.path + "/v1/competitions.CompetitionApiService/DownloadLeaderboard",
    json.dumps({"competitionName": sys.argv[2]}),
    {"Authorization": "Bearer " + os.environ["KAGGLE_API_TOKEN"]})
print(json.dumps([connection.getresponse().status, sorted(os.listdir(sys.argv[1]))]))
"""


def test_tables_are_there_when_the_command_runs(tmp_path: Path) -> None:
    folder = tmp_path / "meta"
    world = World(seed=3, scale=None, competition_count=12)
    arguments = ["--seed", "3", "--competitions", "12", "--meta-kaggle", str(folder)]
    arguments += ["--leaderboard", "redirect", "--meta-schema", "2022"]
    command = [sys.executable, "-c", SHOW, str(folder), world.competitions[8].slug]
    done = subprocess.run(
        [sys.executable, "-m", "scrapy", "replica", *arguments, "--", *command],
        cwd=ROOT,
        env=clean_env(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    world.write_meta_kaggle(tmp_path / "expected", schema="2022")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "expected").iterdir()}
    expected[".replica"] = b""
    assert json.loads(done.stdout) == [302, sorted(expected)]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected


def test_mistakes_are_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from scrapy.cmdline import execute

    monkeypatch.chdir(ROOT)
    file = tmp_path / "file"
    file.write_text("x")
    for args, message in (
        (["--competitions", "-1"], "--competitions must be at least 0"),
        (["--meta-kaggle", str(file)], f"Cannot write into the folder '{file}': File exists"),
        (["--meta-kaggle", str(tmp_path)], "has files that are none of the replica's"),
        (["--meta-schema", "2022"], "that --meta-kaggle DIR writes"),
        (["--meta-schema", "2019"], "invalid choice: '2019'"),
        (["--leaderboard", "none"], "invalid choice: 'none'"),
    ):
        with pytest.raises(SystemExit) as ended:
            execute(["scrapy", "replica", *args])
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
