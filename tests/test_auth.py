"""Who we are to Kaggle: where credentials are looked for, and where they are sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kagglecrawl.kaggle.auth import (
    Credentials,
    CredentialsError,
    config_dir,
    find_credentials,
    is_loopback,
    is_private_channel,
)

TOKEN = "KGAT_SECRET"
API = "https://api.kaggle.com"
Put = Callable[[str, str], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write a file below the home folder."""

    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    return write


def home(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), **more}


def basic(username: str, key: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{key}".encode()).decode()


# -- the order -------------------------------------------------------------------------------------


def test_the_first_that_has_something_wins(tmp_path: Path, put: Put) -> None:
    """kagglesdk's order; each place is taken away in turn."""
    kernel = put("kernel_token", "in-kernel")
    access = put(".kaggle/access_token", "in-file")
    access_txt = put(".kaggle/access_token.txt", "in-txt")
    legacy = put(".kaggle/kaggle.json", json.dumps({"username": "me", "key": "in-json"}))
    env = home(
        tmp_path,
        KAGGLE_KERNEL_RUN_TYPE="Batch",
        KAGGLE_API_V1_TOKEN=str(kernel),
        KAGGLE_API_TOKEN="in-env",
        KAGGLE_USERNAME="you",
        KAGGLE_KEY="in-env",
    )
    found = []
    steps: list[Callable[[], object]] = [
        lambda: env.pop("KAGGLE_KERNEL_RUN_TYPE"),
        lambda: env.pop("KAGGLE_API_TOKEN"),
        access.unlink,
        access_txt.unlink,
        lambda: (env.pop("KAGGLE_USERNAME"), env.pop("KAGGLE_KEY")),
        legacy.unlink,
    ]
    for step in steps:
        found.append(find_credentials(env).authorization)
        step()
    assert found == [
        "Bearer in-kernel",
        "Bearer in-env",
        "Bearer in-file",
        "Bearer in-txt",
        basic("you", "in-env"),
        basic("me", "in-json"),
    ]
    last = find_credentials(env)
    assert last.anonymous
    assert last.source == "anonymous"


def test_a_token_may_be_the_path_of_a_file(tmp_path: Path, put: Put) -> None:
    path = put("token", f"\n{TOKEN}\n")
    found = find_credentials(home(tmp_path, KAGGLE_API_TOKEN=f" {path} "))
    assert found.authorization == f"Bearer {TOKEN}"


def test_a_token_too_long_for_a_path_is_a_token(tmp_path: Path) -> None:
    long = "e" * 9_000
    found = find_credentials(home(tmp_path, KAGGLE_API_TOKEN=long))
    assert found.authorization == f"Bearer {long}"


def test_empty_variables_are_not_set(tmp_path: Path) -> None:
    names = ["KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"]
    assert find_credentials(home(tmp_path, **dict.fromkeys(names, ""))).anonymous
    assert find_credentials(home(tmp_path, KAGGLE_API_TOKEN="  ")).anonymous


def test_the_configuration_folder(tmp_path: Path) -> None:
    env = home(tmp_path)
    assert config_dir(env) == tmp_path / ".config/kaggle"
    assert config_dir({**env, "XDG_CONFIG_HOME": "/xdg"}) == Path("/xdg/kaggle")
    (tmp_path / ".kaggle").mkdir()
    assert config_dir({**env, "XDG_CONFIG_HOME": "/xdg"}) == tmp_path / ".kaggle"
    assert config_dir({**env, "KAGGLE_CONFIG_DIR": "/mine"}) == Path("/mine")


def test_the_process_environment_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert find_credentials().authorization == f"Bearer {TOKEN}"


# -- what cannot be used ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"KAGGLE_API_TOKEN": f"{TOKEN} x"}, "KAGGLE_API_TOKEN holds spaces"),
        ({"KAGGLE_API_TOKEN": f"{TOKEN}\nX-Evil: 1"}, "KAGGLE_API_TOKEN holds spaces"),
        ({"KAGGLE_API_TOKEN": f"{TOKEN}\u00e9"}, "outside ASCII"),
        ({"KAGGLE_API_TOKEN": "/no/such/file"}, "there is no such file"),
        ({"KAGGLE_API_TOKEN": "~/token"}, "there is no such file"),
        ({"KAGGLE_USERNAME": "me"}, "KAGGLE_USERNAME is set but KAGGLE_KEY is not"),
        ({"KAGGLE_KEY": TOKEN}, "KAGGLE_KEY is set but KAGGLE_USERNAME is not"),
        ({"KAGGLE_USERNAME": "m e", "KAGGLE_KEY": TOKEN}, "holds spaces"),
        ({"KAGGLE_USERNAME": "me", "KAGGLE_KEY": f"{TOKEN}\n"}, "line breaks"),
        ({"KAGGLE_USERNAME": "me:you", "KAGGLE_KEY": TOKEN}, "KAGGLE_USERNAME and KAGGLE_KEY"),
    ],
)
def test_what_is_there_but_wrong_is_said(tmp_path: Path, env: dict[str, str], words: str) -> None:
    with pytest.raises(CredentialsError, match=words) as caught:
        find_credentials(home(tmp_path, **env))
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["access_token", "access_token.txt"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"KGAT_SECRET more", "holds spaces"),
        (b"\xff\xfe\x00SECRET", "not a text file"),
    ],
)
def test_a_damaged_token_file_is_said(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    """kagglesdk passes over it in silence, and goes on as somebody else."""
    folder = tmp_path / ".kaggle"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(CredentialsError, match=words) as caught:
        find_credentials(home(tmp_path, KAGGLE_USERNAME="me", KAGGLE_KEY="k"))
    assert "SECRET" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "{}",
        '{"username": "me"}',
        '{"key": "SECRET"}',
        '{"username": "", "key": "SECRET"}',
        '{"username": "me", "key": ""}',
        '{"username": 1, "key": "SECRET"}',
        '{"username": "me", "key": ["SECRET"]}',
        '{"username": "m e", "key": "SECRET"}',
        '{"username": "me", "key": "SEC\\nRET"}',
        '{"key": "SECRET", "username": "me"',
    ],
)
def test_a_damaged_kaggle_json_is_said(tmp_path: Path, put: Put, content: str) -> None:
    put(".kaggle/kaggle.json", content)
    with pytest.raises(CredentialsError, match=r"kaggle\.json") as caught:
        find_credentials(home(tmp_path))
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None, "the cause would show the file's text"


def test_a_kaggle_json_from_windows_is_read(tmp_path: Path, put: Put) -> None:
    """Notepad puts a byte order mark before it."""
    put(".kaggle/kaggle.json", "\ufeff" + json.dumps({"username": "me", "key": "k"}) + "\r\n")
    assert find_credentials(home(tmp_path)).authorization == basic("me", "k")


def test_a_folder_that_may_not_be_read_is_said(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(".kaggle/kaggle.json", "{}")

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(CredentialsError, match="check who may read it"):
        find_credentials(home(tmp_path))


def test_a_folder_in_place_of_a_file_is_not_a_token(tmp_path: Path) -> None:
    (tmp_path / ".kaggle/access_token").mkdir(parents=True)
    assert find_credentials(home(tmp_path)).anonymous


# -- where they are sent ---------------------------------------------------------------------------


KNOWN = Credentials("a test", f"Bearer {TOKEN}")


@pytest.mark.parametrize(
    ("api", "url"),
    [
        (API, f"{API}/v1/datasets.DatasetApiService/ListDatasets"),
        ("http://localhost:7777/api", "http://localhost:7777/api/v1/x"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80/v1/x"),
        ("http://[::1]:80", "http://[::1]:80/v1/x"),
    ],
)
def test_they_go_to_the_api(api: str, url: str) -> None:
    assert KNOWN.header_for(url, api) == f"Bearer {TOKEN}"
    assert Credentials("nobody").header_for(url, api) == ""


@pytest.mark.parametrize(
    ("api", "url"),
    [
        (API, "https://api.kaggle.com.evil.org/v1/x"),
        (API, "https://api.kaggle.com@evil.org/v1/x"),
        (API, "https://api.kaggle.com:x@evil.org/v1/x"),
        (API, "https://api.kaggle.com:444/v1/x"),
        (API, "https://api.kaggle.comevil.org/v1/x"),
        (API, "https://api.kaggle.com?/v1/x"),
        (API, "https://api.kaggle.com#/v1/x"),
        (API, "https://api.kaggle.com\\@evil.org/v1/x"),
        (API, "https://evil.org/https://api.kaggle.com/v1/x"),
        (API, "https://evil.org/?u=https://api.kaggle.com/"),
        (API, "https://storage.googleapis.com/kaggle-data-sets/a.zip"),
        (API, "https://www.kaggle.com/v1/x"),
        (API, "http://api.kaggle.com/v1/x"),
        (API, "//api.kaggle.com/v1/x"),
        (API, API),
        (API, ""),
        ("http://localhost:7777/api", "http://localhost:7777/apix/v1"),
        ("http://localhost:7777/api", "http://localhost:7777/v1/x"),
        ("http://localhost:7777", "http://localhost:77770/v1/x"),
        ("http://localhost", "http://localhost@evil.org/v1/x"),
        ("http://localhost", "http://localhost.evil.org/v1/x"),
        # never in clear, whatever the API's address is said to be
        ("http://api.kaggle.com", "http://api.kaggle.com/v1/x"),
        ("http://10.0.0.1", "http://10.0.0.1/v1/x"),
        ("http://127.0.0.1.evil.org", "http://127.0.0.1.evil.org/v1/x"),
        ("http://localhost:1@evil.org", "http://localhost:1@evil.org/v1/x"),
        ("ftp://localhost", "ftp://localhost/v1/x"),
    ],
)
def test_they_go_nowhere_else(api: str, url: str) -> None:
    assert KNOWN.header_for(url, api) == ""


@given(st.text("abck.gle:/@#?\\%", max_size=30))
def test_nothing_put_after_the_host_name_leads_astray(tail: str) -> None:
    sent = KNOWN.header_for(f"{API}{tail}", API)
    assert bool(sent) == tail.startswith("/")


@pytest.mark.parametrize(
    ("url", "private", "loopback"),
    [
        ("https://api.kaggle.com", True, False),
        ("HTTPS://api.kaggle.com", True, False),
        ("http://LOCALHOST:1/x", True, True),
        ("http://127.0.0.1", True, True),
        ("http://[::1]/x", True, True),
        ("https://localhost", True, True),
        ("http://api.kaggle.com", False, False),
        ("http://0.0.0.0", False, False),
        ("ftp://localhost", False, True),
        ("localhost", False, False),
    ],
)
def test_private_channels(url: str, private: bool, loopback: bool) -> None:
    assert is_private_channel(url) is private
    assert is_loopback(url) is loopback


def test_nothing_printed_holds_them(tmp_path: Path) -> None:
    env = home(tmp_path, KAGGLE_USERNAME="me", KAGGLE_KEY=TOKEN)
    for found in (KNOWN, find_credentials(env)):
        shown = f"{found} {found!r} {[found]} {vars(found)['source']}"
        assert TOKEN not in shown
        assert found.authorization not in shown
