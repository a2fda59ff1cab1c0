"""What `scrapy doctor` can say of the set-up without asking anybody."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from scrapy.settings import BaseSettings

import kagglecrawl
from kagglecrawl.checks import writable
from kagglecrawl.config import KaggleConfig, SettingError
from kagglecrawl.kaggle.auth import Credentials, CredentialsError, find_credentials
from kagglecrawl.kaggle.errors import KaggleError

_OLDEST_PYTHON = (3, 11)
_ASYNCIO_REACTOR = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: ``text`` says what was found, or what to do about it."""

    topic: str
    text: str
    passed: bool = True


@dataclass(frozen=True)
class Setup:
    """The checks, and what the probes need; None where that cannot be used."""

    checks: list[Check]
    config: KaggleConfig | None
    credentials: Credentials | None

    @property
    def passed(self) -> bool:
        """True if nothing is wrong."""
        return all(check.passed for check in self.checks)


def examine(settings: BaseSettings) -> Setup:
    """Look at everything; nothing is created, and nothing raised for what is wrong."""
    checks = [_python(), *_packages(), _reactor(settings)]
    config: KaggleConfig | None = None
    credentials: Credentials | None = None
    try:
        config = KaggleConfig.from_settings(settings)
        if config.transport == "official":
            from kagglecrawl.transport.official import check_official

            check_official(config.api_url)
    except SettingError as error:
        checks.append(Check("settings", str(error), passed=False))
        config = None
    else:
        checks.append(Check("address", f"{config.api_url}, by the {config.transport} transport"))
        checks += [*_folders(config), *_store(config)]
    try:
        credentials = find_credentials()
    except CredentialsError as error:
        checks.append(Check("credentials", str(error), passed=False))
    else:
        checks.append(Check("credentials", _where(credentials)))
    return Setup(checks, config, credentials)


def _where(credentials: Credentials) -> str:
    if credentials.anonymous:
        return (
            "none found, so Kaggle is asked anonymously. For more, create a token on "
            "kaggle.com/settings and set KAGGLE_API_TOKEN"
        )
    return f"from {credentials.source}"


def _python() -> Check:
    oldest = ".".join(map(str, _OLDEST_PYTHON))
    return Check(
        "Python",
        f"{platform.python_version()} ({oldest} or newer)",
        passed=sys.version_info >= _OLDEST_PYTHON,
    )


def _packages() -> Iterator[Check]:
    """One line for all that are as they should be, and one for each that is not."""
    fine = []
    for requirement in requirements():
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        if version and requirement.specifier.contains(version, prereleases=True):
            fine.append(f"{requirement.name} {version}")
            continue
        found = f"is {version}" if version else "is not installed"
        yield Check(
            "package",
            f'{requirement.name} {found}: install it by pip install "{requirement}"',
            passed=False,
        )
    if fine:
        yield Check("packages", ", ".join(fine))


def requirements() -> list[Requirement]:
    """What kagglecrawl needs: of the installed distribution, or of requirements.txt beside it."""
    try:
        lines = importlib.metadata.requires(kagglecrawl.__name__) or []
    except importlib.metadata.PackageNotFoundError:
        file = Path(kagglecrawl.__file__).parent.parent / "requirements.txt"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    found = []
    for line in lines:
        try:
            requirement = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue  # a comment, an empty line, an option of pip's
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


def _reactor(settings: BaseSettings) -> Check:
    name = str(settings.get("TWISTED_REACTOR"))
    if name == _ASYNCIO_REACTOR:
        return Check("reactor", "asyncio")
    return Check(
        "reactor", f"TWISTED_REACTOR={name} is not asyncio's: leave that setting out", passed=False
    )


def _store(config: KaggleConfig) -> Iterator[Check]:
    """What the store can do, if there is one: with a few requests to it."""
    try:
        bucket = config.bucket()
    except KaggleError as error:
        yield Check("store", str(error), passed=False)
    else:
        if bucket is not None:
            yield Check("store", bucket.describe())


def _folders(config: KaggleConfig) -> Iterator[Check]:
    """Whether what a crawl and the doctor write can be written."""
    folders = {"WORKSPACE": config.workspace, "KAGGLE_FINDINGS": config.findings.parent}
    for name, folder in folders.items():
        if name == "KAGGLE_FINDINGS" and folder == config.workspace:
            continue  # one of them says it
        try:
            writable(folder, str(folder))
        except SettingError as error:
            yield Check(name, str(error), passed=False)
        else:
            yield Check(name, f"{folder} can be written")
