"""Where a download may lead."""

from __future__ import annotations

import pytest

from kagglecrawl.kaggle.errors import Unusable
from kagglecrawl.transfer.hosts import check_location
from tests.transfer.stand import SECRET

API = "https://api.kaggle.com"
HERE = "http://127.0.0.1:5000"
HOSTS = ("storage.googleapis.com",)
GOOD = f"https://storage.googleapis.com/kaggle-data-sets/1/archive.zip?{SECRET}"


@pytest.mark.parametrize(
    ("location", "base", "api", "found"),
    [
        (GOOD, API, API, GOOD),
        (f"  {GOOD}\r", API, API, GOOD),
        (GOOD.replace("storage", "STORAGE", 1), API, API, GOOD.replace("storage", "STORAGE", 1)),
        (GOOD.replace(".com/", ".com:443/"), API, API, GOOD.replace(".com/", ".com:443/")),
        ("/other?a=b", GOOD, API, "https://storage.googleapis.com/other?a=b"),
        ("//storage.googleapis.com/other", GOOD, API, "https://storage.googleapis.com/other"),
        # storage beside an API on this machine
        (f"{HERE}/storage/x?{SECRET}", HERE, HERE, f"{HERE}/storage/x?{SECRET}"),
        ("http://localhost:6000/x", HERE, HERE, "http://localhost:6000/x"),
        ("http://[::1]:6000/x", HERE, HERE, "http://[::1]:6000/x"),
        ("/storage/x", f"{HERE}/v1/Method", HERE, f"{HERE}/storage/x"),
        (GOOD, HERE, HERE, GOOD),
    ],
)
def test_followed(location: str, base: str, api: str, found: str) -> None:
    assert check_location(location, base, api, HOSTS) == found


@pytest.mark.parametrize(
    "location",
    [
        "",  # the API itself
        "/relative",
        f"http://storage.googleapis.com/x?{SECRET}",
        f"//evil.example/x?{SECRET}",
        f"https://evil.example/x?{SECRET}",
        f"https://storage.googleapis.com.evil.example/x?{SECRET}",
        f"https://evilstorage.googleapis.com/x?{SECRET}",
        f"https://sub.storage.googleapis.com/x?{SECRET}",
        f"https://storage.googleapis.com./x?{SECRET}",
        f"https://storage.googleapis.com:8443/x?{SECRET}",
        f"https://storage.googleapis.com:0/x?{SECRET}",
        f"https://storage.googleapis.com:99999/x?{SECRET}",
        f"https://storage.googleapis.com:x/x?{SECRET}",
        f"https://storage.googleapis.com@evil.example/x?{SECRET}",
        f"https://storage.googleapis.com:443@evil.example/x?{SECRET}",
        f"https://evil.example\\@storage.googleapis.com/x?{SECRET}",
        f"https://evil.example\\.storage.googleapis.com/x?{SECRET}",
        f"https://evil.example#@storage.googleapis.com/x?{SECRET}",
        f"https://evil.example?@storage.googleapis.com/x?{SECRET}",
        f"https://evil.example%2f.storage.googleapis.com/x?{SECRET}",
        f"https://storage.googleapis.com\t.evil.example/x?{SECRET}",
        f"https://storage.googleapis.com\uff0eevil.example/x?{SECRET}",
        f"https://@storage.googleapis.com/x?{SECRET}",
        f"https://:@storage.googleapis.com/x?{SECRET}",
        f"https://me:pass@storage.googleapis.com/x?{SECRET}",
        f"https:///x?{SECRET}",
        f"https:storage.googleapis.com/x?{SECRET}",
        f"https://[storage.googleapis.com/x?{SECRET}",
        f"https://[::1]/x?{SECRET}",
        f"https://127.0.0.1/x?{SECRET}",
        f"http://localhost/x?{SECRET}",
        f"https://169.254.169.254/latest/meta-data?{SECRET}",
        "file:///etc/passwd",
        "file://storage.googleapis.com/etc/passwd",
        f"ftp://storage.googleapis.com/x?{SECRET}",
        "data:application/zip;base64,UEsFBg==",
        "javascript:alert(1)",
        "\\\\storage.googleapis.com\\share",
    ],
)
def test_refused(location: str) -> None:
    with pytest.raises(Unusable) as caught:
        check_location(location, f"{API}/v1/Method", API, HOSTS)
    assert caught.value.slug == "redirect_refused"
    text = str(caught.value)
    assert text.startswith("the download is redirected to ")
    assert "5ecre7" not in text
    assert "pass" not in text


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:5000/x",
        "http://0.0.0.0:5000/x",
        "http://2130706433/x",
        "http://localhost.evil.example/x",
        "http://127.0.0.1.evil.example/x",
        "http://storage.googleapis.com/x",
        "http://me:pass@127.0.0.1:5000/x",
        "ftp://127.0.0.1:5000/x",
        "file://localhost/etc/passwd",
        "ws://127.0.0.1:5000/x",
    ],
)
def test_an_api_on_this_machine_opens_nothing_else(location: str) -> None:
    with pytest.raises(Unusable):
        check_location(location, HERE, HERE, HOSTS)


def test_this_machine_is_no_storage_of_another_api() -> None:
    for host in ("127.0.0.1", "localhost", "[::1]"):
        with pytest.raises(Unusable, match="not https"):
            check_location(f"http://{host}/x", API, API, HOSTS)
        with pytest.raises(Unusable, match="KAGGLE_STORAGE_HOSTS"):
            check_location(f"https://{host}/x", API, API, HOSTS)


def test_what_a_host_may_put_into_the_log() -> None:
    with pytest.raises(Unusable) as caught:
        check_location(f"https://evil\x1b[2J.example{'e' * 10_000}/x", API, API, HOSTS)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
