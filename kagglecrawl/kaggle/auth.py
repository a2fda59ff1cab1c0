"""Who we are to Kaggle: credentials found in kagglesdk's order, and sent nowhere but there.

Order (verified: kagglesdk 0.1.37 ``kaggle_env.get_access_token_from_env`` and
``KaggleHttpClient._try_fill_auth``; ``KAGGLE_CONFIG_DIR`` as the CLI and kagglehub read it):

1. in a Kaggle notebook, the file named by ``KAGGLE_API_V1_TOKEN``
2. ``KAGGLE_API_TOKEN``: the token, or the path of a file that holds it
3. ``access_token``, then ``access_token.txt``, in the configuration folder
4. ``KAGGLE_USERNAME`` with ``KAGGLE_KEY``
5. ``kaggle.json`` in the configuration folder
6. nobody: anonymous

Where kagglesdk passes over a damaged file in silence and goes on as somebody else, this says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_PRINTABLE = re.compile(r"[!-~]+")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class CredentialsError(ValueError):
    """Credentials are there but cannot be used; the text never holds them."""


@dataclass(frozen=True)
class Credentials:
    """How to identify ourselves. ``source`` may be shown; the header may not, and repr does not."""

    source: str
    authorization: str = field(default="", repr=False)

    @property
    def anonymous(self) -> bool:
        """True when there is nothing to identify with."""
        return not self.authorization

    def header_for(self, url: str, api_url: str) -> str:
        """The ``Authorization`` value for this URL, or ``""`` when it must not be sent there.

        Only below the API's own address, and only over https or to loopback.
        """
        if not url.startswith(f"{api_url}/") or not is_private_channel(url):
            return ""
        return self.authorization


def account_of(api_url: str) -> str:
    """A word for whom Kaggle counts requests of, for what is kept of quotas.

    It is a checksum, from which no credentials can be had back. Raises ``CredentialsError``.
    """
    whose = f"{source_of(api_url)} {find_credentials().authorization}"
    return hashlib.sha256(whose.encode()).hexdigest()[:16]


def source_of(api_url: str) -> str:
    """Where records come from, for what is kept of them: the API's address, or ``loopback`` for any
    server on this machine, whose port may be another each time."""
    return "loopback" if is_loopback(api_url) else api_url.rstrip("/")


def is_private_channel(url: str) -> bool:
    """True for https, and for http to this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def is_loopback(url: str) -> bool:
    """True when the URL's host is this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def config_dir(environ: Mapping[str, str]) -> Path:
    """Kaggle's configuration folder: ``KAGGLE_CONFIG_DIR``, ``~/.kaggle``, or XDG's."""
    if chosen := environ.get("KAGGLE_CONFIG_DIR"):
        return Path(chosen)
    home = Path(environ.get("HOME") or Path.home())
    classic = home / ".kaggle"
    try:
        if classic.is_dir():
            return classic
    except PermissionError:
        return classic  # it is there; what is in it will say why it cannot be read
    return Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"


def find_credentials(environ: Mapping[str, str] | None = None) -> Credentials:
    """Look in the documented places; the first that has something wins.

    Raises ``CredentialsError`` with one sentence when that something cannot be used.
    """
    environ = os.environ if environ is None else environ
    if environ.get("KAGGLE_KERNEL_RUN_TYPE") and (path := environ.get("KAGGLE_API_V1_TOKEN")):
        return _token_file(Path(path), "KAGGLE_API_V1_TOKEN")
    if token := environ.get("KAGGLE_API_TOKEN", "").strip():
        return _token_or_path(token)
    folder = config_dir(environ)
    for name in ("access_token", "access_token.txt"):
        if _is_file(folder / name):
            return _token_file(folder / name, str(folder / name))
    username, key = environ.get("KAGGLE_USERNAME", ""), environ.get("KAGGLE_KEY", "")
    if username or key:
        if not (username and key):
            there, missing = "KAGGLE_USERNAME", "KAGGLE_KEY"
            if key:
                there, missing = missing, there
            raise CredentialsError(f"{there} is set but {missing} is not: set both, or neither")
        return _basic(username, key, "KAGGLE_USERNAME and KAGGLE_KEY")
    if _is_file(folder / "kaggle.json"):
        return _kaggle_json(folder / "kaggle.json")
    return Credentials("anonymous")


def _token_or_path(value: str) -> Credentials:
    path = Path(value)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # too long for a path, or not one: it is a token
        is_file = False
    if is_file:
        return _token_file(path, "the file that KAGGLE_API_TOKEN names")
    if value.startswith(("/", "./", "../", "~")):
        raise CredentialsError(
            "KAGGLE_API_TOKEN looks like a path, but there is no such file: "
            "put the token itself or the path of a file that holds it"
        )
    return _bearer(value, "KAGGLE_API_TOKEN")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        raise CredentialsError(f"cannot look into {path.parent}: check who may read it") from None


def _read(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise CredentialsError(f"cannot read {source}: {reason}") from None


def _token_file(path: Path, source: str) -> Credentials:
    token = _read(path, source)
    if not token:
        raise CredentialsError(
            f"{source} is empty: put the token from kaggle.com/settings into it, or remove it"
        )
    return _bearer(token, source)


def _bearer(token: str, source: str) -> Credentials:
    if not _PRINTABLE.fullmatch(token):
        raise CredentialsError(
            f"the token from {source} holds spaces, line breaks or characters outside ASCII: "
            "copy it again from kaggle.com/settings"
        )
    return Credentials(source, f"Bearer {token}")


def _basic(username: str, key: str, source: str) -> Credentials:
    if not _PRINTABLE.fullmatch(username) or not _PRINTABLE.fullmatch(key) or ":" in username:
        raise CredentialsError(
            f"username or key from {source} holds spaces, line breaks or characters outside "
            "ASCII: copy them again from kaggle.com/settings"
        )
    pair = base64.b64encode(f"{username}:{key}".encode()).decode()
    return Credentials(source, f"Basic {pair}")


def _kaggle_json(path: Path) -> Credentials:
    content = _read(path, str(path))
    try:
        data = json.loads(content)
    except ValueError:
        raise CredentialsError(
            f"{path} is not JSON: download it again from kaggle.com/settings, or remove it"
        ) from None
    username = data.get("username") if isinstance(data, dict) else None
    key = data.get("key") if isinstance(data, dict) else None
    if not isinstance(username, str) or not isinstance(key, str) or not username or not key:
        raise CredentialsError(
            f'{path} must hold {{"username": …, "key": …}}: '
            "download it again from kaggle.com/settings, or remove it"
        )
    return _basic(username, key, str(path))
