"""Bad input of every kind: one clear sentence, the documented exit code, no traceback."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from kagglecrawl.replica.faults import Fault, Faults, Rule
from kagglecrawl.replica.server import Replica
from kagglecrawl.replica.world import World
from tests.conftest import Crawl, Run

USAGE, FAILED, CREDENTIALS = 2, 1, 5
TOKEN = {"KAGGLE_API_TOKEN": "KGAT_not_a_secret"}


def assert_one_sentence(done: Crawl, code: int, *words: str) -> None:
    """The command said one thing, with these words in it, and nothing of Python's."""
    assert done.code == code, done.log
    assert "Traceback" not in done.log
    lines = done.sentence.splitlines()
    assert len(lines) == 1, done.log
    assert lines[0].startswith("scrapy crawl: ")
    for word in words:
        assert word in lines[0]


#: Arguments after ``scrapy crawl``, environment, words that the sentence must have.
REFUSED: dict[str, tuple[list[str], dict[str, str], list[str]]] = {
    "no spider": ([], {}, ["name one spider", "datasets"]),
    "two spiders": (["datasets", "kernels"], {}, ["name one spider"]),
    "unknown spider": (["dataset"], {}, ["no spider dataset", "did you mean datasets"]),
    "unknown option": (["datasets", "--fast"], {}, ["--fast"]),
    "unknown argument": (["datasets", "-a", "page=3"], {}, ["page", "did you mean pages"]),
    "argument without value": (["datasets", "-a", "pages"], {}, ["-a"]),
    "pages not a number": (["datasets", "-a", "pages=all"], {}, ["pages=all", "3-7"]),
    "pages backwards": (["datasets", "-a", "pages=7-3"], {}, ["pages=7-3"]),
    "page zero": (["datasets", "-a", "pages=0"], {}, ["pages=0", "from 1 up"]),
    "sample zero": (["datasets", "-a", "sample=0"], {}, ["sample=0", "from 1 up"]),
    "sample negative": (["datasets", "-a", "sample=-5"], {}, ["sample=-5"]),
    "rating above 1": (["datasets", "-a", "min_usability=8"], {}, ["min_usability=8", "0 to 1"]),
    "rating not a number": (["datasets", "-a", "min_usability=nan"], {}, ["min_usability=nan"]),
    "unknown order": (["datasets", "-a", "sort_by=hotest"], {}, ["did you mean hottest"]),
    "unknown licence": (["datasets", "-a", "license=mit"], {}, ["license=mit", "odb"]),
    "unknown type": (["datasets", "-a", "file_type=xlsx"], {}, ["file_type=xlsx"]),
    "size of nonsense": (["datasets", "-a", "min_size=big"], {}, ["min_size=big", "MB"]),
    "sizes crossed": (
        ["datasets", "-a", "min_size=2GB", "-a", "max_size=1GB"],
        {},
        ["min_size", "max_size"],
    ),
    "refs not a ref": (["datasets", "-a", "refs=titanic"], {}, ["refs=titanic", "owner/slug"]),
    "download neither": (
        ["datasets", "-a", "download=maybe"],
        {},
        ["download=maybe", "true or false"],
    ),
    "only nothing": (["datasets", "-a", "only=,"], {}, ["only=,"]),
    "max_bytes of nonsense": (["datasets", "-a", "max_bytes=big"], {}, ["max_bytes=big", "MB"]),
    "only without files": (
        ["datasets", "-a", "download=false", "-a", "only=*.csv"],
        {},
        ["only", "download=false"],
    ),
    "max_bytes without files": (
        ["datasets", "-a", "download=false", "-a", "max_bytes=1MB"],
        {},
        ["max_bytes", "download=false"],
    ),
    "refs empty": (["datasets", "-a", "refs="], {}, ["refs=", "empty"]),
    "refs climbing": (["datasets", "-a", "refs=../etc"], {}, ["refs=../etc", "owner/slug"]),
    "refs with a list": (
        ["datasets", "-a", "refs=a/b", "-a", "search=x"],
        {},
        ["refs", "search"],
    ),
    "search of two lines": (["datasets", "-a", "search=a\nb"], {}, ["search", "one line"]),
    "setting without value": (["datasets", "-s", "DOWNLOAD_DELAY"], {}, ["-s"]),
    "delay not a number": (["datasets", "-s", "DOWNLOAD_DELAY=fast"], {}, ["DOWNLOAD_DELAY=fast"]),
    "concurrency negative": (
        ["datasets", "-s", "CONCURRENT_REQUESTS=-1"],
        {},
        ["CONCURRENT_REQUESTS=-1"],
    ),
    "throttle neither": (
        ["datasets", "-s", "AUTOTHROTTLE_ENABLED=perhaps"],
        {},
        ["AUTOTHROTTLE_ENABLED=perhaps", "True or False"],
    ),
    "concurrency zero": (
        ["datasets", "-s", "CONCURRENT_REQUESTS_PER_DOMAIN=0"],
        {},
        ["CONCURRENT_REQUESTS_PER_DOMAIN=0", "from 1 up"],
    ),
    "unknown log level": (["datasets", "-L", "LOUD"], {}, ["LOG_LEVEL=LOUD", "DEBUG"]),
    "no such component": (["datasets", "-s", "SCHEDULER=foo.Bar"], {}, ["SCHEDULER=foo.Bar"]),
    "setting misspelt": (
        ["datasets", "-s", "KAGGLE_MIN_USABILTY=0.5"],
        {},
        ["KAGGLE_MIN_USABILTY", "did you mean KAGGLE_MIN_USABILITY"],
    ),
    "attempts zero": (["datasets", "-s", "KAGGLE_MAX_ATTEMPTS=0"], {}, ["KAGGLE_MAX_ATTEMPTS=0"]),
    "attempts broken": (
        ["datasets", "-s", "KAGGLE_MAX_ATTEMPTS=2.5"],
        {},
        ["KAGGLE_MAX_ATTEMPTS=2.5", "whole number"],
    ),
    "wait negative": (["datasets", "-s", "KAGGLE_MAX_WAIT=-1"], {}, ["KAGGLE_MAX_WAIT=-1"]),
    "minimum above 1": (
        ["datasets", "-s", "KAGGLE_MIN_USABILITY=80"],
        {},
        ["KAGGLE_MIN_USABILITY"],
    ),
    "room to leave of nonsense": (
        ["datasets", "-s", "WORKSPACE_MIN_FREE=plenty"],
        {},
        ["WORKSPACE_MIN_FREE=plenty", "500000", "GB"],
    ),
    "room to leave negative": (
        ["datasets", "-s", "WORKSPACE_MIN_FREE=-1"],
        {},
        ["WORKSPACE_MIN_FREE=-1"],
    ),
    "no downloads at once": (
        ["datasets", "-s", "KAGGLE_CONCURRENT_TRANSFERS=0"],
        {},
        ["KAGGLE_CONCURRENT_TRANSFERS=0", "whole number from 1"],
    ),
    "half a download at once": (
        ["datasets", "-s", "KAGGLE_CONCURRENT_TRANSFERS=1.5"],
        {},
        ["KAGGLE_CONCURRENT_TRANSFERS=1.5", "whole number"],
    ),
    "no patience": (
        ["datasets", "-s", "KAGGLE_STALL_TIMEOUT=0"],
        {},
        ["KAGGLE_STALL_TIMEOUT=0", "from 0.1"],
    ),
    "patience in words": (
        ["datasets", "-s", "KAGGLE_STALL_TIMEOUT=1min"],
        {},
        ["KAGGLE_STALL_TIMEOUT=1min", "a number"],
    ),
    "ratio below 1": (["datasets", "-s", "KAGGLE_MAX_RATIO=0.5"], {}, ["KAGGLE_MAX_RATIO=0.5"]),
    "storage by its address": (
        ["datasets", "-s", "KAGGLE_STORAGE_HOSTS=https://storage.googleapis.com"],
        {},
        ["KAGGLE_STORAGE_HOSTS", "names alone"],
    ),
    "storage with a password": (
        ["datasets", "-s", "KAGGLE_STORAGE_HOSTS=a.example,me:hunter2@b.example"],
        {},
        ["KAGGLE_STORAGE_HOSTS", "names alone"],
    ),
    "storage nowhere": (
        ["datasets", "-s", "KAGGLE_STORAGE_HOSTS="],
        {},
        ["KAGGLE_STORAGE_HOSTS", "storage.googleapis.com"],
    ),
    "unknown transport": (
        ["datasets", "-s", "KAGGLE_TRANSPORT=cli"],
        {},
        ["KAGGLE_TRANSPORT=cli", "official"],
    ),
    "official transport to an address it cannot reach": (
        ["datasets", "-s", "KAGGLE_TRANSPORT=official", "-s", "KAGGLE_API_URL=https://k.example"],
        {},
        ["official"],
    ),
    "address without scheme": (
        ["datasets", "-s", "KAGGLE_API_URL=api.kaggle.com"],
        {},
        ["KAGGLE_API_URL", "https://api.kaggle.com"],
    ),
    "address in clear": (
        ["datasets", "-s", "KAGGLE_API_URL=http://api.kaggle.com"],
        {},
        ["KAGGLE_API_URL", "https"],
    ),
    "address with a password": (
        ["datasets", "-s", "KAGGLE_API_URL=https://me:hunter2@api.kaggle.com"],
        {},
        ["KAGGLE_API_URL", "KAGGLE_API_TOKEN"],
    ),
    "address with a bad port": (
        ["datasets", "-s", "KAGGLE_API_URL=https://api.kaggle.com:x"],
        {},
        ["KAGGLE_API_URL"],
    ),
    "unknown environment": (
        ["datasets"],
        {"KAGGLE_API_ENVIRONMENT": "STAGE"},
        ["KAGGLE_API_ENVIRONMENT=STAGE"],
    ),
    "job with a feed that cannot be gone on with": (
        ["datasets", "-s", "JOBDIR=job", "-O", "rows.json"],
        {},
        ["rows.json", "JOBDIR", "jsonlines or csv"],
    ),
    "feed of no format": (["datasets", "-O", "rows.txt"], {}, ["format 'txt'", "jsonl"]),
    "feed without a name": (["datasets", "-O", "rows"], {}, ["format", "jsonl"]),
    "token with a line break": (["datasets"], {"KAGGLE_API_TOKEN": "KG AT"}, ["KAGGLE_API_TOKEN"]),
    "token file missing": (
        ["datasets"],
        {"KAGGLE_API_TOKEN": "/nowhere/token"},
        ["KAGGLE_API_TOKEN", "no such file"],
    ),
    "key missing": (["datasets"], {"KAGGLE_USERNAME": "me"}, ["KAGGLE_KEY is not"]),
    "username missing": (["datasets"], {"KAGGLE_KEY": "k"}, ["KAGGLE_USERNAME is not"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_is_asked(scrapy: Run, name: str) -> None:
    args, env, words = REFUSED[name]
    done = scrapy("crawl", *args, env=env)
    assert_one_sentence(done, USAGE, *words)
    assert "hunter2" not in done.log


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("access_token", "", ["empty"]),
        ("access_token", "two words", ["access_token", "spaces"]),
        ("access_token", b"\xff\xfe\x00", ["access_token", "not a text file"]),
        ("kaggle.json", "username: me", ["kaggle.json", "not JSON"]),
        ("kaggle.json", '{"username": "me"}', ["kaggle.json", "key"]),
        ("kaggle.json", "[]", ["kaggle.json"]),
    ],
)
def test_damaged_credential_files(
    scrapy: Run, tmp_path: Path, file: str, content: str | bytes, words: list[str]
) -> None:
    folder = tmp_path / ".kaggle"
    folder.mkdir()
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_one_sentence(scrapy("crawl", "datasets"), USAGE, *words)


def test_places_that_cannot_be_written(scrapy: Run, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious", encoding="utf-8")
    below = str(file / "below")
    for args in (
        ["-s", f"JOBDIR={below}"],
        ["-s", f"WORKSPACE={below}"],
        ["-O", f"{below}/rows.jsonl"],
        ["-o", f"{below}/rows.jsonl"],
        ["-O", f"{tmp_path}:jsonl"],
        ["--logfile", f"{below}/crawl.log"],
    ):
        done = scrapy("crawl", "datasets", *args, env=TOKEN)
        assert_one_sentence(done, USAGE, "folder")
    assert file.read_text(encoding="utf-8") == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_feed_that_belongs_to_somebody_else(scrapy: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}\n", encoding="utf-8")
    file.chmod(0o400)
    done = scrapy("crawl", "datasets", "-O", str(file), env=TOKEN)
    assert_one_sentence(done, USAGE, "cannot be written")
    assert file.read_text(encoding="utf-8") == "{}\n"


def test_a_refs_file_with_a_bad_line(scrapy: Run, tmp_path: Path) -> None:
    file = tmp_path / "refs.txt"
    file.write_text("owner/good\nno-slug\n", encoding="utf-8")
    done = scrapy("crawl", "datasets", "-a", f"refs={file}")
    assert_one_sentence(done, USAGE, "no-slug", "owner/slug")


# -- answers that end a crawl --


def assert_ended(done: Crawl, code: int, *words: str) -> None:
    """The crawl ended with its accounts, one sentence on why, and nothing of Python's."""
    assert done.code == code, done.log
    assert "Traceback" not in done.log
    (reason,) = re.findall(r"^.* ERROR: (.*)$", done.log, re.MULTILINE)
    for word in words:
        assert word in reason
    assert done.stats("kaggle/datasets/").get("pending") is not None


def test_a_refused_token(crawl: Run) -> None:
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, env={"KAGGLE_API_TOKEN": "KGAT_wrong_token"})
        requests = replica.stats()["requests"]
    assert_ended(done, CREDENTIALS, "refused the credentials", "kaggle.com/settings")
    assert requests == {"ListDatasets": {"401": 1}}
    assert "KGAT_wrong_token" not in done.log


def test_nobody_in_particular(crawl: Run) -> None:
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, env={"KAGGLE_API_TOKEN": ""})
        auth = replica.stats()["auth"]
    assert_ended(done, CREDENTIALS, "wants credentials", "KAGGLE_API_TOKEN")
    assert "No Kaggle credentials were found" in done.log
    assert set(auth) <= {"anonymous", "refused"}
    assert done.stat("kaggle/datasets/discovered") >= 20, "what the list gave is accounted for"


def test_a_username_and_key(crawl: Run) -> None:
    with Replica(World(seed=1)) as replica:
        env = {
            "KAGGLE_API_TOKEN": "",
            "KAGGLE_USERNAME": replica.username,
            "KAGGLE_KEY": replica.key,
        }
        done = crawl(replica, "-a", "sample=1", env=env)
        auth = replica.stats()["auth"]
    assert done.code == 0, done.log
    assert set(auth) == {"basic"}
    assert replica.key not in done.log


def test_nobody_there(crawl: Run) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        done = crawl(None, env={**TOKEN, "KAGGLE_API_URL": url})
    assert_ended(done, FAILED, "the connection was refused", "KAGGLE_API_URL")


def test_a_host_that_does_not_exist(crawl: Run) -> None:
    done = crawl(None, env={**TOKEN, "KAGGLE_API_URL": "https://kaggle.invalid"})
    assert_ended(done, FAILED, "KAGGLE_API_URL")


def test_a_server_that_never_answers(crawl: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        done = crawl(None, "-s", "DOWNLOAD_TIMEOUT=0.3", env={**TOKEN, "KAGGLE_API_URL": url})
    assert_ended(done, FAILED, "no whole answer in time", "KAGGLE_API_URL")


def test_an_address_that_is_not_the_api(crawl: Run) -> None:
    with Replica(World(seed=1)) as replica:
        done = crawl(replica, env={"KAGGLE_API_URL": f"{replica.url}/elsewhere"})
    assert_ended(done, FAILED, "404", "KAGGLE_API_URL")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("html"), "a web page in place of JSON"),
        (Fault("damaged"), "in place of JSON"),
        (Fault("status", status=500), "answered 500"),
        (Fault("error_in_200", status=503), "answered 503"),
        (Fault("reset"), "connection broke"),
        (Fault("status", status=400), "answered 400"),
        (Fault("redirect", location="https://evil.invalid/x?sig=s3cret"), "evil.invalid"),
    ],
)
def test_an_api_that_answers_nonsense(crawl: Run, fault: Fault, words: str) -> None:
    with Replica(World(seed=1), faults=Faults.script([Rule(fault)])) as replica:
        done = crawl(replica, "-s", "KAGGLE_MAX_ATTEMPTS=4")
    assert_ended(done, FAILED, words)
    assert "s3cret" not in done.log


def test_a_scrapy_that_is_asked_about_nothing(scrapy: Run) -> None:
    """Scrapy's own commands work with nothing configured."""
    assert scrapy("list").sentence == "competitions\ndatasets\nepisodes\nhalite_episodes"
    assert scrapy("check").code == 0
    assert scrapy("settings", "--get", "BOT_NAME").sentence.splitlines()[-1] == "kagglecrawl"
    shell = scrapy("shell", "--nolog", "-c", "print(settings['BOT_NAME'], spider)")
    assert shell.code == 0
    assert "kagglecrawl" in shell.log
