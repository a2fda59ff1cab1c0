"""The project's settings as one typed object, read and checked before the first request."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import platformdirs
from scrapy.settings import SETTINGS_PRIORITIES, BaseSettings
from w3lib.url import safe_url_string

from kagglecrawl.arguments import size
from kagglecrawl.kaggle.auth import is_loopback, is_private_channel
from kagglecrawl.kaggle.errors import KaggleError
from kagglecrawl.kaggle.names import UnsafeName, check_path
from kagglecrawl.rates import Rate, families_of, quotas_of
from kagglecrawl.s3.bucket import Bucket
from kagglecrawl.s3.destination import Destination
from kagglecrawl.s3.opened import endpoint_of, open_bucket

#: kagglesdk 0.1.37, ``kaggle_env.py``: every environment but PROD serves its API under /api.
_ENVIRONMENTS = {
    "PROD": "https://api.kaggle.com",
    "LOCALHOST": "http://localhost/api",
    "STAGING": "https://staging.kaggle.com/api",
    "ADMIN": "https://admin.kaggle.com/api",
    "QA": "https://qa.kaggle.com/api",
    "TEST": "http://localhost:7777/api",
}
_TRANSPORTS = ("scrapy", "official")
_WHEN_SPENT = ("stop", "wait")
_COMPRESSIONS = ("gzip", "zstd")
_API, _WEB = "https://api.kaggle.com", "https://www.kaggle.com"
_CONTENT = "https://www.kaggleusercontent.com"
_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
#: What is sent to Kaggle where KAGGLE_QUOTAS says nothing of a family. Its limits are not
#: published; 1 to 2 requests a second are reported to be borne, of lists of episodes one in 6 s
#: (kaggle-facts 4).
POLITE: dict[str, tuple[Rate, ...]] = {
    "api": (Rate(2, 1),),
    "download": (Rate(2, 1),),
    "episodes": (Rate(10, 60), Rate(1000, 86_400)),
    "replay": (Rate(60, 60),),
}
#: Of these, what is sent to the API alone; the others go to the site as well.
_OF_THE_API = frozenset({"api", "download"})


class SettingError(ValueError):
    """A setting is wrong; the text names it, what was wrong and the next step."""


def default_api_url(environ: Mapping[str, str]) -> str:
    """``KAGGLE_API_URL`` of the environment, else what ``KAGGLE_API_ENVIRONMENT`` means."""
    if url := environ.get("KAGGLE_API_URL"):
        return url
    name = environ.get("KAGGLE_API_ENVIRONMENT") or "PROD"
    # an unknown name is kept, and refused by the check below when a crawl begins
    return _ENVIRONMENTS.get(name, f"KAGGLE_API_ENVIRONMENT={name}")


@dataclass(frozen=True)
class KaggleConfig:
    """Our own settings, checked. Times are in seconds."""

    api_url: str
    transport: str
    max_attempts: int
    max_wait: float
    retry_base: float
    min_usability: float
    workspace: Path
    findings: Path
    min_free: int = 10**9
    transfers: int = 2
    stall_timeout: float = 60.0
    storage_hosts: tuple[str, ...] = ("storage.googleapis.com",)
    max_ratio: float = 200.0
    quotas: Mapping[str, tuple[Rate, ...]] = field(default_factory=dict)
    quota_file: Path = Path("quotas.sqlite")
    quota_spent: str = "stop"
    ledger: Path = Path("ledger.sqlite")
    #: The store that files go to, if not to the workspace, and what stands there before a
    #: spider's own folders; None: before it the spider's name.
    destination: Destination | None = None
    output_prefix: str | None = None
    uploads: int = 8
    read_back: bool = False
    delete_local: bool = False
    most_spooled: int = 10**9
    #: The site, and the host of its files: what stands before the path of an address.
    web_url: str = _WEB
    content_url: str = _CONTENT
    replay_compression: str = "gzip"

    @classmethod
    def from_settings(cls, settings: BaseSettings) -> Self:
        """Read and check; raises ``SettingError`` with one sentence."""
        workspace = Path(settings.get("WORKSPACE") or "local_workspace")
        api_url = _address("KAGGLE_API_URL", settings.get("KAGGLE_API_URL"), _API)
        web_url = _site(settings.get("KAGGLE_WEB_URL"), "KAGGLE_WEB_URL", _WEB, api_url)
        content_url = _site(
            settings.get("KAGGLE_CONTENT_URL"), "KAGGLE_CONTENT_URL", _CONTENT, api_url
        )
        # a doctor that looks at the replica must not forget what it found of the real Kaggle
        _check_of_no_store(settings)
        _check_keys(destination_of(settings), _output_prefix(settings))
        doctor = "doctor-loopback.json" if is_loopback(api_url) else "doctor.json"
        return cls(
            api_url=api_url,
            transport=_one_of(settings, "KAGGLE_TRANSPORT", _TRANSPORTS),
            max_attempts=int(_number(settings, "KAGGLE_MAX_ATTEMPTS", 1, 1000, whole=True)),
            max_wait=_number(settings, "KAGGLE_MAX_WAIT", 0, 30 * 86400),
            retry_base=_number(settings, "KAGGLE_RETRY_BASE", 0, 3600),
            min_usability=_number(settings, "KAGGLE_MIN_USABILITY", 0, 1),
            workspace=workspace,
            findings=Path(settings.get("KAGGLE_FINDINGS") or workspace / doctor),
            min_free=_size(settings, "WORKSPACE_MIN_FREE"),
            transfers=int(_number(settings, "KAGGLE_CONCURRENT_TRANSFERS", 1, 32, whole=True)),
            stall_timeout=_number(settings, "KAGGLE_STALL_TIMEOUT", 0.1, 3600),
            storage_hosts=_hosts(settings.getlist("KAGGLE_STORAGE_HOSTS")),
            max_ratio=_number(settings, "KAGGLE_MAX_RATIO", 1, 1e9),
            quotas=_quotas(settings.get("KAGGLE_QUOTAS"), api_url, web_url, content_url),
            quota_file=_path(settings, "KAGGLE_QUOTA_FILE") or _quota_file(workspace, api_url),
            ledger=_path(settings, "KAGGLE_LEDGER") or workspace / "ledger.sqlite",
            quota_spent=_one_of(settings, "KAGGLE_QUOTA_SPENT", _WHEN_SPENT),
            destination=destination_of(settings),
            output_prefix=_output_prefix(settings),
            uploads=int(_number(settings, "S3_CONCURRENT_UPLOADS", 1, 64, whole=True, usual=8)),
            read_back=_flag(settings, "S3_READ_BACK"),
            delete_local=_flag(settings, "S3_DELETE_LOCAL"),
            most_spooled=_size(settings, "S3_SPOOL_MAX", "1GB"),
            web_url=web_url,
            content_url=content_url,
            replay_compression=_one_of(settings, "KAGGLE_REPLAY_COMPRESSION", _COMPRESSIONS),
        )

    def output(self, spider: str) -> str:
        """Where a spider's folders are, without a slash at its end: below the workspace, or in the
        store as a whole URI."""
        if self.destination is None:
            return f"output/{spider}"
        between = self.output_prefix
        if between is None:
            between = "" if self.destination.seeds_layout else spider
        parts = [part for part in (between,) if part]
        uri = self.destination.uri_of(self.destination.key(*parts)) if parts else ""
        return uri or self.destination.uri

    def bucket(self) -> Bucket | None:
        """The store that files go to, looked at when the process first asks; None if there is none.
        Raises what of ``KaggleError`` says that it cannot be used."""
        if self.destination is None:
            return None
        return open_bucket(self.destination, uploads=self.uploads, read_back=self.read_back)


def destination_of(settings: BaseSettings) -> Destination | None:
    """The store of S3_URI or CLOUD_CONFIG, if there is one; raises ``SettingError``."""
    uri, cloud = settings.get("S3_URI"), settings.get("CLOUD_CONFIG")
    if uri and cloud:
        raise SettingError("S3_URI and CLOUD_CONFIG name a store each: give one of them")
    for name in _SECRETS:
        if settings.getpriority(name) == SETTINGS_PRIORITIES["cmdline"]:
            raise SettingError(
                f"{name} is on the command line, where everybody on this machine can read it: "
                "set it in the environment, or in a profile of ~/.aws"
            )
    try:
        if cloud:
            return Destination.of_cloud_config(Path(cloud).expanduser())
        if not uri:
            return None
        return Destination.of_uri(
            str(uri).strip(),
            endpoint=settings.get("AWS_ENDPOINT_URL"),
            region=settings.get("AWS_REGION_NAME"),
            access_key=settings.get("AWS_ACCESS_KEY_ID"),
            secret_key=settings.get("AWS_SECRET_ACCESS_KEY"),
            session_token=settings.get("AWS_SESSION_TOKEN"),
        )
    except (ValueError, RuntimeError) as error:
        name = "CLOUD_CONFIG" if cloud else "S3_URI"
        raise SettingError(f"{name} cannot be used: {error}") from None


def _check_keys(destination: Destination | None, prefix: str | None) -> None:
    try:
        if destination is not None and prefix:
            destination.key(prefix)
    except UnsafeName as error:
        raise SettingError(f"OUTPUT_PREFIX cannot be used: {error}") from None


def _check_of_no_store(settings: BaseSettings) -> None:
    """What is said of a store, where none is named, would be believed to be heard."""
    if settings.get("S3_URI") or settings.get("CLOUD_CONFIG"):
        return
    for name in ("OUTPUT_PREFIX", "S3_READ_BACK", "S3_DELETE_LOCAL"):
        said = settings.getpriority(name) == SETTINGS_PRIORITIES["cmdline"]
        if said and str(settings.get(name)) not in {"", "None", "False", "0"}:
            raise SettingError(f"{name} is of a store, and none is named: set S3_URI as well")


def store_of(settings: BaseSettings) -> str:
    """Which store, and who keeps it; empty if files go to the workspace."""
    destination = destination_of(settings)
    if destination is None:
        return ""
    try:
        return replace(destination, endpoint=endpoint_of(destination)).identity
    except KaggleError as error:
        raise SettingError(str(error)) from None


def store_settings(settings: BaseSettings, spider: str) -> dict[str, str]:
    """What makes a crawl go to its store, so that the same says the same."""
    destination = destination_of(settings)
    if destination is None:
        return {}
    if destination.seeds_layout:
        given = {"CLOUD_CONFIG": str(Path(settings.get("CLOUD_CONFIG")).expanduser().absolute())}
    else:
        given = {"S3_URI": destination.uri}
    prefix, usual = _output_prefix(settings), "" if destination.seeds_layout else spider
    if prefix is not None and prefix != usual:
        given["OUTPUT_PREFIX"] = prefix
    return given


def _output_prefix(settings: BaseSettings) -> str | None:
    value = settings.get("OUTPUT_PREFIX")
    if value is None:
        return None
    prefix = str(value).strip("/")
    try:
        if prefix:
            check_path(prefix)
    except UnsafeName as error:
        raise SettingError(f"OUTPUT_PREFIX={value} cannot be used: {error}") from None
    return prefix


def _flag(settings: BaseSettings, name: str) -> bool:
    try:
        return settings.getbool(name)
    except ValueError:
        raise SettingError(f"{name}={settings.get(name)} is wrong: write True or False") from None


def _address(name: str, value: Any, example: str) -> str:
    """What a setting of this name says, as scrapy.Request spells addresses, so that the two can be
    compared; ``example`` is one to write."""
    given = str(value or "").strip()
    try:
        url = safe_url_string(given).rstrip("/")
        parts = urlsplit(url)
        parts.port  # noqa: B018  (raises for a port that is not a number)
    except ValueError:
        raise SettingError(f"{name} is not an address: write {example}") from None
    if "@" in parts.netloc or "?" in given or "#" in given:
        raise SettingError(
            f"{name} holds a user name, a query or a fragment: "
            "write the address alone, and put credentials into KAGGLE_API_TOKEN"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        before = "/v1/ in a call" if example == _API else "the path of an address"
        raise SettingError(
            f"{name}={url} is not an http or https address: "
            f"write what stands before {before}, such as {example}"
        )
    if not is_private_channel(url):
        what = "send credentials" if example == _API else "ask the site"
        raise SettingError(
            f"{name}={url} would {what} in clear: use https, or a server on this machine"
        )
    return url


def _site(value: Any, name: str, usual: str, api_url: str) -> str:
    """Where the site is; nobody who tries things with a Kaggle on this machine means the real
    one."""
    if value:
        return _address(name, value, usual)
    parts = urlsplit(api_url)
    return f"{parts.scheme}://{parts.netloc}" if is_loopback(api_url) else usual


def _one_of(settings: BaseSettings, name: str, words: tuple[str, str]) -> str:
    """One of two words; the first if nothing is set."""
    value = settings.get(name)
    word = str(value or words[0]).strip().lower()
    if word not in words:
        raise SettingError(f"{name}={value} is not known: use {words[0]} or {words[1]}")
    return word


def _quotas(value: Any, api_url: str, *site: str) -> dict[str, tuple[Rate, ...]]:
    """The rates of each family: what is given, else what is polite; nobody need be polite to a
    server on this machine. ``site`` is where it is."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    try:
        given = quotas_of(value or {})
    except (ValueError, AttributeError, TypeError) as error:
        raise SettingError(f"KAGGLE_QUOTAS={value} is wrong: {error}") from None
    known = POLITE.keys()
    for family in sorted({each for name in given for each in families_of(name)} - known):
        raise SettingError(
            f"KAGGLE_QUOTAS names the family {family!a}, which is not known: "
            f"use {', '.join([*POLITE][:-1])} or {[*POLITE][-1]}"
        )
    of_site = POLITE.keys() - _OF_THE_API
    asked = {name: (api_url, *site) if name in of_site else (api_url,) for name in POLITE}
    polite = {name: POLITE[name] for name in POLITE if not all(map(is_loopback, asked[name]))}
    return {**polite, **given}


def _path(settings: BaseSettings, name: str) -> Path | None:
    """What is set, if anything is."""
    if not (value := settings.get(name)):
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise SettingError(f"{name}={value} names the home of nobody: write a whole path") from None


def _quota_file(workspace: Path, api_url: str) -> Path:
    """One for all crawls of this user, wherever they work; but not for servers that come and go."""
    if is_loopback(api_url):
        return workspace / "quotas-loopback.sqlite"
    return platformdirs.user_state_path("kagglecrawl", appauthor=False) / "quotas.sqlite"


def _size(settings: BaseSettings, name: str, usual: str | None = None) -> int:
    value = settings.get(name, usual)
    try:
        return size(str(value).strip())
    except ValueError as error:
        raise SettingError(f"{name}={value} is wrong: {error}") from None


def _hosts(names: list[Any]) -> tuple[str, ...]:
    hosts = tuple(str(name).strip().lower() for name in names)
    for host in hosts:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", host):
            raise SettingError(
                "KAGGLE_STORAGE_HOSTS names something that is no host: write names alone, such as "
                "storage.googleapis.com"
            )
    if not hosts:
        raise SettingError(
            "KAGGLE_STORAGE_HOSTS is empty, so no download could lead anywhere: write "
            "storage.googleapis.com"
        )
    return hosts


def _number(
    settings: BaseSettings,
    name: str,
    low: float,
    high: float,
    *,
    whole: bool = False,
    usual: float | None = None,
) -> float:
    """``usual`` is for settings that are not this project's."""
    value = settings.get(name, usual)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not low <= number <= high or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise SettingError(f"{name}={value} is wrong: write {kind} from {low:g} to {high:g}")
    return number
